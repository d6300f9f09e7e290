/*
 * <state>/protect.json, for `status` and for the daemon's own next start, and
 * <state>/protect.lock, which tells whether a daemon lives. The lock is one of an open
 * file description: it can be asked for without being taken, so that who only looks
 * never stands in a daemon's way.
 */
#include "agent/protect/daemon.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/protect/state_json.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FACTS_VERSION 1
#define FACTS_LIMIT_BYTES (4u << 20)
#define FACTS_UNITS_MAX 4096

static int daemon_path(const char *state_folder, const char *file, char path[static PATH_MAX],
		       struct error *err)
{
	if (snprintf(path, PATH_MAX, "%s/%s", state_folder, file) >= PATH_MAX - 16)
		return error_set(err, -ENAMETOOLONG, "the state folder's path is too long");
	return 0;
}

/* ---- the lock --------------------------------------------------------------- */

static int lock_refused(int fd, struct error *err)
{
	char holder[32];
	ssize_t n = pread(fd, holder, sizeof(holder) - 1, 0);

	holder[n > 0 ? n : 0] = '\0';
	holder[strspn(holder, "0123456789")] = '\0';
	return error_set_exit(err, EXIT_LOCKED, -EWOULDBLOCK, "clawback protect is at work "
			      "already with this state folder (process %s)",
			      *holder ? holder : "unknown");
}

int daemon_lock(const char *state_folder, int *lock_fd, struct error *err)
{
	struct flock lock = { .l_type = F_WRLCK };
	CLEANUP_CLOSE int fd = -1;
	char path[PATH_MAX], holder[32];
	int length, ret = daemon_path(state_folder, "protect.lock", path, err);

	*lock_fd = -1;
	if (ret)
		return ret;
	ret = file_make_folders(state_folder, 0700);
	if (ret)
		return error_set(err, ret, "cannot make the folder %s: %s", state_folder,
				 error_text(ret));
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return error_set(err, -errno, "cannot open the lock %s: %s", path,
				 error_text(errno));
	if (fcntl(fd, F_OFD_SETLK, &lock) < 0)
		return errno == EAGAIN || errno == EACCES ? lock_refused(fd, err) :
		       error_set(err, -errno, "cannot lock %s: %s", path, error_text(errno));
	/* For people; the lock itself is the descriptor. */
	length = snprintf(holder, sizeof(holder), "%d\n", (int)getpid());
	if (ftruncate(fd, 0) < 0 || pwrite(fd, holder, (size_t)length, 0) != length)
		return error_set(err, -errno, "cannot write the lock %s: %s", path,
				 error_text(errno));
	*lock_fd = STEAL_FD(fd);
	return 0;
}

static bool daemon_alive(const char *state_folder)
{
	struct flock lock = { .l_type = F_WRLCK };
	struct error ignored = ERROR_INIT;
	CLEANUP_CLOSE int fd = -1;
	char path[PATH_MAX];

	if (daemon_path(state_folder, "protect.lock", path, &ignored))
		return false;
	fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	return fd >= 0 && fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/* ---- writing ---------------------------------------------------------------- */

static json_t *unit_json(const struct unit_list *list, size_t i, struct instant now)
{
	const struct unit *unit = &list->units[i];
	const struct schedule_unit *plan = &list->schedules[i];

	return json_pack("{s:s, s:b, s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:o}",
		"name", unit->name, "group", (int)unit->group, "running", (int)plan->running,
		"missed", (int)plan->missed, "rpo_ns", (json_int_t)plan->rpo_ns,
		"covered_ns", plan->has_point
			? (json_int_t)instant_to_real(now, plan->covered_ns) : (json_int_t)0,
		"due_ns", (json_int_t)unit_due_ns(list, i, now),
		"run_ns", plan->run_count ? (json_int_t)schedule_duration(plan) : (json_int_t)0,
		"failures", (json_int_t)plan->failures,
		"error_ns", (json_int_t)unit->error_ns, "error", state_json_error(unit->error));
}

int daemon_file_save(const char *state_folder, const struct unit_list *list,
		     struct instant now, struct error *err)
{
	CLEANUP(state_json_drop) json_t *units = json_array();
	CLEANUP(state_json_drop) json_t *file = NULL;
	CLEANUP_FREE char *text = NULL;
	char path[PATH_MAX];
	int ret = daemon_path(state_folder, "protect.json", path, err);

	for (size_t i = 0; !ret && i < list->count && i < FACTS_UNITS_MAX; i++)
		if (json_array_append_new(units, unit_json(list, i, now)))
			ret = error_set(err, -ENOMEM, "writing %s: out of memory", path);
	if (ret)
		return ret;
	file = json_pack("{s:i, s:O}", "version", FACTS_VERSION, "units", units);
	text = file ? json_dumps(file, JSON_INDENT(1)) : NULL;
	if (!text)
		return error_set(err, -ENOMEM, "writing %s: out of memory", path);
	ret = file_replace(path, text, strlen(text), 0600);
	return ret ? error_set(err, ret, "cannot write %s: %s", path, error_text(ret)) : 0;
}

/* ---- reading ---------------------------------------------------------------- */

static int take_flag(const json_t *object, const char *key, bool *to)
{
	const json_t *value = json_object_get(object, key);

	*to = json_is_true(value);
	return json_is_boolean(value) ? 0 : -EBADMSG;
}

static int take_unit(const json_t *object, struct protect_unit *unit)
{
	return state_json_text(object, "name", unit->name, sizeof(unit->name)) ?:
	       state_json_text(object, "error", unit->error, sizeof(unit->error)) ?:
	       take_flag(object, "group", &unit->group) ?:
	       take_flag(object, "running", &unit->running) ?:
	       take_flag(object, "missed", &unit->missed) ?:
	       state_json_number(object, "rpo_ns", &unit->rpo_ns) ?:
	       state_json_number(object, "covered_ns", &unit->covered_ns) ?:
	       state_json_number(object, "due_ns", &unit->due_ns) ?:
	       state_json_number(object, "run_ns", &unit->run_ns) ?:
	       state_json_number(object, "failures", &unit->failures) ?:
	       state_json_number(object, "error_ns", &unit->error_ns);
}

static int take_units(const json_t *file, struct protect_facts *facts)
{
	const json_t *version = json_object_get(file, "version");
	const json_t *units = json_object_get(file, "units");
	size_t count = json_array_size(units);

	if (!json_is_integer(version) || json_integer_value(version) != FACTS_VERSION ||
	    !json_is_array(units) || count > FACTS_UNITS_MAX)
		return -EBADMSG;
	facts->units = calloc(count ? count : 1, sizeof(*facts->units));
	if (!facts->units)
		return -ENOMEM;
	for (; facts->count < count; facts->count++) {
		int ret = take_unit(json_array_get(units, facts->count),
				    &facts->units[facts->count]);

		if (ret)
			return ret;
	}
	return 0;
}

int protect_facts_load(const char *state_folder, struct protect_facts *facts,
		       struct error *err)
{
	CLEANUP(state_json_drop) json_t *file = NULL;
	CLEANUP_FREE char *text = NULL;
	char path[PATH_MAX];
	json_error_t where;
	size_t length;
	int ret = daemon_path(state_folder, "protect.json", path, err);

	memset(facts, 0, sizeof(*facts));
	if (ret)
		return ret;
	facts->alive = daemon_alive(state_folder);
	ret = file_read(path, FACTS_LIMIT_BYTES, &text, &length);
	if (!ret) {
		errno = 0;
		file = json_loadb(text, length, JSON_REJECT_DUPLICATES, &where);
		if (!file && (errno == ENOMEM ||
			      json_error_code(&where) == json_error_out_of_memory))
			ret = -ENOMEM;
		else
			ret = take_units(file, facts);
	}
	if (!ret)
		return 0;
	protect_facts_fini(facts);
	return ret == -EBADMSG || ret == -EFBIG
		? error_set(err, -EBADMSG, "%s is damaged; the daemon writes it anew", path)
		: error_set(err, ret, "cannot read %s: %s", path, error_text(ret));
}

void protect_facts_fini(struct protect_facts *facts)
{
	free(facts->units);
	facts->units = NULL;
	facts->count = 0;
}
