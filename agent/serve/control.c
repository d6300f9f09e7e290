/* The plugin's side of the socket to the program that started it. */
#include "agent/serve/control_format.h"
#include "agent/serve/serve_private.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct control {
	int fd;
	char *settings[CONTROL_SETTINGS_MAX];
	size_t count;
};

static ssize_t control_receive(int fd, char *buffer, size_t room)
{
	ssize_t got;

	do {
		got = recv(fd, buffer, room, MSG_TRUNC);
	} while (got < 0 && errno == EINTR);
	return got < 0 ? -errno : got > (ssize_t)room ? -EMSGSIZE : got;
}

static int control_read(struct control *control, char *buffer, struct error *err)
{
	while (control->count < CONTROL_SETTINGS_MAX) {
		ssize_t got = control_receive(control->fd, buffer, CONTROL_SETTING_MAX);

		if (got < 0)
			return error_set(err, (int)got, "reading what to serve: %s",
					 error_text((int)got));
		if (!got || buffer[got - 1])
			break;
		if (!strcmp(buffer, CONTROL_LAST))
			return 0;
		control->settings[control->count] = strdup(buffer);
		if (!control->settings[control->count])
			return error_set(err, -ENOMEM, "reading what to serve: out of memory");
		control->count++;
	}
	return error_set(err, -EPROTO, "this plugin is started by clawback serve, not by hand");
}

int control_open(int fd, struct control **opened, struct error *err)
{
	struct control *control = calloc(1, sizeof(*control));
	char *buffer = malloc(CONTROL_SETTING_MAX);
	int ret;

	*opened = NULL;
	if (control && buffer) {
		control->fd = fd;
		ret = control_read(control, buffer, err);
		crypto_wipe(buffer, CONTROL_SETTING_MAX);
	} else {
		ret = error_set(err, -ENOMEM, "reading what to serve: out of memory");
	}
	free(buffer);
	/* Also after a failure: there is somebody to be told. */
	*opened = control;
	return ret;
}

void control_wipe(struct control *control)
{
	while (control->count) {
		char *setting = control->settings[--control->count];

		crypto_wipe(setting, strlen(setting));
		free(setting);
	}
}

void control_close(struct control *control)
{
	if (!control)
		return;
	control_wipe(control);
	close(control->fd);
	free(control);
}

const char *control_setting(const struct control *control, const char *name, size_t nth)
{
	size_t length = strlen(name);

	for (size_t i = 0; i < control->count; i++) {
		const char *setting = control->settings[i];

		if (!strncmp(setting, name, length) && setting[length] == '=' && !nth--)
			return setting + length + 1;
	}
	return NULL;
}

void control_tell(struct control *control, const struct server_event *event)
{
	/* What matters comes once, and there is room for it: progress is not sent often. */
	(void)!send(control->fd, event, sizeof(*event), MSG_DONTWAIT | MSG_NOSIGNAL);
}

bool control_gone(struct control *control, int timeout_ms)
{
	struct pollfd poll_fd = { .fd = control->fd, .events = POLLIN };
	char ignored[16];

	return poll(&poll_fd, 1, timeout_ms) > 0 &&
	       control_receive(control->fd, ignored, sizeof(ignored)) <= 0;
}
