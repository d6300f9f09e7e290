/*
 * Reading the file; config_keys.c knows the keys. Own parser: inih cuts a section's
 * name at 49 characters, so that of two volumes with long names one is lost, and
 * takes an indented line for more of the value before it.
 */
#include "agent/config/config_keys.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_FILE_MAX (1u << 20)

/* Strings lie in the file's text. */
struct config_reader {
	struct config *config;
	const char *path;
	struct error *err;
	unsigned line;
	const char **sections;	/* so far, the last is the present one; owned */
	size_t section_count;
	const char *keys[CONFIG_KEYS_MAX];	/* so far, of the present section */
	size_t key_count;
};

/* What a line may end in or be indented with. */
static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static char *trim(char *text)
{
	size_t length;

	while (is_blank(*text))
		text++;
	length = strlen(text);
	while (length && is_blank(text[length - 1]))
		text[--length] = '\0';
	return text;
}

/* A comment begins the line or follows a blank: "s3://a#b" has none. */
static void cut_comment(char *line)
{
	for (char *at = line; *at; at++)
		if ((*at == '#' || *at == ';') && (at == line || is_blank(at[-1])))
			*at = '\0';
}

static bool listed(const char *const *list, size_t count, const char *text)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(list[i], text))
			return true;
	return false;
}

/* A second section of one name would be a copy whose name was not changed. */
static int take_section(struct config_reader *reader, char *text)
{
	size_t length = strlen(text);
	const char **sections;

	if (text[length - 1] != ']')
		return error_set_exit(reader->err, EXIT_USAGE, -EINVAL,
				      "a section ends in \"]\"");
	text[length - 1] = '\0';
	text++;
	if (listed(reader->sections, reader->section_count, text))
		return error_set_exit(reader->err, EXIT_USAGE, -EINVAL,
				      "[%s] is there already", text);
	sections = reallocarray(reader->sections, reader->section_count + 1,
				sizeof(*sections));
	if (!sections)
		return error_set(reader->err, -ENOMEM, "out of memory");
	sections[reader->section_count++] = text;
	reader->sections = sections;
	reader->key_count = 0;
	return config_section(reader->config, text, reader->err);
}

static int take_key(struct config_reader *reader, const char *key, const char *value)
{
	const char *section;
	int ret;

	if (!reader->section_count)
		return error_set_exit(reader->err, EXIT_USAGE, -EINVAL, "\"%s\" is in no "
				      "section; write [repository] or another above it", key);
	section = reader->sections[reader->section_count - 1];
	if (listed(reader->keys, reader->key_count, key) && !config_key_repeats(key))
		return error_set_exit(reader->err, EXIT_USAGE, -EINVAL,
				      "[%s] has \"%s\" already", section, key);
	ret = config_assign(reader->config, section, key, value, reader->err);
	if (!ret && !config_key_repeats(key))
		reader->keys[reader->key_count++] = key;
	return ret;
}

static int take_line(struct config_reader *reader, char *line)
{
	char *text, *equals;

	cut_comment(line);
	text = trim(line);
	if (!*text)
		return 0;
	if (*text == '[')
		return take_section(reader, text);
	equals = strchr(text, '=');
	if (!equals || equals == text)
		return error_set_exit(reader->err, EXIT_USAGE, -EINVAL, "neither a section, "
				      "nor KEY = VALUE, nor a comment");
	*equals = '\0';
	return take_key(reader, trim(text), trim(equals + 1));
}

static int take_lines(struct config_reader *reader, char *text, size_t length)
{
	char *end = text + length;

	while (text < end) {
		char *line_end = memchr(text, '\n', (size_t)(end - text));
		int ret;

		if (!line_end)
			line_end = end;	/* file_read put a NUL there */
		*line_end = '\0';
		reader->line++;
		ret = text + strlen(text) == line_end
			? take_line(reader, text)
			: error_set_exit(reader->err, EXIT_USAGE, -EINVAL, "there is a NUL "
					 "byte: this is damaged, or no text file");
		if (ret)
			return error_prefix(reader->err, "%s:%u", reader->path, reader->line);
		text = line_end + 1;
	}
	return 0;
}

static void config_defaults(struct config *config)
{
	memset(config, 0, sizeof(*config));
	strcpy(config->agent.state, CONFIG_STATE);
	config->agent.compression = 1;
}

/* "repository.url=…" or "volume NAME.device=…": the last dot before '=' splits. */
static int config_override(struct config *config, const char *text, struct error *err)
{
	CLEANUP_FREE char *copy = strdup(text);
	char *value = copy ? strchr(copy, '=') : NULL, *key;

	if (!copy)
		return error_set(err, -ENOMEM, "reading options: out of memory");
	if (value)
		*value++ = '\0';
	key = strrchr(copy, '.');
	if (!value || !key)
		return error_set_exit(err, EXIT_USAGE, -EINVAL,
				      "\"%s\" is not of the form SECTION.KEY=VALUE", text);
	*key++ = '\0';
	if (config_assign(config, copy, key, value, err))
		return error_prefix(err, "option %s", text);
	return 0;
}

static int config_check(const struct config *config, const char *path, struct error *err)
{
	for (size_t i = 0; i < config->volume_count; i++)
		if (!config->volumes[i].device[0])
			return error_set_exit(err, EXIT_USAGE, -EINVAL, "%s: volume %s has no "
					      "device; add \"device = /dev/…\"", path,
					      config->volumes[i].name);
	return 0;
}

static int config_read(const char *path, bool required, struct config *config,
		       struct error *err)
{
	struct config_reader reader = { .config = config, .path = path, .err = err };
	CLEANUP_FREE char *text = NULL;
	size_t length;
	int ret = file_read(path, CONFIG_FILE_MAX, &text, &length);

	if (ret == -ENOENT && !required)
		return 0;
	if (ret)
		return error_set_exit(err, EXIT_USAGE, ret, "reading the configuration %s: %s",
				      path, error_text(ret));
	ret = take_lines(&reader, text, length);
	free(reader.sections);
	return ret;
}

int config_load(const char *path, bool required, const char *const *overrides,
		size_t override_count, struct config *config, struct error *err)
{
	int ret;

	config_defaults(config);
	ret = config_read(path, required, config, err);
	for (size_t i = 0; !ret && i < override_count; i++)
		ret = config_override(config, overrides[i], err);
	if (!ret)
		ret = config_check(config, path, err);
	if (ret)
		config_fini(config);
	return ret;
}

void config_fini(struct config *config)
{
	free(config->volumes);
	config->volumes = NULL;
	config->volume_count = 0;
}

const struct config_volume *config_volume(const struct config *config,
					  const char *name)
{
	for (size_t i = 0; i < config->volume_count; i++)
		if (!strcmp(config->volumes[i].name, name))
			return &config->volumes[i];
	return NULL;
}
