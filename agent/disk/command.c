/* Programs of others, for what they print: LVM's. */
#include "agent/disk/disk_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/interrupt.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <fcntl.h>

#define COMMAND_SECONDS 120	/* a program of LVM's waits for locks and devices */

static int command_spawn(const char *const command[], int output, pid_t *child)
{
	extern char **environ;
	posix_spawn_file_actions_t actions;
	int ret = posix_spawn_file_actions_init(&actions);

	if (ret)
		return ret;
	ret = posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
	if (!ret)
		ret = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null",
						       O_RDONLY, 0);
	if (!ret)
		ret = posix_spawnp(child, command[0], &actions, NULL, (char *const *)command,
				   environ);
	posix_spawn_file_actions_destroy(&actions);
	return ret;
}

/* Up to its end, or until it is enough. */
static int command_read(int fd, size_t limit, char **output, size_t *length, struct error *err)
{
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	time_t end = time(NULL) + COMMAND_SECONDS;
	size_t room = 0;

	for (;;) {
		ssize_t n;

		if (interrupt_check(err))
			return err->code;
		if (time(NULL) > end)
			return error_set(err, -ETIMEDOUT, "it did not end within %d s",
					 COMMAND_SECONDS);
		if (room - *length < 4096) {
			char *larger = realloc(*output, room = room * 2 + 8192);

			if (!larger)
				return error_set(err, -ENOMEM, "out of memory");
			*output = larger;
		}
		if (poll(&wait, 1, 200) <= 0)
			continue;
		n = read(fd, *output + *length, room - *length - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set(err, -errno, "%s", error_text(errno));
		(*output)[*length + (size_t)n] = '\0';
		if (!n)
			return 0;
		*length += (size_t)n;
		if (*length > limit)
			return error_set(err, -EFBIG, "it says more than %zu bytes", limit);
	}
}

int command_output(const char *const command[], size_t limit, char **output, size_t *length,
		   struct error *err)
{
	CLEANUP_CLOSE int ears = -1;
	int ends[2], status = 0, ret;
	pid_t child = 0;

	*output = NULL;
	*length = 0;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_set(err, -errno, "cannot run %s: %s", command[0], error_text(errno));
	ears = ends[0];
	ret = command_spawn(command, ends[1], &child);
	close(ends[1]);
	if (ret)
		return error_set(err, -ret, "cannot run %s: %s; is lvm2 installed?", command[0],
				 error_text(ret));
	ret = command_read(ears, limit, output, length, err);
	if (ret)
		kill(child, SIGTERM);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (!ret && (!WIFEXITED(status) || WEXITSTATUS(status)))
		ret = error_set(err, -EIO, "it failed; what it says is above");
	if (!ret)
		return 0;
	free(STEAL(*output));
	return error_prefix(err, "`%s %s`", command[0], command[1]);
}
