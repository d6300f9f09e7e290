/*
 * Decoded frames in memory. Whoever wants one that is not there loads it while others
 * who want it wait; a failure is theirs too, and is not kept, so that the next one tries
 * again. The least recently used goes when room is needed, those in use excepted.
 */
#include "agent/serve/serve_private.h"

#include <errno.h>
#include <stdlib.h>

int cache_init(struct cache *cache, size_t frame_count, uint64_t limit_bytes,
	       cache_load_fn load, void *context)
{
	*cache = (struct cache){
		.load = load, .context = context, .limit_bytes = limit_bytes,
		.frame_count = frame_count,
	};
	pthread_mutex_init(&cache->lock, NULL);
	pthread_cond_init(&cache->loaded, NULL);
	cache->frames = calloc(frame_count + 1, sizeof(struct cache_item *));
	return cache->frames ? 0 : -ENOMEM;
}

static void cache_unlink(struct cache *cache, struct cache_item *item)
{
	*(item->newer ? &item->newer->older : &cache->newest) = item->older;
	*(item->older ? &item->older->newer : &cache->oldest) = item->newer;
	item->newer = item->older = NULL;
}

static void cache_link(struct cache *cache, struct cache_item *item)
{
	item->older = cache->newest;
	if (cache->newest)
		cache->newest->newer = item;
	else
		cache->oldest = item;
	cache->newest = item;
}

static void item_free(struct cache_item *item)
{
	free(item->plain);
	free(item);
}

/* Out of the table and the list; those who use it still have it. */
static void cache_drop(struct cache *cache, struct cache_item *item)
{
	cache->frames[item->frame] = NULL;
	cache_unlink(cache, item);
	cache->bytes -= item->bytes;
}

void cache_fini(struct cache *cache)
{
	while (cache->oldest) {
		struct cache_item *item = cache->oldest;

		cache_drop(cache, item);
		item_free(item);
	}
	free(cache->frames);
	cache->frames = NULL;
	pthread_cond_destroy(&cache->loaded);
	pthread_mutex_destroy(&cache->lock);
}

static void cache_make_room(struct cache *cache, size_t bytes)
{
	struct cache_item *item = cache->oldest;

	while (item && cache->bytes + bytes > cache->limit_bytes) {
		struct cache_item *newer = item->newer;

		if (!item->users) {
			cache_drop(cache, item);
			item_free(item);
		}
		item = newer;
	}
}

static struct cache_item *cache_add(struct cache *cache, uint32_t frame, size_t bytes)
{
	struct cache_item *item;

	cache_make_room(cache, bytes);
	item = calloc(1, sizeof(*item));
	if (!item)
		return NULL;
	item->plain = malloc(bytes);
	if (!item->plain) {
		free(item);
		return NULL;
	}
	item->frame = frame;
	item->bytes = bytes;
	item->users = 1;
	cache->frames[frame] = item;
	cache_link(cache, item);
	cache->bytes += bytes;
	if (cache->bytes > cache->peak_bytes)
		cache->peak_bytes = cache->bytes;
	return item;
}

/* With the lock, which is given up meanwhile. */
static int cache_load(struct cache *cache, struct cache_item *item, struct error *err)
{
	struct error failed = ERROR_INIT;
	int ret;

	pthread_mutex_unlock(&cache->lock);
	ret = cache->load(cache->context, item, &failed);
	pthread_mutex_lock(&cache->lock);
	item->state = ret ? CACHE_FAILED : CACHE_READY;
	if (ret) {
		item->error = *err = failed;
		cache_drop(cache, item);
	}
	pthread_cond_broadcast(&cache->loaded);
	return ret;
}

static void item_release(struct cache_item *item)
{
	if (!--item->users && item->state == CACHE_FAILED)
		item_free(item);
}

static int cache_wait(struct cache *cache, struct cache_item *item, struct error *err)
{
	item->users++;
	while (item->state == CACHE_LOADING)
		pthread_cond_wait(&cache->loaded, &cache->lock);
	if (item->state == CACHE_READY) {
		cache_unlink(cache, item);
		cache_link(cache, item);
		return 0;
	}
	*err = item->error;
	return err->code;
}

int cache_get(struct cache *cache, uint32_t frame, size_t bytes, struct cache_item **item,
	      struct error *err)
{
	struct cache_item *found;
	int ret;

	pthread_mutex_lock(&cache->lock);
	found = cache->frames[frame];
	if (found) {
		ret = cache_wait(cache, found, err);
	} else {
		found = cache_add(cache, frame, bytes);
		ret = found ? cache_load(cache, found, err) :
			      error_set(err, -ENOMEM, "reading a frame: out of memory");
	}
	if (ret && found)
		item_release(found);
	pthread_mutex_unlock(&cache->lock);
	*item = ret ? NULL : found;
	return ret;
}

void cache_put(struct cache *cache, struct cache_item *item)
{
	pthread_mutex_lock(&cache->lock);
	item_release(item);
	/* What was in use was not let go when there was no room. */
	cache_make_room(cache, 0);
	pthread_mutex_unlock(&cache->lock);
}

bool cache_has(struct cache *cache, uint32_t frame)
{
	bool has;

	pthread_mutex_lock(&cache->lock);
	has = cache->frames[frame];
	pthread_mutex_unlock(&cache->lock);
	return has;
}
