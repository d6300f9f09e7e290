/*
 * Where the daemon listens. Addresses are numbers: a name would be looked up, perhaps
 * over a network that is not there yet, and could lead anywhere.
 */
#include "agent/config/config_keys.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

/* "ADDRESS" of "ADDRESS:PORT" or "[ADDRESS]:PORT"; the port, 0 for a bad one. */
static unsigned cut_port(char *text, char **address)
{
	char *colon = strrchr(text, ':');
	unsigned port = 0;

	if (!colon || !colon[1] || strlen(colon + 1) > 5)
		return 0;
	for (const char *at = colon + 1; *at; at++) {
		if (*at < '0' || *at > '9')
			return 0;
		port = port * 10 + (unsigned)(*at - '0');
	}
	*colon = '\0';
	*address = text;
	if (*text == '[' && colon > text && colon[-1] == ']') {
		colon[-1] = '\0';
		*address = text + 1;
	}
	return port <= 65535 ? port : 0;
}

int config_parse_listen(const char *text, struct config_listen *listen)
{
	char copy[CONFIG_LISTEN_ROOM], *address;
	unsigned port;

	memset(listen, 0, sizeof(*listen));
	if (strlen(text) >= sizeof(copy))
		return -EINVAL;
	strcpy(copy, text);
	port = cut_port(copy, &address);
	if (!port)
		return -EINVAL;
	if (address == copy && inet_pton(AF_INET, address, &listen->v4.sin_addr) == 1) {
		listen->v4.sin_family = AF_INET;
		listen->v4.sin_port = htons((uint16_t)port);
		listen->length = sizeof(listen->v4);
		listen->loopback = ntohl(listen->v4.sin_addr.s_addr) >> 24 == 127;
		return 0;
	}
	if (address != copy && inet_pton(AF_INET6, address, &listen->v6.sin6_addr) == 1) {
		listen->v6.sin6_family = AF_INET6;
		listen->v6.sin6_port = htons((uint16_t)port);
		listen->length = sizeof(listen->v6);
		listen->loopback = IN6_IS_ADDR_LOOPBACK(&listen->v6.sin6_addr);
		return 0;
	}
	return -EINVAL;
}

int listen_assign(char to[static CONFIG_LISTEN_ROOM], const char *key, const char *value,
		  struct error *err)
{
	struct config_listen listen;

	if (config_parse_listen(value, &listen))
		return config_bad_value(err, key, value, "give an address in numbers and a port, "
					"like 127.0.0.1:9746 or [::1]:9746");
	strcpy(to, value);
	return 0;
}

/* Only now, for the keys come in any order. */
int listen_check(const struct config *config, const char *path, struct error *err)
{
	struct config_listen listen;

	if (!*config->agent.metrics_listen || config->agent.metrics_public ||
	    config_parse_listen(config->agent.metrics_listen, &listen) || listen.loopback)
		return 0;
	return error_set_exit(err, EXIT_USAGE, -EINVAL, "%s: metrics_listen = %s: this is no "
			      "loopback address, and whoever reaches it could read the names and "
			      "states of all volumes; give 127.0.0.1 or [::1], or say "
			      "metrics_public = yes", path, config->agent.metrics_listen);
}
