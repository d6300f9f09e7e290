/*
 * A shared-credentials file. What is accepted goes into HTTP headers as it is.
 *
 * Input: the file; the profile is "default".
 */
#include "agent/store/credentials.h"
#include "tests/fuzz/fuzz.h"

static void check_secret(const char *secret)
{
	FUZZ_CHECK(*secret);
	for (; *secret; secret++)
		FUZZ_CHECK(*secret > ' ' && *secret <= '~');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	char *text = fuzz_text(data, length);
	struct error err = ERROR_INIT;
	struct credentials credentials;
	int ret = credentials_parse(text, "the file", "default", &credentials, &err);

	if (ret) {
		fuzz_refused(ret, &err);
		FUZZ_CHECK(!credentials.access_key && !credentials.secret_key &&
			   !credentials.session_token);
	} else {
		check_secret(credentials.access_key);
		check_secret(credentials.secret_key);
		if (credentials.session_token)
			check_secret(credentials.session_token);
	}
	credentials_fini(&credentials);
	free(text);
	return 0;
}
