/* The s3:// store's objects: opening, and one request for each operation. */
#include "agent/store/s3.h"

#include "agent/base/cleanup.h"
#include "agent/base/late.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Reads the stored object: is it byte for byte what we meant to write? */
static int s3_compare(struct s3_store *s3, const char *key, const void *data,
		      size_t length, bool *same, struct error *err)
{
	CLEANUP(s3_sink_fini) struct s3_sink sink;
	struct s3_request request = {
		.what = "compare", .method = "GET", .key = key, .sink = &sink,
	};
	struct s3_answer answer;
	int ret;

	s3_sink_growing(&sink, length);
	ret = s3_request(s3, &request, &answer, err);
	*same = !ret && !sink.overflow && sink.length == length &&
		(length == 0 || memcmp(sink.data, data, length) == 0);
	return ret;
}

int s3_put(struct store *store, const char *key, const void *data, size_t length,
	   unsigned flags, struct error *err)
{
	struct s3_store *s3 = (struct s3_store *)store;
	struct s3_request request = {
		.what = "write", .method = "PUT", .key = key, .body = data,
		.body_bytes = length, .if_absent = flags & STORE_IF_ABSENT,
	};
	struct s3_answer answer;
	bool same;
	int ret = s3_request(s3, &request, &answer, err);

	/* Ours may have arrived in a try whose answer did not. */
	if (ret != -EEXIST || !answer.resent)
		return ret;
	ret = s3_compare(s3, key, data, length, &same, err);
	if (ret || same)
		return ret;
	return error_set(err, -EEXIST, "could not write %s/%s: another writer has made it",
			 store->url, key);
}

static int s3_get(struct store *store, const char *key, uint64_t offset,
		  void *buffer, size_t room, size_t *got, struct error *err)
{
	struct error failure = ERROR_INIT;
	struct s3_sink sink;
	struct s3_request request = {
		.what = "read", .method = "GET", .key = key, .sink = &sink,
		.range_offset = offset, .range_bytes = room,
	};
	struct s3_answer answer;
	int ret;

	s3_sink_fixed(&sink, buffer, room);
	ret = s3_request((struct s3_store *)store, &request, &answer, &failure);
	if (ret == -ERANGE) {	/* starts behind the object's end */
		*got = 0;
		return 0;
	}
	if (ret)
		*err = failure;
	else
		*got = sink.length;
	return ret;
}

static int s3_get_all(struct store *store, const char *key, size_t limit,
		      uint8_t **data, size_t *length, struct error *err)
{
	CLEANUP(s3_sink_fini) struct s3_sink sink;
	struct s3_request request = {
		.what = "read", .method = "GET", .key = key, .sink = &sink,
	};
	struct s3_answer answer;
	int ret;

	s3_sink_growing(&sink, limit);
	ret = s3_request((struct s3_store *)store, &request, &answer, err);
	if (ret)
		return ret;
	if (sink.overflow)
		return error_set(err, -EFBIG, "could not read %s/%s: it is larger than %zu bytes",
				 store->url, key, limit);
	if (!sink.data)
		sink.data = malloc(1);
	if (!sink.data)
		return error_set(err, -ENOMEM, "could not read %s/%s: out of memory",
				 store->url, key);
	*length = sink.length;
	*data = STEAL(sink.data);
	return 0;
}

/*
 * A GET of the first byte, not a HEAD: Content-Range tells the size as well, and
 * only a GET's refusal has a body that tells a missing bucket from a missing key.
 */
int s3_size_request(struct s3_store *s3, const char *key, struct s3_answer *answer,
		    struct error *err)
{
	struct error failure = ERROR_INIT;
	uint8_t first;
	struct s3_sink sink;
	struct s3_request request = {
		.what = "look at", .method = "GET", .key = key, .sink = &sink,
		.range_bytes = 1,
	};
	int ret;

	s3_sink_fixed(&sink, &first, sizeof(first));
	ret = s3_request(s3, &request, answer, &failure);
	if (ret == -ERANGE) {	/* there is no first byte */
		answer->total_bytes = 0;
		answer->total_known = true;
		return 0;
	}
	if (ret)
		*err = failure;
	else if (!answer->total_known)
		ret = error_set(err, -EPROTO, "could not look at %s/%s: the server does not say "
				"how large it is", s3->base.url, key);
	return ret;
}

static int s3_size(struct store *store, const char *key, uint64_t *bytes,
		   struct error *err)
{
	struct s3_answer answer;
	int ret = s3_size_request((struct s3_store *)store, key, &answer, err);

	if (!ret)
		*bytes = answer.total_bytes;
	return ret;
}

static int s3_delete(struct store *store, const char *key, struct error *err)
{
	struct error failure = ERROR_INIT;
	struct s3_request request = { .what = "delete", .method = "DELETE", .key = key };
	struct s3_answer answer;
	int ret = s3_request((struct s3_store *)store, &request, &answer, &failure);

	if (ret == -ENOENT)
		return 0;
	if (ret)
		*err = failure;
	return ret;
}

static void s3_close(struct store *store)
{
	struct s3_store *s3 = (struct s3_store *)store;

	s3_pool_fini(&s3->pool);
	credentials_fini(&s3->credentials);
	free(s3->bucket);
	free(s3->prefix);
	free(s3->region);
	free(s3->origin);
	free(s3->host);
	free(s3->root);
	free(s3->trust);
	free(s3);
}

static const struct store_ops s3_ops = {
	.put = s3_put,
	.get = s3_get,
	.get_all = s3_get_all,
	.size = s3_size,
	.delete = s3_delete,
	.list = s3_list,
	.upload_start = s3_upload_start,
	.upload_write = s3_upload_write,
	.upload_finish = s3_upload_finish,
	.upload_abort = s3_upload_abort,
	.clean = s3_clean,
	.close = s3_close,
};

int s3_store_open(const char *url, const struct store_options *options,
		  struct store **store, struct error *err)
{
	struct s3_store *s3;
	char *opened;
	int ret;

	if (options->part_bytes && options->part_bytes < S3_PART_BYTES_MIN)
		return error_set_exit(err, EXIT_USAGE, -EINVAL,
				      "upload parts of %u bytes are too small for S3; use at "
				      "least %u", options->part_bytes, S3_PART_BYTES_MIN);
	ret = late_curl(err);
	if (ret)
		return ret;
	s3 = calloc(1, sizeof(*s3));
	if (!s3)
		return error_set(err, -ENOMEM, "could not open the object store: out of memory");
	s3->base.ops = &s3_ops;
	s3_pool_init(&s3->pool);
	ret = s3_endpoint_init(s3, url, options, err);
	if (!ret)
		ret = credentials_load(options->credentials_file,
				       options->credentials_profile, &s3->credentials, err);
	if (ret) {
		opened = s3->base.url;
		s3_close(&s3->base);
		free(opened);
		return ret;
	}
	*store = &s3->base;
	return 0;
}
