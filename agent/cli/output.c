/* Data on stdout: JSON documents and lines, numbers as people read them. */
#include "agent/cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TEXT_BUFFERS 8
#define TEXT_ROOM 64

static char *text_buffer(void)
{
	static char buffers[TEXT_BUFFERS][TEXT_ROOM];
	static unsigned next;

	return buffers[next++ % TEXT_BUFFERS];
}

const char *text_bytes(uint64_t bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	char *text = text_buffer();
	double value = (double)bytes;
	size_t unit = 0;

	while (value >= 1024 && unit < 6) {
		value /= 1024;
		unit++;
	}
	snprintf(text, TEXT_ROOM, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
	return text;
}

const char *text_time(uint64_t time_ns)
{
	char *text = text_buffer();
	time_t seconds = (time_t)(time_ns / 1000000000u);
	struct tm tm;

	if (!time_ns)
		return "-";
	gmtime_r(&seconds, &tm);
	strftime(text, TEXT_ROOM, "%Y-%m-%d %H:%M:%SZ", &tm);
	return text;
}

const char *text_duration(uint64_t ns)
{
	char *text = text_buffer();
	uint64_t seconds = ns / 1000000000u;

	if (ns < 1000000000u)
		snprintf(text, TEXT_ROOM, "%.1f ms", (double)ns / 1e6);
	else if (seconds < 60)
		snprintf(text, TEXT_ROOM, "%.1f s", (double)ns / 1e9);
	else if (seconds < 3600)
		snprintf(text, TEXT_ROOM, "%" PRIu64 " min %" PRIu64 " s", seconds / 60,
			 seconds % 60);
	else
		snprintf(text, TEXT_ROOM, "%" PRIu64 " h %" PRIu64 " min", seconds / 3600,
			 seconds / 60 % 60);
	return text;
}

int cli_print_json(json_t *object, bool line, struct error *err)
{
	char *text = object ? json_dumps(object, line ? JSON_COMPACT : JSON_INDENT(2)) : NULL;

	json_decref(object);
	if (!text)
		return error_set(err, -ENOMEM, "writing JSON: out of memory");
	puts(text);
	if (line)
		fflush(stdout);
	free(text);
	return 0;
}

json_t *cli_time_json(uint64_t time_ns)
{
	time_t seconds = (time_t)(time_ns / 1000000000u);
	char text[64];
	struct tm tm;
	size_t used;

	if (!time_ns)
		return json_null();
	gmtime_r(&seconds, &tm);
	used = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + used, sizeof(text) - used, ".%09uZ",
		 (unsigned)(time_ns % 1000000000u));
	return json_string(text);
}

json_t *cli_message_json(const char *message)
{
	json_t *text = json_string(message);
	struct error plain;

	if (text)
		return text;
	snprintf(plain.message, sizeof(plain.message), "%s", message);
	for (char *at = plain.message; *at; at++)
		if ((unsigned char)*at >= 0x80)
			*at = '?';
	return json_string(plain.message);
}

json_t *cli_hex_json(const uint8_t *data, size_t length)
{
	char text[2 * 64 + 1];

	if (length > 64)
		return NULL;
	hex_encode(data, length, text);
	return json_string(text);
}

json_t *cli_uuid_json(const struct uuid *uuid)
{
	char text[UUID_TEXT_SIZE];

	uuid_format(uuid, text);
	return json_string(text);
}

json_t *cli_point_json(const struct point *point)
{
	json_t *object = json_pack(
		"{s:I, s:s, s:o, s:s, s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s}",
		"number", (json_int_t)point->number, "kind", point_kind_name(point->kind),
		"volume_id", cli_uuid_json(&point->volume), "volume", point->volume_name,
		"parent", (json_int_t)point->parent,
		"consistency", point_consistency_name(point->consistency),
		"reason", point->reason, "volume_bytes", (json_int_t)point->volume_bytes,
		"marked_bytes", (json_int_t)point->marked_bytes,
		"read_bytes", (json_int_t)point->read_bytes,
		"data_bytes", (json_int_t)point->data_bytes,
		"zero_bytes", (json_int_t)point->zero_bytes,
		"stored_bytes", (json_int_t)point->stored_bytes,
		"object_bytes", (json_int_t)point->object_bytes,
		"segments", (json_int_t)(point->frames_inline ? 0 : point->segment_count),
		"device", point->device);

	if (!object)
		return NULL;
	json_object_set_new(object, "time", cli_time_json(point->time_ns));
	json_object_set_new(object, "committed", cli_time_json(point->committed_ns));
	if (point->full)
		json_object_set_new(object, "full", json_integer((json_int_t)point->full));
	if (point->has_image_sha256)
		json_object_set_new(object, "image_sha256",
				    cli_hex_json(point->image_sha256, CRYPTO_DIGEST_SIZE));
	return object;
}
