/*
 * The hand-over slot, docs/format.md "Hand-over slot". Private to agent/volume.
 *
 *   empty    head │ stamp 1 │ stamp 2 │ …                  blocks of 4 KiB
 *   filled   head │ a hand-over file, zeros behind it to the block's end │ stamps…
 *
 * Head and stamps have one form; a stamp says of a block whose slot's it is and which
 * of its blocks. Who is about to write to the device beneath a file system must find
 * the stamps there first.
 */
#ifndef CLAWBACK_VOLUME_SLOT_FORMAT_H
#define CLAWBACK_VOLUME_SLOT_FORMAT_H

#include "agent/base/le.h"
#include "agent/volume/handover_format.h"
#include "agent/volume/volume.h"

#define SLOT_MAGIC "CLAWSLOT"
#define SLOT_VERSION 1u
#define SLOT_BLOCK 4096u
#define SLOT_NONCE 16u
#define SLOT_PAYLOAD_MAX (sizeof(struct handover_header) + HANDOVER_BITS_MAX / 8 + HANDOVER_DIGEST)
#define SLOT_BLOCKS_MAX (2 + SLOT_PAYLOAD_MAX / SLOT_BLOCK)

struct slot_block {
	uint8_t magic[8];
	struct le32 version;
	struct le32 zero;
	uint8_t nonce[SLOT_NONCE];
	struct le64 number;	/* of this block; 0: the head */
	struct le64 blocks;	/* in the slot, the head among them */
	struct le64 length;	/* head: bytes of the hand-over; 0: empty. Stamp: 0 */
	uint8_t payload[32];	/* SHA-256 of the hand-over; zeros where there is none */
	uint8_t reserved[3976];	/* zero */
	uint8_t digest[32];	/* SHA-256 of all before */
};

_Static_assert(sizeof(struct slot_block) == SLOT_BLOCK, "slot block layout");
_Static_assert(offsetof(struct slot_block, digest) == 4064, "slot block layout");

struct slot_head {
	uint8_t nonce[SLOT_NONCE];
	uint64_t blocks;
	uint64_t length;
	uint8_t payload[32];
};

/* Blocks of a slot that has room for a hand-over of so many marks; 0: too many. */
uint64_t slot_blocks_for(uint64_t bits);

/* Fills all `blocks` of a slot; `payload` NULL: an empty one. It must fit. */
void slot_image(const uint8_t nonce[static SLOT_NONCE], uint64_t blocks,
		const uint8_t *payload, size_t length, uint8_t *image);

/* The head of an empty slot. */
void slot_head_empty(const uint8_t nonce[static SLOT_NONCE], uint64_t blocks,
		     uint8_t block[static SLOT_BLOCK]);

/* -EBADMSG, with `why` in words, unless the block is a head. */
int slot_head_decode(const uint8_t block[static SLOT_BLOCK], struct slot_head *head,
		     const char **why);

/*
 * A whole slot. -ENOENT when it is empty; -EBADMSG as handover_decode. `handover` is
 * zeroed on entry.
 */
int slot_decode(const uint8_t *data, size_t length, struct handover *handover,
		const char **why);

#endif
