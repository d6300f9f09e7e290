/* [agent] log_format. */
#include "agent/config/config_keys.h"

#include <errno.h>

int log_assign(enum log_format *format, const char *key, const char *value, struct error *err)
{
	return log_format_parse(value, format)
		? config_bad_value(err, key, value, "give auto, text or json") : 0;
}
