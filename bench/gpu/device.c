/* The device; the most that it can copy and multiply; and cuBLAS, which is looked for at run time: a machine without it
 * lacks only the comparison. */
#include <cuda_runtime.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "bench/gpu/gpu.h"
#include "kernels/cuda/launch.h"

/* Values of cublas_api.h, which is not needed to build. */
enum { R_32F = 0, R_16BF = 14, COMPUTE_32F = 68, GEMM_DEFAULT = -1, OP_N = 0, OP_T = 1, WORKSPACE = 32 << 20 };
typedef int cublas_create(void **handle);
typedef int cublas_set_stream(void *handle, void *stream);
typedef int cublas_set_workspace(void *handle, void *workspace, size_t n_bytes);
typedef int cublas_gemm(void *handle, int transpose_a, int transpose_b, int m, int n, int k, const void *alpha,
	const void *a, int type_a, int lda, const void *b, int type_b, int ldb, const void *beta, void *c, int type_c,
	int ldc, int compute, int algorithm);

enum { MATRIX = 8192, COPIES = 20 }; /* COPIES: in a sample, so that waiting for it does not count */

struct tt_gpu {
	cudaStream_t stream;
	void *memory; // three matrices; the copy case copies its first half to its second
	size_t n_bytes;
	uint32_t matrix, n_copies;
	void *library, *handle, *workspace;
	cublas_set_stream *set_stream;
	cublas_set_workspace *set_workspace;
	cublas_gemm *gemm;
};

/* In ISO C a pointer to a function cannot be cast to void *. */
#define LOOK_UP(library, name, out) (*(void **)(out) = dlsym(library, name))

static void cublas_open(struct tt_gpu *gpu)
{
	static const char *const names[] = {"libcublas.so.13", "libcublas.so.12", "libcublas.so"};
	cublas_create *create = NULL;
	const char *found = NULL;
	for (size_t i = 0; !gpu->library && i < sizeof names / sizeof *names; i++)
		gpu->library = dlopen(found = names[i], RTLD_NOW | RTLD_LOCAL);
	if (!gpu->library)
		return;
	LOOK_UP(gpu->library, "cublasCreate_v2", &create);
	LOOK_UP(gpu->library, "cublasSetStream_v2", &gpu->set_stream);
	LOOK_UP(gpu->library, "cublasSetWorkspace_v2", &gpu->set_workspace);
	LOOK_UP(gpu->library, "cublasGemmEx", &gpu->gemm);
	if (!create || !gpu->set_stream || !gpu->set_workspace || !gpu->gemm || create(&gpu->handle) ||
		cudaMalloc(&gpu->workspace, WORKSPACE) != cudaSuccess)
		gpu->handle = NULL;
	if (!gpu->handle)
		printf("cuBLAS was found (%s) and cannot be used\n", found);
}

/* Random bf16 of moderate size everywhere: zeros multiply faster. */
static int fill(struct tt_gpu *gpu, struct tt_error *err)
{
	enum { BLOCK = 1 << 22 };
	uint16_t *block = NULL;
	uint64_t state = 7;
	size_t first = gpu->n_bytes < BLOCK ? gpu->n_bytes : (size_t)BLOCK;
	TT_TRY(tt_alloc(&block, BLOCK / 2, sizeof *block, err));
	for (size_t i = 0; i < BLOCK / 2; i++) {
		uint64_t bits = tt_bench_draw(&state);
		block[i] = (uint16_t)((bits & 0x80ff) | 0x3f00);
	}
	cudaError_t error = cudaMemcpy(gpu->memory, block, first, cudaMemcpyHostToDevice);
	for (size_t at = first; at < gpu->n_bytes && error == cudaSuccess; at += first)
		error = cudaMemcpy((char *)gpu->memory + at, gpu->memory,
			gpu->n_bytes - at < first ? gpu->n_bytes - at : first, cudaMemcpyDeviceToDevice);
	free(block);
	TT_TRY_CUDA(error, "filling the ceilings' memory");
	return TT_OK;
}

int tt_gpu_open(struct tt_gpu **out, bool tiny, struct tt_error *err)
{
	struct tt_gpu *gpu = NULL;
	TT_TRY(tt_alloc(&gpu, 1, sizeof *gpu, err));
	*out = gpu;
	gpu->matrix = tiny ? 64 : MATRIX;
	gpu->n_copies = tiny ? 1 : COPIES;
	gpu->n_bytes = (size_t)3 * gpu->matrix * gpu->matrix * sizeof(uint16_t);
	TT_TRY_CUDA(cudaStreamCreateWithFlags(&gpu->stream, cudaStreamNonBlocking), "a stream");
	TT_TRY_CUDA(cudaMalloc(&gpu->memory, gpu->n_bytes), "the ceilings' memory");
	TT_TRY(fill(gpu, err));
	if (!tiny)
		cublas_open(gpu);
	return TT_OK;
}

void tt_gpu_close(struct tt_gpu *gpu)
{
	if (!gpu)
		return;
	cudaFree(gpu->memory);
	cudaFree(gpu->workspace);
	if (gpu->stream)
		cudaStreamDestroy(gpu->stream);
	free(gpu); /* cuBLAS stays loaded: unloading it is not worth a crash at the end */
}

bool tt_gpu_has_cublas(const struct tt_gpu *gpu)
{
	return gpu->handle;
}

const char *tt_gpu_matrix_ceiling(const struct tt_gpu *gpu)
{
	return gpu->handle ? "matrix" : NULL;
}

int tt_gpu_cublas(struct tt_gpu *gpu, void *stream, void *y, const void *x, const void *w, uint32_t n, uint32_t n_out,
	uint32_t n_in, struct tt_error *err)
{
	const float one = 1, zero = 0;
	if (!gpu->handle)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "there is no cuBLAS");
	/* A workspace of our own, because memory that cuBLAS allocates itself cannot be part of a captured graph.
	 * Setting a stream drops the workspace, so it is set again. */
	if (stream &&
		(gpu->set_stream(gpu->handle, stream) || gpu->set_workspace(gpu->handle, gpu->workspace, WORKSPACE)))
		return tt_fail(err, TT_ERR_DEVICE, "cuBLAS does not take the stream");
	/* Row-major [n][n_out] is column-major n_out x n. */
	int status = gpu->gemm(gpu->handle, OP_T, OP_N, (int)n_out, (int)n, (int)n_in, &one, w, R_16BF, (int)n_in, x,
		R_16BF, (int)n_in, &zero, y, R_16BF, (int)n_out, COMPUTE_32F, GEMM_DEFAULT);
	return status ? tt_fail(err, TT_ERR_DEVICE, "cuBLAS: status %d", status) : TT_OK;
}

static int copy_run(void *context, struct tt_error *err)
{
	struct tt_gpu *gpu = context;
	size_t half = gpu->n_bytes / 2;
	for (uint32_t i = 0; i < gpu->n_copies; i++)
		TT_TRY_CUDA(cudaMemcpyAsync((char *)gpu->memory + half, gpu->memory, half, cudaMemcpyDeviceToDevice,
				    gpu->stream),
			"a copy");
	TT_TRY_CUDA(cudaStreamSynchronize(gpu->stream), "a copy");
	return TT_OK;
}

static int matrix_run(void *context, struct tt_error *err)
{
	struct tt_gpu *gpu = context;
	uint16_t *x = gpu->memory;
	size_t n = (size_t)gpu->matrix * gpu->matrix;
	TT_TRY(tt_gpu_cublas(gpu, gpu->stream, x + 2 * n, x, x + n, gpu->matrix, gpu->matrix, gpu->matrix, err));
	TT_TRY_CUDA(cudaStreamSynchronize(gpu->stream), "a product");
	return TT_OK;
}

int tt_gpu_add_ceilings(struct tt_gpu *gpu, struct tt_bench *bench, const char *group, struct tt_error *err)
{
	double side = gpu->matrix;
	struct tt_bench_case copy = {
		.group = group,
		.name = "copy",
		.run = copy_run,
		.context = gpu,
		.work = {{"bytes", (double)(gpu->n_bytes / 2) * 2 * gpu->n_copies, NULL}},
	};
	struct tt_bench_case matrix = {
		.group = group,
		.name = "matrix",
		.run = matrix_run,
		.context = gpu,
		.work = {{"flops", 2 * side * side * side, NULL}},
	};
	TT_TRY(tt_bench_add(bench, &copy, err));
	return gpu->handle ? tt_bench_add(bench, &matrix, err) : TT_OK;
}

int tt_gpu_machine(json_t **out, struct tt_error *err)
{
	struct cudaDeviceProp device;
	int driver = 0, runtime = 0, n_devices = 0;
	char capability[16];
	/* Without a driver the next call would report a mismatch of versions. */
	if (cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0)
		return tt_fail(
			err, TT_ERR_UNSUPPORTED, "there is no NVIDIA driver, or none that this program can reach");
	cudaError_t error = cudaGetDeviceCount(&n_devices);
	if (error == cudaErrorNoDevice)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "the driver sees no device");
	TT_TRY_CUDA(cudaRuntimeGetVersion(&runtime), "the runtime's version");
	if (error != cudaSuccess)
		return tt_fail(err, TT_ERR_DEVICE, "%s (%s); the driver is for CUDA %d, this program for CUDA %d",
			cudaGetErrorString(error), cudaGetErrorName(error), driver, runtime);
	TT_TRY_CUDA(cudaGetDeviceProperties(&device, 0), "the device");
	snprintf(capability, sizeof capability, "%d.%d", device.major, device.minor);
	*out = json_pack("{s:s, s:I, s:i, s:s, s:i, s:i, s:i, s:i}", "device", device.name, "memory_bytes",
		(json_int_t)device.totalGlobalMem, "multiprocessors", device.multiProcessorCount, "capability",
		capability, "shared_bytes_a_block", (int)device.sharedMemPerBlockOptin, "l2_bytes", device.l2CacheSize,
		"cuda_driver", driver, "cuda_runtime", runtime);
	return *out ? TT_OK : tt_fail(err, TT_ERR_MEMORY, "the machine's description could not be made");
}

int tt_gpu_hold(struct tt_error *err)
{
	TT_TRY_CUDA(cudaFree(NULL), "a context");
	return TT_OK;
}

int tt_gpu_check(struct tt_error *err)
{
	TT_TRY_CUDA(cudaDeviceSynchronize(), "the device is left with an error");
	cudaGetLastError(); /* one that does not stay was reported where it came */
	return TT_OK;
}

int tt_gpu_alive(struct tt_error *err)
{
	enum { N_BYTES = 1 << 20, VALUE = 0x5a };
	unsigned char *back = NULL;
	void *memory = NULL;
	TT_TRY_CUDA(cudaMalloc(&memory, N_BYTES), "device memory");
	TT_TRY_CUDA(cudaMemset(memory, VALUE, N_BYTES), "writing device memory");
	TT_TRY(tt_alloc(&back, N_BYTES, 1, err));
	cudaError_t error = cudaMemcpy(back, memory, N_BYTES, cudaMemcpyDeviceToHost);
	bool right = back[0] == VALUE && !memcmp(back, back + 1, N_BYTES - 1);
	free(back);
	TT_TRY_CUDA(error, "reading device memory");
	return right ? TT_OK : tt_fail(err, TT_ERR_DEVICE, "device memory does not hold what was written");
}
