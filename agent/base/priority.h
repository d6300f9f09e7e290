/*
 * How much the calling thread, and those that it starts meanwhile, stand back behind
 * others: for CPU (nice) and for disks (ioprio_set). Only ever lower than they were;
 * and back again, which wants CAP_SYS_NICE for CPU. What the kernel refuses is logged
 * with -v and no failure, for nothing depends on it.
 *
 * An I/O priority reaches the disk only with a scheduler that heeds it (bfq; mq-deadline
 * some of it), and not the writes that the kernel does later for others.
 */
#ifndef CLAWBACK_BASE_PRIORITY_H
#define CLAWBACK_BASE_PRIORITY_H

enum io_class { IO_CLASS_NONE, IO_CLASS_BEST_EFFORT = 2, IO_CLASS_IDLE = 3 }; /* the kernel's */

struct priority {
	int nice;		/* 0 to 19 */
	enum io_class io_class;	/* IO_CLASS_NONE: left as it is */
	int io_level;		/* of best-effort, 0 to 7, the last of all */
};

/* `before` is for priority_restore in the same thread. */
void priority_lower(const struct priority *priority, struct priority *before);
void priority_restore(const struct priority *before);

/* What the calling thread has. */
struct priority priority_now(void);

#endif
