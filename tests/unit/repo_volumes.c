/* The repository object and the volumes' names. */
#include "tests/unit/points_lab.h"

#include <jansson.h>

#define REPOSITORY "clawback.json"

static int reopen(struct points_lab *lab, const char *fingerprint, struct error *err)
{
	struct repo *repo;
	int ret;

	*err = (struct error)ERROR_INIT;
	ret = repo_open(lab->store, fingerprint, &repo, err);
	if (ret)
		assert_null(repo);
	repo_close(repo);
	return ret;
}

/* ---- the repository ------------------------------------------------------------- */

static void made_once(void **state)
{
	struct points_lab *lab = points_lab_new();
	const struct repo_facts *facts = repo_facts(lab->repo);
	struct repo_facts second = { .recipient_count = 1, .signer_count = 1 };
	CLEANUP_FREE char *before = NULL, *after = NULL;
	uint8_t digest[CRYPTO_DIGEST_SIZE];
	char fingerprint[CRYPTO_FINGERPRINT_TEXT];
	struct error err = ERROR_INIT;
	size_t length;

	(void)state;
	assert_ptr_equal(repo_store(lab->repo), lab->store);
	assert_memory_equal(facts, &lab->facts, sizeof(*facts));
	assert_int_equal(facts->version, 1);
	lab_object_read(lab, REPOSITORY, &before, &length);
	digest_of(before, length, digest);
	hex_encode(digest, sizeof(digest), fingerprint);
	assert_string_equal(facts->fingerprint, fingerprint);
	assert_int_equal(-EEXIST, repo_init(lab->store, &second, &err));
	assert_non_null(strstr(err.message, "already holds a repository"));
	lab_object_read(lab, REPOSITORY, &after, &length);
	assert_string_equal(before, after);
	/* What a host pinned is what it gets. */
	assert_int_equal(0, reopen(lab, fingerprint, &err));
	fingerprint[0] = fingerprint[0] == 'a' ? 'b' : 'a';
	assert_int_equal(-EBADMSG, reopen(lab, fingerprint, &err));
	assert_int_equal(err.exit, EXIT_UNTRUSTWORTHY);
	assert_non_null(strstr(err.message, facts->fingerprint));
	points_lab_free(lab);
}

static void no_repository(void **state)
{
	struct points_lab *lab = points_lab_new();
	struct error err;

	(void)state;
	lab_object_remove(lab, REPOSITORY);
	assert_int_equal(-ENOENT, reopen(lab, NULL, &err));
	assert_int_equal(err.exit, EXIT_NO_REPOSITORY);
	assert_non_null(strstr(err.message, "clawback init"));
	points_lab_free(lab);
}

/* Keys and ids given are those found again, up to the most there can be. */
static void many_keys(void **state)
{
	struct random_state random = random_start("many_keys");
	struct points_lab *lab = points_lab_new();
	struct error err = ERROR_INIT;

	(void)state;
	for (size_t count = 1; count <= REPO_RECIPIENTS_MAX; count++) {
		struct repo_facts facts = { .recipient_count = count,
					    .signer_count = REPO_SIGNERS_MAX + 1 - count };
		struct repo *repo;

		for (size_t i = 0; i < sizeof(facts.recipients); i++) {
			((uint8_t *)facts.recipients)[i] = i / 32 < facts.recipient_count ?
				(uint8_t)random_next(&random) : 0;
			((uint8_t *)facts.signers)[i] = i / 32 < facts.signer_count ?
				(uint8_t)random_next(&random) : 0;
		}
		lab_object_remove(lab, REPOSITORY);
		assert_int_equal(0, repo_init(lab->store, &facts, &err));
		assert_int_equal(0, repo_open(lab->store, NULL, &repo, &err));
		assert_memory_equal(repo_facts(repo), &facts, sizeof(facts));
		repo_close(repo);
	}
	points_lab_free(lab);
}

/* Not pinned, damage may go unseen, but never crash or be taken for "none". */
static void damaged_repository(void **state)
{
	struct points_lab *lab = points_lab_new();
	CLEANUP_FREE char *text = NULL, *cut = calloc(1, 100000);
	struct error err;
	size_t length;

	(void)state;
	lab_object_read(lab, REPOSITORY, &text, &length);
	for (size_t n = 0; n < length; n++) {
		lab_object_write(lab, REPOSITORY, text, n);
		assert_int_equal(-EBADMSG, reopen(lab, NULL, &err));
		assert_int_equal(err.exit, EXIT_UNTRUSTWORTHY);
	}
	for (size_t bit = 0; bit < 8 * length; bit++) {
		text[bit / 8] ^= (char)(1 << bit % 8);
		lab_object_write(lab, REPOSITORY, text, length);
		if (reopen(lab, NULL, &err) && err.code != -EPROTONOSUPPORT)
			assert_int_equal(err.exit, EXIT_UNTRUSTWORTHY);
		assert_int_equal(-EBADMSG, reopen(lab, lab->facts.fingerprint, &err));
		assert_int_equal(err.exit, EXIT_UNTRUSTWORTHY);
		text[bit / 8] ^= (char)(1 << bit % 8);
	}
	lab_object_write(lab, REPOSITORY, cut, 100000);
	assert_int_equal(-EFBIG, reopen(lab, NULL, &err));
	assert_non_null(strstr(err.message, "opening the repository"));
	points_lab_free(lab);
}

static void odd_members(void **state)
{
	static const struct { const char *name, *value; int code; } cases[] = {
		{ "version", "2", -EPROTONOSUPPORT }, { "version", "0", -EPROTONOSUPPORT },
		{ "version", "4294967297", -EPROTONOSUPPORT }, { "version", "\"1\"", -EBADMSG },
		{ "version", "-1", -EBADMSG }, { "format", "\"clawback point\"", -EBADMSG },
		{ "format", "1", -EBADMSG }, { "id", "\"1\"", -EBADMSG }, { "id", "1", -EBADMSG },
		{ "created_ns", "-1", -EBADMSG }, { "created_ns", "null", -EBADMSG },
		{ "recipients", "[]", -EBADMSG }, { "recipients", "{}", -EBADMSG },
		{ "recipients", "[1]", -EBADMSG }, { "recipients", "[\"00\"]", -EBADMSG },
		{ "signers", "[]", -EBADMSG }, { "signers", "null", -EBADMSG },
		{ "later", "[1]", 0 },
	};
	struct points_lab *lab = points_lab_new();
	CLEANUP_FREE char *text = NULL;
	struct error err;
	size_t length;

	(void)state;
	lab_object_read(lab, REPOSITORY, &text, &length);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *object = json_loads(text, 0, NULL);
		char *odd;

		json_object_set_new(object, cases[i].name,
				    json_loads(cases[i].value, JSON_DECODE_ANY, NULL));
		odd = json_dumps(object, 0);
		lab_object_write(lab, REPOSITORY, odd, strlen(odd));
		if (reopen(lab, NULL, &err) != cases[i].code)
			fail_msg("%s: %s", odd, err.message);
		free(odd);
		if (cases[i].code)	/* and with the member gone */
			json_object_del(object, cases[i].name);
		odd = json_dumps(object, 0);
		lab_object_write(lab, REPOSITORY, odd, strlen(odd));
		assert_int_equal(cases[i].code ? -EBADMSG : 0, reopen(lab, NULL, &err));
		free(odd);
		json_decref(object);
	}
	points_lab_free(lab);
}

/* ---- volumes ----------------------------------------------------------------------- */

static void add(struct points_lab *lab, uint8_t id, const char *name)
{
	struct repo_volume volume = { .id = { { id, 0xab } } };
	struct error err = ERROR_INIT;

	strcpy(volume.name, name);
	if (repo_volume_add(lab->repo, &volume, &err))
		fail_msg("%s", err.message);
}

static int find(struct points_lab *lab, const char *name, uint8_t *id, struct error *err)
{
	struct repo_volume volume;
	int ret;

	*err = (struct error)ERROR_INIT;
	ret = repo_volume_find(lab->repo, name, &volume, err);
	*id = volume.id.b[0];
	return ret;
}

/* Against an array: every name is found, the list is sorted, again changes nothing. */
static void names_are_found(void **state)
{
	struct random_state random = random_start("names_are_found");
	struct points_lab *lab = points_lab_new();
	struct repo_volume *volumes;
	struct error err = ERROR_INIT;
	char names[60][REPO_NAME_MAX + 1];
	size_t count;
	uint8_t id;

	(void)state;
	assert_int_equal(0, repo_volumes(lab->repo, &volumes, &count, &err));
	assert_int_equal(count, 0);
	free(volumes);
	assert_int_equal(-ENOENT, find(lab, "data", &id, &err));
	assert_non_null(strstr(err.message, "it has none yet"));
	for (size_t i = 0; i < 60; i++) {
		memset(names[i], 0, sizeof(names[i]));
		memset(names[i], 'a' + (int)random_below(&random, 26),
		       i ? random_below(&random, REPO_NAME_MAX - 2) : REPO_NAME_MAX - 2);
		sprintf(names[i] + strlen(names[i]), "%02zu", i);
		add(lab, (uint8_t)i, names[i]);
		if (random_one_in(&random, 3))
			add(lab, (uint8_t)i, random_one_in(&random, 2) ? names[i] : "later");
	}
	assert_int_equal(0, repo_volumes(lab->repo, &volumes, &count, &err));
	assert_int_equal(count, 60);
	for (size_t i = 0; i < count; i++) {
		assert_true(!i || strcmp(volumes[i - 1].name, volumes[i].name) < 0);
		assert_string_equal(volumes[i].name, names[volumes[i].id.b[0]]);
	}
	free(volumes);
	for (size_t i = 0; i < 60; i++) {
		assert_int_equal(0, find(lab, names[i], &id, &err));
		assert_int_equal(id, i);
	}
	assert_int_equal(-ENOENT, find(lab, "later", &id, &err));
	assert_non_null(strstr(err.message, "has no volume \"later\"; it has "));
	points_lab_free(lab);
}

static void two_of_one_name(void **state)
{
	struct points_lab *lab = points_lab_new();
	struct error err;
	uint8_t id;

	(void)state;
	add(lab, 1, "data");
	add(lab, 2, "data");
	add(lab, 3, "logs");
	assert_int_equal(-EEXIST, find(lab, "data", &id, &err));
	assert_int_equal(err.exit, EXIT_USAGE);
	assert_non_null(strstr(err.message, "by its id"));
	assert_int_equal(0, find(lab, "logs", &id, &err));
	assert_int_equal(id, 3);
	assert_int_equal(0, find(lab, "02ab0000-0000-0000-0000-000000000000", &id, &err));
	assert_int_equal(id, 2);
	assert_int_equal(-ENOENT, find(lab, "wal", &id, &err));
	assert_non_null(strstr(err.message, "it has data, data, logs"));
	points_lab_free(lab);
}

/* Files beside them that no clawback wrote are nobody's volume. */
static void strangers_are_no_volumes(void **state)
{
	static const char *const keys[] = {
		"volumes/readme", "volumes/01ab0000-0000-0000-0000-000000000000.jsoN",
		"volumes/01AB0000-0000-0000-0000-000000000000.json",
		"volumes/01ab0000-0000-0000-0000-000000000000.json.bak",
		"volumes/01ab0000-0000-0000-0000-000000000000",
		"volumes/01ab0000-0000-0000-0000-00000000000.jsonn",
	};
	struct points_lab *lab = points_lab_new();
	struct repo_volume *volumes;
	struct error err = ERROR_INIT;
	size_t count;

	(void)state;
	add(lab, 1, "data");
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		lab_object_write(lab, keys[i], "x", 1);
	if (repo_volumes(lab->repo, &volumes, &count, &err))
		fail_msg("%s", err.message);
	assert_int_equal(count, 1);
	assert_string_equal(volumes[0].name, "data");
	free(volumes);
	points_lab_free(lab);
}

/* Every cut and every bit: refused, and the way round it is named. */
static void damaged_volume(void **state)
{
	static const char key[] = "volumes/01ab0000-0000-0000-0000-000000000000.json";
	struct points_lab *lab = points_lab_new();
	CLEANUP_FREE char *text = NULL;
	struct error err;
	size_t length;
	uint8_t id;

	(void)state;
	add(lab, 1, "data");
	lab_object_read(lab, key, &text, &length);
	for (size_t i = 0; i < 9 * length; i++) {
		size_t bit = i - length;

		if (i >= length)
			text[bit / 8] ^= (char)(1 << bit % 8);
		lab_object_write(lab, key, text, i < length ? i : length);
		assert_int_equal(-EBADMSG, find(lab, "data", &id, &err));
		assert_int_equal(err.exit, EXIT_UNTRUSTWORTHY);
		assert_non_null(strstr(err.message, "by the volume's id"));
		if (i >= length)
			text[bit / 8] ^= (char)(1 << bit % 8);
	}
	assert_int_equal(0, find(lab, "01ab0000-0000-0000-0000-000000000000", &id, &err));
	lab_object_write(lab, key, text, length);
	assert_int_equal(0, find(lab, "data", &id, &err));
	/* Another volume's, sound in itself. */
	lab_object_write(lab, "volumes/02ab0000-0000-0000-0000-000000000000.json", text, length);
	assert_int_equal(-EBADMSG, find(lab, "data", &id, &err));
	points_lab_free(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(made_once),
		cmocka_unit_test(no_repository),
		cmocka_unit_test(many_keys),
		cmocka_unit_test(damaged_repository),
		cmocka_unit_test(odd_members),
		cmocka_unit_test(names_are_found),
		cmocka_unit_test(two_of_one_name),
		cmocka_unit_test(strangers_are_no_volumes),
		cmocka_unit_test(damaged_volume),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
