/*
 * The data path of a backup: extents of a device in, sealed frames in segment
 * objects out, and the map that says where everything went.
 *
 *   reader (io_uring, one thread) → workers (zero test, zstd, AES-256-GCM)
 *   → writer (order, segments, upload)
 *
 * A fixed pool of buffers circulates; a stage that finds no free buffer waits,
 * which is the back-pressure. The output is byte for byte the same for any
 * number of workers (given the same key): pieces are cut by the reader's plan
 * alone, each makes a frame or several, and they are written in order.
 *
 * Formats: docs/format.md "Frame" and "Segment".
 */
#ifndef CLAWBACK_PIPELINE_PIPELINE_H
#define CLAWBACK_PIPELINE_PIPELINE_H

#include "agent/base/error.h"
#include "agent/base/uuid.h"
#include "agent/crypto/crypto.h"
#include "agent/store/store.h"
#include "agent/volume/volume.h"
#include "blockmap/extent.h"
#include "blockmap/map.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BLOCK_BYTES 4096u			/* what maps and frames count in */
_Static_assert(BLOCK_BYTES == FINGERPRINT_BLOCK_BYTES, "one fingerprint a block");
#define FRAME_PLAIN_MAX (MAP_FRAME_BLOCKS_MAX * BLOCK_BYTES)

/*
 * Called from pipeline threads, never two at a time; `report` must not block, and
 * comes at most every 100 ms, and once more at the end of a successful run.
 */
struct pipeline_progress {
	void (*report)(void *context, uint64_t done_bytes, uint64_t total_bytes,
		       uint64_t stored_bytes);
	/* The last block was read and the job's fd is not used any more: both it
	 * and the snapshot may be dropped. May block. An
	 * error fails the run. NULL is fine. */
	int (*read_done)(void *context, struct error *err);
	void *context;
};

/*
 * Zero means the default. Memory: one MiB each for every buffer and worker, what
 * zstd needs a worker (about 1 MiB at level 1), inline_bytes, and the store's own
 * upload buffers: below 100 MiB with the defaults.
 */
struct pipeline_options {
	uint32_t workers;		/* default: online CPUs, at most 8 */
	int level;			/* zstd, default 1 */
	uint32_t queue_depth;		/* reads in flight, default 32 */
	uint32_t buffers;		/* pieces in memory, default 4 * workers + 8 */
	uint32_t frame_blocks;		/* in a frame at most: a power of two, default
					 * MAP_FRAME_BLOCKS_MAX. Who wants one block
					 * fetches and decodes its frame; small ones
					 * compress less and make the map larger */
	uint64_t segment_bytes;		/* start a new segment beyond, default 512 MiB */
	uint32_t inline_bytes;		/* segment 0 with its header at most this:
					 * returned in memory instead of stored;
					 * default 1 MiB, 1 means never */
	uint64_t read_bytes_per_second;	/* 0: unlimited */
};

/* Defaults in the place of zeros. */
void pipeline_defaults(struct pipeline_options *options);
/* What these, without zeros, take in memory, but for what the store needs. */
uint64_t pipeline_memory(const struct pipeline_options *options);
/*
 * Fills in defaults and takes fewer buffers, and fewer workers where none were asked
 * for, until `bytes` are enough. EXIT_USAGE: they are not.
 */
int pipeline_fit(struct pipeline_options *options, uint64_t bytes, struct error *err);

/* What was counted for the protected volume since it exists: see pipeline/yield.h. */
struct pipeline_io {
	uint64_t ended;			/* reads and writes of others */
	uint64_t ticks_ns;		/* what they took, all together */
	uint64_t in_flight;
};

/*
 * Whom the reader gives way to. `look` comes from the reader's thread, some ten times
 * a second; negative: nothing can be told, and nobody is given way to any more.
 */
struct pipeline_watch {
	uint64_t target_ns;		/* 0: nobody is watched */
	int (*look)(void *context, struct pipeline_io *io);
	void *context;
};

struct pipeline_job {
	int fd;				/* opened for reading, O_DIRECT if it can */
	uint64_t volume_bytes;		/* blocks beyond it read as zero */
	const struct extent_list *extents; /* in BLOCK_BYTES blocks */
	enum map_kind kind;		/* of the resulting map */
	struct uuid volume;		/* authenticated with every frame */
	uint64_t point;
	const uint8_t *data_key;	/* CRYPTO_KEY_SIZE bytes, new for every run:
					 * nonces are frame numbers */
	struct store *store;
	const char *segment_prefix;	/* object names are PREFIX + %06u */
	struct fingerprints *fingerprints; /* begun: takes what is read; NULL: none */
	bool compare;			/* leave out blocks that are as the table says */
	struct pipeline_options options;
	struct pipeline_progress progress;
	struct pipeline_watch watch;
};

struct pipeline_segment {
	uint64_t bytes;
	uint32_t frames;
	uint8_t sha256[CRYPTO_DIGEST_SIZE];
};

struct pipeline_result {
	struct map map;			/* frames with (point, segment, offset) */
	struct pipeline_segment *segments; /* also one, without object, if inline */
	size_t segment_count;		/* 0 when there was nothing but zeros */
	uint8_t *inline_frames;		/* segment 0's bytes when nothing was stored, */
	size_t inline_length;		/* else NULL */
	uint64_t read_bytes;		/* from the device, gaps included */
	uint64_t data_bytes;		/* not zero, before compression */
	uint64_t zero_bytes;
	uint64_t unchanged_bytes;	/* left out; the map does not name them */
	uint64_t stored_bytes;
	uint64_t peak_buffer_bytes;
	uint64_t yields;		/* how often the watched were too slow */
	/* CPU time: by all workers together; writing without threads of the store's. */
	uint64_t read_cpu_ns, pack_cpu_ns, write_cpu_ns;
};

/*
 * Runs the job to its end. On failure every upload was aborted and *result is
 * untouched; segments that were finished before may be left in the store (they
 * are unreferenced; the prefix holds a random run id, so a retry never meets
 * them).
 */
int pipeline_run(const struct pipeline_job *job, struct pipeline_result *result,
		 struct error *err);
void pipeline_result_fini(struct pipeline_result *result);

/* ---- frames, for whoever reads them back ------------------------------- */

#define SEGMENT_HEADER_BYTES 40u	/* the first frame's offset */
#define FRAME_HEADER_BYTES 48u

/* Upper bound of a frame's stored length. */
#define FRAME_STORED_MAX (FRAME_PLAIN_MAX + 8192u)

/*
 * Whether `data` (at least SEGMENT_HEADER_BYTES of it) opens the segment it is
 * said to be: -EBADMSG with EXIT_UNTRUSTWORTHY else. Not authenticated by itself:
 * the manifest's hash of the whole object and every frame's seal are.
 */
int segment_check(const uint8_t *data, size_t length, const struct uuid *volume,
		  uint64_t point, uint32_t segment, struct error *err);

/*
 * For walking a segment whose map is lost: what the frame header at `data` (at
 * least FRAME_HEADER_BYTES of it, found at `offset` of a segment of `point`) says
 * of its frame; the next one starts at where->offset + where->length. Nothing is
 * authentic before frame_decode. -EBADMSG when it is no frame header.
 */
int frame_peek(const uint8_t *data, size_t length, uint64_t point,
	       uint64_t offset, struct map_frame *where, struct error *err);

struct frame_decoder;	/* one thread */
struct frame_decoder *frame_decoder_new(void);	/* NULL: out of memory */
void frame_decoder_free(struct frame_decoder *decoder);

/*
 * Authenticates, then decompresses one frame as found at `where` (its point,
 * segment, number, length and blocks are all checked against it). `plain` has
 * room for where->blocks * BLOCK_BYTES. `extents` (may be NULL; empty on entry)
 * receives the frame's own list of the volume's blocks it holds, in their order.
 * -EBADMSG with EXIT_UNTRUSTWORTHY when anything is not as it was written.
 */
int frame_decode(struct frame_decoder *decoder, struct sealer *sealer,
		 const struct uuid *volume, const struct map_frame *where,
		 const uint8_t *stored, size_t length, uint8_t *plain,
		 struct extent_list *extents, struct error *err);

#endif
