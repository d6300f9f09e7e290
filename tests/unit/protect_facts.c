/*
 * What the daemon leaves on record comes back; a damaged file is refused whole; the
 * lock is seen by who only looks.
 */
#include "agent/protect/daemon.h"
#include "tests/unit/volume_scratch.h"

#include <fcntl.h>

static struct unit units[2];
static struct schedule_unit schedules[2];
static const struct unit_list list = { units, schedules, 2 };
static const struct instant now = { 5000000000000, 1795000000000000000 };

static void two_units(void)
{
	memset(units, 0, sizeof(units));
	strcpy(units[0].name, "v");
	strcpy(units[1].name, "g");
	units[1].group = true;
	for (int i = 0; i < 2; i++) {
		schedule_init(&schedules[i], now.boot_ns, 1000000000);
		schedules[i].rpo_ns = 60000000000;
	}
	/* Before the boot, and none. */
	schedule_point(&schedules[0], now.boot_ns - 9000000000000);
	schedules[0].missed = true;
	schedules[0].failures = 3;
	units[0].error_ns = now.real_ns - 1;
	memset(units[0].error, 'x', sizeof(units[0].error) - 1);
	/* Cut in the middle of a character. */
	units[0].error[sizeof(units[0].error) - 2] = '\xc3';
}

static void comes_back(void **context)
{
	const char *folder = *context;
	struct error err = ERROR_INIT;
	struct protect_facts facts;
	int fd, other;

	assert_int_equal(-ENOENT, protect_facts_load(folder, &facts, &err));
	assert_false(facts.alive);
	two_units();
	assert_int_equal(0, daemon_lock(folder, &fd, &err));
	assert_int_equal(0, daemon_file_save(folder, &list, now, &err));
	assert_int_equal(0, protect_facts_load(folder, &facts, &err));
	assert_int_equal(2, facts.count);
	assert_true(facts.alive);
	assert_string_equal(facts.units[0].name, "v");
	assert_true(facts.units[0].missed && !facts.units[0].group && facts.units[1].group);
	assert_true(facts.units[0].covered_ns == now.real_ns - 9000000000000);
	assert_true(facts.units[1].covered_ns == 0);
	assert_int_equal(3, facts.units[0].failures);
	assert_int_equal(sizeof(units[0].error) - 1, strlen(facts.units[0].error));
	assert_true(facts.units[0].run_ns == 1000000000);
	protect_facts_fini(&facts);
	/* The same process through another descriptor is another holder. */
	assert_true(daemon_lock(folder, &other, &err) < 0);
	assert_int_equal(EXIT_LOCKED, err.exit);
	close(fd);
	assert_int_equal(0, protect_facts_load(folder, &facts, &err));
	assert_false(facts.alive);
	protect_facts_fini(&facts);
	assert_int_equal(0, daemon_lock(folder, &other, &err));
	close(other);
}

/* Every cut, and every byte that becomes another. */
static void damaged(void **context)
{
	const char *folder = *context;
	struct error err = ERROR_INIT;
	struct protect_facts facts;
	char path[PATH_MAX], *text;
	size_t length;

	two_units();
	assert_int_equal(0, daemon_file_save(folder, &list, now, &err));
	snprintf(path, sizeof(path), "%s/protect.json", folder);
	assert_int_equal(0, file_read(path, 1 << 20, &text, &length));
	for (size_t at = 0; at < length; at++) {
		char was = text[at];
		int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

		text[at] = (char)(was ^ (at % 2 ? 0x01 : 0x80));
		assert_int_equal(0, file_write_all(fd, text, at % 3 ? length : at));
		close(fd);
		text[at] = was;
		if (protect_facts_load(folder, &facts, &err))
			assert_true(!facts.units && !facts.count && err.code == -EBADMSG);
		else
			assert_int_equal(2, facts.count);
		protect_facts_fini(&facts);
	}
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(comes_back, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(damaged, scratch_setup, scratch_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
