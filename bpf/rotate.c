/*
 * Bitmaps: creating, mapping, rotating, reading.
 *
 * Where a rotation may be killed, and what is then there:
 *   before step 1   bitmaps[s] = B, retired[s] = R (perhaps none)
 *   after step 1    the same, and B contains R's marks
 *   after step 2    bitmaps[s] = retired[s] = B
 *   after step 3    bitmaps[s] = empty, retired[s] = B
 * In each of them every mark is in one of the two, and a rotation that starts
 * from there is correct.
 */
#include "bpf/tracker_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/fault.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A bitmap of the kernel's as memory of ours. */
struct mapping {
	uint64_t *words;
	size_t bytes;
};

static uint64_t pages_for(uint64_t blocks)
{
	return (blocks + TRACKER_PAGE_BITS - 1) / TRACKER_PAGE_BITS;
}

int bitmap_map_create(uint64_t blocks, int *fd)
{
	LIBBPF_OPTS(bpf_map_create_opts, options,
		    .map_flags = BPF_F_MMAPABLE | BPF_F_INNER_MAP);
	uint64_t pages = pages_for(blocks);

	if (!pages || pages > UINT32_MAX)
		return -EOVERFLOW;
	*fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "clawback_bits",
			     sizeof(uint32_t), TRACKER_PAGE_BYTES,
			     (uint32_t)pages, &options);
	return *fd < 0 ? -errno : 0;
}

int bitmap_map_open(int outer_fd, uint32_t slot, int *fd, uint32_t *id)
{
	uint32_t found;

	if (bpf_map_lookup_elem(outer_fd, &slot, &found) < 0)
		return -errno;
	*fd = bpf_map_get_fd_by_id(found);
	if (*fd < 0)
		return -errno;
	if (id)
		*id = found;
	return 0;
}

int bitmap_map_drop(int outer_fd, uint32_t slot)
{
	if (bpf_map_delete_elem(outer_fd, &slot) < 0 && errno != ENOENT)
		return -errno;
	return 0;
}

static void mapping_fini(struct mapping *mapping)
{
	if (mapping->words)
		munmap(mapping->words, mapping->bytes);
	mapping->words = NULL;
}

#define CLEANUP_MAPPING CLEANUP(mapping_fini)

/* Maps outer[slot]; checks that it has room for `blocks`. */
static int mapping_init(struct mapping *mapping, int outer_fd, uint32_t slot,
			uint64_t blocks, int protection)
{
	CLEANUP_CLOSE int fd = -1;
	struct bpf_map_info info = { 0 };
	__u32 length = sizeof(info);
	void *words;
	int ret = bitmap_map_open(outer_fd, slot, &fd, NULL);

	if (ret)
		return ret;
	if (bpf_obj_get_info_by_fd(fd, &info, &length) < 0)
		return -errno;
	if (info.value_size != TRACKER_PAGE_BYTES ||
	    info.max_entries != pages_for(blocks))
		return -EPROTO;
	mapping->bytes = (size_t)info.max_entries * TRACKER_PAGE_BYTES;
	words = mmap(NULL, mapping->bytes, protection, MAP_SHARED, fd, 0);
	if (words == MAP_FAILED)
		return -errno;
	mapping->words = words;
	return 0;
}

int bitmap_map_count(struct tracker *tracker, uint32_t slot, uint64_t *count)
{
	CLEANUP_MAPPING struct mapping current = { 0 }, retired = { 0 };
	uint64_t blocks = tracker->slots[slot].blocks;
	int ret = mapping_init(&current, tracker->bitmaps_fd, slot, blocks,
			       PROT_READ);

	if (!ret)
		ret = mapping_init(&retired, tracker->retired_fd, slot, blocks,
				   PROT_READ);
	if (ret && ret != -ENOENT)
		return ret;
	if (!current.words)
		return -ENOENT;
	*count = 0;
	for (uint64_t i = 0; i < bitmap_words(blocks); i++) {
		uint64_t word = __atomic_load_n(&current.words[i],
						__ATOMIC_RELAXED);

		if (retired.words)
			word |= __atomic_load_n(&retired.words[i],
						__ATOMIC_RELAXED);
		*count += (uint64_t)__builtin_popcountll(word);
	}
	return 0;
}

/* Step 1: what a dead run has not made durable goes back to be collected. */
static int retired_return(struct tracker *tracker, uint32_t slot)
{
	CLEANUP_MAPPING struct mapping current = { 0 }, retired = { 0 };
	uint64_t blocks = tracker->slots[slot].blocks;
	int ret = mapping_init(&retired, tracker->retired_fd, slot, blocks,
			       PROT_READ);

	if (ret)
		return ret == -ENOENT ? 0 : ret;
	ret = mapping_init(&current, tracker->bitmaps_fd, slot, blocks,
			   PROT_READ | PROT_WRITE);
	if (ret)
		return ret;
	for (uint64_t i = 0; i < bitmap_words(blocks); i++) {
		uint64_t word = __atomic_load_n(&retired.words[i],
						__ATOMIC_RELAXED);

		if (word)
			__atomic_fetch_or(&current.words[i], word,
					  __ATOMIC_SEQ_CST);
	}
	return 0;
}

int tracker_rotate(struct tracker *tracker, uint32_t slot, struct error *err)
{
	CLEANUP_CLOSE int current = -1, fresh = -1;
	int ret = tracker_check(tracker, err);

	if (!ret)
		ret = slot_check(tracker, slot, err);
	if (ret)
		return ret;
	ret = FAULT("rotate.create") ?: bitmap_map_create(tracker->slots[slot].blocks, &fresh);
	if (!ret)
		ret = retired_return(tracker, slot);
	if (!ret)
		ret = bitmap_map_open(tracker->bitmaps_fd, slot, &current, NULL);
	if (!ret)
		ret = FAULT("rotate.retire");
	if (!ret && bpf_map_update_elem(tracker->retired_fd, &slot, &current,
					BPF_ANY) < 0)		/* step 2 */
		ret = -errno;
	if (!ret)
		ret = FAULT("rotate.replace");
	/* Step 3; returns after every run that can hold the old one has ended. */
	if (!ret && bpf_map_update_elem(tracker->bitmaps_fd, &slot, &fresh,
					BPF_ANY) < 0)
		ret = -errno;
	return ret ? error_set(err, ret, "cannot rotate the bitmap of slot %u: %s",
			       slot, error_text(ret)) : 0;
}

static int bitmap_read(struct tracker *tracker, int outer_fd, uint32_t slot,
		       const char *which, struct bitmap *target,
		       struct error *err)
{
	CLEANUP_MAPPING struct mapping mapping = { 0 };
	uint64_t blocks;
	int ret = slot_check(tracker, slot, err);

	if (ret)
		return ret;
	blocks = tracker->slots[slot].blocks;
	if (target->bits != blocks)
		return error_set(err, -EINVAL, "cannot read the %s bitmap of slot "
				 "%u: it has %llu bits, not %llu", which, slot,
				 (unsigned long long)blocks,
				 (unsigned long long)target->bits);
	ret = mapping_init(&mapping, outer_fd, slot, blocks, PROT_READ);
	if (ret)
		return error_set(err, ret, "cannot read the %s bitmap of slot "
				 "%u: %s", which, slot, error_text(ret));
	bitmap_or_words(target, mapping.words);
	return 0;
}

int tracker_read_retired(struct tracker *tracker, uint32_t slot,
			 struct bitmap *target, struct error *err)
{
	return bitmap_read(tracker, tracker->retired_fd, slot, "retired", target,
			   err);
}

int tracker_read_current(struct tracker *tracker, uint32_t slot,
			 struct bitmap *target, struct error *err)
{
	return bitmap_read(tracker, tracker->bitmaps_fd, slot, "collecting",
			   target, err);
}

int tracker_mark(struct tracker *tracker, uint32_t slot,
		 const struct bitmap *marks, struct error *err)
{
	CLEANUP_MAPPING struct mapping mapping = { 0 };
	int ret = slot_check(tracker, slot, err);

	if (ret)
		return ret;
	if (marks->bits != tracker->slots[slot].blocks)
		return error_set(err, -EINVAL, "cannot mark in slot %u: it has %llu "
				 "bits, not %llu", slot,
				 (unsigned long long)tracker->slots[slot].blocks,
				 (unsigned long long)marks->bits);
	ret = mapping_init(&mapping, tracker->bitmaps_fd, slot, marks->bits,
			   PROT_READ | PROT_WRITE);
	if (ret)
		return error_set(err, ret, "cannot mark in the bitmap of slot %u: "
				 "%s", slot, error_text(ret));
	for (uint64_t i = 0; i < bitmap_words(marks->bits); i++)
		if (marks->words[i])
			__atomic_fetch_or(&mapping.words[i], marks->words[i],
					  __ATOMIC_SEQ_CST);
	return 0;
}

int tracker_drop_retired(struct tracker *tracker, uint32_t slot,
			 struct error *err)
{
	int ret = slot_check(tracker, slot, err);

	if (ret)
		return ret;
	ret = FAULT("rotate.drop") ?: bitmap_map_drop(tracker->retired_fd, slot);
	return ret ? error_set(err, ret, "cannot drop the retired bitmap of slot "
			       "%u: %s", slot, error_text(ret)) : 0;
}
