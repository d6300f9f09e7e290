/* Programs of others: nbdfuse, mount, qemu-img. */
#include "agent/serve/serve_private.h"

#include "agent/base/interrupt.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* stdout is for our own data; what dies with us has a group of its own, so that a signal
 * of the terminal does not end it before its time. */
static void helper_exec(const char *const command[], bool tied, pid_t parent)
{
	static const struct sigaction by_default = { .sa_handler = SIG_DFL };
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	sigaction(SIGPIPE, &by_default, NULL);
	if (tied) {
		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (getppid() != parent)
			_exit(1);
	}
	if (dup2(STDERR_FILENO, STDOUT_FILENO) == STDOUT_FILENO)
		execvp(command[0], (char *const *)command);
	_exit(errno == ENOENT ? 127 : 126);
}

int helper_start(const char *const command[], pid_t *pid, struct error *err)
{
	pid_t parent = getpid();

	*pid = fork();
	if (!*pid)
		helper_exec(command, true, parent);
	return *pid < 0 ? error_set(err, -errno, "starting %s: %s", command[0],
				    error_text(errno)) : 0;
}

int helper_failed(const char *const command[], int status, const char *package,
		   struct error *err)
{
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return error_set(err, -ENOENT, "there is no %s: install the package %s", command[0],
				 package);
	return error_set(err, -EIO, "%s failed (%s %d); what it said is above", command[0],
			 WIFSIGNALED(status) ? "signal" : "exit code",
			 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

int helper_run(const char *const command[], const char *package, struct error *err)
{
	int status = 0, ret;
	pid_t pid;

	ret = helper_start(command, &pid, err);
	while (!ret && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		if (interrupt_requested())
			kill(pid, SIGTERM);
	if (!ret)
		ret = interrupt_check(err);
	if (ret || (WIFEXITED(status) && !WEXITSTATUS(status)))
		return ret;
	return helper_failed(command, status, package, err);
}
