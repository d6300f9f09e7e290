#include "blockmap/bitmap.h"

#include <errno.h>
#include <stdlib.h>

#define BITMAP_BITS_MAX (UINT64_C(1) << 40)

int bitmap_init(struct bitmap *bitmap, uint64_t bits)
{
	uint64_t words = bitmap_words(bits);

	*bitmap = (struct bitmap){ 0, NULL };
	if (bits > BITMAP_BITS_MAX)
		return -EOVERFLOW;
	bitmap->words = calloc(words ? words : 1, sizeof(*bitmap->words));
	if (!bitmap->words)
		return -ENOMEM;
	bitmap->bits = bits;
	return 0;
}

void bitmap_fini(struct bitmap *bitmap)
{
	if (!bitmap)
		return;
	free(bitmap->words);
	*bitmap = (struct bitmap){ 0, NULL };
}

/*
 * The valid bits of word `index`. Callers may have filled `words` from a file or
 * from the kernel, so what stands behind the last bit is not trusted to be zero.
 */
static uint64_t bitmap_mask(const struct bitmap *bitmap, uint64_t index)
{
	uint64_t rest = bitmap->bits - index * 64;

	return rest >= 64 ? UINT64_MAX : (UINT64_C(1) << rest) - 1;
}

int bitmap_set(struct bitmap *bitmap, uint64_t first, uint64_t count)
{
	uint64_t last;

	if (first > bitmap->bits || count > bitmap->bits - first)
		return -ERANGE;
	if (!count)
		return 0;
	last = first + count - 1;
	for (uint64_t i = first / 64; i <= last / 64; i++) {
		uint64_t mask = UINT64_MAX;

		if (i == first / 64)
			mask &= UINT64_MAX << first % 64;
		if (i == last / 64)
			mask &= UINT64_MAX >> (63 - last % 64);
		bitmap->words[i] |= mask;
	}
	return 0;
}

bool bitmap_test(const struct bitmap *bitmap, uint64_t bit)
{
	return bit < bitmap->bits && (bitmap->words[bit / 64] >> bit % 64 & 1);
}

uint64_t bitmap_count(const struct bitmap *bitmap)
{
	uint64_t words = bitmap_words(bitmap->bits), count = 0;

	for (uint64_t i = 0; i < words; i++)
		count += (uint64_t)__builtin_popcountll(bitmap->words[i] &
							bitmap_mask(bitmap, i));
	return count;
}

int bitmap_or(struct bitmap *target, const struct bitmap *source)
{
	uint64_t words = bitmap_words(target->bits);

	if (target->bits != source->bits)
		return -EINVAL;
	for (uint64_t i = 0; i < words; i++)
		target->words[i] |= source->words[i] & bitmap_mask(source, i);
	return 0;
}

void bitmap_or_words(struct bitmap *target, const uint64_t *words)
{
	uint64_t count = bitmap_words(target->bits);

	for (uint64_t i = 0; i < count; i++)
		target->words[i] |= __atomic_load_n(&words[i], __ATOMIC_RELAXED) &
				    bitmap_mask(target, i);
}

/* The first bit at or behind `from` whose value is `value`, else `bits`. */
static uint64_t bitmap_seek(const struct bitmap *bitmap, uint64_t from, bool value)
{
	uint64_t flip = value ? 0 : UINT64_MAX;
	uint64_t words = bitmap_words(bitmap->bits);
	uint64_t ignored = ~(UINT64_MAX << from % 64);

	for (uint64_t i = from / 64; i < words; i++) {
		uint64_t word = (bitmap->words[i] ^ flip) & ~ignored;

		if (word) {
			uint64_t bit = i * 64 + (uint64_t)__builtin_ctzll(word);

			return bit < bitmap->bits ? bit : bitmap->bits;
		}
		ignored = 0;
	}
	return bitmap->bits;
}

bool bitmap_next_run(const struct bitmap *bitmap, uint64_t from,
		     struct extent *run)
{
	uint64_t first, end;

	if (from >= bitmap->bits)
		return false;
	first = bitmap_seek(bitmap, from, true);
	if (first == bitmap->bits)
		return false;
	end = bitmap_seek(bitmap, first, false);
	*run = (struct extent){ first, end - first };
	return true;
}

/* bit * scale, but never more than `limit`. */
static uint64_t bitmap_scaled(uint64_t bit, uint32_t scale, uint64_t limit)
{
	uint64_t block;

	if (__builtin_mul_overflow(bit, (uint64_t)scale, &block) || block > limit)
		return limit;
	return block;
}

int bitmap_extents(const struct bitmap *bitmap, uint32_t scale,
		   uint64_t total_blocks, struct extent_list *list)
{
	struct extent run = { 0, 0 };

	if (!scale || list->count)
		return -EINVAL;
	while (bitmap_next_run(bitmap, run.first + run.count, &run)) {
		uint64_t first = bitmap_scaled(run.first, scale, total_blocks);
		uint64_t end = bitmap_scaled(run.first + run.count, scale,
					     total_blocks);
		int ret;

		if (first == end)
			break;
		ret = extent_list_append(list, first, end - first);
		if (ret) {
			extent_list_fini(list);
			return ret;
		}
	}
	return 0;
}
