/* mount, umount: a recovery point's files, to look into. */
#include "agent/cli/cli.h"

#include "agent/base/cleanup.h"
#include "agent/base/interrupt.h"
#include "agent/base/log.h"
#include "agent/serve/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct mount {
	bool foreground;
	const char *options;
	uint64_t cache_bytes;
};

static struct mount *of(struct cli *cli)
{
	return cli->settings;
}

static int take_options(struct cli *cli, const char *value, struct error *err)
{
	(void)err;
	of(cli)->options = value;
	return 0;
}

static int take_cache(struct cli *cli, const char *value, struct error *err)
{
	if (config_parse_bytes(value, &of(cli)->cache_bytes))
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "\"%s\" is no number of bytes, as "
				      "256M", value);
	return 0;
}

static int folder_find(const char *text, char folder[static PATH_MAX], struct error *err)
{
	return realpath(text, folder) ? 0 : error_set(err, -errno, "the folder %s: %s", text,
						      error_text(errno));
}

static int mount_say(struct cli *cli, const struct cli_origin *origin, const char *folder,
		     struct error *err)
{
	const struct point *point = &origin->point;

	if (cli->json)
		return cli_print_json(json_pack("{s:s, s:s, s:I, s:o, s:s}", "message_type", "ready",
						"volume", point->volume_name, "point",
						(json_int_t)point->number, "time",
						cli_time_json(point->time_ns), "folder", folder),
				      true, err);
	printf("%s@%" PRIu64 " (%s) is at %s, read-only; clawback umount %s ends that\n",
	       point->volume_name, point->number, text_time(point->time_ns), folder, folder);
	fflush(stdout);
	return 0;
}

/* Mounts, tells by `told` (-1: nobody) how that went, and stays until it is unmounted. */
static int mount_stay(struct cli *cli, const struct mount_options *options,
		      const struct cli_origin *origin, int told, struct error *err)
{
	struct error waiting = ERROR_INIT;
	struct mounted *mounted;
	int ret = mounted_start(options, &mounted, err);

	if (told >= 0) {
		if (write(told, err, sizeof(*err)) != sizeof(*err))
			ret = ret ? ret : -EPIPE;
		close(told);
	} else if (!ret) {
		ret = mount_say(cli, origin, options->folder, err);
	}
	if (!mounted)
		return ret;
	if (!ret)
		ret = mounted_wait(mounted, &waiting);
	if (ret && waiting.code)
		*err = waiting;
	/* Who is asked to go goes when he can. */
	while (mounted_stop(mounted, &waiting) == -EBUSY) {
		log_warning("%s", waiting.message);
		sleep(1);
	}
	return ret;
}

/* Nobody reads the terminal's any more. */
static void background_quiet(int log)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	setsid();
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	dup2(log, STDERR_FILENO);
	close(null);
}

/* What was said, from `from` on: why it did not come up. */
static void background_told(int log, off_t from)
{
	char text[512];
	ssize_t got;

	while ((got = pread(log, text, sizeof(text), from)) > 0) {
		fwrite(text, 1, (size_t)got, stderr);
		from += got;
	}
}

/* The child's error, 0 when it stays. */
static int background_hear(int fd, pid_t child, struct error *err)
{
	ssize_t got;

	do {
		got = read(fd, err, sizeof(*err));
	} while (got < 0 && errno == EINTR && !interrupt_requested());
	if (interrupt_check(err)) {
		kill(child, SIGTERM);
		return err->code;
	}
	return got == (ssize_t)sizeof(*err) ? err->code :
	       error_set(err, -EIO, "the process that was to mount ended");
}

static int mount_background(struct cli *cli, const struct mount_options *options,
			    const struct cli_origin *origin, struct error *err)
{
	CLEANUP_CLOSE int log = mounted_log(options->folder, err);
	off_t from = log < 0 ? 0 : lseek(log, 0, SEEK_END);
	int fds[2], ret;
	pid_t child;

	if (log < 0)
		return err->code;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_set(err, -errno, "mounting: %s", error_text(errno));
	fflush(stdout);
	child = fork();
	if (!child) {
		struct error own = ERROR_INIT;

		close(fds[0]);
		background_quiet(log);
		ret = mount_stay(cli, options, origin, fds[1], &own);
		if (ret)
			log_error("%s", own.message);
		_exit(ret ? (int)own.exit : EXIT_DONE);
	}
	close(fds[1]);
	ret = child < 0 ? error_set(err, -errno, "mounting: %s", error_text(errno)) :
			  background_hear(fds[0], child, err);
	close(fds[0]);
	if (ret)
		background_told(log, from);
	return ret ? ret : mount_say(cli, origin, options->folder, err);
}

static int mount_run(struct cli *cli, struct error *err)
{
	struct mount *mount = of(cli);
	struct cli_origin origin = { .recovery = NULL };
	struct cli_serving serving = { .count = 0 };
	char folder[PATH_MAX];
	struct mount_options options = { .folder = folder, .options = mount->options };
	int ret = cli_need_root("mount", err);

	if (!ret)
		ret = folder_find(cli->arguments[1], folder, err);
	if (!ret)
		ret = cli_run_folder(err);
	if (!ret)
		cli_split_point(cli->arguments[0], &origin.which);
	if (!ret)
		ret = cli_origin_open(cli, false, &origin, err);
	if (!ret)
		ret = cli_serving_init(&serving, cli, &origin, err);
	if (!ret && mount->cache_bytes)
		ret = cli_serving_add(&serving, err, "cache=%" PRIu64, mount->cache_bytes);
	recovery_private_free(origin.recovery);
	origin.recovery = NULL;
	options.settings = (const char *const *)serving.settings;
	if (!ret)
		ret = mount->foreground ? mount_stay(cli, &options, &origin, -1, err) :
					  mount_background(cli, &options, &origin, err);
	cli_serving_fini(&serving);
	cli_origin_close(&origin);
	return ret;
}

static const struct cli_option mount_options[] = {
	CLI_FLAG("foreground", 0, "stay; unmount at SIGTERM or SIGINT",
		 struct mount, foreground),
	CLI_TAKE("mount-options", 0, "OPTIONS", "more of mount(8)'s -o", take_options),
	CLI_TAKE("cache", 0, "BYTES", "memory for what was read; default 256M", take_cache),
	CLI_TAKE("store", 0, "NAME", "from this store; default the first that has all of it", cli_take_store),
	CLI_KEY,
	{ .name = NULL },
};

const struct cli_verb verb_mount = {
	.name = "mount",
	.arguments = "VOLUME[@POINT] FOLDER",
	.summary = "Show the files of a recovery point, without restoring it",
	.options = mount_options,
	.settings_size = sizeof(struct mount),
	.minimum = 2,
	.maximum = 2,
	.run = mount_run,
};

/* ---- umount ------------------------------------------------------------------------ */

static int umount_run(struct cli *cli, struct error *err)
{
	char folder[PATH_MAX];
	int ret = cli_need_root("umount", err);

	if (!ret)
		ret = folder_find(cli->arguments[0], folder, err);
	return ret ? ret : mounted_end(folder, err);
}

const struct cli_verb verb_umount = {
	.name = "umount",
	.arguments = "FOLDER",
	.summary = "End a clawback mount, alive or left by a dead one",
	.minimum = 1,
	.maximum = 1,
	.no_config = true,
	.run = umount_run,
};
