/* One prune: sweep what was pruned before, mark what was forgotten since, sweep again. */
#include "agent/repo/prune_private.h"

#include "agent/repo/retention_format.h"

#include <errno.h>
#include <string.h>
#include <time.h>

static uint64_t clock_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/*
 * How long it takes until whoever began before the last marking, and so may read what
 * it did away with, has had the grace period. A clock that was set back: all of it.
 */
static uint64_t wait_ns(const struct prune *prune, const struct retention *retention)
{
	uint64_t age = prune->now_ns > retention->marked_ns ?
		       prune->now_ns - retention->marked_ns : 0;

	if (!retention->marked_ns || age >= prune->options->grace_ns)
		return 0;
	return prune->options->grace_ns - age;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static int sweep(struct prune *prune, const struct retention *retention,
		 struct sweep_count *count, struct error *err)
{
	struct prune_result *result = prune->result;
	bool ripe;
	int ret;

	result->wait_ns = wait_ns(prune, retention);
	ripe = !result->wait_ns;
	ret = prune_sweep(prune, retention, ripe && !prune->options->dry_run, count, err);
	if (ret)
		return ret;
	result->after_bytes = count->total_bytes - count->bytes;
	result->live_bytes = result->after_bytes - least(retention->dead_bytes,
							 result->after_bytes);
	if (ripe) {
		result->deleted_objects += count->objects;
		result->deleted_bytes += count->bytes;
	} else {
		result->waiting_objects = count->objects;
		result->waiting_bytes = count->bytes;
	}
	return 0;
}

/* A look's listing does not have the packs that a prune would write. */
static void count_planned(const struct prune *prune, const struct retention *next)
{
	struct prune_result *result = prune->result;

	for (size_t i = 0; prune->options->dry_run && i < next->pack_count; i++)
		if (next->packs[i].sequence == next->sequence) {
			result->after_bytes += next->packs[i].bytes;
			result->live_bytes += next->packs[i].bytes;
		}
}

/* Of what a look counts twice, before and after marking, the first was there already. */
static void uncount(const struct prune *prune, const struct sweep_count *before)
{
	struct prune_result *result = prune->result;

	if (!prune->options->dry_run)
		return;
	if (result->wait_ns) {
		result->waiting_objects -= before->objects;
		result->waiting_bytes -= before->bytes;
	} else {
		result->deleted_objects -= before->objects;
		result->deleted_bytes -= before->bytes;
	}
}

/*
 * What another store has not got yet is treated as if nobody had forgotten it: `view` is
 * the record without that, and borrows from it but for `forgotten`.
 */
static int hold(const struct prune *prune, const struct retention *retention,
		struct retention *view, struct extent_list *held, struct error *err)
{
	struct extent_list all = EXTENT_LIST_INIT;
	uint64_t from = prune->options->hold_from;
	int ret = from ? extent_list_append(&all, from, UINT64_MAX - from) : 0;

	*view = *retention;
	view->forgotten = (struct extent_list)EXTENT_LIST_INIT;
	if (!ret)
		ret = extent_list_intersect(&retention->forgotten, &all, held);
	if (!ret)
		ret = extent_list_subtract(&retention->forgotten, &all, &view->forgotten);
	extent_list_fini(&all);
	prune->result->held = extent_list_blocks(held);
	return ret ? error_set(err, -ENOMEM, "pruning: out of memory") : 0;
}

static int mark_and_sweep(struct prune *prune, const struct retention *old,
			  struct extent_list *held, const struct sweep_count *before,
			  struct error *err)
{
	struct sweep_count after;
	struct retention next;
	int ret = prune_mark(prune, old, &next, err);

	if (ret)
		return ret;
	next.forgotten = *held;
	*held = (struct extent_list)EXTENT_LIST_INIT;
	if (!prune->options->dry_run)
		ret = retention_commit(prune->repo, &prune->volume, &next,
				       prune->options->signer, err);
	if (!ret)
		ret = sweep(prune, &next, &after, err);
	if (!ret) {
		uncount(prune, before);
		count_planned(prune, &next);
	}
	retention_fini(&next);
	return ret;
}

/* What an earlier version pruned. */
static bool never_repacked(const struct retention *retention)
{
	return retention->version == 1 && retention->serving_count;
}

int repo_prune(struct repo *repo, const struct uuid *volume,
	       const struct prune_options *options, struct prune_result *result,
	       struct error *err)
{
	struct prune prune = {
		.repo = repo, .volume = *volume, .options = options,
		.now_ns = options->now_ns ? options->now_ns : clock_now(), .result = result,
	};
	struct extent_list held = EXTENT_LIST_INIT;
	struct retention retention, view;
	struct sweep_count count;
	int ret;

	memset(result, 0, sizeof(*result));
	ret = retention_load(repo, volume, &retention, err);
	if (ret)
		return ret;
	ret = hold(&prune, &retention, &view, &held, err) ?:
	      sweep(&prune, &retention, &count, err);
	if (!ret)
		result->before_bytes = count.total_bytes;
	/*
	 * Marking again before the last marking was swept would put that off, and with a
	 * prune more often than the grace period, for ever.
	 */
	if (!ret && !result->wait_ns && (view.forgotten.count || never_repacked(&retention)))
		ret = mark_and_sweep(&prune, &view, &held, &count, err);
	extent_list_fini(&held);
	extent_list_fini(&view.forgotten);
	retention_fini(&retention);
	return ret;
}
