/* What `status` knows of daemon and tracker; of volumes protect_status knows it. */
#include "agent/cli/status.h"

#include "agent/base/log.h"

#include <errno.h>
#include <string.h>
#include <time.h>

const struct protect_unit *status_unit(const struct status *status,
				       const struct config_volume *volume)
{
	const char *name = *volume->group ? volume->group : volume->name;

	for (size_t i = 0; i < status->protect.count; i++) {
		const struct protect_unit *unit = &status->protect.units[i];

		if (unit->group == (*volume->group != '\0') && !strcmp(unit->name, name))
			return unit;
	}
	return NULL;
}

uint64_t status_objective_ns(const struct status *status, const struct config_volume *volume)
{
	return *volume->group ? config_group(&status->cli->config, volume->group)->schedule.rpo_ns
			      : volume->schedule.rpo_ns;
}

uint64_t status_age_seconds(uint64_t time_ns)
{
	uint64_t now = (uint64_t)time(NULL);

	return now > time_ns / 1000000000u ? now - time_ns / 1000000000u : 0;
}

uint64_t status_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t status_due_ns(const struct protect_unit *unit)
{
	return unit->due_ns > status_now_ns() ? unit->due_ns : 0;
}

struct tracker_ledger status_ledger(const struct volume_status *status)
{
	struct tracker_ledger now = status->ledger;
	const struct tracker_ledger *base = &status->state.base;

	if (status->trust != TRUST_TRACKED)
		return now;
	now.kernel_write_sectors -= base->kernel_write_sectors;
	now.kernel_discard_sectors -= base->kernel_discard_sectors;
	now.traced_write_sectors -= base->traced_write_sectors;
	now.traced_discard_sectors -= base->traced_discard_sectors;
	return now;
}

bool status_since_known(const struct volume_status *status)
{
	return status->known && status->state.trust == status->trust;
}

int status_open(struct cli *cli, struct status *status, struct error *err)
{
	struct error damage = ERROR_INIT;
	int ret;

	*status = (struct status){ .cli = cli };
	ret = tracker_open(false, &status->tracker, err);
	if (ret == -ENOENT)
		ret = 0;
	if (!ret && status->tracker)
		ret = tracker_facts(status->tracker, &status->facts, err);
	if (ret) {
		tracker_close(status->tracker);
		return ret;
	}
	/* What a daemon left is extra: without it the rest is as true. */
	if (protect_facts_load(cli->config.agent.state, &status->protect, &damage) == -EBADMSG)
		log_warning("%s", damage.message);
	return 0;
}

void status_close(struct status *status)
{
	protect_facts_fini(&status->protect);
	tracker_close(status->tracker);
}
