/* Configurations in memory, and what config_load must make of them. */
#ifndef CLAWBACK_TESTS_CONFIG_LAB_H
#define CLAWBACK_TESTS_CONFIG_LAB_H

#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/config/config.h"
#include "tests/unit/random.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CONFIG_TEXT_MAX (2u << 20)

struct config_text {
	char data[CONFIG_TEXT_MAX];
	size_t length;
	unsigned lines;
};

static inline void __attribute__((format(printf, 2, 3)))
config_text_add(struct config_text *text, const char *format, ...)
{
	size_t room = sizeof(text->data) - text->length, length;
	va_list args;

	va_start(args, format);
	length = (size_t)vsnprintf(text->data + text->length, room, format, args);
	va_end(args);
	assert_true(length < room);
	for (size_t i = 0; i < length; i++)
		text->lines += text->data[text->length + i] == '\n';
	text->length += length;
}

/* Path of the last file that config_load_text made. */
static char config_text_path[32];

/* config_load of a file of these bytes, whatever is in them. */
static inline int config_load_text(const char *data, size_t length,
				   const char *const *overrides, size_t override_count,
				   struct config *config, struct error *err)
{
	CLEANUP_CLOSE int fd = memfd_create("config", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(0, file_write_all(fd, data, length));
	snprintf(config_text_path, sizeof(config_text_path), "/proc/self/fd/%d", fd);
	*err = (struct error)ERROR_INIT;
	return config_load(config_text_path, true, overrides, override_count, config, err);
}

/* Loads it or fails the test; another way fails the test when it loads. */
static inline void config_expect_good(const char *data, struct config *config)
{
	struct error err;

	if (config_load_text(data, strlen(data), NULL, 0, config, &err))
		fail_msg("%s: %s", data, err.message);
}

static inline void config_check_refused(int ret, const struct error *err)
{
	assert_true(ret < 0);
	assert_int_equal(ret, err->code);
	assert_int_equal(err->exit, EXIT_USAGE);
	assert_true(*err->message);
}

/* `line` 0: the message names no line. */
static inline void config_expect_bad(const char *data, unsigned line, const char *message)
{
	struct config *config = calloc(1, sizeof(*config));
	struct error err;
	char where[64];
	int ret = config_load_text(data, strlen(data), NULL, 0, config, &err);

	if (!ret)
		fail_msg("accepted: %.1000s", data);
	config_check_refused(ret, &err);
	snprintf(where, sizeof(where), line ? "%s:%u: " : "%s: ", config_text_path, line);
	if (strncmp(err.message, where, strlen(where)) || !strstr(err.message, message))
		fail_msg("%.1000s: \"%s\" is not \"%s… %s\"", data, err.message, where,
			 message);
	assert_null(config->volumes);	/* nothing to free after a failure */
	free(config);
}

#endif
