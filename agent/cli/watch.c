/* status --watch: collects, again and again, and shows. */
#include "agent/cli/status.h"
#include "agent/cli/watch_terminal.h"
#include "agent/cli/watch_view.h"

#include "agent/base/cleanup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What is kept of a volume from one look to the next. */
struct watched {
	struct watch_history rates;
	bool counted;			/* what follows is of the last look */
	uint64_t sectors, at_ns;
	char reason[256], error[256], behind[256];
};

struct watch {
	struct cli *cli;
	const struct status_chosen *chosen;
	double seconds;
	struct watched *kept;		/* one for each chosen */
	struct watch_row *rows;
	struct watch_frame frame;
	char problem[1024];
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- collecting ------------------------------------------------------------------- */

/* What the tracker has seen written since the last look; attached anew, it begins anew. */
static void count_written(struct watched *kept, const struct volume_status *found)
{
	uint64_t sectors = found->ledger.traced_write_sectors, at = elapsed_ns();

	if (found->attached && kept->counted && sectors >= kept->sectors && at > kept->at_ns)
		watch_history_add(&kept->rates, (double)(sectors - kept->sectors) * 512e9 /
				  (double)(at - kept->at_ns));
	kept->counted = found->attached;
	kept->sectors = sectors;
	kept->at_ns = at;
}

static void take_unit(const struct protect_unit *unit, uint64_t now, struct watched *kept,
		      struct watch_row *row)
{
	*kept->error = '\0';
	if (!unit)
		return;
	row->missed = unit->missed;
	row->running = unit->running;
	row->due_in_ns = unit->due_ns > now ? unit->due_ns - now : 0;
	if (unit->failures)
		snprintf(kept->error, sizeof(kept->error), "%s", unit->error);
}

static int look_at(const struct status *status, const struct config_volume *volume,
		   struct watched *kept, struct watch_row *row, struct error *err)
{
	const struct protect_unit *unit = status_unit(status, volume);
	struct volume_status found;
	uint64_t now = now_ns();
	int ret = protect_status(&status->cli->config, volume, status->tracker, &found, err);

	if (ret)
		return ret;
	count_written(kept, &found);
	snprintf(kept->reason, sizeof(kept->reason), "%s", found.reason);
	stores_behind(&status->cli->config, &found, kept->behind, sizeof(kept->behind));
	*row = (struct watch_row){
		.name = volume->name, .tracked = found.trust == TRUST_TRACKED,
		.attached = found.attached, .reason = kept->reason, .error = kept->error,
		.behind = kept->behind,
		.point = found.state.head_point, .objective_ns = status_objective_ns(status, volume),
		.point_age_ns = now > found.state.head_time_ns ? now - found.state.head_time_ns : 0,
		.rpo_ns = protect_age_ns(&found, unit, now),
		.dirty_bytes = found.marks.dirty_blocks * found.slot.block_bytes,
		.rates = kept->rates,
	};
	/* A daemon that does not live does not run anything either. */
	take_unit(status->protect.alive ? unit : NULL, now, kept, row);
	return 0;
}

static int collect(struct watch *watch, const struct status *status, struct error *err)
{
	watch->frame.loaded = status->tracker != NULL;
	watch->frame.misses = status->facts.recursion_misses;
	watch->frame.alive = status->protect.alive;
	for (size_t i = 0; i < watch->chosen->count; i++)
		if (look_at(status, watch->chosen->volumes[i], &watch->kept[i], &watch->rows[i], err))
			return err->code;
	return 0;
}

/* ---- showing ---------------------------------------------------------------------- */

static int show_json(struct watch *watch, const struct status *status, struct error *err)
{
	json_t *document, *volumes;
	int ret = status_json(status, watch->chosen, &document, err);

	if (ret)
		return ret;
	volumes = json_object_get(document, "volumes");
	for (size_t i = 0; i < watch->chosen->count; i++) {
		const struct watch_row *row = &watch->rows[i];

		json_object_set_new(json_array_get(volumes, i), "written_bytes_per_second",
				    row->attached && row->rates.count
				    ? json_real(watch_history_at(&row->rates, 0)) : json_null());
	}
	json_object_set_new(document, "time", cli_time_json(now_ns()));
	return cli_print_json(document, true, err);
}

static int show_text(struct watch *watch, bool draw, struct error *err)
{
	struct watch_look look;
	CLEANUP_FREE char *text = NULL;

	terminal_look(&look);
	watch->frame.time_ns = now_ns();
	text = watch_text(&watch->frame, &look);
	if (!text)
		return error_set(err, -ENOMEM, "showing the status: out of memory");
	if (draw) {
		terminal_draw(text);
		return 0;
	}
	printf("%s\n\n", text);
	fflush(stdout);
	return 0;
}

/* What fails later may be better at the next look: a tracker that is just being loaded. */
static int look_once(struct watch *watch, bool first, bool draw, struct error *err)
{
	struct error problem = ERROR_INIT;
	struct status status;
	bool json = watch->cli->json;
	int ret = status_open(watch->cli, &status, &problem);

	if (!ret) {
		ret = collect(watch, &status, &problem);
		if (!ret && json)
			ret = show_json(watch, &status, &problem);
		status_close(&status);
	}
	if (ret && (first || json)) {
		*err = problem;
		return ret;
	}
	snprintf(watch->problem, sizeof(watch->problem), "%s", ret ? problem.message : "");
	return json ? 0 : show_text(watch, draw, err);
}

static int watch_loop(struct watch *watch, bool draw, struct error *err)
{
	int ret = 0;

	for (bool first = true; !ret && (first || terminal_wait(watch->seconds)); first = false) {
		ret = look_once(watch, first, draw, err);
		if (!ret && ferror(stdout))
			ret = error_set(err, -EPIPE, "nobody reads standard output any more");
	}
	return ret;
}

int watch_run(struct cli *cli, const struct status_chosen *chosen, double seconds,
	      struct error *err)
{
	struct watch watch = { .cli = cli, .chosen = chosen, .seconds = seconds };
	bool draw = !cli->json && terminal_can_draw();
	int ret;

	watch.kept = calloc(chosen->count + 1, sizeof(*watch.kept));
	watch.rows = calloc(chosen->count + 1, sizeof(*watch.rows));
	watch.frame = (struct watch_frame){ .seconds = seconds, .problem = watch.problem,
					    .rows = watch.rows, .count = chosen->count };
	if (watch.kept && watch.rows) {
		terminal_enter(draw);
		ret = watch_loop(&watch, draw, err);
		terminal_leave();
	} else {
		ret = error_set(err, -ENOMEM, "watching: out of memory");
	}
	free(watch.kept);
	free(watch.rows);
	return ret;
}
