/*
 * What keeps secrets inside the process: no core file, no ptrace by others,
 * wiping that the compiler may not remove, comparison in constant time.
 */
#include "agent/crypto/openssl.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <sys/prctl.h>
#include <sys/resource.h>

int crypto_harden_process(struct error *err)
{
	const struct rlimit none = { 0, 0 };

	/* Not dumpable also makes /proc/PID/mem and environ root's alone. */
	if (setrlimit(RLIMIT_CORE, &none) < 0 ||
	    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return error_set(err, -errno,
				 "cannot forbid core files of this process: %s",
				 error_text(errno));
	return 0;
}

void crypto_wipe(void *memory, size_t length)
{
	OPENSSL_cleanse(memory, length);
}

bool crypto_equal(const void *a, const void *b, size_t length)
{
	return CRYPTO_memcmp(a, b, length) == 0;
}

int crypto_random(void *buffer, size_t length, struct error *err)
{
	uint8_t *at = buffer;

	while (length) {
		size_t part = length < INT_MAX ? length : INT_MAX;

		/* The private generator: most of what is drawn here is keys. */
		if (RAND_priv_bytes(at, (int)part) != 1)
			return openssl_error(err, "draw random bytes");
		at += part;
		length -= part;
	}
	return 0;
}

int openssl_error(struct error *err, const char *what)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());

	error_set(err, -EIO, "cannot %s: OpenSSL says: %s", what,
		  reason ? reason : "no reason given");
	return openssl_forget(err->code);
}

int openssl_verdict(int code)
{
	bool no_memory = errno == ENOMEM;
	unsigned long entry;

	while ((entry = ERR_get_error()))
		no_memory |= ERR_GET_REASON(entry) == ERR_R_MALLOC_FAILURE;
	return no_memory ? -ENOMEM : code;
}

int openssl_forget(int ret)
{
	ERR_clear_error();
	return ret;
}
