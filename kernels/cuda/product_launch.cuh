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

/* A kernel of the family and its shape. */
template <typename op> struct product_shape {
	const void *(*kernel)(const char *name);
	uint32_t (*shared)(uint32_t n_in); /* bytes of a block */
	uint32_t row_tiles, tokens;        /* of a block, or of a cluster */
	uint32_t cluster;                  /* blocks, or 0 */
};

template <typename op> static dim3 product_grid(const product_shape<op> &shape, const struct product *p, uint32_t n)
{
	return dim3((n + shape.tokens - 1) / shape.tokens * product_larger(shape.cluster, 1),
		(p->n_tiles + shape.row_tiles - 1) / shape.row_tiles);
}

template <typename op>
static int product_run(struct tt_cuda *cuda, const op *a, const struct product_call *how,
	const product_shape<op> &shape, struct tt_error *err)
{
	op own = *a;
	void *args[] = {&own};
	uint64_t operands = product_weight_bytes(&a->p) + (uint64_t)how->n_tokens * a->p.n_in * sizeof(tt_bf16);
	struct tt_launch launch = {how->name, product_grid(shape, &a->p, how->n_tokens), dim3(PRODUCT_THREADS),
		shape.shared(a->p.n_in), cuda->stream, operands + how->bytes,
		(uint64_t)2 * a->p.n_rows * a->p.n_in * how->n_tokens, cuda->dependent, &cuda->counters, shape.cluster};
	if (launch.grid.y > 65535)
		return tt_fail(
			err, TT_ERR_UNSUPPORTED, "%s: %u rows are more than a grid holds", how->name, a->p.n_rows);
	return tt_cuda_launch(cuda, &launch, shape.kernel(how->name), args, err);
}

/* The address of each kernel; the emulator registers it under the op's name. */
#define PRODUCT_KERNEL_OF(family)                                                                                      \
	template <typename op, int... shape> static const void *family##_kernel(const char *name)                      \
	{                                                                                                              \
		(void)name;                                                                                            \
		return PRODUCT_KERNEL((family<op, shape...>), name);                                                   \
	}
PRODUCT_KERNEL_OF(product_narrow)
PRODUCT_KERNEL_OF(product_wide)
PRODUCT_KERNEL_OF(product_cluster)
PRODUCT_KERNEL_OF(product_narrow_quants)
PRODUCT_KERNEL_OF(product_wide_quants)
PRODUCT_KERNEL_OF(product_cluster_quants)
#undef PRODUCT_KERNEL_OF

/* rings: bytes of all warps' stages. */
static inline uint32_t product_narrow_bytes(uint32_t n_in, uint32_t row_tiles, uint32_t token_tiles, uint32_t rings)
{
	uint32_t sums = product_slices(n_in) * token_tiles * 8 * product_stride(row_tiles) * 4;
	return product_header_bytes(row_tiles, token_tiles * 8) + product_larger(rings, sums);
}

template <int row_tiles, int token_tiles, int stages> static uint32_t product_narrow_shared(uint32_t n_in)
{
	return product_narrow_bytes(n_in, row_tiles, token_tiles,
		PRODUCT_WARPS * stages * (row_tiles * 2 + token_tiles) * PRODUCT_FRAGMENT);
}

template <int row_tiles, int token_tiles, int stages> static uint32_t product_narrow_quants_shared(uint32_t n_in)
{
	return product_narrow_bytes(
		n_in, row_tiles, token_tiles, PRODUCT_WARPS * stages * token_tiles * PRODUCT_FRAGMENT);
}

template <int row_tiles, int stages> static uint32_t product_wide_shared(uint32_t n_in)
{
	(void)n_in;
	uint32_t rings = stages * (row_tiles * 2 + PRODUCT_WIDE_TOKENS / 8) * PRODUCT_FRAGMENT;
	uint32_t sums = PRODUCT_WIDE_TOKENS * product_stride(row_tiles) * 4;
	return product_header_bytes(row_tiles, PRODUCT_WIDE_TOKENS) + product_larger(rings, sums);
}

template <int row_tiles, int token_tiles, int stages> static uint32_t product_cluster_shared(uint32_t n_in)
{
	(void)n_in;
	typedef product_cluster_shape<row_tiles, token_tiles> shape;
	uint32_t sums = shape::TOKENS * product_stride(row_tiles) * 4;
	return product_header_bytes(row_tiles, shape::OWN) + product_larger(stages * shape::STAGE_BYTES, sums);
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

/* A line of the tables below. Where unless_tiles is not 0, the line is passed over if blocks of that many row tiles and
 * of unless_tokens tokens (0: of all tokens) are enough for the multiprocessors, in steps of more than
 * PRODUCT_CLUSTER_MOST tokens for three quarters of them; only whole blocks count. A line whose block needs more shared
 * memory than the device gives one is passed over too. */
template <typename op> struct product_choice {
	uint32_t most_tokens; /* of the grid */
	uint32_t unless_tiles, unless_tokens;
	product_shape<op> shape;
};

enum { PRODUCT_MANY = 0x7fffffff, PRODUCT_CLUSTER_LEAST = 9, PRODUCT_CLUSTER_MOST = 256 };

/* narrow, cluster: row tiles, token tiles of 8, stages; wide: row tiles, stages */
#define SHAPE_NARROW(r, t, s)                                                                                          \
	{                                                                                                              \
		product_narrow_kernel<op, r, t, s>, product_narrow_shared<r, t, s>, r, t * 8, 0                        \
	}
#define SHAPE_WIDE(r, s)                                                                                               \
	{                                                                                                              \
		product_wide_kernel<op, r, s>, product_wide_shared<r, s>, r, PRODUCT_WIDE_TOKENS, 0                    \
	}
#define SHAPE_CLUSTER(r, t, s)                                                                                         \
	{                                                                                                              \
		product_cluster_kernel<op, r, t, s>, product_cluster_shared<r, t, s>, r, t * 8, PRODUCT_CLUSTER        \
	}
#define SHAPE_NARROW_QUANTS(r, t, s)                                                                                   \
	{                                                                                                              \
		product_narrow_quants_kernel<op, r, t, s>, product_narrow_quants_shared<r, t, s>, r, t * 8, 0          \
	}
#define SHAPE_WIDE_QUANTS(r, s)                                                                                        \
	{                                                                                                              \
		product_wide_quants_kernel<op, r, s>, product_wide_shared<r, s>, r, PRODUCT_WIDE_TOKENS, 0             \
	}
#define SHAPE_CLUSTER_QUANTS(r, t, s)                                                                                  \
	{                                                                                                              \
		product_cluster_quants_kernel<op, r, t, s>, product_cluster_shared<r, t, s>, r, t * 8, PRODUCT_CLUSTER \
	}

/* The first line that fits. A block of more row tiles reads a token's x less often; a block of fewer leaves a small
 * matrix blocks for every multiprocessor. There are as many stages as shared memory holds. The lines without a
 * condition of their own need no more than TT_CUDA_LEAST_SHARED. */
template <typename op>
static const product_shape<op> *product_choose_alone(
	const struct tt_cuda *cuda, uint32_t most_shared, const struct product *p, uint32_t n)
{
	enum { WIDE = PRODUCT_WIDE_TOKENS };
	/* Quantised weights: fewer shapes, since each has a loop for every type. All fit where there are 99 KB. */
	static const product_choice<op> of_quants[] = {
		{8, 0, 0, SHAPE_NARROW_QUANTS(1, 1, 4)},
		{32, 0, 0, SHAPE_NARROW_QUANTS(2, 4, 2)},
		{64, 0, 0, SHAPE_NARROW_QUANTS(2, 8, 2)},
		{PRODUCT_MANY, 0, 0, SHAPE_WIDE_QUANTS(8, 4)},
	};
	static const product_choice<op> choices[] = {
		/* decode reads little but weights: one tile a block, which also gives small matrices enough blocks */
		{8, 0, 0, SHAPE_NARROW(1, 1, 4)},
		/* one tile would read more of x than of weights; with a fourth stage sm_90 has no room for a second
		 * block */
		{32, 0, 0, SHAPE_NARROW(2, 4, 3)},
		/* a small matrix at up to 64 tokens: the next line would leave multiprocessors without a block */
		{64, 4, 0, SHAPE_NARROW(2, 8, 3)},
		/* two stages: three are 196 KB of shared memory, and sm_80 has 163 */
		{64, 0, 0, SHAPE_NARROW(4, 8, 2)},
		/* the same where there are 99 KB, which the two lines above do not fit into; a larger matrix is wide */
		{64, 4, 0, SHAPE_NARROW(1, 8, 2)},
		/* a small matrix or a short prefill: the next line would leave multiprocessors without a block */
		{PRODUCT_MANY, 8, WIDE, SHAPE_WIDE(4, 4)},
		/* 128 by 128 outputs a block, the most that 256 threads hold in registers */
		{PRODUCT_MANY, 0, 0, SHAPE_WIDE(8, 4)},
	};
	uint32_t enough = n > PRODUCT_CLUSTER_MOST ? cuda->n_sms * 3 / 4 : cuda->n_sms;
	for (const product_choice<op> *c = p->w.n_parts ? of_quants : choices;; c++) {
		uint32_t token_blocks = c->unless_tokens ? n / c->unless_tokens : 1;
		if (n > c->most_tokens || c->shape.shared(p->n_in) > most_shared)
			continue;
		if (!c->unless_tiles || p->n_tiles / c->unless_tiles * token_blocks < enough)
			return &c->shape;
	}
}

/* The same among clusters, or NULL. */
template <typename op>
static const product_shape<op> *product_choose_cluster(uint32_t most_shared, const struct product *p, uint32_t n)
{
	/* quantised: a tile a warp, and a block of more rows would not have one part's alone */
	static const product_shape<op> of_quants[] = {
		SHAPE_CLUSTER_QUANTS(8, 4, 4), SHAPE_CLUSTER_QUANTS(8, 8, 4), SHAPE_CLUSTER_QUANTS(8, 16, 4)};
	/* 224 rows, so that 64 tokens' x is less than 0.3 of the weights, and 4096 rows are more blocks than an H200
	 * has multiprocessors, which 256 rows would miss by four; of 128 tokens so many rows leave no registers for a
	 * second block */
	static const product_shape<op> shapes[] = {
		SHAPE_CLUSTER(14, 4, 4), SHAPE_CLUSTER(14, 8, 4), SHAPE_CLUSTER(8, 16, 4)};
	const product_shape<op> *shape = p->w.n_parts ? of_quants : shapes;
	if (n < PRODUCT_CLUSTER_LEAST || n > PRODUCT_CLUSTER_MOST || product_slices(p->n_in) < PRODUCT_CLUSTER)
		return NULL;
	while (n > shape->tokens && shape->tokens < PRODUCT_WIDE_TOKENS)
		shape++;
	return shape->shared(p->n_in) <= most_shared ? shape : NULL;
}
#undef SHAPE_NARROW
#undef SHAPE_WIDE
#undef SHAPE_CLUSTER
#undef SHAPE_NARROW_QUANTS
#undef SHAPE_WIDE_QUANTS
#undef SHAPE_CLUSTER_QUANTS

/* A cluster where there are clusters and blocks alone would be fewer than the multiprocessors; and of bf16 up to 64
 * tokens, whose blocks alone read up to twice as much of x as of weights. Which is faster, no GPU has said: a cluster's
 * weights begin to come after the wait for the kernel before, and eight blocks must find room in one group of
 * multiprocessors. */
template <typename op>
static const product_shape<op> *product_choose(
	const struct tt_cuda *cuda, uint32_t most_shared, const struct product *p, uint32_t n)
{
	const product_shape<op> *alone = product_choose_alone<op>(cuda, most_shared, p, n), *cluster = NULL;
	if (cuda->clusters)
		cluster = product_choose_cluster<op>(most_shared, p, n);
	const dim3 grid = product_grid(*alone, p, n);
	return cluster && ((n <= 64 && !p->w.n_parts) || grid.x * grid.y < cuda->n_sms) ? cluster : alone;
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
	return product_run(cuda, a, how, *product_choose<op>(cuda, most_shared, &a->p, n), err);
}

#endif
