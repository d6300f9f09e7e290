/* Internal: what each key of each section means. */
#ifndef CLAWBACK_CONFIG_CONFIG_KEYS_H
#define CLAWBACK_CONFIG_CONFIG_KEYS_H

#include "agent/config/config.h"

/* A section begins: EXIT_USAGE when there is no such, or the volume's name is bad. */
int config_section(struct config *config, const char *section, struct error *err);

/* Whether a section may have `key` several times. */
bool config_key_repeats(const char *key);

/* Stores one value; EXIT_USAGE for an unknown section, key, or a bad value. */
int config_assign(struct config *config, const char *section, const char *key,
		  const char *value, struct error *err);

#endif
