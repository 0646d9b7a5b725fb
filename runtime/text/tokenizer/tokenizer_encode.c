#include "runtime/text/tokenizer/tokenizer_internal.h"

#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "runtime/text/unicode.h"

struct encoder {
	const struct tt_tokenizer *tokenizer;
	const char *text;     /* [n] the whole input */
	const uint8_t *marks; /* [n], or NULL */
	bool with_special;
	struct tt_pretokenize_run run;
	struct tt_bpe_scratch scratch;
	struct tt_buffer normalized, normalized_marks; /* of the present gap, the text between two added tokens */
	struct tt_buffer prefixed;                     /* a part of normalized with a space before it */
	bool first_gap;                                /* the present gap begins the text */
	struct tt_ids *ids;
};

static int add_id(struct tt_ids *ids, int32_t id, struct tt_error *err)
{
	TT_TRY(tt_grow(&ids->data, &ids->capacity, ids->len + 1, sizeof *ids->data, err));
	ids->data[ids->len++] = id;
	return TT_OK;
}

static int take_word(void *state, const char *word, size_t n, struct tt_error *err)
{
	struct encoder *e = state;
	const struct tt_tokenizer *t = e->tokenizer;
	if (t->ignore_merges) {
		int32_t id = tt_span_index_find(&t->by_model, t->pieces, word, n);
		if (id >= 0)
			return add_id(e->ids, id, err);
	}
	return tt_bpe_encode(&t->bpe, &e->scratch, word, n, e->ids, err);
}

/* A special token may contain no marked byte. No token may contain both marked and unmarked bytes: otherwise a user's
 * text could swallow the first byte of a marker that follows it. */
static bool is_allowed(const struct encoder *e, const uint8_t *marks, int32_t id, size_t n)
{
	bool special = e->tokenizer->flags[id] & TT_TOKEN_SPECIAL;
	if (!marks)
		return true; /* cut passes over special tokens that are not wanted */
	if (special && !e->with_special)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!marks[i] != !marks[0])
			return false;
	return !(special && marks[0]);
}

/* The longest allowed token at the beginning of text, or -1. Tokens that are not allowed are ignored, so that they
 * cannot hide an allowed one. */
static int32_t match_at(const struct encoder *e, const struct tt_added *added, const char *text, size_t n,
	const uint8_t *marks, size_t *len)
{
	int32_t best = -1;
	uint32_t node = added->first[(uint8_t)text[0]];
	for (size_t i = 0; node;) {
		int32_t id = added->nodes[node].id;
		i++;
		if (id >= 0 && is_allowed(e, marks, id, i)) {
			best = id;
			*len = i;
		}
		if (i == n)
			break;
		node = added->nodes[node].child;
		while (node && added->nodes[node].byte != (uint8_t)text[i])
			node = added->nodes[node].sibling;
	}
	return best;
}

static size_t strip_left(const char *text, size_t from, size_t n)
{
	while (n > from) {
		uint32_t c;
		size_t start = n - 1;
		while (start > from && ((uint8_t)text[start] & 0xc0) == 0x80)
			start--;
		if (!tt_utf8_decode(text + start, n - start, &c) || !tt_unicode_is_space(c))
			break;
		n = start;
	}
	return n;
}

static size_t strip_right(const char *text, size_t from, size_t n)
{
	uint32_t c;
	size_t len;
	while (from < n && (len = tt_utf8_decode(text + from, n - from, &c)) && tt_unicode_is_space(c))
		from += len;
	return from;
}

typedef int (*take_gap)(struct encoder *e, const char *text, size_t n, struct tt_error *err);

/* Cuts the added tokens out of text: the leftmost match first, the longest of those at one place. The text between them
 * goes to take. */
static int cut(struct encoder *e, const struct tt_added *added, const char *text, size_t n, const uint8_t *marks,
	take_gap take, struct tt_error *err)
{
	size_t done = 0, i = 0;
	if (!added->n_nodes)
		return n ? take(e, text, n, err) : TT_OK;
	while (i < n) {
		size_t len = 0;
		int32_t id = -1;
		if (added->first[(uint8_t)text[i]])
			id = match_at(e, added, text + i, n - i, marks ? marks + i : NULL, &len);
		if (id < 0) {
			i++;
			continue;
		}
		uint8_t flags = e->tokenizer->flags[id];
		if (flags & TT_TOKEN_SPECIAL && !e->with_special) {
			/* As in `tokenizers`: a special token's text stays text, and no other token is found in it. */
			i += len;
			continue;
		}
		size_t start = flags & TT_TOKEN_LSTRIP ? strip_left(text, done, i) : i;
		if (done < start)
			TT_TRY(take(e, text + done, start - done, err));
		TT_TRY(add_id(e->ids, id, err));
		i += len;
		if (flags & TT_TOKEN_RSTRIP)
			i = strip_right(text, i, n);
		done = i;
	}
	return done < n ? take(e, text + done, n - done, err) : TT_OK;
}

/* Whether Metaspace puts a space before text, which is a part of e->normalized. */
static bool wants_space(const struct encoder *e, const char *text)
{
	enum tt_prepend prepend = e->tokenizer->prepend;
	if (*text == ' ')
		return false;
	return prepend == TT_PREPEND_UNLESS ||
	       (prepend == TT_PREPEND_FIRST_GAP && e->first_gap && text == e->normalized.data);
}

static int take_normalized_gap(struct encoder *e, const char *text, size_t n, struct tt_error *err)
{
	if (n && wants_space(e, text)) {
		e->prefixed.len = 0;
		TT_TRY(tt_buffer_add(&e->prefixed, " ", 1, err));
		TT_TRY(tt_buffer_add(&e->prefixed, text, n, err));
		text = e->prefixed.data;
		n = e->prefixed.len;
	}
	return tt_pretokenize(&e->tokenizer->pretokenizer, &e->run, text, n, take_word, e, err);
}

static bool is_ascii(const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((uint8_t)text[i] >= 0x80)
			return false;
	return true;
}

/* Writes text to e->normalized with a space for each U+2581, and a space before it if gaps get one. *marks is changed
 * to the marks of that (NULL if no tokens are to be found in it); the new space is marked as the byte that follows
 * it. */
static int normalise_spaces(struct encoder *e, const char *text, size_t n, const uint8_t **marks, struct tt_error *err)
{
	static const size_t sign = sizeof TT_SPACE_SIGN - 1;
	e->normalized.len = e->normalized_marks.len = 0;
	if (e->tokenizer->prepend == TT_PREPEND_GAPS)
		TT_TRY(tt_buffer_add(&e->normalized, " ", 1, err));
	size_t added = e->normalized.len;
	TT_TRY(tt_plain_spaces(&e->normalized, text, n, err));
	if (!*marks || !e->tokenizer->normalized.n_nodes) {
		*marks = NULL;
		return TT_OK;
	}
	TT_TRY(tt_buffer_add(&e->normalized_marks, *marks, added, err)); /* n is not 0 */
	for (size_t i = 0; i < n; i += n - i >= sign && memcmp(text + i, TT_SPACE_SIGN, sign) == 0 ? sign : 1)
		TT_TRY(tt_buffer_add(&e->normalized_marks, *marks + i, 1, err));
	*marks = (const uint8_t *)e->normalized_marks.data;
	return TT_OK;
}

static int take_raw_gap(struct encoder *e, const char *text, size_t n, struct tt_error *err)
{
	const uint8_t *marks = e->marks ? e->marks + (text - e->text) : NULL;
	e->first_gap = text == e->text;
	if (e->tokenizer->nfc && !is_ascii(text, n)) {
		e->normalized.len = 0;
		TT_TRY(tt_unicode_nfc(&e->normalized, text, n, err));
		text = e->normalized.data;
		n = e->normalized.len;
		marks = NULL;
	}
	if (e->tokenizer->characters) {
		TT_TRY(normalise_spaces(e, text, n, &marks, err));
		text = e->normalized.data;
		n = e->normalized.len;
	}
	return cut(e, &e->tokenizer->normalized, text, n, marks, take_normalized_gap, err);
}

int tt_tokenizer_encode(const struct tt_tokenizer *tokenizer, const char *text, size_t n, const uint8_t *untrusted,
	unsigned flags, struct tt_ids *ids, struct tt_error *err)
{
	struct encoder e = {
		.tokenizer = tokenizer,
		.text = text,
		.marks = untrusted,
		.with_special = flags & TT_ENCODE_SPECIAL,
		.ids = ids,
	};
	size_t before = ids->len, valid = tt_utf8_check(text, n);
	if (valid < n)
		return tt_fail(err, TT_ERR_FORMAT, "text is not valid UTF-8 at byte %zu", valid);
	TT_TRY(tt_pretokenize_begin(&e.run, err));
	int status = TT_OK;
	if (flags & TT_ENCODE_BOS && tokenizer->prefix >= 0)
		status = add_id(ids, tokenizer->prefix, err);
	if (status == TT_OK)
		status = cut(&e, &tokenizer->raw, text, n, untrusted, take_raw_gap, err);
	if (status != TT_OK)
		ids->len = before;
	tt_pretokenize_end(&e.run);
	tt_bpe_scratch_free(&e.scratch);
	tt_buffer_free(&e.normalized);
	tt_buffer_free(&e.normalized_marks);
	tt_buffer_free(&e.prefixed);
	return status;
}
