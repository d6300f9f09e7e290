/* A message as an entry of systemd's journal, with fields to find it by. */
#define SD_JOURNAL_SUPPRESS_LOCATION	/* this file's would be in all of them */
#include "agent/base/log_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <syslog.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#define FIELDS_MAX 10
#define FIELD_ROOM 192

int log_priority(enum log_level level)
{
	static const int priorities[] = {
		[LOG_ERRORS] = LOG_ERR, [LOG_WARNINGS] = LOG_WARNING, [LOG_NOTES] = LOG_INFO,
		[LOG_DETAILS] = LOG_DEBUG,
	};

	return priorities[level];
}

/* "device:inode" of what the manager connected; stderr may have become a file since. */
bool log_stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	uint64_t device, inode;
	struct stat st;

	return stream && sscanf(stream, "%" SCNu64 ":%" SCNu64, &device, &inode) == 2 &&
	       fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

struct entry {
	char texts[FIELDS_MAX][FIELD_ROOM];
	struct iovec fields[FIELDS_MAX + 1];
	int count;
};

static void add(struct entry *entry, const char *name, const char *value)
{
	char *text = entry->texts[entry->count];

	if (!value)
		return;
	snprintf(text, FIELD_ROOM, "%s=%s", name, value);
	entry->fields[entry->count++] = (struct iovec){ text, strlen(text) };
}

int log_journal(enum log_level level, const struct log_fields *fields, const char *text)
{
	char message[LOG_TEXT_MAX + 8], priority[16], point[24];
	struct entry entry = { .count = 0 };
	int ret;

	snprintf(priority, sizeof(priority), "%d", log_priority(level));
	snprintf(point, sizeof(point), "%" PRIu64, fields->point);
	snprintf(message, sizeof(message), "MESSAGE=%s", text);
	add(&entry, "PRIORITY", priority);
	add(&entry, "SYSLOG_IDENTIFIER", "clawback");
	add(&entry, "MESSAGE_ID", fields->message_id);
	add(&entry, "CLAWBACK_EVENT", fields->event);
	add(&entry, "CLAWBACK_UNIT", fields->unit);
	add(&entry, "CLAWBACK_KIND", !fields->unit ? NULL : fields->group ? "group" : "volume");
	add(&entry, "CLAWBACK_VOLUME", fields->volume);
	add(&entry, "CLAWBACK_STORE", fields->store);
	add(&entry, "CLAWBACK_POINT", fields->point ? point : NULL);
	entry.fields[entry.count++] = (struct iovec){ message, strlen(message) };
	do
		ret = sd_journal_sendv(entry.fields, entry.count);
	while (ret == -EINTR);
	return ret;
}
