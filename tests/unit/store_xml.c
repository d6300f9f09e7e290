/* S3's XML, whole, damaged and hostile. */
#include "agent/store/s3_xml.h"
#include "tests/store/store_suite.h"

static const char error_document[] =
	"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>SignatureDoesNotMatch</Code>"
	"<Message>line one\nline two \x1b[31m&lt;red&gt;</Message><Region>eu-west-1</Region>"
	"<StringToSign>AWS4 secret</StringToSign><RequestId>tx0</RequestId></Error>";

static const char list_document[] =
	"<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
	"<Name>b</Name><Prefix>p%2F</Prefix><IsTruncated>true</IsTruncated>"
	"<NextContinuationToken>to/ken==</NextContinuationToken>"
	"<Contents><Key>p%2Fone</Key><Size>12345678901</Size><ETag>&quot;x&quot;</ETag>"
	"<Owner><ID>o</ID><Key>not this</Key></Owner></Contents>"
	"<Contents><Size>0</Size><Key>p%2Ftwo+words%2B</Key></Contents>"
	"<CommonPrefixes><Prefix>q</Prefix></CommonPrefixes></ListBucketResult>";

static const char uploads_document[] =
	"<ListMultipartUploadsResult><KeyMarker></KeyMarker><NextKeyMarker>a%2Fb</NextKeyMarker>"
	"<NextUploadIdMarker>2~x+y</NextUploadIdMarker><IsTruncated>true</IsTruncated>"
	"<Upload><Key>a%2Fb</Key><UploadId>2~x+y</UploadId>"
	"<Initiator><ID>i</ID></Initiator><Initiated>2026-11-23T20:15:00.123Z</Initiated>"
	"</Upload></ListMultipartUploadsResult>";

static int parse(const char *text, struct s3_page *page)
{
	return s3_xml_page(text, strlen(text), page);
}

static void test_fault(void **state)
{
	struct s3_fault fault;
	char control[] = "<Error><Code>A</Code><Message>1&#10;2\xc3\xa4</Message></Error>";

	(void)state;
	/* An escape byte is no XML: what stood before it counts. */
	assert_true(s3_xml_fault(error_document, strlen(error_document), &fault));
	assert_string_equal(fault.code, "SignatureDoesNotMatch");
	assert_true(s3_xml_fault(control, strlen(control), &fault));
	assert_string_equal(fault.message, "1 2  ");
	assert_false(s3_xml_fault(list_document, strlen(list_document), &fault));
	assert_string_equal(fault.code, "");
	assert_false(s3_xml_fault("", 0, &fault));
	assert_false(s3_xml_fault("<html><Code>x</Code></html>", 27, &fault));
	assert_false(s3_xml_fault("<Error><Message>x</Message></Error>", 35, &fault));
}

static void test_fault_long(void **state)
{
	char text[20000] = "<Error><Code>Long</Code><Message>";
	struct s3_fault fault;

	(void)state;
	memset(text + strlen(text), 'm', 15000);
	strcat(text, "</Message><Region>r</Region></Error>");
	assert_true(s3_xml_fault(text, strlen(text), &fault));
	assert_int_equal(strlen(fault.message), sizeof(fault.message) - 1);
	assert_string_equal(fault.region, "r");
	/* Cut in the middle: the code is there. */
	assert_true(s3_xml_fault(text, 10000, &fault));
	assert_string_equal(fault.code, "Long");
}

static void test_list(void **state)
{
	struct s3_page page;

	(void)state;
	assert_int_equal(parse(list_document, &page), 0);
	assert_int_equal(page.count, 2);
	assert_true(page.truncated);
	assert_string_equal(page.token, "to/ken==");
	assert_string_equal(page.entry[0].key, "p/one");
	assert_int_equal(page.entry[0].bytes, 12345678901);
	assert_string_equal(page.entry[1].key, "p/two words+");
	s3_page_fini(&page);
	assert_int_equal(parse("<ListBucketResult/>", &page), 0);
	assert_int_equal(page.count, 0);
	assert_false(page.truncated);
	s3_page_fini(&page);
}

static void test_uploads(void **state)
{
	struct s3_page page;

	(void)state;
	assert_int_equal(parse(uploads_document, &page), 0);
	assert_int_equal(page.count, 1);
	assert_string_equal(page.entry[0].key, "a/b");
	assert_string_equal(page.entry[0].upload_id, "2~x+y");
	assert_int_equal(page.entry[0].initiated, 1795464900);
	assert_string_equal(page.key_marker, "a/b");
	assert_string_equal(page.upload_marker, "2~x+y");
	s3_page_fini(&page);
}

static void test_refused(void **state)
{
	static const char *const documents[] = {
		"", "x", "<", "<ListBucketResult>", "<ListBucketResult></Other>",
		"<Error><Code>NoSuchBucket</Code></Error>", "<html></html>",
		"<ListBucketResult><Contents></Contents></ListBucketResult>",
		"<ListBucketResult><Contents><Key>a</Key><Key>b</Key></Contents></ListBucketResult>",
		"<ListBucketResult><Contents><Key>a</Key><Size>-1</Size></Contents></ListBucketResult>",
		"<ListBucketResult><Contents><Key>a</Key><Size>1x</Size></Contents></ListBucketResult>",
		"<ListBucketResult><Contents><Key>a</Key><Size>99999999999999999999</Size></Contents>"
			"</ListBucketResult>",
		"<ListBucketResult><Contents><Key>%</Key></Contents></ListBucketResult>",
		"<ListBucketResult><Contents><Key>a%00b</Key></Contents></ListBucketResult>",
		"<ListBucketResult><Contents><Key>a%zz</Key></Contents></ListBucketResult>",
		"<ListMultipartUploadsResult><Upload><Key>a</Key></Upload></ListMultipartUploadsResult>",
		"<ListMultipartUploadsResult><Upload><Key>a</Key><UploadId>u</UploadId>"
			"<Initiated>yesterday</Initiated></Upload></ListMultipartUploadsResult>",
		/* Entities: expansion, and reading of files. */
		"<!DOCTYPE x [<!ENTITY a \"b\">]><ListBucketResult/>",
		"<!DOCTYPE x [<!ENTITY a SYSTEM \"file:///etc/passwd\">]>"
			"<ListBucketResult><Contents><Key>&a;</Key></Contents></ListBucketResult>",
		"<ListBucketResult><a><b><c><d><e><f><g><h/></g></f></e></d></c></b></a>"
			"</ListBucketResult>",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(documents) / sizeof(documents[0]); i++) {
		struct s3_page page;

		if (parse(documents[i], &page) != -EPROTO)
			fail_msg("accepted: %s", documents[i]);
		assert_null(page.entry);
	}
}

/* More entries than S3 ever sends, and names longer than any. */
static void test_bounds(void **state)
{
	enum { ROOM = 1 << 20 };
	char *text = calloc(1, ROOM);
	struct s3_page page;

	(void)state;
	assert_non_null(text);
	strcpy(text, "<ListBucketResult>");
	for (int i = 0; i <= S3_ENTRIES_MAX + 1; i++)
		strcat(text + strlen(text), "<Contents><Key>k</Key></Contents>");
	strcat(text, "</ListBucketResult>");
	assert_int_equal(parse(text, &page), -EPROTO);
	strcpy(text, "<ListBucketResult><Contents><Key>");
	memset(text + strlen(text), 'k', S3_XML_TEXT_MAX);
	strcat(text, "</Key></Contents></ListBucketResult>");
	assert_int_equal(parse(text, &page), -EPROTO);
	memset(text, 0, ROOM);
	strcpy(text, "<ListBucketResult><");
	memset(text + strlen(text), 'n', 1000);
	strcat(text, "/></ListBucketResult>");
	assert_int_equal(parse(text, &page), -EPROTO);
	free(text);
}

static void test_text(void **state)
{
	static const char document[] = "<R><UploadId>id</UploadId><Other><UploadId>no</UploadId>"
				       "</Other></R>";
	char text[8];

	(void)state;
	assert_int_equal(s3_xml_text(document, strlen(document), "UploadId", text, 8), 0);
	assert_string_equal(text, "id");
	assert_int_equal(s3_xml_text(document, strlen(document), "UploadId", text, 2), -EPROTO);
	assert_int_equal(s3_xml_text(document, strlen(document), "None", text, 8), -EPROTO);
	assert_int_equal(s3_xml_text("<R><UploadId/></R>", 18, "UploadId", text, 8), -EPROTO);
	assert_int_equal(s3_xml_text(NULL, 0, "UploadId", text, 8), -EPROTO);
}

static void test_time(void **state)
{
	static const char *const refused[] = { "", "2026", "2026-11-23T20:15:00", "now",
		"2026-11-23T20:15:00Zx", "2026-13-23T20:15:00Z" };
	int64_t seconds;

	(void)state;
	assert_int_equal(s3_time_parse("1970-01-01T00:00:01Z", &seconds), 0);
	assert_int_equal(seconds, 1);
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		assert_int_equal(s3_time_parse(refused[i], &seconds), -EPROTO);
}

/* Bytes changed, taken out, doubled and cut off: any result, no crash, no leak. */
static void test_damaged(void **state)
{
	static const char *const documents[] = { error_document, list_document, uploads_document };
	struct random_state random = random_start("damaged xml");
	int whole = 0;

	(void)state;
	for (int round = 0; round < 30000; round++) {
		const char *from = documents[random_below(&random, 3)];
		size_t length = strlen(from), at;
		char text[2048], upload_id[64];
		struct s3_fault fault;
		struct s3_page page;

		memcpy(text, from, length);
		for (uint64_t i = random_below(&random, 4); i && length; i--) {
			at = (size_t)random_below(&random, length);
			switch (random_below(&random, 4)) {
			case 0:
				text[at] = (char)random_next(&random);
				break;
			case 1:
				memmove(text + at, text + at + 1, length - at - 1);
				length--;
				break;
			case 2:
				memmove(text + at + 1, text + at, length - at);
				length++;
				break;
			default:
				length = at + 1;
			}
		}
		s3_xml_fault(text, length, &fault);
		for (const char *c = fault.message; *c; c++)
			assert_true(*c >= ' ' && *c <= '~');
		s3_xml_text(text, length, "UploadId", upload_id, sizeof(upload_id));
		if (s3_xml_page(text, length, &page) == 0) {
			whole++;
			for (size_t i = 0; i < page.count; i++)
				assert_non_null(page.entry[i].key);
			s3_page_fini(&page);
		} else {
			assert_null(page.entry);
		}
	}
	assert_true(whole > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fault), cmocka_unit_test(test_fault_long),
		cmocka_unit_test(test_list), cmocka_unit_test(test_uploads),
		cmocka_unit_test(test_refused), cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_text), cmocka_unit_test(test_time),
		cmocka_unit_test(test_damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
