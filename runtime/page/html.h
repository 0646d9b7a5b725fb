/* Writes text that others wrote as HTML. */
#ifndef PAGE_HTML_H
#define PAGE_HTML_H

#include <stddef.h>
#include <stdio.h>

/* Writes n bytes for HTML text or a quoted attribute: markup is escaped; controls and invalid UTF-8 become U+FFFD. */
void tt_page_html(FILE *to, const char *text, size_t n);
void tt_page_html_text(FILE *to, const char *text); /* the same for a terminated text */

#endif
