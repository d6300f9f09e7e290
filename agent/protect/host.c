/*
 * The host's keys and its pin of the repository, under STATE/keys and
 * STATE/repository.
 */
#include "agent/protect/protect.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"
#include "agent/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static void host_path(const struct config *config, const char *name, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%.*s/%s", PATH_MAX - 64, config->agent.state, name);
}

static const char *or_null(const char *text)
{
	return *text ? text : NULL;
}

int store_of_config(const struct config_store *at, bool create, struct store **store,
		    struct error *err)
{
	struct store_options options = {
		.endpoint = or_null(at->endpoint),
		.region = or_null(at->region),
		.path_style = at->path_style,
		.credentials_file = or_null(at->credentials_file),
		.credentials_profile = or_null(at->credentials_profile),
		.ca_file = or_null(at->ca_file),
		.connections = at->connections,
		.part_bytes = at->part_bytes,
		.retries = at->retries,
		.timeout_seconds = at->timeout_seconds,
		.bandwidth_bytes = at->bandwidth_bytes,
	};

	if (!at->url[0])
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "no repository is configured; "
				      "set url in [repository] of the configuration, or give "
				      "--repository URL");
	return store_open(at->url, &options, create, store, err);
}

int host_open_store(const struct config *config, const struct config_store *at, bool create,
		    struct host *host, struct error *err)
{
	memset(host, 0, sizeof(*host));
	host->config = config;
	return store_of_config(at, create, &host->store, err);
}

/* ---- the pin ----------------------------------------------------------- */

int host_pin(const struct config *config, char pin[static CRYPTO_FINGERPRINT_TEXT],
	     struct error *err)
{
	CLEANUP_FREE char *text = NULL;
	char path[PATH_MAX];
	int ret;

	if (config->identity.fingerprint[0]) {
		strcpy(pin, config->identity.fingerprint);
		return 0;
	}
	*pin = '\0';
	host_path(config, "repository", path);
	ret = file_read(path, 4096, &text, NULL);
	if (ret == -ENOENT)
		return 0;
	if (ret)
		return error_set(err, ret, "reading %s: %s", path, error_text(ret));
	if (sscanf(text, "%64[0-9a-f]", pin) != 1 || strlen(pin) != 64)
		return error_set(err, -EBADMSG, "%s is damaged; if the repository at %s is the "
				 "right one, remove the file", path, config->repository.url);
	return 0;
}

static int pin_save(const struct config *config, const char *fingerprint,
		    struct error *err)
{
	char path[PATH_MAX], line[CRYPTO_FINGERPRINT_TEXT + 1];
	int ret = file_make_folders(config->agent.state, 0700);

	host_path(config, "repository", path);
	snprintf(line, sizeof(line), "%.64s\n", fingerprint);
	if (!ret)
		ret = file_replace(path, line, strlen(line), 0600);
	return ret ? error_set(err, ret, "remembering the repository in %s: %s", path,
			       error_text(ret)) : 0;
}

/* ---- keys -------------------------------------------------------------- */

static int map_key_load(struct host *host, struct error *err)
{
	CLEANUP_FREE char *data = NULL;
	char path[PATH_MAX];
	struct stat st;
	size_t length;
	int ret;

	host_path(host->config, "keys/map.key", path);
	ret = file_read(path, CRYPTO_KEY_SIZE, &data, &length);
	if (ret == -ENOENT)
		return ret;
	if (ret)
		return error_set(err, ret, "reading the map key %s: %s", path, error_text(ret));
	if (stat(path, &st) < 0 || (st.st_mode & 077) || length != CRYPTO_KEY_SIZE) {
		crypto_wipe(data, length);
		return error_set(err, -EPERM, "the map key %s must have mode 0600 and %d bytes",
				 path, CRYPTO_KEY_SIZE);
	}
	memcpy(host->map_key, data, CRYPTO_KEY_SIZE);
	crypto_wipe(data, length);
	host->has_map_key = true;
	return 0;
}

static int keys_load(struct host *host, bool writer, struct error *err)
{
	char path[PATH_MAX];
	int ret = map_key_load(host, err);

	if (ret && ret != -ENOENT)
		return ret;
	host_path(host->config, "keys/signing.pem", path);
	if (!access(path, F_OK)) {
		ret = signing_load(path, &host->signer, err);
		if (ret)
			return ret;
	}
	if (writer && (!host->has_map_key || !host->signer))
		return error_set(err, -ENOKEY, "this host has no keys for the repository in "
				 "%s/keys; run clawback init on it, or restore that folder",
				 host->config->agent.state);
	return 0;
}

static int map_key_make(struct host *host, struct error *err)
{
	char path[PATH_MAX];
	int ret = map_key_load(host, err);

	if (ret != -ENOENT)
		return ret;
	host_path(host->config, "keys/map.key", path);
	ret = crypto_random(host->map_key, CRYPTO_KEY_SIZE, err);
	if (ret)
		return ret;
	ret = file_create(path, host->map_key, CRYPTO_KEY_SIZE, 0600);
	if (ret)
		return error_set(err, ret, "writing the map key %s: %s", path, error_text(ret));
	host->has_map_key = true;
	return 0;
}

static int keys_make(struct host *host, struct error *err)
{
	char path[PATH_MAX];
	int ret;

	host_path(host->config, "keys", path);
	ret = file_make_folders(path, 0700);
	if (ret)
		return error_set(err, ret, "making %s: %s", path, error_text(ret));
	ret = map_key_make(host, err);
	if (ret)
		return ret;
	host_path(host->config, "keys/signing.pem", path);
	return access(path, F_OK) ? signing_generate(path, &host->signer, err)
				  : signing_load(path, &host->signer, err);
}

/*
 * What killed writers of the above left. No lock says that none is at work, but
 * none takes an hour.
 */
static void host_sweep(const struct config *config)
{
	static const char *const names[] = { "repository", "keys/map.key", "keys/signing.pem" };
	char path[PATH_MAX];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		int ret;

		host_path(config, names[i], path);
		ret = file_sweep(path, 3600);
		if (ret < 0)
			log_warning("cannot remove left-overs of %s: %s", path, error_text(ret));
	}
}

/* ---- opening ----------------------------------------------------------- */

int host_open(const struct config *config, unsigned use, struct host *host,
	      struct error *err)
{
	return host_open_at(config, &config->repository, use, host, err);
}

int host_open_at(const struct config *config, const struct config_store *at, unsigned use,
		 struct host *host, struct error *err)
{
	char pin[CRYPTO_FINGERPRINT_TEXT];
	uint64_t start = elapsed_ns();
	int ret = host_open_store(config, at, false, host, err);

	if (!ret && use == HOST_WRITER)
		host_sweep(config);
	if (!ret)
		ret = host_pin(config, pin, err);
	if (!ret)
		ret = repo_open(host->store, or_null(pin), &host->repo, err);
	if (!ret && !*pin && !(use & HOST_LOOK)) {
		const struct repo_facts *facts = repo_facts(host->repo);

		log_note("first use of this repository here; compare its fingerprint with "
			 "the one that clawback init printed: %s", facts->fingerprint);
		ret = pin_save(config, facts->fingerprint, err);
	}
	if (!ret)
		ret = keys_load(host, use & HOST_WRITER, err);
	host->open_ns = elapsed_ns() - start;
	if (ret)
		host_close(host);
	return ret;
}

void host_close(struct host *host)
{
	signing_free(host->signer);
	repo_close(host->repo);
	store_close(host->store);
	crypto_wipe(host->map_key, sizeof(host->map_key));
	memset(host, 0, sizeof(*host));
}

static int init_recipients(const struct config *config, struct repo_facts *facts,
			   struct error *err)
{
	if (!config->identity.recipient_count)
		return error_set_exit(err, EXIT_USAGE, -EINVAL, "no recovery public key is "
				      "given; make a pair with clawback keygen and name the "
				      "public half with --recipient or in [repository]");
	for (size_t i = 0; i < config->identity.recipient_count; i++) {
		int ret = recovery_public_load(config->identity.recipients[i],
					       &facts->recipients[i], err);

		if (ret)
			return ret;
	}
	facts->recipient_count = config->identity.recipient_count;
	return 0;
}

/* An empty mount point is not the repository; who runs into that wants to know. */
static void init_warn_of_move(const struct config *config, const char *fingerprint)
{
	char pin[CRYPTO_FINGERPRINT_TEXT], path[PATH_MAX];
	struct error ignored = ERROR_INIT;

	if (host_pin(config, pin, &ignored) || !*pin || !strcmp(pin, fingerprint))
		return;
	host_path(config, "repository", path);
	log_warning("this host goes to the new repository from now on, no longer to the one with "
		    "fingerprint %s; was that not meant, write this into %s again", pin, path);
}

int host_init(const struct config *config, struct repo_facts *facts,
	      struct error *err)
{
	struct host host;
	int ret;

	memset(facts, 0, sizeof(*facts));
	ret = init_recipients(config, facts, err);
	if (ret)
		return ret;
	ret = host_open_store(config, &config->repository, true, &host, err);
	if (!ret)
		ret = keys_make(&host, err);
	if (!ret) {
		signing_public(host.signer, &facts->signers[0]);
		facts->signer_count = 1;
		ret = repo_init(host.store, facts, err);
	}
	if (!ret) {
		init_warn_of_move(config, facts->fingerprint);
		ret = pin_save(config, facts->fingerprint, err);
	}
	host_close(&host);
	return ret;
}
