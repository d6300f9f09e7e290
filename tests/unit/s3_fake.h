/*
 * A small S3 server in this process, on 127.0.0.1: objects, listings in short pages,
 * multipart uploads. It checks no signature. A test can also dictate answers that no
 * sound server gives. For what a real server does see tests/store.
 */
#ifndef CLAWBACK_TESTS_S3_FAKE_H
#define CLAWBACK_TESTS_S3_FAKE_H

#include "tests/unit/s3_fake_items.h"

/* ---- serving ------------------------------------------------------------------------- */

static inline const char *fake_take_plan(struct fake *fake, const char *method)
{
	for (size_t i = 0; i < FAKE_PLANS; i++)
		if (fake->plans[i].method && !strcmp(fake->plans[i].method, method)) {
			fake->plans[i].method = NULL;
			return fake->plans[i].answer;
		}
	return "";
}

/* False: the connection ends. */
static inline bool fake_serve(struct fake_request *request)
{
	const char *plan;
	char value[600];

	pthread_mutex_lock(&request->fake->lock);
	plan = fake_take_plan(request->fake, request->method);
	if (!strncmp(plan, "HTTP", 4))
		fake_send(request->fd, plan, strlen(plan));
	if (!strcmp(plan, "lost"))	/* before anything can be sent */
		shutdown(request->fd, SHUT_WR);
	if (*plan && strcmp(plan, "lost"))
		;
	else if (!strcmp(request->method, "PUT"))
		fake_put(request);
	else if (!strcmp(request->method, "POST"))
		fake_post(request);
	else if (!strcmp(request->method, "DELETE"))
		fake_delete(request);
	else if (*request->key)
		fake_get(request);
	else
		fake_list(request, fake_query(request, "uploads", value));
	pthread_mutex_unlock(&request->fake->lock);
	if (!strcmp(plan, "stall"))	/* until the client has enough */
		while (recv(request->fd, value, sizeof(value), 0) > 0)
			;
	return !*plan;
}

/* One request into `request`; false at the connection's end. */
static inline bool fake_receive(struct fake_request *request)
{
	char *end = NULL, *path, *protocol;
	size_t used = 0, have;
	const char *length;

	for (ssize_t n; !end; end = strstr(request->head, "\r\n\r\n")) {
		n = recv(request->fd, request->head + used, sizeof(request->head) - 1 - used, 0);
		if (n <= 0)
			return false;
		used += (size_t)n;
		request->head[used] = '\0';
	}
	have = used - (size_t)(end + 4 - request->head);
	request->headers = strstr(request->head, "\r\n");
	length = fake_header(request, "content-length");
	request->body_length = length ? strtoull(length, NULL, 10) : 0;
	request->body = malloc(request->body_length + have + 1);
	memcpy(request->body, end + 4, have);
	if (fake_header(request, "expect"))
		fake_send(request->fd, "HTTP/1.1 100 Continue\r\n\r\n", 25);
	while (have < request->body_length) {
		ssize_t n = recv(request->fd, request->body + have, request->body_length - have,
				 0);

		if (n <= 0)
			return false;
		have += (size_t)n;
	}
	/* METHOD /bucket[/key][?query] HTTP/1.1 */
	request->method = request->head;
	path = strchr(request->head, ' ');
	*path++ = '\0';
	protocol = strchr(path, ' ');
	*protocol = '\0';
	request->query = strchr(path, '?');
	if (request->query)
		*request->query++ = '\0';
	path = strchr(path + 1, '/');
	request->key = path ? path + 1 : protocol;
	return true;
}

struct fake_connection { struct fake *fake; int fd; };

static inline void *fake_connection_run(void *context)
{
	struct fake_connection *connection = context;
	struct fake_request *request = calloc(1, sizeof(*request));
	bool good = true;

	while (good) {
		*request = (struct fake_request){ .fake = connection->fake,
						  .fd = connection->fd };
		good = fake_receive(request) && fake_serve(request);
		free(request->body);
	}
	shutdown(connection->fd, SHUT_RDWR);
	free(request);
	free(connection);
	return NULL;
}

static inline void *fake_run(void *context)
{
	struct fake *fake = context;

	for (int fd; (fd = accept(fake->listener, NULL, NULL)) >= 0;) {
		struct fake_connection *connection = malloc(sizeof(*connection));
		unsigned at = fake->connection_count % FAKE_CONNECTIONS;

		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
		if (fake->connection_count >= FAKE_CONNECTIONS) {	/* the oldest's place */
			shutdown(fake->fds[at], SHUT_RDWR);
			pthread_join(fake->threads[at], NULL);
			close(fake->fds[at]);
		}
		fake->fds[at] = fd;
		*connection = (struct fake_connection){ fake, fd };
		pthread_create(&fake->threads[at], NULL, fake_connection_run, connection);
		fake->connection_count++;
	}
	return NULL;
}

static inline struct fake *fake_start(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t length = sizeof(address);
	struct fake *fake = calloc(1, sizeof(*fake));

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	pthread_mutex_init(&fake->lock, NULL);
	fake->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(0, bind(fake->listener, (struct sockaddr *)&address, length));
	assert_int_equal(0, listen(fake->listener, 64));
	assert_int_equal(0, getsockname(fake->listener, (struct sockaddr *)&address, &length));
	fake->port = ntohs(address.sin_port);
	assert_int_equal(0, pthread_create(&fake->thread, NULL, fake_run, fake));
	return fake;
}

/* All clients are gone. */
static inline void fake_stop(struct fake *fake)
{
	unsigned open;

	shutdown(fake->listener, SHUT_RDWR);
	pthread_join(fake->thread, NULL);
	open = fake->connection_count < FAKE_CONNECTIONS ? fake->connection_count :
							    FAKE_CONNECTIONS;
	for (unsigned i = 0; i < open; i++) {
		shutdown(fake->fds[i], SHUT_RDWR);
		pthread_join(fake->threads[i], NULL);
		close(fake->fds[i]);
	}
	close(fake->listener);
	while (fake->count)
		fake_drop(fake, fake->items);
	free(fake);
}

/* The next request of `method` gets `answer`. */
static inline void fake_plan(struct fake *fake, const char *method, const char *answer)
{
	size_t i = 0;

	pthread_mutex_lock(&fake->lock);
	while (i < FAKE_PLANS && fake->plans[i].method)
		i++;
	assert_true(i < FAKE_PLANS);
	fake->plans[i] = (struct fake_plan){ method, answer };
	pthread_mutex_unlock(&fake->lock);
}

static inline void fake_plan_clear(struct fake *fake)
{
	pthread_mutex_lock(&fake->lock);
	memset(fake->plans, 0, sizeof(fake->plans));
	pthread_mutex_unlock(&fake->lock);
}

#endif
