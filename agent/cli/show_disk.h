/* Internal: how a disk is laid out, on stdout. */
#ifndef CLAWBACK_CLI_SHOW_DISK_H
#define CLAWBACK_CLI_SHOW_DISK_H

#include "agent/cli/cli.h"
#include "agent/disk/disk.h"

void show_disk(const struct disk_layout *layout);

#endif
