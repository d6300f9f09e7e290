/* A volume over a point, and the model that it has to agree with. */
#ifndef CLAWBACK_TESTS_SERVE_VOLUME_H
#define CLAWBACK_TESTS_SERVE_VOLUME_H

#include "tests/unit/serve_lab.h"

struct volume {
	struct serve_lab lab;
	struct overlay *overlay;
	char target[700], present[710];
	uint8_t *model;
	uint64_t bytes;
};

static inline void volume_open(struct volume *volume)
{
	struct overlay_options options = { volume->target, volume->present, false };
	struct error err = ERROR_INIT;

	if (overlay_open(volume->lab.reader, &volume->lab.points->points[volume->lab.number],
			 &options, &volume->overlay, &err))
		fail_msg("%s", err.message);
}

/* Over the last point of a lab that was made. */
static inline void volume_begin(struct volume *volume)
{
	serve_lab_open(&volume->lab, volume->lab.points->count, 0);
	volume->bytes = volume->lab.image->bytes;
	lab_path(volume->lab.points, "target", volume->target);
	snprintf(volume->present, sizeof(volume->present), "%s.present", volume->target);
	volume->model = malloc(volume->bytes);
	memcpy(volume->model, volume->lab.image->data, volume->bytes);
	volume_open(volume);
}

static inline void volume_new(struct volume *volume, struct random_state *random, uint64_t points,
		       uint64_t bytes)
{
	memset(volume, 0, sizeof(*volume));
	serve_lab_new(&volume->lab, random, points, bytes);
	volume_begin(volume);
}

static inline void volume_free(struct volume *volume)
{
	struct error err = ERROR_INIT;

	assert_int_equal(0, overlay_close(volume->overlay, &err));
	free(volume->model);
	serve_lab_free(&volume->lab);
}

static inline void volume_write(struct volume *volume, struct random_state *random)
{
	struct error err = ERROR_INIT;
	uint64_t offset;
	size_t length;
	int ret;

	somewhere(random, volume->bytes, 96 << 10, &offset, &length);
	if (random_one_in(random, 4)) {
		memset(volume->model + offset, 0, length);
		ret = overlay_zero(volume->overlay, offset, length, &err);
	} else {
		memset(volume->model + offset, (int)random_below(random, 256), length);
		ret = overlay_write(volume->overlay, offset, volume->model + offset, length, &err);
	}
	if (ret)
		fail_msg("%zu at %llu: %s", length, (unsigned long long)offset, err.message);
}

static inline void volume_check(struct volume *volume, uint64_t offset, size_t length)
{
	uint8_t *buffer = malloc(length + 1);
	struct error err = ERROR_INIT;

	if (overlay_read(volume->overlay, offset, buffer, length, &err))
		fail_msg("%s", err.message);
	for (size_t i = 0; i < length; i++)
		if (buffer[i] != volume->model[offset + i])
			fail_msg("byte %llu differs", (unsigned long long)(offset + i));
	free(buffer);
}

static inline void volume_step(struct volume *volume, struct random_state *random)
{
	uint64_t offset;
	size_t length;

	volume_write(volume, random);
	somewhere(random, volume->bytes, 64 << 10, &offset, &length);
	volume_check(volume, offset, length);
}

/* Extents that are said to be holes are zero. */
static inline void volume_check_holes(struct volume *volume)
{
	for (uint64_t at = 0, length; at < volume->bytes; at += length) {
		length = volume->bytes - at;
		if (!overlay_hole(volume->overlay, at, &length))
			continue;
		for (uint64_t i = at; i < at + length; i++)
			assert_int_equal(volume->model[i], 0);
	}
}

static inline void target_is_model(const struct volume *volume)
{
	char *data;
	size_t length;

	assert_int_equal(0, file_read(volume->target, 1u << 30, &data, &length));
	assert_int_equal(length, volume->bytes);
	for (uint64_t i = 0; i < length; i++)
		if ((uint8_t)data[i] != volume->model[i])
			fail_msg("the finished volume differs at %llu", (unsigned long long)i);
	free(data);
}

#endif
