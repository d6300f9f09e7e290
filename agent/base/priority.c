#include "agent/base/priority.h"

#include "agent/base/error.h"
#include "agent/base/log.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* linux/ioprio.h; glibc has no wrapper. 0 stands for the calling thread. */
#define WHO_PROCESS 1
#define CLASS_SHIFT 13

static int io_get(void)
{
	long value = syscall(SYS_ioprio_get, WHO_PROCESS, 0);

	return value < 0 ? 0 : (int)value;
}

struct priority priority_now(void)
{
	int io = io_get();

	return (struct priority){
		.nice = getpriority(PRIO_PROCESS, 0),
		.io_class = (enum io_class)(io >> CLASS_SHIFT),
		.io_level = io & 7,
	};
}

static void set_nice(int nice)
{
	if (setpriority(PRIO_PROCESS, 0, nice))
		log_detail("nice %d is refused: %s", nice, error_text(errno));
}

static void set_io(enum io_class class, int level)
{
	if (syscall(SYS_ioprio_set, WHO_PROCESS, 0, (int)class << CLASS_SHIFT | level))
		log_detail("I/O priority %d of class %d is refused: %s", level, class,
			   error_text(errno));
}

/*
 * A thread that never had one set follows its nice value within best-effort; the
 * kernel then says class none, or, newer ones, best-effort with that level.
 */
void priority_lower(const struct priority *priority, struct priority *before)
{
	*before = priority_now();
	if (priority->nice > before->nice)
		set_nice(priority->nice);
	if (priority->io_class > before->io_class ||
	    (priority->io_class == before->io_class && priority->io_level > before->io_level))
		set_io(priority->io_class, priority->io_level);
}

void priority_restore(const struct priority *before)
{
	struct priority now = priority_now();

	if (now.nice != before->nice)
		set_nice(before->nice);
	if (now.io_class != before->io_class || now.io_level != before->io_level)
		set_io(before->io_class, before->io_level);
}
