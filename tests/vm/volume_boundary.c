/*
 * The boundary protocol on real device-mapper: random O_DIRECT writers, discards
 * and write-zeroes all the time; each round reads what the read set says and
 * compares every block of the snapshot with the image built so far.
 *
 *   volume_boundary [--rounds N] [--seed S] [--bytes N] [--mutation M] [--table T]
 *                   [--writer COMMAND]
 *
 * Before that, without any snapshot, the ledger must be exact for a second of the
 * same writes, discards and write-zeroes.
 *
 * Exit code 0 only when no block was missed. A mutation breaks the protocol on
 * purpose: no-copy, late-rotate, no-alias, no-discard; "hold" is none of them but
 * lets the volume stand suspended for 50 ms before rotation, which no-alias does
 * as well.
 *
 * With --writer, COMMAND writes instead: it is given the volume's path and a seed,
 * says "ready" on its standard output when it is at work, and leaves the volume
 * unused when it is sent SIGTERM.
 */
#include "tests/vm/volume_lab.h"

#include <getopt.h>
#include <signal.h>
#include <sys/wait.h>

struct settings {
	unsigned rounds;
	uint64_t seed, bytes;
	const char *mutation, *table, *writer;
};

static struct boundary_test_hooks hooks;

static void settings_mutate(const char *mutation)
{
	hooks.skip_copy = strcmp(mutation, "no-copy") == 0;
	hooks.late_rotate = strcmp(mutation, "late-rotate") == 0;
	hooks.skip_alias = strcmp(mutation, "no-alias") == 0;
	hooks.hold_ms = hooks.skip_alias || strcmp(mutation, "hold") == 0 ? 50 : 0;
	lab_work.untraced_discards = strcmp(mutation, "no-discard") == 0;
	LAB_CHECK(hooks.skip_copy || hooks.late_rotate || hooks.hold_ms ||
		  lab_work.untraced_discards || strcmp(mutation, "none") == 0,
		  "no such mutation: %s", mutation);
	boundary_test_hooks = &hooks;
}

static void settings_parse(int argc, char **argv, struct settings *settings)
{
	static const struct option options[] = {
		{ "rounds", required_argument, NULL, 'r' },
		{ "seed", required_argument, NULL, 's' },
		{ "bytes", required_argument, NULL, 'b' },
		{ "mutation", required_argument, NULL, 'm' },
		{ "table", required_argument, NULL, 't' },
		{ "writer", required_argument, NULL, 'w' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'r': settings->rounds = (unsigned)atoi(optarg); break;
		case 's': settings->seed = strtoull(optarg, NULL, 0); break;
		case 'b': settings->bytes = strtoull(optarg, NULL, 0); break;
		case 'm': settings->mutation = optarg; break;
		case 't': settings->table = optarg; break;
		case 'w': settings->writer = optarg; break;
		default: exit(2);
		}
	}
}

/* The ledger between the last boundary and now must not be short. */
static bool ledger_short(const struct tracker_ledger *base,
			 const struct tracker_ledger *now)
{
	return now->kernel_write_sectors - base->kernel_write_sectors >
	       now->traced_write_sectors - base->traced_write_sectors ||
	       now->kernel_discard_sectors - base->kernel_discard_sectors >
	       now->traced_discard_sectors - base->traced_discard_sectors;
}

static uint64_t round_run(struct lab_volume *volume, unsigned number,
			  struct tracker_ledger *base, unsigned *shorts)
{
	struct boundary_volume open;
	struct boundary *boundary;
	uint64_t blocks, differences;
	unsigned percent = 0;
	bool is_short;

	atomic_store(&lab_work.calm, false);
	lab_fill(&open, volume);
	LAB_TRY(boundary_open(lab_tracker, &open, 1, NULL, &boundary, &err));
	LAB_TRY(tracker_drop_retired(lab_tracker, volume->slot, &err));
	/* Held writes are traced before the base is taken and counted after it. */
	is_short = number && !hooks.hold_ms && ledger_short(base, &open.before);
	*shorts += is_short;
	*base = open.base;
	blocks = lab_copy(volume, &open);
	differences = lab_compare(volume, &open);
	LAB_TRY(boundary_check(boundary, &err));
	LAB_TRY(boundary_fill(boundary, &percent, &err));
	LAB_TRY(boundary_close(boundary, &err));
	printf("round %u: read %llu of %llu blocks, COW %u %%, missed %llu%s\n", number,
	       (unsigned long long)blocks,
	       (unsigned long long)(volume->bytes / LAB_BLOCK), percent,
	       (unsigned long long)differences, is_short ? ", ledger short" : "");
	return differences;
}

/* With no boundary in between, what is traced is what the kernel counts. */
static void ledger_exact(struct lab_volume *volume, uint64_t seed)
{
	struct tracker_ledger was, is;
	uint64_t wrote, discarded;

	LAB_TRY(tracker_ledger(lab_tracker, volume->facts.device, &was, &err));
	lab_start_writers(volume, seed);
	lab_nap_ms(1000);
	lab_stop_writers();
	LAB_TRY(tracker_ledger(lab_tracker, volume->facts.device, &is, &err));
	wrote = is.kernel_write_sectors - was.kernel_write_sectors;
	discarded = is.kernel_discard_sectors - was.kernel_discard_sectors;
	printf("ledger: %llu sectors written, %llu discarded\n",
	       (unsigned long long)wrote, (unsigned long long)discarded);
	LAB_CHECK(wrote && wrote == is.traced_write_sectors - was.traced_write_sectors,
		  "traced %llu sectors written", (unsigned long long)
		  (is.traced_write_sectors - was.traced_write_sectors));
	LAB_CHECK(discarded == is.traced_discard_sectors - was.traced_discard_sectors,
		  "traced %llu sectors discarded", (unsigned long long)
		  (is.traced_discard_sectors - was.traced_discard_sectors));
}

/* ---- a writer of its own ------------------------------------------------------ */

static pid_t writer_pid;

static void writer_start(const struct lab_volume *volume, const struct settings *settings)
{
	char seed[32], word[8] = "";
	int pipe_fds[2];

	snprintf(seed, sizeof(seed), "%llu", (unsigned long long)settings->seed);
	LAB_CHECK(!pipe(pipe_fds), "no pipe");
	fflush(stdout);
	writer_pid = fork();
	LAB_CHECK(writer_pid >= 0, "no process");
	if (!writer_pid) {
		dup2(pipe_fds[1], STDOUT_FILENO);
		close(pipe_fds[0]);
		close(pipe_fds[1]);
		execl(settings->writer, settings->writer, volume->path, seed, NULL);
		_exit(127);
	}
	close(pipe_fds[1]);
	LAB_CHECK(read(pipe_fds[0], word, 5) == 5 && !strcmp(word, "ready"),
		  "the writer %s did not get to work", settings->writer);
	close(pipe_fds[0]);
}

static void writer_stop(void)
{
	int status = 0;

	LAB_CHECK(!kill(writer_pid, SIGTERM) && waitpid(writer_pid, &status, 0) == writer_pid &&
		  WIFEXITED(status) && !WEXITSTATUS(status),
		  "the writer failed: status 0x%x", (unsigned)status);
}

int main(int argc, char **argv)
{
	struct settings settings = { 8, random_start("volume_boundary").value,
				     64 << 20, "none", NULL, NULL };
	struct tracker_ledger base;
	uint64_t differences = 0;
	struct lab_volume *volume;
	unsigned shorts = 0;

	settings_parse(argc, argv, &settings);
	settings_mutate(settings.mutation);
	lab_begin();
	volume = lab_volume("labvolume", settings.bytes, settings.table);
	if (strcmp(settings.mutation, "none") == 0)
		ledger_exact(volume, settings.seed);
	if (settings.writer)
		writer_start(volume, &settings);
	else
		lab_start_writers(volume, settings.seed);
	for (unsigned i = 0; i <= settings.rounds; i++)
		differences += round_run(volume, i, &base, &shorts);
	if (settings.writer)
		writer_stop();
	else
		lab_stop_writers();
	/* At rest nothing may be wanting either. */
	differences += round_run(volume, settings.rounds + 1, &base, &shorts);
	lab_check_clean();
	printf("%s: %llu blocks missed, %llu writes, %llu discards, ledger short in %u rounds\n",
	       settings.mutation, (unsigned long long)differences,
	       (unsigned long long)lab_work.writes,
	       (unsigned long long)lab_work.discards, shorts);
	lab_end();
	return differences || shorts ? 1 : 0;
}
