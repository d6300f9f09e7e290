/*
 * Opens a boundary on devices as they are, for tests written in shell: prints a
 * line "NAME READ_PATH frozen|raw" for each, waits for the end of its input,
 * checks, closes. Untracked. Exit code 1 and the message when something failed.
 *
 *   volume_open [--cow ram:BYTES|file:FOLDER|device:PATH] NAME=DEVICE...
 */
#include "agent/volume/volume.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int parse_cow(const char *text, struct cow_options *cow)
{
	const char *value = strchr(text, ':');

	if (!value)
		return -1;
	value++;
	if (strncmp(text, "ram", 3) == 0) {
		cow->kind = COW_RAM;
		cow->bytes = strtoull(value, NULL, 0);
		return 0;
	}
	cow->kind = strncmp(text, "file", 4) == 0 ? COW_FILE : COW_DEVICE;
	snprintf(cow->path, sizeof(cow->path), "%s", value);
	return 0;
}

static int parse_volume(char *text, struct boundary_volume *volume, struct error *err)
{
	char *path = strchr(text, '=');

	if (!path || uuid_new(&volume->id))
		return -1;
	*path++ = '\0';
	volume->name = text;
	return device_facts(path, &volume->device, err);
}

static int run(struct boundary_volume *volumes, size_t count, struct error *err)
{
	struct boundary *boundary;
	int closed, ret = boundary_open(NULL, volumes, count, NULL, &boundary, err);
	char byte;

	if (ret)
		return ret;
	for (size_t i = 0; i < count; i++)
		printf("%s %s %s\n", volumes[i].name, volumes[i].read_path,
		       volumes[i].frozen_fs ? "frozen" : "raw");
	fflush(stdout);
	while (read(0, &byte, 1) == 1)
		;
	ret = boundary_check(boundary, err);
	closed = boundary_close(boundary, err);
	return ret ? ret : closed;
}

int main(int argc, char **argv)
{
	static struct boundary_volume volumes[VOLUME_GROUP_MAX];
	struct cow_options cow = { .kind = COW_RAM };
	struct error err = ERROR_INIT;
	size_t count = 0;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--cow") == 0 && i + 1 < argc) {
			if (parse_cow(argv[++i], &cow))
				return 2;
			continue;
		}
		if (count == VOLUME_GROUP_MAX ||
		    parse_volume(argv[i], &volumes[count++], &err)) {
			fprintf(stderr, "%s\n", err.message);
			return 2;
		}
	}
	for (size_t i = 0; i < count; i++)
		volumes[i].cow = cow;
	if (run(volumes, count, &err)) {
		fprintf(stderr, "%s\n", err.message);
		return 1;
	}
	return 0;
}
