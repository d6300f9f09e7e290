/* Pages of objects, and of multipart uploads that nobody finished. */
#include "agent/store/s3.h"

#include "agent/base/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A thousand keys of 1,024 bytes, each byte perhaps escaped, and their trimmings. */
#define PAGE_LIMIT_BYTES (8u << 20)

static int page_failed(struct s3_store *s3, int code, const char *why, struct error *err)
{
	return error_set(err, code, "could not list %s: %s", s3->base.url, why);
}

/* Asks for one page; of uploads or of objects, as nobody wants the other kind. */
static int page_get(struct s3_store *s3, bool uploads, const struct s3_query *query,
		    size_t query_count, struct s3_page *page, struct error *err)
{
	CLEANUP(s3_sink_fini) struct s3_sink sink;
	struct s3_request request = {
		.what = "list", .method = "GET", .query = query,
		.query_count = query_count, .sink = &sink,
	};
	struct s3_answer answer;
	int ret;

	memset(page, 0, sizeof(*page));
	s3_sink_growing(&sink, PAGE_LIMIT_BYTES);
	ret = s3_request(s3, &request, &answer, err);
	if (ret)
		return ret;
	if (sink.overflow)
		return page_failed(s3, -EPROTO, "the server's answer is too long", err);
	ret = s3_xml_page(sink.data, sink.length, page);
	if (!ret && page->uploads != uploads)
		ret = -EPROTO;
	if (ret)
		return page_failed(s3, ret, "the server's answer is damaged, or no object store's",
				   err);
	return 0;
}

/* ---- objects ------------------------------------------------------------------ */

struct listing {
	struct s3_store *s3;
	store_list_fn visit;
	void *context;
	struct error *err;
	char *full_prefix;	/* the store's and the caller's */
	char *last;		/* the key seen last */
};

/*
 * Strictly rising keys are what store.h promises, and also what keeps a confused
 * server from sending the same page for ever.
 */
static int listing_entry(struct listing *listing, struct s3_entry *entry)
{
	const char *key = entry->key;
	size_t hidden = strlen(listing->s3->prefix);

	if (strncmp(key, listing->full_prefix, strlen(listing->full_prefix)) != 0)
		return page_failed(listing->s3, -EPROTO,
				   "the server named an object that was not asked for",
				   listing->err);
	if (listing->last && strcmp(listing->last, key) >= 0)
		return page_failed(listing->s3, -EPROTO, "the server lists out of order",
				   listing->err);
	free(listing->last);
	listing->last = STEAL(entry->key);
	/* What cannot be ours (a "folder/" made by some browser) is passed over. */
	if (!store_key_valid(key + hidden))
		return 0;
	return listing->visit(listing->context, key + hidden, entry->bytes);
}

/* *token: NULL for the first page; replaced by the next page's, NULL at the end. */
static int listing_page(struct listing *listing, char **token)
{
	CLEANUP(s3_page_fini) struct s3_page page;
	struct s3_query query[4];
	size_t count = 0;
	int ret;

	if (*token)
		query[count++] = (struct s3_query){ "continuation-token", *token };
	query[count++] = (struct s3_query){ "encoding-type", "url" };
	query[count++] = (struct s3_query){ "list-type", "2" };
	query[count++] = (struct s3_query){ "prefix", listing->full_prefix };
	ret = page_get(listing->s3, false, query, count, &page, listing->err);
	for (size_t i = 0; i < page.count && !ret; i++)
		ret = listing_entry(listing, &page.entry[i]);
	if (ret)
		return ret;
	free(STEAL(*token));
	if (!page.truncated)
		return 0;
	if (!page.token || !page.count)
		return page_failed(listing->s3, -EPROTO,
				   "the server says that there is more, but not where",
				   listing->err);
	*token = STEAL(page.token);
	return 0;
}

int s3_list(struct store *store, const char *prefix, store_list_fn visit,
	    void *context, struct error *err)
{
	struct s3_store *s3 = (struct s3_store *)store;
	struct listing listing = { .s3 = s3, .visit = visit, .context = context, .err = err };
	char *token = NULL;
	int ret;

	if (asprintf(&listing.full_prefix, "%s%s", s3->prefix, prefix) < 0)
		return page_failed(s3, -ENOMEM, "out of memory", err);
	do
		ret = listing_page(&listing, &token);
	while (!ret && token);
	free(token);
	free(listing.last);
	free(listing.full_prefix);
	return ret;
}

/* ---- left-over uploads ----------------------------------------------------------- */

int s3_multipart_abort(struct s3_store *s3, const char *key, const char *upload_id,
		       struct error *err)
{
	struct error failure = ERROR_INIT;
	struct s3_query query = { "uploadId", upload_id };
	struct s3_request request = {
		.what = "abort the upload of", .method = "DELETE", .key = key,
		.query = &query, .query_count = 1, .despite_interrupt = true,
	};
	struct s3_answer answer;
	int ret = s3_request(s3, &request, &answer, &failure);

	if (ret == -ESTALE || ret == -ENOENT)
		return 0;
	if (ret)
		*err = failure;
	return ret;
}

static int uploads_clean(struct s3_store *s3, const struct s3_page *page,
			 const char *full_prefix, int64_t older_than, int *removed,
			 struct error *err)
{
	size_t hidden = strlen(s3->prefix);

	for (size_t i = 0; i < page->count; i++) {
		const struct s3_entry *entry = &page->entry[i];
		int ret;

		if (strncmp(entry->key, full_prefix, strlen(full_prefix)) != 0 ||
		    !store_key_valid(entry->key + hidden) || entry->initiated > older_than)
			continue;
		ret = s3_multipart_abort(s3, entry->key + hidden, entry->upload_id, err);
		if (ret)
			return ret;
		(*removed)++;
	}
	return 0;
}

/* Where the last page ended; both NULL for the first. */
struct markers {
	char *key, *upload;
};

/* As with objects: the next page must start behind this one, or we would circle. */
static bool markers_advance(const struct markers *markers, const struct s3_page *page)
{
	int order;

	if (!page->key_marker || !page->count)
		return false;
	order = markers->key ? strcmp(page->key_marker, markers->key) : 1;
	return order > 0 || (order == 0 && page->upload_marker && markers->upload &&
			     strcmp(page->upload_marker, markers->upload) != 0);
}

static int uploads_page(struct s3_store *s3, const char *full_prefix,
			struct markers *markers, int64_t older_than, int *removed,
			struct error *err)
{
	CLEANUP(s3_page_fini) struct s3_page page;
	struct s3_query query[5];
	size_t count = 0;
	int ret;

	query[count++] = (struct s3_query){ "encoding-type", "url" };
	if (markers->key)
		query[count++] = (struct s3_query){ "key-marker", markers->key };
	query[count++] = (struct s3_query){ "prefix", full_prefix };
	if (markers->upload)
		query[count++] = (struct s3_query){ "upload-id-marker", markers->upload };
	query[count++] = (struct s3_query){ "uploads", "" };
	ret = page_get(s3, true, query, count, &page, err);
	if (!ret)
		ret = uploads_clean(s3, &page, full_prefix, older_than, removed, err);
	if (ret)
		return ret;
	if (page.truncated && !markers_advance(markers, &page))
		return page_failed(s3, -EPROTO, "the server's list of uploads does not go on",
				   err);
	free(STEAL(markers->key));
	free(STEAL(markers->upload));
	if (page.truncated) {
		markers->key = STEAL(page.key_marker);
		markers->upload = STEAL(page.upload_marker);
	}
	return 0;
}

int s3_clean(struct store *store, const char *prefix, uint64_t age_seconds,
	     struct error *err)
{
	struct s3_store *s3 = (struct s3_store *)store;
	struct markers markers = { NULL, NULL };
	CLEANUP_FREE char *full_prefix = NULL;
	int64_t now = (int64_t)time(NULL);
	int64_t older_than = age_seconds < (uint64_t)now ? now - (int64_t)age_seconds : 0;
	int removed = 0, ret;

	if (asprintf(&full_prefix, "%s%s", s3->prefix, prefix) < 0) {
		full_prefix = NULL;
		return error_set(err, -ENOMEM, "cleaning %s: out of memory", store->url);
	}
	do
		ret = uploads_page(s3, full_prefix, &markers, older_than, &removed, err);
	while (!ret && markers.key);
	free(markers.key);
	free(markers.upload);
	return ret ? ret : removed;
}
