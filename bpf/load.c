/*
 * Loads, attaches and pins the eBPF program. libbpf talks on stderr by default;
 * here its last words are kept and become part of the error message.
 */
#include "bpf/tracker_private.h"

#include "agent/base/cleanup.h"
#include "tracker.skel.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* libbpf has one print function for the whole process. */
static pthread_mutex_t talk_lock = PTHREAD_MUTEX_INITIALIZER;
static char talk[640];			/* guarded by talk_lock: the latest part */

/* Keeps the end: libbpf and the verifier come to the point last. */
static void talk_append(const char *text)
{
	size_t used = strlen(talk), length = strlen(text);

	if (length >= sizeof(talk)) {
		text += length - (sizeof(talk) - 1);
		length = sizeof(talk) - 1;
	}
	if (used + length >= sizeof(talk)) {
		size_t drop = used + length - (sizeof(talk) - 1);

		memmove(talk, talk + drop, used - drop + 1);
		used -= drop;
	}
	memcpy(talk + used, text, length + 1);
	for (char *at = talk + used; *at; at++)
		if (*at == '\n')
			*at = at[1] ? '|' : ' ';
}

static int talk_print(enum libbpf_print_level level, const char *format,
		      va_list args)
{
	CLEANUP_FREE char *line = NULL;

	if (level != LIBBPF_WARN)
		return 0;
	if (vasprintf(&line, format, args) < 0) {
		line = NULL;
		return 0;
	}
	talk_append(strncmp(line, "libbpf: ", 8) ? line : line + 8);
	return 0;
}

/* Between these two libbpf is quiet and `talk` fills. */
static libbpf_print_fn_t talk_begin(void)
{
	pthread_mutex_lock(&talk_lock);
	*talk = '\0';
	return libbpf_set_print(talk_print);
}

static void talk_end(libbpf_print_fn_t former)
{
	libbpf_set_print(former);
	pthread_mutex_unlock(&talk_lock);
}

/* The bit of bio.bi_flags called BIO_REMAPPED; 0 when BTF does not tell. */
static uint32_t bio_remapped_mask(const struct btf *kernel)
{
	for (uint32_t id = 1; id < btf__type_cnt(kernel); id++) {
		const struct btf_type *type = btf__type_by_id(kernel, id);
		const struct btf_enum *item;

		if (!btf_is_enum(type) || type->name_off)
			continue;
		item = btf_enum(type);
		for (int i = 0; i < btf_vlen(type); i++)
			if (!strcmp(btf__name_by_offset(kernel, item[i].name_off),
				    "BIO_REMAPPED"))
				return item[i].val < 16 ? 1u << item[i].val : 0;
	}
	return 0;
}

bool kernel_has_member(const char *structure, const char *member)
{
	libbpf_print_fn_t former = talk_begin();
	struct btf *kernel = btf__load_vmlinux_btf();
	const struct btf_type *type;
	bool found = false;
	int id;

	talk_end(former);
	if (!kernel)
		return true;	/* cannot be ruled out */
	id = btf__find_by_name_kind(kernel, structure, BTF_KIND_STRUCT);
	type = id > 0 ? btf__type_by_id(kernel, (uint32_t)id) : NULL;
	for (int i = 0; type && i < btf_vlen(type) && !found; i++)
		found = !strcmp(btf__name_by_offset(kernel,
						    btf_members(type)[i].name_off),
				member);
	btf__free(kernel);
	return found;
}

static int load_failed(struct error *err, int code, const char *what)
{
	error_set(err, code, "cannot %s the tracker: %s%s%s", what,
		  error_text(code), *talk ? "; libbpf says: " : "", talk);
	if (code == -EPERM || code == -EACCES)
		error_hint(err, "root is needed (CAP_BPF, CAP_PERFMON and "
			   "CAP_SYS_ADMIN)");
	return err->code;
}

static int map_pin(struct bpf_map *map, struct error *err)
{
	char path[PATH_MAX];
	int ret = pin_path(bpf_map__name(map), path, sizeof(path));

	if (!ret)
		ret = bpf_map__pin(map, path);
	return ret ? load_failed(err, ret, "pin a map of") : 0;
}

static int skeleton_pin(struct tracker_bpf *skeleton, struct error *err)
{
	struct bpf_map *maps[] = {
		skeleton->maps.routes, skeleton->maps.ledger,
		skeleton->maps.slots, skeleton->maps.bitmaps,
		skeleton->maps.retired,
	};
	struct bpf_link *link;
	char path[PATH_MAX];
	int ret = 0;

	for (size_t i = 0; i < sizeof(maps) / sizeof(*maps) && !ret; i++)
		ret = map_pin(maps[i], err);
	if (ret)
		return ret;
	link = bpf_program__attach(skeleton->progs.TRACKER_PROGRAM);
	if (!link)
		return load_failed(err, -errno, "attach");
	ret = pin_path("link", path, sizeof(path));
	if (!ret)
		ret = bpf_link__pin(link, path);
	if (ret)
		load_failed(err, ret, "pin the link of");
	bpf_link__destroy(link);	/* a pinned link outlives this */
	return ret;
}

static int skeleton_load(struct error *err)
{
	struct tracker_bpf *skeleton;
	struct btf *kernel = btf__load_vmlinux_btf();
	int ret;

	if (!kernel)
		return load_failed(err, -errno, "read the kernel's type "
				   "information (CONFIG_DEBUG_INFO_BTF) for");
	skeleton = tracker_bpf__open();
	if (!skeleton) {
		ret = load_failed(err, -errno, "open");
		btf__free(kernel);
		return ret;
	}
	skeleton->rodata->bio_remapped_mask = bio_remapped_mask(kernel);
	btf__free(kernel);
	ret = tracker_bpf__load(skeleton);
	if (ret)
		load_failed(err, ret, "load");
	else
		ret = skeleton_pin(skeleton, err);
	tracker_bpf__destroy(skeleton);
	return ret;
}

int load_and_pin(struct error *err)
{
	libbpf_print_fn_t former = talk_begin();
	int ret = skeleton_load(err);

	talk_end(former);
	return ret;
}
