#include "base/utf8.h"

#include <string.h>

size_t tt_utf8_length(uint8_t first, uint8_t *low, uint8_t *high)
{
	*low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
	*high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
	if (first < 0x80)
		return 1;
	if (first < 0xc2 || first > 0xf4)
		return 0;
	return first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

size_t tt_utf8_decode(const char *text, size_t n, uint32_t *out)
{
	static const uint8_t lead_mask[5] = {0, 0x7f, 0x1f, 0x0f, 0x07};
	const uint8_t *bytes = (const uint8_t *)text;
	uint8_t low, high;
	if (n == 0)
		return 0;
	size_t len = tt_utf8_length(bytes[0], &low, &high);
	if (len == 0 || len > n)
		return 0;
	uint32_t c = bytes[0] & lead_mask[len];
	for (size_t i = 1; i < len; i++) {
		if (bytes[i] < low || bytes[i] > high)
			return 0;
		low = 0x80, high = 0xbf;
		c = c << 6 | (bytes[i] & 0x3f);
	}
	*out = c;
	return len;
}

size_t tt_utf8_next(const char *text, size_t n, uint32_t *out)
{
	size_t length = tt_utf8_decode(text, n, out);
	if (length > 0)
		return length;
	*out = 0xFFFD;
	return 1;
}

bool tt_utf8_is_control(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x61c || c == 0x200e || c == 0x200f ||
	       (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

bool tt_utf8_is_unsafe(uint32_t c)
{
	return c != '\n' && c != '\t' && tt_utf8_is_control(c);
}

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

size_t tt_utf8_count(const char *text, size_t n)
{
	size_t count = 0;
	for (size_t i = 0; i < n; i++)
		count += ((unsigned char)text[i] & 0xC0) != 0x80;
	return count;
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

static size_t replace(char *out)
{
	memcpy(out, "\xef\xbf\xbd", 3); /* U+FFFD */
	return 3;
}

/* As Python does, replaces each longest prefix of a valid sequence, and each byte that could start none, by one
 * U+FFFD. */
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
