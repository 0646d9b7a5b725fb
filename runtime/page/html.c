/* Escapes text from models, policies and prompts. */
#include "runtime/page/html.h"

#include <string.h>

#include "base/utf8.h"

void tt_page_html(FILE *to, const char *text, size_t n)
{
	for (size_t i = 0; i < n;) {
		uint32_t c;
		size_t length = tt_utf8_next(text + i, n - i, &c);
		if (c == '&')
			fputs("&amp;", to);
		else if (c == '<')
			fputs("&lt;", to);
		else if (c == '>')
			fputs("&gt;", to);
		else if (c == '"')
			fputs("&quot;", to);
		else if (c == '\'')
			fputs("&#39;", to);
		else if (tt_utf8_is_unsafe(c) || c == 0xFFFD)
			fputs("\xEF\xBF\xBD", to);
		else
			fwrite(text + i, 1, length, to);
		i += length;
	}
}

void tt_page_html_text(FILE *to, const char *text)
{
	tt_page_html(to, text, strlen(text));
}
