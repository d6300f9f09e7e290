/* Every key of the configuration: where it goes, what it takes, what it refuses. */
#include "tests/unit/config_lab.h"

enum kind { TEXT, PATH, BOOL, U32, INT, BYTES, BYTES32 };

#define AT(type, member) offsetof(type, member), sizeof(((type *)0)->member)
#define IN_CONFIG(member) AT(struct config, member)
#define IN_VOLUME(member) AT(struct config_volume, member)

/* Written from clawback.conf(5), not from the code. */
static const struct row {
	const char *section, *key;
	enum kind kind;
	size_t offset, room;
	int64_t low, high;
} rows[] = {
	{ "repository", "url", TEXT, IN_CONFIG(repository.url), 0, 0 },
	{ "repository", "fingerprint", TEXT, IN_CONFIG(identity.fingerprint), 0, 0 },
	{ "repository", "endpoint", TEXT, IN_CONFIG(repository.endpoint), 0, 0 },
	{ "repository", "region", TEXT, IN_CONFIG(repository.region), 0, 0 },
	{ "repository", "path_style", BOOL, IN_CONFIG(repository.path_style), 0, 0 },
	{ "repository", "credentials_file", PATH, IN_CONFIG(repository.credentials_file), 0, 0 },
	{ "repository", "credentials_profile", TEXT,
	  IN_CONFIG(repository.credentials_profile), 0, 0 },
	{ "repository", "ca_file", PATH, IN_CONFIG(repository.ca_file), 0, 0 },
	{ "repository", "connections", U32, IN_CONFIG(repository.connections), 1, 64 },
	{ "repository", "retries", U32, IN_CONFIG(repository.retries), 1, 100 },
	{ "repository", "timeout", U32, IN_CONFIG(repository.timeout_seconds), 1, 3600 },
	{ "repository", "part_size", BYTES32, IN_CONFIG(repository.part_bytes),
	  5 << 20, 1 << 30 },
	{ "repository", "bandwidth", BYTES, IN_CONFIG(repository.bandwidth_bytes),
	  0, INT64_MAX },
	{ "agent", "state", PATH, IN_CONFIG(agent.state), 0, 0 },
	{ "agent", "workers", U32, IN_CONFIG(agent.workers), 1, 64 },
	{ "agent", "runs", U32, IN_CONFIG(agent.runs), 1, 16 },
	{ "agent", "queue_depth", U32, IN_CONFIG(agent.queue_depth), 1, 1024 },
	{ "agent", "compression", INT, IN_CONFIG(agent.compression), -7, 19 },
	{ "agent", "segment_size", BYTES, IN_CONFIG(agent.segment_bytes), 1 << 20, 1ll << 40 },
	{ "agent", "read_rate", BYTES, IN_CONFIG(agent.read_bytes_per_second), 0, INT64_MAX },
	{ "agent", "bitmap_limit", BYTES, IN_CONFIG(agent.bitmap_limit_bytes),
	  4096, 1ll << 34 },
	{ "agent", "memory_limit", BYTES, IN_CONFIG(agent.limits.memory_bytes), 0, 1ll << 44 },
	{ "agent", "nice", U32, IN_CONFIG(agent.limits.nice), 0, 19 },
	{ "agent", "io_priority", U32, IN_CONFIG(agent.limits.io_priority), 0, 7 },
	{ "volume v", "device", PATH, IN_VOLUME(device), 0, 0 },
	{ "volume v", "group", TEXT, IN_VOLUME(group), 0, 0 },
	{ "volume v", "cow_size", BYTES, IN_VOLUME(cow.bytes), 1 << 20, 1ll << 44 },
	{ "volume v", "granularity", BYTES32, IN_VOLUME(granularity_bytes), 4096, 64 << 20 },
	{ "volume v", "frame_size", BYTES32, IN_VOLUME(frame_bytes), 4096, 1 << 20 },
	{ "volume v", "fingerprints", BOOL, IN_VOLUME(fingerprints), 0, 0 },
	{ "volume v", "skip_unchanged", BOOL, IN_VOLUME(skip_unchanged), 0, 0 },
	{ "volume v", "spot_checks", U32, IN_VOLUME(spot_checks), 0, 1000000 },
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

static bool is_volume(const struct row *row)
{
	return row->section[0] == 'v';
}

/* A configuration with this one key; a volume gets the device that it needs. */
static void one_key(const struct row *row, const char *value, char *text, size_t room)
{
	bool device = is_volume(row) && strcmp(row->key, "device");

	snprintf(text, room, "[%s]\n%s = %s\n%s", row->section, row->key, value,
		 device ? "device = /dev/v\n" : "");
}

/* What config_load must give: the defaults, and this field. */
static void model_start(struct config *model, struct config_volume *volume,
			const struct row *row)
{
	memset(model, 0, sizeof(*model));
	memset(volume, 0, sizeof(*volume));
	strcpy(model->repository.name, "repository");
	strcpy(model->agent.state, "/var/lib/clawback");
	model->agent.compression = 1;
	model->agent.stop_timeout_ns = 60000000000u;
	model->agent.limits.nice = 5;
	model->agent.limits.io_class = 2;
	model->agent.limits.io_priority = 7;
	model->agent.runs = 2;
	model->agent.schedule.idle_point_ns = 86400000000000u;
	model->notify.on = NOTIFY_ON_FAILURE | NOTIFY_ON_WARNING | NOTIFY_ON_RECOVERY;
	model->notify.interval_ns = 900000000000u;
	model->agent.drill.timeout_ns = 600000000000u;
	if (!is_volume(row))
		return;
	strcpy(volume->name, "v");
	strcpy(volume->device, "/dev/v");
	volume->fingerprints = volume->skip_unchanged = true;
	volume->spot_checks = 32;
	volume->schedule = model->agent.schedule;
	volume->drill = model->agent.drill;
	volume->hook.timeout_ns = 30000000000u;
	model->volumes = volume;
	model->volume_count = 1;
}

static void *model_field(struct config *model, const struct row *row)
{
	void *base = is_volume(row) ? (void *)model->volumes : (void *)model;
	void *field = (char *)base + row->offset;

	if (row->kind == TEXT || row->kind == PATH)
		memset(field, 0, row->room);
	return field;
}

/* To the last byte: a key that also changes another's field shows. */
static void check_same(const struct config *config, const struct config *model)
{
	struct config a = *config, b = *model;

	assert_int_equal(a.volume_count, b.volume_count);
	if (a.volume_count)
		assert_memory_equal(a.volumes, b.volumes,
				    a.volume_count * sizeof(*a.volumes));
	/* A group is there because a volume is in it, and has no keys of its own. */
	assert_int_equal(a.group_count, a.volume_count && *a.volumes->group);
	for (size_t i = 0; i < a.group_count; i++) {
		assert_string_equal(a.groups[i].name, a.volumes->group);
		assert_memory_equal(&a.groups[i].schedule, &b.agent.schedule,
				    sizeof(b.agent.schedule));
	}
	a.groups = NULL;
	a.group_count = 0;
	a.volumes = b.volumes = NULL;
	assert_memory_equal(&a, &b, sizeof(a));
}

/* From the file, and as an option over a file with another value. */
static void check_value(const struct row *row, const char *value, const struct config *model)
{
	static struct config config;
	char text[9000], option[9000];
	const char *overrides[] = { "volume v.device=/dev/v", option };
	bool device = is_volume(row);
	struct error err;

	one_key(row, value, text, sizeof(text));
	config_expect_good(text, &config);
	check_same(&config, model);
	config_fini(&config);
	snprintf(option, sizeof(option), "%s.%s=%s", row->section, row->key, value);
	if (config_load_text("", 0, overrides + !device, 1 + device, &config, &err))
		fail_msg("%s: %s", option, err.message);
	check_same(&config, model);
	config_fini(&config);
}

static void check_refused(const struct row *row, const char *value, const char *message)
{
	static struct config config;
	char text[9000], option[9000];
	const char *overrides[] = { option };
	struct error err;
	int ret;

	one_key(row, value, text, sizeof(text));
	config_expect_bad(text, 2, message);
	snprintf(option, sizeof(option), "%s.%s=%s", row->section, row->key, value);
	ret = config_load_text("", 0, overrides, 1, &config, &err);
	config_check_refused(ret, &err);
	assert_memory_equal(err.message, "option ", 7);
	assert_non_null(strstr(err.message, row->key));
}

/* ---- tests ----------------------------------------------------------------- */

static void texts_and_paths(void **state)
{
	struct random_state random = random_start("texts_and_paths");
	static struct config model;
	static struct config_volume volume;

	(void)state;
	for (size_t i = 0; i < ROWS; i++) {
		const struct row *row = &rows[i];
		char value[PATH_MAX + 1];

		if (row->kind != TEXT && row->kind != PATH)
			continue;
		for (int round = 0; round < 20; round++) {
			/* The longest that fits, one that is a byte longer, others. */
			size_t length = round < 2 ? row->room - 1 + (size_t)round :
					1 + random_below(&random, row->room - 1);

			for (size_t at = 0; at < length; at++)
				value[at] = "abcXYZ019._-"[random_below(&random, 12)];
			value[0] = row->kind == PATH ? '/' : 'a';
			value[length] = '\0';
			if (round == 1) {
				check_refused(row, value, "is too long");
				continue;
			}
			model_start(&model, &volume, row);
			memcpy(model_field(&model, row), value, length);
			check_value(row, value, &model);
		}
		if (row->kind == PATH) {
			check_refused(row, "relative/path", "absolute path");
			check_refused(row, "", "absolute path");
		}
	}
}

static void numbers(void **state)
{
	struct random_state random = random_start("numbers");
	static struct config model;
	static struct config_volume volume;

	(void)state;
	for (size_t i = 0; i < ROWS; i++) {
		const struct row *row = &rows[i];
		bool power = !strcmp(row->key, "granularity") || !strcmp(row->key, "frame_size");

		if (row->kind < U32)
			continue;
		for (int round = 0; round < 40; round++) {
			uint64_t span = (uint64_t)(row->high - row->low);
			int64_t number = round == 0 ? row->low : round == 1 ? row->high :
				row->low + (int64_t)random_below(&random, span + 1);
			char value[32];
			void *field;

			if (power)
				number = row->low << random_below(&random, 1 + (uint64_t)
								 __builtin_ctzll(row->high / row->low));
			snprintf(value, sizeof(value), "%lld", (long long)number);
			model_start(&model, &volume, row);
			field = model_field(&model, row);
			if (row->kind == BYTES)
				*(uint64_t *)field = (uint64_t)number;
			else
				*(uint32_t *)field = (uint32_t)number;
			check_value(row, value, &model);
		}
	}
}

static void numbers_out_of_range(void **state)
{
	static const char *const bad[] = {
		"", "x", "12x", "0x10", "1.5", "1 2", "--1", "99999999999999999999",
		"-99999999999999999999", "18446744073709551616", "5 K 5", "five",
	};

	(void)state;
	for (size_t i = 0; i < ROWS; i++) {
		const struct row *row = &rows[i];
		char value[32];

		if (row->kind < U32)
			continue;
		for (size_t b = 0; b < sizeof(bad) / sizeof(bad[0]); b++)
			check_refused(row, bad[b], row->kind >= BYTES ? "give a size like 64M" :
								 "give a whole number");
		snprintf(value, sizeof(value), "%lld", (long long)row->low - 1);
		check_refused(row, value, row->low || row->kind < BYTES ? "must be from" :
									   "give a size");
		if (row->high == INT64_MAX) {
			check_refused(row, "9223372036854775808", "give a size");
			continue;
		}
		snprintf(value, sizeof(value), "%lld", (long long)row->high + 1);
		check_refused(row, value, "must be from");
		/* What would fit when cut to 32 bits. */
		snprintf(value, sizeof(value), "%lld", (1ll << 32) * (1ll << 20) + row->low);
		check_refused(row, value, "must be from");
	}
}

static void some_are_powers_of_two(void **state)
{
	(void)state;
	config_expect_bad("[volume v]\ndevice = /dev/v\ngranularity = 12K\n", 3,
			  "power of two");
	config_expect_bad("[volume v]\ndevice = /dev/v\ngranularity = 4097\n", 3,
			  "power of two");
	config_expect_bad("[volume v]\ndevice = /dev/v\nframe_size = 12K\n", 3,
			  "power of two");
}

/* Against a model that multiplies in 128 bits. */
static void sizes(void **state)
{
	static const char units[] = "KMGTP", lower[] = "kmgtp";
	static const char *const tails[] = { "", "B", "iB" }, *const gaps[] = { "", " ", "   " };
	static const char *const bad[] = {
		"", " ", "-1", "+1", " 1", "x", "K", "1X", "1KK", "1Ki", "1KiBx", "1 K B", "1B",
		"1iB", "1e3", "1E", "0x10", "1.5G", "1\t", "1K ", "1,000", "\xff", "1\xcb",
	};
	struct random_state random = random_start("sizes");
	uint64_t bytes = 0;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		uint64_t number = random_next(&random) >> random_below(&random, 64);
		size_t unit = random_below(&random, 6);
		unsigned __int128 wanted = (unsigned __int128)number << 10 * unit;
		const char *names = random_one_in(&random, 2) ? units : lower;
		char text[64];
		int length = snprintf(text, sizeof(text), "%llu%s", (unsigned long long)number,
				      gaps[random_below(&random, 3)]);

		if (unit)
			snprintf(text + length, sizeof(text) - (size_t)length, "%c%s",
				 names[unit - 1], tails[random_below(&random, 3)]);
		if (wanted > UINT64_MAX) {
			assert_int_equal(-ERANGE, config_parse_bytes(text, &bytes));
			continue;
		}
		assert_int_equal(0, config_parse_bytes(text, &bytes));
		assert_true(bytes == (uint64_t)wanted);
	}
	assert_int_equal(-ERANGE, config_parse_bytes("18446744073709551616", &bytes));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (config_parse_bytes(bad[i], &bytes) != -EINVAL)
			fail_msg("\"%s\" is taken for a size", bad[i]);
}

static void words(void **state)
{
	static const struct {
		const char *line, *path;
		enum cow_kind cow;
		enum snapshot_provider provider;
	} volumes[] = {
		{ "cow = ram", "", COW_RAM, PROVIDER_AUTO },
		{ "cow = file:/srv/cow", "/srv/cow", COW_FILE, PROVIDER_AUTO },
		{ "cow = device:/dev/vg/cow", "/dev/vg/cow", COW_DEVICE, PROVIDER_AUTO },
		{ "provider = auto", "", COW_RAM, PROVIDER_AUTO },
		{ "provider = dm", "", COW_RAM, PROVIDER_DM },
		{ "provider = none", "", COW_RAM, PROVIDER_NONE },
	};
	static const char *const yes[] = { "yes", "true", "1" }, *const no[] = { "no", "false", "0" };
	static struct config config;
	char text[200];

	(void)state;
	for (size_t i = 0; i < sizeof(volumes) / sizeof(volumes[0]); i++) {
		snprintf(text, sizeof(text), "[volume v]\ndevice=/dev/v\n%s\n", volumes[i].line);
		config_expect_good(text, &config);
		assert_int_equal(config.volumes[0].cow.kind, volumes[i].cow);
		assert_string_equal(config.volumes[0].cow.path, volumes[i].path);
		assert_int_equal(config.volumes[0].provider, volumes[i].provider);
		config_fini(&config);
	}
	for (int i = 0; i < 6; i++) {
		snprintf(text, sizeof(text), "[repository]\npath_style=%s\n",
			 i < 3 ? yes[i] : no[i - 3]);
		config_expect_good(text, &config);
		assert_int_equal(config.repository.path_style, i < 3);
		config_fini(&config);
	}
}

static void bad_words(void **state)
{
	static const char *const bad[][2] = {
		{ "cow = disk", "give ram, file:" }, { "cow =", "give ram" },
		{ "cow = file:relative", "give ram" }, { "cow = file:", "give ram" },
		{ "cow = device:sda", "give ram" }, { "cow = ram ram", "give ram" },
		{ "cow = RAM", "give ram" },
		{ "provider = lvm", "give auto, dm or none" }, { "provider =", "give auto" },
		{ "group =", "use letters" }, { "group = a/b", "use letters" },
		{ "group = .a", "use letters" }, { "group = -a", "use letters" },
		{ "group = a b", "use letters" },
	};
	char text[PATH_MAX + 100];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text), "[volume v]\ndevice=/dev/v\n%s\n", bad[i][0]);
		config_expect_bad(text, 3, bad[i][1]);
	}
	config_expect_bad("[repository]\npath_style = maybe\n", 2, "give yes or no");
	config_expect_bad("[repository]\npath_style = YES\n", 2, "give yes or no");
	snprintf(text, sizeof(text), "[volume v]\ncow = file:/%*d\n", PATH_MAX, 1);
	config_expect_bad(text, 2, "is too long");
}

/* A volume's policy replaces the repository's, and is as strict. */
/* A number, or the daemon's choice; the last word counts. */
static void compression(void **state)
{
	static const char *const bad[] = { "Auto", "auto 1", "automatic", "" };
	static struct config config;
	char text[100];

	(void)state;
	config_expect_good("[agent]\nstate = /s\n", &config);
	assert_true(config.agent.compression == 1 && !config.agent.compression_auto);
	config_fini(&config);
	config_expect_good("[agent]\ncompression = auto\n", &config);
	assert_true(config.agent.compression == 1 && config.agent.compression_auto);
	config_fini(&config);
	config_expect_good("[agent]\ncompression = -7\n", &config);
	assert_true(config.agent.compression == -7 && !config.agent.compression_auto);
	config_fini(&config);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text), "[agent]\ncompression = %s\n", bad[i]);
		config_expect_bad(text, 2, "whole number");
	}
}

static void policies(void **state)
{
	static struct config config;

	(void)state;
	config_expect_good("[repository]\nkeep = gfs\n[volume v]\ndevice=/dev/v\n"
			   "keep = daily=7, within=36h\n[volume w]\ndevice=/dev/w\n", &config);
	assert_int_equal(24, config.repository.keep.count[POLICY_HOURLY]);
	assert_int_equal(7, config.volumes[0].keep.count[POLICY_DAILY]);
	assert_int_equal(0, config.volumes[0].keep.count[POLICY_HOURLY]);
	assert_true(config.volumes[0].keep.within_ns == 36 * 3600 * UINT64_C(1000000000));
	assert_true(policy_empty(&config.volumes[1].keep));
	config_fini(&config);
	config_expect_bad("[repository]\nkeep = 7\n", 2, "no rule");
	config_expect_bad("[repository]\nkeep =\n", 2, "without any rule");
	config_expect_bad("[volume v]\ndevice=/dev/v\nkeep = daily=x\n", 3, "give a number");
}

/* Repeated, in their order, up to the limit. */
static void recipients(void **state)
{
	static struct config_text text;
	static struct config config;
	struct error err;
	char wanted[32];

	(void)state;
	text.length = 0;
	config_text_add(&text, "[repository]\n");
	for (int i = 0; i < 16; i++)
		config_text_add(&text, "recipient = /keys/%d.pub\n%s", i,
				i == 7 ? "url = file:///a\n" : "");
	config_expect_good(text.data, &config);
	assert_int_equal(config.identity.recipient_count, 16);
	for (int i = 0; i < 16; i++) {
		snprintf(wanted, sizeof(wanted), "/keys/%d.pub", i);
		assert_string_equal(config.identity.recipients[i], wanted);
	}
	config_fini(&config);
	config_text_add(&text, "recipient = /keys/16.pub\n");
	config_expect_bad(text.data, 19, "too many");
	config_expect_bad("[repository]\nrecipient = key.pub\n", 2, "absolute path");
	text.length = 0;
	config_text_add(&text, "[repository]\nrecipient = /%0*d\n", PATH_MAX, 1);
	assert_true(config_load_text(text.data, text.length, NULL, 0, &config, &err) < 0);
	assert_int_equal(err.exit, EXIT_USAGE);
}

static void prices(void **state)
{
	static const struct { const char *text; uint64_t price; } good[] = {
		{ "0", 0 }, { "0.09", 90000000 }, { "0.0004", 400000 }, { "12", 12000000000u },
		{ "1.0000000019", 1000000001 }, { "1000000", 1000000000000000u },
	};
	static const char *const bad[] = { "-1", ".5", "1.", "1,5", "1e3", "1000001", "$1" };
	static struct config config;
	char text[200];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		snprintf(text, sizeof(text), "[repository]\nprice_get = %s\n", good[i].text);
		config_expect_good(text, &config);
		assert_true(config.repository.priced);
		assert_int_equal(config.repository.price_get, good[i].price);
		assert_int_equal(config.repository.price_egress, 0);
		config_fini(&config);
		snprintf(text, sizeof(text), "[store s]\nurl = file:///s\nprice_egress = %s\n",
			 good[i].text);
		config_expect_good(text, &config);
		assert_false(config.repository.priced);
		assert_int_equal(config.stores[0].price_egress, good[i].price);
		config_fini(&config);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text), "[repository]\nprice_egress = %s\n", bad[i]);
		config_expect_bad(text, 2, "price_egress");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts_and_paths),
		cmocka_unit_test(numbers),
		cmocka_unit_test(numbers_out_of_range),
		cmocka_unit_test(some_are_powers_of_two),
		cmocka_unit_test(sizes),
		cmocka_unit_test(words),
		cmocka_unit_test(bad_words),
		cmocka_unit_test(compression),
		cmocka_unit_test(policies),
		cmocka_unit_test(recipients),
		cmocka_unit_test(prices),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
