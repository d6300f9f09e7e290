/*
 * A drill's record: header, length, signature, whether it is the one that was asked for,
 * and its members. The harness signs for the fuzzer.
 *
 * Input: one byte of mode, then the object or what the mode leaves of it.
 */
#include "agent/repo/drill_format.h"
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
	drill_key(&volume, 3, key);
	memory.names = strdup(key);
	return 0;
}

static uint8_t *object_make(enum mode mode, const uint8_t *data, size_t length,
			    size_t *object_length)
{
	struct drill_header header = { .magic = DRILL_MAGIC, .version = le32(DRILL_VERSION) };
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
	header.record_length = le32((uint32_t)length);
	*object_length = sizeof(header) + length + CRYPTO_SIGNATURE_SIZE;
	object = malloc(*object_length);
	FUZZ_CHECK(object);
	memcpy(object, &header, sizeof(header));
	if (length)
		memcpy(object + sizeof(header), data, length);
	FUZZ_CHECK(!sign_data(signer, DRILL_SIGN_LABEL, object, sizeof(header) + length,
			      object + sizeof(header) + length, &err));
	return object;
}

static void check_line(const char *text, size_t room)
{
	FUZZ_CHECK(memchr(text, '\0', room));
	for (; *text; text++)
		FUZZ_CHECK((unsigned char)*text >= ' ' && *text != 0x7f);
}

static void check_record(const struct drill_record *r)
{
	const struct drill_place place = { repository, volume, 3 };
	struct error err = ERROR_INIT;
	struct drill_record back;
	char *text = drill_text(r, &place);

	FUZZ_CHECK(r->sequence == 3 && r->failed < DRILL_STEPS && r->exit <= 255);
	FUZZ_CHECK(r->passed ? !r->exit : r->exit && !r->rto_ns);
	check_line(r->message, sizeof(r->message));
	check_line(r->host, sizeof(r->host));
	check_line(r->file_system, sizeof(r->file_system));
	check_line(r->command, sizeof(r->command));
	/* What was read can be written, and read again. */
	FUZZ_CHECK(text);
	FUZZ_CHECK(!drill_parse(text, strlen(text), &place, &back, &err));
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	enum mode mode = fuzz_byte(&data, &length) % MODE_COUNT;
	struct error err = ERROR_INIT;
	struct drill_record *records;
	size_t object_length, count, bad;
	uint8_t *object = object_make(mode, data, length, &object_length);
	int ret;

	memory_set(memory.names, object, object_length);
	ret = repo_drills(repo, &volume, 2, &records, &count, &bad, &err);
	if (ret) {
		fuzz_refused(ret, &err);
	} else {
		FUZZ_CHECK(count + bad == 1);
		if (count)
			check_record(&records[0]);
		free(records);
	}
	free(object);
	return 0;
}
