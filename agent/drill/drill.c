/* A drill from its scratch place to the clean-up. */
#include "agent/drill/drill_private.h"

#include "agent/base/cleanup.h"
#include "agent/restore/restore.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

uint64_t drill_clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

size_t drill_pick(size_t count, uint64_t random)
{
	/* The square of what is even: half of it is below a quarter. */
	double even = (double)(random >> 11) / 9007199254740992.0;
	size_t at = (size_t)(even * even * (double)count);

	return at < count ? at : count - 1;
}

/* ---- one drill --------------------------------------------------------------- */

struct drill {
	struct repo *repo;
	const struct point *point;
	const struct key_ring *ring;
	const struct drill_options *options;
	struct drill_record *record;
	struct scratch scratch;
	char device[PATH_MAX];
	int loop_fd;
};

static void step_ended(struct drill *drill, enum drill_step step, uint64_t start_ns)
{
	uint64_t took_ns = drill_clock_ns() - start_ns;

	drill->record->steps_ns[step] = took_ns;
	if (drill->options->step)
		drill->options->step(drill->options->context, step, took_ns);
}

int drill_look(struct repo *repo, const struct point *point, const struct key_ring *ring,
	       const struct drill_options *options, uint64_t *needed_bytes, struct error *err)
{
	struct restore_result plan = { 0 };
	int ret;

	*needed_bytes = 0;
	if (!options->folder == !options->device)
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "a drill needs a place for the copy: "
				      "a folder or a device");
	ret = restore_plan(repo, point, ring, NULL, &plan, err);
	if (ret)
		return ret;
	*needed_bytes = plan.data_bytes;
	return options->folder ? scratch_room(options->folder, plan.data_bytes, err) : 0;
}

static int prepare(struct drill *drill, struct error *err)
{
	uint64_t start = drill_clock_ns(), needed;
	int ret;

	drill->record->failed = DRILL_PREPARE;
	/* What a dead drill left takes the room of this one. */
	if (drill->options->folder && scratch_make(drill->options->folder, &drill->scratch, err))
		return err->code;
	ret = drill_look(drill->repo, drill->point, drill->ring, drill->options, &needed, err);
	if (!ret)
		step_ended(drill, DRILL_PREPARE, start);
	return ret;
}

static int restore(struct drill *drill, struct error *err)
{
	const struct drill_options *options = drill->options;
	const char *to = options->folder ? drill->scratch.file : options->device;
	struct restore_target_options target_options = { .bytes = drill->point->volume_bytes };
	struct restore_options how = { .report = options->report, .context = options->context };
	struct restore_target *target = NULL;
	struct restore_result result = { 0 };
	struct error closing = ERROR_INIT;
	uint64_t start = drill_clock_ns();
	int ret;

	drill->record->failed = DRILL_RESTORE;
	ret = restore_target_open(to, &target_options, &target, err);
	if (!ret)
		ret = restore_run(drill->repo, drill->point, drill->ring, target, &how, &result,
				  err);
	if (restore_target_close(target, &closing) && !ret) {
		*err = closing;
		ret = err->code;
	}
	if (ret)
		return ret;
	drill->record->data_bytes = result.data_bytes;
	drill->record->fetched_bytes = result.fetched_bytes;
	step_ended(drill, DRILL_RESTORE, start);
	if (options->restored)
		options->restored(options->context);
	return 0;
}

static int attach(struct drill *drill, struct error *err)
{
	const struct drill_options *options = drill->options;
	uint64_t start = drill_clock_ns();
	int ret;

	drill->record->failed = DRILL_ATTACH;
	ret = file_system_probe(options->folder ? drill->scratch.file : options->device,
				drill->record->file_system, err);
	if (!ret && options->folder)
		ret = loop_attach(drill->scratch.file, drill->device, &drill->loop_fd, err);
	else if (!ret)
		snprintf(drill->device, sizeof(drill->device), "%s", options->device);
	if (!ret)
		step_ended(drill, DRILL_ATTACH, start);
	return ret;
}

static int try_out(struct drill *drill, struct error *err)
{
	const struct drill_options *options = drill->options;
	struct stage stage = {
		.device = drill->device, .file_system = drill->record->file_system,
		.command = options->command, .timeout_ns = options->timeout_ns,
		.point = drill->point, .step = options->step, .context = options->context,
	};

	return stage_run(&stage, drill->record, err);
}

static int take_away(struct drill *drill, struct error *err)
{
	uint64_t start = drill_clock_ns();
	int ret;

	cleanup_close(&drill->loop_fd);
	ret = scratch_remove(&drill->scratch, err);
	drill->record->steps_ns[DRILL_CLEANUP] += drill_clock_ns() - start;
	return ret;
}

int drill_run(struct repo *repo, const struct point *point, const struct key_ring *ring,
	      const struct drill_options *options, struct drill_record *record,
	      struct error *err)
{
	struct drill drill = { .repo = repo, .point = point, .ring = ring, .options = options,
			       .record = record, .loop_fd = -1,
			       .scratch = { .lock_fd = -1 } };
	uint64_t start = drill_clock_ns();
	struct error cleaning = ERROR_INIT;
	int ret = prepare(&drill, err);

	if (!ret)
		ret = restore(&drill, err);
	if (!ret)
		ret = attach(&drill, err);
	if (!ret)
		ret = try_out(&drill, err);
	for (int i = 0; !ret && i <= DRILL_COMMAND; i++)
		record->rto_ns += record->steps_ns[i];
	if (take_away(&drill, &cleaning) && !ret) {
		record->failed = DRILL_CLEANUP;
		*err = cleaning;
		ret = err->code;
	}
	if (ret)
		record->rto_ns = 0;
	record->passed = !ret;
	record->duration_ns = drill_clock_ns() - start;
	return ret;
}
