/* Process hardening, in a child: it cannot be undone as to its limit. */
#include "tests/unit/crypto_test.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static int harden_child(void)
{
	struct error err = ERROR_INIT;
	struct rlimit limit = { 1, 1 };

	if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 1)
		return 2;
	if (crypto_harden_process(&err) || err.code)
		return 3;
	if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
		return 4;
	if (getrlimit(RLIMIT_CORE, &limit) || limit.rlim_cur || limit.rlim_max)
		return 5;
	/* Again is harmless. A leak check on exit needs ptrace. */
	if (crypto_harden_process(&err))
		return 6;
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	return 0;
}

static void process_is_hardened(void **state)
{
	int status;
	pid_t child;

	(void)state;
	fflush(NULL);
	child = fork();
	if (child == 0)
		exit(harden_child());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(process_is_hardened),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
