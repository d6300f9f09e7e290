/*
 * Private to agent/volume: the hand-over slot as a file of the state folder, and where
 * its bytes lie on the device beneath.
 */
#ifndef CLAWBACK_VOLUME_SLOT_H
#define CLAWBACK_VOLUME_SLOT_H

#include "agent/volume/slot_format.h"

/*
 * Reads all of it past the page cache, which does not know of what was written
 * beneath the file system. The caller frees `data`, aligned for O_DIRECT. -EBADMSG
 * when no slot has such a length.
 */
int slot_read(const char *path, uint8_t **data, size_t *length);

/* Room for whole blocks, aligned for O_DIRECT; NULL: out of memory. */
uint8_t *slot_buffer(size_t length);

#endif
