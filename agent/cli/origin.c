/* A point whose data is to be read: from which store, and with which key. */
#include "agent/cli/cli.h"

#include "agent/base/log.h"

#include <string.h>

struct search {
	bool look;			/* nothing is pinned */
	const char *volume, *which;
};

static int origin_open(struct cli *cli, const struct config_store *store,
		       const struct search *search, struct cli_origin *origin,
		       struct error *err)
{
	struct repo_volume volume;
	int ret = host_open_at(&cli->config, store, search->look ? HOST_LOOK : 0,
			       &origin->host, err);

	if (ret)
		return ret;
	ret = repo_volume_find(origin->host.repo, search->volume, &volume, err);
	if (!ret)
		ret = point_find(origin->host.repo, &volume.id, search->which, &origin->point,
				 err);
	if (ret)
		host_close(&origin->host);
	else
		origin->store = store;
	return ret;
}

static void origin_drop(struct cli_origin *origin)
{
	point_fini(&origin->point);
	memset(&origin->point, 0, sizeof(origin->point));
	host_close(&origin->host);
	origin->store = NULL;
}

/* With further stores it is looked first whether all is there. */
static int origin_try(struct cli *cli, const struct config_store *store,
		      const struct search *search, struct cli_origin *origin,
		      struct error *err)
{
	struct key_ring ring;
	int ret = origin_open(cli, store, search, origin, err);

	if (ret)
		return ret;
	if (!origin->recovery)
		ret = cli_key_load(&cli->key, true, &origin->recovery, err);
	if (!ret && !cli->store && cli->config.store_count) {
		ring = (struct key_ring){ .recovery = origin->recovery };
		ret = point_complete(origin->host.repo, &origin->point, &ring, err);
	}
	if (ret)
		origin_drop(origin);
	return ret;
}

/* Another store has no other key, and is no answer to a wrong option. */
static bool elsewhere(const struct error *err)
{
	return err->exit != EXIT_USAGE && err->exit != EXIT_INTERRUPTED &&
	       err->exit != EXIT_WRONG_KEY;
}

int cli_origin_open(struct cli *cli, bool look, struct cli_origin *origin, struct error *err)
{
	const struct config *config = &cli->config;
	struct search search = {
		.look = look, .volume = cli->arguments[0], .which = origin->which,
	};
	const struct config_store *store;
	int ret = cli_store(cli, &store, err);

	if (!ret)
		ret = origin_try(cli, store, &search, origin, err);
	for (size_t i = 0; ret && !cli->store && i < config->store_count && elsewhere(err); i++) {
		struct error one = ERROR_INIT;

		if (!i)
			log_warning("store %s: %s", store->name, err->message);
		if (!origin_try(cli, &config->stores[i], &search, origin, &one)) {
			log_note("restoring from store %s", config->stores[i].name);
			return 0;
		}
		log_warning("store %s: %s", config->stores[i].name, one.message);
		if (!elsewhere(&one)) {
			*err = one;
			break;
		}
	}
	return ret ? err->code : 0;
}

void cli_origin_close(struct cli_origin *origin)
{
	if (origin->store)
		origin_drop(origin);
	recovery_private_free(origin->recovery);
	origin->recovery = NULL;
}
