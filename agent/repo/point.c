/* What a point is called, what its words mean, and the keys of a new one. */
#include "agent/repo/point_format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *point_kind_name(enum point_kind kind)
{
	static const char *const names[] = {
		"full", "incremental", "differential", "synthetic",
	};

	return names[kind];
}

const char *point_consistency_name(enum point_consistency consistency)
{
	static const char *const names[] = {
		"crash", "frozen", "application", "unmounted",
	};

	return names[consistency];
}

void point_fini(struct point *point)
{
	free(point->segments);
	point->segments = NULL;
	free(point->disk_layout);
	point->disk_layout = NULL;
	point->segment_count = 0;
}

void point_clock_steps(struct point *point, const struct point *before)
{
	size_t count = before->clock_step_count;
	bool step = point->time_ns < before->time_ns;
	size_t skip = step && count == POINT_CLOCK_STEPS_MAX;

	memcpy(point->clock_steps, before->clock_steps + skip,
	       (count - skip) * sizeof(*point->clock_steps));
	point->clock_step_count = count - skip;
	if (step)
		point->clock_steps[point->clock_step_count++] = point->number;
}

void point_key(const struct uuid *volume, uint64_t number,
	       char key[static STORE_KEY_MAX])
{
	char id[UUID_TEXT_SIZE];

	uuid_format(volume, id);
	snprintf(key, STORE_KEY_MAX, "%s/points/%010" PRIu64, id, number);
}

bool key_number(const char *key, const char *folder, uint64_t *number)
{
	const char *text = strchr(key, '/');

	if (!text || strncmp(text, folder, strlen(folder)))
		return false;
	text += strlen(folder);
	if (strlen(text) != 10 || strspn(text, "0123456789") != 10)
		return false;
	*number = strtoull(text, NULL, 10);
	return *number > 0;
}

bool point_key_number(const char *key, uint64_t *number)
{
	return key_number(key, "/points/", number);
}

/* The run id keeps a retry of the same number apart from what a dead run left. */
static void point_object_key(const struct point *point, const char *folder,
			     char key[static STORE_KEY_MAX])
{
	char id[UUID_TEXT_SIZE], run[2 * sizeof(point->run.b) + 1];

	uuid_format(&point->volume, id);
	hex_encode(point->run.b, sizeof(point->run.b), run);
	snprintf(key, STORE_KEY_MAX, "%s/%s/%010" PRIu64 "-%.16s", id, folder,
		 point->number, run);
}

void point_map_key(const struct point *point, char key[static STORE_KEY_MAX])
{
	point_object_key(point, "maps", key);
}

void point_segment_prefix(const struct point *point,
			  char key[static STORE_KEY_MAX])
{
	point_object_key(point, "segments", key);
	strcat(key, "-");
}

void point_context(const struct point *point, struct point_context *context)
{
	memcpy(context->volume, point->volume.b, sizeof(context->volume));
	context->number = le64(point->number);
	memcpy(context->run, point->run.b, sizeof(context->run));
}

int point_keys_new(const struct point *point,
		   const uint8_t host_map_key[static CRYPTO_KEY_SIZE],
		   struct point_keys *keys, struct error *err)
{
	struct point_context context;
	int ret = crypto_random(keys->data, sizeof(keys->data), err);

	if (ret)
		return ret;
	/* The run id makes this key one-use: its map has nonce 0. */
	point_context(point, &context);
	ret = key_derive(host_map_key, &context, sizeof(context),
			 "clawback map v1", keys->map);
	if (ret) {
		crypto_wipe(keys, sizeof(*keys));
		return error_set(err, ret, "deriving the map key of point %" PRIu64,
				 point->number);
	}
	return 0;
}
