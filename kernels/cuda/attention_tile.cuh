/* The work of one block of attention: some contiguous tokens of one sequence, with the query heads that share a key
 * head, and the block's shared memory.
 *
 * Row r of a tile is head r % n_heads of token r / n_heads, so that one read of keys and values serves them all as the
 * M operand of the products. Which tokens share a tile changes no bit: every number of a row comes from its own query
 * and from keys at absolute positions, in an order that is fixed by those. */
#ifndef KERNELS_CUDA_ATTENTION_TILE_CUH
#define KERNELS_CUDA_ATTENTION_TILE_CUH

#include "kernels/attention_plan.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/ptx/barrier.cuh"
#include "kernels/cuda/ptx/memory.cuh"
#include "kernels/cuda/ptx/shared.cuh"
#include "kernels/cuda/ptx/warp.cuh"

enum {
	STAGE_PAGES = 4,
	STAGE_KEYS = STAGE_PAGES * TT_PAGE_TOKENS,
	SPLIT_STAGES = TT_SPLIT_KEYS / STAGE_KEYS,
	SPLIT_PAGES = TT_SPLIT_KEYS / TT_PAGE_TOKENS,
	PAD = 16, /* bytes after a row in shared memory: 8 rows at one column are then in different banks */
	WEIGHT_STRIDE = TT_SPLIT_KEYS * 2 + PAD,
	WINDOW = TT_ATTENTION_WINDOW,
	MERGED = 32,    /* splits whose factors are made together */
	LONG_TIMES = 2, /* what a block has on average, which makes a tile of a decode step long */
};

struct attention_kernel_args {
	const struct tt_step_plan *plan; // device
	const tt_bf16 *q;                // [n_tokens][n_heads * head_dim]
	tt_bf16 *out;                    // [n_tokens][n_heads * head_dim]
	const void *kv;                  // [n_pages][2][n_kv_heads][TT_PAGE_TOKENS][head_dim], of the layer
	const tt_bf16 *scales;           // [n_pages][2][n_kv_heads][TT_PAGE_TOKENS] of it where kv is fp8
	float *partial;     // [tokens, or n_shared][kv heads * parts][n_results] of tt_attention_result_floats numbers
	uint32_t *arrivals; // [the same]
	uint32_t n_heads, n_kv_heads, head_dim, group, window;
	uint32_t tile_tokens;         /* tiles are cut at positions that are multiples of it */
	uint32_t tile_heads, n_parts; /* a group with more heads than a tile has rows takes several parts */
	/* results that blocks that share a tile leave, one of each split but for the first share's, which leaves its
	 * totals. 1: a block takes tile after tile, with all their splits. Where n_shared is not 0 it does so too, but
	 * of tiles that are long beside the others so many may be shared */
	uint32_t n_results, n_shared;
	uint32_t n_shares, share_splits; /* of a tile; of a share: 1 in decode */
	uint32_t long_from;              /* splits of which a tile has more that is shared; 0: the kernel finds them */
	float scale, soft_cap;           /* soft_cap: of a scaled score; 0: none */
};

/* m_tiles: tiles of 16 rows; n_tiles: tiles of 8 output columns, the most for a warp; stages: stages of keys or values
 * under way; blocks: of a multiprocessor, as many as sm_90's shared memory holds: they must have registers; fp8: keys
 * and values are of eight bits. */
template <int m_tiles, int warps, int n_tiles, int stages, int blocks, bool fp8> struct attention_shape {
	enum {
		M_TILES = m_tiles,
		WARPS = warps,
		N_TILES = n_tiles,
		STAGES = stages,
		BLOCKS = blocks,
		FP8 = fp8,
		ROWS = 16 * m_tiles,
		THREADS = TT_WARP * warps,
		KEY_GROUPS = warps / m_tiles,             /* warps that share the keys of one m tile */
		KEY_PAGES = STAGE_PAGES * m_tiles / warps /* pages of a stage that a warp scores */
	};
};

/* Pointers into a block's shared memory. */
template <typename shape> struct attention_shared {
	unsigned char *q;       // bf16 [ROWS][head_dim] with padding; at the end it holds the output
	unsigned char *weights; // bf16 [ROWS][TT_SPLIT_KEYS] with padding
	unsigned char *ring;    // bf16 [STAGES, of fp8 1][STAGE_KEYS][head_dim] with padding
	unsigned char *codes;   // fp8 [STAGES][STAGE_KEYS][head_dim]
	tt_bf16 *scales;        // [STAGES][STAGE_KEYS] of the codes
	float *group_max;       // [KEY_GROUPS][ROWS]
	float *page_sums;       // [SPLIT_PAGES][ROWS]
	float *max, *sum;       // [ROWS] of the splits so far
	float *old, *fresh;     // [ROWS] the factors of the splits so far, and of the newest
	uint32_t *positions;    // [ROWS] one more than the row's position; 0: no row
	uint32_t *pages;        // [2][SPLIT_PAGES]
	uint32_t *tiles;        // [WINDOW] first tokens
	uint32_t *masks;        // [WINDOW / 32], and one word in which one thread answers all others
	uint32_t *splits;       // [WINDOW / 32] of the tiles of a word of masks, then which of them are long
};

static __host__ __device__ __forceinline__ uint32_t attention_stride(uint32_t head_dim)
{
	return head_dim * 2 + PAD;
}

/* Of the weights and the ring, in place of which a merge has its own (attention_merge.cuh). */
template <typename shape> static __host__ __device__ __forceinline__ uint32_t attention_ring_bytes(uint32_t head_dim)
{
	uint32_t ring = (shape::FP8 ? 1 : shape::STAGES) * STAGE_KEYS * attention_stride(head_dim);
	uint32_t codes = shape::FP8 ? shape::STAGES * STAGE_KEYS * (head_dim + (uint32_t)sizeof(tt_bf16)) : 0;
	uint32_t all = shape::ROWS * WEIGHT_STRIDE + ring + codes, merge = shape::ROWS * (3 * MERGED + head_dim) * 4;
	return all > merge ? all : merge;
}

template <typename shape> static __host__ __device__ __forceinline__ uint32_t attention_shared_bytes(uint32_t head_dim)
{
	uint32_t words =
		shape::ROWS * (shape::KEY_GROUPS + SPLIT_PAGES + 5) + 2 * SPLIT_PAGES + WINDOW + 2 * (WINDOW / 32) + 1;
	return shape::ROWS * attention_stride(head_dim) + attention_ring_bytes<shape>(head_dim) + words * 4;
}

template <typename shape>
TT_DEVICE struct attention_shared<shape> attention_shared_at(unsigned char *memory, uint32_t head_dim) {
	struct attention_shared<shape> s;
	s.q = memory;
	s.weights = s.q + shape::ROWS * attention_stride(head_dim);
	s.ring = s.weights + shape::ROWS * WEIGHT_STRIDE;
	s.codes = s.ring + (shape::FP8 ? 1 : shape::STAGES) * STAGE_KEYS * attention_stride(head_dim);
	s.scales = (tt_bf16 *)(s.codes + (shape::FP8 ? shape::STAGES * STAGE_KEYS * head_dim : 0));
	s.group_max = (float *)(s.weights + attention_ring_bytes<shape>(head_dim));
	s.page_sums = s.group_max + shape::KEY_GROUPS * shape::ROWS;
	s.max = s.page_sums + SPLIT_PAGES * shape::ROWS;
	s.sum = s.max + shape::ROWS;
	s.old = s.sum + shape::ROWS;
	s.fresh = s.old + shape::ROWS;
	s.positions = (uint32_t *)(s.fresh + shape::ROWS);
	s.pages = s.positions + shape::ROWS;
	s.tiles = s.pages + 2 * SPLIT_PAGES;
	s.masks = s.tiles + WINDOW;
	s.splits = s.masks + WINDOW / 32 + 1;
	return s;
}

struct attention_tile {
	uint32_t first, n_tokens;              /* tokens of the step */
	uint32_t kv_head, first_head, n_heads; /* query heads, in the group */
	uint32_t n_rows;
	const int32_t *pages;      // device, of the sequence
	uint32_t key_low, key_end; /* range of keys that any row sees */
	uint32_t all_low, all_end; /* range of keys that all rows see */
	uint32_t first_split, end_split;
};

TT_DEVICE const int32_t *plan_array(const struct tt_step_plan *plan, const uint32_t *offset)
{
	return (const int32_t *)((const char *)plan + tt_load_4(offset, TT_TRAFFIC_PLAN));
}

TT_DEVICE uint32_t count_bits(uint32_t x)
{
	x -= x >> 1 & 0x55555555u;
	x = (x & 0x33333333u) + (x >> 2 & 0x33333333u);
	return ((x + (x >> 4)) & 0x0f0f0f0fu) * 0x01010101u >> 24;
}

/* Whether tokens b and c of the step belong to one tile. */
TT_DEVICE bool same_tile(
	const struct attention_kernel_args *a, const int32_t *seqs, const int32_t *positions, uint32_t b, uint32_t c)
{
	return tt_load_4(seqs + b, TT_TRAFFIC_PLAN) == tt_load_4(seqs + c, TT_TRAFFIC_PLAN) &&
	       tt_load_4(positions + b, TT_TRAFFIC_PLAN) / a->tile_tokens ==
		       tt_load_4(positions + c, TT_TRAFFIC_PLAN) / a->tile_tokens;
}

TT_DEVICE bool begins_tile(const struct attention_kernel_args *a, uint32_t token, uint32_t n_tokens)
{
	const int32_t *seqs = plan_array(a->plan, &a->plan->seqs);
	const int32_t *positions = plan_array(a->plan, &a->plan->positions);
	return token < n_tokens && (token == 0 || !same_tile(a, seqs, positions, token - 1, token));
}

/* head: key head * n_parts + part. All threads get the same result. */
TT_DEVICE struct attention_tile tile_at(
	const struct attention_kernel_args *a, uint32_t first, uint32_t n_tokens, uint32_t head)
{
	const int32_t *seqs = plan_array(a->plan, &a->plan->seqs);
	const int32_t *positions = plan_array(a->plan, &a->plan->positions);
	struct attention_tile t = {first, 0, head / a->n_parts, head % a->n_parts * a->tile_heads, a->tile_heads, 0,
		NULL, 0, 0, 0, 0, 0, 0};
	TT_ROLLED
	for (uint32_t i = 0; i < a->tile_tokens; i += TT_WARP) {
		uint32_t token = first + i + tt_lane();
		bool inside = i + tt_lane() < a->tile_tokens && token < n_tokens &&
			      same_tile(a, seqs, positions, first, token);
		t.n_tokens += count_bits(tt_ballot(inside));
	}
	if (t.first_head + t.n_heads > a->group)
		t.n_heads = a->group - t.first_head;
	t.n_rows = t.n_tokens * t.n_heads;
	uint32_t seq = tt_load_4(seqs + first, TT_TRAFFIC_PLAN),
		 max_pages = tt_load_4(&a->plan->max_pages, TT_TRAFFIC_PLAN);
	t.pages = plan_array(a->plan, &a->plan->pages) + (size_t)seq * max_pages;
	uint32_t sees = tt_load_4(positions + first, TT_TRAFFIC_PLAN) + 1;
	t.key_low = a->window && sees > a->window ? sees - a->window : 0;
	t.key_end = tt_load_4(positions + first + t.n_tokens - 1, TT_TRAFFIC_PLAN) + 1;
	t.all_low = a->window && t.key_end > a->window ? t.key_end - a->window : 0;
	t.all_end = sees;
	t.first_split = t.key_low / TT_SPLIT_KEYS;
	t.end_split = (t.key_end - 1) / TT_SPLIT_KEYS + 1;
	return t;
}

/* First element of a row, in q and in the output. */
TT_DEVICE size_t row_at(const struct attention_kernel_args *a, const struct attention_tile *t, uint32_t row)
{
	uint32_t token = t->first + row / t->n_heads;
	uint32_t head = t->kv_head * a->group + t->first_head + row % t->n_heads;
	return ((size_t)token * a->n_heads + head) * a->head_dim;
}

#endif
