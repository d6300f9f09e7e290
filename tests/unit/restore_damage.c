/*
 * A store that lies. Every object of a repository has bits flipped, is cut short,
 * exchanged for another, replaced by an older one or removed. Each time: verify
 * says so, and a restore is either exact or ends with EXIT_UNTRUSTWORTHY, having
 * written nothing but true blocks.
 */
#include "agent/restore/restore.h"
#include "tests/unit/points_lab.h"

#define SENTINEL 0xee

struct tally { unsigned mutations, refused, exact; };

/* ---- judging one state of the store ---------------------------------------- */

static void problem_seen(void *context, const char *text)
{
	unsigned *lines = context;

	assert_non_null(text);
	assert_true(strlen(text) > 10);
	++*lines;
}

static int verify_all(struct points_lab *lab, bool data, struct verify_result *result,
		      struct error *err)
{
	unsigned lines = 0;
	struct verify_options options = {
		.data = data, .ring = lab_ring(lab),
		.problem = problem_seen, .context = &lines,
	};
	int ret = repo_verify(lab->repo, &lab->volume, 0, &options, result, err);

	if (ret == -EBADMSG)
		assert_true(lines > 0);
	return ret;
}

/* The target in memory, full of the sentinel, restored in place. */
static int restore_over(struct points_lab *lab, uint64_t number, int fd,
			struct error *err)
{
	const struct lab_image *image = &lab->images[number];
	struct restore_target_options how = { .bytes = image->bytes, .in_place = true };
	struct restore_options options = { .fetchers = 2, .decoders = 2 };
	struct key_ring ring = lab_ring(lab);
	struct restore_target *target;
	struct error ignored = ERROR_INIT;
	struct point point;
	char path[64];
	int ret;

	ret = point_load(lab->repo, &lab->volume, number, &point, err);
	if (ret)
		return ret;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ret = restore_target_open(path, &how, &target, err);
	if (!ret) {
		ret = restore_run(lab->repo, &point, &ring, target, &options, NULL, err);
		assert_int_equal(0, restore_target_close(target, &ignored));
	}
	point_fini(&point);
	return ret;
}

static void check_restore(struct points_lab *lab, uint64_t number, struct tally *tally)
{
	const struct lab_image *image = &lab->images[number];
	CLEANUP_CLOSE int fd = memfd_create("target", MFD_CLOEXEC);
	CLEANUP_FREE uint8_t *data = malloc(image->blocks * BLOCK_BYTES);
	struct error err = ERROR_INIT;
	uint8_t sentinel[BLOCK_BYTES];
	int ret;

	memset(sentinel, SENTINEL, sizeof(sentinel));
	memset(data, SENTINEL, image->bytes);
	assert_int_equal(0, file_pwrite_all(fd, data, image->bytes, 0));
	ret = restore_over(lab, number, fd, &err);
	assert_int_equal(0, file_pread_all(fd, data, image->bytes, 0));
	if (!ret) {
		tally->exact++;
		assert_memory_equal(data, image->data, image->bytes);
		return;
	}
	tally->refused++;
	/* What is not there is -ENOENT of the point asked for; a changed version
	 * number cannot be told from a newer program's. */
	if (err.exit != EXIT_UNTRUSTWORTHY && err.code != -EPROTONOSUPPORT &&
	    err.code != -ENOENT)
		fail_msg("point %llu: exit %d: %s", (unsigned long long)number, err.exit,
			 err.message);
	for (uint64_t b = 0; b < image->blocks; b++) {
		uint64_t at = b * BLOCK_BYTES;
		size_t n = image->bytes - at < BLOCK_BYTES ? image->bytes - at : BLOCK_BYTES;

		if (memcmp(data + at, image->data + at, n) &&
		    memcmp(data + at, sentinel, n))
			fail_msg("point %llu: block %llu holds what nobody wrote",
				 (unsigned long long)number, (unsigned long long)b);
	}
}

/* `what`: for the message of a failure. */
static void check_damaged(struct points_lab *lab, const char *what, struct tally *tally)
{
	struct verify_result result;
	struct error err = ERROR_INIT;
	int ret = verify_all(lab, true, &result, &err);

	tally->mutations++;
	if (!ret)
		fail_msg("%s: verify found nothing", what);
	if (ret != -EBADMSG && ret != -EPROTONOSUPPORT)
		fail_msg("%s: verify: %s", what, err.message);
	for (uint64_t i = 1; i <= lab->count; i++)
		check_restore(lab, i, tally);
}

static void check_sound(struct points_lab *lab)
{
	struct tally tally = { 0, 0, 0 };
	struct verify_result result;
	struct error err = ERROR_INIT;

	if (verify_all(lab, true, &result, &err))
		fail_msg("%s", err.message);
	for (uint64_t i = 1; i <= lab->count; i++)
		check_restore(lab, i, &tally);
	assert_int_equal(tally.exact, lab->count);
}

/* ---- tests ----------------------------------------------------------------- */

static struct points_lab *small_lab(struct random_state *random, struct lab_keys *keys)
{
	struct points_lab *lab = points_lab_new();
	char prefix[UUID_TEXT_SIZE + 1];

	for (;;) {
		lab_build(lab, random, 4, 600 * 512 + (256u << 10));
		uuid_format(&lab->volume, prefix);
		strcat(prefix, "/");
		lab_keys_list(lab, prefix, keys);
		/* Some points have all they hold in themselves; one at least has a segment. */
		if (keys->count >= 5)
			break;
		lab_keys_free(keys);
		points_lab_free(lab);
		lab = points_lab_new();
	}
	check_sound(lab);
	return lab;
}

static void flip(struct points_lab *lab, struct random_state *random, const char *key,
		 struct tally *tally)
{
	CLEANUP_FREE char *data = NULL;
	char what[STORE_KEY_MAX + 64];
	size_t length, at;
	unsigned bit = (unsigned)random_below(random, 8);

	lab_object_read(lab, key, &data, &length);
	/* Half of the flips in the first 4 KiB, where headers and manifests are. */
	at = random_below(random, random_one_in(random, 2) || length < 4096 ? length : 4096);
	snprintf(what, sizeof(what), "%s: bit %u of byte %zu", key, bit, at);
	data[at] = (char)(data[at] ^ 1 << bit);
	lab_object_write(lab, key, data, length);
	check_damaged(lab, what, tally);
	data[at] = (char)(data[at] ^ 1 << bit);
	lab_object_write(lab, key, data, length);
}

static void flipped_bits(void **state)
{
	struct random_state random = random_start("flipped_bits");
	const char *full = getenv("CLAWBACK_FULL");
	unsigned rounds = full && *full == '1' ? 10 : 1;
	struct tally tally = { 0, 0, 0 };
	struct lab_keys keys;

	(void)state;
	for (unsigned round = 0; round < rounds; round++) {
		struct points_lab *lab = small_lab(&random, &keys);

		for (int i = 0; i < 150; i++)
			flip(lab, &random, keys.items[i < (int)keys.count ? (size_t)i :
						      random_below(&random, keys.count)],
			     &tally);
		check_sound(lab);
		lab_keys_free(&keys);
		points_lab_free(lab);
	}
	printf("%u flips: %u restores refused, %u exact\n", tally.mutations,
	       tally.refused, tally.exact);
	assert_true(tally.mutations >= 100 * rounds);
	assert_true(tally.refused > tally.mutations / 2);
}

/* Cut to every kind of length, made longer, emptied, removed. */
static void cut_and_removed(void **state)
{
	struct random_state random = random_start("cut_and_removed");
	struct tally tally = { 0, 0, 0 };
	struct lab_keys keys;
	struct points_lab *lab = small_lab(&random, &keys);
	char what[STORE_KEY_MAX + 64];

	(void)state;
	for (size_t k = 0; k < keys.count; k++) {
		CLEANUP_FREE char *data = NULL;
		size_t length;

		lab_object_read(lab, keys.items[k], &data, &length);
		data = realloc(data, length + 64);
		assert_non_null(data);
		memset(data + length, 0, 64);
		for (int i = 0; i < 4; i++) {
			size_t cut = i == 0 ? 0 : i == 1 ? length - 1 :
				     i == 2 ? length + 1 + random_below(&random, 63) :
				     random_below(&random, length);

			snprintf(what, sizeof(what), "%s: cut to %zu", keys.items[k], cut);
			lab_object_write(lab, keys.items[k], data, cut);
			check_damaged(lab, what, &tally);
		}
		lab_object_remove(lab, keys.items[k]);
		/* The newest point's object gone looks like the day before it was
		 * made; only who remembers it can tell. */
		if (k + 1 < keys.count && strstr(keys.items[k], "/points/") &&
		    !strstr(keys.items[k + 1], "/points/"))
			check_restore(lab, lab->count, &tally);
		else
			check_damaged(lab, keys.items[k], &tally);
		lab_object_write(lab, keys.items[k], data, length);
	}
	check_sound(lab);
	lab_keys_free(&keys);
	points_lab_free(lab);
}

/* Two objects of one kind change places. */
static void swapped(void **state)
{
	struct random_state random = random_start("swapped");
	struct tally tally = { 0, 0, 0 };
	struct lab_keys keys;
	struct points_lab *lab = small_lab(&random, &keys);

	(void)state;
	for (int i = 0; i < 20; i++) {
		size_t a = random_below(&random, keys.count);
		size_t b = random_below(&random, keys.count);
		CLEANUP_FREE char *x = NULL;
		CLEANUP_FREE char *y = NULL;
		size_t x_length, y_length;

		if (a == b)
			continue;
		lab_object_read(lab, keys.items[a], &x, &x_length);
		lab_object_read(lab, keys.items[b], &y, &y_length);
		lab_object_write(lab, keys.items[a], y, y_length);
		lab_object_write(lab, keys.items[b], x, x_length);
		check_damaged(lab, keys.items[a], &tally);
		lab_object_write(lab, keys.items[a], x, x_length);
		lab_object_write(lab, keys.items[b], y, y_length);
	}
	check_sound(lab);
	lab_keys_free(&keys);
	points_lab_free(lab);
}

/*
 * Another history of the same volume, validly signed, with the same numbers: its
 * point in place of ours must show, as soon as a later point was made on ours.
 */
static void replayed(void **state)
{
	struct random_state random = random_start("replayed");
	struct points_lab *lab = points_lab_new();
	CLEANUP_FREE char *other = NULL;
	CLEANUP_FREE char *ours = NULL;
	struct tally tally = { 0, 0, 0 };
	size_t other_length, ours_length;
	struct verify_result result;
	struct error err = ERROR_INIT;
	char key[STORE_KEY_MAX];

	(void)state;
	lab_image_change(lab, &random, 1, 1u << 20, 30, 8);
	lab_commit(lab, &random, POINT_FULL, false);
	lab_image_change(lab, &random, 2, 1u << 20, 9, 8);
	lab_commit(lab, &random, POINT_INCREMENTAL, false);
	point_key(&lab->volume, 2, key);
	lab_object_read(lab, key, &other, &other_length);
	/* The road not taken: point 2 again, from another image. */
	lab_object_remove(lab, key);
	point_fini(&lab->points[2]);
	lab->count = 1;
	lab_image_change(lab, &random, 2, 1u << 20, 9, 8);
	lab_commit(lab, &random, POINT_INCREMENTAL, false);
	lab_object_read(lab, key, &ours, &ours_length);
	lab_image_change(lab, &random, 3, 1u << 20, 9, 8);
	lab_commit(lab, &random, POINT_INCREMENTAL, false);
	check_sound(lab);

	lab_object_write(lab, key, other, other_length);
	assert_int_equal(-EBADMSG, verify_all(lab, false, &result, &err));
	assert_int_equal(err.exit, EXIT_UNTRUSTWORTHY);
	assert_int_equal(result.problems, 1);
	check_restore(lab, 3, &tally);
	assert_int_equal(tally.refused, 1);
	lab_object_write(lab, key, ours, ours_length);
	check_sound(lab);
	points_lab_free(lab);
}

/* The repository's own object, pinned by its fingerprint. */
static void repository_object(void **state)
{
	struct random_state random = random_start("repository_object");
	struct points_lab *lab = points_lab_new();
	CLEANUP_FREE char *data = NULL;
	size_t length;

	(void)state;
	lab_build(lab, &random, 1, 1u << 20);
	lab_object_read(lab, "clawback.json", &data, &length);
	for (int i = 0; i < 50; i++) {
		size_t at = random_below(&random, length);
		struct error err = ERROR_INIT;
		struct repo *repo = NULL;

		data[at] = (char)(data[at] ^ 1 << random_below(&random, 8));
		lab_object_write(lab, "clawback.json", data, length);
		assert_int_not_equal(0, repo_open(lab->store, lab->facts.fingerprint,
						  &repo, &err));
		assert_int_equal(err.exit, EXIT_UNTRUSTWORTHY);
		repo_close(repo);
	}
	points_lab_free(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(flipped_bits),
		cmocka_unit_test(cut_and_removed),
		cmocka_unit_test(swapped),
		cmocka_unit_test(replayed),
		cmocka_unit_test(repository_object),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
