/* Where things lie in the state folder: <state>/volumes/<name>/… */
#include "agent/volume/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool volume_name_valid(const char *name)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "abcdefghijklmnopqrstuvwxyz0123456789._-";

	return name && name[0] && name[0] != '.' && name[0] != '-' &&
	       strlen(name) <= VOLUME_NAME_MAX &&
	       strspn(name, allowed) == strlen(name);
}

int volume_path(const char *state_folder, const char *name, const char *file,
		char path[static PATH_MAX], struct error *err)
{
	if (!volume_name_valid(name))
		return error_set(err, -EINVAL, "'%s' is no name for a volume", name);
	if (snprintf(path, PATH_MAX, "%s/volumes/%s%s%s", state_folder, name,
		     file ? "/" : "", file ? file : "") >= PATH_MAX - VOLUME_PATH_ROOM)
		return error_set(err, -ENAMETOOLONG, "the state folder's path is too long");
	return 0;
}

static bool file_exists(const char *state_folder, const char *name, const char *file)
{
	struct error ignored = ERROR_INIT;
	char path[PATH_MAX];

	return !volume_path(state_folder, name, file, path, &ignored) &&
	       access(path, F_OK) == 0;
}

bool volume_state_exists(const char *state_folder, const char *name)
{
	return file_exists(state_folder, name, "state.json");
}

bool pending_exists(const char *state_folder, const char *name)
{
	return file_exists(state_folder, name, "pending");
}

bool slot_exists(const char *state_folder, const char *name)
{
	return file_exists(state_folder, name, SLOT_FILE);
}
