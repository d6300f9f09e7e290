#include "agent/protect/notify_queue.h"

#include <string.h>

static void item_remove(struct notify_queue *queue, size_t at)
{
	queue->count--;
	memmove(&queue->items[at], &queue->items[at + 1],
		(queue->count - at) * sizeof(queue->items[0]));
}

static bool same_matter(const struct notify_item *item, enum notify_target target,
			const struct notify_message *message)
{
	return item->target == target && item->message.kind == message->kind &&
	       item->message.group == message->group &&
	       !strcmp(item->message.unit, message->unit);
}

/* At the end, not in the older one's place: the last of trouble and recovery is last. */
void notify_queue_put(struct notify_queue *queue, enum notify_target target,
		      const struct notify_message *message)
{
	struct notify_item item = { .target = target, .message = *message };

	for (size_t i = queue->count; i-- > 0;) {
		const struct notify_message *older = &queue->items[i].message;

		if (!same_matter(&queue->items[i], target, message))
			continue;
		item.message.held += older->held + 1;
		item.message.dropped += older->dropped;
		item_remove(queue, i);
	}
	if (queue->count == NOTIFY_QUEUE_ROOM) {
		queue->dropped += 1 + queue->items[0].message.dropped;
		item_remove(queue, 0);
	}
	item.message.dropped += queue->dropped;
	queue->dropped = 0;
	queue->items[queue->count++] = item;
}

bool notify_queue_take(struct notify_queue *queue, unsigned targets, struct notify_item *item)
{
	for (size_t i = 0; i < queue->count; i++) {
		if (!(targets & 1u << queue->items[i].target))
			continue;
		*item = queue->items[i];
		item_remove(queue, i);
		return true;
	}
	return false;
}
