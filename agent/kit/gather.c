/* What is on the page: from the configuration, a store if one answers, the state folder. */
#include "agent/kit/kit.h"

#include "agent/base/cleanup.h"
#include "agent/base/interrupt.h"
#include "agent/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/*
 * A name goes into commands that somebody will run as root, and a store's owner can
 * write any: those that could be more than a word are shown and not used.
 */
static bool kit_name_plain(const char *name)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "abcdefghijklmnopqrstuvwxyz0123456789._-";

	return *name && *name != '-' && *name != '.' && strspn(name, plain) == strlen(name);
}

static struct kit_volume *kit_volume_add(struct kit *kit, const char *name)
{
	struct kit_volume *volumes = reallocarray(kit->volumes, kit->volume_count + 1,
						  sizeof(*volumes));
	struct kit_volume *volume;

	if (!volumes)
		return NULL;
	kit->volumes = volumes;
	volume = &volumes[kit->volume_count++];
	memset(volume, 0, sizeof(*volume));
	snprintf(volume->name, sizeof(volume->name), "%s", name);
	for (char *at = volume->name; *at; at++)
		if (*at < ' ' || *at > '~')
			*at = '?';
	snprintf(volume->which, sizeof(volume->which), "%s", name);
	return volume;
}

/* ---- what this host knows ------------------------------------------------------ */

static int kit_configured(struct kit *kit, struct error *err)
{
	const struct config *config = kit->config;

	for (size_t i = 0; i < config->volume_count; i++) {
		const struct config_volume *from = &config->volumes[i];
		struct kit_volume *volume = kit_volume_add(kit, from->name);
		struct error unknown = ERROR_INIT;
		struct volume_state state;

		if (!volume)
			return error_set(err, -ENOMEM, "out of memory");
		snprintf(volume->device, sizeof(volume->device), "%s", from->device);
		snprintf(volume->group, sizeof(volume->group), "%s", from->group);
		if (!volume_state_exists(config->agent.state, from->name))
			continue;
		if (volume_state_load(config->agent.state, from->name, &state, &unknown)) {
			log_warning("volume %s: %s", from->name, unknown.message);
			continue;
		}
		volume->has_id = true;
		volume->id = state.id;
		volume->point = state.head_point;
		volume->time_ns = state.head_time_ns;
		volume->bytes = state.bytes;
		if (state.head_point && !kit->has_id) {
			kit->has_id = true;
			kit->id = state.repository;
		}
	}
	return 0;
}

/* The public halves that init was given, as far as they are still there. */
static void kit_configured_recipients(struct kit *kit)
{
	const struct config *config = kit->config;

	for (size_t i = 0; i < config->identity.recipient_count; i++) {
		struct error gone = ERROR_INIT;
		struct recovery_public public;

		if (recovery_public_load(config->identity.recipients[i], &public, &gone)) {
			log_warning("%s", gone.message);
			continue;
		}
		key_fingerprint(public.key, kit->recipients[kit->recipient_count++]);
	}
}

/* ---- what a store says ------------------------------------------------------------ */

static void kit_facts(struct kit *kit, const struct repo_facts *facts)
{
	kit->has_id = true;
	kit->id = facts->id;
	strcpy(kit->fingerprint, facts->fingerprint);
	for (size_t i = 0; i < facts->recipient_count && i < KIT_RECIPIENTS_MAX; i++)
		key_fingerprint(facts->recipients[i].key,
				kit->recipients[kit->recipient_count++]);
}

/* The configured volume of that identity, or a new one that only the store has. */
static struct kit_volume *kit_volume_of(struct kit *kit, const struct repo_volume *stored)
{
	for (size_t i = 0; i < kit->volume_count; i++) {
		struct kit_volume *volume = &kit->volumes[i];

		if (volume->has_id ? uuid_equal(&volume->id, &stored->id) :
				     !strcmp(volume->name, stored->name))
			return volume;
	}
	return kit_volume_add(kit, stored->name);
}

static int kit_newest(struct repo *repo, struct kit_volume *volume, struct error *err)
{
	struct point point;
	int ret = point_find(repo, &volume->id, "latest", &point, err);

	if (ret == -ENOENT) {
		*err = (struct error)ERROR_INIT;
		return 0;
	}
	if (ret)
		return ret;
	volume->point = point.number;
	volume->time_ns = point.time_ns;
	volume->bytes = point.volume_bytes;
	point_fini(&point);
	return 0;
}

/* Where one name in the store is damaged, none can be looked up, but ids can be used. */
static int kit_list(struct kit *kit, struct repo *repo, struct repo_volume **stored,
		    size_t *count, bool *by_id, struct error *err)
{
	int ret = repo_volumes(repo, stored, count, err);

	*by_id = ret && err->exit == EXIT_UNTRUSTWORTHY;
	if (!*by_id)
		return ret;
	log_warning("%s", err->message);
	*err = (struct error)ERROR_INIT;
	*stored = calloc(kit->volume_count + 1, sizeof(**stored));
	if (!*stored)
		return error_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < kit->volume_count; i++) {
		struct repo_volume *volume = &(*stored)[*count];

		if (!kit->volumes[i].has_id)
			continue;
		volume->id = kit->volumes[i].id;
		strcpy(volume->name, kit->volumes[i].name);
		(*count)++;
	}
	return 0;
}

static int kit_stored(struct kit *kit, struct repo *repo, struct error *err)
{
	CLEANUP_FREE struct repo_volume *stored = NULL;
	size_t count;
	bool by_id;
	int ret = kit_list(kit, repo, &stored, &count, &by_id, err);

	/* What it does not have, it cannot give back. */
	for (size_t i = 0; i < kit->volume_count && !ret; i++)
		kit->volumes[i].point = kit->volumes[i].time_ns = kit->volumes[i].bytes = 0;
	for (size_t i = 0; i < count && !ret; i++) {
		struct kit_volume *volume = kit_volume_of(kit, &stored[i]);
		bool twin = (i && !strcmp(stored[i - 1].name, stored[i].name)) ||
			    (i + 1 < count && !strcmp(stored[i + 1].name, stored[i].name));

		if (!volume)
			return error_set(err, -ENOMEM, "out of memory");
		volume->has_id = true;
		volume->id = stored[i].id;
		if (by_id || twin || !kit_name_plain(stored[i].name))
			uuid_format(&volume->id, volume->which);
		else
			snprintf(volume->which, sizeof(volume->which), "%s", stored[i].name);
		ret = interrupt_check(err) ?: kit_newest(repo, volume, err);
	}
	return ret;
}

/* All of one store's word or nothing: *kit as it was when it does not answer. */
static int kit_ask(struct kit *kit, const struct config_store *store, struct error *err)
{
	struct kit asked = *kit;
	struct host host;
	int ret;

	asked.volumes = NULL;
	asked.volume_count = 0;
	ret = host_open_at(kit->config, store, HOST_LOOK, &host, err);
	if (ret)
		return ret;
	kit_facts(&asked, repo_facts(host.repo));
	for (size_t i = 0; i < kit->volume_count && !ret; i++) {
		struct kit_volume *copy = kit_volume_add(&asked, kit->volumes[i].name);

		if (copy)
			*copy = kit->volumes[i];
		else
			ret = error_set(err, -ENOMEM, "out of memory");
	}
	if (!ret)
		ret = kit_stored(&asked, host.repo, err);
	host_close(&host);
	if (ret) {
		free(asked.volumes);
		return ret;
	}
	free(kit->volumes);
	*kit = asked;
	snprintf(kit->store, sizeof(kit->store), "%s", store->name);
	return 0;
}

/*
 * A store that shows another repository is none that is away: then the page would be of
 * something else. No repository at all is what a disk that is not mounted looks like.
 */
static int kit_ask_all(struct kit *kit, struct error *err)
{
	const struct config *config = kit->config;

	for (size_t i = 0; i <= config->store_count; i++) {
		const struct config_store *store = i ? &config->stores[i - 1] :
						       &config->repository;

		if (!kit_ask(kit, store, err))
			return 0;
		if (err->exit == EXIT_UNTRUSTWORTHY || err->exit == EXIT_INTERRUPTED)
			return error_prefix(err, "store %s", store->name);
		if (!*kit->problem)
			snprintf(kit->problem, sizeof(kit->problem), "%.500s", err->message);
		*err = (struct error)ERROR_INIT;
	}
	return 0;
}

/* People do put passwords into URLs; stores refuse that, but not all are asked. */
static int kit_check_store(const struct config_store *store, struct error *err)
{
	bool folder = !strncmp(store->url, "file:", 5);

	if ((folder || !strchr(store->url, '@')) && !strchr(store->endpoint, '@'))
		return 0;
	return error_set_exit(err, EXIT_USAGE, -EINVAL, "the url or the endpoint of store %s has "
			      "a user or a password in it, which is not to be printed; take it "
			      "out", store->name);
}

static int kit_check(const struct config *config, struct error *err)
{
	int ret = kit_check_store(&config->repository, err);

	if (!config->repository.url[0])
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "no repository is configured, so "
				      "there is nothing to recover from; set url in [repository]");
	for (size_t i = 0; i < config->store_count && !ret; i++)
		ret = kit_check_store(&config->stores[i], err);
	return ret;
}

int kit_gather(const struct config *config, struct kit *kit, struct error *err)
{
	struct timespec now;
	int ret = kit_check(config, err);

	memset(kit, 0, sizeof(*kit));
	kit->config = config;
	if (ret)
		return ret;
	clock_gettime(CLOCK_REALTIME, &now);
	kit->made_ns = (uint64_t)now.tv_sec * 1000000000u;
	if (gethostname(kit->host, sizeof(kit->host) - 1))
		strcpy(kit->host, "?");
	ret = kit_configured(kit, err);
	if (!ret)
		ret = kit_ask_all(kit, err);
	if (!ret && !*kit->store) {
		kit_configured_recipients(kit);
		ret = host_pin(config, kit->fingerprint, err);
	}
	if (ret)
		kit_fini(kit);
	return ret;
}

void kit_fini(struct kit *kit)
{
	free(kit->volumes);
	kit->volumes = NULL;
	kit->volume_count = 0;
}
