/*
 * Where a volume lies, as far as that stays the same from boot to boot. Numbers of
 * devices do not: they are left out of the table, and whether it is the same disk
 * beneath the contents tell. Of a dm-crypt line the key is left out: what is kept
 * in a file must say nothing of it.
 */
#include "agent/base/cleanup.h"
#include "agent/base/le.h"
#include "agent/crypto/crypto.h"
#include "agent/volume/dm.h"
#include "agent/volume/volume.h"

#include <ctype.h>
#include <errno.h>
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

static void line_add(const struct dmtable_line *line, struct digest *digest)
{
	struct le64 place[2] = { le64(line->start_sector), le64(line->sectors) };
	const char *word = line->parameters;
	bool crypt = strcmp(line->type, "crypt") == 0;

	digest_update(digest, place, sizeof(place));
	digest_update(digest, line->type, strlen(line->type) + 1);
	for (unsigned i = 0; *word; i++) {
		size_t length = strcspn(word, " ");

		if (is_number(word, length) || (crypt && i == 1))
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
		line_add(&table.lines[i], sum);
	digest_finish(sum, digest);
	return 0;
}
