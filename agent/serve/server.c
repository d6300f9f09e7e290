/*
 * nbdkit speaks the protocol; we make the socket that it listens on, so that a path that
 * a dead server left can be told from one in use and the port is known, and hand it over
 * as systemd would. It dies with us (--exit-with-parent, and the plugin ends when its
 * socket to us does).
 */
#include "agent/serve/control_format.h"
#include "agent/serve/serve_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/interrupt.h"
#include "agent/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define NBDKIT "nbdkit"
#define PLUGIN "nbdkit-clawback-plugin.so"

extern char **environ;

struct server {
	pid_t pid;
	int control_fd;
	struct listener listener;
};

/* ---- the plugin --------------------------------------------------------------------- */

/* Beside the program (a build folder), or in lib/clawback beside its folder. */
static int plugin_find(char path[static PATH_MAX], struct error *err)
{
	static const char *const places[] = { "", "../lib/clawback/" };
	char program[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", program, sizeof(program) - 1);
	char *name;

	if (length < 0)
		return error_set(err, -errno, "looking for " PLUGIN ": /proc/self/exe: %s",
				 error_text(errno));
	program[length] = '\0';
	name = strrchr(program, '/') + 1;
	*name = '\0';
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		if (snprintf(path, PATH_MAX, "%s%s" PLUGIN, program, places[i]) < PATH_MAX &&
		    !access(path, R_OK))
			return 0;
	return error_set(err, -ENOENT, "there is no " PLUGIN " in %.200s nor in "
			 "%.200s../lib/clawback: install clawback wholly", program, program);
}

/* ---- nbdkit ------------------------------------------------------------------------------ */

/* In the child: nothing but system calls. */
static void child_run(int listen_fd, int control_fd, char *const arguments[],
		      char *environment[], char *pid_place)
{
	static const struct sigaction by_default = { .sa_handler = SIG_DFL };
	sigset_t none;
	char digits[16], *at = digits + sizeof(digits);

	/* nbdkit takes no leading zeros. */
	for (pid_t pid = getpid(); pid; pid /= 10)
		*--at = (char)('0' + pid % 10);
	memcpy(pid_place, at, (size_t)(digits + sizeof(digits) - at));
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	sigaction(SIGHUP, &by_default, NULL);
	/* A signal of the terminal is for us: what is mounted goes first. */
	setpgid(0, 0);
	if (dup2(listen_fd, 3) == 3 && dup2(control_fd, CONTROL_FD) == CONTROL_FD)
		execvpe(NBDKIT, arguments, environment);
	_exit(errno == ENOENT ? 127 : 126);
}

static int server_spawn(struct server *server, int control_fd, const char *plugin,
			bool read_only, struct error *err)
{
	char control[32], listen_pid[32] = "LISTEN_PID=";
	const char *arguments[] = { NBDKIT, "-f", "--exit-with-parent", "--log=stderr",
				    read_only ? "-r" : plugin, read_only ? plugin : control,
				    read_only ? control : NULL, NULL };
	CLEANUP_CLOSE int listen_fd = fcntl(server->listener.fd, F_DUPFD_CLOEXEC, 10);
	CLEANUP_CLOSE int other_fd = fcntl(control_fd, F_DUPFD_CLOEXEC, 10);
	CLEANUP_FREE char **environment = NULL;
	size_t count = 0, kept = 0;

	sprintf(control, "control=%d", CONTROL_FD);
	while (environ[count])
		count++;
	environment = calloc(count + 3, sizeof(*environment));
	if (!environment || listen_fd < 0 || other_fd < 0)
		return error_set(err, -ENOMEM, "starting nbdkit: out of memory or descriptors");
	for (size_t i = 0; i < count; i++)
		if (strncmp(environ[i], "LISTEN_", 7))
			environment[kept++] = environ[i];
	environment[kept++] = (char *)"LISTEN_FDS=1";
	environment[kept] = listen_pid;
	server->pid = fork();
	if (!server->pid)
		child_run(listen_fd, other_fd, (char *const *)arguments, environment,
			  listen_pid + strlen(listen_pid));
	return server->pid < 0 ? error_set(err, -errno, "starting nbdkit: %s", error_text(errno)) :
				 0;
}

/* ---- talking to the plugin ------------------------------------------------------------------ */

static int server_settle(struct server *server, const struct server_options *options,
			 struct error *err)
{
	for (const char *const *at = options->settings;; at++) {
		const char *setting = *at ? *at : CONTROL_LAST;

		if (send(server->control_fd, setting, strlen(setting) + 1, MSG_NOSIGNAL) < 0)
			return error_set(err, -errno, "telling nbdkit what to serve: %s",
					 error_text(errno));
		if (!*at)
			return 0;
	}
}

static int server_died(struct server *server, struct error *err)
{
	int status = 0;

	while (server->pid > 0 && waitpid(server->pid, &status, 0) < 0)
		if (errno != EINTR)
			break;
	server->pid = -1;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return error_set(err, -ENOENT, "there is no nbdkit: install the package nbdkit");
	return error_set(err, -EPIPE, "nbdkit ended (%s %d); what it said is above",
			 WIFSIGNALED(status) ? "signal" : "exit code",
			 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

int server_event(struct server *server, struct server_event *event, struct error *err)
{
	ssize_t got;

	do {
		got = recv(server->control_fd, event, sizeof(*event), MSG_DONTWAIT);
	} while (got < 0 && errno == EINTR);
	if (got < 0 && errno == EAGAIN)
		return -EAGAIN;
	if (got != (ssize_t)sizeof(*event))
		return server_died(server, err);
	event->error.message[sizeof(event->error.message) - 1] = '\0';
	if (event->kind != SERVER_FAILED)
		return 0;
	*err = event->error;
	return 0;
}

static int server_ready(struct server *server, struct error *err)
{
	struct server_event event;

	while (true) {
		struct pollfd poll_fd = { .fd = server->control_fd, .events = POLLIN };
		int ret = interrupt_check(err);

		if (ret)
			return ret;
		if (poll(&poll_fd, 1, 1000) < 0 && errno != EINTR)
			return error_set(err, -errno, "waiting for nbdkit: %s", error_text(errno));
		ret = server_event(server, &event, err);
		if (ret == -EAGAIN)
			continue;
		if (ret)
			return ret;
		if (event.kind == SERVER_READY)
			return 0;
		if (event.kind == SERVER_FAILED)
			return err->code;
	}
}

int server_start(const struct server_options *options, struct server **started,
		 struct error *err)
{
	struct server *server = calloc(1, sizeof(*server));
	struct error ignored = ERROR_INIT;
	char plugin[PATH_MAX];
	int pair[2] = { -1, -1 };
	int ret;

	*started = NULL;
	if (!server)
		return error_set(err, -ENOMEM, "starting nbdkit: out of memory");
	server->listener.fd = server->control_fd = server->pid = -1;
	ret = plugin_find(plugin, err);
	if (!ret)
		ret = listener_open(options, &server->listener, err);
	if (!ret && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		ret = error_set(err, -errno, "starting nbdkit: %s", error_text(errno));
	server->control_fd = pair[0];
	if (!ret)
		ret = server_spawn(server, pair[1], plugin, options->read_only, err);
	if (pair[1] >= 0)
		close(pair[1]);
	/* Nobody shall wait for an answer of an nbdkit that has gone. */
	if (server->listener.fd >= 0)
		close(STEAL_FD(server->listener.fd));
	if (!ret)
		ret = server_settle(server, options, err);
	if (ret == -EPIPE || ret == -ECONNRESET)
		ret = server_died(server, err);
	if (!ret)
		ret = server_ready(server, err);
	if (ret)
		server_stop(server, 0, NULL, &ignored);
	else
		*started = server;
	return ret;
}

const char *server_uri(const struct server *server)
{
	return server->listener.uri;
}

pid_t server_pid(const struct server *server)
{
	return server->pid;
}

int server_fd(const struct server *server)
{
	return server->control_fd;
}

/* ---- ending ------------------------------------------------------------------------------------ */

static int server_end(struct server *server, uint64_t patience_ns, struct error *err)
{
	uint64_t limit = serve_now_ns() + patience_ns;
	int status = 0;
	pid_t ended;

	/* Who waits for the store there is told so, and gives up. */
	shutdown(server->control_fd, SHUT_WR);
	kill(server->pid, SIGTERM);
	while (!(ended = waitpid(server->pid, &status, WNOHANG)) && serve_now_ns() < limit)
		usleep(10000);
	if (!ended) {
		kill(server->pid, SIGKILL);
		waitpid(server->pid, &status, 0);
		return error_set(err, -ETIMEDOUT, "nbdkit did not end and was killed: what was "
				 "written and not flushed may be lost");
	}
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return 0;
	return error_set(err, -EIO, "nbdkit ended with %s %d: what was written and not flushed "
			 "may be lost", WIFSIGNALED(status) ? "signal" : "exit code",
			 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

/* What the plugin said last, as it went. */
static int server_last_words(struct server *server, struct server_event *last,
			     struct error *err)
{
	struct server_event event;
	int ret = 0;

	while (recv(server->control_fd, &event, sizeof(event), MSG_DONTWAIT) ==
	       (ssize_t)sizeof(event)) {
		if (event.kind == SERVER_FAILED && !ret) {
			*err = event.error;
			ret = err->code;
		}
		if (last && event.kind != SERVER_FAILED)
			*last = event;
	}
	return ret;
}

int server_stop(struct server *server, uint64_t patience_ns, struct server_event *last,
		struct error *err)
{
	int ret = 0;

	if (!server)
		return 0;
	if (server->pid > 0)
		ret = server_end(server, patience_ns, err);
	if (server->control_fd >= 0 && server_last_words(server, last, err))
		ret = err->code;
	listener_close(&server->listener);
	if (server->control_fd >= 0)
		close(server->control_fd);
	free(server);
	return ret;
}
