/* Programs of others: exit codes, what they say, and what they must not inherit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "agent/base/cleanup.h"
#include "agent/base/command.h"
#include "agent/base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SHELL(script) (const char *const[]){ "/bin/sh", "-c", script, NULL }

static void output_is_read_to_its_end(void **state)
{
	CLEANUP_FREE char *output = NULL;
	struct error err = ERROR_INIT;
	size_t length;

	(void)state;
	assert_int_equal(command_output(SHELL("head -c 50000 /dev/zero | tr '\\0' x; echo said >&2"),
					60000, "", &output, &length, &err), 0);
	assert_int_equal(length, 50000);
	assert_int_equal(strspn(output, "x"), 50000);
	assert_int_equal(output[length], 0);
}

static void too_much_output_ends_it(void **state)
{
	struct error err = ERROR_INIT;
	char *output;
	size_t length;

	(void)state;
	assert_int_equal(command_output(SHELL("yes"), 60000, "", &output, &length, &err), -EFBIG);
	assert_null(output);
	assert_non_null(strstr(err.message, "60000"));
}

static void a_failure_is_told(void **state)
{
	struct error err = ERROR_INIT;
	char *output, words[COMMAND_OUTPUT_ROOM];
	size_t length;

	(void)state;
	assert_int_equal(command_output(SHELL("exit 3"), 100, "", &output, &length, &err), -EIO);
	assert_null(output);
	assert_int_equal(command_ok(SHELL("echo one; echo two >&2; exit 3"), NULL, &err), -EIO);
	assert_non_null(strstr(err.message, "exit code 3: one two"));
	assert_int_equal(command_code(SHELL("echo so; exit 5"), NULL, words, &err), 5);
	assert_string_equal(words, "so\n");
	assert_int_equal(command_code(SHELL("kill -9 $$"), NULL, words, &err), -EINTR);
	assert_int_equal(command_run(SHELL("exit 1"), "think again", &err), -EIO);
	assert_non_null(strstr(err.message, "think again"));
}

static void a_missing_program_is_told(void **state)
{
	static const char *const none[] = { "no-such-program-as-this", NULL };
	struct error err = ERROR_INIT;
	char *output, words[COMMAND_OUTPUT_ROOM];
	size_t length;

	(void)state;
	assert_int_equal(command_run(none, "install it", &err), -ENOENT);
	assert_non_null(strstr(err.message, "install it"));
	assert_int_equal(command_output(none, 10, "install it", &output, &length, &err), -ENOENT);
	assert_int_equal(command_code(none, NULL, words, &err), -ENOENT);
	assert_false(command_there(none[0]));
	assert_true(command_there("sh"));
}

/* More than a pipe takes, both ways: nobody waits for the other. */
static void input_goes_in_whole(void **state)
{
	struct error err = ERROR_INIT;
	char words[COMMAND_OUTPUT_ROOM];
	static char input[300001];

	(void)state;
	memset(input, 'y', sizeof(input) - 1);
	assert_int_equal(command_code(SHELL("cat >&2; echo end"), input, words, &err), 0);
	/* The end of it. */
	assert_int_equal(strlen(words), COMMAND_OUTPUT_ROOM - 1);
	assert_int_equal(strspn(words, "y"), COMMAND_OUTPUT_ROOM - 5);
	assert_string_equal(words + COMMAND_OUTPUT_ROOM - 5, "end\n");
}

/* Any bytes; and who still has it open afterwards reads zeros. */
static void a_secret_goes_in_and_is_wiped(void **state)
{
	static const char key[] = "a\0b\nc";
	struct error err = ERROR_INIT;
	char words[COMMAND_OUTPUT_ROOM];
	int fd = memfd_create("left", MFD_CLOEXEC);
	char left[8] = "", script[128];

	(void)state;
	assert_int_equal(command_code_fed(SHELL("od -An -c"), key, sizeof(key) - 1, words, &err), 0);
	assert_string_equal(words, "   a  \\0   b  \\n   c\n");
	snprintf(script, sizeof(script), "exec 3<&0; (sleep 0.5; head -c 5 <&3 >/proc/%d/fd/%d) & :",
		 (int)getpid(), fd);
	assert_true(fd >= 0);
	assert_int_equal(command_code_fed(SHELL(script), key, sizeof(key) - 1, words, &err), 0);
	for (int i = 0; i < 100 && pread(fd, left, sizeof(left), 0) < 5; i++)
		usleep(50000);
	assert_int_equal(pread(fd, left, sizeof(left), 0), 5);
	assert_memory_equal(left, "\0\0\0\0\0", 5);
	close(fd);
}

static void nothing_of_ours_is_inherited(void **state)
{
	int inherited = open("/dev/null", O_RDONLY);	/* without O_CLOEXEC */
	struct error err = ERROR_INIT;
	char words[COMMAND_OUTPUT_ROOM];
	sigset_t block, before;

	(void)state;
	assert_true(inherited >= 3);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&block);
	sigaddset(&block, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &block, &before);
	assert_int_equal(command_code(SHELL("ls /proc/self/fd | wc -l; sed -n "
					    "'s/^SigBlk:.//p; s/^SigIgn:.*\\(.\\)...$/\\1/p' "
					    "/proc/self/status"), NULL, words, &err), 0);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	signal(SIGPIPE, SIG_DFL);
	close(inherited);
	/* Three, and ls has the folder open; SIGPIPE is bit 12. */
	assert_string_equal(words, "4\n0000000000000000\n0\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(output_is_read_to_its_end),
		cmocka_unit_test(too_much_output_ends_it),
		cmocka_unit_test(a_failure_is_told),
		cmocka_unit_test(a_missing_program_is_told),
		cmocka_unit_test(input_goes_in_whole),
		cmocka_unit_test(a_secret_goes_in_and_is_wiped),
		cmocka_unit_test(nothing_of_ours_is_inherited),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
