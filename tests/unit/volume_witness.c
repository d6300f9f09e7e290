/*
 * The witness on files that stand for devices: the same as long as nobody writes,
 * another one after any write to the places that it promises to look at.
 */
#include "agent/volume/witness.h"
#include "tests/unit/volume_scratch.h"

#include <fcntl.h>

#define MIB (1u << 20)
#define BYTES (64u * MIB + 512)
#define PLAN(marks_, granularity_, seed_) (&(struct witness_plan){ .marks = (marks_), \
	.granularity_bytes = (granularity_), .seed = (seed_) })

static int fd;
static struct bitmap marks;
static uint32_t granularity = 4096;

static int setup(void **state)
{
	char path[] = "/tmp/volume-witness-XXXXXX";

	(void)state;
	fd = mkstemp(path);
	unlink(path);
	granularity = 4096;
	return fd < 0 || ftruncate(fd, BYTES) || bitmap_init(&marks, BYTES / 4096 + 1);
}

static int teardown(void **state)
{
	(void)state;
	bitmap_fini(&marks);
	return close(fd);
}

static struct witness look(void)
{
	struct witness seen;

	ASSERT_OK(witness_read(fd, BYTES, PLAN(&marks, granularity, 42), &seen, &err));
	return seen;
}

static bool same(const uint8_t *a, const uint8_t *b) { return !memcmp(a, b, 32); }

static void flip(uint64_t offset)
{
	uint8_t byte;

	assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
}

/* Exactly these parts of the witness change. */
static void assert_seen(uint64_t offset, bool edges, bool journal, bool sample)
{
	struct witness before = look(), after;

	flip(offset);
	after = look();
	flip(offset);
	if (same(before.edges, after.edges) == edges)
		fail_msg("a write at %llu %s the edges", (unsigned long long)offset,
			 edges ? "does not show in" : "shows in");
	if (same(before.journal, after.journal) == journal)
		fail_msg("a write at %llu %s the journal", (unsigned long long)offset,
			 journal ? "does not show in" : "shows in");
	if (sample && same(before.sample, after.sample))
		fail_msg("a write at %llu does not show in the sample",
			 (unsigned long long)offset);
}

/* What is hidden may change, wherever it is looked at, and its neighbours may not. */
static void hidden(void **state)
{
	static struct extent pieces[] = { { 255, 2 }, { 3, 1 }, { 5000, 1 } };
	static const uint64_t inside[] = { 255 * 4096, 257 * 4096 - 1, 3 * 4096, 4 * 4096 - 1,
					   5000 * 4096 + 7 };
	static const uint64_t beside[] = { 255 * 4096 - 1, 257 * 4096, 3 * 4096 - 1, 4 * 4096 };
	struct slot_place place = { pieces, 3 };
	struct witness_plan plan = { .marks = &marks, .granularity_bytes = 4096, .hidden = &place };
	struct witness before, after;

	(void)state;
	bitmap_set(&marks, 5000, 1);
	ASSERT_OK(witness_read(fd, BYTES, &plan, &before, &err));
	for (size_t i = 0; i < sizeof(inside) / sizeof(inside[0]); i++)
		flip(inside[i]);
	ASSERT_OK(witness_read(fd, BYTES, &plan, &after, &err));
	assert_memory_equal(&before, &after, sizeof(before));
	for (size_t i = 0; i < sizeof(beside) / sizeof(beside[0]); i++) {
		flip(beside[i]);
		ASSERT_OK(witness_read(fd, BYTES, &plan, &after, &err));
		assert_false(same(before.edges, after.edges));
		flip(beside[i]);
	}
	plan.hidden = NULL;
	ASSERT_OK(witness_read(fd, BYTES, &plan, &after, &err));
	assert_false(same(before.edges, after.edges) || same(before.sample, after.sample));
}

static void edges(void **state)
{
	static const uint64_t seen[] = { 0, 1024, MIB - 1, MIB, MIB + 65536, 2 * MIB + 1024,
					 16 * MIB, 16 * MIB + 131071, BYTES - MIB, BYTES - 1 };
	struct witness first = look(), second = look();

	(void)state;
	assert_memory_equal(&first, &second, sizeof(first));
	for (size_t i = 0; i < sizeof(seen) / sizeof(seen[0]); i++)
		assert_seen(seen[i], true, false, false);
	assert_seen(20 * MIB, false, false, false);
	assert_seen(BYTES - MIB - 1, false, false, false);
}

/* Few marks: each is looked at. Many: a run of some per cent of them. */
static void sample(void **state)
{
	struct witness before, after;

	(void)state;
	bitmap_set(&marks, 20 * MIB / 4096, 1);
	bitmap_set(&marks, 30 * MIB / 4096, 3);
	assert_seen(20 * MIB + 7, false, false, true);
	assert_seen(30 * MIB + 2 * 4096 + 4095, false, false, true);
	bitmap_set(&marks, 20 * MIB / 4096, 1280);
	before = look();
	for (uint64_t i = 0; i < 10; i++)
		flip(22 * MIB + i * 4096);
	after = look();
	assert_false(same(before.sample, after.sample));
	/* Two of the parts that the device is spread over. */
	before = look();
	for (uint64_t at = 50 * MIB; at < 51 * MIB; at += 4096)
		flip(at);
	after = look();
	assert_false(same(before.sample, after.sample));
}

static void coarse(void **state)
{
	struct witness first, second;

	(void)state;
	bitmap_fini(&marks);
	assert_int_equal(bitmap_init(&marks, BYTES / MIB + 1), 0);
	bitmap_set(&marks, 0, BYTES / MIB + 1);
	granularity = MIB;
	first = look();
	second = look();
	assert_memory_equal(&first, &second, sizeof(first));
}

static void tiny(void **state)
{
	struct bitmap one = { 0 };
	struct witness seen;

	(void)state;
	assert_int_equal(bitmap_init(&one, 1), 0);
	bitmap_set(&one, 0, 1);
	for (uint64_t bytes = 512; bytes <= 8192; bytes += 512)
		ASSERT_OK(witness_read(fd, bytes, PLAN(&one, 8192, 1), &seen, &err));
	bitmap_fini(&one);
}

static void put_be32(uint8_t *at, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		at[i] = (uint8_t)(value >> (24 - 8 * i));
}

/* An XFS whose log of 8 MiB begins at 24 MiB, with its head at 5 MiB. */
static void xfs_make(uint64_t head)
{
	uint8_t super[4096] = "XFSB", block[512] = { 0 };

	put_be32(super + 4, 4096);
	put_be32(super + 52, 1 << 13 | 2048);	/* group 1, block 2048 */
	put_be32(super + 84, 4096);		/* blocks a group: 16 MiB */
	put_be32(super + 96, 8 * MIB / 4096);
	super[124] = 13;
	assert_int_equal(pwrite(fd, super, sizeof(super), 0), sizeof(super));
	for (uint64_t at = 0; at < 8 * MIB; at += sizeof(block)) {
		uint32_t lap = at < head ? 7 : 6;

		put_be32(block, at % 32768 ? lap : 0xfeedbabe);
		put_be32(block + 4, at % 32768 ? 0 : lap);
		assert_int_equal(pwrite(fd, block, sizeof(block), (off_t)(24 * MIB + at)),
				 sizeof(block));
	}
}

static void xfs(void **state)
{
	static const uint64_t heads[] = { 5 * MIB, 4096, 8 * MIB - 4096, 0, 8 * MIB };

	(void)state;
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		uint64_t log = 24 * MIB, head = heads[i];

		xfs_make(head);
		/* Where the log goes on; behind its end that is the beginning. */
		assert_seen(log + head % (8 * MIB) + 100, false, true, false);
		assert_seen(log + (head + 65536) % (8 * MIB) + 100, false, true, false);
		assert_seen(log + (head + 2 * MIB) % (8 * MIB) + 100, false, false, false);
	}
}

/* Any superblock, also a hostile one, is read without harm. */
static void xfs_hostile(void **state)
{
	struct random_state seed = random_start("volume_witness");

	(void)state;
	for (int i = 0; i < 300; i++) {
		uint8_t super[4096];
		struct witness seen;

		for (size_t at = 0; at < sizeof(super); at++)
			super[at] = (uint8_t)random_next(&seed);
		memcpy(super, "XFSB", 4);
		if (i % 2)
			put_be32(super + 4, 4096);
		if (i % 3)
			put_be32(super + 48, 0);
		if (i % 5)
			put_be32(super + 96, (uint32_t)random_next(&seed) % 20000);
		super[124] %= 40;
		assert_int_equal(pwrite(fd, super, sizeof(super), 0), sizeof(super));
		ASSERT_OK(witness_read(fd, BYTES, PLAN(&marks, 4096, 1), &seen, &err));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(edges, setup, teardown),
		cmocka_unit_test_setup_teardown(hidden, setup, teardown),
		cmocka_unit_test_setup_teardown(sample, setup, teardown),
		cmocka_unit_test_setup_teardown(coarse, setup, teardown),
		cmocka_unit_test_setup_teardown(tiny, setup, teardown),
		cmocka_unit_test_setup_teardown(xfs, setup, teardown),
		cmocka_unit_test_setup_teardown(xfs_hostile, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
