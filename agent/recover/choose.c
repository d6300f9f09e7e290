/* Which device takes a lost disk's place, and whether it may. */
#include "agent/recover/recover_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* Labels of what this system was started from, and of what holds its answers: never a
 * target, whatever else is said. */
static bool is_medium(const char *label)
{
	return !strcmp(label, "CLAWBACK_RESCUE") || !strcmp(label, "CLAWBACK");
}

static int partition_is_medium(void *context, const char *path)
{
	struct device_signature signature;
	struct error ignored = ERROR_INIT;

	(void)context;
	return !device_probe(path, &signature, &ignored) && is_medium(signature.label);
}

/* Why a device cannot be a target, or "". */
static int device_busy(const struct device_facts *facts, char *why, size_t room,
		       struct error *err)
{
	struct device_signature signature;
	CLEANUP_CLOSE int fd = -1;
	int ret;

	*why = '\0';
	if (facts->disk || facts->is_dm) {
		snprintf(why, room, "it is no whole disk");
		return 0;
	}
	if (facts->read_only) {
		snprintf(why, room, "it is read-only");
		return 0;
	}
	ret = device_usage(facts->device, why, room, err);
	if (ret || *why)
		return ret;
	/* The kernel's own answer, partitions included. */
	fd = open(facts->path, O_RDONLY | O_EXCL | O_CLOEXEC);
	if (fd < 0 && errno == EBUSY) {
		snprintf(why, room, "it, or a partition of it, is in use");
		return 0;
	}
	ret = device_probe(facts->path, &signature, err);
	if (!ret && (is_medium(signature.label) ||
		     device_partitions(facts->path, partition_is_medium, NULL) == 1))
		snprintf(why, room, "it holds the rescue system or its answers");
	return ret;
}

static int first_content(void *context, const char *path)
{
	struct device_signature signature;
	struct error ignored = ERROR_INIT;
	char *holds = context;
	size_t used = strlen(holds);

	if (!device_probe(path, &signature, &ignored) && *signature.type)
		snprintf(holds + used, 256 - used, ", %s%s%s", signature.type,
			 *signature.label ? " " : "", signature.label);
	return 0;
}

/* What lies on it, in a few words; "" when nothing is known of. */
static int device_holds(const char *path, char holds[static 256], struct error *err)
{
	struct device_signature signature;
	int ret = device_probe(path, &signature, err);

	*holds = '\0';
	if (ret)
		return ret;
	if (*signature.table)
		snprintf(holds, 256, "a partition table (%s)", signature.table);
	else if (*signature.type)
		snprintf(holds, 256, "%s%s%s", signature.type, *signature.label ? " " : "",
			 signature.label);
	device_partitions(path, first_content, holds);
	return 0;
}

static void device_model(const char *path, char *model, size_t room)
{
	const char *name = strrchr(path, '/');
	CLEANUP_FREE char *text = NULL;
	char file[PATH_MAX];

	*model = '\0';
	snprintf(file, sizeof(file), "/sys/block/%.200s/device/model", name ? name + 1 : path);
	if (!file_read(file, 4096, &text, NULL)) {
		snprintf(model, room, "%s", text);
		for (size_t i = strlen(model); i && (model[i - 1] == '\n' || model[i - 1] == ' '); )
			model[--i] = '\0';
	}
}

/* What a killed run left in use. */
static void target_release(struct recovery *recovery, const char *path)
{
	groups_release(recovery, path);
	crypts_release(recovery, path);
}

static int target_take(struct recovery *recovery, struct recover_disk *disk, const char *path,
		       const struct recover_options *options, struct error *err)
{
	struct device_facts facts;
	char why[256];
	int ret = device_facts(path, &facts, err);

	if (ret)
		return error_prefix(err, "disk %s onto %s", disk->name, path);
	if (options->erase && !options->dry_run)
		target_release(recovery, path);
	ret = device_busy(&facts, why, sizeof(why), err);
	if (!ret && *why)
		ret = error_set(err, -EBUSY, "%s; choose another device", why);
	if (!ret)
		ret = device_holds(path, disk->holds, err);
	if (!ret && *disk->holds && !options->erase)
		ret = error_set(err, -EEXIST, "it holds %s; if that may be lost, give --erase, or "
				"erase = yes in [recover]", disk->holds);
	if (!ret && facts.logical_block_bytes != disk->layout.logical_block_bytes)
		ret = error_set(err, -EOPNOTSUPP, "its sectors have %u bytes, those of the lost one "
				"had %u; its partition table and file systems could not be used "
				"there", facts.logical_block_bytes,
				disk->layout.logical_block_bytes);
	if (ret)
		return error_prefix(err, "disk %s onto %s", disk->name, path);
	snprintf(disk->target, sizeof(disk->target), "%s", facts.path);
	disk->target_bytes = facts.bytes;
	device_model(facts.path, disk->target_model, sizeof(disk->target_model));
	for (struct recover_disk *other = recovery->disks; other < disk; other++)
		if (!strcmp(other->target, disk->target))
			return error_set_exit(err, EXIT_USAGE, -EINVAL, "disks %s and %s are both to "
					      "go onto %s", other->name, disk->name, disk->target);
	return 0;
}

/* ---- without a word of which ------------------------------------------------------- */

struct candidates {
	size_t count;
	char path[PATH_MAX];	/* the last one */
	char list[600];
};

static void candidate_look(struct recovery *recovery, const struct recover_options *options,
			   struct candidates *candidates, const char *name)
{
	struct error ignored = ERROR_INIT;
	struct device_facts facts;
	char path[PATH_MAX], why[256], holds[256];
	size_t used = strlen(candidates->list);

	snprintf(path, sizeof(path), "/dev/%.200s", name);
	if (options->erase && !options->dry_run)
		target_release(recovery, path);
	if (device_facts(path, &facts, &ignored) || !facts.bytes || facts.is_dm ||
	    device_busy(&facts, why, sizeof(why), &ignored) ||
	    device_holds(path, holds, &ignored))
		return;
	if (!*why && *holds && !options->erase)
		snprintf(why, sizeof(why), "it holds %.200s", holds);
	snprintf(candidates->list + used, sizeof(candidates->list) - used, "%s%.60s (%llu MiB)%s%s",
		 used ? ", " : "", path, (unsigned long long)facts.bytes >> 20, *why ? ": " : "",
		 why);
	if (*why)
		return;
	candidates->count++;
	strcpy(candidates->path, path);
}

static bool is_virtual(const char *name)
{
	static const char *const prefixes[] = { "loop", "ram", "zram", "dm-", "md", "sr", "fd",
						"nbd", "." };

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (!strncmp(name, prefixes[i], strlen(prefixes[i])))
			return true;
	return false;
}

static int choose_only(struct recovery *recovery, const struct recover_options *options,
		       struct error *err)
{
	struct candidates candidates = { .count = 0 };
	DIR *dir = opendir("/sys/block");
	struct dirent *entry;

	if (!dir)
		return error_set(err, -errno, "listing disks: %s", error_text(errno));
	while ((entry = readdir(dir)))
		if (!is_virtual(entry->d_name))
			candidate_look(recovery, options, &candidates, entry->d_name);
	closedir(dir);
	if (recovery->disk_count == 1 && candidates.count == 1)
		return target_take(recovery, recovery->disks, candidates.path, options, err);
	error_set_exit(err, EXIT_USAGE, -EINVAL, "say which device each disk goes onto: --disks, or "
		       "disks in [recover], \"NAME:/dev/…\"; disks:");
	for (size_t i = 0; i < recovery->disk_count; i++) {
		size_t used = strlen(err->message);

		snprintf(err->message + used, sizeof(err->message) - used, "%s %s (%llu MiB)",
			 i ? "," : "", recovery->disks[i].name,
			 (unsigned long long)recovery->disks[i].layout.bytes >> 20);
	}
	return error_hint(err, "devices: %s", *candidates.list ? candidates.list : "none");
}

/* ---- as told --------------------------------------------------------------------------- */

static int choose_one(struct recovery *recovery, char *word,
		      const struct recover_options *options, struct error *err)
{
	char *path = strchr(word, ':');

	if (!path || path[1] != '/')
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "disks: \"%.100s\" is not of the form "
				      "NAME:/dev/…", word);
	*path++ = '\0';
	for (size_t i = 0; i < recovery->disk_count; i++)
		if (!strcmp(recovery->disks[i].name, word))
			return target_take(recovery, &recovery->disks[i], path, options, err);
	return error_set_exit(err, EXIT_USAGE, -ENOENT, "disks: the repository has no point of a disk "
			      "\"%.100s\"%s%s", word, options->at && *options->at ? " at " : "",
			      options->at ? options->at : "");
}

int choose_targets(struct recovery *recovery, const struct recover_options *options,
		   struct error *err)
{
	CLEANUP_FREE char *copy = NULL;
	char *rest, *word;
	int ret = 0;

	if (!options->disks || !*options->disks)
		return choose_only(recovery, options, err);
	copy = strdup(options->disks);
	if (!copy)
		return error_set(err, -ENOMEM, "out of memory");
	for (word = strtok_r(copy, " ", &rest); !ret && word; word = strtok_r(NULL, " ", &rest))
		ret = choose_one(recovery, word, options, err);
	return ret;
}
