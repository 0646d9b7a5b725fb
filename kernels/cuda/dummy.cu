/* The weights of a dummy model, made on the device: sending 16 GB over the bus would take longer than making them. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/ptx/memory.cuh"
#include "kernels/cuda/ptx/numbers.cuh"

extern "C" {
#include "weights/dummy.h"
}

enum { DUMMY_THREADS = 256, DUMMY_BLOCKS = 4096 };

struct dummy {
	tt_bf16 *out; // [n]
	uint64_t n;   /* a multiple of 8 */
	float half;
};

TT_DEVICE uint32_t dummy_pair(const struct dummy &a, uint64_t i)
{
	return tt_bf16x2_from_f32(tt_dummy_weight(i, a.half), tt_dummy_weight(i + 1, a.half));
}

static __global__ void __launch_bounds__(DUMMY_THREADS) dummy_kernel(const __grid_constant__ struct dummy a)
{
	uint64_t stride = (uint64_t)gridDim.x * DUMMY_THREADS * 8;
	for (uint64_t i = ((uint64_t)blockIdx.x * DUMMY_THREADS + threadIdx.x) * 8; i < a.n; i += stride)
		tt_store_16(a.out + i,
			make_uint4(dummy_pair(a, i), dummy_pair(a, i + 2), dummy_pair(a, i + 4), dummy_pair(a, i + 6)),
			TT_TRAFFIC_ACTIVATION);
}

int tt_cuda_fill_dummy(struct tt_cuda *cuda, uint16_t *out, const struct tt_matrix *matrix, struct tt_error *err)
{
	uint64_t n = (uint64_t)matrix->n_out * matrix->n_in, blocks = (n / 8 + DUMMY_THREADS - 1) / DUMMY_THREADS;
	struct dummy a = {out, n, tt_dummy_half(matrix->n_in)};
	void *args[] = {&a};
	struct tt_launch launch = {"dummy", dim3((uint32_t)(blocks < DUMMY_BLOCKS ? blocks : (uint64_t)DUMMY_BLOCKS)),
		dim3(DUMMY_THREADS), 0, cuda->stream, n * sizeof(tt_bf16), 0, false, &cuda->counters};
	return tt_cuda_launch(cuda, &launch, TT_KERNEL(dummy_kernel), args, err);
}

int tt_cuda_try(struct tt_cuda *cuda, struct tt_error *err)
{
	struct dummy a = {NULL, 8, 1};
	void *memory = NULL, *args[] = {&a};
	struct tt_launch launch = {"a first kernel", dim3(1), dim3(DUMMY_THREADS), 0, cuda->stream, 0, 0, false, NULL};
	TT_TRY_CUDA(cudaMalloc(&memory, a.n * sizeof(tt_bf16)), "device memory");
	a.out = (tt_bf16 *)memory;
	int status = tt_launch_kernel(&launch, TT_KERNEL(dummy_kernel), args, err);
	cudaError_t error = status == TT_OK ? cudaStreamSynchronize(cuda->stream) : cudaSuccess;
	cudaFree(memory);
	TT_TRY(status);
	TT_TRY_CUDA(error, launch.name);
	return TT_OK;
}
