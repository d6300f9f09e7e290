/*
 * The journal: what one run found, kept beside the table until the run's point
 * stands. Written front to back with a digest at its end, so a torn one shows.
 */
#include "agent/volume/fingerprint_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/fault.h"
#include "agent/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- writing ----------------------------------------------------------- */

static void journal_flush(struct journal *journal)
{
	int ret;

	if (journal->error.code || !journal->used)
		return;
	ret = FAULT("journal.write") ?: file_write_all(journal->fd, journal->buffer,
						       journal->used);
	if (ret)
		error_set(&journal->error, ret, "%s", error_text(ret));
	else
		digest_update(journal->digest, journal->buffer, journal->used);
	journal->used = 0;
}

static void journal_put(struct journal *journal, const void *data, size_t length)
{
	if (journal->used + length > JOURNAL_BUFFER_BYTES)
		journal_flush(journal);
	if (journal->error.code)
		return;
	memcpy(journal->buffer + journal->used, data, length);
	journal->used += length;
}

int journal_start(struct fingerprints *table, const struct journal_header *header,
		  struct error *err)
{
	struct journal *journal = &table->journal;

	journal->header = *header;
	journal->error = (struct error)ERROR_INIT;
	journal->records = 0;
	journal->used = 0;
	journal->buffer = malloc(JOURNAL_BUFFER_BYTES);
	journal->digest = digest_new();
	if (!journal->buffer || !journal->digest)
		return error_set(err, -ENOMEM, "out of memory for a journal of fingerprints");
	journal->fd = open(table->journal_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (journal->fd < 0)
		return error_set(err, -errno, "cannot create %s: %s", table->journal_path,
				 error_text(errno));
	journal_put(journal, header, sizeof(*header));
	return 0;
}

void journal_add(struct journal *journal, uint64_t first, uint32_t count,
		 const uint64_t *tags)
{
	struct le64 stored[RECORD_TAGS_MAX];

	while (count) {
		uint32_t piece = count < RECORD_TAGS_MAX ? count : RECORD_TAGS_MAX;
		struct journal_record record = { .first = le64(first), .count = le32(piece) };

		for (uint32_t i = 0; i < piece; i++)
			stored[i] = le64(tags[i]);
		journal_put(journal, &record, sizeof(record));
		journal_put(journal, stored, piece * sizeof(*stored));
		journal->records++;
		first += piece;
		tags += piece;
		count -= piece;
	}
}

int journal_end(struct fingerprints *table, struct error *err)
{
	struct journal *journal = &table->journal;
	struct journal_record last = { .first = le64(journal->records) };
	struct journal_trailer trailer = {
		.checked = le64(table->checked), .mismatches = le64(table->mismatches),
	};
	int ret;

	journal_put(journal, &last, sizeof(last));
	journal_put(journal, &trailer, offsetof(struct journal_trailer, digest));
	journal_flush(journal);
	digest_finish(STEAL(journal->digest), trailer.digest);
	ret = journal->error.code ?: FAULT("journal.seal");
	if (!ret)
		ret = file_write_all(journal->fd, trailer.digest, sizeof(trailer.digest));
	if (!ret && fdatasync(journal->fd))
		ret = -errno;
	return ret ? error_set(err, ret, "writing %s: %s", table->journal_path,
			       error_text(ret)) : 0;
}

void journal_drop(struct journal *journal)
{
	int fd = STEAL_FD(journal->fd);

	cleanup_close(&fd);
	digest_free(STEAL(journal->digest));
	free(STEAL(journal->buffer));
}

/* ---- reading ----------------------------------------------------------- */

static int journal_digest(int fd, uint64_t length, uint8_t out[static CRYPTO_DIGEST_SIZE])
{
	CLEANUP_FREE uint8_t *buffer = malloc(JOURNAL_BUFFER_BYTES);
	struct digest *digest = buffer ? digest_new() : NULL;
	int ret = digest ? 0 : -ENOMEM;

	for (uint64_t at = 0; !ret && at < length; ) {
		size_t piece = length - at < JOURNAL_BUFFER_BYTES ? (size_t)(length - at)
								  : JOURNAL_BUFFER_BYTES;

		ret = file_pread_all(fd, buffer, piece, at);
		if (!ret)
			digest_update(digest, buffer, piece);
		at += piece;
	}
	if (ret)
		digest_free(digest);
	else
		digest_finish(digest, out);
	return ret;
}

static bool journal_fits(const struct fingerprints *table, const struct journal_header *header)
{
	return !memcmp(header->magic, JOURNAL_MAGIC, sizeof(header->magic)) &&
	       get_le32(header->version) == FINGERPRINT_VERSION &&
	       !(get_le32(header->flags) & ~JOURNAL_ANEW) &&
	       !memcmp(header->volume, table->volume.b, sizeof(header->volume)) &&
	       get_le64(header->blocks) == table->blocks;
}

int journal_open(const struct fingerprints *table, int *fd, struct journal_header *header,
		 struct journal_trailer *trailer)
{
	uint64_t least = sizeof(*header) + sizeof(struct journal_record) + sizeof(*trailer);
	CLEANUP_CLOSE int file = open(table->journal_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	uint8_t digest[CRYPTO_DIGEST_SIZE];
	struct stat facts;
	uint64_t length;
	int ret;

	if (file < 0 || fstat(file, &facts))
		return -errno;
	length = (uint64_t)facts.st_size;
	if (length < least)
		return -EBADMSG;
	ret = file_pread_all(file, header, sizeof(*header), 0);
	if (!ret)
		ret = file_pread_all(file, trailer, sizeof(*trailer), length - sizeof(*trailer));
	if (!ret)
		ret = journal_digest(file, length - sizeof(digest), digest);
	if (ret)
		return ret;
	if (memcmp(digest, trailer->digest, sizeof(digest)) || !journal_fits(table, header))
		return -EBADMSG;
	*fd = STEAL_FD(file);
	return 0;
}

/* A record is short, and there may be many: read through a buffer. */
static FILE *journal_stream(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	FILE *file = copy < 0 ? NULL : fdopen(copy, "r");

	if (copy >= 0 && !file)
		close(copy);
	if (file && fseek(file, sizeof(struct journal_header), SEEK_SET)) {
		fclose(file);
		return NULL;
	}
	return file;
}

static int stream_take(FILE *file, void *data, size_t length)
{
	if (fread(data, 1, length, file) == length)
		return 0;
	return ferror(file) ? -EIO : -ENODATA;
}

int journal_walk(int fd, int (*take)(void *context, uint64_t first, uint32_t count,
				     const struct le64 *tags), void *context)
{
	CLEANUP_FCLOSE FILE *file = journal_stream(fd);
	struct le64 tags[RECORD_TAGS_MAX];
	struct journal_record record;

	if (!file)
		return -errno;
	for (uint64_t records = 0;; records++) {
		int ret = stream_take(file, &record, sizeof(record));
		uint32_t count = get_le32(record.count);

		if (ret)
			return ret;
		if (!count)
			return get_le64(record.first) == records ? 0 : -EBADMSG;
		if (count > RECORD_TAGS_MAX)
			return -EBADMSG;
		ret = stream_take(file, tags, count * sizeof(*tags));
		if (!ret)
			ret = take(context, get_le64(record.first), count, tags);
		if (ret)
			return ret;
	}
}
