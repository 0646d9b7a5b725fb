/* Each kernel alone, at a model's shapes. A sample is one graph that runs the op on many copies of its weights in turn,
 * so that no copy is in the L2 cache when it is read, with the launches as close together as in a decode step. A few
 * outputs are first compared with sums in double. */
#include <cuda_runtime.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "bench/gpu/gpu.h"
#include "bench/gpu/world.h"
#include "kernels/cuda/packed.h"

enum { MAX_CASES = 3, N_CHECKED = 64 };

static const char *const op_names[TT_N_KERNEL_OPS] = {
	"embed", "qkv", "attention", "o_proj", "gate_up", "down_proj", "logits", "sample"};

struct kernel_case {
	struct tt_kernel_world *world; /* its step is the one of this case */
	struct tt_gpu *gpu;
	enum tt_kernel_op op;
	bool cublas;
	cudaGraphExec_t graph;
	uint32_t n_launches; /* in the graph of a sample */
	char note[64];
	const char *group;
};

struct kernel_bench {
	struct tt_gpu *gpu;
	struct tt_kernel_world base, worlds[2]; /* of the step: unsteered and steered */
	enum tt_kernel_op op;                   /* of the group */
	uint32_t n_cases;
	struct kernel_case cases[MAX_CASES];
};

static int op_run(struct tt_kernel_world *w, enum tt_kernel_op op, uint32_t copy, struct tt_error *err)
{
	struct tt_layer layer;
	struct tt_matrix output;
	tt_kernel_world_weights(w, copy, &layer, &output);
	return tt_kernel_world_run(w, op, copy, &layer, &output, err);
}

/* Output and input widths of the product inside an op, and the matrix of one copy. */
struct product {
	uint32_t n_out, n_in;
	const void *x; // device bf16 [n][n_in]
	const void *w; // device bf16 [n_out][n_in] packed; cuBLAS takes the same numbers for rows
};

static struct product product_of(struct tt_kernel_world *w, enum tt_kernel_op op, uint32_t copy)
{
	const struct tt_config *c = &w->config;
	struct tt_layer layer;
	struct tt_matrix output;
	uint32_t n_q = c->n_heads * c->head_dim, n_kv = c->n_kv_heads * c->head_dim;
	tt_kernel_world_weights(w, copy, &layer, &output);
	switch (op) {
	case TT_KERNEL_QKV:
		return (struct product){n_q + 2 * n_kv, c->hidden_size, w->cuda.x, layer.wq.data};
	case TT_KERNEL_O_PROJ:
		return (struct product){c->hidden_size, n_q, w->attention, layer.wo.data};
	case TT_KERNEL_GATE_UP:
		return (struct product){2 * c->ffn_size, c->hidden_size, w->cuda.x, layer.w_gate.data};
	case TT_KERNEL_DOWN_PROJ:
		return (struct product){c->hidden_size, c->ffn_size, w->ffn, layer.w_down.data};
	case TT_KERNEL_LOGITS:
		return (struct product){c->vocab_size, c->hidden_size, w->cuda.x, output.data};
	default:
		return (struct product){0};
	}
}

static uint32_t rows_of(const struct tt_kernel_world *w, enum tt_kernel_op op)
{
	return op == TT_KERNEL_LOGITS || op == TT_KERNEL_SAMPLE ? w->n_samples : w->n_tokens;
}

/* So many copies that together they are several times an L2 cache. */
static uint32_t copies_of(struct tt_kernel_world *w, enum tt_kernel_op op)
{
	struct product p = product_of(w, op, 0);
	if (op == TT_KERNEL_ATTENTION)
		return w->n_plans;
	if (!p.n_out)
		return 8;
	uint64_t one = (uint64_t)p.n_out * p.n_in * sizeof(uint16_t), n = w->weight_bytes / one;
	return n > 256 ? 256 : n < 1 ? 1 : (uint32_t)n;
}

static int case_run(void *context, struct tt_error *err)
{
	struct kernel_case *one = context;
	return tt_kernel_world_launch(one->world, one->graph, one->n_launches, err);
}

/* So many launches that a sample takes a GPU some milliseconds, where waiting for it takes microseconds. */
static uint32_t launches_of(double bytes, double flops)
{
	double by_bytes = bytes / 3e12, by_flops = flops / 4e14, n = 3e-3 / (by_bytes > by_flops ? by_bytes : by_flops);
	return n > 64 ? 64 : n < 1 ? 1 : (uint32_t)n;
}

/* Resets h, which grows with every sum that is added to it. */
static int case_before(void *context, struct tt_error *err)
{
	struct kernel_case *one = context;
	return tt_kernel_world_restore(one->world, err);
}

static int case_record(struct kernel_case *one, uint32_t n_copies, struct tt_error *err)
{
	struct tt_kernel_world *w = one->world;
	cudaGraph_t graph = NULL;
	int status = TT_OK;
	TT_TRY_CUDA(cudaStreamBeginCapture(w->cuda.stream, cudaStreamCaptureModeThreadLocal), one->group);
	for (uint32_t i = 0; i < n_copies && status == TT_OK; i++) {
		struct product p = product_of(w, one->op, i);
		status = one->cublas ? tt_gpu_cublas(one->gpu, i == 0 ? w->cuda.stream : NULL, w->scratch, p.x, p.w,
					       rows_of(w, one->op), p.n_out, p.n_in, err)
				     : op_run(w, one->op, i, err);
	}
	cudaError_t error = cudaStreamEndCapture(w->cuda.stream, &graph);
	TT_TRY(status);
	TT_TRY_CUDA(error, one->group);
	error = cudaGraphInstantiate(&one->graph, graph, 0);
	cudaGraphDestroy(graph);
	TT_TRY_CUDA(error, one->group);
	return TT_OK;
}

/* The right value of an output of a product op, from its inputs as they are on the device. */
static int expected_output(struct kernel_case *one, uint32_t token, uint32_t i, double *out, struct tt_error *err)
{
	struct tt_kernel_world *w = one->world;
	const struct tt_config *c = &w->config;
	struct product p = product_of(w, one->op, 0);
	double a = 0, b = 0;
	if (one->op == TT_KERNEL_GATE_UP) {
		double rms = tt_kernel_world_inverse_rms(w, token);
		uint32_t gate = tt_packed_row(p.n_out, i), up = tt_packed_row(p.n_out, c->ffn_size + i);
		TT_TRY(tt_kernel_world_dot(p.x, p.w, p.n_in, token, gate, &a, err));
		TT_TRY(tt_kernel_world_dot(p.x, p.w, p.n_in, token, up, &b, err));
		*out = a * rms / (1 + exp(-a * rms)) * b * rms;
		return TT_OK;
	}
	TT_TRY(tt_kernel_world_dot(p.x, p.w, p.n_in, token, i, &a, err));
	*out = a;
	if (one->op == TT_KERNEL_LOGITS)
		*out *= tt_kernel_world_inverse_rms(w, token);
	else
		*out += (double)w->host_h[(size_t)token * c->hidden_size + i];
	return TT_OK;
}

static int actual_output(struct kernel_case *one, uint32_t token, uint32_t i, double *out, struct tt_error *err)
{
	struct tt_kernel_world *w = one->world;
	float f = 0;
	uint16_t half = 0;
	const void *from =
		one->op == TT_KERNEL_GATE_UP  ? (const void *)(w->ffn + (size_t)token * w->config.ffn_size + i)
		: one->op == TT_KERNEL_LOGITS ? (const void *)(w->logits + (size_t)token * w->config.vocab_size + i)
					      : (const void *)(w->h + (size_t)token * w->config.hidden_size + i);
	bool is_half = one->op == TT_KERNEL_GATE_UP;
	TT_TRY_CUDA(cudaMemcpy(is_half ? (void *)&half : (void *)&f, from, is_half ? 2 : 4, cudaMemcpyDeviceToHost),
		one->group);
	*out = is_half ? (double)tt_bf16_to_f32(half) : (double)f;
	return TT_OK;
}

/* Relative error of some outputs, spread over rows and columns; NaN where the op has no product or rotates it.
 * gpu-check compares every op with its CPU twin too. */
static int case_error(struct kernel_case *one, double *error, struct tt_error *err)
{
	struct tt_kernel_world *w = one->world;
	struct product p = product_of(w, one->op, 0);
	uint64_t state = 11;
	double difference = 0, norm = 0;
	*error = NAN;
	if (!p.n_out || one->op == TT_KERNEL_QKV)
		return TT_OK;
	uint32_t n_out = one->op == TT_KERNEL_GATE_UP ? w->config.ffn_size : p.n_out;
	for (uint32_t k = 0; k < N_CHECKED; k++) {
		uint32_t token = (uint32_t)(tt_bench_draw(&state) % rows_of(w, one->op));
		uint32_t i = (uint32_t)(tt_bench_draw(&state) % n_out);
		double want = 0, got = 0;
		TT_TRY(expected_output(one, token, i, &want, err));
		TT_TRY(actual_output(one, token, i, &got, err));
		difference += (got - want) * (got - want);
		norm += want * want;
	}
	*error = sqrt(difference / norm);
	return TT_OK;
}

/* f32 sums of up to 14336 products, in at most 8 parts, have errors of some 1e-6; a result rounded to bf16, 1.7e-3. */
static bool is_wrong(enum tt_kernel_op op, double error)
{
	return !isnan(error) && !(error < (op == TT_KERNEL_GATE_UP ? 4e-3 : 1e-5));
}

/* One call without a graph, before the first that is captured: what cuBLAS loads and allocates then cannot be part of
 * a graph. */
static bool cublas_works(const struct kernel_case *one)
{
	struct tt_kernel_world *w = one->world;
	struct product p = product_of(w, one->op, 0);
	struct tt_error err = {0};
	if (!p.n_out || !tt_gpu_has_cublas(one->gpu))
		return false;
	int status = tt_gpu_cublas(
		one->gpu, w->cuda.stream, w->scratch, p.x, p.w, rows_of(w, one->op), p.n_out, p.n_in, &err);
	if (status == TT_OK && cudaStreamSynchronize(w->cuda.stream) != cudaSuccess)
		status = tt_fail(&err, TT_ERR_DEVICE, "cuBLAS: its product did not end well");
	if (status != TT_OK)
		printf("no comparison with cuBLAS: %s\n", err.message);
	return status == TT_OK;
}

static int add_case(struct kernel_bench *all, struct tt_bench *bench, const struct kernel_case *spec, const char *name,
	bool has_baseline, struct tt_error *err)
{
	struct tt_kernel_world *w = spec->world;
	struct kernel_case *one = &all->cases[all->n_cases++];
	*one = *spec;
	uint32_t n_copies = copies_of(w, one->op), n = rows_of(w, one->op);
	struct product p = product_of(w, one->op, 0);
	double error = NAN, bytes = (double)(p.n_out + n) * p.n_in * 2, flops = 2.0 * p.n_out * p.n_in * n;
	TT_TRY(tt_kernel_world_restore(w, err));
	if (!one->cublas) {
		memset(&w->cuda.counters, 0, sizeof w->cuda.counters);
		TT_TRY(op_run(w, one->op, 0, err));
		TT_TRY_CUDA(cudaStreamSynchronize(w->cuda.stream), one->group);
		bytes = (double)w->cuda.counters.bytes;
		flops = (double)w->cuda.counters.flops;
		if (strcmp(name, "steered"))
			TT_TRY(case_error(one, &error, err));
	}
	if (!isnan(error))
		snprintf(one->note, sizeof one->note, "relative error %.1e%s", error,
			is_wrong(one->op, error) ? ": WRONG" : "");
	if (is_wrong(one->op, error)) /* it is timed nonetheless */
		printf("FAIL %s: relative error %.1e\n", one->group, error);
	TT_TRY(case_record(one, n_copies, err));
	one->n_launches = w->tiny ? 1 : launches_of(bytes * n_copies, flops * n_copies);
	double n_calls = (double)n_copies * one->n_launches;
	struct tt_bench_case item = {
		.group = one->group,
		.name = name,
		.note = *one->note ? one->note : NULL,
		.run = case_run,
		.before = case_before,
		.context = one,
		.n_calls = 1,
		.work = {{"calls", n_calls, NULL}, {"bytes", bytes * n_calls, "copy"}},
		.baseline = has_baseline ? "cublas" : NULL,
	};
	if (flops > 0)
		item.work[2] = (struct tt_bench_work){"flops", flops * n_calls, tt_gpu_matrix_ceiling(one->gpu)};
	return tt_bench_add(bench, &item, err);
}

/* One op on one step: also steered where it has steering, and cuBLAS on the product inside. */
static int fill_op(void *context, struct tt_bench *bench, const char *group, struct tt_error *err)
{
	struct kernel_bench *all = context;
	struct kernel_case one = {.world = &all->worlds[0], .gpu = all->gpu, .op = all->op, .group = group};
	bool cublas = cublas_works(&one);
	TT_TRY(tt_gpu_add_ceilings(all->gpu, bench, group, err));
	TT_TRY(add_case(all, bench, &one, one.op == TT_KERNEL_DOWN_PROJ ? "unsteered" : "kernel", cublas, err));
	if (one.op == TT_KERNEL_DOWN_PROJ) {
		one.world = &all->worlds[1];
		TT_TRY(add_case(all, bench, &one, "steered", cublas, err));
	}
	one.world = &all->worlds[0];
	one.cublas = true;
	return cublas ? add_case(all, bench, &one, "cublas", false, err) : TT_OK;
}

static int run_op(
	struct tt_gpu_groups *groups, struct kernel_bench *all, const char *group, bool once, struct tt_error *err)
{
	if (once) {
		if (!tt_gpu_group_runs(groups, group))
			return TT_OK;
		printf("begin %s\n", group);
		fflush(stdout);
		TT_TRY(op_run(&all->worlds[0], all->op, 0, err));
		return tt_gpu_check(err);
	}
	int status = tt_gpu_group(groups, group, fill_op, all, err);
	while (all->n_cases)
		if (all->cases[--all->n_cases].graph)
			cudaGraphExecDestroy(all->cases[all->n_cases].graph);
	return status;
}

/* Every op at one number of tokens. A prompt samples once, so its embedding, logits and sampling would add nothing
 * new. */
static int run_ops(struct tt_gpu_groups *groups, struct kernel_bench *all, const char *model, uint32_t n, bool prefill,
	bool once, struct tt_error *err)
{
	for (int op = 0; op < TT_N_KERNEL_OPS; op++) {
		char group[96];
		if (prefill && (op == TT_KERNEL_EMBED || op == TT_KERNEL_LOGITS || op == TT_KERNEL_SAMPLE))
			continue;
		all->op = (enum tt_kernel_op)op;
		snprintf(group, sizeof group, "%s %s %s %u", model, prefill ? "prefill" : "decode", op_names[op], n);
		TT_TRY(run_op(groups, all, group, once, err));
	}
	return TT_OK;
}

static int run_step(struct tt_gpu_groups *groups, struct kernel_bench *all, const char *model, uint32_t n, bool prefill,
	bool once, struct tt_error *err)
{
	int status = TT_OK;
	for (int steered = 0; steered < 2 && status == TT_OK; steered++)
		status = tt_kernel_world_step(&all->worlds[steered], &all->base, n, prefill, steered, err);
	if (status == TT_OK)
		status = run_ops(groups, all, model, n, prefill, once, err);
	for (int steered = 0; steered < 2; steered++) {
		tt_kernel_world_close(&all->worlds[steered]);
		all->worlds[steered] = (struct tt_kernel_world){0};
	}
	return status;
}

int tt_kernel_bench_run(
	struct tt_gpu_groups *groups, struct tt_gpu *gpu, const char *model, bool once, struct tt_error *err)
{
	static const struct {
		uint32_t n, tiny;
		bool prefill;
	} steps[] = {{1, 1, false}, {64, 8, false}, {2048, 64, true}, {8, 0, false}, {256, 0, false}};
	struct kernel_bench *all = NULL;
	TT_TRY(tt_alloc(&all, 1, sizeof *all, err));
	all->gpu = gpu;
	int status = tt_kernel_world_open(&all->base, model, groups->tiny, err);
	for (size_t i = 0; i < sizeof steps / sizeof *steps && status == TT_OK; i++) {
		uint32_t n = groups->tiny ? steps[i].tiny : steps[i].n;
		if (n && (!groups->tokens || groups->tokens == n))
			status = run_step(groups, all, model, n, steps[i].prefill, once, err);
	}
	tt_kernel_world_close(&all->base);
	free(all);
	return status;
}
