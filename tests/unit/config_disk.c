/* [disk NAME]: a volume of a kind of its own, with fewer keys and a calmer schedule. */
#include "tests/unit/config_lab.h"

#define SECOND 1000000000ull
#define DAY (86400 * SECOND)

static void keys(void **state)
{
	struct config config;
	const struct config_volume *disk;

	(void)state;
	config_expect_good("[disk machine]\ndevice = /dev/disk/by-id/x\nleave_out = 3, vg/a\n"
			   "keep = last=7\nrpo = 6h\nfull = weekly\nwindow = 20:00-06:00\n"
			   "[volume root]\ndevice = /dev/vg/root\n", &config);
	disk = config_volume(&config, "machine");
	assert_non_null(disk);
	assert_true(disk->disk && !config_volume(&config, "root")->disk);
	assert_string_equal(disk->device, "/dev/disk/by-id/x");
	assert_string_equal(disk->leave_out, "3, vg/a");
	assert_true(disk->schedule.rpo_ns == DAY / 4 && disk->fingerprints);
	assert_string_equal(disk->schedule.full, "weekly");
	config_fini(&config);
}

/* What volumes do each minute is too often for a disk; what they never do it does not. */
static void schedule(void **state)
{
	static const char volume[] = "device = /dev/v\n[disk d]\ndevice = /dev/d\n";
	struct config config;
	char text[400];

	(void)state;
	snprintf(text, sizeof(text), "[agent]\nrpo = 30s\nfull = weekly\nsynthetic = daily\n"
		 "differential = daily\n[volume v]\n%s", volume);
	config_expect_good(text, &config);
	assert_true(config.volumes[0].schedule.rpo_ns == 30 * SECOND);
	assert_true(config.volumes[1].schedule.rpo_ns == DAY);
	assert_string_equal(config.volumes[1].schedule.full, "");
	assert_string_equal(config.volumes[1].schedule.synthetic, "");
	assert_string_equal(config.volumes[1].schedule.differential, "");
	config_fini(&config);
	snprintf(text, sizeof(text), "[volume v]\n%s", volume);
	config_expect_good(text, &config);
	assert_true(config.volumes[1].schedule.rpo_ns == 0);
	config_fini(&config);
	snprintf(text, sizeof(text), "[agent]\nrpo = 30s\n[volume v]\n%srpo = off\n", volume);
	config_expect_good(text, &config);
	assert_true(config.volumes[1].schedule.rpo_ns == 0);
	config_fini(&config);
}

static void wrong_ones(void **state)
{
	static const struct { const char *text; unsigned line; const char *message; } wrong[] = {
		{ "[disk d]\n", 0, "disk d has no device" },
		{ "[disk d]\ndevice = sda\n", 2, "absolute path" },
		{ "[disk d]\ndevice = /dev/d\ngroup = g\n", 3, "has no key \"group\"" },
		{ "[disk d]\ndevice = /dev/d\ncow = ram\n", 3, "has no key \"cow\"" },
		{ "[disk d]\ndevice = /dev/d\nhook = /bin/true\n", 3, "has no key \"hook\"" },
		{ "[disk d]\ndevice = /dev/d\nidle_point = off\n", 3, "has no key" },
		{ "[disk d]\ndevice = /dev/d\ndifferential = daily\n", 3, "has no key" },
		{ "[disk d]\ndevice = /dev/d\n[volume d]\n", 0, "name of a volume and of a disk" },
		{ "[volume d]\ndevice = /dev/d\n[disk d]\n", 0, "name of a volume and of a disk" },
		{ "[disk a/b]\n", 0, "is no name for a disk" }, { "[disk]\n", 0, "is no section" },
		{ "[volume v]\ndevice = /dev/v\nleave_out = 1\n", 3, "has no key \"leave_out\"" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		config_expect_bad(wrong[i].text, wrong[i].line, wrong[i].message);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys), cmocka_unit_test(schedule), cmocka_unit_test(wrong_ones),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
