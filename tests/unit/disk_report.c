/* What LVM's tools print, as LVM 2.03 prints it, and what is made of other things. */
#include "tests/unit/layout_lab.h"

#include "agent/base/file.h"
#include "agent/disk/disk_private.h"

#define CORPUS "tests/fuzz/corpus/disk_report/"

static char *report(const char *name, size_t *length)
{
	char path[128], *text;

	snprintf(path, sizeof(path), CORPUS "%s", name);
	assert_return_code(file_read(path, 1 << 20, &text, length), 0);
	return text;
}

static void physical_volumes(void **state)
{
	struct report_pv *pvs;
	size_t length, count = 0;
	char *text = report("pvs", &length);

	(void)state;
	assert_return_code(report_pvs(text, length, &pvs, &count), 0);
	assert_int_equal(count, 2);
	assert_string_equal(pvs[0].group, "lab");
	assert_int_equal(pvs[0].device, 254u << 20 | 5);
	assert_int_equal(pvs[0].data_offset, 1 << 20);
	assert_int_equal(pvs[0].extent_bytes, 4 << 20);
	/* Missing. */
	assert_int_equal(pvs[1].device, 0);
	free(pvs);
	free(text);
}

static void logical_volumes(void **state)
{
	struct report_lv *lvs;
	size_t length, count = 0;
	char *text = report("lvs", &length);

	(void)state;
	assert_return_code(report_lvs(text, length, &lvs, &count), 0);
	assert_int_equal(count, 2);
	assert_string_equal(lvs[0].name, "root");
	assert_string_equal(lvs[0].type, "linear");
	assert_int_equal(lvs[0].device, 253u << 20);
	assert_int_equal(lvs[0].bytes, 24 << 20);
	assert_int_equal(lvs[1].device, 0);
	free(lvs);
	free(text);
}

static void other_things(void **state)
{
	static const char *const texts[] = {
		"", "{", "[]", "{}", "{\"report\":[]}", "{\"report\":[{\"pv\":{}}]}",
		"{\"report\":[{\"pv\":[1]}]}", "{\"report\":[{\"pv\":[{}]}]}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		struct report_pv *pvs;
		size_t count = 0;

		assert_int_equal(report_pvs(texts[i], strlen(texts[i]), &pvs, &count), -EBADMSG);
		assert_null(pvs);
	}
}

/* What a label may hold, a layout need not. */
static void texts_from_outside(void **state)
{
	static const struct { const char *from, *to; } texts[] = {
		{ "ESP", "ESP" }, { "\xc3\xa4", "\xc3\xa4" }, { "a\nb", "a?b" }, { "\xff\xfe", "??" },
		{ "\xc0\x80", "?" }, { "\xed\xa0\x80", "?" }, { "\xe2\x82", "?" },
		{ "1234567", "1234567" }, { "12345678", "1234567" }, { "123456\xc3\xa4", "123456" },
	};
	char to[8];

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		text_take(to, sizeof(to), texts[i].from);
		assert_string_equal(to, texts[i].to);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(physical_volumes), cmocka_unit_test(logical_volumes),
		cmocka_unit_test(other_things), cmocka_unit_test(texts_from_outside),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
