/* A hook's part in a run, and what its failures are to the run. */
#include "agent/protect/hook.h"
#include "agent/protect/run.h"

#include "agent/base/cleanup.h"
#include "agent/base/log.h"

#include <errno.h>

/* The run's end, or only told. */
static int run_hook_failed(const struct run_hook *run, struct error *err)
{
	if (err->exit == EXIT_INTERRUPTED || !run->config->optional)
		return err->code;
	log_warning("%s; going on without it", err->message);
	*err = (struct error)ERROR_INIT;
	return 0;
}

int run_hook_begin(const struct config *config, const struct run_volume *volumes,
		   size_t count, struct run_hook *run, struct error *err)
{
	const struct config_volume *first = volumes[0].config;
	struct hook_facts facts = { .group = first->group, .count = count };
	char id[UUID_TEXT_SIZE];

	run->config = *first->group ? &config_group(config, first->group)->hook : &first->hook;
	if (!*run->config->command)
		return 0;
	uuid_format(&volumes[0].point.run, id);
	facts.run = id;
	for (size_t i = 0; i < count; i++) {
		facts.volumes[i] = volumes[i].config->name;
		facts.devices[i] = volumes[i].device.path;
	}
	return hook_begin(run->config, &facts, &run->hook, err) ? run_hook_failed(run, err) : 0;
}

void run_hook_release(struct run_hook *run)
{
	if (run->hook)
		hook_release(run->hook, true);
}

int run_hook_over(struct run_hook *run, int ret, struct error *err)
{
	if (!run->hook)
		return ret;
	hook_release(run->hook, false);	/* unless it was released as taken */
	hook_watch(run->hook);
	if (ret || hook_held(run->hook))
		return ret;
	error_set(err, -ECHILD, "hook %s: it ended or failed before the point was taken",
		  run->config->command);
	return run_hook_failed(run, err);
}

void run_hook_end(struct run_hook *run, struct run_volume *volumes, size_t count)
{
	if (!hook_end(STEAL(run->hook)))
		return;
	for (size_t i = 0; i < count; i++)
		volumes[i].point.consistency = CONSISTENCY_APPLICATION;
}
