/* Launches the kernel of the family that product_table.h chooses, by the number of rows that the grid must hold and
 * never by the plan. */
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

/* The address of the kernel of a line of PRODUCT_TABLE, or NULL; the emulator registers it under the op's name. */
template <typename op, uint32_t at = 0> static const void *product_kernel(uint32_t line, const char *name)
{
	(void)name;
	if constexpr (at < PRODUCT_LINES) {
		constexpr struct product_shape s = PRODUCT_TABLE[at].shape;
		if (line != at)
			return product_kernel<op, at + 1>(line, name);
		if constexpr (s.family == PRODUCT_NARROW && s.quantised)
			return PRODUCT_KERNEL((product_narrow_quants<op, s.row_tiles, s.token_tiles, s.stages>), name);
		else if constexpr (s.family == PRODUCT_NARROW)
			return PRODUCT_KERNEL((product_narrow<op, s.row_tiles, s.token_tiles, s.stages>), name);
		else if constexpr (s.family == PRODUCT_WIDE && s.quantised)
			return PRODUCT_KERNEL((product_wide_quants<op, s.row_tiles, s.stages>), name);
		else if constexpr (s.family == PRODUCT_WIDE)
			return PRODUCT_KERNEL((product_wide<op, s.row_tiles, s.stages>), name);
		else if constexpr (s.quantised)
			return PRODUCT_KERNEL((product_cluster_quants<op, s.row_tiles, s.token_tiles, s.stages>), name);
		else
			return PRODUCT_KERNEL((product_cluster<op, s.row_tiles, s.token_tiles, s.stages>), name);
	}
	return NULL;
}

template <typename op>
static int product_run(
	struct tt_cuda *cuda, const op *a, const struct product_call *how, uint32_t line, struct tt_error *err)
{
	op own = *a;
	void *args[] = {&own};
	const struct product_shape *shape = &PRODUCT_TABLE[line].shape;
	uint64_t operands = product_weight_bytes(&a->p) + (uint64_t)how->n_tokens * a->p.n_in * sizeof(tt_bf16);
	const struct product_grid grid = tt_product_grid_of(shape, a->p.n_tiles, how->n_tokens);
	struct tt_launch launch = {how->name, dim3(grid.x, grid.y), dim3(PRODUCT_THREADS),
		tt_product_shared_bytes(shape, a->p.n_in), cuda->stream, operands + how->bytes,
		(uint64_t)2 * a->p.n_rows * a->p.n_in * how->n_tokens, cuda->dependent, &cuda->counters,
		shape->family == PRODUCT_IN_CLUSTER ? (uint32_t)PRODUCT_CLUSTER : 0};
	if (launch.grid.y > 65535)
		return tt_fail(
			err, TT_ERR_UNSUPPORTED, "%s: %u rows are more than a grid holds", how->name, a->p.n_rows);
	return tt_cuda_launch(cuda, &launch, product_kernel<op>(line, how->name), args, err);
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
	const struct product_question q = {
		cuda->n_sms, most_shared, cuda->clusters, a->p.w.n_parts != 0, a->p.n_tiles, a->p.n_in, n};
	uint32_t line = tt_product_choose(&q);
	if (line == PRODUCT_LINES)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "%s: no kernel has room in %u bytes of shared memory",
			how->name, most_shared);
	return product_run(cuda, a, how, line, err);
}

#endif
