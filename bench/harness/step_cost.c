#include "bench/harness/step_cost.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "kernels/attention_plan.h"
#include "kernels/cuda/quants.h"
#include "kernels/ops.h"
#include "kernels/product_table.h"

static const double BF16 = 2, F32 = 4;
static const double LAUNCH = 0.9e-6; /* between two kernels of a graph */
/* Of the operations that products reach, by how many instructions attention has for one of mma.sync. */
static const double OF_ATTENTION = 0.3;
static const double MEETING = 3.5e-6, A_PEER = 0.15e-6; /* of an exchange, however little is passed on */

/* L2: 24 bytes a clock and multiprocessor of an H100, a figure of others; the same share of its clock for the rest but
 * the RTX 4090. gpu-check's probe measures it (reads). */
static const struct tt_gpu_kind GPUS[] = {
	{"a100", 0.8 * 2.039e12, 3.7e12, 220e12, 200e9, 108, 163 << 10, false},
	{"h100", 0.8 * 3.35e12, 5.7e12, 400e12, 300e9, 132, 227 << 10, true},
	{"h200", 0.8 * 4.8e12, 5.7e12, 400e12, 300e9, 132, 227 << 10, true},
	{"b200", 0.8 * 8e12, 7.1e12, 400e12, 600e9, 148, 227 << 10, false},
	{"rtx4090", 0.8 * 1.008e12, 5e12, 115e12, 20e9, 128, 99 << 10, false},
};

const char *const tt_step_op_names[TT_N_STEP_OPS] = {"qkv", "attention", "o_proj", "gate_up", "down_proj", "logits"};

const struct tt_gpu_kind *tt_gpu_kind_find(const char *name)
{
	for (size_t i = 0; i < sizeof GPUS / sizeof *GPUS; i++)
		if (!strcmp(name, GPUS[i].name))
			return &GPUS[i];
	return NULL;
}

/* Seconds of what takes the most: memory, L2, or operations, of whose rate so much is reached. */
static double most_of(const struct tt_op_cost *cost, const struct tt_gpu_kind *gpu, double reached)
{
	double memory = (cost->weight_bytes + cost->kv_bytes) / gpu->bytes_a_second,
	       l2 = cost->l2_bytes / gpu->l2_bytes_a_second, flops = cost->flops / (reached * gpu->flops_a_second);
	return fmax(fmax(memory, l2), flops);
}

/* n_out rows of n_in with n tokens, and columns of all ranks, of so many bytes each, that are passed on for each token.
 * A block of rows reads x of its tokens, and one of tokens the weights of its rows, through L2. */
static struct tt_op_cost product(const struct tt_step_case *of, uint32_t n, double rows, uint32_t n_in,
	double column_bytes, const struct tt_shard *shard)
{
	uint32_t n_out = (uint32_t)rows;
	struct product_question q = {of->gpu->n_sms, of->gpu->most_shared, of->gpu->clusters,
		of->weights != TT_TYPE_BF16, (n_out + PRODUCT_TILE - 1) / PRODUCT_TILE, n_in, n};
	const struct product_shape *shape = &PRODUCT_TABLE[tt_product_choose(&q)].shape;
	const struct product_grid grid = tt_product_grid_of(shape, q.n_tiles, n);
	static const char *const families[] = {"narrow", "wide", "cluster"};
	struct tt_op_cost cost = {
		.weight_bytes = (double)tt_quant_tile_row((uint32_t)of->weights, n_in) / TT_PACKED_ROWS * n_out,
		.flops = 2.0 * n_out * n_in * n,
		.received = column_bytes * n * (shard->n_ranks - 1) / shard->n_ranks,
		.n_blocks = grid.x * grid.y,
	};
	cost.l2_bytes = cost.weight_bytes * (grid.x / tt_product_cluster_blocks(shape)) + BF16 * grid.y * n * n_in;
	cost.waves = (double)cost.n_blocks / (of->gpu->n_sms * tt_product_resident(shape, n_in, of->gpu->most_shared));
	cost.seconds = most_of(&cost, of->gpu, 1);
	snprintf(cost.kernel, sizeof cost.kernel, "%s %ux%u", families[shape->family], shape->row_tiles,
		shape->token_tiles);
	return cost;
}

static struct tt_op_cost attention(
	const struct tt_step_case *of, const struct tt_config *c, double columns, const struct tt_shard *shard)
{
	double positions = (double)of->n_rows * of->n_context;
	struct tt_op_cost cost = {
		.kv_bytes = 2 * positions * (double)tt_kv_position_bytes(of->kv, 1, c->n_kv_heads, c->head_dim),
		.flops = 4 * positions * c->head_dim * c->n_heads,
		.received = columns * BF16 * of->n_rows * (shard->n_ranks - 1) / shard->n_ranks,
	};
	cost.seconds = cost.kv_bytes / of->gpu->bytes_a_second;
	return cost;
}

/* How a prompt's attention runs. */
struct tiling {
	uint32_t rows, n_heads; /* of a tile; key heads times parts */
	struct tt_attention_cut cut;
	uint32_t n_blocks; /* of the grid */
	uint32_t n_splits; /* of a share, where tiles are shared */
	double n_results;  /* that blocks leave for each other */
	double unevenness; /* what the busiest block has over what blocks have on average */
};

/* Splits that a grid is made for, as backend.c does: a power of two. */
static uint32_t splits_of_grid(uint32_t n_context)
{
	uint32_t n = 1;
	while (n * TT_SPLIT_KEYS < n_context)
		n *= 2;
	return n;
}

/* In blocks that take tile after tile, one on each multiprocessor. */
static int deal_tiles(struct tiling *t, const struct tt_step_case *of, const struct tt_config *c, struct tt_error *err)
{
	uint32_t n = of->n_rows, n_sms = of->gpu->n_sms;
	uint64_t one = tt_attention_result_floats(t->rows, c->head_dim) * sizeof(float),
		 tiles = (uint64_t)n * t->n_heads;
	uint64_t *work, all = 0;
	int32_t *numbers;
	TT_TRY(tt_alloc(&numbers, 2 * (size_t)n, sizeof *numbers, err));
	int status = tt_alloc(&work, n_sms + TT_ATTENTION_WINDOW, sizeof *work, err);
	if (status == TT_OK) {
		const struct tt_attention_tokens tokens = {numbers, numbers + n, n};
		for (uint32_t i = 0; i < n; i++)
			numbers[n + i] = (int32_t)(of->n_context - n + i);
		const struct tt_attention_share share =
			tt_attention_share_of(&tokens, &t->cut, 0, t->n_heads, n_sms, TT_ATTENTION_RESULTS / one);
		uint64_t most = tt_attention_busiest(&tokens, &t->cut, 0, t->n_heads, n_sms, &share, work, &all);
		t->n_blocks = share.long_from || tiles > n_sms ? n_sms : (uint32_t)tiles;
		t->n_splits = share.n_splits;
		t->n_results = (double)share.n_tiles * t->n_heads * share.n_results;
		t->unevenness = (double)most * n_sms / (double)all;
		free(work);
	}
	free(numbers);
	return status;
}

static int choose_tiling(
	struct tiling *t, const struct tt_step_case *of, const struct tt_config *c, struct tt_error *err)
{
	uint32_t group = c->n_heads / c->n_kv_heads, n = of->n_rows, n_splits = splits_of_grid(of->n_context);
	uint32_t resident = of->gpu->n_sms * (c->head_dim <= 64 ? 4 : c->head_dim <= 128 ? 3 : 2);
	*t = (struct tiling){.rows = TT_ATTENTION_FEW_ROWS, .unevenness = 1};
	t->cut = tt_attention_cut_of(t->rows, group);
	t->n_heads = c->n_kv_heads * t->cut.n_parts;
	if (tt_attention_spreads(n, t->n_heads, resident, n_splits, c->head_dim)) {
		t->n_blocks = n * t->n_heads * n_splits;
		t->n_results = (double)n * t->n_heads * of->n_context / ((double)TT_SPLIT_KEYS * t->cut.n_tokens);
		return TT_OK;
	}
	t->rows = TT_ATTENTION_MANY_ROWS;
	t->cut = tt_attention_cut_of(t->rows, group);
	t->n_heads = c->n_kv_heads * t->cut.n_parts;
	return deal_tiles(t, of, c, err);
}

/* A prompt's: all keys and values come from memory once, and through L2 for each tile, which reads those that any row
 * sees and computes stages of 64 of them. As long as the busiest block takes. */
static int prompt_attention(struct tt_op_cost *cost, const struct tt_step_case *of, const struct tt_config *c,
	double columns, const struct tt_shard *shard, struct tt_error *err)
{
	enum { STAGE = 64 };
	struct tiling t;
	double keys = 0, n_stages = 0, one = (double)tt_kv_position_bytes(of->kv, 1, 1, c->head_dim);
	TT_TRY(choose_tiling(&t, of, c, err));
	for (uint32_t first = of->n_context - of->n_rows, end; first < of->n_context; first = end) {
		end = (first / t.cut.n_tokens + 1) * t.cut.n_tokens;
		end = end < of->n_context ? end : of->n_context;
		keys += end;
		n_stages += ceil((double)end / STAGE);
	}
	*cost = (struct tt_op_cost){
		.kv_bytes = 2 * of->n_context * (double)tt_kv_position_bytes(of->kv, 1, c->n_kv_heads, c->head_dim),
		.flops = 4 * n_stages * t.n_heads * STAGE * t.rows * c->head_dim,
		.received = columns * BF16 * of->n_rows * (shard->n_ranks - 1) / shard->n_ranks,
		.l2_bytes = 2 * keys * t.n_heads * one +
			    2 * t.n_results * tt_attention_result_floats(t.rows, c->head_dim) * F32,
		.n_blocks = t.n_blocks,
		.waves = t.unevenness,
	};
	cost->seconds = most_of(cost, of->gpu, OF_ATTENTION) * cost->waves;
	if (t.n_splits)
		snprintf(cost->kernel, sizeof cost->kernel, "%u rows, by %u", t.rows, t.n_splits);
	else
		snprintf(cost->kernel, sizeof cost->kernel, "%u rows", t.rows);
	return TT_OK;
}

static int count_ops(const struct tt_model *part, const struct tt_shard *shard, const struct tt_step_case *of,
	struct tt_op_cost *ops, struct tt_error *err)
{
	const struct tt_config *c = &part->config;
	const struct tt_layer *l = &part->layers[0];
	double d = c->hidden_size;
	uint32_t n = of->n_rows;
	ops[TT_STEP_QKV] = product(of, n, (double)l->wq.n_out + l->wk.n_out + l->wv.n_out, l->wq.n_in, 0, shard);
	if (of->is_prompt)
		TT_TRY(prompt_attention(&ops[TT_STEP_ATTENTION], of, c, l->wo.n_in, shard, err));
	else
		ops[TT_STEP_ATTENTION] = attention(of, c, l->wo.n_in, shard);
	ops[TT_STEP_O_PROJ] = product(of, n, l->wo.n_out, l->wo.n_in, d * F32, shard);
	ops[TT_STEP_GATE_UP] =
		product(of, n, (double)l->w_gate.n_out + l->w_up.n_out, l->w_gate.n_in, l->w_down.n_in * BF16, shard);
	ops[TT_STEP_DOWN_PROJ] = product(of, n, l->w_down.n_out, l->w_down.n_in, d * F32, shard);
	ops[TT_STEP_LOGITS] =
		product(of, of->is_prompt ? 1 : n, part->output.n_out, part->output.n_in, c->vocab_size * F32, shard);
	for (int i = 0; i < TT_N_STEP_OPS; i++)
		ops[i].n_times = i == TT_STEP_LOGITS ? 1 : c->n_layers;
	return TT_OK;
}

/* A GPU makes bf16 of other types when it loads them, and of rows that end within a block there are none. */
static int check_type(const struct tt_model *part, enum tt_type type, struct tt_error *err)
{
	const struct tt_layer *l = &part->layers[0];
	const uint32_t widths[] = {l->wq.n_in, l->wo.n_in, l->w_down.n_in};
	if (type != TT_TYPE_BF16 && !tt_quant_kept(type))
		return tt_fail(err, TT_ERR_ARGUMENT, "a GPU does not keep weights as %s", tt_type_name(type));
	for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
		if (widths[i] % tt_type_block(type))
			return tt_fail(err, TT_ERR_ARGUMENT, "rows of %u are no whole blocks of %s", widths[i],
				tt_type_name(type));
	return TT_OK;
}

int tt_step_cost_of(struct tt_step_cost *cost, const struct tt_model *part, const struct tt_shard *shard,
	const struct tt_step_case *of, struct tt_error *err)
{
	double meeting = shard->n_ranks > 1 ? MEETING + A_PEER * shard->n_ranks : 0;
	memset(cost, 0, sizeof *cost);
	TT_TRY(check_type(part, of->weights, err));
	if (of->is_prompt && of->n_context < of->n_rows)
		return tt_fail(
			err, TT_ERR_ARGUMENT, "a prompt of %u tokens has no context of %u", of->n_rows, of->n_context);
	TT_TRY(count_ops(part, shard, of, cost->ops, err));
	for (int i = 0; i < TT_N_STEP_OPS; i++) {
		const struct tt_op_cost *op = &cost->ops[i];
		*(i == TT_STEP_ATTENTION ? &cost->kv : &cost->weights) += op->n_times * op->seconds;
		if (i != TT_STEP_ATTENTION)
			cost->products += op->n_times * (op->seconds + LAUNCH);
		if (op->received > 0)
			cost->exchange += op->n_times * (meeting + op->received / of->gpu->peer_bytes_a_second);
	}
	cost->rest = LAUNCH * (TT_N_STEP_OPS - 1) * part->config.n_layers;
	return TT_OK;
}
