/* A small real kernel for the emulator's tests: y[tokens][n] = x[tokens][k] * w[n][k]^T for at most 8 tokens, weights
 * as the M operand. Four warps, each 16 rows of weights; a stage holds 64 columns of both operands, and several are
 * under way.
 *
 * A row of a stage is 128 bytes, so that 8 rows at one column would share 4 banks: the 16-byte chunk c of row r lies at
 * chunk c ^ (r % 8), which spreads them over all 32. */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx/ptx.cuh"
#include "tests/emu/skinny.h"

enum { ROWS = 64, TOKENS = 8, COLUMNS = 64, STAGES = 4, THREADS = 128 };
enum { CHUNKS = COLUMNS / 8, WEIGHT_BYTES = ROWS * COLUMNS * 2, STAGE_BYTES = WEIGHT_BYTES + TOKENS * COLUMNS * 2 };

TT_DEVICE unsigned char *chunk_at(unsigned char *tile, uint32_t row, uint32_t chunk)
{
	return tile + (row * CHUNKS + (chunk ^ row % 8)) * 16;
}

TT_DEVICE void fetch_weights(const struct skinny_args a, unsigned char *stage, uint32_t step)
{
	for (uint32_t i = threadIdx.x; i < ROWS * CHUNKS; i += THREADS) {
		uint32_t row = i / CHUNKS, chunk = i % CHUNKS;
		const tt_bf16 *from = a.w + (size_t)(blockIdx.x * ROWS + row) * a.k + step * COLUMNS + chunk * 8;
		tt_copy_async_or_zero(chunk_at(stage, row, chunk), from, true, TT_TRAFFIC_WEIGHT);
	}
}

TT_DEVICE void fetch_tokens(const struct skinny_args a, unsigned char *stage, uint32_t step)
{
	uint32_t row = threadIdx.x / CHUNKS, chunk = threadIdx.x % CHUNKS;
	if (threadIdx.x >= TOKENS * CHUNKS)
		return;
	const tt_bf16 *from = a.x + (size_t)(row < a.n_tokens ? row : 0) * a.k + step * COLUMNS + chunk * 8;
	tt_copy_async_or_zero(
		chunk_at(stage + WEIGHT_BYTES, row, chunk), from, row < a.n_tokens, TT_TRAFFIC_ACTIVATION);
}

/* One stage: 4 products of 16 columns. */
TT_DEVICE void multiply(float d[4], unsigned char *stage)
{
	uint32_t lane = tt_lane(), a[4], b[4];
	for (uint32_t c = 0; c < CHUNKS; c += 4) {
		tt_ldmatrix_x4(b, chunk_at(stage + WEIGHT_BYTES, lane % 8, c + lane / 8));
		for (uint32_t half = 0; half < 2; half++) {
			tt_ldmatrix_x4(a, chunk_at(stage, tt_warp() * 16 + lane % 16, c + half * 2 + lane / 16));
			tt_mma(d, a, b + 2 * half);
		}
	}
}

static __global__ void __launch_bounds__(THREADS) skinny_kernel(const __grid_constant__ struct skinny_args a)
{
	TT_DYNAMIC_SHARED(shared);
	uint32_t n_steps = a.k / COLUMNS, lane = tt_lane();
	float d[4] = {0, 0, 0, 0};
	/* Weights are on their way before the kernel that makes x has ended. */
	for (uint32_t s = 0; s < STAGES - 1 && s < n_steps; s++)
		fetch_weights(a, shared + s * STAGE_BYTES, s);
	tt_grid_wait();
	for (uint32_t s = 0; s < STAGES - 1; s++) {
		if (s < n_steps)
			fetch_tokens(a, shared + s * STAGE_BYTES, s);
		tt_copy_async_commit();
	}
	for (uint32_t s = 0; s < n_steps; s++) {
		tt_copy_async_wait<STAGES - 2>();
		tt_sync_block(); /* the stage has landed for all, and nobody reads the one that is filled next */
		uint32_t next = s + STAGES - 1;
		if (next < n_steps) {
			fetch_weights(a, shared + next % STAGES * STAGE_BYTES, next);
			fetch_tokens(a, shared + next % STAGES * STAGE_BYTES, next);
		}
		tt_copy_async_commit();
		multiply(d, shared + s % STAGES * STAGE_BYTES);
	}
	tt_grid_launch_dependents();
	for (uint32_t i = 0; i < 4; i++) {
		uint32_t row = blockIdx.x * ROWS + tt_warp() * 16 + lane / 4 + i / 2 * 8, token = lane % 4 * 2 + i % 2;
		if (token < a.n_tokens)
			tt_store_f32(a.y + (size_t)token * a.n + row, d[i], TT_TRAFFIC_ACTIVATION);
	}
}

int skinny_launch(const struct skinny_args *a, cudaStream_t stream, bool dependent, struct tt_error *err)
{
	struct skinny_args own = *a;
	void *args[] = {&own};
	if (a->n % ROWS || a->k % COLUMNS || a->n_tokens > TOKENS)
		return tt_fail(err, TT_ERR_ARGUMENT, "skinny: %u x %u, %u tokens", a->n, a->k, a->n_tokens);
	struct tt_launch launch = {"skinny", dim3(a->n / ROWS), dim3(THREADS), STAGES * STAGE_BYTES, stream,
		(uint64_t)a->n * a->k * 2, (uint64_t)2 * a->n * a->k * a->n_tokens, dependent, NULL};
	return tt_launch_kernel(&launch, TT_KERNEL(skinny_kernel), args, err);
}
