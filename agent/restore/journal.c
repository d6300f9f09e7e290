/*
 * Which windows a restore has written, on a file, for the next one if this one breaks
 * off. Nothing is waited for: no fsync, as what it says is compared with the target
 * before it is believed. It is a convenience; what fails here fails no restore.
 */
#include "agent/restore/restore_private.h"

#include "agent/base/file.h"
#include "agent/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define JOURNAL_DELAY_NS 3000000000ull
#define JOURNAL_PERIOD_NS 250000000ull
#define JOURNAL_PENDING_MAX 256u
#define JOURNAL_LEFT_SECONDS 60u

struct journal {
	char *path;
	struct journal_subject subject;
	uint64_t begin_ns;		/* CLOCK_MONOTONIC */
	uint64_t period_ns;		/* between two writes */
	atomic_bool failed;

	pthread_mutex_t lock;		/* guards all below */
	int fd;				/* -1: not begun */
	struct journal_record *kept;	/* what it begins with */
	size_t kept_count;
	struct journal_record pending[JOURNAL_PENDING_MAX];
	size_t pending_count;
	uint64_t written_ns;
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void journal_free(struct journal *journal)
{
	if (journal->fd >= 0)
		close(journal->fd);
	pthread_mutex_destroy(&journal->lock);
	crypto_wipe(&journal->subject, sizeof(journal->subject));
	free(journal->path);
	free(journal->kept);
	free(journal);
}

struct journal *journal_prepare(const char *path, const struct journal_subject *subject,
			      uint64_t delay_ns, const struct journal_record *kept,
			      size_t kept_count)
{
	struct journal *journal = path ? calloc(1, sizeof(*journal)) : NULL;

	if (!journal)
		return NULL;
	pthread_mutex_init(&journal->lock, NULL);
	journal->fd = -1;
	journal->path = strdup(path);
	journal->kept = calloc(kept_count + 1, sizeof(*kept));
	if (!journal->path || !journal->kept) {
		journal_free(journal);
		return NULL;
	}
	if (kept_count)
		memcpy(journal->kept, kept, kept_count * sizeof(*kept));
	journal->kept_count = kept_count;
	journal->subject = *subject;
	journal->written_ns = now_ns();
	if (!delay_ns)
		delay_ns = JOURNAL_DELAY_NS;
	journal->begin_ns = journal->written_ns + delay_ns;
	journal->period_ns = delay_ns < JOURNAL_PERIOD_NS ? delay_ns : JOURNAL_PERIOD_NS;
	file_sweep(path, JOURNAL_LEFT_SECONDS);
	return journal;
}

const uint8_t *journal_key(const struct journal *journal)
{
	return journal->subject.key;
}

static int journal_append(struct journal *journal, const struct journal_record *records,
			  size_t count)
{
	uint8_t *data;
	size_t length;
	int ret = journal_encode_batch(&journal->subject, records, count, &data, &length);

	if (ret)
		return ret;
	ret = file_write_all(journal->fd, data, length);
	free(data);
	return ret;
}

/* The folder, the header, and what was kept. */
static int journal_begin(struct journal *journal)
{
	const char *slash = strrchr(journal->path, '/');
	char *folder = slash ? strndup(journal->path, (size_t)(slash - journal->path)) : NULL;
	uint8_t *data;
	size_t length;
	int ret = folder ? file_make_folders(folder, 0700) : 0;

	free(folder);
	if (!ret)
		ret = journal_encode_header(&journal->subject, &data, &length);
	if (ret)
		return ret;
	ret = file_replace(journal->path, data, length, 0600);
	crypto_wipe(data, length);
	free(data);
	if (ret)
		return ret;
	journal->fd = open(journal->path, O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC);
	if (journal->fd < 0)
		return -errno;
	for (size_t at = 0, count; !ret && at < journal->kept_count; at += count) {
		count = journal->kept_count - at;
		count = count < JOURNAL_PENDING_MAX ? count : JOURNAL_PENDING_MAX;
		ret = journal_append(journal, journal->kept + at, count);
	}
	return ret;
}

/* Under the lock. */
static void journal_flush(struct journal *journal)
{
	int ret = 0;

	if (!journal->pending_count || atomic_load(&journal->failed))
		return;
	if (journal->fd < 0)
		ret = journal_begin(journal);
	if (!ret)
		ret = journal_append(journal, journal->pending, journal->pending_count);
	journal->pending_count = 0;
	journal->written_ns = now_ns();
	if (!ret)
		return;
	atomic_store(&journal->failed, true);
	log_detail("%s: %s; should this restore break off, the next one starts anew",
		   journal->path, error_text(ret));
}

bool journal_wants(struct journal *journal)
{
	return journal && !atomic_load(&journal->failed) && now_ns() >= journal->begin_ns;
}

void journal_note(struct journal *journal, uint64_t window, uint64_t tag)
{
	pthread_mutex_lock(&journal->lock);
	journal->pending[journal->pending_count++] = (struct journal_record){ window, tag };
	if (journal->pending_count == JOURNAL_PENDING_MAX ||
	    now_ns() - journal->written_ns >= journal->period_ns)
		journal_flush(journal);
	pthread_mutex_unlock(&journal->lock);
}

void journal_finish(struct journal *journal, bool done)
{
	if (!journal)
		return;
	if (!done) {
		pthread_mutex_lock(&journal->lock);
		journal_flush(journal);
		pthread_mutex_unlock(&journal->lock);
	} else if (unlink(journal->path) < 0 && errno != ENOENT) {
		log_detail("removing %s: %s", journal->path, error_text(errno));
	}
	journal_free(journal);
}
