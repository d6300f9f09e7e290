/*
 * What a prune makes of the names that a store lists: which objects it would delete.
 * There is a record (points 2 and 3 pruned, segment 1 of point 3 still serving, point 4
 * with a rebased map, one pack), and points 1 and 3 can be loaded.
 *
 * Input: names, one a line; "V" at the beginning of one stands for the volume's id.
 */
#include "agent/base/cleanup.h"
#include "agent/repo/prune_private.h"
#include "agent/repo/retention_format.h"
#include "tests/fuzz/fixed_keys.h"
#include "tests/fuzz/memory_store.h"

static const struct uuid volume = { { 0x21, 0x22, 0x33, 0x44, 0x55, 0x66, 0x47, 0x88,
				      0x89, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x02 } };
static const struct uuid run = { { 0x31, 0x22, 0x33, 0x44, 0x55, 0x66, 0x47, 0x88,
				   0x89, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x03 } };
static struct signing_private *signer;
static struct repo *repo;
static struct retention retention;

static void commit_point(uint64_t number)
{
	struct point point = {
		.volume = volume, .run = run, .number = number, .base = number,
		.volume_bytes = 1u << 20, .logical_block_bytes = 512,
	};
	struct point_keys keys = { .data = { 0 } };
	struct error err = ERROR_INIT;
	struct map map;

	map_init(&map, MAP_FULL, 256);
	FUZZ_CHECK(!point_commit(repo, &point, &map, NULL, 0, &keys, signer, &err));
	map_fini(&map);
}

static void make_record(void)
{
	static struct retention_map map = { .number = 4, .sequence = 1 };
	static struct retention_serving serving = { .number = 3 };
	static struct retention_pack pack = { .sequence = 1 };

	map.run = pack.run = run;
	retention.packs = &pack;
	retention.pack_count = 1;
	FUZZ_CHECK(!extent_list_append(&serving.segments, 1, 1));
	FUZZ_CHECK(!extent_list_append(&retention.pruned, 2, 2));
	retention.sequence = 1;
	retention.through = 4;
	retention.serving = &serving;
	retention.maps = &map;
	retention.serving_count = retention.map_count = 1;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct repo_facts facts = { .recipient_count = 1, .signer_count = 1 };
	struct recovery_private *recovery = fixed_recovery_key();
	struct error err = ERROR_INIT;

	(void)argc;
	(void)argv;
	signer = fixed_signing_key();
	signing_public(signer, &facts.signers[0]);
	recovery_private_public(recovery, &facts.recipients[0]);
	recovery_private_free(recovery);
	FUZZ_CHECK(!repo_init(&memory.base, &facts, &err));
	FUZZ_CHECK(!repo_open(&memory.base, facts.fingerprint, &repo, &err));
	commit_point(1);
	commit_point(3);
	make_record();
	return 0;
}

/* The input with the volume's id for V. */
static char *names_make(const uint8_t *data, size_t length, size_t *lines)
{
	CLEANUP_FREE char *text = fuzz_text(data, length);
	char id[UUID_TEXT_SIZE], *out = calloc(length + 1, UUID_TEXT_SIZE), *save = NULL;

	FUZZ_CHECK(out);
	uuid_format(&volume, id);
	*lines = 0;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		bool ours = *line == 'V';

		sprintf(out + strlen(out), "%s%s\n", ours ? id : "", line + ours);
		(*lines)++;
	}
	return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct prune_options options = { .now_ns = 1, .dry_run = true };
	struct prune_result result = { .points = 0 };
	struct prune prune = {
		.repo = repo, .volume = volume, .options = &options, .now_ns = 1, .result = &result,
	};
	struct error err = ERROR_INIT;
	struct sweep_count count, again;
	size_t lines;
	int ret;

	free(memory.names);
	memory.names = names_make(data, length, &lines);
	ret = prune_sweep(&prune, &retention, false, &count, &err);
	if (ret)
		fuzz_refused(ret, &err);
	FUZZ_CHECK(count.objects <= lines);
	/* By what is there, and by nothing else. */
	FUZZ_CHECK(prune_sweep(&prune, &retention, false, &again, &err) == ret);
	FUZZ_CHECK(again.objects == count.objects && again.bytes == count.bytes);
	return 0;
}
