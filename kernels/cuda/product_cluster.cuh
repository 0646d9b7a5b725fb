/* The products where a block for each slice of K is worth more than one for all of them: a cluster of eight blocks
 * shares rows and tokens, each takes a slice, and each then finishes an eighth of the tokens, whose sums it reads from
 * the others' shared memory in the order of the slices. So many rows go with x, which is read the fewer times from L2,
 * and a small matrix still has blocks for every multiprocessor. The bits are those of all other kernels.
 *
 * A warp has outputs of its own, 2 by 4 of them over a block's, and all warps share the stages. Without clusters
 * (sm_80) these kernels are empty, and never launched. */
#ifndef KERNELS_CUDA_PRODUCT_CLUSTER_CUH
#define KERNELS_CUDA_PRODUCT_CLUSTER_CUH

template <int row_tiles, int token_tiles> struct product_cluster_shape {
	enum { TOKENS = token_tiles * 8, OWN = TOKENS / PRODUCT_CLUSTER, N_WEIGHTS = row_tiles * 2 };
	enum { WEIGHT_BYTES = N_WEIGHTS * PRODUCT_FRAGMENT };
	enum { STAGE_BYTES = WEIGHT_BYTES + token_tiles * PRODUCT_FRAGMENT };
	enum { M = row_tiles / 2, N = token_tiles / 4 }; /* tiles of a warp's outputs */
	/* fragments that a warp fetches at most */
	enum { W = (N_WEIGHTS + PRODUCT_WARPS - 1) / PRODUCT_WARPS, X = (token_tiles + 7) / PRODUCT_WARPS };
};

#if TT_HAS_CLUSTERS
/* The block's rows and tokens. */
template <int row_tiles, int token_tiles> TT_DEVICE struct product_tile product_cluster_begin(unsigned char *shared)
{
	typedef product_cluster_shape<row_tiles, token_tiles> shape;
	struct product_tile block = product_begin<row_tiles, shape::OWN>(
		shared, blockIdx.x / PRODUCT_CLUSTER * shape::TOKENS, PRODUCT_CLUSTER);
	block.max_tokens = shape::TOKENS;
	block.in_cluster = true;
	return block;
}

/* The same with those of the tokens alone that this block finishes. */
template <int own> TT_DEVICE struct product_tile product_cluster_own(const struct product_tile &block)
{
	struct product_tile mine = block;
	uint32_t before = blockIdx.x % PRODUCT_CLUSTER * own;
	uint32_t rest = block.n_tokens > before ? block.n_tokens - before : 0;
	mine.first_token += before;
	mine.n_tokens = rest < own ? rest : own;
	mine.max_tokens = own;
	mine.sums += before * block.stride;
	return mine;
}

/* The chunks of a slice, from `chunk` up to end. fetch(stage, number) brings both operands of a chunk to a stage. */
template <int row_tiles, int token_tiles, int stages, typename fetcher, int M, int N>
TT_DEVICE void product_cluster_loop(
	const struct product_tile &block, uint32_t chunk, uint32_t end, fetcher &fetch, float (&d)[M][N][4])
{
	typedef product_cluster_shape<row_tiles, token_tiles> shape;
	const unsigned char *stages_at = (const unsigned char *)block.sums;
	uint32_t m_warp = tt_warp() % 2, n_warp = tt_warp() / 2, read = 0, fill = (stages - 1) * shape::STAGE_BYTES;
	for (; chunk < end; chunk++) {
		tt_copy_async_wait<stages - 2>();
		tt_sync_block(); /* the stage has landed for all, and nobody still reads the one that is filled next */
		if (chunk + stages - 1 < end)
			fetch(fill, chunk + stages - 1);
		tt_copy_async_commit();
		const unsigned char *stage = stages_at + read;
		product_multiply<M, N>(d, stage + m_warp * M * 2 * PRODUCT_FRAGMENT,
			stage + shape::WEIGHT_BYTES + n_warp * N * PRODUCT_FRAGMENT);
		fill = read;
		read = product_next<stages, shape::STAGE_BYTES>(read);
	}
}

template <int row_tiles, int token_tiles, int stages, typename fetcher>
TT_DEVICE void product_cluster_start(uint32_t chunk, uint32_t end, fetcher &fetch)
{
	for (uint32_t i = 0; i < stages - 1; i++) {
		if (chunk + i < end)
			fetch(i * product_cluster_shape<row_tiles, token_tiles>::STAGE_BYTES, chunk + i);
		tt_copy_async_commit();
	}
}

/* Fragments of tokens, dealt out to the warps in turn. */
template <typename op, int token_tiles, int n>
TT_DEVICE void product_cluster_tokens(
	const op &a, const struct product_tile &block, uint32_t chunk, struct product_stream (&x)[n])
{
	TT_UNROLL
	for (int i = 0; i < n; i++)
		x[i] = product_tokens(a, block, (tt_warp() + i * PRODUCT_WARPS) * 8 + tt_lane() / 4, chunk);
}

/* to: of the lane in its warp's first fragment. */
template <int token_tiles, int n>
TT_DEVICE void product_cluster_fetch_tokens(struct product_stream (&x)[n], unsigned char *to, uint32_t number)
{
	if (token_tiles < PRODUCT_WARPS && tt_warp() >= token_tiles)
		return;
	product_wide_fetch_tokens(x, to, number);
}

/* The cluster meets when all slices are in shared memory, and again when all have been read. */
template <typename op, int M, int N>
TT_DEVICE void product_cluster_end(
	const op &a, const struct product_tile &block, const struct product_tile &mine, const float (&d)[M][N][4])
{
	tt_copy_async_wait<0>();
	tt_sync_block(); /* nobody reads the stages any more */
	product_store_sums<M, N>(
		block.sums + tt_warp() / 2 * N * 8 * block.stride + tt_warp() % 2 * M * PRODUCT_TILE, d, block.stride);
	tt_sync_cluster();
	op::finish(a, mine);
	tt_sync_cluster();
}
#endif

/* A multiprocessor has registers and shared memory for two blocks. */
template <typename op, int row_tiles, int token_tiles, int stages>
static __global__ void __launch_bounds__(PRODUCT_THREADS, 2) product_cluster(const __grid_constant__ op a)
{
#if TT_HAS_CLUSTERS
	typedef product_cluster_shape<row_tiles, token_tiles> shape;
	TT_DYNAMIC_SHARED(shared);
	struct product_tile block = product_cluster_begin<row_tiles, token_tiles>(shared);
	uint32_t slice = blockIdx.x % PRODUCT_CLUSTER, chunk = product_slice_start(slice, a.p.n_in);
	uint32_t end = product_slice_start(slice + 1, a.p.n_in);
	struct product_stream w[shape::W], x[shape::X];
	float d[shape::M][shape::N][4] = {};

	product_wait(a, block);
	if (!block.n_tokens)
		return;
	TT_UNROLL
	for (int i = 0; i < shape::W; i++)
		w[i] = product_weights(a, block, tt_warp() + i * PRODUCT_WARPS, chunk);
	product_cluster_tokens<op, token_tiles>(a, block, chunk, x);
	auto fetch = [&](uint32_t stage, uint32_t number) {
		unsigned char *to = (unsigned char *)block.sums + stage + tt_warp() * PRODUCT_FRAGMENT + tt_lane() * 16;
		TT_UNROLL
		for (int i = 0; i < shape::W; i++) {
			if ((i + 1) * PRODUCT_WARPS <= shape::N_WEIGHTS ||
				tt_warp() + i * PRODUCT_WARPS < (uint32_t)shape::N_WEIGHTS)
				tt_copy_async_or_zero(to + i * PRODUCT_WARPS * PRODUCT_FRAGMENT, w[i].from, w[i].end,
					TT_TRAFFIC_WEIGHT);
			w[i].from += TT_PACKED_TILE;
		}
		product_cluster_fetch_tokens<token_tiles>(x, to + shape::WEIGHT_BYTES, number);
	};
	product_cluster_start<row_tiles, token_tiles, stages>(chunk, end, fetch);
	const struct product_tile mine = product_cluster_own<shape::OWN>(block);
	product_prepare(a, mine);
	product_cluster_loop<row_tiles, token_tiles, stages>(block, chunk, end, fetch, d);
	product_cluster_end(a, block, mine, d);
#endif
}

#if TT_HAS_CLUSTERS
/* Of one type, as product_wide_run_quants, for a slice. */
template <uint32_t type, typename op, int row_tiles, int token_tiles, int stages, int M, int N>
TT_DEVICE void product_cluster_run_quants(
	const op &a, const struct product_tile &block, const unsigned char *tile_row, float (&d)[M][N][4])
{
	typedef product_cluster_shape<row_tiles, token_tiles> shape;
	uint32_t slice = blockIdx.x % PRODUCT_CLUSTER, first = product_slice_start(slice, a.p.n_in);
	uint32_t end = product_slice_start(slice + 1, a.p.n_in);
	struct quant_words w = {};
	struct quant_record record = {};
	struct product_stream x[shape::X];
	product_cluster_tokens<op, token_tiles>(a, block, first, x);
	if (tile_row)
		quant_load<type>(w, tile_row, first, tt_lane(), true);
	auto fetch = [&](uint32_t stage, uint32_t number) {
		unsigned char *to = (unsigned char *)block.sums + stage + tt_lane() * 16;
		unsigned char *tile = to + tt_warp() * 2 * PRODUCT_FRAGMENT;
		if (quant_begins<type>(number) || number == first)
			quant_begin<type>(w, record);
		struct quant_scales scales = quant_scales_of<type>(w, record, number);
		tt_shared_store_16(tile, quant_fragment<type>(w, scales, 0));
		tt_shared_store_16(tile + PRODUCT_FRAGMENT, quant_fragment<type>(w, scales, 1));
		if (tile_row && number + 1 < end)
			quant_load<type>(w, tile_row, number + 1, tt_lane(), quant_begins<type>(number + 1));
		product_cluster_fetch_tokens<token_tiles>(
			x, to + shape::WEIGHT_BYTES + tt_warp() * PRODUCT_FRAGMENT, number);
	};
	product_cluster_start<row_tiles, token_tiles, stages>(first, end, fetch);
	product_cluster_loop<row_tiles, token_tiles, stages>(block, first, end, fetch, d);
}
#endif

/* Registers for two blocks but where outputs alone fill a block's. Told nothing, nvcc 13.0 gave down_proj's 64 of the
 * 79 that it needs, and spilled. */
template <typename op, int row_tiles, int token_tiles, int stages>
static __global__ void __launch_bounds__(PRODUCT_THREADS, product_cluster_quants_blocks(token_tiles))
	product_cluster_quants(const __grid_constant__ op a)
{
#if TT_HAS_CLUSTERS
	typedef product_cluster_shape<row_tiles, token_tiles> shape;
	static_assert(row_tiles == PRODUCT_WARPS, "a tile a warp");
	static_assert(TT_QUANT_PART_TILES % row_tiles == 0, "a block has tiles of one part");
	TT_DYNAMIC_SHARED(shared);
	struct product_tile block = product_cluster_begin<row_tiles, token_tiles>(shared);
	const struct product_part part = product_part_of(a.p.w, block.first_tile);
	uint32_t tile = block.first_tile + tt_warp();
	float d[shape::M][shape::N][4] = {};

	product_wait(a, block);
	if (!block.n_tokens)
		return;
	const struct product_tile mine = product_cluster_own<shape::OWN>(block);
	product_prepare(a, mine);
	const unsigned char *tile_row =
		tile < a.p.n_tiles ? part.tiles + (tile - part.first_tile) * part.tile_row : NULL;
	switch (part.type) {
#define RUN(name)                                                                                                      \
	case TT_TYPE_##name:                                                                                           \
		product_cluster_run_quants<TT_TYPE_##name, op, row_tiles, token_tiles, stages>(a, block, tile_row, d); \
		break;
		TT_QUANT_TYPES(RUN)
#undef RUN
	}
	product_cluster_end(a, block, mine, d);
#endif
}

#endif
