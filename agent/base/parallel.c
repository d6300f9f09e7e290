#include "agent/base/parallel.h"

#include "agent/base/interrupt.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct parallel {
	parallel_fn work;
	void *context;
	size_t items;
	atomic_size_t next;
	atomic_bool stopped;
	pthread_mutex_t lock;	/* guards error */
	struct error *error;
	int ret;
};

static void *parallel_thread(void *argument)
{
	struct parallel *parallel = argument;
	struct error err = ERROR_INIT;
	size_t item;
	int ret = 0;

	while (!ret && !atomic_load(&parallel->stopped)) {
		item = atomic_fetch_add(&parallel->next, 1);
		if (item >= parallel->items)
			break;
		ret = interrupt_check(&err);
		if (!ret)
			ret = parallel->work(parallel->context, item, &err);
	}
	if (ret) {
		pthread_mutex_lock(&parallel->lock);
		if (!parallel->ret) {
			parallel->ret = ret;
			*parallel->error = err;
		}
		pthread_mutex_unlock(&parallel->lock);
		atomic_store(&parallel->stopped, true);
	}
	return NULL;
}

int parallel_run(uint32_t threads, size_t items, parallel_fn work,
		 void *context, struct error *err)
{
	struct parallel parallel = {
		.work = work, .context = context, .items = items, .error = err,
	};
	pthread_t ids[PARALLEL_THREADS_MAX];
	uint32_t started = 0;

	pthread_mutex_init(&parallel.lock, NULL);
	if (threads > items)
		threads = (uint32_t)items;
	/* This thread works too, so a refused pthread_create only costs speed. */
	while (started + 1 < threads && started < PARALLEL_THREADS_MAX &&
	       !pthread_create(&ids[started], NULL, parallel_thread, &parallel))
		started++;
	parallel_thread(&parallel);
	while (started)
		pthread_join(ids[--started], NULL);
	pthread_mutex_destroy(&parallel.lock);
	return parallel.ret;
}
