#include "runtime/text/utf8.h"

#include <string.h>
#include <utf8proc.h>

#include "runtime/text/tokenizer.h"

size_t tt_utf8_encode(uint32_t c, char out[4])
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 0x3f));
		out[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 0x3f));
	out[2] = (char)(0x80 | (c >> 6 & 0x3f));
	out[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

bool tt_utf8_is_valid(const char *text)
{
	size_t n = text ? strlen(text) : 0;
	return tt_utf8_check(text, n) == n;
}

size_t tt_utf8_check(const char *text, size_t n)
{
	size_t i = 0;
	while (i < n) {
		uint64_t word;
		uint32_t c;
		while (i + 8 <= n) {
			memcpy(&word, text + i, 8);
			if (word & 0x8080808080808080u)
				break;
			i += 8;
		}
		if (i == n)
			break;
		size_t len = tt_utf8_decode(text + i, n - i, &c);
		if (!len)
			return i;
		i += len;
	}
	return n;
}

bool tt_utf8_is_space(uint32_t c)
{
	return (c >= 0x9 && c <= 0xd) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
	       (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool tt_utf8_is_numeric(uint32_t c)
{
	/* Newer than the tables of utf8proc 2.8 (Unicode 15). */
	static const uint32_t newer[][2] = {
		{0x10d40, 0x10d49},
		{0x116d0, 0x116e3},
		{0x11bf0, 0x11bf9},
		{0x11de0, 0x11de9},
		{0x16130, 0x16139},
		{0x16d70, 0x16d79},
		{0x16ff4, 0x16ff6},
		{0x1ccf0, 0x1ccf9},
		{0x1e5f1, 0x1e5fa},
	};
	if (c < 0x80)
		return c >= '0' && c <= '9';
	utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
	if (category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL || category == UTF8PROC_CATEGORY_NO)
		return true;
	for (size_t i = 0; c >= 0x10d40 && i < sizeof newer / sizeof *newer; i++)
		if (c >= newer[i][0] && c <= newer[i][1])
			return true;
	return false;
}

static size_t replace(char *out)
{
	memcpy(out, "\xef\xbf\xbd", 3); /* U+FFFD */
	return 3;
}

/* Python replaces each longest prefix of a valid sequence, and each byte that could start none, by one U+FFFD. */
size_t tt_utf8_stream_push(struct tt_utf8_stream *stream, const char *bytes, size_t n, char *out)
{
	size_t written = 0;
	for (size_t i = 0; i < n; i++) {
		uint8_t byte = (uint8_t)bytes[i], low, high;
		if (stream->n_pending) {
			size_t len = tt_utf8_length(stream->pending[0], &low, &high);
			if (stream->n_pending > 1)
				low = 0x80, high = 0xbf;
			if (byte >= low && byte <= high) {
				stream->pending[stream->n_pending++] = byte;
				if (stream->n_pending < len)
					continue;
				memcpy(out + written, stream->pending, len);
				written += len;
				stream->n_pending = 0;
				continue;
			}
			written += replace(out + written);
			stream->n_pending = 0;
		}
		size_t len = tt_utf8_length(byte, &low, &high);
		if (len == 1)
			out[written++] = (char)byte;
		else if (len == 0)
			written += replace(out + written);
		else
			stream->pending[stream->n_pending++] = byte;
	}
	return written;
}

size_t tt_utf8_stream_finish(struct tt_utf8_stream *stream, char *out)
{
	size_t written = stream->n_pending ? replace(out) : 0;
	stream->n_pending = 0;
	return written;
}
