/* Private to agent/volume: who uses a block device, and whether it may write. */
#ifndef CLAWBACK_VOLUME_USAGE_H
#define CLAWBACK_VOLUME_USAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* As device_usage, and whether a use found on it or above it can write. */
int usage_find(uint32_t device, char *where, size_t room, bool *writable);

/* Whether /proc/swaps lists it. */
bool usage_is_swap(uint32_t device);

#endif
