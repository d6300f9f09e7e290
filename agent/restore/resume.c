/*
 * Taking up a restore that broke off. Its journal says which windows it had written and
 * what was in them; each is read from the target and compared before it is left out.
 * So whatever happened to the target since, a window that is not as it should be is
 * restored again, and the worst that a wrong journal costs is that reading.
 */
#include "agent/restore/journal_format.h"
#include "agent/restore/restore_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int journal_load(const char *path, struct journal_contents *contents)
{
	CLEANUP_FREE char *data = NULL;
	size_t length;
	int ret = file_read(path, JOURNAL_BYTES_MAX, &data, &length);

	if (ret) {
		memset(contents, 0, sizeof(*contents));
		return ret;
	}
	ret = journal_decode((const uint8_t *)data, length, contents);
	crypto_wipe(data, length);
	return ret;
}

static bool journal_is_of(const struct journal_contents *contents, const struct point *point,
			  uint64_t device, uint64_t inode)
{
	const struct journal_subject *subject = &contents->subject;

	return subject->point == point->number &&
	       subject->volume_bytes == point->volume_bytes &&
	       !memcmp(&subject->volume, &point->volume, sizeof(point->volume)) &&
	       !memcmp(subject->point_hash, point->hash, sizeof(point->hash)) &&
	       subject->device == device && subject->inode == inode;
}

bool journal_is_about(const char *path, const struct point *point, uint64_t device,
		      uint64_t inode)
{
	struct journal_contents contents;
	bool is = !journal_load(path, &contents) &&
		  journal_is_of(&contents, point, device, inode);

	journal_contents_fini(&contents);
	return is;
}

/* ---- comparing -------------------------------------------------------------- */

struct resume {
	struct job *job;
	const struct journal_contents *contents;
	bool *good;			/* by window of the plan */
};

static int compare_window(const void *key, const void *record)
{
	uint64_t window = *(const uint64_t *)key;
	const struct journal_record *there = record;

	return window < there->window ? -1 : window > there->window;
}

/* Reads the window; what is no data of it becomes zero, as in its tag. */
static bool window_read(struct job *job, const struct plan_window *window, uint8_t *data)
{
	const struct plan *plan = &job->plan;
	uint64_t first = window->number * WINDOW_BLOCKS, end = first + WINDOW_BLOCKS;
	size_t length = plan_clip(plan, first, WINDOW_BLOCKS);
	uint64_t at = first;

	if (target_read_medium(job->target, first * BLOCK_BYTES, data, length))
		return false;
	memset(data + length, 0, WINDOW_BYTES - length);
	for (size_t i = window->entry; i < plan->map.entry_count; i++) {
		const struct map_entry *entry = &plan->map.entries[i];

		if (entry->block >= end)
			break;
		if (entry->frame == MAP_FRAME_HOLE)
			continue;
		if (entry->block > at)
			memset(data + (at - first) * BLOCK_BYTES, 0,
			       (entry->block - at) * BLOCK_BYTES);
		at = entry->block + entry->count;
	}
	if (at < end)
		memset(data + (at - first) * BLOCK_BYTES, 0, (end - at) * BLOCK_BYTES);
	return true;
}

static int resume_window(void *argument, size_t item, struct error *err)
{
	CLEANUP_FREE uint8_t *data = NULL;
	struct resume *resume = argument;
	struct job *job = resume->job;
	const struct plan_window *window = &job->plan.windows[item];
	const struct journal_contents *contents = resume->contents;
	const struct journal_record *record =
		bsearch(&window->number, contents->records, contents->count,
			sizeof(*contents->records), compare_window);
	struct tagger *tagger;
	uint64_t tag;

	if (!record)
		return 0;
	data = aligned_alloc(BLOCK_BYTES, WINDOW_BYTES);
	tagger = tagger_new(contents->subject.key);
	if (!data || !tagger) {
		tagger_free(tagger);
		return error_set(err, -ENOMEM, "comparing %s: out of memory",
				 job->target->path);
	}
	/* What cannot be read is written anew: that may cure it. */
	resume->good[item] = window_read(job, window, data) &&
			     !tagger_tag(tagger, data, WINDOW_BYTES, &tag) &&
			     tag == record->tag;
	tagger_free(tagger);
	return 0;
}

/* ---- what is left to do --------------------------------------------------------- */

/* The entry's part that lies in windows that are not good, to `left`. */
static int entry_keep(const struct resume *resume, const struct map_entry *entry,
		      size_t *window, struct map *left)
{
	const struct plan *plan = &resume->job->plan;
	uint64_t stop = entry->block + entry->count;

	for (uint64_t at = entry->block, next; at < stop; at = next) {
		struct map_entry part = *entry;
		int ret;

		while (plan->windows[*window].number < at / WINDOW_BLOCKS)
			++*window;
		next = (at / WINDOW_BLOCKS + 1) * WINDOW_BLOCKS;
		next = next < stop ? next : stop;
		if (resume->good[*window])
			continue;
		part.block = at;
		part.count = next - at;
		part.position = entry->position + (uint32_t)(at - entry->block);
		ret = map_append_entry(left, &part);
		if (ret)
			return ret;
	}
	return 0;
}

static int resume_narrow(struct resume *resume)
{
	struct plan *plan = &resume->job->plan;
	uint64_t before = map_data_blocks(&plan->map);
	struct map left;
	size_t window = 0;
	int ret = 0;

	map_init(&left, MAP_FULL, plan->map.volume_blocks);
	for (size_t i = 0; !ret && i < plan->map.frame_count; i++)
		ret = map_append_frame(&left, &plan->map.frames[i]);
	for (size_t i = 0; !ret && i < plan->map.entry_count; i++)
		if (plan->map.entries[i].frame != MAP_FRAME_HOLE)
			ret = entry_keep(resume, &plan->map.entries[i], &window, &left);
	if (ret) {
		map_fini(&left);
		return ret;
	}
	map_fini(&plan->map);
	plan->map = left;
	resume->job->resumed_bytes = (before - map_data_blocks(&left)) * BLOCK_BYTES;
	if (resume->job->resumed_bytes > plan->data_bytes)	/* the last block was cut */
		resume->job->resumed_bytes = plan->data_bytes;
	return 0;
}

/* Records that held, to go on with. */
static size_t records_keep(const struct resume *resume, struct journal_contents *contents)
{
	const struct plan *plan = &resume->job->plan;
	size_t kept = 0, record = 0;

	for (size_t i = 0; i < plan->window_count; i++) {
		while (record < contents->count &&
		       contents->records[record].window < plan->windows[i].number)
			record++;
		if (resume->good[i])
			contents->records[kept++] = contents->records[record];
	}
	return kept;
}

static int resume_compare(struct job *job, struct journal_contents *contents,
			  struct error *err)
{
	struct resume resume = { .job = job, .contents = contents };
	int ret = plan_windows(&job->plan);

	if (!ret) {
		resume.good = calloc(job->plan.window_count + 1, sizeof(*resume.good));
		ret = resume.good ? 0 : -ENOMEM;
	}
	if (ret)
		return error_set(err, ret, "taking up a restore: %s", error_text(ret));
	target_drop_cache(job->target);
	ret = parallel_run(job->decoders, job->plan.window_count, resume_window, &resume, err);
	if (!ret) {
		/* Before the windows go that it looks at. */
		contents->count = records_keep(&resume, contents);
		ret = resume_narrow(&resume);
		if (ret)
			error_set(err, ret, "taking up a restore: %s", error_text(ret));
	}
	free(resume.good);
	return ret;
}

static void resume_said(const struct job *job)
{
	log_note("taking up a restore of %s@%" PRIu64 " to %s that broke off: %" PRIu64
		 " of %" PRIu64 " MiB are there", job->point->volume_name, job->point->number,
		 job->target->path, job->resumed_bytes >> 20, job->plan.data_bytes >> 20);
}

int resume(struct job *job, struct repo *repo, struct error *err)
{
	struct journal_subject subject = {
		.repository = repo_facts(repo)->id, .volume = job->point->volume,
		.point = job->point->number, .volume_bytes = job->point->volume_bytes,
	};
	struct journal_contents contents;
	struct stat st;
	int ret = 0;

	if (!job->options->journal || job->options->known)
		return 0;
	if (!job->target->is_device && fstat(job->target->fd, &st) == 0) {
		subject.device = st.st_dev;
		subject.inode = st.st_ino;
	}
	memcpy(subject.point_hash, job->point->hash, sizeof(subject.point_hash));
	if (!journal_load(job->options->journal, &contents) &&
	    journal_is_of(&contents, job->point, subject.device, subject.inode) &&
	    !memcmp(&contents.subject.repository, &subject.repository,
		    sizeof(subject.repository))) {
		memcpy(subject.key, contents.subject.key, sizeof(subject.key));
		ret = resume_compare(job, &contents, err);
		if (!ret)
			resume_said(job);
	} else {
		contents.count = 0;
		ret = crypto_random(subject.key, sizeof(subject.key), err);
	}
	if (!ret)
		job->journal = journal_prepare(job->options->journal, &subject,
					     job->options->journal_delay_ns, contents.records,
					     contents.count);
	crypto_wipe(&subject, sizeof(subject));
	journal_contents_fini(&contents);
	return ret;
}
