/* Text that others wrote, as HTML. */
#ifndef PAGE_HTML_H
#define PAGE_HTML_H

#include <stddef.h>
#include <stdio.h>

/* n bytes for HTML text or a quoted attribute: markup escaped; controls and what is not UTF-8 as U+FFFD. */
void tt_page_html(FILE *to, const char *text, size_t n);
void tt_page_html_text(FILE *to, const char *text); /* the same of a terminated text */

#endif
