/*
 * S3's XML: pages of a listing, errors, one text; and what is read from their texts:
 * escapes, times. All of them over the same bytes.
 */
#include "agent/store/s3_xml.h"
#include "tests/fuzz/fuzz.h"

static void check_page(const void *data, size_t length)
{
	struct s3_page page;

	if (!s3_xml_page(data, length, &page)) {
		FUZZ_CHECK(page.count <= S3_ENTRIES_MAX && page.count <= page.room);
		for (size_t i = 0; i < page.count; i++)
			FUZZ_CHECK(page.entry[i].key &&
				   strlen(page.entry[i].key) < S3_XML_TEXT_MAX &&
				   page.uploads == !!page.entry[i].upload_id);
	} else {
		FUZZ_CHECK(!page.entry && !page.token && !page.count);
	}
	s3_page_fini(&page);
}

static void check_printable(const char *text, size_t size)
{
	FUZZ_CHECK(memchr(text, '\0', size));
	for (; *text; text++)
		FUZZ_CHECK(*text >= ' ' && *text <= '~');
}

static void check_fault(const void *data, size_t length)
{
	struct s3_fault fault;
	bool is = s3_xml_fault(data, length, &fault);

	check_printable(fault.code, sizeof(fault.code));
	check_printable(fault.message, sizeof(fault.message));
	check_printable(fault.region, sizeof(fault.region));
	check_printable(fault.endpoint, sizeof(fault.endpoint));
	FUZZ_CHECK(is == !!fault.code[0]);
}

static void check_text(const void *data, size_t length)
{
	char text[64];

	if (s3_xml_text(data, length, "UploadId", text, sizeof(text)))
		FUZZ_CHECK(!text[0]);
	else
		FUZZ_CHECK(text[0] && memchr(text, '\0', sizeof(text)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	uint8_t *document = fuzz_copy(data, length);
	char *text = fuzz_text(data, length);
	size_t before = strlen(text);
	int64_t seconds;

	check_page(document, length);
	check_fault(document, length);
	check_text(document, length);
	s3_time_parse(text, &seconds);
	if (!s3_url_decode(text))
		FUZZ_CHECK(strlen(text) <= before);
	free(text);
	free(document);
	return 0;
}
