/* serve: a recovery point as a network block device, at once. */
#include "agent/cli/cli.h"

#include "agent/base/interrupt.h"
#include "agent/base/log.h"
#include "agent/serve/serve.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define STOP_PATIENCE_NS (60 * UINT64_C(1000000000))

struct serve {
	const char *socket, *overlay, *present;
	bool has_port, force, fill, until_filled;
	uint16_t port;
	uint64_t cache_bytes, fill_rate;
	struct progress progress;
	/* while it runs */
	char uri[PATH_MAX];
	bool filled;
	uint64_t fetches, fetched_bytes, told_fetches, told_bytes;
};

static struct serve *of(struct cli *cli)
{
	return cli->settings;
}

/* ---- options -------------------------------------------------------------------- */

static int take_socket(struct cli *cli, const char *value, struct error *err)
{
	(void)err;
	of(cli)->socket = value;
	return 0;
}

static int take_port(struct cli *cli, const char *value, struct error *err)
{
	char *end;
	unsigned long port = strtoul(value, &end, 10);

	if (!*value || *end || *value == '-' || port > UINT16_MAX)
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "\"%s\" is no port", value);
	of(cli)->has_port = true;
	of(cli)->port = (uint16_t)port;
	return 0;
}

static int take_overlay(struct cli *cli, const char *value, struct error *err)
{
	(void)err;
	of(cli)->overlay = value;
	return 0;
}

static int take_present(struct cli *cli, const char *value, struct error *err)
{
	(void)err;
	of(cli)->present = value;
	return 0;
}

static int take_bytes(uint64_t *bytes, const char *value, struct error *err)
{
	if (config_parse_bytes(value, bytes) || !*bytes)
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "\"%s\" is no number of bytes, as "
				      "256M", value);
	return 0;
}

static int take_cache(struct cli *cli, const char *value, struct error *err)
{
	return take_bytes(&of(cli)->cache_bytes, value, err);
}

static int take_fill_rate(struct cli *cli, const char *value, struct error *err)
{
	return take_bytes(&of(cli)->fill_rate, value, err);
}

static int serve_check(const struct serve *serve, struct error *err)
{
	struct stat st;

	if (serve->socket && serve->has_port)
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "give --socket or --port, not both");
	if ((serve->fill || serve->present || serve->force) && !serve->overlay)
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "--fill, --present and --force go "
				      "with --overlay FILE|DEVICE: what is to be filled");
	if ((serve->fill_rate || serve->until_filled) && !serve->fill)
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "--fill-rate and --until-filled go "
				      "with --fill");
	if (serve->overlay && !serve->present && !stat(serve->overlay, &st) && S_ISBLK(st.st_mode))
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "%s is a device: say with --present "
				      "FILE where to note which blocks are in it, and name the "
				      "same file when you serve it again", serve->overlay);
	return 0;
}

/* ---- starting ---------------------------------------------------------------------- */

static int serve_settings(struct cli *cli, struct cli_serving *serving,
			  const struct cli_origin *origin, struct error *err)
{
	const struct serve *serve = of(cli);
	int ret = cli_serving_init(serving, cli, origin, err);

	if (!ret && serve->cache_bytes)
		ret = cli_serving_add(serving, err, "cache=%" PRIu64, serve->cache_bytes);
	if (ret || !serve->overlay)
		return ret;
	ret = cli_serving_add(serving, err, "target=%s", serve->overlay);
	if (!ret)
		ret = cli_serving_add(serving, err, "present=%s%s",
				      serve->present ? serve->present : serve->overlay,
				      serve->present ? "" : ".present");
	if (!ret && serve->force)
		ret = cli_serving_add(serving, err, "force=1");
	if (!ret && serve->fill)
		ret = cli_serving_add(serving, err, "fill=1");
	if (!ret && serve->fill_rate)
		ret = cli_serving_add(serving, err, "fill-rate=%" PRIu64, serve->fill_rate);
	return ret;
}

static int serve_start(struct cli *cli, const struct cli_origin *origin, struct server **server,
		       struct error *err)
{
	struct serve *serve = of(cli);
	struct server_options options = {
		.socket = serve->socket, .port = serve->port, .read_only = !serve->overlay,
	};
	struct cli_serving serving;
	char path[PATH_MAX];
	int ret = 0;

	if (!options.socket && !serve->has_port) {
		ret = cli_run_folder(err);
		if (ret)
			return ret;
		snprintf(path, sizeof(path), CLI_RUN_FOLDER "/%s@%" PRIu64 ".sock",
			 origin->point.volume_name, origin->point.number);
		options.socket = path;
	}
	ret = serve_settings(cli, &serving, origin, err);
	options.settings = (const char *const *)serving.settings;
	if (!ret)
		ret = server_start(&options, server, err);
	cli_serving_fini(&serving);
	return ret;
}

/* ---- while it runs ------------------------------------------------------------------- */

static int serve_say(struct cli *cli, const struct cli_origin *origin, const char *type,
		     struct error *err)
{
	const struct serve *serve = of(cli);
	const struct point *point = &origin->point;

	if (cli->json)
		return cli_print_json(json_pack(
			"{s:s, s:s, s:I, s:o, s:s, s:I, s:b, s:s?, s:b, s:I, s:I}",
			"message_type", type, "volume", point->volume_name,
			"point", (json_int_t)point->number, "time", cli_time_json(point->time_ns),
			"uri", serve->uri, "volume_bytes", (json_int_t)point->volume_bytes,
			"read_only", !serve->overlay, "overlay", serve->overlay,
			"complete", (int)serve->filled, "fetches", (json_int_t)serve->fetches,
			"fetched_bytes", (json_int_t)serve->fetched_bytes), true, err);
	if (!strcmp(type, "ready"))
		printf("serving %s@%" PRIu64 " (%s, %s) at %s, %s%s\n", point->volume_name,
		       point->number, text_time(point->time_ns), text_bytes(point->volume_bytes),
		       serve->uri, serve->overlay ? "writes go to " : "read-only",
		       serve->overlay ? serve->overlay : "");
	else if (!strcmp(type, "complete"))
		printf("%s is complete: the store is not needed any more\n", serve->overlay);
	else
		printf("served %s@%" PRIu64 ": %s fetched in %" PRIu64 " reads%s%s%s\n",
		       point->volume_name, point->number, text_bytes(serve->fetched_bytes),
		       serve->fetches, serve->filled ? "; " : "",
		       serve->filled ? serve->overlay : "",
		       serve->filled ? " is the volume now" : "");
	fflush(stdout);
	return 0;
}

/* With --json at each event that has something new, else as progress of the fill. */
static int serve_progress(struct cli *cli, const struct server_event *event, struct error *err)
{
	struct serve *serve = of(cli);
	bool fills = serve->fill && !serve->filled;

	if (!cli->json) {
		if (fills)
			progress_report(&serve->progress, event->done_bytes, event->total_bytes);
		return 0;
	}
	if (event->fetches == serve->told_fetches && event->done_bytes == serve->told_bytes)
		return 0;
	serve->told_fetches = event->fetches;
	serve->told_bytes = event->done_bytes;
	return cli_print_json(json_pack(
		"{s:s, s:s, s:I, s:I, s:f, s:I, s:I}", "message_type", "status", "what",
		fills ? "filling" : "serving", "done_bytes", (json_int_t)event->done_bytes,
		"total_bytes", (json_int_t)event->total_bytes, "fraction", event->total_bytes ?
		(double)event->done_bytes / (double)event->total_bytes : 0.0,
		"fetches", (json_int_t)event->fetches,
		"fetched_bytes", (json_int_t)event->fetched_bytes), true, err);
}

static int serve_take(struct cli *cli, const struct cli_origin *origin,
		      const struct server_event *event, struct error *err)
{
	struct serve *serve = of(cli);

	serve->fetches = event->fetches;
	serve->fetched_bytes = event->fetched_bytes;
	switch (event->kind) {
	case SERVER_PROGRESS:
		return serve_progress(cli, event, err);
	case SERVER_COMPLETE:
		serve->filled = true;
		progress_end(&serve->progress);
		return serve_say(cli, origin, "complete", err);
	case SERVER_FAILED:	/* of the fill; what is served goes on being served */
		progress_end(&serve->progress);
		if (serve->until_filled)
			return event->error.code;
		log_error("%s", event->error.message);
		*err = (struct error)ERROR_INIT;
		return 0;
	default:
		return 0;
	}
}

static int serve_watch(struct cli *cli, const struct cli_origin *origin, struct server *server,
		       struct error *err)
{
	struct serve *serve = of(cli);
	struct server_event event;

	while (!interrupt_requested() && !(serve->filled && serve->until_filled)) {
		struct pollfd poll_fd = { .fd = server_fd(server), .events = POLLIN };
		int ret;

		if (poll(&poll_fd, 1, -1) <= 0)
			continue;
		ret = server_event(server, &event, err);
		if (ret == -EAGAIN)
			continue;
		if (!ret)
			ret = serve_take(cli, origin, &event, err);
		if (ret)
			return ret;
	}
	return 0;
}

/* Ends it, and says what it was; the first failure counts. */
static int serve_end(struct cli *cli, const struct cli_origin *origin, struct server *server,
		     int ret, struct error *err)
{
	struct serve *serve = of(cli);
	struct server_event last = { .kind = 0 };
	struct error stopping = ERROR_INIT;

	if (server_stop(server, STOP_PATIENCE_NS, &last, &stopping) && !ret) {
		*err = stopping;
		ret = stopping.code;
	}
	if (last.kind) {
		serve->fetches = last.fetches;
		serve->fetched_bytes = last.fetched_bytes;
		serve->filled |= last.total_bytes && last.done_bytes == last.total_bytes;
	}
	return ret ? ret : serve_say(cli, origin, "summary", err);
}

static int serve_run(struct cli *cli, struct error *err)
{
	struct serve *serve = of(cli);
	struct cli_origin origin = { .recovery = NULL };
	struct server *server = NULL;
	int ret = serve_check(serve, err);

	if (!ret)
		cli_split_point(cli->arguments[0], &origin.which);
	if (!ret)
		ret = cli_origin_open(cli, false, &origin, err);
	if (!ret)
		ret = serve_start(cli, &origin, &server, err);
	/* The server has its own. */
	recovery_private_free(origin.recovery);
	origin.recovery = NULL;
	if (!ret) {
		snprintf(serve->uri, sizeof(serve->uri), "%s", server_uri(server));
		progress_start(&serve->progress, cli->json, "filling %s", serve->overlay);
		ret = serve_say(cli, &origin, "ready", err);
		if (!ret)
			ret = serve_watch(cli, &origin, server, err);
		progress_end(&serve->progress);
		ret = serve_end(cli, &origin, server, ret, err);
	}
	cli_origin_close(&origin);
	return ret;
}

static const struct cli_option serve_options[] = {
	CLI_TAKE("socket", 0, "PATH", "serve at this Unix socket; default " CLI_RUN_FOLDER "/VOLUME@N.sock", take_socket),
	CLI_TAKE("port", 0, "N", "serve at this TCP port of 127.0.0.1; 0: any", take_port),
	CLI_TAKE("overlay", 0, "FILE|DEVICE", "writes go there; else nobody can write", take_overlay),
	CLI_TAKE("present", 0, "FILE", "which blocks are there; default FILE.present", take_present),
	CLI_FLAG("force", 0, "begin on a device that has something on it",
		 struct serve, force),
	CLI_FLAG("fill", 0, "copy all into the overlay meanwhile",
		 struct serve, fill),
	CLI_TAKE("fill-rate", 0, "BYTES", "at most so much a second", take_fill_rate),
	CLI_FLAG("until-filled", 0, "end when all is there",
		 struct serve, until_filled),
	CLI_TAKE("cache", 0, "BYTES", "memory for what was read; default 256M", take_cache),
	CLI_TAKE("store", 0, "NAME", "from this store; default the first that has all of it", cli_take_store),
	CLI_KEY,
	{ .name = NULL },
};

const struct cli_verb verb_serve = {
	.name = "serve",
	.arguments = "VOLUME[@POINT]",
	.summary = "Serve a recovery point as a disk, over NBD, without restoring it",
	.options = serve_options,
	.settings_size = sizeof(struct serve),
	.minimum = 1,
	.maximum = 1,
	.run = serve_run,
};
