/*
 * Where a volume lies: digests of its device-mapper table. From boot to boot numbers
 * of devices do not stay the same; there they are left out, and whether it is the same
 * disk beneath the contents tell. Of a dm-crypt line the key is left out: what is kept
 * in a file must say nothing of it.
 */
#include "agent/base/cleanup.h"
#include "agent/base/le.h"
#include "agent/crypto/crypto.h"
#include "agent/volume/dm.h"
#include "agent/volume/snapshot.h"
#include "agent/volume/sysfs.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* "253:4" */
static bool is_number(const char *word, size_t length)
{
	size_t i = 0, colon;

	while (i < length && isdigit((unsigned char)word[i]))
		i++;
	colon = i;
	if (!i || i == length || word[i] != ':')
		return false;
	for (i++; i < length && isdigit((unsigned char)word[i]); i++)
		;
	return i == length && i > colon + 1;
}

static void line_add(const struct dmtable_line *line, bool numbers, struct digest *digest)
{
	struct le64 place[2] = { le64(line->start_sector), le64(line->sectors) };
	const char *word = line->parameters;
	bool crypt = strcmp(line->type, "crypt") == 0;

	digest_update(digest, place, sizeof(place));
	digest_update(digest, line->type, strlen(line->type) + 1);
	for (unsigned i = 0; *word; i++) {
		size_t length = strcspn(word, " ");

		if ((!numbers && is_number(word, length)) || (crypt && i == 1))
			digest_update(digest, "*", 1);
		else
			digest_update(digest, word, length);
		digest_update(digest, " ", 1);
		word += length;
		word += strspn(word, " ");
	}
	digest_update(digest, "\n", 1);
}

int device_place_digest(const struct device_facts *device,
			uint8_t digest[static 32], struct error *err)
{
	CLEANUP(dmtable_fini) struct dmtable table = { NULL, 0 };
	struct le64 start = le64(device->start_sector);
	struct digest *sum;
	int ret = device->is_dm ? dmdev_table(device->device, false, &table, err) : 0;

	if (ret)
		return ret;
	sum = digest_new();
	if (!sum)
		return error_set(err, -ENOMEM, "out of memory");
	digest_update(sum, &start, sizeof(start));
	for (size_t i = 0; i < table.count; i++)
		line_add(&table.lines[i], false, sum);
	digest_finish(sum, digest);
	return 0;
}

/* "253:4 0": the device that a helper's or a window's line leads to. */
static bool leads_to(const struct dmtable *table, const char *type, uint32_t *device)
{
	unsigned major, minor;

	if (!table->count || strcmp(table->lines[0].type, type) ||
	    sscanf(table->lines[0].parameters, "%u:%u", &major, &minor) != 2)
		return false;
	*device = major << 20 | minor;
	return true;
}

#define OWN_TABLE_TRIES 5

/*
 * While a snapshot of ours stands the volume's table leads to V-origin, that one's to
 * V-real, which has the volume's own. -ENODEV: what the table led to is gone, so the
 * table is another one by now.
 */
static int own_table_once(uint32_t device, struct dmtable *table, struct error *err)
{
	CLEANUP(dmtable_fini) struct dmtable origin = { NULL, 0 };
	struct dmdev_info info;
	uint32_t below, real;
	int ret = dmdev_table(device, false, table, err);

	/* Most volumes lead to no dm device, and few of those are ours. */
	if (ret || !leads_to(table, "linear", &below) ||
	    DEVICE_MAJOR(below) != DEVICE_MAJOR(device))
		return ret;
	ret = dmdev_info(below, &info, err);
	if (ret || strncmp(info.uuid, HELPER_UUID_PREFIX, strlen(HELPER_UUID_PREFIX)))
		return ret;
	ret = dmdev_table(below, false, &origin, err);
	if (ret || !leads_to(&origin, "snapshot-origin", &real))
		return ret;
	dmtable_fini(table);
	*table = (struct dmtable){ NULL, 0 };
	return dmdev_table(real, false, table, err);
}

/* Nobody locks out a run that is taking its snapshot away. */
int device_own_table(uint32_t device, struct dmtable *table, struct error *err)
{
	int ret = own_table_once(device, table, err);

	for (int tries = 1; ret == -ENODEV && tries < OWN_TABLE_TRIES; tries++) {
		*err = (struct error)ERROR_INIT;
		dmtable_fini(table);
		*table = (struct dmtable){ NULL, 0 };
		ret = own_table_once(device, table, err);
	}
	return ret;
}

int device_table_digest(uint32_t device, uint8_t digest[static 32], struct error *err)
{
	CLEANUP(dmtable_fini) struct dmtable table = { NULL, 0 };
	struct digest *sum;
	int ret = device_own_table(device, &table, err);

	if (ret)
		return ret;
	sum = digest_new();
	if (!sum)
		return error_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < table.count; i++)
		line_add(&table.lines[i], true, sum);
	digest_finish(sum, digest);
	return 0;
}
