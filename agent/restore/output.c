/*
 * A writer's windows on their way to the target. To a device they go through io_uring
 * with O_DIRECT, from registered buffers, several at once, so that decoding goes on
 * meanwhile and the device always has work; nothing passes the page cache. To a file
 * they are written one after another: there the page cache is what takes them in.
 */
#include "agent/restore/restore_private.h"

#include "agent/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#define RING_RETRY_US 1000

/* Registered buffers save pinning pages for every write. */
static void output_register(struct output *output)
{
	struct iovec *vectors = calloc(output->slot_count, sizeof(*vectors));
	int ret = -ENOMEM;

	if (vectors) {
		for (uint32_t i = 0; i < output->slot_count; i++)
			vectors[i] = (struct iovec){ output->slots[i].data, WINDOW_BYTES };
		ret = io_uring_register_buffers(output->uring, vectors, output->slot_count);
		free(vectors);
	}
	output->registered = !ret;
	if (ret)
		log_detail("io_uring buffers are not registered: %s", error_text(ret));
}

static void output_ring(struct output *output)
{
	int ret;

	output->uring = calloc(1, sizeof(*output->uring));
	ret = output->uring ? io_uring_queue_init(output->slot_count * OUTPUT_WRITES_MAX,
						  output->uring, 0) : -ENOMEM;
	output->ring = !ret;
	if (!ret)
		output_register(output);
	else
		log_detail("io_uring is not available (%s); writing one after another",
			   error_text(ret));
}

int output_init(struct output *output, struct job *job, struct error *err)
{
	bool ring = job->target->direct_fd >= 0 && !job->target->in_place;
	uint32_t slots = OUTPUT_BYTES / WINDOW_BYTES / job->decoders;

	*output = (struct output){ .job = job };
	/* One more than are on their way is being put together. */
	output->slot_count = ring ? 1 + (slots ? slots : 1) : 1;
	output->slots = calloc(output->slot_count, sizeof(*output->slots));
	output->memory = aligned_alloc(BLOCK_BYTES, output->slot_count * (size_t)WINDOW_BYTES);
	if (!output->slots || !output->memory)
		return error_set(err, -ENOMEM, "restoring: out of memory");
	for (uint32_t i = 0; i < output->slot_count; i++) {
		struct output_slot *slot = &output->slots[i];

		slot->index = i;
		slot->data = output->memory + i * (size_t)WINDOW_BYTES;
		slot->next = output->free;
		output->free = slot;
	}
	if (ring)
		output_ring(output);
	return 0;
}

void output_fini(struct output *output)
{
	if (output->ring)
		io_uring_queue_exit(output->uring);
	free(output->uring);
	free(output->slots);
	free(output->memory);
}

static void slot_done(struct output *output, struct output_slot *slot)
{
	if (slot->record)
		journal_note(output->job->journal, slot->window, slot->tag);
	slot->next = output->free;
	output->free = slot;
}

/* There is room for every write: the ring has as many entries. */
static void output_ask(struct output *output, struct output_write *write)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(output->uring);
	int fd = output->job->target->direct_fd;

	if (output->registered)
		io_uring_prep_write_fixed(sqe, fd, write->data, write->length, write->offset,
					  (int)write->slot->index);
	else
		io_uring_prep_write(sqe, fd, write->data, write->length, write->offset);
	io_uring_sqe_set_data(sqe, write);
	output->in_flight++;
}

/* What did not come through is tried once more as a plain write, which tells why. */
static int output_complete(struct output *output, struct output_write *write, int result,
			   struct error *err)
{
	struct output_slot *slot = write->slot;
	uint32_t done = result > 0 ? (uint32_t)result : 0;
	int ret = 0;

	if (result == -ENOSPC || result == -EIO)
		ret = error_set(err, result, "writing %" PRIu32 " bytes at %" PRIu64 " of %s: %s",
				write->length, write->offset, output->job->target->path,
				error_text(result));
	else if (done < write->length)
		ret = target_write(output->job->target, write->offset + done,
				   write->data + done, write->length - done, err);
	if (ret)
		slot->record = false;
	if (--slot->writes_left == 0)
		slot_done(output, slot);
	return ret;
}

/* One completion at least, if `wait`; all that are there. */
static int output_reap(struct output *output, bool wait, struct error *err)
{
	struct io_uring_cqe *cqe;
	int ret = 0;

	while (output->in_flight) {
		struct output_write *write;
		struct error one = ERROR_INIT;
		int result = wait ? io_uring_wait_cqe(output->uring, &cqe) :
				    io_uring_peek_cqe(output->uring, &cqe);

		if (result == -EINTR)
			continue;
		if (result == -EAGAIN && !wait)
			break;
		if (result)
			return error_set(err, result, "waiting for writes to %s: %s",
					 output->job->target->path, error_text(result));
		write = io_uring_cqe_get_data(cqe);
		result = cqe->res;
		io_uring_cqe_seen(output->uring, cqe);
		output->in_flight--;
		wait = false;
		if (output_complete(output, write, result, &one) && !ret) {
			*err = one;
			ret = one.code;
		}
	}
	return ret;
}

int output_take(struct output *output, struct output_slot **taken, struct error *err)
{
	struct output_slot *slot;
	int ret = output_reap(output, false, err);

	while (!ret && !output->free)
		ret = output_reap(output, true, err);
	if (ret)
		return ret;
	slot = output->free;
	output->free = slot->next;
	slot->write_count = slot->writes_left = 0;
	slot->record = false;
	*taken = slot;
	return 0;
}

int output_write(struct output *output, struct output_slot *slot, uint32_t at,
		 uint64_t offset, uint32_t length, struct error *err)
{
	struct restore_target *target = output->job->target;
	struct output_write *write;

	length = (uint32_t)target_room(target, offset, length);
	if (!length)
		return 0;
	if (!output->ring || slot->write_count == OUTPUT_WRITES_MAX ||
	    !target_takes_direct(target, slot->data + at, length))
		return target_write(target, offset, slot->data + at, length, err);
	atomic_store(&target->touched, true);
	write = &slot->writes[slot->write_count++];
	*write = (struct output_write){ slot, offset, slot->data + at, length };
	slot->writes_left++;
	output_ask(output, write);
	return 0;
}

/* The kernel may be short of memory for requests, or of room for completions. */
static int output_submit(struct output *output, struct error *err)
{
	for (;;) {
		int ret = io_uring_submit(output->uring);

		if (ret >= 0 && !io_uring_sq_ready(output->uring))
			return 0;
		if (ret < 0 && ret != -EAGAIN && ret != -EBUSY && ret != -EINTR)
			return error_set(err, ret, "writing to %s: %s",
					 output->job->target->path, error_text(ret));
		if (output_reap(output, false, err))
			return err->code;
		if (ret < 0)
			usleep(RING_RETRY_US);
	}
}

int output_put(struct output *output, struct output_slot *slot, struct error *err)
{
	if (!slot->writes_left) {
		slot_done(output, slot);
		return 0;
	}
	return output_submit(output, err);
}

/* The kernel must be done with our memory before it goes. What was asked for and not
 * submitted is submitted too, as it cannot be taken back. */
int output_drain(struct output *output, struct error *err)
{
	int ret = 0;

	if (!output->ring)
		return 0;
	if (io_uring_sq_ready(output->uring))
		ret = output_submit(output, err);
	while (output->in_flight) {
		struct error one = ERROR_INIT;

		if (!output_reap(output, true, &one))
			continue;
		if (!ret) {
			*err = one;
			ret = one.code;
		}
		if (io_uring_sq_ready(output->uring))	/* nothing more can be done */
			break;
	}
	return ret;
}
