#include "runtime/text/tokenizer/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "base/sha256.h"
#include "base/utf8.h"
#include "runtime/text/unicode.h"

/* The byte that a character of GPT-2's alphabet stands for, or -1. Printable Latin-1 characters stand for themselves;
 * the other 68 bytes, in order, are U+0100 and the characters that follow it. */
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

int tt_plain_spaces(struct tt_buffer *out, const char *text, size_t n, struct tt_error *err)
{
	static const size_t sign = sizeof TT_SPACE_SIGN - 1;
	size_t done = 0;
	for (size_t i = 0; i + sign <= n;) {
		if (memcmp(text + i, TT_SPACE_SIGN, sign) != 0) {
			i++;
			continue;
		}
		TT_TRY(tt_buffer_add(out, text + done, i - done, err));
		TT_TRY(tt_buffer_add(out, " ", 1, err));
		done = i += sign;
	}
	return tt_buffer_add(out, text + done, n - done, err);
}

void tt_vocabulary_free(struct tt_vocabulary *vocabulary)
{
	free(vocabulary->tokens);
	free(vocabulary->flags);
	free(vocabulary->merges);
	free(vocabulary->scores);
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

/* Messages show at most so many bytes of a token. */
enum { SHOWN = 60 };

static int shown(const struct tt_span *span)
{
	return (int)(span->len < SHOWN ? span->len : SHOWN);
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int tt_byte_token(const struct tt_span *token)
{
	const char *text = token->data;
	if (token->len != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>' || hex_digit(text[3]) < 0 ||
		hex_digit(text[4]) < 0)
		return -1;
	return hex_digit(text[3]) << 4 | hex_digit(text[4]);
}

/* Appends the bytes that a token stands for in a decoded text. A model token with characters outside the alphabet keeps
 * its text, as in `tokenizers`' ByteLevel decoder, and encoding can never give it. */
static int add_piece(struct tt_buffer *bytes, const struct tt_vocabulary *v, size_t i, struct tt_error *err)
{
	const struct tt_span *token = &v->tokens[i];
	bool is_model = v->flags[i] & TT_TOKEN_MODEL && !(v->flags[i] & TT_TOKEN_ADDED);
	if (v->characters && v->flags[i] & TT_TOKEN_BYTE) {
		char byte = (char)tt_byte_token(token);
		return tt_buffer_add(bytes, &byte, 1, err);
	}
	if (v->characters && !(v->flags[i] & TT_TOKEN_SPECIAL))
		return tt_plain_spaces(bytes, token->data, token->len, err);
	size_t before = bytes->len;
	TT_TRY(tt_buffer_add(bytes, token->data, token->len, err));
	if (is_model && !v->characters) {
		/* The spelling has at least as many bytes as the bytes that it stands for, so there is room. */
		size_t len = token->len ? tt_alphabet_decode(token->data, token->len, bytes->data + before) : 0;
		if (len != SIZE_MAX)
			bytes->len = before + len;
		else
			memcpy(bytes->data + before, token->data, token->len);
	}
	return TT_OK;
}

/* Fills pieces, bytes and flags. */
static int add_pieces(struct tt_tokenizer *t, const struct tt_vocabulary *v, struct tt_error *err)
{
	struct tt_buffer bytes = {0};
	TT_TRY(tt_alloc(&t->pieces, v->n_tokens, sizeof *t->pieces, err));
	TT_TRY(tt_alloc(&t->flags, v->n_tokens, 1, err));
	t->n_pieces = v->n_tokens;
	int status = TT_OK;
	for (size_t i = 0; status == TT_OK && i < v->n_tokens; i++) {
		size_t before = bytes.len;
		t->flags[i] = v->flags[i];
		if (tt_utf8_check(v->tokens[i].data, v->tokens[i].len) != v->tokens[i].len)
			status = tt_fail(err, TT_ERR_FORMAT, "token %zu is not valid UTF-8", i);
		else if (v->flags[i] & TT_TOKEN_BYTE && !v->characters)
			status = tt_fail(err, TT_ERR_UNSUPPORTED,
				"token %zu is a byte of its own, which byte-level BPE has no use for", i);
		else if (v->flags[i] & TT_TOKEN_BYTE && tt_byte_token(&v->tokens[i]) < 0)
			status = tt_fail(err, TT_ERR_FORMAT, "token %zu is a byte, and %.*s does not spell one", i,
				shown(&v->tokens[i]), v->tokens[i].data);
		else
			status = add_piece(&bytes, v, i, err);
		t->pieces[i].len = bytes.len - before;
	}
	t->bytes = bytes.data; /* only now, since the buffer moves while it grows */
	const char *at = bytes.data ? bytes.data : "";
	for (size_t i = 0; i < v->n_tokens; i++) {
		t->pieces[i].data = at;
		at += t->pieces[i].len;
	}
	return status;
}

/* If the token is a single byte or character, enters it as the id of that symbol. */
static int add_symbol(struct tt_tokenizer *t, const struct tt_vocabulary *v, size_t i, struct tt_error *err)
{
	const struct tt_span *token = &v->tokens[i];
	bool special = t->flags[i] & TT_TOKEN_SPECIAL;
	char byte[4];
	uint32_t c;
	if (v->characters && v->flags[i] & TT_TOKEN_BYTE) {
		t->bpe.byte_id[tt_byte_token(token)] = (int32_t)i;
		return TT_OK;
	}
	if (v->characters) {
		if (special || token->len == 0 || tt_utf8_decode(token->data, token->len, &c) != token->len || c == ' ')
			return TT_OK; /* a space is spelled U+2581, so this token cannot occur */
		return tt_bpe_add_character(&t->bpe, c == 0x2581 ? ' ' : c, (int32_t)i, err);
	}
	if (token->len > 2 || tt_alphabet_decode(token->data, token->len, byte) != 1)
		return TT_OK;
	if (special) /* a user's text could not be encoded without it */
		return tt_fail(err, TT_ERR_UNSUPPORTED, "special token %zu is a single byte", i);
	t->bpe.byte_id[(uint8_t)byte[0]] = (int32_t)i;
	return TT_OK;
}

/* Enters the symbols and, for ignore_merges, the bytes of the model's tokens. */
static int add_model_tokens(struct tt_tokenizer *t, const struct tt_vocabulary *v, struct tt_error *err)
{
	if (v->characters)
		TT_TRY(tt_bpe_init_characters(&t->bpe, v->n_tokens, err));
	for (size_t i = 0; i < v->n_tokens; i++) {
		int32_t earlier;
		if (!(t->flags[i] & TT_TOKEN_MODEL))
			continue;
		TT_TRY(add_symbol(t, v, i, err));
		/* A piece equal to an earlier one is spelled outside the alphabet, and encoding never gives it. */
		if (t->ignore_merges && !(t->flags[i] & TT_TOKEN_SPECIAL))
			TT_TRY(tt_span_index_add(&t->by_model, t->pieces, i, &earlier, err));
	}
	for (int i = 0; v->refuse_missing_bytes && i < 256; i++)
		if (t->bpe.byte_id[i] < 0)
			return tt_fail(err, TT_ERR_UNSUPPORTED,
				"unk_token is not supported where it is used, and no token stands for byte %02x", i);
	return TT_OK;
}

/* The id of the model token with this spelling, or -1. Only model tokens take part in merges. */
static int32_t find_token(const struct tt_vocabulary *v, const struct tt_span_index *index, const char *text, size_t n)
{
	int32_t id = tt_span_index_find(index, v->tokens, text, n);
	return id >= 0 && v->flags[id] & TT_TOKEN_MODEL ? id : -1;
}

/* A merge from or into a special token is left out: where special tokens are recognised, the text that would need it
 * has been cut out before; where they are not, it would make a special token out of a user's text. */
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
	if (status == TT_OK)
		status = v->scores ? tt_tokenizer_add_scored_merges(&t->bpe, v, &index, err)
				   : tt_bpe_init(&t->bpe, v->n_merges, err);
	for (size_t rank = 0; status == TT_OK && rank < v->n_merges; rank++)
		status = add_merge(t, v, &index, rank, &joined, err);
	tt_buffer_free(&joined);
	tt_span_index_free(&index);
	return status;
}

/* The text of an added token after normalisation. */
static int normalise(
	const struct tt_vocabulary *v, const struct tt_span *token, struct tt_buffer *text, struct tt_error *err)
{
	text->len = 0;
	if (v->nfc)
		return tt_unicode_nfc(text, token->data, token->len, err);
	if (v->prepend == TT_PREPEND_GAPS && token->len)
		TT_TRY(tt_buffer_add(text, " ", 1, err));
	return v->characters ? tt_plain_spaces(text, token->data, token->len, err)
			     : tt_buffer_add(text, token->data, token->len, err);
}

static int add_added(struct tt_tokenizer *t, const struct tt_vocabulary *v, struct tt_error *err)
{
	struct tt_buffer text = {0};
	int status = TT_OK;
	for (size_t i = 0; status == TT_OK && i < v->n_tokens; i++) {
		const struct tt_span *token = &v->tokens[i];
		if (!(v->flags[i] & TT_TOKEN_ADDED))
			continue;
		if (!(v->flags[i] & TT_TOKEN_NORMALIZED)) {
			status = tt_added_insert(&t->raw, token->data, token->len, (int32_t)i, err);
			continue;
		}
		/* In text normalised to NFC it is not known which bytes came from a user. */
		if (v->nfc && v->flags[i] & TT_TOKEN_SPECIAL)
			status = tt_fail(err, TT_ERR_UNSUPPORTED,
				"special token %zu is \"normalized\", which is not supported with normalizer NFC", i);
		if (status == TT_OK)
			status = normalise(v, token, &text, err);
		if (status == TT_OK)
			status = tt_added_insert(&t->normalized, text.data, text.len, (int32_t)i, err);
	}
	tt_buffer_free(&text);
	return status;
}

/* Enters added tokens first, so that a marker is found even if some model token decodes to the same bytes. */
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

/* Hashes each piece after its length (4 bytes, low byte first), so that different vocabularies give different bytes. */
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
	t->characters = v->characters;
	t->prepend = v->prepend;
	t->strips_space = v->strips_space;
	t->bos = v->bos;
	t->eos = v->eos;
	t->prefix = v->prefix;
	t->pretokenizer = v->pretokenizer;
	v->pretokenizer = (struct tt_pretokenizer){0};
	TT_TRY(add_pieces(t, v, err));
	TT_TRY(add_merges(t, v, err));
	if (t->ignore_merges)
		TT_TRY(tt_span_index_init(&t->by_model, v->n_tokens, err));
	TT_TRY(add_model_tokens(t, v, err));
	TT_TRY(add_added(t, v, err));
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

int tt_tokenizer_decode(
	const struct tt_tokenizer *tokenizer, const int32_t *ids, size_t n_ids, char **text, struct tt_error *err)
{
	struct tt_buffer out = {0};
	struct tt_utf8_stream stream = {0};
	bool strip = tokenizer->strips_space;
	int status = TT_OK;
	for (size_t i = 0; i < n_ids && status == TT_OK; i++) {
		size_t n = 0;
		if (tt_tokenizer_is_special(tokenizer, ids[i]))
			continue;
		const char *piece = tt_tokenizer_piece(tokenizer, ids[i], &n);
		if (strip && n && *piece == ' ') {
			piece++;
			n--;
		}
		strip = false;
		status = tt_grow(&out.data, &out.capacity, out.len + 3 * n + 32, 1, err);
		if (status == TT_OK)
			out.len += tt_utf8_stream_push(&stream, piece, n, out.data + out.len);
	}
	if (status == TT_OK)
		status = tt_grow(&out.data, &out.capacity, out.len + 32, 1, err);
	if (status != TT_OK) {
		tt_buffer_free(&out);
		return status;
	}
	out.len += tt_utf8_stream_finish(&stream, out.data + out.len);
	out.data[out.len] = 0;
	*text = out.data;
	return TT_OK;
}
