/*
 * Lines of /proc/self/mountinfo: the kernel writes them, but whoever mounts chooses
 * the names in them.
 */
#include "agent/volume/sysfs.c"

#include "tests/fuzz/fuzz.h"

static void check_line(char *line)
{
	size_t length = strlen(line);
	struct mount_entry entry;

	if (mounts_parse(line, &entry))
		return;
	FUZZ_CHECK(*entry.where);
	FUZZ_CHECK(strlen(entry.where) + strlen(entry.type) + strlen(entry.source) < length);
	FUZZ_CHECK(DEVICE_MAJOR(entry.device) <= 0xfff);
	FUZZ_CHECK(strlen(entry.options) < length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	while (length) {
		const uint8_t *end = memchr(data, '\n', length);
		size_t bytes = end ? (size_t)(end - data) + 1 : length;
		/* Of just its size, so that reading behind it is found. */
		char *line = fuzz_text(data, bytes);

		check_line(line);
		free(line);
		data += bytes;
		length -= bytes;
	}
	return 0;
}
