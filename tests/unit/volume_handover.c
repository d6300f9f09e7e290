/*
 * The hand-over: the file keeps what it was given and nothing damaged passes; from
 * facts that agree, every single one that speaks against trust is enough.
 */
#include "agent/crypto/crypto.h"
#include "agent/volume/handover_format.h"
#include "tests/unit/volume_scratch.h"

static struct handover saved;
static struct device_facts device;
static struct witness witness;
static struct handover_facts facts;

static void fill(void)
{
	memset(&saved, 0, sizeof(saved));
	uuid_new(&saved.volume);
	strcpy(saved.boot_id, "5f0c7a9e-0000-4000-8000-000000000001");
	strcpy(saved.dm_uuid, "LVM-abc");
	saved.time_ns = 1700000000000000000u;
	saved.bytes = 1000 * 4096 + 512;
	saved.granularity_bytes = 4096;
	saved.seed = 0x123456789abcdef0u;
	memset(saved.place, 1, sizeof(saved.place));
	memset(saved.state, 2, sizeof(saved.state));
	memset(saved.witness.edges, 3, sizeof(saved.witness.edges));
	memset(saved.witness.journal, 4, sizeof(saved.witness.journal));
	memset(saved.witness.sample, 5, sizeof(saved.witness.sample));
	assert_int_equal(bitmap_init(&saved.marks, 1001), 0);
	bitmap_set(&saved.marks, 0, 1);
	bitmap_set(&saved.marks, 500, 70);
	bitmap_set(&saved.marks, 1000, 1);
}

static void assert_as_saved(const struct handover *got)
{
	assert_true(uuid_equal(&got->volume, &saved.volume));
	assert_string_equal(got->boot_id, saved.boot_id);
	assert_string_equal(got->dm_uuid, saved.dm_uuid);
	assert_int_equal(got->time_ns, saved.time_ns);
	assert_int_equal(got->bytes, saved.bytes);
	assert_int_equal(got->granularity_bytes, saved.granularity_bytes);
	assert_int_equal(got->seed, saved.seed);
	assert_memory_equal(got->place, saved.place, 32);
	assert_memory_equal(got->state, saved.state, 32);
	assert_memory_equal(&got->witness, &saved.witness, sizeof(witness));
	assert_int_equal(got->marks.bits, saved.marks.bits);
	assert_memory_equal(got->marks.words, saved.marks.words,
			    bitmap_words(saved.marks.bits) * 8);
}

/* ---- the file -------------------------------------------------------------- */

static void kept(void **state)
{
	struct handover got;

	ASSERT_FAILS(-ENOENT, handover_load(*state, "v", &got, &err));
	ASSERT_FAILS(-EINVAL, handover_save(*state, "../v", &saved, &err));
	fill();
	ASSERT_FAILS(-ENOENT, handover_save(*state, "v", &saved, &err));
	{
		char path[PATH_MAX];

		snprintf(path, sizeof(path), "%s/volumes/v", (char *)*state);
		assert_int_equal(file_make_folders(path, 0700), 0);
	}
	ASSERT_OK(handover_save(*state, "v", &saved, &err));
	ASSERT_OK(handover_load(*state, "v", &got, &err));
	assert_as_saved(&got);
	handover_fini(&got);
	ASSERT_OK(handover_remove(*state, "v", &err));
	ASSERT_OK(handover_remove(*state, "v", &err));
	ASSERT_FAILS(-ENOENT, handover_load(*state, "v", &got, &err));
	handover_fini(&saved);
}

static int decode(const uint8_t *data, size_t length)
{
	struct handover got = { 0 };
	const char *why = NULL;
	int ret = handover_decode(data, length, &got, &why);

	assert_true((ret == -EBADMSG) == (why != NULL));
	if (ret)
		assert_null(got.marks.words);
	handover_fini(&got);
	return ret;
}

/* Every bit counts, and so does every length. */
static void damaged(void **state)
{
	uint8_t *data;
	size_t length;

	(void)state;
	fill();
	assert_int_equal(handover_encode(&saved, &data, &length), 0);
	assert_int_equal(length, 416 + 16 * 8 + 32);
	assert_int_equal(decode(data, length), 0);
	for (size_t i = 0; i < length * 8; i++) {
		data[i / 8] ^= (uint8_t)(1u << i % 8);
		assert_int_equal(decode(data, length), -EBADMSG);
		data[i / 8] ^= (uint8_t)(1u << i % 8);
	}
	for (size_t i = 0; i < length; i++) {
		/* Of its own size, so that a sanitizer sees a read beyond. */
		uint8_t *part = malloc(i ? i : 1);

		assert_non_null(part);
		memcpy(part, data, i);
		assert_int_equal(decode(part, i), -EBADMSG);
		free(part);
	}
	free(data);
	handover_fini(&saved);
}

/* What no writer of ours makes, with a checksum that fits. */
static void contradictions(void **state)
{
	static const struct { size_t at; uint8_t value; } cases[] = {
		{ offsetof(struct handover_header, version), 2 },
		{ offsetof(struct handover_header, reserved), 1 },
		{ offsetof(struct handover_header, granularity_bytes) + 1, 0 },
		{ offsetof(struct handover_header, granularity_bytes) + 1, 0x20 },
		{ offsetof(struct handover_header, bytes) + 1, 0 },
		{ offsetof(struct handover_header, boot_id) + 39, 'x' },
		{ offsetof(struct handover_header, dm_uuid) + 20, 'x' },
		{ sizeof(struct handover_header) + 16 * 8 - 1, 0x80 },
	};
	uint8_t *data;
	size_t length;

	(void)state;
	fill();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(handover_encode(&saved, &data, &length), 0);
		data[cases[i].at] = cases[i].value;
		digest_of(data, length - 32, data + length - 32);
		if (decode(data, length) != -EBADMSG)
			fail_msg("case %zu passed", i);
		free(data);
	}
	handover_fini(&saved);
}

static void no_marks(void **state)
{
	struct handover empty = { 0 };
	uint8_t *data;
	size_t length;

	(void)state;
	assert_int_equal(handover_encode(&empty, &data, &length), -EOVERFLOW);
	assert_null(data);
}

/* ---- the judgement --------------------------------------------------------- */

static void agree(void)
{
	fill();
	memset(&device, 0, sizeof(device));
	memset(&facts, 0, sizeof(facts));
	device.bytes = saved.bytes;
	facts.counted = true;
	strcpy(device.dm_uuid, saved.dm_uuid);
	witness = saved.witness;
	facts.saved = &saved;
	facts.volume = saved.volume;
	memcpy(facts.state, saved.state, sizeof(facts.state));
	memcpy(facts.place, saved.place, sizeof(facts.place));
	facts.boot_id = "5f0c7a9e-0000-4000-8000-000000000002";
	facts.device = &device;
	facts.granularity_bytes = 4096;
	facts.witness = &witness;
	/* Traced is no matter: it is counted by the kernel only if it came early. */
	facts.ledger.traced_write_sectors = 8;
}

static void other_volume(void) { facts.volume.b[3] ^= 1; }
static void other_state(void) { facts.state[31] ^= 1; }
static void same_boot(void) { facts.boot_id = saved.boot_id; }
static void no_boot_id(void) { facts.boot_id = ""; }
static void null_boot_id(void) { facts.boot_id = NULL; }
static void no_saved_boot_id(void) { saved.boot_id[0] = '\0'; }
static void grown(void) { device.bytes += 512; }
static void granularity(void) { facts.granularity_bytes = 8192; }
static void uuid(void) { strcpy(device.dm_uuid, "LVM-abd"); }
static void no_uuid(void) { device.dm_uuid[0] = '\0'; }
static void place(void) { facts.place[0] ^= 1; }
static void uncounted(void) { facts.counted = false; }
static void written(void) { facts.ledger.kernel_write_sectors = 1; }
static void discarded(void) { facts.ledger.kernel_discard_sectors = 1; }
static void unread(void) { facts.witness = NULL; }
static void edges(void) { witness.edges[7] ^= 1; }
static void journal(void) { witness.journal[7] ^= 1; }
static void sample(void) { witness.sample[7] ^= 1; }

static const struct {
	const char *name;
	void (*disturb)(void);
	const char *says;
} cases[] = {
	{ "volume", other_volume, "another volume's" },
	{ "state", other_state, "does not belong to the state" },
	{ "same boot", same_boot, "same boot" },
	{ "no boot id", no_boot_id, "same boot" },
	{ "NULL boot id", null_boot_id, "same boot" },
	{ "no saved boot id", no_saved_boot_id, "same boot" },
	{ "size", grown, "size changed" },
	{ "granularity", granularity, "granularity was changed" },
	{ "uuid", uuid, "uuid is 'LVM-abd'" },
	{ "no uuid", no_uuid, "uuid is ''" },
	{ "place", place, "lies elsewhere" },
	{ "uncounted", uncounted, "does not count" },
	{ "written", written, "1 sectors were written" },
	{ "discarded", discarded, "1 sectors were discarded" },
	{ "unread", unread, "could not be compared" },
	{ "edges", edges, "first or last MiB" },
	{ "journal", journal, "log went on" },
	{ "sample", sample, "sampled blocks" },
};

static void judged(void **state)
{
	char reason[256];

	(void)state;
	agree();
	assert_int_equal(handover_judge(&facts, reason, sizeof(reason)), TRUST_TRACKED);
	assert_string_equal(reason, "");
	handover_fini(&saved);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		agree();
		cases[i].disturb();
		if (handover_judge(&facts, reason, sizeof(reason)) != TRUST_UNTRUSTED)
			fail_msg("%s is trusted", cases[i].name);
		if (!strstr(reason, cases[i].says))
			fail_msg("%s: \"%s\" does not say \"%s\"", cases[i].name, reason,
				 cases[i].says);
		handover_fini(&saved);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(kept, scratch_setup, scratch_teardown),
		cmocka_unit_test(damaged),
		cmocka_unit_test(contradictions),
		cmocka_unit_test(no_marks),
		cmocka_unit_test(judged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
