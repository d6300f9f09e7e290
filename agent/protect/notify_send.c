#include "agent/protect/notify_private.h"

#include "agent/base/cleanup.h"
#include "agent/base/late.h"
#include "agent/base/log.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ATTEMPTS 3
#define ATTEMPT_SECONDS 8L

/* ---- secrets ------------------------------------------------------------------- */

int notify_secret_read(const char *path, char *secret, size_t room, struct error *err)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set(err, -errno, "cannot open %s: %s", path, error_text(errno));
	if (!S_ISREG(st.st_mode))
		return error_set(err, -EINVAL, "%s is no regular file", path);
	if (st.st_mode & 077)
		return error_set(err, -EPERM, "refusing %s: others may access it (mode %04o); run "
				 "chmod 600 on it", path, (unsigned)st.st_mode & 07777);
	n = read(fd, secret, room - 1);
	if (n < 0)
		return error_set(err, -errno, "cannot read %s: %s", path, error_text(errno));
	secret[n] = '\0';
	secret[strcspn(secret, "\r\n")] = '\0';
	return *secret ? 0 : error_set(err, -EINVAL, "%s is empty", path);
}

/* ---- a webhook ------------------------------------------------------------------ */

void notify_curl_common(CURL *handle, const struct config_notify *config)
{
	curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(handle, CURLOPT_TIMEOUT, ATTEMPT_SECONDS);
	curl_easy_setopt(handle, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(handle, CURLOPT_SSL_VERIFYHOST, 2L);
	curl_easy_setopt(handle, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if (*config->ca_file)
		curl_easy_setopt(handle, CURLOPT_CAINFO, config->ca_file);
}

bool notify_again(unsigned *attempts)
{
	if (*attempts >= ATTEMPTS)
		return false;
	sleep((*attempts)++);
	return true;
}

static size_t drop_body(char *data, size_t size, size_t count, void *context)
{
	(void)data;
	(void)context;
	return size * count;
}

/* No redirects: they would lead a secret, and the message, to somebody else. */
static CURL *webhook_handle(const struct config_notify *config, const char *url,
			    struct curl_slist *headers, const char *payload)
{
	CURL *handle = curl_easy_init();

	if (!handle)
		return NULL;
	curl_easy_setopt(handle, CURLOPT_URL, url);
	curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "https");
	curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(handle, CURLOPT_POSTFIELDS, payload);
	curl_easy_setopt(handle, CURLOPT_USERAGENT, "clawback/" CLAWBACK_VERSION);
	curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, drop_body);
	notify_curl_common(handle, config);
	return handle;
}

/* What may be better in a moment: the way, a server's trouble, a server that is busy. */
static bool worth_another(CURLcode result, long status)
{
	if (result)
		return result != CURLE_PEER_FAILED_VERIFICATION &&
		       result != CURLE_SSL_CACERT_BADFILE;
	return status >= 500 || status == 429;
}

/* The texts of the library are constant; its error buffer might repeat the URL. */
static int webhook_post(CURL *handle, struct error *err)
{
	for (unsigned attempts = 1;;) {
		CURLcode result = curl_easy_perform(handle);
		long status = 0;

		curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
		if (!result && status >= 200 && status < 300)
			return 0;
		if (worth_another(result, status) && notify_again(&attempts))
			continue;
		return result ? error_set(err, -EIO, "%s", curl_easy_strerror(result))
			      : error_set(err, -EIO, "the server answered with status %ld", status);
	}
}

static int webhook_send(const struct config_notify *config,
			const struct notify_message *message, struct error *err)
{
	char url[CONFIG_WEBHOOK_ROOM], key[256];
	bool pagerduty = config->format == NOTIFY_PAGERDUTY;
	struct curl_slist *headers;
	CURL *handle;
	char *payload;
	int ret = 0;

	strcpy(url, config->webhook);
	if (*config->webhook_file)
		ret = notify_secret_read(config->webhook_file, url, sizeof(url), err);
	if (!ret && !config_webhook_good(url))
		ret = error_set(err, -EINVAL, "%s holds no https:// URL", config->webhook_file);
	if (!ret && pagerduty)
		ret = notify_secret_read(config->routing_key_file, key, sizeof(key), err);
	if (!ret)
		ret = late_curl(err);
	if (ret)
		return ret;
	payload = notify_payload(message, config->format, pagerduty ? key : NULL);
	headers = curl_slist_append(NULL, "Content-Type: application/json");
	handle = payload ? webhook_handle(config, url, headers, payload) : NULL;
	ret = handle ? webhook_post(handle, err) : error_set(err, -ENOMEM, "out of memory");
	curl_easy_cleanup(handle);
	curl_slist_free_all(headers);
	free(payload);
	return ret;
}

/* ---- a command -------------------------------------------------------------------- */

/* In memory: a pipe would have somebody wait for a program that does not read. */
static int command_input(const struct notify_message *message)
{
	CLEANUP_FREE char *payload = notify_payload(message, NOTIFY_GENERIC, NULL);
	int fd = payload ? memfd_create("clawback-event", MFD_CLOEXEC) : -1;
	size_t length = payload ? strlen(payload) : 0;

	if (fd >= 0 && (write(fd, payload, length) != (ssize_t)length ||
			lseek(fd, 0, SEEK_SET) < 0 || dup2(fd, STDIN_FILENO) < 0)) {
		close(fd);
		return -1;
	}
	return fd;
}

static int command_run(const struct config_notify *config,
		       const struct notify_message *message, struct error *err)
{
	char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	char *const environment[] = { path, NULL };
	char *const arguments[] = { (char *)config->command, NULL };

	if (command_input(message) < 0 || chdir("/") < 0)
		return error_set(err, -errno, "cannot prepare its input: %s", error_text(errno));
	execve(config->command, arguments, environment);
	return error_set(err, -errno, "cannot run %s: %s", config->command, error_text(errno));
}

/* ---- the child -------------------------------------------------------------------- */

static void child_reset(pid_t parent)
{
	sigset_t none;
	int nothing;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EXIT_FAILED);
	setpgid(0, 0);
	signal(SIGTERM, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
	/* stdout is for our own data. */
	if (nothing < 0 || dup2(nothing, STDIN_FILENO) < 0 ||
	    dup2(STDERR_FILENO, STDOUT_FILENO) < 0 || close_range(3, ~0u, 0) < 0)
		_exit(EXIT_FAILED);
	log_to_stderr();
}

__attribute__((noreturn))
static void child_main(const struct config_notify *config, enum notify_target target,
		       const struct notify_message *message, pid_t parent)
{
	static int (*const senders[NOTIFY_TARGETS])(const struct config_notify *config,
						     const struct notify_message *message,
						     struct error *err) = {
		[NOTIFY_COMMAND] = command_run, [NOTIFY_WEBHOOK] = webhook_send,
		[NOTIFY_MAIL] = notify_mail_send,
	};
	struct error err = ERROR_INIT;
	int ret;

	child_reset(parent);
	ret = senders[target](config, message, &err);
	if (ret)
		log_warning("a message was not delivered by %s%s: %s", target == NOTIFY_MAIL ? "" :
			    "the ", notify_target_name(target), err.message);
	_exit(ret ? EXIT_FAILED : EXIT_DONE);
}

int protect_notify_check(const struct config *config, struct error *err)
{
	const struct config_notify *notify = &config->notify;
	const char *const secrets[] = { notify->webhook_file, notify->routing_key_file,
					notify->smtp_password_file };
	char secret[CONFIG_WEBHOOK_ROOM];
	int ret = 0;

	for (size_t i = 0; !ret && i < sizeof(secrets) / sizeof(secrets[0]); i++)
		if (*secrets[i])
			ret = notify_secret_read(secrets[i], secret, sizeof(secret), err);
	crypto_wipe(secret, sizeof(secret));
	if (!ret && *notify->ca_file && access(notify->ca_file, R_OK) < 0)
		ret = error_set(err, -errno, "cannot read %s: %s", notify->ca_file,
				error_text(errno));
	if (!ret && *notify->command && access(notify->command, X_OK) < 0)
		ret = error_set(err, -errno, "cannot run %s: %s", notify->command,
				error_text(errno));
	return ret;
}

const char *notify_target_name(enum notify_target target)
{
	static const char *const names[NOTIFY_TARGETS] = {
		[NOTIFY_COMMAND] = "command", [NOTIFY_WEBHOOK] = "webhook", [NOTIFY_MAIL] = "mail",
	};

	return names[target];
}

unsigned notify_targets(const struct config_notify *config)
{
	return (*config->command ? 1u << NOTIFY_COMMAND : 0) |
	       (*config->webhook || *config->webhook_file ? 1u << NOTIFY_WEBHOOK : 0) |
	       (*config->mail_to ? 1u << NOTIFY_MAIL : 0);
}

int notify_start(const struct config_notify *config, enum notify_target target,
		 const struct notify_message *message, pid_t *pid, int *pidfd,
		 struct error *err)
{
	pid_t parent = getpid();

	/* Else the child would say again what is not written out yet. */
	fflush(NULL);
	*pid = fork();
	if (*pid == 0)
		child_main(config, target, message, parent);
	*pidfd = *pid > 0 ? pidfd_open(*pid, 0) : -1;
	if (*pidfd >= 0)
		return 0;
	error_set(err, -errno, "cannot start a process that delivers a message: %s",
		  error_text(errno));
	if (*pid > 0) {
		kill(*pid, SIGKILL);
		waitpid(*pid, NULL, 0);
	}
	*pid = 0;
	return err->code;
}
