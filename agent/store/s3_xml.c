/*
 * One walker over expat reports each element with text as "Root/Child/Leaf"
 * and each element's end; the documents are read on top of it.
 */
#include "agent/store/s3_xml.h"

#include "agent/base/cleanup.h"

#include <errno.h>
#include <expat.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PATH_MAX_BYTES 256

struct walker {
	XML_Parser parser;
	/* Non-zero ends the walk; `path` starts behind the root's name and slash. */
	int (*element)(struct walker *walker, const char *path, const char *text);
	void *context;
	bool cut;		/* overlong text is cut rather than an error */
	int ret;
	unsigned depth;
	char root[64];
	char path[PATH_MAX_BYTES];
	char text[S3_XML_TEXT_MAX];
	size_t text_length;
};

static void walker_stop(struct walker *walker, int ret)
{
	if (!walker->ret)
		walker->ret = ret;
	XML_StopParser(walker->parser, XML_FALSE);
}

static void XMLCALL on_start(void *data, const char *name, const char **attributes)
{
	struct walker *walker = data;
	size_t used = strlen(walker->path);

	(void)attributes;
	walker->text_length = 0;
	if (++walker->depth > S3_XML_DEPTH_MAX) {
		walker_stop(walker, -EPROTO);
	} else if (walker->depth == 1) {
		snprintf(walker->root, sizeof(walker->root), "%s", name);
	} else if (used + strlen(name) + 2 > sizeof(walker->path)) {
		walker_stop(walker, -EPROTO);
	} else {
		snprintf(walker->path + used, sizeof(walker->path) - used, "%s%s",
			 used ? "/" : "", name);
	}
}

static void XMLCALL on_text(void *data, const char *text, int length)
{
	struct walker *walker = data;
	size_t room = sizeof(walker->text) - 1 - walker->text_length;
	size_t bytes = (size_t)length;

	if (bytes > room) {
		if (!walker->cut) {
			walker_stop(walker, -EPROTO);
			return;
		}
		bytes = room;
	}
	memcpy(walker->text + walker->text_length, text, bytes);
	walker->text_length += bytes;
}

static void XMLCALL on_end(void *data, const char *name)
{
	struct walker *walker = data;
	char *slash;
	int ret;

	(void)name;
	/* A stopped parser may still report what it had at hand. */
	if (walker->ret)
		return;
	walker->text[walker->text_length] = '\0';
	if (walker->depth > 1) {
		ret = walker->element(walker, walker->path, walker->text);
		if (ret)
			walker_stop(walker, ret);
	}
	walker->text_length = 0;
	walker->depth--;
	slash = strrchr(walker->path, '/');
	if (slash)
		*slash = '\0';
	else
		walker->path[0] = '\0';
}

/* No S3 server sends one; refusing it rules out every entity trick. */
static void XMLCALL on_doctype(void *data, const char *name, const char *system_id,
			       const char *public_id, int has_subset)
{
	(void)name;
	(void)system_id;
	(void)public_id;
	(void)has_subset;
	walker_stop(data, -EPROTO);
}

static int walker_run(struct walker *walker, const void *data, size_t length)
{
	XML_Parser parser = XML_ParserCreate("UTF-8");

	if (!parser)
		return -ENOMEM;
	if (length > INT32_MAX) {
		XML_ParserFree(parser);
		return -EPROTO;
	}
	walker->parser = parser;
	XML_SetUserData(parser, walker);
	XML_SetElementHandler(parser, on_start, on_end);
	XML_SetCharacterDataHandler(parser, on_text);
	XML_SetStartDoctypeDeclHandler(parser, on_doctype);
	if (XML_Parse(parser, data, (int)length, XML_TRUE) != XML_STATUS_OK && !walker->ret)
		walker->ret = XML_GetErrorCode(parser) == XML_ERROR_NO_MEMORY ? -ENOMEM :
										 -EPROTO;
	XML_ParserFree(parser);
	return walker->ret;
}

/* ---- errors ------------------------------------------------------------- */

/* What a server says ends up on terminals and in logs. */
static void text_sanitize(const char *from, char *to, size_t size)
{
	size_t used = 0;

	for (; *from && used + 1 < size; from++)
		to[used++] = *from >= ' ' && *from <= '~' ? *from : ' ';
	to[used] = '\0';
}

static int fault_element(struct walker *walker, const char *path, const char *text)
{
	struct s3_fault *fault = walker->context;

	if (strcmp(path, "Code") == 0)
		text_sanitize(text, fault->code, sizeof(fault->code));
	else if (strcmp(path, "Message") == 0)
		text_sanitize(text, fault->message, sizeof(fault->message));
	else if (strcmp(path, "Region") == 0)
		text_sanitize(text, fault->region, sizeof(fault->region));
	else if (strcmp(path, "Endpoint") == 0)
		text_sanitize(text, fault->endpoint, sizeof(fault->endpoint));
	return 0;
}

bool s3_xml_fault(const void *data, size_t length, struct s3_fault *fault)
{
	CLEANUP_FREE struct walker *walker = calloc(1, sizeof(*walker));

	memset(fault, 0, sizeof(*fault));
	if (!walker)
		return false;
	walker->element = fault_element;
	walker->context = fault;
	walker->cut = true;
	/* A cut-off document still tells what came before the cut. */
	walker_run(walker, data, length);
	if (strcmp(walker->root, "Error") == 0 && fault->code[0])
		return true;
	memset(fault, 0, sizeof(*fault));
	return false;
}

/* ---- one text ------------------------------------------------------------- */

struct wanted {
	const char *name;
	char *text;
	size_t size;
	bool found;
};

static int wanted_element(struct walker *walker, const char *path, const char *text)
{
	struct wanted *wanted = walker->context;

	if (strcmp(path, wanted->name) != 0)
		return 0;
	if (wanted->found || !*text || strlen(text) >= wanted->size)
		return -EPROTO;
	strcpy(wanted->text, text);
	wanted->found = true;
	return 0;
}

int s3_xml_text(const void *data, size_t length, const char *name, char *text,
		size_t size)
{
	CLEANUP_FREE struct walker *walker = calloc(1, sizeof(*walker));
	struct wanted wanted = { name, text, size, false };
	int ret;

	if (!walker)
		return -ENOMEM;
	walker->element = wanted_element;
	walker->context = &wanted;
	ret = walker_run(walker, data, length);
	if (!ret && !wanted.found)
		ret = -EPROTO;
	if (ret)
		text[0] = '\0';
	return ret;
}

/* ---- pages of a listing ------------------------------------------------------ */

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' :
	       c >= 'a' && c <= 'f' ? c - 'a' + 10 :
	       c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int s3_url_decode(char *text)
{
	char *to = text;

	for (; *text; text++) {
		int high, low;

		if (*text != '%') {
			*to++ = *text == '+' ? ' ' : *text;
			continue;
		}
		high = hex_digit(text[1]);
		low = high < 0 ? -1 : hex_digit(text[2]);
		if (low < 0 || (high == 0 && low == 0))
			return -EPROTO;
		*to++ = (char)(high << 4 | low);
		text += 2;
	}
	*to = '\0';
	return 0;
}

int s3_time_parse(const char *text, int64_t *seconds)
{
	struct tm parts;
	char *rest;

	memset(&parts, 0, sizeof(parts));
	rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &parts);
	if (!rest)
		return -EPROTO;
	if (*rest == '.')
		rest += 1 + strspn(rest + 1, "0123456789");
	if (strcmp(rest, "Z") != 0)
		return -EPROTO;
	*seconds = (int64_t)timegm(&parts);
	return 0;
}

static int bytes_parse(const char *text, uint64_t *bytes)
{
	char *end;

	if (*text < '0' || *text > '9')
		return -EPROTO;
	errno = 0;
	*bytes = strtoull(text, &end, 10);
	return errno || *end ? -EPROTO : 0;
}

/* A second one of the same name is a damaged document. */
static int text_keep(char **to, const char *text, bool encoded)
{
	if (*to)
		return -EPROTO;
	*to = strdup(text);
	if (!*to)
		return -ENOMEM;
	return encoded ? s3_url_decode(*to) : 0;
}

/* The entry being read is the one behind the last counted one. */
static int entry_room(struct s3_page *page)
{
	struct s3_entry *bigger;
	size_t room = page->room ? page->room * 2 : 128;

	if (page->count > S3_ENTRIES_MAX)
		return -EPROTO;
	if (page->count < page->room)
		return 0;
	bigger = reallocarray(page->entry, room, sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	memset(bigger + page->room, 0, (room - page->room) * sizeof(*bigger));
	page->entry = bigger;
	page->room = room;
	return 0;
}

static int entry_element(struct s3_page *page, const char *name, const char *text,
			 bool upload)
{
	struct s3_entry *entry;
	int ret = entry_room(page);

	if (ret)
		return ret;
	entry = &page->entry[page->count];
	if (!*name) {	/* the end of it */
		if (!entry->key || (upload && !entry->upload_id))
			return -EPROTO;
		page->count++;
		return 0;
	}
	if (strcmp(name, "Key") == 0)
		return text_keep(&entry->key, text, true);
	if (strcmp(name, "Size") == 0)
		return bytes_parse(text, &entry->bytes);
	if (strcmp(name, "UploadId") == 0)
		return text_keep(&entry->upload_id, text, false);
	if (strcmp(name, "Initiated") == 0)
		return s3_time_parse(text, &entry->initiated);
	return 0;
}

/* Behind "Contents" or "Contents/": the child's name, "" for itself; else NULL. */
static const char *path_below(const char *path, const char *parent)
{
	size_t length = strlen(parent);

	if (strncmp(path, parent, length) != 0)
		return NULL;
	return path[length] == '/' ? path + length + 1 : path[length] ? NULL : path + length;
}

static bool root_lists_uploads(const struct walker *walker)
{
	return strcmp(walker->root, "ListMultipartUploadsResult") == 0;
}

static int page_element(struct walker *walker, const char *path, const char *text)
{
	struct s3_page *page = walker->context;
	const char *below;

	page->uploads = root_lists_uploads(walker);
	below = path_below(path, page->uploads ? "Upload" : "Contents");
	if (below)
		return entry_element(page, below, text, page->uploads);
	if (strcmp(path, "IsTruncated") == 0)
		page->truncated = strcmp(text, "true") == 0;
	else if (strcmp(path, "NextContinuationToken") == 0)
		return text_keep(&page->token, text, false);
	else if (strcmp(path, "NextKeyMarker") == 0)
		return text_keep(&page->key_marker, text, true);
	else if (strcmp(path, "NextUploadIdMarker") == 0)
		return text_keep(&page->upload_marker, text, false);
	return 0;
}

int s3_xml_page(const void *data, size_t length, struct s3_page *page)
{
	CLEANUP_FREE struct walker *walker = calloc(1, sizeof(*walker));
	int ret;

	memset(page, 0, sizeof(*page));
	if (!walker)
		return -ENOMEM;
	walker->element = page_element;
	walker->context = page;
	ret = walker_run(walker, data, length);
	/* An <Error>, or some proxy's page, must not read as an empty listing. */
	if (!ret && strcmp(walker->root, "ListBucketResult") != 0 &&
	    !root_lists_uploads(walker))
		ret = -EPROTO;
	page->uploads = root_lists_uploads(walker);	/* an empty one, too */
	if (ret)
		s3_page_fini(page);
	return ret;
}

void s3_page_fini(struct s3_page *page)
{
	for (size_t i = 0; i < page->room; i++) {
		free(page->entry[i].key);
		free(page->entry[i].upload_id);
	}
	free(page->entry);
	free(page->token);
	free(page->key_marker);
	free(page->upload_marker);
	memset(page, 0, sizeof(*page));
}
