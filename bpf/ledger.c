/*
 * The ledger: what the kernel counted on a device beside what was traced there.
 * The kernel counts a request when it completes, the program when it is queued;
 * so, the kernel's sums read first, traced ones never fall behind them unless a
 * write was not traced.
 */
#include "bpf/tracker_private.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>

#define STAT_FIELDS 14		/* up to "discard sectors"; Linux 4.18 */

static int attribute_failed(struct error *err, int code, uint32_t device,
			    const char *name)
{
	return error_set(err, code, "cannot read /sys/dev/block/%u:%u/%s: %s",
			 DEVICE_MAJOR(device), DEVICE_MINOR(device), name,
			 error_text(code));
}

/* Reads `count` decimal numbers; -EBADMSG when there are fewer. */
static int numbers_parse(const char *text, uint64_t *numbers, int count)
{
	for (int i = 0; i < count; i++) {
		unsigned long long number;
		int used;

		if (sscanf(text, "%llu%n", &number, &used) != 1)
			return -EBADMSG;
		numbers[i] = number;
		text += used;
	}
	return 0;
}

static int kernel_counters(uint32_t device, struct tracker_ledger *sums,
			   struct error *err)
{
	uint64_t fields[STAT_FIELDS];
	char text[512];
	int ret = tracker_device_attribute(device, "stat", text, sizeof(text));

	if (ret >= 0)
		ret = numbers_parse(text, fields, STAT_FIELDS);
	if (ret < 0)
		return attribute_failed(err, ret, device, "stat");
	sums->kernel_write_sectors = fields[6];
	sums->kernel_discard_sectors = fields[13];
	return 0;
}

int tracker_ledger(struct tracker *tracker, uint32_t device,
		   struct tracker_ledger *ledger, struct error *err)
{
	struct ledger traced;
	int ret = kernel_counters(device, ledger, err);

	if (ret)
		return ret;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (bpf_map_lookup_elem(tracker->ledger_fd, &device, &traced) < 0)
		return error_set(err, -errno, "cannot read the tracker's ledger "
				 "of device %u:%u: %s", DEVICE_MAJOR(device),
				 DEVICE_MINOR(device), error_text(errno));
	ledger->traced_write_sectors = traced.write_sectors;
	ledger->traced_discard_sectors = traced.discard_sectors;
	return 0;
}

int tracker_inflight(uint32_t device, uint64_t *requests, struct error *err)
{
	uint64_t fields[2];		/* reads, writes (discards among them) */
	char text[128];
	int ret = tracker_device_attribute(device, "inflight", text, sizeof(text));

	if (ret >= 0)
		ret = numbers_parse(text, fields, 2);
	if (ret < 0)
		return attribute_failed(err, ret, device, "inflight");
	*requests = fields[1];
	return 0;
}
