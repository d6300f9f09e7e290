/*
 * The manifest's JSON behind the signature: what parses keeps the ranges that
 * repo.h gives, and written and parsed again says the same.
 */
#include "agent/repo/point_format.h"
#include "tests/fuzz/fuzz.h"

static void check_point(const struct point *point)
{
	FUZZ_CHECK_TEXT(point->volume_name);
	FUZZ_CHECK_TEXT(point->reason);
	FUZZ_CHECK_TEXT(point->host);
	FUZZ_CHECK_TEXT(point->device);
	FUZZ_CHECK_TEXT(point->dm_name);
	FUZZ_CHECK_TEXT(point->dm_uuid);
	FUZZ_CHECK_TEXT(point->dm_targets);
	FUZZ_CHECK(point->number && point->parent < point->number);
	FUZZ_CHECK(point->base && point->base <= point->number);
	FUZZ_CHECK(point->depth <= POINT_DEPTH_MAX);
	FUZZ_CHECK(point->full < point->number);
	FUZZ_CHECK(point->volume_bytes && point->map_bytes <= POINT_MAP_MAX);
	FUZZ_CHECK(point->wrap_count <= REPO_RECIPIENTS_MAX);
	FUZZ_CHECK(!point->frames_inline || point->segment_count <= 1);
	FUZZ_CHECK(strcmp(point_kind_name(point->kind), "") &&
		   strcmp(point_consistency_name(point->consistency), ""));
}

static void check_again(const struct point *point)
{
	char *text = point_manifest_text(point), *twice;
	struct error err = ERROR_INIT;
	struct point again;

	FUZZ_CHECK(text);
	FUZZ_CHECK(!point_manifest_parse(text, strlen(text), &again, &err));
	twice = point_manifest_text(&again);
	FUZZ_CHECK(twice && !strcmp(text, twice));
	point_fini(&again);
	free(twice);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	char *text = fuzz_copy(data, length);
	struct error err = ERROR_INIT;
	struct point point;
	int ret = point_manifest_parse(text, length, &point, &err);

	if (ret) {
		fuzz_refused(ret, &err);
		FUZZ_CHECK(!point.segments);
	} else {
		check_point(&point);
		check_again(&point);
	}
	point_fini(&point);
	free(text);
	return 0;
}
