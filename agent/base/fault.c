#include "agent/base/fault.h"

#ifdef CLAWBACK_FAULTS

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t fault_mutex = PTHREAD_MUTEX_INITIALIZER;
static unsigned long fault_passed;

static int fault_code(const char *what, size_t length)
{
	static const struct { const char *name; int code; } codes[] = {
		{ "EIO", -EIO }, { "ENOSPC", -ENOSPC }, { "ENOMEM", -ENOMEM },
	};

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (strlen(codes[i].name) == length && !strncmp(what, codes[i].name, length))
			return codes[i].code;
	fprintf(stderr, "CLAWBACK_FAULT: \"%.*s\" is none of kill, stop, EIO, ENOSPC, ENOMEM\n",
		(int)length, what);
	_exit(2);
}

static void fault_log(const char *name)
{
	const char *path = getenv("CLAWBACK_FAULT_LOG");
	int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;

	if (fd < 0)
		return;
	dprintf(fd, "%s\n", name);
	close(fd);
}

/* NAME:WHAT[:N]. Whether this passing is the one. */
static int fault_wanted(const char *name)
{
	const char *wanted = getenv("CLAWBACK_FAULT"), *what, *times;
	size_t length = strlen(name);

	if (!wanted || strncmp(wanted, name, length) || wanted[length] != ':')
		return 0;
	what = wanted + length + 1;
	length = strcspn(what, ":");
	times = what[length] ? what + length + 1 : "1";
	if (++fault_passed != strtoul(times, NULL, 10))
		return 0;
	if (length == 4 && !strncmp(what, "kill", 4)) {
		kill(getpid(), SIGKILL);
		pause();
	}
	if (length == 4 && !strncmp(what, "stop", 4)) {
		kill(getpid(), SIGSTOP);
		return 0;
	}
	return fault_code(what, length);
}

int fault_at(const char *name)
{
	int saved = errno, ret;

	pthread_mutex_lock(&fault_mutex);
	fault_log(name);
	ret = fault_wanted(name);
	pthread_mutex_unlock(&fault_mutex);
	errno = saved;
	return ret;
}

int fault_error(const char *name, struct error *err)
{
	int ret = fault_at(name);

	return ret ? error_set(err, ret, "fault point %s: %s", name, error_text(ret)) : 0;
}

#endif
