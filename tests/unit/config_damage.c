/* Files that hold no configuration: missing, huge, damaged. Never a crash. */
#include "tests/unit/config_lab.h"

static void files_that_are_none(void **state)
{
	static struct config config;
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(0, config_load("/nonexistent/conf", false, NULL, 0, &config, &err));
	assert_string_equal(config.agent.state, CONFIG_STATE);
	assert_int_equal(config.agent.compression, 1);
	assert_int_equal(-ENOENT, config_load("/nonexistent/conf", true, NULL, 0, &config, &err));
	config_check_refused(-ENOENT, &err);
	assert_non_null(strstr(err.message, "/nonexistent/conf: No such file"));
	/* Other failures count even where the file may be missing. */
	assert_int_equal(-EISDIR, config_load("/tmp", false, NULL, 0, &config, &err));
	config_check_refused(-EISDIR, &err);
	assert_int_equal(-ENOTDIR, config_load("/dev/null/x", false, NULL, 0, &config, &err));
	assert_int_equal(-EFBIG, config_load("/dev/zero", true, NULL, 0, &config, &err));
	config_check_refused(-EFBIG, &err);
}

static void long_lines_and_files(void **state)
{
	static struct config_text text;
	static struct config config;
	struct error err;
	size_t length;

	(void)state;
	text.length = text.lines = 0;
	config_text_add(&text, "[agent]\n#%0*d\nworkers = 5\n[volume a]\ndevice = /%0*d",
			500000, 1, PATH_MAX - 2, 1);
	config_expect_good(text.data, &config);	/* also: no newline at the end */
	assert_int_equal(config.agent.workers, 5);
	assert_int_equal(strlen(config.volumes[0].device), PATH_MAX - 1);
	config_fini(&config);
	config_text_add(&text, "1\n");
	config_expect_bad(text.data, 5, "is too long");

	/* A mebibyte is read, a byte more is not. */
	length = 1 << 20;
	memset(text.data, '#', length + 1);
	assert_int_equal(0, config_load_text(text.data, length, NULL, 0, &config, &err));
	assert_int_equal(-EFBIG, config_load_text(text.data, length + 1, NULL, 0, &config, &err));
	config_check_refused(-EFBIG, &err);

	/* However long the damage is, the line is named and the reason given. */
	memset(text.data, 'x', length);
	text.data[length] = '\0';
	config_expect_bad(text.data, 1, "Equal sign is missing");
	memcpy(text.data, "\n[agent]\nworkers=", 17);
	config_expect_bad(text.data, 3, "whole number");
	memcpy(text.data, "[repository]\nurl=", 17);
	config_expect_bad(text.data, 2, "is too long");
	memcpy(text.data, "[agent]\nqqqqqqqqq", 17);
	text.data[length - 2] = '=';
	config_expect_bad(text.data, 2, "Property name is too long");
	text.data[0] = '[';
	memset(text.data + 1, 'x', length - 1);
	text.data[length - 1] = ']';
	config_expect_bad(text.data, 1, "Section name is too long");
	memcpy(text.data + 200, "]\nx", 3);
	memcpy(text.data + length - 2, "=1", 2);
	config_expect_bad(text.data, 2, "Property name is too long");
	strcpy(text.data + 202, "device=/dev/a");
	config_expect_bad(text.data, 0, "is no section");
	memcpy(text.data, "[volume ", 8);
	config_expect_bad(text.data, 0, "at most 64");
}

static void many_volumes(void **state)
{
	static struct config_text text;
	static struct config config;
	const unsigned count = 500;
	char name[16];

	(void)state;
	text.length = text.lines = 0;
	for (unsigned i = 0; i < count; i++)
		config_text_add(&text, "[volume v%u]\ndevice=/dev/v%u\n", i, i);
	config_expect_good(text.data, &config);
	assert_int_equal(config.volume_count, count);
	for (unsigned i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "v%u", i);
		assert_string_equal(config.volumes[i].name, name);
	}
	config_fini(&config);
}

static const char sound[] =
	"[repository]\nurl = s3://backup/db1\npath_style = yes\npart_size = 8M\n"
	"recipient = /etc/clawback/a.pub\nrecipient = /etc/clawback/b.pub\n\n"
	"[agent]\nworkers = 4\ncompression = -3\n\n"
	"[volume pgdata]\ndevice = /dev/vg0/pgdata\ngroup = pg\ncow = file:/srv\n"
	"[volume pgwal]\ndevice = /dev/vg0/pgwal\ncow_size = 128M\n# small\n";

/* A byte that no text has, at every place: refused with its line. */
static void nul_bytes(void **state)
{
	static struct config config;
	unsigned line = 1;
	struct error err;

	(void)state;
	for (size_t at = 0; at < strlen(sound); at++) {
		char text[sizeof(sound)], where[64];
		bool newline = sound[at] == '\n';

		memcpy(text, sound, sizeof(sound));
		text[at] = '\0';
		config_check_refused(config_load_text(text, strlen(sound), NULL, 0, &config,
						      &err), &err);
		snprintf(where, sizeof(where), "%s:%u: ", config_text_path, line);
		assert_memory_equal(err.message, where, strlen(where));
		assert_non_null(strstr(err.message, "NUL"));
		line += newline;
	}
}

/* Whatever a file holds: a checked configuration or one clear message, no crash. */
static void check_any(const char *text, size_t length)
{
	static struct config config;
	struct error err;
	int ret = config_load_text(text, length, NULL, 0, &config, &err);

	if (ret) {
		config_check_refused(ret, &err);
		assert_memory_equal(err.message, config_text_path, strlen(config_text_path));
		assert_null(config.volumes);
		return;
	}
	for (size_t i = 0; i < config.volume_count; i++)
		assert_int_equal(config.volumes[i].device[0], '/');
	assert_true(config.agent.workers <= 64 && config.agent.compression <= 19);
	config_fini(&config);
}

static void damaged_files(void **state)
{
	struct random_state random = random_start("damaged_files");
	const char *asked = getenv("CLAWBACK_FULL");
	bool full = asked && *asked == '1';

	(void)state;
	for (size_t length = 0; length <= strlen(sound); length++)
		check_any(sound, length);
	/* In a quick run an eighth of them, by chance. */
	for (size_t bit = 0; bit < 8 * strlen(sound); bit++) {
		char text[sizeof(sound)];

		if (!full && bit % 8 != random_below(&random, 8))
			continue;
		memcpy(text, sound, sizeof(sound));
		text[bit / 8] ^= (char)(1 << bit % 8);
		check_any(text, strlen(sound));
	}
	for (int round = 0; round < (full ? 3000 : 1000); round++) {
		char text[sizeof(sound)];
		size_t length = random_below(&random, sizeof(text));

		memcpy(text, sound, sizeof(sound));
		for (size_t i = random_below(&random, 12); i--;)
			text[random_below(&random, sizeof(text))] =
				"[]=#; \n\r\t\0\xff" "a"[random_below(&random, 12)];
		check_any(text, length);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_that_are_none),
		cmocka_unit_test(long_lines_and_files),
		cmocka_unit_test(many_volumes),
		cmocka_unit_test(nul_bytes),
		cmocka_unit_test(damaged_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
