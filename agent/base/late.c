/* What the libraries that are loaded late have in common. */
#include "agent/base/late_private.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>

static int late_failed(char *reason, size_t room)
{
	const char *text = dlerror();

	snprintf(reason, room, "%s", text ? text : "no reason given");
	return -ELIBACC;
}

int late_load(const char *library, const struct late_symbol *symbols, size_t count,
	      char *reason, size_t room)
{
	void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);

	if (!handle)
		return late_failed(reason, room);
	for (size_t i = 0; i < count; i++) {
		*symbols[i].function = dlsym(handle, symbols[i].name);
		if (!*symbols[i].function)
			return late_failed(reason, room);
	}
	return 0;
}
