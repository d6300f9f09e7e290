/* libmicrohttpd's functions, as calls of the real ones. */
#include "agent/base/late.h"

#include "agent/base/late_private.h"

#include <microhttpd.h>
#include <stdarg.h>

#define FUNCTIONS(do) \
	do(add_response_header) do(create_response_from_buffer) do(destroy_response) \
	do(queue_response) do(run_wait) do(start_daemon_va)

static struct {
#define FIELD(name) typeof(MHD_##name) *name;
	FUNCTIONS(FIELD)
} real;

#define SYMBOL(name) { "MHD_" #name, (void **)&real.name },
static const struct late_symbol symbols[] = { FUNCTIONS(SYMBOL) };

static struct late_library library = {
	.name = "libmicrohttpd.so.12",
	.package = "libmicrohttpd12",
	.symbols = symbols,
	.count = sizeof(symbols) / sizeof(*symbols),
	.lock = LATE_LIBRARY_LOCK,
};

int late_microhttpd(struct error *err)
{
	return late_load(&library, err);
}

struct MHD_Daemon *MHD_start_daemon(unsigned flags, uint16_t port,
				    MHD_AcceptPolicyCallback accept, void *accept_context,
				    MHD_AccessHandlerCallback answer, void *answer_context, ...)
{
	struct MHD_Daemon *server;
	va_list list;

	va_start(list, answer_context);
	server = real.start_daemon_va(flags, port, accept, accept_context, answer,
				      answer_context, list);
	va_end(list);
	return server;
}

enum MHD_Result MHD_run_wait(struct MHD_Daemon *server, int32_t milliseconds)
{
	return real.run_wait(server, milliseconds);
}

struct MHD_Response *MHD_create_response_from_buffer(size_t size, void *buffer,
						     enum MHD_ResponseMemoryMode mode)
{
	return real.create_response_from_buffer(size, buffer, mode);
}

enum MHD_Result MHD_add_response_header(struct MHD_Response *response, const char *header,
					const char *content)
{
	return real.add_response_header(response, header, content);
}

enum MHD_Result MHD_queue_response(struct MHD_Connection *connection, unsigned status,
				   struct MHD_Response *response)
{
	return real.queue_response(connection, status, response);
}

void MHD_destroy_response(struct MHD_Response *response)
{
	real.destroy_response(response);
}
