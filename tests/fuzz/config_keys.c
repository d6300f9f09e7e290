/*
 * Overrides from the command line, "SECTION.KEY=VALUE", one a line: the keys' own
 * parsers, without the library that reads files.
 */
#include "tests/fuzz/config_check.h"

#define OVERRIDES_MAX 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	char *text = fuzz_text(data, length), *save = NULL;
	const char *overrides[OVERRIDES_MAX];
	struct error err = ERROR_INIT;
	struct config config;
	size_t count = 0;
	uint64_t bytes;
	int ret;

	for (char *line = strtok_r(text, "\n", &save); line && count < OVERRIDES_MAX;
	     line = strtok_r(NULL, "\n", &save)) {
		overrides[count++] = line;
		if (!config_parse_bytes(line, &bytes))
			FUZZ_CHECK(*line >= '0' && *line <= '9');
		if (!config_parse_duration(line, &bytes))
			FUZZ_CHECK(*line >= '0' && *line <= '9');
	}
	ret = config_load("/nonexistent", false, overrides, count, &config, &err);
	if (ret)
		fuzz_refused(ret, &err);
	else
		check_config(&config);
	config_fini(&config);
	free(text);
	return 0;
}
