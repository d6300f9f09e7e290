/*
 * Serving: a recovery point as a disk, at once, before it was restored.
 *
 *   point_reader   any bytes of a point, fetched when they are asked for
 *   overlay        a file or device of one's own over a point: what was written, or
 *                  filled in, comes from there, the rest from the point; filled in
 *                  whole it is the volume, and needs the store no more
 *   server         the nbdkit process whose plugin (agent/nbd) serves one of them
 *
 * Nothing that did not authenticate is ever shown: what is damaged or cannot be had is
 * an error for just these blocks, and a message that names frame and object.
 */
#ifndef CLAWBACK_SERVE_SERVE_H
#define CLAWBACK_SERVE_SERVE_H

#include "agent/base/error.h"
#include "agent/repo/repo.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* ---- a point, anywhere ----------------------------------------------------- */

struct point_reader;

struct point_reader_options {
	uint64_t cache_bytes;	/* of frames, half of it decoded, half as they are stored;
				 * default 256 MiB, at least 16 MiB. What is in use counts
				 * beyond it: 2 MiB a reading thread */
	uint32_t ahead;		/* threads that read ahead, default 4 */
};

/*
 * Opens map and keys of a point; `repo` stays the caller's and must outlive the reader,
 * `ring` is not needed any more afterwards. EXIT_WRONG_KEY, EXIT_UNTRUSTWORTHY, ….
 * Memory: the map (24 bytes an extent, 48 a frame), the cache, 2 MiB a thread.
 */
int point_reader_open(struct repo *repo, const struct point *point,
		      const struct key_ring *ring, const struct point_reader_options *options,
		      struct point_reader **reader, struct error *err);
void point_reader_close(struct point_reader *reader);	/* NULL is fine */

uint64_t point_reader_bytes(const struct point_reader *reader);

/*
 * [offset, offset + length) of the volume. Any thread; two that want one frame fetch it
 * once. All of it, or an error. What is read in sequence is read ahead.
 */
int point_reader_read(struct point_reader *reader, uint64_t offset, void *buffer,
		      size_t length, struct error *err);

/* Whether there is a hole (zeros) at `offset`; *length, at most what it was: how far that
 * holds. */
bool point_reader_hole(const struct point_reader *reader, uint64_t offset, uint64_t *length);

struct point_reader_counts {
	uint64_t fetches, fetched_bytes;	/* from the store */
	uint64_t cache_bytes, cache_peak_bytes;
	uint64_t failures;			/* frames that could not be had */
};
void point_reader_counts(struct point_reader *reader, struct point_reader_counts *counts);

/* ---- a volume over a point --------------------------------------------------- */

struct overlay;

struct overlay_options {
	const char *target;	/* a file, made if need be, or a block device */
	const char *present;	/* the file that says which blocks are in `target` */
	bool force;		/* begin on a device with something on it */
};

/*
 * Opens both, or begins anew when neither is there (or the target is an empty file, or a
 * device): docs/format.md "Present blocks". -EEXIST for a target with something in it that
 * is not of this overlay (of a device, in its first MiB), -ESTALE for one of another point or file. `reader` must outlive
 * it.
 */
int overlay_open(struct point_reader *reader, const struct point *point,
		 const struct overlay_options *options, struct overlay **overlay,
		 struct error *err);
/* Makes all durable; a complete one's `present` is removed then: the target is the volume.
 * Frees in any case. NULL is fine. */
int overlay_close(struct overlay *overlay, struct error *err);

/* Any thread; overlapping requests that run at once have no order, as on any disk. */
int overlay_read(struct overlay *overlay, uint64_t offset, void *buffer, size_t length,
		 struct error *err);
int overlay_write(struct overlay *overlay, uint64_t offset, const void *data, size_t length,
		  struct error *err);
int overlay_zero(struct overlay *overlay, uint64_t offset, uint64_t length, struct error *err);
/* What was written before this call outlives a crash when it has returned 0. After a
 * failure all later writes and flushes fail. */
int overlay_flush(struct overlay *overlay, struct error *err);
bool overlay_hole(struct overlay *overlay, uint64_t offset, uint64_t *length);

struct overlay_counts {
	uint64_t blocks, present_blocks;
	bool complete;
};
void overlay_counts(struct overlay *overlay, struct overlay_counts *counts);

/* ---- filling it in the background --------------------------------------------- */

struct fill;

struct fill_options {
	uint64_t bytes_per_second;	/* from the store, 0: unlimited */
	uint32_t threads;		/* default 2 */
	/* From the fill's own thread, some times a second and at the end. */
	void (*report)(void *context, uint64_t present_bytes, uint64_t total_bytes);
	/* Once, when it ended: 0, all is durable in the target; or what stopped it. */
	void (*ended)(void *context, int ret, const struct error *err);
	void *context;
};

/* Copies what is missing, in the order in which it is stored; gives way to who reads the
 * point. Frames that cannot be had are tried again at the end, then told as an error. */
int fill_start(struct overlay *overlay, const struct fill_options *options, struct fill **fill,
	       struct error *err);
void fill_stop(struct fill *fill);	/* NULL is fine; ends it wherever it is */

/* ---- the server --------------------------------------------------------------- */

struct server;

struct server_options {
	/* What the plugin is told, "NAME=VALUE", by a socket that only it has. */
	const char *const *settings;	/* ends with NULL */
	const char *socket;		/* a path; NULL: `port` of 127.0.0.1, 0 any */
	uint16_t port;
	bool read_only;
};

enum server_event_kind { SERVER_READY = 1, SERVER_PROGRESS, SERVER_COMPLETE, SERVER_FAILED };

/* What the plugin says. */
struct server_event {
	enum server_event_kind kind;
	uint64_t done_bytes, total_bytes;	/* READY: total; PROGRESS */
	uint64_t fetches, fetched_bytes;
	struct error error;			/* FAILED */
};

/*
 * Starts nbdkit with the plugin that lies beside the program, and waits until it serves.
 * What the plugin could not do is the error here. It ends with this process, or before.
 */
int server_start(const struct server_options *options, struct server **server,
		 struct error *err);
const char *server_uri(const struct server *server);
pid_t server_pid(const struct server *server);
/* To poll for reading. */
int server_fd(const struct server *server);
/* The next event; -EAGAIN none now; an error when it has ended by itself. */
int server_event(struct server *server, struct server_event *event, struct error *err);
/* Ends it, by SIGTERM, and by SIGKILL if that takes over `patience_ns`; frees. `last` (may
 * be NULL) becomes the last event but failures, if there was one. An error when it did not
 * end well: then what was not flushed may be lost. NULL is fine. */
int server_stop(struct server *server, uint64_t patience_ns, struct server_event *last,
		struct error *err);

/* The plugin's side of it. `fd` is what nbdkit was told as control=FD. */
struct control;
int control_open(int fd, struct control **control, struct error *err);
void control_close(struct control *control);
/* The value of a setting, or NULL; the `nth`, of those given more than once. */
const char *control_setting(const struct control *control, const char *name, size_t nth);
/* Forgets all settings; they held a key. */
void control_wipe(struct control *control);
/* Any thread; never waits: what nobody reads is lost. */
void control_tell(struct control *control, const struct server_event *event);
/* Whether the other side has gone; waits for that as long. */
bool control_gone(struct control *control, int timeout_ms);

/* ---- exporting -------------------------------------------------------------- */

/* What a server shows, as an image in a format of qemu-img's: made beside `path`, and put
 * there when it is whole and durable. -EEXIST unless `force`. */
int server_export(const struct server *server, const char *path, const char *format, bool force,
		  struct error *err);

/* ---- browsing ------------------------------------------------------------------ */

struct mount_options {
	const char *const *settings;	/* as for the server, without target and present */
	const char *folder;		/* where to mount; an absolute path */
	const char *options;		/* more mount options, or NULL */
};

struct mounted;

/* Serves over a throw-away overlay and mounts read-only; -EBUSY when something is
 * mounted there. What a dead one left at the folder is cleaned away before. */
int mounted_start(const struct mount_options *options, struct mounted **mounted,
		  struct error *err);
/* A file for what is said while it stands, which goes with it: a descriptor, or -errno. */
int mounted_log(const char *folder, struct error *err);
/* Until it is unmounted, by whomever, a signal comes, or the server dies. */
int mounted_wait(struct mounted *mounted, struct error *err);
/* Unmounts; takes all away; frees. -EBUSY while somebody is in it: all stays, then. An
 * error other than that: it is away all the same. */
int mounted_stop(struct mounted *mounted, struct error *err);
/* Ends the one at a folder, alive or dead. -ENOENT. */
int mounted_end(const char *folder, struct error *err);

#endif
