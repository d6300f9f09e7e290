/*
 * Where a passphrase comes from. It is read a byte at a time, straight into the
 * caller's struct: no stdio buffer keeps a copy, and what follows the line on a
 * descriptor stays there for its next reader.
 */
#include "agent/crypto/crypto.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/base/interrupt.h"
#include "agent/crypto/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>

/*
 * 1 with a byte, 0 at the end. -EINTR when the process is asked to stop, or as
 * soon as `signals` (may be -1) is readable: never waits in read(2), where a
 * held-back signal would not show. Other signals do not lose what was read.
 */
static int passphrase_byte(int fd, int signals, char *byte)
{
	struct pollfd polls[] = { { .fd = fd, .events = POLLIN },
				  { .fd = signals, .events = POLLIN } };
	ssize_t n;

	do {
		n = poll(polls, 2, -1);
		if (n > 0 && polls[1].revents)
			return -EINTR;
		if (n > 0)
			n = read(fd, byte, 1);
	} while (n < 0 && (errno == EAGAIN ||
			   (errno == EINTR && !interrupt_requested())));
	return n < 0 ? -errno : (int)n;
}

/* -ENODATA: empty, -EMSGSIZE: too long, -EILSEQ: a NUL in it. */
static int passphrase_line(int fd, int signals, struct passphrase *passphrase)
{
	size_t length = 0;
	char byte;
	int ret;

	while ((ret = passphrase_byte(fd, signals, &byte)) > 0 && byte != '\n') {
		if (!byte)
			return -EILSEQ;
		if (length == sizeof(passphrase->text) - 1)
			return -EMSGSIZE;
		passphrase->text[length++] = byte;
	}
	if (ret < 0)
		return ret;
	if (ret && length && passphrase->text[length - 1] == '\r')
		length--;
	passphrase->text[length] = '\0';
	passphrase->length = length;
	return length ? 0 : -ENODATA;
}

static int passphrase_line_error(struct error *err, int ret, const char *origin)
{
	int interrupted = ret == -EINTR ? interrupt_check(err) : 0;

	if (interrupted)
		return interrupted;
	return error_set(err, ret, "cannot read the passphrase from %s: %s", origin,
			 ret == -ENODATA ? "it is empty" :
			 ret == -EMSGSIZE ? "it is longer than 1023 bytes" :
			 ret == -EILSEQ ? "it contains a NUL byte" :
			 error_text(ret));
}

static int passphrase_from_file(const char *path, struct passphrase *passphrase,
				struct error *err)
{
	/* O_NONBLOCK: a FIFO must be refused, not waited for. */
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY |
				    O_NONBLOCK);
	struct stat st;
	int ret;

	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set(err, -errno, "cannot open the passphrase file %s: %s",
				 path, error_text(errno));
	if (!S_ISREG(st.st_mode))
		return error_set(err, -EINVAL, "cannot read the passphrase file %s: not a "
				 "regular file; give a pipe by its descriptor instead",
				 path);
	if (st.st_mode & 077)
		return error_set(err, -EPERM, "refusing the passphrase file %s: others may "
				 "access it (mode %04o); run chmod 600 on it, and consider "
				 "the passphrase known to others", path,
				 (unsigned int)st.st_mode & 07777);
	ret = passphrase_line(fd, -1, passphrase);
	return ret ? passphrase_line_error(err, ret, path) : 0;
}

static int passphrase_from_fd(int fd, struct passphrase *passphrase,
			      struct error *err)
{
	char origin[32];
	int ret;

	ret = passphrase_line(fd, -1, passphrase);
	if (!ret)
		return 0;
	snprintf(origin, sizeof(origin), "descriptor %d", fd);
	return passphrase_line_error(err, ret, origin);
}

static int passphrase_ask(struct terminal *terminal, const char *question,
			  const char *what, struct passphrase *passphrase)
{
	char text[128];
	int ret, written;

	snprintf(text, sizeof(text), "%s%s: ", question, what);
	written = file_write_all(terminal->fd, text, strlen(text));
	if (written)
		return written;
	ret = passphrase_line(terminal->fd, terminal->signals, passphrase);
	/* The person's own line end was not echoed. */
	written = file_write_all(terminal->fd, "\n", 1);
	return ret ? ret : written;
}

/* Once; -EINTR when a signal came, which has been acted upon by the return. */
static int passphrase_ask_once(const struct passphrase_options *options,
			       struct passphrase *passphrase, bool *differ)
{
	const char *what = options->what ? options->what : "key";
	struct passphrase again;
	struct terminal terminal;
	int ret = terminal_open(&terminal);

	*differ = false;
	if (ret)
		return ret;
	ret = passphrase_ask(&terminal, "Passphrase for the ", what, passphrase);
	if (!ret && options->confirm) {
		ret = passphrase_ask(&terminal, "The same again for the ", what,
				     &again);
		*differ = !ret && (again.length != passphrase->length ||
				   !crypto_equal(again.text, passphrase->text,
						 again.length));
		passphrase_wipe(&again);
	}
	terminal_close(&terminal);
	return ret;
}

static int passphrase_from_terminal(const struct passphrase_options *options,
				    struct passphrase *passphrase,
				    struct error *err)
{
	bool differ;
	int ret;

	/* Again after a signal that the process survived: stopped and continued. */
	do {
		ret = passphrase_ask_once(options, passphrase, &differ);
	} while (ret == -EINTR && !interrupt_requested());
	if (ret == -ENXIO)
		return error_set_exit(err, EXIT_USAGE, ret, "cannot ask for the "
				      "passphrase: there is no terminal; give it by "
				      "a file or a descriptor");
	if (ret)
		return passphrase_line_error(err, ret, "the terminal");
	if (differ)
		return error_set(err, -EINVAL, "the two passphrases differ; try again");
	return 0;
}

int passphrase_read(const struct passphrase_options *options,
		    struct passphrase *passphrase, struct error *err)
{
	int ret;

	if (options->source == PASSPHRASE_FILE)
		ret = passphrase_from_file(options->path, passphrase, err);
	else if (options->source == PASSPHRASE_FD)
		ret = passphrase_from_fd(options->fd, passphrase, err);
	else
		ret = passphrase_from_terminal(options, passphrase, err);
	if (ret)
		passphrase_wipe(passphrase);
	return ret;
}

void passphrase_wipe(struct passphrase *passphrase)
{
	if (passphrase)
		crypto_wipe(passphrase, sizeof(*passphrase));
}
