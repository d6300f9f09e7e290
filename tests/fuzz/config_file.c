/*
 * The configuration file, by way of libini_config. The file is in memory: all that
 * config.c asks of the file system is this one function.
 */
#include "agent/base/file.h"

#define file_read fuzz_file_read
static int fuzz_file_read(const char *path, size_t limit_bytes, char **data,
			  size_t *length);
#include "agent/config/config.c"

#include "tests/fuzz/config_check.h"

static const uint8_t *content;
static size_t content_length;

static int fuzz_file_read(const char *path, size_t limit_bytes, char **data,
			  size_t *length)
{
	(void)path;
	if (content_length > limit_bytes)
		return -EFBIG;
	*data = fuzz_text(content, content_length);
	*length = content_length;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct error err = ERROR_INIT;
	struct config config;
	int ret;

	content = data;
	content_length = length;
	ret = config_load("clawback.conf", true, NULL, 0, &config, &err);
	if (ret)
		fuzz_refused(ret, &err);
	else
		check_config(&config);
	config_fini(&config);
	return 0;
}
