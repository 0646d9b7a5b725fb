/* Chooses the kernel of the family by the number of rows that the grid must hold, never by the plan. No choice changes
 * a bit. */
#ifndef KERNELS_CUDA_PRODUCT_LAUNCH_CUH
#define KERNELS_CUDA_PRODUCT_LAUNCH_CUH

#include "kernels/cuda/fast.h"

#ifdef TT_EMU
#define PRODUCT_KERNEL(kernel, name) tt_emu_kernel(kernel, name)
#else
#define PRODUCT_KERNEL(kernel, name) ((const void *)(kernel))
#endif

struct product_call {
	const char *name;
	uint32_t n_tokens; /* rows that the grid is made for */
	uint64_t bytes;    /* moved besides the operands */
};

static inline uint32_t product_larger(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

/* The weights of a product that reads n matrices, which load.c packed one after the other. */
static inline int product_matrix_of(
	struct product_matrix *to, const struct tt_matrix *const *m, uint32_t n, const char *name, struct tt_error *err)
{
	uint32_t tile = 0;
	*to = {};
	to->first = m[0]->data;
	for (uint32_t i = 0; i < n; tile += m[i++]->n_out / PRODUCT_TILE) {
		size_t tile_row = tt_quant_tile_row(m[i]->type, m[i]->n_in);
		bool follows = i && m[i]->type == m[i - 1]->type;
		if (i && !follows && !(tt_quant_kept(m[i]->type) && tt_quant_kept(m[i - 1]->type)))
			return tt_fail(err, TT_ERR_ARGUMENT, "%s: bf16 beside quantised weights", name);
		if (follows && (const uint8_t *)m[i]->data !=
				       (const uint8_t *)m[i - 1]->data + m[i - 1]->n_out / PRODUCT_TILE * tile_row)
			return tt_fail(err, TT_ERR_ARGUMENT, "%s: the matrices are not packed as one", name);
		if (tt_quant_kept(m[i]->type) && !follows)
			to->parts[to->n_parts++] = {
				(const unsigned char *)m[i]->data, tile_row, tile, (uint32_t)m[i]->type};
	}
	return TT_OK;
}

/* Bytes of the weights. */
static inline uint64_t product_weight_bytes(const struct product *p)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < p->w.n_parts; i++)
		sum += ((i + 1 < p->w.n_parts ? p->w.parts[i + 1].first_tile : p->n_tiles) - p->w.parts[i].first_tile) *
		       p->w.parts[i].tile_row;
	return p->w.n_parts ? sum : (uint64_t)p->n_rows * p->n_in * sizeof(tt_bf16);
}

template <typename op>
static int product_run(struct tt_cuda *cuda, const op *a, const struct product_call *how, const void *kernel,
	uint32_t row_tiles, uint32_t tokens, uint32_t shared_bytes, struct tt_error *err)
{
	op own = *a;
	void *args[] = {&own};
	uint64_t operands = product_weight_bytes(&a->p) + (uint64_t)how->n_tokens * a->p.n_in * sizeof(tt_bf16);
	struct tt_launch launch = {how->name,
		dim3((how->n_tokens + tokens - 1) / tokens, (a->p.n_tiles + row_tiles - 1) / row_tiles),
		dim3(PRODUCT_THREADS), shared_bytes, cuda->stream, operands + how->bytes,
		(uint64_t)2 * a->p.n_rows * a->p.n_in * how->n_tokens, cuda->dependent, &cuda->counters};
	if (launch.grid.y > 65535)
		return tt_fail(
			err, TT_ERR_UNSUPPORTED, "%s: %u rows are more than a grid holds", how->name, a->p.n_rows);
	return tt_cuda_launch(cuda, &launch, kernel, args, err);
}

template <typename op, int row_tiles, int token_tiles, int stages> static uint32_t product_narrow_shared(uint32_t n_in)
{
	uint32_t rings = PRODUCT_WARPS * stages * (row_tiles * 2 + token_tiles) * PRODUCT_FRAGMENT;
	uint32_t sums = product_slices(n_in) * token_tiles * 8 * product_stride(row_tiles) * 4;
	return product_header_bytes(row_tiles, token_tiles * 8) + product_larger(rings, sums);
}

template <typename op, int row_tiles, int token_tiles, int stages>
static int product_run_narrow(struct tt_cuda *cuda, const op *a, const struct product_call *how, struct tt_error *err)
{
	const void *kernel = PRODUCT_KERNEL((product_narrow<op, row_tiles, token_tiles, stages>), how->name);
	return product_run(cuda, a, how, kernel, row_tiles, token_tiles * 8,
		product_narrow_shared<op, row_tiles, token_tiles, stages>(a->p.n_in), err);
}

template <typename op, int row_tiles, int stages> static uint32_t product_wide_shared(uint32_t n_in)
{
	(void)n_in;
	uint32_t rings = stages * (row_tiles * 2 + PRODUCT_WIDE_TOKENS / 8) * PRODUCT_FRAGMENT;
	uint32_t sums = PRODUCT_WIDE_TOKENS * product_stride(row_tiles) * 4;
	return product_header_bytes(row_tiles, PRODUCT_WIDE_TOKENS) + product_larger(rings, sums);
}

template <typename op, int row_tiles, int stages>
static int product_run_wide(struct tt_cuda *cuda, const op *a, const struct product_call *how, struct tt_error *err)
{
	const void *kernel = PRODUCT_KERNEL((product_wide<op, row_tiles, stages>), how->name);
	return product_run(cuda, a, how, kernel, row_tiles, PRODUCT_WIDE_TOKENS,
		product_wide_shared<op, row_tiles, stages>(a->p.n_in), err);
}

template <typename op, int row_tiles, int token_tiles, int stages>
static uint32_t product_narrow_quants_shared(uint32_t n_in)
{
	uint32_t rings = PRODUCT_WARPS * stages * token_tiles * PRODUCT_FRAGMENT;
	uint32_t sums = product_slices(n_in) * token_tiles * 8 * product_stride(row_tiles) * 4;
	return product_header_bytes(row_tiles, token_tiles * 8) + product_larger(rings, sums);
}

template <typename op, int row_tiles, int token_tiles, int stages>
static int product_run_narrow_quants(
	struct tt_cuda *cuda, const op *a, const struct product_call *how, struct tt_error *err)
{
	const void *kernel = PRODUCT_KERNEL((product_narrow_quants<op, row_tiles, token_tiles, stages>), how->name);
	return product_run(cuda, a, how, kernel, row_tiles, token_tiles * 8,
		product_narrow_quants_shared<op, row_tiles, token_tiles, stages>(a->p.n_in), err);
}

template <typename op, int row_tiles, int stages>
static int product_run_wide_quants(
	struct tt_cuda *cuda, const op *a, const struct product_call *how, struct tt_error *err)
{
	const void *kernel = PRODUCT_KERNEL((product_wide_quants<op, row_tiles, stages>), how->name);
	return product_run(cuda, a, how, kernel, row_tiles, PRODUCT_WIDE_TOKENS,
		product_wide_shared<op, row_tiles, stages>(a->p.n_in), err);
}

/* Runs the op's epilogue on a product that --fast made. */
template <typename op, int row_tiles>
static int product_run_apply(
	struct tt_cuda *cuda, const op *a, const struct product_call *how, const float *y, struct tt_error *err)
{
	op own = *a;
	void *args[] = {&own, &y};
	uint32_t shared_bytes = product_header_bytes(row_tiles, PRODUCT_APPLY_TOKENS) +
				PRODUCT_APPLY_TOKENS * product_stride(row_tiles) * 4;
	struct tt_launch launch = {how->name,
		dim3((how->n_tokens + PRODUCT_APPLY_TOKENS - 1) / PRODUCT_APPLY_TOKENS,
			(a->p.n_tiles + row_tiles - 1) / row_tiles),
		dim3(PRODUCT_THREADS), shared_bytes, cuda->stream,
		(uint64_t)4 * a->p.n_rows * how->n_tokens + how->bytes, 0, cuda->dependent, &cuda->counters};
	const void *kernel = PRODUCT_KERNEL((product_apply<op, row_tiles>), how->name);
	return tt_cuda_launch(cuda, &launch, kernel, args, err);
}

/* A line of the table below. Where unless_tiles is not 0, the line is passed over if blocks of that many row tiles and
 * of unless_tokens tokens (0: of all tokens) are enough for three quarters of the multiprocessors; only whole blocks
 * count. A line whose block needs more shared memory than the device gives one is passed over too. */
template <typename op> struct product_choice {
	uint32_t most_tokens; /* of the grid */
	uint32_t unless_tiles, unless_tokens;
	int (*run)(struct tt_cuda *, const op *, const struct product_call *, struct tt_error *);
	uint32_t (*shared)(uint32_t n_in); /* bytes of a block */
};

/* The first line that fits. A block of more row tiles reads a token's x less often; a block of fewer leaves a small
 * matrix blocks for every multiprocessor. There are as many stages as shared memory holds. The lines without a
 * condition of their own need no more than TT_CUDA_LEAST_SHARED. */
template <typename op>
static const product_choice<op> *product_choose(
	const struct tt_cuda *cuda, uint32_t most_shared, const struct product *p, uint32_t n)
{
	enum { MANY = 0x7fffffff, WIDE = PRODUCT_WIDE_TOKENS };
	/* narrow: row tiles, token tiles of 8, stages; wide: row tiles, stages */
#define NARROW(...) product_run_narrow<op, __VA_ARGS__>, product_narrow_shared<op, __VA_ARGS__>
#define NARROW_QUANTS(...) product_run_narrow_quants<op, __VA_ARGS__>, product_narrow_quants_shared<op, __VA_ARGS__>
#define WIDE_QUANTS(...) product_run_wide_quants<op, __VA_ARGS__>, product_wide_shared<op, __VA_ARGS__>
#define WIDE_OF(...) product_run_wide<op, __VA_ARGS__>, product_wide_shared<op, __VA_ARGS__>
	/* Quantised weights: fewer shapes, since each has a loop for every type. All fit where there are 99 KB. */
	static const product_choice<op> of_quants[] = {
		{8, 0, 0, NARROW_QUANTS(1, 1, 4)},
		{32, 0, 0, NARROW_QUANTS(2, 4, 2)},
		{64, 0, 0, NARROW_QUANTS(2, 8, 2)},
		{MANY, 0, 0, WIDE_QUANTS(8, 4)},
	};
	static const product_choice<op> choices[] = {
		/* decode reads little but weights: one tile a block, which also gives small matrices enough blocks */
		{8, 0, 0, NARROW(1, 1, 4)},
		/* one tile would read more of x than of weights; with a fourth stage sm_90 has no room for a second
		 * block */
		{32, 0, 0, NARROW(2, 4, 3)},
		/* a small matrix at up to 64 tokens: the next line would leave multiprocessors without a block */
		{64, 4, 0, NARROW(2, 8, 3)},
		/* two stages: three are 196 KB of shared memory, and sm_80 has 163 */
		{64, 0, 0, NARROW(4, 8, 2)},
		/* the same where there are 99 KB, which the two lines above do not fit into; a larger matrix is wide */
		{64, 4, 0, NARROW(1, 8, 2)},
		/* a small matrix or a short prefill: the next line would leave multiprocessors without a block */
		{MANY, 8, WIDE, WIDE_OF(4, 4)},
		/* 128 by 128 outputs a block, the most that 256 threads hold in registers */
		{MANY, 0, 0, WIDE_OF(8, 4)},
	};
#undef NARROW
#undef WIDE_OF
#undef NARROW_QUANTS
#undef WIDE_QUANTS
	const product_choice<op> *c = p->w.n_parts ? of_quants : choices;
	for (;; c++) {
		uint32_t token_blocks = c->unless_tokens ? n / c->unless_tokens : 1;
		if (n > c->most_tokens || c->shared(p->n_in) > most_shared)
			continue;
		if (!c->unless_tiles || p->n_tiles / c->unless_tiles * token_blocks < cuda->n_sms * 3 / 4)
			return c;
	}
}

template <typename op>
static int product_launch(struct tt_cuda *cuda, const op *a, const struct product_call *how, struct tt_error *err)
{
	uint32_t n = how->n_tokens, most_shared = 0;
	if (n == 0)
		return TT_OK;
	TT_TRY(tt_cuda_most_shared(cuda, &most_shared, err));
	if constexpr (op::FAST) {
		const float *y = NULL;
		TT_TRY(tt_cuda_fast_product(cuda, a->p.w.first, a->p.x, a->p.n_rows, a->p.n_in, n, &y, err));
		if (y)
			return product_run_apply<op, 8>(cuda, a, how, y, err);
	}
	return product_choose<op>(cuda, most_shared, &a->p, n)->run(cuda, a, how, err);
}

#endif
