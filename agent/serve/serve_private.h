/*
 * What the files of this room share.
 *
 *   reader   blocks of a point, through the cache
 *   cache    frames or pieces, the least recently used goes; one fetch for all who wait
 *   stored   frames as they are stored, fetched with their neighbours
 *   ahead    threads that have frames fetched that will be wanted next
 *   overlay  opening and durability; overlay_io: blocks of a target, or of the point
 *   present  which blocks are in the target, and the file that says so
 *   fill     brings the rest into the target; fill_frames: what is data of it
 *   server   nbdkit; listener: where; control: the socket to its plugin
 *   mounted  a server, nbdfuse, a loop device and a mount; place: its files
 */
#ifndef CLAWBACK_SERVE_SERVE_PRIVATE_H
#define CLAWBACK_SERVE_SERVE_PRIVATE_H

#include "agent/restore/restore.h"
#include "agent/serve/serve.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/un.h>

#define CACHE_BYTES_DEFAULT (256u << 20)
#define CACHE_BYTES_MIN (16u << 20)

uint64_t serve_now_ns(void);	/* CLOCK_MONOTONIC */

/* ---- cache.c --------------------------------------------------------------- */

enum cache_state { CACHE_LOADING, CACHE_READY, CACHE_FAILED };

struct cache_item {
	struct cache_item *newer, *older;
	uint32_t frame;
	enum cache_state state;
	uint32_t users;
	size_t bytes;
	uint8_t *plain;
	struct error error;	/* when it failed */
};

/* Fills item->plain (room for item->bytes). */
typedef int (*cache_load_fn)(void *context, struct cache_item *item, struct error *err);

struct cache {
	cache_load_fn load;
	void *context;
	uint64_t limit_bytes;

	pthread_mutex_t lock;		/* guards all below */
	pthread_cond_t loaded;		/* some item is no longer loading */
	struct cache_item **frames;	/* by number; NULL: not here */
	size_t frame_count;
	struct cache_item *newest, *oldest;
	uint64_t bytes, peak_bytes;
};

int cache_init(struct cache *cache, size_t frame_count, uint64_t limit_bytes,
	       cache_load_fn load, void *context);
void cache_fini(struct cache *cache);
/* A frame of so many bytes, to be given back; loads it, or waits for who does. */
int cache_get(struct cache *cache, uint32_t frame, size_t bytes, struct cache_item **item,
	      struct error *err);
void cache_put(struct cache *cache, struct cache_item *item);
bool cache_has(struct cache *cache, uint32_t frame);

/* ---- stored.c ---------------------------------------------------------------- */

/* Neighbouring frames of one segment: one read from the store. */
struct stored_piece {
	uint64_t offset;
	uint32_t length, segment;
	size_t source;		/* index into plan.points */
};

struct stored {
	struct stored_piece *pieces;
	size_t piece_count;
	uint32_t *piece_of;	/* by frame */
	struct cache cache;	/* its "frames" are pieces, as they are stored */
};

/* stored_fini on success and on failure. */
int stored_init(struct point_reader *reader, uint64_t limit_bytes);
void stored_fini(struct stored *stored);
/* A frame as it is stored, not authenticated; `item` is to be given back by stored_put. */
int stored_get(struct point_reader *reader, uint32_t frame, struct cache_item **item,
	       const uint8_t **bytes, struct error *err);
void stored_put(struct point_reader *reader, struct cache_item *item);

/* ---- ahead.c ----------------------------------------------------------------- */

#define AHEAD_QUEUE 64u
#define AHEAD_STREAMS 8u
#define AHEAD_THREADS_MAX 16u

/* Somebody who reads in sequence. */
struct stream {
	uint64_t next;		/* where he would go on */
	uint64_t run_bytes;	/* how much was in sequence */
	uint64_t ahead;		/* asked for up to here */
	uint64_t used;		/* when, in reads */
};

struct ahead {
	struct point_reader *reader;
	pthread_t threads[AHEAD_THREADS_MAX];
	uint32_t thread_count;

	pthread_mutex_t lock;	/* guards all below */
	pthread_cond_t wanted;
	uint32_t queue[AHEAD_QUEUE];
	size_t first, count;
	struct stream streams[AHEAD_STREAMS];
	uint64_t reads;
	bool stopped;
};

int ahead_init(struct ahead *ahead, struct point_reader *reader, uint32_t threads);
void ahead_fini(struct ahead *ahead);
/* Somebody has read this. */
void ahead_read(struct ahead *ahead, uint64_t offset, size_t length);

/* ---- reader.c ------------------------------------------------------------------ */

/* What a thread needs to open frames. */
struct opener {
	struct opener *next;
	struct frame_opener frames;
	uint8_t *stored;	/* FRAME_STORED_MAX */
};

struct point_reader {
	struct uuid volume;
	char volume_name[REPO_NAME_MAX + 1];
	struct plan plan;
	struct source_list sources;
	struct cache cache;		/* of decoded frames */
	struct stored stored;
	struct ahead ahead;
	atomic_uint demand;		/* readers that wait for the store just now */
	atomic_uint_fast64_t demand_ns;	/* when the last one did */
	atomic_uint_fast64_t fetches, fetched_bytes, failures;
	pthread_mutex_t lock;		/* guards what follows */
	struct opener *openers;		/* free ones */
	uint64_t told_ns[64];		/* by frame: when its damage was last told */
};

/* Of a frame of the map: who stored it, index into plan.points. */
size_t reader_source(const struct point_reader *reader, uint32_t frame);
size_t reader_frame_bytes(const struct point_reader *reader, uint32_t frame);
int reader_fetch(struct point_reader *reader, uint32_t frame, struct error *err);
/* Counts and tells what could not be had; `err` gets the object's name. */
void reader_failed(struct point_reader *reader, uint32_t frame, struct error *err);

/* ---- present.c ------------------------------------------------------------------ */

struct present {
	int fd;
	char *path;
	uint64_t blocks;
	_Atomic uint64_t *words;
	atomic_uchar *dirty;		/* a page of words each: differs from the file */
	size_t page_count;
	atomic_uint_fast64_t count;	/* of blocks present */
};

/* To what a file of present blocks belongs. */
struct present_owner {
	struct uuid repository, volume;
	uint64_t point, volume_bytes;
	uint64_t target;	/* which it is */
};

/* -ENOENT when there is none. */
int present_open(struct present *present, const char *path, const struct present_owner *owner,
		 struct error *err);
int present_create(struct present *present, const char *path,
		   const struct present_owner *owner, struct error *err);
void present_fini(struct present *present);

bool present_test(const struct present *present, uint64_t block);
/* How many blocks from `block` on, at most `count`, are as that one is. */
uint64_t present_run(const struct present *present, uint64_t block, uint64_t count);
/* Only once the blocks' data was written. */
void present_set(struct present *present, uint64_t block, uint64_t count);

/*
 * Takes what is present now; to be written by present_write after the target was made
 * durable. NULL and *ret 0: nothing is new.
 */
struct present_pages;
struct present_pages *present_take(struct present *present, int *ret);
int present_write(struct present *present, struct present_pages *pages, struct error *err);
void present_give_back(struct present *present, struct present_pages *pages);

/* The header of such a file; -EBADMSG. */
int present_decode(const uint8_t *data, size_t length, struct present_owner *owner);

/* ---- overlay.c ------------------------------------------------------------------- */

#define OVERLAY_LOCKS 64u
#define OVERLAY_LOCK_BLOCKS 256u	/* neighbours that share a lock */

struct overlay {
	struct point_reader *reader;
	struct restore_target *target;
	struct present present;
	uint64_t volume_bytes;
	char *target_path;
	pthread_mutex_t locks[OVERLAY_LOCKS];	/* taken in rising order: who makes
						 * blocks present */
	pthread_mutex_t flush;			/* one at a time; before no other lock */
	atomic_bool broken;			/* the target could not be made durable */
};

/* ---- overlay_io.c ---------------------------------------------------------------- */

int overlay_broken(const struct overlay *overlay, struct error *err);
/* Puts these whole blocks in, where they are not present yet; NULL: zeros. */
int overlay_fill(struct overlay *overlay, uint64_t block, uint64_t count, const uint8_t *data,
		 struct error *err);

/* ---- target.c ------------------------------------------------------------------- */

/* What tells a target from others: a file's inode; of a device, from its uuid, serial
 * number or backing file, and a partition's start, but 0 when it has none of these. */
int target_identity(const char *path, uint64_t *identity, struct error *err);
/* Whether the first MiB of it is zero; -EEXIST. */
int target_check_empty(const char *path, struct error *err);

/* ---- fill.c --------------------------------------------------------------------- */

#define FILL_THREADS_MAX 16u

struct fill {
	struct overlay *overlay;
	struct fill_options options;
	pthread_t main, threads[FILL_THREADS_MAX];
	bool started;

	pthread_mutex_t lock;		/* guards all below */
	pthread_cond_t changed;		/* stopped, or a thread ended */
	bool stopped;
	uint32_t running;
	size_t next_range;
	uint64_t free_ns;		/* when the rate lets the next read begin */
	uint64_t damaged, missed;	/* frames of this pass: never, or not now, to be had */
	int ret;			/* of the target: ends it */
	struct error error;		/* the first of each pass */
};

bool fill_stopped(struct fill *fill);
/* With the lock. False when it was stopped meanwhile. */
bool fill_sleep_locked(struct fill *fill, uint64_t ns);
/* The target fails: ends it. */
void fill_failed(struct fill *fill, int ret, const struct error *err);

/* ---- fill_frames.c --------------------------------------------------------------- */

/* A pass over all frames that are missing, by so many threads; `context` is the fill. */
void *fill_thread(void *context);

/* ---- listener.c ------------------------------------------------------------------ */

#define SERVER_URI_MAX (3 * sizeof(((struct sockaddr_un *)0)->sun_path) + 32)

struct listener {
	int fd;
	char *socket;			/* ours, to be removed; NULL: a port */
	char uri[SERVER_URI_MAX];
};

/* listener_close on success and on failure. */
int listener_open(const struct server_options *options, struct listener *listener,
		  struct error *err);
void listener_close(struct listener *listener);

/* ---- place.c --------------------------------------------------------------------- */

void place_of(const char *folder, char place[static 64]);
void place_path(const char *place, const char *name, char path[static 96]);
int place_write(const char *place, const char *name, const char *text, struct error *err);
/* -EBUSY when another has it. */
int place_lock(const char *place, int *fd, struct error *err);
dev_t place_device(const char *path);
/* What is mounted on a folder, 0: nothing. */
dev_t place_mounted(const char *folder);
/* The kernel's number of a disk, of which there is no other in a boot; caller frees. */
int place_disk_sequence(dev_t device, char **text);
/* Whether that is the loop device over this place's file. */
bool place_is_ours(const char *place, dev_t device);
/* Removes it all, what is mounted in it first. */
void place_remove(const char *place);
/* Unmounts what a dead one left; its lock is ours. */
int place_sweep(const char *place, const char *folder, struct error *err);

/* ---- helper.c -------------------------------------------------------------------- */

/* Runs to its end. */
int helper_run(const char *const command[], const char *package, struct error *err);
/* Ends with us, by SIGTERM. */
int helper_start(const char *const command[], pid_t *pid, struct error *err);
/* What its wait status, not 0, means. */
int helper_failed(const char *const command[], int status, const char *package,
		   struct error *err);

/* ---- loop.c ------------------------------------------------------------------------ */

/* A loop device over a file; it goes with its last user. */
int loop_open(const char *path, char device[static 64], int *fd, struct error *err);
/* The file system on it. */
int loop_type(int fd, char type[static 32], struct error *err);

#endif
