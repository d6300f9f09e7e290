/* What status says of further stores: from what passes wrote down; no store is asked. */
#include "agent/cli/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

struct seen {
	struct replica_state state;
	const struct replica_volume *volume;
	struct replica_lag lag;
	struct error err;		/* why the file was not read */
};

static void seen_load(const struct config *config, const struct config_store *store,
		      const struct volume_status *status, struct seen *seen)
{
	const struct volume_state *state = &status->state;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	seen->err = (struct error)ERROR_INIT;
	seen->volume = NULL;
	if (!replica_state_load(config->agent.state, store, &seen->state, &seen->err) &&
	    status->known)
		seen->volume = replica_state_find(&seen->state, &state->id);
	seen->lag = replica_lag(seen->volume, status->known ? state->head_point : 0,
				state->head_time_ns, (uint64_t)now.tv_sec * 1000000000u +
						     (uint64_t)now.tv_nsec);
}

static json_t *store_json(const struct config_store *store, const struct seen *seen)
{
	const char *error = seen->err.code ? seen->err.message : seen->state.error;

	return json_pack("{s:s, s:I, s:o, s:I, s:f, s:o, s:I, s:o, s:o}", "store", store->name,
		"point", (json_int_t)seen->lag.through, "point_time",
		cli_time_json(seen->lag.through_ns), "lag_points", (json_int_t)seen->lag.points,
		"lag_seconds", (double)seen->lag.ns / 1e9, "success_time",
		cli_time_json(seen->state.success_ns), "failures",
		(json_int_t)seen->state.failures, "error_time",
		cli_time_json(seen->state.error_ns), "error", cli_message_json(error));
}

json_t *stores_json(const struct config *config, const struct volume_status *status)
{
	json_t *list = json_array();

	for (size_t i = 0; i < config->store_count; i++) {
		struct seen seen;

		seen_load(config, &config->stores[i], status, &seen);
		json_array_append_new(list, store_json(&config->stores[i], &seen));
		replica_state_fini(&seen.state);
	}
	return list;
}

static void store_print(const struct config_store *store, const struct seen *seen)
{
	printf("  store %s: ", store->name);
	if (seen->lag.through)
		printf("up to point %" PRIu64 " of %s", seen->lag.through,
		       text_time(seen->lag.through_ns));
	else
		printf("nothing of it yet");
	if (seen->lag.points)
		printf("; %" PRIu64 " points BEHIND for %s", seen->lag.points,
		       text_duration(seen->lag.ns));
	printf("\n");
	if (seen->err.code)
		printf("    %s\n", seen->err.message);
	else if (seen->state.error_ns)
		printf("    last failure %s%s: %s\n", text_time(seen->state.error_ns),
		       seen->state.failures ? "" : ", got over", seen->state.error);
}

void stores_print(const struct config *config, const struct volume_status *status)
{
	for (size_t i = 0; i < config->store_count; i++) {
		struct seen seen;

		seen_load(config, &config->stores[i], status, &seen);
		store_print(&config->stores[i], &seen);
		replica_state_fini(&seen.state);
	}
}

void stores_behind(const struct config *config, const struct volume_status *status, char *text,
		   size_t room)
{
	size_t used = 0;

	*text = '\0';
	for (size_t i = 0; i < config->store_count && used < room; i++) {
		struct seen seen;

		seen_load(config, &config->stores[i], status, &seen);
		if (seen.lag.points)
			used += (size_t)snprintf(text + used, room - used, "%sstore %s lacks %" PRIu64
						 " points, for %s", used ? "; " : "",
						 config->stores[i].name, seen.lag.points,
						 text_duration(seen.lag.ns));
		replica_state_fini(&seen.state);
	}
}
