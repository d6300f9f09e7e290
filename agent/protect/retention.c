/* What is kept: a volume's history under a policy, and one round over a store. */
#include "agent/protect/protect.h"

#include "agent/base/cleanup.h"
#include "agent/base/interrupt.h"
#include "agent/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct policy *protect_policy(const struct config *config,
				    const struct config_store *store, const char *volume)
{
	const struct config_volume *configured = config_volume(config, volume);

	if (store != &config->repository && !policy_empty(&store->keep))
		return &store->keep;
	if (configured && !policy_empty(&configured->keep))
		return &configured->keep;
	return &config->repository.keep;
}

void protect_facts_path(const struct config *config, const struct uuid *volume,
			char path[static PATH_MAX])
{
	char id[UUID_TEXT_SIZE];

	uuid_format(volume, id);
	snprintf(path, PATH_MAX, "%.*s/points-%s", PATH_MAX - 64, config->agent.state, id);
}

/* ---- a volume's points ------------------------------------------------- */

void history_fini(struct history *history)
{
	retention_fini(&history->retention);
	free(history->points);
	memset(history, 0, sizeof(*history));
}

static int history_points(struct host *host, struct history *history, bool remember,
			  struct error *err)
{
	CLEANUP_FREE uint64_t *numbers = NULL;
	CLEANUP_FREE struct point_facts *facts = NULL;
	char path[PATH_MAX];
	int ret = point_numbers(host->repo, &history->volume.id, &numbers, &history->count, err);

	if (ret)
		return ret;
	history->points = calloc(history->count + 1, sizeof(*history->points));
	if (!history->points)
		return error_set(err, -ENOMEM, "listing points: out of memory");
	protect_facts_path(host->config, &history->volume.id, path);
	ret = point_facts_load(host->repo, &history->volume.id, numbers, history->count, path,
			       remember, &facts, err);
	for (size_t i = 0; !ret && i < history->count; i++)
		history->points[i] = (struct policy_point){
			.number = facts[i].number, .time_ns = facts[i].time_ns,
			.pinned = extent_list_contains(&history->retention.pinned,
						       facts[i].number),
		};
	return ret;
}

/* The record first: if another follows it meanwhile, committing ours will fail. */
int history_load(struct host *host, const struct repo_volume *volume, bool remember,
		 struct history *history, struct error *err)
{
	int ret;

	memset(history, 0, sizeof(*history));
	history->volume = *volume;
	ret = retention_load(host->repo, &volume->id, &history->retention, err);
	if (!ret)
		ret = history_points(host, history, remember, err);
	if (!ret && !history->count)
		ret = error_set(err, -ENOENT, "%s has no recovery point yet", volume->name);
	if (ret)
		history_fini(history);
	return ret;
}

int history_apply(struct history *history, const struct policy *policy, struct error *err)
{
	return policy_apply(policy, history->points, history->count) ?
	       error_set(err, -ENOMEM, "applying a policy: out of memory") : 0;
}

int history_forget(struct host *host, struct history *history, bool dry_run,
		   size_t *forgotten, struct error *err)
{
	uint64_t newest = history->points[history->count - 1].number;
	struct extent_list numbers = EXTENT_LIST_INIT;
	int ret = 0;

	*forgotten = 0;
	for (size_t i = 0; !ret && i < history->count; i++)
		if (!history->points[i].reasons) {
			ret = extent_list_append(&numbers, history->points[i].number, 1);
			++*forgotten;
		}
	if (ret)
		ret = error_set(err, ret, "forgetting points: %s", error_text(ret));
	if (!ret && *forgotten && !dry_run)
		ret = repo_forget(host->repo, &history->volume.id, &history->retention, &numbers,
				  newest, host->signer, err);
	extent_list_fini(&numbers);
	return ret;
}

/* ---- a round ------------------------------------------------------------ */

static int round_forget(struct host *host, const struct config_store *store,
			const struct repo_volume *volume, struct retention_result *result,
			struct error *err)
{
	const struct policy *policy = protect_policy(host->config, store, volume->name);
	struct history history;
	size_t forgotten = 0;
	int ret;

	/* Who took a volume out of the configuration did not mean its points. */
	if (policy_empty(policy) || !config_volume(host->config, volume->name))
		return 0;
	ret = history_load(host, volume, store == &host->config->repository, &history, err);
	if (ret == -ENOENT) {
		*err = (struct error)ERROR_INIT;
		return 0;
	}
	if (ret)
		return ret;
	ret = history_apply(&history, policy, err);
	if (!ret)
		ret = history_forget(host, &history, false, &forgotten, err);
	history_fini(&history);
	if (!ret)
		result->forgotten += forgotten;
	return ret;
}

static int round_prune(struct host *host, const struct config_store *store,
		       const struct repo_volume *volume, struct retention_result *result,
		       struct error *err)
{
	struct prune_options options = {
		.host_map_key = host->map_key,
		.signer = host->signer,
		.grace_ns = PROTECT_GRACE_NS,
	};
	const struct config_store *holder;
	struct prune_result pruned;
	int ret;

	/* Further stores are copied from the first one. */
	if (store == &host->config->repository)
		options.hold_from = protect_hold(host->config, &volume->id, &holder);
	ret = repo_prune(host->repo, &volume->id, &options, &pruned, err);
	if (ret)
		return ret;
	result->pruned += pruned.points;
	result->deleted_objects += pruned.deleted_objects;
	result->deleted_bytes += pruned.deleted_bytes;
	return 0;
}

static int round_volumes(struct host *host, const struct config_store *store,
			 struct retention_result *result, struct error *err)
{
	CLEANUP_FREE struct repo_volume *volumes = NULL;
	size_t count, failed = 0;
	int ret = repo_volumes(host->repo, &volumes, &count, err);

	if (ret)
		return ret;
	for (size_t i = 0; i < count; i++) {
		struct error one = ERROR_INIT;

		ret = interrupt_check(err);
		if (ret)
			return ret;
		ret = round_forget(host, store, &volumes[i], result, &one) ?:
		      round_prune(host, store, &volumes[i], result, &one);
		if (!ret)
			continue;
		/* One that fails does not keep the others. */
		*err = one;
		error_prefix(err, "volume %s", volumes[i].name);
		if (err->exit == EXIT_INTERRUPTED)
			return ret;
		failed++;
	}
	return failed ? err->code : 0;
}

int protect_retention(const struct config *config, const struct config_store *store,
		      struct retention_result *result, struct error *err)
{
	struct host host;
	int ret = host_open_at(config, store, HOST_WRITER, &host, err);

	memset(result, 0, sizeof(*result));
	if (ret)
		return ret;
	ret = round_volumes(&host, store, result, err);
	host_close(&host);
	return ret;
}
