/*
 * What the files of this room share.
 *
 *   plan    the point's map, which blocks are holes
 *   differ  … and of a target that is known, only what can be unlike the point
 *   sweep   in which order: windows of the volume, and which frames each wants when
 *   source  the points that hold those frames, and their keys
 *   opener  a frame as it is stored to blocks
 *   fetch   threads that read ranges of segments, in that order
 *   buffers what they read into
 *   frames  decoding, each frame once, and keeping it while windows want it
 *   work    what is to be done next
 *   write   threads that put windows together out of frames, and clear holes
 *   output  a writer's windows on their way to the target, several at a time
 *   journal which windows are done, for a restore that takes up a broken one
 *   check   reads the target back
 *
 * The target is written from front to back, a window of 1 MiB at a time. The blocks
 * of a window may lie in frames of many points, and a frame of a small point may be
 * scattered over many windows; it is decoded when the first one wants it and kept
 * until the last one has had its blocks. Frames that would have to be kept while too
 * many others are, are strays: they come first, and are written piece by piece.
 *
 * Memory, beside map and plan: FETCH_BYTES_MAX as stored, at worst half filled
 * buffers, and BUFFERS_FREE_MAX of free ones; held_bytes of decoded
 * frames ahead, and once more what the foremost window wants; OUTPUT_BYTES of
 * windows, one MiB more a writer, and 2 MiB (3 in place) to decode in.
 */
#ifndef CLAWBACK_RESTORE_RESTORE_PRIVATE_H
#define CLAWBACK_RESTORE_RESTORE_PRIVATE_H

#include "agent/base/parallel.h"
#include "agent/restore/restore.h"

#include <liburing.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

#define WINDOW_BLOCKS 256u		/* written at once, aligned */
#define WINDOW_BYTES (WINDOW_BLOCKS * BLOCK_BYTES)
#define RANGE_GAP_MAX (64u << 10)	/* read over rather than asking twice */
#define BAND_BYTES (8u << 20)		/* as stored: what is fetched before what is behind */
#define BAND_WINDOWS 64u
#define BAND_FETCH_MAX (24u << 20)	/* with gaps: else none is read over */
#define WINDOW_STORED_MAX (16u << 20)	/* frames first wanted by one window: more are strays */
#define FETCH_BYTES_MAX (40u << 20)	/* fetched and not decoded */
#define BUFFERS_FREE_MAX (16u << 20)	/* to be fetched into again */
#define HELD_BYTES_DEFAULT (48u << 20)	/* decoded and still wanted */
#define OUTPUT_BYTES (16u << 20)	/* windows being written, of all writers */
#define FILL_BLOCKS_MAX 16u		/* holes below that are written with what is around */
#define HOLE_PIECE_BYTES (64u << 20)	/* zeroed at once: interruptible in between */
#define COMPARE_PIECE_BYTES (1u << 20)	/* read back and compared at once */
#define RESTORE_THREADS_MAX PARALLEL_THREADS_MAX

_Static_assert(BAND_BYTES + WINDOW_STORED_MAX <= BAND_FETCH_MAX &&
	       BAND_FETCH_MAX + RANGE_BYTES_MAX <= FETCH_BYTES_MAX,
	       "what one band wants can be in memory at once");

/* ---- target.c ---------------------------------------------------------- */

struct restore_target {
	int fd;
	int direct_fd;		/* the same device, O_DIRECT; -1 for a file */
	char *path;
	bool is_device;
	bool in_place, cached;
	bool data_only;
	uint64_t bytes;		/* of a device */
	bool created;		/* by us: removed again if nothing was written */
	bool resumes;		/* a broken restore: what is there is kept and compared */
	atomic_bool touched;	/* its content was changed */
	atomic_bool cannot_punch, cannot_zero;
};

/* How much of [offset, offset + length) is to be written: less where a target may be too
 * small. */
size_t target_room(const struct restore_target *target, uint64_t offset, size_t length);

/* Whether it can go by O_DIRECT: to a device, long, and aligned. */
bool target_takes_direct(const struct restore_target *target, const uint8_t *data,
			 size_t length);
/* Waits for it. */
int target_write(struct restore_target *target, uint64_t offset, const uint8_t *data,
		 size_t length, struct error *err);
/* target_read, past the page cache where that is possible; -errno. */
int target_read_medium(struct restore_target *target, uint64_t offset, uint8_t *buffer,
		       size_t length);
/* The next offset >= `offset` that may hold data, at most `limit`; what lies
 * before reads as zero without being read. */
uint64_t target_next_data(struct restore_target *target, uint64_t offset,
			  uint64_t limit);
/* Forgets cached pages, so that what is read next comes from the medium. */
void target_drop_cache(struct restore_target *target);

/* ---- plan.c, sweep.c ---------------------------------------------------- */

/* The windows that hold data, from the map. -ENOMEM, -EOVERFLOW. */
int plan_windows(struct plan *plan);
/* uses, strays, order, points, ranges; after plan_windows and the index. -ENOMEM. */
int plan_sweep(struct plan *plan);

/* ---- differ.c ----------------------------------------------------------- */

/* Leaves of plan.map what the target may have otherwise. -errno. */
int plan_narrow(struct plan *plan, const struct restore_known *known);

/* ---- run.c ------------------------------------------------------------- */

enum frame_stage { FRAME_ABSENT, FRAME_DECODING, FRAME_DECODED };

/* A frame that several windows want. */
struct frame_state {
	uint8_t *plain;			/* while FRAME_DECODED */
	uint16_t left;			/* windows that still want it */
	uint8_t stage;
};

struct range_state {
	uint8_t *data;			/* once fetched, until all its frames are decoded */
	size_t undone;
};

struct writer;

struct job {
	const struct point *point;
	struct restore_target *target;
	const struct restore_options *options;
	struct plan plan;
	struct source_list sources;
	uint32_t fetchers, decoders;
	bool holes;			/* they need work */
	struct journal *journal;	/* or NULL */
	uint64_t resumed_bytes;		/* there before: data_bytes less what is restored */
	/* SHA-256 of the blocks needed from each frame of the map; NULL unless the
	 * target will be read back without an image digest. */
	uint8_t (*digests)[CRYPTO_DIGEST_SIZE];

	pthread_mutex_t lock;		/* guards all below */
	pthread_cond_t freed;		/* room for a range, or the end */
	pthread_cond_t moved;		/* a range came, a frame was decoded or let go, or
					 * the end */
	struct buffers *buffers;	/* has a lock of its own */
	struct range_state *ranges;
	struct frame_state *frames;	/* of all frames of the map */
	struct writer *writers;
	size_t next_range;		/* to be fetched */
	uint64_t fetch_held;		/* bytes fetched, or being fetched, and not let go */
	uint64_t held_bytes;		/* of decoded frames */
	size_t next_stray, next_window;	/* to be taken */
	size_t hole;			/* next piece of plan.clears: index, blocks done of it */
	uint64_t hole_done_blocks;
	uint64_t done_bytes, total_bytes, written_bytes, fetched_bytes;
	uint64_t reported_ns;
	bool stopped;
	struct error error;		/* the first, when stopped */
};

/* The first failure is kept; everybody is woken. */
void job_fail(struct job *job, const struct error *err);
void job_advance(struct job *job, uint64_t done_bytes, uint64_t written_bytes);

void *fetch_thread(void *job);

/* ---- buffers.c --------------------------------------------------------- */

struct buffers *buffers_new(void);	/* NULL without memory */
void buffers_free(struct buffers *buffers);
/* Of `length` bytes, at most RANGE_BYTES_MAX; NULL without memory. Any thread. */
uint8_t *buffer_take(struct buffers *buffers, uint32_t length);
/* Of the length that it was taken with; or NULL. */
void buffer_put(struct buffers *buffers, uint8_t *data, uint32_t length);

/* ---- output.c ---------------------------------------------------------- */

#define OUTPUT_WRITES_MAX 16u		/* of one window, at once */

struct output_slot;

struct output_write {
	struct output_slot *slot;
	uint64_t offset;
	const uint8_t *data;
	uint32_t length;
};

/* A window in memory: being put together, or on its way. */
struct output_slot {
	struct output_slot *next;	/* in free */
	uint8_t *data;			/* WINDOW_BYTES */
	uint32_t index;
	uint32_t write_count, writes_left;
	struct output_write writes[OUTPUT_WRITES_MAX];
	bool record;			/* in the journal, once written */
	uint64_t window, tag;
};

/* One thread's. Through io_uring to a device; else, and where that is refused, each
 * write is waited for. */
struct output {
	struct job *job;
	struct output_slot *slots, *free;
	uint32_t slot_count, in_flight;
	uint8_t *memory;
	bool ring, registered;
	struct io_uring *uring;
};

int output_init(struct output *output, struct job *job, struct error *err);
/* A free slot; waits for writes until there is one. */
int output_take(struct output *output, struct output_slot **slot, struct error *err);
/* Bytes [at, at + length) of the slot to where they belong. */
int output_write(struct output *output, struct output_slot *slot, uint32_t at,
		 uint64_t offset, uint32_t length, struct error *err);
/* All writes of the slot were asked for: it is free again when they are done. */
int output_put(struct output *output, struct output_slot *slot, struct error *err);
/* Waits for all writes, also after a failure. */
int output_drain(struct output *output, struct error *err);
void output_fini(struct output *output);

/* ---- write.c ---------------------------------------------------- */

struct writer {
	struct job *job;
	size_t window;			/* being put together, or SIZE_MAX; under job.lock */
	struct frame_opener opener;
	struct tagger *tagger;		/* with a journal */
	uint8_t *plain, *scratch;	/* scratch: in place only */
	struct output output;
	struct output_slot *slot;	/* the window's */
	uint32_t frames[WINDOW_BLOCKS];	/* that it wants */
	size_t frame_count;
	bool filled[WINDOW_BLOCKS];	/* blocks that are in the slot */
};

/* ---- work.c, frames.c ------------------------------------------------------- */

/* One piece of work. */
enum work_kind { WORK_STRAY, WORK_WINDOW, WORK_HOLE };

struct work {
	enum work_kind kind;
	size_t item;			/* of plan.order, of plan.windows */
	uint64_t block, count;		/* of a hole */
};

/* False at the end, or when the job stopped. */
bool work_next(struct writer *writer, struct work *work);

/* Decodes a frame whose range was fetched, or will be, to `plain`. Once a frame. */
int frame_open(struct writer *writer, uint32_t frame, uint8_t *plain, struct error *err);
/*
 * Sees to it that a frame that several windows want is decoded, by this thread or
 * another. Without `wait` only what can be done at once.
 */
int frame_share(struct writer *writer, uint32_t frame, bool wait, struct error *err);
/* This window has had its blocks. */
void frame_release(struct job *job, uint32_t frame);

void *write_thread(void *writer);

/* ---- journal.c, journal_codec.c, resume.c --------------------------------------- */

/* A window that was written, and what was written: see journal_format.h. */
struct journal_record {
	uint64_t window;	/* its number */
	uint64_t tag;		/* of its bytes, those that are no data as zero */
};

/* What a journal is about; a record says nothing of any other restore. */
struct journal_subject {
	struct uuid repository, volume;
	uint64_t point, volume_bytes;
	uint8_t point_hash[CRYPTO_DIGEST_SIZE];
	uint64_t device, inode;		/* of a file; 0 of a device */
	uint8_t key[CRYPTO_KEY_SIZE];	/* of the tags */
};

struct journal_contents {
	struct journal_subject subject;
	struct journal_record *records;	/* by window, each once */
	size_t count;
};

/*
 * Trusts nothing: -EBADMSG when no journal starts there. Of one that was cut off or
 * damaged, what is good before that. -ENOMEM.
 */
int journal_decode(const uint8_t *data, size_t length, struct journal_contents *contents);
void journal_contents_fini(struct journal_contents *contents);
/* Allocates. -ENOMEM. */
int journal_encode_header(const struct journal_subject *subject, uint8_t **data,
			  size_t *length);
int journal_encode_batch(const struct journal_subject *subject,
			 const struct journal_record *records, size_t count,
			 uint8_t **data, size_t *length);

/*
 * `path` NULL, or nothing can be written there: a journal that takes nothing in, NULL.
 * `kept` records, compared by the caller, are in it at once. Any thread may note.
 */
struct journal *journal_prepare(const char *path, const struct journal_subject *subject,
			      uint64_t delay_ns, const struct journal_record *kept,
			      size_t kept_count);
const uint8_t *journal_key(const struct journal *journal);
bool journal_wants(struct journal *journal);	/* whether noting has begun */
void journal_note(struct journal *journal, uint64_t window, uint64_t tag);
/* `done`: the restore is, and the file is removed; else all that was noted is written. */
void journal_finish(struct journal *journal, bool done);

/* What of a broken restore of this point to this target is there, and good: compares, and
 * takes it out of the job's map. Starts the job's journal. */
int resume(struct job *job, struct repo *repo, struct error *err);
/* Whether there is one of a restore of `point` to this file. */
bool journal_is_about(const char *path, const struct point *point, uint64_t device,
		      uint64_t inode);

/* ---- check.c ----------------------------------------------------------- */

/* Reads the target back; -EBADMSG (EXIT_FAILED: the medium's fault) if it differs. */
int check_target(struct job *job, struct error *err);

#endif
