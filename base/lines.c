#include "base/lines.h"

#include <errno.h>
#include <string.h>

#include "base/fail.h"

int tt_lines_open(struct tt_lines *lines, const char *path, uint64_t size, struct tt_error *err)
{
	*lines = (struct tt_lines){.path = path, .left = size, .file = fopen(path, "rb")};
	if (!lines->file)
		return tt_fail_io(err, path, "open");
	return TT_OK;
}

int tt_refuse_gzip(const char *path, const void *head, size_t n, struct tt_error *err)
{
	if (n >= 2 && memcmp(head, "\x1f\x8b", 2) == 0)
		return tt_fail(err, TT_ERR_FORMAT, "%s: it is compressed (gzip): unpack it first", path);
	return TT_OK;
}

static bool is_blank(const struct tt_buffer *line)
{
	return strspn(line->data, " \t\r") == line->len;
}

/* Reads one line, blank or not; returns false if nothing is left. */
static bool read_line(struct tt_lines *lines, int *status, struct tt_error *err)
{
	char chunk[4096];
	size_t n = 0;
	int c = EOF;
	lines->line.len = 0;
	lines->too_long = false;
	*status = TT_OK;
	if (lines->left == 0)
		return false;
	while (*status == TT_OK && lines->left > 0 && c != '\n' && (c = getc(lines->file)) != EOF) {
		lines->left--;
		lines->offset++;
		if (c != '\n')
			chunk[n++] = (char)c;
		if (n < sizeof chunk && c != '\n' && lines->left > 0)
			continue;
		lines->too_long |= lines->line.len + n > TT_MAX_LINE;
		*status = tt_buffer_add(&lines->line, chunk, lines->too_long ? 0 : n, err);
		n = 0;
	}
	if (*status == TT_OK && c == EOF)
		*status = tt_fail(err, TT_ERR_IO, "%s: %s", lines->path,
			ferror(lines->file) ? strerror(errno) : "it became shorter while it was read");
	lines->ended = c == '\n';
	lines->number++;
	return true;
}

int tt_lines_next(struct tt_lines *lines, bool *found, struct tt_error *err)
{
	static const char mark[] = "\xEF\xBB\xBF"; /* the mark that some editors put at the beginning of a file */
	int status;
	while ((*found = read_line(lines, &status, err))) {
		TT_TRY(status);
		struct tt_buffer *line = &lines->line;
		if (lines->number == 1)
			TT_TRY(tt_refuse_gzip(lines->path, line->data, line->len, err));
		if (lines->number == 1 && line->len >= 3 && memcmp(line->data, mark, 3) == 0) {
			line->len -= 3;
			memmove(line->data, line->data + 3, line->len + 1);
		}
		if (lines->too_long || !is_blank(line))
			return TT_OK;
	}
	return TT_OK;
}

int tt_lines_seek(struct tt_lines *lines, uint64_t offset, uint64_t number, struct tt_error *err)
{
	uint64_t end = lines->offset + lines->left;
	if (offset > end || offset > INT64_MAX || fseeko(lines->file, (off_t)offset, SEEK_SET) != 0)
		return tt_fail(err, TT_ERR_IO, "%s: it has no byte %llu", lines->path, (unsigned long long)offset);
	lines->offset = offset;
	lines->left = end - offset;
	lines->number = number;
	return TT_OK;
}

void tt_lines_close(struct tt_lines *lines)
{
	if (lines->file)
		fclose(lines->file);
	tt_buffer_free(&lines->line);
	*lines = (struct tt_lines){0};
}
