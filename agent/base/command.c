#include "agent/base/command.h"

#include "agent/base/cleanup.h"
#include "agent/base/error.h"
#include "agent/base/file.h"
#include "agent/base/interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define COMMAND_SECONDS 120	/* LVM's wait for locks and devices */
#define LAST_WORDS_MAX 400

/* ---- starting and ending one -------------------------------------------------- */

static int streams_set(posix_spawn_file_actions_t *actions, int in, int out, int say)
{
	int ret = in < 0 ? posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null",
							    O_RDONLY, 0) :
			   posix_spawn_file_actions_adddup2(actions, in, STDIN_FILENO);

	if (!ret)
		ret = posix_spawn_file_actions_adddup2(actions, out, STDOUT_FILENO);
	if (!ret)
		ret = posix_spawn_file_actions_adddup2(actions, say, STDERR_FILENO);
	/* Libraries of ours open some that are inherited (libdevmapper's). */
	return ret ? ret : posix_spawn_file_actions_addclosefrom_np(actions, 3);
}

static int signals_set(posix_spawnattr_t *attributes)
{
	sigset_t set;
	int ret;

	sigemptyset(&set);
	ret = posix_spawnattr_setsigmask(attributes, &set);
	sigaddset(&set, SIGPIPE);
	if (!ret)
		ret = posix_spawnattr_setsigdefault(attributes, &set);
	return ret ? ret : posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK |
							       POSIX_SPAWN_SETSIGDEF);
}

/* `in` < 0: nothing. An errno, positive. */
static int spawn(const char *const command[], int in, int out, int say, pid_t *child)
{
	extern char **environ;
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	int ret = posix_spawn_file_actions_init(&actions);

	if (ret)
		return ret;
	ret = posix_spawnattr_init(&attributes);
	if (!ret) {
		ret = streams_set(&actions, in, out, say);
		if (!ret)
			ret = signals_set(&attributes);
		if (!ret)
			ret = posix_spawnp(child, command[0], &actions, &attributes,
					   (char *const *)command, environ);
		posix_spawnattr_destroy(&attributes);
	}
	posix_spawn_file_actions_destroy(&actions);
	return ret;
}

/* The status, whole. */
static int wait_for(const char *const command[], pid_t child, int *status, struct error *err)
{
	while (waitpid(child, status, 0) < 0)
		if (errno != EINTR)
			return error_set(err, -errno, "cannot wait for %s: %s", command[0],
					 error_text(errno));
	return 0;
}

static const char *word(const char *text)
{
	return text ? text : "";
}

/* ---- what it prints is not for us ----------------------------------------------- */

int command_run(const char *const command[], const char *help, struct error *err)
{
	pid_t child;
	int status = 0, ret = spawn(command, -1, STDERR_FILENO, STDERR_FILENO, &child);

	if (ret)
		return error_set(err, -ret, "cannot run %s: %s; %s", command[0], error_text(ret),
				 help);
	ret = wait_for(command, child, &status, err);
	if (!ret && (!WIFEXITED(status) || WEXITSTATUS(status)))
		ret = error_set(err, -EIO, "`%s %s` failed; %s", command[0], word(command[1]),
				help);
	return ret;
}

/* ---- what it prints is read ------------------------------------------------------ */

/* Up to its end, or until it is enough. */
static int output_read(int fd, size_t limit, char **output, size_t *length, struct error *err)
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

int command_output(const char *const command[], size_t limit, const char *help, char **output,
		   size_t *length, struct error *err)
{
	CLEANUP_CLOSE int ears = -1;
	int ends[2], status = 0, ret;
	pid_t child = 0;

	*output = NULL;
	*length = 0;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_set(err, -errno, "cannot run %s: %s", command[0], error_text(errno));
	ears = ends[0];
	ret = spawn(command, -1, ends[1], STDERR_FILENO, &child);
	close(ends[1]);
	if (ret)
		return error_set(err, -ret, "cannot run %s: %s; %s", command[0], error_text(ret),
				 help);
	ret = output_read(ears, limit, output, length, err);
	if (ret)
		kill(child, SIGTERM);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (!ret && (!WIFEXITED(status) || WEXITSTATUS(status)))
		ret = error_set(err, -EIO, "it failed; what it says is above");
	if (!ret)
		return 0;
	free(STEAL(*output));
	return error_prefix(err, "`%s %s`", command[0], word(command[1]));
}

/* ---- its last words -------------------------------------------------------------- */

static void read_end(int fd, char output[static COMMAND_OUTPUT_ROOM])
{
	struct stat st;
	uint64_t length = fstat(fd, &st) < 0 ? 0 : (uint64_t)st.st_size, from = 0;

	if (length > COMMAND_OUTPUT_ROOM - 1) {
		from = length - (COMMAND_OUTPUT_ROOM - 1);
		length = COMMAND_OUTPUT_ROOM - 1;
	}
	if (file_pread_all(fd, output, length, from))
		length = 0;
	output[length] = '\0';
}

/* The pages go back to the kernel as they are. */
static void wipe(int fd, size_t length)
{
	static const uint8_t zeros[4096];

	for (uint64_t at = 0; at < length; at += sizeof(zeros))
		file_pwrite_all(fd, zeros, sizeof(zeros), at);
}

/* Files in memory for both: neither side can wait for the other. */
int command_code_fed(const char *const command[], const void *input, size_t length,
		     char output[static COMMAND_OUTPUT_ROOM], struct error *err)
{
	CLEANUP_CLOSE int in = memfd_create("clawback-in", MFD_CLOEXEC);
	CLEANUP_CLOSE int out = memfd_create("clawback-out", MFD_CLOEXEC);
	pid_t child;
	int status = 0, ret = in < 0 || out < 0 ? errno : 0;

	*output = '\0';
	if (!ret && length)
		ret = -file_pwrite_all(in, input, length, 0);
	if (!ret)
		ret = spawn(command, in, out, out, &child);
	if (ret)
		error_set(err, -ret, "cannot run %s: %s", command[0], error_text(ret));
	ret = ret ? -ret : wait_for(command, child, &status, err);
	if (in >= 0)
		wipe(in, length);
	if (ret)
		return ret;
	read_end(out, output);
	if (!WIFEXITED(status))
		return error_set(err, -EINTR, "%s was killed by signal %d", command[0],
				 WTERMSIG(status));
	return WEXITSTATUS(status);
}

int command_code(const char *const command[], const char *input,
		 char output[static COMMAND_OUTPUT_ROOM], struct error *err)
{
	return command_code_fed(command, input, input ? strlen(input) : 0, output, err);
}

const char *command_words(char *text)
{
	size_t length = strlen(text);
	char *line;

	while (length && (text[length - 1] == '\n' || text[length - 1] == ' '))
		text[--length] = '\0';
	if (length > LAST_WORDS_MAX)
		text += length - LAST_WORDS_MAX;
	for (line = text; *line; line++)
		if (*line == '\n')
			*line = ' ';
	return text;
}

int command_ok(const char *const command[], const char *input, struct error *err)
{
	char output[COMMAND_OUTPUT_ROOM];
	int code = command_code(command, input, output, err);

	if (code <= 0)
		return code;
	return error_set(err, -EIO, "%s %s failed with exit code %d: %s", command[0],
			 word(command[1]), code, command_words(output));
}

bool command_there(const char *program)
{
	static const char *const folders[] = { "/usr/sbin", "/sbin", "/usr/bin", "/bin" };
	char path[PATH_MAX];

	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", folders[i], program);
		if (!access(path, X_OK))
			return true;
	}
	return false;
}
