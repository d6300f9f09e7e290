/*
 * A retention record: header, length, signature, whether it is the one that was asked
 * for, and its members. The harness signs for the fuzzer.
 *
 * Input: one byte of mode, then the object or what the mode leaves of it.
 */
#include "agent/repo/pack_format.h"
#include "agent/repo/retention_format.h"
#include "tests/fuzz/fixed_keys.h"
#include "tests/fuzz/memory_store.h"

enum mode {
	MODE_AS_IT_IS,	/* the object, unsigned */
	MODE_HEADER,	/* header and record; length and signature are made right */
	MODE_RECORD,	/* the record: everything around it is made right */
	MODE_COUNT,
};

static const struct uuid repository = { { 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x47, 0x88,
					  0x89, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x01 } };
static const struct uuid volume = { { 0x21, 0x22, 0x33, 0x44, 0x55, 0x66, 0x47, 0x88,
				      0x89, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x02 } };
static struct signing_private *signer;
static struct repo *repo;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct repo_facts facts = { .id = repository, .recipient_count = 1,
				    .signer_count = 1 };
	struct recovery_private *recovery = fixed_recovery_key();
	struct error err = ERROR_INIT;
	char key[STORE_KEY_MAX];

	(void)argc;
	(void)argv;
	signer = fixed_signing_key();
	signing_public(signer, &facts.signers[0]);
	recovery_private_public(recovery, &facts.recipients[0]);
	recovery_private_free(recovery);
	FUZZ_CHECK(!repo_init(&memory.base, &facts, &err));
	FUZZ_CHECK(!repo_open(&memory.base, facts.fingerprint, &repo, &err));
	retention_key(&volume, 3, key);
	memory.names = strdup(key);
	return 0;
}

static uint8_t *object_make(enum mode mode, const uint8_t *data, size_t length,
			    size_t *object_length)
{
	struct retention_header header = {
		.magic = RETENTION_MAGIC, .version = le32(RETENTION_VERSION),
	};
	struct error err = ERROR_INIT;
	uint8_t *object;

	if (mode == MODE_AS_IT_IS || (mode == MODE_HEADER && length < sizeof(header))) {
		*object_length = length;
		return fuzz_copy(data, length);
	}
	if (mode == MODE_HEADER) {
		memcpy(&header, data, sizeof(header));
		data += sizeof(header);
		length -= sizeof(header);
	}
	/* Both versions that are read; the header has to say which. */
	if (mode == MODE_RECORD && memmem(data, length, "\"version\":1", 11))
		header.version = le32(1);
	header.record_length = le32((uint32_t)length);
	*object_length = sizeof(header) + length + CRYPTO_SIGNATURE_SIZE;
	object = malloc(*object_length);
	FUZZ_CHECK(object);
	memcpy(object, &header, sizeof(header));
	if (length)
		memcpy(object + sizeof(header), data, length);
	FUZZ_CHECK(!sign_data(signer, RETENTION_SIGN_LABEL, object, sizeof(header) + length,
			      object + sizeof(header) + length, &err));
	return object;
}

/* Sorted, and of numbers that the record says there were. */
static void check_extents(const struct extent_list *list, uint64_t end)
{
	uint64_t at = 0;

	for (size_t i = 0; i < list->count; i++) {
		FUZZ_CHECK(list->items[i].count && (!i || list->items[i].first > at));
		at = list->items[i].first + list->items[i].count;
		FUZZ_CHECK(at <= end);
	}
}

static void check_record(const struct retention *r)
{
	const struct retention_place place = { repository, volume };
	struct error err = ERROR_INIT;
	struct retention back;
	char *text = retention_text(r, &place);

	FUZZ_CHECK(r->sequence == 3);
	check_extents(&r->forgotten, r->through);
	check_extents(&r->pruned, r->through);
	check_extents(&r->pinned, r->through + 1);
	for (size_t i = 0; i < r->serving_count; i++) {
		FUZZ_CHECK(retention_serving_find(r, r->serving[i].number) == &r->serving[i]);
		check_extents(&r->serving[i].segments, RETENTION_SEGMENTS_MAX);
	}
	for (size_t i = 0; i < r->map_count; i++) {
		const struct retention_map *map = &r->maps[i];

		FUZZ_CHECK(retention_map_find(r, map->number) == map);
		FUZZ_CHECK(map->parent < map->number && map->number <= r->through);
		FUZZ_CHECK(map->wrap_count <= REPO_RECIPIENTS_MAX);
	}
	for (size_t i = 0; i < r->pack_count; i++) {
		FUZZ_CHECK(retention_pack_find(r, &r->packs[i]) == &r->packs[i]);
		FUZZ_CHECK(pack_sane(&r->packs[i]) && r->packs[i].sequence <= r->sequence);
	}
	/* What was read can be written, and read again. */
	FUZZ_CHECK(text);
	FUZZ_CHECK(!retention_parse(text, strlen(text), &place, &back, &err));
	retention_fini(&back);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	enum mode mode = fuzz_byte(&data, &length) % MODE_COUNT;
	struct error err = ERROR_INIT;
	struct retention retention;
	size_t object_length;
	uint8_t *object = object_make(mode, data, length, &object_length);
	int ret;

	memory_set(memory.names, object, object_length);
	ret = retention_load(repo, &volume, &retention, &err);
	if (ret)
		fuzz_refused(ret, &err);
	else
		check_record(&retention);
	if (!ret)
		retention_fini(&retention);
	free(object);
	return 0;
}
