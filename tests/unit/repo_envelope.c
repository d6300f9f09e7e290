/*
 * The point object around its manifest: layout, signature, and what point_load
 * says of one that was cut, changed, or signed by somebody else.
 */
#include "agent/repo/point_format.h"
#include "tests/unit/points_lab.h"

struct envelope {
	struct points_lab *lab;
	char key[STORE_KEY_MAX];
	char *object;
	size_t length, head_length;
	struct point_header header;
	struct point point;	/* parsed from the manifest, without a signature's check */
};

/* A lab with one small point, everything inline, taken apart. */
static void envelope_init(struct envelope *envelope, struct random_state *random)
{
	struct error err = ERROR_INIT;

	memset(envelope, 0, sizeof(*envelope));
	envelope->lab = points_lab_new();
	envelope->lab->options.inline_bytes = 1u << 20;
	lab_image_change(envelope->lab, random, 1, 64u << 10, 4, 8);
	memset(envelope->lab->images[1].data, 7, BLOCK_BYTES);
	lab_commit(envelope->lab, random, POINT_FULL, false);
	point_key(&envelope->lab->volume, 1, envelope->key);
	lab_object_read(envelope->lab, envelope->key, &envelope->object, &envelope->length);
	memcpy(&envelope->header, envelope->object, 64);
	envelope->head_length = 64 + get_le32(envelope->header.manifest_length) + 64;
	if (point_manifest_parse(envelope->object + 64,
				 get_le32(envelope->header.manifest_length),
				 &envelope->point, &err))
		fail_msg("%s", err.message);
}

static void envelope_fini(struct envelope *envelope)
{
	free(envelope->object);
	point_fini(&envelope->point);
	points_lab_free(envelope->lab);
}

static void check_loads(struct envelope *envelope)
{
	struct error err = ERROR_INIT;
	struct point point;

	if (point_load(envelope->lab->repo, &envelope->lab->volume, 1, &point, &err))
		fail_msg("%s", err.message);
	point_fini(&point);
}

/* `message` NULL: any. The version alone makes another error than damage. */
static void check_refused(struct envelope *envelope, const char *message)
{
	struct error err = ERROR_INIT;
	struct point point;

	assert_true(point_load(envelope->lab->repo, &envelope->lab->volume, 1, &point,
			       &err) < 0);
	assert_null(point.segments);
	assert_non_null(strstr(err.message, envelope->key));
	if (message && !strstr(err.message, message))
		fail_msg("\"%s\" is not about \"%s\"", err.message, message);
	if (err.code == -EPROTONOSUPPORT) {
		assert_non_null(strstr(err.message, "newer clawback"));
		return;
	}
	assert_int_equal(err.code, -EBADMSG);
	assert_int_equal(err.exit, EXIT_UNTRUSTWORTHY);
}

/* Header and `point`'s manifest, properly signed by `signer`, in point 1's place. */
static void forge(struct envelope *envelope, const struct point *point,
		  const struct signing_private *signer)
{
	CLEANUP_FREE char *manifest = point_manifest_text(point);
	CLEANUP_FREE uint8_t *object = NULL;
	size_t length = strlen(manifest), tail = envelope->length - envelope->head_length;
	struct point_header header = envelope->header;
	struct error err = ERROR_INIT;

	/* Unless the case is about the length. */
	if (get_le32(header.manifest_length) ==
	    envelope->head_length - 64 - CRYPTO_SIGNATURE_SIZE)
		header.manifest_length = le32((uint32_t)length);
	object = malloc(64 + length + CRYPTO_SIGNATURE_SIZE + tail);
	memcpy(object, &header, 64);
	memcpy(object + 64, manifest, length);
	if (sign_data(signer, "clawback point v1", object, 64 + length, object + 64 + length,
		      &err))
		fail_msg("%s", err.message);
	memcpy(object + 64 + length + CRYPTO_SIGNATURE_SIZE,
	       envelope->object + envelope->head_length, tail);
	lab_object_write(envelope->lab, envelope->key, object,
			 64 + length + CRYPTO_SIGNATURE_SIZE + tail);
}

/* ---- the object ------------------------------------------------------------------ */

/* By hand, from the drawing: what is where, and what the hash and signature cover. */
static void layout(void **state)
{
	struct random_state random = random_start("layout");
	struct envelope e;
	const uint8_t *object;
	uint8_t digest[CRYPTO_DIGEST_SIZE];
	struct signing_public signer;
	const struct point *point;
	uint32_t manifest_length, map_length;
	uint64_t frames_length;

	(void)state;
	envelope_init(&e, &random);
	object = (const uint8_t *)e.object;
	point = &e.lab->points[1];
	assert_memory_equal(object, "CLAWPNT1\1\0\0\0\0\0\0\0", 16);
	manifest_length = object[16] | object[17] << 8 | object[18] << 16;
	map_length = object[20] | object[21] << 8 | object[22] << 16;
	frames_length = object[24] | (uint64_t)object[25] << 8 | (uint64_t)object[26] << 16;
	for (size_t i = 32; i < 64; i++)
		assert_int_equal(object[i], 0);
	assert_int_equal(object[64], '{');
	assert_int_equal(object[64 + manifest_length - 1], '}');
	assert_int_equal(point->head_bytes, 64 + manifest_length + 64);
	assert_int_equal(point->object_bytes, e.length);
	assert_int_equal(e.length, point->head_bytes + map_length + frames_length);
	assert_int_equal(map_length, point->map_bytes);
	assert_int_equal(frames_length, point->segments[0].bytes);
	assert_true(point->map_inline && point->frames_inline);
	signing_public(e.lab->signing, &signer);
	assert_int_equal(0, sign_verify(&signer, "clawback point v1", object,
					64 + manifest_length, object + 64 + manifest_length));
	digest_of(object, point->head_bytes, digest);
	assert_memory_equal(digest, point->hash, sizeof(digest));
	digest_of(object + point->head_bytes, map_length, digest);
	assert_memory_equal(digest, point->map_sha256, sizeof(digest));
	digest_of(object + point->head_bytes + map_length, frames_length, digest);
	assert_memory_equal(digest, point->segments[0].sha256, sizeof(digest));
	envelope_fini(&e);
}

/* ---- damage ---------------------------------------------------------------------- */

static void truncated(void **state)
{
	struct random_state random = random_start("truncated");
	struct envelope e;

	(void)state;
	envelope_init(&e, &random);
	for (size_t length = 0; length < e.head_length; length++) {
		lab_object_write(e.lab, e.key, e.object, length);
		check_refused(&e, "cut short");
	}
	/* What is behind the head is the reader's of maps and frames to miss. */
	lab_object_write(e.lab, e.key, e.object, e.head_length);
	check_loads(&e);
	lab_object_write(e.lab, e.key, e.object, e.length);
	check_loads(&e);
	envelope_fini(&e);
}

static void flipped_bits(void **state)
{
	struct random_state random = random_start("flipped_bits");
	CLEANUP_CLOSE int fd = -1;
	struct envelope e;
	char path[700];

	(void)state;
	envelope_init(&e, &random);
	lab_object_path(e.lab, e.key, path);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	for (size_t bit = 0; bit < 8 * e.head_length; bit++) {
		char flipped = e.object[bit / 8] ^ (char)(1 << bit % 8);

		assert_int_equal(0, file_pwrite_all(fd, &flipped, 1, bit / 8));
		check_refused(&e, NULL);
		assert_int_equal(0, file_pwrite_all(fd, &e.object[bit / 8], 1, bit / 8));
	}
	check_loads(&e);
	envelope_fini(&e);
}

/* ---- signed, and yet wrong --------------------------------------------------------- */

static void odd_header(struct envelope *e, int which)
{
	struct point_header *header = &e->header;

	switch (which) {
	case 0: header->magic[7] = '2'; break;
	case 1: header->version = le32(2); break;
	case 2: header->version = le32(0); break;
	case 3: header->flags = le32(1); break;
	case 4: header->zero[0] = 1; break;
	case 5: header->zero[31] = 1; break;
	case 6: header->manifest_length = le32((16u << 20) + 1); break;
	case 7: header->manifest_length = le32(UINT32_MAX); break;
	case 8: header->frames_length = le64((64u << 20) + 1); break;
	case 9: header->frames_length = le64(UINT64_MAX); break;
	case 10: header->map_length = le32(get_le32(header->map_length) + 1); break;
	default: header->map_length = le32(0); break;
	}
}

/* A header that makes no sense, though one of the repository's hosts signed it. */
static void signed_headers(void **state)
{
	static const char *const messages[] = {
		"it is no point", "version 2", "version 0", "its header", "its header",
		"its header", "its header", "its header", "its header", "its header",
		"about its map", "about its map",
	};
	struct random_state random = random_start("signed_headers");
	struct envelope e;

	(void)state;
	envelope_init(&e, &random);
	for (int i = 0; i < 12; i++) {
		struct point_header good = e.header;

		odd_header(&e, i);
		forge(&e, &e.point, e.lab->signing);
		check_refused(&e, messages[i]);
		e.header = good;
	}
	forge(&e, &e.point, e.lab->signing);
	check_loads(&e);
	envelope_fini(&e);
}

static void odd_point(struct point *point, int which)
{
	switch (which) {
	case 0: point->repository.b[15] ^= 1; break;
	case 1: point->volume.b[0] ^= 1; break;
	case 2: point->number = point->base = 2; break;
	case 3: point->signer.key[31] ^= 1; break;
	case 4: point->map_inline = false; break;
	case 5: point->map_bytes++; break;
	case 6: point->depth = POINT_DEPTH_MAX + 1; break;
	default: point->volume_bytes = 0; break;
	}
}

static void signed_manifests(void **state)
{
	static const char *const messages[] = {
		"another repository", "another point in this one's place",
		"another point in this one's place", "another signer", "about its map",
		"about its map", "no clawback wrote", "no clawback wrote",
	};
	struct random_state random = random_start("signed_manifests");
	struct envelope e;

	(void)state;
	envelope_init(&e, &random);
	for (int i = 0; i < 8; i++) {
		struct point point = e.point;

		odd_point(&point, i);
		forge(&e, &point, e.lab->signing);
		check_refused(&e, messages[i]);
	}
	envelope_fini(&e);
}

static void foreign_signature(void **state)
{
	struct random_state random = random_start("foreign_signature");
	struct signing_private *stranger;
	struct error err = ERROR_INIT;
	struct envelope e;
	struct point point;
	char path[700];

	(void)state;
	envelope_init(&e, &random);
	lab_path(e.lab, "stranger.pem", path);
	if (signing_generate(path, &stranger, &err))
		fail_msg("%s", err.message);
	point = e.point;
	forge(&e, &point, stranger);
	check_refused(&e, "no host of this repository signed it");
	signing_public(stranger, &point.signer);	/* and does not hide it */
	forge(&e, &point, stranger);
	check_refused(&e, "no host of this repository signed it");
	signing_free(stranger);
	envelope_fini(&e);
}

/* ---- large manifests -------------------------------------------------------------- */

/* A point of so many (empty) segments; an empty volume's map. */
static int commit_segments(struct points_lab *lab, size_t count, struct error *err)
{
	struct point *point = &lab->points[1];
	struct point_keys keys;
	struct map map;
	int ret;

	lab->images[1].bytes = 1u << 20;
	lab_point_start(lab, POINT_FULL, false, point);
	point->segments = calloc(count, sizeof(*point->segments));
	point->segment_count = count;
	for (size_t i = 0; i < count; i++)
		point->segments[i].bytes = i;
	map_init(&map, MAP_FULL, (1u << 20) / BLOCK_BYTES);
	if (point_keys_new(point, lab->host_map_key, &keys, err))
		fail_msg("%s", err->message);
	ret = point_commit(lab->repo, point, &map, NULL, 0, &keys, lab->signing, err);
	map_fini(&map);
	return ret;
}

/* More than the first request brings: a second one is made, and checked as well. */
static void long_manifest(void **state)
{
	struct envelope e = { .lab = points_lab_new() };
	struct error err = ERROR_INIT;
	struct point point;
	CLEANUP_FREE char *object = NULL;
	size_t length;

	(void)state;
	if (commit_segments(e.lab, 3000, &err))
		fail_msg("%s", err.message);
	assert_true(e.lab->points[1].head_bytes > 4 * POINT_HEAD_FIRST_READ);
	if (point_load(e.lab->repo, &e.lab->volume, 1, &point, &err))
		fail_msg("%s", err.message);
	assert_int_equal(point.segment_count, 3000);
	assert_int_equal(point.segments[2999].bytes, 2999);
	assert_memory_equal(point.hash, e.lab->points[1].hash, CRYPTO_DIGEST_SIZE);
	point_fini(&point);
	point_key(&e.lab->volume, 1, e.key);
	lab_object_read(e.lab, e.key, &object, &length);
	for (size_t i = 0; i < 4; i++) {
		const size_t cuts[] = {
			POINT_HEAD_FIRST_READ - 1, POINT_HEAD_FIRST_READ,
			POINT_HEAD_FIRST_READ + 1, e.lab->points[1].head_bytes - 1,
		};

		lab_object_write(e.lab, e.key, object, cuts[i]);
		check_refused(&e, "cut short");
	}
	object[POINT_HEAD_FIRST_READ + 5] ^= 1;
	lab_object_write(e.lab, e.key, object, length);
	check_refused(&e, "forged or damaged");
	points_lab_free(e.lab);
}

/* One that no reader would accept is not written. */
static void manifest_beyond_the_limit(void **state)
{
	struct points_lab *lab = points_lab_new();
	struct error err = ERROR_INIT;
	struct point point;

	(void)state;
	assert_int_equal(-EFBIG, commit_segments(lab, 140000, &err));
	assert_non_null(strstr(err.message, "use larger segments"));
	assert_int_equal(-ENOENT, point_load(lab->repo, &lab->volume, 1, &point, &err));
	points_lab_free(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(layout),
		cmocka_unit_test(truncated),
		cmocka_unit_test(flipped_bits),
		cmocka_unit_test(signed_headers),
		cmocka_unit_test(signed_manifests),
		cmocka_unit_test(foreign_signature),
		cmocka_unit_test(long_manifest),
		cmocka_unit_test(manifest_beyond_the_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
