/*
 * A volume in a temporary file, a file:// store beside it, and the naive check of
 * what the pipeline made of them: every block of the map decoded and compared
 * with the volume. Shared by the pipeline tests.
 */
#ifndef CLAWBACK_TESTS_PIPELINE_LAB_H
#define CLAWBACK_TESTS_PIPELINE_LAB_H

#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/pipeline/pipeline.h"
#include "agent/pipeline/plan.h"
#include "tests/unit/random.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LAB_PREFIX "v/segments/0000000007-run-"

struct lab {
	char folder[64];
	int fd;				/* the volume's file, opened for reading */
	uint8_t *image;			/* the same, padded with zeros to whole blocks */
	uint64_t bytes, blocks;
	struct extent_list extents;
	struct store *store;
	uint8_t key[CRYPTO_KEY_SIZE];
	struct uuid volume;
};

static inline void lab_path(const struct lab *lab, const char *name,
			    char path[static 128])
{
	snprintf(path, 128, "%s/%s", lab->folder, name);
}

static inline int lab_remove_one(const char *path, const struct stat *st, int type,
				 struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static inline void lab_store_open(struct lab *lab)
{
	struct error err = ERROR_INIT;
	char url[160];

	snprintf(url, sizeof(url), "file://%s/store", lab->folder);
	if (store_open(url, NULL, true, &lab->store, &err))
		fail_msg("%s", err.message);
}

static inline void lab_store_clear(struct lab *lab)
{
	char path[128];

	store_close(lab->store);
	lab_path(lab, "store", path);
	nftw(path, lab_remove_one, 16, FTW_DEPTH | FTW_PHYS);
	lab_store_open(lab);
}

static inline void *lab_thread(void *context)
{
	return context;
}

/* A sanitizer starts a thread of its own with our first one: before any count. */
static inline void lab_thread_start(void)
{
	pthread_t thread;

	assert_int_equal(0, pthread_create(&thread, NULL, lab_thread, NULL));
	assert_int_equal(0, pthread_join(thread, NULL));
}

static inline struct lab *lab_new(void)
{
	struct lab *lab = calloc(1, sizeof(*lab));

	assert_non_null(lab);
	lab_thread_start();
	lab->fd = -1;
	strcpy(lab->folder, "/tmp/clawback-pipeline-XXXXXX");
	assert_non_null(mkdtemp(lab->folder));
	lab_store_open(lab);
	memset(lab->key, 0x5c, sizeof(lab->key));
	memset(lab->volume.b, 0xa7, sizeof(lab->volume.b));
	return lab;
}

static inline int lab_free(struct lab *lab)
{
	store_close(lab->store);
	if (lab->fd >= 0)
		close(lab->fd);
	free(lab->image);
	extent_list_fini(&lab->extents);
	nftw(lab->folder, lab_remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(lab);
	return 0;
}

static inline int lab_setup(void **state)
{
	*state = lab_new();
	return 0;
}

static inline int lab_teardown(void **state)
{
	return lab_free(*state);
}

/* ---- volumes ------------------------------------------------------------- */

static inline void fill_random(struct random_state *random, uint8_t *data,
			       size_t length)
{
	for (size_t i = 0; i + 8 <= length; i += 8) {
		uint64_t value = random_next(random);

		memcpy(data + i, &value, 8);
	}
}

/* Blocks of one kind: zero, almost zero, compressible, not compressible. */
static inline void fill_blocks(struct random_state *random, uint8_t *data,
			       uint64_t blocks)
{
	uint64_t kind = random_below(random, 5);
	char line[48];

	for (uint64_t b = 0; b < blocks; b++, data += BLOCK_BYTES) {
		switch (kind) {
		case 0:
			break;
		case 1:		/* one byte somewhere, often the very last */
			data[random_one_in(random, 3) ? BLOCK_BYTES - 1 :
			     random_below(random, BLOCK_BYTES)] = 1;
			break;
		case 2:
			snprintf(line, sizeof(line), "row %016llu of a table\n",
				 (unsigned long long)random_below(random, 1000));
			for (size_t i = 0; i < BLOCK_BYTES; i++)
				data[i] = (uint8_t)line[i % strlen(line)];
			break;
		default:
			fill_random(random, data, BLOCK_BYTES);
		}
	}
}

static inline void lab_open_volume(struct lab *lab)
{
	char path[128];

	lab_path(lab, "volume", path);
	if (lab->fd >= 0)
		close(lab->fd);
	/* tmpfs and some others refuse O_DIRECT. */
	lab->fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
	if (lab->fd < 0)
		lab->fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(lab->fd >= 0);
}

static inline void lab_volume(struct lab *lab, struct random_state *random,
			      uint64_t bytes)
{
	char path[128];

	free(lab->image);
	lab->bytes = bytes;
	lab->blocks = (bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;
	lab->image = calloc(lab->blocks + 1, BLOCK_BYTES);
	assert_non_null(lab->image);
	for (uint64_t b = 0; b < lab->blocks;) {
		uint64_t run = 1 + random_below(random, random_one_in(random, 4) ? 600 : 12);

		if (run > lab->blocks - b)
			run = lab->blocks - b;
		fill_blocks(random, lab->image + b * BLOCK_BYTES, run);
		b += run;
	}
	memset(lab->image + bytes, 0, lab->blocks * BLOCK_BYTES - bytes);
	lab_path(lab, "volume", path);
	assert_int_equal(0, file_replace(path, lab->image, bytes, 0600));
	lab_open_volume(lab);
}

/* Random runs of up to `run` blocks with up to `gap` between them. */
static inline void lab_extents(struct lab *lab, struct random_state *random,
			       uint64_t run, uint64_t gap)
{
	uint64_t at = random_below(random, gap + 1);

	extent_list_fini(&lab->extents);
	while (at < lab->blocks) {
		uint64_t count = 1 + random_below(random, run);

		if (count > lab->blocks - at)
			count = lab->blocks - at;
		assert_int_equal(0, extent_list_append(&lab->extents, at, count));
		at += count + 1 + random_below(random, gap);
	}
}

static inline void lab_extents_all(struct lab *lab)
{
	extent_list_fini(&lab->extents);
	assert_int_equal(0, extent_list_append(&lab->extents, 0, lab->blocks));
}

static inline struct pipeline_job lab_job(const struct lab *lab, enum map_kind kind)
{
	struct pipeline_job job = {
		.fd = lab->fd,
		.volume_bytes = lab->bytes,
		.extents = &lab->extents,
		.kind = kind,
		.volume = lab->volume,
		.point = 7,
		.data_key = lab->key,
		.store = lab->store,
		.segment_prefix = LAB_PREFIX,
	};

	return job;
}

static inline void lab_run(const struct pipeline_job *job,
			   struct pipeline_result *result)
{
	struct error err = ERROR_INIT;

	if (pipeline_run(job, result, &err))
		fail_msg("%s", err.message);
}

/* ---- reading back -------------------------------------------------------- */

/* A segment's bytes, wherever they are; the caller frees. */
static inline uint8_t *lab_segment(const struct lab *lab,
				   const struct pipeline_result *result,
				   size_t segment)
{
	struct error err = ERROR_INIT;
	char key[STORE_KEY_MAX];
	uint8_t *data;
	size_t length;

	if (result->inline_frames) {
		assert_int_equal(segment, 0);
		assert_int_equal(result->segment_count, 1);
		assert_int_equal(result->inline_length, result->segments[0].bytes);
		data = malloc(result->inline_length);
		assert_non_null(data);
		memcpy(data, result->inline_frames, result->inline_length);
		return data;
	}
	snprintf(key, sizeof(key), LAB_PREFIX "%06zu", segment);
	if (store_get_all(lab->store, key, SIZE_MAX / 2, &data, &length, &err))
		fail_msg("%s", err.message);
	assert_int_equal(length, result->segments[segment].bytes);
	return data;
}

static inline size_t lab_frame_bytes(const struct pipeline_job *job)
{
	return job->options.frame_blocks ? job->options.frame_blocks * (size_t)BLOCK_BYTES :
					   FRAME_PLAIN_MAX;
}

/* The frame's own extents must be the map's, in order. */
static inline void lab_check_extents(const struct map *map, uint32_t frame,
				     size_t *entry, const struct extent_list *extents)
{
	for (size_t i = 0; i < extents->count; i++) {
		uint64_t block = extents->items[i].first;
		uint64_t left = extents->items[i].count;

		while (left) {
			const struct map_entry *e;

			while (map->entries[*entry].frame == MAP_FRAME_HOLE)
				++*entry;
			e = &map->entries[*entry];
			assert_true(*entry < map->entry_count);
			assert_int_equal(e->frame, frame);
			assert_int_equal(e->block, block);
			assert_true(e->count <= left);
			block += e->count;
			left -= e->count;
			++*entry;
		}
	}
}

/* Walks a segment by its frames' headers alone; decodes each into `plain`. */
static inline void lab_check_segment(const struct lab *lab,
				     const struct pipeline_job *job,
				     const struct pipeline_result *result,
				     size_t segment, size_t *frame, size_t *entry,
				     uint8_t *plain)
{
	CLEANUP_FREE uint8_t *data = lab_segment(lab, result, segment);
	struct frame_decoder *decoder = frame_decoder_new();
	struct sealer *sealer = sealer_new(lab->key);
	uint64_t bytes = result->segments[segment].bytes;
	uint8_t sha256[CRYPTO_DIGEST_SIZE];
	struct error err = ERROR_INIT;
	uint64_t at = SEGMENT_HEADER_BYTES;
	uint32_t frames = 0;

	digest_of(data, bytes, sha256);
	assert_memory_equal(sha256, result->segments[segment].sha256, sizeof(sha256));
	assert_int_equal(0, segment_check(data, bytes, &lab->volume, job->point,
					  (uint32_t)segment, &err));
	for (; at < bytes; frames++, ++*frame) {
		struct extent_list extents = EXTENT_LIST_INIT;
		struct map_frame found;

		if (frame_peek(data + at, bytes - at, job->point, at, &found, &err))
			fail_msg("%s", err.message);
		assert_true(*frame < result->map.frame_count);
		assert_memory_equal(&found, &result->map.frames[*frame], sizeof(found));
		assert_true(found.length <= FRAME_STORED_MAX);
		assert_true(found.blocks * (size_t)BLOCK_BYTES <= lab_frame_bytes(job));
		if (frame_decode(decoder, sealer, &lab->volume, &found, data + at,
				 found.length,
				 plain + *frame * lab_frame_bytes(job), &extents, &err))
			fail_msg("%s", err.message);
		lab_check_extents(&result->map, (uint32_t)*frame, entry, &extents);
		extent_list_fini(&extents);
		at += found.length;
	}
	assert_int_equal(at, bytes);
	assert_int_equal(frames, result->segments[segment].frames);
	frame_decoder_free(decoder);
	sealer_free(sealer);
}

/* No more frames than must be: only the last one of a piece is not full. */
static inline void lab_check_full(const struct pipeline_job *job, const struct map *map)
{
	struct plan_piece *piece = malloc(sizeof(*piece));
	size_t partial = 0;
	struct plan plan;

	assert_non_null(piece);
	plan_init(&plan, job->extents);
	while (plan_next(&plan, piece))
		continue;
	free(piece);
	for (size_t i = 0; i < map->frame_count; i++)
		partial += map->frames[i].blocks * (size_t)BLOCK_BYTES < lab_frame_bytes(job);
	assert_true(partial <= plan.pieces);
}

/* Every block of the volume, as the map and the frames have it. */
static inline void lab_check(const struct lab *lab, const struct pipeline_job *job,
			     const struct pipeline_result *result)
{
	static const uint8_t zero[BLOCK_BYTES];
	CLEANUP_FREE uint8_t *plain =
		calloc(result->map.frame_count + 1, lab_frame_bytes(job));
	uint64_t data_blocks = 0, zero_blocks = 0;
	size_t frame = 0, entry = 0;

	assert_non_null(plain);
	for (size_t s = 0; s < result->segment_count; s++)
		lab_check_segment(lab, job, result, s, &frame, &entry, plain);
	assert_int_equal(frame, result->map.frame_count);
	/* Else the pieces were cut of more than is left. */
	if (!job->compare)
		lab_check_full(job, &result->map);
	assert_int_equal(lab->blocks, result->map.volume_blocks);
	for (uint64_t b = 0; b < lab->blocks; b++) {
		const uint8_t *block = lab->image + b * BLOCK_BYTES;
		struct map_entry found;
		bool listed = map_find(&result->map, b, &found);

		if (!extent_list_contains(job->extents, b)) {
			assert_true(job->kind == MAP_FULL ?
				    found.frame == MAP_FRAME_HOLE : !listed);
			continue;
		}
		assert_true(listed);
		if (found.frame == MAP_FRAME_HOLE) {
			assert_memory_equal(block, zero, BLOCK_BYTES);
			zero_blocks++;
			continue;
		}
		assert_memory_not_equal(block, zero, BLOCK_BYTES);
		assert_memory_equal(block, plain +
				    (size_t)found.frame * lab_frame_bytes(job) +
				    (size_t)found.position * BLOCK_BYTES, BLOCK_BYTES);
		data_blocks++;
	}
	assert_int_equal(data_blocks * BLOCK_BYTES, result->data_bytes);
	assert_int_equal(zero_blocks * BLOCK_BYTES, result->zero_bytes);
	assert_int_equal(data_blocks, map_data_blocks(&result->map));
}

static inline unsigned lab_threads(void)
{
	char line[128];
	unsigned threads = 0;
	FILE *file = fopen("/proc/self/status", "re");

	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "Threads: %u", &threads) == 1)
			break;
	fclose(file);
	return threads;
}

#endif
