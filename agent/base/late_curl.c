/*
 * libcurl's functions, as calls of the real ones. The two with a variable argument take
 * one, a pointer or an integer as wide; as libcurl does, it is read as what fits into a
 * register.
 */
#include "agent/base/late.h"

#include "agent/base/late_private.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>

/* The checking macros of its header are for callers. */
#undef curl_easy_setopt
#undef curl_easy_getinfo

_Static_assert(sizeof(void *) == sizeof(long) && sizeof(void *) == sizeof(curl_off_t),
	       "an option's value is as wide as a pointer");

/* By who plays a server without a network (tests/fuzz/fake_curl.h). */
#define REPLACEABLE __attribute__((weak))

#define FUNCTIONS(do) \
	do(easy_cleanup) do(easy_getinfo) do(easy_init) do(easy_perform) do(easy_reset) \
	do(easy_setopt) do(easy_strerror) do(free) do(global_init) do(slist_append) \
	do(slist_free_all) do(url) do(url_cleanup) do(url_get) do(url_set) do(version_info)

static struct {
#define FIELD(name) typeof(curl_##name) *name;
	FUNCTIONS(FIELD)
} real;

#define SYMBOL(name) { "curl_" #name, (void **)&real.name },
static const struct late_symbol symbols[] = { FUNCTIONS(SYMBOL) };

static int start(struct error *err)
{
	if (real.global_init(CURL_GLOBAL_DEFAULT))
		return error_set(err, -ENOMEM, "could not start libcurl: out of memory");
	return 0;
}

static struct late_library library = {
	.name = "libcurl.so.4",
	.package = "libcurl4",
	.symbols = symbols,
	.count = sizeof(symbols) / sizeof(*symbols),
	.start = start,
	.lock = LATE_LIBRARY_LOCK,
};

int late_curl(struct error *err)
{
	return late_load(&library, err);
}

/* By the functions that make something; all others want what these have made. */
static bool is_loaded(void)
{
	struct error unsaid = ERROR_INIT;

	return !late_curl(&unsaid);
}

REPLACEABLE CURL *curl_easy_init(void)
{
	return is_loaded() ? real.easy_init() : NULL;
}

REPLACEABLE void curl_easy_cleanup(CURL *handle)
{
	if (handle)
		real.easy_cleanup(handle);
}

REPLACEABLE void curl_easy_reset(CURL *handle)
{
	real.easy_reset(handle);
}

REPLACEABLE CURLcode curl_easy_perform(CURL *handle)
{
	return real.easy_perform(handle);
}

REPLACEABLE CURLcode curl_easy_setopt(CURL *handle, CURLoption option, ...)
{
	va_list list;
	void *value;

	va_start(list, option);
	value = va_arg(list, void *);
	va_end(list);
	return real.easy_setopt(handle, option, value);
}

REPLACEABLE CURLcode curl_easy_getinfo(CURL *handle, CURLINFO info, ...)
{
	va_list list;
	void *value;

	va_start(list, info);
	value = va_arg(list, void *);
	va_end(list);
	return real.easy_getinfo(handle, info, value);
}

const char *curl_easy_strerror(CURLcode code)
{
	return real.easy_strerror(code);
}

void curl_free(void *memory)
{
	if (memory)
		real.free(memory);
}

struct curl_slist *curl_slist_append(struct curl_slist *list, const char *text)
{
	return is_loaded() ? real.slist_append(list, text) : NULL;
}

void curl_slist_free_all(struct curl_slist *list)
{
	if (list)
		real.slist_free_all(list);
}

CURLU *curl_url(void)
{
	return is_loaded() ? real.url() : NULL;
}

void curl_url_cleanup(CURLU *url)
{
	if (url)
		real.url_cleanup(url);
}

CURLUcode curl_url_get(CURLU *url, CURLUPart what, char **part, unsigned flags)
{
	return real.url_get(url, what, part, flags);
}

CURLUcode curl_url_set(CURLU *url, CURLUPart what, const char *part, unsigned flags)
{
	return real.url_set(url, what, part, flags);
}

curl_version_info_data *curl_version_info(CURLversion age)
{
	return is_loaded() ? real.version_info(age) : NULL;
}
