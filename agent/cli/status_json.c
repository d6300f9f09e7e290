/* status --json. */
#include "agent/cli/status.h"

#include <errno.h>

static json_t *protect_json(const struct status *status, const struct config_volume *volume,
			    const struct volume_status *found)
{
	const struct protect_unit *unit = status_unit(status, volume);
	uint64_t age = protect_age_ns(found, unit, status_now_ns());
	json_t *object = json_pack("{s:f, s:o}", "objective_seconds",
		(double)status_objective_ns(status, volume) / 1e9, "rpo_seconds",
		age == UINT64_MAX ? json_null() : json_real((double)age / 1e9));

	if (!object || !unit)
		return object;
	json_object_set_new(object, "due", cli_time_json(status_due_ns(unit)));
	json_object_set_new(object, "run_seconds", json_real((double)unit->run_ns / 1e9));
	json_object_set_new(object, "missed", json_boolean(unit->missed));
	json_object_set_new(object, "failures", json_integer((json_int_t)unit->failures));
	json_object_set_new(object, "error", json_string(unit->error));
	json_object_set_new(object, "error_time", cli_time_json(unit->error_ns));
	return object;
}

static json_t *ledger_json(const struct volume_status *status)
{
	struct tracker_ledger ledger = status_ledger(status);

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
	if (status_since_known(status))
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
		? json_integer((json_int_t)status_age_seconds(state->head_time_ns)) : json_null());
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
