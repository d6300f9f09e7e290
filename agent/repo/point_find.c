/* Finding points: which there are, and which one a person means. */
#include "agent/repo/repo_private.h"

#include "agent/base/cleanup.h"
#include "agent/repo/point_format.h"
#include "agent/repo/retention_format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct number_list { uint64_t *items; size_t count, room; };

static int number_seen(void *context, const char *key, uint64_t bytes)
{
	struct number_list *list = context;
	uint64_t number;

	if (!point_key_number(key, &number) || bytes == POINT_STUB_BYTES)
		return 0;	/* not ours: an upload in progress, a stranger's file; or pruned */
	if (list->count == list->room) {
		size_t room = list->room ? 2 * list->room : 64;
		uint64_t *items = reallocarray(list->items, room, sizeof(*items));

		if (!items)
			return -ENOMEM;
		list->items = items;
		list->room = room;
	}
	list->items[list->count++] = number;
	return 0;
}

int point_numbers_stored(struct repo *repo, const struct uuid *volume,
			 uint64_t **numbers, size_t *count, struct error *err)
{
	struct number_list list = { NULL, 0, 0 };
	char prefix[STORE_KEY_MAX];
	int ret;

	point_key(volume, 0, prefix);
	*(strrchr(prefix, '/') + 1) = '\0';
	ret = store_list(repo->store, prefix, number_seen, &list, err);
	if (ret) {
		free(list.items);
		if (ret == -ENOMEM)
			error_set(err, ret, "listing points: out of memory");
		return ret;
	}
	*numbers = list.items;	/* in byte order of ten digits: rising */
	*count = list.count;
	return 0;
}

int point_numbers(struct repo *repo, const struct uuid *volume,
		  uint64_t **numbers, size_t *count, struct error *err)
{
	CLEANUP_FREE uint64_t *stored = NULL;
	struct retention retention;
	size_t stored_count, visible = 0;
	int ret = point_numbers_stored(repo, volume, &stored, &stored_count, err);

	/* This order: what was forgotten meanwhile is not shown any more. */
	if (!ret)
		ret = retention_load(repo, volume, &retention, err);
	if (ret)
		return ret;
	for (size_t i = 0; i < stored_count; i++)
		if (!retention_hides(&retention, stored[i]))
			stored[visible++] = stored[i];
	retention_fini(&retention);
	*numbers = STEAL(stored);
	*count = visible;
	return 0;
}

/* How many of `numbers`, whose times rise, are not after `time_ns`. */
static int count_until(struct repo *repo, const struct uuid *volume, const uint64_t *numbers,
		       size_t count, uint64_t time_ns, size_t *until, struct error *err)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		struct point point;
		int ret = point_load(repo, volume, numbers[middle], &point, err);

		if (ret)
			return ret;
		if (point.time_ns <= time_ns)
			low = middle + 1;
		else
			high = middle;
		point_fini(&point);
	}
	*until = low;
	return 0;
}

/* How many of `numbers` are below `limit`. */
static size_t count_below(const uint64_t *numbers, size_t count, uint64_t limit)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (numbers[middle] < limit)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/*
 * The last of `numbers` whose time is not after `time_ns`. Times rise from one step back of
 * the clock to the next; the newest point says where these are.
 */
static int find_by_time(struct repo *repo, const struct uuid *volume,
			const uint64_t *numbers, size_t count, uint64_t time_ns,
			struct point *point, struct error *err)
{
	size_t end = count, steps;
	int ret = point_load(repo, volume, numbers[count - 1], point, err);

	if (ret || point->time_ns <= time_ns)
		return ret;
	steps = point->clock_step_count;
	for (;;) {
		size_t first = steps ? count_below(numbers, end, point->clock_steps[steps - 1]) : 0;
		size_t until = 0;

		ret = count_until(repo, volume, numbers + first, end - first, time_ns, &until, err);
		if (!ret && !until && steps) {
			end = first;
			steps--;
			continue;
		}
		point_fini(point);
		if (ret)
			return ret;
		if (!until)
			return error_set(err, -ENOENT, "no recovery point is as old as that; see "
					 "clawback points");
		return point_load(repo, volume, numbers[first + until - 1], point, err);
	}
}

static bool parse_number(const char *text, uint64_t *number)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*number = strtoull(text, &end, 10);
	return !errno && !*end;
}

bool point_time_parse(const char *text, uint64_t *first_ns, uint64_t *time_ns)
{
	struct tm tm;
	const char *rest;
	uint64_t fraction = 0, unit = 1000000000;
	time_t seconds;

	memset(&tm, 0, sizeof(tm));
	rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	if (!rest)
		return false;
	if (*rest == '.')
		for (rest++; *rest >= '0' && *rest <= '9'; rest++)
			fraction += (uint64_t)(*rest - '0') * (unit /= 10);
	else
		fraction = 999999999;	/* the whole of the second that was named */
	seconds = timegm(&tm);
	if (strcmp(rest, "Z") || seconds < 0)
		return false;
	/* Later than 64 bits of nanoseconds reach, as 9999-12-31: later than any point. */
	if (__builtin_mul_overflow((uint64_t)seconds, UINT64_C(1000000000), time_ns) ||
	    __builtin_add_overflow(*time_ns, fraction, time_ns))
		*time_ns = UINT64_MAX;
	/* Without a fraction all of the second was named. */
	*first_ns = *time_ns - (*time_ns < UINT64_MAX && fraction == 999999999 &&
				unit == 1000000000 ? fraction : 0);
	return true;
}

static int find_by_number(struct repo *repo, const struct uuid *volume, uint64_t number,
			  struct point *point, struct error *err)
{
	struct retention retention;
	int ret = retention_load(repo, volume, &retention, err);
	bool hidden = !ret && retention_hides(&retention, number);

	if (ret)
		return ret;
	retention_fini(&retention);
	if (hidden)
		return error_set(err, -ENOENT, "recovery point %" PRIu64 " was forgotten; see "
				 "clawback points", number);
	ret = point_load(repo, volume, number, point, err);
	return ret == -ENOENT ? error_set(err, ret, "there is no recovery point %" PRIu64
					  "; see clawback points", number) : ret;
}

int point_find(struct repo *repo, const struct uuid *volume, const char *text,
	       struct point *point, struct error *err)
{
	CLEANUP_FREE uint64_t *numbers = NULL;
	uint64_t number, first_ns, time_ns;
	size_t count;
	int ret;

	if (text && parse_number(text, &number))
		return find_by_number(repo, volume, number, point, err);
	ret = point_numbers(repo, volume, &numbers, &count, err);
	if (ret)
		return ret;
	if (!count)
		return error_set(err, -ENOENT, "the volume has no recovery point yet; "
				 "run clawback backup");
	if (!text || !strcmp(text, "latest"))
		return point_load(repo, volume, numbers[count - 1], point, err);
	if (point_time_parse(text, &first_ns, &time_ns))
		return find_by_time(repo, volume, numbers, count, time_ns, point, err);
	return error_set_exit(err, EXIT_USAGE, -EINVAL, "\"%s\" is no recovery point: give "
			      "latest, a number, or a UTC time like 2026-11-23T20:15:00Z",
			      text);
}
