#include "agent/store/credentials.h"

#include "agent/base/cleanup.h"
#include "agent/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_LIMIT_BYTES (64u << 10)
#define SECRET_LIMIT_BYTES (8u << 10)

void secret_free(char *secret)
{
	if (secret)
		explicit_bzero(secret, strlen(secret));
	free(secret);
}

static void cleanup_secret(char **secret)
{
	secret_free(*secret);
}

void credentials_fini(struct credentials *credentials)
{
	secret_free(credentials->access_key);
	secret_free(credentials->secret_key);
	secret_free(credentials->session_token);
	memset(credentials, 0, sizeof(*credentials));
}

/* They go into HTTP headers: printable ASCII without spaces, or they are damaged. */
static bool secret_valid(const char *secret)
{
	size_t length = strnlen(secret, SECRET_LIMIT_BYTES + 1);

	if (length == 0 || length > SECRET_LIMIT_BYTES)
		return false;
	for (size_t i = 0; i < length; i++)
		if (secret[i] <= ' ' || secret[i] > '~')
			return false;
	return true;
}

/* Both of the pair, or a message that names what is missing, never what is there. */
static int credentials_check(const struct credentials *credentials, const char *from,
			     struct error *err)
{
	if (!credentials->access_key || !credentials->secret_key)
		return error_set_exit(err, EXIT_USAGE, -EACCES,
				      "the credentials in %s lack the %s", from,
				      credentials->access_key ? "secret key" : "access key");
	if (!secret_valid(credentials->access_key) ||
	    !secret_valid(credentials->secret_key) ||
	    (credentials->session_token && !secret_valid(credentials->session_token)))
		return error_set_exit(err, EXIT_USAGE, -EACCES,
				      "the credentials in %s hold an empty or overlong value, a "
				      "space or a control character; copy them again", from);
	return 0;
}

/* Cuts white space off both ends. */
static char *text_trim(char *text)
{
	size_t length;

	text += strspn(text, " \t\r");
	length = strlen(text);
	while (length && strchr(" \t\r", text[length - 1]))
		text[--length] = '\0';
	return text;
}

static int credentials_assign(struct credentials *credentials, const char *key,
			      const char *value)
{
	char **member = strcmp(key, "aws_access_key_id") == 0 ? &credentials->access_key :
			strcmp(key, "aws_secret_access_key") == 0 ? &credentials->secret_key :
			strcmp(key, "aws_session_token") == 0 ? &credentials->session_token : NULL;

	if (!member)
		return 0;
	secret_free(*member);
	*member = strdup(value);
	return *member ? 0 : -ENOMEM;
}

/* One line; *inside says whether it belongs to the wanted profile. */
static int line_parse(char *line, const char *profile, bool *inside,
		      struct credentials *credentials)
{
	size_t length;
	char *equals;

	line = text_trim(line);
	length = strlen(line);
	if (line[0] == '[') {
		*inside = false;
		if (line[length - 1] == ']') {
			line[length - 1] = '\0';
			*inside = strcmp(text_trim(line + 1), profile) == 0;
		}
		return 0;
	}
	equals = strchr(line, '=');
	if (!*inside || line[0] == '#' || line[0] == ';' || !equals)
		return 0;
	*equals = '\0';
	return credentials_assign(credentials, text_trim(line), text_trim(equals + 1));
}

int credentials_parse(char *text, const char *name, const char *profile,
		      struct credentials *credentials, struct error *err)
{
	struct credentials found = { NULL, NULL, NULL };
	bool inside = false, seen = false;
	char *state = NULL;
	int ret = 0;

	memset(credentials, 0, sizeof(*credentials));
	for (char *line = strtok_r(text, "\n", &state); line && !ret;
	     line = strtok_r(NULL, "\n", &state)) {
		ret = line_parse(line, profile, &inside, &found);
		seen = seen || inside;
	}
	if (ret)
		error_set(err, ret, "could not read %s: out of memory", name);
	else if (!seen)
		ret = error_set_exit(err, EXIT_USAGE, -EACCES,
				     "there is no profile [%s] in the credentials file %s",
				     profile, name);
	else
		ret = credentials_check(&found, name, err);
	if (ret)
		credentials_fini(&found);
	else
		*credentials = found;
	return ret;
}

/* The mode is checked on the open file: what is checked is what is read. */
static int file_check(int fd, const char *path, struct error *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return error_set(err, -errno, "could not look at the credentials file %s: %s",
				 path, error_text(errno));
	if (!S_ISREG(st.st_mode))
		return error_set_exit(err, EXIT_USAGE, -EINVAL,
				      "the credentials file %s is no regular file", path);
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return error_set_exit(err, EXIT_USAGE, -EACCES,
				      "refused the credentials file %s: it belongs to another "
				      "user; chown it to the user that runs clawback", path);
	if (st.st_mode & 077)
		return error_set_exit(err, EXIT_USAGE, -EACCES,
				      "refused the credentials file %s: others may read or "
				      "change it (mode %03o); run: chmod 600 %s", path,
				      (unsigned)(st.st_mode & 0777), path);
	if (st.st_size > FILE_LIMIT_BYTES)
		return error_set_exit(err, EXIT_USAGE, -EFBIG,
				      "the credentials file %s is larger than %u bytes",
				      path, FILE_LIMIT_BYTES);
	return (int)st.st_size;
}

static int credentials_load_file(const char *path, const char *profile,
				 struct credentials *credentials, struct error *err)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	char *text;
	int bytes, ret;

	if (fd < 0)
		return error_set_exit(err, EXIT_USAGE, -errno,
				      "could not open the credentials file %s: %s", path,
				      error_text(errno));
	bytes = file_check(fd, path, err);
	if (bytes < 0)
		return bytes;
	text = calloc(1, (size_t)bytes + 1);
	if (!text)
		return error_set(err, -ENOMEM, "could not read %s: out of memory", path);
	ret = file_pread_all(fd, text, (size_t)bytes, 0);
	if (ret)
		error_set(err, ret, "could not read the credentials file %s: %s", path,
			  error_text(ret));
	else
		ret = credentials_parse(text, path, profile, credentials, err);
	explicit_bzero(text, (size_t)bytes);	/* parsing has cut it with NULs */
	free(text);
	return ret;
}

/* 1 when neither variable is set. */
static int credentials_load_environment(struct credentials *credentials,
					struct error *err)
{
	const char *access_key = getenv("AWS_ACCESS_KEY_ID");
	const char *secret_key = getenv("AWS_SECRET_ACCESS_KEY");
	const char *token = getenv("AWS_SESSION_TOKEN");
	int ret;

	if (!access_key && !secret_key)
		return 1;
	credentials->access_key = access_key ? strdup(access_key) : NULL;
	credentials->secret_key = secret_key ? strdup(secret_key) : NULL;
	credentials->session_token = token && *token ? strdup(token) : NULL;
	if ((access_key && !credentials->access_key) ||
	    (secret_key && !credentials->secret_key) ||
	    (token && *token && !credentials->session_token))
		ret = error_set(err, -ENOMEM, "could not copy the credentials: out of memory");
	else
		ret = credentials_check(credentials, "the AWS_* variables", err);
	if (ret)
		credentials_fini(credentials);
	return ret;
}

int credentials_load(const char *file, const char *profile,
		     struct credentials *credentials, struct error *err)
{
	CLEANUP(cleanup_secret) char *path = NULL;
	const char *home = getenv("HOME");
	int ret;

	memset(credentials, 0, sizeof(*credentials));
	if (!profile)
		profile = "default";
	if (file)
		return credentials_load_file(file, profile, credentials, err);
	ret = credentials_load_environment(credentials, err);
	if (ret <= 0)
		return ret;
	if (!home || asprintf(&path, "%s/.aws/credentials", home) < 0)
		path = NULL;
	if (!path || access(path, F_OK) < 0)
		return error_set_exit(err, EXIT_USAGE, -EACCES,
				      "there are no credentials for the object store; name a file "
				      "(credentials_file), or set AWS_ACCESS_KEY_ID and "
				      "AWS_SECRET_ACCESS_KEY");
	return credentials_load_file(path, profile, credentials, err);
}
