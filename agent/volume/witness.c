/*
 * What a device's contents look like from outside. Made for one question: has
 * anybody used this device since? Reading all of it would answer that, and cost
 * what the marks are there to save. So three kinds of places are read, some MiB
 * in all:
 *
 * - edges: who mounts a file system for writing (ext4, btrfs), or assembles what
 *   lies on a device (LVM, md, LUKS), writes its superblock. Those lie in the first
 *   or last MiB; behind a partition table or a LUKS header another one begins.
 * - journal: XFS leaves its superblock alone until it is unmounted, but no change
 *   gets to the disk before its log did.
 * - sample: for users that are no file system. Half of it are blocks that were
 *   written lately, which whoever uses the device is likely to write again, half is
 *   spread over the device, so that no large piece of it changes unseen.
 *
 * It can miss a small write to a block that nobody reads here; docs/tracking.md
 * says so.
 */
#include "agent/volume/witness.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/base/le.h"
#include "agent/crypto/crypto.h"
#include "agent/volume/volume.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define EDGE_BYTES (1u << 20)
#define INNER_BYTES (128u << 10)	/* of a superblock behind a header */
#define SAMPLE_MARKED 128u
#define SAMPLE_SPREAD 128u

/* Where things begin behind a partition table, LUKS 1 and LUKS 2. */
static const uint64_t inner_offsets[] = { 1u << 20, 2u << 20, 16u << 20 };

/* What saving itself writes is no sign of anybody else. */
static void hide(const struct witness_source *source, uint64_t offset, size_t length)
{
	for (size_t i = 0; source->hidden && i < source->hidden->count; i++) {
		uint64_t from = source->hidden->pieces[i].first * WITNESS_BLOCK;
		uint64_t bytes = source->hidden->pieces[i].count * WITNESS_BLOCK;
		uint64_t skip = from > offset ? from - offset : 0;
		uint64_t cut = offset > from ? offset - from : 0;

		if (skip < length && cut < bytes)
			memset(source->buffer + skip, 0, bytes - cut < length - skip ?
			       bytes - cut : length - skip);
	}
}

int witness_peek(const struct witness_source *source, uint64_t offset, size_t length,
		 struct error *err)
{
	int ret = file_pread_all(source->fd, source->buffer, length, offset);

	if (!ret)
		hide(source, offset, length);
	return ret ? error_set(err, ret, "reading %zu bytes at %llu of the volume: %s", length,
			       (unsigned long long)offset, error_text(ret)) : 0;
}

int witness_add(const struct witness_source *source, uint64_t offset, uint64_t length,
		struct digest *digest, struct error *err)
{
	struct le64 place = le64(offset);

	if (offset >= source->bytes)
		return 0;
	if (length > source->bytes - offset)
		length = source->bytes - offset;
	digest_update(digest, &place, sizeof(place));
	while (length) {
		size_t piece = length < WITNESS_PIECE ? (size_t)length : WITNESS_PIECE;
		int ret = witness_peek(source, offset, piece, err);

		if (ret)
			return ret;
		digest_update(digest, source->buffer, piece);
		offset += piece;
		length -= piece;
	}
	return 0;
}

static int edges_add(const struct witness_source *source, struct digest *digest,
		     struct error *err)
{
	uint64_t last = source->bytes > EDGE_BYTES ? source->bytes - EDGE_BYTES : 0;
	int ret = witness_add(source, 0, EDGE_BYTES, digest, err);

	for (size_t i = 0; !ret && i < sizeof(inner_offsets) / sizeof(inner_offsets[0]); i++)
		ret = witness_add(source, inner_offsets[i], INNER_BYTES, digest, err);
	return ret ? ret : witness_add(source, last, EDGE_BYTES, digest, err);
}

/* splitmix64: spread well, and the same from boot to boot. */
static uint64_t draw(uint64_t *seed)
{
	uint64_t z = *seed += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/* Every so-many-th of the marks; in a large granule any block. */
static int sample_marked(const struct witness_source *source,
			 const struct witness_plan *plan, struct digest *digest,
			 struct error *err)
{
	const struct bitmap *marks = plan->marks;
	uint64_t seed = plan->seed, total = bitmap_count(marks), passed = 0, taken = 0, from = 0;
	uint64_t wanted = total < SAMPLE_MARKED ? total : SAMPLE_MARKED;
	uint64_t fine = plan->granularity_bytes / WITNESS_BLOCK;
	struct extent run;
	int ret = 0;

	while (!ret && taken < wanted && bitmap_next_run(marks, from, &run)) {
		uint64_t next = taken * total / wanted;

		if (next < passed + run.count) {
			uint64_t block = (run.first + next - passed) * fine +
					 draw(&seed) % (fine ? fine : 1);

			ret = witness_add(source, block * WITNESS_BLOCK, WITNESS_BLOCK,
					  digest, err);
			taken++;
		} else {
			passed += run.count;
			from = run.first + run.count;
		}
	}
	return ret;
}

/* One block out of each of so many equal parts. */
static int sample_spread(const struct witness_source *source, uint64_t seed,
			 struct digest *digest, struct error *err)
{
	uint64_t blocks = source->bytes / WITNESS_BLOCK;
	uint64_t part = blocks / SAMPLE_SPREAD ? blocks / SAMPLE_SPREAD : 1;
	int ret = 0;

	for (uint64_t i = 0; !ret && i < SAMPLE_SPREAD && (i + 1) * part <= blocks; i++)
		ret = witness_add(source, (i * part + draw(&seed) % part) * WITNESS_BLOCK,
				  WITNESS_BLOCK, digest, err);
	return ret;
}

static int witness_parts(const struct witness_source *source,
			 const struct witness_plan *plan,
			 struct digest *digests[static 3], struct error *err)
{
	int ret = edges_add(source, digests[0], err);

	if (!ret)
		ret = witness_xfs(source, digests[1], err);
	if (!ret)
		ret = sample_marked(source, plan, digests[2], err);
	return ret ? ret : sample_spread(source, ~plan->seed, digests[2], err);
}

int witness_read(int fd, uint64_t bytes, const struct witness_plan *plan,
		 struct witness *witness, struct error *err)
{
	struct witness_source source = { .fd = fd, .bytes = bytes, .hidden = plan->hidden };
	struct digest *digests[3] = { digest_new(), digest_new(), digest_new() };
	uint8_t *const out[3] = { witness->edges, witness->journal, witness->sample };
	CLEANUP_FREE void *buffer = NULL;
	int ret;

	if (posix_memalign(&buffer, 4096, WITNESS_PIECE))
		buffer = NULL;
	source.buffer = buffer;
	if (buffer && digests[0] && digests[1] && digests[2])
		ret = witness_parts(&source, plan, digests, err);
	else
		ret = error_set(err, -ENOMEM, "reading the volume: out of memory");
	for (size_t i = 0; i < 3; i++) {
		if (ret)
			digest_free(digests[i]);
		else
			digest_finish(digests[i], out[i]);
	}
	return ret;
}
