/*
 * A pack: its index, what is found by it, and the heads in it. The harness makes the
 * record that names the pack with the right digest.
 *
 * Input: one byte, how many items the record says there are; then the pack.
 */
#include "agent/repo/pack_format.h"
#include "tests/fuzz/fixed_keys.h"
#include "tests/fuzz/memory_store.h"

static const struct uuid volume = { { 0x21, 0x22, 0x33, 0x44, 0x55, 0x66, 0x47, 0x88,
				      0x89, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x02 } };
static struct repo *repo;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct repo_facts facts = { .recipient_count = 1, .signer_count = 1 };
	struct recovery_private *recovery = fixed_recovery_key();
	struct signing_private *signer = fixed_signing_key();
	struct error err = ERROR_INIT;

	(void)argc;
	(void)argv;
	signing_public(signer, &facts.signers[0]);
	recovery_private_public(recovery, &facts.recipients[0]);
	recovery_private_free(recovery);
	signing_free(signer);
	FUZZ_CHECK(!repo_init(&memory.base, &facts, &err));
	FUZZ_CHECK(!repo_open(&memory.base, facts.fingerprint, &repo, &err));
	return 0;
}

/* All in order, inside the pack, and found again. */
static void check_index(struct packs *packs, const struct retention_pack *pack,
			const struct pack_index *index)
{
	uint64_t at = sizeof(struct pack_header);

	FUZZ_CHECK(index->count == pack->items);
	for (size_t i = 0; i < index->count; i++) {
		const struct pack_item *item = &index->items[i];
		struct error err = ERROR_INIT;
		struct pack_place place;
		struct point point;
		int ret;

		FUZZ_CHECK(item->at == at && item->length);
		FUZZ_CHECK(item->point >= pack->first && item->point <= pack->last);
		at += item->length;
		if (item->kind == PACK_FRAMES) {
			FUZZ_CHECK(!packs_find_frames(packs, item->point, item->segment,
						      item->offset + item->length - 1, &place,
						      &err));
			FUZZ_CHECK(place.item == item);
			continue;
		}
		FUZZ_CHECK(!packs_find_head(packs, item->point, &place, &err));
		FUZZ_CHECK(place.item == item);
		ret = packs_point(packs, item->point, &point, &err);
		if (ret)
			fuzz_refused(ret, &err);
		else
			point_fini(&point);
	}
	FUZZ_CHECK(at + pack_index_bytes(pack) == pack->bytes);
}

static uint64_t entry_point(const uint8_t *entry)
{
	struct pack_entry copy;

	memcpy(&copy, entry, sizeof(copy));
	return get_le64(copy.point);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct retention_pack pack = { .sequence = 1, .items = fuzz_byte(&data, &length) };
	struct retention retention = { .packs = &pack, .pack_count = 1 };
	const struct pack_index *index;
	struct error err = ERROR_INIT;
	const uint8_t *entries;
	struct packs *packs;
	char key[STORE_KEY_MAX];
	int ret;

	pack.bytes = length;
	if (!pack_sane(&pack))
		return 0;
	entries = data + length - pack_index_bytes(&pack);
	pack.first = entry_point(entries);
	pack.last = entry_point(data + length - sizeof(struct pack_entry));
	digest_of(entries, pack_index_bytes(&pack), pack.index_sha256);
	pack_key(&volume, &pack, key);
	memory_set(key, data, length);
	packs = packs_new(repo, &volume, &retention);
	FUZZ_CHECK(packs);
	ret = packs_index(packs, 0, &index, &err);
	if (ret)
		fuzz_refused(ret, &err);
	else
		check_index(packs, &pack, index);
	packs_free(packs);
	return 0;
}
