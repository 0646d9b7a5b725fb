/* Packed weights as rows again, for cuBLASLt. */
#include "kernels/cuda/fast.h"
#include "kernels/cuda/packed.h"
#include "kernels/cuda/ptx/memory.cuh"

enum { UNPACK_THREADS = 256, UNPACK_BLOCKS = 4096 };

struct unpack {
	tt_bf16 *rows;         // out [n_rows][n_in]
	const tt_bf16 *packed; // [n_rows][n_in] packed
	uint64_t n;            /* n_rows * n_in */
	uint32_t n_in;
};

static __global__ void __launch_bounds__(UNPACK_THREADS) unpack_kernel(const __grid_constant__ struct unpack a)
{
	uint64_t stride = (uint64_t)gridDim.x * UNPACK_THREADS * 8;
	for (uint64_t i = ((uint64_t)blockIdx.x * UNPACK_THREADS + threadIdx.x) * 8; i < a.n; i += stride) {
		const tt_bf16 *from = a.packed + tt_packed_at((uint32_t)(i / a.n_in), (uint32_t)(i % a.n_in), a.n_in);
		const tt_bf16 *second = from + TT_PACKED_TILE / 2;
		tt_store_16(a.rows + i,
			make_uint4(tt_load_4(from, TT_TRAFFIC_WEIGHT), tt_load_4(from + 4, TT_TRAFFIC_WEIGHT),
				tt_load_4(second, TT_TRAFFIC_WEIGHT), tt_load_4(second + 4, TT_TRAFFIC_WEIGHT)),
			TT_TRAFFIC_ACTIVATION);
	}
}

int tt_cuda_unpack(struct tt_cuda *cuda, uint16_t *rows, const uint16_t *packed, uint32_t n_rows, uint32_t n_in,
	struct tt_error *err)
{
	struct unpack a = {rows, packed, (uint64_t)n_rows * n_in, n_in};
	void *args[] = {&a};
	uint64_t blocks = (a.n / 8 + UNPACK_THREADS - 1) / UNPACK_THREADS;
	struct tt_launch launch = {"unpack",
		dim3((uint32_t)(blocks < UNPACK_BLOCKS ? blocks : (uint64_t)UNPACK_BLOCKS)), dim3(UNPACK_THREADS), 0,
		cuda->stream, 2 * a.n * sizeof(tt_bf16), 0, false, &cuda->counters};
	return tt_cuda_launch(cuda, &launch, TT_KERNEL(unpack_kernel), args, err);
}
