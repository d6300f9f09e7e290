/* [notify] for e-mail: addresses, servers, what goes together; nothing ends a header. */
#include "tests/unit/config_lab.h"

#define MAIL "mail_to = a@b.c\nmail_from = d@e.f\n"

static int load(const char *keys, struct config *config, struct error *err)
{
	char text[2000];

	snprintf(text, sizeof(text), "[notify]\n%s\n", keys);
	return config_load_text(text, strlen(text), NULL, 0, config, err);
}

static void all_keys(void **context)
{
	static struct config config;
	char address[CONFIG_MAIL_ADDRESS_ROOM];
	const char *list = config.notify.mail_to;
	struct error err;

	(void)context;
	assert_int_equal(0, load("mail_to = a.b+c@d-e.org, f@g\nmail_from = h@i.net\n"
				 "smtp = smtps://mail.i.net:465\nsmtp_user = h\n"
				 "smtp_password_file = /p\nsmtp_tls = required", &config, &err));
	assert_true(config_mail_next(&list, address));
	assert_string_equal("a.b+c@d-e.org", address);
	assert_true(config_mail_next(&list, address));
	assert_string_equal("f@g", address);
	assert_false(config_mail_next(&list, address));
	assert_string_equal("h@i.net", config.notify.mail_from);
	assert_string_equal("smtps://mail.i.net:465", config.notify.smtp);
	assert_string_equal("h", config.notify.smtp_user);
	assert_string_equal("/p", config.notify.smtp_password_file);
	assert_false(config.notify.smtp_plain);
	config_fini(&config);
}

static void servers(void **context)
{
	static const char *const good[] = {
		"smtp = smtp://mail", "smtp = smtps://192.0.2.1", "smtp = smtp://[2001:db8::1]:25",
		"smtp = smtp://localhost:25\nsmtp_tls = none", "smtp = smtp://[::1]\nsmtp_tls = none",
		"smtp_tls = none\nsmtp = smtp://127.0.0.53:2525",
	};
	static struct config config;
	struct error err;
	char text[400];

	(void)context;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		snprintf(text, sizeof(text), MAIL "%s", good[i]);
		assert_int_equal(0, load(text, &config, &err));
		assert_int_equal(strstr(text, "none") != NULL, config.notify.smtp_plain);
		config_fini(&config);
	}
}

static void refused(void **context)
{
	static const struct { const char *text, *message; } bad[] = {
		{ "mail_to = a@b.c", "need one another" },
		{ MAIL, "need one another" },
		{ "smtp = smtps://h", "need one another" },
		{ "mail_to = ", "admin@example.org" },
		{ "mail_to = a", "admin@example.org" },
		{ "mail_to = @b", "admin@example.org" },
		{ "mail_to = a@", "admin@example.org" },
		{ "mail_to = a@b@c", "admin@example.org" },
		{ "mail_to = A <a@b.c>", "admin@example.org" },
		{ "mail_to = \"a b\"@c.d", "admin@example.org" },
		{ "mail_to = a@b.c;d@e.f", "admin@example.org" },
		{ "mail_to = .a@b.c", "admin@example.org" },
		{ "mail_to = a@.b", "admin@example.org" },
		{ "mail_to = ä@b.c", "admin@example.org" },
		{ "mail_to = a@b\tBcc:c@d", "admin@example.org" },
		{ "mail_to = a@b,a@b,a@b,a@b,a@b,a@b,a@b,a@b,a@b", "at most 8" },
		{ "mail_from = a@b.c, d@e.f", "backup@example.org" },
		{ "mail_from = a", "backup@example.org" },
		{ MAIL "smtp = mail.b.c", "smtps://HOST" },
		{ MAIL "smtp = http://mail.b.c", "smtps://HOST" },
		{ MAIL "smtp = smtps://", "smtps://HOST" },
		{ MAIL "smtp = smtps://u:sesame@mail.b.c", "smtps://HOST" },
		{ MAIL "smtp = smtps://mail/sesame", "smtps://HOST" },
		{ MAIL "smtp = smtps://mail:", "smtps://HOST" },
		{ MAIL "smtp = smtps://mail:4x", "smtps://HOST" },
		{ MAIL "smtp = smtps://[::1", "smtps://HOST" },
		{ MAIL "smtp = smtps://h\nsmtp_tls = maybe", "required or none" },
		{ MAIL "smtp = smtps://localhost\nsmtp_tls = none", "smtp:// on this host" },
		{ MAIL "smtp = smtp://mail\nsmtp_tls = none", "smtp:// on this host" },
		{ MAIL "smtp = smtp://localhost.b.c\nsmtp_tls = none", "smtp:// on this host" },
		{ MAIL "smtp = smtp://127.0.0.1.b.c\nsmtp_tls = none", "smtp:// on this host" },
		{ "smtp_tls = none", "smtp:// on this host" },
		{ MAIL "smtp = smtps://h\nsmtp_user = u", "smtp_password_file need" },
		{ MAIL "smtp = smtps://h\nsmtp_password_file = /p", "smtp_password_file need" },
		{ MAIL "smtp = smtps://h\nsmtp_user = u\nsmtp_password_file = p", "absolute path" },
		{ "smtp_user = u\nsmtp_password_file = /p", "of no use" },
		{ MAIL "smtp = smtp://localhost\nsmtp_tls = none\nsmtp_user = u\n"
		  "smtp_password_file = /p", "not sent with" },
	};
	static struct config config;
	struct error err;

	(void)context;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_true(load(bad[i].text, &config, &err) < 0);
		assert_int_equal(EXIT_USAGE, err.exit);
		if (!strstr(err.message, bad[i].message))
			fail_msg("%s: %s", bad[i].text, err.message);
		assert_null(strstr(err.message, "sesame"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_keys),
		cmocka_unit_test(servers),
		cmocka_unit_test(refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
