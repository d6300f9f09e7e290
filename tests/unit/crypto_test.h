/* Shared by the tests of agent/crypto: a folder of their own, chance, files. */
#ifndef CLAWBACK_TEST_CRYPTO_H
#define CLAWBACK_TEST_CRYPTO_H

#include "agent/base/cleanup.h"
#include "agent/base/error.h"
#include "agent/base/file.h"
#include "agent/crypto/crypto.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static char test_folder[64] __attribute__((unused));

static inline int test_folder_make(void **state)
{
	(void)state;
	strcpy(test_folder, "/tmp/clawback-crypto.XXXXXX");
	return mkdtemp(test_folder) ? 0 : -1;
}

static int test_folder_remove_one(const char *path, const struct stat *st,
				  int type, struct FTW *place)
{
	(void)st;
	(void)type;
	(void)place;
	return remove(path);
}

static inline int test_folder_remove(void **state)
{
	(void)state;
	return nftw(test_folder, test_folder_remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* NAME in the folder; one of 32 rotating buffers. */
static inline const char *test_path(const char *name)
{
	static char paths[32][256];
	static unsigned int next;
	char *path = paths[next++ % 32];

	snprintf(path, sizeof(paths[0]), "%s/%s", test_folder, name);
	return path;
}

static inline void test_write(const char *path, const void *data,
			      size_t length, mode_t mode)
{
	assert_int_equal(file_replace(path, data, length, mode), 0);
}

/* Shell command, at most 20 s; its exit code. */
static inline int __attribute__((format(printf, 1, 2)))
test_shell(const char *format, ...)
{
	char command[2048] = "exec timeout 20 sh -c '";
	size_t used = strlen(command);
	va_list args;
	int status;

	va_start(args, format);
	used += (size_t)vsnprintf(command + used, sizeof(command) - used, format, args);
	va_end(args);
	assert_true(used + 2 < sizeof(command));
	strcat(command, "'");
	status = system(command);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static uint64_t test_random_state __attribute__((unused));

/* Printed, so that a failure can be repeated with CLAWBACK_SEED. */
static inline void test_seed(void)
{
	const char *text = getenv("CLAWBACK_SEED");

	test_random_state = text ? strtoull(text, NULL, 0) : 20260115;
	print_message("CLAWBACK_SEED=%llu\n", (unsigned long long)test_random_state);
}

/* splitmix64 */
static inline uint64_t test_random(void)
{
	uint64_t z = test_random_state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static inline void test_random_bytes(void *data, size_t length)
{
	for (size_t i = 0; i < length; i++)
		((uint8_t *)data)[i] = (uint8_t)test_random();
}

/* Hexadecimal to bytes; returns how many. */
static inline size_t test_hex(const char *text, uint8_t *data)
{
	size_t length = strlen(text) / 2;

	assert_int_equal(hex_decode(text, data, length), 0);
	return length;
}

static inline struct passphrase test_passphrase(const char *text)
{
	struct passphrase passphrase = { .length = strlen(text) };

	strcpy(passphrase.text, text);
	return passphrase;
}

static inline bool test_is_zero(const void *data, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (((const uint8_t *)data)[i])
			return false;
	return true;
}

#endif
