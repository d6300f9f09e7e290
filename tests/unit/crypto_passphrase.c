/* Passphrases from files and descriptors; crypto_prompt.c tests the terminal. */
#include "tests/unit/crypto_test.h"

#include "agent/base/interrupt.h"

#include <signal.h>

#define SECRET "hunter2 is no passphrase"

static int read_file(const char *path, struct passphrase *passphrase, struct error *err)
{
	const struct passphrase_options options = { .source = PASSPHRASE_FILE,
						    .path = path };

	memset(passphrase, 0xaa, sizeof(*passphrase));
	return passphrase_read(&options, passphrase, err);
}

static int read_fd(int fd, struct passphrase *passphrase, struct error *err)
{
	const struct passphrase_options options = { .source = PASSPHRASE_FD, .fd = fd };

	memset(passphrase, 0xaa, sizeof(*passphrase));
	return passphrase_read(&options, passphrase, err);
}

/* Refused for the right reason, which names the file, not the secret. */
static void refused(int ret, int code, const struct passphrase *passphrase,
		    const struct error *err, const char *words)
{
	assert_int_equal(ret, code);
	assert_int_equal(err->code, code);
	if (!strstr(err->message, words))
		fail_msg("\"%s\" does not say \"%s\"", err->message, words);
	assert_null(strstr(err->message, "hunter2"));
	assert_true(test_is_zero(passphrase, sizeof(*passphrase)));
}

static void lines_of_a_file(void **state)
{
	static const struct { const char *content, *expected; } good[] = {
		{ SECRET "\n", SECRET }, { SECRET, SECRET }, { SECRET "\r\n", SECRET },
		{ SECRET "\nsecond line\n", SECRET }, { " x \n", " x " },
		{ "a\rb\n", "a\rb" }, { "x\r", "x\r" }, { "\xc3\xa9\n", "\xc3\xa9" },
	};
	const char *path = test_path("pass");
	struct passphrase passphrase;
	struct error err = ERROR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		test_write(path, good[i].content, strlen(good[i].content), 0600);
		assert_int_equal(read_file(path, &passphrase, &err), 0);
		assert_string_equal(passphrase.text, good[i].expected);
		assert_int_equal(passphrase.length, strlen(good[i].expected));
	}
	passphrase_wipe(&passphrase);
	assert_true(test_is_zero(&passphrase, sizeof(passphrase)));
	passphrase_wipe(NULL);
}

static void refused_contents(void **state)
{
	const char *path = test_path("pass");
	struct passphrase passphrase;
	struct error err = ERROR_INIT;
	char text[1100];

	(void)state;
	test_write(path, "", 0, 0600);
	refused(read_file(path, &passphrase, &err), -ENODATA, &passphrase, &err, "empty");
	test_write(path, "\nhunter2\n", 9, 0600);
	refused(read_file(path, &passphrase, &err), -ENODATA, &passphrase, &err, "empty");
	test_write(path, "\r\n", 2, 0600);
	refused(read_file(path, &passphrase, &err), -ENODATA, &passphrase, &err, "empty");
	test_write(path, "hunter2\0x\n", 10, 0600);
	refused(read_file(path, &passphrase, &err), -EILSEQ, &passphrase, &err, "NUL");

	memset(text, 'x', sizeof(text));
	memcpy(text, "hunter2", 7);
	text[1023] = '\n';
	test_write(path, text, 1024, 0600);
	assert_int_equal(read_file(path, &passphrase, &err), 0);
	assert_int_equal(passphrase.length, 1023);
	text[1023] = 'x';
	text[1024] = '\n';
	test_write(path, text, 1025, 0600);
	refused(read_file(path, &passphrase, &err), -EMSGSIZE, &passphrase, &err, "longer");
	refused(read_file(path, &passphrase, &err), -EMSGSIZE, &passphrase, &err, path);
}

static void refused_files(void **state)
{
	static const mode_t modes[] = { 0640, 0620, 0610, 0604, 0602, 0601, 0777 };
	const char *path = test_path("pass"), *fifo = test_path("fifo");
	struct passphrase passphrase;
	struct error err = ERROR_INIT;

	(void)state;
	test_write(path, SECRET "\n", strlen(SECRET) + 1, 0600);
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		assert_int_equal(chmod(path, modes[i]), 0);
		refused(read_file(path, &passphrase, &err), -EPERM, &passphrase, &err,
			"chmod 600");
	}
	assert_int_equal(chmod(path, 0400), 0);
	assert_int_equal(read_file(path, &passphrase, &err), 0);
	refused(read_file(test_folder, &passphrase, &err), -EINVAL, &passphrase, &err,
		"not a regular file");
	assert_int_equal(mkfifo(fifo, 0600), 0);
	refused(read_file(fifo, &passphrase, &err), -EINVAL, &passphrase, &err,
		"descriptor");
	refused(read_file(test_path("none"), &passphrase, &err), -ENOENT, &passphrase,
		&err, "No such file");
	refused(read_file("/dev/zero", &passphrase, &err), -EINVAL, &passphrase, &err,
		"not a regular file");
}

/* Random bytes against what "one line" means. */
static void random_lines(void **state)
{
	static const char alphabet[] = "ab \r\n\0\xff";
	const char *path = test_path("random");

	(void)state;
	test_seed();
	for (int round = 0; round < 400; round++) {
		char data[40], *end;
		size_t length = test_random() % sizeof(data), line;
		struct passphrase passphrase;
		struct error err = ERROR_INIT;
		int expected = 0;

		for (size_t i = 0; i < length; i++)
			data[i] = test_random() % 3 ? 'a' : alphabet[test_random() % 7];
		end = memchr(data, '\n', length);
		line = end ? (size_t)(end - data) : length;
		if (memchr(data, 0, line))
			expected = -EILSEQ;
		else if (end && line && data[line - 1] == '\r')
			line--;
		if (!line)
			expected = -ENODATA;
		unlink(path);
		test_write(path, data, length, 0600);
		assert_int_equal(read_file(path, &passphrase, &err), expected);
		if (!expected) {
			assert_int_equal(passphrase.length, line);
			assert_memory_equal(passphrase.text, data, line);
			assert_int_equal(passphrase.text[line], 0);
		}
	}
}

static void descriptor_keeps_the_rest(void **state)
{
	struct passphrase passphrase;
	struct error err = ERROR_INIT;
	int ends[2];

	(void)state;
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(write(ends[1], "one\ntwo\n", 8), 8);
	assert_int_equal(read_fd(ends[0], &passphrase, &err), 0);
	assert_string_equal(passphrase.text, "one");
	assert_int_equal(read_fd(ends[0], &passphrase, &err), 0);
	assert_string_equal(passphrase.text, "two");
	close(ends[1]);
	refused(read_fd(ends[0], &passphrase, &err), -ENODATA, &passphrase, &err, "empty");
	close(ends[0]);
	refused(read_fd(ends[0], &passphrase, &err), -EBADF, &passphrase, &err,
		"descriptor");
}

/* Writes half a line, runs `between` on the parent, then the rest. */
static pid_t slow_writer(int fd, int number)
{
	pid_t parent = getpid(), child;

	fflush(NULL);
	child = fork();
	if (child)
		return child;
	usleep(50000);
	if (write(fd, "hunter2", 7) != 7)
		_exit(1);
	usleep(50000);
	kill(parent, number);
	usleep(50000);
	if (write(fd, " slowly\n", 8) != 8)
		_exit(1);
	_exit(0);
}

static void nothing(int number)
{
	(void)number;
}

/* Neither O_NONBLOCK nor a signal loses the half that was read. */
static void descriptor_that_waits(void **state)
{
	const struct sigaction action = { .sa_handler = nothing };
	struct passphrase passphrase;
	struct error err = ERROR_INIT;
	int ends[2], status;
	pid_t child;

	(void)state;
	assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
	for (int nonblocking = 0; nonblocking < 2; nonblocking++) {
		assert_int_equal(pipe2(ends, nonblocking ? O_NONBLOCK : 0), 0);
		child = slow_writer(ends[1], SIGUSR1);
		assert_int_equal(read_fd(ends[0], &passphrase, &err), 0);
		assert_string_equal(passphrase.text, "hunter2 slowly");
		close(ends[0]);
		close(ends[1]);
		assert_int_equal(waitpid(child, &status, 0), child);
	}
}

/* In a child: interrupt_install and its flag are the process's. */
static int interrupted_child(void)
{
	struct passphrase passphrase;
	struct error err = ERROR_INIT;
	int ends[2], status;
	pid_t child;

	interrupt_install();
	if (pipe(ends) < 0)
		return 2;
	child = slow_writer(ends[1], SIGINT);
	if (read_fd(ends[0], &passphrase, &err) != -EINTR)
		return 3;
	if (waitpid(child, &status, 0) != child)
		return 4;
	if (!test_is_zero(&passphrase, sizeof(passphrase)) ||
	    strstr(err.message, "hunter2"))
		return 5;
	return err.exit == EXIT_INTERRUPTED ? 0 : 6;
}

static void interrupt_ends_the_wait(void **state)
{
	pid_t child;
	int status;

	(void)state;
	fflush(NULL);
	child = fork();
	if (child == 0) {
		alarm(20);
		exit(interrupted_child());
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_of_a_file),
		cmocka_unit_test(refused_contents),
		cmocka_unit_test(refused_files),
		cmocka_unit_test(random_lines),
		cmocka_unit_test(descriptor_keeps_the_rest),
		cmocka_unit_test(descriptor_that_waits),
		cmocka_unit_test(interrupt_ends_the_wait),
	};

	return cmocka_run_group_tests(tests, test_folder_make, test_folder_remove);
}
