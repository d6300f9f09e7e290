/*
 * The table of fingerprints and its journal, both read from the state folder. Their
 * digests are no secret, so the harness makes them right where the fuzzer would never
 * guess them.
 *
 * Input: a byte of mode (1: mend the table's digest, 2: the journal's), two bytes: the
 * table's length; the table, then the journal.
 */
#include "agent/base/file.h"
#include "agent/volume/fingerprint_private.h"

#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCKS 64u

static char folder[256], table_path[352], journal_path[352];
static const struct uuid volume = { { 1, 2, 3 } }, run = { { 4, 5, 6 } };
static const uint8_t head_hash[32] = { 7, 8, 9 };

static void clean(void)
{
	char path[320];

	unlink(table_path);
	unlink(journal_path);
	snprintf(path, sizeof(path), "%s/volumes/fuzz", folder);
	rmdir(path);
	snprintf(path, sizeof(path), "%s/volumes", folder);
	rmdir(path);
	rmdir(folder);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const char *parent = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm";
	char path[320];

	(void)argc;
	(void)argv;
	snprintf(folder, sizeof(folder), "%s/clawback-fuzz-XXXXXX", parent);
	FUZZ_CHECK(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/volumes/fuzz", folder);
	FUZZ_CHECK(!file_make_folders(path, 0700));
	snprintf(table_path, sizeof(table_path), "%s/fingerprints", path);
	snprintf(journal_path, sizeof(journal_path), "%s/fingerprints.journal", path);
	FUZZ_CHECK(!atexit(clean));
	return 0;
}

static void put(const char *path, const uint8_t *data, size_t length)
{
	FILE *file = fopen(path, "we");

	FUZZ_CHECK(file);
	FUZZ_CHECK(fwrite(data, 1, length, file) == length);
	FUZZ_CHECK(!fclose(file));
}

static void mend(uint8_t mode, uint8_t *table, size_t table_length, uint8_t *journal,
		 size_t journal_length)
{
	if (mode & 1 && table_length >= sizeof(struct table_header))
		digest_of(table, offsetof(struct table_header, digest),
			  ((struct table_header *)table)->digest);
	if (mode & 2 && journal_length >= CRYPTO_DIGEST_SIZE)
		digest_of(journal, journal_length - CRYPTO_DIGEST_SIZE,
			  journal + journal_length - CRYPTO_DIGEST_SIZE);
}

/* What is believed can be used, and holds what the next run puts there. */
static void check_current(struct fingerprints *table)
{
	uint64_t tags[BLOCKS], known[3];
	static const uint64_t noted[3] = { 11, 0, 13 };
	struct error err = ERROR_INIT;

	FUZZ_CHECK(!fingerprints_known(table, 0, BLOCKS, tags));
	FUZZ_CHECK(fingerprints_known(table, BLOCKS - 1, 2, tags) == -ENOENT);
	FUZZ_CHECK(!fingerprints_begin(table, &run, false, &err));
	fingerprints_note(table, 20, 3, noted);
	FUZZ_CHECK(!fingerprints_seal(table, &err));
	FUZZ_CHECK(!fingerprints_advance(table, head_hash, &err));
	FUZZ_CHECK(!fingerprints_known(table, 20, 3, known));
	FUZZ_CHECK(!memcmp(known, noted, sizeof(noted)));
	FUZZ_CHECK(!fingerprints_known(table, 19, 1, known));
	FUZZ_CHECK(known[0] == tags[19]);
}

/* No record reached behind the last block. */
static void check_size(void)
{
	struct stat facts;

	FUZZ_CHECK(!stat(table_path, &facts));
	FUZZ_CHECK(facts.st_size == (off_t)(TABLE_TAGS_OFFSET + BLOCKS * sizeof(struct le64)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	uint8_t mode = fuzz_byte(&data, &length);
	size_t first = fuzz_byte(&data, &length);
	struct error err = ERROR_INIT;
	struct fingerprints *table;
	uint8_t *bytes, *journal;

	first |= (size_t)fuzz_byte(&data, &length) << 8;
	if (first > length)
		first = length;
	bytes = fuzz_copy(data, first);
	journal = fuzz_copy(data + first, length - first);
	mend(mode, bytes, first, journal, length - first);
	put(table_path, bytes, first);
	put(journal_path, journal, length - first);
	FUZZ_CHECK(!fingerprints_open(folder, "fuzz", &volume, BLOCKS, &table, &err));
	if (fingerprints_settle(table, head_hash, &run)) {
		check_size();
		check_current(table);
	} else {
		FUZZ_CHECK(access(table_path, F_OK) && access(journal_path, F_OK));
	}
	fingerprints_close(table);
	free(bytes);
	free(journal);
	return 0;
}
