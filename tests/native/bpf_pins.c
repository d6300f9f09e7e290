/*
 * What is pinned: outlives the process that made it, is made once however many
 * try, is recognised when half there or another version's, goes without a trace.
 */
#include "tests/native/bpf_lab.h"

#include "bpf/tracker_private.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define BYTES (64ull << 20)

static int pins(void)
{
	DIR *folder = opendir(lab_folder);
	int count = 0;

	if (!folder)
		return -1;
	while (readdir(folder))
		count++;
	closedir(folder);
	return count - 2;
}

static void remove_all(void)
{
	struct error err = ERROR_INIT;

	assert_done(tracker_remove(&err), &err);
	assert_int_equal(pins(), -1);
}

static struct tracker_facts facts_of(struct tracker *tracker)
{
	struct error err = ERROR_INIT;
	struct tracker_facts facts;

	assert_done(tracker_facts(tracker, &facts, &err), &err);
	return facts;
}

static bool program_exists(uint32_t id)
{
	int fd = bpf_prog_get_fd_by_id(id);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static void facts_and_identity(void **state)
{
	struct error err = ERROR_INIT;
	struct tracker *tracker = NULL, *second = NULL;
	struct tracker_facts facts, other;
	uint32_t program;

	(void)state;
	remove_all();
	assert_refused(tracker_open(false, &tracker, &err), -ENOENT, &err);
	assert_null(tracker);
	tracker_close(NULL);
	tracker = lab_tracker();
	assert_int_equal(pins(), 6);
	facts = facts_of(tracker);
	assert_int_equal(strlen(facts.identity.boot_id), 36);
	assert_int_equal(strlen(facts.identity.program_tag), 16);
	assert_true(facts.identity.program_id && facts.identity.link_id &&
		    facts.identity.bitmaps_id && facts.identity.routes_id &&
		    facts.identity.ledger_id && facts.identity.slots_id &&
		    facts.identity.retired_id);
	assert_true(facts.map_bytes > 0 && facts.map_bytes < 4u << 20);
	assert_int_equal(facts.recursion_misses, 0);
	assert_done(tracker_open(false, &second, &err), &err);
	other = facts_of(second);
	assert_true(tracker_identity_equal(&facts.identity, &other.identity));
	tracker_close(second);
	program = facts.identity.program_id;
	remove_all();
	/* A handle left open keeps the memory, not the tracing. */
	assert_int_equal(bpf_link_get_fd_by_id(facts.identity.link_id), -ENOENT);
	assert_refused(tracker_facts(tracker, &other, &err), -ESTALE, &err);
	assert_refused(tracker_detach(tracker, 0, &err), -ESTALE, &err);
	second = lab_tracker();
	other = facts_of(second);
	assert_false(tracker_identity_equal(&facts.identity, &other.identity));
	assert_refused(tracker_facts(tracker, &other, &err), -ESTALE, &err);
	assert_refused(tracker_rotate(tracker, 0, &err), -ESTALE, &err);
	tracker_close(tracker);
	tracker_close(second);
	for (int i = 0; i < 200 && program_exists(program); i++)
		lab_sleep_ms(10);
	assert_false(program_exists(program));
	remove_all();
}

/* Memory of all bitmaps in the kernel that are as large as `pages` pages. */
static uint64_t bitmap_bytes(uint32_t pages)
{
	uint64_t bytes = 0;

	for (uint32_t id = 0; !bpf_map_get_next_id(id, &id);) {
		struct bpf_map_info info = { 0 };
		uint32_t length = sizeof(info);
		int fd = bpf_map_get_fd_by_id(id);

		if (fd < 0)
			continue;	/* gone meanwhile */
		if (!bpf_obj_get_info_by_fd(fd, &info, &length) &&
		    !strcmp(info.name, "clawback_bits") &&
		    info.max_entries == pages)
			bytes += (uint64_t)info.max_entries * info.value_size;
		close(fd);
	}
	return bytes;
}

/* A map that nobody uses any more goes when the kernel comes to it. */
static void assert_bitmap_bytes(uint32_t pages, uint64_t wanted)
{
	for (int i = 0; i < 500 && bitmap_bytes(pages) != wanted; i++)
		lab_sleep_ms(10);
	assert_int_equal(bitmap_bytes(pages), wanted);
}

/* Its memory is what docs/tracking.md says: two bitmaps a volume at most. */
static void memory_is_bounded(void **state)
{
	struct tracker *tracker = lab_tracker();
	struct lab_loop loop = lab_loop_open(64ull << 30);	/* 2 MiB of bits */
	uint64_t base = facts_of(tracker).map_bytes;
	const uint64_t bitmap = 2u << 20, slack = 64u << 10;
	const uint32_t pages = bitmap / TRACKER_PAGE_BYTES;
	uint32_t slot = lab_attach(tracker, &loop, 4096);
	struct error err = ERROR_INIT;
	uint64_t now = facts_of(tracker).map_bytes - base;

	(void)state;
	assert_true(now >= bitmap && now < bitmap + slack);
	assert_bitmap_bytes(pages, bitmap);
	for (int i = 0; i < 5; i++) {
		assert_done(tracker_rotate(tracker, slot, &err), &err);
		assert_bitmap_bytes(pages, 2 * bitmap);
	}
	assert_done(tracker_drop_retired(tracker, slot, &err), &err);
	assert_bitmap_bytes(pages, bitmap);
	assert_done(tracker_detach(tracker, slot, &err), &err);
	assert_bitmap_bytes(pages, 0);
	assert_true(facts_of(tracker).map_bytes < base + slack);
	lab_loop_close(&loop);
	tracker_close(tracker);
}

static void survives_its_maker(void **state)
{
	struct lab_loop loop = lab_loop_open(BYTES);
	char *buffer = lab_buffer(4096);
	struct error err = ERROR_INIT;
	struct tracker *tracker = NULL;
	uint32_t slot;
	int status;
	pid_t child;

	(void)state;
	remove_all();
	child = fork();
	if (child == 0) {
		uint32_t at;
		struct tracker_volume volume = {
			.device = loop.device, .sectors = loop.sectors,
			.block_bytes = 4096,
		};

		if (tracker_open(true, &tracker, &err) ||
		    tracker_attach(tracker, &volume, &at, &err))
			_exit(1);
		lab_write(loop.fd, buffer, 4096, 80);
		kill(getpid(), SIGKILL);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	lab_write(loop.fd, buffer, 4096, 160);	/* nobody watches but the kernel */
	assert_done(tracker_open(false, &tracker, &err), &err);
	assert_int_equal(tracker_find(tracker, loop.device, &slot), 0);
	assert_int_equal(lab_marks(tracker, slot).dirty_blocks, 2);
	assert_int_equal(lab_ledger(tracker, loop.device).traced_write_sectors,
			 16);
	tracker_close(tracker);
	remove_all();
	free(buffer);
	lab_loop_close(&loop);
}

/* Many at once: one loads, all get the same. */
static void made_once(void **state)
{
	enum { PROCESSES = 8 };
	uint32_t *ids = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t children[PROCESSES];

	(void)state;
	for (int round = 0; round < 5; round++) {
		remove_all();
		for (int i = 0; i < PROCESSES; i++) {
			children[i] = fork();
			if (children[i])
				continue;
			struct error err = ERROR_INIT;
			struct tracker *tracker;
			struct tracker_facts facts;

			if (tracker_open(true, &tracker, &err) ||
			    tracker_facts(tracker, &facts, &err)) {
				fprintf(stderr, "%s\n", err.message);
				_exit(1);
			}
			ids[i] = facts.identity.link_id;
			_exit(0);
		}
		for (int i = 0; i < PROCESSES; i++) {
			int status;

			assert_int_equal(waitpid(children[i], &status, 0),
					 children[i]);
			assert_int_equal(status, 0);
			assert_int_equal(ids[i], ids[0]);
		}
	}
	munmap(ids, 4096);
	remove_all();
}

/* Killed at any moment of loading, attaching, removing: the next one copes. */
static void killed_loaders(void **state)
{
	struct random_state random = random_start("bpf_pins");
	struct lab_loop loop = lab_loop_open(BYTES);
	const struct tracker_volume volume = {
		.device = loop.device, .sectors = loop.sectors,
		.block_bytes = 4096,
	};
	struct error err = ERROR_INIT;
	int halves = 0;

	(void)state;
	remove_all();
	for (int round = 0; round < 40; round++) {
		pid_t child = fork();
		struct tracker *tracker;
		uint32_t slot;

		while (child == 0) {
			if (tracker_open(true, &tracker, &err))
				_exit(1);
			if (!tracker_attach(tracker, &volume, &slot, &err))
				tracker_detach(tracker, slot, &err);
			tracker_close(tracker);
			tracker_remove(&err);
		}
		lab_sleep_ms((unsigned int)random_below(&random, 60));
		kill(child, SIGKILL);
		assert_int_equal(waitpid(child, NULL, 0), child);
		halves += pins() >= 0 && pins() < 6;
		tracker = lab_tracker();
		assert_int_equal(pins(), 6);
		if (tracker_find(tracker, loop.device, &slot))
			assert_done(tracker_attach(tracker, &volume, &slot, &err),
				    &err);
		assert_int_equal(facts_of(tracker).slots_used, 1);
		assert_done(tracker_detach(tracker, slot, &err), &err);
		assert_int_equal(facts_of(tracker).slots_used, 0);
		tracker_close(tracker);
		if (random_one_in(&random, 2))
			remove_all();
	}
	printf("found half-pinned: %d\n", halves);
	remove_all();
	lab_loop_close(&loop);
}

static void half_pinned(void **state)
{
	struct error err = ERROR_INIT;
	struct tracker *tracker = lab_tracker();
	struct tracker_identity former = facts_of(tracker).identity, now;
	char path[PATH_MAX];

	(void)state;
	tracker_close(tracker);
	snprintf(path, sizeof(path), "%s/link", lab_folder);
	assert_int_equal(unlink(path), 0);
	assert_refused(tracker_open(false, &tracker, &err), -ENOENT, &err);
	tracker = lab_tracker();
	now = facts_of(tracker).identity;
	assert_false(tracker_identity_equal(&former, &now));
	assert_int_not_equal(former.routes_id, now.routes_id);
	tracker_close(tracker);
	remove_all();
	assert_int_equal(mkdir(lab_folder, 0700), 0);
	tracker_close(lab_tracker());
	remove_all();
}

/* A program under another name is another version's, never replaced. */
static void other_version(void **state)
{
	const struct bpf_insn code[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	struct error err = ERROR_INIT;
	struct tracker *tracker = NULL;
	char path[PATH_MAX];
	int program, link;

	(void)state;
	remove_all();
	program = bpf_prog_load(BPF_PROG_TYPE_RAW_TRACEPOINT, "clawback_abi0",
				"GPL", code, 2, NULL);
	assert_true(program >= 0);
	link = bpf_raw_tracepoint_open("block_bio_queue", program);
	assert_true(link >= 0);
	assert_int_equal(mkdir(lab_folder, 0700), 0);
	snprintf(path, sizeof(path), "%s/link", lab_folder);
	assert_int_equal(bpf_obj_pin(link, path), 0);
	close(link);
	close(program);
	assert_refused(tracker_open(false, &tracker, &err), -EPROTO, &err);
	assert_refused(tracker_open(true, &tracker, &err), -EPROTO, &err);
	assert_int_equal(pins(), 1);
	remove_all();
}

/* Still root by name, but the kernel will load nothing for us. */
static int capabilities_drop(void)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3
	};
	struct __user_cap_data_struct none[2] = { 0 };

	return (int)syscall(SYS_capset, &header, none);
}

/* libbpf's talk goes into the message, not to the terminal. */
static void failure_is_quiet(void **state)
{
	int pipes[2], status;
	char text[4096];
	ssize_t length;
	pid_t child;

	(void)state;
	remove_all();
	assert_int_equal(pipe(pipes), 0);
	child = fork();
	if (child == 0) {
		struct error err = ERROR_INIT;
		struct tracker *tracker;
		int ret;

		dup2(pipes[1], 1);
		dup2(pipes[1], 2);
		if (capabilities_drop())
			_exit(1);
		ret = tracker_open(true, &tracker, &err);
		if (!ret || ret != err.code || tracker)
			_exit(2);
		if (!strstr(err.message, "cannot load the tracker") ||
		    !strstr(err.message, "libbpf says") ||
		    strchr(err.message, '\n')) {
			puts(err.message);
			_exit(3);
		}
		_exit(0);
	}
	close(pipes[1]);
	length = read(pipes[0], text, sizeof(text) - 1);
	assert_true(length >= 0);
	text[length] = '\0';
	assert_string_equal(text, "");
	close(pipes[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(pins(), -1);	/* nothing is left half-way */
}

static int tests(void)
{
	const struct CMUnitTest list[] = {
		cmocka_unit_test(facts_and_identity),
		cmocka_unit_test(memory_is_bounded),
		cmocka_unit_test(survives_its_maker),
		cmocka_unit_test(made_once),
		cmocka_unit_test(killed_loaders),
		cmocka_unit_test(half_pinned),
		cmocka_unit_test(other_version),
		cmocka_unit_test(failure_is_quiet),
	};

	return cmocka_run_group_tests_name("bpf_pins", list, NULL, NULL);
}

int main(void)
{
	return lab_run(tests);
}
