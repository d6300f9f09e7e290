/*
 * What a server listens on: a path, where a dead server's socket makes room and a live one's
 * does not, or a port of 127.0.0.1.
 */
#include "agent/serve/serve_private.h"

#include "agent/base/cleanup.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* Whether somebody answers at a path, or nobody has since he died. */
static bool socket_is_dead(const struct sockaddr_un *address)
{
	CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct stat st;

	return fd >= 0 && !lstat(address->sun_path, &st) && S_ISSOCK(st.st_mode) &&
	       connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 &&
	       errno == ECONNREFUSED;
}

static int socket_bind(int fd, const struct sockaddr_un *address)
{
	mode_t mask = umask(0177);
	int ret = bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;

	umask(mask);
	return ret;
}

static void uri_of_path(const char *path, char uri[static SERVER_URI_MAX])
{
	size_t used = (size_t)sprintf(uri, "nbd+unix:///?socket=");

	for (; *path; path++) {
		unsigned char c = (unsigned char)*path;

		if ((c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') ||
		    strchr("/-._~", c))
			uri[used++] = (char)c;
		else
			used += (size_t)sprintf(uri + used, "%%%02X", c);
	}
	uri[used] = '\0';
}

static int listen_path(struct listener *listener, const char *path, struct error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int ret;

	if (strlen(path) >= sizeof(address.sun_path))
		return error_set_exit(err, EXIT_USAGE, -ENAMETOOLONG, "the socket %s: its path is too "
				      "long, at most %zu bytes are possible", path,
				      sizeof(address.sun_path) - 1);
	strcpy(address.sun_path, path);
	listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener->fd < 0)
		return error_set(err, -errno, "making a socket: %s", error_text(errno));
	ret = socket_bind(listener->fd, &address);
	if (ret == -EADDRINUSE && socket_is_dead(&address) && !unlink(path))
		ret = socket_bind(listener->fd, &address);
	if (ret == -EADDRINUSE)
		return error_set(err, ret, "the socket %s is in use, or something else is there; "
				 "choose another", path);
	if (ret)
		return error_set(err, ret, "making the socket %s: %s", path, error_text(ret));
	listener->socket = strdup(path);
	if (!listener->socket) {
		unlink(path);
		return error_set(err, -ENOMEM, "making the socket %s: out of memory", path);
	}
	uri_of_path(path, listener->uri);
	return 0;
}

static int listen_port(struct listener *listener, uint16_t port, struct error *err)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t length = sizeof(address);
	int one = 1;

	listener->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener->fd < 0 ||
	    setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(listener->fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    getsockname(listener->fd, (struct sockaddr *)&address, &length) < 0)
		return error_set(err, -errno, "listening on port %u of 127.0.0.1: %s; choose "
				 "another with --port", port, error_text(errno));
	sprintf(listener->uri, "nbd://127.0.0.1:%u", ntohs(address.sin_port));
	return 0;
}

int listener_open(const struct server_options *options, struct listener *listener,
		  struct error *err)
{
	int ret;

	*listener = (struct listener){ .fd = -1 };
	ret = options->socket ? listen_path(listener, options->socket, err) :
				listen_port(listener, options->port, err);
	if (!ret && listen(listener->fd, 32) < 0)
		ret = error_set(err, -errno, "listening at %s: %s", listener->uri,
				error_text(errno));
	return ret;
}

void listener_close(struct listener *listener)
{
	if (listener->fd >= 0)
		close(listener->fd);
	if (listener->socket)
		unlink(listener->socket);
	free(listener->socket);
	listener->socket = NULL;
	listener->fd = -1;
}
