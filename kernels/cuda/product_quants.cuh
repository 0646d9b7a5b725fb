/* The products of quantised weights (quants.h): those of product.cuh with other loads. A lane's part of a tile goes
 * from device memory to registers, becomes bf16 there, and is then multiplied like any other, in the same order: so the
 * bits are those of the dequantised matrix. What type the weights of a block have is known when the block begins; each
 * type has a loop of its own, and all else is common to them. */
#ifndef KERNELS_CUDA_PRODUCT_QUANTS_CUH
#define KERNELS_CUDA_PRODUCT_QUANTS_CUH

/* The part of the matrix that a tile is in. */
TT_DEVICE struct product_part product_part_of(const struct product_matrix &w, uint32_t tile)
{
	struct product_part part = w.parts[0];
	TT_UNROLL
	for (uint32_t i = 1; i < PRODUCT_PARTS; i++)
		if (i < w.n_parts && tile >= w.parts[i].first_tile)
			part = w.parts[i];
	return part;
}

/* Where a warp of the narrow kernel is in its slice of K. */
struct product_slice {
	const unsigned char *tiles; /* of the block's first row of tiles */
	size_t tile_row;
	uint32_t n_valid; /* rows of tiles that there are */
	uint32_t first, chunk, end;
};

/* A chunk of the block's tiles; what no tile has is zeros. */
template <uint32_t type, int row_tiles>
TT_DEVICE void product_load_quants(struct quant_words (&w)[row_tiles], const struct product_slice &s, uint32_t chunk)
{
	bool begins = quant_begins<type>(chunk) || chunk == s.first;
	TT_UNROLL
	for (uint32_t m = 0; m < row_tiles; m++)
		if (m == 0 || m < s.n_valid) /* a block has one tile at least */
			quant_load<type>(w[m], s.tiles + m * s.tile_row, chunk, tt_lane(), begins);
}

/* d[row tile][token tile] += one chunk, its weights from registers. */
template <uint32_t type, int row_tiles, int token_tiles>
TT_DEVICE void product_multiply_quants(float (&d)[row_tiles][token_tiles][4], const struct quant_words (&w)[row_tiles],
	struct quant_record (&record)[row_tiles], const unsigned char *tokens, const struct product_slice &s)
{
	uint4 b[token_tiles];
	TT_UNROLL
	for (int n = 0; n < token_tiles; n++)
		b[n] = tt_shared_load_16(tokens + n * PRODUCT_FRAGMENT + tt_lane() * 16);
	TT_UNROLL
	for (int m = 0; m < row_tiles; m++) {
		if (quant_begins<type>(s.chunk) || s.chunk == s.first)
			quant_begin<type>(w[m], record[m]);
		struct quant_scales scales = quant_scales_of<type>(w[m], record[m], s.chunk);
		TT_UNROLL
		for (int f = 0; f < 2; f++) {
			uint4 v = quant_fragment<type>(w[m], scales, f);
			const uint32_t fragment[4] = {v.x, v.y, v.z, v.w};
			TT_UNROLL
			for (int n = 0; n < token_tiles; n++) {
				const uint32_t x[2] = {f ? b[n].z : b[n].x, f ? b[n].w : b[n].y};
				tt_mma(d[m][n], fragment, x);
			}
		}
	}
}

/* The chunks of a slice. The first stages - 1 of w are loaded. */
template <uint32_t type, int row_tiles, int token_tiles, int stages, typename fetcher>
TT_DEVICE void product_run_quants(float (&d)[row_tiles][token_tiles][4], struct quant_words (&w)[stages][row_tiles],
	const unsigned char *ring, struct product_slice s, fetcher fetch_tokens)
{
	enum { STAGE_BYTES = token_tiles * PRODUCT_FRAGMENT };
	struct quant_record record[row_tiles] = {};
	while (s.chunk < s.end) {
		TT_UNROLL
		for (int i = 0; i < stages; i++) { /* unrolled, so that w is registers */
			const int last = (i + stages - 1) % stages;
			uint32_t next = s.chunk + stages - 1;
			if (s.chunk >= s.end)
				break;
			tt_copy_async_wait<stages - 2>();
			if (next < s.end) {
				product_load_quants<type, row_tiles>(w[last], s, next);
				fetch_tokens(last * STAGE_BYTES, next);
			}
			tt_copy_async_commit();
			product_multiply_quants<type, row_tiles, token_tiles>(
				d, w[i], record, ring + i * STAGE_BYTES, s);
			s.chunk++;
		}
	}
}

/* Up to 8 * token_tiles tokens, a slice a warp. x comes through the warp's ring; weights are on their way, in
 * registers, before the kernel that makes x has ended. */
template <typename op, int row_tiles, int token_tiles, int stages>
static __global__ void __launch_bounds__(PRODUCT_THREADS, product_quants_blocks(row_tiles, token_tiles))
	product_narrow_quants(const __grid_constant__ op a)
{
	enum { TOKENS = token_tiles * 8, STAGE_BYTES = token_tiles * PRODUCT_FRAGMENT };
	static_assert(TT_QUANT_PART_TILES % row_tiles == 0, "a block has tiles of one part");
	TT_DYNAMIC_SHARED(shared);
	uint32_t n_in = a.p.n_in, n_slices = product_slices(n_in);
	struct product_tile block = product_begin<row_tiles, TOKENS>(shared, 0, n_slices);
	unsigned char *ring = (unsigned char *)block.sums + tt_warp() * (stages * STAGE_BYTES);
	const struct product_part part = product_part_of(a.p.w, block.first_tile);
	struct product_slice s = {part.tiles + (block.first_tile - part.first_tile) * part.tile_row, part.tile_row,
		a.p.n_tiles - block.first_tile, 0, 0, 0};
	if (tt_warp() < n_slices) {
		s.first = s.chunk = product_slice_start(tt_warp(), n_in);
		s.end = product_slice_start(tt_warp() + 1, n_in);
	}
	struct quant_words w[stages][row_tiles] = {};
	struct product_stream x[token_tiles];
	float d[row_tiles][token_tiles][4] = {};

	switch (part.type) {
#define LOAD(name)                                                                                                     \
	case TT_TYPE_##name:                                                                                           \
		TT_UNROLL                                                                                              \
		for (uint32_t i = 0; i < stages - 1; i++)                                                              \
			if (s.chunk + i < s.end)                                                                       \
				product_load_quants<TT_TYPE_##name, row_tiles>(w[i], s, s.chunk + i);                  \
		break;
		TT_QUANT_TYPES(LOAD)
#undef LOAD
	}
	product_wait(a, block);
	TT_UNROLL
	for (int n = 0; n < token_tiles; n++)
		x[n] = product_tokens(a, block, n * 8 + tt_lane() / 4, s.chunk);
	auto fetch_tokens = [&](uint32_t stage, uint32_t number) {
		unsigned char *to = ring + stage + tt_lane() * 16;
		TT_UNROLL
		for (int n = 0; n < token_tiles; n++) {
			tt_copy_async_or_zero(
				to + n * PRODUCT_FRAGMENT, x[n].from, number < x[n].end, TT_TRAFFIC_ACTIVATION);
			x[n].from += PRODUCT_CHUNK;
		}
	};
	for (uint32_t i = 0; i < stages - 1; i++) {
		if (s.chunk + i < s.end)
			fetch_tokens(i * STAGE_BYTES, s.chunk + i);
		tt_copy_async_commit();
	}
	product_prepare(a, block);
	switch (part.type) {
#define RUN(name)                                                                                                      \
	case TT_TYPE_##name:                                                                                           \
		product_run_quants<TT_TYPE_##name, row_tiles, token_tiles, stages>(d, w, ring, s, fetch_tokens);       \
		break;
		TT_QUANT_TYPES(RUN)
#undef RUN
	}
	product_end<op, row_tiles, token_tiles>(
		a, block, block.sums + tt_warp() * TOKENS * block.stride, tt_warp() < n_slices, d);
}

/* The wide kernel, one type: each warp turns one tile of a chunk to bf16 in the stage that the block shares, and has
 * the next chunk's on its way. tile_row NULL: the warp's tile is not there. */
template <uint32_t type, typename op, int row_tiles, int stages, int M, int N>
TT_DEVICE void product_wide_run_quants(
	const op &a, const struct product_tile &block, const unsigned char *tile_row, float (&total)[M][N][4])
{
	typedef product_wide_shape<row_tiles> shape;
	uint32_t n_chunks = product_chunks(a.p.n_in);
	struct quant_words w = {};
	struct quant_record record = {};
	struct product_stream x[shape::X];
	product_wide_tokens(a, block, x);
	if (tile_row)
		quant_load<type>(w, tile_row, 0, tt_lane(), true);
	auto fetch = [&](uint32_t stage, uint32_t number) {
		unsigned char *to = (unsigned char *)block.sums + stage + tt_lane() * 16;
		unsigned char *tile = to + tt_warp() * 2 * PRODUCT_FRAGMENT;
		if (quant_begins<type>(number))
			quant_begin<type>(w, record);
		struct quant_scales scales = quant_scales_of<type>(w, record, number);
		tt_shared_store_16(tile, quant_fragment<type>(w, scales, 0));
		tt_shared_store_16(tile + PRODUCT_FRAGMENT, quant_fragment<type>(w, scales, 1));
		if (tile_row && number + 1 < n_chunks)
			quant_load<type>(w, tile_row, number + 1, tt_lane(), quant_begins<type>(number + 1));
		product_wide_fetch_tokens(x, to + shape::WEIGHT_BYTES + tt_warp() * PRODUCT_FRAGMENT, number);
	};
	product_wide_start<row_tiles, stages>(n_chunks, fetch);
	product_wide_loop<row_tiles, stages>(block, a.p.n_in, fetch, total);
}

/* 128 tokens a block, for more than 64. */
template <typename op, int row_tiles, int stages>
static __global__ void __launch_bounds__(PRODUCT_THREADS) product_wide_quants(const __grid_constant__ op a)
{
	typedef product_wide_shape<row_tiles> shape;
	static_assert(row_tiles == PRODUCT_WARPS, "a tile a warp");
	static_assert(TT_QUANT_PART_TILES % row_tiles == 0, "a block has tiles of one part");
	TT_DYNAMIC_SHARED(shared);
	struct product_tile block = product_begin<row_tiles, shape::TOKENS>(shared, blockIdx.x * shape::TOKENS, 1);
	const struct product_part part = product_part_of(a.p.w, block.first_tile);
	uint32_t tile = block.first_tile + tt_warp();
	float total[shape::M][shape::N][4] = {};

	product_wait(a, block);
	if (!block.n_tokens)
		return;
	product_prepare(a, block);
	const unsigned char *tile_row =
		tile < a.p.n_tiles ? part.tiles + (tile - part.first_tile) * part.tile_row : NULL;
	switch (part.type) {
#define RUN(name)                                                                                                      \
	case TT_TYPE_##name:                                                                                           \
		product_wide_run_quants<TT_TYPE_##name, op, row_tiles, stages>(a, block, tile_row, total);             \
		break;
		TT_QUANT_TYPES(RUN)
#undef RUN
	}
	product_wide_end(a, block, total);
}

#endif
