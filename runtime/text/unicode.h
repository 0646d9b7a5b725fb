/* The parts of Unicode that tokenizers need: white space, numbers, and normalisation form C. */
#ifndef RUNTIME_TEXT_UNICODE_H
#define RUNTIME_TEXT_UNICODE_H

#include "base/memory.h"

/* Unicode's White_Space: what \s means in the patterns of tokenizer.json. (PCRE2's \s also takes U+180E.) */
bool tt_unicode_is_space(uint32_t c);
/* General category N, as of Unicode 17. */
bool tt_unicode_is_numeric(uint32_t c);

/* Appends the NFC form of valid UTF-8, as `tokenizers` 0.23 computes it (its tables are those of Unicode 9). */
int tt_unicode_nfc(struct tt_buffer *out, const char *text, size_t n, struct tt_error *err);

#endif
