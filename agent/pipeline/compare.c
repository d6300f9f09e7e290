#include "agent/pipeline/compare.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KNOWN_MAX 2048u

struct compare {
	const struct fingerprints *table;
	struct tagger *tagger;
	bool drop;

	/* The table's fingerprints of a few neighbouring spans, in one read. */
	uint64_t known_first;
	uint32_t known_count;		/* 0: they cannot be had */
	uint64_t known[KNOWN_MAX];
};

struct compare *compare_new(const struct fingerprints *table, bool drop)
{
	struct compare *compare = calloc(1, sizeof(*compare));

	if (!compare)
		return NULL;
	compare->table = table;
	compare->drop = drop;
	compare->tagger = tagger_new(fingerprints_key(table));
	if (compare->tagger)
		return compare;
	free(compare);
	return NULL;
}

void compare_free(struct compare *compare)
{
	if (!compare)
		return;
	tagger_free(compare->tagger);
	free(compare);
}

static int span_tag(struct compare *compare, struct slot *slot,
		    const struct span *span)
{
	const uint8_t *data = slot->buffer->memory;

	for (uint32_t i = span->position; i < span->position + span->count; i++) {
		int ret = fingerprint_of_block(compare->tagger, data + (size_t)i * BLOCK_BYTES,
					       &slot->tags[i]);

		if (ret)
			return ret;
	}
	return 0;
}

/*
 * Adds what of `span` differs from the table to the `count` spans so far. What the
 * table cannot tell has changed.
 */
static uint32_t span_differing(const struct compare *compare, const struct slot *slot,
			       const struct span *span, struct span *spans, uint32_t count)
{
	const uint64_t *known;
	bool open = false;

	if (!compare->known_count) {
		spans[count++] = *span;
		return count;
	}
	known = compare->known + (span->first - compare->known_first);
	for (uint32_t i = 0; i < span->count; i++) {
		if (known[i] == slot->tags[span->position + i]) {
			open = false;
		} else if (open) {
			spans[count - 1].count++;
		} else {
			spans[count++] = (struct span){ span->first + i, 1,
							span->position + i };
			open = true;
		}
	}
	return count;
}

/* Of wanted span `i` and those after it that lie near. */
static void know_from(struct compare *compare, const struct plan_piece *plan, uint32_t i)
{
	uint64_t first = plan->wanted[i].first, end = first;

	for (; i < plan->wanted_count; i++) {
		const struct span *span = &plan->wanted[i];

		if (span->first + span->count - first > KNOWN_MAX)
			break;
		end = span->first + span->count;
	}
	compare->known_first = first;
	compare->known_count = (uint32_t)(end - first);
	if (fingerprints_known(compare->table, first, compare->known_count, compare->known))
		compare->known_count = 0;
}

static bool knows(const struct compare *compare, const struct span *span)
{
	return span->first >= compare->known_first &&
	       span->first + span->count <= compare->known_first + compare->known_count;
}

int compare_slot(struct compare *compare, struct slot *slot)
{
	struct plan_piece *plan = &slot->plan;
	struct span spans[PLAN_PIECE_BLOCKS];
	uint32_t count = 0, before = 0, kept = 0;

	slot->unchanged = 0;
	for (uint32_t i = 0; i < plan->wanted_count; i++) {
		int ret = span_tag(compare, slot, &plan->wanted[i]);

		if (ret)
			return ret;
	}
	if (!compare->drop)
		return 0;
	for (uint32_t i = 0; i < plan->wanted_count; i++) {
		before += plan->wanted[i].count;
		if (!knows(compare, &plan->wanted[i]))
			know_from(compare, plan, i);
		count = span_differing(compare, slot, &plan->wanted[i], spans, count);
	}
	for (uint32_t i = 0; i < count; i++)
		kept += spans[i].count;
	memcpy(plan->wanted, spans, count * sizeof(*spans));
	plan->wanted_count = count;
	slot->unchanged = before - kept;
	return 0;
}
