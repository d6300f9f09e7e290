/*
 * Runs a harness without libFuzzer, in the build of the unit tests under ASan and UBSan:
 * every input that is kept for it, then changed ones. Not led by coverage: it finds what
 * broke again, not what is new (scripts/fuzz does that), and needs no second build.
 *
 *   HARNESS SEED RUNS FOLDER FILE
 *
 * FILE always holds the input that is being run, however the process ends.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/unit/random.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define INPUTS_MAX 512
#define INPUT_BYTES_MAX 8192
#define HANG_SECONDS 30

#pragma weak LLVMFuzzerInitialize

struct input {
	size_t length;
	uint8_t data[INPUT_BYTES_MAX];
};

static struct input inputs[INPUTS_MAX];
static size_t input_count;
static struct random_state random_state;

static uint64_t below(uint64_t limit)
{
	return random_below(&random_state, limit);
}

static void read_inputs(const char *folder)
{
	DIR *dir = opendir(folder);
	struct dirent *entry;

	FUZZ_CHECK(dir);
	while ((entry = readdir(dir))) {
		struct input *input = &inputs[input_count];
		ssize_t got;
		int fd;

		if (entry->d_name[0] == '.')
			continue;
		FUZZ_CHECK(input_count < INPUTS_MAX);
		fd = openat(dirfd(dir), entry->d_name, O_RDONLY | O_CLOEXEC);
		FUZZ_CHECK(fd >= 0);
		got = read(fd, input->data, sizeof(input->data));
		FUZZ_CHECK(got >= 0);
		input->length = (size_t)got;
		input_count++;
		close(fd);
	}
	closedir(dir);
	FUZZ_CHECK(input_count);
}

static void cut(struct input *input)
{
	size_t at = below(input->length + 1), length = below(input->length - at + 1);

	memmove(input->data + at, input->data + at + length, input->length - at - length);
	input->length -= length;
}

/* A piece of another input goes in. */
static void join(struct input *input)
{
	const struct input *other = &inputs[below(input_count)];
	size_t at = below(input->length + 1), from = below(other->length + 1);
	size_t length = below(other->length - from + 1);

	if (input->length + length > INPUT_BYTES_MAX)
		return;
	memmove(input->data + at + length, input->data + at, input->length - at);
	memcpy(input->data + at, other->data + from, length);
	input->length += length;
}

static void change(struct input *input)
{
	static const uint8_t odd[] = { 0, 1, 0x7f, 0x80, 0xff, '"', '}', '\n' };

	for (uint64_t times = 1 + below(4); times; times--) {
		uint8_t *at = input->data + (input->length ? below(input->length) : 0);

		switch (below(5)) {
		case 0: *at ^= (uint8_t)(1 << below(8)); break;
		case 1: *at = odd[below(sizeof(odd))]; break;
		case 2: *at = (uint8_t)below(256); break;
		case 3: cut(input); break;
		default: join(input); break;
		}
	}
}

static void run(struct input *shown, const struct input *input)
{
	uint8_t *copy = fuzz_copy(input->data, input->length);

	memcpy(shown->data, input->data, input->length);
	shown->length = input->length;
	alarm(HANG_SECONDS);
	LLVMFuzzerTestOneInput(copy, input->length);
	free(copy);
}

int main(int argc, char **argv)
{
	static struct input changed;
	struct input *shown;
	uint64_t runs;
	int fd;

	FUZZ_CHECK(argc == 5);
	random_state.value = strtoull(argv[1], NULL, 10);
	runs = strtoull(argv[2], NULL, 10);
	fd = open(argv[4], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	FUZZ_CHECK(fd >= 0 && !ftruncate(fd, sizeof(*shown)));
	shown = mmap(NULL, sizeof(*shown), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	FUZZ_CHECK(shown != MAP_FAILED);
	close(fd);
	if (LLVMFuzzerInitialize)
		LLVMFuzzerInitialize(&argc, &argv);
	read_inputs(argv[3]);
	for (size_t i = 0; i < input_count; i++)
		run(shown, &inputs[i]);
	for (uint64_t i = 0; i < runs; i++) {
		changed = inputs[below(input_count)];
		change(&changed);
		run(shown, &changed);
	}
	printf("%zu inputs, %llu changed ones\n", input_count, (unsigned long long)runs);
	return 0;
}
