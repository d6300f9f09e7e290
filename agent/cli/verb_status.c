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

static uint64_t age_seconds(uint64_t time_ns)
{
	uint64_t now = (uint64_t)time(NULL);

	return now > time_ns / 1000000000u ? now - time_ns / 1000000000u : 0;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* A daemon does not write down every look at a volume at rest: 0 then. */
static uint64_t unit_due_ns(const struct protect_unit *unit)
{
	return unit->due_ns > now_ns() ? unit->due_ns : 0;
}

static json_t *protect_json(const struct status *status, const struct config_volume *volume,
			    const struct volume_status *found)
{
	const struct protect_unit *unit = status_unit(status, volume);
	uint64_t age = protect_age_ns(found, unit, now_ns());
	json_t *object = json_pack("{s:f, s:o}", "objective_seconds",
		(double)status_objective_ns(status, volume) / 1e9, "rpo_seconds",
		age == UINT64_MAX ? json_null() : json_real((double)age / 1e9));

	if (!object || !unit)
		return object;
	json_object_set_new(object, "due", cli_time_json(unit_due_ns(unit)));
	json_object_set_new(object, "run_seconds", json_real((double)unit->run_ns / 1e9));
	json_object_set_new(object, "missed", json_boolean(unit->missed));
	json_object_set_new(object, "failures", json_integer((json_int_t)unit->failures));
	json_object_set_new(object, "error", json_string(unit->error));
	json_object_set_new(object, "error_time", cli_time_json(unit->error_ns));
	return object;
}

static void protect_print(const struct status *status, const struct config_volume *volume,
			  const struct volume_status *found)
{
	const struct protect_unit *unit = status_unit(status, volume);
	uint64_t age = protect_age_ns(found, unit, now_ns());

	printf("  objective %s, RPO now %s%s", text_duration(status_objective_ns(status, volume)),
	       age == UINT64_MAX ? "unbounded" : age ? text_duration(age)
						     : "0: nothing was written",
	       unit && unit->missed ? ", MISSED" : "");
	if (!status->protect.alive)
		printf("; clawback protect does not run");
	else if (unit && unit_due_ns(unit))
		printf("; next due %s", text_time(unit_due_ns(unit)));
	printf("\n");
	if (unit && unit->error_ns)
		printf("  last failure %s%s: %s\n", text_time(unit->error_ns),
		       unit->failures ? "" : ", got over", unit->error);
}

/* What kernel and tracker counted since the last boundary (or attach). */
static struct tracker_ledger ledger_since(const struct volume_status *status)
{
	struct tracker_ledger now = status->ledger;
	const struct tracker_ledger *base = &status->state.base;

	if (status->trust != TRUST_TRACKED)
		return now;
	now.kernel_write_sectors -= base->kernel_write_sectors;
	now.kernel_discard_sectors -= base->kernel_discard_sectors;
	now.traced_write_sectors -= base->traced_write_sectors;
	now.traced_discard_sectors -= base->traced_discard_sectors;
	return now;
}

static json_t *ledger_json(const struct volume_status *status)
{
	struct tracker_ledger ledger = ledger_since(status);

	return json_pack("{s:s, s:I, s:I, s:I, s:I}", "since",
			 status->trust == TRUST_TRACKED ? "boundary" : "attach",
			 "kernel_write_sectors", (json_int_t)ledger.kernel_write_sectors,
			 "traced_write_sectors", (json_int_t)ledger.traced_write_sectors,
			 "kernel_discard_sectors", (json_int_t)ledger.kernel_discard_sectors,
			 "traced_discard_sectors", (json_int_t)ledger.traced_discard_sectors);
}

static json_t *fingerprints_json(const struct fingerprints_facts *facts)
{
	return json_pack("{s:b, s:I, s:I, s:I, s:o}", "current", (int)facts->current,
		"stored_bytes", (json_int_t)facts->stored_bytes,
		"spot_checked", (json_int_t)facts->checked,
		"spot_mismatches", (json_int_t)facts->mismatches,
		"miss_rate_below", facts->checked && !facts->mismatches
			? json_real(facts->checked < 3 ? 1.0 : 3.0 / (double)facts->checked)
			: json_null());
}

/*
 * Distrust that is on record has a time; what only now speaks against the marks came
 * at some time after the last boundary.
 */
static bool since_known(const struct volume_status *status)
{
	return status->known && status->state.trust == status->trust;
}

static void kind_time_json(json_t *object, const char *key, uint64_t time_ns)
{
	if (time_ns)
		json_object_set_new(object, key, cli_time_json(time_ns));
}

static json_t *volume_json(const struct config_volume *volume,
			   const struct volume_status *status)
{
	const struct volume_state *state = &status->state;
	json_t *object = json_pack(
		"{s:s, s:s, s:b, s:b, s:s, s:s, s:I, s:b}", "name", volume->name,
		"device", status->device_found ? status->device.path : volume->device,
		"device_found", (int)status->device_found, "attached", (int)status->attached,
		"trust", status->trust == TRUST_TRACKED ? "tracked" : "untrusted",
		"reason", status->reason, "point", (json_int_t)state->head_point,
		"pending", (int)status->pending);

	if (!object)
		return NULL;
	if (volume->disk)
		json_object_set_new(object, "disk", json_true());
	if (*status->problem)
		json_object_set_new(object, "problem", json_string(status->problem));
	if (status->device_found)
		json_object_set_new(object, "volume_bytes",
				    json_integer((json_int_t)status->device.bytes));
	if (status->known)
		json_object_set_new(object, "volume_id", cli_uuid_json(&state->id));
	if (since_known(status))
		json_object_set_new(object, "since", cli_time_json(state->since_ns));
	else if (status->known && state->head_point)
		json_object_set_new(object, "since_after", cli_time_json(state->head_time_ns));
	json_object_set_new(object, "fingerprints", fingerprints_json(&status->fingerprints));
	json_object_set_new(object, "point_time", cli_time_json(state->head_time_ns));
	if (state->full_point)
		json_object_set_new(object, "full_point",
				    json_integer((json_int_t)state->full_point));
	kind_time_json(object, "full_time", state->full_time_ns);
	kind_time_json(object, "synthetic_time", state->synthetic_time_ns);
	kind_time_json(object, "differential_time", state->differential_time_ns);
	json_object_set_new(object, "rpo_seconds", state->head_point
		? json_integer((json_int_t)age_seconds(state->head_time_ns)) : json_null());
	if (!status->attached)
		return object;
	json_object_set_new(object, "dirty_bytes", json_integer(
		(json_int_t)(status->marks.dirty_blocks * status->slot.block_bytes)));
	json_object_set_new(object, "granularity_bytes",
			    json_integer(status->slot.block_bytes));
	json_object_set_new(object, "bitmap_bytes",
			    json_integer((json_int_t)(status->slot.blocks / 8)));
	json_object_set_new(object, "flags", json_integer(status->slot.flags));
	json_object_set_new(object, "ledger", ledger_json(status));
	return object;
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

	if (since_known(status))
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
	struct tracker_ledger ledger = ledger_since(status);

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
		       text_duration(age_seconds(state->head_time_ns) * 1000000000u));
	else
		printf("  no recovery point yet\n");
	kinds_print(state);
}

static json_t *tracker_json(const struct status *status)
{
	const struct tracker_facts *facts = &status->facts;

	if (!status->tracker)
		return json_null();
	return json_pack("{s:s, s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
		"boot_id", facts->identity.boot_id,
		"program_id", (json_int_t)facts->identity.program_id,
		"program_tag", facts->identity.program_tag,
		"link_id", (json_int_t)facts->identity.link_id,
		"bitmaps_id", (json_int_t)facts->identity.bitmaps_id,
		"recursion_misses", (json_int_t)facts->recursion_misses,
		"run_count", (json_int_t)facts->run_count,
		"run_ns", (json_int_t)facts->run_ns,
		"map_bytes", (json_int_t)facts->map_bytes,
		"slots_used", (json_int_t)facts->slots_used);
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

int status_json(const struct status *status, const struct status_chosen *chosen,
		json_t **document, struct error *err)
{
	json_t *volumes = json_array();
	struct volume_status found;
	int ret = 0;

	for (size_t i = 0; !ret && i < chosen->count; i++) {
		const struct config_volume *volume = chosen->volumes[i];
		json_t *object;

		ret = protect_status(&status->cli->config, volume, status->tracker, &found, err);
		if (ret)
			break;
		object = volume_json(volume, &found);
		if (status_objective_ns(status, volume))
			json_object_set_new(object, "protect", protect_json(status, volume, &found));
		if (status->cli->config.store_count)
			json_object_set_new(object, "stores",
					    stores_json(&status->cli->config, &found));
		json_object_set_new(object, "drill", cli_drill_status_json(
			&status->cli->config, volume->name));
		json_array_append_new(volumes, object);
	}
	*document = ret ? NULL : json_pack("{s:o, s:{s:b}, s:O}", "tracker", tracker_json(status),
					   "daemon", "running", (int)status->protect.alive,
					   "volumes", volumes);
	json_decref(volumes);
	return ret || *document ? ret : error_set(err, -ENOMEM, "writing JSON: out of memory");
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
