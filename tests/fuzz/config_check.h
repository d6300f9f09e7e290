/* What config.h promises of a configuration that was accepted. */
#ifndef CLAWBACK_TESTS_FUZZ_CONFIG_CHECK_H
#define CLAWBACK_TESTS_FUZZ_CONFIG_CHECK_H

#include "agent/config/config.h"
#include "tests/fuzz/fuzz.h"

static inline void check_config_schedule(const struct config_schedule *schedule)
{
	const uint64_t second = 1000000000, most = 366 * 86400 * second;

	FUZZ_CHECK(!schedule->rpo_ns || (schedule->rpo_ns >= second && schedule->rpo_ns <= most));
	FUZZ_CHECK(!schedule->idle_point_ns || (schedule->idle_point_ns >= second &&
						schedule->idle_point_ns <= most));
	FUZZ_CHECK_TEXT(schedule->full);
	FUZZ_CHECK(schedule->full[0] != '-' && strcmp(schedule->full, "never"));
	FUZZ_CHECK(schedule->window_from >= 0 && schedule->window_from <= 1440);
	FUZZ_CHECK(schedule->window_to >= 0 && schedule->window_to <= 1440);
	FUZZ_CHECK_TEXT(schedule->synthetic);
	FUZZ_CHECK(schedule->synthetic[0] != '-' && strcmp(schedule->synthetic, "never"));
	FUZZ_CHECK_TEXT(schedule->differential);
	FUZZ_CHECK(schedule->differential[0] != '-' && strcmp(schedule->differential, "never"));
	FUZZ_CHECK(!schedule->jitter_ns || (schedule->jitter_ns >= second &&
					    schedule->jitter_ns <= most));
	FUZZ_CHECK(!schedule->run_timeout_ns || (schedule->run_timeout_ns >= second &&
						 schedule->run_timeout_ns <= most));
	FUZZ_CHECK(schedule->blackout_count <= CONFIG_BLACKOUTS_MAX);
	for (unsigned i = 0; i < schedule->blackout_count; i++) {
		const struct config_times *times = &schedule->blackouts[i];

		FUZZ_CHECK(times->from >= 0 && times->from < 1440 && times->to >= 0 &&
			   times->to <= 1440 && times->from != times->to);
		FUZZ_CHECK(times->days && times->days < 128);
	}
}

static inline void check_config_volume(const struct config *config, size_t i)
{
	const struct config_volume *volume = &config->volumes[i];

	FUZZ_CHECK_TEXT(volume->name);
	FUZZ_CHECK_TEXT(volume->device);
	FUZZ_CHECK_TEXT(volume->group);
	FUZZ_CHECK_TEXT(volume->cow.path);
	FUZZ_CHECK(volume->name[0] && !strpbrk(volume->name, "/ \t\n"));
	FUZZ_CHECK(volume->name[0] != '.' && volume->name[0] != '-');
	FUZZ_CHECK(volume->device[0] == '/');
	FUZZ_CHECK(!(volume->granularity_bytes & (volume->granularity_bytes - 1)));
	FUZZ_CHECK(volume->cow.kind == COW_RAM ? !volume->cow.path[0] :
						 volume->cow.path[0] == '/');
	/* Found by its name: so no other has it. */
	FUZZ_CHECK(config_volume(config, volume->name) == volume);
	check_config_schedule(&volume->schedule);
	FUZZ_CHECK(!volume->group[0] || !volume->schedule.rpo_ns);
	FUZZ_CHECK(!volume->group[0] || config_group(config, volume->group));
}

static inline void check_config_notify(const struct config_notify *notify)
{
	char address[CONFIG_MAIL_ADDRESS_ROOM];
	size_t addresses = 0;

	FUZZ_CHECK_TEXT(notify->command);
	FUZZ_CHECK_TEXT(notify->webhook);
	FUZZ_CHECK_TEXT(notify->webhook_file);
	FUZZ_CHECK_TEXT(notify->routing_key_file);
	FUZZ_CHECK_TEXT(notify->ca_file);
	FUZZ_CHECK(!notify->command[0] || notify->command[0] == '/');
	FUZZ_CHECK(!notify->webhook[0] || config_webhook_good(notify->webhook));
	FUZZ_CHECK(!notify->webhook[0] || !notify->webhook_file[0]);
	FUZZ_CHECK((notify->format == NOTIFY_PAGERDUTY) == (notify->routing_key_file[0] != 0));
	FUZZ_CHECK_TEXT(notify->mail_to);
	FUZZ_CHECK_TEXT(notify->mail_from);
	FUZZ_CHECK_TEXT(notify->smtp);
	FUZZ_CHECK_TEXT(notify->smtp_user);
	FUZZ_CHECK_TEXT(notify->smtp_password_file);
	FUZZ_CHECK(!notify->mail_to[0] == !notify->mail_from[0]);
	FUZZ_CHECK(!notify->mail_to[0] == !notify->smtp[0]);
	FUZZ_CHECK(!strpbrk(notify->mail_to, "\r\n<>\"") && !strpbrk(notify->mail_from, "\r\n<>\" ,"));
	for (const char *at = notify->mail_to; config_mail_next(&at, address); addresses++)
		FUZZ_CHECK(strchr(address, '@') && !strpbrk(address, " ,"));
	FUZZ_CHECK((addresses > 0) == (notify->mail_to[0] != 0) && addresses <= CONFIG_MAIL_TO_MAX);
	FUZZ_CHECK(!notify->smtp_plain || !strncmp(notify->smtp, "smtp://", 7));
	FUZZ_CHECK(!notify->smtp_plain || !notify->smtp_user[0]);
	FUZZ_CHECK(notify->on && notify->on <= 15 && notify->on != NOTIFY_ON_RECOVERY);
	FUZZ_CHECK(notify->interval_ns <= UINT64_C(366) * 86400 * 1000000000);
}

static inline void check_config_store(const struct config_store *store)
{
	FUZZ_CHECK_TEXT(store->name);
	FUZZ_CHECK_TEXT(store->url);
	FUZZ_CHECK_TEXT(store->endpoint);
	FUZZ_CHECK_TEXT(store->region);
	FUZZ_CHECK_TEXT(store->credentials_file);
	FUZZ_CHECK_TEXT(store->credentials_profile);
	FUZZ_CHECK_TEXT(store->ca_file);
	/* 0: not given. */
	FUZZ_CHECK(store->connections <= 64);
	FUZZ_CHECK(store->retries <= 100);
	FUZZ_CHECK(store->timeout_seconds <= 3600);
	FUZZ_CHECK(store->part_bytes <= 1u << 30);
	FUZZ_CHECK(store->lag_warning_ns <= UINT64_C(366) * 86400 * 1000000000);
	FUZZ_CHECK(memchr(store->retention, '\0', sizeof(store->retention)));
}

static inline void check_config(const struct config *config)
{
	struct config_listen listen;

	FUZZ_CHECK_TEXT(config->agent.metrics_listen);
	FUZZ_CHECK(!config->agent.metrics_listen[0] ||
		   (!config_parse_listen(config->agent.metrics_listen, &listen) &&
		    (listen.loopback || config->agent.metrics_public)));
	FUZZ_CHECK_TEXT(config->identity.fingerprint);
	check_config_store(&config->repository);
	FUZZ_CHECK_TEXT(config->agent.state);
	FUZZ_CHECK_TEXT(config->agent.metrics);
	FUZZ_CHECK(!config->agent.metrics[0] || config->agent.metrics[0] == '/');
	FUZZ_CHECK(config->identity.recipient_count <= CONFIG_RECIPIENTS_MAX);
	for (size_t i = 0; i < config->identity.recipient_count; i++)
		FUZZ_CHECK_TEXT(config->identity.recipients[i]);
	FUZZ_CHECK(config->store_count <= CONFIG_STORES_MAX);
	for (size_t i = 0; i < config->store_count; i++) {
		check_config_store(&config->stores[i]);
		FUZZ_CHECK(config->stores[i].url[0]);
		FUZZ_CHECK(config_store(config, config->stores[i].name) == &config->stores[i]);
	}
	FUZZ_CHECK(config->agent.state[0] == '/');
	FUZZ_CHECK(config->agent.workers <= 64 && config->agent.queue_depth <= 1024);
	FUZZ_CHECK(config->agent.compression >= -7 && config->agent.compression <= 19);
	FUZZ_CHECK(config->agent.segment_bytes <= UINT64_C(1) << 40);
	FUZZ_CHECK(config->agent.bitmap_limit_bytes <= UINT64_C(1) << 34);
	for (size_t i = 0; i < config->volume_count; i++)
		check_config_volume(config, i);
	check_config_schedule(&config->agent.schedule);
	check_config_notify(&config->notify);
	FUZZ_CHECK(config->agent.stop_timeout_ns <= UINT64_C(86400000000000));
	FUZZ_CHECK(config->agent.limits.nice <= 19 && config->agent.limits.io_priority <= 7);
	FUZZ_CHECK(config->agent.runs >= 1 && config->agent.runs <= 16);
	for (size_t i = 0; i < config->group_count; i++) {
		FUZZ_CHECK_TEXT(config->groups[i].name);
		FUZZ_CHECK(config_group(config, config->groups[i].name) == &config->groups[i]);
		check_config_schedule(&config->groups[i].schedule);
	}
}

#endif
