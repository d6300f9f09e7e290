/* status: what is tracked, trusted, dirty; the last point; the RPO now. */
#include "agent/cli/status.h"

#include "agent/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WATCH_SECONDS 2.0

struct settings {
	double watch_seconds;		/* 0: once */
};

static void protect_print(const struct status *status, const struct config_volume *volume,
			  const struct volume_status *found)
{
	const struct protect_unit *unit = status_unit(status, volume);
	uint64_t age = protect_age_ns(found, unit, status_now_ns());

	printf("  objective %s, RPO now %s%s", text_duration(status_objective_ns(status, volume)),
	       age == UINT64_MAX ? "unbounded" : age ? text_duration(age)
						     : "0: nothing was written",
	       unit && unit->missed ? ", MISSED" : "");
	if (!status->protect.alive)
		printf("; clawback protect does not run");
	else if (unit && status_due_ns(unit))
		printf("; next due %s", text_time(status_due_ns(unit)));
	printf("\n");
	if (unit && unit->error_ns)
		printf("  last failure %s%s: %s\n", text_time(unit->error_ns),
		       unit->failures ? "" : ", got over", unit->error);
}

/*
 * n checks without a mismatch rule out more than 3/n wrong ones, with 95 %
 * confidence.
 */
static void fingerprints_print(const struct fingerprints_facts *facts)
{
	if (!facts->stored_bytes)
		return;
	printf("  fingerprints %s%s", text_bytes(facts->stored_bytes),
	       facts->current ? "" : ", not those of the last point");
	if (facts->mismatches)
		printf("; SPOT CHECKS FOUND %" PRIu64 " OF %" PRIu64 " UNMARKED BLOCKS CHANGED",
		       facts->mismatches, facts->checked);
	else if (facts->checked)
		printf("; %" PRIu64 " unmarked blocks spot-checked, none had changed: fewer than "
		       "1 in %" PRIu64 " do (95 %%)", facts->checked,
		       facts->checked < 3 ? 1 : facts->checked / 3);
	printf("\n");
}

static const char *since_text(const struct volume_status *status)
{
	static char text[96];

	if (status_since_known(status))
		snprintf(text, sizeof(text), " since %s", text_time(status->state.since_ns));
	else if (status->known && status->state.head_point)
		snprintf(text, sizeof(text), " since some time after %s",
			 text_time(status->state.head_time_ns));
	else
		*text = '\0';
	return text;
}

static void ledger_print(const struct volume_status *status)
{
	struct tracker_ledger ledger = status_ledger(status);

	/* The kernel's count began long before the tracker's. */
	if (status->trust != TRUST_TRACKED)
		printf("  ledger: %" PRIu64 " sectors traced as written, %" PRIu64 " as discarded; "
		       "nothing to compare with before the next boundary\n",
		       ledger.traced_write_sectors, ledger.traced_discard_sectors);
	else
		printf("  ledger since the last boundary: written %" PRIu64 " traced of %" PRIu64
		       " counted sectors, discarded %" PRIu64 " of %" PRIu64 "\n",
		       ledger.traced_write_sectors, ledger.kernel_write_sectors,
		       ledger.traced_discard_sectors, ledger.kernel_discard_sectors);
}

/* Of the last of each kind but the incrementals. */
static void kinds_print(const struct volume_state *state)
{
	if (state->full_time_ns)
		printf("  last full at %s\n", text_time(state->full_time_ns));
	if (state->synthetic_time_ns)
		printf("  last synthetic full at %s\n", text_time(state->synthetic_time_ns));
	if (state->differential_time_ns)
		printf("  last differential at %s\n", text_time(state->differential_time_ns));
}

static void volume_print(const struct config_volume *volume,
			 const struct volume_status *status)
{
	const struct volume_state *state = &status->state;

	printf("%s  %s  %s\n", volume->name,
	       status->device_found ? status->device.path : volume->device,
	       status->device_found ? text_bytes(status->device.bytes) : status->problem);
	if (volume->disk)
		printf("  a whole disk: what volumes have not of it is compared with the last point\n");
	else if (status->trust == TRUST_TRACKED)
		printf("  tracked since %s\n", text_time(state->since_ns));
	else
		printf("  untrusted%s: %s; the next backup will %s\n",
		       since_text(status), status->reason, volume->fingerprints && status->fingerprints.current
			? "compare the whole volume" : "be a full one");
	if (status->attached) {
		printf("  dirty %s, granularity %s, bitmap %s%s\n",
		       text_bytes(status->marks.dirty_blocks * status->slot.block_bytes),
		       text_bytes(status->slot.block_bytes), text_bytes(status->slot.blocks / 8),
		       status->slot.flags ? ", MARKS LOST" : "");
		ledger_print(status);
	}
	fingerprints_print(&status->fingerprints);
	if (status->pending)
		printf("  marks of an unfinished run are kept for the next one\n");
	if (state->head_point)
		printf("  last point %" PRIu64 " at %s, %s ago\n", state->head_point,
		       text_time(state->head_time_ns),
		       text_duration(status_age_seconds(state->head_time_ns) * 1000000000u));
	else
		printf("  no recovery point yet\n");
	kinds_print(state);
}

static void tracker_print(const struct status *status)
{
	const struct tracker_facts *facts = &status->facts;

	if (!status->tracker) {
		printf("tracker: not loaded\n");
		return;
	}
	printf("tracker: program %u (tag %s), link %u, %u volumes, %s of kernel memory, "
	       "%" PRIu64 " missed runs\n", facts->identity.program_id,
	       facts->identity.program_tag, facts->identity.link_id, facts->slots_used,
	       text_bytes(facts->map_bytes), facts->recursion_misses);
}

static int status_print(const struct status *status, const struct status_chosen *chosen,
			struct error *err)
{
	struct volume_status found;

	tracker_print(status);
	for (size_t i = 0; i < chosen->count; i++) {
		const struct config_volume *volume = chosen->volumes[i];

		if (protect_status(&status->cli->config, volume, status->tracker, &found, err))
			return err->code;
		volume_print(volume, &found);
		if (status_objective_ns(status, volume))
			protect_print(status, volume, &found);
		stores_print(&status->cli->config, &found);
		cli_drill_status_print(&status->cli->config, volume->name);
	}
	return 0;
}

static int status_once(struct cli *cli, const struct status_chosen *chosen, struct error *err)
{
	struct status status;
	json_t *document;
	int ret = status_open(cli, &status, err);

	if (ret)
		return ret;
	if (cli->json) {
		ret = status_json(&status, chosen, &document, err);
		if (!ret)
			ret = cli_print_json(document, false, err);
	} else {
		ret = status_print(&status, chosen, err);
	}
	status_close(&status);
	return ret;
}

static int choose(struct cli *cli, struct status_chosen *chosen, struct error *err)
{
	bool all = !cli->argument_count;
	int ret = 0;

	chosen->count = all ? cli->config.volume_count : (size_t)cli->argument_count;
	chosen->volumes = calloc(chosen->count + 1, sizeof(*chosen->volumes));
	if (!chosen->volumes)
		return error_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; !ret && i < chosen->count; i++) {
		if (all)
			chosen->volumes[i] = &cli->config.volumes[i];
		else
			ret = cli_volume(cli, cli->arguments[i], &chosen->volumes[i], err);
	}
	return ret;
}

static int status_run(struct cli *cli, struct error *err)
{
	const struct settings *settings = cli->settings;
	struct status_chosen chosen = { .volumes = NULL };
	int ret = cli_need_root("status", err);

	if (!ret)
		ret = choose(cli, &chosen, err);
	if (!ret)
		ret = settings->watch_seconds > 0
			? watch_run(cli, &chosen, settings->watch_seconds, err)
			: status_once(cli, &chosen, err);
	free(chosen.volumes);
	return ret;
}

static int take_watch(struct cli *cli, const char *value, struct error *err)
{
	struct settings *settings = cli->settings;
	char *end = NULL;
	double seconds = value ? strtod(value, &end) : WATCH_SECONDS;

	if (value && (!*value || *end || !(seconds >= 0.1 && seconds <= 3600)))
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "give seconds, from 0.1 to 3600");
	settings->watch_seconds = seconds;
	return 0;
}

static const struct cli_option status_options[] = {
	CLI_TAKE("watch", 0, "[=SECONDS]", "again and again, every 2 s by default, until q or Ctrl-C",
		 take_watch),
	{ .name = NULL },
};

const struct cli_verb verb_status = {
	.name = "status",
	.arguments = "[VOLUME...]",
	.summary = "Say what is tracked, trusted and dirty, the last point and the RPO now",
	.options = status_options,
	.settings_size = sizeof(struct settings),
	.maximum = -1,
	.run = status_run,
};
