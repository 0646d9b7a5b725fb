#include "base/hex.h"

static const char digits[] = "0123456789abcdef";

void tt_hex(char *out, const void *data, size_t n)
{
	const uint8_t *bytes = data;
	for (size_t i = 0; i < n; i++) {
		out[2 * i] = digits[bytes[i] >> 4];
		out[2 * i + 1] = digits[bytes[i] & 15];
	}
	out[2 * n] = 0;
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool tt_hex_parse(uint8_t *out, size_t n, const char *text, size_t n_text)
{
	for (size_t i = 0; n_text == 2 * n && i < n; i++) {
		int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
		if (high < 0 || low < 0)
			return false;
		out[i] = (uint8_t)(16 * high + low);
	}
	return n_text == 2 * n;
}
