/*
 * The tracker's kernel half: for every bio that changes data on a routed
 * device, sets the bits of the blocks it touches, then adds its sectors to the
 * device's ledger. It records; user space decides. docs/tracking.md has the
 * reasoning.
 *
 * Runs wherever bios are submitted, also in interrupts, with preemption off.
 * The kernel skips (and counts) a run that nests in another one on the same
 * CPU, so the work is kept short: a plain test before every atomic or, and a
 * helper loop only for ranges that leave one word of the bitmap.
 *
 * Kernel structures are declared with just the members used; CO-RE finds their
 * offsets, and the operations' numbers, on the running kernel (6.1 and later).
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "bpf/tracker_abi.h"

#define SECTOR_SHIFT 9
#define OP_MASK 0xffu		/* bi_opf: the operation, below the flags */
#define LOOP_MAX (1u << 23)	/* the kernel's limit for bpf_loop */
#define PAGE_WORDS (TRACKER_PAGE_BITS / 64)

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/*
 * The bit of bio.bi_flags that says "bi_sector counts on the whole disk". It
 * sits in an anonymous enum, which CO-RE cannot name, so the loader looks it up
 * in the kernel's BTF. 0 when it was not found.
 */
const volatile __u32 bio_remapped_mask = 0;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct queue_limits {
	unsigned int chunk_sectors;	/* of a zoned device: the size of a zone */
};
struct request_queue {
	struct queue_limits limits;
};
struct gendisk {
	struct block_device *part0;
	struct request_queue *queue;
};
struct block_device {
	__u64 bd_start_sect;
	struct gendisk *bd_disk;
	__u32 bd_dev;
};
struct bvec_iter {
	__u64 bi_sector;
	__u32 bi_size;
};
struct bio {
	struct block_device *bi_bdev;
	__u32 bi_opf;
	unsigned short bi_flags;
	struct bvec_iter bi_iter;
};
#pragma clang attribute pop

/* Only names matter here: the numbers differ between kernels. */
enum req_op {
	REQ_OP_WRITE,
	REQ_OP_DISCARD,
	REQ_OP_ZONE_OPEN,
	REQ_OP_ZONE_CLOSE,
	REQ_OP_ZONE_FINISH,
	REQ_OP_ZONE_APPEND,
	REQ_OP_ZONE_RESET,
	REQ_OP_ZONE_RESET_ALL,
};
#define OP(name) bpf_core_enum_value(enum req_op, name)

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, TRACKER_DEVICES);
	__type(key, __u32);
	__type(value, struct route);
} routes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, TRACKER_DEVICES);
	__type(key, __u32);
	__type(value, struct ledger);
} ledger SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TRACKER_SLOTS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct slot_state);
} slots SEC(".maps");

/* BPF_F_INNER_MAP lets bitmaps of different lengths share one outer map. */
struct bitmap_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE | BPF_F_INNER_MAP);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, TRACKER_PAGE_BYTES);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, TRACKER_SLOTS + 1);
	__uint(key_size, sizeof(__u32));
	__array(values, struct bitmap_map);
} bitmaps SEC(".maps");

/* Never read here; the loader keeps rotated bitmaps in it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, TRACKER_SLOTS);
	__uint(key_size, sizeof(__u32));
	__array(values, struct bitmap_map);
} retired SEC(".maps");

/* A bio's effect, in sectors of the whole disk. */
struct change {
	__u64 sector;
	__u64 sectors;
	__u64 counted;		/* sectors the kernel's statistics will show */
	__u32 discard;		/* counted as a discard, else as a write */
	__u32 widened;		/* the range is a bound, not what was asked for */
	__u32 lost;		/* the range is unknown */
	__u32 reserved;		/* no padding: passed as memory */
};

/* Blocks first … last of a slot, within its bitmap. */
struct range {
	__u64 first;
	__u64 last;
	__u32 slot;
	__u32 lost;
};

static __always_inline void flags_set(struct slot_state *state, __u32 flags)
{
	if ((*(volatile __u32 *)&state->flags & flags) != flags)
		__sync_fetch_and_or(&state->flags, flags);
}

/*
 * Sets the range's bits in its index-th word; bpf_loop's callback. It looks the
 * word's page up every time: some ten nanoseconds, which a loop over the words
 * of a page would save, but the verifier walks such a loop step by step.
 */
static long word_mark(__u32 index, void *context)
{
	struct range *range = context;
	__u64 number = range->first / 64 + index;
	__u32 page = (__u32)(number / PAGE_WORDS), slot = range->slot;
	__u64 mask = ~0ull, *word;
	void *bitmap;

	bitmap = bpf_map_lookup_elem(&bitmaps, &slot);
	word = bitmap ? bpf_map_lookup_elem(bitmap, &page) : NULL;
	if (!word) {
		range->lost = 1;
		return 1;
	}
	word += number % PAGE_WORDS;
	if (index == 0)
		mask <<= range->first % 64;
	if (number == range->last / 64)
		mask &= ~0ull >> (63 - range->last % 64);
	if ((*(volatile __u64 *)word & mask) != mask)
		__sync_fetch_and_or(word, mask);
	return 0;
}

/*
 * From here on functions are not static where the verifier would otherwise walk
 * them anew for every caller and target; being so, they check their pointers.
 *
 * Marks blocks first … last; 1 when that failed. A bio is shorter than 4 GiB:
 * at most 16,386 words, some 0.2 ms; other ranges occur on zoned devices only.
 */
__noinline int range_mark(__u32 slot, __u64 first, __u64 last)
{
	struct range range = { .first = first, .last = last, .slot = slot };
	__u64 words = last / 64 - first / 64 + 1;

	if (words == 1)
		word_mark(0, &range);
	else if (words > LOOP_MAX ||
		 bpf_loop((__u32)words, word_mark, &range, 0) != (long)words)
		range.lost = 1;
	return range.lost != 0;
}

/* `start`: where the traced device starts on its disk just now. */
__noinline int target_mark(struct route_target *target, struct change *change,
			   __u64 start)
{
	__u64 volume, volume_end, begin, end;
	struct slot_state *state;
	bool outside;
	__u32 slot;

	if (!target || !change)
		return 0;
	slot = target->slot;
	state = bpf_map_lookup_elem(&slots, &slot);
	if (!state)
		return 0;	/* the loader writes no such slot number */
	volume = target->start_sector;
	volume_end = volume + target->sectors;
	begin = change->sector;
	end = begin + change->sectors;
	outside = begin < volume || end > volume_end;
	if (change->lost)
		flags_set(state, TRACKER_LOST_MARK);
	if (target->strict && ((outside && !change->widened) || start != volume))
		flags_set(state, TRACKER_OUT_OF_RANGE);
	if (begin < volume)
		begin = volume;
	if (end > volume_end)
		end = volume_end;
	if (begin < end &&
	    range_mark(slot, (begin - volume) >> (state->sector_shift & 63),
		       (end - 1 - volume) >> (state->sector_shift & 63)))
		flags_set(state, TRACKER_LOST_MARK);
	return 0;
}

/*
 * The ledger is added to last, and with a full barrier: whoever sees the sum
 * sees the bits. An atomic add whose result is used is one.
 */
static __always_inline void ledger_add(struct ledger *entry,
				       const struct change *change)
{
	__u64 bios;

	if (change->discard)
		bios = __sync_fetch_and_add(&entry->discard_bios, 1);
	else
		bios = __sync_fetch_and_add(&entry->write_bios, 1);
	asm volatile("" : : "r"(bios) : "memory");
	if (change->discard)
		__sync_fetch_and_add(&entry->discard_sectors, change->counted);
	else
		__sync_fetch_and_add(&entry->write_sectors, change->counted);
}

__noinline int device_trace(__u32 device, __u64 start, struct change *change)
{
	struct route *route = bpf_map_lookup_elem(&routes, &device);
	struct ledger *entry;
	struct change own;

	if (!route || !change)
		return 0;
	own = *change;
	entry = bpf_map_lookup_elem(&ledger, &device);
	if (!entry)
		own.lost = 1;
	for (__u32 i = 0; i < TRACKER_TARGETS; i++) {
		if (i >= route->target_count)
			break;
		target_mark(&route->targets[i], &own, start);
	}
	if (entry)
		ledger_add(entry, &own);
	return 0;
}

/*
 * What the operation does to data. The kernel's own rule is that an operation
 * with an odd number changes data; by it, one that is not known here is marked
 * by its range, and one without a range makes the mark lost.
 */
static __always_inline bool change_read(struct bio *bio, struct change *change)
{
	__u32 op = bio->bi_opf & OP_MASK;

	if (!(op & 1) || op == OP(REQ_OP_ZONE_OPEN) ||
	    op == OP(REQ_OP_ZONE_CLOSE) || op == OP(REQ_OP_ZONE_FINISH))
		return false;
	change->sector = bio->bi_iter.bi_sector;
	change->sectors = bio->bi_iter.bi_size >> SECTOR_SHIFT;
	change->counted = change->sectors;
	change->discard = op == OP(REQ_OP_DISCARD);
	if (op == OP(REQ_OP_ZONE_APPEND) || op == OP(REQ_OP_ZONE_RESET)) {
		/* Names the zone only: an append's place is known afterwards. */
		change->sectors = bio->bi_bdev->bd_disk->queue->limits.chunk_sectors;
		change->widened = 1;
		change->lost = change->sectors == 0;
	} else if (op == OP(REQ_OP_ZONE_RESET_ALL)) {
		change->sector = 0;
		change->sectors = 1ull << 62;
		change->widened = 1;
	} else if (change->sectors == 0) {
		if (op == OP(REQ_OP_WRITE))
			return false;		/* a bare cache flush */
		change->widened = 1;
		change->lost = 1;
	}
	return true;
}

/*
 * A bio for a partition is traced under the partition's dev_t, and, as the
 * kernel's statistics do, counts for the whole disk too: so a tracked disk also
 * sees what is written through its partitions.
 */
SEC("tp_btf/block_bio_queue")
int BPF_PROG(TRACKER_PROGRAM, struct bio *bio)
{
	struct change change = {};
	struct block_device *device = bio->bi_bdev;
	struct block_device *disk = device->bd_disk->part0;
	__u64 start = device->bd_start_sect;
	__u32 number = device->bd_dev, disk_number = disk->bd_dev;

	if (!change_read(bio, &change))
		return 0;
	if (number == disk_number) {
		device_trace(number, 0, &change);
		return 0;
	}
	/* Some kernel might trace before it remaps; the bio says so itself. */
	if (!bio_remapped_mask)
		change.lost = 1;
	else if (!(bio->bi_flags & bio_remapped_mask))
		change.sector += start;
	device_trace(number, start, &change);
	device_trace(disk_number, 0, &change);
	return 0;
}
