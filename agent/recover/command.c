/* Programs of others: sfdisk, LVM's, mkswap, fsck. */
#include "agent/recover/recover_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"

#include <errno.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* Files in memory: neither side can wait for the other. */
static int spawn(const char *const command[], int in, int out, pid_t *child)
{
	extern char **environ;
	posix_spawn_file_actions_t actions;
	int ret = posix_spawn_file_actions_init(&actions);

	if (ret)
		return ret;
	ret = posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
	if (!ret)
		ret = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	if (!ret)
		ret = posix_spawn_file_actions_adddup2(&actions, out, STDERR_FILENO);
	if (!ret)
		ret = posix_spawnp(child, command[0], &actions, NULL, (char *const *)command,
				   environ);
	posix_spawn_file_actions_destroy(&actions);
	return ret;
}

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
		ret = spawn(command, in, out, &child);
	while (!ret && waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			ret = errno;
	if (in >= 0)
		wipe(in, length);
	if (ret)
		return error_set(err, -ret, "cannot run %s: %s", command[0], error_text(ret));
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

/* The last words, for a message. */
static const char *last_words(char *text)
{
	size_t length = strlen(text);
	char *line;

	while (length && (text[length - 1] == '\n' || text[length - 1] == ' '))
		text[--length] = '\0';
	if (length > 400)
		text += length - 400;
	for (line = text; *line; line++)
		if (*line == '\n')
			*line = ' ';
	return text;
}

int recover_command(const char *const command[], const char *input, struct error *err)
{
	char output[COMMAND_OUTPUT_ROOM];
	int code = command_code(command, input, output, err);

	if (code <= 0)
		return code;
	return error_set(err, -EIO, "%s %s failed with exit code %d: %s", command[0],
			 command[1] ? command[1] : "", code, last_words(output));
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
