#include "base/utf8.h"

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

bool tt_utf8_is_control(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x61c || c == 0x200e || c == 0x200f ||
	       (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}
