/* Programs of others that adopting needs: udevadm, update-initramfs. */
#include "agent/adopt/adopt_private.h"

#include <errno.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* stdout is for our own data. */
static int spawn(const char *const command[], pid_t *child)
{
	extern char **environ;
	posix_spawn_file_actions_t actions;
	int ret = posix_spawn_file_actions_init(&actions);

	if (ret)
		return ret;
	ret = posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
	if (!ret)
		ret = posix_spawnp(child, command[0], &actions, NULL, (char *const *)command,
				   environ);
	posix_spawn_file_actions_destroy(&actions);
	return ret;
}

int command_run(const char *const command[], const char *help, struct error *err)
{
	pid_t child;
	int status = 0, ret = spawn(command, &child);

	if (ret)
		return error_set(err, -ret, "cannot run %s: %s; %s", command[0], error_text(ret),
				 help);
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return error_set(err, -errno, "cannot wait for %s: %s", command[0],
					 error_text(errno));
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		return error_set(err, -EIO, "`%s %s` failed; %s", command[0], command[1], help);
	return 0;
}
