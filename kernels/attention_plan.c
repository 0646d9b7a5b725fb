#include "kernels/attention_plan.h"

#include <string.h>

#include "kernels/ops.h"

struct tt_attention_cut tt_attention_cut_of(uint32_t n_rows, uint32_t group)
{
	uint32_t n_heads = group < n_rows ? group : n_rows;
	return (struct tt_attention_cut){n_rows / n_heads, n_heads, (group + n_rows - 1) / n_rows};
}

bool tt_attention_spreads(uint32_t n_tokens, uint32_t n_heads, uint32_t n_blocks, uint64_t n_splits, uint32_t head_dim)
{
	enum { MOST = 65535 }; /* of a grid in y and z */
	uint64_t n = (uint64_t)n_tokens * n_heads;
	uint64_t bytes = tt_attention_result_floats(TT_ATTENTION_FEW_ROWS, head_dim) * sizeof(float);
	return n < n_blocks && n <= TT_ATTENTION_COUNTERS && n_heads <= MOST && n_splits > 1 && n_splits <= MOST &&
	       n * n_splits * bytes <= TT_ATTENTION_RESULTS;
}

uint32_t tt_attention_splits(const struct tt_attention_cut *cut, uint32_t position, uint32_t window)
{
	uint32_t last = position / cut->n_tokens * cut->n_tokens + cut->n_tokens - 1;
	uint32_t low = window && position + 1 > window ? position + 1 - window : 0;
	return last / TT_SPLIT_KEYS + 1 - low / TT_SPLIT_KEYS;
}

/* The tiles of a step, one after the other. */
struct tiles {
	const struct tt_attention_tokens *tokens;
	const struct tt_attention_cut *cut;
	uint32_t window, at;
};

/* Splits of the next tile; 0: there is none left. */
static uint32_t next_tile(struct tiles *t)
{
	const int32_t *seqs = t->tokens->seqs, *positions = t->tokens->positions;
	uint32_t first = t->at, n_tokens = t->cut->n_tokens, end = first + 1;
	if (first >= t->tokens->n)
		return 0;
	while (end < t->tokens->n && seqs[end] == seqs[first] &&
		(uint32_t)positions[end] / n_tokens == (uint32_t)positions[first] / n_tokens)
		end++;
	t->at = end;
	return tt_attention_splits(t->cut, (uint32_t)positions[first], t->window);
}

static uint64_t divide_up(uint64_t a, uint64_t b)
{
	return (a + b - 1) / b;
}

/* Half splits that the busiest block takes for shares of n splits, of which half a split is to set a share up. */
static uint64_t time_of(uint64_t n, uint64_t most, uint64_t n_tiles, uint32_t n_blocks)
{
	return divide_up(n_tiles * divide_up(most, n), n_blocks) * (2 * n + 1);
}

/* Shares of such a size that blocks end at about the same time, and no smaller than memory for their results allows.
 * n_tiles: times heads. */
static struct tt_attention_share share(
	uint64_t average, uint64_t most, uint64_t n_tiles, uint32_t n_blocks, uint64_t n_room)
{
	struct tt_attention_share out = {0};
	uint64_t results = n_room / n_tiles, least = divide_up(average, 8), best = 2 * most * 4 / 5; /* worth it */
	if (results == 0)
		return out;
	least = results + least < most + 1 ? most + 1 - results : least;
	for (uint64_t n = least; n == least || n <= average; n++) {
		uint64_t time = time_of(n, most, n_tiles, n_blocks);
		if (time > best || (out.n_splits && time == best))
			continue;
		best = time;
		out.n_splits = (uint32_t)n;
	}
	if (!out.n_splits)
		return out;
	out.long_from = (uint32_t)average;
	out.n_shares = (uint32_t)divide_up(most, out.n_splits);
	out.n_results = (uint32_t)most + 1 - out.n_splits;
	return out;
}

struct tt_attention_share tt_attention_share_of(const struct tt_attention_tokens *tokens,
	const struct tt_attention_cut *cut, uint32_t window, uint32_t n_heads, uint32_t n_blocks, uint64_t n_room)
{
	const struct tt_attention_share none = {0};
	struct tiles tiles = {tokens, cut, window, 0};
	uint64_t total = 0, most = 0, n_long = 0, n;
	while ((n = next_tile(&tiles))) {
		total += n;
		most = n > most ? n : most;
	}
	uint64_t average = divide_up(total * n_heads, n_blocks);
	if (most <= TT_ATTENTION_LONG || most <= average)
		return none;
	for (tiles.at = 0; (n = next_tile(&tiles));)
		n_long += n > average;
	struct tt_attention_share out = share(average, most, n_long * n_heads, n_blocks, n_room);
	out.n_tiles = out.long_from ? (uint32_t)n_long : 0;
	return out;
}

/* Deals the tiles of a window: shares of the long ones first, then the others in reverse. splits: of its tiles. */
static void deal(const uint64_t *splits, uint32_t n_tiles, uint32_t n_heads, const struct tt_attention_share *share,
	uint64_t *work, uint32_t n_blocks)
{
	uint64_t at = 0;
	for (uint32_t i = 0; i < n_tiles; i++) {
		if (!share->long_from || splits[i] <= share->long_from)
			continue;
		for (uint64_t k = 0; k < (uint64_t)n_heads * share->n_shares; k++, at++) {
			uint64_t first = k % share->n_shares * share->n_splits, left = splits[i] - first;
			if (first < splits[i])
				work[at % n_blocks] += left < share->n_splits ? left : share->n_splits;
		}
	}
	for (uint32_t i = n_tiles; i-- > 0;)
		for (uint32_t k = 0; k < n_heads && (!share->long_from || splits[i] <= share->long_from); k++)
			work[at++ % n_blocks] += splits[i];
}

uint64_t tt_attention_busiest(const struct tt_attention_tokens *tokens, const struct tt_attention_cut *cut,
	uint32_t window, uint32_t n_heads, uint32_t n_blocks, const struct tt_attention_share *share, uint64_t *work,
	uint64_t *all)
{
	struct tiles tiles = {tokens, cut, window, 0};
	uint64_t *splits = work + n_blocks, most = 0;
	memset(work, 0, n_blocks * sizeof *work);
	for (uint32_t base = 0; base < tokens->n; base += TT_ATTENTION_WINDOW) {
		uint32_t n = 0;
		while (tiles.at < tokens->n && tiles.at - base < TT_ATTENTION_WINDOW)
			splits[n++] = next_tile(&tiles);
		deal(splits, n, n_heads, share, work, n_blocks);
	}
	*all = 0;
	for (uint32_t i = 0; i < n_blocks; i++) {
		*all += work[i];
		most = work[i] > most ? work[i] : most;
	}
	return most;
}
