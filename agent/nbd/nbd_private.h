/* What the plugin's files share: plugin, its life; disk, what clients ask. */
#ifndef CLAWBACK_NBD_NBD_PRIVATE_H
#define CLAWBACK_NBD_NBD_PRIVATE_H

#include "agent/config/config.h"
#include "agent/protect/protect.h"
#include "agent/serve/serve.h"

#include <pthread.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

struct served {
	struct control *control;
	int control_fd;
	struct config config;
	struct host host;
	struct point point;
	struct point_reader *reader;
	struct overlay *overlay;	/* NULL: read-only */
	struct fill *fill;
	pthread_t ticker;
	bool ticking;
	bool ended;			/* read with __atomic: the ticker is to end */
};

extern struct served served;	/* nbdkit's calls have no place for it */

/* ---- disk.c: as nbdkit-plugin(3) has them ----------------------------------------- */

void *plugin_open(int readonly);
int64_t plugin_get_size(void *handle);
int plugin_can_write(void *handle);
int plugin_yes(void *handle);
int plugin_no(void *handle);
int plugin_can_fua(void *handle);
int plugin_block_size(void *handle, uint32_t *minimum, uint32_t *preferred,
		      uint32_t *maximum);
int plugin_pread(void *handle, void *buffer, uint32_t count, uint64_t offset,
		 uint32_t flags);
int plugin_pwrite(void *handle, const void *buffer, uint32_t count, uint64_t offset,
		  uint32_t flags);
int plugin_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags);
int plugin_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags);
int plugin_flush(void *handle, uint32_t flags);
int plugin_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
		   struct nbdkit_extents *extents);

#endif
