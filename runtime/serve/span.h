/* Parts of a header, of which no string is made. */
#ifndef RUNTIME_SERVE_SPAN_H
#define RUNTIME_SERVE_SPAN_H

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "base/string_index.h"

/* Whatever the case of its ASCII letters. */
static inline bool tt_span_is(struct tt_span span, const char *text)
{
	return span.len == strlen(text) && strncasecmp(span.data, text, span.len) == 0;
}

static inline bool tt_span_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* Without the spaces and tabs around it. */
static inline struct tt_span tt_span_trim(struct tt_span span)
{
	for (; span.len && tt_span_blank(*span.data); span.len--)
		span.data++;
	while (span.len && tt_span_blank(span.data[span.len - 1]))
		span.len--;
	return span;
}

#endif
