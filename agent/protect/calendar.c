#include "agent/protect/calendar.h"

#include "agent/base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#define ANALYZE "systemd-analyze"
#define ANALYZE_MS 5000
#define ANALYZE_OUTPUT_MAX 4096
#define SECOND_NS 1000000000u
#define MINUTE_NS (60ull * SECOND_NS)

/* ---- reading what it says --------------------------------------------------- */

/* The rest of the line that begins with "LABEL: ", or NULL. */
static const char *labelled(const char *text, const char *label)
{
	for (const char *line = text; line; line = strchr(line, '\n')) {
		size_t length = strlen(label);

		line += strspn(line, "\n ");
		if (!strncmp(line, label, length) && !strncmp(line + length, ": ", 2))
			return line + length + 2;
	}
	return NULL;
}

int calendar_read(const char *text, uint64_t *next_ns)
{
	const char *next = labelled(text, "Next elapse");
	const char *utc = labelled(text, "(in UTC)");
	struct tm tm = { 0 };
	const char *end;
	time_t seconds;

	if (next && !strncmp(next, "never", 5) && next[5] == '\n') {
		*next_ns = CALENDAR_NEVER;
		return 0;
	}
	/* Where local time is UTC it does not say it twice. */
	end = next ? strptime(utc ? utc : next, "%a %Y-%m-%d %H:%M:%S UTC", &tm) : NULL;
	if (!end || *end != '\n')
		return -EBADMSG;
	seconds = timegm(&tm);
	if (seconds < 0 || (uint64_t)seconds >= UINT64_MAX / SECOND_NS)
		return -EBADMSG;
	*next_ns = (uint64_t)seconds * SECOND_NS;
	return 0;
}

/* ---- asking ------------------------------------------------------------------ */

/* Ours, but in the language whose words are read. */
static int make_environment(char *environment[], size_t room)
{
	size_t count = 0;

	for (char **at = environ; *at; at++) {
		if (!strncmp(*at, "LC_", 3) || !strncmp(*at, "LANG", 4))
			continue;
		if (count + 2 >= room)
			return -E2BIG;
		environment[count++] = *at;
	}
	environment[count++] = "LC_ALL=C";
	environment[count] = NULL;
	return 0;
}

/* No shell; nothing of ours open; no signal blocked or ignored. */
static int analyze_start(const char *expression, uint64_t after_ns, int output, pid_t *pid)
{
	static char *environment[1024];
	char base[64];
	char *arguments[] = { (char *)ANALYZE, (char *)"calendar", base, (char *)"--",
			      (char *)expression, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	int ret = make_environment(environment, sizeof(environment) / sizeof(environment[0]));

	if (ret)
		return ret;
	snprintf(base, sizeof(base), "--base-time=@%" PRIu64, after_ns / SECOND_NS);
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attributes);
	ret = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0) ?:
	      posix_spawn_file_actions_adddup2(&actions, output, 1) ?:
	      posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0) ?:
	      posix_spawnattr_setsigmask(&attributes, &none) ?:
	      posix_spawnattr_setsigdefault(&attributes, &all) ?:
	      posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK |
				       POSIX_SPAWN_SETSIGDEF) ?:
	      posix_spawnp(pid, ANALYZE, &actions, &attributes, arguments, environment);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	return -ret;
}

static int64_t monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* All of its output, until it closes that or the time is over. */
static int analyze_read(int fd, char text[static ANALYZE_OUTPUT_MAX + 1])
{
	int64_t deadline = monotonic_ms() + ANALYZE_MS;
	size_t length = 0;

	for (;;) {
		struct pollfd wait = { .fd = fd, .events = POLLIN };
		int64_t left = deadline - monotonic_ms();
		ssize_t n;

		if (left <= 0)
			return -ETIMEDOUT;
		if (poll(&wait, 1, (int)left) <= 0)
			continue;
		n = read(fd, text + length, ANALYZE_OUTPUT_MAX - length);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			length += (size_t)n;
		text[length] = '\0';
		if (n == 0)
			return 0;
		if (length == ANALYZE_OUTPUT_MAX)
			return -EFBIG;
	}
}

static int analyze(const char *expression, uint64_t after_ns,
		   char text[static ANALYZE_OUTPUT_MAX + 1], int *status)
{
	CLEANUP_CLOSE int ours = -1;
	CLEANUP_CLOSE int theirs = -1;
	int ends[2], ret;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	ours = ends[0];
	theirs = ends[1];
	ret = analyze_start(expression, after_ns, theirs, &pid);
	if (ret)
		return ret;
	close(STEAL_FD(theirs));
	ret = analyze_read(ours, text);
	if (ret)
		kill(pid, SIGKILL);
	while (waitpid(pid, status, 0) < 0 && errno == EINTR)
		;
	return ret;
}

int calendar_next(const char *expression, uint64_t after_ns, uint64_t *next_ns,
		  struct error *err)
{
	char text[ANALYZE_OUTPUT_MAX + 1];
	int status = 0;
	int ret = analyze(expression, after_ns, text, &status);

	if (ret == -ENOENT)
		return error_set_exit(err, EXIT_USAGE, ret, "what %s means is asked of " ANALYZE
				      ", which is not installed; install systemd, or take it out "
				      "and run clawback backup --type by a timer", expression);
	if (!ret && (!WIFEXITED(status) || WEXITSTATUS(status)))
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "%s: is no calendar "
				      "expression; see systemd.time(7), or ask " ANALYZE
				      " calendar", expression);
	if (!ret)
		ret = calendar_read(text, next_ns);
	return ret ? error_set(err, ret, "asking " ANALYZE " for the next %s: %s", expression,
			       error_text(ret)) : 0;
}

/* ---- windows ------------------------------------------------------------------ */

#define DAY_MINUTES 1440
#define WEEK_MINUTES (7 * DAY_MINUTES)

/* How long the window stays closed, from this minute of a day; 0: it is open. */
static int window_closed(const struct config_schedule *schedule, int minute)
{
	int from = schedule->window_from, to = schedule->window_to;
	bool open = from < to ? minute >= from && minute < to : minute >= from || minute < to;

	return from == to || open ? 0 : (from - minute + DAY_MINUTES) % DAY_MINUTES;
}

/* How long a blackout lasts from then on; 0: it is none of its times. */
static int blackout_left(const struct config_times *times, int day, int minute)
{
	bool today = times->days >> day & 1, yesterday = times->days >> (day + 6) % 7 & 1;

	if (times->from < times->to)
		return today && minute >= times->from && minute < times->to ? times->to - minute
									    : 0;
	if (today && minute >= times->from)
		return DAY_MINUTES - minute + times->to;
	return yesterday && minute < times->to ? times->to - minute : 0;
}

static int closed_for(const struct config_schedule *schedule, int week_minute)
{
	int day = week_minute / DAY_MINUTES, minute = week_minute % DAY_MINUTES;
	int longest = window_closed(schedule, minute);

	for (unsigned i = 0; i < schedule->blackout_count; i++) {
		int left = blackout_left(&schedule->blackouts[i], day, minute);

		longest = left > longest ? left : longest;
	}
	return longest;
}

static int week_minute(uint64_t now_ns)
{
	time_t seconds = (time_t)(now_ns / SECOND_NS);
	struct tm tm;

	localtime_r(&seconds, &tm);
	return tm.tm_wday * DAY_MINUTES + tm.tm_hour * 60 + tm.tm_min;
}

bool calendar_in_window(const struct config_schedule *schedule, uint64_t now_ns)
{
	return !window_closed(schedule, week_minute(now_ns) % DAY_MINUTES);
}

bool calendar_open(const struct config_schedule *schedule, uint64_t now_ns, uint64_t *until_ns)
{
	int first, wait = 0, more;

	*until_ns = 0;
	if (schedule->window_from == schedule->window_to && !schedule->blackout_count)
		return true;
	first = week_minute(now_ns);
	/* What never opens is asked again in a week. */
	while (wait < WEEK_MINUTES &&
	       (more = closed_for(schedule, (first + wait) % WEEK_MINUTES)) > 0)
		wait += more;
	if (!wait)
		return true;
	*until_ns = (uint64_t)wait * MINUTE_NS - now_ns % MINUTE_NS;
	return false;
}
