/* The products of a whole decode step with quantised weights, beside the same with bf16: a sample is one graph of all
 * layers and the output, whose matrices follow each other in memory. Some outputs of each type are first compared with
 * sums in double over the numbers that its blocks stand for. */
#include <cuda_runtime.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "bench/gpu/gpu.h"
#include "bench/gpu/world.h"
#include "bench/harness/step_cost.h"
#include "kernels/cuda/quants.h"
#include "weights/dummy.h"

/* bytes of random records, repeated to fill memory */
enum { RECORD_BYTES = 1 << 20, TINY_RECORD_BYTES = 1 << 14, N_CHECKED = 16, STEPS_A_SAMPLE = 4 };

/* Those that files have most often come first, since time may end. */
static const enum tt_type TYPES[] = {TT_TYPE_Q4_K, TT_TYPE_F8_E4M3, TT_TYPE_Q8_0, TT_TYPE_Q6_K, TT_TYPE_Q4_0,
	TT_TYPE_Q5_K, TT_TYPE_Q5_0, TT_TYPE_Q4_1, TT_TYPE_Q5_1, TT_TYPE_IQ4_NL};
enum { N_TYPES = sizeof TYPES / sizeof *TYPES };

/* Random records of a type (kernels/cuda/quants.h): memory is filled with them over and over. */
struct records {
	enum tt_type type;
	uint32_t n, columns; /* of a record: its blocks' */
	size_t block_bytes;
	uint8_t *file; // host [n][TT_PACKED_ROWS][block_bytes]
};

struct quants_case {
	struct tt_kernel_world *world;
	cudaGraphExec_t graph;
	uint32_t n_launches; /* of the graph, in a sample */
	char note[96];
};

struct quants_bench {
	struct tt_gpu *gpu;
	struct tt_kernel_world base, bf16, quantised; /* the last two are of the step */
	struct records records;
	enum tt_type type; /* of the group */
	const char *model;
	char *memory;                // device [base.weight_bytes]: the quantised weights
	struct quants_case cases[2]; /* bf16, quantised */
};

/* -- Weights -- */

/* Of the four blocks of 128 columns, which have one scale. No number is NaN. */
static void set_fp8_scales(uint8_t *blocks, uint64_t *state)
{
	uint64_t drawn = tt_bench_draw(state);
	float scale = 0x1p-16f * (float)(1 + drawn % 256);
	for (uint32_t i = 0; i < 4 * 36; i++)
		if (i % 36 == 0)
			memcpy(blocks + i, &scale, sizeof scale);
		else if (i % 36 >= sizeof scale && (blocks[i] & 0x7f) == 0x7f)
			blocks[i] = 0;
}

/* Halves of a few 2^-9: a scale, and of some types a minimum. */
static void set_scales(enum tt_type type, uint8_t *block, uint64_t *state)
{
	if (type == TT_TYPE_F8_E4M3) {
		set_fp8_scales(block, state);
		return;
	}
	bool two = type == TT_TYPE_Q4_1 || type == TT_TYPE_Q5_1 || type == TT_TYPE_Q4_K || type == TT_TYPE_Q5_K;
	for (uint32_t i = 0; i <= two; i++) {
		uint16_t half = (uint16_t)(0x1800 | (tt_bench_draw(state) & 0x83ff));
		memcpy(block + (type == TT_TYPE_Q6_K ? 208 : 2 * i), &half, sizeof half);
	}
}

/* Fills the quantised world's memory with random records of the group's type. */
static int fill_memory(struct quants_bench *all, struct tt_error *err)
{
	enum tt_type type = all->type;
	struct records *r = &all->records;
	size_t record = tt_quant_record(tt_quant_layout_of(type));
	uint64_t state = type + 1;
	uint8_t *packed = NULL;
	free(r->file);
	*r = (struct records){
		.type = type, .n = (uint32_t)((all->base.tiny ? TINY_RECORD_BYTES : RECORD_BYTES) / record)};
	r->columns = tt_quant_layout_of(type).chunks * TT_PACKED_COLUMNS;
	r->block_bytes = tt_type_row_bytes(type, r->columns);
	TT_TRY(tt_alloc(&r->file, (size_t)r->n * TT_PACKED_ROWS, r->block_bytes, err));
	TT_TRY(tt_alloc(&packed, r->n, record, err));
	for (uint32_t i = 0; i < r->n * TT_PACKED_ROWS; i++) {
		uint8_t *block = r->file + i * r->block_bytes;
		for (size_t k = 0; k < r->block_bytes; k++)
			block[k] = (uint8_t)(tt_bench_draw(&state) >> 32);
		set_scales(type, block, &state);
		tt_quant_store(type, packed + i / TT_PACKED_ROWS * record, i % TT_PACKED_ROWS, block, r->columns);
	}
	int status = tt_kernel_world_fill(all->memory, all->base.weight_bytes, packed, r->n * record, err);
	free(packed);
	all->quantised.weight_type = type;
	return status;
}

/* Row i of the matrix of n_in columns at the memory's start, as its product multiplies it: rounded to bf16. out:
 * [n_in]. */
static void weight_row(const struct records *r, uint32_t i, uint32_t n_in, float *out)
{
	uint32_t a_row = n_in / r->columns; /* records */
	for (uint32_t k = 0; k < a_row; k++) {
		size_t record = ((size_t)i / TT_PACKED_ROWS * a_row + k) % r->n;
		const uint8_t *block = r->file + (record * TT_PACKED_ROWS + i % TT_PACKED_ROWS) * r->block_bytes;
		tt_dequantise(r->type, block, out + (size_t)k * r->columns, r->columns);
	}
	for (uint32_t k = 0; k < n_in; k++)
		out[k] = tt_bf16_to_f32(tt_f32_to_bf16(out[k]));
}

static int check_output(struct quants_bench *all, uint32_t token, uint32_t i, float *row, double *got, double *want,
	struct tt_error *err)
{
	struct tt_kernel_world *w = &all->quantised;
	uint32_t d = w->config.hidden_size, n_in = w->config.ffn_size;
	uint16_t *x = NULL;
	float h = 0;
	TT_TRY(tt_kernel_world_row(w->ffn, n_in, token, &x, err));
	weight_row(&all->records, i, n_in, row);
	*want = (double)w->host_h[(size_t)token * d + i];
	for (uint32_t k = 0; k < n_in; k++)
		*want += (double)tt_bf16_to_f32(x[k]) * (double)row[k];
	free(x);
	TT_TRY_CUDA(cudaMemcpy(&h, w->h + (size_t)token * d + i, sizeof h, cudaMemcpyDeviceToHost), "h");
	*got = (double)h;
	return TT_OK;
}

/* Relative error of some outputs of down_proj, whose sums are the longest; its weights are the first of the memory. */
static int check_type(struct quants_bench *all, double *error, struct tt_error *err)
{
	struct tt_kernel_world *w = &all->quantised;
	struct tt_layer layer;
	struct tt_matrix output;
	uint64_t state = 11;
	double difference = 0, norm = 0;
	float *row = NULL;
	tt_kernel_world_weights(w, 0, &layer, &output);
	TT_TRY(tt_kernel_world_restore(w, err));
	TT_TRY(tt_kernel_world_run(w, TT_KERNEL_DOWN_PROJ, 0, &layer, &output, err));
	TT_TRY_CUDA(cudaStreamSynchronize(w->cuda.stream), "down_proj");
	TT_TRY(tt_alloc(&row, w->config.ffn_size, sizeof *row, err));
	int status = TT_OK;
	for (uint32_t k = 0; k < N_CHECKED && status == TT_OK; k++) {
		uint32_t token = (uint32_t)(tt_bench_draw(&state) % w->n_tokens);
		uint32_t i = (uint32_t)(tt_bench_draw(&state) % w->config.hidden_size);
		double want = 0, got = 0;
		status = check_output(all, token, i, row, &got, &want, err);
		difference += (got - want) * (got - want);
		norm += want * want;
	}
	free(row);
	*error = sqrt(difference / norm);
	return status;
}

/* -- Cases -- */

static int queue_step(struct tt_kernel_world *w, struct tt_error *err)
{
	static const enum tt_kernel_op products[] = {
		TT_KERNEL_QKV, TT_KERNEL_O_PROJ, TT_KERNEL_GATE_UP, TT_KERNEL_DOWN_PROJ};
	uint64_t at = 0;
	for (uint32_t l = 0; l < w->config.n_layers; l++) {
		struct tt_layer layer;
		tt_kernel_world_next_layer(w, &at, &layer);
		for (size_t i = 0; i < sizeof products / sizeof *products; i++)
			TT_TRY(tt_kernel_world_run(w, products[i], l, &layer, NULL, err));
	}
	const struct tt_matrix output = tt_kernel_world_next_output(w, &at);
	return tt_kernel_world_run(w, TT_KERNEL_LOGITS, 0, NULL, &output, err);
}

static int record_step(struct quants_case *one, struct tt_error *err)
{
	struct tt_kernel_world *w = one->world;
	cudaGraph_t graph = NULL;
	TT_TRY_CUDA(cudaStreamBeginCapture(w->cuda.stream, cudaStreamCaptureModeThreadLocal), "the products");
	int status = queue_step(w, err);
	cudaError_t error = cudaStreamEndCapture(w->cuda.stream, &graph);
	TT_TRY(status);
	TT_TRY_CUDA(error, "the products");
	error = cudaGraphInstantiate(&one->graph, graph, 0);
	cudaGraphDestroy(graph);
	TT_TRY_CUDA(error, "the products");
	return TT_OK;
}

static int case_run(void *context, struct tt_error *err)
{
	struct quants_case *one = context;
	return tt_kernel_world_launch(one->world, one->graph, one->n_launches, err);
}

static int case_before(void *context, struct tt_error *err)
{
	return tt_kernel_world_restore(((struct quants_case *)context)->world, err);
}

/* What the model of a step says of the products on this kind of device, in seconds; NAN where it knows no such. */
static int reckon(const struct quants_bench *all, const struct tt_kernel_world *w, double *out, struct tt_error *err)
{
	static const char *const names[][2] = {
		{"A100", "a100"}, {"H100", "h100"}, {"H200", "h200"}, {"B200", "b200"}, {"4090", "rtx4090"}};
	struct tt_step_case of = {w->n_tokens, w->context, TT_KV_BF16, w->weight_type, NULL, false};
	struct cudaDeviceProp device;
	struct tt_model *model = NULL, *part = NULL;
	struct tt_shard shard;
	struct tt_step_cost cost;
	char path[64];
	*out = NAN;
	TT_TRY_CUDA(cudaGetDeviceProperties(&device, 0), "the device");
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (strstr(device.name, names[i][0]))
			of.gpu = tt_gpu_kind_find(names[i][1]);
	if (!of.gpu)
		return TT_OK;
	snprintf(path, sizeof path, TT_DUMMY_PREFIX "%s", all->model);
	TT_TRY(tt_model_open(&model, path, err));
	int status = tt_shard_open(&shard, &model->config, 0, 1, err);
	if (status == TT_OK)
		status = tt_shard_model_open(&part, model, &shard, err);
	if (status == TT_OK)
		status = tt_step_cost_of(&cost, part, &shard, &of, err);
	if (status == TT_OK)
		*out = cost.products;
	tt_shard_model_close(part);
	tt_model_close(model);
	return status;
}

/* error: NAN where nothing was compared. */
static int add_case(struct quants_bench *all, struct tt_bench *bench, const char *group, bool quantised, double error,
	struct tt_error *err)
{
	struct quants_case *one = &all->cases[quantised];
	struct tt_kernel_world *w = one->world = quantised ? &all->quantised : &all->bf16;
	const char *name = tt_type_name(w->weight_type);
	double reckoned = NAN;
	size_t at = 0;
	TT_TRY(tt_kernel_world_restore(w, err));
	memset(&w->cuda.counters, 0, sizeof w->cuda.counters);
	TT_TRY(queue_step(w, err));
	TT_TRY_CUDA(cudaStreamSynchronize(w->cuda.stream), group);
	double bytes = (double)w->cuda.counters.bytes, flops = (double)w->cuda.counters.flops;
	TT_TRY(record_step(one, err));
	TT_TRY(reckon(all, w, &reckoned, err));
	if (!isnan(reckoned))
		at = (size_t)snprintf(one->note, sizeof one->note, "reckoned %.0f us", reckoned * 1e6);
	if (!isnan(error))
		snprintf(one->note + at, sizeof one->note - at, "%srelative error %.1e", at ? "; " : "", error);
	one->n_launches = w->tiny ? 1 : STEPS_A_SAMPLE;
	struct tt_bench_case item = {
		.group = group,
		.name = name,
		.note = *one->note ? one->note : NULL,
		.run = case_run,
		.before = case_before,
		.context = one,
		.n_calls = 1,
		.work = {{"calls", one->n_launches, NULL}, {"bytes", bytes * one->n_launches, "copy"},
			{"flops", flops * one->n_launches, tt_gpu_matrix_ceiling(all->gpu)}},
		.baseline = quantised ? tt_type_name(TT_TYPE_BF16) : NULL,
	};
	return tt_bench_add(bench, &item, err);
}

/* f32 sums of up to 14336 products, in at most 8 parts, have errors of some 1e-6. */
static int fill_type(void *context, struct tt_bench *bench, const char *group, struct tt_error *err)
{
	struct quants_bench *all = context;
	double error = NAN;
	TT_TRY(tt_gpu_add_ceilings(all->gpu, bench, group, err));
	TT_TRY(fill_memory(all, err));
	TT_TRY(check_type(all, &error, err));
	if (!(error < 1e-5)) /* it is timed nonetheless */
		printf("FAIL %s: relative error %.1e\n", group, error);
	TT_TRY(add_case(all, bench, group, false, NAN, err));
	return add_case(all, bench, group, true, error, err);
}

/* -- Groups -- */

/* Whether every row of the model has whole records of the type. */
static bool has_rows_of(const struct tt_config *c, enum tt_type type)
{
	uint32_t block = tt_quant_layout_of(type).chunks * TT_PACKED_COLUMNS;
	return c->hidden_size % block == 0 && c->n_heads * c->head_dim % block == 0 && c->ffn_size % block == 0;
}

static int run_step(struct tt_gpu_groups *groups, struct quants_bench *all, uint32_t n, struct tt_error *err)
{
	int status = tt_kernel_world_step(&all->bf16, &all->base, n, false, false, err);
	if (status == TT_OK)
		status = tt_kernel_world_step(&all->quantised, &all->base, n, false, false, err);
	all->quantised.weights = all->memory;
	for (size_t i = 0; i < N_TYPES && status == TT_OK; i++) {
		char group[96];
		if (!has_rows_of(&all->base.config, TYPES[i]))
			continue;
		snprintf(group, sizeof group, "%s products %s %u", all->model, tt_type_name(TYPES[i]), n);
		all->type = TYPES[i];
		status = tt_gpu_group(groups, group, fill_type, all, err);
		for (int k = 0; k < 2; k++)
			if (all->cases[k].graph)
				cudaGraphExecDestroy(all->cases[k].graph);
		memset(all->cases, 0, sizeof all->cases);
	}
	tt_kernel_world_close(&all->bf16);
	tt_kernel_world_close(&all->quantised);
	memset(&all->bf16, 0, sizeof all->bf16);
	memset(&all->quantised, 0, sizeof all->quantised);
	return status;
}

int tt_quants_bench_run(struct tt_gpu_groups *groups, struct tt_gpu *gpu, const char *model, struct tt_error *err)
{
	static const uint32_t rows[] = {1, 64}, tiny_rows[] = {1, 8};
	struct quants_bench *all = NULL;
	TT_TRY(tt_alloc(&all, 1, sizeof *all, err));
	all->gpu = gpu;
	all->model = model;
	int status = tt_kernel_world_open(&all->base, model, groups->tiny, err);
	if (status == TT_OK && cudaMalloc((void **)&all->memory, all->base.weight_bytes) != cudaSuccess)
		status = tt_fail(err, TT_ERR_MEMORY, "no room for quantised weights");
	for (size_t i = 0; i < sizeof rows / sizeof *rows && status == TT_OK; i++) {
		uint32_t n = groups->tiny ? tiny_rows[i] : rows[i];
		if (!groups->tokens || groups->tokens == n)
			status = run_step(groups, all, n, err);
	}
	cudaFree(all->memory);
	tt_kernel_world_close(&all->base);
	free(all->records.file);
	free(all);
	return status;
}
