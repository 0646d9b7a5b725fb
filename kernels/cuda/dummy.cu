/* The weights of a dummy model, made on the device: sending 16 GB over the bus would take longer than making them. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/packed.h"
#include "kernels/cuda/ptx/memory.cuh"
#include "kernels/cuda/ptx/numbers.cuh"

extern "C" {
#include "weights/dummy.h"
}

enum { DUMMY_THREADS = 256, DUMMY_BLOCKS = 4096 };

struct dummy {
	tt_bf16 *out;                       // [any][n_in] packed
	uint32_t first, n_rows, n_in, span; /* rows first to first + n_rows of the packed matrix */
	uint64_t before;                    /* weights of the whole matrix before these */
	float half;
};

/* Stores weights i and i + 1. */
TT_DEVICE void dummy_pair(const struct dummy &a, tt_bf16 *to, uint64_t i)
{
	tt_store_4(to, tt_bf16x2_from_f32(tt_dummy_weight(i, a.half), tt_dummy_weight(i + 1, a.half)),
		TT_TRAFFIC_ACTIVATION);
}

static __global__ void __launch_bounds__(DUMMY_THREADS) dummy_kernel(const __grid_constant__ struct dummy a)
{
	uint64_t stride = (uint64_t)gridDim.x * DUMMY_THREADS * 4, n = (uint64_t)a.n_rows * a.n_in;
	for (uint64_t i = ((uint64_t)blockIdx.x * DUMMY_THREADS + threadIdx.x) * 4; i < n; i += stride) {
		uint32_t row = tt_packed_row(a.span, a.first + (uint32_t)(i / a.n_in));
		tt_bf16 *to = a.out + tt_packed_at(row, (uint32_t)(i % a.n_in), a.n_in);
		dummy_pair(a, to, a.before + i);
		dummy_pair(a, to + 4, a.before + i + 2);
	}
}

int tt_cuda_fill_dummy(struct tt_cuda *cuda, uint16_t *packed, const struct tt_matrix *matrix, uint32_t first_row,
	uint32_t span, struct tt_error *err)
{
	uint64_t n = (uint64_t)matrix->n_out * matrix->n_in, blocks = (n / 4 + DUMMY_THREADS - 1) / DUMMY_THREADS;
	struct dummy a = {packed, first_row, matrix->n_out, matrix->n_in, span,
		(uint64_t)matrix->first_row * matrix->n_in, tt_dummy_half(matrix->n_in)};
	void *args[] = {&a};
	struct tt_launch launch = {"dummy", dim3((uint32_t)(blocks < DUMMY_BLOCKS ? blocks : (uint64_t)DUMMY_BLOCKS)),
		dim3(DUMMY_THREADS), 0, cuda->stream, n * sizeof(tt_bf16), 0, false, &cuda->counters};
	return tt_cuda_launch(cuda, &launch, TT_KERNEL(dummy_kernel), args, err);
}

/* The PTX of compute_80, which newer GPUs run, and an sm_90 that is told to compile PTX itself, does not wait for the
 * previous grid and has no clusters. */
static int look_at_code(struct tt_cuda *cuda, struct tt_error *err)
{
	struct cudaFuncAttributes found;
	TT_TRY_CUDA(cudaFuncGetAttributes(&found, TT_KERNEL(dummy_kernel)), "the program's code for the device");
	cuda->dependent = cuda->dependent && found.ptxVersion >= 90;
	cuda->clusters = cuda->clusters && cuda->dependent;
	return TT_OK;
}

int tt_cuda_try(struct tt_cuda *cuda, struct tt_error *err)
{
	enum { BLOCKS = 8 }; /* of a product's cluster; two of them share a multiprocessor's memory */
	struct dummy a = {NULL, 0, 1, 8, TT_PACKED_ROWS, 0, 1};
	void *memory = NULL, *args[] = {&a};
	const void *kernel = TT_KERNEL(dummy_kernel);
	TT_TRY(look_at_code(cuda, err));
	struct tt_launch launch = {"a first kernel", dim3(1), dim3(DUMMY_THREADS), 0, cuda->stream, 0, 0, false, NULL};
	struct tt_launch cluster = launch;
	cluster.grid = dim3(BLOCKS);
	cluster.cluster = BLOCKS;
	cluster.shared_bytes = cuda->prepared.most_shared / 2;
	TT_TRY_CUDA(cudaMalloc(&memory, tt_packed_size(a.n_rows, a.n_in) * sizeof(tt_bf16)), "device memory");
	a.out = (tt_bf16 *)memory;
	int status = tt_launch_kernel(&launch, kernel, args, err);
	if (status == TT_OK && cuda->clusters)
		status = tt_kernel_prepare(kernel, cuda->prepared.most_shared, err);
	/* a slice of a device, or a share of it, may be too small for a cluster */
	if (status == TT_OK && cuda->clusters && tt_launch_kernel(&cluster, kernel, args, NULL) != TT_OK) {
		cudaGetLastError(); /* so that it is not reported at the next launch */
		cuda->clusters = false;
	}
	cudaError_t error = status == TT_OK ? cudaStreamSynchronize(cuda->stream) : cudaSuccess;
	cudaFree(memory);
	TT_TRY(status);
	TT_TRY_CUDA(error, launch.name);
	return TT_OK;
}
