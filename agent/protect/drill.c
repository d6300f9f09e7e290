/* A drill of a volume of a repository: which point, with which key, and its record. */
#include "agent/drill/drill.h"
#include "agent/protect/run.h"

#include "agent/base/cleanup.h"
#include "agent/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct drilling {
	const struct config *config;
	const struct protect_drill_options *options;
	struct host host;
	struct repo_volume volume;
	struct point point;
	bool has_point;
	struct recovery_private *recovery;
	struct drill_record *record;
};

/* ---- the point --------------------------------------------------------------- */

static int point_random(struct drilling *drilling, struct error *err)
{
	CLEANUP_FREE uint64_t *numbers = NULL;
	struct repo *repo = drilling->host.repo;
	uint64_t random;
	size_t count;
	int ret = point_numbers(repo, &drilling->volume.id, &numbers, &count, err);

	if (!ret && !count)
		ret = error_set(err, -ENOENT, "volume %s has no recovery point",
				drilling->volume.name);
	if (!ret)
		ret = crypto_random(&random, sizeof(random), err);
	return ret ? ret : point_load(repo, &drilling->volume.id,
				      numbers[count - 1 - drill_pick(count, random)],
				      &drilling->point, err);
}

static int point_choose(struct drilling *drilling, struct error *err)
{
	const char *which = drilling->options->point;
	int ret = which && !strcmp(which, "random")
		? point_random(drilling, err)
		: point_find(drilling->host.repo, &drilling->volume.id, which, &drilling->point,
			     err);

	if (ret)
		return ret;
	drilling->has_point = true;
	drilling->record->point = drilling->point.number;
	drilling->record->point_time_ns = drilling->point.time_ns;
	return 0;
}

/* ---- running ------------------------------------------------------------------- */

static void key_drop(void *context)
{
	struct drilling *drilling = context;

	recovery_private_free(STEAL(drilling->recovery));
}

static void drill_report(void *context, uint64_t done, uint64_t total)
{
	const struct drilling *drilling = context;

	if (drilling->options->report)
		drilling->options->report(drilling->options->context, done, total);
}

static void drill_step_ended(void *context, enum drill_step step, uint64_t took_ns)
{
	const struct drilling *drilling = context;

	if (drilling->options->step)
		drilling->options->step(drilling->options->context, step, took_ns);
}

static int drill_do(struct drilling *drilling, struct error *err)
{
	const struct protect_drill_options *options = drilling->options;
	struct drill_options how = {
		.folder = options->folder, .device = options->device,
		.command = options->command, .timeout_ns = options->timeout_ns,
		.restored = key_drop, .report = drill_report, .step = drill_step_ended,
		.context = drilling,
	};
	struct key_ring ring = { .host_map_key = drilling->host.has_map_key
						 ? drilling->host.map_key : NULL };
	uint64_t needed = 0;
	int ret = point_choose(drilling, err);

	if (!ret)
		ret = options->key(options->context, &drilling->recovery, err);
	ring.recovery = drilling->recovery;
	if (!ret && options->dry_run)
		ret = drill_look(drilling->host.repo, &drilling->point, &ring, &how, &needed, err);
	if (!ret && options->chosen)
		options->chosen(options->context, &drilling->point, needed);
	if (!ret && !options->dry_run)
		ret = drill_run(drilling->host.repo, &drilling->point, &ring, &how,
				drilling->record, err);
	key_drop(drilling);
	return ret;
}

/* ---- the record ---------------------------------------------------------------- */

static void record_begin(const struct protect_drill_options *options,
			 struct drill_record *record)
{
	const char *command = options->command ? options->command : "";
	size_t length = strcspn(command, " \t"), from = length;

	memset(record, 0, sizeof(*record));
	record->started_ns = clock_ns();
	record->failed = DRILL_PREPARE;
	if (gethostname(record->host, sizeof(record->host) - 1))
		strcpy(record->host, "unknown");
	/* Its arguments may be secrets of somebody's. */
	while (from && command[from - 1] != '/')
		from--;
	snprintf(record->command, sizeof(record->command), "%.*s", (int)(length - from),
		 command + from);
}

static void record_end(struct drill_record *record, uint64_t began_ns, int ret,
		       const struct error *err)
{
	record->duration_ns = elapsed_ns() - began_ns;
	record->passed = !ret;
	if (!ret)
		return;
	record->exit = (uint64_t)err->exit;
	record->rto_ns = 0;
	snprintf(record->message, sizeof(record->message), "%.255s", err->message);
}

static bool may_sign(const struct host *host)
{
	const struct repo_facts *facts = repo_facts(host->repo);
	struct signing_public own;

	if (!host->signer)
		return false;
	signing_public(host->signer, &own);
	for (size_t i = 0; i < facts->signer_count; i++)
		if (!memcmp(&facts->signers[i], &own, sizeof(own)))
			return true;
	return false;
}

/* What cannot be written down is said, and changes nothing of what was found. */
static void record_keep(struct drilling *drilling)
{
	const char *folder = drilling->config->agent.state, *name = drilling->volume.name;
	struct drill_record *record = drilling->record;
	struct error err = ERROR_INIT;
	struct drill_state state;

	if (!may_sign(&drilling->host))
		log_note("%s: the drill is recorded in %s only: this machine has no key of a host "
			 "that writes to this repository", name, folder);
	else if (repo_drill_add(drilling->host.repo, &drilling->volume.id, record,
				drilling->host.signer, &err))
		log_warning("%s: the drill is recorded in %s only: %s", name, folder, err.message);
	if (drill_state_load(folder, name, &state, &err) == -EBADMSG)
		log_warning("%s", err.message);
	state.has_last = true;
	state.last = *record;
	if (record->passed) {
		state.has_passed = true;
		state.passed = *record;
	}
	if (drill_state_save(folder, name, &state, &err))
		log_warning("%s", err.message);
}

int protect_drill(const struct config *config, const struct protect_drill_options *options,
		  struct drill_record *record, struct error *err)
{
	struct drilling drilling = { .config = config, .options = options, .record = record };
	uint64_t began_ns = elapsed_ns();
	int ret;

	record_begin(options, record);
	if (!options->folder == !options->device)
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "say where the copy goes: --folder "
				      "DIR or --device DEVICE, or drill_folder in the "
				      "configuration");
	ret = uuid_new(&record->run);
	if (ret)
		return error_set(err, ret, "drilling: no random numbers: %s", error_text(ret));
	ret = host_open_at(config, options->store, options->dry_run ? HOST_LOOK : 0,
			   &drilling.host, err);
	if (ret)
		return ret;
	ret = repo_volume_find(drilling.host.repo, options->volume, &drilling.volume, err);
	if (!ret) {
		ret = drill_do(&drilling, err);
		record_end(record, began_ns, ret, err);
		if (!options->dry_run && (!ret || (err->exit != EXIT_INTERRUPTED &&
						   err->exit != EXIT_USAGE)))
			record_keep(&drilling);
	}
	if (drilling.has_point)
		point_fini(&drilling.point);
	host_close(&drilling.host);
	return ret;
}
