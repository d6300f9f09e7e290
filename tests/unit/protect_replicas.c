/*
 * What is remembered of a further store comes back; a damaged file is refused whole and
 * holds everything; a store that went to another url begins anew; how far it is behind.
 */
#include "agent/protect/protect.h"
#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "tests/unit/volume_scratch.h"

#include <errno.h>

#define SECOND UINT64_C(1000000000)

static struct config_store stores[2];
static struct config config = { .stores = stores, .store_count = 2 };
static struct uuid one = { { 1 } }, two = { { 2 } };

static void config_make(const char *folder)
{
	char path[PATH_MAX];

	memset(stores, 0, sizeof(stores));
	strcpy(stores[0].name, "near");
	strcpy(stores[0].url, "file:///near");
	strcpy(stores[1].name, "far");
	strcpy(stores[1].url, "file:///far");
	strcpy(config.agent.state, folder);
	snprintf(path, sizeof(path), "%s/stores", folder);
	assert_int_equal(0, file_make_folders(path, 0700));
}

static void save(int store, bool filled, uint64_t through)
{
	struct replica_volume volumes[] = {
		{ .id = one, .name = "v", .place = { filled, through, 7 * SECOND },
		  .missing = through + 1, .missing_ns = 8 * SECOND },
		{ .id = two, .name = "w", .place = { true, 3, SECOND } },
	};
	struct replica_state state = { .success_ns = 5, .failures = 2, .error_ns = 6,
				       .volumes = volumes, .count = 2 };
	struct error err = ERROR_INIT;

	memset(state.error, 'x', sizeof(state.error) - 1);
	/* Cut in the middle of a character. */
	state.error[sizeof(state.error) - 2] = '\xc3';
	if (replica_state_save(config.agent.state, &stores[store], &state, &err))
		fail_msg("%s", err.message);
}

static void comes_back(void **context)
{
	struct replica_volume *volume;
	struct replica_state state;
	struct error err = ERROR_INIT;

	config_make(*context);
	assert_int_equal(0, replica_state_load(config.agent.state, &stores[0], &state, &err));
	assert_int_equal(0, state.count);
	assert_null(replica_state_find(&state, &one));
	save(0, true, 9);
	assert_int_equal(0, replica_state_load(config.agent.state, &stores[0], &state, &err));
	assert_int_equal(2, state.count);
	assert_int_equal(5, state.success_ns);
	assert_int_equal(2, state.failures);
	assert_int_equal(6, state.error_ns);
	assert_int_equal(sizeof(state.error) - 1, strlen(state.error));
	volume = replica_state_find(&state, &one);
	assert_non_null(volume);
	assert_string_equal("v", volume->name);
	assert_true(volume->place.filled && volume->place.through == 9 &&
		    volume->place.time_ns == 7 * SECOND && volume->missing == 10 &&
		    volume->missing_ns == 8 * SECOND);
	replica_state_fini(&state);
	strcpy(stores[0].url, "file:///elsewhere");
	assert_int_equal(0, replica_state_load(config.agent.state, &stores[0], &state, &err));
	assert_int_equal(0, state.count + state.failures + state.success_ns);
}

/* Every cut, and every byte that becomes another, is refused, but for blanks. */
static void damaged(void **context)
{
	struct replica_state state;
	struct error err;
	char path[PATH_MAX];
	CLEANUP_FREE char *text = NULL;
	size_t length, refused = 0, blank = 0;

	config_make(*context);
	save(0, true, 9);
	snprintf(path, sizeof(path), "%s/stores/near.json", (const char *)*context);
	assert_int_equal(0, file_read(path, 1 << 20, &text, &length));
	for (size_t at = 0; at < length; at++) {
		char was = text[at];

		for (int cut = 0; cut < 2; cut++) {
			int ret;

			text[at] = (char)(was ^ 4);
			assert_int_equal(0, file_replace(path, text, cut ? at : length, 0600));
			text[at] = was;
			err = (struct error)ERROR_INIT;
			ret = replica_state_load(config.agent.state, &stores[0], &state, &err);
			assert_true(ret == 0 || ret == -EBADMSG);
			refused += ret != 0;
			if (ret)
				assert_int_equal(0, state.count);
			else
				assert_true(state.volumes[0].place.through == 9);
			replica_state_fini(&state);
		}
	}
	for (size_t at = 0; at < length; at++)
		blank += text[at] == ' ' || text[at] == '\n';
	assert_true(refused >= 2 * length - 2 * blank);
}

static void holds(void **context)
{
	const struct config_store *store;
	char path[PATH_MAX];

	config_make(*context);
	snprintf(path, sizeof(path), "%s/stores/near.json", (const char *)*context);
	file_remove(path);
	config.store_count = 0;
	assert_int_equal(0, protect_hold(&config, &one, &store));
	assert_null(store);
	config.store_count = 2;
	/* Nothing is there yet: all is held. */
	assert_int_equal(1, protect_hold(&config, &one, &store));
	save(0, true, 9);
	assert_int_equal(1, protect_hold(&config, &one, &store));
	assert_ptr_equal(&stores[1], store);
	save(1, true, 12);
	assert_int_equal(9, protect_hold(&config, &one, &store));
	assert_ptr_equal(&stores[0], store);
	assert_int_equal(3, protect_hold(&config, &two, &store));
	/* What is not filled yet may need anything. */
	save(1, false, 12);
	assert_int_equal(1, protect_hold(&config, &one, &store));
	save(1, true, 12);
	assert_int_equal(0, file_replace(path, "{", 1, 0600));
	assert_int_equal(1, protect_hold(&config, &one, &store));
	assert_ptr_equal(&stores[0], store);
}

static void behind(void **context)
{
	struct replica_volume volume = { .place = { true, 5, 50 * SECOND } };
	struct replica_lag lag;

	(void)context;
	lag = replica_lag(&volume, 5, 50 * SECOND, 90 * SECOND);
	assert_true(!lag.points && !lag.ns && lag.through == 5 && lag.through_ns == 50 * SECOND);
	/* The newest's time, as long as no pass knows better. */
	lag = replica_lag(&volume, 8, 80 * SECOND, 90 * SECOND);
	assert_true(lag.points == 3 && lag.ns == 10 * SECOND);
	volume.missing = 6;
	volume.missing_ns = 60 * SECOND;
	lag = replica_lag(&volume, 8, 80 * SECOND, 90 * SECOND);
	assert_true(lag.points == 3 && lag.ns == 30 * SECOND);
	volume.missing = 4;	/* of before */
	lag = replica_lag(&volume, 8, 80 * SECOND, 90 * SECOND);
	assert_true(lag.ns == 10 * SECOND);
	/* A clock that was set back; a host that was. */
	lag = replica_lag(&volume, 8, 80 * SECOND, 70 * SECOND);
	assert_true(lag.points == 3 && !lag.ns);
	lag = replica_lag(&volume, 3, 30 * SECOND, 90 * SECOND);
	assert_true(!lag.points && !lag.ns);
	lag = replica_lag(NULL, 8, 80 * SECOND, 90 * SECOND);
	assert_true(lag.points == 8 && lag.ns == 10 * SECOND && !lag.through);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(comes_back, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(damaged, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(holds, scratch_setup, scratch_teardown),
		cmocka_unit_test(behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
