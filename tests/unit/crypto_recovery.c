/* Recovery key files: made, loaded, read by openssl(1), damaged, mistaken. */
#include "tests/unit/crypto_test.h"

#include <openssl/err.h>

#define SECRET "correct horse battery"

/* RFC 7748, 6.1: Bob's key. */
static const char bob_private[] =
	"-----BEGIN PRIVATE KEY-----\n"
	"MC4CAQAwBQYDK2VuBCIEIF2rCH5iSopLeeF/i4OADuZvO7EpJhi2/Rwviyf/iODr\n"
	"-----END PRIVATE KEY-----\n";
static const char bob_public[] =
	"de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f";
static const char bob_fingerprint[] =
	"f35e5616160a30bf3c6e79fa73c576d40205e8fc3ba4e1c6dcf93e6b98e857b4";

static const char *private_path, *public_path;
static struct recovery_public made_public;

/* One pair for all tests: scrypt is slow on purpose. */
static int make_pair(void **state)
{
	static char paths[2][256];
	struct passphrase passphrase = test_passphrase(SECRET);
	struct error err = ERROR_INIT;

	if (test_folder_make(state))
		return -1;
	private_path = strcpy(paths[0], test_path("recovery.pem"));
	public_path = strcpy(paths[1], test_path("recovery.pub"));
	return recovery_generate(private_path, public_path, &passphrase, &made_public,
				 &err);
}

/* Loading must fail as said, and not name the passphrase. */
static void refuse(const char *path, const char *passphrase_text, int code,
		   enum exit_code exit, const char *words)
{
	struct passphrase passphrase = test_passphrase(passphrase_text ? passphrase_text :
								     "");
	struct recovery_private *private = NULL;
	struct error err = ERROR_INIT;

	assert_int_equal(recovery_private_load(path, passphrase_text ? &passphrase : NULL,
					       &private, &err), code);
	assert_null(private);
	assert_int_equal(err.code, code);
	assert_int_equal(err.exit, exit);
	if (!strstr(err.message, words))
		fail_msg("\"%s\" does not say \"%s\"", err.message, words);
	assert_non_null(strstr(err.message, path));
	if (passphrase_text && *passphrase_text)
		assert_null(strstr(err.message, passphrase_text));
	assert_int_equal(ERR_peek_error(), 0);
}

static void made_pair_loads(void **state)
{
	struct passphrase passphrase = test_passphrase(SECRET);
	struct recovery_private *private = NULL;
	struct recovery_public public;
	struct error err = ERROR_INIT;
	struct stat st;

	(void)state;
	assert_int_equal(stat(private_path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(stat(public_path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	assert_int_equal(recovery_public_load(public_path, &public, &err), 0);
	assert_memory_equal(&public, &made_public, sizeof(public));
	assert_int_equal(recovery_private_load(private_path, &passphrase, &private, &err),
			 0);
	recovery_private_public(private, &public);
	assert_memory_equal(&public, &made_public, sizeof(public));
	recovery_private_free(private);
	recovery_private_free(NULL);
}

static void wrong_passphrases(void **state)
{
	static const char *const wrong[] = { "guess", SECRET " ", "Correct horse battery" };

	(void)state;
	for (size_t i = 0; i < 3; i++)
		refuse(private_path, wrong[i], -EKEYREJECTED, EXIT_WRONG_KEY,
		       "wrong passphrase");
	refuse(private_path, "", -EKEYREJECTED, EXIT_WRONG_KEY, "wrong passphrase");
	refuse(private_path, NULL, -ENOKEY, EXIT_WRONG_KEY, "no passphrase");
}

/* The file opens with nothing but openssl(1), and is what we say it is. */
static void openssl_reads_it(void **state)
{
	(void)state;
	test_write(test_path("pass"), SECRET "\n", strlen(SECRET) + 1, 0600);
	assert_int_equal(test_shell("openssl pkey -in %s -passin file:%s -pubout -out %s",
				    private_path, test_path("pass"), test_path("out")), 0);
	assert_int_equal(test_shell("cmp %s %s", test_path("out"), public_path), 0);
	assert_int_equal(test_shell("openssl pkey -in %s -passin pass:no -noout 2>/dev/null",
				    private_path), 1);
	assert_int_equal(test_shell("openssl asn1parse -strictpem -in %s >%s", private_path,
				    test_path("asn1")), 0);
	assert_int_equal(test_shell("grep -q PBES2 %s && grep -q aes-256-cbc %s",
				    test_path("asn1"), test_path("asn1")), 0);
	/* scrypt: 16 bytes of salt, N = 2^14, r = 8, p = 5. */
	assert_int_equal(test_shell("grep -A6 scrypt %s | tr -d \" \\n\" | grep -Eq "
				    "\"l=16prim:OCTETSTRING.*INTEGER:4000.*INTEGER:08.*"
				    "INTEGER:05\"", test_path("asn1")), 0);
}

/* Keys that openssl(1) made and encrypted in its own ways. */
static void reads_openssls(void **state)
{
	static const char *const ways[] = {
		"-scrypt", "-v2 aes-256-cbc", "-v2 aes-128-cbc -v2prf hmacWithSHA512",
	};
	const char *plain = test_path("plain.pem");

	(void)state;
	assert_int_equal(test_shell("umask 077; openssl genpkey -algorithm X25519 -out %s",
				    plain), 0);
	for (size_t i = 0; i < 3; i++) {
		struct passphrase passphrase = test_passphrase("other secret");
		struct recovery_private *a = NULL, *b = NULL;
		struct recovery_public public_a, public_b;
		struct error err = ERROR_INIT;
		const char *path = test_path("theirs.pem");

		assert_int_equal(test_shell("openssl pkcs8 -topk8 -in %s -out %s %s -passout "
					    "\"pass:other secret\"", plain, path, ways[i]), 0);
		assert_int_equal(recovery_private_load(path, &passphrase, &a, &err), 0);
		assert_int_equal(recovery_private_load(plain, NULL, &b, &err), 0);
		recovery_private_public(a, &public_a);
		recovery_private_public(b, &public_b);
		assert_memory_equal(&public_a, &public_b, sizeof(public_a));
		recovery_private_free(a);
		recovery_private_free(b);
	}
}

static void plain_key_must_be_private(void **state)
{
	static const mode_t modes[] = { 0640, 0620, 0610, 0604, 0602, 0601, 0644 };
	const char *path = test_path("bob.pem");
	struct recovery_private *private = NULL;
	struct recovery_public public;
	struct error err = ERROR_INIT;
	char fingerprint[CRYPTO_FINGERPRINT_TEXT];
	uint8_t expected[32];

	(void)state;
	test_write(path, bob_private, strlen(bob_private), 0600);
	assert_int_equal(recovery_private_load(path, NULL, &private, &err), 0);
	recovery_private_public(private, &public);
	recovery_private_free(private);
	test_hex(bob_public, expected);
	assert_memory_equal(public.key, expected, 32);
	key_fingerprint(public.key, fingerprint);
	assert_string_equal(fingerprint, bob_fingerprint);
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		assert_int_equal(chmod(path, modes[i]), 0);
		refuse(path, NULL, -EPERM, EXIT_FAILED, "chmod 600");
		refuse(path, SECRET, -EPERM, EXIT_FAILED, "not encrypted");
	}
}

static void other_kinds_are_named(void **state)
{
	static const struct { const char *make, *words; } kinds[] = {
		{ "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024", "(rsaEncryption)" },
		{ "openssl genpkey -algorithm ED25519", "(ED25519)" },
		{ "openssl genpkey -algorithm ED25519 -aes256 -pass pass:hunter2", "(ED25519)" },
		{ "openssl genpkey -algorithm X448", "(X448)" },
		{ "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256", "(id-ecPublicKey)" },
		{ "openssl genrsa -traditional 1024", "\"RSA PRIVATE KEY\"" },
		{ "echo", "not a PEM file" },
		{ "head -c 3000 /dev/zero", "not a PEM file" },
		{ "head -c 70000 /dev/zero", "too large" },
	};
	const char *path = test_path("kind.pem");

	(void)state;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct recovery_public public;
		struct error err = ERROR_INIT;

		assert_int_equal(test_shell("umask 077; rm -f %s; %s >%s 2>/dev/null", path,
					    kinds[i].make, path), 0);
		refuse(path, "hunter2", strcmp(kinds[i].words, "too large") ? -EKEYREJECTED :
		       -EFBIG, EXIT_WRONG_KEY, kinds[i].words);
		assert_true(recovery_public_load(path, &public, &err) < 0);
		assert_int_equal(err.exit, EXIT_WRONG_KEY);
		assert_int_equal(ERR_peek_error(), 0);
	}
}

/* A PEM block with nothing sensible in it. */
static void malformed_blocks(void **state)
{
	static const struct { const char *label, *words; } blocks[] = {
		{ "PRIVATE KEY", "damaged" },
		{ "ENCRYPTED PRIVATE KEY", "damaged" },
		{ "CERTIFICATE", "\"CERTIFICATE\"" },
		{ "\033[31m-", "\"?[31m-\"" },
		{ "SOMETHING THAT IS LONGER THAN ANY LABEL", "\"SOMETHING THAT IS" },
	};
	const char *path = test_path("block.pem");
	struct recovery_public public;
	struct error err = ERROR_INIT;
	char text[256];

	(void)state;
	for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++) {
		int length = snprintf(text, sizeof(text), "-----BEGIN %s-----\nAAAA\n"
				      "-----END %s-----\n", blocks[i].label,
				      blocks[i].label);

		test_write(path, text, (size_t)length, 0600);
		refuse(path, SECRET, -EKEYREJECTED, EXIT_WRONG_KEY, blocks[i].words);
	}
	strcpy(text, "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n");
	test_write(path, text, strlen(text), 0644);
	assert_int_equal(recovery_public_load(path, &public, &err), -EKEYREJECTED);
	assert_non_null(strstr(err.message, "damaged"));
}

static void halves_are_not_confused(void **state)
{
	struct recovery_public public;
	struct error err = ERROR_INIT;
	const char *path = test_path("ed.pub");

	(void)state;
	refuse(public_path, SECRET, -EKEYREJECTED, EXIT_WRONG_KEY, "private half");
	assert_int_equal(recovery_public_load(private_path, &public, &err), -EKEYREJECTED);
	assert_non_null(strstr(err.message, "public half"));
	assert_int_equal(test_shell("openssl genpkey -algorithm ED25519 | openssl pkey "
				    "-pubout -out %s", path), 0);
	assert_int_equal(recovery_public_load(path, &public, &err), -EKEYREJECTED);
	assert_int_equal(err.exit, EXIT_WRONG_KEY);
	assert_non_null(strstr(err.message, "(ED25519)"));
}

static void no_such_file(void **state)
{
	const char *fifo = test_path("fifo");
	struct recovery_public public;
	struct error err = ERROR_INIT;

	(void)state;
	refuse(test_path("missing"), SECRET, -ENOENT, EXIT_FAILED, "No such file");
	refuse(test_folder, SECRET, -EINVAL, EXIT_FAILED, "not a regular file");
	/* Not waited for. */
	assert_int_equal(mkfifo(fifo, 0600), 0);
	refuse(fifo, SECRET, -EINVAL, EXIT_FAILED, "not a regular file");
	assert_int_equal(recovery_public_load(test_path("missing"), &public, &err),
			 -ENOENT);
}

static void generate_overwrites_nothing(void **state)
{
	struct passphrase passphrase = test_passphrase(SECRET), empty = { .length = 0 };
	struct recovery_public public;
	struct error err = ERROR_INIT;
	const char *fresh = test_path("fresh.pem");
	char before[4096], after[4096];
	FILE *file;

	(void)state;
	file = fopen(private_path, "r");
	before[fread(before, 1, sizeof(before) - 1, file)] = '\0';
	fclose(file);
	assert_int_equal(recovery_generate(private_path, test_path("x.pub"), &passphrase,
					   &public, &err), -EEXIST);
	assert_non_null(strstr(err.message, private_path));
	assert_int_equal(recovery_generate(fresh, public_path, &passphrase, &public, &err),
			 -EEXIST);
	assert_int_equal(access(fresh, F_OK), -1);
	assert_int_equal(access(test_path("x.pub"), F_OK), -1);
	file = fopen(private_path, "r");
	after[fread(after, 1, sizeof(after) - 1, file)] = '\0';
	fclose(file);
	assert_string_equal(before, after);

	/* A dangling link is something, too. */
	assert_int_equal(symlink("/nonexistent", test_path("link")), 0);
	assert_int_equal(recovery_generate(test_path("link"), test_path("x.pub"),
					   &passphrase, &public, &err), -EEXIST);
	assert_int_equal(recovery_generate(fresh, test_path("x.pub"), &empty, &public,
					   &err), -EINVAL);
	assert_int_equal(recovery_generate("/nonexistent/key", test_path("x.pub"),
					   &passphrase, &public, &err), -ENOENT);
	/* The second file fails: the first goes again. */
	assert_int_equal(recovery_generate(fresh, "/nonexistent/key.pub", &passphrase,
					   &public, &err), -ENOENT);
	assert_int_equal(access(fresh, F_OK), -1);
	assert_int_equal(recovery_generate(fresh, fresh, &passphrase, &public, &err),
			 -EEXIST);
	assert_int_equal(access(fresh, F_OK), -1);
}

/* -1 when it loads as it was made, -2 as another key; else the refusal. */
static int load_damaged(const char *text, size_t length)
{
	struct passphrase passphrase = test_passphrase(SECRET);
	struct recovery_private *private = NULL;
	struct recovery_public public;
	struct error err = ERROR_INIT;
	int ret;

	test_write(test_path("damaged.pem"), text, length, 0600);
	ret = recovery_private_load(test_path("damaged.pem"), &passphrase, &private, &err);
	assert_int_equal(ERR_peek_error(), 0);
	if (ret) {
		assert_null(private);
		assert_int_equal(err.exit, EXIT_WRONG_KEY);
		assert_null(strstr(err.message, SECRET));
		return ret;
	}
	recovery_private_public(private, &public);
	recovery_private_free(private);
	return memcmp(&public, &made_public, sizeof(public)) ? -2 : -1;
}

/* Our key and its preamble, under a scrypt that takes no time. */
static size_t cheap_key_file(char *text, size_t room)
{
	const char *cheap = test_path("cheap.pem");
	size_t length;
	FILE *file;

	assert_int_equal(test_shell("head -n 1 %s >%s; openssl pkey -in %s -passin "
				    "\"pass:" SECRET "\" | openssl pkcs8 -topk8 -scrypt "
				    "-scrypt_N 1024 -scrypt_r 1 -scrypt_p 1 -passout "
				    "\"pass:" SECRET "\" >>%s", private_path, cheap,
				    private_path, cheap), 0);
	file = fopen(cheap, "r");
	length = fread(text, 1, room - 1, file);
	fclose(file);
	text[length] = '\0';
	return length;
}

/*
 * Random bits of the file flipped. It may still load (white space, bits that no
 * byte takes), but never as another key, which CBC alone would let happen.
 */
static void damage_never_makes_another_key(void **state)
{
	char text[4096], copy[4096];
	size_t length = cheap_key_file(text, sizeof(text));
	const char *block = strstr(text, "-----BEGIN");
	size_t body = (size_t)(block - text), bare_length = length - body;
	int refused = 0, other = 0;

	(void)state;
	test_seed();
	assert_int_equal(load_damaged(text, length), -1);
	for (int round = 0; round < 400; round++) {
		size_t at = body + test_random() % (length - body);
		int ret;

		memcpy(copy, text, length);
		copy[at] = (char)(copy[at] ^ 1 << test_random() % 8);
		ret = load_damaged(copy, length);
		assert_int_not_equal(ret, -2);
		refused += ret < -2;
	}
	assert_true(refused > 200);
	for (size_t cut = 0; cut < length - 1; cut += 7)
		assert_true(load_damaged(text, cut) < -2);

	/* Without the preamble, as after a change of passphrase by openssl(1), the
	 * key loads as well; the last cipher blocks then do make other keys, or this
	 * test would prove nothing. */
	assert_int_equal(load_damaged(block, bare_length), -1);
	for (size_t at = length - 110; at < length - 40; at++) {
		memcpy(copy, text, length);
		copy[at] = copy[at] == 'A' ? 'B' : 'A';
		other += load_damaged(copy + body, bare_length) == -2;
		assert_int_not_equal(load_damaged(copy, length), -2);
	}
	assert_true(other > 0);

	memcpy(copy, text, length);
	copy[22] = copy[22] == '0' ? '1' : '0';
	assert_int_equal(load_damaged(copy, length), -EKEYREJECTED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(made_pair_loads),
		cmocka_unit_test(wrong_passphrases),
		cmocka_unit_test(openssl_reads_it),
		cmocka_unit_test(reads_openssls),
		cmocka_unit_test(plain_key_must_be_private),
		cmocka_unit_test(other_kinds_are_named),
		cmocka_unit_test(malformed_blocks),
		cmocka_unit_test(halves_are_not_confused),
		cmocka_unit_test(no_such_file),
		cmocka_unit_test(generate_overwrites_nothing),
		cmocka_unit_test(damage_never_makes_another_key),
	};

	return cmocka_run_group_tests(tests, make_pair, test_folder_remove);
}
