/*
 * Reading the file: libini_config finds sections, keys and lines, config_keys.c knows
 * the keys. Nothing in the file may get lost silently; what the library would pass
 * over (NUL bytes, C comments, keys that are there twice) is refused here.
 */
#include "agent/config/config_keys.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/base/priority.h"

#include <errno.h>
#include <ini_configobj.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_FILE_MAX (1u << 20)

struct config_reader {
	struct config *config;
	const char *path;
	struct ini_cfgobj *ini;
	struct error *err;
};

static int out_of_memory(struct config_reader *reader)
{
	return error_set(reader->err, -ENOMEM, "reading the configuration %s: out of memory",
			 reader->path);
}

/* The library finds values by key only: the n-th of several equal keys has the n-th. */
static struct value_obj *key_value(struct config_reader *reader, const char *section,
				   char *const *keys, size_t at, bool *repeated)
{
	struct value_obj *value = NULL;
	int mode = INI_GET_FIRST_VALUE;

	for (size_t i = 0; i <= at; i++) {
		if (strcasecmp(keys[i], keys[at]))
			continue;
		*repeated = mode == INI_GET_NEXT_VALUE;
		if (ini_get_config_valueobj(section, keys[at], reader->ini, mode, &value))
			return NULL;
		mode = INI_GET_NEXT_VALUE;
	}
	return value;
}

static int take_key(struct config_reader *reader, const char *section, char *const *keys,
		    size_t at)
{
	bool repeated = false;
	struct value_obj *value = key_value(reader, section, keys, at, &repeated);
	uint32_t line = 0;
	int ret;

	if (!value)
		return out_of_memory(reader);
	if (repeated && !config_key_repeats(keys[at]))
		ret = error_set_exit(reader->err, EXIT_USAGE, -EINVAL, "[%s] has \"%s\" "
				     "already", section, keys[at]);
	else
		ret = config_assign(reader->config, section, keys[at],
				    ini_get_const_string_config_value(value, NULL), reader->err);
	if (!ret)
		return 0;
	value_get_line(value, &line);
	return error_prefix(reader->err, "%s:%u", reader->path, line);
}

static int take_section(struct config_reader *reader, const char *section)
{
	char **keys;
	int ret;

	/* Where the library puts keys above the first section, and lists none of them. */
	if (!strcmp(section, INI_DEFAULT_SECTION))
		return error_set_exit(reader->err, EXIT_USAGE, -EINVAL, "%s: a key is in no "
				      "section; write [repository] or another above it",
				      reader->path);
	if (config_section(reader->config, section, reader->err))
		return error_prefix(reader->err, "%s", reader->path);
	keys = ini_get_attribute_list(reader->ini, section, NULL, NULL);
	ret = keys ? 0 : out_of_memory(reader);
	for (size_t i = 0; !ret && keys[i]; i++)
		ret = take_key(reader, section, keys, i);
	ini_free_attribute_list(keys);
	return ret;
}

static int take_sections(struct config_reader *reader)
{
	char **sections = ini_get_section_list(reader->ini, NULL, NULL);
	int ret = sections ? 0 : out_of_memory(reader);

	for (size_t i = 0; !ret && sections[i]; i++)
		ret = take_section(reader, sections[i]);
	ini_free_section_list(sections);
	return ret;
}

/* The library's "Error (5) on line 3: Equal sign is missing." as a message of ours. */
static int parse_failed(struct config_reader *reader, int code)
{
	char **errors = NULL;
	unsigned line;
	int why = 0;

	if (code == ENOMEM)
		return out_of_memory(reader);
	if (!ini_config_get_errors(reader->ini, &errors) && errors[0] &&
	    sscanf(errors[0], "Error (%*d) on line %u: %n", &line, &why) == 1 && why)
		error_set_exit(reader->err, EXIT_USAGE, -EINVAL, "%s:%u: %.*s", reader->path,
			       line, (int)strcspn(errors[0] + why, "."), errors[0] + why);
	else
		error_set_exit(reader->err, EXIT_USAGE, -EINVAL, "%s: a section or key has a "
			       "\"!\" or a character that is no ASCII text in its name",
			       reader->path);
	ini_config_free_errors(errors);
	return reader->err->code;
}

static int parse(struct config_reader *reader, struct ini_cfgfile *file)
{
	/* An indented line is refused: elsewhere it would be more of the value above. */
	int ret = ini_config_parse(file, INI_STOP_ON_ANY, INI_MS_ERROR | INI_MV1S_ALLOW,
				   INI_PARSE_NOWRAP | INI_PARSE_NOSPACE | INI_PARSE_NOTAB |
				   INI_PARSE_NO_C_COMMENTS, reader->ini);

	return ret ? parse_failed(reader, ret) : take_sections(reader);
}

static int take_text(struct config_reader *reader, char *text, size_t length)
{
	const char *nul = memchr(text, '\0', length);
	struct ini_cfgfile *file = NULL;
	unsigned line = 1;
	int ret;

	if (nul) {
		for (const char *at = text; at < nul; at++)
			line += *at == '\n';
		return error_set_exit(reader->err, EXIT_USAGE, -EINVAL, "%s:%u: there is a NUL "
				      "byte: this is damaged, or no text file", reader->path, line);
	}
	ret = ini_config_create(&reader->ini);
	if (!ret)
		ret = ini_config_file_from_mem(text, (uint32_t)length, &file);
	if (ret == ENOMEM)
		ret = out_of_memory(reader);
	else if (ret)
		ret = error_set_exit(reader->err, EXIT_USAGE, -ret, "%s: this is no UTF-8 "
				     "text", reader->path);
	else
		ret = parse(reader, file);
	ini_config_file_destroy(file);
	ini_config_destroy(reader->ini);
	return ret;
}

static void config_defaults(struct config *config)
{
	memset(config, 0, sizeof(*config));
	strcpy(config->repository.name, CONFIG_STORE_FIRST);
	strcpy(config->agent.state, CONFIG_STATE);
	config->agent.compression = 1;
	config->agent.stop_timeout_ns = 60 * 1000000000ull;
	config->agent.limits.nice = 5;
	config->agent.limits.io_class = IO_CLASS_BEST_EFFORT;
	config->agent.limits.io_priority = 7;
	config->agent.runs = 2;
	schedule_unset(&config->agent.schedule);
	drill_unset(&config->agent.drill);
	notify_unset(&config->notify);
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
		return error_prefix(err, "option %s.%s", copy, key);	/* no value: it may be secret */
	return 0;
}

static bool group_has_volumes(const struct config *config, const char *name)
{
	for (size_t i = 0; i < config->volume_count; i++)
		if (!strcmp(config->volumes[i].group, name))
			return true;
	return false;
}

static bool same_place(const struct config_store *a, const struct config_store *b)
{
	return !strcmp(a->url, b->url) && !strcmp(a->endpoint, b->endpoint);
}

/* What is copied onto itself is in one place only. */
static int stores_check(const struct config *config, const char *path, struct error *err)
{
	for (size_t i = 0; i < config->store_count; i++) {
		const struct config_store *store = &config->stores[i], *twin = NULL;

		if (!*store->url)
			return error_set_exit(err, EXIT_USAGE, -EINVAL, "%s: store %s has no url; "
					      "add \"url = file:///…\" or s3://…", path,
					      store->name);
		if (same_place(store, &config->repository))
			twin = &config->repository;
		for (size_t k = 0; !twin && k < i; k++)
			if (same_place(store, &config->stores[k]))
				twin = &config->stores[k];
		if (twin)
			return error_set_exit(err, EXIT_USAGE, -EINVAL, "%s: store %s is in the same "
					      "place as %s", path, store->name, twin->name);
	}
	return 0;
}

static int config_check(const struct config *config, const char *path, struct error *err)
{
	for (size_t i = 0; i < config->volume_count; i++) {
		const struct config_volume *volume = &config->volumes[i];

		if (!volume->device[0])
			return error_set_exit(err, EXIT_USAGE, -EINVAL, "%s: %s %s has no "
					      "device; add \"device = /dev/…\"", path,
					      volume->disk ? "disk" : "volume", volume->name);
		if (*volume->group && !schedule_is_unset(&volume->schedule))
			return error_set_exit(err, EXIT_USAGE, -EINVAL, "%s: volume %s is in "
					      "group %s, whose volumes are frozen at one instant; "
					      "put rpo, full and the like in [group %s]", path,
					      volume->name, volume->group, volume->group);
		if (*volume->group && *volume->hook.command)
			return error_set_exit(err, EXIT_USAGE, -EINVAL, "%s: volume %s is in "
					      "group %s, of which all volumes have one hook; "
					      "put it in [group %s]", path, volume->name,
					      volume->group, volume->group);
	}
	for (size_t i = 0; i < config->group_count; i++)
		if (!group_has_volumes(config, config->groups[i].name))
			return error_set_exit(err, EXIT_USAGE, -EINVAL, "%s: no volume is in "
					      "group %s; add \"group = %s\" to some", path,
					      config->groups[i].name, config->groups[i].name);
	return stores_check(config, path, err) ?: notify_check(&config->notify, path, err) ?:
	       listen_check(config, path, err);
}

/* Sections come in any order, so what they leave out is filled in at the end. */
static int config_settle(struct config *config, struct error *err)
{
	struct config_schedule *defaults = &config->agent.schedule;

	schedule_settle(defaults, NULL);
	drill_settle(&config->agent.drill, NULL);
	for (size_t i = 0; i < config->volume_count; i++) {
		struct config_volume *volume = &config->volumes[i];

		if (*volume->group && !config_group_make(config, volume->group, err))
			return err->code;
		if (volume->disk)
			schedule_settle_disk(&volume->schedule, defaults);
		else
			schedule_settle(&volume->schedule, defaults);
		drill_settle(&volume->drill, volume->disk ? NULL : &config->agent.drill);
		if (*volume->group)
			volume->schedule.rpo_ns = 0;
	}
	for (size_t i = 0; i < config->group_count; i++)
		schedule_settle(&config->groups[i].schedule, defaults);
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
	return take_text(&reader, text, length);
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
	if (!ret)
		ret = config_settle(config, err);
	if (ret)
		config_fini(config);
	return ret;
}

void config_fini(struct config *config)
{
	free(config->volumes);
	config->volumes = NULL;
	config->volume_count = 0;
	free(config->groups);
	config->groups = NULL;
	config->group_count = 0;
	free(config->stores);
	config->stores = NULL;
	config->store_count = 0;
}

const struct config_store *config_store(const struct config *config, const char *name)
{
	if (!name || !strcmp(name, CONFIG_STORE_FIRST))
		return &config->repository;
	for (size_t i = 0; i < config->store_count; i++)
		if (!strcmp(config->stores[i].name, name))
			return &config->stores[i];
	return NULL;
}

const struct config_group *config_group(const struct config *config,
					const char *name)
{
	for (size_t i = 0; i < config->group_count; i++)
		if (!strcmp(config->groups[i].name, name))
			return &config->groups[i];
	return NULL;
}

const struct config_volume *config_volume(const struct config *config,
					  const char *name)
{
	for (size_t i = 0; i < config->volume_count; i++)
		if (!strcmp(config->volumes[i].name, name))
			return &config->volumes[i];
	return NULL;
}
