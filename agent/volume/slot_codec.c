/* What stands in a hand-over slot. */
#include "agent/crypto/crypto.h"
#include "agent/volume/slot_format.h"

#include <errno.h>
#include <string.h>

uint64_t slot_blocks_for(uint64_t bits)
{
	uint64_t bytes;

	if (!bits || bits > HANDOVER_BITS_MAX)
		return 0;
	bytes = sizeof(struct handover_header) + bitmap_words(bits) * 8 + HANDOVER_DIGEST;
	return 1 + (bytes + SLOT_BLOCK - 1) / SLOT_BLOCK;
}

static void block_fill(uint8_t *at, const struct slot_head *head, uint64_t number)
{
	struct slot_block *block = (struct slot_block *)at;

	memset(block, 0, sizeof(*block));
	memcpy(block->magic, SLOT_MAGIC, sizeof(block->magic));
	block->version = le32(SLOT_VERSION);
	memcpy(block->nonce, head->nonce, sizeof(block->nonce));
	block->number = le64(number);
	block->blocks = le64(head->blocks);
	block->length = le64(number ? 0 : head->length);
	if (!number)
		memcpy(block->payload, head->payload, sizeof(block->payload));
	digest_of(block, offsetof(struct slot_block, digest), block->digest);
}

void slot_image(const uint8_t nonce[static SLOT_NONCE], uint64_t blocks,
		const uint8_t *payload, size_t length, uint8_t *image)
{
	struct slot_head head = { .blocks = blocks };
	uint64_t filled = payload ? (length + SLOT_BLOCK - 1) / SLOT_BLOCK : 0;

	memcpy(head.nonce, nonce, sizeof(head.nonce));
	if (payload) {
		head.length = length;
		digest_of(payload, length, head.payload);
		memcpy(image + SLOT_BLOCK, payload, length);
		memset(image + SLOT_BLOCK + length, 0, filled * SLOT_BLOCK - length);
	}
	block_fill(image, &head, 0);
	for (uint64_t i = 1 + filled; i < blocks; i++)
		block_fill(image + i * SLOT_BLOCK, &head, i);
}

void slot_head_empty(const uint8_t nonce[static SLOT_NONCE], uint64_t blocks,
		     uint8_t block[static SLOT_BLOCK])
{
	struct slot_head head = { .blocks = blocks };

	memcpy(head.nonce, nonce, sizeof(head.nonce));
	block_fill(block, &head, 0);
}

static bool all_zero(const uint8_t *at, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (at[i])
			return false;
	return true;
}

int slot_head_decode(const uint8_t data[static SLOT_BLOCK], struct slot_head *head,
		     const char **why)
{
	const struct slot_block *block = (const struct slot_block *)data;
	uint8_t digest[CRYPTO_DIGEST_SIZE];

	memcpy(head->nonce, block->nonce, sizeof(head->nonce));
	memcpy(head->payload, block->payload, sizeof(head->payload));
	head->blocks = get_le64(block->blocks);
	head->length = get_le64(block->length);
	digest_of(data, offsetof(struct slot_block, digest), digest);
	if (memcmp(block->magic, SLOT_MAGIC, sizeof(block->magic)))
		*why = "it does not begin as one";
	else if (get_le32(block->version) != SLOT_VERSION)
		*why = "another version of clawback wrote it";
	else if (memcmp(digest, block->digest, sizeof(digest)))
		*why = "its checksum is wrong";
	else if (get_le32(block->zero) || get_le64(block->number) || head->blocks < 2 ||
		 head->blocks > SLOT_BLOCKS_MAX ||
		 head->length > (head->blocks - 1) * SLOT_BLOCK ||
		 (!head->length && !all_zero(head->payload, sizeof(head->payload))) ||
		 !all_zero(block->reserved, sizeof(block->reserved)))
		*why = "its head contradicts itself";
	else
		return 0;
	return -EBADMSG;
}

int slot_decode(const uint8_t *data, size_t length, struct handover *handover,
		const char **why)
{
	uint8_t digest[CRYPTO_DIGEST_SIZE];
	const uint8_t *payload = data + SLOT_BLOCK;
	struct slot_head head;
	size_t rest;

	*why = "it is too short";
	if (length < SLOT_BLOCK || slot_head_decode(data, &head, why))
		return -EBADMSG;
	*why = "its length is wrong";
	if (length != head.blocks * SLOT_BLOCK)
		return -EBADMSG;
	if (!head.length)
		return -ENOENT;
	rest = (SLOT_BLOCK - head.length % SLOT_BLOCK) % SLOT_BLOCK;
	digest_of(payload, head.length, digest);
	*why = "what it holds is not what its head says";
	if (memcmp(digest, head.payload, sizeof(digest)) || !all_zero(payload + head.length, rest))
		return -EBADMSG;
	return handover_decode(payload, head.length, handover, why);
}
