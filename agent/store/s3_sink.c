/* Where an answer's body goes: into the caller's room, or memory up to a limit. */
#include "agent/store/s3.h"

#include <stdlib.h>
#include <string.h>

void s3_sink_fixed(struct s3_sink *sink, void *data, size_t room)
{
	*sink = (struct s3_sink){ .data = data, .room = room };
}

void s3_sink_growing(struct s3_sink *sink, size_t limit)
{
	*sink = (struct s3_sink){ .grow = true, .limit = limit };
}

void s3_sink_fini(struct s3_sink *sink)
{
	if (sink->grow)
		free(sink->data);
	sink->data = NULL;
}

bool s3_sink_append(struct s3_sink *sink, const char *data, size_t bytes)
{
	size_t ceiling = sink->grow ? sink->limit : sink->room;

	if (bytes > ceiling - sink->length) {
		bytes = ceiling - sink->length;
		sink->overflow = true;
	}
	if (sink->grow && bytes > sink->room - sink->length) {
		size_t room = sink->room ? sink->room : 4096;
		uint8_t *bigger;

		while (room < sink->length + bytes)
			room *= 2;
		bigger = realloc(sink->data, room);
		if (!bigger)
			return false;
		sink->data = bigger;
		sink->room = room;
	}
	if (bytes)
		memcpy(sink->data + sink->length, data, bytes);
	sink->length += bytes;
	return !sink->overflow;
}
