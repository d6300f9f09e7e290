#include "agent/pipeline/yield.h"

#define ENOUGH_IOS 8u				/* for an average */
#define SPAN_MAX_NS UINT64_C(1000000000)	/* … or after that with fewer */
#define ALLOWED_LEAST (1.0 / 16)
#define PAUSE_NS 10000000.0			/* at half a read in flight */

void yield_init(struct yield *yield, uint64_t target_ns, uint32_t depth)
{
	*yield = (struct yield){ .target_ns = target_ns, .depth = depth, .allowed = depth };
}

static void yield_less(struct yield *yield)
{
	yield->yields++;
	yield->allowed /= 2;
	if (yield->allowed < ALLOWED_LEAST)
		yield->allowed = ALLOWED_LEAST;
}

static void yield_more(struct yield *yield)
{
	yield->allowed += yield->depth / 16.0;
	if (yield->allowed > yield->depth)
		yield->allowed = yield->depth;
}

void yield_sample(struct yield *yield, uint64_t now_ns, const struct pipeline_io *io)
{
	uint64_t ios = io->ended - yield->last.ended;
	uint64_t ticks_ns = io->ticks_ns - yield->last.ticks_ns;
	uint64_t span_ns = now_ns - yield->last_ns;
	bool known = yield->started && io->ended >= yield->last.ended &&
		     io->ticks_ns >= yield->last.ticks_ns;

	if (known && ios < ENOUGH_IOS && span_ns < SPAN_MAX_NS)
		return;
	if (known && ios ? ticks_ns / ios > yield->target_ns
			 : known && io->in_flight && span_ns > yield->target_ns)
		yield_less(yield);
	else if (known)
		yield_more(yield);
	yield->last = *io;
	yield->last_ns = now_ns;
	yield->started = true;
}

uint32_t yield_depth(const struct yield *yield)
{
	return yield->allowed < 1 ? 1 : (uint32_t)yield->allowed;
}

uint64_t yield_pause_ns(const struct yield *yield)
{
	return yield->allowed < 1 ? (uint64_t)(PAUSE_NS * (1 / yield->allowed - 1)) : 0;
}
