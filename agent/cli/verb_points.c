/* points and show: what can be restored. Needs no key. */
#include "agent/cli/cli.h"

#include "agent/base/cleanup.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

static void points_row(const struct point *point, bool pinned)
{
	printf("%8" PRIu64 "  %-20s  %-11s  %-11s  %10s  %10s%s\n", point->number,
	       text_time(point->time_ns), point_kind_name(point->kind),
	       point_consistency_name(point->consistency), text_bytes(point->marked_bytes),
	       text_bytes(point->stored_bytes), pinned ? "  pinned" : "");
}

static void points_show(const struct cli *cli, const struct point *point, bool pinned,
			json_t *list)
{
	json_t *object = cli->json ? cli_point_json(point) : NULL;

	if (!cli->json)
		points_row(point, pinned);
	else if (object && !json_object_set_new(object, "pinned", json_boolean(pinned)))
		json_array_append_new(list, object);
	else
		json_decref(object);
}

static int points_each(struct cli *cli, struct host *host, const struct repo_volume *volume,
		       json_t *list, struct error *err)
{
	CLEANUP_FREE uint64_t *numbers = NULL;
	struct retention retention;
	size_t count = 0;
	int ret = retention_load(host->repo, &volume->id, &retention, err);

	if (ret)
		return ret;
	ret = point_numbers(host->repo, &volume->id, &numbers, &count, err);
	if (!ret && !cli->json)
		printf("%8s  %-20s  %-11s  %-11s  %10s  %10s\n", "POINT", "TIME", "KIND",
		       "CONSISTENCY", "MARKED", "STORED");
	for (size_t i = 0; !ret && i < count; i++) {
		struct point point;

		ret = point_load(host->repo, &volume->id, numbers[i], &point, err);
		if (ret)
			break;
		points_show(cli, &point, extent_list_contains(&retention.pinned, point.number),
			    list);
		point_fini(&point);
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
		if (cli->json)
			ret = cli_print_json(cli_point_json(&point), false, err);
		else
			show_print(&point);
		point_fini(&point);
	}
	host_close(&host);
	return ret;
}

static const struct cli_option points_options[] = { CLI_STORE, { .name = NULL } };

const struct cli_verb verb_points = {
	.name = "points",
	.arguments = "[VOLUME]",
	.summary = "List a volume's recovery points; without one, the volumes",
	.options = points_options,
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
