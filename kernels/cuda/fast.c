/* --fast: large prefill products by cuBLASLt, which a machine need not have: it is looked for when an engine opens.
 *
 * y = x * w^T in f32, to scratch; then the op's own epilogue reads y in place of its sums (product_apply, product.cuh),
 * so that steering, capture, rotation and norms are exactly those of the strict kernels. cuBLASLt cannot read packed
 * weights, so the products of the layers have a copy in rows, bf16 (13 GiB for an 8B model). Unpacking a matrix before
 * each product would take no memory, but moves twice the weights in every step of a prompt. Each weight shape has one
 * algorithm: the fastest of a few, timed on the model's own weights when it is loaded; a step never searches. cuBLASLt
 * chooses the order of the sums, so strict's promise of equal bits does not hold here. */
#define _GNU_SOURCE /* RTLD_DEFAULT */
#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>

#include "base/fail.h"
#include "base/memory.h"
#include "kernels/cuda/fast.h"
#include "kernels/cuda/quants.h"

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>

enum { WORKSPACE_BYTES = 32 << 20, MAX_CANDIDATES = 8, MAX_SHAPES = 8, TIMED_RUNS = 4 };

#define FUNCTIONS(F)                                                                                                   \
	F(cublasLtCreate)                                                                                              \
	F(cublasLtDestroy)                                                                                             \
	F(cublasLtMatmul)                                                                                              \
	F(cublasLtMatmulDescCreate)                                                                                    \
	F(cublasLtMatmulDescDestroy)                                                                                   \
	F(cublasLtMatmulDescSetAttribute)                                                                              \
	F(cublasLtMatrixLayoutCreate)                                                                                  \
	F(cublasLtMatrixLayoutDestroy)                                                                                 \
	F(cublasLtMatrixLayoutSetAttribute)                                                                            \
	F(cublasLtMatmulPreferenceCreate)                                                                              \
	F(cublasLtMatmulPreferenceDestroy)                                                                             \
	F(cublasLtMatmulPreferenceSetAttribute)                                                                        \
	F(cublasLtMatmulAlgoGetHeuristic)

struct functions {
#define MEMBER(name) __typeof__(&name) name;
	FUNCTIONS(MEMBER)
#undef MEMBER
};

/* A weight's shape. cuBLAS counts by columns: for it, w is [n_in, n_out] to be transposed, x [n_in, n], y [n_out,
 * n]. */
struct shape {
	uint32_t n_out, n_in;
	cublasLtMatrixLayout_t w, x, y;
	cublasLtMatmulAlgo_t algorithm;
};

/* A matrix of the model, and its copy in rows. */
struct copy {
	const void *packed; /* where the product's weights begin */
	uint16_t *rows;     // device [n_out][n_in]
};

struct tt_cuda_fast {
	void *library; /* NULL: the functions were already in the program */
	struct functions f;
	cublasLtHandle_t handle;
	cublasLtMatmulDesc_t product;
	void *workspace; // device [WORKSPACE_BYTES]
	float *y;        // device [max_tokens][the largest n_out]
	struct shape shapes[MAX_SHAPES];
	uint32_t n_shapes;
	struct copy *copies; // [n_copies] in the order in which a step reads them
	uint32_t n_copies, next_copy;
};

static int check(cublasStatus_t status, const char *what, struct tt_error *err)
{
	return status == CUBLAS_STATUS_SUCCESS
		       ? TT_OK
		       : tt_fail(err, TT_ERR_DEVICE, "cuBLASLt: %s: status %d", what, (int)status);
}

/* A program that is linked with cuBLASLt uses that one. */
static int open_library(struct tt_cuda_fast *fast, struct tt_error *err)
{
	static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"};
	bool linked = dlsym(RTLD_DEFAULT, "cublasLtMatmul") != NULL;
	for (size_t i = 0; !linked && !fast->library && i < sizeof names / sizeof *names; i++)
		fast->library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
	if (!linked && !fast->library)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "--fast needs cuBLASLt, and no libcublasLt.so is found");
	void *from = linked ? RTLD_DEFAULT : fast->library;
#define LOOK_UP(name)                                                                                                  \
	*(void **)&fast->f.name = dlsym(from, #name);                                                                  \
	if (!fast->f.name)                                                                                             \
		return tt_fail(err, TT_ERR_UNSUPPORTED, "this cuBLASLt has no " #name);
	FUNCTIONS(LOOK_UP)
#undef LOOK_UP
	return TT_OK;
}

static int make_shape(struct tt_cuda_fast *fast, uint32_t n_out, uint32_t n_in, uint32_t n, struct tt_error *err)
{
	const struct functions *f = &fast->f;
	struct shape *s = &fast->shapes[fast->n_shapes];
	if (fast->n_shapes == MAX_SHAPES)
		return tt_fail(err, TT_ERR_LIMIT, "more than %d shapes of weights", MAX_SHAPES);
	*s = (struct shape){.n_out = n_out, .n_in = n_in};
	fast->n_shapes++;
	TT_TRY(check(f->cublasLtMatrixLayoutCreate(&s->w, CUDA_R_16BF, n_in, n_out, n_in), "a layout", err));
	TT_TRY(check(f->cublasLtMatrixLayoutCreate(&s->x, CUDA_R_16BF, n_in, n, n_in), "a layout", err));
	return check(f->cublasLtMatrixLayoutCreate(&s->y, CUDA_R_32F, n_out, n, n_out), "a layout", err);
}

static cublasStatus_t run(struct tt_cuda *cuda, const struct shape *s, const cublasLtMatmulAlgo_t *algorithm,
	const uint16_t *w, const uint16_t *x)
{
	const struct tt_cuda_fast *fast = cuda->fast;
	const float one = 1, zero = 0;
	return fast->f.cublasLtMatmul(fast->handle, fast->product, &one, w, s->w, x, s->x, &zero, fast->y, s->y,
		fast->y, s->y, algorithm, fast->workspace, WORKSPACE_BYTES, cuda->stream);
}

/* What an algorithm is timed on: the model's own weights, and others of them as x. */
struct trial {
	const uint16_t *w, *x;
	cudaEvent_t start, end;
};

/* Milliseconds of some runs after a first one that is not timed; infinite for an algorithm that does not run. */
static int time_algorithm(struct tt_cuda *cuda, const struct shape *s, const cublasLtMatmulAlgo_t *algorithm,
	const struct trial *t, float *ms, struct tt_error *err)
{
	*ms = INFINITY;
	for (int i = 0; i <= TIMED_RUNS; i++) {
		if (i == 1)
			TT_TRY_CUDA(cudaEventRecord(t->start, cuda->stream), "timing cuBLASLt");
		if (run(cuda, s, algorithm, t->w, t->x) != CUBLAS_STATUS_SUCCESS)
			return TT_OK;
	}
	TT_TRY_CUDA(cudaEventRecord(t->end, cuda->stream), "timing cuBLASLt");
	TT_TRY_CUDA(cudaEventSynchronize(t->end), "timing cuBLASLt");
	TT_TRY_CUDA(cudaEventElapsedTime(ms, t->start, t->end), "timing cuBLASLt");
	return TT_OK;
}

static int list_algorithms(const struct tt_cuda_fast *fast, const struct shape *s,
	cublasLtMatmulHeuristicResult_t list[MAX_CANDIDATES], int *n, struct tt_error *err)
{
	const struct functions *f = &fast->f;
	cublasLtMatmulPreference_t preference = NULL;
	size_t workspace = WORKSPACE_BYTES;
	TT_TRY(check(f->cublasLtMatmulPreferenceCreate(&preference), "preferences", err));
	int status = check(f->cublasLtMatmulPreferenceSetAttribute(
				   preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace),
		"preferences", err);
	if (status == TT_OK)
		status = check(f->cublasLtMatmulAlgoGetHeuristic(fast->handle, fast->product, s->w, s->x, s->y, s->y,
				       preference, MAX_CANDIDATES, list, n),
			"algorithms", err);
	f->cublasLtMatmulPreferenceDestroy(preference);
	if (status == TT_OK && *n == 0)
		return tt_fail(
			err, TT_ERR_UNSUPPORTED, "cuBLASLt has no algorithm for %u x %u weights", s->n_out, s->n_in);
	return status;
}

static int choose_algorithm(struct tt_cuda *cuda, struct shape *s, const struct trial *t, struct tt_error *err)
{
	cublasLtMatmulHeuristicResult_t list[MAX_CANDIDATES];
	float least = INFINITY, ms;
	int n = 0;
	TT_TRY(list_algorithms(cuda->fast, s, list, &n, err));
	for (int i = 0; i < n; i++) {
		TT_TRY(time_algorithm(cuda, s, &list[i].algo, t, &ms, err));
		if (ms < least) {
			least = ms;
			s->algorithm = list[i].algo;
		}
	}
	return least < INFINITY ? TT_OK
				: tt_fail(err, TT_ERR_DEVICE, "no algorithm of cuBLASLt runs %u x %u weights", s->n_out,
					  s->n_in);
}

static int find_shape(struct tt_cuda_fast *fast, uint32_t n_out, uint32_t n_in)
{
	for (uint32_t i = 0; i < fast->n_shapes; i++)
		if (fast->shapes[i].n_out == n_out && fast->shapes[i].n_in == n_in)
			return (int)i;
	return -1;
}

enum { LAYER_PRODUCTS = 4 };

/* The weights of a product: matrices whose packed rows follow each other, and the rows of all. */
struct operand {
	struct tt_matrix matrices[3];
	uint32_t n, n_out, n_in;
};

/* The products of a layer, as qkv, o_proj, gate_up and down_proj read them. */
static void layer_products(const struct tt_config *c, const struct tt_layer *layer, struct operand out[LAYER_PRODUCTS])
{
	struct tt_matrix gate_up = layer->w_gate;
	gate_up.n_out *= 2;
	out[0] = (struct operand){
		{layer->wq, layer->wk, layer->wv}, 3, (c->n_heads + 2 * c->n_kv_heads) * c->head_dim, layer->wq.n_in};
	out[1] = (struct operand){{layer->wo}, 1, layer->wo.n_out, layer->wo.n_in};
	out[2] = (struct operand){{gate_up}, 1, gate_up.n_out, gate_up.n_in};
	out[3] = (struct operand){{layer->w_down}, 1, layer->w_down.n_out, layer->w_down.n_in};
}

static int copy_operand(struct tt_cuda *cuda, struct copy *to, const struct operand *from, struct tt_error *err)
{
	TT_TRY(cuda->base.allocate(&cuda->base, &to->rows, from->n_out, from->n_in * sizeof *to->rows, err));
	to->packed = from->matrices[0].data;
	cuda->base.weight_bytes += (uint64_t)from->n_out * from->n_in * sizeof *to->rows;
	cuda->fast->n_copies++;
	size_t row = 0;
	for (uint32_t i = 0; i < from->n; row += from->matrices[i++].n_out) {
		if (tt_quant_kept(from->matrices[i].type))
			cuda->base.rounded_bytes += (uint64_t)from->matrices[i].n_out * from->n_in * sizeof *to->rows;
		TT_TRY(tt_cuda_unpack(cuda, to->rows + row * from->n_in, &from->matrices[i], err));
	}
	return TT_OK;
}

static int copy_all(struct tt_cuda *cuda, const struct tt_model *model, struct tt_error *err)
{
	struct tt_cuda_fast *fast = cuda->fast;
	const struct tt_config *c = &model->config;
	TT_TRY(tt_alloc(&fast->copies, c->n_layers, LAYER_PRODUCTS * sizeof *fast->copies, err));
	for (uint32_t l = 0; l < c->n_layers; l++) {
		struct operand products[LAYER_PRODUCTS];
		layer_products(c, &model->layers[l], products);
		for (int i = 0; i < LAYER_PRODUCTS; i++) {
			int status = copy_operand(cuda, &fast->copies[fast->n_copies], &products[i], err);
			if (status == TT_ERR_MEMORY)
				tt_fail(err, status,
					"out of device memory at layer %u: --fast has the matrices of layers as bf16 "
					"too; leave it out",
					l);
			TT_TRY(status);
		}
	}
	return TT_OK;
}

/* The copy in rows of a matrix, most often the one after the last that was asked for; NULL if there is none. */
static const uint16_t *find_rows(struct tt_cuda_fast *fast, const void *packed)
{
	for (uint32_t i = 0; i < fast->n_copies; i++) {
		const struct copy *copy = &fast->copies[(fast->next_copy + i) % fast->n_copies];
		if (copy->packed == packed) {
			fast->next_copy = (uint32_t)(copy - fast->copies) + 1;
			return copy->rows;
		}
	}
	return NULL;
}

/* x is the largest of the first layer's matrices. */
static int choose_all(struct tt_cuda *cuda, const struct tt_model *model, struct trial *t, struct tt_error *err)
{
	struct operand products[LAYER_PRODUCTS];
	uint64_t most = 0;
	layer_products(&model->config, &model->layers[0], products);
	for (int i = 0; i < LAYER_PRODUCTS; i++) {
		uint64_t n = (uint64_t)products[i].n_out * products[i].n_in;
		t->x = n > most ? cuda->fast->copies[i].rows : t->x;
		most = n > most ? n : most;
	}
	for (int i = 0; i < LAYER_PRODUCTS; i++) {
		uint32_t n_out = products[i].n_out, n_in = products[i].n_in, n = cuda->limits.max_tokens;
		uint64_t rows = most / n_in;
		if (find_shape(cuda->fast, n_out, n_in) >= 0)
			continue;
		TT_TRY(make_shape(cuda->fast, n_out, n_in, n < rows ? n : (uint32_t)rows, err));
		t->w = cuda->fast->copies[i].rows;
		TT_TRY(choose_algorithm(cuda, &cuda->fast->shapes[cuda->fast->n_shapes - 1], t, err));
	}
	return TT_OK;
}

static int open_product(struct tt_cuda *cuda, const struct tt_config *c, struct tt_error *err)
{
	struct tt_cuda_fast *fast = cuda->fast;
	const cublasOperation_t transposed = CUBLAS_OP_T;
	size_t widest = (size_t)(c->n_heads + 2 * c->n_kv_heads) * c->head_dim, ffn = (size_t)2 * c->ffn_size;
	widest = ffn > widest ? ffn : widest;
	widest = c->hidden_size > widest ? c->hidden_size : widest;
	TT_TRY(open_library(fast, err));
	TT_TRY(check(fast->f.cublasLtCreate(&fast->handle), "starting", err));
	TT_TRY(check(
		fast->f.cublasLtMatmulDescCreate(&fast->product, CUBLAS_COMPUTE_32F, CUDA_R_32F), "a product", err));
	TT_TRY(check(fast->f.cublasLtMatmulDescSetAttribute(
			     fast->product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed),
		"a product", err));
	TT_TRY(cuda->base.allocate(&cuda->base, &fast->workspace, WORKSPACE_BYTES, 1, err));
	return cuda->base.allocate(&cuda->base, &fast->y, cuda->limits.max_tokens, widest * sizeof *fast->y, err);
}

int tt_cuda_fast_open(struct tt_cuda *cuda, const struct tt_model *model, struct tt_error *err)
{
	struct trial t = {0};
	TT_TRY(tt_alloc(&cuda->fast, 1, sizeof *cuda->fast, err));
	TT_TRY(open_product(cuda, &model->config, err));
	TT_TRY(copy_all(cuda, model, err));
	TT_TRY_CUDA(cudaEventCreate(&t.start), "an event");
	cudaError_t error = cudaEventCreate(&t.end);
	int status = error == cudaSuccess ? choose_all(cuda, model, &t, err) : tt_cuda_fail(err, error, "an event");
	cudaEventDestroy(t.start);
	if (t.end)
		cudaEventDestroy(t.end);
	return status;
}

void tt_cuda_fast_close(struct tt_cuda *cuda)
{
	struct tt_cuda_fast *fast = cuda->fast;
	if (!fast)
		return;
	for (uint32_t i = 0; i < fast->n_shapes; i++) {
		const cublasLtMatrixLayout_t layouts[] = {fast->shapes[i].w, fast->shapes[i].x, fast->shapes[i].y};
		for (size_t j = 0; j < sizeof layouts / sizeof *layouts; j++)
			if (layouts[j])
				fast->f.cublasLtMatrixLayoutDestroy(layouts[j]);
	}
	if (fast->product)
		fast->f.cublasLtMatmulDescDestroy(fast->product);
	if (fast->handle)
		fast->f.cublasLtDestroy(fast->handle);
	cuda->base.release(&cuda->base, fast->workspace);
	cuda->base.release(&cuda->base, fast->y);
	for (uint32_t i = 0; i < fast->n_copies; i++)
		cuda->base.release(&cuda->base, fast->copies[i].rows);
	free(fast->copies);
	if (fast->library)
		dlclose(fast->library);
	free(fast);
	cuda->fast = NULL;
}

int tt_cuda_fast_product(struct tt_cuda *cuda, const void *w, const uint16_t *x, uint32_t n_out, uint32_t n_in,
	uint32_t n_tokens, const float **y, struct tt_error *err)
{
	struct tt_cuda_fast *fast = cuda->fast;
	int index = fast ? find_shape(fast, n_out, n_in) : -1;
	uint64_t columns = n_tokens;
	*y = NULL;
	if (index < 0 || n_tokens < TT_CUDA_FAST_TOKENS)
		return TT_OK;
	const uint16_t *rows = find_rows(fast, w);
	if (!rows)
		return TT_OK;
	const struct shape *s = &fast->shapes[index];
	const cublasLtMatrixLayout_t sized[] = {s->x, s->y};
	for (int i = 0; i < 2; i++)
		TT_TRY(check(fast->f.cublasLtMatrixLayoutSetAttribute(
				     sized[i], CUBLASLT_MATRIX_LAYOUT_COLS, &columns, sizeof columns),
			"a layout", err));
	TT_TRY(check(run(cuda, s, &s->algorithm, rows, x), "a product", err));
	cuda->counters.launches++;
	cuda->counters.bytes += 2 * ((uint64_t)n_out + n_tokens) * n_in + 4 * (uint64_t)n_out * n_tokens;
	cuda->counters.flops += 2 * (uint64_t)n_out * n_in * n_tokens;
	*y = fast->y;
	return TT_OK;
}

#else /* a toolkit without cublasLt.h */

int tt_cuda_fast_open(struct tt_cuda *cuda, const struct tt_model *model, struct tt_error *err)
{
	(void)cuda;
	(void)model;
	return tt_fail(err, TT_ERR_UNSUPPORTED, "--fast: this program was built without cuBLASLt's header");
}

void tt_cuda_fast_close(struct tt_cuda *cuda)
{
	(void)cuda;
}

int tt_cuda_fast_product(struct tt_cuda *cuda, const void *w, const uint16_t *x, uint32_t n_out, uint32_t n_in,
	uint32_t n_tokens, const float **y, struct tt_error *err)
{
	(void)cuda, (void)w, (void)x, (void)n_out, (void)n_in, (void)n_tokens, (void)err;
	*y = NULL;
	return TT_OK;
}

#endif
