/*
 * Names and uuids of device-mapper devices, among which recover looks for our own
 * helpers: anybody may have made such a device.
 *
 * Input: name and uuid in turn, one a line.
 */
#include "agent/volume/dm.h"

#define dmdev_info(device, info, err) fuzz_info(device, info, err)
#define dmdev_each(visit, context, err) fuzz_each(visit, context, err)
static int fuzz_info(uint32_t device, struct dmdev_info *info, struct error *err);
static int fuzz_each(int (*visit)(const char *name, uint32_t device, void *context),
		     void *context, struct error *err);
#include "agent/volume/recover.c"

#include "tests/fuzz/fuzz.h"

/* The kernel's own limits, with the NUL. */
#define NAME_SIZE 128
#define UUID_SIZE 129

static char *uuid_line;
static char *lines;

static int fuzz_info(uint32_t device, struct dmdev_info *info, struct error *err)
{
	(void)err;
	memset(info, 0, sizeof(*info));
	info->device = device;
	snprintf(info->uuid, UUID_SIZE, "%s", uuid_line);
	return 0;
}

static int fuzz_each(int (*visit)(const char *name, uint32_t device, void *context),
		     void *context, struct error *err)
{
	char *save = NULL;
	uint32_t device = 0;
	int ret = 0;

	(void)err;
	for (char *line = strtok_r(lines, "\n", &save); line && !ret;
	     line = strtok_r(NULL, "\n", &save)) {
		uuid_line = strtok_r(NULL, "\n", &save);
		if (!uuid_line)
			break;
		if (strlen(line) >= NAME_SIZE)
			line[NAME_SIZE - 1] = '\0';
		ret = visit(line, ++device, context);
	}
	return ret;
}

static void check_entry(const struct leftovers_list *list, size_t i)
{
	const struct leftovers *entry = &list->items[i];

	FUZZ_CHECK_TEXT(entry->real);
	FUZZ_CHECK_TEXT(entry->origin);
	FUZZ_CHECK_TEXT(entry->snap);
	FUZZ_CHECK_TEXT(entry->cow);
	FUZZ_CHECK_TEXT(entry->name);
	FUZZ_CHECK(!entry->name[0] || volume_name_valid(entry->name));
	for (size_t j = 0; j < i; j++)
		FUZZ_CHECK(!uuid_equal(&list->items[j].id, &entry->id));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct error err = ERROR_INIT;
	struct leftovers_list list = { NULL, 0, &err };

	lines = fuzz_text(data, length);
	FUZZ_CHECK(!dmdev_each(leftovers_visit, &list, &err));
	for (size_t i = 0; i < list.count; i++)
		check_entry(&list, i);
	free(list.items);
	free(lines);
	return 0;
}
