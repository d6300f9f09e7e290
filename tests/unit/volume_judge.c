/*
 * The judgement: from facts that agree, every single one that speaks against
 * trust must be enough, and say why in words of its own.
 */
#include "agent/volume/judge.h"
#include "tests/unit/volume_scratch.h"

#include <linux/types.h>

#include "bpf/tracker_abi.h"

static struct volume_state remembered;
static struct device_facts device;
static struct judge_facts facts;

/* Everything as at the last boundary, and 800 sectors written since. */
static void agree(void)
{
	static const struct tracker_identity identity = {
		.boot_id = "5f0c7a9e-0000-4000-8000-000000000001",
		.program_id = 11, .link_id = 12, .bitmaps_id = 13, .routes_id = 14,
		.ledger_id = 15, .slots_id = 16, .retired_id = 17,
		.program_tag = "0123456789abcdef",
	};

	memset(&remembered, 0, sizeof(remembered));
	memset(&device, 0, sizeof(device));
	memset(&facts, 0, sizeof(facts));
	remembered.trust = TRUST_TRACKED;
	remembered.device = device.device = 253 << 20 | 4;
	remembered.diskseq = device.diskseq = 77;
	remembered.bytes = device.bytes = 1 << 30;
	remembered.granularity_bytes = 4096;
	strcpy(remembered.dm_uuid, "LVM-abc");
	strcpy(device.dm_uuid, "LVM-abc");
	remembered.identity = identity;
	remembered.recursion_misses = 3;
	remembered.base = (struct tracker_ledger){ 1000, 200, 5000, 900 };
	facts.state = &remembered;
	facts.device = &device;
	facts.tracker.identity = identity;
	facts.tracker.recursion_misses = 3;
	facts.slot.device = device.device;
	facts.slot.sectors = device.bytes / 512;
	facts.slot.block_bytes = 4096;
	memcpy(facts.slot.owner, facts.state->id.b, sizeof(facts.slot.owner));
	facts.ledger = (struct tracker_ledger){ 1800, 250, 5800, 950 };
}

static void reboot(void) { facts.tracker.identity.boot_id[0] = 'a'; }
static void no_boot_ids(void)
{
	facts.tracker.identity.boot_id[0] = remembered.identity.boot_id[0] = '\0';
}
static void program(void) { facts.tracker.identity.program_id++; }
static void tag(void) { facts.tracker.identity.program_tag[3] = 'f'; }
static void link_id(void) { facts.tracker.identity.link_id++; }
static void bitmaps(void) { facts.tracker.identity.bitmaps_id++; }
static void routes(void) { facts.tracker.identity.routes_id++; }
static void ledger_map(void) { facts.tracker.identity.ledger_id++; }
static void slots(void) { facts.tracker.identity.slots_id++; }
static void retired(void) { facts.tracker.identity.retired_id++; }
static void number(void) { device.device++; }
static void slot_number(void) { facts.slot.device++; }
static void instance(void) { device.diskseq++; }
static void uuid(void) { strcpy(device.dm_uuid, "LVM-abd"); }
static void table(void) { device.table[31] ^= 1; }
static void grown(void) { device.bytes += 4096; }
static void slot_size(void) { facts.slot.sectors--; }
static void granularity(void) { facts.slot.block_bytes = 8192; }
static void owner(void) { facts.slot.owner[15] ^= 1; }
static void lost(void) { facts.slot.flags = TRACKER_LOST_MARK; }
static void range(void) { facts.slot.flags = TRACKER_OUT_OF_RANGE; }
static void unknown_flag(void) { facts.slot.flags = 1u << 7; }
static void missed(void) { facts.tracker.recursion_misses++; }
static void missed_less(void) { facts.tracker.recursion_misses--; }
static void uncounted(void) { facts.uncounted = true; }
static void writes(void) { facts.ledger.kernel_write_sectors++; }
static void discards(void) { facts.ledger.kernel_discard_sectors++; }
static void backwards(void)
{
	facts.ledger.traced_write_sectors = 4000;
	facts.ledger.kernel_write_sectors = 900;
}
static void untrusted(void)
{
	remembered.trust = TRUST_UNTRUSTED;
	strcpy(remembered.reason, "because of that");
}
static void untrusted_silent(void) { remembered.trust = TRUST_UNTRUSTED; }

static const struct {
	const char *name;
	void (*disturb)(void);
	const char *says;
} cases[] = {
	{ "reboot", reboot, "rebooted" },
	{ "no boot ids", no_boot_ids, "rebooted" },
	{ "program", program, "program was replaced" },
	{ "program tag", tag, "program was replaced" },
	{ "link", link_id, "attached again" },
	{ "bitmaps", bitmaps, "maps were replaced" },
	{ "routes", routes, "maps were replaced" },
	{ "ledger map", ledger_map, "maps were replaced" },
	{ "slots", slots, "maps were replaced" },
	{ "retired", retired, "maps were replaced" },
	{ "number", number, "another device" },
	{ "slot's number", slot_number, "another device" },
	{ "instance", instance, "came back" },
	{ "uuid", uuid, "uuid is 'LVM-abd' now" },
	{ "table", table, "replaced the volume's device-mapper table" },
	{ "size", grown, "size changed" },
	{ "slot's size", slot_size, "size changed" },
	{ "granularity", granularity, "block size changed" },
	{ "owner", owner, "took its marks" },
	{ "lost mark", lost, "could not mark" },
	{ "out of range", range, "beyond the tracked size" },
	{ "unknown flag", unknown_flag, "does not know" },
	{ "missed run", missed, "skipped 1 runs" },
	{ "fewer missed runs", missed_less, "skipped" },
	{ "uncounted", uncounted, "does not count" },
	{ "writes short", writes, "801 sectors written, the tracker only 800" },
	{ "discards short", discards, "51 sectors discarded, the tracker only 50" },
	{ "backwards", backwards, "went backwards" },
	{ "untrusted", untrusted, "because of that" },
	{ "untrusted, no reason", untrusted_silent, "no trusted boundary" },
};

static void test_agree(void **context)
{
	char reason[256] = "x";

	(void)context;
	agree();
	assert_int_equal(judge_decide(&facts, reason, sizeof(reason)), TRUST_TRACKED);
	assert_string_equal(reason, "");
	/* More traced than counted is no fault: writes in flight. */
	facts.ledger.traced_write_sectors += 1000;
	assert_int_equal(judge_decide(&facts, reason, sizeof(reason)), TRUST_TRACKED);
}

static void test_each(void **context)
{
	char reason[256];

	(void)context;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		agree();
		cases[i].disturb();
		print_message("%s\n", cases[i].name);
		assert_int_equal(judge_decide(&facts, reason, sizeof(reason)),
				 TRUST_UNTRUSTED);
		if (!strstr(reason, cases[i].says))
			fail_msg("%s: the reason is '%s'", cases[i].name, reason);
	}
}

/* Any two together are no better than one. */
static void test_pairs(void **context)
{
	const size_t count = sizeof(cases) / sizeof(cases[0]);
	char reason[256];

	(void)context;
	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < count; j++) {
			agree();
			cases[i].disturb();
			/* Twice may cancel out: number and its slot's. */
			if (i == j || cases[i].disturb == missed ||
			    cases[i].disturb == missed_less)
				continue;
			cases[j].disturb();
			assert_int_equal(judge_decide(&facts, reason, sizeof(reason)),
					 TRUST_UNTRUSTED);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_agree),
		cmocka_unit_test(test_each),
		cmocka_unit_test(test_pairs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
