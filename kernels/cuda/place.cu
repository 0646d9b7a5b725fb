/* Columns of all ranks as rows; and a hash of what ranks must agree on. */
#include "kernels/cuda/mark.cuh"
#include "kernels/cuda/norm.cuh"
#include "kernels/cuda/steer.cuh"
#include "kernels/cuda/step.cuh"
#include "kernels/cuda/ptx/barrier.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/memory.cuh"
#include "kernels/cuda/ptx/shared.cuh"
#include "kernels/cuda/ptx/warp.cuh"

enum { PLACE_THREADS = 256, PLACE_BLOCKS = 4096, AGREE_THREADS = 256 };

struct place {
	const unsigned char *from; // [n_ranks][n_rows][columns] pieces
	unsigned char *to;         // [n_rows][width] pieces
	uint32_t n_rows, columns, width;
};

/* A piece is 16 bytes, or 4 where the rows are no multiple of that. */
template <uint32_t piece>
static __global__ void __launch_bounds__(PLACE_THREADS) place_kernel(const __grid_constant__ struct place a)
{
	uint64_t n = (uint64_t)a.n_rows * a.width;
	tt_grid_launch_dependents();
	tt_grid_wait();
	for (uint64_t i = (uint64_t)blockIdx.x * PLACE_THREADS + threadIdx.x; i < n;
		i += (uint64_t)gridDim.x * PLACE_THREADS) {
		uint32_t row = (uint32_t)(i / a.width), column = (uint32_t)(i % a.width), block = column / a.columns;
		uint64_t at = ((uint64_t)block * a.n_rows + row) * a.columns + column % a.columns;
		if (piece == 16)
			tt_store_16(a.to + i * piece, tt_load_16(a.from + at * piece, TT_TRAFFIC_ACTIVATION),
				TT_TRAFFIC_ACTIVATION);
		else
			tt_store_4(a.to + i * piece, tt_load_4(a.from + at * piece, TT_TRAFFIC_ACTIVATION),
				TT_TRAFFIC_ACTIVATION);
	}
}

int tt_cuda_place(struct tt_cuda *cuda, void *to, const void *arena, uint32_t n_rows, size_t row_bytes,
	size_t whole_bytes, struct tt_error *err)
{
	bool wide = row_bytes % 16 == 0 && whole_bytes % 16 == 0;
	uint32_t piece = wide ? 16 : 4;
	struct place a = {(const unsigned char *)arena, (unsigned char *)to, n_rows, (uint32_t)(row_bytes / piece),
		(uint32_t)(whole_bytes / piece)};
	void *args[] = {&a};
	uint64_t blocks = ((uint64_t)n_rows * a.width + PLACE_THREADS - 1) / PLACE_THREADS;
	struct tt_launch launch = {"place", dim3((uint32_t)(blocks < PLACE_BLOCKS ? blocks : (uint64_t)PLACE_BLOCKS)),
		dim3(PLACE_THREADS), 0, cuda->stream, 2 * n_rows * (uint64_t)whole_bytes, 0, cuda->dependent,
		&cuda->counters};
	const void *kernel = wide ? TT_KERNEL(place_kernel<16>) : TT_KERNEL(place_kernel<4>);
	return n_rows ? tt_cuda_launch(cuda, &launch, kernel, args, err) : TT_OK;
}

struct agree {
	const struct tt_step_plan *plan;
	const struct tt_sample_result *samples; // [n_samples]
	const float *decided;                   // [n_decisions][n_layers]
	const float *squares;                   // [n_tokens][n_norm_tiles]
	const float *coef;                      // [n_rows][n_layers]
	uint32_t *word;                         // out
	uint32_t n_layers, n_norm_tiles;
	struct tt_cuda_mark mark; /* behind the step's last exchange */
};

/* FNV-1a, by words: it need not withstand anyone. */
TT_DEVICE uint32_t agree_add(uint32_t hash, uint32_t word)
{
	return (hash ^ word) * 0x01000193u;
}

/* Whether a token of the step is the last of its sequence's: what steered the ones before it, in all layers but the
 * last, is in its row too, since it reads their keys. */
TT_DEVICE bool agree_is_last(const struct tt_step_plan *plan, uint32_t token, uint32_t n_tokens)
{
	return token + 1 >= n_tokens || step_word(plan, &plan->seqs, token) != step_word(plan, &plan->seqs, token + 1);
}

/* The rows whose token the lanes of a warp have, where a lane's is wanted: their squares, and the coefficients that
 * steered them, since a rank that steers its columns otherwise passes them on, and h is the same on all. */
TT_DEVICE uint32_t agree_add_rows(uint32_t hash, const struct agree &a, uint32_t token, bool wanted)
{
	const struct steer steer = {a.plan, NULL, NULL, NULL, NULL, 0, 0, 0};
	uint32_t lanes = tt_ballot(wanted);
	for (uint32_t lane = 0; lane < TT_WARP && lanes >> lane; lane++) {
		if (!(lanes >> lane & 1))
			continue;
		size_t at = tt_shuffle(token, lane);
		const float *squares = a.squares + at * a.n_norm_tiles;
		uint2 rows = steer_rows(steer, (uint32_t)at);
		for (uint32_t i = tt_lane(); i < a.n_norm_tiles; i += TT_WARP)
			hash = agree_add(hash, tt_load_4(squares + i, TT_TRAFFIC_ACTIVATION));
		for (uint32_t i = tt_lane(); i < TT_STACK * a.n_layers && (rows.x | rows.y); i += TT_WARP) {
			size_t row = steer_row_index(rows, i / a.n_layers);
			if (row)
				hash = agree_add(hash,
					tt_load_4(a.coef + row * a.n_layers + i % a.n_layers, TT_TRAFFIC_DIRECTION));
		}
	}
	return hash;
}

/* One block; each thread hashes every AGREE_THREADS-th word, and the first one the hashes of all. */
static __global__ void __launch_bounds__(AGREE_THREADS) agree_kernel(const __grid_constant__ struct agree a)
{
	TT_DYNAMIC_SHARED(shared);
	uint32_t *hashes = (uint32_t *)shared, hash = 0x811c9dc5u;
	tt_grid_launch_dependents();
	tt_grid_wait();
	uint32_t n_tokens = tt_load_4(&a.plan->n_tokens, TT_TRAFFIC_PLAN);
	uint32_t n_samples = tt_load_4(&a.plan->n_samples, TT_TRAFFIC_PLAN);
	uint32_t n_decided = tt_load_4(&a.plan->n_decisions, TT_TRAFFIC_PLAN) * a.n_layers;
	for (uint32_t i = threadIdx.x; i < n_samples; i += AGREE_THREADS)
		hash = agree_add(hash, tt_load_4(&a.samples[i].token, TT_TRAFFIC_RESULT));
	for (uint32_t i = threadIdx.x; i < n_decided; i += AGREE_THREADS)
		hash = agree_add(hash, tt_load_4(a.decided + i, TT_TRAFFIC_RESULT));
	for (uint32_t first = tt_warp() * TT_WARP; first < n_tokens; first += AGREE_THREADS) {
		uint32_t token = first + tt_lane();
		hash = agree_add_rows(hash, a, token, token < n_tokens && agree_is_last(a.plan, token, n_tokens));
	}
	for (uint32_t first = tt_warp() * TT_WARP; first < n_samples; first += AGREE_THREADS) {
		bool valid = first + tt_lane() < n_samples;
		uint32_t token = valid ? step_sampled_token(a.plan, first + tt_lane()) : 0;
		hash = agree_add_rows(hash, a, token, valid && !agree_is_last(a.plan, token, n_tokens));
	}
	tt_shared_store_4(hashes + threadIdx.x, hash);
	tt_sync_block();
	for (uint32_t i = 1; i < AGREE_THREADS && threadIdx.x == 0; i++)
		hash = agree_add(hash, tt_shared_load_4(hashes + i));
	if (threadIdx.x == 0)
		tt_store_4(a.word, hash, TT_TRAFFIC_RESULT);
	mark_reach(a.mark);
}

int tt_cuda_agree(struct tt_cuda *cuda, const struct tt_results *outputs, struct tt_error *err)
{
	struct agree a = {cuda->plan, outputs->samples, outputs->decided, cuda->squares, cuda->coef, outputs->agreed,
		cuda->config.n_layers, tt_norm_tiles(cuda->config.hidden_size), tt_cuda_ranks_mark(cuda)};
	void *args[] = {&a};
	struct tt_launch launch = {"agree", dim3(1), dim3(AGREE_THREADS), AGREE_THREADS * sizeof(uint32_t),
		cuda->stream, 0, 0, cuda->dependent, &cuda->counters};
	TT_TRY(tt_cuda_launch(cuda, &launch, TT_KERNEL(agree_kernel), args, err));
	tt_cuda_ranks_marked(cuda);
	return TT_OK;
}
