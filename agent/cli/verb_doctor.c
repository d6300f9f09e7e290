/*
 * doctor: looks at everything that a run needs and says how to mend what is
 * missing. Changes nothing.
 */
#include "agent/cli/cli.h"

#include "agent/base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

enum finding { FINDING_OK, FINDING_NOTE, FINDING_BAD };

struct doctor {
	struct cli *cli;
	json_t *list;
	unsigned bad;
};

/* `mend` NULL when there is nothing to do. */
__attribute__((format(printf, 5, 6)))
static void found(struct doctor *doctor, enum finding finding, const char *what,
		  const char *mend, const char *format, ...)
{
	static const char *const words[] = { "ok", "note", "BAD" };
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	doctor->bad += finding == FINDING_BAD;
	if (finding == FINDING_OK)
		mend = NULL;
	if (doctor->cli->json)
		json_array_append_new(doctor->list, json_pack("{s:s, s:s, s:s, s:s*}",
			"check", what, "finding", words[finding], "text", text, "mend", mend));
	else
		printf("%-5s %-14s %s%s%s\n", words[finding], what, text,
		       mend ? "\n                     -> " : "", mend ? mend : "");
}

static void check_kernel(struct doctor *doctor)
{
	struct utsname uts;
	int major = 0, minor = 0;

	uname(&uts);
	sscanf(uts.release, "%d.%d", &major, &minor);
	found(doctor, major > 6 || (major == 6 && minor >= 1) ? FINDING_OK : FINDING_BAD, "kernel",
	      "tracking was tested from 6.1 on; use such a kernel", "Linux %s", uts.release);
	found(doctor, access("/sys/kernel/btf/vmlinux", R_OK) ? FINDING_BAD : FINDING_OK, "btf",
	      "use a kernel built with CONFIG_DEBUG_INFO_BTF=y (every Debian kernel is)",
	      "/sys/kernel/btf/vmlinux");
}

static void check_bpffs(struct doctor *doctor)
{
	struct statfs fs;
	bool there = !statfs("/sys/fs/bpf", &fs) && (uint32_t)fs.f_type == BPF_FS_MAGIC;

	found(doctor, there ? FINDING_OK : FINDING_NOTE, "bpffs",
	      "clawback attach mounts it by itself: mount -t bpf bpf /sys/fs/bpf",
	      "/sys/fs/bpf is %s", there ? "mounted" : "not mounted yet");
}

static void check_tracker(struct doctor *doctor)
{
	struct error err = ERROR_INIT;
	struct tracker *tracker = NULL;
	int ret = tracker_open(false, &tracker, &err);

	if (!ret)
		found(doctor, FINDING_OK, "tracker", NULL, "loaded and attached");
	else if (ret == -ENOENT)
		found(doctor, FINDING_NOTE, "tracker", "clawback attach --all", "not loaded");
	else
		found(doctor, FINDING_BAD, "tracker", "clawback detach --all, then attach again",
		      "%s", err.message);
	tracker_close(tracker);
}

static void check_dm(struct doctor *doctor)
{
	struct error err = ERROR_INIT;

	if (volume_dm_check(&err))
		found(doctor, FINDING_BAD, "device-mapper",
		      "modprobe dm-snapshot; without it only volumes that are not mounted for "
		      "writing can be read (provider = none)", "%s", err.message);
	else
		found(doctor, FINDING_OK, "device-mapper", NULL,
		      "snapshot and snapshot-origin are there");
}

static void check_io_uring(struct doctor *doctor)
{
	struct io_uring ring;
	int ret = io_uring_queue_init(2, &ring, 0);

	if (ret)
		found(doctor, FINDING_NOTE, "io_uring", "sysctl kernel.io_uring_disabled=0",
		      "refused (%s); reading falls back to pread and is slower",
		      error_text(ret));
	else
		found(doctor, FINDING_OK, "io_uring", NULL, "works");
	if (!ret)
		io_uring_queue_exit(&ring);
}

static void check_disk(struct doctor *doctor, const struct config_volume *disk)
{
	struct error err = ERROR_INIT;
	struct disk_layout layout;

	if (protect_disk_layout(&doctor->cli->config, disk, &layout, &err)) {
		found(doctor, FINDING_BAD, disk->name, "see the message", "%s", err.message);
		return;
	}
	found(doctor, FINDING_OK, disk->name, NULL, "%s, %s, table %s, %zu partitions",
	      layout.device, text_bytes(layout.bytes), disk_table_name(layout.table),
	      layout.partition_count);
	disk_layout_fini(&layout);
}

static void check_volumes(struct doctor *doctor)
{
	const struct config *config = &doctor->cli->config;

	if (!config->volume_count)
		found(doctor, FINDING_NOTE, "volumes", "add [volume NAME] sections",
		      "none is configured in %s", doctor->cli->config_path);
	for (size_t i = 0; i < config->volume_count; i++) {
		const struct config_volume *volume = &config->volumes[i];
		struct volume_status status;
		struct error err = ERROR_INIT;

		if (volume->disk) {
			check_disk(doctor, volume);
			continue;
		}
		if (protect_status(config, volume, NULL, &status, &err))
			found(doctor, FINDING_BAD, volume->name,
			      "mend the file named, or move it away: the next backup is a full",
			      "%s", err.message);
		else if (!status.device_found)
			found(doctor, FINDING_BAD, volume->name, "correct its device",
			      "%s", status.problem);
		else if (!status.device.is_dm && status.device.mounted_rw)
			found(doctor, FINDING_BAD, volume->name,
			      "put a device-mapper device (LVM, dm-linear) under it",
			      "%s is mounted for writing and is no device-mapper device",
			      status.device.path);
		else
			found(doctor, FINDING_OK, volume->name, NULL, "%s, %s", status.device.path,
			      text_bytes(status.device.bytes));
	}
}

static void check_repository(struct doctor *doctor)
{
	struct error err = ERROR_INIT;
	struct host host;

	if (!doctor->cli->config.repository.url[0]) {
		found(doctor, FINDING_BAD, "repository", "set url in [repository]",
		      "none is configured");
		return;
	}
	if (host_open(&doctor->cli->config, HOST_WRITER | HOST_LOOK, &host, &err)) {
		found(doctor, FINDING_BAD, "repository", "see the message", "%s", err.message);
		return;
	}
	found(doctor, FINDING_OK, "repository", NULL, "%s, fingerprint %s", store_url(host.store),
	      repo_facts(host.repo)->fingerprint);
	host_close(&host);
}

/* A backup goes on without; nobody would hear that it does not. */
static void check_notify(struct doctor *doctor)
{
	const struct config *config = &doctor->cli->config;
	const struct config_notify *notify = &config->notify;
	struct error err = ERROR_INIT;

	if (!*notify->command && !*notify->webhook && !*notify->webhook_file && !*notify->mail_to)
		return;
	if (protect_notify_check(config, &err))
		found(doctor, FINDING_NOTE, "notify", "mend it, else nobody is told of failures",
		      "%s", err.message);
	else
		found(doctor, FINDING_OK, "notify", NULL, "what it names is there");
}

/* One that nothing was copied to yet is made by replicate. */
static void check_stores(struct doctor *doctor)
{
	const struct config *config = &doctor->cli->config;

	for (size_t i = 0; i < config->store_count; i++) {
		const struct config_store *store = &config->stores[i];
		struct replica_state state = { .count = 0 };
		struct error err = ERROR_INIT;
		struct host host;
		int ret = replica_state_load(config->agent.state, store, &state, &err) ?:
			  host_open_at(config, store, HOST_LOOK, &host, &err);

		if (ret && err.exit == EXIT_NO_REPOSITORY && !state.success_ns)
			found(doctor, FINDING_NOTE, store->name, "clawback replicate makes it",
			      "%s", err.message);
		else if (ret)
			found(doctor, FINDING_BAD, store->name, "see the message", "%s",
			      err.message);
		else
			found(doctor, FINDING_OK, store->name, NULL, "%s, the same repository",
			      store_url(host.store));
		if (!ret)
			host_close(&host);
		replica_state_fini(&state);
	}
}

static int doctor_run(struct cli *cli, struct error *err)
{
	struct doctor doctor = { .cli = cli, .list = json_array() };
	int ret = 0;

	found(&doctor, geteuid() ? FINDING_BAD : FINDING_OK, "root", "run as root",
	      "uid %u", geteuid());
	check_kernel(&doctor);
	check_bpffs(&doctor);
	check_tracker(&doctor);
	check_dm(&doctor);
	check_io_uring(&doctor);
	check_volumes(&doctor);
	check_repository(&doctor);
	check_stores(&doctor);
	check_notify(&doctor);
	if (cli->json)
		ret = cli_print_json(json_pack("{s:O, s:i}", "checks", doctor.list, "bad",
					       (int)doctor.bad), false, err);
	json_decref(doctor.list);
	if (!ret && doctor.bad)
		ret = error_set(err, -ENOTSUP, "%u things stand in the way of a backup", doctor.bad);
	return ret;
}

const struct cli_verb verb_doctor = {
	.name = "doctor",
	.arguments = "",
	.summary = "Check kernel, configuration, volumes and repository; say how to mend each",
	.maximum = 0,
	.run = doctor_run,
};
