#include <string.h>

#include "runtime/text/jinja_value.h"

uint32_t tt_jj_decode(const char *data, size_t n, size_t *at)
{
	const uint8_t *s = (const uint8_t *)data + *at;
	size_t left = n - *at;
	if (s[0] < 0x80 || left < 2) {
		*at += 1;
		return s[0];
	}
	if (s[0] < 0xe0 || left < 3) {
		*at += 2;
		return (uint32_t)(s[0] & 0x1f) << 6 | (s[1] & 0x3f);
	}
	if (s[0] < 0xf0 || left < 4) {
		*at += 3;
		return (uint32_t)(s[0] & 0x0f) << 12 | (uint32_t)(s[1] & 0x3f) << 6 | (s[2] & 0x3f);
	}
	*at += 4;
	return (uint32_t)(s[0] & 0x07) << 18 | (uint32_t)(s[1] & 0x3f) << 12 | (uint32_t)(s[2] & 0x3f) << 6 |
	       (s[3] & 0x3f);
}

size_t tt_jj_encode(uint32_t c, char out[4])
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

/* Length of the sequence at s, or 0 when it is not well formed (overlong, a surrogate, past U+10FFFF, cut off). */
static size_t sequence_length(const uint8_t *s, size_t left)
{
	static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
	size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0, at = 0;
	if (n < 2 || n > left)
		return n == 1 ? 1 : 0;
	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	uint32_t c = tt_jj_decode((const char *)s, n, &at);
	return c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : n;
}

bool tt_jj_valid_utf8(const char *data, size_t n)
{
	for (size_t i = 0; i < n;) {
		size_t step = sequence_length((const uint8_t *)data + i, n - i);
		if (!step)
			return false;
		i += step;
	}
	return true;
}

bool tt_jj_is_space(uint32_t c)
{
	if (c < 0x80)
		return c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1c && c <= 0x1f);
	return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
	       c == 0x202f || c == 0x205f || c == 0x3000;
}

size_t tt_jj_count(const char *data, size_t n)
{
	size_t count = 0;
	for (size_t i = 0; i < n; i++)
		count += ((uint8_t)data[i] & 0xc0) != 0x80;
	return count;
}

size_t tt_jj_offset(const char *data, size_t n, size_t index)
{
	size_t i = 0;
	for (; i < n; i++)
		if (((uint8_t)data[i] & 0xc0) != 0x80 && index-- == 0)
			break;
	return i;
}

size_t tt_jj_strip_end(const char *data, size_t n)
{
	while (n > 0) {
		size_t start = n - 1, at;
		while (start > 0 && ((uint8_t)data[start] & 0xc0) == 0x80)
			start--;
		at = start;
		if (!tt_jj_is_space(tt_jj_decode(data, n, &at)))
			break;
		n = start;
	}
	return n;
}

size_t tt_jj_strip_start(const char *data, size_t n)
{
	size_t at = 0;
	while (at < n) {
		size_t next = at;
		if (!tt_jj_is_space(tt_jj_decode(data, n, &next)))
			break;
		at = next;
	}
	return at;
}
