/*
 * Groups: the point is one instant for all. Threads write increasing numbers to
 * one volume, then to the other; at any instant the first is ahead by at most
 * one. Then: the agent killed inside the window, the guardian stepping in.
 *
 *   volume_group [--rounds N] [--mutation none|split]
 */
#include "tests/vm/volume_lab.h"

#define BYTES (8u << 20)
#define COUNTERS 4

static struct boundary_test_hooks hooks;
static struct lab_volume *first, *second;
static atomic_bool counting_stop;

static void *counter(void *argument)
{
	off_t at = (off_t)((uintptr_t)argument * 64 * LAB_BLOCK);
	int a = open(first->path, O_RDWR | O_DIRECT | O_CLOEXEC);
	int b = open(second->path, O_RDWR | O_DIRECT | O_CLOEXEC);
	uint64_t *block = aligned_alloc(LAB_BLOCK, LAB_BLOCK);

	LAB_CHECK(a >= 0 && b >= 0, "cannot open the volumes");
	memset(block, 0, LAB_BLOCK);
	while (!atomic_load(&counting_stop)) {
		block[0]++;
		LAB_CHECK(pwrite(a, block, LAB_BLOCK, at) == LAB_BLOCK &&
			  pwrite(b, block, LAB_BLOCK, at) == LAB_BLOCK,
			  "a volume refused a write: %s", strerror(errno));
	}
	free(block);
	close(a);
	close(b);
	return NULL;
}

static uint64_t number_at(const struct boundary_volume *volume, unsigned which)
{
	uint64_t *block = aligned_alloc(LAB_BLOCK, LAB_BLOCK), number;
	int fd = open(volume->read_path, O_RDONLY | O_DIRECT | O_CLOEXEC);

	LAB_CHECK(fd >= 0, "cannot open %s", volume->read_path);
	lab_read(fd, block, (uint64_t)which * 64 * LAB_BLOCK, LAB_BLOCK, volume->read_path);
	number = block[0];
	close(fd);
	free(block);
	return number;
}

/* Returns how many counters stand as they never stood at any instant. */
static unsigned round_run(unsigned round)
{
	struct boundary_volume open[2];
	struct boundary *boundary;
	unsigned impossible = 0;

	lab_fill(&open[0], first);
	lab_fill(&open[1], second);
	LAB_TRY(boundary_open(lab_tracker, open, 2, NULL, &boundary, &err));
	LAB_CHECK(open[0].time_ns == open[1].time_ns || hooks.split_group,
		  "two times for one instant");
	for (unsigned i = 0; i < COUNTERS; i++) {
		uint64_t a = number_at(&open[0], i), b = number_at(&open[1], i);

		if (a != b && a != b + 1) {
			impossible++;
			printf("round %u: counter %u stands at %llu and %llu\n", round,
			       i, (unsigned long long)a, (unsigned long long)b);
		}
	}
	for (unsigned i = 0; i < 2; i++) {
		struct lab_volume *volume = i ? second : first;
		uint64_t missed;

		lab_copy(volume, &open[i]);
		missed = lab_compare(volume, &open[i]);
		LAB_CHECK(missed == 0 || hooks.split_group, "%llu blocks of %s were missed",
			  (unsigned long long)missed, volume->name);
		LAB_TRY(tracker_drop_retired(lab_tracker, volume->slot, &err));
	}
	LAB_TRY(boundary_check(boundary, &err));
	LAB_TRY(boundary_close(boundary, &err));
	lab_check_clean();
	return impossible;
}

/* Which occurrence of which stage; what happens there. */
struct trap {
	const char *stage;
	unsigned skip, sleep_ms;
};

static void trap_stage(const char *name, void *context)
{
	struct trap *trap = context;

	if (strcmp(name, trap->stage) || trap->skip--)
		return;
	if (trap->sleep_ms)
		lab_nap_ms(trap->sleep_ms);
	else
		raise(SIGKILL);
}

static int group_open(struct tracker *tracker, struct boundary **boundary,
		      struct error *err)
{
	static struct boundary_volume open[2];

	lab_fill(&open[0], first);
	lab_fill(&open[1], second);
	return boundary_open(tracker, open, 2, NULL, boundary, err);
}

static void check_not_suspended(const char *when)
{
	struct dmdev_info info;

	for (int i = 0; i < 2; i++) {
		const struct lab_volume *volume = i ? second : first;
		bool suspended = true;

		/* The guardian has its work done within moments. */
		for (int attempt = 0; attempt < 200 && suspended; attempt++) {
			LAB_TRY(dmdev_info(volume->facts.device, &info, &err));
			suspended = info.suspended;
			if (suspended)
				lab_nap_ms(20);
		}
		LAB_CHECK(!suspended, "%s stayed suspended after: %s", volume->name, when);
	}
}

/* Killed with one, with both suspended, with one resumed: nobody but the guardian
 * is there to help, until a later run. */
static void test_killed_in_window(const char *stage, unsigned skip)
{
	struct trap trap = { stage, skip, 0 };
	struct boundary_test_hooks traps = { .stage = trap_stage, .context = &trap };
	unsigned removed, impossible;
	int status;
	pid_t child = fork();

	if (child == 0) {
		struct tracker *tracker;
		struct boundary *boundary;
		struct error err = ERROR_INIT;

		boundary_test_hooks = &traps;
		LAB_CHECK(!tracker_open(false, &tracker, &err), "%s", err.message);
		group_open(tracker, &boundary, &err);
		_exit(3);
	}
	LAB_CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status),
		  "the child did not die at %s", stage);
	check_not_suspended(stage);
	LAB_TRY(boundary_recover(LAB_STATE, &removed, &err));
	LAB_CHECK(removed == 8, "recover removed %u devices, not 8", removed);
	lab_check_clean();
	impossible = round_run(0);
	LAB_CHECK(!impossible, "an impossible state after a death at %s", stage);
	printf("ok: killed at %s %u\n", stage, skip);
}

/* The agent hangs in the window: the guardian resumes, the point is refused. */
static void test_window_limit(void)
{
	struct trap trap = { "window", 0, 3000 };
	struct boundary_test_hooks traps = { .stage = trap_stage, .context = &trap,
					     .window_limit_ms = 500 };
	struct error err = ERROR_INIT;
	struct boundary *boundary;
	int ret;

	boundary_test_hooks = &traps;
	ret = group_open(lab_tracker, &boundary, &err);
	boundary_test_hooks = &hooks;
	LAB_CHECK(ret == -ETIMEDOUT, "a hung window ended with %d: %s", ret, err.message);
	lab_check_clean();
	LAB_CHECK(!round_run(0), "an impossible state after a hung window");
	printf("ok: window limit (%s)\n", err.message);
}

int main(int argc, char **argv)
{
	unsigned rounds = 6, impossible = 0;
	pthread_t threads[COUNTERS];

	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--rounds") == 0)
			rounds = (unsigned)atoi(argv[i + 1]);
		else if (strcmp(argv[i], "--mutation") == 0)
			hooks.split_group = strcmp(argv[i + 1], "split") == 0;
	}
	boundary_test_hooks = &hooks;
	lab_begin();
	first = lab_volume("labdata", BYTES, NULL);
	second = lab_volume("labwal", BYTES, NULL);
	for (uintptr_t i = 0; i < COUNTERS; i++)
		pthread_create(&threads[i], NULL, counter, (void *)i);
	for (unsigned i = 0; i < rounds; i++)
		impossible += round_run(i);
	if (!impossible && !hooks.split_group) {
		test_killed_in_window("suspended", 0);
		test_killed_in_window("window", 0);
		test_killed_in_window("resumed", 0);
		test_window_limit();
	}
	atomic_store(&counting_stop, true);
	for (unsigned i = 0; i < COUNTERS; i++)
		pthread_join(threads[i], NULL);
	lab_end();
	printf("%u impossible states in %u rounds\n", impossible, rounds);
	return impossible ? 1 : 0;
}
