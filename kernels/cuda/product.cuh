/* The one family of strict products: y[token][row] = x[token][:] . w[row][:], with the weights as the M operand of
 * mma.sync at every batch size. A .cu file gives the epilogue as a struct `op` (its kernel's argument) with these
 * members:
 *
 *     enum { FAST }                                                         1: token t reads row t of x, all of them
 *     struct product p;
 *     static uint32_t span(const op &)                                      of the rows, see packed.h
 *     static float constant(const op &, uint32_t which, uint32_t row)       0: bias, 1: the next norm's weight
 *     static uint32_t source(const op &, uint32_t token)                    row of x
 *     static void prepare(const op &, uint32_t *words, uint32_t token, uint32_t first_row)
 *     static void finish(const op &, const struct product_tile &)
 *
 * A tile is 16 weight rows, which a span gathers from two places, so that a rotated pair, or a gate and its up, share a
 * tile.
 *
 * K goes in chunks of 32. Lane (g, t) = (lane / 4, lane % 4) takes columns 8t to 8t + 7 of the chunk, of both operands:
 * two mma then have the same permutation of columns in a and b, which changes no dot product. So operands need no
 * ldmatrix and no swizzle. Weights were packed in that order when they were loaded (packed.h): a chunk of a tile is 1
 * KiB that is copied as it is, and a lane's fragment of an mma is one load of 16 bytes. Of x, which is row-major, 8
 * rows of 64 bytes are whole sectors, and lie as 512 contiguous bytes in shared memory.
 *
 * The order of a sum: product_slices(n_in) slices of whole chunks; in each, the chunks ascending; then the slices added
 * in ascending order. The bits depend on nothing else. The narrow kernel (up to 64 tokens) gives each warp a slice, and
 * no warp waits for another in the loop; the wide one (prefill) gives each warp outputs of its own and runs the slices
 * one by one. */
#ifndef KERNELS_CUDA_PRODUCT_CUH
#define KERNELS_CUDA_PRODUCT_CUH

#include <stddef.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/norm.cuh"
#include "kernels/cuda/packed.h"
#include "kernels/cuda/quants.cuh"
#include "kernels/cuda/ptx/async.cuh"
#include "kernels/cuda/ptx/barrier.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/memory.cuh"
#include "kernels/cuda/ptx/mma.cuh"
#include "kernels/cuda/ptx/numbers.cuh"
#include "kernels/cuda/ptx/shared.cuh"
#include "kernels/cuda/ptx/warp.cuh"
#include "kernels/product_table.h"

/* Tiles of one type. */
struct product_part {
	const unsigned char *tiles;
	size_t tile_row; /* bytes of 16 rows */
	uint32_t first_tile, type;
};

enum { PRODUCT_PARTS = 3 };

/* The weights of a product: bf16, or where they are quantised parts that follow each other. A block's tiles are of one
 * part. */
struct product_matrix {
	const void *first;
	struct product_part parts[PRODUCT_PARTS];
	uint32_t n_parts; /* 0: first is bf16, [n_rows][n_in] packed */
};

struct product {
	struct product_matrix w;
	const tt_bf16 *x;                // [any][n_in]
	const float *squares;            // [any][n_norm_tiles] of x's rows; NULL: x is used as it is
	const struct tt_step_plan *plan; // device
	const uint32_t *n_tokens_at;     // device: the member of plan that counts the tokens
	uint32_t n_rows, n_in, n_tiles, n_norm_tiles;
	float eps;
};

/* A block's outputs and its shared memory; product_begin fills it, finish reads it. Rows count from the block's
 * first. */
struct product_tile {
	float *sums;      // [n_parts][max_tokens][stride]; the stages are here until they have been multiplied
	float *constants; // [2][n_rows]
	uint32_t *words;  // [max_tokens][PRODUCT_WORDS]
	uint32_t n_parts; /* how many slices finish adds up */
	uint32_t stride;  /* floats from one token's sums to the next */
	uint32_t n_rows, first_tile;
	uint32_t first_token, n_tokens; /* n_tokens may be less than max_tokens; it is 0 until product_wait */
	uint32_t max_tokens;
	bool in_cluster; /* each part is in the sums of the cluster's block of that number */
};

static __host__ __device__ __forceinline__ uint32_t product_slice_start(uint32_t slice, uint32_t n_in)
{
	return slice * product_chunks(n_in) / product_slices(n_in);
}

/* d[row tile][token tile] += one chunk of both operands. */
template <int row_tiles, int token_tiles>
TT_DEVICE void product_multiply(
	float (&d)[row_tiles][token_tiles][4], const unsigned char *weights, const unsigned char *tokens)
{
	uint32_t at = tt_lane() * 16;
	uint4 b[token_tiles];
	TT_UNROLL
	for (int n = 0; n < token_tiles; n++)
		b[n] = tt_shared_load_16(tokens + n * PRODUCT_FRAGMENT + at);
	TT_UNROLL
	for (int m = 0; m < row_tiles; m++) {
		uint4 first = tt_shared_load_16(weights + 2 * m * PRODUCT_FRAGMENT + at);
		uint4 second = tt_shared_load_16(weights + (2 * m + 1) * PRODUCT_FRAGMENT + at);
		const uint32_t a0[4] = {first.x, first.y, first.z, first.w};
		const uint32_t a1[4] = {second.x, second.y, second.z, second.w};
		TT_UNROLL
		for (int n = 0; n < token_tiles; n++) {
			const uint32_t b0[2] = {b[n].x, b[n].y}, b1[2] = {b[n].z, b[n].w};
			tt_mma(d[m][n], a0, b0);
			tt_mma(d[m][n], a1, b1);
		}
	}
}

/* The 16 bytes that a lane copies of a chunk of either operand, for chunk after chunk. */
struct product_stream {
	const tt_bf16 *from; /* of the next chunk */
	uint32_t end;        /* the chunk of K from which on the lane has zeros; 0 where there is no such row or tile */
};

/* Half of a tile's chunks, which the other half's are beside; fragment counts the halves of the block's tiles. */
template <typename op>
TT_DEVICE struct product_stream product_weights(
	const op &a, const struct product_tile &block, uint32_t fragment, uint32_t chunk)
{
	uint32_t tile = block.first_tile + fragment / 2, n_chunks = product_chunks(a.p.n_in);
	bool valid = tile < a.p.n_tiles;
	const tt_bf16 *w =
		(const tt_bf16 *)a.p.w.first + ((size_t)(valid ? tile : 0) * n_chunks + chunk) * TT_PACKED_TILE;
	return product_stream{w + fragment % 2 * PRODUCT_HALF + tt_lane() * 8, valid ? n_chunks : 0};
}

/* token counts from the block's first token. The last chunk may be half a chunk, of 16 columns. */
template <typename op>
TT_DEVICE struct product_stream product_tokens(
	const op &a, const struct product_tile &block, uint32_t token, uint32_t chunk)
{
	bool valid = token < block.n_tokens;
	uint32_t row = valid ? op::source(a, block.first_token + token) : 0, column = tt_lane() % 4 * 8;
	return product_stream{a.p.x + (size_t)row * a.p.n_in + chunk * PRODUCT_CHUNK + column,
		valid ? product_chunks(a.p.n_in - column) : 0};
}

/* Loads bias and norm weight of the block's rows. */
template <typename op> TT_DEVICE void product_constants(const op &a, const struct product_tile &block)
{
	uint32_t n = block.n_rows;
	for (uint32_t i = threadIdx.x; i < 2 * n; i += PRODUCT_THREADS) {
		uint32_t tile = block.first_tile + i % n / PRODUCT_TILE, row = a.p.n_rows;
		if (tile < a.p.n_tiles)
			row = tt_packed_first_row(op::span(a), tile, i / 8 % 2) + i % 8;
		tt_shared_store_f32(block.constants + i, row < a.p.n_rows ? op::constant(a, i / n, row) : 0.0f);
	}
}

/* Prepares what finish needs of each token, while the first chunks are under way. */
template <typename op> TT_DEVICE void product_prepare(const op &a, const struct product_tile &block)
{
	for (uint32_t i = tt_warp(); i < block.n_tokens && a.p.squares; i += PRODUCT_WARPS) {
		uint32_t row = op::source(a, block.first_token + i);
		float inverse = norm_inverse_rms(
			a.p.squares + (size_t)row * a.p.n_norm_tiles, a.p.n_norm_tiles, a.p.n_in, a.p.eps);
		if (tt_lane() == 0)
			tt_shared_store_f32((float *)block.words + i * PRODUCT_WORDS, inverse);
	}
	if (threadIdx.x < block.n_tokens)
		op::prepare(a, block.words + threadIdx.x * PRODUCT_WORDS, block.first_token + threadIdx.x,
			block.first_tile);
}

template <int row_tiles, int token_tiles>
TT_DEVICE void product_store_sums(float *sums, const float (&d)[row_tiles][token_tiles][4], uint32_t stride)
{
	uint32_t g = tt_lane() / 4, t = tt_lane() % 4;
	TT_UNROLL
	for (int m = 0; m < row_tiles; m++)
		TT_UNROLL
	for (int n = 0; n < token_tiles; n++)
		TT_UNROLL
	for (int i = 0; i < 4; i++)
		tt_shared_store_f32(
			sums + (n * 8 + t * 2 + i % 2) * stride + m * PRODUCT_TILE + g + i / 2 * 8, d[m][n][i]);
}

TT_DEVICE uint4 product_part_of_sum(const struct product_tile &tile, const float *from, uint32_t part)
{
#if TT_HAS_CLUSTERS
	if (tile.in_cluster)
		return tt_cluster_load_16(from, part);
#endif
	return tt_shared_load_16(from + part * tile.max_tokens * tile.stride);
}

/* Four contiguous rows of one token, its slices added in order. */
TT_DEVICE float4 product_sum(const struct product_tile &tile, uint32_t token, uint32_t row)
{
	const float *from = tile.sums + token * tile.stride + row;
	uint4 v = product_part_of_sum(tile, from, 0);
	float4 sum =
		make_float4(tt_f32_from_bits(v.x), tt_f32_from_bits(v.y), tt_f32_from_bits(v.z), tt_f32_from_bits(v.w));
	for (uint32_t part = 1; part < tile.n_parts; part++) {
		v = product_part_of_sum(tile, from, part);
		sum.x += tt_f32_from_bits(v.x);
		sum.y += tt_f32_from_bits(v.y);
		sum.z += tt_f32_from_bits(v.z);
		sum.w += tt_f32_from_bits(v.w);
	}
	return sum;
}

TT_DEVICE float4 product_constant_four(const struct product_tile &tile, uint32_t which, uint32_t row)
{
	uint4 v = tt_shared_load_16(tile.constants + which * tile.n_rows + row);
	return make_float4(tt_f32_from_bits(v.x), tt_f32_from_bits(v.y), tt_f32_from_bits(v.z), tt_f32_from_bits(v.w));
}

/* h + (sum + bias) of four contiguous rows. */
TT_DEVICE float4 product_residual(const struct product_tile &tile, uint32_t token, uint32_t row, const float *h)
{
	float4 sum = product_sum(tile, token, row), bias = product_constant_four(tile, 0, row);
	float4 old = tt_load_f32x4(h, TT_TRAFFIC_ACTIVATION);
	return make_float4(
		old.x + (sum.x + bias.x), old.y + (sum.y + bias.y), old.z + (sum.z + bias.z), old.w + (sum.w + bias.w));
}

/* Stores sum + bias as rows of y, for ops whose epilogue needs whole rows. */
TT_DEVICE void product_store(const struct product_tile &tile, float *y, uint32_t n_rows)
{
	uint32_t n_quads = tile.n_rows / 4;
	for (uint32_t i = threadIdx.x; i < n_quads * tile.n_tokens; i += PRODUCT_THREADS) {
		uint32_t token = i / n_quads, row = i % n_quads * 4, column = tile.first_tile * PRODUCT_TILE + row;
		if (column >= n_rows)
			continue;
		float4 sum = product_sum(tile, token, row), bias = product_constant_four(tile, 0, row);
		tt_store_f32x4(y + (size_t)(tile.first_token + token) * n_rows + column,
			make_float4(sum.x + bias.x, sum.y + bias.y, sum.z + bias.z, sum.w + bias.w),
			TT_TRAFFIC_SCRATCH);
	}
}

/* The start of each kernel: finds the block's outputs from its place in the grid, divides the shared memory, and lets
 * the next kernel start. */
template <int row_tiles, int tokens>
TT_DEVICE struct product_tile product_begin(unsigned char *shared, uint32_t first_token, uint32_t n_parts)
{
	struct product_tile block;
	block.constants = (float *)shared;
	block.words = (uint32_t *)(block.constants + 2 * row_tiles * PRODUCT_TILE);
	block.sums = (float *)(shared + product_header_bytes(row_tiles, tokens));
	block.n_parts = n_parts;
	block.stride = product_stride(row_tiles);
	block.n_rows = row_tiles * PRODUCT_TILE;
	block.first_tile = blockIdx.y * row_tiles;
	block.first_token = first_token;
	block.n_tokens = 0;
	block.max_tokens = tokens;
	block.in_cluster = false;
	tt_grid_launch_dependents();
	return block;
}

/* Loads the constants, which no kernel writes; then waits for the previous kernel; then finds how many tokens the block
 * has. */
template <typename op> TT_DEVICE void product_wait(const op &a, struct product_tile &block)
{
	product_constants(a, block);
	tt_grid_wait();
	uint32_t n = tt_load_4(a.p.n_tokens_at, TT_TRAFFIC_PLAN);
	n = n > block.first_token ? n - block.first_token : 0;
	block.n_tokens = n < block.max_tokens ? n : block.max_tokens;
}

/* The end of a kernel: a warp's sums, if it has any, are stored where the stages were, and the op finishes. */
template <typename op, int row_tiles, int token_tiles>
TT_DEVICE void product_end(const op &a, const struct product_tile &block, float *sums, bool has_sums,
	const float (&d)[row_tiles][token_tiles][4])
{
	tt_copy_async_wait<0>();
	tt_sync_block(); /* nobody reads the stages any more */
	if (has_sums)
		product_store_sums<row_tiles, token_tiles>(sums, d, block.stride);
	tt_sync_block();
	op::finish(a, block);
}

/* The stage after one, in bytes from the start of its ring. */
template <uint32_t stages, uint32_t stage_bytes> TT_DEVICE uint32_t product_next(uint32_t stage)
{
	return stage == (stages - 1) * stage_bytes ? 0 : stage + stage_bytes;
}

/* Up to 8 * token_tiles tokens. Each warp has a ring of stages of its own, and a lane reads what it copied itself, so
 * the loop has no barrier. Weights are on their way before the kernel that makes x has ended. */
template <typename op, int row_tiles, int token_tiles, int stages>
static __global__ void __launch_bounds__(PRODUCT_THREADS, product_narrow_blocks(row_tiles, token_tiles))
	product_narrow(const __grid_constant__ op a)
{
	enum { TOKENS = token_tiles * 8, WEIGHT_BYTES = row_tiles * 2 * PRODUCT_FRAGMENT };
	enum { STAGE_BYTES = WEIGHT_BYTES + token_tiles * PRODUCT_FRAGMENT };
	TT_DYNAMIC_SHARED(shared);
	uint32_t n_in = a.p.n_in, n_slices = product_slices(n_in);
	struct product_tile block = product_begin<row_tiles, TOKENS>(shared, 0, n_slices);
	unsigned char *ring = (unsigned char *)block.sums + tt_warp() * (stages * STAGE_BYTES);
	uint32_t chunk = tt_warp() < n_slices ? product_slice_start(tt_warp(), n_in) : 0;
	uint32_t end = tt_warp() < n_slices ? product_slice_start(tt_warp() + 1, n_in) : 0;
	struct product_stream w[row_tiles], x[token_tiles];
	float d[row_tiles][token_tiles][4] = {};

	TT_UNROLL
	for (int m = 0; m < row_tiles; m++)
		w[m] = product_weights(a, block, 2 * m, chunk);
	auto fetch_weights = [&](uint32_t stage) {
		unsigned char *to = ring + stage + tt_lane() * 16;
		TT_UNROLL
		for (int m = 0; m < row_tiles; m++) {
			bool valid = m == 0 || w[m].end; /* a block has one tile at least */
			for (int half = 0; half < 2; half++)
				tt_copy_async_or_zero(to + (2 * m + half) * PRODUCT_FRAGMENT,
					w[m].from + half * PRODUCT_HALF, valid, TT_TRAFFIC_WEIGHT);
			w[m].from += TT_PACKED_TILE;
		}
	};
	auto fetch_tokens = [&](uint32_t stage, uint32_t number) {
		unsigned char *to = ring + stage + WEIGHT_BYTES + tt_lane() * 16;
		TT_UNROLL
		for (int n = 0; n < token_tiles; n++) {
			tt_copy_async_or_zero(
				to + n * PRODUCT_FRAGMENT, x[n].from, number < x[n].end, TT_TRAFFIC_ACTIVATION);
			x[n].from += PRODUCT_CHUNK;
		}
	};
	for (uint32_t i = 0; i < stages - 1 && chunk + i < end; i++)
		fetch_weights(i * STAGE_BYTES);
	product_wait(a, block);
	TT_UNROLL
	for (int n = 0; n < token_tiles; n++)
		x[n] = product_tokens(a, block, n * 8 + tt_lane() / 4, chunk);
	for (uint32_t i = 0; i < stages - 1; i++) {
		if (chunk + i < end)
			fetch_tokens(i * STAGE_BYTES, chunk + i);
		tt_copy_async_commit();
	}
	product_prepare(a, block);
	uint32_t read = 0, fill = (stages - 1) * STAGE_BYTES, next = chunk + stages - 1;
	for (; next < end; next++) {
		tt_copy_async_wait<stages - 2>();
		fetch_weights(fill);
		fetch_tokens(fill, next);
		tt_copy_async_commit();
		product_multiply<row_tiles, token_tiles>(d, ring + read, ring + read + WEIGHT_BYTES);
		fill = read;
		read = product_next<stages, STAGE_BYTES>(read);
	}
	for (chunk = next - (stages - 1); chunk < end; chunk++) { /* what is still under way */
		tt_copy_async_wait<stages - 2>();
		tt_copy_async_commit();
		product_multiply<row_tiles, token_tiles>(d, ring + read, ring + read + WEIGHT_BYTES);
		read = product_next<stages, STAGE_BYTES>(read);
	}
	product_end<op, row_tiles, token_tiles>(
		a, block, block.sums + tt_warp() * TOKENS * block.stride, tt_warp() < n_slices, d);
}

/* Adds a finished slice to the slices before it. */
template <int row_tiles, int token_tiles>
TT_DEVICE void product_fold(
	float (&total)[row_tiles][token_tiles][4], float (&d)[row_tiles][token_tiles][4], bool is_first)
{
	TT_UNROLL
	for (int i = 0; i < row_tiles * token_tiles * 4; i++) {
		float *sum = &total[i / (token_tiles * 4)][i / 4 % token_tiles][i % 4];
		float *part = &d[i / (token_tiles * 4)][i / 4 % token_tiles][i % 4];
		*sum = is_first ? *part : *sum + *part;
		*part = 0;
	}
}

/* Where a warp of the wide kernel copies x to, and what: fragments, dealt out to the warps in turn. */
template <typename op, int n>
TT_DEVICE void product_wide_tokens(const op &a, const struct product_tile &block, struct product_stream (&x)[n])
{
	TT_UNROLL
	for (int i = 0; i < n; i++)
		x[i] = product_tokens(a, block, (tt_warp() + i * PRODUCT_WARPS) * 8 + tt_lane() / 4, 0);
}

/* to: of the lane in its warp's first fragment. */
template <int n>
TT_DEVICE void product_wide_fetch_tokens(struct product_stream (&x)[n], unsigned char *to, uint32_t number)
{
	TT_UNROLL
	for (int i = 0; i < n; i++) {
		tt_copy_async_or_zero(
			to + i * PRODUCT_WARPS * PRODUCT_FRAGMENT, x[i].from, number < x[i].end, TT_TRAFFIC_ACTIVATION);
		x[i].from += PRODUCT_CHUNK;
	}
}

/* The shape of a wide kernel. Warps are arranged 2 by 4 over the block's outputs. */
template <int row_tiles> struct product_wide_shape {
	enum { TOKENS = PRODUCT_WIDE_TOKENS, WEIGHT_BYTES = row_tiles * 2 * PRODUCT_FRAGMENT };
	enum { STAGE_BYTES = WEIGHT_BYTES + TOKENS / 8 * PRODUCT_FRAGMENT };
	enum { M = row_tiles / 2, N = TOKENS / 8 / 4 };                             /* tiles of a warp's outputs */
	enum { W = row_tiles * 2 / PRODUCT_WARPS, X = TOKENS / 8 / PRODUCT_WARPS }; /* fragments that a warp fetches */
};

/* The first chunks. fetch(stage, number) brings both operands of a chunk to a stage, by asynchronous copies or
 * stores. */
template <int row_tiles, int stages, typename fetcher>
TT_DEVICE void product_wide_start(uint32_t n_chunks, fetcher &fetch)
{
	for (uint32_t i = 0; i < stages - 1; i++) {
		if (i < n_chunks)
			fetch(i * product_wide_shape<row_tiles>::STAGE_BYTES, i);
		tt_copy_async_commit();
	}
}

/* All chunks. */
template <int row_tiles, int stages, typename fetcher, int M, int N>
TT_DEVICE void product_wide_loop(
	const struct product_tile &block, uint32_t n_in, fetcher &fetch, float (&total)[M][N][4])
{
	enum { STAGE_BYTES = product_wide_shape<row_tiles>::STAGE_BYTES };
	enum { WEIGHT_BYTES = product_wide_shape<row_tiles>::WEIGHT_BYTES };
	unsigned char *stages_at = (unsigned char *)block.sums;
	uint32_t n_chunks = product_chunks(n_in), m_warp = tt_warp() % 2, n_warp = tt_warp() / 2;
	uint32_t chunk = 0, read = 0, fill = (stages - 1) * STAGE_BYTES, n_slices = product_slices(n_in);
	float d[M][N][4] = {};
	for (uint32_t slice = 0; slice < n_slices; slice++) {
		uint32_t end = product_slice_start(slice + 1, n_in);
		for (; chunk < end; chunk++) {
			tt_copy_async_wait<stages - 2>();
			/* the stage has landed for all, and nobody still reads the one that is filled next */
			tt_sync_block();
			if (chunk + stages - 1 < n_chunks)
				fetch(fill, chunk + stages - 1);
			tt_copy_async_commit();
			const unsigned char *stage = stages_at + read;
			product_multiply<M, N>(d, stage + m_warp * M * 2 * PRODUCT_FRAGMENT,
				stage + WEIGHT_BYTES + n_warp * N * PRODUCT_FRAGMENT);
			fill = read;
			read = product_next<stages, STAGE_BYTES>(read);
		}
		product_fold<M, N>(total, d, slice == 0);
	}
}

template <typename op, int M, int N>
TT_DEVICE void product_wide_end(const op &a, const struct product_tile &block, const float (&total)[M][N][4])
{
	float *sums = block.sums + tt_warp() / 2 * N * 8 * block.stride + tt_warp() % 2 * M * PRODUCT_TILE;
	product_end<op, M, N>(a, block, sums, true, total);
}

/* 128 tokens a block, for more than 64: both operands come through stages that the block shares. Blocks that share
 * weight rows are adjacent in the grid, so that weights come from memory about once. */
template <typename op, int row_tiles, int stages>
static __global__ void __launch_bounds__(PRODUCT_THREADS, product_wide_blocks(row_tiles))
	product_wide(const __grid_constant__ op a)
{
	typedef product_wide_shape<row_tiles> shape;
	TT_DYNAMIC_SHARED(shared);
	struct product_tile block = product_begin<row_tiles, shape::TOKENS>(shared, blockIdx.x * shape::TOKENS, 1);
	struct product_stream w[shape::W], x[shape::X];
	float total[shape::M][shape::N][4] = {};

	product_wait(a, block);
	if (!block.n_tokens)
		return;
	TT_UNROLL
	for (int i = 0; i < shape::W; i++)
		w[i] = product_weights(a, block, tt_warp() + i * PRODUCT_WARPS, 0);
	product_wide_tokens(a, block, x);
	auto fetch = [&](uint32_t stage, uint32_t number) {
		unsigned char *to = (unsigned char *)block.sums + stage + tt_warp() * PRODUCT_FRAGMENT + tt_lane() * 16;
		TT_UNROLL
		for (int i = 0; i < shape::W; i++) {
			tt_copy_async_or_zero(
				to + i * PRODUCT_WARPS * PRODUCT_FRAGMENT, w[i].from, w[i].end, TT_TRAFFIC_WEIGHT);
			w[i].from += TT_PACKED_TILE;
		}
		product_wide_fetch_tokens(x, to + shape::WEIGHT_BYTES, number);
	};
	product_wide_start<row_tiles, stages>(product_chunks(a.p.n_in), fetch);
	product_prepare(a, block);
	product_wide_loop<row_tiles, stages>(block, a.p.n_in, fetch, total);
	product_wide_end(a, block, total);
}

/* The epilogue alone, on a product that cuBLASLt made (fast.c): y, [token][packed row], takes the place of the sums. */
template <typename op, int row_tiles>
static __global__ void __launch_bounds__(PRODUCT_THREADS) product_apply(const __grid_constant__ op a, const float *y)
{
	enum { TOKENS = PRODUCT_APPLY_TOKENS, QUADS = row_tiles * PRODUCT_TILE / 4 };
	TT_DYNAMIC_SHARED(shared);
	struct product_tile block = product_begin<row_tiles, TOKENS>(shared, blockIdx.x * TOKENS, 1);
	product_wait(a, block);
	if (!block.n_tokens)
		return;
	product_prepare(a, block);
	for (uint32_t i = threadIdx.x; i < block.n_tokens * QUADS; i += PRODUCT_THREADS) {
		uint32_t token = i / QUADS, quad = i % QUADS, tile = block.first_tile + quad / 4;
		if (tile >= a.p.n_tiles)
			continue;
		const float *from = y + (size_t)(block.first_token + token) * a.p.n_rows + tile * PRODUCT_TILE;
		tt_shared_store_16(block.sums + token * block.stride + quad * 4,
			tt_load_16(from + quad % 4 * 4, TT_TRAFFIC_SCRATCH));
	}
	tt_sync_block();
	op::finish(a, block);
}

#include "kernels/cuda/product_quants.cuh"

#include "kernels/cuda/product_cluster.cuh"

#include "kernels/cuda/product_launch.cuh"

#endif
