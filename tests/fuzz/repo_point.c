/*
 * The point object: header, lengths, signature, and whether it is the point that
 * was asked for. The harness signs for the fuzzer.
 *
 * Input: one byte of mode, then the object or what the mode leaves of it.
 */
#include "agent/repo/point_format.h"
#include "tests/fuzz/fixed_keys.h"
#include "tests/fuzz/memory_store.h"

enum mode {
	MODE_AS_IT_IS,	/* the object, unsigned */
	MODE_SIGNED,	/* the object; the signature is put where its header says */
	MODE_HEADER,	/* header and manifest; length and signature are made right */
	MODE_MANIFEST,	/* the manifest: everything around it is made right */
	MODE_COUNT,
};

static const struct uuid repository = { { 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x47, 0x88,
					  0x89, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x01 } };
static const struct uuid volume = { { 0x21, 0x22, 0x33, 0x44, 0x55, 0x66, 0x47, 0x88,
				      0x89, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x02 } };
static struct signing_private *signer;
static struct recovery_private *recovery;
static struct repo *repo;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct repo_facts facts = { .id = repository, .recipient_count = 1,
				    .signer_count = 1 };
	struct error err = ERROR_INIT;

	(void)argc;
	(void)argv;
	signer = fixed_signing_key();
	recovery = fixed_recovery_key();
	signing_public(signer, &facts.signers[0]);
	recovery_private_public(recovery, &facts.recipients[0]);
	FUZZ_CHECK(!repo_init(&memory.base, &facts, &err));
	FUZZ_CHECK(!repo_open(&memory.base, facts.fingerprint, &repo, &err));
	return 0;
}

static void sign(uint8_t *object, size_t signed_length)
{
	struct error err = ERROR_INIT;

	FUZZ_CHECK(!sign_data(signer, POINT_SIGN_LABEL, object, signed_length,
			      object + signed_length, &err));
}

/* Signs at the place that the object's own header gives, if it lies in it. */
static void sign_in_place(uint8_t *object, size_t length)
{
	struct point_header header;
	uint64_t at;

	if (length < sizeof(header))
		return;
	memcpy(&header, object, sizeof(header));
	at = sizeof(header) + (uint64_t)get_le32(header.manifest_length);
	if (at + CRYPTO_SIGNATURE_SIZE <= length)
		sign(object, at);
}

/* What the manifest says of an inline map, so that the header can agree. */
static uint32_t map_length(const uint8_t *manifest, size_t length)
{
	struct error err = ERROR_INIT;
	struct point point;
	uint32_t bytes = 0;

	if (!point_manifest_parse((const char *)manifest, length, &point, &err) &&
	    point.map_inline)
		bytes = (uint32_t)point.map_bytes;
	point_fini(&point);
	return bytes;
}

static uint8_t *object_make(enum mode mode, const uint8_t *data, size_t length,
			    size_t *object_length)
{
	struct point_header header = { .magic = POINT_MAGIC, .version = le32(POINT_VERSION) };
	uint8_t *object;

	if (mode == MODE_AS_IT_IS || mode == MODE_SIGNED ||
	    (mode == MODE_HEADER && length < sizeof(header))) {
		object = fuzz_copy(data, length);
		if (mode == MODE_SIGNED)
			sign_in_place(object, length);
		*object_length = length;
		return object;
	}
	if (mode == MODE_HEADER) {
		memcpy(&header, data, sizeof(header));
		data += sizeof(header);
		length -= sizeof(header);
	} else {
		header.map_length = le32(map_length(data, length));
	}
	header.manifest_length = le32((uint32_t)length);
	*object_length = sizeof(header) + length + CRYPTO_SIGNATURE_SIZE;
	object = malloc(*object_length);
	FUZZ_CHECK(object);
	memcpy(object, &header, sizeof(header));
	memcpy(object + sizeof(header), data, length);
	sign(object, sizeof(header) + length);
	return object;
}

static void check_point(const struct point *point, size_t object_length)
{
	struct key_ring ring = { .recovery = recovery };
	struct error err = ERROR_INIT;
	struct point_keys keys;
	int ret;

	FUZZ_CHECK(uuid_equal(&point->repository, &repository));
	FUZZ_CHECK(uuid_equal(&point->volume, &volume) && point->number == 1);
	FUZZ_CHECK(point->head_bytes <= object_length);
	FUZZ_CHECK(point->object_bytes >= point->head_bytes);
	ret = point_open_keys(point, &ring, &keys, &err);
	if (ret)
		fuzz_refused(ret, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	enum mode mode = fuzz_byte(&data, &length) % MODE_COUNT;
	char key[STORE_KEY_MAX];
	struct error err = ERROR_INIT;
	struct point point;
	size_t object_length;
	uint8_t *object = object_make(mode, data, length, &object_length);
	int ret;

	point_key(&volume, 1, key);
	memory_set(key, object, object_length);
	ret = point_load(repo, &volume, 1, &point, &err);
	if (ret) {
		fuzz_refused(ret, &err);
		FUZZ_CHECK(!point.segments);
	} else {
		check_point(&point, object_length);
	}
	point_fini(&point);
	free(object);
	return 0;
}
