/*
 * A passphrase from a descriptor: one line, and nothing behind it is consumed.
 * Compared with a second, simple way to read a line.
 */
#include "tests/fuzz/fixed_keys.h"

static char path[32];
static int file;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	file = fixed_file(path);
	return 0;
}

/* The line's length without its end, or -1 when it is none. */
static int line_length(const uint8_t *data, size_t length)
{
	const uint8_t *end = length ? memchr(data, '\n', length) : NULL;
	size_t bytes = end ? (size_t)(end - data) : length;

	if (bytes >= sizeof(((struct passphrase *)0)->text) || memchr(data, '\0', bytes))
		return -1;
	/* A CR is part of the line's end, not of a line that just stops. */
	bytes -= end && bytes && data[bytes - 1] == '\r';
	return bytes ? (int)bytes : -1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct passphrase_options options = { .source = PASSPHRASE_FD, .fd = file };
	struct passphrase passphrase;
	struct error err = ERROR_INIT;
	int wanted, ret;

	if (!length)
		return 0;
	wanted = line_length(data, length);
	fixed_file_set(file, data, length);
	FUZZ_CHECK(!lseek(file, 0, SEEK_SET));
	ret = passphrase_read(&options, &passphrase, &err);
	FUZZ_CHECK(!ret == (wanted >= 0));
	if (ret) {
		fuzz_refused(ret, &err);
		FUZZ_CHECK(!passphrase.length && !passphrase.text[0]);
	} else {
		FUZZ_CHECK(passphrase.length == (size_t)wanted);
		FUZZ_CHECK(!memcmp(passphrase.text, data, passphrase.length));
		FUZZ_CHECK(!passphrase.text[passphrase.length]);
	}
	passphrase_wipe(&passphrase);
	return 0;
}
