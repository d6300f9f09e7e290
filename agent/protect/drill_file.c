/*
 * What is remembered of drills, <state>/drills/NAME.json: for status, metrics and the
 * daemon's calendar. A machine that drills and has no key to sign with has it only here.
 */
#include "agent/protect/protect.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/protect/state_json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DRILLS_VERSION 1
#define DRILLS_LIMIT_BYTES (64u << 10)

/* The name may be one that a repository gave. */
static int state_path(const char *state_folder, const char *volume, char path[static PATH_MAX],
		      struct error *err)
{
	if (!*volume || *volume == '.' || strchr(volume, '/') || strlen(volume) > REPO_NAME_MAX)
		return error_set(err, -EINVAL, "\"%.64s\" is no name for a file", volume);
	snprintf(path, PATH_MAX, "%.*s/drills/%s.json", PATH_MAX - 128, state_folder, volume);
	return 0;
}

static json_t *record_json(bool has, const struct drill_record *record)
{
	return has ? drill_record_json(record) : json_null();
}

int drill_state_save(const char *state_folder, const char *volume,
		     const struct drill_state *state, struct error *err)
{
	CLEANUP(state_json_drop) json_t *file = json_pack("{s:i, s:I, s:o, s:o}",
		"version", DRILLS_VERSION, "since_ns", (json_int_t)state->since_ns,
		"last", record_json(state->has_last, &state->last),
		"passed", record_json(state->has_passed, &state->passed));
	CLEANUP_FREE char *text = file ? json_dumps(file, JSON_INDENT(1)) : NULL;
	char path[PATH_MAX], folder[PATH_MAX];
	int ret = state_path(state_folder, volume, path, err);

	if (ret)
		return ret;
	if (!text)
		return error_set(err, -ENOMEM, "writing %s: out of memory", path);
	snprintf(folder, sizeof(folder), "%.*s/drills", PATH_MAX - 64, state_folder);
	ret = file_make_folders(folder, 0700);
	if (!ret)
		ret = file_replace(path, text, strlen(text), 0600);
	return ret ? error_set(err, ret, "cannot write %s: %s", path, error_text(ret)) : 0;
}

static int take_record(const json_t *file, const char *key, bool *has,
		       struct drill_record *record)
{
	const json_t *object = json_object_get(file, key);

	*has = json_is_object(object);
	return *has ? drill_record_take(object, record) : json_is_null(object) ? 0 : -EBADMSG;
}

static int take_state(const json_t *file, struct drill_state *state)
{
	const json_t *version = json_object_get(file, "version");

	if (!json_is_integer(version) || json_integer_value(version) != DRILLS_VERSION)
		return -EBADMSG;
	return state_json_number(file, "since_ns", &state->since_ns) ?:
	       take_record(file, "last", &state->has_last, &state->last) ?:
	       take_record(file, "passed", &state->has_passed, &state->passed);
}

int drill_state_load(const char *state_folder, const char *volume, struct drill_state *state,
		     struct error *err)
{
	CLEANUP(state_json_drop) json_t *file = NULL;
	CLEANUP_FREE char *text = NULL;
	char path[PATH_MAX];
	json_error_t where;
	size_t length;
	int ret = state_path(state_folder, volume, path, err);

	memset(state, 0, sizeof(*state));
	if (ret)
		return ret;
	ret = file_read(path, DRILLS_LIMIT_BYTES, &text, &length);
	if (ret == -ENOENT)
		return 0;
	if (!ret) {
		errno = 0;
		file = json_loadb(text, length, JSON_REJECT_DUPLICATES, &where);
		if (!file && (errno == ENOMEM ||
			      json_error_code(&where) == json_error_out_of_memory))
			ret = -ENOMEM;
		else
			ret = take_state(file, state);
	}
	if (!ret)
		return 0;
	memset(state, 0, sizeof(*state));
	return ret == -EBADMSG || ret == -EFBIG
		? error_set(err, -EBADMSG, "%s is damaged; the next drill writes it anew", path)
		: error_set(err, ret, "cannot read %s: %s", path, error_text(ret));
}
