/* The page as PDF: the text's lines in Courier, the fragment in QR codes below them. */
#include "agent/kit/kit.h"

#include "agent/base/cleanup.h"

#include <errno.h>
#include <hpdf.h>
#include <qrencode.h>
#include <stdlib.h>
#include <string.h>

/* In points, on A4: 595 by 842. */
#define SHEET_MARGIN 36.0f
#define SHEET_WIDTH 523.0f
#define SHEET_TOP 806.0f
#define FONT_SIZE 8.3f
#define FONT_SIZE_MIN 4.5f
#define FONT_ASPECT 0.6f	/* of Courier: all of its characters */
#define LINE_HEIGHT 9.8f
#define CODE_SIZE 157.0f	/* as high as the lines beside it */
#define CODE_GAP 15.0f
#define CODES_A_ROW 3

/* Where a fragment is cut: a code of more is hard to read off paper. */
#define PART_BYTES 600

/* The last lines, which leave room for a code beside them. */
#define BLOCK_TITLE "NOT ON THIS PAGE"

struct sheet {
	HPDF_Doc pdf;
	HPDF_Page page;
	HPDF_Font plain, bold;
	float y;		/* of the next line */
	HPDF_STATUS failed;	/* the library's first complaint */
};

static void sheet_error(HPDF_STATUS error, HPDF_STATUS detail, void *context)
{
	struct sheet *sheet = context;

	(void)detail;
	if (!sheet->failed)
		sheet->failed = error;
}

static void sheet_turn(struct sheet *sheet)
{
	sheet->page = HPDF_AddPage(sheet->pdf);
	if (sheet->page)
		HPDF_Page_SetSize(sheet->page, HPDF_PAGE_SIZE_A4, HPDF_PAGE_PORTRAIT);
	sheet->y = SHEET_TOP;
}

/* Room for `height` on this page, or the next one. */
static void sheet_need(struct sheet *sheet, float height)
{
	if (sheet->y - height < SHEET_MARGIN)
		sheet_turn(sheet);
}

/* ---- text ------------------------------------------------------------------------- */

static void sheet_put(struct sheet *sheet, const char *line, size_t length, HPDF_Font font)
{
	float size = FONT_SIZE;
	char text[512];

	if (length >= sizeof(text))
		length = sizeof(text) - 1;
	/* The standard fonts have no more; the codes have the true bytes. */
	for (size_t i = 0; i < length; i++)
		text[i] = line[i] >= ' ' && line[i] <= '~' ? line[i] : '?';
	text[length] = '\0';
	if (length * FONT_ASPECT * size > SHEET_WIDTH)
		size = SHEET_WIDTH / (length * FONT_ASPECT);
	sheet_need(sheet, LINE_HEIGHT);
	if (!sheet->page)
		return;
	HPDF_Page_BeginText(sheet->page);
	HPDF_Page_SetFontAndSize(sheet->page, font, size);
	HPDF_Page_TextOut(sheet->page, SHEET_MARGIN, sheet->y - LINE_HEIGHT, text);
	HPDF_Page_EndText(sheet->page);
	sheet->y -= LINE_HEIGHT;
}

/* Long lines get smaller letters, since a command must not be broken; endless ones are
 * broken all the same. */
static void sheet_line(struct sheet *sheet, const char *line, size_t length)
{
	static const size_t most = (size_t)(SHEET_WIDTH / (FONT_ASPECT * FONT_SIZE_MIN));
	bool title = length && line[0] >= 'A' && line[0] <= 'Z';

	for (size_t i = 0; i < length && line[i] != ':'; i++)
		title &= !(line[i] >= 'a' && line[i] <= 'z');
	for (; length > most; line += most, length -= most)
		sheet_put(sheet, line, most, sheet->plain);
	sheet_put(sheet, line, length, title ? sheet->bold : sheet->plain);
}

/* ---- codes ------------------------------------------------------------------------ */

static size_t part_length(const char *text)
{
	size_t left = strlen(text), length = PART_BYTES;

	if (left <= length)
		return left;
	while (length && text[length - 1] != '\n')
		length--;
	return length ? length : PART_BYTES;
}

char *kit_part(const char *fragment, size_t index, size_t *count)
{
	char *part = NULL;

	for (*count = 0; *fragment; (*count)++) {
		size_t length = part_length(fragment);

		if (*count == index)
			part = strndup(fragment, length);
		fragment += length;
	}
	return part;
}

/* Runs of dark modules as rectangles, with its lower left corner at x, y. */
static void sheet_draw_code(struct sheet *sheet, const QRcode *code, float x, float y)
{
	float module = CODE_SIZE / (float)code->width;

	for (int row = 0; row < code->width; row++) {
		const unsigned char *line = code->data + row * code->width;

		for (int from = 0, to; from < code->width; from = to) {
			for (to = from; to < code->width && (line[to] & 1) == (line[from] & 1); to++)
				;
			if (line[from] & 1)
				HPDF_Page_Rectangle(sheet->page, x + (float)from * module,
						    y + CODE_SIZE - (float)(row + 1) * module,
						    (float)(to - from) * module, module);
		}
	}
	HPDF_Page_Fill(sheet->page);
}

static int sheet_code(struct sheet *sheet, const char *part, float x, float y,
		      struct error *err)
{
	QRcode *code = QRcode_encodeData((int)strlen(part), (const unsigned char *)part, 0,
					 QR_ECLEVEL_M);

	if (!code)
		return error_set(err, -errno, "making a QR code: %s", error_text(errno));
	if (sheet->page)
		sheet_draw_code(sheet, code, x, y);
	QRcode_free(code);
	return 0;
}

/* The first at the right of the last lines, whose top is `top`; others in rows below. */
static int sheet_codes(struct sheet *sheet, const char *fragment, float top,
		       struct error *err)
{
	float x = SHEET_MARGIN + SHEET_WIDTH - CODE_SIZE, y = top - CODE_SIZE;
	size_t count = 1;
	int ret = 0;

	for (size_t i = 0; i < count && !ret; i++) {
		CLEANUP_FREE char *part = kit_part(fragment, i, &count);
		size_t column = i ? (i - 1) % CODES_A_ROW : 0;

		if (!part)
			return error_set(err, -ENOMEM, "out of memory");
		if (i && !column) {
			sheet->y = y - CODE_GAP;
			sheet_need(sheet, CODE_SIZE);
			y = sheet->y - CODE_SIZE;
		}
		if (i)
			x = SHEET_MARGIN + (float)column * (CODE_SIZE + CODE_GAP);
		ret = sheet_code(sheet, part, x, y, err);
	}
	return ret;
}

/* ---- the whole ---------------------------------------------------------------------- */

static int sheet_fill(struct sheet *sheet, const char *text, const char *fragment,
		      struct error *err)
{
	float top = SHEET_TOP;

	while (*text) {
		size_t length = strcspn(text, "\n");

		if (!strncmp(text, BLOCK_TITLE, strlen(BLOCK_TITLE))) {
			sheet_need(sheet, CODE_SIZE);
			top = sheet->y;
		}
		sheet_line(sheet, text, length);
		text += length + (text[length] == '\n');
	}
	return sheet_codes(sheet, fragment, top, err);
}

static int sheet_save(struct sheet *sheet, uint8_t **data, size_t *length, struct error *err)
{
	HPDF_UINT32 size;

	HPDF_SaveToStream(sheet->pdf);
	size = sheet->failed ? 0 : HPDF_GetStreamSize(sheet->pdf);
	*data = size ? malloc(size) : NULL;
	if (*data)
		HPDF_ReadFromStream(sheet->pdf, *data, &size);
	*length = size;
	if (*data && !sheet->failed)
		return 0;
	free(STEAL(*data));
	return error_set(err, sheet->failed ? -EIO : -ENOMEM, "making the PDF: libhpdf says "
			 "0x%lx", (unsigned long)sheet->failed);
}

int kit_pdf(const struct kit *kit, uint8_t **data, size_t *length, struct error *err)
{
	CLEANUP_FREE char *text = kit_text(kit), *fragment = kit_fragment(kit);
	struct sheet sheet = { .failed = 0 };
	int ret;

	*data = NULL;
	sheet.pdf = text && fragment ? HPDF_New(sheet_error, &sheet) : NULL;
	if (!sheet.pdf)
		return error_set(err, -ENOMEM, "making the PDF: out of memory");
	HPDF_SetCompressionMode(sheet.pdf, HPDF_COMP_TEXT);
	HPDF_SetInfoAttr(sheet.pdf, HPDF_INFO_TITLE, "clawback recovery kit");
	sheet.plain = HPDF_GetFont(sheet.pdf, "Courier", "WinAnsiEncoding");
	sheet.bold = HPDF_GetFont(sheet.pdf, "Courier-Bold", "WinAnsiEncoding");
	sheet_turn(&sheet);
	ret = sheet_fill(&sheet, text, fragment, err);
	if (!ret)
		ret = sheet_save(&sheet, data, length, err);
	HPDF_Free(sheet.pdf);
	return ret;
}
