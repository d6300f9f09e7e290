/*
 * Whether what is given opens each LUKS, before anything is written: the header is read
 * from the disk's point, and cryptsetup tries it in memory.
 */
#include "agent/recover/recover_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/serve/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define KEY_FILE_BYTES_MAX (8u << 20)	/* as cryptsetup's own */
#define HEADER_BYTES_MAX (64u << 20)
#define ASKED_MAX 3

/* ---- secrets --------------------------------------------------------------------- */

static void secret_free(struct recover_secret *secret)
{
	if (secret->bytes)
		explicit_bzero(secret->bytes, secret->length);
	free(secret->bytes);
	*secret = (struct recover_secret){ NULL, 0 };
}

static int secret_passphrase(const struct passphrase_options *how, struct recover_secret *secret,
			     struct error *err)
{
	struct passphrase passphrase;
	int ret = passphrase_read(how, &passphrase, err);

	if (ret)
		return ret;
	secret->bytes = malloc(passphrase.length);
	if (secret->bytes) {
		memcpy(secret->bytes, passphrase.text, passphrase.length);
		secret->length = passphrase.length;
	} else {
		ret = error_set(err, -ENOMEM, "out of memory");
	}
	passphrase_wipe(&passphrase);
	return ret;
}

static int secret_key_file(const char *path, struct recover_secret *secret, struct error *err)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;
	int ret;

	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set(err, -errno, "cannot open the key file %s: %s", path,
				 error_text(errno));
	if (!S_ISREG(st.st_mode) || !st.st_size || st.st_size > KEY_FILE_BYTES_MAX)
		return error_set(err, -EINVAL, "cannot use the key file %s: it is no file of 1 byte "
				 "to 8 MiB", path);
	if (st.st_mode & 077)
		return error_set(err, -EPERM, "refusing the key file %s: others may access it (mode "
				 "%04o); run chmod 600 on it", path,
				 (unsigned int)st.st_mode & 07777);
	secret->bytes = malloc((size_t)st.st_size);
	if (!secret->bytes)
		return error_set(err, -ENOMEM, "reading %s: out of memory", path);
	secret->length = (size_t)st.st_size;
	ret = file_pread_all(fd, secret->bytes, secret->length, 0);
	if (!ret)
		return 0;
	secret_free(secret);
	return error_set(err, ret, "reading the key file %s: %s", path, error_text(ret));
}

/* ---- the header ---------------------------------------------------------------------- */

static int header_copy(struct point_reader *reader, uint64_t offset, uint64_t length, int fd,
		       struct error *err)
{
	CLEANUP_FREE uint8_t *buffer = malloc(1 << 20);
	int ret = buffer ? 0 : error_set(err, -ENOMEM, "out of memory");

	for (uint64_t at = 0; !ret && at < length; ) {
		size_t n = length - at < 1 << 20 ? (size_t)(length - at) : 1 << 20;

		ret = point_reader_read(reader, offset + at, buffer, n, err);
		if (!ret) {
			ret = file_pwrite_all(fd, buffer, n, at);
			if (ret)
				error_set(err, ret, "keeping it in memory: %s", error_text(ret));
		}
		at += n;
	}
	return ret;
}

/* Into a file in memory, its descriptor. */
static int header_read(struct recovery *recovery, const struct recover_options *options,
		       const struct recover_crypt *at, struct error *err)
{
	const struct recover_disk *disk = &recovery->disks[at->disk];
	const struct disk_crypt *crypt = &disk->layout.crypts[at->index];
	struct point_reader_options how = { .cache_bytes = 16 << 20, .ahead = 1 };
	uint64_t offset = crypt->place.on == DISK_ON_PARTITION ?
			  disk->layout.partitions[crypt->place.index].offset : 0;
	CLEANUP_CLOSE int fd = memfd_create("clawback-luks", MFD_CLOEXEC);
	struct point_reader *reader;
	int ret;

	if (fd < 0)
		return error_set(err, -errno, "keeping it in memory: %s", error_text(errno));
	if (crypt->header_bytes > HEADER_BYTES_MAX)
		return error_set(err, -E2BIG, "its header is larger than 64 MiB");
	ret = point_reader_open(recovery->repo, &disk->point, &options->ring, &how, &reader, err);
	if (ret)
		return ret;
	ret = header_copy(reader, offset, crypt->header_bytes, fd, err);
	point_reader_close(reader);
	return ret ? ret : STEAL_FD(fd);
}

/* ---- trying ------------------------------------------------------------------------------ */

static int secret_try(int header, const struct recover_secret *secret, struct error *err)
{
	char path[64], output[COMMAND_OUTPUT_ROOM];
	const char *command[] = { "cryptsetup", "open", "--test-passphrase", "--type", "luks",
				  "--key-file", "-", path, NULL };
	int code;

	snprintf(path, sizeof(path), "/proc/%ld/fd/%d", (long)getpid(), header);
	code = cryptsetup(command, secret, output, err);
	return code ? cryptsetup_error(err, code, "its header in the disk's point", output) : 0;
}

/* One way to a secret: -ENOKEY when it is not to be gone, -EACCES when the secret is
 * another's; its exit code says so, too. */
static int way_try(struct recover_crypt *at, int header, const char *path, bool whole_file,
		   struct error *err)
{
	struct passphrase_options how = { .source = PASSPHRASE_FILE, .path = path };
	int ret;

	if (!path || !*path)
		return -ENOKEY;
	ret = whole_file ? secret_key_file(path, &at->secret, err) :
			   secret_passphrase(&how, &at->secret, err);
	if (ret)
		return ret;
	ret = secret_try(header, &at->secret, err);
	if (ret)
		secret_free(&at->secret);
	return ret == -EACCES ? error_prefix(err, "%s", path) : ret;
}

static int ask_try(struct recover_crypt *at, const char *name, int header, struct error *err)
{
	char what[DISK_NAME_ROOM + 16];
	struct passphrase_options how = { .source = PASSPHRASE_PROMPT, .what = what };
	int ret = -EACCES;

	snprintf(what, sizeof(what), "LUKS %s", name);
	for (int i = 0; ret == -EACCES && i < ASKED_MAX; i++) {
		*err = (struct error)ERROR_INIT;
		ret = secret_passphrase(&how, &at->secret, err);
		if (ret)
			return ret;
		ret = secret_try(header, &at->secret, err);
		if (ret)
			secret_free(&at->secret);
	}
	return ret;
}

static int crypt_unlock(const struct recover_options *options, struct recover_crypt *at,
			const char *name, int header, struct error *err)
{
	int ret = way_try(at, header, options->luks_passphrase_file, false, err);

	if (ret == -ENOKEY || ret == -EACCES) {
		struct error other = ERROR_INIT;
		int second = way_try(at, header, options->luks_key_file, true, &other);

		if (second != -ENOKEY) {
			*err = other;
			ret = second;
		}
	}
	if ((ret == -ENOKEY || ret == -EACCES) && options->ask)
		return ask_try(at, name, header, err);
	return ret == -ENOKEY ?
	       error_set_exit(err, EXIT_USAGE, ret, "it needs its passphrase or key, and nothing is "
			      "asked; give --luks-passphrase-file or --luks-key-file, or "
			      "luks_passphrase_file or luks_key_file in [recover]") : ret;
}

int recovery_unlock(struct recovery *recovery, const struct recover_options *options,
		    struct error *err)
{
	for (size_t i = 0; i < recovery->crypt_count; i++) {
		struct recover_crypt *at = &recovery->crypts[i];
		CLEANUP_CLOSE int header = header_read(recovery, options, at, err);
		int ret = header < 0 ? header : 0;

		if (!ret)
			ret = crypt_unlock(options, at, crypt_of(recovery, i)->name, header, err);
		if (ret) {
			error_prefix(err, "LUKS %s of disk %s", crypt_of(recovery, i)->name,
				     recovery->disks[at->disk].name);
			return error_hint(err, "nothing was written");
		}
	}
	return 0;
}

void recovery_lock(struct recovery *recovery)
{
	for (size_t i = 0; i < recovery->crypt_count; i++)
		secret_free(&recovery->crypts[i].secret);
}
