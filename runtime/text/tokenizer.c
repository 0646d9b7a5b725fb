#include "runtime/text/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/memory.h"
#include "runtime/text/utf8.h"

/* The byte that a character of GPT-2's alphabet stands for, or -1. Printable Latin-1 stands for itself; the other 68
 * bytes, in order, are U+0100 and on. */
static int alphabet_byte(uint32_t c)
{
	if ((c >= 0x21 && c <= 0x7e) || (c >= 0xa1 && c <= 0xac) || (c >= 0xae && c <= 0xff))
		return (int)c;
	if (c >= 0x100 && c <= 0x120)
		return (int)(c - 0x100);
	if (c >= 0x121 && c <= 0x142)
		return (int)(c - 0x121 + 0x7f);
	return c == 0x143 ? 0xad : -1;
}

size_t tt_alphabet_decode(const char *text, size_t n, char *out)
{
	size_t written = 0;
	for (size_t i = 0; i < n;) {
		uint32_t c;
		size_t len = tt_utf8_decode(text + i, n - i, &c);
		int byte = len ? alphabet_byte(c) : -1;
		if (byte < 0)
			return SIZE_MAX;
		out[written++] = (char)byte;
		i += len;
	}
	return written;
}

void tt_vocabulary_free(struct tt_vocabulary *vocabulary)
{
	free(vocabulary->tokens);
	free(vocabulary->flags);
	free(vocabulary->merges);
	tt_pretokenizer_free(&vocabulary->pretokenizer);
	*vocabulary = (struct tt_vocabulary){0};
}

void tt_tokenizer_free(struct tt_tokenizer *tokenizer)
{
	if (!tokenizer)
		return;
	free(tokenizer->pieces);
	free(tokenizer->bytes);
	free(tokenizer->flags);
	tt_span_index_free(&tokenizer->by_text);
	tt_span_index_free(&tokenizer->by_model);
	tt_bpe_free(&tokenizer->bpe);
	tt_pretokenizer_free(&tokenizer->pretokenizer);
	tt_added_free(&tokenizer->raw);
	tt_added_free(&tokenizer->normalized);
	free(tokenizer);
}

/* Token strings are shown in messages by at most this many bytes. */
enum { SHOWN = 60 };

static int shown(const struct tt_span *span)
{
	return (int)(span->len < SHOWN ? span->len : SHOWN);
}

/* Fills pieces, bytes and flags. A model token outside the alphabet keeps its text, as the ByteLevel decoder has it,
 * and can never come out of the model. */
static int add_pieces(struct tt_tokenizer *t, const struct tt_vocabulary *v, struct tt_error *err)
{
	size_t total = 0;
	for (size_t i = 0; i < v->n_tokens; i++)
		if (!tt_add_size(total, v->tokens[i].len, &total))
			return tt_fail(err, TT_ERR_MEMORY, "the vocabulary's text is too large");
	TT_TRY(tt_alloc(&t->bytes, total, 1, err));
	TT_TRY(tt_alloc(&t->pieces, v->n_tokens, sizeof *t->pieces, err));
	TT_TRY(tt_alloc(&t->flags, v->n_tokens, 1, err));
	t->n_pieces = v->n_tokens;
	char *at = t->bytes;
	for (size_t i = 0; i < v->n_tokens; i++) {
		const struct tt_span *token = &v->tokens[i];
		size_t len = SIZE_MAX;
		t->flags[i] = v->flags[i];
		if (tt_utf8_check(token->data, token->len) != token->len)
			return tt_fail(err, TT_ERR_FORMAT, "token %zu is not valid UTF-8", i);
		if (!(t->flags[i] & TT_TOKEN_ADDED) && t->flags[i] & TT_TOKEN_MODEL)
			len = tt_alphabet_decode(token->data, token->len, at);
		if (len == SIZE_MAX) {
			len = token->len;
			if (len)
				memcpy(at, token->data, len);
		}
		t->pieces[i] = (struct tt_span){at, len};
		at += len;
	}
	return TT_OK;
}

/* Enters every byte that a model token stands for alone, and for ignore_merges the model's tokens as bytes. */
static int add_model_tokens(struct tt_tokenizer *t, const struct tt_vocabulary *v, struct tt_error *err)
{
	for (size_t i = 0; i < v->n_tokens; i++) {
		char byte[4];
		bool special = t->flags[i] & TT_TOKEN_SPECIAL;
		int32_t earlier;
		if (!(t->flags[i] & TT_TOKEN_MODEL))
			continue;
		if (v->tokens[i].len <= 2 && tt_alphabet_decode(v->tokens[i].data, v->tokens[i].len, byte) == 1) {
			/* The text of a user could not be spelled without it. */
			if (special)
				return tt_fail(err, TT_ERR_UNSUPPORTED, "special token %zu is a single byte", i);
			t->bpe.byte_id[(uint8_t)byte[0]] = (int32_t)i;
		}
		/* A piece equal to an earlier one is text outside the alphabet, which the model never gives. */
		if (t->ignore_merges && !special)
			TT_TRY(tt_span_index_add(&t->by_model, t->pieces, i, &earlier, err));
	}
	for (int i = 0; v->refuse_missing_bytes && i < 256; i++)
		if (t->bpe.byte_id[i] < 0)
			return tt_fail(err, TT_ERR_UNSUPPORTED,
				"unk_token is not supported where it is used, and no token stands for byte %02x", i);
	return TT_OK;
}

/* The id of a string of the source, or -1. Only model tokens take part in merges. */
static int32_t find_token(const struct tt_vocabulary *v, const struct tt_span_index *index, const char *text, size_t n)
{
	int32_t id = tt_span_index_find(index, v->tokens, text, n);
	return id >= 0 && v->flags[id] & TT_TOKEN_MODEL ? id : -1;
}

/* A merge from, or into, a special token is left out: where special tokens are recognised, the text that would need it
 * has been cut out before; where they are not, it would make one of a user's text. */
static int add_merge(struct tt_tokenizer *t, const struct tt_vocabulary *v, const struct tt_span_index *index,
	size_t rank, struct tt_buffer *joined, struct tt_error *err)
{
	const struct tt_span *left = &v->merges[2 * rank], *right = &v->merges[2 * rank + 1];
	joined->len = 0;
	TT_TRY(tt_buffer_add(joined, left->data, left->len, err));
	TT_TRY(tt_buffer_add(joined, right->data, right->len, err));
	int32_t ids[3] = {
		find_token(v, index, left->data, left->len),
		find_token(v, index, right->data, right->len),
		find_token(v, index, joined->data, joined->len),
	};
	for (int i = 0; i < 3; i++) {
		struct tt_span missing = {joined->data, joined->len};
		if (ids[i] < 0) {
			missing = i == 2 ? missing : i == 1 ? *right : *left;
			return tt_fail(err, TT_ERR_FORMAT, "merge %zu (%.*s %.*s): no token %.*s", rank, shown(left),
				left->data, shown(right), right->data, shown(&missing), missing.data);
		}
	}
	for (int i = 0; i < 3; i++)
		if (v->flags[ids[i]] & TT_TOKEN_SPECIAL)
			return TT_OK;
	struct tt_error why = {0};
	int status = tt_bpe_add_merge(&t->bpe, ids[0], ids[1], (uint32_t)rank, ids[2], &why);
	if (status != TT_OK)
		return tt_fail(err, status, "merge %zu (%.*s %.*s): %s", rank, shown(left), left->data, shown(right),
			right->data, why.message);
	return TT_OK;
}

static int add_merges(struct tt_tokenizer *t, const struct tt_vocabulary *v, struct tt_error *err)
{
	struct tt_span_index index = {0};
	struct tt_buffer joined = {0};
	int status = tt_span_index_init(&index, v->n_tokens, err);
	for (size_t i = 0; status == TT_OK && i < v->n_tokens; i++) {
		int32_t earlier;
		status = tt_span_index_add(&index, v->tokens, i, &earlier, err);
		if (status == TT_OK && earlier >= 0)
			status = tt_fail(err, TT_ERR_FORMAT, "tokens %d and %zu are both %.*s", earlier, i,
				shown(&v->tokens[i]), v->tokens[i].data);
	}
	for (size_t rank = 0; status == TT_OK && rank < v->n_merges; rank++)
		status = add_merge(t, v, &index, rank, &joined, err);
	tt_buffer_free(&joined);
	tt_span_index_free(&index);
	return status;
}

static int add_added(struct tt_tokenizer *t, struct tt_error *err)
{
	struct tt_buffer text = {0};
	for (size_t i = 0; i < t->n_pieces; i++) {
		const struct tt_span *piece = &t->pieces[i];
		if (!(t->flags[i] & TT_TOKEN_ADDED))
			continue;
		if (!(t->flags[i] & TT_TOKEN_NORMALIZED)) {
			TT_TRY(tt_added_insert(&t->raw, piece->data, piece->len, (int32_t)i, err));
			continue;
		}
		/* Which bytes of normalised text a user wrote is not tracked. */
		if (t->nfc && t->flags[i] & TT_TOKEN_SPECIAL)
			return tt_fail(err, TT_ERR_UNSUPPORTED,
				"special token %zu is \"normalized\", which is not supported with normalizer NFC", i);
		if (!t->nfc) {
			TT_TRY(tt_added_insert(&t->normalized, piece->data, piece->len, (int32_t)i, err));
			continue;
		}
		int status = tt_utf8_nfc(&text, piece->data, piece->len, err);
		if (status == TT_OK)
			status = tt_added_insert(&t->normalized, text.data, text.len, (int32_t)i, err);
		tt_buffer_free(&text);
		TT_TRY(status);
	}
	return TT_OK;
}

/* Added tokens first, so that a marker is found by its text even if some model token decodes to the same bytes. */
static int index_pieces(struct tt_tokenizer *t, struct tt_error *err)
{
	int32_t earlier;
	TT_TRY(tt_span_index_init(&t->by_text, t->n_pieces, err));
	for (int added = 1; added >= 0; added--)
		for (size_t i = 0; i < t->n_pieces; i++)
			if (!(t->flags[i] & TT_TOKEN_ADDED) == !added)
				TT_TRY(tt_span_index_add(&t->by_text, t->pieces, i, &earlier, err));
	return TT_OK;
}

/* Each piece behind its length (4 bytes, low byte first), so that no two vocabularies read alike. */
static int compute_digest(struct tt_tokenizer *t, struct tt_error *err)
{
	struct tt_buffer text = {0};
	int status = TT_OK;
	for (size_t i = 0; status == TT_OK && i < t->n_pieces; i++) {
		size_t n = t->pieces[i].len;
		uint8_t length[4] = {(uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), (uint8_t)(n >> 24)};
		status = tt_buffer_add(&text, length, sizeof length, err);
		if (status == TT_OK)
			status = tt_buffer_add(&text, t->pieces[i].data, n, err);
	}
	if (status == TT_OK)
		status = tt_sha256(t->digest, text.data ? text.data : "", text.len, err);
	tt_buffer_free(&text);
	return status;
}

static int fill(struct tt_tokenizer *t, struct tt_vocabulary *v, struct tt_error *err)
{
	if (v->n_tokens == 0 || v->n_tokens > TT_MAX_TOKENS)
		return tt_fail(err, TT_ERR_FORMAT, "a vocabulary of %zu tokens (1 to %d are supported)", v->n_tokens,
			TT_MAX_TOKENS);
	if (v->n_merges > TT_MAX_TOKENS)
		return tt_fail(err, TT_ERR_FORMAT, "%zu merges (at most %d are supported)", v->n_merges, TT_MAX_TOKENS);
	t->ignore_merges = v->ignore_merges;
	t->nfc = v->nfc;
	t->bos = v->bos;
	t->eos = v->eos;
	t->prefix = v->prefix;
	t->pretokenizer = v->pretokenizer;
	v->pretokenizer = (struct tt_pretokenizer){0};
	TT_TRY(add_pieces(t, v, err));
	TT_TRY(tt_bpe_init(&t->bpe, v->n_merges, err));
	if (t->ignore_merges)
		TT_TRY(tt_span_index_init(&t->by_model, v->n_tokens, err));
	TT_TRY(add_model_tokens(t, v, err));
	TT_TRY(add_merges(t, v, err));
	TT_TRY(add_added(t, err));
	TT_TRY(index_pieces(t, err));
	return compute_digest(t, err);
}

int tt_tokenizer_build(struct tt_tokenizer **out, struct tt_vocabulary *vocabulary, struct tt_error *err)
{
	struct tt_tokenizer *tokenizer = NULL;
	TT_TRY(tt_alloc(&tokenizer, 1, sizeof *tokenizer, err));
	int status = fill(tokenizer, vocabulary, err);
	if (status == TT_OK)
		*out = tokenizer;
	else
		tt_tokenizer_free(tokenizer);
	return status;
}

void tt_ids_free(struct tt_ids *ids)
{
	free(ids->data);
	*ids = (struct tt_ids){0};
}

const char *tt_tokenizer_piece(const struct tt_tokenizer *tokenizer, int32_t id, size_t *n)
{
	if (id < 0 || (size_t)id >= tokenizer->n_pieces) {
		*n = 0;
		return "";
	}
	*n = tokenizer->pieces[id].len;
	return tokenizer->pieces[id].data;
}

bool tt_tokenizer_is_special(const struct tt_tokenizer *tokenizer, int32_t id)
{
	return id >= 0 && (size_t)id < tokenizer->n_pieces && tokenizer->flags[id] & TT_TOKEN_SPECIAL;
}

size_t tt_tokenizer_size(const struct tt_tokenizer *tokenizer)
{
	return tokenizer->n_pieces;
}

int32_t tt_tokenizer_find(const struct tt_tokenizer *tokenizer, const char *text, size_t n)
{
	return tt_span_index_find(&tokenizer->by_text, tokenizer->pieces, text, n);
}

int32_t tt_tokenizer_bos(const struct tt_tokenizer *tokenizer)
{
	return tokenizer->bos;
}

int32_t tt_tokenizer_eos(const struct tt_tokenizer *tokenizer)
{
	return tokenizer->eos;
}

const char *tt_tokenizer_digest(const struct tt_tokenizer *tokenizer)
{
	return tokenizer->digest;
}
