/* Bytes of a hook to lines. */
#include "agent/protect/hook_process.h"

#include <errno.h>
#include <unistd.h>

static void stream_flush(struct hook_stream *stream,
			 void (*take)(void *context, const char *line), void *context)
{
	stream->line[stream->length] = '\0';
	stream->length = 0;
	take(context, stream->line);
}

static void stream_add(struct hook_stream *stream, unsigned char c,
		       void (*take)(void *context, const char *line), void *context)
{
	if (c == '\n') {
		stream_flush(stream, take, context);
		return;
	}
	if (stream->length == HOOK_LINE_MAX)
		stream_flush(stream, take, context);
	/* Escape sequences are not to reach who looks at the log. */
	stream->line[stream->length++] = c < ' ' || c == 0x7f ? ' ' : (char)c;
}

bool hook_stream_read(struct hook_stream *stream, int fd,
		      void (*take)(void *context, const char *line), void *context)
{
	unsigned char piece[4096];
	ssize_t n;

	/* One that never stops talking must not keep us from looking at the clock. */
	for (int turn = 0; turn < 16; turn++) {
		n = read(fd, piece, sizeof(piece));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return true;
		if (n <= 0) {
			if (stream->length)
				stream_flush(stream, take, context);
			return false;
		}
		for (ssize_t i = 0; i < n; i++)
			stream_add(stream, piece[i], take, context);
	}
	return true;
}
