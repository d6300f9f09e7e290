/* The signing key's file and its signatures. */
#include "tests/unit/crypto_test.h"

#include <openssl/err.h>

/* RFC 8032, 7.1, test 1. */
static const char rfc_private[] =
	"-----BEGIN PRIVATE KEY-----\n"
	"MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"
	"-----END PRIVATE KEY-----\n";
static const char rfc_public[] =
	"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
/* Over "clawback test v1", NUL, SHA-256("abc"), by Python's cryptography. */
static const char golden[] =
	"5cdf34bb89c61abd50dee6948dcae1c2f91b2e87233f08e5b541cac9e4c0a6ac"
	"d641eb66e683955b9d76bc10fac55b8bd469132cd2b6e86c9a85822be1888a0c";

static void signature_golden(void **state)
{
	struct error err = ERROR_INIT;
	struct signing_private *private = NULL;
	struct signing_public public;
	uint8_t signature[CRYPTO_SIGNATURE_SIZE], expected[CRYPTO_SIGNATURE_SIZE];

	(void)state;
	test_write(test_path("rfc.pem"), rfc_private, strlen(rfc_private), 0600);
	assert_int_equal(signing_load(test_path("rfc.pem"), &private, &err), 0);
	signing_public(private, &public);
	test_hex(rfc_public, expected);
	assert_memory_equal(public.key, expected, sizeof(public.key));
	assert_int_equal(sign_data(private, "clawback test v1", "abc", 3, signature, &err),
			 0);
	test_hex(golden, expected);
	assert_memory_equal(signature, expected, sizeof(expected));
	assert_int_equal(sign_verify(&public, "clawback test v1", "abc", 3, expected), 0);
	signing_free(private);
	signing_free(NULL);
}

static void generate_and_load(void **state)
{
	const char *path = test_path("signing.pem");
	struct error err = ERROR_INIT;
	struct signing_private *made = NULL, *loaded = NULL, *again = NULL;
	struct signing_public a, b;
	uint8_t signature[CRYPTO_SIGNATURE_SIZE];
	struct stat st;

	(void)state;
	assert_int_equal(signing_generate(path, &made, &err), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(signing_load(path, &loaded, &err), 0);
	signing_public(made, &a);
	signing_public(loaded, &b);
	assert_memory_equal(&a, &b, sizeof(a));
	assert_int_equal(sign_data(made, "l", NULL, 0, signature, &err), 0);
	assert_int_equal(sign_verify(&b, "l", NULL, 0, signature), 0);
	assert_int_equal(test_shell("openssl pkey -in %s -noout -text | grep -q ED25519",
				    path), 0);

	assert_int_equal(signing_generate(path, &again, &err), -EEXIST);
	assert_null(again);
	assert_non_null(strstr(err.message, path));
	assert_int_equal(signing_generate("/nonexistent/key", &again, &err), -ENOENT);
	assert_null(again);
	signing_free(made);
	signing_free(loaded);
}

static void others_access_is_refused(void **state)
{
	static const mode_t modes[] = { 0640, 0620, 0610, 0604, 0602, 0601, 0777 };
	const char *path = test_path("modes.pem");
	struct signing_private *private = NULL;
	struct error err = ERROR_INIT;

	(void)state;
	test_write(path, rfc_private, strlen(rfc_private), 0600);
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		assert_int_equal(chmod(path, modes[i]), 0);
		assert_int_equal(signing_load(path, &private, &err), -EPERM);
		assert_null(private);
		assert_non_null(strstr(err.message, "chmod 600"));
		assert_null(strstr(err.message, "MC4C"));
	}
	assert_int_equal(chmod(path, 0400), 0);
	assert_int_equal(signing_load(path, &private, &err), 0);
	signing_free(private);
}

static void other_keys_are_refused(void **state)
{
	static const char *const kinds[][2] = {
		{ "-algorithm X25519", "X25519" },
		{ "-algorithm RSA -pkeyopt rsa_keygen_bits:1024", "rsaEncryption" },
		{ "-algorithm ED448", "ED448" },
	};
	const char *path = test_path("other.pem");
	struct signing_private *private = NULL;
	struct error err = ERROR_INIT;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(test_shell("openssl genpkey %s -out %s 2>/dev/null; chmod "
					    "600 %s", kinds[i][0], path, path), 0);
		assert_int_equal(signing_load(path, &private, &err), -EKEYREJECTED);
		assert_int_equal(err.exit, EXIT_WRONG_KEY);
		assert_non_null(strstr(err.message, kinds[i][1]));
		assert_null(private);
		assert_int_equal(ERR_peek_error(), 0);
	}
	assert_int_equal(test_shell("openssl genpkey -algorithm ED25519 -aes256 -pass "
				    "pass:x -out %s 2>/dev/null", path), 0);
	assert_int_equal(signing_load(path, &private, &err), -ENOKEY);
	assert_int_equal(signing_load(test_path("none"), &private, &err), -ENOENT);
	assert_int_equal(err.exit, EXIT_FAILED);
}

/* Every bit of label, data, key and signature counts. */
static void any_flip_is_refused(void **state)
{
	struct error err = ERROR_INIT;
	struct signing_private *private = NULL;
	struct signing_public public;
	struct { char label[9]; uint8_t data[41], signature[CRYPTO_SIGNATURE_SIZE]; } c;
	struct { uint8_t *at; size_t length; } parts[] = {
		{ (uint8_t *)c.label, 8 }, { c.data, sizeof(c.data) },
		{ public.key, sizeof(public.key) }, { c.signature, sizeof(c.signature) },
	};

	(void)state;
	test_seed();
	test_write(test_path("flip.pem"), rfc_private, strlen(rfc_private), 0600);
	assert_int_equal(signing_load(test_path("flip.pem"), &private, &err), 0);
	signing_public(private, &public);
	strcpy(c.label, "a label!");
	test_random_bytes(c.data, sizeof(c.data));
	assert_int_equal(sign_data(private, c.label, c.data, sizeof(c.data), c.signature,
				   &err), 0);
	for (size_t p = 0; p < 4; p++) {
		for (size_t bit = 0; bit < 8 * parts[p].length; bit++) {
			uint8_t mask = (uint8_t)(1 << bit % 8);

			parts[p].at[bit / 8] ^= mask;
			assert_int_equal(sign_verify(&public, c.label, c.data,
						     sizeof(c.data), c.signature), -EBADMSG);
			assert_int_equal(ERR_peek_error(), 0);
			parts[p].at[bit / 8] ^= mask;
		}
	}
	assert_int_equal(sign_verify(&public, c.label, c.data, sizeof(c.data) - 1,
				     c.signature), -EBADMSG);
	assert_int_equal(sign_verify(&public, c.label, c.data, sizeof(c.data),
				     c.signature), 0);
	signing_free(private);
}

static void label_has_a_limit(void **state)
{
	struct error err = ERROR_INIT;
	struct signing_private *private = NULL;
	struct signing_public public;
	uint8_t signature[CRYPTO_SIGNATURE_SIZE] = { 0 };
	char label[129];

	(void)state;
	test_write(test_path("label.pem"), rfc_private, strlen(rfc_private), 0600);
	assert_int_equal(signing_load(test_path("label.pem"), &private, &err), 0);
	signing_public(private, &public);
	memset(label, 'l', sizeof(label));
	label[128] = '\0';
	assert_int_equal(sign_data(private, label, "", 0, signature, &err), -EINVAL);
	assert_int_equal(sign_verify(&public, label, "", 0, signature), -EBADMSG);
	label[127] = '\0';
	assert_int_equal(sign_data(private, label, "", 0, signature, &err), 0);
	assert_int_equal(sign_verify(&public, label, "", 0, signature), 0);
	signing_free(private);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(signature_golden),
		cmocka_unit_test(generate_and_load),
		cmocka_unit_test(others_access_is_refused),
		cmocka_unit_test(other_keys_are_refused),
		cmocka_unit_test(any_flip_is_refused),
		cmocka_unit_test(label_has_a_limit),
	};

	return cmocka_run_group_tests(tests, test_folder_make, test_folder_remove);
}
