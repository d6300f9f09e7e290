/*
 * The head of an XFS log. The log is a ring of 512-byte blocks; each carries the
 * number of the lap in which it was written, so the head is where that number
 * falls, and binary search finds it. All numbers are big-endian. Nothing here has
 * to be right for the witness to be safe: whatever place is found, it is the same
 * place as long as nobody writes, and the same bytes.
 */
#include "agent/volume/witness.h"

#include <stdbool.h>
#include <string.h>

#define SUPER_MAGIC "XFSB"
#define SUPER_BLOCK_BYTES 4u	/* offsets in the superblock */
#define SUPER_LOG_START 48u
#define SUPER_AG_BLOCKS 84u
#define SUPER_LOG_BLOCKS 96u
#define SUPER_AG_BLOCKS_LOG 124u
#define RECORD_MAGIC 0xfeedbabeu
#define BEHIND_BYTES (128u << 10)
#define AHEAD_BYTES (512u << 10)

struct xfs_log {
	uint64_t offset, bytes;
};

static uint32_t be32(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* False: no XFS with a log of its own inside the device. */
static bool log_find(const uint8_t *super, uint64_t device_bytes, struct xfs_log *log)
{
	uint64_t block = be32(super + SUPER_BLOCK_BYTES);
	uint64_t start = (uint64_t)be32(super + SUPER_LOG_START) << 32 |
			 be32(super + SUPER_LOG_START + 4);
	uint64_t group_blocks = be32(super + SUPER_AG_BLOCKS);
	unsigned shift = super[SUPER_AG_BLOCKS_LOG];

	if (memcmp(super, SUPER_MAGIC, 4) || block < 512 || block > 65536 || !start ||
	    shift >= 32 || start >> shift > UINT32_MAX)
		return false;
	log->offset = (start >> shift) * group_blocks + (start & ((UINT64_C(1) << shift) - 1));
	if (log->offset > device_bytes / block)
		return false;
	log->offset *= block;
	log->bytes = be32(super + SUPER_LOG_BLOCKS) * block / WITNESS_BLOCK * WITNESS_BLOCK;
	return log->offset % WITNESS_BLOCK == 0 && log->bytes >= 2 * WITNESS_BLOCK &&
	       log->bytes <= device_bytes && log->offset <= device_bytes - log->bytes;
}

/* The lap in which the log's block number `i` (of 4 KiB) was written. */
static int log_lap(const struct witness_source *source, const struct xfs_log *log,
		   uint64_t i, uint32_t *lap, struct error *err)
{
	const uint8_t *at = source->buffer;
	int ret = witness_peek(source, log->offset + i * WITNESS_BLOCK, WITNESS_BLOCK, err);

	if (!ret)
		*lap = be32(at) == RECORD_MAGIC ? be32(at + 4) : be32(at);
	return ret;
}

/* The first block of another lap than the log's first one; 0 when there is none. */
static int log_head(const struct witness_source *source, const struct xfs_log *log,
		    uint64_t *head, struct error *err)
{
	uint64_t low = 0, high = log->bytes / WITNESS_BLOCK - 1;
	uint32_t first, lap;
	int ret = log_lap(source, log, 0, &first, err);

	if (!ret)
		ret = log_lap(source, log, high, &lap, err);
	*head = 0;
	if (ret || lap == first)
		return ret;
	while (high - low > 1) {
		uint64_t middle = low + (high - low) / 2;

		ret = log_lap(source, log, middle, &lap, err);
		if (ret)
			return ret;
		if (lap == first)
			low = middle;
		else
			high = middle;
	}
	*head = high;
	return 0;
}

int witness_xfs(const struct witness_source *source, struct digest *digest,
		struct error *err)
{
	struct xfs_log log;
	uint64_t head, at, left;
	int ret;

	if (source->bytes < WITNESS_BLOCK)
		return 0;
	ret = witness_peek(source, 0, WITNESS_BLOCK, err);
	if (ret || !log_find(source->buffer, source->bytes, &log))
		return ret;
	ret = log_head(source, &log, &head, err);
	if (ret)
		return ret;
	/* From behind the head to before it, round the ring. */
	left = BEHIND_BYTES + AHEAD_BYTES < log.bytes ? BEHIND_BYTES + AHEAD_BYTES : log.bytes;
	at = (head * WITNESS_BLOCK + log.bytes - BEHIND_BYTES % log.bytes) % log.bytes;
	while (!ret && left) {
		uint64_t piece = log.bytes - at < left ? log.bytes - at : left;

		ret = witness_add(source, log.offset + at, piece, digest, err);
		left -= piece;
		at = 0;
	}
	return ret;
}
