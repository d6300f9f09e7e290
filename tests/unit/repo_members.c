/* A manifest with one member missing, odd, out of range or too long. */
#include "tests/unit/manifest_lab.h"

static void check_object(json_t *object, bool good)
{
	CLEANUP_FREE char *text = json_dumps(object, 0);
	struct point point;

	assert_non_null(text);
	if (!good) {
		manifest_check_refused(text, strlen(text));
		return;
	}
	manifest_parse(text, strlen(text), &point);
	point_fini(&point);
}

/* Each member missing, or of another type, in the object and in its lists. */
static void members_missing_or_odd(void **state)
{
	static const char *const odd[] = {
		"null", "[]", "{}", "-1", "1.5", "\"\"", "\"x\"", "[[]]", "[{}]", "[null]",
		"9223372036854775808", "-9223372036854775808", "true",
	};
	static const char *const lists[] = { NULL, "segments", "keys" };

	(void)state;
	for (size_t l = 0; l < 3; l++) {
		json_t *all = json_loads(golden, 0, NULL);
		json_t *object = l ? json_array_get(json_object_get(all, lists[l]), 0) : all;
		json_t *names = json_deep_copy(object), *value;
		const char *name;
		void *next;

		json_object_foreach_safe(names, next, name, value) {
			json_t *kept = json_incref(json_object_get(object, name));

			json_object_del(object, name);
			check_object(all, !strcmp(name, "image_sha256"));
			for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
				json_t *other = json_loads(odd[i], JSON_DECODE_ANY, NULL);
				bool text = json_is_string(kept) && json_is_string(other);

				/* Texts for people may be anything; so may empty lists. */
				if (!other || json_equal(kept, other) ||
				    (text && strlen(json_string_value(kept)) < 32) ||
				    (json_is_array(kept) && json_is_array(other) &&
				     !json_array_size(other)) ||
				    (json_is_boolean(kept) && json_is_boolean(other))) {
					json_decref(other);
					continue;
				}
				json_object_set_new(object, name, other);
				check_object(all, false);
			}
			json_object_set_new(object, name, kept);
		}
		check_object(all, true);
		json_decref(names);
		json_decref(all);
	}
}

static void values_out_of_range(void **state)
{
	static const struct { const char *name, *value; bool good; } cases[] = {
		{ "format", "\"clawback volume\"", false }, { "version", "2", false },
		{ "version", "0", false },
		{ "number", "0", false }, { "number", "6", false },
		{ "parent", "7", false }, { "parent", "0", false }, { "parent", "5", true },
		{ "base", "0", false }, { "base", "8", false }, { "base", "7", false },
		{ "base", "1", true }, { "depth", "0", false }, { "depth", "32", true },
		{ "depth", "33", false }, { "depth", "4294967298", false },
		{ "kind", "\"Incremental\"", false }, { "kind", "\"\"", false },
		{ "kind", "\"full\"", true }, { "kind", "\"differential\"", true },
		{ "kind", "\"synthetic\"", true }, { "kind", "\"fullfullfullfullfullfullfullfull\"", false },
		{ "consistency", "\"crash\"", true }, { "consistency", "\"unmounted\"", true },
		{ "consistency", "\"application\"", true }, { "consistency", "\"none\"", false },
		{ "volume_bytes", "0", false }, { "volume_bytes", "1", true },
		{ "volume_bytes", "4611686018427387904", true },
		{ "volume_bytes", "4611686018427387905", false },
		{ "block_bytes", "512", false }, { "block_bytes", "8192", false },
		{ "logical_block_bytes", "4294967296", false },
		{ "map_kind", "\"full\"", false }, { "map_kind", "\"none\"", false },
		{ "map_bytes", "2147483648", true }, { "map_bytes", "2147483649", false },
		{ "map_sha256", "\"" HEX32("55") "55\"", false },
		{ "signer", "\"" HEX32("9g") "\"", false },
		{ "run", "\"33333333-3333-3333-3333-33333333333\"", false },
		{ "run", "\"33333333-3333-3333-3333-333333333333 \"", false },
		{ "volume", "\"22222222222222222222222222222222\"", false },
		{ "segments", "[]", true }, { "keys", "[]", true }, { "frames_inline", "true", true },
		{ "segments", "[{\"bytes\": 1, \"frames\": 4294967296, \"sha256\": \""
			      HEX32("66") "\"}]", false },
		{ "clock_steps", "[]", true }, { "clock_steps", "[2, 7]", true },
		{ "clock_steps", "[1]", false }, { "clock_steps", "[8]", false },
		{ "clock_steps", "[3, 3]", false }, { "clock_steps", "[3.5]", false },
		{ "clock_steps", "7", false }, { "clock_steps", "null", false },
		{ "later_versions_add_members", "{\"a\": [1, 2]}", true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *object = json_loads(golden, 0, NULL);
		json_t *value = json_loads(cases[i].value, JSON_DECODE_ANY, NULL);

		assert_non_null(value);
		json_object_set_new(object, cases[i].name, value);
		check_object(object, cases[i].good);
		json_decref(object);
	}
}

/* Texts one byte too long; lists one item too long. */
static void too_long(void **state)
{
	static const struct { const char *name; size_t room; } texts[] = {
		{ "volume_name", REPO_NAME_MAX + 1 }, { "reason", 256 }, { "host", 65 },
		{ "device", 256 }, { "dm_name", 128 }, { "dm_uuid", 130 }, { "dm_targets", 128 },
	};
	json_t *object = json_loads(golden, 0, NULL), *keys, *segments;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		json_t *kept = json_incref(json_object_get(object, texts[i].name));
		char text[300];

		memset(text, 'a', sizeof(text));
		json_object_set_new(object, texts[i].name, json_stringn(text, texts[i].room));
		check_object(object, false);
		json_object_set_new(object, texts[i].name,
				    json_stringn(text, texts[i].room - 1));
		check_object(object, true);
		json_object_set_new(object, texts[i].name, kept);
	}
	keys = json_object_get(object, "keys");
	while (json_array_size(keys) < REPO_RECIPIENTS_MAX)
		json_array_append(keys, json_array_get(keys, 0));
	check_object(object, true);
	json_array_append(keys, json_array_get(keys, 0));
	check_object(object, false);
	json_array_remove(keys, 0);
	/* Inline frames are one segment. */
	segments = json_object_get(object, "segments");
	json_object_set_new(object, "frames_inline", json_true());
	check_object(object, true);
	json_array_append(segments, json_array_get(segments, 0));
	check_object(object, false);
	json_object_set_new(object, "frames_inline", json_false());
	check_object(object, true);
	json_decref(object);
}

static void texts_that_are_no_object(void **state)
{
	static const char *const texts[] = {
		"", "null", "1", "\"x\"", "[]", "{}", "{\"number\": 1}", "[[[[[[", "nul", "{{}}",
	};
	char doubled[sizeof(golden) + 32], deep[20000];

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		manifest_check_refused(texts[i], strlen(texts[i]));
	/* A member twice: two readers might take two different ones. */
	snprintf(doubled, sizeof(doubled), "{\"number\": 7,%s", golden + 1);
	manifest_check_refused(doubled, strlen(doubled));
	snprintf(doubled, sizeof(doubled), "%s x", golden);
	manifest_check_refused(doubled, strlen(doubled));
	memset(deep, '[', sizeof(deep));	/* no recursion without a bottom */
	manifest_check_refused(deep, sizeof(deep));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(members_missing_or_odd),
		cmocka_unit_test(values_out_of_range),
		cmocka_unit_test(too_long),
		cmocka_unit_test(texts_that_are_no_object),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
