/* Internal: what the state folder's JSON files have in common, written and read. */
#ifndef CLAWBACK_PROTECT_STATE_JSON_H
#define CLAWBACK_PROTECT_STATE_JSON_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#define STATE_JSON_ERROR_MAX 255	/* bytes of a message that is kept */

/* For CLEANUP. */
void state_json_drop(json_t **value);

/* A message may repeat bytes that are no UTF-8, or be cut within a character: such are
 * replaced. NULL: out of memory. */
json_t *state_json_error(const char *message);

/* A member that must be there: text that fits into `room` with its NUL and has none
 * within, or a number that is not negative. -EBADMSG. */
int state_json_text(const json_t *object, const char *key, char *to, size_t room);
int state_json_number(const json_t *object, const char *key, uint64_t *to);

#endif
