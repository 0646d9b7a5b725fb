/* SentencePiece's BPE: two neighbours merge if together they are a token; the best score goes first, then the leftmost.
 * This makes a table of merges of that: one for every way to cut a token into two tokens, ranked by the score of the
 * whole token. */
#include "runtime/text/tokenizer/tokenizer_internal.h"

#include <math.h>
#include <stdlib.h>

#include "base/fail.h"
#include "base/memory.h"
#include "base/utf8.h"

/* Every cut of a token is looked up, in time quadratic in its length. The longest published token has 93 bytes. */
enum { MAX_SCORED_BYTES = 1024 };

struct scored {
	float score;
	uint32_t id;
};

struct ranking {
	const struct tt_vocabulary *v;
	struct scored *order;    /* [n_tokens] best first */
	uint32_t *rank;          /* [n_tokens]; equal scores share one */
	struct tt_merge *merges; /* [n] */
	size_t n, capacity;
};

static int by_score(const void *a, const void *b)
{
	float left = ((const struct scored *)a)->score, right = ((const struct scored *)b)->score;
	return (left < right) - (left > right);
}

static int rank_tokens(struct ranking *r, struct tt_error *err)
{
	size_t n = r->v->n_tokens;
	TT_TRY(tt_alloc(&r->order, n, sizeof *r->order, err));
	TT_TRY(tt_alloc(&r->rank, n, sizeof *r->rank, err));
	for (size_t i = 0; i < n; i++) {
		if (!isfinite(r->v->scores[i]))
			return tt_fail(err, TT_ERR_FORMAT, "the score of token %zu is not finite", i);
		r->order[i] = (struct scored){r->v->scores[i], (uint32_t)i};
	}
	qsort(r->order, n, sizeof *r->order, by_score);
	for (size_t i = 1; i < n; i++) {
		bool worse = r->order[i].score < r->order[i - 1].score;
		r->rank[r->order[i].id] = r->rank[r->order[i - 1].id] + worse;
	}
	return TT_OK;
}

/* The token that may take part in merges and has this text, or -1. Added tokens take no part, since they have been cut
 * out of the text before or must not arise from it; neither do byte tokens, which stand only for their byte. */
static int32_t find_part(const struct ranking *r, const struct tt_span_index *index, const char *text, size_t n)
{
	int32_t id = tt_span_index_find(index, r->v->tokens, text, n);
	if (id < 0 || !(r->v->flags[id] & TT_TOKEN_MODEL) || r->v->flags[id] & (TT_TOKEN_ADDED | TT_TOKEN_BYTE))
		return -1;
	return id;
}

static int add_cuts(struct ranking *r, const struct tt_span_index *index, size_t id, struct tt_error *err)
{
	const struct tt_span *token = &r->v->tokens[id];
	uint32_t c;
	size_t len;
	if (find_part(r, index, token->data, token->len) != (int32_t)id)
		return TT_OK;
	if (token->len > MAX_SCORED_BYTES)
		return tt_fail(
			err, TT_ERR_LIMIT, "token %zu has %zu bytes (limit %d)", id, token->len, MAX_SCORED_BYTES);
	for (size_t at = 0; at < token->len; at += len) {
		len = tt_utf8_decode(token->data + at, token->len - at, &c);
		if (!len)
			return tt_fail(err, TT_ERR_FORMAT, "token %zu is not valid UTF-8", id);
		if (len == token->len)
			return TT_OK;
		/* SentencePiece can make such a token from symbols that have no id, which this table cannot. */
		if (find_part(r, index, token->data + at, len) < 0)
			return tt_fail(err, TT_ERR_UNSUPPORTED, "token %zu holds a character that is no token", id);
		if (at == 0)
			continue;
		int32_t left = find_part(r, index, token->data, at);
		int32_t right = find_part(r, index, token->data + at, token->len - at);
		if (left < 0 || right < 0)
			continue;
		TT_TRY(tt_grow(&r->merges, &r->capacity, r->n + 1, sizeof *r->merges, err));
		r->merges[r->n++] =
			(struct tt_merge){(uint64_t)(uint32_t)left << 32 | (uint32_t)right, r->rank[id], (int32_t)id};
	}
	return TT_OK;
}

int tt_tokenizer_add_scored_merges(
	struct tt_bpe *bpe, const struct tt_vocabulary *v, const struct tt_span_index *index, struct tt_error *err)
{
	struct ranking r = {.v = v};
	int status = rank_tokens(&r, err);
	for (size_t i = 0; status == TT_OK && i < v->n_tokens; i++)
		status = add_cuts(&r, index, i, err);
	if (status == TT_OK)
		status = tt_bpe_init(bpe, r.n, err);
	for (size_t i = 0; status == TT_OK && i < r.n; i++)
		status = tt_bpe_add_merge(bpe, (int32_t)(r.merges[i].pair >> 32), (int32_t)(uint32_t)r.merges[i].pair,
			r.merges[i].rank, r.merges[i].id, err);
	free(r.order);
	free(r.rank);
	free(r.merges);
	return status;
}
