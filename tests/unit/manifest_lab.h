/* Random points and one that is written down, as manifests. */
#ifndef CLAWBACK_TESTS_MANIFEST_LAB_H
#define CLAWBACK_TESTS_MANIFEST_LAB_H

#include "agent/base/cleanup.h"
#include "agent/repo/point_format.h"
#include "tests/unit/random.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

/* ---- random points ----------------------------------------------------------- */

static inline void random_bytes(struct random_state *random, uint8_t *data, size_t length)
{
	while (length--)
		*data++ = (uint8_t)random_next(random);
}

/* Text up to the field's size, with all that JSON has to escape; zero behind. */
static inline void random_text(struct random_state *random, char *text, size_t room)
{
	static const char *const pieces[] = {
		"a", "Z", "0", " ", "/", "\"", "\\", "\n", "\t", "\x01", "\x7f", "ä", "…", "𝄞",
		"{", "}", "[", "\\u0000", "%s",
	};
	size_t wanted = random_one_in(random, 4) ? room - 1 : random_below(random, room);

	memset(text, 0, room);
	for (;;) {
		const char *piece = pieces[random_below(random, 19)];

		if (strlen(text) + strlen(piece) > wanted)
			break;
		strcat(text, piece);
	}
	if (wanted == room - 1)		/* filled to the brim */
		memset(text + strlen(text), 'x', wanted - strlen(text));
}

/* Small ones, large ones, the largest there is. */
static inline uint64_t random_number(struct random_state *random, uint64_t limit)
{
	uint64_t number = random_one_in(random, 8) ? limit :
			  random_next(random) >> random_below(random, 64);

	return number > limit ? number % limit : number;
}

#define RANDOM_BYTES(field) random_bytes(random, (uint8_t *)&(field), sizeof(field))
#define RANDOM_TEXT(field) random_text(random, field, sizeof(field))

static inline void random_contents(struct random_state *random, struct point *point)
{
	point->marked_bytes = random_number(random, INT64_MAX);
	point->read_bytes = random_number(random, INT64_MAX);
	point->data_bytes = random_number(random, INT64_MAX);
	point->zero_bytes = random_number(random, INT64_MAX);
	point->stored_bytes = random_number(random, INT64_MAX);
	point->map_inline = random_one_in(random, 2);
	point->map_bytes = random_number(random, 2ull << 30);
	RANDOM_BYTES(point->map_sha256);
	point->has_image_sha256 = random_one_in(random, 2);
	if (point->has_image_sha256)
		RANDOM_BYTES(point->image_sha256);
	point->frames_inline = random_one_in(random, 3);
	point->segment_count = random_below(random, point->frames_inline ? 2 : 9);
	point->segments = calloc(point->segment_count + 1, sizeof(*point->segments));
	assert_non_null(point->segments);
	for (size_t i = 0; i < point->segment_count; i++) {
		point->segments[i].bytes = random_number(random, INT64_MAX);
		point->segments[i].frames = (uint32_t)random_number(random, UINT32_MAX);
		RANDOM_BYTES(point->segments[i].sha256);
	}
	point->wrap_count = random_below(random, REPO_RECIPIENTS_MAX + 1);
	for (size_t i = 0; i < point->wrap_count; i++)
		RANDOM_BYTES(point->wraps[i]);
	RANDOM_BYTES(point->signer);
}

static inline void random_point(struct random_state *random, struct point *point)
{
	memset(point, 0, sizeof(*point));
	RANDOM_BYTES(point->repository);
	RANDOM_BYTES(point->volume);
	RANDOM_BYTES(point->run);
	RANDOM_TEXT(point->volume_name);
	point->number = 2 + random_number(random, INT64_MAX - 2);
	point->kind = (enum point_kind)random_below(random, 4);
	if (random_one_in(random, 4))
		point->full = 1 + random_below(random, point->number - 1);
	point->parent = random_below(random, point->number);
	RANDOM_BYTES(point->parent_hash);
	point->map_kind = point->parent && random_one_in(random, 2) ? MAP_DELTA : MAP_FULL;
	point->base = point->number;
	point->depth = (uint32_t)random_below(random, POINT_DEPTH_MAX + 1);
	if (point->map_kind == MAP_DELTA) {
		point->base = 1 + random_below(random, point->number - 1);
		point->depth = 1 + (uint32_t)random_below(random, POINT_DEPTH_MAX);
	}
	for (uint64_t n = 2; random_one_in(random, 2) && n <= point->number; n += 3)
		point->clock_steps[point->clock_step_count++] = n;
	point->time_ns = random_number(random, INT64_MAX);
	point->committed_ns = random_number(random, INT64_MAX);
	point->consistency = (enum point_consistency)random_below(random, 4);
	RANDOM_TEXT(point->reason);
	point->volume_bytes = 1 + random_number(random, (1ull << 62) - 1);
	RANDOM_TEXT(point->host);
	RANDOM_TEXT(point->device);
	RANDOM_TEXT(point->dm_name);
	RANDOM_TEXT(point->dm_uuid);
	RANDOM_TEXT(point->dm_targets);
	point->logical_block_bytes = (uint32_t)random_number(random, UINT32_MAX);
	random_contents(random, point);
}

static inline bool points_same(const struct point *one, const struct point *two)
{
	struct point a = *one, b = *two;

	a.segments = b.segments = NULL;
	/* Nothing but one's own padding differs: both began as zeros. */
	return !memcmp(&a, &b, sizeof(a)) &&
	       (!a.segment_count || !memcmp(one->segments, two->segments,
					    a.segment_count * sizeof(*one->segments)));
}

static inline void manifest_parse(const char *text, size_t length, struct point *point)
{
	struct error err = ERROR_INIT;

	if (point_manifest_parse(text, length, point, &err))
		fail_msg("%s: %.2000s", err.message, text);
}

static inline void manifest_check_refused(const char *text, size_t length)
{
	struct error err = ERROR_INIT;
	struct point point;

	if (!point_manifest_parse(text, length, &point, &err))
		fail_msg("accepted: %.*s", (int)length, text);
	assert_int_equal(err.code, -EBADMSG);
	assert_int_equal(err.exit, EXIT_UNTRUSTWORTHY);
	assert_non_null(strstr(err.message, "manifest"));
	assert_null(point.segments);
}

/* ---- a point of version 1 ------------------------------------------------- */

static inline void golden_point(struct point *point)
{
	memset(point, 0, sizeof(*point));
	memset(point->repository.b, 0x11, 16);
	memset(point->volume.b, 0x22, 16);
	memset(point->run.b, 0x33, 16);
	strcpy(point->volume_name, "pgdata");
	point->number = 7;
	point->kind = POINT_INCREMENTAL;
	point->parent = 6;
	memset(point->parent_hash, 0x44, 32);
	point->base = 5;
	point->depth = 2;
	point->time_ns = 1700000000123456789;
	point->committed_ns = 1700000009876543210;
	point->consistency = CONSISTENCY_FROZEN;
	strcpy(point->reason, "tracked \"well\"");
	point->volume_bytes = 1ull << 40;
	point->logical_block_bytes = 512;
	strcpy(point->host, "db1");
	strcpy(point->device, "/dev/vg0/pgdata");
	strcpy(point->dm_name, "vg0-pgdata");
	strcpy(point->dm_uuid, "LVM-x");
	strcpy(point->dm_targets, "linear");
	point->marked_bytes = 1;
	point->read_bytes = 2;
	point->data_bytes = 3;
	point->zero_bytes = 4;
	point->stored_bytes = 5;
	point->map_kind = MAP_DELTA;
	point->map_inline = true;
	point->map_bytes = 99;
	memset(point->map_sha256, 0x55, 32);
	point->segments = calloc(1, sizeof(*point->segments));
	point->segment_count = 1;
	point->segments[0].bytes = 4096;
	point->segments[0].frames = 3;
	memset(point->segments[0].sha256, 0x66, 32);
	memset(&point->wraps[0].recipient, 0x77, 32);
	memset(point->wraps[0].wrap, 0x88, CRYPTO_WRAP_SIZE);
	point->wrap_count = 1;
	memset(&point->signer, 0x99, 32);
	point->has_image_sha256 = true;
	memset(point->image_sha256, 0xaa, 32);
}

#define TWICE(x) x x
#define HEX32(x) TWICE(TWICE(TWICE(TWICE(TWICE(x)))))
#define HEX112(x) HEX32(x) HEX32(x) HEX32(x) TWICE(TWICE(TWICE(TWICE(x))))

/* Version 1 as it was released: who changes this breaks every repository there is. */
static const char golden[] __attribute__((unused)) =
	"{\n"
	" \"format\": \"clawback point\",\n"
	" \"version\": 1,\n"
	" \"repository\": \"11111111-1111-1111-1111-111111111111\",\n"
	" \"volume\": \"22222222-2222-2222-2222-222222222222\",\n"
	" \"volume_name\": \"pgdata\",\n"
	" \"run\": \"33333333-3333-3333-3333-333333333333\",\n"
	" \"number\": 7,\n"
	" \"kind\": \"incremental\",\n"
	" \"parent\": 6,\n"
	" \"parent_hash\": \"" HEX32("44") "\",\n"
	" \"base\": 5,\n"
	" \"depth\": 2,\n"
	" \"time_ns\": 1700000000123456789,\n"
	" \"committed_ns\": 1700000009876543210,\n"
	" \"consistency\": \"frozen\",\n"
	" \"reason\": \"tracked \\\"well\\\"\",\n"
	" \"volume_bytes\": 1099511627776,\n"
	" \"block_bytes\": 4096,\n"
	" \"logical_block_bytes\": 512,\n"
	" \"host\": \"db1\",\n"
	" \"device\": \"/dev/vg0/pgdata\",\n"
	" \"dm_name\": \"vg0-pgdata\",\n"
	" \"dm_uuid\": \"LVM-x\",\n"
	" \"dm_targets\": \"linear\",\n"
	" \"marked_bytes\": 1,\n"
	" \"read_bytes\": 2,\n"
	" \"data_bytes\": 3,\n"
	" \"zero_bytes\": 4,\n"
	" \"stored_bytes\": 5,\n"
	" \"map_kind\": \"delta\",\n"
	" \"map_inline\": true,\n"
	" \"frames_inline\": false,\n"
	" \"map_bytes\": 99,\n"
	" \"map_sha256\": \"" HEX32("55") "\",\n"
	" \"segments\": [\n"
	"  {\n"
	"   \"bytes\": 4096,\n"
	"   \"frames\": 3,\n"
	"   \"sha256\": \"" HEX32("66") "\"\n"
	"  }\n"
	" ],\n"
	" \"keys\": [\n"
	"  {\n"
	"   \"recipient\": \"" HEX32("77") "\",\n"
	"   \"wrap\": \"" HEX112("88") "\"\n"
	"  }\n"
	" ],\n"
	" \"signer\": \"" HEX32("99") "\",\n"
	" \"image_sha256\": \"" HEX32("aa") "\"\n"
	"}";

#endif
