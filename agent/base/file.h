/*
 * Whole-file and whole-buffer I/O on local files. All functions restart after
 * EINTR, return 0 or a negative errno, and say no more: the caller knows what
 * the file was for and fills the struct error.
 */
#ifndef CLAWBACK_BASE_FILE_H
#define CLAWBACK_BASE_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Reads exactly `length` bytes at `offset`; -ENODATA when the file ends first. */
int file_pread_all(int fd, void *buffer, size_t length, uint64_t offset);

/* Writes exactly `length` bytes at `offset`. */
int file_pwrite_all(int fd, const void *buffer, size_t length, uint64_t offset);
int file_write_all(int fd, const void *buffer, size_t length);

/*
 * Reads a whole file of at most `limit_bytes` (else -EFBIG) into a new buffer,
 * NUL-terminated behind its last byte; the caller frees it. `length` may be NULL.
 */
int file_read(const char *path, size_t limit_bytes, char **data, size_t *length);

/*
 * Replaces `path` atomically and durably: temporary file beside it, fsync,
 * rename, fsync of the folder. Killed anywhere, the old or the new content is
 * there, and perhaps a temporary file PATH.XXXXXX. On failure no temporary file
 * is left; only when the last step (the folder's fsync) failed the new content is
 * there, but may not outlast a crash. The file gets exactly `mode`, whatever the
 * umask; until it is whole nobody else can read it.
 */
int file_replace(const char *path, const void *data, size_t length, mode_t mode);

/* The same, but -EEXIST when `path` exists already: of two at once one wins. */
int file_create(const char *path, const void *data, size_t length, mode_t mode);

/*
 * mkdir -p, durably, with `mode` (less the umask) for every folder it makes;
 * nothing if it is there; -ENOTDIR if something in the way is no folder.
 */
int file_make_folders(const char *path, mode_t mode);

/*
 * Removes what killed file_replace and file_create of `path` left beside it, if it
 * was last written `age_seconds` ago or earlier; 0 is for who knows that nobody
 * else is writing `path`. Returns how many files it removed.
 */
int file_sweep(const char *path, unsigned age_seconds);

/* fsync of the folder that holds `path`, so that a rename or unlink in it lasts. */
int file_sync_parent(const char *path);

/* unlink(2) + fsync of the folder; a missing file is success. */
int file_remove(const char *path);

#endif
