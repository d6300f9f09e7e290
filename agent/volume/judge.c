/*
 * Every comparison that stands between the tracker's answer and believing it,
 * in one table. There is no third state: what cannot be compared is not trusted.
 */
#include "agent/volume/judge.h"

#include "agent/volume/sysfs.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* struct tracker_slot's flags; bpf/tracker_abi.h is not ours to include. */
#define JUDGE_LOST_MARK 1u
#define JUDGE_OUT_OF_RANGE 2u

/* True, with `why` filled, when the rule speaks against trust. */
typedef bool judge_rule(const struct judge_facts *facts, char *why, size_t room);

__attribute__((format(printf, 3, 4)))
static bool judge_say(char *why, size_t room, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, room, format, args);
	va_end(args);
	return true;
}

static bool judge_remembered(const struct judge_facts *f, char *why, size_t room)
{
	if (f->state->trust == TRUST_TRACKED)
		return false;
	return judge_say(why, room, "%s", f->state->reason[0] ? f->state->reason :
			 "no trusted boundary is on record");
}

static bool judge_boot(const struct judge_facts *f, char *why, size_t room)
{
	const char *now = f->tracker.identity.boot_id;

	/* An empty one would equal another empty one. */
	if (now[0] && strcmp(f->state->identity.boot_id, now) == 0)
		return false;
	return judge_say(why, room, "the machine was rebooted since the last boundary");
}

static bool judge_program(const struct judge_facts *f, char *why, size_t room)
{
	const struct tracker_identity *was = &f->state->identity;
	const struct tracker_identity *is = &f->tracker.identity;

	if (was->program_id == is->program_id &&
	    strcmp(was->program_tag, is->program_tag) == 0)
		return false;
	return judge_say(why, room, "the tracker's program was replaced (id %u, now %u)",
			 was->program_id, is->program_id);
}

static bool judge_link(const struct judge_facts *f, char *why, size_t room)
{
	const struct tracker_identity *was = &f->state->identity;
	const struct tracker_identity *is = &f->tracker.identity;

	if (was->link_id == is->link_id)
		return false;
	return judge_say(why, room, "the tracker was detached and attached again (link %u, now %u)",
			 was->link_id, is->link_id);
}

static bool judge_maps(const struct judge_facts *f, char *why, size_t room)
{
	/* All that is left: boot, program and link were compared before. */
	if (tracker_identity_equal(&f->state->identity, &f->tracker.identity))
		return false;
	return judge_say(why, room, "the tracker's maps were replaced");
}

static bool judge_misses(const struct judge_facts *f, char *why, size_t room)
{
	uint64_t was = f->state->recursion_misses, is = f->tracker.recursion_misses;

	/* A counter that went back is of another program. */
	if (was == is)
		return false;
	return judge_say(why, room, "the kernel skipped %" PRIu64 " runs of the tracker",
			 is - was);
}

static bool judge_number(const struct judge_facts *f, char *why, size_t room)
{
	uint32_t was = f->state->device, is = f->device->device;

	if (was == is && f->slot.device == is)
		return false;
	return judge_say(why, room, "the volume is another device now (%u:%u, was %u:%u, tracked %u:%u)",
			 DEVICE_MAJOR(is), DEVICE_MINOR(is), DEVICE_MAJOR(was),
			 DEVICE_MINOR(was), DEVICE_MAJOR(f->slot.device),
			 DEVICE_MINOR(f->slot.device));
}

static bool judge_instance(const struct judge_facts *f, char *why, size_t room)
{
	uint64_t was = f->state->diskseq, is = f->device->diskseq;

	if (was == is)
		return false;
	return judge_say(why, room, "the device was taken away and came back (instance %" PRIu64 ", was %" PRIu64 ")",
			 is, was);
}

static bool judge_uuid(const struct judge_facts *f, char *why, size_t room)
{
	if (strcmp(f->state->dm_uuid, f->device->dm_uuid) == 0)
		return false;
	return judge_say(why, room, "the device-mapper uuid is '%s' now, was '%s'",
			 f->device->dm_uuid, f->state->dm_uuid);
}

static bool judge_table(const struct judge_facts *f, char *why, size_t room)
{
	if (memcmp(f->state->table, f->device->table, sizeof(f->state->table)) == 0)
		return false;
	return judge_say(why, room, "another program replaced the volume's device-mapper table");
}

static bool judge_size(const struct judge_facts *f, char *why, size_t room)
{
	uint64_t was = f->state->bytes, is = f->device->bytes;

	if (was == is && f->slot.sectors == is / 512)
		return false;
	return judge_say(why, room, "the volume's size changed (%" PRIu64 " bytes, was %" PRIu64 ")",
			 is, was);
}

static bool judge_granularity(const struct judge_facts *f, char *why, size_t room)
{
	uint32_t was = f->state->granularity_bytes, is = f->slot.block_bytes;

	if (was == is)
		return false;
	return judge_say(why, room, "the tracker's block size changed (%u bytes, was %u)",
			 is, was);
}

static bool judge_owner(const struct judge_facts *f, char *why, size_t room)
{
	if (memcmp(f->slot.owner, f->state->id.b, sizeof(f->slot.owner)) == 0)
		return false;
	return judge_say(why, room, "another configuration or state folder backed the device up and took its marks");
}

static bool judge_lost(const struct judge_facts *f, char *why, size_t room)
{
	if (!(f->slot.flags & JUDGE_LOST_MARK))
		return false;
	return judge_say(why, room, "the tracker could not mark a write");
}

static bool judge_range(const struct judge_facts *f, char *why, size_t room)
{
	if (!(f->slot.flags & JUDGE_OUT_OF_RANGE))
		return false;
	return judge_say(why, room, "something was written beyond the tracked size");
}

static bool judge_flags(const struct judge_facts *f, char *why, size_t room)
{
	if (!(f->slot.flags & ~(JUDGE_LOST_MARK | JUDGE_OUT_OF_RANGE)))
		return false;
	return judge_say(why, room, "the tracker raised a flag that this program does not know (%#x)",
			 f->slot.flags);
}

/* What was traced cannot be compared with anything then. */
static bool judge_counted(const struct judge_facts *f, char *why, size_t room)
{
	if (!f->uncounted)
		return false;
	return judge_say(why, room, "the kernel does not count what is written to the device, so the tracker cannot be checked; write 1 to its queue/iostats in /sys/block");
}

/* Counters only grow; unsigned differences of ones that went back are huge. */
static bool judge_short(const char *what, uint64_t kernel_was, uint64_t kernel_is,
			uint64_t traced_was, uint64_t traced_is,
			char *why, size_t room)
{
	uint64_t kernel = kernel_is - kernel_was, traced = traced_is - traced_was;

	if (kernel_is < kernel_was || traced_is < traced_was)
		return judge_say(why, room, "the count of sectors %s went backwards", what);
	if (kernel <= traced)
		return false;
	return judge_say(why, room, "the kernel counted %" PRIu64 " sectors %s, the tracker only %" PRIu64,
			 kernel, what, traced);
}

static bool judge_writes(const struct judge_facts *f, char *why, size_t room)
{
	const struct tracker_ledger *was = &f->state->base, *is = &f->ledger;

	return judge_short("written", was->kernel_write_sectors,
			   is->kernel_write_sectors, was->traced_write_sectors,
			   is->traced_write_sectors, why, room);
}

static bool judge_discards(const struct judge_facts *f, char *why, size_t room)
{
	const struct tracker_ledger *was = &f->state->base, *is = &f->ledger;

	return judge_short("discarded", was->kernel_discard_sectors,
			   is->kernel_discard_sectors, was->traced_discard_sectors,
			   is->traced_discard_sectors, why, room);
}

/* The first that is broken gives the reason: causes before what follows from
 * them. */
static judge_rule *const judge_rules[] = {
	judge_remembered,
	judge_boot, judge_program, judge_link, judge_maps,
	judge_number, judge_instance, judge_uuid, judge_size, judge_table,
	judge_granularity, judge_owner,
	judge_lost, judge_range, judge_flags, judge_misses,
	judge_counted, judge_writes, judge_discards,
};

enum volume_trust judge_decide(const struct judge_facts *facts, char *reason,
			       size_t room)
{
	reason[0] = '\0';
	for (size_t i = 0; i < sizeof(judge_rules) / sizeof(judge_rules[0]); i++)
		if (judge_rules[i](facts, reason, room))
			return TRUST_UNTRUSTED;
	return TRUST_TRACKED;
}
