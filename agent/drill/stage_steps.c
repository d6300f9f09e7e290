/* What process 1 of the namespaces does: from replaying the journal to unmounting. */
#include "agent/drill/drill_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define STEP_VARIABLES 12
#define PATH_VARIABLE "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define UMOUNT_TRIES 100	/* 50 ms apart: what was killed lets go a moment later */

/* ---- the room ------------------------------------------------------------------ */

/* Some applications want one; that it fails is no failure of a drill. */
static void loopback_up(void)
{
	CLEANUP_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = { .ifr_name = "lo" };

	if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request) < 0)
		return;
	request.ifr_flags |= IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &request) < 0)
		log_detail("drill: no loopback network: %s", error_text(errno));
}

static int room_make(struct error *err)
{
	mode_t before = umask(0);
	int ret = file_make_folders(DRILL_PLACE, 0755);

	if (!ret && mount("clawback-drill", DRILL_PLACE, "tmpfs", MS_NOSUID | MS_NODEV,
			  "mode=755,size=64m") < 0)
		ret = -errno;
	if (!ret && (mkdir(DRILL_PLACE_VOLUME, 0755) < 0 || mkdir(DRILL_PLACE_TMP, 01777) < 0))
		ret = -errno;
	umask(before);
	if (ret)
		return error_set(err, ret, "cannot make a place to mount at, %s: %s", DRILL_PLACE,
				 error_text(ret));
	/* Its process numbers, not the machine's. */
	if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		log_detail("drill: no /proc of its own: %s", error_text(errno));
	/* What is left in there by programs that are killed goes with it. */
	if (mount("clawback-drill", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777") < 0)
		log_detail("drill: no /dev/shm of its own: %s", error_text(errno));
	loopback_up();
	return 0;
}

/* ---- mounting ---------------------------------------------------------------------- */

/* What is on a volume and is no file system: a command may know what to do with it. */
static bool mountable(const char *type)
{
	return *type && strcmp(type, "swap") && strcmp(type, "crypto_LUKS");
}

static int volume_mount(const struct stage *stage, struct error *err)
{
	/* The original, mounted beside it, has the same UUID. */
	const char *options = !strcmp(stage->file_system, "xfs") ? "nouuid" : NULL;

	if (mount(stage->device, DRILL_PLACE_VOLUME, stage->file_system, MS_NOSUID | MS_NODEV,
		  options) == 0)
		return 0;
	if (errno == ENODEV)
		return error_set(err, -ENODEV, "this kernel cannot mount %s: load its module",
				 stage->file_system);
	return error_set(err, -errno, "mounting the copy (%s): %s", stage->file_system,
			 error_text(errno));
}

static int volume_unmount(struct error *err)
{
	static const struct timespec pause = { .tv_nsec = 50000000 };

	for (int i = 0; umount(DRILL_PLACE_VOLUME) < 0; i++) {
		if (errno != EBUSY || i == UMOUNT_TRIES)
			return error_set(err, -errno, "unmounting the copy: %s", error_text(errno));
		nanosleep(&pause, NULL);
	}
	return 0;
}

static int step_replay(struct stage_room *room, struct error *err)
{
	int ret = volume_mount(room->stage, err);

	return ret ? ret : volume_unmount(err);
}

static int step_mount(struct stage_room *room, struct error *err)
{
	int ret = volume_mount(room->stage, err);

	room->mounted = !ret;
	return ret;
}

/* ---- programs ------------------------------------------------------------------------ */

static const char *find_program(const char *name, char path[static 64])
{
	static const char *const folders[] = { "/usr/sbin", "/sbin", "/usr/bin", "/bin" };

	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
		snprintf(path, 64, "%s/%s", folders[i], name);
		if (access(path, X_OK) == 0)
			return path;
	}
	return NULL;
}

static int step_check(struct stage_room *room, struct error *err)
{
	static const char *const checkers[][5] = {
		{ "ext2", "e2fsck", "-f", "-n", "e2fsprogs" },
		{ "ext3", "e2fsck", "-f", "-n", "e2fsprogs" },
		{ "ext4", "e2fsck", "-f", "-n", "e2fsprogs" },
		{ "xfs", "xfs_repair", "-n", NULL, "xfsprogs" },
		{ "vfat", "fsck.fat", "-n", NULL, "dosfstools" },
	};
	static const char *const environment[] = { PATH_VARIABLE, "LC_ALL=C", NULL };
	const struct stage *stage = room->stage;

	for (size_t i = 0; i < sizeof(checkers) / sizeof(checkers[0]); i++) {
		char path[64];
		const char *argv[] = { find_program(checkers[i][1], path), checkers[i][2],
				       checkers[i][3] ? checkers[i][3] : stage->device,
				       checkers[i][3] ? stage->device : NULL, NULL };
		struct program program = { .name = checkers[i][1], .argv = argv,
					   .environment = environment,
					   .lifeline_fd = room->lifeline_fd };

		if (strcmp(checkers[i][0], stage->file_system))
			continue;
		if (!argv[0])
			return error_set(err, -ENOENT, "there is no %s to check the copy with; "
					 "install %s", checkers[i][1], checkers[i][4]);
		return program_run(&program, err);
	}
	log_note("drill: nothing here checks a file system of type %s", stage->file_system);
	return 0;
}

static void time_text(uint64_t ns, char text[static 32])
{
	time_t seconds = (time_t)(ns / 1000000000);
	struct tm tm;

	gmtime_r(&seconds, &tm);
	strftime(text, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

/* What the command is told; texts are the caller's. */
struct told {
	char device[PATH_MAX + 32], type[64], volume[128], point[64], time[64];
	const char *variables[STEP_VARIABLES];
};

static void told_make(struct told *told, const struct stage_room *room)
{
	const struct stage *stage = room->stage;
	char time[32];
	size_t n = 0;

	time_text(stage->point->time_ns, time);
	snprintf(told->device, sizeof(told->device), "CLAWBACK_DRILL_DEVICE=%s", stage->device);
	snprintf(told->type, sizeof(told->type), "CLAWBACK_DRILL_TYPE=%s", stage->file_system);
	snprintf(told->volume, sizeof(told->volume), "CLAWBACK_DRILL_VOLUME=%s",
		 stage->point->volume_name);
	snprintf(told->point, sizeof(told->point), "CLAWBACK_DRILL_POINT=%" PRIu64,
		 stage->point->number);
	snprintf(told->time, sizeof(told->time), "CLAWBACK_DRILL_TIME=%s", time);
	told->variables[n++] = PATH_VARIABLE;
	told->variables[n++] = "TMPDIR=" DRILL_PLACE_TMP;
	told->variables[n++] = room->mounted ? "CLAWBACK_DRILL_MOUNT=" DRILL_PLACE_VOLUME
					     : "CLAWBACK_DRILL_MOUNT=";
	told->variables[n++] = told->device;
	told->variables[n++] = told->type;
	told->variables[n++] = told->volume;
	told->variables[n++] = told->point;
	told->variables[n++] = told->time;
	told->variables[n] = NULL;
}

static int step_command(struct stage_room *room, struct error *err)
{
	const struct stage *stage = room->stage;
	CLEANUP_FREE char *words = strdup(stage->command);
	const char *argv[DRILL_COMMAND_WORDS + 1] = { NULL }, *name;
	char *at = NULL;
	struct told told;
	size_t n = 0;

	if (!words)
		return error_set(err, -ENOMEM, "starting the command: out of memory");
	for (char *word = strtok_r(words, " \t", &at); word && n < DRILL_COMMAND_WORDS;
	     word = strtok_r(NULL, " \t", &at))
		argv[n++] = word;
	if (!n)
		return error_set(err, -EINVAL, "the drill's command is empty");
	told_make(&told, room);
	name = strrchr(argv[0], '/');
	return program_run(&(struct program){
		.name = name ? name + 1 : argv[0], .argv = argv, .environment = told.variables,
		.timeout_ns = stage->timeout_ns, .tell = true, .lifeline_fd = room->lifeline_fd,
	}, err);
}

static int step_cleanup(struct stage_room *room, struct error *err)
{
	program_end_all();
	if (!room->mounted)
		return 0;
	room->mounted = false;
	return volume_unmount(err);
}

/* ---- one after the other ---------------------------------------------------------------- */

static int step_do(struct stage_room *room, enum drill_step step,
		   int (*does)(struct stage_room *, struct error *), struct error *err)
{
	uint64_t start = drill_clock_ns();
	int ret = does(room, err);

	if (!ret)
		room->ended(room->context, step, drill_clock_ns() - start);
	return ret;
}

int stage_steps(struct stage_room *room, enum drill_step *failed, struct error *err)
{
	static const struct { enum drill_step step; bool mounts;
			      int (*does)(struct stage_room *, struct error *); } steps[] = {
		{ DRILL_REPLAY, true, step_replay }, { DRILL_CHECK, true, step_check },
		{ DRILL_MOUNT, true, step_mount }, { DRILL_COMMAND, false, step_command },
	};
	struct error cleaning = ERROR_INIT;
	int ret;

	*failed = DRILL_REPLAY;
	ret = room_make(err);
	for (size_t i = 0; !ret && i < sizeof(steps) / sizeof(steps[0]); i++) {
		bool wanted = steps[i].mounts ? mountable(room->stage->file_system)
					      : room->stage->command != NULL;

		*failed = steps[i].step;
		if (wanted)
			ret = step_do(room, steps[i].step, steps[i].does, err);
	}
	if (step_do(room, DRILL_CLEANUP, step_cleanup, &cleaning) && !ret) {
		*failed = DRILL_CLEANUP;
		*err = cleaning;
		ret = err->code;
	}
	return ret;
}
