/* A cuBLASLt for the emulator: one plain kernel that adds in descending order, so that its sums are no strict kernel's.
 * It offers two algorithms; the first refuses to run, as some do. */
#include "kernels/emu/cublasLt.h"

#include <stdlib.h>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx/ptx.cuh"

struct cublasLtContext {
	int unused;
};
struct cublasLtMatrixLayout {
	cudaDataType type;
	uint64_t rows, columns;
	int64_t stride;
};
struct cublasLtMatmulDesc {
	cublasOperation_t a;
};
struct cublasLtMatmulPreference {
	size_t workspace;
};

struct product_args {
	const tt_bf16 *a, *b; // a [n_out][n_in], b [n][n_in]
	float *d;             // out [n][n_out]
	uint32_t n_out, n_in, n;
};

enum { THREADS = 64 };

static __global__ void cublaslt_kernel(const __grid_constant__ struct product_args p)
{
	uint32_t row = blockIdx.x * THREADS + threadIdx.x;
	for (uint32_t token = blockIdx.y; row < p.n_out && token < p.n; token += gridDim.y) {
		float sum = 0;
		for (uint32_t k = p.n_in; k-- > 0;)
			sum = fmaf(tt_bf16x2_low(tt_load_2(p.a + (size_t)row * p.n_in + k, TT_TRAFFIC_WEIGHT)),
				tt_bf16x2_low(tt_load_2(p.b + (size_t)token * p.n_in + k, TT_TRAFFIC_ACTIVATION)), sum);
		tt_store_f32(p.d + (size_t)token * p.n_out + row, sum, TT_TRAFFIC_SCRATCH);
	}
}

template <typename type> static cublasStatus_t make(type **out)
{
	*out = (type *)calloc(1, sizeof **out);
	return *out ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

static cublasStatus_t drop(void *object)
{
	free(object);
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
	return make(handle);
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
	return drop(handle);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t product, const void *alpha, const void *a,
	cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout, const void *beta, const void *,
	cublasLtMatrixLayout_t, void *d, cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algorithm, void *,
	size_t, cudaStream_t stream)
{
	struct product_args p = {(const tt_bf16 *)a, (const tt_bf16 *)b, (float *)d, (uint32_t)a_layout->columns,
		(uint32_t)a_layout->rows, (uint32_t)b_layout->columns};
	bool fits = product->a == CUBLAS_OP_T && *(const float *)alpha == 1 && *(const float *)beta == 0 &&
		    a_layout->type == CUDA_R_16BF && b_layout->type == CUDA_R_16BF && d_layout->type == CUDA_R_32F &&
		    b_layout->rows == p.n_in && d_layout->rows == p.n_out && d_layout->columns == p.n &&
		    a_layout->stride == p.n_in && b_layout->stride == p.n_in && d_layout->stride == p.n_out;
	if (!fits || algorithm->data[0] != 2)
		return CUBLAS_STATUS_INVALID_VALUE;
	void *args[] = {&p};
	struct tt_error err;
	struct tt_launch launch = {"cublasLtMatmul", dim3((p.n_out + THREADS - 1) / THREADS, p.n), dim3(THREADS), 0,
		stream, 0, 0, false, NULL};
	return tt_launch_kernel(&launch, TT_KERNEL(cublaslt_kernel), args, &err) == TT_OK
		       ? CUBLAS_STATUS_SUCCESS
		       : CUBLAS_STATUS_EXECUTION_FAILED;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *product, cublasComputeType_t compute, cudaDataType scale)
{
	return compute == CUBLAS_COMPUTE_32F && scale == CUDA_R_32F ? make(product) : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t product)
{
	return drop(product);
}

cublasStatus_t cublasLtMatmulDescSetAttribute(
	cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t attribute, const void *value, size_t n_bytes)
{
	if (attribute != CUBLASLT_MATMUL_DESC_TRANSA || n_bytes != sizeof product->a)
		return CUBLAS_STATUS_INVALID_VALUE;
	memcpy(&product->a, value, n_bytes);
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(
	cublasLtMatrixLayout_t *layout, cudaDataType type, uint64_t rows, uint64_t columns, int64_t stride)
{
	if (make(layout) != CUBLAS_STATUS_SUCCESS)
		return CUBLAS_STATUS_EXECUTION_FAILED;
	**layout = cublasLtMatrixLayout{type, rows, columns, stride};
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
	return drop(layout);
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(
	cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t attribute, const void *value, size_t n_bytes)
{
	if (attribute != CUBLASLT_MATRIX_LAYOUT_COLS || n_bytes != sizeof layout->columns)
		return CUBLAS_STATUS_INVALID_VALUE;
	memcpy(&layout->columns, value, n_bytes);
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference)
{
	return make(preference);
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
	return drop(preference);
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
	cublasLtMatmulPreferenceAttributes_t attribute, const void *value, size_t n_bytes)
{
	if (attribute != CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES || n_bytes != sizeof preference->workspace)
		return CUBLAS_STATUS_INVALID_VALUE;
	memcpy(&preference->workspace, value, n_bytes);
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t,
	cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatmulPreference_t,
	int n_wanted, cublasLtMatmulHeuristicResult_t *results, int *n)
{
	for (*n = 0; *n < 2 && *n < n_wanted; ++*n) {
		results[*n] = {};
		results[*n].algo.data[0] = (uint64_t)*n + 1;
	}
	return CUBLAS_STATUS_SUCCESS;
}
