/*
 * OpenSSL without memory: every one of its allocations fails in turn, and each
 * function must then either do its work or say that it did not. Never a wrong
 * result, a leak (under SANITIZER=address) or a stale entry in the error queue.
 */
#include "tests/unit/crypto_test.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <malloc.h>
#include <signal.h>

/* Allocations until one fails; negative: none will. */
static long allocations_left = -1;
static bool allocation_failed;

/*
 * What OpenSSL gives back to the heap while it is watched, so that it can be
 * searched for secrets. scrypt's working memory is too large to keep.
 */
#define FREED_BLOCK_MAX 65536
static uint8_t freed_log[8 << 20];
static size_t freed_length;
static bool freed_watched;

static void freed_note(const void *memory)
{
	size_t size = malloc_usable_size((void *)memory);

	if (size > FREED_BLOCK_MAX)
		return;
	assert_true(freed_length + size <= sizeof(freed_log));
	memcpy(freed_log + freed_length, memory, size);
	freed_length += size;
}

static bool freed_contains(const void *secret, size_t length)
{
	return memmem(freed_log, freed_length, secret, length) != NULL;
}

static bool allocation_fails(void)
{
	if (allocations_left < 0 || allocations_left-- > 0)
		return false;
	/* One fails, the rest succeed: the clean-up has to work with what is. */
	allocation_failed = true;
	errno = ENOMEM;	/* as malloc does */
	return true;
}

static void *failing_malloc(size_t size, const char *file, int line)
{
	(void)file;
	(void)line;
	return allocation_fails() ? NULL : malloc(size);
}

static void *failing_realloc(void *old, size_t size, const char *file, int line)
{
	(void)file;
	(void)line;
	return allocation_fails() ? NULL : realloc(old, size);
}

static void plain_free(void *memory, const char *file, int line)
{
	(void)file;
	(void)line;
	if (memory && freed_watched)
		freed_note(memory);
	free(memory);
}

static struct recovery_private *recovery;
static struct recovery_public recovery_half;
static struct signing_private *signer;
static struct signing_public signer_half;
static const struct point_keys some_keys = { .data = { 1 }, .map = { 2 } };

/* Each returns 0 or negative; it checks its own result when it is 0. */

static int run_wrap(struct error *err)
{
	uint8_t wrap[CRYPTO_WRAP_SIZE];
	struct point_keys back;
	int ret = keys_wrap(&recovery_half, &some_keys, "c", 1, wrap, err);

	if (ret)
		return ret;
	ret = keys_unwrap(recovery, wrap, "c", 1, &back, err);
	if (ret)
		assert_true(test_is_zero(&back, sizeof(back)));
	else
		assert_memory_equal(&back, &some_keys, sizeof(back));
	return ret;
}

static int run_seal(struct error *err)
{
	const uint8_t key[CRYPTO_KEY_SIZE] = { 7 };
	struct sealer *sealer = sealer_new(key);
	uint8_t sealed[4 + CRYPTO_TAG_SIZE], back[4];
	int ret;

	if (!sealer)
		return error_set(err, -ENOMEM, "no sealer");
	ret = seal(sealer, SEAL_MAP, 1, "a", 1, (const uint8_t *)"data", 4, sealed);
	if (!ret)
		ret = unseal(sealer, SEAL_MAP, 1, "a", 1, sealed, sizeof(sealed), back);
	if (!ret)
		assert_memory_equal(back, "data", 4);
	sealer_free(sealer);
	return ret ? error_set(err, ret, "not sealed") : 0;
}

static int run_derive(struct error *err)
{
	static const uint8_t key[CRYPTO_KEY_SIZE];
	static uint8_t expected[CRYPTO_KEY_SIZE];
	uint8_t out[CRYPTO_KEY_SIZE];
	int ret = key_derive(key, "s", 1, "i", out);

	if (ret)
		return error_set(err, ret, "not derived");
	if (test_is_zero(expected, sizeof(expected)))
		memcpy(expected, out, sizeof(out));	/* the first run, not failing */
	assert_memory_equal(out, expected, sizeof(out));
	return 0;
}

static int run_sign(struct error *err)
{
	uint8_t signature[CRYPTO_SIGNATURE_SIZE];
	int ret = sign_data(signer, "label", "data", 4, signature, err);

	assert_int_equal(ERR_peek_error(), 0);
	if (ret)
		return ret;
	ret = sign_verify(&signer_half, "label", "data", 4, signature);
	assert_int_not_equal(ret, -EBADMSG);
	return ret ? error_set(err, ret, "not verified") : 0;
}

/* A forged signature must not pass for want of memory; nor that be called forgery. */
static int run_forged(struct error *err)
{
	const uint8_t forged[CRYPTO_SIGNATURE_SIZE] = { 1 };
	int ret = sign_verify(&signer_half, "label", "data", 4, forged);

	assert_true(ret == -EBADMSG || (ret == -ENOMEM && allocation_failed));
	return allocation_failed ? error_set(err, -EIO, "as it should be") : 0;
}

static int run_signing_files(struct error *err)
{
	struct signing_private *made = NULL;
	struct signing_public a, b;
	const char *path = test_path("made.pem");
	int ret;

	unlink(path);
	ret = signing_generate(path, &made, err);
	if (!ret) {
		signing_public(made, &a);
		signing_free(made);
		ret = signing_load(path, &made, err);
	}
	if (ret)
		return ret;
	signing_public(made, &b);
	assert_memory_equal(&a, &b, sizeof(a));
	signing_free(made);
	return 0;
}

static int run_recovery_load(struct error *err)
{
	struct passphrase passphrase = test_passphrase("x");
	struct recovery_private *private = NULL;
	struct recovery_public public;
	int ret = recovery_private_load(test_path("cheap.pem"), &passphrase, &private, err);

	if (ret) {
		assert_null(private);
		return ret;
	}
	recovery_private_public(private, &public);
	recovery_private_free(private);
	assert_memory_equal(&public, &recovery_half, sizeof(public));
	memset(&public, 0, sizeof(public));
	ret = recovery_public_load(test_path("key.pub"), &public, err);
	if (!ret)
		assert_memory_equal(&public, &recovery_half, sizeof(public));
	return ret;
}

static int run_digest(struct error *err)
{
	struct digest *digest = digest_new();

	if (!digest)
		return error_set(err, -ENOMEM, "no digest");
	digest_free(digest);
	return 0;
}

static int (*const runs[])(struct error *) = {
	run_wrap, run_seal, run_derive, run_sign, run_forged, run_signing_files,
	run_recovery_load, run_digest,
};

static int prepare(void **state)
{
	struct error err = ERROR_INIT;

	if (test_folder_make(state) ||
	    test_shell("cd %s && umask 077 && openssl genpkey -algorithm X25519 -out key.pem "
		       "&& openssl pkey -in key.pem -pubout -out key.pub && openssl pkcs8 "
		       "-topk8 -in key.pem -out cheap.pem -scrypt -scrypt_N 16 -scrypt_r 1 "
		       "-scrypt_p 1 -passout pass:x", test_folder) ||
	    recovery_private_load(test_path("key.pem"), NULL, &recovery, &err) ||
	    signing_generate(test_path("sign.pem"), &signer, &err))
		return -1;
	recovery_private_public(recovery, &recovery_half);
	signing_public(signer, &signer_half);
	/* OpenSSL sets up its own tables at first use; that is not under test. */
	for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++)
		if (runs[i](&err))
			return -1;
	return 0;
}

static int finish(void **state)
{
	recovery_private_free(recovery);
	signing_free(signer);
	return test_folder_remove(state);
}

static void each_allocation_fails_once(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
		int failures = 0;
		long n;

		/* Reading a key takes thousands: then not every one. */
		for (n = 0; n < 100000; n = n < 500 ? n + 1 : n + n / 50) {
			struct error err = ERROR_INIT;
			int ret;

			allocation_failed = false;
			allocations_left = n;
			ret = runs[i](&err);
			allocations_left = -1;
			assert_int_equal(ERR_peek_error(), 0);
			assert_int_equal(ret, err.code);
			if (!allocation_failed)
				break;
			failures += ret < 0;
			assert_true(ret == 0 || err.message[0]);
		}
		assert_true(n > 0 && n < 100000);
		print_message("run %zu: some %ld allocations, %d failures reported\n", i, n,
			      failures);
		assert_true(failures > 0);
	}
}

/* scrypt makes this slow: only some of its allocations. */
static void generate_without_memory(void **state)
{
	const struct passphrase passphrase = test_passphrase("x");
	struct recovery_public public;
	int failures = 0;

	(void)state;
	for (long n = 0; n < 400; n = n < 12 ? n + 1 : n + n / 3) {
		struct error err = ERROR_INIT;
		int ret;

		allocation_failed = false;
		allocations_left = n;
		ret = recovery_generate(test_path("g.pem"), test_path("g.pub"), &passphrase,
					&public, &err);
		allocations_left = -1;
		assert_int_equal(ERR_peek_error(), 0);
		failures += ret < 0;
		assert_int_equal(access(test_path("g.pem"), F_OK), ret ? -1 : 0);
		assert_int_equal(access(test_path("g.pub"), F_OK), ret ? -1 : 0);
		unlink(test_path("g.pem"));
		unlink(test_path("g.pub"));
	}
	assert_true(failures > 5);
}

/* The 32 bytes of the private key in a PKCS#8 file. */
static void raw_private(const char *path, const char *passphrase, uint8_t *key)
{
	FILE *file;

	assert_int_equal(test_shell("openssl pkey -in %s -passin \"pass:%s\" -outform DER "
				    "-out %s", path, passphrase, test_path("der")), 0);
	file = fopen(test_path("der"), "r");
	assert_int_equal(fseek(file, -CRYPTO_KEY_SIZE, SEEK_END), 0);
	assert_int_equal(fread(key, 1, CRYPTO_KEY_SIZE, file), CRYPTO_KEY_SIZE);
	fclose(file);
}

#define SECRET "a very secret passphrase"

/*
 * A run that makes, encrypts, loads and uses a key leaves neither the key nor the
 * passphrase behind; one that keeps its key in the clear, not the key.
 */
static void freed_memory_is_wiped(void **state)
{
	const char *path = test_path("w.pem"), *plain = test_path("s.pem");
	const struct passphrase passphrase = test_passphrase(SECRET);
	struct recovery_private *private = NULL;
	struct signing_private *host = NULL;
	struct recovery_public public;
	struct point_keys keys;
	struct error err = ERROR_INIT;
	uint8_t wrap[CRYPTO_WRAP_SIZE], raw[CRYPTO_KEY_SIZE];

	(void)state;
	freed_watched = true;
	assert_int_equal(recovery_generate(path, test_path("w.pub"), &passphrase, &public,
					   &err), 0);
	assert_int_equal(recovery_private_load(path, &passphrase, &private, &err), 0);
	assert_int_equal(keys_wrap(&public, &some_keys, NULL, 0, wrap, &err), 0);
	assert_int_equal(keys_unwrap(private, wrap, NULL, 0, &keys, &err), 0);
	recovery_private_free(private);
	assert_int_equal(signing_generate(plain, &host, &err), 0);
	signing_free(host);
	assert_int_equal(signing_load(plain, &host, &err), 0);
	assert_int_equal(sign_data(host, "l", "d", 1, wrap, &err), 0);
	signing_free(host);
	freed_watched = false;

	assert_false(freed_contains(SECRET, strlen(SECRET)));
	raw_private(path, SECRET, raw);
	assert_false(freed_contains(raw, sizeof(raw)));
	assert_false(freed_contains(raw + 8, 16));
	raw_private(plain, "", raw);
	assert_false(freed_contains(raw, sizeof(raw)));
	assert_false(freed_contains(raw + 8, 16));
	/* The search does find what was not wiped. */
	freed_watched = true;
	OPENSSL_free(OPENSSL_strdup(SECRET));
	freed_watched = false;
	assert_true(freed_contains(SECRET, strlen(SECRET)));
}

/* There is no "no digest" to return: the process ends rather than go on with one. */
static void digest_ends_the_process(void **state)
{
	uint8_t out[CRYPTO_DIGEST_SIZE];
	int status;
	pid_t child;

	(void)state;
	fflush(NULL);
	child = fork();
	if (child == 0) {
		close(STDERR_FILENO);
		signal(SIGABRT, SIG_DFL);
		allocations_left = 0;
		digest_of("abc", 3, out);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_allocation_fails_once),
		cmocka_unit_test(generate_without_memory),
		cmocka_unit_test(freed_memory_is_wiped),
		cmocka_unit_test(digest_ends_the_process),
	};

	if (CRYPTO_set_mem_functions(failing_malloc, failing_realloc, plain_free) != 1)
		return 1;
	return cmocka_run_group_tests(tests, prepare, finish);
}
