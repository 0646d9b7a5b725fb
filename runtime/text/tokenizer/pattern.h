/* The patterns of tokenizer.json are written for Oniguruma, in Ruby's syntax, with newer Unicode tables than PCRE2's.
 * This rewrites a pattern so that PCRE2 splits text the same way, and refuses by name every construct for which that is
 * not known to hold. */
#ifndef RUNTIME_TEXT_TOKENIZER_PATTERN_H
#define RUNTIME_TEXT_TOKENIZER_PATTERN_H

#include <stddef.h>

#include "base/memory.h"

enum { TT_PATTERN_MAX_BYTES = 8192 };

/* Appends the PCRE2 form of pattern (n bytes of valid UTF-8). */
int tt_pattern_translate(struct tt_buffer *out, const char *pattern, size_t n, struct tt_error *err);

#endif
