#include "agent/protect/http_server.h"

#include "agent/base/cleanup.h"
#include "agent/base/late.h"
#include "agent/protect/http_answer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define BACKLOG 16
#define AGAIN_NS (5 * INT64_C(1000000000))

struct http_server {
	char address[CONFIG_LISTEN_ROOM];
	struct http_page *page;		/* shared with the process */
	pid_t pid;			/* 0: it ended */
	int64_t again_ns;		/* not before */
	bool failed;			/* to start again, and it was said */
};

static int listen_on(const char *address, int *fd, struct error *err)
{
	struct config_listen where;
	CLEANUP_CLOSE int made = -1;
	const int on = 1;

	if (config_parse_listen(address, &where))
		return error_set(err, -EINVAL, "%s is no address to listen on", address);
	made = socket(where.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* Else what a client left in TIME_WAIT keeps a restarted daemon away. */
	if (made < 0 || setsockopt(made, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(made, &where.any, where.length) < 0 || listen(made, BACKLOG) < 0)
		return error_set(err, -errno, "cannot listen on %s for metrics: %s%s", address,
				 error_text(errno), errno == EADDRINUSE ? "; end what listens "
				 "there, or give another metrics_listen" : "");
	*fd = STEAL_FD(made);
	return 0;
}

static int process_start(struct http_server *server, struct error *err)
{
	CLEANUP_CLOSE int fd = -1;
	pid_t parent = getpid();
	int ret = listen_on(server->address, &fd, err);

	if (ret)
		return ret;
	/* Else it would say again what is not written out yet. */
	fflush(NULL);
	server->pid = fork();
	if (server->pid == 0)
		http_answer_all(fd, server->page, parent);
	if (server->pid > 0)
		return 0;
	server->pid = 0;
	return error_set(err, -errno, "cannot start the process that serves metrics: %s",
			 error_text(errno));
}

int http_server_start(const char *address, struct http_server **server, struct error *err)
{
	struct http_server *made;
	void *page;
	int ret = late_microhttpd(err);	/* here, where a failure can be told */

	*server = NULL;
	if (ret)
		return ret;
	made = calloc(1, sizeof(*made));
	page = mmap(NULL, sizeof(struct http_page), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!made || page == MAP_FAILED) {
		free(made);
		if (page != MAP_FAILED)
			munmap(page, sizeof(struct http_page));
		return error_set(err, -ENOMEM, "listening on %s: out of memory", address);
	}
	made->page = page;
	snprintf(made->address, sizeof(made->address), "%s", address);
	atomic_store(&made->page->turn_ns, http_clock_ns());
	ret = process_start(made, err);
	if (ret) {
		http_server_stop(made);
		return ret;
	}
	*server = made;
	return 0;
}

void http_server_stop(struct http_server *server)
{
	if (!server)
		return;
	if (server->pid) {
		kill(server->pid, SIGKILL);
		while (waitpid(server->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	munmap(server->page, sizeof(*server->page));
	free(server);
}

const char *http_server_address(const struct http_server *server)
{
	return server ? server->address : "";
}

int http_server_publish(struct http_server *server, const char *text)
{
	return http_page_put(server->page, text, strlen(text));
}

int http_server_turn(struct http_server *server, int64_t now_ns, struct error *err)
{
	int status, ret;

	atomic_store(&server->page->turn_ns, http_clock_ns());
	if (server->pid && waitpid(server->pid, &status, WNOHANG) == server->pid)
		server->pid = 0;
	if (server->pid || now_ns < server->again_ns)
		return 0;
	server->again_ns = now_ns + AGAIN_NS;
	ret = process_start(server, err);
	if (ret && server->failed)
		return 0;
	server->failed = ret != 0;
	return ret ? ret : error_set(err, -ECHILD, "the process that serves metrics on %s ended "
				     "unasked, and was started again", server->address);
}
