/*
 * What is remembered of further stores, <state>/stores/NAME.json: so that a pass knows
 * where to go on, prune what to leave, and status what to say. A hint, but for prune: it
 * may say less than is there, never more.
 */
#include "agent/protect/protect.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/protect/state_json.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define REPLICAS_VERSION 1
#define REPLICAS_LIMIT_BYTES (4u << 20)
#define REPLICAS_VOLUMES_MAX 4096

static void state_path(const char *state_folder, const char *name, const char *end,
		       char path[static PATH_MAX])
{
	snprintf(path, PATH_MAX, "%.*s/stores/%s%s", PATH_MAX - 128, state_folder, name, end);
}

void replica_state_fini(struct replica_state *state)
{
	free(state->volumes);
	memset(state, 0, sizeof(*state));
}

struct replica_volume *replica_state_find(const struct replica_state *state,
					  const struct uuid *volume)
{
	for (size_t i = 0; i < state->count; i++)
		if (uuid_equal(&state->volumes[i].id, volume))
			return &state->volumes[i];
	return NULL;
}

/* ---- writing --------------------------------------------------------------- */

static json_t *volume_json(const struct replica_volume *volume)
{
	char id[UUID_TEXT_SIZE];

	uuid_format(&volume->id, id);
	return json_pack("{s:s, s:s, s:b, s:I, s:I, s:I, s:I}", "volume", id,
			 "name", volume->name, "filled", (int)volume->place.filled,
			 "through", (json_int_t)volume->place.through,
			 "time_ns", (json_int_t)volume->place.time_ns,
			 "missing", (json_int_t)volume->missing,
			 "missing_ns", (json_int_t)volume->missing_ns);
}

/* prune deletes by what is said here, so a bit that fell over must show. */
static int state_digest(const json_t *object, char hex[static 2 * CRYPTO_DIGEST_SIZE + 1])
{
	CLEANUP_FREE char *text = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);
	uint8_t digest[CRYPTO_DIGEST_SIZE];

	if (!text)
		return -ENOMEM;
	digest_of(text, strlen(text), digest);
	hex_encode(digest, sizeof(digest), hex);
	return 0;
}

static char *state_text(const struct config_store *store, const struct replica_state *state)
{
	CLEANUP(state_json_drop) json_t *volumes = json_array();
	CLEANUP(state_json_drop) json_t *object = NULL;
	CLEANUP(state_json_drop) json_t *file = NULL;
	char hex[2 * CRYPTO_DIGEST_SIZE + 1];

	for (size_t i = 0; i < state->count && i < REPLICAS_VOLUMES_MAX; i++)
		if (json_array_append_new(volumes, volume_json(&state->volumes[i])))
			return NULL;
	object = json_pack("{s:s, s:I, s:I, s:I, s:o, s:O}", "url", store->url,
			   "success_ns", (json_int_t)state->success_ns,
			   "failures", (json_int_t)state->failures,
			   "error_ns", (json_int_t)state->error_ns, "error",
			   state_json_error(state->error), "volumes", volumes);
	if (!object || state_digest(object, hex))
		return NULL;
	file = json_pack("{s:i, s:s, s:O}", "version", REPLICAS_VERSION, "sha256", hex, "state",
			 object);
	return file ? json_dumps(file, JSON_INDENT(1)) : NULL;
}

int replica_state_save(const char *state_folder, const struct config_store *store,
		       const struct replica_state *state, struct error *err)
{
	CLEANUP_FREE char *text = state_text(store, state);
	char path[PATH_MAX];
	int ret;

	state_path(state_folder, store->name, ".json", path);
	if (!text)
		return error_set(err, -ENOMEM, "writing %s: out of memory", path);
	ret = file_replace(path, text, strlen(text), 0600);
	return ret ? error_set(err, ret, "cannot write %s: %s", path, error_text(ret)) : 0;
}

/* ---- reading --------------------------------------------------------------- */

static int take_volume(const json_t *object, struct replica_volume *volume)
{
	const json_t *filled = json_object_get(object, "filled");
	char id[UUID_TEXT_SIZE];
	int ret = state_json_text(object, "volume", id, sizeof(id)) ?:
		  state_json_text(object, "name", volume->name, sizeof(volume->name)) ?:
		  state_json_number(object, "through", &volume->place.through) ?:
		  state_json_number(object, "time_ns", &volume->place.time_ns) ?:
		  state_json_number(object, "missing", &volume->missing) ?:
		  state_json_number(object, "missing_ns", &volume->missing_ns);

	volume->place.filled = json_is_true(filled);
	if (!ret && (uuid_parse(id, &volume->id) || !json_is_boolean(filled)))
		ret = -EBADMSG;
	return ret;
}

static int take_volumes(const json_t *object, struct replica_state *state)
{
	const json_t *volumes = json_object_get(object, "volumes");
	size_t count = json_array_size(volumes);

	if (!json_is_array(volumes) || count > REPLICAS_VOLUMES_MAX)
		return -EBADMSG;
	state->volumes = calloc(count + 1, sizeof(*state->volumes));
	if (!state->volumes)
		return -ENOMEM;
	for (; state->count < count; state->count++) {
		int ret = take_volume(json_array_get(volumes, state->count),
				      &state->volumes[state->count]);

		if (ret)
			return ret;
	}
	return 0;
}

/* `other`: it is of another url. */
static int take_state(const json_t *file, const char *url, struct replica_state *state,
		      bool *other)
{
	const json_t *version = json_object_get(file, "version");
	const json_t *object = json_object_get(file, "state");
	const char *digest = json_string_value(json_object_get(file, "sha256"));
	char was[PATH_MAX], hex[2 * CRYPTO_DIGEST_SIZE + 1];
	int ret;

	if (!json_is_integer(version) || json_integer_value(version) != REPLICAS_VERSION ||
	    !json_is_object(object) || !digest)
		return -EBADMSG;
	if (state_digest(object, hex))
		return -ENOMEM;
	if (strcmp(hex, digest))
		return -EBADMSG;
	ret = state_json_text(object, "url", was, sizeof(was)) ?:
	      state_json_number(object, "success_ns", &state->success_ns) ?:
	      state_json_number(object, "failures", &state->failures) ?:
	      state_json_number(object, "error_ns", &state->error_ns) ?:
	      state_json_text(object, "error", state->error, sizeof(state->error)) ?:
	      take_volumes(object, state);
	*other = !ret && strcmp(was, url);
	return ret;
}

int replica_state_load(const char *state_folder, const struct config_store *store,
		       struct replica_state *state, struct error *err)
{
	CLEANUP(state_json_drop) json_t *file = NULL;
	CLEANUP_FREE char *text = NULL;
	char path[PATH_MAX];
	json_error_t where;
	bool other = false;
	size_t length;
	int ret;

	memset(state, 0, sizeof(*state));
	state_path(state_folder, store->name, ".json", path);
	ret = file_read(path, REPLICAS_LIMIT_BYTES, &text, &length);
	if (ret == -ENOENT)
		return 0;
	if (!ret) {
		errno = 0;
		file = json_loadb(text, length, JSON_REJECT_DUPLICATES, &where);
		if (!file && (errno == ENOMEM ||
			      json_error_code(&where) == json_error_out_of_memory))
			ret = -ENOMEM;
		else
			ret = take_state(file, store->url, state, &other);
	}
	if (ret || other)
		replica_state_fini(state);
	if (!ret)
		return 0;
	return ret == -EBADMSG || ret == -EFBIG
		? error_set(err, -EBADMSG, "%s is damaged; remove it: what is in store %s is then "
			    "found out by listing it", path, store->name)
		: error_set(err, ret, "cannot read %s: %s", path, error_text(ret));
}

/* ---- what follows from it ---------------------------------------------------- */

struct replica_lag replica_lag(const struct replica_volume *volume, uint64_t head,
			       uint64_t head_ns, uint64_t now_ns)
{
	struct replica_lag lag = { .through = 0 };
	uint64_t since = head_ns;

	if (volume) {
		lag.through = volume->place.through;
		lag.through_ns = volume->place.time_ns;
	}
	if (head <= lag.through)
		return lag;
	lag.points = head - lag.through;
	/* The last point's time, unless a pass saw which one is the first. */
	if (volume && volume->missing == lag.through + 1 && volume->missing_ns)
		since = volume->missing_ns;
	lag.ns = now_ns > since ? now_ns - since : 0;
	return lag;
}

uint64_t protect_hold(const struct config *config, const struct uuid *volume,
		      const struct config_store **store)
{
	uint64_t least = 0;

	*store = NULL;
	for (size_t i = 0; i < config->store_count; i++) {
		const struct replica_volume *there;
		struct error ignored = ERROR_INIT;
		struct replica_state state;
		uint64_t from = 1;

		if (!replica_state_load(config->agent.state, &config->stores[i], &state, &ignored)) {
			there = replica_state_find(&state, volume);
			if (there && there->place.filled && there->place.through)
				from = there->place.through;
			replica_state_fini(&state);
		}
		if (*store && from >= least)
			continue;
		least = from;
		*store = &config->stores[i];
	}
	return least;
}
