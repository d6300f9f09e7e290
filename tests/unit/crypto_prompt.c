/*
 * The passphrase prompt on a terminal of its own: a pseudo terminal, a session
 * leader that stands for the shell, and the job under test in its foreground.
 */
#include "tests/unit/crypto_test.h"

#include "agent/base/interrupt.h"

#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <termios.h>

#define SECRET "hunter2 unseen"
#define PATIENCE_MS 15000

/* What the job says when passphrase_read has returned. */
struct answer {
	int ret;
	struct error err;
	struct passphrase passphrase;
};

struct console {
	int master;
	int answers;	/* read end: struct answer */
	int statuses;	/* read end: the job's wait statuses, its pid first */
	pid_t leader;
	pid_t job;
	char seen[4096];	/* all that the terminal showed */
	size_t seen_length;
};

struct job_options {
	bool confirm;
	bool handlers;	/* interrupt_install */
	bool ignore_hangup;
	bool one_descriptor;	/* the terminal's, and no other, can be opened */
};

static rlim_t first_free_descriptor(void)
{
	int fd = open("/dev/null", O_RDONLY);

	close(fd);
	return (rlim_t)fd;
}

static void job_run(const struct job_options *options, int answers)
{
	const struct passphrase_options ask = { .source = PASSPHRASE_PROMPT,
						.confirm = options->confirm,
						.what = "recovery key" };
	struct answer answer = { .err = ERROR_INIT };

	alarm(30);
	if (!options->ignore_hangup)
		signal(SIGHUP, SIG_DFL);
	if (options->handlers)
		interrupt_install();
	if (options->one_descriptor)
		setrlimit(RLIMIT_NOFILE, &(struct rlimit){ first_free_descriptor() + 1,
							   1024 });
	memset(&answer.passphrase, 0xaa, sizeof(answer.passphrase));
	answer.ret = passphrase_read(&ask, &answer.passphrase, &answer.err);
	if (write(answers, &answer, sizeof(answer)) != (ssize_t)sizeof(answer))
		exit(9);
	exit(0);
}

/* Reports what becomes of the job, then keeps the terminal until killed. */
static void leader_run(int slave, const struct job_options *options, int answers,
		       int statuses)
{
	pid_t job;
	int status;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setsid();
	ioctl(slave, TIOCSCTTY, 0);
	signal(SIGTTOU, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	job = fork();
	if (job == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		setpgid(0, 0);
		tcsetpgrp(slave, getpid());
		signal(SIGTTOU, SIG_DFL);
		close(slave);
		job_run(options, answers);
	}
	if (write(statuses, &job, sizeof(job)) < 0)
		_exit(1);
	while (waitpid(job, &status, WUNTRACED) == job)
		if (write(statuses, &status, sizeof(status)) < 0)
			_exit(1);
	for (;;)
		pause();
}

/* Reads all of it within the time, or fails the test. */
static void read_in_time(int fd, void *data, size_t length)
{
	size_t done = 0;

	while (done < length) {
		struct pollfd polled = { .fd = fd, .events = POLLIN };
		ssize_t n;

		assert_int_equal(poll(&polled, 1, PATIENCE_MS), 1);
		n = read(fd, (char *)data + done, length - done);
		assert_true(n > 0);
		done += (size_t)n;
	}
}

static struct console running;

static void console_start(const struct job_options *options)
{
	int slave, answers[2], statuses[2];

	memset(&running, 0, sizeof(running));
	assert_int_equal(openpty(&running.master, &slave, NULL, NULL, NULL), 0);
	assert_int_equal(pipe2(answers, O_CLOEXEC), 0);
	assert_int_equal(pipe2(statuses, O_CLOEXEC), 0);
	fflush(NULL);
	running.leader = fork();
	if (running.leader == 0) {
		close(running.master);
		leader_run(slave, options, answers[1], statuses[1]);
	}
	close(slave);
	close(answers[1]);
	close(statuses[1]);
	running.answers = answers[0];
	running.statuses = statuses[0];
	read_in_time(running.statuses, &running.job, sizeof(running.job));
}

static int console_end(void **state)
{
	(void)state;
	if (running.leader <= 0)
		return 0;
	kill(running.leader, SIGKILL);
	waitpid(running.leader, NULL, 0);
	close(running.master);
	close(running.answers);
	close(running.statuses);
	running.leader = 0;
	return 0;
}

/* Waits until the terminal has shown `text` since the last such wait. */
static void console_expect(const char *text)
{
	size_t from = running.seen_length;

	while (!strstr(running.seen + from, text)) {
		assert_true(running.seen_length + 1 < sizeof(running.seen));
		read_in_time(running.master, running.seen + running.seen_length, 1);
		running.seen_length++;
	}
}

static void console_type(const char *text)
{
	assert_int_equal(write(running.master, text, strlen(text)),
			 (ssize_t)strlen(text));
}

static bool console_echoes(void)
{
	struct termios settings;

	/* The master answers for the slave. */
	assert_int_equal(tcgetattr(running.master, &settings), 0);
	return settings.c_lflag & ECHO;
}

static int console_status(void)
{
	int status;

	read_in_time(running.statuses, &status, sizeof(status));
	return status;
}

/* The job ended well; its answer; nothing secret was shown; echo is back. */
static void console_answer(struct answer *answer)
{
	int status;

	read_in_time(running.answers, answer, sizeof(*answer));
	status = console_status();
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_true(console_echoes());
	assert_null(strstr(running.seen, "hunter2"));
	assert_null(strstr(answer->err.message, "hunter2"));
	if (answer->ret)
		assert_true(test_is_zero(&answer->passphrase, sizeof(answer->passphrase)));
}

static void asks_unseen(void **state)
{
	struct answer answer;

	(void)state;
	console_start(&(struct job_options){ 0 });
	console_expect("Passphrase for the recovery key: ");
	assert_false(console_echoes());
	console_type(SECRET "\n");
	console_expect("\n");
	console_answer(&answer);
	assert_int_equal(answer.ret, 0);
	assert_string_equal(answer.passphrase.text, SECRET);
	assert_int_equal(answer.passphrase.length, strlen(SECRET));
}

static void asks_twice(void **state)
{
	static const struct { const char *again; int ret; } cases[] = {
		{ SECRET, 0 }, { SECRET "!", -EINVAL }, { "hunter2 unseeN", -EINVAL },
		{ "", -ENODATA },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct answer answer;

		console_start(&(struct job_options){ .confirm = true });
		console_expect("Passphrase for the recovery key: ");
		console_type(SECRET "\n");
		console_expect("The same again for the recovery key: ");
		assert_false(console_echoes());
		console_type(cases[i].again);
		console_type("\n");
		console_expect("\n");
		console_answer(&answer);
		assert_int_equal(answer.ret, cases[i].ret);
		if (cases[i].ret == -EINVAL)
			assert_non_null(strstr(answer.err.message, "differ"));
		else if (!cases[i].ret)
			assert_string_equal(answer.passphrase.text, SECRET);
		console_end(state);
	}
}

static void refuses_empty_and_long(void **state)
{
	struct answer answer;
	char line[1026];

	console_start(&(struct job_options){ 0 });
	console_expect(": ");
	console_type("\n");
	console_answer(&answer);
	assert_int_equal(answer.ret, -ENODATA);
	console_end(state);

	/* The end of input, too; in the middle of a line it only sends what is there. */
	console_start(&(struct job_options){ 0 });
	console_expect(": ");
	console_type("\x04");
	console_answer(&answer);
	assert_int_equal(answer.ret, -ENODATA);
	console_end(state);

	console_start(&(struct job_options){ 0 });
	console_expect(": ");
	memset(line, 'x', sizeof(line));
	memcpy(line, "hunter2", 7);
	strcpy(line + sizeof(line) - 2, "\n");
	console_type(line);
	console_answer(&answer);
	assert_int_equal(answer.ret, -EMSGSIZE);
}

/* Ctrl-C without a handler: the process dies of it, but the terminal echoes. */
static void dies_of_a_signal_with_echo(void **state)
{
	static const struct { const char *key; int number; } keys[] = {
		{ "hunter2\x03", SIGINT }, { "\x1c", SIGQUIT }, { NULL, SIGTERM },
		{ NULL, SIGHUP }, { "hunter2\x04\x03", SIGINT },
	};

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		int status;

		console_start(&(struct job_options){ 0 });
		console_expect(": ");
		assert_false(console_echoes());
		if (keys[i].key)
			console_type(keys[i].key);
		else
			kill(running.job, keys[i].number);
		status = console_status();
		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), keys[i].number);
		assert_true(console_echoes());
		assert_null(strstr(running.seen, "hunter2"));
		console_end(state);
	}
}

static void handled_interrupt_returns(void **state)
{
	struct answer answer;

	(void)state;
	console_start(&(struct job_options){ .handlers = true });
	console_expect(": ");
	console_type("hunter2\x03");
	console_answer(&answer);
	assert_int_equal(answer.ret, -EINTR);
	assert_int_equal(answer.err.exit, EXIT_INTERRUPTED);
}

/* Ctrl-Z: the shell gets a terminal that echoes; fg asks anew. */
static void stops_and_continues(void **state)
{
	struct answer answer;
	int status;

	(void)state;
	console_start(&(struct job_options){ .confirm = true, .handlers = true });
	console_expect("Passphrase for the recovery key: ");
	console_type("hunter2 half\x1a");
	status = console_status();
	assert_true(WIFSTOPPED(status));
	assert_true(console_echoes());
	kill(running.job, SIGCONT);
	console_expect("Passphrase for the recovery key: ");
	assert_false(console_echoes());
	console_type(SECRET "\n");
	console_expect("again");
	console_expect(": ");
	console_type(SECRET "\n");
	console_answer(&answer);
	assert_int_equal(answer.ret, 0);
	assert_string_equal(answer.passphrase.text, SECRET);
}

static void ignored_signal_asks_again(void **state)
{
	struct answer answer;

	(void)state;
	console_start(&(struct job_options){ .ignore_hangup = true });
	console_expect(": ");
	kill(running.job, SIGHUP);
	console_expect(": ");
	assert_false(console_echoes());
	console_type(SECRET "\n");
	console_answer(&answer);
	assert_int_equal(answer.ret, 0);
	assert_string_equal(answer.passphrase.text, SECRET);
}

/* Half opened: said, and the terminal is as it was. */
static void no_descriptor_left(void **state)
{
	struct answer answer;

	(void)state;
	console_start(&(struct job_options){ .one_descriptor = true });
	console_answer(&answer);
	assert_int_equal(answer.ret, -EMFILE);
	assert_non_null(strstr(answer.err.message, "the terminal"));
}

/* The window closes: no endless loop. */
static void terminal_goes_away(void **state)
{
	struct answer answer;

	(void)state;
	console_start(&(struct job_options){ .ignore_hangup = true });
	console_expect(": ");
	close(running.master);
	running.master = -1;
	read_in_time(running.answers, &answer, sizeof(answer));
	assert_true(answer.ret < 0);
	assert_true(test_is_zero(&answer.passphrase, sizeof(answer.passphrase)));
}

static int without_terminal(void)
{
	const struct passphrase_options ask = { .source = PASSPHRASE_PROMPT };
	struct passphrase passphrase;
	struct error err = ERROR_INIT;

	setsid();
	if (passphrase_read(&ask, &passphrase, &err) != -ENXIO)
		return 2;
	if (err.exit != EXIT_USAGE || !strstr(err.message, "no terminal"))
		return 3;
	return test_is_zero(&passphrase, sizeof(passphrase)) ? 0 : 4;
}

static void no_terminal_is_said(void **state)
{
	int status;
	pid_t child;

	(void)state;
	fflush(NULL);
	child = fork();
	if (child == 0) {
		alarm(20);
		exit(without_terminal());
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(asks_unseen, console_end),
		cmocka_unit_test_teardown(asks_twice, console_end),
		cmocka_unit_test_teardown(refuses_empty_and_long, console_end),
		cmocka_unit_test_teardown(dies_of_a_signal_with_echo, console_end),
		cmocka_unit_test_teardown(handled_interrupt_returns, console_end),
		cmocka_unit_test_teardown(stops_and_continues, console_end),
		cmocka_unit_test_teardown(ignored_signal_asks_again, console_end),
		cmocka_unit_test_teardown(no_descriptor_left, console_end),
		cmocka_unit_test_teardown(terminal_goes_away, console_end),
		cmocka_unit_test(no_terminal_is_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
