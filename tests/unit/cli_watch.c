/*
 * What `status --watch` shows: sparklines beside a naive model, pages of any rows on
 * screens of any size, of which no line is too long, none too many, and no byte steers
 * the terminal.
 */
#include "agent/cli/watch_view.h"
#include "tests/unit/random.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t characters(const char *text)
{
	size_t count = 0;

	for (; *text && *text != '\n'; text++)
		count += (*text & 0xc0) != 0x80;
	return count;
}

static void sparklines(void **context)
{
	static const double values[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8 };
	struct watch_history history = { .count = 0 };
	char text[WATCH_SPARKLINE_ROOM(12)];

	(void)context;
	watch_sparkline(&history, 3, true, text);
	assert_string_equal("   ", text);
	for (size_t i = 0; i < 9; i++)
		watch_history_add(&history, values[i]);
	watch_sparkline(&history, 12, true, text);
	assert_string_equal("    ▂▃▄▅▆▇██", text);
	watch_sparkline(&history, 9, false, text);
	assert_string_equal(" :-=+*%##", text);
	watch_sparkline(&history, 2, false, text);
	assert_string_equal("##", text);
	watch_history_add(&history, 0.001);
	watch_sparkline(&history, 3, true, text);
	assert_string_equal("██▁", text);
}

/* One character a number: of those that are in the window, how many steps of eight. */
static void sparklines_as_the_model(void **context)
{
	static const char levels[] = " .:-=+*%#";
	struct random_state random = random_start("sparklines_as_the_model");

	(void)context;
	for (int life = 0; life < 200; life++) {
		struct watch_history history = { .count = 0 };
		static double all[1000];
		size_t count = (size_t)random_below(&random, 1000);
		size_t width = 1 + (size_t)random_below(&random, 60);
		char text[WATCH_SPARKLINE_ROOM(60)], wanted[64];
		double most = 0;

		for (size_t i = 0; i < count; i++) {
			all[i] = (double)random_below(&random, 1 + random_below(&random, 1000000));
			watch_history_add(&history, all[i]);
		}
		for (size_t i = count > width ? count - width : 0; i < count; i++)
			most = all[i] > most ? all[i] : most;
		for (size_t i = 0; i < width; i++) {
			double value = i + count < width ? 0 : all[i + count - width];
			size_t level = 0;

			while (value > 0 && level < 8 && (level == 0 ||
							  value / most * 8 >= (double)level))
				level++;
			wanted[i] = levels[level];
		}
		wanted[width] = '\0';
		watch_sparkline(&history, width, false, text);
		assert_string_equal(wanted, text);
		watch_sparkline(&history, width, true, text);
		assert_int_equal(width, characters(text));
	}
}

static struct watch_row sample(void)
{
	struct watch_row row = {
		.name = "pgdata", .tracked = true, .attached = true, .reason = "", .point = 12,
		.point_age_ns = 3200000000u, .objective_ns = 10000000000u, .rpo_ns = 400000000u,
		.due_in_ns = 6000000000u, .dirty_bytes = 1258291, .error = "",
		.behind = "",
	};

	watch_history_add(&row.rates, 1 << 20);
	return row;
}

static void one_row(void **context)
{
	struct watch_row row = sample();
	struct watch_frame frame = { .time_ns = 1764220503000000000u, .seconds = 2, .loaded = true,
				     .alive = true, .problem = "", .rows = &row, .count = 1 };
	struct watch_look wide = { .columns = 130, .unicode = true }, small = { .columns = 80 };
	char *text = watch_text(&frame, &wide);

	(void)context;
	assert_non_null(strstr(text, "clawback 2025-11-27 05:15:03Z, every 2 s; the daemon runs; 0 missed"));
	assert_non_null(strstr(text, "pgdata tracked   400.0 ms / 10.0 s          1.2 MiB    1.0 MiB "));
	assert_non_null(strstr(text, "█ 12, 3.2 s ago        due in 6.0 s"));
	assert_null(strchr(text, '!'));
	free(text);
	row.tracked = false;
	row.missed = true;
	row.reason = "the ledger is short";
	row.error = "no route to host";
	row.behind = "store far lacks 3 points";
	row.rpo_ns = UINT64_MAX;
	text = watch_text(&frame, &small);
	assert_non_null(strstr(text, "pgdata untrusted no bound / 10.0 s       MISSED\n"));
	assert_non_null(strstr(text, "     1.2 MiB dirty,    1.0 MiB/s "));
	assert_non_null(strstr(text, "# point 12, 3.2 s ago\n"));
	assert_non_null(strstr(text, "  ! the ledger is short\n"));
	assert_non_null(strstr(text, "\n  store far lacks 3 points\n"));
	assert_non_null(strstr(text, "  ! last failure: no route to host"));
	free(text);
	small.colour = true;
	text = watch_text(&frame, &small);
	assert_non_null(strstr(text, "\033[31mpgdata untrusted"));
	free(text);
	small = (struct watch_look){ .columns = 80, .lines = 6 };
	text = watch_text(&frame, &small);
	assert_null(strstr(text, "no route"));
	assert_non_null(strstr(text, "\nmore than fits"));
	free(text);
	small.lines = 7;
	text = watch_text(&frame, &small);
	assert_non_null(strstr(text, "no route"));
	assert_null(strstr(text, "more than fits"));
	free(text);
}

static void random_text(struct random_state *random, char *to, size_t room)
{
	size_t length = (size_t)random_below(random, room);

	for (size_t i = 0; i < length; i++)
		to[i] = (char)(1 + random_below(random, 255));
	to[length] = '\0';
}

static void check_page(const char *text, const struct watch_look *look)
{
	size_t lines = 1;

	for (const char *at = text; *at; at++)
		assert_true((unsigned char)*at >= ' ' || *at == '\n');
	for (const char *at = text;; lines++) {
		assert_true(characters(at) <= look->columns);
		at = strchr(at, '\n');
		if (!at)
			break;
		at++;
	}
	assert_true(!look->lines || lines <= look->lines);
}

static void any_size(void **context)
{
	struct random_state random = random_start("any_size");
	static char texts[20][2][256];
	static struct watch_row rows[20];

	(void)context;
	for (int i = 0; i < 500; i++) {
		struct watch_look look = { .columns = 1 + (size_t)random_below(&random, 250),
					   .lines = (size_t)random_below(&random, 40),
					   .unicode = random_below(&random, 2) };
		struct watch_frame frame = { .time_ns = 1, .seconds = 0.5, .rows = rows,
					     .count = (size_t)random_below(&random, 20),
					     .problem = random_below(&random, 2) ? "" : "a\x1b[2Jb" };
		char *text;

		for (size_t r = 0; r < frame.count; r++) {
			rows[r] = sample();
			random_text(&random, texts[r][0], sizeof(texts[r][0]));
			random_text(&random, texts[r][1], sizeof(texts[r][1]));
			rows[r].reason = texts[r][0];
			rows[r].error = texts[r][1];
			rows[r].tracked = random_below(&random, 2);
			rows[r].attached = random_below(&random, 2);
			rows[r].point = random_below(&random, 2) ? 0 : random_below(&random, UINT64_MAX);
			rows[r].rpo_ns = random_below(&random, 2) ? UINT64_MAX : random_below(&random, UINT64_MAX);
			rows[r].dirty_bytes = random_below(&random, UINT64_MAX);
		}
		text = watch_text(&frame, &look);
		assert_non_null(text);
		check_page(text, &look);
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sparklines),
		cmocka_unit_test(sparklines_as_the_model),
		cmocka_unit_test(one_row),
		cmocka_unit_test(any_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
