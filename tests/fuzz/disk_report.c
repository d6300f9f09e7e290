/* LVM's reports: numbers stay in their bounds, texts in their rooms. */
#include "agent/disk/disk_private.h"
#include "tests/fuzz/fuzz.h"

static void check_pvs(const char *text, size_t length)
{
	struct report_pv *pvs;
	size_t count = 0;
	int ret = report_pvs(text, length, &pvs, &count);

	FUZZ_CHECK(!ret == (pvs != NULL));
	for (size_t i = 0; i < count; i++) {
		FUZZ_CHECK_TEXT(pvs[i].uuid);
		FUZZ_CHECK_TEXT(pvs[i].group);
		FUZZ_CHECK_TEXT(pvs[i].group_uuid);
		FUZZ_CHECK(pvs[i].bytes <= 1ull << 62 && pvs[i].data_offset <= 1ull << 62);
	}
	free(pvs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	char *text = fuzz_copy(data, length);
	struct report_lv *lvs;
	size_t count = 0;
	int ret = report_lvs(text, length, &lvs, &count);

	FUZZ_CHECK(!ret == (lvs != NULL));
	for (size_t i = 0; i < count; i++) {
		FUZZ_CHECK_TEXT(lvs[i].group);
		FUZZ_CHECK_TEXT(lvs[i].name);
		FUZZ_CHECK_TEXT(lvs[i].uuid);
		FUZZ_CHECK_TEXT(lvs[i].type);
		FUZZ_CHECK_TEXT(lvs[i].attributes);
		FUZZ_CHECK(lvs[i].bytes <= 1ull << 62);
	}
	free(lvs);
	check_pvs(text, length);
	free(text);
	return 0;
}
