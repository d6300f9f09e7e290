/*
 * Hexadecimal, base64 and ids in text: what decodes is encoded as the same text, but
 * for the case of hexadecimal digits.
 */
#include "agent/base/uuid.h"
#include "agent/crypto/crypto.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <strings.h>

static void check_hex(const char *text)
{
	size_t digits = strlen(text), length = digits / 2;
	uint8_t *data = malloc(length ? length : 1);
	char *again = malloc(2 * length + 1);

	FUZZ_CHECK(data && again);
	if (!hex_decode(text, data, length)) {
		hex_encode(data, length, again);
		FUZZ_CHECK(!(digits % 2) && !strcasecmp(text, again));
	}
	/* Another length than the text's never fits. */
	FUZZ_CHECK(hex_decode(text, data, length ? length - 1 : 0) || !digits);
	free(again);
	free(data);
}

static void check_base64(const char *text)
{
	size_t room = strlen(text) / 4 * 3, length;
	uint8_t *data = malloc(room ? room : 1);
	char *again;

	FUZZ_CHECK(data);
	if (!base64_decode(text, data, room, &length)) {
		FUZZ_CHECK(length <= room);
		again = base64_encode(data, length);
		FUZZ_CHECK(again && !strcmp(text, again));
		free(again);
		if (length)
			FUZZ_CHECK(base64_decode(text, data, length - 1, &room) == -EMSGSIZE);
	}
	free(data);
}

static void check_uuid(const char *text)
{
	char again[UUID_TEXT_SIZE];
	struct uuid uuid;

	if (uuid_parse(text, &uuid))
		return;
	uuid_format(&uuid, again);
	FUZZ_CHECK(!strcasecmp(text, again));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	char *text = fuzz_text(data, length);

	check_hex(text);
	check_base64(text);
	check_uuid(text);
	free(text);
	return 0;
}
