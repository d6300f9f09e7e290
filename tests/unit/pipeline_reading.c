/*
 * Ways of reading that a good day does not show: no io_uring, no registered
 * buffers, short reads, a device that gets nowhere.
 */
#include "agent/pipeline/reader.h"
#include "tests/unit/pipeline_lab.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* ---- without io_uring, or without its registered buffers ------------------- */

struct refused_call {
	long number;
	int code;
	struct pipeline_job *job;
	struct pipeline_result *result;
	int filtered, seen, ret;
	struct error err;
};

/* A filter holds for the calling thread and those it starts, no others. */
static void *run_filtered(void *context)
{
	struct refused_call *call = context;
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call->number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)call->code),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { 4, filter };

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	call->filtered = prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
	call->seen = syscall(call->number, 1, NULL, 0, 0) < 0 ? errno : 0;
	if (!call->filtered)
		call->ret = pipeline_run(call->job, call->result, &call->err);
	return NULL;
}

static void refused_run(struct lab *lab, long number, int code)
{
	struct pipeline_job job = lab_job(lab, MAP_DELTA);
	struct pipeline_result result;
	struct refused_call call = { number, code, &job, &result, 0, 0, 0, ERROR_INIT };
	pthread_t thread;

	assert_int_equal(0, pthread_create(&thread, NULL, run_filtered, &call));
	assert_int_equal(0, pthread_join(thread, NULL));
	assert_int_equal(0, call.filtered);
	assert_int_equal(code, call.seen);
	if (call.ret)
		fail_msg("%s", call.err.message);
	lab_check(lab, &job, &result);
	pipeline_result_fini(&result);
}

static void test_no_ring(void **state)
{
	struct random_state random = random_start("pipeline_reading no ring");
	struct lab *lab = *state;

	lab_volume(lab, &random, (5 << 20) + 1536);
	lab_extents(lab, &random, 50, 7);
	refused_run(lab, SYS_io_uring_setup, EPERM);
	lab_store_clear(lab);
	refused_run(lab, SYS_io_uring_setup, ENOSYS);
	lab_store_clear(lab);
	refused_run(lab, SYS_io_uring_register, ENOMEM);
}

/* The pread way meets a truncated volume, too. */
static void test_no_ring_truncated(void **state)
{
	struct random_state random = random_start("pipeline_reading truncated");
	struct lab *lab = *state;
	struct pipeline_result result;
	struct pipeline_job job;
	struct refused_call call = { SYS_io_uring_setup, EPERM, &job, &result, 0, 0, 0,
				     ERROR_INIT };
	pthread_t thread;
	char path[128];

	lab_volume(lab, &random, 3 << 20);
	lab_extents_all(lab);
	lab_path(lab, "volume", path);
	assert_int_equal(0, truncate(path, 2 << 20));
	job = lab_job(lab, MAP_FULL);
	assert_int_equal(0, pthread_create(&thread, NULL, run_filtered, &call));
	assert_int_equal(0, pthread_join(thread, NULL));
	assert_int_equal(0, call.filtered);
	assert_int_equal(-ENODATA, call.ret);
	assert_non_null(strstr(call.err.message, "at byte 2097152"));
}

/* ---- short reads ------------------------------------------------------------ */

/* What a device could answer to one attempt. */
static int64_t random_answer(struct random_state *random, struct read_request *request,
			     const uint8_t *image, uint64_t bytes)
{
	uint64_t at = request->offset + request->done;
	uint64_t left = bytes - at;
	uint64_t n = request->bytes - request->done;

	if (n > left)
		n = left;
	switch (random_below(random, 6)) {
	case 0:
		return -EINTR;
	case 1:
		return -EAGAIN;
	case 2:
		break;
	default:
		n = 1 + random_below(random, n);
	}
	memcpy(request->to + request->done, image + at, n);
	return (int64_t)n;
}

static void test_short_reads(void **state)
{
	struct random_state random = random_start("pipeline_reading short reads");
	struct lab *lab = *state;
	struct slot *slot = calloc(1, sizeof(*slot));
	struct pool pool;

	assert_non_null(slot);
	assert_int_equal(0, pool_init(&pool, 1));
	slot->buffer = &pool.buffers[0];
	lab_volume(lab, &random, 100 * BLOCK_BYTES + 512);
	for (int round = 0; round < 500; round++) {
		struct pipeline_job job = lab_job(lab, MAP_FULL);
		struct reader reader = { .job = &job };
		struct read_request request;
		struct error err = ERROR_INIT;
		uint64_t first = random_below(&random, 101);
		uint32_t count = 1 + (uint32_t)random_below(&random, 101 - first);
		int ret = READ_AGAIN;

		memset(pool.memory, 0xdb, BUFFER_BYTES);
		slot->plan.reads[0] = (struct span){ first, count, 5 };
		read_request_start(&reader, slot, 0, &request);
		while (ret == READ_AGAIN)
			ret = read_request_advance(&request, random_answer(&random,
				&request, lab->image, lab->bytes), &err);
		assert_int_equal(ret, READ_DONE);
		assert_memory_equal(slot->buffer->memory + 5 * BLOCK_BYTES,
				    lab->image + first * BLOCK_BYTES,
				    (size_t)count * BLOCK_BYTES);
	}
	pool_fini(&pool);
	free(slot);
}

/* A device that never gets anywhere is given up. */
static void test_stalls(void **state)
{
	struct lab *lab = *state;
	struct slot *slot = calloc(1, sizeof(*slot));
	struct buffer buffer = { NULL, 0 };
	struct random_state random = { 1 };
	struct pipeline_job job;
	struct reader reader = { .job = &job };
	static const int64_t answers[] = { -EAGAIN, -EINTR, 100 };

	assert_non_null(slot);
	slot->buffer = &buffer;
	lab_volume(lab, &random, 4 * BLOCK_BYTES);
	job = lab_job(lab, MAP_FULL);
	for (size_t i = 0; i < 3; i++) {
		struct read_request request;
		struct error err = ERROR_INIT;
		int ret = READ_AGAIN;
		int tries = 0;

		slot->plan.reads[0] = (struct span){ 1, 2, 0 };
		read_request_start(&reader, slot, 0, &request);
		while (ret == READ_AGAIN && tries++ < 1000)
			ret = read_request_advance(&request, answers[i], &err);
		assert_int_equal(ret, answers[i] < 0 ? answers[i] : -ENODATA);
		assert_non_null(strstr(err.message, "at byte 4096"));
	}
	free(slot);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, lab_setup, lab_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_no_ring),
		TEST(test_no_ring_truncated),
		TEST(test_short_reads),
		TEST(test_stalls),
	};

	alarm(120);	/* a lost wake-up must not hang the lane */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
