/* From bytes of a text back to the ids that hold them. The pieces of the ids spell the text, but for what the
 * tokenizer changes before it splits: it may put spaces before gaps, write U+2581 as a space, let added tokens take
 * the white space beside them, and compose characters. */
#include <string.h>

#include "base/fail.h"
#include "base/utf8.h"
#include "runtime/text/tokenizer/tokenizer_internal.h"
#include "runtime/text/unicode.h"

/* The length of the white space at the beginning of text. */
static size_t space_at(const char *text, size_t n)
{
	uint32_t c;
	size_t len = n ? tt_utf8_decode(text, n, &c) : 0;
	return len && tt_unicode_is_space(c) ? len : 0;
}

/* Moves *at past what one byte of a piece stands for; false if the text goes on in another way. */
static bool pass(const char *text, size_t n, size_t *at, char byte)
{
	static const size_t sign = sizeof TT_SPACE_SIGN - 1;
	while (*at == n || text[*at] != byte) {
		size_t space = space_at(text + *at, n - *at);
		if (byte == ' ') { /* the sign, or a space that the tokenizer added */
			if (n - *at >= sign && memcmp(text + *at, TT_SPACE_SIGN, sign) == 0)
				*at += sign;
			return true;
		}
		if (space == 0)
			return false;
		*at += space;
	}
	++*at;
	return true;
}

static void walk(const struct tt_tokenizer *t, const char *text, size_t n, size_t first, size_t end,
	const struct tt_ids *ids, size_t *from, size_t *to)
{
	size_t at = 0, begin = 0, after = 0;
	for (size_t i = 0; i < ids->len; i++) {
		size_t n_piece, start = at;
		const char *piece = tt_tokenizer_piece(t, ids->data[i], &n_piece);
		for (size_t k = 0; k < n_piece; k++)
			if (!pass(text, n, &at, piece[k]))
				return;
		if (start >= end || at <= first || at == start)
			continue;
		begin = after ? begin : i;
		after = i + 1;
	}
	while (space_at(text + at, n - at))
		at += space_at(text + at, n - at);
	if (at < n)
		return;
	*from = begin;
	*to = after;
}

int tt_tokenizer_locate(const struct tt_tokenizer *t, const char *text, size_t n, size_t first, size_t end,
	const struct tt_ids *ids, size_t *from, size_t *to, struct tt_error *err)
{
	struct tt_buffer composed = {0};
	int status = TT_OK;
	*from = *to = 0;
	if (t->nfc) { /* by parts, so that it is known where they end */
		status = tt_unicode_nfc(&composed, text, first, err);
		size_t new_first = composed.len;
		if (status == TT_OK)
			status = tt_unicode_nfc(&composed, text + first, end - first, err);
		size_t new_end = composed.len;
		if (status == TT_OK)
			status = tt_unicode_nfc(&composed, text + end, n - end, err);
		text = composed.data;
		n = composed.len;
		first = new_first;
		end = new_end;
	}
	if (status == TT_OK && n > 0)
		walk(t, text, n, first, end, ids, from, to);
	tt_buffer_free(&composed);
	return status;
}
