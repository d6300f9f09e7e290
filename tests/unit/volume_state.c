/*
 * The state file: random states come back as they were; every damaged byte is
 * noticed or harmless to what is read; nothing is believed in part.
 */
#include "tests/unit/volume_scratch.h"

static struct random_state random_source;

static void random_text(char *text, size_t room)
{
	size_t length = random_below(&random_source, room);

	for (size_t i = 0; i < length; i++)
		text[i] = (char)(' ' + random_below(&random_source, 95));
	text[length] = '\0';
}

static uint64_t random_number(unsigned bits)
{
	return random_next(&random_source) >> (64 - bits) >>
	       random_below(&random_source, bits);
}

static void random_volume_state(struct volume_state *state)
{
	memset(state, 0, sizeof(*state));
	strcpy(state->name, "pgdata");
	assert_int_equal(uuid_new(&state->id), 0);
	assert_int_equal(uuid_new(&state->repository), 0);
	random_text(state->device_path, 64);
	random_text(state->dm_uuid, sizeof(state->dm_uuid));
	random_text(state->dm_name, sizeof(state->dm_name));
	random_text(state->reason, sizeof(state->reason));
	random_text(state->identity.boot_id, sizeof(state->identity.boot_id));
	random_text(state->identity.program_tag, sizeof(state->identity.program_tag));
	state->device = (uint32_t)random_number(32);
	state->granularity_bytes = (uint32_t)random_number(32);
	state->identity.program_id = (uint32_t)random_number(32);
	state->identity.link_id = (uint32_t)random_number(32);
	state->identity.retired_id = (uint32_t)random_number(32);
	state->diskseq = random_number(63);
	state->bytes = random_number(63);
	state->head_point = random_number(63);
	state->head_time_ns = random_number(63);
	state->full_point = random_number(63);
	state->full_time_ns = random_number(63);
	state->synthetic_time_ns = random_number(63);
	state->differential_time_ns = random_number(63);
	state->since_ns = random_number(63);
	state->recursion_misses = random_number(63);
	state->base.kernel_write_sectors = random_number(63);
	state->base.traced_discard_sectors = random_number(63);
	state->trust = random_one_in(&random_source, 2) ? TRUST_TRACKED : TRUST_UNTRUSTED;
	for (size_t i = 0; i < sizeof(state->head_hash); i++)
		state->head_hash[i] = (uint8_t)random_next(&random_source);
	for (size_t i = 0; i < sizeof(state->table); i++)
		state->table[i] = (uint8_t)random_next(&random_source);
}

static void test_round_trip(void **context)
{
	const char *folder = *context;
	struct volume_state state, again;
	struct stat st;
	char path[PATH_MAX];

	for (int i = 0; i < 50; i++) {
		random_volume_state(&state);
		ASSERT_OK(volume_state_save(folder, &state, &err));
		memset(&again, 0xa5, sizeof(again));
		ASSERT_OK(volume_state_load(folder, "pgdata", &again, &err));
		assert_memory_equal(&state, &again, sizeof(state));
	}
	snprintf(path, sizeof(path), "%s/volumes/pgdata/state.json", folder);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

static void test_missing(void **context)
{
	struct volume_state state;

	ASSERT_FAILS(-ENOENT, volume_state_load(*context, "never", &state, &err));
}

static void test_bad_names(void **context)
{
	static const char *const names[] = { "", ".", "..", ".a", "-a", "a/b", "a b",
		"0123456789012345678901234567890123456789012345678901234567890123x" };
	struct volume_state state;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		ASSERT_FAILS(-EINVAL, volume_state_load(*context, names[i], &state, &err));
	memset(&state, 0, sizeof(state));
	strcpy(state.name, "../x");
	ASSERT_FAILS(-EINVAL, volume_state_save(*context, &state, &err));
}

/* Not UTF-8, or a counter that JSON cannot hold: refused, not bent. */
static void test_unsavable(void **context)
{
	struct volume_state state;

	random_volume_state(&state);
	strcpy(state.device_path, "/dev/\xff");
	ASSERT_FAILS(-EOVERFLOW, volume_state_save(*context, &state, &err));
	random_volume_state(&state);
	state.bytes = UINT64_MAX;
	ASSERT_FAILS(-EOVERFLOW, volume_state_save(*context, &state, &err));
}

/* Each byte changed or the end cut off: the state read is the true one or none. */
static void test_damage(void **context)
{
	struct volume_state state, again, zero;
	char path[PATH_MAX], *data;
	unsigned refused = 0;
	size_t length;

	memset(&zero, 0, sizeof(zero));
	random_volume_state(&state);
	ASSERT_OK(volume_state_save(*context, &state, &err));
	snprintf(path, sizeof(path), "%s/volumes/pgdata/state.json", (char *)*context);
	assert_int_equal(file_read(path, 1 << 20, &data, &length), 0);
	for (int i = 0; i < 600; i++) {
		size_t at = random_below(&random_source, length);
		size_t kept = i % 3 ? length : at;
		char old = data[at];
		struct error err = ERROR_INIT;
		int ret;

		if (i % 3)
			data[at] ^= (char)(1 << random_below(&random_source, 8));
		/* Not file_replace: no fsync per case. */
		FILE *file = fopen(path, "we");
		assert_int_equal(fwrite(data, 1, kept, file), kept);
		fclose(file);
		data[at] = old;
		ret = volume_state_load(*context, "pgdata", &again, &err);
		if (!ret) {
			assert_memory_equal(&state, &again, sizeof(state));
			continue;
		}
		refused++;
		assert_true(ret == -EBADMSG || ret == -EPROTONOSUPPORT);
		assert_int_equal(err.code, ret);
		assert_memory_equal(&again, &zero, sizeof(zero));
	}
	assert_true(refused > 400);
	free(data);
}

/* A well-formed file of another volume under this name. */
static void test_moved(void **context)
{
	char from[PATH_MAX], to[PATH_MAX];
	struct volume_state state;

	random_volume_state(&state);
	ASSERT_OK(volume_state_save(*context, &state, &err));
	snprintf(from, sizeof(from), "%s/volumes/pgdata", (char *)*context);
	snprintf(to, sizeof(to), "%s/volumes/wal", (char *)*context);
	assert_int_equal(rename(from, to), 0);
	ASSERT_FAILS(-EBADMSG, volume_state_load(*context, "wal", &state, &err));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trip, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(test_missing, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(test_bad_names, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(test_unsavable, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(test_damage, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(test_moved, scratch_setup, scratch_teardown),
	};

	random_source = random_start("volume_state");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
