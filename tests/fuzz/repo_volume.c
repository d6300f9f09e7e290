/*
 * What a listing and the volume objects say: names of objects are a stranger's to
 * choose, and so is what a volume object holds.
 *
 * Input: the volume object, a NUL, names of objects, one a line.
 */
#include "agent/repo/repo_private.h"
#include "tests/fuzz/memory_store.h"

#define VOLUME "volumes/21223344-5566-4788-89aa-bbccddeeff02.json"

static const struct uuid volume = { { 0x21, 0x22, 0x33, 0x44, 0x55, 0x66, 0x47, 0x88,
				      0x89, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x02 } };

static void check_volumes(struct repo *repo)
{
	struct error err = ERROR_INIT;
	struct repo_volume *volumes, found;
	size_t count;
	int ret = repo_volumes(repo, &volumes, &count, &err);

	if (ret) {
		FUZZ_CHECK(!volumes && !count);
		fuzz_refused(ret, &err);
		return;
	}
	for (size_t i = 0; i < count; i++) {
		FUZZ_CHECK_TEXT(volumes[i].name);
		FUZZ_CHECK(!i || strcmp(volumes[i - 1].name, volumes[i].name) <= 0);
	}
	ret = repo_volume_find(repo, "pgdata", &found, &err);
	if (ret)
		fuzz_refused(ret, &err);
	else
		FUZZ_CHECK(!strcmp(found.name, "pgdata"));
	free(volumes);
}

static void check_numbers(struct repo *repo)
{
	struct error err = ERROR_INIT;
	uint64_t *numbers;
	size_t count;
	int ret = point_numbers(repo, &volume, &numbers, &count, &err);

	if (ret) {
		fuzz_refused(ret, &err);
		return;
	}
	for (size_t i = 0; i < count; i++)
		FUZZ_CHECK(numbers[i] > (i ? numbers[i - 1] : 0));
	free(numbers);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	const uint8_t *nul = length ? memchr(data, '\0', length) : NULL;
	size_t object = nul ? (size_t)(nul - data) : length;
	struct repo repo = { .store = &memory.base };

	memory_set(VOLUME, data, object);
	memory.names = nul ? fuzz_text(nul + 1, length - object - 1) : strdup(VOLUME);
	check_volumes(&repo);
	check_numbers(&repo);
	free(memory.names);
	memory.names = NULL;
	return 0;
}
