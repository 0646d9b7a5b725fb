/* UTF-8: decoding, encoding and checking, and which code points a terminal would act on. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Length of a sequence by its first byte (0 for a byte that starts none), and the range of its second byte, which
 * excludes overlong forms, surrogates and values above U+10FFFF. */
size_t tt_utf8_length(uint8_t first, uint8_t *low, uint8_t *high);

/* Bytes of the code point at text, 0 when text does not start with a whole, valid one (no surrogates, nothing
 * overlong, nothing above U+10FFFF). */
size_t tt_utf8_decode(const char *text, size_t n, uint32_t *out);

/* The code point at text (n > 0 bytes), U+FFFD for a byte that starts none; returns its bytes, at least 1. */
size_t tt_utf8_next(const char *text, size_t n, uint32_t *out);

/* Writes the 1 to 4 bytes of a code point. */
size_t tt_utf8_encode(uint32_t c, char out[4]);
/* The offset of the first byte that is not part of valid UTF-8; n when there is none. */
size_t tt_utf8_check(const char *text, size_t n);
/* The code points of n bytes of valid UTF-8. */
size_t tt_utf8_count(const char *text, size_t n);
/* Checks a terminated text; NULL is valid too. */
bool tt_utf8_is_valid(const char *text);

/* Takes bytes as they come and gives whole code points. A plain value: zero-initialise it. */
struct tt_utf8_stream {
	uint8_t pending[4];
	uint32_t n_pending;
};
/* Takes the bytes of one token, writes the text that is complete to out (room for 3 n + 16 bytes) and returns its
 * length. An invalid sequence becomes U+FFFD, as with Python's errors='replace'; an unfinished one waits for the next
 * call. */
size_t tt_utf8_stream_push(struct tt_utf8_stream *stream, const char *bytes, size_t n, char *out);
/* Writes what is left at the end: nothing, or one U+FFFD. */
size_t tt_utf8_stream_finish(struct tt_utf8_stream *stream, char *out);

/* Whether a character must not be written to a terminal as it is: it moves the cursor, begins a command, breaks the
 * line or changes the direction of the text around it, so that a reader sees something else than what is there.
 * Unicode's Cc, Zl, Zp and Bidi_Control. */
bool tt_utf8_is_control(uint32_t c);
/* The same but for the two that every text may hold: newline and tab. */
bool tt_utf8_is_unsafe(uint32_t c);

#endif
