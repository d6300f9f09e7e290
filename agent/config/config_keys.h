/* Internal: what each key of each section means. */
#ifndef CLAWBACK_CONFIG_CONFIG_KEYS_H
#define CLAWBACK_CONFIG_CONFIG_KEYS_H

#include "agent/config/config.h"

/* Stores one value; EXIT_USAGE for an unknown section, key, or a bad value. */
int config_assign(struct config *config, const char *section, const char *key,
		  const char *value, struct error *err);

#endif
