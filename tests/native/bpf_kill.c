/*
 * Kills a process before every single system call by which it changes what is
 * pinned, one after the other, while it loads, attaches, adds a stand-in,
 * rotates, detaches, removes. Whatever is then there, the next process gets a
 * sound tracker out of it, and no mark is lost.
 */
#include "tests/native/bpf_lab.h"

#include "bpf/tracker_private.h"

#include <sys/ptrace.h>
#include <sys/syscall.h>

#define BYTES (64ull << 20)
#define CALLS_MAX 300

static struct lab_loop loop, other;

static bool call_counts(uint64_t number)
{
	return number == SYS_bpf || number == SYS_mkdir || number == SYS_rmdir ||
	       number == SYS_unlink || number == SYS_mkdirat ||
	       number == SYS_unlinkat;
}

/*
 * Runs `operation` in a child that is killed before its n-th call; false when it
 * came to its end before.
 */
static bool killed_at(int n, int (*operation)(void))
{
	struct __ptrace_syscall_info info;
	pid_t child = fork();
	int status;

	if (child == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		_exit(operation() ? 1 : 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSTOPPED(status));
	assert_int_equal(ptrace(PTRACE_SETOPTIONS, child, NULL,
				PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL), 0);
	for (;;) {
		assert_int_equal(ptrace(PTRACE_SYSCALL, child, NULL, NULL), 0);
		assert_int_equal(waitpid(child, &status, 0), child);
		if (WIFEXITED(status)) {
			assert_int_equal(status, 0);
			return false;
		}
		assert_true(WIFSTOPPED(status));
		if (WSTOPSIG(status) != (SIGTRAP | 0x80))
			continue;
		assert_true(ptrace(PTRACE_GET_SYSCALL_INFO, child,
				   (void *)sizeof(info), &info) > 0);
		if (info.op == PTRACE_SYSCALL_INFO_ENTRY &&
		    call_counts(info.entry.nr) && --n == 0)
			break;
	}
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, &status, 0), child);
	return true;
}

/* ---- the operations ------------------------------------------------------------- */

static int with_slot(int (*work)(struct tracker *tracker, uint32_t slot,
				 struct error *err))
{
	struct error err = ERROR_INIT;
	struct tracker *tracker;
	uint32_t slot;
	int ret = tracker_open(false, &tracker, &err);

	if (!ret)
		ret = tracker_find(tracker, loop.device, &slot);
	if (!ret)
		ret = work(tracker, slot, &err);
	if (ret)
		fprintf(stderr, "%d %s\n", ret, err.message);
	return ret;
}

static int op_load(void)
{
	struct error err = ERROR_INIT;
	struct tracker *tracker;

	return tracker_open(true, &tracker, &err);
}

static int op_attach(void)
{
	struct tracker_volume volume = { .device = loop.device,
					 .sectors = loop.sectors,
					 .block_bytes = 4096 };
	struct error err = ERROR_INIT;
	struct tracker *tracker;
	uint32_t slot;
	int ret = tracker_open(false, &tracker, &err);

	return ret ? ret : tracker_attach(tracker, &volume, &slot, &err);
}

static int op_alias(void)
{
	struct error err = ERROR_INIT;
	struct tracker *tracker;
	uint32_t slot;
	int ret = tracker_open(false, &tracker, &err);

	if (!ret)
		ret = tracker_find(tracker, loop.device, &slot);
	if (!ret)
		ret = tracker_alias_add(tracker, slot, other.device, &err);
	return ret ? ret : tracker_alias_remove(tracker, other.device, &err);
}

static int op_rotate(void)
{
	return with_slot(tracker_rotate);
}

static int op_detach(void)
{
	return with_slot(tracker_detach);
}

static int op_remove(void)
{
	struct error err = ERROR_INIT;

	return tracker_remove(&err);
}

/* ---- and what must hold afterwards ------------------------------------------------ */

/* One slot, no more, tracks `loop` alone; it is new when it was attached here. */
static struct tracker *sound_tracker(uint32_t *slot)
{
	struct tracker *tracker = lab_tracker();
	struct error err = ERROR_INIT;
	struct tracker_facts facts;
	int used = 0;

	if (tracker_find(tracker, loop.device, slot))
		*slot = lab_attach(tracker, &loop, 4096);
	assert_done(tracker_alias_remove(tracker, other.device, &err), &err);
	assert_done(tracker_facts(tracker, &facts, &err), &err);
	assert_int_equal(facts.slots_used, 1);
	for (uint32_t i = 0; i < TRACKER_SLOTS; i++)
		used += tracker->slots[i].device != 0;
	assert_int_equal(used, 1);
	assert_false(route_leads(tracker, other.device, *slot));
	return tracker;
}

/* Does it work? Through a whole life, from whatever is there. */
static void check_works(char *buffer)
{
	struct error err = ERROR_INIT;
	struct bitmap set;
	uint32_t slot;
	struct tracker *tracker = sound_tracker(&slot);

	assert_int_equal(bitmap_init(&set, BYTES / 4096), 0);
	lab_write(loop.fd, buffer, 4096, 8 * 3);
	lab_write(other.fd, buffer, 4096, 8 * 4);
	assert_done(tracker_rotate(tracker, slot, &err), &err);
	assert_done(tracker_read_retired(tracker, slot, &set, &err), &err);
	assert_int_equal(bitmap_count(&set), 1);
	assert_true(bitmap_test(&set, 3));
	assert_int_equal(lab_slot(tracker, slot).flags, 0);
	bitmap_fini(&set);
	tracker_close(tracker);
}

static void nothing_there(void)
{
	assert_int_equal(op_remove(), 0);
}

static void tracker_there(void)
{
	nothing_there();
	assert_int_equal(op_load(), 0);
}

static void volume_there(void)
{
	tracker_there();
	assert_int_equal(op_attach(), 0);
}

static void kill_all_along(const char *name, void (*before)(void),
			   int (*operation)(void))
{
	char *buffer = lab_buffer(4096);
	int n = 1;

	for (;; n++) {
		bool killed;

		assert_true(n < CALLS_MAX);
		before();
		killed = killed_at(n, operation);
		check_works(buffer);
		if (!killed)
			break;
	}
	printf("%s: killed at %d places\n", name, n - 1);
	assert_true(n > 3);
	nothing_there();
	free(buffer);
}

static void load_killed(void **state)
{
	(void)state;
	kill_all_along("load", nothing_there, op_load);
}

static void attach_killed(void **state)
{
	(void)state;
	kill_all_along("attach", tracker_there, op_attach);
}

static void alias_killed(void **state)
{
	(void)state;
	kill_all_along("alias", volume_there, op_alias);
}

static void detach_killed(void **state)
{
	(void)state;
	kill_all_along("detach", volume_there, op_detach);
}

static void remove_killed(void **state)
{
	(void)state;
	kill_all_along("remove", volume_there, op_remove);
}

/* Marks made before and after each death are all in the next read set. */
static void rotate_killed(void **state)
{
	char *buffer = lab_buffer(4096);
	struct error err = ERROR_INIT;
	struct tracker *tracker;
	uint32_t slot, n = 1, block = 0;
	struct bitmap set;

	(void)state;
	volume_there();
	tracker = sound_tracker(&slot);
	assert_int_equal(bitmap_init(&set, BYTES / 4096), 0);
	do {
		lab_write(loop.fd, buffer, 4096, 8ull * block++);
		assert_int_equal(lab_marks(tracker, slot).dirty_blocks, block);
	} while (killed_at((int)n++, op_rotate));
	printf("rotate: killed at %u places\n", n - 2);
	assert_true(n > 5);
	assert_done(tracker_rotate(tracker, slot, &err), &err);
	assert_done(tracker_read_retired(tracker, slot, &set, &err), &err);
	assert_int_equal(bitmap_count(&set), block);
	assert_int_equal(lab_slot(tracker, slot).flags, 0);
	bitmap_fini(&set);
	tracker_close(tracker);
	nothing_there();
	free(buffer);
}

static int tests(void)
{
	const struct CMUnitTest list[] = {
		cmocka_unit_test(load_killed),
		cmocka_unit_test(attach_killed),
		cmocka_unit_test(alias_killed),
		cmocka_unit_test(rotate_killed),
		cmocka_unit_test(detach_killed),
		cmocka_unit_test(remove_killed),
	};

	loop = lab_loop_open(BYTES);
	other = lab_loop_open(BYTES);
	return cmocka_run_group_tests_name("bpf_kill", list, NULL, NULL);
}

int main(void)
{
	return lab_run(tests);
}
