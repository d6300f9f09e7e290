/* points and show: what can be restored. Needs no key. */
#include "agent/cli/show_disk.h"

#include "agent/base/cleanup.h"
#include "agent/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct points {
	uint64_t last;			/* 0: all */
	uint64_t since_ns;
};

static struct points *of(struct cli *cli)
{
	return cli->settings;
}

static int take_last(struct cli *cli, const char *value, struct error *err)
{
	char *end;

	errno = 0;
	of(cli)->last = strtoull(value, &end, 10);
	return errno || *end || *value < '1' || *value > '9' ?
	       error_set_exit(err, EXIT_USAGE, -EINVAL, "\"%.40s\" is no number of points",
			      value) : 0;
}

static int take_since(struct cli *cli, const char *value, struct error *err)
{
	uint64_t end_ns;

	return point_time_parse(value, &of(cli)->since_ns, &end_ns) ? 0 :
	       error_set_exit(err, EXIT_USAGE, -EINVAL, "\"%.40s\" is no UTC time like "
			      "2026-11-23T20:15:00Z", value);
}

/* What is listed, and as what. */
struct listing {
	const struct retention *retention;
	json_t *list;
};

static void points_row(const struct listing *listing, const struct point_facts *facts)
{
	bool pinned = extent_list_contains(&listing->retention->pinned, facts->number);

	printf("%8" PRIu64 "  %-20s  %-11s  %-11s  %10s  %10s%s\n", facts->number,
	       text_time(facts->time_ns), point_kind_name(facts->kind),
	       point_consistency_name(facts->consistency), text_bytes(facts->marked_bytes),
	       text_bytes(facts->stored_bytes), pinned ? "  pinned" : "");
}

static int points_object(void *context, const struct point *point, struct error *err)
{
	const struct listing *listing = context;
	json_t *object = cli_point_json(point);
	bool pinned = extent_list_contains(&listing->retention->pinned, point->number);

	(void)err;
	if (object && !json_object_set_new(object, "pinned", json_boolean(pinned)))
		json_array_append_new(listing->list, object);
	else
		json_decref(object);
	return 0;
}

/* All that a manifest says is for JSON; a list makes do with what is remembered. */
static int points_print(struct cli *cli, struct host *host, const struct repo_volume *volume,
			struct listing *listing, const uint64_t *numbers, size_t count,
			struct error *err)
{
	CLEANUP_FREE struct point_facts *facts = NULL;
	CLEANUP_FREE uint64_t *chosen = calloc(count + 1, sizeof(*chosen));
	char path[PATH_MAX];
	size_t n = 0;
	int ret;

	if (!chosen)
		return error_set(err, -ENOMEM, "listing points: out of memory");
	/* Looking writes nothing: what forget remembered is made use of. */
	protect_facts_path(&cli->config, &volume->id, path);
	if (!cli->json || of(cli)->since_ns) {
		ret = point_facts_load(host->repo, &volume->id, numbers, count,
				       of(cli)->last ? NULL : path, false, &facts, err);
		if (ret)
			return ret;
	}
	if (!cli->json)
		printf("%8s  %-20s  %-11s  %-11s  %10s  %10s\n", "POINT", "TIME", "KIND",
		       "CONSISTENCY", "MARKED", "STORED");
	for (size_t i = 0; i < count; i++) {
		if (facts && facts[i].time_ns < of(cli)->since_ns)
			continue;
		chosen[n++] = numbers[i];
		if (!cli->json)
			points_row(listing, &facts[i]);
	}
	return !cli->json ? 0 : points_load(host->repo, &volume->id, chosen, n, points_object,
					    listing, err);
}

static int points_each(struct cli *cli, struct host *host, const struct repo_volume *volume,
		       json_t *list, struct error *err)
{
	CLEANUP_FREE uint64_t *numbers = NULL;
	uint64_t last = of(cli)->last;
	struct retention retention;
	struct listing listing = { &retention, list };
	size_t count = 0, skip;
	int ret = retention_load(host->repo, &volume->id, &retention, err);

	if (ret)
		return ret;
	ret = point_numbers(host->repo, &volume->id, &numbers, &count, err);
	if (!ret) {
		skip = last && last < count ? count - last : 0;
		ret = points_print(cli, host, volume, &listing, numbers + skip, count - skip, err);
	}
	retention_fini(&retention);
	return ret;
}

static int volumes_list(struct cli *cli, struct host *host, struct error *err)
{
	CLEANUP_FREE struct repo_volume *volumes = NULL;
	json_t *list = json_array();
	size_t count;
	int ret = repo_volumes(host->repo, &volumes, &count, err);

	for (size_t i = 0; !ret && i < count; i++) {
		char id[UUID_TEXT_SIZE];

		uuid_format(&volumes[i].id, id);
		if (cli->json)
			json_array_append_new(list, json_pack("{s:s, s:s}", "name",
							      volumes[i].name, "volume_id", id));
		else
			printf("%s  %s\n", id, volumes[i].name);
	}
	if (!ret && cli->json)
		return cli_print_json(json_pack("{s:o}", "volumes", list), false, err);
	json_decref(list);
	return ret;
}

static int points_run(struct cli *cli, struct error *err)
{
	struct host host;
	struct repo_volume volume;
	json_t *list = NULL;
	int ret = cli_host_open(cli, 0, &host, err);

	if (ret)
		return ret;
	if (!cli->argument_count) {
		ret = volumes_list(cli, &host, err);
		host_close(&host);
		return ret;
	}
	ret = repo_volume_find(host.repo, cli->arguments[0], &volume, err);
	list = json_array();
	if (!ret)
		ret = points_each(cli, &host, &volume, list, err);
	if (!ret && cli->json)
		ret = cli_print_json(json_pack("{s:s, s:o, s:O}", "volume", volume.name,
					       "volume_id", cli_uuid_json(&volume.id),
					       "points", list), false, err);
	json_decref(list);
	host_close(&host);
	return ret;
}

static void show_print(const struct point *point)
{
	char id[UUID_TEXT_SIZE], signer[CRYPTO_FINGERPRINT_TEXT], hash[65];

	uuid_format(&point->volume, id);
	key_fingerprint(point->signer.key, signer);
	hex_encode(point->hash, sizeof(point->hash), hash);
	printf("point %" PRIu64 " of %s (%s)\n", point->number, point->volume_name, id);
	printf("  time         %s, committed %s\n", text_time(point->time_ns),
	       text_time(point->committed_ns));
	printf("  kind         %s", point_kind_name(point->kind));
	if (point->full)
		printf(" since point %" PRIu64, point->full);
	printf("%s%s\n", *point->reason ? ": " : "", point->reason);
	printf("  consistency  %s\n", point_consistency_name(point->consistency));
	printf("  parent       %" PRIu64 ", base %" PRIu64 ", %u maps away\n", point->parent,
	       point->base, point->depth);
	printf("  volume       %s, %s on %s%s%s\n", text_bytes(point->volume_bytes), point->device,
	       point->host, *point->dm_targets ? ", device-mapper " : "", point->dm_targets);
	printf("  work         marked %s, read %s, data %s, zero %s\n",
	       text_bytes(point->marked_bytes), text_bytes(point->read_bytes),
	       text_bytes(point->data_bytes), text_bytes(point->zero_bytes));
	printf("  stored       %s in %zu segments%s, map %s\n", text_bytes(point->stored_bytes),
	       point->segment_count, point->frames_inline ? " (inside the point object)" : "",
	       text_bytes(point->map_bytes));
	printf("  manifest     %s, signed by %.16s...\n", hash, signer);
	for (size_t i = 0; i < point->wrap_count; i++) {
		char recipient[CRYPTO_FINGERPRINT_TEXT];

		key_fingerprint(point->wraps[i].recipient.key, recipient);
		printf("  sealed to    %s\n", recipient);
	}
	if (point->has_image_sha256) {
		hex_encode(point->image_sha256, sizeof(point->image_sha256), hash);
		printf("  image        sha256 %s\n", hash);
	}
}

/* The manifest's own words; they were made for machines. */
static json_t *show_json(const struct point *point)
{
	json_t *object = cli_point_json(point);
	json_error_t ignored;

	if (object && point->disk_layout)
		json_object_set_new(object, "disk", json_loads(point->disk_layout, 0, &ignored));
	return object;
}

static void show_layout(const struct point *point)
{
	struct error err = ERROR_INIT;
	struct disk_layout layout;

	if (!point->disk_layout)
		return;
	if (disk_layout_decode(point->disk_layout, strlen(point->disk_layout), &layout, &err)) {
		log_warning("%s", err.message);
		return;
	}
	show_disk(&layout);
	disk_layout_fini(&layout);
}

static int show_point(struct cli *cli, struct repo *repo, const struct point *point,
		      struct error *err)
{
	json_t *object;

	if (!cli->json) {
		show_print(point);
		show_layout(point);
		cli_drills_print(repo, point);
		return 0;
	}
	object = show_json(point);
	if (object)
		json_object_set_new(object, "drills", cli_drills_json(repo, point));
	return cli_print_json(object, false, err);
}

static int show_run(struct cli *cli, struct error *err)
{
	struct host host;
	struct repo_volume volume;
	struct point point;
	const char *which;
	int ret = cli_host_open(cli, 0, &host, err);

	if (ret)
		return ret;
	cli_split_point(cli->arguments[0], &which);
	ret = repo_volume_find(host.repo, cli->arguments[0], &volume, err);
	if (!ret)
		ret = point_find(host.repo, &volume.id, which, &point, err);
	if (!ret) {
		ret = show_point(cli, host.repo, &point, err);
		point_fini(&point);
	}
	host_close(&host);
	return ret;
}

static const struct cli_option points_options[] = {
	CLI_TAKE("last", 0, "N", "only the N newest", take_last),
	CLI_TAKE("since", 0, "TIME", "only those of that UTC time or later", take_since),
	CLI_STORE,
	{ .name = NULL },
};

const struct cli_verb verb_points = {
	.name = "points",
	.arguments = "[VOLUME]",
	.summary = "List a volume's recovery points; without one, the volumes",
	.options = points_options,
	.settings_size = sizeof(struct points),
	.maximum = 1,
	.run = points_run,
};

const struct cli_verb verb_show = {
	.name = "show",
	.arguments = "VOLUME[@POINT]",
	.summary = "Show one recovery point in detail",
	.options = points_options,
	.minimum = 1,
	.maximum = 1,
	.run = show_run,
};
