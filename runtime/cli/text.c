/* UTF-8 for a terminal, a table and a page. Text from a model or a file is shown, never obeyed. */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/utf8.h"
#include "cli.h"

static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */

/* wide: ranges of East Asian width W and F and of emoji, which terminals draw two columns wide. narrow: marks that take
 * no column. */
static const uint32_t wide[][2] = {{0x1100, 0x115F}, {0x231A, 0x231B}, {0x23E9, 0x23EC}, {0x25FD, 0x25FE},
	{0x2614, 0x2615}, {0x26AA, 0x26AB}, {0x26BD, 0x26BE}, {0x26C4, 0x26C5}, {0x2705, 0x2705}, {0x270A, 0x270B},
	{0x2728, 0x2728}, {0x274C, 0x274C}, {0x2753, 0x2755}, {0x2757, 0x2757}, {0x2795, 0x2797}, {0x2B1B, 0x2B1C},
	{0x2B50, 0x2B50}, {0x2E80, 0x303E}, {0x3041, 0x33FF}, {0x3400, 0x4DBF}, {0x4E00, 0x9FFF}, {0xA000, 0xA4CF},
	{0xA960, 0xA97F}, {0xAC00, 0xD7A3}, {0xF900, 0xFAFF}, {0xFE30, 0xFE6F}, {0xFF00, 0xFF60}, {0xFFE0, 0xFFE6},
	{0x17000, 0x18CFF}, {0x1B000, 0x1B2FF}, {0x1F004, 0x1F004}, {0x1F0CF, 0x1F0CF}, {0x1F18E, 0x1F18E},
	{0x1F191, 0x1F19A}, {0x1F200, 0x1F320}, {0x1F32D, 0x1F335}, {0x1F337, 0x1F37C}, {0x1F37E, 0x1F393},
	{0x1F3A0, 0x1F3CA}, {0x1F3CF, 0x1F3D3}, {0x1F3E0, 0x1F3F0}, {0x1F3F4, 0x1F3F4}, {0x1F3F8, 0x1F43E},
	{0x1F440, 0x1F440}, {0x1F442, 0x1F4FC}, {0x1F4FF, 0x1F53D}, {0x1F54B, 0x1F567}, {0x1F57A, 0x1F57A},
	{0x1F595, 0x1F596}, {0x1F5A4, 0x1F5A4}, {0x1F5FB, 0x1F64F}, {0x1F680, 0x1F6C5}, {0x1F6CC, 0x1F6CC},
	{0x1F6D0, 0x1F6D2}, {0x1F6D5, 0x1F6D7}, {0x1F6DC, 0x1F6DF}, {0x1F6EB, 0x1F6EC}, {0x1F6F4, 0x1F6FC},
	{0x1F7E0, 0x1F7EB}, {0x1F90C, 0x1F93A}, {0x1F93C, 0x1F945}, {0x1F947, 0x1F9FF}, {0x1FA70, 0x1FAFF},
	{0x20000, 0x3FFFD}};
static const uint32_t narrow[][2] = {{0x300, 0x36F}, {0x483, 0x489}, {0x591, 0x5BD}, {0x610, 0x61A}, {0x64B, 0x65F},
	{0x6D6, 0x6DC}, {0x6DF, 0x6E4}, {0x900, 0x902}, {0x93C, 0x93C}, {0x941, 0x948}, {0x94D, 0x94D}, {0xE31, 0xE31},
	{0xE34, 0xE3A}, {0xE47, 0xE4E}, {0x1AB0, 0x1AFF}, {0x1DC0, 0x1DFF}, {0x200B, 0x200D}, {0x20D0, 0x20FF},
	{0xFE00, 0xFE0F}, {0xFE20, 0xFE2F}, {0xFEFF, 0xFEFF}, {0x1F3FB, 0x1F3FF}, {0xE0100, 0xE01EF}};

static bool within(uint32_t c, const uint32_t (*ranges)[2], size_t n)
{
	size_t low = 0, high = n;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (c > ranges[middle][1])
			low = middle + 1;
		else
			high = middle;
	}
	return low < n && c >= ranges[low][0];
}

int cli_char_width(uint32_t c)
{
	if (c < 0x300)
		return 1;
	if (within(c, narrow, sizeof narrow / sizeof narrow[0]))
		return 0;
	return within(c, wide, sizeof wide / sizeof wide[0]) ? 2 : 1;
}

size_t cli_text_width(const char *text)
{
	size_t width = 0, n = strlen(text);
	for (size_t i = 0; i < n;) {
		uint32_t code_point;
		i += tt_utf8_next(text + i, n - i, &code_point);
		width += (size_t)cli_char_width(code_point);
	}
	return width;
}

void cli_write_text(FILE *to, bool terminal, const char *text, size_t n)
{
	if (!terminal) {
		fwrite(text, 1, n, to);
		return;
	}
	for (size_t i = 0; i < n;) {
		uint32_t c;
		size_t length = tt_utf8_next(text + i, n - i, &c);
		if (tt_utf8_is_unsafe(c) || c == 0xFFFD)
			fputs(replacement, to);
		else
			fwrite(text + i, 1, length, to);
		i += length;
	}
}

void cli_write_line(FILE *to, const char *text, size_t n)
{
	for (size_t i = 0; i < n;) {
		uint32_t c;
		size_t length = tt_utf8_next(text + i, n - i, &c);
		if (c == '\n')
			fputs("\\n", to);
		else if (c == '\t')
			fputs("\\t", to);
		else if (tt_utf8_is_unsafe(c))
			fprintf(to, "\\u%04x", (unsigned)c);
		else if (c == 0xFFFD)
			fputs(replacement, to);
		else
			fwrite(text + i, 1, length, to);
		i += length;
	}
}

void cli_put_json(const char *json)
{
	size_t n = strlen(json);
	for (size_t i = 0; i < n;) {
		uint32_t c;
		size_t length = tt_utf8_next(json + i, n - i, &c);
		if (tt_utf8_is_unsafe(c))
			printf("\\u%04x", (unsigned)c);
		else
			fwrite(json + i, 1, length, stdout);
		i += length;
	}
	putchar('\n');
}

int cli_end_report(int code, const struct tt_error *err, const char *report, bool json,
	void (*show)(const json_t *report, const void *user), const void *user)
{
	if (cli_interrupted())
		return CLI_INTERRUPTED;
	if (code != TT_OK)
		return cli_fail(err);
	if (json) {
		cli_put_json(report);
		return CLI_OK;
	}
	json_t *value = json_loads(report, 0, NULL);
	show(value, user);
	json_decref(value);
	return CLI_OK;
}

int cli_print_json(json_t *json, size_t flags)
{
	char *text = json_dumps(json, flags);
	json_decref(json);
	if (!text)
		return cli_failf("JSON cannot be written: out of memory, or a text that is not UTF-8");
	cli_put_json(text);
	free(text);
	return CLI_OK;
}

static void add_line(struct cli_lines *out, const char *text, size_t n)
{
	cli_grow(&out->lines, &out->capacity, out->n + 1, sizeof *out->lines);
	char *line = cli_alloc(n + 1, 1);
	memcpy(line, text, n);
	out->lines[out->n++] = line;
}

/* A paragraph without newlines or controls. */
static void wrap_paragraph(struct cli_lines *out, const char *text, size_t n, size_t width)
{
	size_t begin = 0, space = 0, columns = 0, columns_at_space = 0;
	bool has_space = false;
	for (size_t i = 0; i < n;) {
		uint32_t c;
		size_t length = tt_utf8_next(text + i, n - i, &c), w = (size_t)cli_char_width(c);
		if (columns + w > width && i > begin) {
			if (c == ' ') { /* the line breaks at this space */
				add_line(out, text + begin, i - begin);
				i += length;
				begin = i;
				columns = 0;
				has_space = false;
				continue;
			}
			size_t end = has_space ? space : i;
			add_line(out, text + begin, end - begin);
			begin = has_space ? space + 1 : i;
			columns -= has_space ? columns_at_space + 1 : columns;
			has_space = false;
		}
		if (c == ' ') {
			space = i;
			columns_at_space = columns;
			has_space = true;
		}
		columns += w;
		i += length;
	}
	add_line(out, text + begin, n - begin);
}

void cli_wrap(struct cli_lines *out, const char *text, size_t n, size_t width)
{
	char *clean = NULL;
	size_t m = 0;
	FILE *file = cli_memory_file(&clean, &m);
	for (size_t i = 0; i < n;) {
		uint32_t c;
		size_t length = tt_utf8_next(text + i, n - i, &c);
		if (c == '\t')
			fputs("    ", file);
		else
			cli_write_text(file, true, text + i, length);
		i += length;
	}
	fclose(file);
	size_t begin = 0;
	while (begin <= m) {
		const char *newline = memchr(clean + begin, '\n', m - begin);
		size_t end = newline ? (size_t)(newline - clean) : m;
		if (newline || end > begin || begin == 0)
			wrap_paragraph(out, clean + begin, end - begin, width ? width : 1);
		begin = end + 1;
	}
	free(clean);
}

void cli_lines_free(struct cli_lines *lines)
{
	for (size_t i = 0; i < lines->n; i++)
		free(lines->lines[i]);
	free(lines->lines);
	*lines = (struct cli_lines){0};
}

size_t cli_terminal_width(void)
{
	struct winsize size;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 20)
		return size.ws_col;
	return 100;
}

json_t *cli_piece_json(const struct tt_text *text, int32_t id)
{
	size_t n;
	const char *piece = tt_text_piece(text, id, &n);
	if (tt_utf8_check(piece, n) == n)
		return json_stringn(piece, n);
	json_t *bytes = json_array();
	for (size_t i = 0; i < n; i++)
		json_array_append_new(bytes, json_integer((unsigned char)piece[i]));
	return bytes;
}

char *cli_command_line(int argc, char **argv)
{
	char *text;
	size_t n;
	FILE *to = cli_memory_file(&text, &n);
	fputs("trimtab", to);
	for (int i = 0; i < argc; i++) {
		const char *word = argv[i];
		bool plain = *word && !word[strspn(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
							 "0123456789_@%+=:,./-")];
		fputs(plain ? " " : " '", to);
		for (; *word; word++)
			if (*word == '\'')
				fputs("'\\''", to);
			else
				fputc(*word, to);
		if (!plain)
			fputc('\'', to);
	}
	fclose(to);
	return text;
}
