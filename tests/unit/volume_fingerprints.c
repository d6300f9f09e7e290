/*
 * The table of fingerprints against a plain array, over a life with runs that fail
 * and agents that die at every step; and what damage does to it.
 */
#include "tests/unit/volume_scratch.h"

#include "agent/volume/fingerprint_format.h"

#define BLOCKS 1000u

static struct random_state random_source;

struct life {
	const char *folder;
	struct uuid volume, run, head_run;
	struct fingerprints *table;
	uint64_t model[BLOCKS];		/* the head point's tags */
	uint64_t next[BLOCKS];		/* … if the present run is committed */
	uint8_t hash[32];
	uint64_t checked;
	bool lost;			/* no table: the next must be anew */
};

static void paths(const struct life *life, char *table, char *journal)
{
	snprintf(table, PATH_MAX, "%s/volumes/v/fingerprints", life->folder);
	snprintf(journal, PATH_MAX, "%s/volumes/v/fingerprints.journal", life->folder);
}

static void life_open(struct life *life)
{
	ASSERT_OK(fingerprints_open(life->folder, "v", &life->volume, BLOCKS, &life->table,
				    &err));
}

static void life_start(struct life *life, const char *folder)
{
	char path[PATH_MAX];

	memset(life, 0, sizeof(*life));
	life->folder = folder;
	life->lost = true;
	memset(life->volume.b, 7, sizeof(life->volume.b));
	snprintf(path, sizeof(path), "%s/volumes/v", folder);
	assert_int_equal(file_make_folders(path, 0700), 0);
}

static void expect_model(struct life *life)
{
	uint64_t tags[BLOCKS];

	for (uint32_t at = 0; at < BLOCKS; at += 250)
		assert_int_equal(fingerprints_known(life->table, at, 250, tags + at), 0);
	assert_memory_equal(tags, life->model, sizeof(tags));
	assert_int_equal(fingerprints_known(life->table, BLOCKS - 1, 2, tags), -ENOENT);
}

static void note_some(struct life *life, bool anew)
{
	uint64_t tags[400];

	for (uint64_t at = 0; at < BLOCKS; ) {
		uint32_t count = 1 + (uint32_t)random_below(&random_source, 400);

		if (count > BLOCKS - at)
			count = (uint32_t)(BLOCKS - at);
		if (anew || random_one_in(&random_source, 3)) {
			for (uint32_t i = 0; i < count; i++) {
				tags[i] = random_one_in(&random_source, 3) ? 0 :
					  random_next(&random_source);
				life->next[at + i] = tags[i];
			}
			fingerprints_note(life->table, at, count, tags);
		}
		at += count;
	}
}

static void copy(const char *from, const char *to)
{
	size_t length;
	char *data;

	assert_int_equal(file_read(from, 1 << 20, &data, &length), 0);
	assert_int_equal(file_replace(to, data, length, 0600), 0);
	free(data);
}

/*
 * As if the agent had died half way through bringing the table up to date: some
 * of the journal's tags are in it, the header is as before (or gone, when it was to
 * be anew), and the journal is there.
 */
static void half_applied(struct life *life, const char *journal_saved, bool anew)
{
	char table[PATH_MAX], journal[PATH_MAX];
	struct le64 tag;
	FILE *file;

	paths(life, table, journal);
	copy(journal_saved, journal);
	if (anew) {
		assert_int_equal(truncate(table, 0), 0);
		return;
	}
	file = fopen(table, "r+e");
	assert_non_null(file);
	for (uint64_t block = 0; block < BLOCKS; block++) {
		if (!random_one_in(&random_source, 2))
			continue;
		tag = le64(life->next[block]);
		fseek(file, (long)(TABLE_TAGS_OFFSET + block * 8), SEEK_SET);
		assert_int_equal(fwrite(&tag, sizeof(tag), 1, file), 1);
	}
	fclose(file);
}

enum end { COMMITTED, FAILED, FAILED_SEALED, DIED_BEFORE_ADVANCE, DIED_IN_ADVANCE, ENDS };

static void one_run(struct life *life, enum end end)
{
	char table[PATH_MAX], journal[PATH_MAX], saved[PATH_MAX];
	bool anew = life->lost || random_one_in(&random_source, 4);
	uint8_t hash[32];

	paths(life, table, journal);
	snprintf(saved, sizeof(saved), "%s/saved", life->folder);
	for (size_t i = 0; i < sizeof(hash); i++)
		hash[i] = (uint8_t)random_next(&random_source);
	assert_int_equal(uuid_new(&life->run), 0);
	ASSERT_OK(fingerprints_begin(life->table, &life->run, anew, &err));
	memcpy(life->next, life->model, sizeof(life->next));
	note_some(life, anew);
	fingerprints_count(life->table, 5, 0);
	if (end != FAILED)
		ASSERT_OK(fingerprints_seal(life->table, &err));
	if (end == DIED_IN_ADVANCE)
		copy(journal, saved);
	if (end == DIED_IN_ADVANCE && life->lost)
		end = DIED_BEFORE_ADVANCE;
	if (end == COMMITTED)
		ASSERT_OK(fingerprints_advance(life->table, hash, &err));
	fingerprints_close(life->table);
	if (end == DIED_IN_ADVANCE)
		half_applied(life, saved, anew);
	if (end != FAILED && end != FAILED_SEALED) {
		memcpy(life->model, life->next, sizeof(life->model));
		memcpy(life->hash, hash, sizeof(hash));
		life->head_run = life->run;
		life->checked += 5;
		life->lost = false;
	}
	life_open(life);
	assert_int_equal(fingerprints_settle(life->table, life->hash, &life->head_run),
			 !life->lost);
	assert_int_not_equal(access(journal, F_OK), 0);
	if (!life->lost)
		expect_model(life);
}

static void test_life(void **context)
{
	struct volume_state state = { .head_point = 1, .bytes = BLOCKS * 4096 };
	struct fingerprints_facts facts;
	struct life life;

	life_start(&life, *context);
	life_open(&life);
	for (int i = 0; i < 300; i++)
		one_run(&life, (enum end)random_below(&random_source, ENDS));
	fingerprints_close(life.table);
	strcpy(state.name, "v");
	state.id = life.volume;
	memcpy(state.head_hash, life.hash, sizeof(state.head_hash));
	ASSERT_OK(fingerprints_look(life.folder, &state, &facts, &err));
	assert_true(facts.current && facts.stored_bytes);
	/* Counts may be lost with the table, never made up. */
	assert_true(facts.checked <= life.checked);
	state.head_hash[0] ^= 1;
	ASSERT_OK(fingerprints_look(life.folder, &state, &facts, &err));
	assert_false(facts.current);
	ASSERT_OK(fingerprints_discard(life.folder, "v", &err));
	ASSERT_OK(fingerprints_discard(life.folder, "v", &err));
	ASSERT_OK(fingerprints_look(life.folder, &state, &facts, &err));
	assert_false(facts.current || facts.stored_bytes);
}

/* Each thing that must be as it was for the table to be believed, changed alone. */
static void test_not_current(void **context)
{
	struct life life;
	struct uuid other = { { 9 } };
	uint8_t wrong[32];
	char table[PATH_MAX], journal[PATH_MAX];

	for (int what = 0; what < 6; what++) {
		struct uuid volume;
		uint64_t blocks = BLOCKS;

		life_start(&life, *context);
		volume = life.volume;
		paths(&life, table, journal);
		life_open(&life);
		one_run(&life, COMMITTED);
		one_run(&life, what == 5 ? DIED_BEFORE_ADVANCE : COMMITTED);
		fingerprints_close(life.table);
		memcpy(wrong, life.hash, sizeof(wrong));
		if (what == 1)
			volume.b[3] ^= 1;
		if (what == 2)
			blocks++;
		if (what == 3)
			wrong[31] ^= 0x80;
		if (what == 4)
			assert_int_equal(truncate(table, 100), 0);
		ASSERT_OK(fingerprints_open(life.folder, "v", &volume, blocks, &life.table, &err));
		if (what == 5)		/* settled once; now another head */
			wrong[0] ^= 1;
		assert_int_equal(fingerprints_settle(life.table, wrong, &other), what == 0);
		/* What is not believed is gone, so that it cannot be later either. */
		assert_int_equal(access(table, F_OK) == 0, what == 0);
		if (what)
			ASSERT_FAILS(-EINVAL, fingerprints_begin(life.table, &other, false, &err));
		fingerprints_close(life.table);
	}
}

/* A journal with any one bit wrong, or cut short, is not applied. */
static void test_damage(void **context)
{
	char table[PATH_MAX], journal[PATH_MAX], saved[PATH_MAX], base[PATH_MAX], older[PATH_MAX];
	struct uuid other = { { 9 } };
	struct life life;
	uint8_t hash[32] = { 1 };
	size_t length;
	char *data;

	life_start(&life, *context);
	paths(&life, table, journal);
	snprintf(saved, sizeof(saved), "%s/saved", life.folder);
	snprintf(base, sizeof(base), "%s/base", life.folder);
	snprintf(older, sizeof(older), "%s/older", life.folder);
	life_open(&life);
	one_run(&life, COMMITTED);
	copy(table, older);
	one_run(&life, COMMITTED);
	copy(table, base);
	ASSERT_OK(fingerprints_begin(life.table, &life.run, false, &err));
	note_some(&life, false);
	ASSERT_OK(fingerprints_seal(life.table, &err));
	fingerprints_close(life.table);
	copy(journal, saved);
	assert_int_equal(file_read(saved, 1 << 20, &data, &length), 0);
	for (int round = 0; round < 400; round++) {
		size_t at = random_below(&random_source, length);
		bool cut = round % 4 == 0;

		if (!cut)
			data[at] ^= (char)(1 << round % 8);
		assert_int_equal(file_replace(journal, data, cut ? at : length, 0600), 0);
		if (!cut)
			data[at] ^= (char)(1 << round % 8);
		copy(base, table);
		life_open(&life);
		assert_false(fingerprints_settle(life.table, hash, &life.run));
		fingerprints_close(life.table);
	}
	/* Nor is a whole one of another run, or onto another point's table. */
	copy(saved, journal);
	copy(base, table);
	life_open(&life);
	assert_false(fingerprints_settle(life.table, hash, &other));
	fingerprints_close(life.table);
	copy(saved, journal);
	copy(older, table);
	life_open(&life);
	assert_false(fingerprints_settle(life.table, hash, &life.run));
	fingerprints_close(life.table);
	/* As it should be, it is. */
	copy(saved, journal);
	copy(base, table);
	life_open(&life);
	assert_true(fingerprints_settle(life.table, hash, &life.run));
	fingerprints_close(life.table);
	free(data);
}

/* A volume of zeros takes no room. */
static void test_sparse(void **context)
{
	static const uint64_t zeros[256];
	struct volume_state state = { .head_point = 1, .bytes = (UINT64_C(1) << 22) * 4096 };
	struct fingerprints_facts facts;
	struct life life;

	life_start(&life, *context);
	ASSERT_OK(fingerprints_open(life.folder, "v", &life.volume, 1 << 22, &life.table, &err));
	ASSERT_OK(fingerprints_begin(life.table, &life.run, true, &err));
	for (uint64_t at = 0; at < 1 << 22; at += 256)
		fingerprints_note(life.table, at, 256, zeros);
	ASSERT_OK(fingerprints_seal(life.table, &err));
	ASSERT_OK(fingerprints_advance(life.table, state.head_hash, &err));
	fingerprints_close(life.table);
	strcpy(state.name, "v");
	state.id = life.volume;
	ASSERT_OK(fingerprints_look(life.folder, &state, &facts, &err));
	assert_true(facts.current);
	assert_true(facts.stored_bytes <= 16384);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_life, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(test_not_current, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(test_damage, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(test_sparse, scratch_setup, scratch_teardown),
	};

	random_source = random_start("volume_fingerprints");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
