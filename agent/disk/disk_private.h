/* Internal: what the files of this room share. */
#ifndef CLAWBACK_DISK_DISK_PRIVATE_H
#define CLAWBACK_DISK_DISK_PRIVATE_H

#include "agent/disk/disk.h"

/*
 * What the header says of a layout, whoever made it: 0, or -EBADMSG with `err` saying
 * what is not so.
 */
int disk_layout_check(const struct disk_layout *layout, struct error *err);

const char *disk_on_name(enum disk_on on);

/* Looking at a disk, from below upwards; what the kernel calls things is kept beside. */
struct capture {
	const struct device_facts *disk;
	const struct disk_options *options;
	int fd;				/* the disk, for reading */
	struct disk_layout *layout;
	uint32_t partition_devices[DISK_PARTITIONS_MAX]; /* 0: the kernel has none */
	uint32_t crypt_devices[DISK_CRYPTS_MAX];
	char problems[768];		/* what nothing keeps, for the message */
	bool left[64];			/* words of leave_out that were met */
};

/* disk/table.c: the table and its partitions, without what they hold. */
int capture_table(struct capture *capture, struct error *err);

/*
 * disk/content.c: what lies in `bytes` at `offset` of `fd`, and how `device` (0: the kernel
 * has none) is used.
 */
int content_look(int fd, uint64_t offset, uint64_t bytes, uint32_t device,
		 struct disk_content *content, struct error *err);
/* The same of all of a device. */
int content_look_at(uint32_t device, struct disk_content *content, struct error *err);
/* To be opened by; -ENAMETOOLONG, -ENODEV. */
int device_node(uint32_t device, char *path, size_t room);
/* Text from outside, made such as a layout may hold: cut off between characters, what is
 * no UTF-8 or a control character replaced. */
void text_take(char *to, size_t room, const char *from);

/* disk/crypt.c: what is open of the LUKS on `device`, which is at `place`. */
int capture_crypts(struct capture *capture, uint32_t device, uint64_t bytes,
		   const struct disk_place *place, struct error *err);

/* disk/lvm.c: groups of which a PV lies on what is in the layout. */
int capture_groups(struct capture *capture, struct error *err);
/* Where a device is; -ENOENT when it is none of ours. */
int capture_find(const struct capture *capture, uint32_t device, struct disk_place *place);

/* disk/keep.c: how each content is kept, or what is the matter. `lv` of which, or NULL. */
bool keep_left_out(struct capture *capture, const char *name);
void keep_volume(const struct capture *capture, uint32_t device,
		 struct disk_content *content);
int capture_keep(struct capture *capture, struct error *err);

/* disk/ranges.c */
int capture_ranges(struct capture *capture, struct error *err);

/* ---- LVM's reports (disk/report.c) --------------------------------------------- */

struct report_pv {
	char uuid[DISK_WORD_ROOM], group[DISK_NAME_ROOM], group_uuid[DISK_WORD_ROOM];
	uint64_t bytes, data_offset, extent_bytes;
	uint32_t device;		/* 0: it is missing */
};

struct report_lv {
	char group[DISK_NAME_ROOM], name[DISK_NAME_ROOM], uuid[DISK_WORD_ROOM];
	char type[DISK_WORD_ROOM], attributes[16];
	uint64_t bytes;
	uint32_t segments, device;	/* 0: it is not active */
};

#define REPORT_BYTES_MAX (16u << 20)
#define REPORT_PVS "pv_uuid,vg_name,vg_uuid,vg_extent_size,dev_size,pe_start,pv_major,pv_minor"
#define REPORT_LVS "vg_name,lv_name,lv_uuid,lv_size,lv_attr,lv_kernel_major,lv_kernel_minor," \
		   "segtype,seg_count"

/* What `pvs` and `lvs --reportformat json --units b --nosuffix -o …` say of those; caller
 * frees the items. -EBADMSG, -ENOMEM. */
int report_pvs(const char *text, size_t length, struct report_pv **pvs, size_t *count);
int report_lvs(const char *text, size_t length, struct report_lv **lvs, size_t *count);

/* ---- holding file systems still (disk/hold.c) ------------------------------------- */

#define HOLD_MAX 32

/*
 * Freezes the file systems mounted at `paths`, by a child that lets them go when this
 * process dies, or after `limit_ms`. One that cannot be frozen is written out and no more:
 * hold_frozen tells. End: lets them go, if they are not yet; NULL is fine.
 */
struct hold;
int hold_start(const char *const *paths, size_t count, unsigned limit_ms, struct hold **hold,
	       struct error *err);
bool hold_frozen(const struct hold *hold, size_t i);
void hold_end(struct hold *hold);

#endif
