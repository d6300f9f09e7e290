/*
 * The hand-over slot: it keeps what it was given, nothing damaged passes, and nothing
 * is written to a device on which the slot does not lie where it is said to. A file
 * stands for the device, and holds the slot at a place of its own.
 */
#include "agent/volume/slot.h"
#include "agent/crypto/crypto.h"
#include "tests/unit/volume_scratch.h"

#include <fcntl.h>
#include <sys/stat.h>

#define BITS 40000u			/* three blocks: a head and two */
#define BLOCKS 3u
#define DEVICE_BLOCKS 64u

static struct handover saved;
static char path[PATH_MAX];

static void fill(void)
{
	memset(&saved, 0, sizeof(saved));
	uuid_new(&saved.volume);
	strcpy(saved.boot_id, "5f0c7a9e-0000-4000-8000-000000000001");
	saved.bytes = BITS * UINT64_C(4096);
	saved.granularity_bytes = 4096;
	assert_int_equal(bitmap_init(&saved.marks, BITS), 0);
	bitmap_set(&saved.marks, 17, 1000);
}

static int setup(void **state)
{
	if (scratch_setup(state))
		return -1;
	snprintf(path, sizeof(path), "%s/volumes/v", (char *)*state);
	if (file_make_folders(path, 0700))
		return -1;
	strcat(path, "/" SLOT_FILE);
	fill();
	return 0;
}

static int teardown(void **state)
{
	handover_fini(&saved);
	return scratch_teardown(state);
}

/* ---- what stands in it ----------------------------------------------------- */

static uint8_t *encode(size_t *length)
{
	uint8_t nonce[SLOT_NONCE] = "0123456789abcde", *payload, *image;
	size_t bytes;

	assert_int_equal(slot_blocks_for(BITS), BLOCKS);
	*length = BLOCKS * SLOT_BLOCK;
	image = malloc(*length);
	assert_non_null(image);
	assert_int_equal(handover_encode(&saved, &payload, &bytes), 0);
	slot_image(nonce, BLOCKS, payload, bytes, image);
	free(payload);
	return image;
}

static int decode(const uint8_t *data, size_t length)
{
	struct handover got = { .bytes = 0 };
	const char *why = NULL;
	int ret = slot_decode(data, length, &got, &why);

	assert_true(ret == 0 || ret == -EBADMSG || ret == -ENOENT);
	if (!ret) {
		assert_true(uuid_equal(&got.volume, &saved.volume));
		assert_memory_equal(got.marks.words, saved.marks.words,
				    bitmap_words(BITS) * 8);
	} else {
		assert_non_null(why);
		assert_null(got.marks.words);
	}
	handover_fini(&got);
	return ret;
}

static void decoded(void **state)
{
	uint8_t nonce[SLOT_NONCE] = { 1 };
	size_t length;
	uint8_t *image = encode(&length);

	(void)state;
	assert_int_equal(decode(image, length), 0);
	slot_image(nonce, BLOCKS, NULL, 0, image);
	assert_int_equal(decode(image, length), -ENOENT);
	free(image);
}

/* Every bit of head and hand-over counts, and so does every length. */
static void damaged(void **state)
{
	size_t length, counts = SLOT_BLOCK + 416 + BITS / 8 + 32;
	uint8_t *image = encode(&length);

	(void)state;
	for (size_t i = 0; i < counts; i++) {
		image[i] ^= (uint8_t)(1u << i % 8);
		assert_int_equal(decode(image, length), -EBADMSG);
		image[i] ^= (uint8_t)(1u << i % 8);
	}
	for (size_t i = 0; i < length; i += 512) {
		/* Of its own size, so that a sanitizer sees a read beyond. */
		uint8_t *part = malloc(i ? i : 1);

		assert_non_null(part);
		memcpy(part, image, i);
		assert_int_equal(decode(part, i), -EBADMSG);
		free(part);
	}
	free(image);
}

/* What no writer of ours makes, with checksums that fit. */
static void contradictions(void **state)
{
	static const struct { size_t at; uint8_t value; } cases[] = {
		{ offsetof(struct slot_block, version), 2 },
		{ offsetof(struct slot_block, zero), 1 },
		{ offsetof(struct slot_block, number), 1 },
		{ offsetof(struct slot_block, blocks), 1 },
		{ offsetof(struct slot_block, blocks), 4 },
		{ offsetof(struct slot_block, blocks) + 5, 1 },
		{ offsetof(struct slot_block, length) + 1, 0xff },
		{ offsetof(struct slot_block, length), 9 },
		{ offsetof(struct slot_block, payload), 0 },
		{ offsetof(struct slot_block, reserved) + 3975, 1 },
	};
	size_t length;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t *image = encode(&length);

		image[cases[i].at] = image[cases[i].at] == cases[i].value ? 0x77 : cases[i].value;
		digest_of(image, 4064, image + 4064);
		if (decode(image, length) != -EBADMSG)
			fail_msg("case %zu passed", i);
		free(image);
	}
}

/* ---- the file ---------------------------------------------------------------- */

static void put(const uint8_t *image, size_t length)
{
	assert_int_equal(file_replace(path, image, length, 0600), 0);
}

static void emptied(void **state)
{
	struct handover got;
	enum slot_content was;
	size_t length;
	uint8_t *image = encode(&length);

	ASSERT_OK(slot_empty(*state, "v", &was, &err));
	assert_int_equal(was, SLOT_NONE);
	ASSERT_FAILS(-ENOENT, slot_load(*state, "v", &got, &err));
	put(image, length);
	ASSERT_OK(slot_load(*state, "v", &got, &err));
	assert_true(uuid_equal(&got.volume, &saved.volume));
	handover_fini(&got);
	ASSERT_OK(slot_empty(*state, "v", &was, &err));
	assert_int_equal(was, SLOT_FILLED);
	ASSERT_FAILS(-ENOENT, slot_load(*state, "v", &got, &err));
	ASSERT_OK(slot_empty(*state, "v", &was, &err));
	assert_int_equal(was, SLOT_EMPTY);
	image[5000] ^= 1;
	put(image, length);
	ASSERT_FAILS(-EBADMSG, slot_load(*state, "v", &got, &err));
	image[100] ^= 1;
	put(image, length);
	ASSERT_OK(slot_empty(*state, "v", &was, &err));
	assert_int_equal(was, SLOT_DAMAGED);
	/* Mended, it is not what it was. */
	image[100] ^= 1;
	ASSERT_FAILS(-EBADMSG, slot_load(*state, "v", &got, &err));
	put(image, 5000);
	ASSERT_OK(slot_empty(*state, "v", &was, &err));
	assert_int_equal(was, SLOT_DAMAGED);
	free(image);
}

static ino_t inode(void)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_ino;
}

/* A /tmp in memory tells no places. */
static bool has_fiemap(const char *folder)
{
	struct error problem = ERROR_INIT;

	return slot_keep(folder, "v", BITS, &problem) != -EOPNOTSUPP;
}

/* Made once, and anew when it is not as it should be. */
static void kept(void **state)
{
	enum slot_content was;
	struct handover got;
	struct slot_place place;
	uint8_t *data;
	size_t length;
	ino_t first;

	if (!has_fiemap(*state))
		return;
	first = inode();
	ASSERT_FAILS(-ENOENT, slot_load(*state, "v", &got, &err));
	ASSERT_OK(slot_keep(*state, "v", BITS, &err));
	assert_int_equal(inode(), first);
	ASSERT_OK(slot_find(*state, "v", &place, &err));
	assert_int_equal(slot_place_blocks(&place), BLOCKS);
	slot_place_fini(&place);
	/* A block behind the head that is not its own. */
	assert_int_equal(slot_read(path, &data, &length), 0);
	data[2 * SLOT_BLOCK + 7] ^= 1;
	put(data, length);
	free(data);
	first = inode();
	ASSERT_OK(slot_keep(*state, "v", BITS, &err));
	assert_true(inode() != first);
	/* Another size. */
	ASSERT_OK(slot_keep(*state, "v", BITS * 4, &err));
	assert_int_equal(slot_read(path, &data, &length), 0);
	assert_int_equal(length, slot_blocks_for(BITS * 4) * SLOT_BLOCK);
	free(data);
	ASSERT_OK(slot_empty(*state, "v", &was, &err));
	assert_int_equal(was, SLOT_EMPTY);
	ASSERT_FAILS(-EOVERFLOW, slot_keep(*state, "v", HANDOVER_BITS_MAX + 1, &err));
}

/* Without bytes of its own on the disk it has no place. */
static void placeless(void **state)
{
	struct slot_place place;
	struct error problem = ERROR_INIT;
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0 && ftruncate(fd, 4 * SLOT_BLOCK) == 0);
	assert_true(slot_find(*state, "v", &place, &problem) < 0);
	assert_null(place.pieces);
	close(fd);
}

/* ---- beneath it ---------------------------------------------------------------- */

static struct extent pieces[2] = { { 40, 1 }, { 7, 2 } };
static const struct slot_place elsewhere = { pieces, 2 };

/* The slot lies there in two pieces, in the order of the file, and other data around. */
static int device_make(const uint8_t *image)
{
	char name[] = "/tmp/volume-slot-XXXXXX";
	int fd = mkstemp(name);
	uint8_t other[SLOT_BLOCK];

	assert_true(fd >= 0);
	unlink(name);
	memset(other, 0xa5, sizeof(other));
	for (unsigned i = 0; i < DEVICE_BLOCKS; i++)
		assert_int_equal(file_pwrite_all(fd, other, SLOT_BLOCK, i * SLOT_BLOCK), 0);
	assert_int_equal(file_pwrite_all(fd, image, SLOT_BLOCK, 40 * SLOT_BLOCK), 0);
	assert_int_equal(file_pwrite_all(fd, image + SLOT_BLOCK, 2 * SLOT_BLOCK, 7 * SLOT_BLOCK), 0);
	return fd;
}

/* Nothing but the slot's blocks was written; with `all`, not those either. */
static void assert_untouched(int fd, bool all)
{
	uint8_t block[SLOT_BLOCK];

	for (unsigned i = 0; i < DEVICE_BLOCKS; i++) {
		if (!all && (i == 40 || i == 7 || i == 8))
			continue;
		assert_int_equal(file_pread_all(fd, block, SLOT_BLOCK, i * SLOT_BLOCK), 0);
		if (i == 40 || i == 7 || i == 8)
			assert_true(!memcmp(block, SLOT_MAGIC, 8));
		else
			assert_int_equal(block[100], 0xa5);
	}
}

static void written(void **state)
{
	uint8_t nonce[SLOT_NONCE] = "a nonce", *image = malloc(BLOCKS * SLOT_BLOCK);
	struct handover got = { .bytes = 0 };
	const char *why;
	uint64_t sectors;
	int fd;

	assert_non_null(image);
	slot_image(nonce, BLOCKS, NULL, 0, image);
	put(image, BLOCKS * SLOT_BLOCK);
	fd = device_make(image);
	ASSERT_OK(slot_write(*state, "v", fd, &elsewhere, &saved, &sectors, &err));
	/* 416 + 5000 + 32 bytes are two blocks; and the head. */
	assert_int_equal(sectors, 3 * 8);
	assert_untouched(fd, false);
	assert_int_equal(file_pread_all(fd, image, SLOT_BLOCK, 40 * SLOT_BLOCK), 0);
	assert_int_equal(file_pread_all(fd, image + SLOT_BLOCK, 2 * SLOT_BLOCK, 7 * SLOT_BLOCK), 0);
	assert_int_equal(slot_decode(image, BLOCKS * SLOT_BLOCK, &got, &why), 0);
	assert_true(uuid_equal(&got.volume, &saved.volume));
	handover_fini(&got);
	ASSERT_OK(slot_unwrite(fd, &elsewhere, &err));
	assert_int_equal(file_pread_all(fd, image, SLOT_BLOCK, 40 * SLOT_BLOCK), 0);
	assert_int_equal(slot_decode(image, BLOCKS * SLOT_BLOCK, &got, &why), -ENOENT);
	assert_untouched(fd, false);
	close(fd);
	free(image);
}

/* One wrong thing is enough: then nothing at all is written. */
static void not_written(void **state)
{
	struct extent wrong[3][2] = { { { 41, 1 }, { 7, 2 } }, { { 40, 1 }, { 8, 2 } },
				      { { 40, 1 }, { 7, 1 } } };
	uint8_t nonce[SLOT_NONCE] = "a nonce", *image = malloc(BLOCKS * SLOT_BLOCK);
	uint64_t sectors;
	int fd;

	assert_non_null(image);
	slot_image(nonce, BLOCKS, NULL, 0, image);
	put(image, BLOCKS * SLOT_BLOCK);
	fd = device_make(image);
	for (size_t i = 0; i < 3; i++) {
		struct slot_place place = { wrong[i], 2 };
		struct error problem = ERROR_INIT;

		assert_true(slot_write(*state, "v", fd, &place, &saved, &sectors, &problem) < 0);
		ASSERT_OK(slot_unwrite(fd, &place, &err));
		assert_untouched(fd, true);
	}
	/* The file holds another slot than the device; a block of it is not stamped. */
	nonce[0] ^= 1;
	slot_image(nonce, BLOCKS, NULL, 0, image);
	put(image, BLOCKS * SLOT_BLOCK);
	ASSERT_FAILS(-EIO, slot_write(*state, "v", fd, &elsewhere, &saved, &sectors, &err));
	image[2 * SLOT_BLOCK] ^= 1;
	put(image, BLOCKS * SLOT_BLOCK);
	ASSERT_FAILS(-EEXIST, slot_write(*state, "v", fd, &elsewhere, &saved, &sectors, &err));
	assert_untouched(fd, true);
	close(fd);
	free(image);
}

static void marked(void **state)
{
	struct bitmap marks = { 0 };

	(void)state;
	assert_int_equal(bitmap_init(&marks, 42), 0);
	assert_int_equal(slot_place_mark(&elsewhere, 4096, &marks), 0);
	assert_int_equal(bitmap_count(&marks), 3);
	assert_true(bitmap_test(&marks, 40) && bitmap_test(&marks, 7) && bitmap_test(&marks, 8));
	bitmap_fini(&marks);
	assert_int_equal(bitmap_init(&marks, 3), 0);
	assert_int_equal(slot_place_mark(&elsewhere, 16384, &marks), -ERANGE);
	bitmap_fini(&marks);
	assert_int_equal(bitmap_init(&marks, 11), 0);
	assert_int_equal(slot_place_mark(&elsewhere, 16384, &marks), 0);
	assert_true(bitmap_test(&marks, 10) && bitmap_test(&marks, 1) && bitmap_test(&marks, 2));
	assert_int_equal(bitmap_count(&marks), 3);
	bitmap_fini(&marks);
}

/* ---- the superblock -------------------------------------------------------------- */

static void super(void **state)
{
	uint8_t block[4096] = { 0 }, *at = block + 1024;

	(void)state;
	assert_string_equal(ext4_unrest(block), "there is no ext4 on its device");
	at[0x38] = 0x53;
	at[0x39] = 0xef;
	at[0x3a] = 1;
	assert_string_equal(ext4_unrest(block), "its file system has no journal");
	at[0x5c] = 4;
	assert_null(ext4_unrest(block));
	at[0x60] = 0x42;
	assert_null(ext4_unrest(block));
	at[0x60] = 0x46;
	assert_string_equal(ext4_unrest(block), "its journal is not empty");
	at[0x60] = 0x42;
	for (uint8_t bad = 0; bad < 8; bad++) {
		at[0x3a] = bad;
		assert_int_equal(ext4_unrest(block) == NULL, bad == 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(decoded, setup, teardown),
		cmocka_unit_test_setup_teardown(damaged, setup, teardown),
		cmocka_unit_test_setup_teardown(contradictions, setup, teardown),
		cmocka_unit_test_setup_teardown(emptied, setup, teardown),
		cmocka_unit_test_setup_teardown(kept, setup, teardown),
		cmocka_unit_test_setup_teardown(placeless, setup, teardown),
		cmocka_unit_test_setup_teardown(written, setup, teardown),
		cmocka_unit_test_setup_teardown(not_written, setup, teardown),
		cmocka_unit_test_setup_teardown(marked, setup, teardown),
		cmocka_unit_test(super),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
