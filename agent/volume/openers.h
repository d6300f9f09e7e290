/* Private to agent/volume: who has a block device open, as /proc tells. */
#ifndef CLAWBACK_VOLUME_OPENERS_H
#define CLAWBACK_VOLUME_OPENERS_H

#include "agent/volume/volume.h"

/*
 * -EBUSY, naming the process, when one has the device open for writing or mapped.
 * Processes of other pid namespaces below ours are seen, those above are not.
 */
int openers_check(const struct device_facts *device, struct error *err);

#endif
