/*
 * What a run may take of the machine's memory, and what that leaves for its pipeline:
 * the limit, less what the process has by now, the marks, and what an upload holds. And how
 * large frames have to be for a map to stay small.
 */
#include "agent/protect/run.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define RESIDENT_GUESS_BYTES (UINT64_C(32) << 20)
#define SLACK_BYTES (UINT64_C(8) << 20)		/* maps, manifests, stacks */
#define FRAME_BYTES_DEFAULT (256u << 10)
#define FRAMES_MANY (UINT64_C(4) << 20)
#define CONNECTIONS_DEFAULT 4u			/* agent/store/store.h */
#define PART_BYTES_DEFAULT (UINT64_C(8) << 20)

static uint64_t resident_bytes(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	uint64_t pages = 0;

	if (!file)
		return RESIDENT_GUESS_BYTES;
	if (fscanf(file, "%*u %" SCNu64, &pages) != 1)
		pages = 0;
	fclose(file);
	return pages ? pages * (uint64_t)sysconf(_SC_PAGESIZE) : RESIDENT_GUESS_BYTES;
}

/* A folder takes what it is given; an object store wants parts to be sent again. */
static uint64_t upload_bytes(const struct config *config)
{
	uint64_t part = config->repository.part_bytes ?: PART_BYTES_DEFAULT;

	if (!strncmp(config->repository.url, "file:", 5))
		return 0;
	return ((config->repository.connections ?: CONNECTIONS_DEFAULT) + 1) * part;
}

int run_memory(const struct config *config, const struct run_volume *volumes, size_t count,
	       struct pipeline_options *options, struct error *err)
{
	uint64_t limit = config->agent.limits.memory_bytes;
	uint64_t others = resident_bytes() + upload_bytes(config) + SLACK_BYTES;

	if (!limit)
		return 0;
	/* The marks of now, and those that a run before has kept. */
	for (size_t i = 0; i < count; i++)
		others += 2 * (volumes[i].device.bytes / volumes[i].granularity_bytes / 8);
	if (pipeline_fit(options, limit > others ? limit - others : 0, err) == 0)
		return 0;
	error_prefix(err, "memory_limit = %" PRIu64 "M is too little", limit >> 20);
	return error_hint(err, "raise it, or lower workers, compression, connections or part_size, "
			  "or let granularity be larger");
}

uint32_t run_frame_blocks(uint32_t configured_bytes, uint64_t volume_bytes)
{
	uint32_t bytes = configured_bytes;

	if (!bytes)
		for (bytes = FRAME_BYTES_DEFAULT; bytes < FRAME_PLAIN_MAX; bytes *= 2)
			if (volume_bytes / bytes <= FRAMES_MANY)
				break;
	return bytes / BLOCK_BYTES;
}
