/* How far long work has come: for a terminal, a log, or a program. */
#include "agent/cli/cli.h"

#include "agent/base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define TERMINAL_PERIOD_NS 200000000ull
#define PLAIN_PERIOD_NS 10000000000ull
#define JSON_PERIOD_NS 1000000000ull

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void progress_start(struct progress *progress, bool json, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(progress->what, sizeof(progress->what), format, args);
	va_end(args);
	progress->json = json;
	progress->terminal = !json && log_is_text() && isatty(STDERR_FILENO);
	progress->started_ns = progress->printed_ns = now_ns();
}

static void print_json(const struct progress *progress, uint64_t done, uint64_t total,
		       uint64_t elapsed)
{
	struct error ignored = ERROR_INIT;
	double seconds = (double)elapsed / 1e9;

	cli_print_json(json_pack("{s:s, s:s, s:I, s:I, s:f, s:f, s:o}", "message_type", "status",
				 "what", progress->what, "done_bytes", (json_int_t)done,
				 "total_bytes", (json_int_t)total, "fraction",
				 total ? (double)done / (double)total : 1.0,
				 "seconds_elapsed", seconds, "seconds_remaining",
				 done ? json_real(seconds / (double)done * (double)(total - done)) :
					json_null()), true, &ignored);
}

/* Among lines that are no text it has to be one of them. */
static void print_line(const struct progress *progress, const char *text)
{
	if (log_is_text())
		fprintf(stderr, "%s%s%s", progress->terminal ? "\r" : "", text,
			progress->terminal ? "\033[K" : "\n");
	else
		log_note("%s", text);
}

/* Whether it is time to say something again. */
static bool progress_due(struct progress *progress, uint64_t now)
{
	uint64_t period = progress->json ? JSON_PERIOD_NS :
			  progress->terminal ? TERMINAL_PERIOD_NS : PLAIN_PERIOD_NS;

	if (now - progress->printed_ns < period)
		return false;
	progress->printed_ns = now;
	return true;
}

void progress_plan(struct progress *progress, uint64_t total, const struct estimate *estimate)
{
	struct error ignored = ERROR_INIT;

	if (!progress->json) {
		log_note("%s: fetching %s", progress->what, text_estimate(estimate));
		return;
	}
	cli_print_json(json_pack("{s:s, s:s, s:I, s:I, s:f, s:f, s:n, s:I, s:I, s:o}",
				 "message_type", "status", "what", progress->what,
				 "done_bytes", (json_int_t)0, "total_bytes", (json_int_t)total,
				 "fraction", 0.0, "seconds_elapsed",
				 (double)(now_ns() - progress->started_ns) / 1e9,
				 "seconds_remaining",
				 "fetch_bytes", (json_int_t)estimate->fetched_bytes,
				 "requests", (json_int_t)estimate->requests,
				 "price", estimate_price_json(estimate)), true, &ignored);
}

void progress_report(struct progress *progress, uint64_t done, uint64_t total)
{
	uint64_t now = now_ns(), elapsed = now - progress->started_ns, rate, left;
	char text[384];

	if (!progress_due(progress, now))
		return;
	if (progress->json) {
		print_json(progress, done, total, elapsed);
		return;
	}
	rate = elapsed ? (uint64_t)((double)done * 1e9 / (double)elapsed) : 0;
	left = rate ? (total - done) / rate : 0;
	snprintf(text, sizeof(text), "%s: %.1f %%, %s of %s, %s/s, %s left", progress->what,
		 total ? 100.0 * (double)done / (double)total : 100.0, text_bytes(done),
		 text_bytes(total), text_bytes(rate), text_duration(left * 1000000000u));
	print_line(progress, text);
}

void progress_points(struct progress *progress, uint64_t done, uint64_t total)
{
	uint64_t now = now_ns(), elapsed = now - progress->started_ns;
	struct error ignored = ERROR_INIT;
	char text[256];

	if (!progress_due(progress, now))
		return;
	if (progress->json) {
		cli_print_json(json_pack("{s:s, s:s, s:I, s:I, s:f}", "message_type", "status",
			"what", progress->what, "done_points", (json_int_t)done, "total_points",
			(json_int_t)total, "seconds_elapsed", (double)elapsed / 1e9), true,
			&ignored);
		return;
	}
	snprintf(text, sizeof(text), "%s: %llu of %llu points", progress->what,
		 (unsigned long long)done, (unsigned long long)total);
	print_line(progress, text);
}

void progress_end(struct progress *progress)
{
	if (progress->terminal && progress->printed_ns != progress->started_ns)
		fprintf(stderr, "\r\033[K");
}
