/* Internal: what each key of each section means. */
#ifndef CLAWBACK_CONFIG_CONFIG_KEYS_H
#define CLAWBACK_CONFIG_CONFIG_KEYS_H

#include "agent/config/config.h"

/* A section begins: EXIT_USAGE when there is no such, or the volume's name is bad. */
int config_section(struct config *config, const char *section, struct error *err);

/* Whether a section may have `key` several times. */
bool config_key_repeats(const char *key);

/* Stores one value; EXIT_USAGE for an unknown section, key, or a bad value. */
int config_assign(struct config *config, const char *section, const char *key,
		  const char *value, struct error *err);

/*
 * The keys of a schedule (config_schedule.c), as of a section that has none of them
 * yet; 0 stored, 1 no such key, negative a bad value.
 */
void schedule_unset(struct config_schedule *schedule);
int schedule_assign(struct config_schedule *schedule, const char *key, const char *value,
		    struct error *err);
/* What was left out is as `defaults` has it; there NULL, as it is by itself. */
void schedule_settle(struct config_schedule *schedule,
		     const struct config_schedule *defaults);
/* Of a disk: what volumes do each minute would be too often, so an rpo of [agent]'s is a
 * day here, and its calendars are not a disk's. */
void schedule_settle_disk(struct config_schedule *schedule,
			  const struct config_schedule *defaults);
bool schedule_is_unset(const struct config_schedule *schedule);
/* One of its calendars, or another's; "never" stays as it is. */
int config_assign_calendar(const char *key, const char *value,
			   char to[static CONFIG_CALENDAR_MAX + 1], struct error *err);

/* A calendar expression, or "never"; a program with arguments. */
int config_assign_calendar(const char *key, const char *value,
			   char to[static CONFIG_CALENDAR_MAX + 1], struct error *err);
int config_assign_command(const char *key, const char *value,
			  char to[static CONFIG_HOOK_MAX + 1], struct error *err);

/* The keys of a drill (config_drill.c), which [agent] and [volume NAME] share; as those
 * of a schedule. */
void drill_unset(struct config_drill *drill);
int drill_assign(struct config_drill *drill, const char *key, const char *value,
		 struct error *err);
void drill_settle(struct config_drill *drill, const struct config_drill *defaults);

/* The keys of a hook (config_hook.c); as schedule_assign. */
void hook_unset(struct config_hook *hook);
int hook_assign(struct config_hook *hook, const char *key, const char *value,
		struct error *err);

/*
 * The keys of [notify] (config_notify.c), likewise; and whether they go together:
 * EXIT_USAGE, naming the file `path`.
 */
void notify_unset(struct config_notify *notify);
int notify_assign(struct config_notify *notify, const char *key, const char *value,
		  struct error *err);
int notify_check(const struct config_notify *notify, const char *path, struct error *err);

/* Those of them for e-mail (config_mail.c); what does not go together, or NULL. */
int mail_assign(struct config_notify *notify, const char *key, const char *value,
		struct error *err);
const char *mail_check(const struct config_notify *notify);

/* An address to listen on (config_listen.c), and whether it may be that one. */
int listen_assign(char to[static CONFIG_LISTEN_ROOM], const char *key, const char *value,
		  struct error *err);
int listen_check(const struct config *config, const char *path, struct error *err);

/* A store's prices (config_price.c); as schedule_assign. */
int price_assign(struct config_store *store, const char *key, const char *value,
		 struct error *err);

/* The format of the log (config_log.c). */
int log_assign(enum log_format *format, const char *key, const char *value,
	       struct error *err);

/* "KEY = VALUE: WANTED", with EXIT_USAGE. */
int config_bad_value(struct error *err, const char *key, const char *value,
		     const char *wanted);

/* By name, made if need be; NULL for a bad name, another's name or without memory. */
struct config_volume *config_volume_make(struct config *config, const char *name, bool disk,
					 struct error *err);

/* A policy is one value: what a volume's section says replaces all of the other. */
int config_assign_keep(struct policy *policy, const char *value, struct error *err);

/* The keys of [disk NAME] (config_disk.c); 1: no such key. */
int disk_assign(struct config *config, const char *name, const char *key, const char *value,
		struct error *err);

/* By name, made if need be; NULL for a bad name or without memory. */
struct config_group *config_group_make(struct config *config, const char *name,
				       struct error *err);

#endif
