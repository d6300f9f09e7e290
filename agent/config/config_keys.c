/*
 * The keys, as tables: name, how it is parsed, where it goes. clawback.conf(5)
 * lists the same keys; a test compares the two.
 */
#include "agent/config/config_keys.h"

#include "agent/base/priority.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

enum key_type { KEY_TEXT, KEY_PATH, KEY_BOOL, KEY_U32, KEY_INT, KEY_BYTES, KEY_BYTES32,
		KEY_DURATION };

#define SECOND_NS 1000000000ll

struct key {
	const char *name;
	enum key_type type;
	size_t offset, room;
	int64_t low, high;	/* of numbers */
};

#define FIELD(type, member) offsetof(type, member), sizeof(((type *)0)->member)

static const struct key store_keys[] = {
	{ "url", KEY_TEXT, FIELD(struct config_store, url), 0, 0 },
	{ "endpoint", KEY_TEXT, FIELD(struct config_store, endpoint), 0, 0 },
	{ "region", KEY_TEXT, FIELD(struct config_store, region), 0, 0 },
	{ "path_style", KEY_BOOL, FIELD(struct config_store, path_style), 0, 0 },
	{ "credentials_file", KEY_PATH, FIELD(struct config_store, credentials_file), 0, 0 },
	{ "credentials_profile", KEY_TEXT, FIELD(struct config_store, credentials_profile), 0, 0 },
	{ "ca_file", KEY_PATH, FIELD(struct config_store, ca_file), 0, 0 },
	{ "connections", KEY_U32, FIELD(struct config_store, connections), 1, 64 },
	{ "retries", KEY_U32, FIELD(struct config_store, retries), 1, 100 },
	{ "timeout", KEY_U32, FIELD(struct config_store, timeout_seconds), 1, 3600 },
	{ "part_size", KEY_BYTES32, FIELD(struct config_store, part_bytes), 5 << 20, 1 << 30 },
	{ "bandwidth", KEY_BYTES, FIELD(struct config_store, bandwidth_bytes), 0, INT64_MAX },
	{ NULL, KEY_TEXT, 0, 0, 0, 0 },
};

static const struct key identity_keys[] = {
	{ "fingerprint", KEY_TEXT, FIELD(struct config, identity.fingerprint), 0, 0 },
	{ NULL, KEY_TEXT, 0, 0, 0, 0 },
};

static const struct key agent_keys[] = {
	{ "state", KEY_PATH, FIELD(struct config, agent.state), 0, 0 },
	{ "workers", KEY_U32, FIELD(struct config, agent.workers), 1, 64 },
	{ "queue_depth", KEY_U32, FIELD(struct config, agent.queue_depth), 1, 1024 },
	{ "compression", KEY_INT, FIELD(struct config, agent.compression), -7, 19 },
	{ "segment_size", KEY_BYTES, FIELD(struct config, agent.segment_bytes), 1 << 20, 1ll << 40 },
	{ "read_rate", KEY_BYTES, FIELD(struct config, agent.read_bytes_per_second), 0, INT64_MAX },
	{ "bitmap_limit", KEY_BYTES, FIELD(struct config, agent.bitmap_limit_bytes), 4096, 1ll << 34 },
	{ "metrics", KEY_PATH, FIELD(struct config, agent.metrics), 0, 0 },
	{ "nice", KEY_U32, FIELD(struct config, agent.limits.nice), 0, 19 },
	{ "io_priority", KEY_U32, FIELD(struct config, agent.limits.io_priority), 0, 7 },
	{ "memory_limit", KEY_BYTES, FIELD(struct config, agent.limits.memory_bytes), 0, 1ll << 44 },
	{ "snapshot_max", KEY_DURATION, FIELD(struct config, agent.limits.snapshot_max_ns), 0,
	  366 * 86400 * SECOND_NS },
	{ "latency_target", KEY_DURATION, FIELD(struct config, agent.limits.latency_target_ns), 0,
	  3600 * SECOND_NS },
	{ "metrics_public", KEY_BOOL, FIELD(struct config, agent.metrics_public), 0, 0 },
	{ "runs", KEY_U32, FIELD(struct config, agent.runs), 1, 16 },
	{ "stop_timeout", KEY_DURATION, FIELD(struct config, agent.stop_timeout_ns), 0, 86400 * SECOND_NS },
	{ NULL, KEY_TEXT, 0, 0, 0, 0 },
};

static const struct key recover_keys[] = {
	{ "at", KEY_TEXT, FIELD(struct config, recover.at), 0, 0 },
	{ "recovery_key", KEY_PATH, FIELD(struct config, recover.recovery_key), 0, 0 },
	{ "passphrase_file", KEY_PATH, FIELD(struct config, recover.passphrase_file), 0, 0 },
	{ "luks_passphrase_file", KEY_PATH, FIELD(struct config, recover.luks_passphrase_file), 0, 0 },
	{ "luks_key_file", KEY_PATH, FIELD(struct config, recover.luks_key_file), 0, 0 },
	{ "disks", KEY_TEXT, FIELD(struct config, recover.disks), 0, 0 },
	{ "erase", KEY_BOOL, FIELD(struct config, recover.erase), 0, 0 },
	{ "grow", KEY_BOOL, FIELD(struct config, recover.grow), 0, 0 },
	{ "verify", KEY_BOOL, FIELD(struct config, recover.verify), 0, 0 },
	{ "unattended", KEY_BOOL, FIELD(struct config, recover.unattended), 0, 0 },
	{ NULL, KEY_TEXT, 0, 0, 0, 0 },
};

static const struct key volume_keys[] = {
	{ "device", KEY_PATH, FIELD(struct config_volume, device), 0, 0 },
	{ "group", KEY_TEXT, FIELD(struct config_volume, group), 0, 0 },
	{ "cow_size", KEY_BYTES, FIELD(struct config_volume, cow.bytes), 1 << 20, 1ll << 44 },
	{ "granularity", KEY_BYTES32, FIELD(struct config_volume, granularity_bytes), 4096, 64 << 20 },
	{ "fingerprints", KEY_BOOL, FIELD(struct config_volume, fingerprints), 0, 0 },
	{ "skip_unchanged", KEY_BOOL, FIELD(struct config_volume, skip_unchanged), 0, 0 },
	{ "spot_checks", KEY_U32, FIELD(struct config_volume, spot_checks), 0, 1000000 },
	{ NULL, KEY_TEXT, 0, 0, 0, 0 },
};

int config_bad_value(struct error *err, const char *key, const char *value,
		     const char *wanted)
{
	/* A damaged file's value may be long, and would leave no room for the reason. */
	return error_set_exit(err, EXIT_USAGE, -EINVAL, "%s = %.100s%s: %s", key, value,
			      strlen(value) > 100 ? "…" : "", wanted);
}

int config_parse_bytes(const char *text, uint64_t *bytes)
{
	static const char units[] = "KMGTP";
	unsigned long long number;
	const char *unit;
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno)
		return -ERANGE;
	while (*end == ' ')
		end++;
	if (*end) {
		unit = strchr(units, *end & ~0x20);
		if (!unit || (end[1] && strcmp(end + 1, "iB") && strcmp(end + 1, "B")))
			return -EINVAL;
		for (long i = 0; i <= unit - units; i++)
			if (__builtin_mul_overflow(number, 1024ull, &number))
				return -ERANGE;
	}
	*bytes = number;
	return 0;
}

static int assign_text(const struct key *key, const char *value, char *to,
		       struct error *err)
{
	if (strlen(value) >= key->room)
		return config_bad_value(err, key->name, value, "is too long");
	if (key->type == KEY_PATH && value[0] != '/')
		return config_bad_value(err, key->name, value, "give an absolute path");
	strcpy(to, value);
	return 0;
}

static int assign_bool(const struct key *key, const char *value, bool *to,
		       struct error *err)
{
	if (!strcmp(value, "yes") || !strcmp(value, "true") || !strcmp(value, "1"))
		*to = true;
	else if (!strcmp(value, "no") || !strcmp(value, "false") || !strcmp(value, "0"))
		*to = false;
	else
		return config_bad_value(err, key->name, value, "give yes or no");
	return 0;
}

static int assign_number(const struct key *key, const char *value, void *to,
			 struct error *err)
{
	bool bytes = key->type == KEY_BYTES || key->type == KEY_BYTES32;
	uint64_t size = 0;
	int64_t number;
	char *end;

	if (bytes) {
		if (config_parse_bytes(value, &size) || size > INT64_MAX)
			return config_bad_value(err, key->name, value, "give a size like 64M");
		number = (int64_t)size;
	} else {
		errno = 0;
		number = strtoll(value, &end, 10);
		if (errno || !*value || *end)
			return config_bad_value(err, key->name, value, "give a whole number");
	}
	if (number < key->low || number > key->high)
		return error_set_exit(err, EXIT_USAGE, -ERANGE, "%s = %s: must be from %lld "
				      "to %lld", key->name, value, (long long)key->low,
				      (long long)key->high);
	if (key->type == KEY_BYTES)
		*(uint64_t *)to = (uint64_t)number;
	else if (key->type == KEY_INT)
		*(int *)to = (int)number;
	else
		*(uint32_t *)to = (uint32_t)number;
	return 0;
}

static int assign_duration(const struct key *key, const char *value, uint64_t *to,
			   struct error *err)
{
	if (config_parse_duration(value, to))
		return config_bad_value(err, key->name, value, "give a duration like 30s");
	if (*to > (uint64_t)key->high)
		return config_bad_value(err, key->name, value, "is too long");
	return 0;
}

/* 0 stored, 1 no such key here, negative bad value. */
static int assign_from(const struct key *keys, void *base, const char *name,
		       const char *value, struct error *err)
{
	for (const struct key *key = keys; key->name; key++) {
		void *to = (char *)base + key->offset;

		if (strcmp(key->name, name))
			continue;
		if (key->type == KEY_TEXT || key->type == KEY_PATH)
			return assign_text(key, value, to, err);
		if (key->type == KEY_BOOL)
			return assign_bool(key, value, to, err);
		if (key->type == KEY_DURATION)
			return assign_duration(key, value, to, err);
		return assign_number(key, value, to, err);
	}
	return 1;
}

static int assign_recipient(struct config *config, const char *value, struct error *err)
{
	if (config->identity.recipient_count == CONFIG_RECIPIENTS_MAX)
		return config_bad_value(err, "recipient", value, "there are too many");
	if (value[0] != '/' || strlen(value) >= PATH_MAX)
		return config_bad_value(err, "recipient", value,
				 "give the absolute path of a recovery public key");
	strcpy(config->identity.recipients[config->identity.recipient_count++], value);
	return 0;
}

static int assign_cow(struct cow_options *cow, const char *value, struct error *err)
{
	const char *path = NULL;

	if (!strcmp(value, "ram")) {
		cow->kind = COW_RAM;
	} else if (!strncmp(value, "file:/", 6)) {
		cow->kind = COW_FILE;
		path = value + 5;
	} else if (!strncmp(value, "device:/", 8)) {
		cow->kind = COW_DEVICE;
		path = value + 7;
	} else {
		return config_bad_value(err, "cow", value,
				 "give ram, file:/FOLDER or device:/dev/…");
	}
	if (path && strlen(path) >= sizeof(cow->path))
		return config_bad_value(err, "cow", value, "is too long");
	strcpy(cow->path, path ? path : "");
	return 0;
}

static int assign_provider(enum snapshot_provider *provider, const char *value,
			   struct error *err)
{
	if (!strcmp(value, "auto"))
		*provider = PROVIDER_AUTO;
	else if (!strcmp(value, "dm"))
		*provider = PROVIDER_DM;
	else if (!strcmp(value, "none"))
		*provider = PROVIDER_NONE;
	else
		return config_bad_value(err, "provider", value, "give auto, dm or none");
	return 0;
}

static int assign_io_class(int *class, const char *value, struct error *err)
{
	if (!strcmp(value, "best-effort"))
		*class = IO_CLASS_BEST_EFFORT;
	else if (!strcmp(value, "idle"))
		*class = IO_CLASS_IDLE;
	else if (!strcmp(value, "none"))
		*class = IO_CLASS_NONE;
	else
		return config_bad_value(err, "io_class", value, "give best-effort, idle or none");
	return 0;
}

int config_assign_keep(struct policy *policy, const char *value, struct error *err)
{
	memset(policy, 0, sizeof(*policy));
	return policy_parse(policy, value, err) ? error_prefix(err, "keep") : 0;
}

static bool volume_name_good(const char *name)
{
	static const char good[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				   "0123456789._-";

	return *name && *name != '.' && *name != '-' && strlen(name) <= VOLUME_NAME_MAX &&
	       strspn(name, good) == strlen(name);
}

struct config_volume *config_volume_make(struct config *config, const char *name, bool disk,
					 struct error *err)
{
	struct config_volume *volumes, *volume;

	for (size_t i = 0; i < config->volume_count; i++) {
		if (strcmp(config->volumes[i].name, name))
			continue;
		if (config->volumes[i].disk == disk)
			return &config->volumes[i];
		error_set_exit(err, EXIT_USAGE, -EEXIST, "%s is the name of a volume and of a disk; "
			       "points are listed by name, so give one of them another", name);
		return NULL;
	}
	if (!volume_name_good(name)) {
		error_set_exit(err, EXIT_USAGE, -EINVAL, "\"%.100s\" is no name for a %s: "
			       "use letters, digits and . _ -, at most %d", name,
			       disk ? "disk" : "volume", VOLUME_NAME_MAX);
		return NULL;
	}
	volumes = reallocarray(config->volumes, config->volume_count + 1, sizeof(*volumes));
	if (!volumes) {
		error_set(err, -ENOMEM, "reading the configuration: out of memory");
		return NULL;
	}
	config->volumes = volumes;
	volume = &volumes[config->volume_count++];
	memset(volume, 0, sizeof(*volume));
	strcpy(volume->name, name);
	volume->disk = disk;
	volume->fingerprints = volume->skip_unchanged = true;
	volume->spot_checks = 32;
	schedule_unset(&volume->schedule);
	hook_unset(&volume->hook);
	drill_unset(&volume->drill);
	return volume;
}

struct config_group *config_group_make(struct config *config, const char *name,
				       struct error *err)
{
	struct config_group *groups, *group;

	for (size_t i = 0; i < config->group_count; i++)
		if (!strcmp(config->groups[i].name, name))
			return &config->groups[i];
	if (!volume_name_good(name)) {
		error_set_exit(err, EXIT_USAGE, -EINVAL, "\"%.100s\" is no name for a group: "
			       "use letters, digits and . _ -, at most %d", name, VOLUME_NAME_MAX);
		return NULL;
	}
	groups = reallocarray(config->groups, config->group_count + 1, sizeof(*groups));
	if (!groups) {
		error_set(err, -ENOMEM, "reading the configuration: out of memory");
		return NULL;
	}
	config->groups = groups;
	group = &groups[config->group_count++];
	memset(group, 0, sizeof(*group));
	strcpy(group->name, name);
	schedule_unset(&group->schedule);
	hook_unset(&group->hook);
	return group;
}

static int group_assign(struct config *config, const char *name, const char *key,
			const char *value, struct error *err)
{
	struct config_group *group = config_group_make(config, name, err);

	int ret;

	if (!group)
		return err->code;
	ret = schedule_assign(&group->schedule, key, value, err);
	return ret == 1 ? hook_assign(&group->hook, key, value, err) : ret;
}

static int volume_assign(struct config *config, const char *name, const char *key,
			 const char *value, struct error *err)
{
	struct config_volume *volume = config_volume_make(config, name, false, err);
	int ret;

	if (!volume)
		return err->code;
	if (!strcmp(key, "cow"))
		return assign_cow(&volume->cow, value, err);
	if (!strcmp(key, "provider"))
		return assign_provider(&volume->provider, value, err);
	if (!strcmp(key, "keep"))
		return config_assign_keep(&volume->keep, value, err);
	ret = schedule_assign(&volume->schedule, key, value, err);
	if (ret == 1)
		ret = hook_assign(&volume->hook, key, value, err);
	if (ret == 1)
		ret = drill_assign(&volume->drill, key, value, err);
	if (ret == 1)
		ret = assign_from(volume_keys, volume, key, value, err);
	if (ret == 0 && !strcmp(key, "group") && !volume_name_good(value))
		return config_bad_value(err, key, value, "use letters, digits and . _ -");
	if (ret == 0 && !strcmp(key, "granularity") &&
	    (volume->granularity_bytes & (volume->granularity_bytes - 1)))
		return config_bad_value(err, key, value, "give a power of two");
	return ret;
}

static int agent_assign(struct config *config, const char *key, const char *value,
			struct error *err)
{
	int ret = schedule_assign(&config->agent.schedule, key, value, err);

	if (!strcmp(key, "io_class"))
		return assign_io_class(&config->agent.limits.io_class, value, err);
	if (!strcmp(key, "compression"))
		config->agent.compression_auto = !strcmp(value, "auto");
	if (!strcmp(key, "compression") && config->agent.compression_auto) {
		config->agent.compression = 1;
		return 0;
	}
	/* The collector passes over all others without a word. */
	if (!strcmp(key, "metrics") && fnmatch("/*.prom", value, 0))
		return config_bad_value(err, key, value, "give an absolute path that ends in .prom");
	if (!strcmp(key, "metrics_listen"))
		return listen_assign(config->agent.metrics_listen, key, value, err);
	if (!strcmp(key, "log_format"))
		return log_assign(&config->agent.log_format, key, value, err);
	if (ret == 1)
		ret = drill_assign(&config->agent.drill, key, value, err);
	return ret == 1 ? assign_from(agent_keys, config, key, value, err) : ret;
}

static int store_assign(struct config_store *store, const char *key, const char *value,
			struct error *err)
{
	int ret;

	if (!strcmp(key, "retention")) {
		ret = config_assign_calendar(key, value, store->retention, err);
		if (!ret && !strcmp(value, "never"))
			store->retention[0] = '\0';
		return ret;
	}
	if (!strcmp(key, "keep"))
		return config_assign_keep(&store->keep, value, err);
	ret = price_assign(store, key, value, err);
	return ret == 1 ? assign_from(store_keys, store, key, value, err) : ret;
}

static int repository_assign(struct config *config, const char *key, const char *value,
			     struct error *err)
{
	int ret;

	if (config_key_repeats(key))
		return assign_recipient(config, value, err);
	ret = store_assign(&config->repository, key, value, err);
	return ret == 1 ? assign_from(identity_keys, config, key, value, err) : ret;
}

static struct config_store *store_named(struct config *config, const char *name,
					struct error *err)
{
	struct config_store *stores = config->stores, *store;

	for (size_t i = 0; i < config->store_count; i++)
		if (!strcmp(stores[i].name, name))
			return &stores[i];
	if (!volume_name_good(name) || !strcmp(name, CONFIG_STORE_FIRST)) {
		error_set_exit(err, EXIT_USAGE, -EINVAL, "\"%.100s\" is no name for a store: "
			       "use letters, digits and . _ -, at most %d, and not "
			       CONFIG_STORE_FIRST, name, VOLUME_NAME_MAX);
		return NULL;
	}
	if (config->store_count == CONFIG_STORES_MAX) {
		error_set_exit(err, EXIT_USAGE, -E2BIG, "[store %s] is one too many; there may be "
			       "%d besides [repository]", name, CONFIG_STORES_MAX);
		return NULL;
	}
	stores = reallocarray(stores, config->store_count + 1, sizeof(*stores));
	if (!stores) {
		error_set(err, -ENOMEM, "reading the configuration: out of memory");
		return NULL;
	}
	config->stores = stores;
	store = &stores[config->store_count++];
	memset(store, 0, sizeof(*store));
	strcpy(store->name, name);
	store->lag_warning_ns = 3600ull * SECOND_NS;
	return store;
}

/* Only a further store can lag. */
static int further_assign(struct config *config, const char *name, const char *key,
			  const char *value, struct error *err)
{
	struct config_store *store = store_named(config, name, err);

	if (!store)
		return err->code;
	if (strcmp(key, "lag_warning"))
		return store_assign(store, key, value, err);
	store->lag_warning_ns = 0;
	if (strcmp(value, "off") && (config_parse_duration(value, &store->lag_warning_ns) ||
				     store->lag_warning_ns < SECOND_NS ||
				     store->lag_warning_ns > 366ull * 86400 * SECOND_NS))
		return config_bad_value(err, key, value, "give a duration like 1h, from 1s to "
					"366d, or off");
	return 0;
}

/* What comes afterwards is the rescue system's to do, which reads it by itself. */
static int recover_assign(struct config *config, const char *key, const char *value,
			  struct error *err)
{
	if (strcmp(key, "afterwards"))
		return assign_from(recover_keys, config, key, value, err);
	if (strcmp(value, "stay") && strcmp(value, "reboot") && strcmp(value, "poweroff"))
		return config_bad_value(err, key, value, "give stay, reboot or poweroff");
	return 0;
}

static int no_section(const char *section, struct error *err)
{
	return error_set_exit(err, EXIT_USAGE, -EINVAL, "[%.100s] is no section; there are "
			      "[repository], [store NAME], [agent], [notify], [recover], "
			      "[volume NAME], [group NAME] and [disk NAME]",
			      section);
}

int config_section(struct config *config, const char *section, struct error *err)
{
	if (!strncmp(section, "volume ", 7))
		return config_volume_make(config, section + 7, false, err) ? 0 : err->code;
	if (!strncmp(section, "disk ", 5))
		return config_volume_make(config, section + 5, true, err) ? 0 : err->code;
	if (!strncmp(section, "group ", 6))
		return config_group_make(config, section + 6, err) ? 0 : err->code;
	if (!strncmp(section, "store ", 6))
		return store_named(config, section + 6, err) ? 0 : err->code;
	if (!strcmp(section, "repository") || !strcmp(section, "agent") ||
	    !strcmp(section, "notify") || !strcmp(section, "recover"))
		return 0;
	return no_section(section, err);
}

bool config_key_repeats(const char *key)
{
	return !strcmp(key, "recipient");
}

int config_assign(struct config *config, const char *section, const char *key,
		  const char *value, struct error *err)
{
	int ret;

	if (!strcmp(section, "repository"))
		ret = repository_assign(config, key, value, err);
	else if (!strcmp(section, "agent"))
		ret = agent_assign(config, key, value, err);
	else if (!strcmp(section, "notify"))
		ret = notify_assign(&config->notify, key, value, err);
	else if (!strcmp(section, "recover"))
		ret = recover_assign(config, key, value, err);
	else if (!strncmp(section, "volume ", 7))
		ret = volume_assign(config, section + 7, key, value, err);
	else if (!strncmp(section, "disk ", 5))
		ret = disk_assign(config, section + 5, key, value, err);
	else if (!strncmp(section, "group ", 6))
		ret = group_assign(config, section + 6, key, value, err);
	else if (!strncmp(section, "store ", 6))
		ret = further_assign(config, section + 6, key, value, err);
	else
		return no_section(section, err);
	if (ret == 1)
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "[%s] has no key \"%.100s\"; see "
				      "clawback.conf(5)", section, key);
	return ret;
}
