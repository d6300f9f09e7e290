/* Reading the file: inih finds sections and lines, config_keys.c knows the keys. */
#include "agent/config/config_keys.h"

#include "agent/base/cleanup.h"

#include <errno.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>

struct config_reader {
	struct config *config;
	const char *path;
	FILE *file;
	int line;
	struct error *err;
	int failed;
};

/* Debian's inih hands no line numbers to its handler, so lines are counted as it
 * asks for them; and it would take a line that overflows its buffer for two. */
static char *config_gets(char *buffer, int room, void *context)
{
	struct config_reader *reader = context;

	if (reader->failed || !fgets(buffer, room, reader->file))
		return NULL;
	reader->line++;
	if (strlen(buffer) + 1 == (size_t)room && !strchr(buffer, '\n')) {
		reader->failed = error_set_exit(reader->err, EXIT_USAGE, -EINVAL,
						"%s:%d: the line is longer than %d characters",
						reader->path, reader->line, room - 2);
		return NULL;
	}
	return buffer;
}

static int config_line(void *context, const char *section, const char *key,
		       const char *value)
{
	struct config_reader *reader = context;

	if (reader->failed)
		return 1;
	reader->failed = config_assign(reader->config, section, key, value, reader->err);
	if (reader->failed)
		error_prefix(reader->err, "%s:%d", reader->path, reader->line);
	return 1;
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
	for (size_t i = 0; i < config->volume_count; i++) {
		const struct config_volume *volume = &config->volumes[i];

		if (!volume->device[0])
			return error_set_exit(err, EXIT_USAGE, -EINVAL, "%s: volume %s has no "
					      "device; add \"device = /dev/…\"", path,
					      volume->name);
		if (volume->cow.kind != COW_RAM && !volume->cow.path[0])
			return error_set_exit(err, EXIT_USAGE, -EINVAL,
					      "%s: volume %s: cow needs a path", path,
					      volume->name);
	}
	return 0;
}

static int config_read(const char *path, bool required, struct config *config,
		       struct error *err)
{
	CLEANUP_FCLOSE FILE *file = fopen(path, "re");
	struct config_reader reader = { config, path, file, 0, err, 0 };
	int ret;

	if (!file && !required && errno == ENOENT)
		return 0;
	if (!file)
		return error_set_exit(err, EXIT_USAGE, -errno, "reading the configuration %s: "
				      "%s", path, error_text(errno));
	ret = ini_parse_stream(config_gets, &reader, config_line, &reader);
	if (reader.failed)
		return reader.failed;
	if (ret > 0)
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "%s:%d: neither a section, "
				      "nor KEY = VALUE, nor a comment", path, ret);
	if (ret || ferror(file))
		return error_set_exit(err, EXIT_USAGE, -EIO, "reading the configuration %s: "
				      "I/O error or out of memory", path);
	return 0;
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
