/* What a block of attention takes next, where blocks take tile after tile: it lists the tiles of a step by the plan,
 * and of those that blocks share their shares, each of as many splits. Every block makes the same list, and takes every
 * gridDim.x-th of it. */
#ifndef KERNELS_CUDA_ATTENTION_LIST_CUH
#define KERNELS_CUDA_ATTENTION_LIST_CUH

#include "kernels/cuda/attention_tile.cuh"

/* Splits of the tile that begins with a token. Of a prompt's, as many as it may have (tt_attention_splits); of a decode
 * step's, where it has no other. */
TT_DEVICE uint32_t splits_of(const struct attention_kernel_args *a, uint32_t token)
{
	uint32_t n_tokens = a->long_from ? a->tile_tokens : 1;
	uint32_t end = tt_load_4(plan_array(a->plan, &a->plan->positions) + token, TT_TRAFFIC_PLAN) + 1;
	uint32_t low = a->window && end > a->window ? end - a->window : 0;
	return ((end - 1) / n_tokens * n_tokens + n_tokens - 1) / TT_SPLIT_KEYS + 1 - low / TT_SPLIT_KEYS;
}

/* Which tiles of the window that begins at base are long, into s->splits: those of more than a->long_from splits, or
 * else of more than LONG_TIMES those that a block has on average. */
template <typename shape>
TT_DEVICE void find_long(const struct attention_kernel_args *a, const struct attention_shared<shape> *s, uint32_t base)
{
	uint32_t most = a->long_from;
	TT_ROLLED
	for (uint32_t pass = most ? 1 : 0; pass < 2; pass++) {
		TT_ROLLED
		for (uint32_t c = tt_warp(); c < WINDOW / 32; c += shape::WARPS) {
			bool begins = tt_shared_load_4(s->masks + c) >> tt_lane() & 1;
			uint32_t n = begins ? splits_of(a, base + c * 32 + tt_lane()) : 0;
			/* a graph may have been made for shorter sequences */
			uint32_t longs = tt_ballot(n > most && (a->long_from || n <= a->n_results));
			TT_ROLLED
			for (uint32_t lanes = TT_WARP / 2; lanes; lanes /= 2)
				n += tt_shuffle_xor(n, lanes);
			if (tt_lane() == 0)
				tt_shared_store_4(s->splits + c, pass ? longs : n);
		}
		tt_sync_block();
		if (pass)
			return;
		TT_ROLLED
		for (uint32_t c = 0; c < WINDOW / 32; c++)
			most += tt_shared_load_4(s->splits + c);
		most = LONG_TIMES * (most * a->n_kv_heads * a->n_parts / gridDim.x);
		most = most > TT_ATTENTION_LONG ? most : (uint32_t)TT_ATTENTION_LONG;
		tt_sync_block();
	}
}

/* Lists the tiles that begin among the WINDOW tokens from base on: from the start those of one block each, whose number
 * is the result, and from the end the n_long that blocks share; before those are n_before of earlier tokens. */
template <typename shape, bool may_share>
TT_DEVICE uint32_t list_tiles(const struct attention_kernel_args *a, const struct attention_shared<shape> *s,
	uint32_t base, uint32_t n_tokens, uint32_t n_before, uint32_t *n_long)
{
	bool shares = may_share && a->n_shared && (base == 0 || a->long_from);
	uint32_t n = 0;
	*n_long = 0;
	TT_ROLLED
	for (uint32_t c = tt_warp(); c < WINDOW / 32; c += shape::WARPS) {
		uint32_t mask = tt_ballot(begins_tile(a, base + c * 32 + tt_lane(), n_tokens));
		if (tt_lane() == 0)
			tt_shared_store_4(s->masks + c, mask);
	}
	tt_sync_block();
	if (shares)
		find_long<shape>(a, s, base);
	TT_ROLLED
	for (uint32_t c = 0; c < WINDOW / 32; c++) {
		uint32_t mask = tt_shared_load_4(s->masks + c), longs = shares ? tt_shared_load_4(s->splits + c) : 0;
		uint32_t below = (1u << tt_lane()) - 1, at = *n_long + count_bits(longs & below);
		if (shares)
			longs = tt_ballot((longs >> tt_lane() & 1) && n_before + at < a->n_shared);
		mask &= ~longs;
		if (c % shape::WARPS == tt_warp() && (mask | longs) >> tt_lane() & 1)
			tt_shared_store_4(
				s->tiles + (longs >> tt_lane() & 1 ? WINDOW - 1 - at : n + count_bits(mask & below)),
				base + c * 32 + tt_lane());
		n += count_bits(mask);
		*n_long += count_bits(longs);
	}
	tt_sync_block();
	return n;
}

/* What a block takes of a tile. */
struct part {
	uint32_t split, end; /* which splits */
	bool alone;          /* it takes all */
	bool each;           /* leaves a result of each, not of all of them together */
	uint32_t index;      /* of the tile and head, among those that are shared */
};

/* A block's way through the tiles. */
struct tiles {
	uint32_t base; /* the first token of the window of which tiles are listed */
	/* long tiles of the windows before, and of it */
	uint32_t n_before, n_long;
	/* of the window: shares of long tiles, and after them the others, times heads; the next */
	uint32_t n_shares, n, at;
};

/* What a block takes next: a tile by its first token, a head, and which share of it, or all. */
struct turn {
	uint32_t first, head, share, index; /* index: of the tile and head, among those that are shared */
	bool alone;
};

/* Lists the tiles of the next window. False where there is none left. */
template <typename shape, bool may_share>
TT_DEVICE bool next_window(const struct attention_kernel_args *a, const struct attention_shared<shape> *s,
	uint32_t n_tokens, struct tiles *tiles)
{
	uint32_t n_heads = a->n_kv_heads * a->n_parts;
	if (tiles->base >= n_tokens)
		return false;
	tiles->n_before += tiles->n_long;
	tiles->n = list_tiles<shape, may_share>(a, s, tiles->base, n_tokens, tiles->n_before, &tiles->n_long) * n_heads;
	tiles->n_shares = tiles->n_long * n_heads * a->n_shares;
	tiles->n += tiles->n_shares;
	tiles->at = blockIdx.x;
	tiles->base += WINDOW;
	return true;
}

/* Of the listed tiles: a share of a long one that it has, or a whole one, these in reverse: the last have the most
 * keys. False where there is none left. */
template <typename shape, bool may_share>
TT_DEVICE bool next_listed(const struct attention_kernel_args *a, const struct attention_shared<shape> *s,
	uint32_t n_tokens, struct tiles *tiles, struct turn *turn)
{
	uint32_t n_heads = a->n_kv_heads * a->n_parts;
	TT_ROLLED
	for (;;) {
		uint32_t at = tiles->at, entry;
		if (at >= tiles->n) {
			if (!next_window<shape, may_share>(a, s, n_tokens, tiles))
				return false;
			continue;
		}
		tiles->at += gridDim.x;
		turn->alone = !may_share || at >= tiles->n_shares;
		turn->share = 0;
		if (turn->alone) {
			at -= tiles->n_shares;
			entry = (tiles->n - tiles->n_shares - 1 - at) / n_heads;
		} else {
			turn->share = at % a->n_shares;
			at /= a->n_shares;
			entry = WINDOW - 1 - at / n_heads;
		}
		turn->first = tt_shared_load_4(s->tiles + entry);
		turn->head = at % n_heads;
		turn->index = tiles->n_before * n_heads + at;
		/* one of fewer splits than the longest has fewer shares, and is left without reading more of it */
		if (turn->alone || turn->share * a->share_splits < splits_of(a, turn->first))
			return true;
	}
}

/* The next tile of a block, and what it takes of it: where blocks share all tiles, its one tile with one split, or with
 * all where there is one or are more than blocks; otherwise tile after tile of those that begin in the step. False
 * where there is none left. */
template <typename shape, bool may_share>
TT_DEVICE bool next_tile(const struct attention_kernel_args *a, const struct attention_shared<shape> *s,
	uint32_t n_tokens, struct tiles *tiles, struct attention_tile *t, struct part *p)
{
	bool spread = may_share && a->n_results > 1 && !a->n_shared;
	TT_ROLLED
	for (;;) {
		struct turn turn = {blockIdx.x, blockIdx.y, blockIdx.z, blockIdx.x * gridDim.y + blockIdx.y, false};
		if (spread && (tiles->at++ || !begins_tile(a, turn.first, n_tokens)))
			return false;
		if (!spread && !next_listed<shape, may_share>(a, s, n_tokens, tiles, &turn))
			return false;
		*t = tile_at(a, turn.first, n_tokens, turn.head);
		uint32_t n = t->end_split - t->first_split, share = a->share_splits;
		p->alone = !may_share || turn.alone || n <= share || (spread && n > a->n_results);
		p->each = turn.share > 0;
		p->index = turn.index;
		p->split = t->first_split + turn.share * share;
		p->end = p->alone || p->split + share > t->end_split ? t->end_split : p->split + share;
		if (p->alone ? turn.share == 0 : p->split < t->end_split)
			return true;
	}
}

#endif
