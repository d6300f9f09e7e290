/*
 * Many points at once: their heads read in parallel, and what lists of them need kept in
 * a file between runs. Points never change and each bears the hash of the one before it;
 * so if the newest point in the file is still the one that the store holds, so are all
 * that came before it. Memory: 256 heads; 48 bytes a point.
 */
#include "agent/repo/repo_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/base/log.h"
#include "agent/base/parallel.h"
#include "agent/repo/point_facts_format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Requests at once; a store may allow itself fewer. */
#define LOAD_THREADS 16u
#define LOAD_WINDOW 256u

/* ---- many heads -------------------------------------------------------- */

struct window {
	struct repo *repo;
	const struct uuid *volume;
	const uint64_t *numbers;
	struct point *points;
};

static int window_load(void *context, size_t item, struct error *err)
{
	struct window *window = context;

	return point_load(window->repo, window->volume, window->numbers[item],
			  &window->points[item], err);
}

int points_load(struct repo *repo, const struct uuid *volume, const uint64_t *numbers,
		size_t count, points_each_fn each, void *context, struct error *err)
{
	size_t room = count < LOAD_WINDOW ? count : LOAD_WINDOW;
	CLEANUP_FREE struct point *points = calloc(room + 1, sizeof(*points));
	int ret = 0;

	if (!points)
		return error_set(err, -ENOMEM, "reading points: out of memory");
	for (size_t at = 0; !ret && at < count; at += room) {
		struct window window = { repo, volume, numbers + at, points };
		size_t n = count - at < room ? count - at : room;

		memset(points, 0, room * sizeof(*points));
		ret = parallel_run(LOAD_THREADS, n, window_load, &window, err);
		for (size_t i = 0; !ret && i < n; i++)
			ret = each(context, &points[i], err);
		for (size_t i = 0; i < n; i++)
			point_fini(&points[i]);
	}
	return ret;
}

/* ---- the file ---------------------------------------------------------- */

static const struct point_facts *facts_find(const struct point_facts *facts, size_t count,
					    uint64_t number)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (facts[middle].number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low < count && facts[low].number == number ? &facts[low] : NULL;
}

int point_facts_decode(const uint8_t *data, size_t length, const struct uuid *repository,
		       const struct uuid *volume, struct point_facts_file *file)
{
	static const uint8_t zero[sizeof(((struct facts_header *)0)->zero)];
	uint8_t digest[CRYPTO_DIGEST_SIZE];
	struct facts_header header;
	uint64_t count;

	if (length < sizeof(header) + CRYPTO_DIGEST_SIZE)
		return -EBADMSG;
	digest_of(data, length - CRYPTO_DIGEST_SIZE, digest);
	if (memcmp(digest, data + length - CRYPTO_DIGEST_SIZE, sizeof(digest)))
		return -EBADMSG;
	memcpy(&header, data, sizeof(header));
	count = get_le64(header.count);
	if (memcmp(header.magic, FACTS_MAGIC, sizeof(header.magic)) ||
	    get_le32(header.version) != FACTS_VERSION || get_le32(header.flags) ||
	    memcmp(header.zero, zero, sizeof(zero)) || !count ||
	    count > length / sizeof(struct facts_entry) ||
	    length != sizeof(header) + count * sizeof(struct facts_entry) + CRYPTO_DIGEST_SIZE ||
	    memcmp(header.repository, repository->b, sizeof(header.repository)) ||
	    memcmp(header.volume, volume->b, sizeof(header.volume)))
		return -EBADMSG;
	file->items = calloc(count, sizeof(*file->items));
	if (!file->items)
		return -ENOMEM;
	file->count = count;
	memcpy(file->last_hash, header.last_hash, sizeof(file->last_hash));
	for (size_t i = 0; i < count; i++) {
		struct point_facts *facts = &file->items[i];
		struct facts_entry entry;

		memcpy(&entry, data + sizeof(header) + i * sizeof(entry), sizeof(entry));
		*facts = (struct point_facts){
			.number = get_le64(entry.number), .time_ns = get_le64(entry.time_ns),
			.marked_bytes = get_le64(entry.marked_bytes),
			.stored_bytes = get_le64(entry.stored_bytes),
			.kind = (enum point_kind)get_le32(entry.kind),
			.consistency = (enum point_consistency)get_le32(entry.consistency),
		};
		if (facts->number <= (i ? facts[-1].number : 0) ||
		    get_le32(entry.kind) > POINT_SYNTHETIC ||
		    get_le32(entry.consistency) > CONSISTENCY_UNMOUNTED ||
		    get_le64(entry.zero)) {
			free(file->items);
			file->items = NULL;
			return -EBADMSG;
		}
	}
	return 0;
}

/* Empty unless what it says is sure to be so. */
static int facts_read(struct repo *repo, const struct uuid *volume, const char *path,
		      struct point_facts_file *file, struct error *err)
{
	CLEANUP_FREE char *data = NULL;
	struct error why = ERROR_INIT;
	struct point last;
	size_t length;
	int ret;

	memset(file, 0, sizeof(*file));
	if (file_read(path, FACTS_BYTES_MAX, &data, &length) ||
	    point_facts_decode((uint8_t *)data, length, &repo->facts.id, volume, file))
		return 0;
	ret = point_load(repo, volume, file->items[file->count - 1].number, &last, &why);
	if (!ret && !memcmp(last.hash, file->last_hash, sizeof(last.hash))) {
		point_fini(&last);
		return 0;
	}
	if (!ret)
		point_fini(&last);
	free(file->items);
	memset(file, 0, sizeof(*file));
	/* Pruned, or another in its place; what is damaged shows when it is read. */
	if (!ret || ret == -ENOENT || why.exit == EXIT_UNTRUSTWORTHY)
		return 0;
	*err = why;
	return ret;
}

/* That it cannot be written costs only time. */
static void facts_write(const struct repo *repo, const struct uuid *volume, const char *path,
			const struct point_facts_file *file)
{
	struct facts_header header = {
		.magic = FACTS_MAGIC, .version = le32(FACTS_VERSION),
		.count = le64(file->count),
	};
	size_t length = sizeof(header) + file->count * sizeof(struct facts_entry);
	CLEANUP_FREE uint8_t *data = malloc(length + CRYPTO_DIGEST_SIZE);
	int ret;

	if (!data)
		return;
	memcpy(header.repository, repo->facts.id.b, sizeof(header.repository));
	memcpy(header.volume, volume->b, sizeof(header.volume));
	memcpy(header.last_hash, file->last_hash, sizeof(header.last_hash));
	memcpy(data, &header, sizeof(header));
	for (size_t i = 0; i < file->count; i++) {
		const struct point_facts *facts = &file->items[i];
		struct facts_entry entry = {
			.number = le64(facts->number), .time_ns = le64(facts->time_ns),
			.marked_bytes = le64(facts->marked_bytes),
			.stored_bytes = le64(facts->stored_bytes), .kind = le32(facts->kind),
			.consistency = le32(facts->consistency),
		};

		memcpy(data + sizeof(header) + i * sizeof(entry), &entry, sizeof(entry));
	}
	digest_of(data, length, data + length);
	ret = file_replace(path, data, length + CRYPTO_DIGEST_SIZE, 0600);
	if (ret)
		log_detail("writing %s: %s; the next list of points takes longer", path,
			   error_text(ret));
}

/* ---- facts ------------------------------------------------------------- */

struct gathering {
	struct point_facts_file *file;
	size_t at;			/* in file->items */
};

static int facts_take(void *context, const struct point *point, struct error *err)
{
	struct gathering *gathering = context;
	struct point_facts_file *file = gathering->file;

	(void)err;
	while (file->items[gathering->at].number != point->number)
		gathering->at++;
	file->items[gathering->at] = (struct point_facts){
		.number = point->number, .time_ns = point->time_ns,
		.marked_bytes = point->marked_bytes, .stored_bytes = point->stored_bytes,
		.kind = point->kind, .consistency = point->consistency,
	};
	memcpy(file->last_hash, point->hash, sizeof(file->last_hash));
	return 0;
}

/* What the file knows; the numbers of the others go to `missing`. */
static size_t facts_known(const struct point_facts_file *known, const uint64_t *numbers,
			  size_t count, struct point_facts_file *file, uint64_t *missing)
{
	size_t missing_count = 0;

	for (size_t i = 0; i < count; i++) {
		const struct point_facts *facts = facts_find(known->items, known->count,
							     numbers[i]);

		if (facts)
			file->items[i] = *facts;
		else
			missing[missing_count++] = file->items[i].number = numbers[i];
	}
	memcpy(file->last_hash, known->last_hash, sizeof(file->last_hash));
	return missing_count;
}

int point_facts_load(struct repo *repo, const struct uuid *volume, const uint64_t *numbers,
		     size_t count, const char *path, bool keep, struct point_facts **facts,
		     struct error *err)
{
	CLEANUP_FREE uint64_t *missing = calloc(count + 1, sizeof(*missing));
	struct point_facts_file known = { .items = NULL }, file = {
		.items = calloc(count + 1, sizeof(*file.items)), .count = count,
	};
	struct gathering gathering = { .file = &file };
	size_t missing_count = 0;
	int ret = !missing || !file.items ?
		  error_set(err, -ENOMEM, "listing points: out of memory") : 0;

	if (!ret && path)
		ret = facts_read(repo, volume, path, &known, err);
	if (!ret) {
		missing_count = facts_known(&known, numbers, count, &file, missing);
		ret = points_load(repo, volume, missing, missing_count, facts_take, &gathering,
				  err);
	}
	/* Of the last point the hash has to be known. */
	if (!ret && path && keep && missing_count && missing[missing_count - 1] == numbers[count - 1])
		facts_write(repo, volume, path, &file);
	free(known.items);
	if (ret)
		free(file.items);
	else
		*facts = file.items;
	return ret;
}
