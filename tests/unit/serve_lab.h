/* What the tests of serving share: a chain of points, and the last one open. */
#ifndef CLAWBACK_TESTS_SERVE_LAB_H
#define CLAWBACK_TESTS_SERVE_LAB_H

#include "agent/serve/serve_private.h"
#include "tests/unit/points_lab.h"

#define MEBIBYTE (1u << 20)

struct serve_lab {
	struct points_lab *points;
	struct point_reader *reader;
	uint64_t number;
	const struct lab_image *image;
};

static inline int serve_lab_try(struct serve_lab *lab, uint64_t number, uint64_t cache_bytes,
				struct error *err)
{
	struct point_reader_options options = { .cache_bytes = cache_bytes };
	struct key_ring ring = lab_ring(lab->points);

	lab->number = number;
	lab->image = &lab->points->images[number];
	return point_reader_open(lab->points->repo, &lab->points->points[number], &ring,
				 &options, &lab->reader, err);
}

static inline void serve_lab_open(struct serve_lab *lab, uint64_t number, uint64_t cache_bytes)
{
	struct error err = ERROR_INIT;

	if (serve_lab_try(lab, number, cache_bytes, &err))
		fail_msg("point %llu: %s", (unsigned long long)number, err.message);
}

static inline void serve_lab_new(struct serve_lab *lab, struct random_state *random,
				 uint64_t count, uint64_t bytes)
{
	lab->points = points_lab_new();
	lab_build(lab->points, random, count, bytes);
}

/* One full point without holes, in frames of 1 MiB; `thin`: that become a few KiB. */
static inline void lab_full(struct serve_lab *lab, struct random_state *random, uint64_t bytes,
			    bool thin)
{
	lab->points = points_lab_new();
	lab_image_change(lab->points, random, 1, bytes, 0, 1);
	for (uint64_t i = 0; i < bytes; i += 8) {
		uint64_t value = thin ? i / 512 + 1 : random_next(random) | 1;

		memcpy(lab->points->images[1].data + i, &value, 8);
	}
	lab->points->options = (struct pipeline_options){ .inline_bytes = 1 };
	lab_commit(lab->points, random, POINT_FULL, false);
}

static inline void lab_dense(struct serve_lab *lab, struct random_state *random, uint64_t bytes)
{
	lab_full(lab, random, bytes, false);
}

static inline void serve_lab_free(struct serve_lab *lab)
{
	point_reader_close(lab->reader);
	points_lab_free(lab->points);
}

/* Somewhere: small and large, at blocks' edges and not. */
static inline void somewhere(struct random_state *random, uint64_t bytes, uint64_t most,
			     uint64_t *offset, size_t *length)
{
	uint64_t unit = random_one_in(random, 2) ? BLOCK_BYTES :
			random_one_in(random, 2) ? 512 : 1;

	*offset = random_below(random, bytes / unit + 1) * unit;
	*length = (1 + random_below(random, most / unit)) * unit;
	if (*length > bytes - *offset)
		*length = bytes - *offset;
}

#endif
