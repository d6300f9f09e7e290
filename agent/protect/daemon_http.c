/* Metrics over HTTP: from the configuration to the process that answers. */
#include "agent/protect/daemon.h"

#include "agent/base/cleanup.h"
#include "agent/base/log.h"
#include "agent/protect/http_server.h"

#include <string.h>

/* Once is over before anybody asks. */
int daemon_http_take(struct daemon *daemon, const struct config *config, struct error *err)
{
	const char *wanted = config->agent.metrics_listen;
	struct http_server *server = NULL;
	int ret;

	if (daemon->options->once || !strcmp(wanted, http_server_address(daemon->http)))
		return 0;
	ret = *wanted ? http_server_start(wanted, &server, err) : 0;
	if (ret)
		return ret;
	http_server_stop(daemon->http);
	daemon->http = server;
	return 0;
}

void daemon_http_turn(struct daemon *daemon)
{
	struct error err = ERROR_INIT;

	if (daemon->http && http_server_turn(daemon->http, daemon->now.boot_ns, &err))
		log_warning("%s", err.message);
}

void daemon_http_close(struct daemon *daemon)
{
	http_server_stop(STEAL(daemon->http));
}
