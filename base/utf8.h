/* UTF-8: one code point at a time, and which of them a terminal would act on. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Length of a sequence by its first byte, 0 for a byte that starts none, and the range of its second byte: that is
 * where overlong forms, surrogates and values above U+10FFFF are told apart. */
size_t tt_utf8_length(uint8_t first, uint8_t *low, uint8_t *high);

/* Bytes of the code point at text, 0 when text does not start with a whole, valid one (no surrogates, nothing
 * overlong, nothing above U+10FFFF). */
size_t tt_utf8_decode(const char *text, size_t n, uint32_t *out);

/* Not to be written to a terminal as it is: it moves the cursor, begins a command, breaks the line or turns the
 * direction of what is around it, so that a reader sees something else than what is there. Unicode's Cc, Zl, Zp and
 * Bidi_Control. */
bool tt_utf8_is_control(uint32_t c);

#endif
