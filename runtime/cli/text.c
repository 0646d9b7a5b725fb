/* UTF-8 for a terminal, a table and a page. Text from a model or a file is shown, never obeyed. */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <utf8proc.h>

#include "base/utf8.h"
#include "cli.h"

static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */

int cli_char_width(uint32_t c)
{
	if (c < 0x300 || tt_utf8_is_unsafe(c)) /* the latter is written as one replacement character */
		return 1;
	bool modifier = c >= 0x1F3FB && c <= 0x1F3FF; /* the tone of the emoji before it, drawn in its place */
	return modifier ? 0 : utf8proc_charwidth((utf8proc_int32_t)c);
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
