/* Forgetting and pinning: the next retention record, which differs in a set of numbers. */
#include "agent/repo/repo_private.h"

#include "agent/repo/retention_format.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

static int no_memory(struct error *err)
{
	return error_set(err, -ENOMEM, "forgetting points: out of memory");
}

/* Commits `retention` with `*set`, one of its lists, replaced by `changed`; as it was
 * if that fails. Takes `changed`. */
static int commit_changed(struct repo *repo, const struct uuid *volume,
			  struct retention *retention, struct extent_list *set,
			  struct extent_list changed, uint64_t newest,
			  const struct signing_private *signer, struct error *err)
{
	struct retention before = *retention;
	struct extent_list set_before = *set;
	struct timespec now;
	int ret;

	clock_gettime(CLOCK_REALTIME, &now);
	*set = changed;
	retention->sequence++;
	memcpy(retention->previous, before.hash, sizeof(before.hash));
	retention->created_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	if (newest > retention->through)
		retention->through = newest;
	ret = retention_commit(repo, volume, retention, signer, err);
	if (ret)
		*retention = before;	/* `set` lies in it, and is as before, too */
	extent_list_fini(ret ? &changed : &set_before);
	return ret;
}

/* What must never be forgotten, whatever was asked for. */
static int forget_check(const struct retention *retention, const struct extent_list *numbers,
			uint64_t newest, struct error *err)
{
	for (size_t i = 0; i < numbers->count; i++) {
		const struct extent *run = &numbers->items[i];

		if (!run->first || run->first >= newest || run->count > newest - run->first)
			return error_set(err, -EINVAL, "refused to forget point %" PRIu64 ": the "
					 "next backup stands on it", newest);
		for (uint64_t n = run->first; n < run->first + run->count; n++)
			if (extent_list_contains(&retention->pinned, n))
				return error_set(err, -EINVAL, "refused to forget point %" PRIu64
						 ": it is pinned; see clawback keep", n);
	}
	return 0;
}

int repo_forget(struct repo *repo, const struct uuid *volume,
		struct retention *retention, const struct extent_list *numbers,
		uint64_t newest, const struct signing_private *signer, struct error *err)
{
	struct extent_list fresh = EXTENT_LIST_INIT, all = EXTENT_LIST_INIT;
	int ret = forget_check(retention, numbers, newest, err);

	if (ret)
		return ret;
	ret = extent_list_subtract(numbers, &retention->pruned, &fresh);
	if (!ret)
		ret = extent_list_union(&fresh, &retention->forgotten, &all);
	extent_list_fini(&fresh);
	if (ret)
		return no_memory(err);
	return commit_changed(repo, volume, retention, &retention->forgotten, all, newest,
			      signer, err);
}

int repo_pin(struct repo *repo, const struct uuid *volume, struct retention *retention,
	     uint64_t number, bool pinned, uint64_t newest,
	     const struct signing_private *signer, struct error *err)
{
	struct extent_list one = EXTENT_LIST_INIT, all = EXTENT_LIST_INIT;
	int ret;

	if (!number || number > newest || retention_hides(retention, number))
		return error_set(err, -EINVAL, "there is no point %" PRIu64 " that could be kept",
				 number);
	ret = extent_list_append(&one, number, 1);
	if (!ret && pinned)
		ret = extent_list_union(&retention->pinned, &one, &all);
	else if (!ret)
		ret = extent_list_subtract(&retention->pinned, &one, &all);
	extent_list_fini(&one);
	if (ret)
		return no_memory(err);
	return commit_changed(repo, volume, retention, &retention->pinned, all, newest, signer,
			      err);
}
