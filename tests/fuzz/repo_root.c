/* clawback.json: who may sign, and to whom points are sealed. */
#include "agent/repo/repo.h"
#include "tests/fuzz/memory_store.h"

static void check_facts(const struct repo_facts *facts)
{
	FUZZ_CHECK(facts->version == 1);
	FUZZ_CHECK(facts->recipient_count && facts->recipient_count <= REPO_RECIPIENTS_MAX);
	FUZZ_CHECK(facts->signer_count && facts->signer_count <= REPO_SIGNERS_MAX);
	FUZZ_CHECK(strlen(facts->fingerprint) == CRYPTO_FINGERPRINT_TEXT - 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	char fingerprint[CRYPTO_FINGERPRINT_TEXT];
	struct error err = ERROR_INIT;
	struct repo *repo;
	int ret;

	memory_set("clawback.json", data, length);
	ret = repo_open(&memory.base, NULL, &repo, &err);
	if (ret) {
		FUZZ_CHECK(!repo);
		fuzz_refused(ret, &err);
		return 0;
	}
	check_facts(repo_facts(repo));
	strcpy(fingerprint, repo_facts(repo)->fingerprint);
	repo_close(repo);
	/* The fingerprint pins just these bytes. */
	FUZZ_CHECK(!repo_open(&memory.base, fingerprint, &repo, &err));
	repo_close(repo);
	fingerprint[0] = fingerprint[0] == '0' ? '1' : '0';
	FUZZ_CHECK(repo_open(&memory.base, fingerprint, &repo, &err) == -EBADMSG);
	return 0;
}
