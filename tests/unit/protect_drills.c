/* What the state folder remembers of drills comes back; a damaged file is refused whole. */
#include "agent/protect/protect.h"
#include "tests/unit/volume_scratch.h"

static struct drill_state two(void)
{
	return (struct drill_state){
		.since_ns = 5, .has_last = true, .has_passed = true,
		.last = { .point = 9, .started_ns = 100, .failed = DRILL_COMMAND, .exit = 1,
			  .message = "it ended with code 3", .host = "h" },
		.passed = { .sequence = 4, .point = 8, .started_ns = 50, .passed = true,
			    .rto_ns = 7, .file_system = "ext4", .command = "drill-postgresql" },
	};
}

static void comes_back(void **context)
{
	struct drill_state state = two(), back;
	struct error err = ERROR_INIT;

	assert_int_equal(0, drill_state_load(*context, "v", &back, &err));
	assert_false(back.has_last);
	assert_int_equal(0, back.since_ns);
	assert_int_equal(0, drill_state_save(*context, "v", &state, &err));
	assert_int_equal(0, drill_state_load(*context, "v", &back, &err));
	assert_true(back.has_last && back.has_passed && back.since_ns == 5);
	assert_true(!back.last.passed && back.last.failed == DRILL_COMMAND &&
		    back.last.exit == 1 && back.last.point == 9);
	assert_string_equal(back.last.message, "it ended with code 3");
	assert_true(back.passed.passed && back.passed.rto_ns == 7 && back.passed.sequence == 4);
	assert_string_equal(back.passed.command, "drill-postgresql");
	state.has_passed = false;
	assert_int_equal(0, drill_state_save(*context, "v", &state, &err));
	assert_int_equal(0, drill_state_load(*context, "v", &back, &err));
	assert_false(back.has_passed);
}

static void damage(void **context)
{
	static const struct { const char *from, *to; } changes[] = {
		{ "\"version\": 1", "\"version\": 2" }, { "\"since_ns\": 5", "\"since_ns\": -5" },
		{ "\"since_ns\": 5,", "" }, { "\"last\": {", "\"last\": [{}], \"x\": {" },
		{ "\"exit\": 1", "\"exit\": 0" }, { "}", "" },
	};
	struct drill_state state = two(), back;
	struct error err = ERROR_INIT;
	char path[PATH_MAX], *text;

	assert_int_equal(0, drill_state_save(*context, "v", &state, &err));
	snprintf(path, sizeof(path), "%s/drills/v.json", (char *)*context);
	assert_int_equal(0, file_read(path, 1 << 20, &text, NULL));
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		const char *at = strstr(text, changes[i].from);
		char changed[8192];

		if (!at)
			fail_msg("not in the file: %s", changes[i].from);
		snprintf(changed, sizeof(changed), "%.*s%s%s", (int)(at - text), text,
			 changes[i].to, at + strlen(changes[i].from));
		assert_int_equal(0, file_replace(path, changed, strlen(changed), 0600));
		if (drill_state_load(*context, "v", &back, &err) != -EBADMSG)
			fail_msg("accepted: %s", changed);
		assert_false(back.has_last || back.has_passed || back.since_ns);
	}
	free(text);
}

/* A name that a repository gave must not lead elsewhere. */
static void names(void **context)
{
	static const char *const bad[] = { "", ".", "..", "../x", "a/b", "/x" };
	struct drill_state state = two(), back;
	struct error err = ERROR_INIT;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(-EINVAL, drill_state_save(*context, bad[i], &state, &err));
		assert_int_equal(-EINVAL, drill_state_load(*context, bad[i], &back, &err));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(comes_back, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(damage, scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(names, scratch_setup, scratch_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
