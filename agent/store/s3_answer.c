/*
 * What S3's refusals mean for the caller: the errno, whether trying again can
 * help, and what a person can do. By the code in the body, else by the status.
 */
#include "agent/store/s3.h"

#include <errno.h>
#include <string.h>

#define HINT_CREDENTIALS "renew the temporary credentials"
#define HINT_REGION "check the region and the endpoint"

static const struct {
	const char *code;
	struct s3_meaning meaning;
} by_code[] = {
	{ "NoSuchKey", { -ENOENT, false, NULL } },
	{ "NoSuchBucket", { -ENXIO, false, "create the bucket, or correct its name" } },
	{ "NoSuchUpload", { -ESTALE, false, "somebody has cleaned the unfinished upload away" } },
	{ "PreconditionFailed", { -EEXIST, false, NULL } },
	{ "InvalidRange", { -ERANGE, false, NULL } },
	{ "AccessDenied", { -EACCES, false,
		"check the access key and the secret, and that they may use this bucket" } },
	{ "InvalidAccessKeyId", { -EACCES, false,
		"check the access key: the server does not know it" } },
	{ "SignatureDoesNotMatch", { -EACCES, false,
		"check the secret key, and the region" } },
	{ "AuthorizationHeaderMalformed", { -EACCES, false, HINT_REGION } },
	{ "RequestTimeTooSkewed", { -EACCES, false,
		"set the clock: this host's and the server's differ too much" } },
	{ "ExpiredToken", { -EACCES, false, HINT_CREDENTIALS } },
	{ "InvalidToken", { -EACCES, false, HINT_CREDENTIALS } },
	{ "TokenRefreshRequired", { -EACCES, false, HINT_CREDENTIALS } },
	{ "PermanentRedirect", { -EREMOTE, false, HINT_REGION } },
	{ "TemporaryRedirect", { -EREMOTE, false, HINT_REGION } },
	{ "IllegalLocationConstraintException", { -EREMOTE, false, HINT_REGION } },
	{ "QuotaExceeded", { -ENOSPC, false, "free space, or raise the quota" } },
	{ "InvalidObjectState", { -EPERM, false,
		"the object is archived: bring it back from its storage class first" } },
	{ "EntityTooLarge", { -EFBIG, false, NULL } },
	/* 4xx that time or a second transfer can mend: */
	{ "ConditionalRequestConflict", { -EAGAIN, true, NULL } },
	{ "OperationAborted", { -EAGAIN, true, NULL } },
	{ "RequestTimeout", { -ETIMEDOUT, true, NULL } },
	{ "BadDigest", { -EIO, true, "data was damaged on the way" } },
	{ "XAmzContentSHA256Mismatch", { -EIO, true, "data was damaged on the way" } },
	{ "IncompleteBody", { -ECONNRESET, true, NULL } },
	/* Mostly with a 5xx, but also inside a late-failing 200: */
	{ "InternalError", { -EIO, true, NULL } },
	{ "ServiceUnavailable", { -EIO, true, NULL } },
	{ "SlowDown", { -EAGAIN, true, "the server asks for fewer requests" } },
};

static struct s3_meaning meaning_by_status(long status)
{
	switch (status) {
	case 401:
	case 403:
		return (struct s3_meaning){ -EACCES, false, "check the credentials" };
	case 404:	/* some other server's: an object store names what is missing */
		return (struct s3_meaning){ -EPROTO, false,
			"this is no object store's answer; check the endpoint" };
	case 408:
		return (struct s3_meaning){ -ETIMEDOUT, true, NULL };
	case 412:
		return (struct s3_meaning){ -EEXIST, false, NULL };
	case 416:
		return (struct s3_meaning){ -ERANGE, false, NULL };
	case 429:
		return (struct s3_meaning){ -EAGAIN, true, "the server asks for fewer requests" };
	case 501:
		return (struct s3_meaning){ -EOPNOTSUPP, false,
			"the server cannot do this; check the endpoint" };
	case 507:
		return (struct s3_meaning){ -ENOSPC, false, "free space on the server" };
	}
	if (status >= 500)
		return (struct s3_meaning){ -EIO, true, NULL };
	if (status >= 400)
		return (struct s3_meaning){ -EINVAL, false, NULL };
	if (status >= 300)
		return (struct s3_meaning){ -EREMOTE, false, HINT_REGION };
	return (struct s3_meaning){ -EPROTO, false, NULL };
}

struct s3_meaning s3_answer_meaning(const struct s3_answer *answer)
{
	for (size_t i = 0; i < sizeof(by_code) / sizeof(by_code[0]); i++)
		if (strcmp(by_code[i].code, answer->fault.code) == 0)
			return by_code[i].meaning;
	return meaning_by_status(answer->status);
}
