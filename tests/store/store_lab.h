/* What tests/store/s3.sh has started, as the tests see it. */
#ifndef CLAWBACK_TESTS_STORE_LAB_H
#define CLAWBACK_TESTS_STORE_LAB_H

#include "tests/store/store_suite.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define LAB_PART_BYTES (5u << 20)

static inline const char *lab_get(const char *name)
{
	const char *value = getenv(name);

	if (!value)
		fail_msg("%s is not set; run this through tests/store/s3.sh", name);
	return value;
}

static inline struct store_options lab_options(const char *endpoint)
{
	return (struct store_options){
		.endpoint = lab_get(endpoint), .path_style = true,
		.credentials_file = lab_get("RGW_CREDENTIALS"), .part_bytes = LAB_PART_BYTES,
	};
}

static inline struct store *lab_open_with(const struct store_options *options,
					  const char *prefix)
{
	struct error err = ERROR_INIT;
	struct store *store;
	char url[256];

	snprintf(url, sizeof(url), "s3://%s%s", lab_get("RGW_BUCKET"), prefix);
	suite_ok(store_open(url, options, false, &store, &err), &err);
	return store;
}

static inline struct store *lab_open(const char *endpoint, const char *prefix)
{
	struct store_options options = lab_options(endpoint);

	return lab_open_with(&options, prefix);
}

/* Nothing of any test may stay in the bucket: no object, no unfinished upload. */
static inline void lab_close_empty(struct store *store)
{
	struct suite_count count = { 0, 0, "" };
	struct error err = ERROR_INIT;

	assert_int_equal(store_clean(store, "", 0, &err), 0);
	suite_ok(store_list(store, "", suite_count_visit, &count, &err), &err);
	assert_int_equal(count.seen, 0);
	store_close(store);
}

/* One line to the stub's control port; its number comes back. */
static inline int lab_stub(const char *format, ...)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	char line[1024], reply[32] = "";
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	va_list args;

	address.sin_port = htons((uint16_t)atoi(lab_get("FAULTY_CONTROL")));
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	va_start(args, format);
	vsnprintf(line, sizeof(line) - 1, format, args);
	va_end(args);
	strcat(line, "\n");
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(write(fd, line, strlen(line)), strlen(line));
	assert_true(read(fd, reply, sizeof(reply) - 1) > 0);
	close(fd);
	return atoi(reply);
}

static inline uint64_t lab_requests(struct store *store)
{
	struct store_counts counts;

	store_counts(store, &counts);
	return counts.requests;
}

#endif
