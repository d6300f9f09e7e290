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

#endif
