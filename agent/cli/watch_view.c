#include "agent/cli/watch_view.h"

#include "agent/cli/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MIN 6
#define NAME_MAX_SHOWN 24
#define SPARK_MIN 8
#define SPARK_MAX 60
/* All columns of a row but name and sparkline, with the blanks between; and of the second
 * line that it has where that does not fit. */
#define FIXED_COLUMNS 95
#define SECOND_COLUMNS 59
#define LEVELS 8

/* ---- numbers over time -------------------------------------------------------------- */

void watch_history_add(struct watch_history *history, double value)
{
	history->values[history->next] = value;
	history->next = (history->next + 1) % WATCH_SAMPLES;
	if (history->count < WATCH_SAMPLES)
		history->count++;
}

double watch_history_at(const struct watch_history *history, size_t back)
{
	return history->values[(history->next + WATCH_SAMPLES - 1 - back) % WATCH_SAMPLES];
}

void watch_sparkline(const struct watch_history *history, size_t width, bool unicode, char *text)
{
	static const char *const blocks[] = { "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" };
	static const char *const plain[] = { ".", ":", "-", "=", "+", "*", "%", "#" };
	const char *const *levels = unicode ? blocks : plain;
	size_t known = history->count < width ? history->count : width;
	double most = 0;

	for (size_t i = 0; i < known; i++)
		if (watch_history_at(history, i) > most)
			most = watch_history_at(history, i);
	for (size_t back = width; back-- > 0;) {
		double value = back < known ? watch_history_at(history, back) : 0;
		int level = most > 0 ? (int)(value / most * LEVELS) : 0;

		if (value > 0)
			text = stpcpy(text, levels[level < LEVELS ? level : LEVELS - 1]);
		else
			text = stpcpy(text, " ");
	}
	*text = '\0';
}

/* ---- lines ---------------------------------------------------------------------------- */

enum style { PLAIN, HEAD, ALARM };

struct page {
	FILE *file;
	const struct watch_look *look;
	size_t lines, room;		/* room 0: any number */
	bool full;			/* there would have been more */
};

/* Cuts behind `columns` characters, with a mark. */
static void put_cut(FILE *file, const char *text, size_t columns)
{
	size_t column = 0, bytes = 0, whole = 0;

	for (; text[bytes]; bytes++) {
		if ((text[bytes] & 0xc0) == 0x80)
			continue;
		if (column + 1 == columns)
			whole = bytes;
		if (column == columns) {
			fprintf(file, "%.*s>", (int)whole, text);
			return;
		}
		column++;
	}
	fputs(text, file);
}

__attribute__((format(printf, 3, 4)))
static void put_line(struct page *page, enum style style, const char *format, ...)
{
	static const char *const styles[] = { "", "\033[1m", "\033[31m" };
	char text[1536];
	va_list args;

	if (page->room && page->lines == page->room) {
		page->full = true;
		return;
	}
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	/* What an error repeats must not steer the terminal. */
	for (char *at = text; *at; at++)
		if ((unsigned char)*at < ' ' || *at == 0x7f)
			*at = ' ';
	if (page->lines++)
		fputc('\n', page->file);
	if (page->look->colour)
		fputs(styles[style], page->file);
	put_cut(page->file, text, page->look->columns);
	if (page->look->colour && style != PLAIN)
		fputs("\033[0m", page->file);
}

static void put_top(struct page *page, const struct watch_frame *frame)
{
	char tracker[64] = "tracker not loaded";

	if (frame->loaded)
		snprintf(tracker, sizeof(tracker), "%" PRIu64 " missed runs of the tracker",
			 frame->misses);
	put_line(page, HEAD, "clawback %s, every %g s; the daemon %s; %s", text_time(frame->time_ns),
		 frame->seconds, frame->alive ? "runs" : "does not run", tracker);
	if (*frame->problem)
		put_line(page, ALARM, "! %s", frame->problem);
}

static size_t name_width(const struct watch_frame *frame)
{
	size_t width = NAME_MIN;

	for (size_t i = 0; i < frame->count; i++)
		if (strlen(frame->rows[i].name) > width)
			width = strlen(frame->rows[i].name);
	return width < NAME_MAX_SHOWN ? width : NAME_MAX_SHOWN;
}

static bool narrow(const struct watch_look *look, size_t name)
{
	return look->columns < FIXED_COLUMNS + name + SPARK_MIN;
}

/* Of what is left beside the rest. */
static size_t spark_width(const struct watch_look *look, size_t name)
{
	size_t used = narrow(look, name) ? SECOND_COLUMNS : FIXED_COLUMNS + name;

	return look->columns < used + SPARK_MIN ? SPARK_MIN :
	       look->columns - used > SPARK_MAX ? SPARK_MAX : look->columns - used;
}

static const char *rpo_text(const struct watch_row *row, char text[static 48])
{
	if (row->objective_ns)
		snprintf(text, 48, "%s / %s", row->rpo_ns == UINT64_MAX ? "no bound" :
			 text_duration(row->rpo_ns), text_duration(row->objective_ns));
	else
		snprintf(text, 48, "%s", row->rpo_ns == UINT64_MAX ? "no bound" :
			 text_duration(row->rpo_ns));
	return text;
}

static const char *state_text(const struct watch_row *row, char text[static 48])
{
	if (row->running)
		return "running";
	if (row->missed)
		return "MISSED";
	if (!row->due_in_ns)
		return "";
	snprintf(text, 48, "due in %s", text_duration(row->due_in_ns));
	return text;
}

static void put_row(struct page *page, const struct watch_row *row, size_t name, size_t spark)
{
	char rpo[48], state[48], point[48] = "none", rate[48] = "-",
	     line[WATCH_SPARKLINE_ROOM(SPARK_MAX)];
	enum style style = row->missed || !row->tracked ? ALARM : PLAIN;
	const char *trust = row->tracked ? "tracked" : "untrusted";
	const char *dirty = row->attached ? text_bytes(row->dirty_bytes) : "-";

	if (row->point)
		snprintf(point, sizeof(point), "%" PRIu64 ", %s ago", row->point,
			 text_duration(row->point_age_ns));
	if (row->attached && row->rates.count)
		snprintf(rate, sizeof(rate), "%s",
			 text_bytes((uint64_t)watch_history_at(&row->rates, 0)));
	watch_sparkline(&row->rates, spark, page->look->unicode, line);
	if (narrow(page->look, name)) {
		put_line(page, style, "%-*.*s %-9s %-23s %s", (int)name, (int)name, row->name, trust,
			 rpo_text(row, rpo), state_text(row, state));
		put_line(page, style, "  %10s dirty, %10s/s %s point %s", dirty, rate, line, point);
	} else {
		put_line(page, style, "%-*.*s %-9s %-23s %10s %10s %s %-20s %s", (int)name, (int)name,
			 row->name, trust, rpo_text(row, rpo), dirty, rate, line, point,
			 state_text(row, state));
	}
	if (!row->tracked && *row->reason)
		put_line(page, ALARM, "  ! %s", row->reason);
	if (*row->behind)
		put_line(page, PLAIN, "  %s", row->behind);
	if (*row->error)
		put_line(page, ALARM, "  ! last failure: %s", row->error);
}

static void put_all(struct page *page, const struct watch_frame *frame)
{
	size_t name = name_width(frame), spark = spark_width(page->look, name);
	char last[32];

	put_top(page, frame);
	snprintf(last, sizeof(last), "LAST %s", text_duration((uint64_t)((double)spark *
		 frame->seconds * 1e9)));
	if (narrow(page->look, name))
		put_line(page, HEAD, "%-*s %-9s %-23s %s", (int)name, "VOLUME", "TRUST",
			 "RPO NOW / OBJECTIVE", "NEXT");
	else
		put_line(page, HEAD, "%-*s %-9s %-23s %10s %10s %-*.*s %-20s %s", (int)name, "VOLUME",
			 "TRUST", "RPO NOW / OBJECTIVE", "DIRTY", "WRITTEN/s", (int)spark, (int)spark,
			 last, "LAST POINT", "NEXT");
	for (size_t i = 0; i < frame->count; i++)
		put_row(page, &frame->rows[i], name, spark);
	if (!frame->count)
		put_line(page, PLAIN, "no volume is configured");
}

static char *page_text(const struct watch_frame *frame, const struct watch_look *look,
		       bool more, bool *full)
{
	struct page page = { .look = look, .room = more ? look->lines - 1 : look->lines };
	char *text = NULL;
	size_t length;
	bool bad;

	page.file = open_memstream(&text, &length);
	if (!page.file)
		return NULL;
	put_all(&page, frame);
	*full = page.full;
	page.room = look->lines;
	if (more)
		put_line(&page, HEAD, "more than fits; name the volumes to be shown");
	bad = ferror(page.file);
	if (fclose(page.file) || bad) {
		free(text);
		return NULL;
	}
	return text;
}

char *watch_text(const struct watch_frame *frame, const struct watch_look *look)
{
	bool full, ignored;
	char *text = page_text(frame, look, false, &full);

	if (!text || !full || look->lines < 2)
		return text;
	free(text);
	return page_text(frame, look, true, &ignored);
}
