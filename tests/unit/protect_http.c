/*
 * The page that daemon and server process share: while one process writes texts as fast
 * as it can, the other never copies one that is torn or older than one it had.
 */
#include "agent/protect/http_answer.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define COPIES 5000
#define DIFFERENT 100	/* that the writer came to run meanwhile */
#define LIMIT_NS (60 * INT64_C(1000000000))
#define LONGEST 20000

static struct http_page *page_make(void)
{
	void *page = mmap(NULL, sizeof(struct http_page), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_true(page != MAP_FAILED);
	return page;
}

/* Number n: n as a word, over and over, of a length that n gives. */
static size_t length_of(uint64_t n)
{
	return (size_t)(1 + n * 7919 % LONGEST) * sizeof(n);
}

__attribute__((noreturn)) static void write_on(struct http_page *page)
{
	static uint64_t text[LONGEST];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (uint64_t n = 1;; n++) {
		for (size_t i = 0; i < length_of(n) / sizeof(n); i++)
			text[i] = n;
		http_page_put(page, (const char *)text, length_of(n));
	}
}

static void never_torn(void **context)
{
	struct http_page *page = page_make();
	uint64_t last = 0, n, other, different = 0;
	size_t length, copies = 0;
	int64_t until = http_clock_ns() + LIMIT_NS;
	pid_t writer = fork();
	char *text;

	(void)context;
	assert_true(writer >= 0);
	if (!writer)
		write_on(page);
	while ((copies < COPIES || different < DIFFERENT) && http_clock_ns() < until) {
		text = http_page_text(page, &length);
		if (!text)
			continue;
		memcpy(&n, text, sizeof(n));
		assert_true(n >= last && length == length_of(n));
		for (size_t at = 0; at < length; at += sizeof(n)) {
			memcpy(&other, text + at, sizeof(n));
			assert_true(other == n);
		}
		different += n != last;
		last = n;
		copies++;
		free(text);
	}
	kill(writer, SIGKILL);
	waitpid(writer, NULL, 0);
	assert_true(copies >= COPIES && different >= DIFFERENT);
	munmap(page, sizeof(*page));
}

static void bounds(void **context)
{
	struct http_page *page = page_make();
	static char text[HTTP_TEXT_MAX + 1];
	size_t length;
	char *copy;

	(void)context;
	assert_null(http_page_text(page, &length));
	assert_int_equal(0, http_page_put(page, "", 0));
	copy = http_page_text(page, &length);
	assert_true(copy && !length);
	free(copy);
	memset(text, 'x', sizeof(text));
	assert_int_equal(0, http_page_put(page, text, HTTP_TEXT_MAX));
	assert_int_equal(-EFBIG, http_page_put(page, text, HTTP_TEXT_MAX + 1));
	copy = http_page_text(page, &length);
	assert_true(copy && length == HTTP_TEXT_MAX);
	free(copy);
	munmap(page, sizeof(*page));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(never_torn),
		cmocka_unit_test(bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
