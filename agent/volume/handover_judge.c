/*
 * Every comparison that stands between saved marks and believing them. What is to
 * be shown is that between the last boundary and the first traced write of this
 * boot nothing was written but what the marks say: until the save the old boot's
 * tracker vouches for that, since the device appeared in this boot the kernel's
 * counters do, and for the time in between, when no kernel of ours looked, there
 * is only what the device's contents tell.
 */
#include "agent/volume/volume.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* True, with `why` filled, when the rule speaks against trust. */
typedef bool handover_rule(const struct handover_facts *facts, char *why, size_t room);

__attribute__((format(printf, 3, 4)))
static bool handover_say(char *why, size_t room, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, room, format, args);
	va_end(args);
	return true;
}

static bool handover_volume(const struct handover_facts *f, char *why, size_t room)
{
	if (uuid_equal(&f->saved->volume, &f->volume))
		return false;
	return handover_say(why, room, "the hand-over is another volume's");
}

static bool handover_state(const struct handover_facts *f, char *why, size_t room)
{
	if (!memcmp(f->saved->state, f->state, sizeof(f->state)))
		return false;
	return handover_say(why, room, "the hand-over does not belong to the state on record");
}

static bool handover_boot(const struct handover_facts *f, char *why, size_t room)
{
	if (f->saved->boot_id[0] && f->boot_id && f->boot_id[0] &&
	    strcmp(f->saved->boot_id, f->boot_id))
		return false;
	return handover_say(why, room, "the hand-over was saved in this same boot");
}

static bool handover_size(const struct handover_facts *f, char *why, size_t room)
{
	uint64_t was = f->saved->bytes, is = f->device->bytes;

	if (was == is)
		return false;
	return handover_say(why, room, "the volume's size changed across the reboot (%" PRIu64
			    " bytes, was %" PRIu64 ")", is, was);
}

static bool handover_granularity(const struct handover_facts *f, char *why, size_t room)
{
	uint32_t was = f->saved->granularity_bytes, is = f->granularity_bytes;

	if (was == is)
		return false;
	return handover_say(why, room, "the granularity was changed across the reboot (%u bytes, was %u)",
			    is, was);
}

static bool handover_uuid(const struct handover_facts *f, char *why, size_t room)
{
	if (!strcmp(f->saved->dm_uuid, f->device->dm_uuid))
		return false;
	return handover_say(why, room, "the device-mapper uuid is '%s' after the reboot, was '%s'",
			    f->device->dm_uuid, f->saved->dm_uuid);
}

static bool handover_place(const struct handover_facts *f, char *why, size_t room)
{
	if (!memcmp(f->saved->place, f->place, sizeof(f->place)))
		return false;
	return handover_say(why, room, "the volume lies elsewhere since the reboot (its table or start changed)");
}

/* Zero is what a kernel that was told not to count (iostats) says, too. */
static bool handover_uncounted(const struct handover_facts *f, char *why, size_t room)
{
	if (f->counted || !f->witness)
		return false;
	return handover_say(why, room, "the kernel does not count what is read from and written to the device (queue/iostats)");
}

static bool handover_writes(const struct handover_facts *f, char *why, size_t room)
{
	if (!f->ledger.kernel_write_sectors)
		return false;
	return handover_say(why, room, "%" PRIu64 " sectors were written in this boot before tracking began",
			    f->ledger.kernel_write_sectors);
}

static bool handover_discards(const struct handover_facts *f, char *why, size_t room)
{
	if (!f->ledger.kernel_discard_sectors)
		return false;
	return handover_say(why, room, "%" PRIu64 " sectors were discarded in this boot before tracking began",
			    f->ledger.kernel_discard_sectors);
}

static bool handover_unread(const struct handover_facts *f, char *why, size_t room)
{
	if (f->witness)
		return false;
	return handover_say(why, room, "the volume's contents could not be compared");
}

static bool handover_edges(const struct handover_facts *f, char *why, size_t room)
{
	if (!memcmp(f->saved->witness.edges, f->witness->edges, sizeof(f->witness->edges)))
		return false;
	return handover_say(why, room, "between the boots something wrote to the volume (its first or last MiB, or a superblock, changed)");
}

static bool handover_journal(const struct handover_facts *f, char *why, size_t room)
{
	if (!memcmp(f->saved->witness.journal, f->witness->journal,
		    sizeof(f->witness->journal)))
		return false;
	return handover_say(why, room, "between the boots something wrote to the volume (its file system's log went on)");
}

static bool handover_sample(const struct handover_facts *f, char *why, size_t room)
{
	if (!memcmp(f->saved->witness.sample, f->witness->sample,
		    sizeof(f->witness->sample)))
		return false;
	return handover_say(why, room, "between the boots something wrote to the volume (sampled blocks changed)");
}

/* The first that is broken gives the reason: causes before what follows from
 * them. */
static handover_rule *const handover_rules[] = {
	handover_volume, handover_state, handover_boot,
	handover_size, handover_granularity, handover_uuid, handover_place,
	handover_uncounted, handover_writes, handover_discards,
	handover_unread, handover_edges, handover_journal, handover_sample,
};

enum volume_trust handover_judge(const struct handover_facts *facts, char *reason,
				 size_t room)
{
	reason[0] = '\0';
	for (size_t i = 0; i < sizeof(handover_rules) / sizeof(handover_rules[0]); i++)
		if (handover_rules[i](facts, reason, room))
			return TRUST_UNTRUSTED;
	return TRUST_TRACKED;
}
