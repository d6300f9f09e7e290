/*
 * Whole disks: how one is laid out, and which of its parts no volume has.
 *
 * A *layout* is all that is needed to make the disk anew, empty, and to put back what
 * lay on it: size, partition table, what each partition holds, LVM, and which volumes of
 * the configuration lie where. It travels as JSON in the manifest of the disk's points
 * (docs/format.md "Layout"). The points' data are the *ranges*: the table, what lies
 * between partitions, boot partitions, headers of LUKS and LVM. All else of a disk is in
 * the points of volumes, or is swap or free, and is a hole.
 *
 * Nothing is ever written to a disk. All offsets are bytes from the disk's start, but
 * where another base is named. Threads: one at a time.
 */
#ifndef CLAWBACK_DISK_DISK_H
#define CLAWBACK_DISK_DISK_H

#include "agent/base/error.h"
#include "agent/base/uuid.h"
#include "agent/volume/volume.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DISK_VERSION 1

/* Bounds: a layout with more is neither made nor believed. */
#define DISK_LAYOUT_BYTES_MAX (8u << 20)	/* its JSON text */
#define DISK_METADATA_BYTES_MAX (1u << 20)	/* text of one volume group */
#define DISK_PARTITIONS_MAX 256
#define DISK_CRYPTS_MAX 256
#define DISK_GROUPS_MAX 64
#define DISK_PVS_MAX 256			/* of one volume group */
#define DISK_LVS_MAX 1024			/* of one volume group */
#define DISK_RANGES_MAX 2048

/* Bytes of texts with their NUL; all are UTF-8 without control characters. */
#define DISK_WORD_ROOM 48		/* types, and UUIDs as libblkid and LVM write them */
#define DISK_NAME_ROOM 160
#define DISK_PATH_ROOM 256

/* ---- what a device holds ------------------------------------------------ */

enum disk_kind {
	DISK_EMPTY,		/* nothing that libblkid knows */
	DISK_FILE_SYSTEM,
	DISK_SWAP,
	DISK_PV,		/* of LVM */
	DISK_LUKS,
	DISK_OTHER,		/* a member of an array, …: `type` says of what */
	DISK_KINDS
};

/* Where its bytes are kept. */
enum disk_kept {
	DISK_KEPT_NOT,		/* left_out, or it needs none: swap, an extended partition */
	DISK_KEPT_HERE,		/* all of it is in a range of this point */
	DISK_KEPT_HEADER,	/* its header is; what it carries is elsewhere in the layout */
	DISK_KEPT_VOLUME,	/* in the points of `volume` */
	DISK_KEPTS
};

struct disk_content {
	enum disk_kind kind;
	enum disk_kept kept;
	char type[DISK_WORD_ROOM];	/* "ext4", "vfat", "swap", "crypto_LUKS", …; "" */
	char uuid[DISK_WORD_ROOM];	/* of the file system, swap, PV, LUKS; "" */
	char label[DISK_NAME_ROOM];	/* "" */
	char mount[DISK_PATH_ROOM];	/* where it was mounted, or "swap"; "" when not in use */
	bool left_out;			/* the configuration wants it so: it is in no point */
	char volume[VOLUME_NAME_MAX + 1]; /* KEPT_VOLUME: its name, */
	bool has_volume_id;
	struct uuid volume_id;		/* and, if it had one by then, its id in the repository */
};

/* ---- where something lies ----------------------------------------------- */

enum disk_on {
	DISK_ON_DISK,		/* on the disk itself: there is no table */
	DISK_ON_PARTITION,	/* index into `partitions` (not its number) */
	DISK_ON_CRYPT,		/* index into `crypts` */
	DISK_ON_LV,		/* index into `groups`, index into its `lvs` */
	DISK_ON_ELSEWHERE,	/* on another disk, or none is there: a PV of a group that
				 * only partly lies on this one */
	DISK_ONS
};

struct disk_place {
	enum disk_on on;
	uint32_t index, lv;
};

/* ---- the parts ------------------------------------------------------------ */

enum disk_table { DISK_TABLE_NONE, DISK_TABLE_DOS, DISK_TABLE_GPT, DISK_TABLES };

struct disk_partition {
	uint32_t number;		/* as the kernel counts them */
	uint64_t offset, bytes;		/* an extended one: up to the end of its logical ones */
	char type[DISK_WORD_ROOM];	/* a GUID in lower case, or "0x83" */
	char uuid[DISK_WORD_ROOM];	/* PARTUUID; dos: "" or made of the disk's id */
	char name[DISK_NAME_ROOM];	/* gpt; "" */
	uint64_t flags;			/* gpt: attributes; dos: 0x80 is bootable */
	bool extended, logical;		/* dos */
	struct disk_content content;
};

/* An opened LUKS; one that was not is only its holder's content. */
struct disk_crypt {
	char name[DISK_NAME_ROOM];	/* of /dev/mapper/… when it was open */
	struct disk_place place;	/* of the LUKS header */
	uint64_t header_bytes;		/* up to its data, from the start of that place */
	uint64_t bytes;			/* of what it shows */
	struct disk_content content;
};

struct disk_pv {
	char uuid[DISK_WORD_ROOM];	/* as LVM writes it */
	struct disk_place place;
	uint64_t bytes;			/* of the device */
	uint64_t data_offset;		/* of its first extent, from the start of that place */
};

struct disk_lv {
	char name[DISK_NAME_ROOM];
	char uuid[DISK_WORD_ROOM];
	uint64_t bytes;
	char type[DISK_WORD_ROOM];	/* of its first segment: "linear", "striped", "thin", … */
	uint32_t segments;
	struct disk_content content;
};

/* A volume group of which a PV lies on this disk; complete, also what lies elsewhere. */
struct disk_group {
	char name[DISK_NAME_ROOM];
	char uuid[DISK_WORD_ROOM];
	uint64_t extent_bytes;
	char *metadata;			/* owned; as vgcfgbackup writes it, for vgcfgrestore */
	struct disk_pv *pvs;		/* owned */
	size_t pv_count;
	struct disk_lv *lvs;		/* owned; visible ones */
	size_t lv_count;
};

/* ---- what a point of the disk holds ----------------------------------------- */

enum disk_what {
	DISK_TABLE_START,	/* from the disk's start to its first partition: boot code, table */
	DISK_TABLE_END,		/* gpt's second copy */
	DISK_GAP,		/* between partitions, not all zero */
	DISK_PARTITION,		/* all of a partition */
	DISK_LUKS_HEADER,
	DISK_LVM_HEADER,	/* label and metadata of a PV on the disk or a partition */
	DISK_WHATS
};

/* How sure it is that the range is as it was at one instant. */
enum disk_how {
	DISK_STILL,		/* nothing was written to it while it was read */
	DISK_FROZEN,		/* its file system was frozen while it was read */
	DISK_LIVE,		/* it was read as it is, while it was written to */
	DISK_HOWS
};

struct disk_range {
	uint64_t offset, bytes;		/* whole sectors */
	enum disk_what what;
	enum disk_how how;
	uint32_t partition;		/* its number; 0: of none */
};

enum disk_firmware { DISK_FIRMWARE_UNKNOWN, DISK_FIRMWARE_BIOS, DISK_FIRMWARE_UEFI,
		     DISK_FIRMWARES };

struct disk_layout {
	/* the machine */
	char host[DISK_NAME_ROOM], kernel[DISK_NAME_ROOM];
	enum disk_firmware firmware;	/* by which the kernel was started */
	uint64_t time_ns;		/* since 1970 */

	/* the disk */
	char device[DISK_PATH_ROOM];	/* "/dev/sda" then; names may change */
	char model[DISK_NAME_ROOM], serial[DISK_NAME_ROOM]; /* "" */
	uint64_t bytes;
	uint32_t logical_block_bytes, physical_block_bytes;
	bool boot_code;			/* there is some in its first 440 bytes, */
	bool boot_grub;			/* and it is GRUB's */

	/* its table */
	enum disk_table table;
	char table_uuid[DISK_WORD_ROOM]; /* gpt: GUID; dos: "0x1234abcd" or "" */
	uint64_t usable_offset, usable_bytes; /* gpt: where partitions may lie; else 0 */
	uint32_t table_entries;		/* gpt: room for so many; else 0 */

	struct disk_content content;	/* TABLE_NONE: of the disk itself; else EMPTY */
	struct disk_partition *partitions; /* owned; by offset */
	size_t partition_count;
	struct disk_crypt *crypts;	/* owned */
	size_t crypt_count;
	struct disk_group *groups;	/* owned */
	size_t group_count;
	struct disk_range *ranges;	/* owned; by offset, apart from each other */
	size_t range_count;
};

void disk_layout_fini(struct disk_layout *layout);

/*
 * What is left out of the JSON text, or not as above, is -EBADMSG, which `err` explains:
 * ranges and partitions lie inside the disk and do not overlap (but logical ones in their
 * extended one), places are there and nothing lies on itself, words are known, numbers
 * bounded. -EOPNOTSUPP for a later version. `layout` is filled on success only.
 */
int disk_layout_decode(const char *text, size_t length, struct disk_layout *layout,
		       struct error *err);
/* Checked in the same way; caller frees *text, which is one line. */
int disk_layout_encode(const struct disk_layout *layout, char **text, struct error *err);

/* Words of the JSON text, and for people. */
const char *disk_kind_name(enum disk_kind kind);
const char *disk_kept_name(enum disk_kept kept);
const char *disk_table_name(enum disk_table table);
const char *disk_what_name(enum disk_what what);
const char *disk_how_name(enum disk_how how);
const char *disk_firmware_name(enum disk_firmware firmware);

/* By number; NULL when there is none. */
const struct disk_partition *disk_partition_numbered(const struct disk_layout *layout,
						     uint32_t number);

/* ---- looking at a disk -------------------------------------------------------- */

/* Of a mounted file system that no volume has, up to so much is read. */
#define DISK_LIVE_BYTES_MAX (4ull << 30)

/* A volume of the configuration that is there now. */
struct disk_volume {
	const char *name;
	uint32_t device;		/* kernel dev_t */
	bool has_id;
	struct uuid id;			/* in the repository */
};

struct disk_options {
	const struct disk_volume *volumes;
	size_t volume_count;
	/* "3, vg0/scratch, sda5_crypt": partitions, LVs and crypts that need not be kept. */
	const char *leave_out;
};

/*
 * The disk's layout as it is now, ranges and all; they have no `how` yet. Nothing is
 * left out silently: EXIT_USAGE names what no volume has, cannot be read as it is, and is
 * not in leave_out; or what of leave_out is not there. LVM's own tools are run, if there
 * is a PV.
 */
int disk_capture(const struct device_facts *disk, const struct disk_options *options,
		 struct disk_layout *layout, struct error *err);

/*
 * Whether the ranges stay as they are while they are read. Begin: writes out what waits,
 * and with `freeze` holds the file systems still that lie in ranges and allow it, for
 * `limit_ms` at most, also if this process dies. End: lets them go, looks again and fills
 * in `how`; -EAGAIN when something was written outside of mounted file systems: then
 * what was read is not to be used. `still`: no range is live. end(NULL) is fine.
 */
struct disk_watch;
int disk_watch_begin(const struct device_facts *disk, const struct disk_layout *layout,
		     bool freeze, unsigned limit_ms, struct disk_watch **watch,
		     struct error *err);
int disk_watch_end(struct disk_watch *watch, struct disk_layout *layout, bool *still,
		   struct error *err);

#endif
