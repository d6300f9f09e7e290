/* Internal: what the files of a drill share. */
#ifndef CLAWBACK_DRILL_PRIVATE_H
#define CLAWBACK_DRILL_PRIVATE_H

#include "agent/drill/drill.h"

#include <limits.h>

/* ---- the scratch place (scratch.c) --------------------------------------- */

struct scratch {
	char folder[PATH_MAX];	/* "" when there is none */
	char file[PATH_MAX];
	int lock_fd;		/* of the folder; -1 */
};

/* Removes what dead drills left there; then makes one of ours. */
int scratch_make(const char *folder, struct scratch *scratch, struct error *err);
int scratch_remove(struct scratch *scratch, struct error *err);
/* Whether `bytes` have room in the folder. */
int scratch_room(const char *folder, uint64_t bytes, struct error *err);

/* ---- the copy as a device (device.c) -------------------------------------- */

/* A loop device over the file, which clears itself when nobody uses it any more. */
int loop_attach(const char *file, char path[static PATH_MAX], int *fd, struct error *err);
/* Until nobody uses the device, or for so long; -EBUSY. */
int device_wait_free(const char *path, unsigned seconds, struct error *err);

/* The type of the file system in a file or on a device, "" for none. Refused with
 * -ENOTSUP what must not be seen twice on one machine. */
int file_system_probe(const char *path, char type[static 32], struct error *err);

/* ---- programs (program.c) ---------------------------------------------------- */

struct program {
	const char *name;		/* in messages */
	const char *const *argv;	/* argv[0] an absolute path */
	const char *const *environment;
	uint64_t timeout_ns;		/* 0: none */
	bool tell;			/* its lines are for people, else for --verbose */
	int lifeline_fd;		/* who reads an end of file there is alone */
};

/*
 * For process 1 of its namespace, which reaps what others leave. 0 when it ended with
 * code 0; else it says how it ended, and its last line. -ETIMEDOUT.
 */
int program_run(const struct program *program, struct error *err);
/* Ends all but the caller. */
void program_end_all(void);

/* ---- what happens in namespaces (stage.c) --------------------------------------- */

struct stage {
	const char *device, *file_system;
	const char *command;		/* or NULL */
	uint64_t timeout_ns;
	const struct point *point;
	void (*step)(void *context, enum drill_step step, uint64_t took_ns);
	void *context;
};

/* From replay to unmounting. On return nothing of it is left, or on its way out. */
int stage_run(const struct stage *stage, struct drill_record *record, struct error *err);

/* The steps themselves, in there (stage_steps.c); each tells by `ended`. */
struct stage_room {
	const struct stage *stage;
	int lifeline_fd;
	bool mounted;
	void (*ended)(void *context, enum drill_step step, uint64_t took_ns);
	void *context;
};
/* On failure *failed says in which step. */
int stage_steps(struct stage_room *room, enum drill_step *failed, struct error *err);

uint64_t drill_clock_ns(void);	/* CLOCK_MONOTONIC */

#endif
