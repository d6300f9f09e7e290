/* Handing an e-mail to its server; in the child of notify_send.h. */
#include "agent/protect/notify_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/late.h"
#include "agent/base/uuid.h"
#include "agent/protect/notify_mail.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

struct reading { const char *at; size_t left; };

static size_t read_mail(char *to, size_t size, size_t count, void *context)
{
	struct reading *reading = context;
	size_t length = size * count < reading->left ? size * count : reading->left;

	memcpy(to, reading->at, length);
	reading->at += length;
	reading->left -= length;
	return length;
}

/* TLS as a whole connection (smtps), or by STARTTLS before anything is said. */
static CURL *smtp_handle(const struct config_notify *config, const char *password,
			 struct reading *reading)
{
	CURL *handle = curl_easy_init();

	if (!handle)
		return NULL;
	curl_easy_setopt(handle, CURLOPT_URL, config->smtp);
	curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
	curl_easy_setopt(handle, CURLOPT_USE_SSL, config->smtp_plain ? (long)CURLUSESSL_NONE
								     : (long)CURLUSESSL_ALL);
	curl_easy_setopt(handle, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(handle, CURLOPT_READFUNCTION, read_mail);
	curl_easy_setopt(handle, CURLOPT_READDATA, reading);
	if (*config->smtp_user) {
		curl_easy_setopt(handle, CURLOPT_USERNAME, config->smtp_user);
		curl_easy_setopt(handle, CURLOPT_PASSWORD, password);
	}
	notify_curl_common(handle, config);
	return handle;
}

/* What may be better in a moment; a server that says 5xx will say it again. */
static bool worth_another(CURLcode result, long status)
{
	return result != CURLE_PEER_FAILED_VERIFICATION && result != CURLE_SSL_CACERT_BADFILE &&
	       result != CURLE_LOGIN_DENIED && result != CURLE_USE_SSL_FAILED && status < 500;
}

static const char *reason_of(CURLcode result)
{
	/* The library's words for it are of other protocols, too. */
	return result == CURLE_USE_SSL_FAILED ? "it offers no encryption (STARTTLS)" :
	       result == CURLE_LOGIN_DENIED ? "it does not take user and password" :
	       result == CURLE_SEND_ERROR ? "it does not take the message" :
	       curl_easy_strerror(result);
}

/* One recipient at a time: an address that is refused costs the others nothing. */
static int send_to(CURL *handle, const char *address, const char *text,
		   struct reading *reading, unsigned *attempts, struct error *err)
{
	struct curl_slist *to = curl_slist_append(NULL, address);
	CURLcode result;
	long status;

	if (!to)
		return error_set(err, -ENOMEM, "out of memory");
	curl_easy_setopt(handle, CURLOPT_MAIL_RCPT, to);
	do {
		*reading = (struct reading){ text, strlen(text) };
		status = 0;
		result = curl_easy_perform(handle);
		curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
	} while (result && worth_another(result, status) && notify_again(attempts));
	curl_slist_free_all(to);
	if (!result)
		return 0;
	return status >= 400 && status < 600
		? error_set(err, -EIO, "to %s: %s (status %ld)", address, reason_of(result), status)
		: error_set(err, -EIO, "to %s: %s", address, reason_of(result));
}

static int send_to_all(const struct config_notify *config, const char *text,
		       const char *password, struct error *err)
{
	char address[CONFIG_MAIL_ADDRESS_ROOM];
	const char *list = config->mail_to;
	struct reading reading;
	CURL *handle = smtp_handle(config, password, &reading);
	unsigned attempts = 1;
	int ret = 0;

	if (!handle)
		return error_set(err, -ENOMEM, "out of memory");
	curl_easy_setopt(handle, CURLOPT_MAIL_FROM, config->mail_from);
	while (config_mail_next(&list, address)) {
		int one = send_to(handle, address, text, &reading, &attempts, err);

		ret = one ? one : ret;
	}
	curl_easy_cleanup(handle);
	return ret;
}

int notify_mail_send(const struct config_notify *config, const struct notify_message *message,
		     struct error *err)
{
	char password[1024] = "", id[UUID_TEXT_SIZE];
	struct uuid uuid;
	CLEANUP_FREE char *text = NULL;
	int ret = late_curl(err);

	if (ret)
		return ret;
	ret = uuid_new(&uuid);
	if (ret)
		return error_set(err, ret, "cannot name the message: %s", error_text(ret));
	uuid_format(&uuid, id);
	if (*config->smtp_user)
		ret = notify_secret_read(config->smtp_password_file, password, sizeof(password),
					 err);
	if (ret)
		return ret;
	text = notify_mail_text(message, &(struct notify_mail){
		.from = config->mail_from, .to = config->mail_to, .id = id });
	ret = text ? send_to_all(config, text, password, err)
		   : error_set(err, -ENOMEM, "out of memory");
	crypto_wipe(password, sizeof(password));
	return ret;
}
