/*
 * The udev rules of an adoption. Numbered to come after the links of file systems
 * and device-mapper (60) and before whoever assembles what it finds (64 btrfs, 69 LVM).
 */
#include "agent/adopt/adopt_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RULE_BYTES_MAX 65536u
/* What scripts/packaging/initramfs-hook goes by. */
#define RULE_IN_INITRAMFS "# clawback: for the initramfs\n"
#define RULE_MATCH "ENV{%s}!=\"%s\""	/* property, identity */

bool adoption_name_valid(const char *name)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "abcdefghijklmnopqrstuvwxyz0123456789_-";

	return name[0] && name[0] != '-' && strlen(name) <= ADOPTION_NAME_MAX &&
	       strspn(name, allowed) == strlen(name);
}

void rule_path(const char *name, char path[static PATH_MAX])
{
	snprintf(path, PATH_MAX, RULES_FOLDER "/" RULE_PREFIX "%s" RULE_SUFFIX, name);
}

bool rule_exists(const char *name)
{
	char path[PATH_MAX];

	rule_path(name, path);
	return access(path, F_OK) == 0;
}

/* The program that runs now is the one that udev shall run. */
static int program_path(char path[static PATH_MAX], struct error *err)
{
	ssize_t length = readlink("/proc/self/exe", path, PATH_MAX - 1);

	if (length < 0)
		return error_set(err, -errno, "cannot find out where clawback lies: %s",
				 error_text(errno));
	path[length] = '\0';
	if (strpbrk(path, " \"'$%\\"))
		return error_set(err, -EINVAL, "%s cannot stand in a udev rule; install clawback "
				 "elsewhere", path);
	return 0;
}

static int rule_text(const struct adoption *adoption, char **text, struct error *err)
{
	char program[PATH_MAX], label[2 * sizeof(adoption->label)] = "";
	int ret = program_path(program, err);

	if (ret)
		return ret;
	if (adoption->label[0])
		snprintf(label, sizeof(label), ", SYMLINK+=\"disk/by-partlabel/%s\"",
			 adoption->label);
	if (asprintf(text,
"# Written by `clawback adopt`; `clawback release %s` takes it away.\n"
"%s"
"SUBSYSTEM!=\"block\", GOTO=\"clawback_end\"\n"
"ACTION==\"remove\", GOTO=\"clawback_end\"\n"
"\n"
"# The adopted device stands for the partition, under all its names.\n"
"ENV{DM_UUID}==\"" ADOPTED_UUID_PREFIX "%s\"%s%s%s%s\n"
"\n"
"ENV{DEVTYPE}!=\"%s\", GOTO=\"clawback_end\"\n"
RULE_MATCH ", GOTO=\"clawback_end\"\n"
"# Not adopted: a partition like any other.\n"
"PROGRAM!=\"%s adopt --event $devnode %s %s\", GOTO=\"clawback_end\"\n"
"SYMLINK=\"\", ENV{ID_FS_TYPE}=\"clawback_adopted\", ENV{ID_FS_USAGE}=\"\", ENV{SYSTEMD_READY}=\"0\"\n"
"LABEL=\"clawback_end\"\n",
		     adoption->name, adoption->root ? RULE_IN_INITRAMFS : "", adoption->identity,
		     adoption->whole_disk ? "" : ", SYMLINK+=\"disk/by-partuuid/",
		     adoption->whole_disk ? "" : adoption->identity,
		     adoption->whole_disk ? "" : "\"", label,
		     adoption->whole_disk ? "disk" : "partition", adoption->property,
		     adoption->identity, program, adoption->name, adoption->identity) < 0) {
		*text = NULL;
		return error_set(err, -ENOMEM, "out of memory");
	}
	return 0;
}

/* ---- all of them ------------------------------------------------------------- */

static int is_rule(const struct dirent *entry)
{
	size_t length = strlen(entry->d_name), head = strlen(RULE_PREFIX), tail = strlen(RULE_SUFFIX);

	return length > head + tail && !strncmp(entry->d_name, RULE_PREFIX, head) &&
	       !strcmp(entry->d_name + length - tail, RULE_SUFFIX);
}

int rule_each(int (*visit)(const char *name, void *context), void *context, struct error *err)
{
	struct dirent **entries = NULL;
	int ret = 0, count = scandir(RULES_FOLDER, &entries, is_rule, alphasort);

	if (count < 0)
		return errno == ENOENT ? 0 : error_set(err, -errno, "cannot list " RULES_FOLDER ": %s",
						       error_text(errno));
	for (int i = 0; i < count; i++) {
		char *name = entries[i]->d_name + strlen(RULE_PREFIX);

		name[strlen(name) - strlen(RULE_SUFFIX)] = '\0';
		if (!ret)
			ret = visit(name, context);
		free(entries[i]);
	}
	free(entries);
	return ret;
}

struct rule_search {
	const struct adoption *adoption;
	struct error *err;
};

/* Does another name have rules for this device? */
static int search_one(const char *name, void *context)
{
	struct rule_search *search = context;
	CLEANUP_FREE char *text = NULL, *line = NULL;
	char path[PATH_MAX];

	rule_path(name, path);
	if (!strcmp(name, search->adoption->name) || file_read(path, RULE_BYTES_MAX, &text, NULL))
		return 0;
	if (asprintf(&line, RULE_MATCH, search->adoption->property, search->adoption->identity) < 0) {
		line = NULL;
		return error_set(search->err, -ENOMEM, "out of memory");
	}
	if (!strstr(text, line))
		return 0;
	return error_set(search->err, -EEXIST, "it is adopted already, as %s", name);
}

/* ---- one ------------------------------------------------------------------------ */

/* Whether the file is there and says this. */
static int rule_compare(const char *path, const char *text, const char *name, bool *same,
			struct error *err)
{
	CLEANUP_FREE char *found = NULL;
	int ret = file_read(path, RULE_BYTES_MAX, &found, NULL);

	*same = false;
	if (ret == -ENOENT)
		return 0;
	if (ret)
		return error_set(err, ret, "cannot read %s: %s", path, error_text(ret));
	if (strcmp(found, text))
		return error_set(err, -EEXIST, "%s is there already and says something else; "
				 "`clawback release %s` takes it away", path, name);
	*same = true;
	return 0;
}

static int rule_put(const struct adoption *adoption, bool write, struct error *err)
{
	struct rule_search search = { adoption, err };
	CLEANUP_FREE char *text = NULL;
	char path[PATH_MAX];
	bool same;
	int ret = rule_each(search_one, &search, err);

	if (!ret)
		ret = rule_text(adoption, &text, err);
	if (ret)
		return ret;
	rule_path(adoption->name, path);
	ret = rule_compare(path, text, adoption->name, &same, err);
	if (ret || same || !write)
		return ret;
	ret = file_make_folders(RULES_FOLDER, 0755);
	if (!ret)
		ret = file_replace(path, text, strlen(text), 0644);
	return ret ? error_set(err, ret, "cannot write %s: %s", path, error_text(ret)) : 0;
}

int rule_check(const struct adoption *adoption, struct error *err)
{
	return rule_put(adoption, false, err);
}

int rule_write(const struct adoption *adoption, struct error *err)
{
	return rule_put(adoption, true, err);
}

bool rule_in_initramfs(const char *name)
{
	CLEANUP_FREE char *text = NULL;
	char path[PATH_MAX];

	rule_path(name, path);
	return !file_read(path, RULE_BYTES_MAX, &text, NULL) && strstr(text, RULE_IN_INITRAMFS);
}

int rule_remove(const char *name, struct error *err)
{
	char path[PATH_MAX];
	int ret;

	rule_path(name, path);
	file_sweep(path, 0);
	ret = file_remove(path);
	return ret ? error_set(err, ret, "cannot remove %s: %s", path, error_text(ret)) : 0;
}
