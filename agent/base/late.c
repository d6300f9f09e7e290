/* What the libraries that are loaded late have in common. */
#include "agent/base/late_private.h"

#include <dlfcn.h>
#include <errno.h>

static int late_failed(const struct late_library *library, struct error *err)
{
	const char *reason = dlerror();

	return error_set(err, -ELIBACC, "could not load %s: %s; install %s", library->name,
			 reason ? reason : "no reason given", library->package);
}

static int late_load_now(struct late_library *library, struct error *err)
{
	void *handle = dlopen(library->name, RTLD_NOW | RTLD_LOCAL);
	int ret = handle ? 0 : late_failed(library, err);

	for (size_t i = 0; !ret && i < library->count; i++) {
		*library->symbols[i].function = dlsym(handle, library->symbols[i].name);
		if (!*library->symbols[i].function)
			ret = late_failed(library, err);
	}
	if (!ret && library->start)
		ret = library->start(err);
	/* Its package may be replaced before the next attempt. */
	if (ret && handle)
		dlclose(handle);
	return ret;
}

int late_load(struct late_library *library, struct error *err)
{
	int ret = 0;

	if (atomic_load(&library->loaded))
		return 0;
	pthread_mutex_lock(&library->lock);
	if (!atomic_load(&library->loaded)) {
		ret = late_load_now(library, err);
		atomic_store(&library->loaded, !ret);
	}
	pthread_mutex_unlock(&library->lock);
	return ret;
}
