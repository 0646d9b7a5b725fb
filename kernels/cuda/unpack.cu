/* Packed weights as rows again, for cuBLASLt. */
#include "kernels/cuda/fast.h"
#include "kernels/cuda/quants.cuh"

enum { UNPACK_THREADS = 256, UNPACK_BLOCKS = 4096 };

struct unpack {
	tt_bf16 *rows;      // out [n_rows][n_in]
	const void *packed; // [n_rows][n_in] packed
	uint64_t n;         /* n_rows * n_in */
	uint32_t n_in, type;
};

static __global__ void __launch_bounds__(UNPACK_THREADS) unpack_kernel(const __grid_constant__ struct unpack a)
{
	uint64_t stride = (uint64_t)gridDim.x * UNPACK_THREADS * 8;
	for (uint64_t i = ((uint64_t)blockIdx.x * UNPACK_THREADS + threadIdx.x) * 8; i < a.n; i += stride) {
		uint32_t row = (uint32_t)(i / a.n_in), column = (uint32_t)(i % a.n_in);
		uint2 first = packed_four(a.packed, a.type, row, column, a.n_in);
		uint2 second = packed_four(a.packed, a.type, row, column + 4, a.n_in);
		tt_store_16(a.rows + i, make_uint4(first.x, first.y, second.x, second.y), TT_TRAFFIC_ACTIVATION);
	}
}

int tt_cuda_unpack(struct tt_cuda *cuda, uint16_t *rows, const struct tt_matrix *packed, struct tt_error *err)
{
	uint64_t n = (uint64_t)packed->n_out * packed->n_in;
	struct unpack a = {rows, packed->data, n, packed->n_in, (uint32_t)packed->type};
	void *args[] = {&a};
	uint64_t blocks = (a.n / 8 + UNPACK_THREADS - 1) / UNPACK_THREADS;
	struct tt_launch launch = {"unpack",
		dim3((uint32_t)(blocks < UNPACK_BLOCKS ? blocks : (uint64_t)UNPACK_BLOCKS)), dim3(UNPACK_THREADS), 0,
		cuda->stream, n * sizeof(tt_bf16) + packed->n_out / TT_PACKED_ROWS * tt_quant_tile_row(a.type, a.n_in),
		0, false, &cuda->counters};
	return tt_cuda_launch(cuda, &launch, TT_KERNEL(unpack_kernel), args, err);
}
