/*
 * The nbdkit plugin: a shared object of the program's own rooms, which a `clawback serve`
 * starts in an nbdkit of its own (agent/serve/server.c). What to serve it is told by the
 * socket whose descriptor is its only parameter; there it says when it is ready, how far
 * it is, and what went wrong. The recovery key is forgotten as soon as the point is open:
 * what stays are the keys of this point's frames.
 */
#include "agent/nbd/nbd_private.h"

#include "agent/base/interrupt.h"
#include "agent/base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
#define TICK_MS 1000
#define OVERRIDES_MAX 64

struct served served = { .control_fd = -1 };

/* ---- telling ------------------------------------------------------------------------ */

static void tell(enum server_event_kind kind, uint64_t done, uint64_t total,
		 const struct error *err)
{
	struct server_event event = { .kind = kind, .done_bytes = done, .total_bytes = total };
	struct point_reader_counts counts;

	if (served.reader) {
		point_reader_counts(served.reader, &counts);
		event.fetches = counts.fetches;
		event.fetched_bytes = counts.fetched_bytes;
	}
	if (err)
		event.error = *err;
	if (served.control)
		control_tell(served.control, &event);
}

static void tell_progress(void)
{
	struct overlay_counts counts = { .present_blocks = 0 };

	if (served.overlay)
		overlay_counts(served.overlay, &counts);
	tell(SERVER_PROGRESS, counts.present_blocks * BLOCK_BYTES, counts.blocks * BLOCK_BYTES,
	     NULL);
}

static int fail(const struct error *err)
{
	tell(SERVER_FAILED, 0, 0, err);
	nbdkit_debug("%s", err->message);
	return -1;
}

static void fill_ended(void *context, int ret, const struct error *err)
{
	(void)context;
	if (ret)
		tell(SERVER_FAILED, 0, 0, err);
	else
		tell(SERVER_COMPLETE, 0, 0, NULL);
}

/* Tells how far it is; and when nobody is there to be told, ends all. */
static void *tick(void *argument)
{
	(void)argument;
	while (!control_gone(served.control, TICK_MS)) {
		if (__atomic_load_n(&served.ended, __ATOMIC_ACQUIRE))
			return NULL;
		tell_progress();
	}
	interrupt_deadline(1);
	nbdkit_shutdown();
	return NULL;
}

/* ---- opening --------------------------------------------------------------------------- */

static const char *setting(const char *name)
{
	return control_setting(served.control, name, 0);
}

static uint64_t setting_number(const char *name)
{
	const char *value = setting(name);

	return value ? strtoull(value, NULL, 10) : 0;
}

static int open_config(struct error *err)
{
	const char *overrides[OVERRIDES_MAX];
	size_t count = 0;
	int ret;

	while (count < OVERRIDES_MAX &&
	       (overrides[count] = control_setting(served.control, "option", count)))
		count++;
	if (!setting("config"))
		return error_set(err, -EPROTO, "this plugin was told nothing to serve");
	ret = config_load(setting("config"), setting("config-given"), overrides, count,
			  &served.config, err);
	log_set_format((enum log_format)setting_number("log-format"));
	log_set_level((enum log_level)setting_number("log-level"));
	return ret;
}

static int open_key(struct recovery_private **recovery, struct error *err)
{
	uint8_t key[CRYPTO_KEY_SIZE];
	const char *hex = setting("key");
	int ret;

	if (!hex || hex_decode(hex, key, sizeof(key)))
		return error_set_exit(err, EXIT_WRONG_KEY, -ENOKEY, "no recovery key was handed on");
	ret = recovery_private_set(key, recovery, err);
	crypto_wipe(key, sizeof(key));
	return ret;
}

static int open_point(struct error *err)
{
	const struct config_store *store = config_store(&served.config, setting("store"));
	struct point_reader_options options = { .cache_bytes = setting_number("cache") };
	struct recovery_private *recovery = NULL;
	struct key_ring ring;
	struct uuid volume;
	int ret;

	if (!store || !setting("volume") || uuid_parse(setting("volume"), &volume))
		return error_set(err, -EPROTO, "this plugin was told of no volume");
	ret = host_open_at(&served.config, store, HOST_LOOK, &served.host, err);
	if (!ret)
		ret = point_load(served.host.repo, &volume, setting_number("point"),
				 &served.point, err);
	if (!ret)
		ret = open_key(&recovery, err);
	if (!ret) {
		ring = (struct key_ring){ .recovery = recovery };
		ret = point_reader_open(served.host.repo, &served.point, &ring, &options,
					&served.reader, err);
	}
	recovery_private_free(recovery);
	return ret;
}

static int open_overlay(struct error *err)
{
	struct overlay_options options = {
		.target = setting("target"), .present = setting("present"),
		.force = setting("force"),
	};
	struct fill_options fill = {
		.bytes_per_second = setting_number("fill-rate"), .ended = fill_ended,
	};
	int ret;

	if (!options.target)
		return 0;
	ret = overlay_open(served.reader, &served.point, &options, &served.overlay, err);
	if (!ret && setting("fill"))
		ret = fill_start(served.overlay, &fill, &served.fill, err);
	return ret;
}

static void plugin_load(void)
{
	struct error err = ERROR_INIT;

	if (crypto_harden_process(&err))
		nbdkit_error("%s", err.message);
}

static int plugin_config(const char *key, const char *value)
{
	if (!strcmp(key, "control"))
		return nbdkit_parse_int(key, value, &served.control_fd);
	nbdkit_error("this plugin is started by clawback serve, and has no parameter %s", key);
	return -1;
}

/* Only now, as threads do not outlive a fork. */
static int plugin_after_fork(void)
{
	struct error err = ERROR_INIT;
	int ret;

	if (served.control_fd < 0) {
		nbdkit_error("this plugin is started by clawback serve, not by hand");
		return -1;
	}
	ret = control_open(served.control_fd, &served.control, &err);
	if (!ret)
		ret = open_config(&err);
	if (!ret)
		ret = open_point(&err);
	if (!ret)
		ret = open_overlay(&err);
	if (served.control)
		control_wipe(served.control);
	if (ret)
		return fail(&err);
	tell(SERVER_READY, 0, point_reader_bytes(served.reader), NULL);
	served.ticking = !pthread_create(&served.ticker, NULL, tick, NULL);
	return 0;
}

/* Nobody is connected any more. */
static void plugin_cleanup(void)
{
	struct error err = ERROR_INIT;

	__atomic_store_n(&served.ended, true, __ATOMIC_RELEASE);
	if (served.ticking)
		pthread_join(served.ticker, NULL);
	fill_stop(served.fill);
	tell_progress();
	if (overlay_close(served.overlay, &err))
		fail(&err);
	point_reader_close(served.reader);
	served.reader = NULL;
	point_fini(&served.point);
	host_close(&served.host);
	config_fini(&served.config);
	control_close(served.control);
	served.control = NULL;
}

/* ---- all of it ------------------------------------------------------------------------ */

static struct nbdkit_plugin plugin = {
	.name = "clawback",
	.longname = "clawback recovery point",
	.version = CLAWBACK_VERSION,
	.load = plugin_load,
	.config = plugin_config,
	.config_help = "started by clawback serve",
	.after_fork = plugin_after_fork,
	.cleanup = plugin_cleanup,
	.open = plugin_open,
	.get_size = plugin_get_size,
	.can_write = plugin_can_write,
	.can_flush = plugin_can_write,
	.can_fua = plugin_can_fua,
	.can_trim = plugin_can_write,
	.can_zero = plugin_can_write,
	.can_fast_zero = plugin_no,
	.can_multi_conn = plugin_yes,
	.can_extents = plugin_yes,
	.block_size = plugin_block_size,
	.pread = plugin_pread,
	.pwrite = plugin_pwrite,
	.zero = plugin_zero,
	.trim = plugin_trim,
	.flush = plugin_flush,
	.extents = plugin_extents,
	.errno_is_preserved = 0,
};

NBDKIT_REGISTER_PLUGIN(plugin)
