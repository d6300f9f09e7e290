/* Restores that are killed or fail, and are run again: exact, whatever happened between,
 * and not from the start. */
#include "agent/restore/journal_format.h"
#include "agent/restore/restore_private.h"
#include "tests/unit/points_lab.h"

#include "agent/base/log.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* The program's own pwrite: dies, or fails, at the Nth call. 0: never. */
static atomic_long pwrite_kill_at, pwrite_fail_at, pwrite_count;

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset)
{
	long kill_at = atomic_load(&pwrite_kill_at), fail_at = atomic_load(&pwrite_fail_at);

	atomic_fetch_add(&pwrite_count, 1);
	if (kill_at && atomic_fetch_sub(&pwrite_kill_at, 1) == 1)
		raise(SIGKILL);
	if (fail_at && atomic_fetch_sub(&pwrite_fail_at, 1) == 1) {
		errno = ENOSPC;
		return -1;
	}
	return syscall(SYS_pwrite64, fd, data, length, offset);
}

struct place { char target[700], journal[700]; };

static void places_of(const struct points_lab *lab, struct place *place)
{
	lab_path(lab, "target", place->target);
	lab_path(lab, "state/target.journal", place->journal);
}

static int restore_to(struct points_lab *lab, uint64_t number, const struct place *place,
		      bool force, bool verify, struct restore_result *result,
		      struct error *err)
{
	struct restore_target_options how = {
		.bytes = lab->images[number].bytes, .force = force,
		.journal = place->journal, .point = &lab->points[number],
	};
	struct restore_options options = {
		.journal = place->journal, .journal_delay_ns = 1, .verify = verify,
		.fetchers = 2, .decoders = 2,
	};
	struct key_ring ring = lab_ring(lab);
	struct restore_target *target;
	struct error closing = ERROR_INIT;
	int ret;

	*err = (struct error)ERROR_INIT;
	ret = restore_target_open(place->target, &how, &target, err);
	if (ret)
		return ret;
	ret = restore_run(lab->repo, &lab->points[number], &ring, target, &options, result,
			  err);
	restore_target_close(target, &closing);
	return ret;
}

/* In a child, which is killed at its Nth write, or ends before. */
static bool restore_killed(struct points_lab *lab, uint64_t number, const struct place *place,
			   bool force, long at)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		struct restore_result result;
		struct error err;

		atomic_store(&pwrite_kill_at, at);
		/* Where nothing of the journal is left the file is a stranger's. */
		_exit(restore_to(lab, number, place, force, false, &result, &err) &&
		      err.code != -EEXIST);
	}
	assert_int_equal(pid, waitpid(pid, &status, 0));
	if (WIFEXITED(status))
		assert_int_equal(WEXITSTATUS(status), 0);
	return WIFSIGNALED(status);
}

static void check_restored(const struct points_lab *lab, uint64_t number,
			 const struct place *place)
{
	const struct lab_image *image = &lab->images[number];
	CLEANUP_FREE char *data = NULL;
	size_t length;

	assert_int_equal(0, file_read(place->target, 1u << 30, &data, &length));
	assert_int_equal(length, image->bytes);
	assert_memory_equal(data, image->data, length);
	assert_int_equal(-1, access(place->journal, F_OK));
}

/* A place in the file gets other bytes. */
static void spoil(struct random_state *random, const char *path)
{
	CLEANUP_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC);
	uint64_t value = random_next(random);
	struct stat st;

	if (fd < 0)
		return;
	assert_int_equal(0, fstat(fd, &st));
	if (st.st_size)
		syscall(SYS_pwrite64, fd, &value, 1 + random_below(random, 8),
			(off_t)random_below(random, (uint64_t)st.st_size));
}

static void cut(struct random_state *random, const char *path)
{
	struct stat st;

	if (!stat(path, &st))
		assert_int_equal(0, truncate(path, (off_t)random_below(random,
							(uint64_t)st.st_size + 1)));
}

static uint64_t writes_of(struct points_lab *lab, uint64_t number, const struct place *place)
{
	struct restore_result result;
	struct error err;

	atomic_store(&pwrite_count, 0);
	if (restore_to(lab, number, place, true, false, &result, &err))
		fail_msg("%s", err.message);
	check_restored(lab, number, place);
	return (uint64_t)atomic_load(&pwrite_count);
}

static void build(struct points_lab *lab, struct random_state *random)
{
	lab_build(lab, random, 6, (24u << 20) + 512 * random_below(random, 9));
}

/* Whatever happens to target and journal meanwhile. */
static void killed_anywhere(void **state)
{
	struct random_state random = random_start("killed_anywhere");
	struct points_lab *lab = points_lab_new();
	const char *full = getenv("CLAWBACK_FULL");
	int rounds = full && *full == '1' ? 100 : 10, killed = 0, resumed = 0;
	struct place place;
	uint64_t writes;

	(void)state;
	build(lab, &random);
	places_of(lab, &place);
	writes = writes_of(lab, 5, &place);
	for (int round = 0; round < rounds; round++) {
		struct restore_result result;
		struct error err;

		unlink(place.target);
		for (uint64_t times = 1 + random_below(&random, 3); times; times--) {
			if (!restore_killed(lab, 5, &place, false,
					    1 + (long)random_below(&random, writes)))
				break;
			killed++;
			switch (random_below(&random, 6)) {
			case 0: spoil(&random, place.target); break;
			case 1: spoil(&random, place.journal); break;
			case 2: cut(&random, place.target); break;
			case 3: cut(&random, place.journal); break;
			}
		}
		if (restore_to(lab, 5, &place, false, round % 2, &result, &err)) {
			assert_int_equal(err.code, -EEXIST);
			if (restore_to(lab, 5, &place, true, round % 2, &result, &err))
				fail_msg("%s", err.message);
		}
		check_restored(lab, 5, &place);
		resumed += result.resumed_bytes > 0;
	}
	print_message("killed %d times, %d of %d taken up\n", killed, resumed, rounds);
	assert_true(killed > rounds * 2 / 3 && resumed > rounds / 4);
	points_lab_free(lab);
}

/* A failure: all that was written is noted, and is not fetched again. */
static void failed_goes_on(void **state)
{
	struct random_state random = random_start("failed_goes_on");
	struct points_lab *lab = points_lab_new();
	struct restore_result whole, rest;
	struct place place;
	struct error err;
	uint64_t writes;

	(void)state;
	build(lab, &random);
	places_of(lab, &place);
	writes = writes_of(lab, 6, &place);
	assert_int_equal(0, restore_to(lab, 6, &place, true, false, &whole, &err));
	unlink(place.target);
	atomic_store(&pwrite_fail_at, (long)(writes * 3 / 4));
	assert_int_equal(-ENOSPC, restore_to(lab, 6, &place, false, false, &rest, &err));
	atomic_store(&pwrite_fail_at, 0);
	assert_non_null(strstr(err.message, "holds a partial restore: run it again"));
	assert_int_equal(0, restore_to(lab, 6, &place, false, true, &rest, &err));
	check_restored(lab, 6, &place);
	print_message("%llu of %llu bytes there, %llu of %llu fetched\n",
		      (unsigned long long)rest.resumed_bytes,
		      (unsigned long long)whole.data_bytes,
		      (unsigned long long)rest.fetched_bytes,
		      (unsigned long long)whole.fetched_bytes);
	assert_int_equal(rest.data_bytes, whole.data_bytes);
	assert_true(rest.resumed_bytes > whole.data_bytes / 2);
	assert_true(rest.fetched_bytes < whole.fetched_bytes * 3 / 4);
	assert_int_equal(rest.written_bytes, rest.data_bytes - rest.resumed_bytes);
	points_lab_free(lab);
}

/* Of another point, or another file, a journal says nothing. */
static void other_subjects(void **state)
{
	struct random_state random = random_start("other_subjects");
	struct points_lab *lab = points_lab_new();
	struct restore_result result;
	struct place place;
	struct error err;
	char copy[720];

	(void)state;
	build(lab, &random);
	places_of(lab, &place);
	atomic_store(&pwrite_fail_at, 20);
	assert_int_equal(-ENOSPC, restore_to(lab, 6, &place, true, false, &result, &err));
	atomic_store(&pwrite_fail_at, 0);
	assert_int_equal(-EEXIST, restore_to(lab, 5, &place, false, false, &result, &err));
	assert_int_equal(0, restore_to(lab, 5, &place, true, false, &result, &err));
	assert_int_equal(result.resumed_bytes, 0);
	check_restored(lab, 5, &place);
	unlink(place.target);
	atomic_store(&pwrite_fail_at, 20);
	assert_int_equal(-ENOSPC, restore_to(lab, 6, &place, true, false, &result, &err));
	atomic_store(&pwrite_fail_at, 0);
	snprintf(copy, sizeof(copy), "%s.copy", place.target);	/* keeps the inode in use */
	assert_int_equal(0, rename(place.target, copy));
	assert_int_equal(0, file_replace(place.target, "precious", 8, 0600));
	assert_int_equal(-EEXIST, restore_to(lab, 6, &place, false, false, &result, &err));
	points_lab_free(lab);
}

/* ---- the journal's bytes ------------------------------------------------------- */

struct bytes { uint8_t data[64 * 1024]; size_t length; };

static void bytes_add(struct bytes *bytes, uint8_t *data, size_t length)
{
	assert_true(bytes->length + length <= sizeof(bytes->data));
	memcpy(bytes->data + bytes->length, data, length);
	bytes->length += length;
	free(data);
}

/* Every record is one that was noted; returns how many. */
static size_t check_records(const uint8_t *data, size_t length)
{
	struct journal_contents contents;
	size_t count;

	if (journal_decode(data, length, &contents)) {
		journal_contents_fini(&contents);
		return 0;
	}
	for (size_t i = 0; i < contents.count; i++) {
		assert_int_equal(contents.records[i].tag, contents.records[i].window * 77 + 1);
		assert_true(!i || contents.records[i].window > contents.records[i - 1].window);
	}
	count = contents.count;
	journal_contents_fini(&contents);
	return count;
}

static void damaged_journals(void **state)
{
	struct random_state random = random_start("damaged_journals");
	static struct bytes bytes;
	struct journal_subject subject = { .point = 3, .volume_bytes = 1 << 30 };
	struct journal_record records[40];
	size_t length, most, last = 0;
	uint8_t *data;

	(void)state;
	bytes.length = 0;
	memset(subject.key, 5, sizeof(subject.key));
	assert_int_equal(0, journal_encode_header(&subject, &data, &length));
	assert_int_equal(length, sizeof(struct journal_header));
	bytes_add(&bytes, data, length);
	for (int batch = 0; batch < 8; batch++) {
		size_t count = 1 + random_below(&random, 40);

		for (size_t i = 0; i < count; i++) {
			records[i].window = random_below(&random, 100);
			records[i].tag = records[i].window * 77 + 1;
		}
		assert_int_equal(0, journal_encode_batch(&subject, records, count, &data,
							 &length));
		bytes_add(&bytes, data, length);
	}
	most = check_records(bytes.data, bytes.length);
	assert_true(most > 40);
	for (size_t at = 0; at <= bytes.length; at++) {
		size_t found = check_records(bytes.data, at);

		assert_true(found >= last);
		last = found;
	}
	assert_int_equal(last, most);
	for (size_t bit = 0; bit < bytes.length * 8; bit++) {
		bytes.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		check_records(bytes.data, bytes.length);
		bytes.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	/* Batches of another journal say nothing in this one. */
	subject.key[0]++;
	assert_int_equal(0, journal_encode_header(&subject, &data, &length));
	memcpy(bytes.data, data, length);
	free(data);
	assert_int_equal(check_records(bytes.data, bytes.length), 0);
}

int main(void)
{
	log_set_level(LOG_WARNINGS);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(killed_anywhere),
		cmocka_unit_test(failed_goes_on),
		cmocka_unit_test(other_subjects),
		cmocka_unit_test(damaged_journals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
