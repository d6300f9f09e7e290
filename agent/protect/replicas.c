/* One pass from the first store to a further one, and what is written down of it. */
#include "agent/protect/protect.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/base/interrupt.h"
#include "agent/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>

/* The file is written so often at most, while points are copied. */
#define SAVE_NS UINT64_C(1000000000)

struct pass {
	struct host *host;
	const struct config_store *store;
	const struct protect_replicate_options *options;
	struct replica_state state;
	struct replica_volume *volume;		/* the one that is copied now */
	uint64_t saved_ns;
};

static uint64_t real_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The newest point of a volume as its last run here left it; 0: not known. */
static uint64_t newest_known(const struct config *config, const struct repo_volume *volume)
{
	struct error ignored = ERROR_INIT;
	struct volume_state state;

	if (!config_volume(config, volume->name) ||
	    volume_state_load(config->agent.state, volume->name, &state, &ignored))
		return 0;
	return uuid_equal(&state.id, &volume->id) ? state.head_point : 0;
}

int protect_replicable(const struct config *config, struct repo_volume **volumes,
		       size_t *count, struct error *err)
{
	*count = 0;
	*volumes = calloc(config->volume_count + 1, sizeof(**volumes));
	if (!*volumes)
		return error_set(err, -ENOMEM, "replicating: out of memory");
	for (size_t i = 0; i < config->volume_count; i++) {
		struct repo_volume *at = &(*volumes)[*count];
		struct error ignored = ERROR_INIT;
		struct volume_state state;

		if (volume_state_load(config->agent.state, config->volumes[i].name, &state,
				      &ignored) || !state.head_point)
			continue;
		at->id = state.id;
		strcpy(at->name, config->volumes[i].name);
		++*count;
	}
	return 0;
}

/* ---- the store's file -------------------------------------------------------- */

static int pass_lock(const struct pass *pass, int *lock_fd, struct error *err)
{
	const char *folder = pass->host->config->agent.state;
	char path[PATH_MAX];
	int ret;

	snprintf(path, sizeof(path), "%.*s/stores", PATH_MAX - 128, folder);
	ret = file_make_folders(path, 0700);
	if (ret)
		return error_set(err, ret, "cannot make the folder %s: %s", path, error_text(ret));
	snprintf(path, sizeof(path), "%.*s/stores/%s.lock", PATH_MAX - 128, folder,
		 pass->store->name);
	*lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (*lock_fd < 0)
		return error_set(err, -errno, "cannot open the lock %s: %s", path,
				 error_text(errno));
	if (!flock(*lock_fd, LOCK_EX | LOCK_NB))
		return 0;
	if (errno != EWOULDBLOCK)
		return error_set(err, -errno, "cannot lock %s: %s", path, error_text(errno));
	return error_set_exit(err, EXIT_LOCKED, -EWOULDBLOCK, "store %s is being replicated to "
			      "already; wait for that to end", pass->store->name);
}

/* It is a hint: points go on without it. */
static void pass_save(struct pass *pass)
{
	struct error err = ERROR_INIT;

	if (pass->options->dry_run)
		return;
	pass->saved_ns = elapsed_ns();
	if (replica_state_save(pass->host->config->agent.state, pass->store, &pass->state, &err))
		log_warning("%s", err.message);
}

static int volume_add(struct pass *pass, const struct repo_volume *volume, struct error *err)
{
	struct replica_state *state = &pass->state;
	struct replica_volume *volumes;

	pass->volume = replica_state_find(state, &volume->id);
	if (!pass->volume) {
		volumes = reallocarray(state->volumes, state->count + 1, sizeof(*volumes));
		if (!volumes)
			return error_set(err, -ENOMEM, "replicating: out of memory");
		state->volumes = volumes;
		pass->volume = &volumes[state->count++];
		memset(pass->volume, 0, sizeof(*pass->volume));
		pass->volume->id = volume->id;
	}
	strcpy(pass->volume->name, volume->name);
	return 0;
}

/* Which point is the first that is not there, also when the store does not answer. */
static void volume_missing(struct pass *pass, const struct repo_volume *volume, uint64_t newest)
{
	uint64_t number = pass->volume->place.through + 1;
	struct error ignored = ERROR_INIT;
	struct point point;

	if (pass->volume->missing == number || (newest && newest < number))
		return;
	pass->volume->missing = number;
	pass->volume->missing_ns = real_ns();
	if (point_load(pass->host->repo, &volume->id, number, &point, &ignored))
		return;
	pass->volume->missing_ns = point.committed_ns;
	point_fini(&point);
}

/* ---- copying ------------------------------------------------------------------- */

static void point_copied(void *context, const struct replica_place *place)
{
	struct pass *pass = context;

	pass->volume->place = *place;
	pass->volume->missing = pass->volume->missing_ns = 0;
	if (elapsed_ns() - pass->saved_ns >= SAVE_NS)
		pass_save(pass);
}

static void point_report(void *context, uint64_t done, uint64_t total)
{
	struct pass *pass = context;

	if (pass->options->report)
		pass->options->report(pass->options->context, pass->volume->name, done, total);
}

static int volume_copy(struct pass *pass, struct repo *target, const struct repo_volume *volume,
		       struct error *err)
{
	struct replicate_options options = {
		.newest = newest_known(pass->host->config, volume),
		.signer = pass->host->signer,
		.dry_run = pass->options->dry_run,
		.copied = point_copied, .report = point_report, .context = pass,
	};
	struct replicate_result result;
	struct replica_place place;
	int ret = volume_add(pass, volume, err);

	if (ret)
		return ret;
	place = pass->volume->place;
	ret = repo_replicate(pass->host->repo, target, volume, &place, &options, &result, err);
	if (!options.dry_run) {
		pass->volume->place = place;
		if (!ret)
			pass->volume->missing = pass->volume->missing_ns = 0;
	}
	if (pass->options->done)
		pass->options->done(pass->options->context, volume->name, &result, &place,
				    ret ? err : NULL);
	return ret;
}

/* What is wrong with one volume's points keeps no other; a store that does not answer,
 * all. */
static bool of_one_volume(const struct error *err)
{
	return err->exit == EXIT_UNTRUSTWORTHY || err->code == -ESTALE;
}

static int volumes_copy(struct pass *pass, struct repo *target,
			const struct repo_volume *volumes, size_t count, struct error *err)
{
	struct error failure = ERROR_INIT;
	size_t failed = 0;

	for (size_t i = 0; i < count; i++) {
		struct error one = ERROR_INIT;

		if (!volume_copy(pass, target, &volumes[i], &one))
			continue;
		failure = one;
		failed++;
		if (!of_one_volume(&one))
			break;
	}
	if (!failed)
		return 0;
	*err = failure;
	if (failed < count && of_one_volume(&failure) && failure.exit != EXIT_UNTRUSTWORTHY)
		err->exit = EXIT_PARTIAL;
	return err->code;
}

/* Whether nothing was ever copied. */
static bool pass_first(const struct pass *pass)
{
	for (size_t i = 0; i < pass->state.count; i++)
		if (pass->state.volumes[i].place.through)
			return false;
	return !pass->state.success_ns;
}

/* A store that was there and is not is no new one: a disk that is not mounted would else
 * be written to where it is to be mounted. */
static int target_open(struct pass *pass, struct store **store, struct repo **target,
		       struct error *err)
{
	bool first = pass_first(pass), create = first && !pass->options->dry_run;
	int ret = store_of_config(pass->store, create, store, err);

	if (!ret)
		ret = replica_open(pass->host->repo, *store, create, target, err);
	if (ret && err->exit == EXIT_NO_REPOSITORY && first && pass->options->dry_run) {
		*err = (struct error)ERROR_INIT;
		return 0;
	}
	if (ret && err->exit == EXIT_NO_REPOSITORY && !first)
		error_hint(err, "it was there before; to fill it anew nevertheless, remove "
			   "%.200s/stores/%s.json", pass->host->config->agent.state,
			   pass->store->name);
	return ret;
}

static int pass_run(struct pass *pass, const struct repo_volume *volumes, size_t count,
		    struct error *err)
{
	struct store *store = NULL;
	struct repo *target = NULL;
	int ret = target_open(pass, &store, &target, err);

	for (size_t i = 0; i < count; i++) {
		struct error ignored = ERROR_INIT;

		if (!volume_add(pass, &volumes[i], &ignored))
			volume_missing(pass, &volumes[i], newest_known(pass->host->config,
								       &volumes[i]));
	}
	if (!ret)
		ret = volumes_copy(pass, target, volumes, count, err);
	repo_close(target);
	store_close(store);
	return ret;
}

static void pass_ended(struct pass *pass, int ret, const struct error *err)
{
	struct replica_state *state = &pass->state;

	if (!ret) {
		state->success_ns = real_ns();
		state->failures = 0;
	} else if (err->exit != EXIT_INTERRUPTED) {
		state->failures++;
		state->error_ns = real_ns();
		snprintf(state->error, sizeof(state->error), "%.255s", err->message);
	}
	pass_save(pass);
}

int protect_replicate(struct host *host, const struct config_store *store,
		      const struct repo_volume *volumes, size_t count,
		      const struct protect_replicate_options *options, struct error *err)
{
	struct pass pass = { .host = host, .store = store, .options = options };
	CLEANUP_CLOSE int lock_fd = -1;
	int ret = options->dry_run ? 0 : pass_lock(&pass, &lock_fd, err);

	if (!ret)
		ret = replica_state_load(host->config->agent.state, store, &pass.state, err);
	if (ret)
		return ret;
	ret = pass_run(&pass, volumes, count, err);
	pass_ended(&pass, ret, err);
	replica_state_fini(&pass.state);
	return ret ? error_prefix(err, "store %s", store->name) : 0;
}
