#include <string.h>

#include "base/utf8.h"
#include "runtime/text/jinja/value.h"

uint32_t tt_jj_decode(const char *data, size_t n, size_t *at)
{
	uint32_t c = (uint8_t)data[*at];
	size_t len = tt_utf8_decode(data + *at, n - *at, &c);
	*at += len ? len : 1; /* strings are valid even when cut; on an invalid byte, the loop would still go on */
	return c;
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
