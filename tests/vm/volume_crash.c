/*
 * Runs that die: killed at every single stage, at random moments, while they
 * recover from such a death; and a snapshot that overflows. Writers go on all
 * the time. Afterwards no helper device is left, the volume is alive on its own
 * table, and no mark is lost: the next run misses no block.
 *
 *   volume_crash [--random N] [--seed S]
 */
#include "tests/vm/volume_lab.h"

#include "agent/volume/snapshot.h"

#define BYTES (16u << 20)

static struct random_state random_source;

/* A child kills itself at its `at`-th stage, or at the first called `stage`. */
struct death {
	const char *stage;
	unsigned at, passed;
};

static void death_stage(const char *name, void *context)
{
	struct death *death = context;

	death->passed++;
	if (death->stage ? strcmp(name, death->stage) != 0 : death->passed < death->at)
		return;
	printf("  killed at stage %u, %s\n", death->passed, name);
	fflush(stdout);
	raise(SIGKILL);
}

/* Runs `work` in a child that dies so (NULL: that is left alone). */
static pid_t crash_start(void (*work)(struct lab_volume *), struct lab_volume *volume,
			 const struct death *how, unsigned hold_ms)
{
	pid_t child = fork();

	LAB_CHECK(child >= 0, "no child");
	if (child == 0) {
		static struct death death;
		static struct boundary_test_hooks hooks = { .stage = death_stage,
							    .context = &death };

		hooks.hold_ms = hold_ms;
		if (how) {
			death = *how;
			boundary_test_hooks = &hooks;
		}
		work(volume);
		_exit(0);
	}
	return child;
}

/* True when it was killed. */
static bool crash_reap(pid_t child)
{
	int status;

	LAB_CHECK(waitpid(child, &status, 0) == child, "the child is not ours");
	LAB_CHECK(WIFSIGNALED(status) || WEXITSTATUS(status) == 0,
		  "the child failed with %d", WEXITSTATUS(status));
	return WIFSIGNALED(status);
}

static bool crash_at(void (*work)(struct lab_volume *), struct lab_volume *volume,
		     unsigned at)
{
	return crash_reap(crash_start(work, volume, &(struct death){ .at = at }, 0));
}

static bool crash_at_stage(void (*work)(struct lab_volume *), struct lab_volume *volume,
			   const char *stage, unsigned hold_ms)
{
	return crash_reap(crash_start(work, volume, &(struct death){ .stage = stage },
				      hold_ms));
}

/* In the child: its own handle on the tracker, as another process has. */
static void work_run(struct lab_volume *volume)
{
	struct tracker *tracker;
	uint64_t blocks;

	LAB_TRY(tracker_open(false, &tracker, &err));
	LAB_CHECK(lab_run(tracker, volume, &blocks) == 0, "blocks were missed");
}

static void work_recover(struct lab_volume *volume)
{
	unsigned removed;

	(void)volume;
	LAB_TRY(boundary_recover(LAB_STATE, &removed, &err));
}

static void check_after(struct lab_volume *volume)
{
	unsigned removed;
	uint64_t blocks, missed;

	LAB_TRY(boundary_recover(LAB_STATE, &removed, &err));
	lab_check_clean();
	missed = lab_run(lab_tracker, volume, &blocks);
	LAB_CHECK(missed == 0, "%llu blocks were missed after a death",
		  (unsigned long long)missed);
	lab_check_clean();
}

static void test_every_stage(struct lab_volume *volume)
{
	unsigned at = 1;

	while (crash_at(work_run, volume, at)) {
		check_after(volume);
		at++;
	}
	LAB_CHECK(at > 12, "only %u stages were passed", at - 1);
	printf("ok: killed at each of %u stages\n", at - 1);
}

/* Deaths of recover, each after a run that died with the snapshot open. */
static void test_recover_killed(struct lab_volume *volume)
{
	for (unsigned at = 1;; at++) {
		LAB_CHECK(crash_at_stage(work_run, volume, "switched", 0), "no death");
		if (!crash_at(work_recover, volume, at)) {
			check_after(volume);
			LAB_CHECK(at > 6, "recover has only %u stages", at - 1);
			printf("ok: recover killed at each of %u stages\n", at - 1);
			return;
		}
		check_after(volume);
	}
}

/*
 * Left suspended with nobody to help, as when the guardian died too: writers hang
 * until recover comes, itself killed on its way.
 */
static void test_suspended(struct lab_volume *volume)
{
	for (unsigned at = 1; at <= 3; at++) {
		struct dmdev_info info;

		LAB_CHECK(crash_at_stage(work_run, volume, "rotated", 1), "no death");
		LAB_TRY(dmdev_info(volume->facts.device, &info, &err));
		LAB_CHECK(info.suspended, "the volume is not suspended");
		LAB_CHECK(crash_at(work_recover, volume, at), "no death");
		check_after(volume);
	}
	printf("ok: found suspended\n");
}

/*
 * Between making a device and giving it a table the kernel knows its name and uuid,
 * and sysfs nothing.
 */
static void test_without_table(struct lab_volume *volume)
{
	static const char *const kinds[] = { "real", "snap", "cow", "origin" };

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		char name[128], uuid[130], command[400];

		leftovers_device_name(volume->name, kinds[i], name);
		leftovers_device_uuid(&volume->id, kinds[i], uuid);
		snprintf(command, sizeof(command), "dmsetup create --notable -u %s %s",
			 uuid, name);
		LAB_CHECK(system(command) == 0, "%s failed", command);
		check_after(volume);
	}
	printf("ok: found without a table\n");
}

static void test_random_moments(struct lab_volume *volume, unsigned times)
{
	for (unsigned i = 0; i < times; i++) {
		pid_t child = crash_start(work_run, volume, NULL, 0);

		lab_nap_ms((unsigned)random_below(&random_source, 1500));
		kill(child, SIGKILL);
		crash_reap(child);
		check_after(volume);
	}
	printf("ok: killed at %u random moments\n", times);
}

/* A living run is not touched; boundary_open clears up behind a dead one itself. */
static void test_locked(struct lab_volume *volume)
{
	struct boundary_volume open;
	struct boundary *boundary;
	unsigned removed;
	uint64_t blocks;
	int lock;

	LAB_TRY(volume_lock(LAB_STATE, volume->name, "backup", &lock, &err));
	lab_fill(&open, volume);
	LAB_TRY(boundary_open(lab_tracker, &open, 1, NULL, &boundary, &err));
	LAB_TRY(boundary_recover(LAB_STATE, &removed, &err));
	LAB_CHECK(removed == 0, "recover removed what a living run uses");
	LAB_TRY(boundary_check(boundary, &err));
	LAB_TRY(boundary_close(boundary, &err));
	close(lock);
	LAB_CHECK(crash_at_stage(work_run, volume, "switched", 0), "no death");
	LAB_CHECK(lab_run(lab_tracker, volume, &blocks) == 0, "blocks were missed");
	lab_check_clean();
	printf("ok: locks respected, own leftovers cleared\n");
}

/* A COW store of 1 MiB under writers that fill it at once. */
static void test_overflow(struct lab_volume *volume)
{
	struct boundary_volume open;
	struct error err = ERROR_INIT;
	struct boundary *boundary;
	uint64_t blocks, before;
	unsigned percent;
	int ret = 0;

	lab_fill(&open, volume);
	open.cow.bytes = 1 << 20;
	LAB_CHECK(!boundary_open(lab_tracker, &open, 1, NULL, &boundary, &err), "%s",
		  err.message);
	atomic_store(&lab_work.calm, false);
	for (int i = 0; i < 200 && !ret; i++) {
		lab_nap_ms(50);
		ret = boundary_check(boundary, &err);
	}
	LAB_CHECK(ret == -ENOSPC && strstr(err.message, "COW store is full"),
		  "the overflow was not told: %s", err.message);
	printf("  told as: %s\n", err.message);
	LAB_CHECK(boundary_fill(boundary, &percent, &err) == -ENOSPC, "fill did not tell");
	before = atomic_load(&lab_work.writes);
	lab_nap_ms(200);
	LAB_CHECK(atomic_load(&lab_work.writes) > before, "the volume stopped");
	LAB_CHECK(!boundary_close(boundary, &err), "%s", err.message);
	lab_check_clean();
	LAB_CHECK(lab_run(lab_tracker, volume, &blocks) == 0, "blocks were missed");
	printf("ok: overflow\n");
}

int main(int argc, char **argv)
{
	struct lab_volume *volume;
	unsigned times = 5;
	uint64_t blocks;

	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--random") == 0)
			times = (unsigned)atoi(argv[i + 1]);
		else if (strcmp(argv[i], "--seed") == 0)
			setenv("CLAWBACK_SEED", argv[i + 1], 1);
	}
	random_source = random_start("volume_crash");
	lab_begin();
	volume = lab_volume("labvolume", BYTES, NULL);
	lab_start_writers(volume, random_next(&random_source));
	LAB_CHECK(lab_run(lab_tracker, volume, &blocks) == 0, "blocks were missed");
	test_every_stage(volume);
	test_recover_killed(volume);
	test_suspended(volume);
	test_without_table(volume);
	test_random_moments(volume, times);
	test_locked(volume);
	test_overflow(volume);
	lab_end();
	return 0;
}
