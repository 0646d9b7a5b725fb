#include "runtime/text/unicode.h"

#include <utf8proc.h>

bool tt_unicode_is_space(uint32_t c)
{
	return (c >= 0x9 && c <= 0xd) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
	       (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool tt_unicode_is_numeric(uint32_t c)
{
	/* Characters that the tables of utf8proc 2.8 (Unicode 15) do not have yet. */
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
