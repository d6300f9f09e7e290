/*
 * What lies beneath a block device or a folder: dm devices, disks of partitions,
 * files of loop devices, and the file systems those lie on.
 * Private to agent/volume.
 */
#ifndef CLAWBACK_VOLUME_STACK_H
#define CLAWBACK_VOLUME_STACK_H

#include "agent/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Does writing to `device`, or into the folder or file `path`, write to one of
 * `targets`? 1 yes (`which` is its index), 0 no, negative errno when it cannot
 * be told (an overlay, a network file system's server …), said in `err`.
 */
int stack_device_reaches(uint32_t device, const uint32_t *targets, size_t count,
			 size_t *which, struct error *err);
int stack_path_reaches(const char *path, const uint32_t *targets, size_t count,
		       size_t *which, struct error *err);

#endif
