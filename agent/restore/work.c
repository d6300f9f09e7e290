/* What a writer does next: strays, then windows from front to back; where frames are not
 * there yet, holes. */
#include "agent/restore/restore_private.h"

static bool work_take_stray(struct job *job, struct work *work)
{
	const struct plan *plan = &job->plan;

	if (job->next_stray == plan->stray_count ||
	    !job->ranges[plan->uses[plan->order[job->next_stray]].range].data)
		return false;
	*work = (struct work){ .kind = WORK_STRAY, .item = job->next_stray++ };
	return true;
}

/* Whether nothing of the window has to be waited for. */
static bool window_is_fetched(const struct job *job, size_t window)
{
	const struct plan *plan = &job->plan;
	uint64_t end = (plan->windows[window].number + 1) * WINDOW_BLOCKS;

	for (size_t i = plan->windows[window].entry; i < plan->map.entry_count; i++) {
		const struct map_entry *entry = &plan->map.entries[i];

		if (entry->block >= end)
			break;
		if (entry->frame == MAP_FRAME_HOLE || plan->uses[entry->frame].stray)
			continue;
		if (job->frames[entry->frame].stage == FRAME_ABSENT &&
		    !job->ranges[plan->uses[entry->frame].range].data)
			return false;
	}
	return true;
}

static bool work_take_window(struct writer *writer, struct work *work)
{
	struct job *job = writer->job;

	if (job->next_window == job->plan.window_count ||
	    !window_is_fetched(job, job->next_window))
		return false;
	*work = (struct work){ .kind = WORK_WINDOW, .item = job->next_window };
	writer->window = job->next_window++;
	return true;
}

static bool work_take_hole(struct job *job, struct work *work)
{
	uint64_t most = job->target->in_place ? COMPARE_PIECE_BYTES / BLOCK_BYTES :
						HOLE_PIECE_BYTES / BLOCK_BYTES;
	const struct extent *hole;

	if (!job->holes || job->hole == job->plan.clears.count)
		return false;
	hole = &job->plan.clears.items[job->hole];
	*work = (struct work){
		.kind = WORK_HOLE,
		.block = hole->first + job->hole_done_blocks,
		.count = hole->count - job->hole_done_blocks,
	};
	if (work->count > most) {
		work->count = most;
		job->hole_done_blocks += most;
	} else {
		job->hole++;
		job->hole_done_blocks = 0;
	}
	return true;
}

bool work_next(struct writer *writer, struct work *work)
{
	struct job *job = writer->job;
	bool found = false;

	pthread_mutex_lock(&job->lock);
	while (!job->stopped) {
		found = work_take_stray(job, work) || work_take_window(writer, work) ||
			work_take_hole(job, work);
		if (found || (job->next_stray == job->plan.stray_count &&
			      job->next_window == job->plan.window_count))
			break;
		pthread_cond_wait(&job->moved, &job->lock);
	}
	pthread_mutex_unlock(&job->lock);
	return found;
}
