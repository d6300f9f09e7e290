/*
 * Present blocks: a bitmap in memory whose pages are written to a file once what they
 * say is durable. Bits are set by many threads at once; one at a time writes.
 */
#include "agent/serve/present_format.h"
#include "agent/serve/serve_private.h"

#include "agent/base/file.h"
#include "agent/base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_WORDS (PRESENT_PAGE_BYTES / 8)
#define PAGE_BLOCKS (PRESENT_PAGE_BYTES * UINT64_C(8))

static uint64_t blocks_of(uint64_t volume_bytes)
{
	return volume_bytes / BLOCK_BYTES + !!(volume_bytes % BLOCK_BYTES);
}

/* ---- the header ----------------------------------------------------------------- */

static void present_encode(const struct present_owner *owner, uint8_t *page)
{
	struct present_header header;

	memset(&header, 0, sizeof(header));
	memcpy(header.magic, PRESENT_MAGIC, sizeof(header.magic));
	header.version = le32(PRESENT_VERSION);
	memcpy(header.repository, owner->repository.b, sizeof(header.repository));
	memcpy(header.volume, owner->volume.b, sizeof(header.volume));
	header.point = le64(owner->point);
	header.volume_bytes = le64(owner->volume_bytes);
	header.target = le64(owner->target);
	digest_of(&header, offsetof(struct present_header, sha256), header.sha256);
	memset(page, 0, PRESENT_HEADER_BYTES);
	memcpy(page, &header, sizeof(header));
}

int present_decode(const uint8_t *data, size_t length, struct present_owner *owner)
{
	struct present_header header;
	uint8_t sha256[CRYPTO_DIGEST_SIZE];

	if (length < PRESENT_HEADER_BYTES)
		return -EBADMSG;
	memcpy(&header, data, sizeof(header));
	if (memcmp(header.magic, PRESENT_MAGIC, sizeof(header.magic)))
		return -EBADMSG;
	digest_of(&header, offsetof(struct present_header, sha256), sha256);
	if (memcmp(sha256, header.sha256, sizeof(sha256)))
		return -EBADMSG;
	if (get_le32(header.version) != PRESENT_VERSION || get_le32(header.flags))
		return -EPROTONOSUPPORT;
	if (!memory_is_zero(data + sizeof(header), PRESENT_HEADER_BYTES - sizeof(header)))
		return -EBADMSG;
	memcpy(owner->repository.b, header.repository, sizeof(header.repository));
	memcpy(owner->volume.b, header.volume, sizeof(header.volume));
	owner->point = get_le64(header.point);
	owner->volume_bytes = get_le64(header.volume_bytes);
	owner->target = get_le64(header.target);
	return 0;
}

/* ---- opening --------------------------------------------------------------------- */

static int present_init(struct present *present, const char *path, uint64_t volume_bytes)
{
	*present = (struct present){ .fd = -1, .blocks = blocks_of(volume_bytes) };
	present->page_count = present->blocks / PAGE_BLOCKS + !!(present->blocks % PAGE_BLOCKS);
	present->path = strdup(path);
	present->words = calloc(present->page_count + 1, PRESENT_PAGE_BYTES);
	present->dirty = calloc(present->page_count + 1, sizeof(*present->dirty));
	return present->path && present->words && present->dirty ? 0 : -ENOMEM;
}

void present_fini(struct present *present)
{
	if (present->fd >= 0)
		close(present->fd);
	free(present->path);
	free((void *)present->words);
	free((void *)present->dirty);
	memset(present, 0, sizeof(*present));
	present->fd = -1;
}

static int present_refuse(const char *path, const char *why, struct error *err)
{
	return error_set(err, -ESTALE, "%s %s; use another target, or remove both to begin anew",
			 path, why);
}

static int present_check(const struct present_owner *found, const struct present_owner *owner,
			 const char *path, struct error *err)
{
	if (memcmp(&found->repository, &owner->repository, sizeof(found->repository)) ||
	    memcmp(&found->volume, &owner->volume, sizeof(found->volume)))
		return present_refuse(path, "is of another volume", err);
	if (found->point != owner->point || found->volume_bytes != owner->volume_bytes)
		return error_set(err, -ESTALE, "%s is of point %" PRIu64 ", not of %" PRIu64
				 "; name that point, or remove it and the target to begin anew",
				 path, found->point, owner->point);
	if (found->target != owner->target)
		return present_refuse(path, "is of another target: the one it was made for was "
				      "copied or replaced, or is another device", err);
	return 0;
}

/* The bits, in memory order of words; behind the last block they must be clear. */
static int present_load(struct present *present, struct error *err)
{
	uint8_t *page = malloc(PRESENT_PAGE_BYTES);
	uint64_t count = 0;
	int ret = page ? 0 : -ENOMEM;

	for (size_t p = 0; !ret && p < present->page_count; p++) {
		ret = file_pread_all(present->fd, page, PRESENT_PAGE_BYTES,
				     PRESENT_HEADER_BYTES + p * PRESENT_PAGE_BYTES);
		for (size_t w = 0; !ret && w < PAGE_WORDS; w++) {
			struct le64 raw;
			uint64_t word;

			memcpy(&raw, page + w * 8, sizeof(raw));
			word = get_le64(raw);
			atomic_store(&present->words[p * PAGE_WORDS + w], word);
			count += (uint64_t)__builtin_popcountll(word);
		}
	}
	free(page);
	if (ret)
		return error_set(err, ret, "reading %s: %s", present->path, error_text(ret));
	for (uint64_t b = present->blocks; b < present->page_count * PAGE_BLOCKS; b++)
		if (atomic_load(&present->words[b / 64]) >> (b % 64) & 1)
			return present_refuse(present->path, "is damaged: it has bits behind the "
					      "volume's end", err);
	atomic_store(&present->count, count);
	return 0;
}

static int present_open_file(struct present *present, const struct present_owner *owner,
			     struct error *err)
{
	uint8_t page[PRESENT_HEADER_BYTES];
	struct present_owner found;
	struct stat st;
	int ret;

	present->fd = open(present->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (present->fd < 0)
		return errno == ENOENT ? error_set(err, -ENOENT, "there is no %s", present->path) :
		       error_set(err, -errno, "opening %s: %s", present->path, error_text(errno));
	ret = file_pread_all(present->fd, page, sizeof(page), 0);
	if (ret && ret != -ENODATA)
		return error_set(err, ret, "reading %s: %s", present->path, error_text(ret));
	if (!ret)
		ret = present_decode(page, sizeof(page), &found);
	if (ret == -EPROTONOSUPPORT)
		return present_refuse(present->path, "was written by a newer clawback", err);
	if (ret)
		return present_refuse(present->path, "is no list of present blocks, or damaged",
				      err);
	ret = present_check(&found, owner, present->path, err);
	if (ret)
		return ret;
	if (fstat(present->fd, &st) < 0 || (uint64_t)st.st_size !=
	    PRESENT_HEADER_BYTES + (uint64_t)present->page_count * PRESENT_PAGE_BYTES)
		return present_refuse(present->path, "is damaged: it has not the right length",
				      err);
	return present_load(present, err);
}

int present_open(struct present *present, const char *path, const struct present_owner *owner,
		 struct error *err)
{
	int ret = present_init(present, path, owner->volume_bytes);

	ret = ret ? error_set(err, ret, "opening %s: out of memory", path) :
		    present_open_file(present, owner, err);
	if (ret)
		present_fini(present);
	return ret;
}

int present_create(struct present *present, const char *path,
		   const struct present_owner *owner, struct error *err)
{
	uint64_t blocks = blocks_of(owner->volume_bytes);
	size_t bytes = PRESENT_HEADER_BYTES + (blocks / PAGE_BLOCKS + !!(blocks % PAGE_BLOCKS)) *
						      (size_t)PRESENT_PAGE_BYTES;
	uint8_t *data = calloc(1, bytes);
	int ret;

	present->fd = -1;
	if (!data)
		return error_set(err, -ENOMEM, "making %s: out of memory", path);
	present_encode(owner, data);
	ret = file_create(path, data, bytes, 0600);
	free(data);
	if (ret)
		return error_set(err, ret, "making %s: %s", path, error_text(ret));
	return present_open(present, path, owner, err);
}

/* ---- bits -------------------------------------------------------------------------- */

bool present_test(const struct present *present, uint64_t block)
{
	return atomic_load(&present->words[block / 64]) >> (block % 64) & 1;
}

uint64_t present_run(const struct present *present, uint64_t block, uint64_t count)
{
	bool set = present_test(present, block);
	uint64_t at = block;

	while (at - block < count) {
		uint64_t word = atomic_load(&present->words[at / 64]);
		unsigned bit = at % 64;

		/* What differs from the first, from this bit on. */
		word = (set ? ~word : word) >> bit;
		if (word) {
			at += (unsigned)__builtin_ctzll(word);
			break;
		}
		at += 64 - bit;
	}
	return at - block < count ? at - block : count;
}

void present_set(struct present *present, uint64_t block, uint64_t count)
{
	for (uint64_t at = block; count;) {
		unsigned bit = at % 64;
		uint64_t n = 64 - bit < count ? 64 - bit : count;
		uint64_t mask = (n == 64 ? UINT64_MAX : (UINT64_C(1) << n) - 1) << bit;
		uint64_t old = atomic_fetch_or(&present->words[at / 64], mask);

		atomic_fetch_add(&present->count,
				 (uint64_t)__builtin_popcountll(mask & ~old));
		/* After the bits: present_take clears it before it copies them. */
		if (mask & ~old)
			atomic_store(&present->dirty[at / PAGE_BLOCKS], 1);
		at += n;
		count -= n;
	}
}

/* ---- writing ------------------------------------------------------------------------ */

struct present_page {
	size_t number;
	uint8_t bits[PRESENT_PAGE_BYTES];
};

struct present_pages {
	size_t count;
	struct present_page items[];
};

static void page_take(struct present *present, size_t number, struct present_page *page)
{
	page->number = number;
	for (size_t w = 0; w < PAGE_WORDS; w++) {
		struct le64 raw = le64(atomic_load(&present->words[number * PAGE_WORDS + w]));

		memcpy(page->bits + w * 8, &raw, sizeof(raw));
	}
}

struct present_pages *present_take(struct present *present, int *ret)
{
	struct present_pages *pages;
	size_t count = 0;

	*ret = 0;
	for (size_t p = 0; p < present->page_count; p++)
		count += atomic_load(&present->dirty[p]);
	if (!count)
		return NULL;
	pages = malloc(sizeof(*pages) + count * sizeof(pages->items[0]));
	if (!pages) {
		*ret = -ENOMEM;
		return NULL;
	}
	pages->count = 0;
	for (size_t p = 0; p < present->page_count && pages->count < count; p++)
		if (atomic_exchange(&present->dirty[p], 0))
			page_take(present, p, &pages->items[pages->count++]);
	return pages;
}

void present_give_back(struct present *present, struct present_pages *pages)
{
	for (size_t i = 0; pages && i < pages->count; i++)
		atomic_store(&present->dirty[pages->items[i].number], 1);
	free(pages);
}

int present_write(struct present *present, struct present_pages *pages, struct error *err)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < pages->count; i++)
		ret = file_pwrite_all(present->fd, pages->items[i].bits, PRESENT_PAGE_BYTES,
				      PRESENT_HEADER_BYTES +
				      pages->items[i].number * PRESENT_PAGE_BYTES);
	if (!ret && fdatasync(present->fd) < 0)
		ret = -errno;
	if (ret) {
		error_set(err, ret, "writing %s: %s", present->path, error_text(ret));
		present_give_back(present, pages);
		return ret;
	}
	free(pages);
	return 0;
}
