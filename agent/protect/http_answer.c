/* The process that answers. */
#include "agent/protect/http_answer.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <microhttpd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LISTENER 3
#define NOBODY 65534
#define CONNECTIONS 16u
#define CONNECTION_BYTES ((size_t)8192)
#define IDLE_SECONDS 10u
#define TRIES 100
#define TEXT_TYPE "text/plain; version=0.0.4; charset=utf-8"

int64_t http_clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int http_page_put(struct http_page *page, const char *text, size_t length)
{
	uint64_t next = atomic_load(&page->sequence) + 1;
	struct http_text *to = &page->texts[next & 1];

	if (length > sizeof(to->text))
		return -EFBIG;
	to->length = length;
	memcpy(to->text, text, length);
	atomic_store(&page->sequence, next);
	return 0;
}

/* The next one is written into the other room, the one after it into this. */
char *http_page_text(const struct http_page *page, size_t *length)
{
	for (int try = 0; try < TRIES; try++) {
		uint64_t sequence = atomic_load(&page->sequence);
		const struct http_text *from = &page->texts[sequence & 1];
		size_t copied = from->length;
		char *text;

		if (!sequence || copied > sizeof(from->text))
			return NULL;
		text = malloc(copied + 1);
		if (!text)
			return NULL;
		memcpy(text, from->text, copied);
		atomic_thread_fence(memory_order_acquire);
		if (atomic_load(&page->sequence) == sequence) {
			text[copied] = '\0';
			*length = copied;
			return text;
		}
		free(text);
	}
	return NULL;
}

/* ---- answers -------------------------------------------------------------------- */

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status,
			      struct MHD_Response *response, const char *header,
			      const char *value)
{
	enum MHD_Result result = MHD_NO;

	if (response && MHD_add_response_header(response, header, value) == MHD_YES)
		result = MHD_queue_response(connection, status, response);
	if (response)
		MHD_destroy_response(response);
	return result;
}

static enum MHD_Result answer_text(struct MHD_Connection *connection, unsigned status,
				   const char *text)
{
	return answer(connection, status, MHD_create_response_from_buffer(strlen(text),
		      (void *)text, MHD_RESPMEM_PERSISTENT), "Content-Type", "text/plain");
}

/* Old numbers would look like good ones. */
static bool stale(const struct http_page *page)
{
	return http_clock_ns() - atomic_load(&page->turn_ns) > HTTP_TURN_NS;
}

static enum MHD_Result answer_metrics(struct MHD_Connection *connection,
				      const struct http_page *page)
{
	size_t length;
	char *text = stale(page) ? NULL : http_page_text(page, &length);

	if (!text)
		return answer_text(connection, MHD_HTTP_SERVICE_UNAVAILABLE,
				   "there are no metrics yet, or the daemon hangs\n");
	return answer(connection, MHD_HTTP_OK, MHD_create_response_from_buffer(length, text,
		      MHD_RESPMEM_MUST_FREE), "Content-Type", TEXT_TYPE);
}

static enum MHD_Result answer_request(void *context, struct MHD_Connection *connection,
				      const char *path, const char *method, const char *version,
				      const char *body, size_t *body_bytes, void **request)
{
	const struct http_page *page = context;

	(void)version;
	(void)body;
	if (strcmp(method, MHD_HTTP_METHOD_GET) && strcmp(method, MHD_HTTP_METHOD_HEAD))
		return answer(connection, MHD_HTTP_METHOD_NOT_ALLOWED,
			      MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT),
			      "Allow", "GET, HEAD");
	/* The first call is for the headers alone; a body is dropped. */
	if (!*request || *body_bytes) {
		*request = (void *)page;
		*body_bytes = 0;
		return MHD_YES;
	}
	if (!strcmp(path, "/metrics"))
		return answer_metrics(connection, page);
	if (!strcmp(path, "/healthz"))
		return stale(page) ? answer_text(connection, MHD_HTTP_SERVICE_UNAVAILABLE,
						 "the daemon hangs\n")
				   : answer_text(connection, MHD_HTTP_OK, "ok\n");
	return answer_text(connection, MHD_HTTP_NOT_FOUND, "there are /metrics and /healthz\n");
}

static void say_nothing(void *context, const char *format, va_list args)
{
	(void)context;
	(void)format;
	(void)args;
}

/* ---- the process ------------------------------------------------------------------ */

/* Becoming nobody may be forbidden (by a unit's capabilities); having none never is. */
static bool drop_privileges(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2];
	const struct rlimit files = { LISTENER + 2 + CONNECTIONS + 8, LISTENER + 2 + CONNECTIONS + 8 };

	if (!setgroups(0, NULL) && !setresgid(NOBODY, NOBODY, NOBODY) &&
	    setresuid(NOBODY, NOBODY, NOBODY))
		return false;
	memset(none, 0, sizeof(none));
	return !syscall(SYS_capset, &header, none) && !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !setrlimit(RLIMIT_NOFILE, &files);
}

static bool prepare(int fd, const struct http_page *page, pid_t parent)
{
	int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);

	prctl(PR_SET_NAME, "clawback-http");
	setpgid(0, 0);
	if (nothing < 0 || dup2(nothing, STDIN_FILENO) < 0 || dup2(nothing, STDOUT_FILENO) < 0 ||
	    dup2(fd, LISTENER) < 0 || close_range(LISTENER + 1, ~0u, 0) < 0 ||
	    mprotect((void *)page, sizeof(*page), PROT_READ) < 0 || !drop_privileges())
		return false;
	/* Last: a change of user forgets it. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	return getppid() == parent;
}

void http_answer_all(int fd, const struct http_page *page, pid_t parent)
{
	struct sockaddr address;
	socklen_t length = sizeof(address);
	struct MHD_Daemon *server;

	if (!prepare(fd, page, parent) || getsockname(LISTENER, &address, &length) < 0)
		_exit(EXIT_FAILURE);
	server = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_ERROR_LOG |
				  (address.sa_family == AF_INET6 ? MHD_USE_IPv6 : 0), 0, NULL, NULL,
				  answer_request, (void *)page,
				  MHD_OPTION_EXTERNAL_LOGGER, say_nothing, NULL,
				  MHD_OPTION_LISTEN_SOCKET, (MHD_socket)LISTENER,
				  MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS,
				  MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_BYTES,
				  MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS, MHD_OPTION_END);
	while (server && MHD_run_wait(server, 1000) == MHD_YES)
		;
	_exit(EXIT_FAILURE);
}
