/* Signals and the log, each in a process of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "agent/base/error.h"
#include "agent/base/interrupt.h"
#include "agent/base/log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/*
 * Runs `work` in a child; returns its wait status and what it wrote to stderr.
 * The child leaves through exit(), so that its coverage counts.
 */
static int run(void (*work)(int number), int number, char *said, size_t room)
{
	int ends[2], status = -1;
	size_t used = 0;
	ssize_t n;
	pid_t pid;

	fflush(stdout);
	assert_int_equal(pipe(ends), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		alarm(20);
		dup2(ends[1], 2);
		close(ends[0]);
		close(ends[1]);
		work(number);
		exit(99);
	}
	close(ends[1]);
	while ((n = read(ends[0], said + used, room - used - 1)) > 0)
		used += (size_t)n;
	said[used] = '\0';
	close(ends[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void work_first(int number)
{
	struct error err = ERROR_INIT;

	interrupt_install();
	if (interrupt_requested() || interrupt_check(&err) || err.code)
		exit(1);
	raise(number);
	if (!interrupt_requested() || interrupt_check(&err) != -EINTR)
		exit(2);
	if (err.exit != EXIT_INTERRUPTED || err.code != -EINTR || !err.message[0])
		exit(3);
	exit(0);
}

static void work_second(int number)
{
	interrupt_install();
	raise(SIGINT);
	raise(number);
}

static void work_blocked(int number)
{
	char byte;
	int ends[2];

	interrupt_install();
	if (pipe(ends) < 0)
		exit(1);
	signal(SIGALRM, SIG_DFL);
	if (fork() == 0) {
		usleep(50000);
		kill(getppid(), number);
		exit(0);
	}
	/* Without an end to it: only the signal lets this return. */
	if (read(ends[0], &byte, 1) != -1 || errno != EINTR)
		exit(2);
	exit(interrupt_requested() ? 0 : 3);
}

static void work_nohup(int number)
{
	signal(SIGHUP, SIG_IGN);
	interrupt_install();
	raise(number);
	exit(interrupt_requested() ? 1 : 0);
}

static void work_pipe(int number)
{
	int ends[2];

	(void)number;
	interrupt_install();
	if (pipe(ends) < 0 || close(ends[0]) < 0)
		exit(1);
	exit(write(ends[1], "x", 1) < 0 && errno == EPIPE ? 0 : 2);
}

static void test_signals(void **state)
{
	static const int numbers[] = { SIGINT, SIGTERM, SIGHUP };
	char said[256];

	(void)state;
	for (int i = 0; i < 3; i++) {
		int status = run(work_first, numbers[i], said, sizeof(said));

		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
		status = run(work_second, numbers[i], said, sizeof(said));
		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), numbers[i]);
	}
	assert_int_equal(run(work_blocked, SIGTERM, said, sizeof(said)), 0);
	assert_int_equal(run(work_nohup, SIGHUP, said, sizeof(said)), 0);
	assert_int_equal(run(work_pipe, 0, said, sizeof(said)), 0);
}

static void work_deadline(int number)
{
	struct error err = ERROR_INIT;
	struct timespec now;
	uint64_t ns;

	(void)number;
	interrupt_install();
	clock_gettime(CLOCK_MONOTONIC, &now);
	ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	interrupt_deadline(ns + UINT64_C(3600000000000));
	if (interrupt_requested() || interrupt_check(&err) || err.code)
		exit(1);
	interrupt_deadline(ns + 20000000);
	usleep(30000);
	if (!interrupt_requested() || interrupt_check(&err) != -EINTR)
		exit(2);
	if (err.exit != EXIT_INTERRUPTED || strcmp(err.message, "its time was over"))
		exit(3);
	/* The next piece of work has a time of its own; a signal ends that one as well. */
	interrupt_deadline(0);
	if (interrupt_requested())
		exit(4);
	raise(SIGTERM);
	if (!interrupt_requested())
		exit(5);
	exit(0);
}

static void test_deadline(void **state)
{
	char said[256];

	(void)state;
	assert_int_equal(run(work_deadline, 0, said, sizeof(said)), 0);
}

static void work_log(int level)
{
	if (level >= 0)
		log_set_level((enum log_level)level);
	log_warning("w%d", 1);
	log_note("n%s", "2");
	log_detail("d");
	exit(0);
}

static void test_log(void **state)
{
	char said[256];

	(void)state;
	assert_int_equal(run(work_log, -1, said, sizeof(said)), 0);
	assert_string_equal(said, "clawback: warning: w1\nclawback: n2\n");
	assert_int_equal(run(work_log, LOG_ERRORS, said, sizeof(said)), 0);
	assert_string_equal(said, "");
	assert_int_equal(run(work_log, LOG_WARNINGS, said, sizeof(said)), 0);
	assert_string_equal(said, "clawback: warning: w1\n");
	assert_int_equal(run(work_log, LOG_DETAILS, said, sizeof(said)), 0);
	assert_string_equal(said, "clawback: warning: w1\nclawback: n2\nclawback: d\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_signals),
		cmocka_unit_test(test_deadline),
		cmocka_unit_test(test_log),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
