/* The configuration's text against a model: sections, lines, overrides. */
#include "tests/unit/config_lab.h"

/* ---- a model ---------------------------------------------------------------- */

#define MODEL_VOLUMES 12

struct model {
	char url[40], region[40], state[40];
	uint32_t workers;
	struct { char name[VOLUME_NAME_MAX + 1], device[40], group[20]; } volumes[MODEL_VOLUMES];
	size_t count;
};

static const char *blanks(struct random_state *random)
{
	static const char *const some[] = { "", "", " ", "\t", "   ", " \t " };

	return some[random_below(random, 6)];
}

/* Comments, empty lines and endings as people and their editors write them. */
static void write_line(struct config_text *text, struct random_state *random,
		       const char *line)
{
	static const char *const noise[] = {
		"", "  ", "\t", "# [agent]", "; url = file:///no", "###", ";",
	};

	while (random_one_in(random, 4))
		config_text_add(text, "%s\n", noise[random_below(random, 7)]);
	config_text_add(text, "%s%s%s\n", line, blanks(random),
			random_one_in(random, 5) ? "\r" : "");
}

static void write_key(struct config_text *text, struct random_state *random,
		      const char *key, const char *value)
{
	char line[200];

	snprintf(line, sizeof(line), "%s%s=%s%s", key, blanks(random), blanks(random), value);
	write_line(text, random, line);
}

static void model_new(struct model *model, struct random_state *random)
{
	static const char letters[] = "abcXYZ059._-";

	memset(model, 0, sizeof(*model));
	snprintf(model->url, sizeof(model->url), "s3://b%llu/a#b;c=d",
		 (unsigned long long)random_below(random, 1000));
	snprintf(model->region, sizeof(model->region), "x y; # %d", (int)random_below(random, 9));
	snprintf(model->state, sizeof(model->state), "/st ate/%d", (int)random_below(random, 9));
	model->workers = 1 + (uint32_t)random_below(random, 64);
	model->count = random_below(random, MODEL_VOLUMES + 1);
	for (size_t i = 0; i < model->count; i++) {
		/* Long names that differ in their last letters only. */
		size_t length = random_one_in(random, 2) ? VOLUME_NAME_MAX :
				3 + random_below(random, VOLUME_NAME_MAX - 3);
		char *name = model->volumes[i].name;

		memset(name, 'a', length);
		name[length - 1] = (char)('a' + i);
		name[length - 2] = letters[random_below(random, 12)];
		snprintf(model->volumes[i].device, 40, "/dev/v%zu", i);
		if (random_one_in(random, 2))
			snprintf(model->volumes[i].group, 20, "g%d", (int)random_below(random, 3));
	}
}

static void model_write(const struct model *model, struct random_state *random,
			struct config_text *text)
{
	char line[100], workers[16];

	text->length = text->lines = 0;
	text->data[0] = '\0';
	write_line(text, random, "[repository]");
	write_key(text, random, "url", model->url);
	write_key(text, random, "region", model->region);
	for (size_t i = 0; i < model->count; i++) {
		snprintf(line, sizeof(line), "[volume %s]", model->volumes[i].name);
		write_line(text, random, line);
		if (model->volumes[i].group[0])
			write_key(text, random, "group", model->volumes[i].group);
		write_key(text, random, "device", model->volumes[i].device);
	}
	write_line(text, random, "[agent]");
	write_key(text, random, "state", model->state);
	snprintf(workers, sizeof(workers), "%u", model->workers);
	write_key(text, random, "workers", workers);
}

static void model_check(const struct model *model, const struct config *config)
{
	assert_string_equal(config->repository.url, model->url);
	assert_string_equal(config->repository.region, model->region);
	assert_string_equal(config->agent.state, model->state);
	assert_int_equal(config->agent.workers, model->workers);
	assert_int_equal(config->agent.compression, 1);
	assert_int_equal(config->volume_count, model->count);
	for (size_t i = 0; i < model->count; i++) {
		const struct config_volume *volume = &config->volumes[i];

		assert_string_equal(volume->name, model->volumes[i].name);
		assert_string_equal(volume->device, model->volumes[i].device);
		assert_string_equal(volume->group, model->volumes[i].group);
		assert_ptr_equal(volume, config_volume(config, volume->name));
	}
	assert_null(config_volume(config, "another"));
}

static void files_of_every_style(void **state)
{
	struct random_state random = random_start("files_of_every_style");
	static struct config_text text;
	static struct config config;
	static struct model model;

	(void)state;
	for (int round = 0; round < 500; round++) {
		model_new(&model, &random);
		model_write(&model, &random, &text);
		config_expect_good(text.data, &config);
		model_check(&model, &config);
		config_fini(&config);
	}
}

/* One wrong line after a good file is named: by its number, or what is in it. */
static void wrong_line_is_named(void **state)
{
	static const struct { const char *line, *message; bool numbered; } wrong[] = {
		{ "nonsense", "Equal sign is missing", true },
		{ "= x", "Property name is missing", true },
		{ "/* x", "Equal sign is missing", true }, { "// x", "Equal sign", true },
		{ " region = x", "beginning of the line", true },
		{ "\tregion = x", "beginning of the line", true },
		{ " [volume a]", "beginning of the line", true },
		{ "\t# x", "beginning of the line", true },
		{ "[nonsense]", "[nonsense] is no section", false },
		{ "[volume]", "[volume] is no section", false },
		{ "[volume ]", "[volume] is no section", false },
		{ "[default]", "is in no section", false },
		{ "[]", "Section name is missing", true }, { "[ ]", "Section name", true },
		{ "[Agent]", "Duplicate section", true },
		{ "[repository]", "Duplicate section", true },
		{ "[agent", "No closing bracket", true }, { "[", "No closing", true },
		{ "[agent] x", "No closing bracket", true },
		{ "[volume a/b]", "\"a/b\" is no name", false },
		{ "[volume  a]", "\" a\" is no name", false },
		{ "[volume .a]", "is no name", false }, { "[volume -a]", "is no name", false },
		{ "[volume a!b]", "ASCII", false }, { "a\tb = x", "ASCII", false },
		{ "\xff = x", "no UTF-8", false }, { "# \xff", "no UTF-8", false },
		{ "colour = red", "has no key \"colour\"", true },
		{ "[x = y", "No closing bracket", true },
		{ "Workers = 5", "\"Workers\" already", true },
		{ "URL = x", "has no key \"URL\"", true },
	};
	struct random_state random = random_start("wrong_line_is_named");
	static struct config_text text;
	static struct model model;

	(void)state;
	for (int round = 0; round < 500; round++) {
		size_t which = random_below(&random, sizeof(wrong) / sizeof(wrong[0]));
		unsigned line;

		model_new(&model, &random);
		model_write(&model, &random, &text);
		config_text_add(&text, "%s\n", wrong[which].line);
		line = wrong[which].numbered ? text.lines : 0;
		config_text_add(&text, "region = after\n");
		config_expect_bad(text.data, line, wrong[which].message);
	}
}

/* ---- what is not a value ------------------------------------------------------ */

static void keys_need_a_section(void **state)
{
	(void)state;
	config_expect_bad("# x\n\nurl = file:///a\n", 0, "a key is in no section");
	config_expect_bad("workers = 5\n[agent]\nworkers = 6\n", 0, "a key is in no section");
}

/* Twice is a mistake: which of the two was meant? */
static void nothing_is_there_twice(void **state)
{
	static struct config config;

	(void)state;
	config_expect_bad("[repository]\nurl = file:///a\nregion=x\nurl = file:///b\n", 4,
			  "[repository] has \"url\" already");
	config_expect_bad("[volume a]\ndevice=/dev/a\ndevice=/dev/a\n", 3, "already");
	config_expect_bad("[volume a]\ndevice=/dev/a\n\n[volume a]\ndevice=/dev/b\n", 4,
			  "Duplicate section");
	/* To the library, names are the same that differ in their case only. */
	config_expect_bad("[volume a]\ndevice=/dev/a\n[volume A]\ndevice=/dev/b\n", 3,
			  "Duplicate section");
	config_expect_good("[volume a]\ndevice=/dev/a\ncow=ram\n"
			   "[volume b]\ndevice=/dev/b\ncow=ram\n", &config);
	assert_int_equal(config.volume_count, 2);
	config_fini(&config);
}

static void volumes_need_a_device(void **state)
{
	(void)state;
	config_expect_bad("[volume a]\ndevice=/dev/a\n[volume b]\n", 0,
			  "volume b has no device");
	config_expect_bad("[volume b]\ngroup=g\n", 0, "volume b has no device");
}

static void names_of_volumes(void **state)
{
	static struct config config;
	char text[200];

	(void)state;
	snprintf(text, sizeof(text), "[volume %0*d]\ndevice=/dev/a\n", VOLUME_NAME_MAX, 7);
	config_expect_good(text, &config);
	assert_int_equal(strlen(config.volumes[0].name), VOLUME_NAME_MAX);
	config_fini(&config);
	snprintf(text, sizeof(text), "[volume %0*d]\ndevice=/dev/a\n", VOLUME_NAME_MAX + 1, 7);
	config_expect_bad(text, 0, "at most 64");
}

/* ---- stores ----------------------------------------------------------------- */

static void further_stores(void **state)
{
	static const char file[] =
		"[store far]\nurl = s3://b\nendpoint = https://e\nkeep = last=3\n"
		"lag_warning = off\nbandwidth = 1M\nretention = Sun 04:00\n[repository]\nurl = file:///a\n"
		"[store near]\nurl = file:///b\n";
	static struct config config;
	struct error err;

	(void)state;
	if (config_load_text(file, strlen(file), NULL, 0, &config, &err))
		fail_msg("%s", err.message);
	assert_int_equal(2, config.store_count);
	assert_ptr_equal(&config.stores[0], config_store(&config, "far"));
	assert_ptr_equal(&config.stores[1], config_store(&config, "near"));
	assert_ptr_equal(&config.repository, config_store(&config, NULL));
	assert_ptr_equal(&config.repository, config_store(&config, "repository"));
	assert_null(config_store(&config, "other"));
	assert_string_equal("s3://b", config.stores[0].url);
	assert_string_equal("https://e", config.stores[0].endpoint);
	assert_int_equal(3, config.stores[0].keep.count[POLICY_LAST]);
	assert_int_equal(0, config.stores[0].lag_warning_ns);
	assert_int_equal(1 << 20, config.stores[0].bandwidth_bytes);
	assert_true(config.stores[1].lag_warning_ns == 3600000000000u);
	assert_int_equal(0, config.repository.lag_warning_ns);
	assert_string_equal("Sun 04:00", config.stores[0].retention);
	assert_string_equal("", config.stores[1].retention);
	assert_string_equal("", config.repository.retention);
	config_fini(&config);
}

static void bad_stores(void **state)
{
	char many[800] = "";

	(void)state;
	config_expect_bad("[store a]\nregion = x\n", 0, "store a has no url");
	config_expect_bad("[store repository]\nurl = file:///a\n", 0, "is no name for a store");
	config_expect_bad("[store a b]\nurl = file:///a\n", 0, "is no name for a store");
	config_expect_bad("[store a]\nurl = file:///a\n[repository]\nurl = file:///a\n", 0,
			  "same place as repository");
	config_expect_bad("[store a]\nurl = file:///a\n[store b]\nurl = file:///a\n", 0,
			  "same place as a");
	config_expect_bad("[store a]\nurl = file:///a\nfingerprint = 00\n", 3, "has no key");
	config_expect_bad("[store a]\nurl = file:///a\nlag_warning = soon\n", 3, "duration");
	config_expect_bad("[repository]\nlag_warning = 1h\n", 2, "has no key");
	config_expect_bad("[repository]\nretention = \"; rm\n", 2, "calendar");
	config_expect_bad("[repository]\nretention = --help\n", 2, "calendar");
	for (int i = 0; i <= CONFIG_STORES_MAX; i++)
		sprintf(many + strlen(many), "[store s%d]\nurl = file:///%d\n", i, i);
	config_expect_bad(many, 0, "one too many");
}

/* ---- overrides -------------------------------------------------------------- */

static void overrides_win(void **state)
{
	static const char file[] = "[repository]\nurl = file:///file\nrecipient = /a\n"
				   "[volume a.b]\ndevice = /dev/file\n";
	const char *overrides[] = {
		"repository.url=s3://b/x=y.z", "repository.url=s3://last", "agent.workers=7",
		"volume a.b.device=/dev/mapper/x.y", "volume new.device=/dev/new",
		"repository.recipient=/b", "repository.region=",
	};
	static struct config config;
	struct error err;

	(void)state;
	if (config_load_text(file, strlen(file), overrides, 7, &config, &err))
		fail_msg("%s", err.message);
	assert_string_equal(config.repository.url, "s3://last");
	assert_string_equal(config.repository.region, "");
	assert_int_equal(config.identity.recipient_count, 2);
	assert_int_equal(config.agent.workers, 7);
	assert_int_equal(config.volume_count, 2);
	assert_string_equal(config_volume(&config, "a.b")->device, "/dev/mapper/x.y");
	assert_string_equal(config_volume(&config, "new")->device, "/dev/new");
	config_fini(&config);
	if (config_load_text(file, strlen(file), overrides, 1, &config, &err))
		fail_msg("%s", err.message);
	assert_string_equal(config.repository.url, "s3://b/x=y.z");
	config_fini(&config);
}

static void bad_overrides(void **state)
{
	static const char *const bad[][2] = {
		{ "", "is not of the form" }, { "workers=1", "is not of the form" },
		{ "agent.workers", "is not of the form" }, { "=", "is not of the form" },
		{ ".=", "[] is no section" }, { "agent.=1", "has no key \"\"" },
		{ ".workers=1", "[] is no section" }, { "agent.workers=x", "whole number" },
		{ "agent.workers=65", "must be from 1 to 64" },
		{ "agents.workers=1", "[agents] is no section" },
		{ "agent.workers =1", "has no key \"workers \"" },
		{ "volume.device=/dev/a", "is no section" },
		{ "volume a/b.device=/dev/a", "is no name" },
		{ "volume a.group=g", "volume a has no device" },
	};
	static struct config config;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const char *overrides[] = { "agent.workers=3", bad[i][0] };
		struct error err;
		int ret = config_load_text("", 0, overrides, 2, &config, &err);

		config_check_refused(ret, &err);
		if (!strstr(err.message, bad[i][1]))
			fail_msg("%s: %s", bad[i][0], err.message);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_of_every_style),
		cmocka_unit_test(wrong_line_is_named),
		cmocka_unit_test(keys_need_a_section),
		cmocka_unit_test(nothing_is_there_twice),
		cmocka_unit_test(volumes_need_a_device),
		cmocka_unit_test(names_of_volumes),
		cmocka_unit_test(further_stores),
		cmocka_unit_test(bad_stores),
		cmocka_unit_test(overrides_win),
		cmocka_unit_test(bad_overrides),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
