/* UTF-8 of texts: checking, encoding, white space, and normalisation form C. */
#ifndef RUNTIME_TEXT_UTF8_H
#define RUNTIME_TEXT_UTF8_H

#include "base/memory.h"
#include "base/utf8.h"

/* Writes 1 to 4 bytes. */
size_t tt_utf8_encode(uint32_t c, char out[4]);
/* The offset of the first byte that is not part of valid UTF-8; n when there is none. */
size_t tt_utf8_check(const char *text, size_t n);
/* Of a terminated text; NULL is valid too. */
bool tt_utf8_is_valid(const char *text);

/* Unicode's White_Space: what \s means in the patterns of tokenizer.json. (PCRE2's \s also takes U+180E.) */
bool tt_utf8_is_space(uint32_t c);
/* General category N, up to date with Unicode 17. */
bool tt_utf8_is_numeric(uint32_t c);

/* Appends the NFC form of valid UTF-8, as `tokenizers` 0.23 has it (its tables are those of Unicode 9). */
int tt_utf8_nfc(struct tt_buffer *out, const char *text, size_t n, struct tt_error *err);

#endif
