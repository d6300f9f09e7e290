/*
 * A repository of one volume in a temporary folder, and beside it the model: an
 * image in memory for every recovery point. Points are made as a backup makes
 * them (pipeline_run, point_commit), from a volume that changes at random.
 */
#ifndef CLAWBACK_TESTS_POINTS_LAB_H
#define CLAWBACK_TESTS_POINTS_LAB_H

#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/repo/repo.h"
#include "tests/unit/random.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define LAB_POINTS 16

struct lab_image {
	uint8_t *data;		/* whole blocks, zero behind `bytes` */
	uint64_t bytes, blocks;
};

struct points_lab {
	char folder[64];
	struct store *store;
	struct repo *repo;
	struct repo_facts facts;
	struct recovery_private *recovery, *stranger;
	struct signing_private *signing;
	uint8_t host_map_key[CRYPTO_KEY_SIZE];
	struct uuid volume;
	uint64_t count;
	struct lab_image images[LAB_POINTS + 1];	/* [0]: empty */
	struct point points[LAB_POINTS + 1];
	uint64_t last_full;
	struct pipeline_options options;	/* of the next commit */
	bool image_digest;			/* record the image's digest */
	void (*spoil)(struct map *map);		/* a mistake in the map to be stored */
};

/* ---- files ---------------------------------------------------------------- */

static inline int lab_remove_one(const char *path, const struct stat *st, int type,
				 struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static inline void lab_path(const struct points_lab *lab, const char *name,
			    char path[static 700])
{
	snprintf(path, 700, "%s/%s", lab->folder, name);
}

/* Every object's file below the store, sorted; the caller frees with lab_keys_free. */
struct lab_keys {
	char *items[512];
	size_t count;
};

static inline int lab_key_seen(void *context, const char *key, uint64_t bytes)
{
	struct lab_keys *keys = context;

	(void)bytes;
	assert_true(keys->count < 512);
	keys->items[keys->count++] = strdup(key);
	return 0;
}

static inline void lab_keys_list(struct points_lab *lab, const char *prefix,
				 struct lab_keys *keys)
{
	struct error err = ERROR_INIT;

	keys->count = 0;
	if (store_list(lab->store, prefix, lab_key_seen, keys, &err))
		fail_msg("%s", err.message);
}

static inline void lab_keys_free(struct lab_keys *keys)
{
	while (keys->count)
		free(keys->items[--keys->count]);
}

static inline void lab_object_path(const struct points_lab *lab, const char *key,
				   char path[static 700])
{
	snprintf(path, 700, "%s/store/%s", lab->folder, key);
}

static inline void lab_object_read(const struct points_lab *lab, const char *key,
				   char **data, size_t *length)
{
	char path[700];

	lab_object_path(lab, key, path);
	assert_int_equal(0, file_read(path, 1u << 30, data, length));
}

/* Behind the store's back, without fsync: thousands of times a test. */
static inline void lab_object_write(const struct points_lab *lab, const char *key,
				    const void *data, size_t length)
{
	CLEANUP_CLOSE int fd = -1;
	char path[700];

	lab_object_path(lab, key, path);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(0, file_write_all(fd, data, length));
}

/* An object called `name` in a folder where the points are: no point, whatever its name. */
static inline void lab_deeper_write(const struct points_lab *lab, const char *name,
				    size_t length)
{
	CLEANUP_FREE char *data = calloc(1, length + 1);
	char key[STORE_KEY_MAX], path[700];

	assert_non_null(data);
	point_key(&lab->volume, 1, key);
	strcpy(strrchr(key, '/') + 1, "deeper");
	lab_object_path(lab, key, path);
	assert_true(!mkdir(path, 0700) || errno == EEXIST);
	sprintf(key + strlen(key), "/%s", name);
	lab_object_write(lab, key, data, length);
}

static inline void lab_object_remove(const struct points_lab *lab, const char *key)
{
	char path[700];

	lab_object_path(lab, key, path);
	assert_int_equal(0, unlink(path));
}

/* ---- keys and repository --------------------------------------------------- */

/* scrypt is slow on purpose: one pair of recovery keys for all labs of a program. */
static inline struct recovery_private *lab_recovery(const char *folder, int which)
{
	static struct recovery_private *made[2];
	struct passphrase passphrase = { .text = "correct horse", .length = 13 };
	struct recovery_public public;
	struct error err = ERROR_INIT;
	char private_path[128], public_path[128];

	if (made[which])
		return made[which];
	snprintf(private_path, sizeof(private_path), "%s/recovery%d.pem", folder, which);
	snprintf(public_path, sizeof(public_path), "%s/recovery%d.pub", folder, which);
	if (recovery_generate(private_path, public_path, &passphrase, &public, &err) ||
	    recovery_private_load(private_path, &passphrase, &made[which], &err))
		fail_msg("%s", err.message);
	return made[which];
}

static inline void lab_repo_open(struct points_lab *lab)
{
	struct error err = ERROR_INIT;
	char url[160];

	snprintf(url, sizeof(url), "file://%s/store", lab->folder);
	if (store_open(url, NULL, true, &lab->store, &err))
		fail_msg("%s", err.message);
	recovery_private_public(lab->recovery, &lab->facts.recipients[0]);
	lab->facts.recipient_count = 1;
	signing_public(lab->signing, &lab->facts.signers[0]);
	lab->facts.signer_count = 1;
	if (repo_init(lab->store, &lab->facts, &err) ||
	    repo_open(lab->store, lab->facts.fingerprint, &lab->repo, &err))
		fail_msg("%s", err.message);
}

/* Folders of labs that a failed test left behind go when the program ends. */
static char lab_folders[64][64];
static size_t lab_folder_count;

static inline void lab_remove_all(void)
{
	while (lab_folder_count)
		nftw(lab_folders[--lab_folder_count], lab_remove_one, 16,
		     FTW_DEPTH | FTW_PHYS);
}

static inline void lab_folder_register(const char *folder)
{
	if (!lab_folder_count)
		atexit(lab_remove_all);
	assert_true(lab_folder_count < 64);
	strcpy(lab_folders[lab_folder_count++], folder);
}

static inline struct points_lab *points_lab_new(void)
{
	struct points_lab *lab = calloc(1, sizeof(*lab));
	struct error err = ERROR_INIT;
	struct statvfs room;
	char path[700];

	assert_non_null(lab);
	/* Thousands of fsyncs: in memory where there is room. */
	strcpy(lab->folder, statvfs("/dev/shm", &room) ||
	       room.f_bavail * room.f_frsize < 1u << 30 ?
	       "/tmp/clawback-points-XXXXXX" : "/dev/shm/clawback-points-XXXXXX");
	assert_non_null(mkdtemp(lab->folder));
	lab_folder_register(lab->folder);
	lab->recovery = lab_recovery(lab->folder, 0);
	lab->stranger = lab_recovery(lab->folder, 1);
	lab_path(lab, "signing.pem", path);
	if (signing_generate(path, &lab->signing, &err))
		fail_msg("%s", err.message);
	memset(lab->host_map_key, 0x3b, sizeof(lab->host_map_key));
	memset(lab->volume.b, 0xa7, sizeof(lab->volume.b));
	lab_repo_open(lab);
	return lab;
}

static inline void points_lab_free(struct points_lab *lab)
{
	repo_close(lab->repo);
	store_close(lab->store);
	signing_free(lab->signing);
	for (uint64_t i = 0; i <= LAB_POINTS; i++) {
		free(lab->images[i].data);
		point_fini(&lab->points[i]);
	}
	nftw(lab->folder, lab_remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(lab);
}

static inline struct key_ring lab_ring(const struct points_lab *lab)
{
	return (struct key_ring){ lab->recovery, lab->host_map_key };
}

/* ---- the volume ------------------------------------------------------------ */

static inline void lab_fill(struct random_state *random, uint8_t *data,
			    uint64_t blocks)
{
	uint64_t kind = random_below(random, 5);

	for (uint64_t b = 0; b < blocks; b++, data += BLOCK_BYTES) {
		memset(data, 0, BLOCK_BYTES);
		if (kind == 1)		/* one byte somewhere */
			data[random_below(random, BLOCK_BYTES)] = 1;
		else if (kind == 2)	/* compressible, every block another */
			for (size_t i = 0; i < BLOCK_BYTES; i++)
				data[i] = (uint8_t)(random->value + b + i % 16);
		else if (kind > 2)
			for (size_t i = 0; i < BLOCK_BYTES; i += 8) {
				uint64_t value = random_next(random);

				memcpy(data + i, &value, 8);
			}
	}
}

/* Image `number` = image `from`, of another size, with random runs rewritten. */
static inline void lab_image_change(struct points_lab *lab, struct random_state *random,
				    uint64_t number, uint64_t bytes, unsigned runs,
				    uint64_t run_blocks)
{
	const struct lab_image *from = &lab->images[number - 1];
	struct lab_image *image = &lab->images[number];
	uint64_t keep;

	free(image->data);
	image->bytes = bytes;
	image->blocks = (bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;
	image->data = calloc(image->blocks + 1, BLOCK_BYTES);
	assert_non_null(image->data);
	keep = from->bytes < bytes ? from->bytes : bytes;
	if (keep)
		memcpy(image->data, from->data, keep);
	while (runs--) {
		uint64_t block = random_below(random, image->blocks);
		uint64_t count = 1 + random_below(random, run_blocks);

		if (count > image->blocks - block)
			count = image->blocks - block;
		lab_fill(random, image->data + block * BLOCK_BYTES, count);
	}
	memset(image->data + bytes, 0, (image->blocks + 1) * BLOCK_BYTES - bytes);
}

/* What a tracker would say: all that differs, and some blocks that do not. */
static inline void lab_marks(const struct lab_image *old, const struct lab_image *new,
			     struct random_state *random, struct extent_list *marks)
{
	for (uint64_t b = 0; b < new->blocks; b++)
		if (b >= old->blocks || random_one_in(random, 50) ||
		    memcmp(old->data + b * BLOCK_BYTES, new->data + b * BLOCK_BYTES,
			   BLOCK_BYTES))
			assert_int_equal(0, extent_list_append(marks, b, 1));
}

/* ---- points ---------------------------------------------------------------- */

static inline void lab_point_start(struct points_lab *lab, enum point_kind kind,
				   bool checkpoint, struct point *point)
{
	uint64_t number = lab->count + 1;
	const struct point *parent;

	memset(point, 0, sizeof(*point));
	point->volume = lab->volume;
	assert_int_equal(0, uuid_new(&point->run));
	strcpy(point->volume_name, "data");
	strcpy(point->host, "host");
	strcpy(point->device, "/dev/data");
	strcpy(point->reason, "test");
	point->number = number;
	point->kind = kind;
	point->time_ns = 1000000000u * number;
	point->logical_block_bytes = 512;
	point->volume_bytes = lab->images[number].bytes;
	point->base = number;
	if (kind == POINT_FULL)
		return;
	parent = &lab->points[kind == POINT_DIFFERENTIAL ? lab->last_full : lab->count];
	point->parent = parent->number;
	memcpy(point->parent_hash, parent->hash, sizeof(point->parent_hash));
	if (checkpoint)
		return;
	point->base = parent->base;
	point->depth = parent->depth + 1;
}

static inline void lab_run(struct points_lab *lab, struct random_state *random,
			   struct point *point, const struct point_keys *keys,
			   struct pipeline_result *result)
{
	const struct lab_image *image = &lab->images[point->number];
	CLEANUP_CLOSE int fd = memfd_create("volume", MFD_CLOEXEC);
	struct extent_list extents = EXTENT_LIST_INIT;
	struct error err = ERROR_INIT;
	char prefix[STORE_KEY_MAX];
	struct pipeline_job job = {
		.fd = fd, .volume_bytes = image->bytes, .extents = &extents,
		.kind = point->kind == POINT_FULL ? MAP_FULL : MAP_DELTA,
		.volume = lab->volume, .point = point->number,
		.data_key = keys->data, .store = lab->store,
		.segment_prefix = prefix, .options = lab->options,
	};

	assert_int_equal(0, file_pwrite_all(fd, image->data, image->bytes, 0));
	if (point->kind == POINT_FULL)
		assert_int_equal(0, extent_list_append(&extents, 0, image->blocks));
	else
		lab_marks(&lab->images[point->parent], image, random, &extents);
	point_segment_prefix(point, prefix);
	if (pipeline_run(&job, result, &err))
		fail_msg("%s", err.message);
	extent_list_fini(&extents);
}

/* The next point from images[count + 1]. */
static inline void lab_commit(struct points_lab *lab, struct random_state *random,
			      enum point_kind kind, bool checkpoint)
{
	struct point *point = &lab->points[lab->count + 1];
	struct key_ring ring = lab_ring(lab);
	struct pipeline_result result;
	struct error err = ERROR_INIT;
	struct map below, full;
	struct point_keys keys;

	lab_point_start(lab, kind, checkpoint, point);
	if (point_keys_new(point, lab->host_map_key, &keys, &err))
		fail_msg("%s", err.message);
	lab_run(lab, random, point, &keys, &result);
	point->segments = STEAL(result.segments);
	point->segment_count = result.segment_count;
	result.segment_count = 0;
	if (lab->image_digest) {
		point->has_image_sha256 = true;
		digest_of(lab->images[point->number].data, point->volume_bytes,
			  point->image_sha256);
	}
	if (lab->spoil)
		lab->spoil(&result.map);
	if (checkpoint) {
		if (point_full_map(lab->repo, &lab->points[point->parent], &ring, &below,
				   &err))
			fail_msg("%s", err.message);
		assert_int_equal(0, map_overlay(&below, &result.map, &full));
		map_fini(&below);
	}
	if (point_commit(lab->repo, point, checkpoint ? &full : &result.map,
			 result.inline_frames, result.inline_length, &keys, lab->signing,
			 &err))
		fail_msg("%s", err.message);
	if (checkpoint)
		map_fini(&full);
	pipeline_result_fini(&result);
	if (kind == POINT_FULL)
		lab->last_full = point->number;
	lab->count++;
}

/*
 * A chain of `count` points of every kind and shape: inline, one segment, many
 * segments; grown, shrunk, with a last block that is not whole.
 */
static inline void lab_build(struct points_lab *lab, struct random_state *random,
			     uint64_t count, uint64_t bytes)
{
	static const uint32_t inlines[] = { 1, 0, 64 << 10 };

	for (uint64_t i = 1; i <= count; i++) {
		uint64_t blocks = bytes / BLOCK_BYTES;
		bool full = i == 1 || random_one_in(random, 6);
		bool checkpoint = !full && random_one_in(random, 4);

		if (i > 1 && random_one_in(random, 3))
			bytes += 512 * random_below(random, blocks);
		else if (i > 1 && random_one_in(random, 8))
			bytes -= 512 * random_below(random, blocks);
		lab->options = (struct pipeline_options){
			.inline_bytes = inlines[random_below(random, 3)],
			.segment_bytes = (64u << 10) << random_below(random, 6),
			.workers = 2,
			.frame_blocks = random_one_in(random, 2) ? 0 :
					1u << random_below(random, 9),
		};
		lab_image_change(lab, random, i, bytes,
				 i == 1 ? 24 : 1 + (unsigned)random_below(random, 24),
				 i == 1 ? blocks / 8 + 1 :
					  1 + random_below(random, blocks / 8 + 1));
		lab_commit(lab, random, full ? POINT_FULL :
			   !checkpoint && random_one_in(random, 4) ? POINT_DIFFERENTIAL :
								   POINT_INCREMENTAL,
			   checkpoint);
	}
}

#endif
