/*
 * Reading through io_uring: as many reads in flight as the depth and the free
 * slots allow; whatever piece completes first goes to the workers first.
 */
#include "agent/pipeline/reader.h"

#include "agent/base/log.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define RING_RETRY_US 1000

struct ring {
	struct reader *reader;
	struct io_uring uring;
	bool registered;		/* the pool's buffers */
	struct read_request *requests;	/* `depth` of them */
	struct read_request *free;	/* those not in flight */
	struct read_request *again;	/* short reads to be asked anew */
	uint32_t in_flight;
	struct slot *slot;		/* the piece being started … */
	uint32_t next_read;		/* … from this read of its plan on */
};

/*
 * Registered buffers save pinning pages for every read. They count against
 * RLIMIT_MEMLOCK for the unprivileged: then we go on without.
 */
static void ring_register(struct ring *ring)
{
	const struct pool *pool = ring->reader->pool;
	struct iovec *vectors = calloc(pool->count, sizeof(*vectors));
	int ret = -ENOMEM;

	if (vectors) {
		for (uint32_t i = 0; i < pool->count; i++)
			vectors[i] = (struct iovec){ pool->buffers[i].memory,
						     BUFFER_BYTES };
		ret = io_uring_register_buffers(&ring->uring, vectors, pool->count);
		free(vectors);
	}
	ring->registered = !ret;
	if (ret)
		log_detail("io_uring buffers are not registered: %s", error_text(ret));
}

static int ring_init(struct ring *ring, struct reader *reader, int *why,
		     struct error *err)
{
	int ret;

	memset(ring, 0, sizeof(*ring));
	ring->reader = reader;
	ring->requests = calloc(reader->depth, sizeof(*ring->requests));
	if (!ring->requests)
		return error_set(err, -ENOMEM, "no memory for %u reads",
				 reader->depth);
	ret = io_uring_queue_init(reader->depth, &ring->uring, 0);
	if (ret) {
		free(ring->requests);
		*why = ret;
		return -ENOSYS;
	}
	for (uint32_t i = reader->depth; i-- > 0;) {
		ring->requests[i].next = ring->free;
		ring->free = &ring->requests[i];
	}
	ring_register(ring);
	return 0;
}

static void ring_fini(struct ring *ring)
{
	io_uring_queue_exit(&ring->uring);
	free(ring->requests);
}

/* There is room for every request: the ring has at least `depth` entries. */
static void ring_ask(struct ring *ring, struct read_request *request)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);
	uint8_t *to = request->to + request->done;
	unsigned bytes = request->bytes - request->done;
	uint64_t offset = request->offset + request->done;
	int fd = ring->reader->job->fd;

	if (ring->registered)
		io_uring_prep_read_fixed(sqe, fd, to, bytes, offset,
					 (int)request->slot->buffer->index);
	else
		io_uring_prep_read(sqe, fd, to, bytes, offset);
	io_uring_sqe_set_data(sqe, request);
	ring->in_flight++;
}

static struct read_request *request_take(struct read_request **list)
{
	struct read_request *request = *list;

	if (request)
		*list = request->next;
	return request;
}

/*
 * Starts what can be started. Waits for a free slot only when nothing is in
 * flight; otherwise completions come first.
 */
static void ring_fill(struct ring *ring)
{
	struct reader *reader = ring->reader;
	struct read_request *request;

	while ((request = request_take(&ring->again)))
		ring_ask(ring, request);
	while (ring->free && ring->in_flight < reader_depth(reader)) {
		if (!ring->slot) {
			ring->next_read = 0;
			if (!reader_next(reader, !ring->in_flight, &ring->slot))
				return;
		}
		request = request_take(&ring->free);
		read_request_start(reader, ring->slot, ring->next_read++, request);
		ring_ask(ring, request);
		if (ring->next_read == ring->slot->plan.read_count)
			ring->slot = NULL;
	}
}

/* Takes in one completion. */
static int ring_complete(struct ring *ring, struct read_request *request,
			 int result, struct error *err)
{
	struct slot *slot = request->slot;
	int ret = read_request_advance(request, result, err);

	if (ret == READ_AGAIN) {
		request->next = ring->again;
		ring->again = request;
		return 0;
	}
	request->next = ring->free;
	ring->free = request;
	if (ret < 0)
		return ret;
	if (--slot->reads_left == 0)
		queue_put_read(ring->reader->queue, slot);
	return 0;
}

/*
 * Submits, then waits for one completion at least. When the kernel is short of
 * memory for requests (EAGAIN) or of room for completions (EBUSY), the caller
 * takes in what there is, and comes again after a moment.
 */
static int ring_wait(struct ring *ring)
{
	int ret = io_uring_submit_and_wait(&ring->uring, 1);

	if (ret == -EAGAIN || ret == -EBUSY)
		usleep(RING_RETRY_US);
	else if (ret < 0 && ret != -EINTR)
		return ret;
	return 0;
}

static struct read_request *ring_completion(struct ring *ring, int *result)
{
	struct read_request *request;
	struct io_uring_cqe *cqe;

	if (io_uring_peek_cqe(&ring->uring, &cqe))
		return NULL;
	request = io_uring_cqe_get_data(cqe);
	*result = cqe->res;
	io_uring_cqe_seen(&ring->uring, cqe);
	ring->in_flight--;
	return request;
}

static int ring_turn(struct ring *ring, struct error *err)
{
	struct read_request *request;
	int result;
	int ret = ring_wait(ring);

	if (ret)
		return error_set(err, ret, "waiting for reads of the volume: %s",
				 error_text(ret));
	while (!ret && (request = ring_completion(ring, &result)))
		ret = ring_complete(ring, request, result, err);
	return ret;
}

/*
 * After a failure: the kernel must be done with our buffers before they go. What
 * was asked but not submitted is submitted too, as it cannot be taken back.
 */
static void ring_drain(struct ring *ring)
{
	int result;

	while (ring->in_flight && !ring_wait(ring))
		while (ring_completion(ring, &result))
			continue;
}

int ring_read(struct reader *reader, int *why, struct error *err)
{
	struct ring ring;
	int ret = ring_init(&ring, reader, why, err);

	if (ret)
		return ret;
	while (!ret && !queue_failed(reader->queue)) {
		ring_fill(&ring);
		if (!ring.in_flight)
			break;
		ret = ring_turn(&ring, err);
	}
	ring_drain(&ring);
	ring_fini(&ring);
	return ret;
}
