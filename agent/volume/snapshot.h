/*
 * How one volume of a boundary is held still: the two providers, and what
 * recover shares with them. Private to agent/volume.
 */
#ifndef CLAWBACK_VOLUME_SNAPSHOT_H
#define CLAWBACK_VOLUME_SNAPSHOT_H

#include "agent/volume/volume.h"

struct snapshot_provider_ops;

/* One volume of an open boundary. */
struct snapshot {
	const struct snapshot_provider_ops *ops;
	struct boundary_volume *volume;
	struct tracker *tracker;		/* NULL when nothing is tracked */
	const struct boundary_volume *volumes;	/* the whole boundary */
	size_t count;

	/* dm */
	char real_name[128], snap_name[128];
	uint32_t real_device, origin_device, snap_device;
	uint32_t cookie;			/* of V's resumes, to be waited for */

	/* none: counters when it had come to rest */
	struct tracker_ledger quiet;
};

struct snapshot_provider_ops {
	enum snapshot_provider provider;
	/* Everything that can be done before the instant. On failure the caller
	 * calls release. */
	int (*prepare)(struct snapshot *snapshot, struct error *err);
	/* The instant was taken: makes sure of it, and fills read_path. */
	int (*switched)(struct snapshot *snapshot, struct error *err);
	int (*check)(struct snapshot *snapshot, struct error *err);
	int (*fill)(struct snapshot *snapshot, unsigned *percent,
		    struct error *err);
	/* Waits, bounded, until udev has handled what it was told of the volume. */
	void (*settle)(struct snapshot *snapshot);
	/* Undoes whatever was done, as far as it got; may be called again. */
	int (*release)(struct snapshot *snapshot, struct error *err);
};

extern const struct snapshot_provider_ops snapshot_dm_ops;
extern const struct snapshot_provider_ops snapshot_none_ops;

/* Helper devices of one volume that exist now. */
struct leftovers {
	struct uuid id;
	char name[VOLUME_NAME_MAX + 1];		/* the volume's, "" if unclear */
	/* device names, "" if absent */
	char real[128], origin[128], snap[128], cow[128];
	uint32_t real_device, origin_device;
};

#define HELPER_UUID_PREFIX "CLAWBACK-"

/* Names and uuids of helper devices; `kind` is "real", "origin", "snap" or "cow". */
void leftovers_device_name(const char *volume, const char *kind, char name[static 128]);
void leftovers_device_uuid(const struct uuid *id, const char *kind,
			   char uuid[static 130]);

/*
 * Gives every volume that runs on these helpers, or has them in its inactive
 * slot, its own table back and removes them and the tracker's alias. Stops at
 * the first thing that fails; running it again goes on from there. Adds to
 * `removed`. The caller holds the volume's lock, and waits for `cookie` (dm.h), in
 * any case.
 */
int leftovers_remove(const struct leftovers *left, struct tracker *tracker,
		     uint32_t *cookie, unsigned *removed, struct error *err);
/* The same for whatever exists of volume `id`. */
int leftovers_remove_of(const struct uuid *id, struct tracker *tracker,
			uint32_t *cookie, unsigned *removed, struct error *err);

/*
 * A volume's own device-mapper table, also while a snapshot of ours stands (place.c;
 * `table` zeroed on entry), and the SHA-256 of it, without keys.
 */
struct dmtable;
int device_own_table(uint32_t device, struct dmtable *table, struct error *err);
int device_table_digest(uint32_t device, uint8_t digest[static 32], struct error *err);

bool volume_name_valid(const char *name);

/*
 * The path of a volume's file in the state folder, or of its folder (`file` NULL).
 * There is room behind it for VOLUME_PATH_ROOM bytes more.
 */
#define VOLUME_PATH_ROOM 16
int volume_path(const char *state_folder, const char *name, const char *file,
		char path[static PATH_MAX], struct error *err);

#endif
