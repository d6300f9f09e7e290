/*
 * Keys that are the same in every run, so that inputs can name them. Loaded from
 * PEM text in memory, as the program has no other way to be given a key.
 */
#ifndef CLAWBACK_TESTS_FUZZ_FIXED_KEYS_H
#define CLAWBACK_TESTS_FUZZ_FIXED_KEYS_H

#include "agent/base/file.h"
#include "agent/crypto/crypto.h"
#include "tests/fuzz/fuzz.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file without a name that only its owner may read; `path` is where to open it. */
static inline int fixed_file(char path[static 32])
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	FUZZ_CHECK(fd >= 0 && !fchmod(fd, 0600));
	snprintf(path, 32, "/proc/self/fd/%d", fd);
	return fd;
}

static inline void fixed_file_set(int fd, const void *data, size_t length)
{
	FUZZ_CHECK(!ftruncate(fd, 0) && !file_pwrite_all(fd, data, length, 0));
}

/* 32 times `fill` as PKCS#8 (RFC 8410) of X25519 (0x6e) or Ed25519 (0x70). */
static inline int fixed_key_file(uint8_t algorithm, uint8_t fill, char path[static 32])
{
	uint8_t der[48] = { 0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, algorithm,
			    4, 0x22, 4, 0x20 };
	char *base64, pem[256];
	int fd = fixed_file(path);

	memset(der + 16, fill, 32);
	base64 = base64_encode(der, sizeof(der));
	FUZZ_CHECK(base64);
	snprintf(pem, sizeof(pem), "-----BEGIN PRIVATE KEY-----\n%s\n"
		 "-----END PRIVATE KEY-----\n", base64);
	free(base64);
	fixed_file_set(fd, pem, strlen(pem));
	return fd;
}

static inline struct signing_private *fixed_signing_key(void)
{
	struct signing_private *private;
	struct error err = ERROR_INIT;
	char path[32];
	int fd = fixed_key_file(0x70, 1, path);

	FUZZ_CHECK(!signing_load(path, &private, &err));
	close(fd);
	return private;
}

static inline struct recovery_private *fixed_recovery_key(void)
{
	struct recovery_private *private;
	struct error err = ERROR_INIT;
	char path[32];
	int fd = fixed_key_file(0x6e, 2, path);

	FUZZ_CHECK(!recovery_private_load(path, NULL, &private, &err));
	close(fd);
	return private;
}

#endif
