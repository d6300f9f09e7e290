/*
 * The table of fingerprints. Its header names the point whose content it is; a
 * table is believed if that is the head, and for no other reason. It changes only
 * when the state file names the new head already, so one that is half changed
 * never carries the head's hash: then the journal is applied again, or all is
 * thrown away.
 */
#include "agent/volume/fingerprint_private.h"
#include "agent/volume/snapshot.h"

#include "agent/base/cleanup.h"
#include "agent/base/fault.h"
#include "agent/base/file.h"
#include "agent/base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the header -------------------------------------------------------- */

static void header_digest(const struct table_header *header,
			  uint8_t out[static CRYPTO_DIGEST_SIZE])
{
	digest_of(header, offsetof(struct table_header, digest), out);
}

/* -ENOENT when it is none of ours, of another format, or damaged. */
static int header_read(int fd, struct table_header *header)
{
	uint8_t digest[CRYPTO_DIGEST_SIZE];
	int ret = file_pread_all(fd, header, sizeof(*header), 0);

	if (ret)
		return ret == -ENODATA ? -ENOENT : ret;
	header_digest(header, digest);
	if (memcmp(header->magic, TABLE_MAGIC, sizeof(header->magic)) ||
	    get_le32(header->version) != FINGERPRINT_VERSION ||
	    get_le32(header->block_bytes) != FINGERPRINT_BLOCK_BYTES ||
	    memcmp(digest, header->digest, sizeof(digest)))
		return -ENOENT;
	return 0;
}

static uint64_t table_bytes(uint64_t blocks)
{
	return TABLE_TAGS_OFFSET + blocks * sizeof(struct le64);
}

static bool header_fits(const struct table_header *header, const struct stat *file,
			const struct uuid *volume, uint64_t blocks)
{
	return !memcmp(header->volume, volume->b, sizeof(header->volume)) &&
	       get_le64(header->blocks) == blocks &&
	       (uint64_t)file->st_size == table_bytes(blocks);
}

static int header_write(struct fingerprints *table)
{
	header_digest(&table->header, table->header.digest);
	return file_pwrite_all(table->fd, &table->header, sizeof(table->header), 0);
}

static int table_paths(const char *state_folder, const char *name, char *path, char *journal,
		       struct error *err)
{
	int ret = volume_path(state_folder, name, "fingerprints", path, err);

	return ret ? ret : volume_path(state_folder, name, "fingerprints.journal", journal, err);
}

/* ---- opening ----------------------------------------------------------- */

int fingerprints_open(const char *state_folder, const char *name,
		      const struct uuid *volume, uint64_t blocks,
		      struct fingerprints **out, struct error *err)
{
	struct fingerprints *table = calloc(1, sizeof(*table));
	struct stat file;
	int ret;

	if (!table)
		return error_set(err, -ENOMEM, "out of memory for fingerprints");
	table->fd = table->journal.fd = -1;
	table->volume = *volume;
	table->blocks = blocks;
	ret = table_paths(state_folder, name, table->path, table->journal_path, err);
	if (!ret && (!blocks || blocks > FINGERPRINT_BLOCKS_MAX))
		ret = error_set(err, -EFBIG, "no fingerprints for %llu blocks",
				(unsigned long long)blocks);
	if (!ret) {
		table->fd = open(table->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
		ret = table->fd < 0 || fstat(table->fd, &file) < 0 ? -errno :
		      header_read(table->fd, &table->header);
		table->usable = !ret && header_fits(&table->header, &file, volume, blocks);
		ret = ret && ret != -ENOENT ? error_set(err, ret, "cannot read %s: %s",
							table->path, error_text(ret)) : 0;
	}
	if (ret) {
		fingerprints_close(table);
		return ret;
	}
	*out = table;
	return 0;
}

void fingerprints_close(struct fingerprints *table)
{
	if (!table)
		return;
	if (table->journal.digest)	/* not sealed */
		unlink(table->journal_path);
	journal_drop(&table->journal);
	cleanup_close(&table->fd);
	crypto_wipe(table, sizeof(*table));
	free(table);
}

static void table_remove(struct fingerprints *table)
{
	int fd = STEAL_FD(table->fd);

	cleanup_close(&fd);
	unlink(table->journal_path);
	unlink(table->path);
	table->usable = table->current = false;
}

int fingerprints_discard(const char *state_folder, const char *name, struct error *err)
{
	char path[PATH_MAX], journal[PATH_MAX];
	int ret = table_paths(state_folder, name, path, journal, err);

	if (ret)
		return ret;
	if (unlink(journal) && errno != ENOENT)
		return error_set(err, -errno, "cannot remove %s: %s", journal,
				 error_text(errno));
	ret = file_remove(path);
	return ret == -ENOENT || !ret ? 0 :
	       error_set(err, ret, "cannot remove %s: %s", path, error_text(ret));
}

/* ---- applying a journal ------------------------------------------------ */

/* Records are short and many; they go through a page of the table at a time. */
#define PAGE_TAGS 512u

struct table_page {
	struct fingerprints *table;
	bool loaded;
	uint64_t first;			/* multiple of PAGE_TAGS */
	struct le64 tags[PAGE_TAGS];
};

static size_t page_bytes(const struct table_page *page)
{
	uint64_t left = page->table->blocks - page->first;

	return (left < PAGE_TAGS ? left : PAGE_TAGS) * sizeof(page->tags[0]);
}

static uint64_t page_offset(const struct table_page *page)
{
	return TABLE_TAGS_OFFSET + page->first * sizeof(page->tags[0]);
}

static int page_flush(struct table_page *page)
{
	if (!page->loaded)
		return 0;
	page->loaded = false;
	return FAULT("table.page") ?: file_pwrite_all(page->table->fd, page->tags,
						      page_bytes(page), page_offset(page));
}

static int page_turn(struct table_page *page, uint64_t block)
{
	int ret = 0;

	if (page->loaded && block >= page->first && block - page->first < PAGE_TAGS)
		return 0;
	ret = page_flush(page);
	if (ret)
		return ret;
	page->first = block / PAGE_TAGS * PAGE_TAGS;
	ret = file_pread_all(page->table->fd, page->tags, page_bytes(page), page_offset(page));
	page->loaded = !ret;
	return ret;
}

static int page_take(void *context, uint64_t first, uint32_t count,
		     const struct le64 *tags)
{
	struct table_page *page = context;

	if (first >= page->table->blocks || count > page->table->blocks - first)
		return -EBADMSG;
	while (count) {
		int ret = page_turn(page, first);
		uint32_t at = first % PAGE_TAGS;
		uint32_t piece = count < PAGE_TAGS - at ? count : PAGE_TAGS - at;

		if (ret)
			return ret;
		memcpy(page->tags + at, tags, piece * sizeof(*tags));
		first += piece;
		tags += piece;
		count -= piece;
	}
	return 0;
}

/* An empty table: sparse, all zeros, its header still to come. */
static int table_empty(struct fingerprints *table, const struct journal_header *journal)
{
	struct table_header *header = &table->header;
	struct le64 checked = header->checked, mismatches = header->mismatches;
	bool known = table->usable;

	if (table->fd < 0) {
		table->fd = open(table->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (table->fd < 0)
			return -errno;
	}
	if (ftruncate(table->fd, 0) ||
	    ftruncate(table->fd, (off_t)table_bytes(table->blocks)))
		return -errno;
	memset(header, 0, sizeof(*header));
	memcpy(header->magic, TABLE_MAGIC, sizeof(header->magic));
	header->version = le32(FINGERPRINT_VERSION);
	header->block_bytes = le32(FINGERPRINT_BLOCK_BYTES);
	memcpy(header->volume, table->volume.b, sizeof(header->volume));
	header->blocks = le64(table->blocks);
	memcpy(header->key, journal->key, sizeof(header->key));
	if (known) {
		header->checked = checked;
		header->mismatches = mismatches;
	}
	return 0;
}

static struct le64 le64_plus(struct le64 a, struct le64 b)
{
	return le64(get_le64(a) + get_le64(b));
}

/* The tags are on disk before the header that vouches for them. */
static int table_apply(struct fingerprints *table, int fd,
		       const struct journal_header *journal,
		       const struct journal_trailer *trailer, const uint8_t *head_hash)
{
	struct table_header *header = &table->header;
	struct table_page page = { .table = table };
	int ret = 0;

	if (get_le32(journal->flags) & JOURNAL_ANEW)
		ret = table_empty(table, journal);
	if (!ret)
		ret = FAULT("table.tags") ?: journal_walk(fd, page_take, &page);
	if (!ret)
		ret = page_flush(&page);
	if (!ret && fdatasync(table->fd))
		ret = -errno;
	if (ret)
		return ret;
	memcpy(header->head_hash, head_hash, sizeof(header->head_hash));
	header->checked = le64_plus(header->checked, trailer->checked);
	header->mismatches = le64_plus(header->mismatches, trailer->mismatches);
	ret = FAULT("table.header") ?: header_write(table);
	if (!ret && fdatasync(table->fd))
		ret = -errno;
	if (ret)
		return ret;
	table->usable = table->current = true;
	unlink(table->journal_path);
	return 0;
}

static int table_redo(struct fingerprints *table, const uint8_t *head_hash,
		      const struct uuid *run)
{
	CLEANUP_CLOSE int fd = -1;
	struct journal_header journal;
	struct journal_trailer trailer;
	int ret = journal_open(table, &fd, &journal, &trailer);

	if (ret)
		return ret;
	if (memcmp(journal.run, run->b, sizeof(journal.run)))
		return -ESTALE;
	if (!(get_le32(journal.flags) & JOURNAL_ANEW) &&
	    (!table->usable ||
	     memcmp(journal.base_hash, table->header.head_hash, sizeof(journal.base_hash))))
		return -ESTALE;
	return table_apply(table, fd, &journal, &trailer, head_hash);
}

bool fingerprints_settle(struct fingerprints *table, const uint8_t head_hash[static 32],
			 const struct uuid *run)
{
	if (table->usable &&
	    !memcmp(table->header.head_hash, head_hash, sizeof(table->header.head_hash))) {
		unlink(table->journal_path);	/* of a run that came to nothing */
		return table->current = true;
	}
	if (table_redo(table, head_hash, run))
		table_remove(table);
	return table->current;
}

/* ---- a run ------------------------------------------------------------- */

int fingerprints_begin(struct fingerprints *table, const struct uuid *run, bool anew,
		       struct error *err)
{
	struct journal_header header = {
		.version = le32(FINGERPRINT_VERSION),
		.flags = le32(anew ? JOURNAL_ANEW : 0),
		.blocks = le64(table->blocks),
	};
	int ret = 0;

	if (!anew && !table->current)
		return error_set(err, -EINVAL, "the fingerprints are not the last point's");
	memcpy(header.magic, JOURNAL_MAGIC, sizeof(header.magic));
	memcpy(header.volume, table->volume.b, sizeof(header.volume));
	memcpy(header.run, run->b, sizeof(header.run));
	if (anew)
		ret = crypto_random(header.key, sizeof(header.key), err);
	else
		memcpy(header.base_hash, table->header.head_hash, sizeof(header.base_hash));
	return ret ? ret : journal_start(table, &header, err);
}

static bool table_anew(const struct fingerprints *table)
{
	return get_le32(table->journal.header.flags) & JOURNAL_ANEW;
}

const uint8_t *fingerprints_key(const struct fingerprints *table)
{
	return table->journal.fd >= 0 && table_anew(table) ? table->journal.header.key
							   : table->header.key;
}

/* 0 stands for zeros and for nothing else. */
int fingerprint_of_block(struct tagger *tagger, const uint8_t *block, uint64_t *fingerprint)
{
	int ret;

	*fingerprint = 0;
	if (memory_is_zero(block, FINGERPRINT_BLOCK_BYTES))
		return 0;
	ret = tagger_tag(tagger, block, FINGERPRINT_BLOCK_BYTES, fingerprint);
	if (!ret && !*fingerprint)
		*fingerprint = 1;
	return ret;
}

int fingerprints_known(const struct fingerprints *table, uint64_t first, uint32_t count,
		       uint64_t *tags)
{
	int ret;

	if (!table->current || first >= table->blocks || count > table->blocks - first)
		return -ENOENT;
	ret = file_pread_all(table->fd, tags, count * sizeof(struct le64),
			     TABLE_TAGS_OFFSET + first * sizeof(struct le64));
	for (uint32_t i = 0; !ret && i < count; i++) {
		struct le64 stored;

		memcpy(&stored, &tags[i], sizeof(stored));
		tags[i] = get_le64(stored);
	}
	return ret;
}

void fingerprints_note(struct fingerprints *table, uint64_t first, uint32_t count,
		       const uint64_t *tags)
{
	uint32_t zeros = 0;

	/* An empty table has the zeros already, and stays sparse. */
	while (table_anew(table) && zeros < count && !tags[zeros])
		zeros++;
	if (zeros < count)
		journal_add(&table->journal, first + zeros, count - zeros, tags + zeros);
}

void fingerprints_count(struct fingerprints *table, uint64_t checked, uint64_t mismatches)
{
	table->checked += checked;
	table->mismatches += mismatches;
}

int fingerprints_seal(struct fingerprints *table, struct error *err)
{
	return journal_end(table, err);
}

int fingerprints_advance(struct fingerprints *table, const uint8_t head_hash[static 32],
			 struct error *err)
{
	struct uuid run;
	int ret;

	memcpy(run.b, table->journal.header.run, sizeof(run.b));
	journal_drop(&table->journal);
	ret = table_redo(table, head_hash, &run);
	if (!ret)
		return 0;
	table_remove(table);
	return error_set(err, ret, "cannot bring %s up to date: %s; it was removed", table->path,
			 error_text(ret));
}

/* ---- looking ----------------------------------------------------------- */

int fingerprints_look(const char *state_folder, const struct volume_state *state,
		      struct fingerprints_facts *facts, struct error *err)
{
	CLEANUP_CLOSE int fd = -1;
	struct table_header header;
	char path[PATH_MAX];
	struct stat file;
	int ret = volume_path(state_folder, state->name, "fingerprints", path, err);

	memset(facts, 0, sizeof(*facts));
	if (ret)
		return ret;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ret = fd < 0 || fstat(fd, &file) ? -errno : header_read(fd, &header);
	if (ret == -ENOENT)
		return 0;
	if (ret)
		return error_set(err, ret, "cannot read %s: %s", path, error_text(ret));
	facts->stored_bytes = (uint64_t)file.st_blocks * 512;
	facts->checked = get_le64(header.checked);
	facts->mismatches = get_le64(header.mismatches);
	facts->current = state->head_point &&
		header_fits(&header, &file, &state->id, (state->bytes +
			    FINGERPRINT_BLOCK_BYTES - 1) / FINGERPRINT_BLOCK_BYTES) &&
		!memcmp(header.head_hash, state->head_hash, sizeof(header.head_hash));
	return 0;
}
