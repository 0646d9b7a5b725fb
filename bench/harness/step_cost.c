#include "bench/harness/step_cost.h"

#include <stdio.h>
#include <string.h>

#include "base/fail.h"
#include "kernels/cuda/quants.h"
#include "kernels/product_table.h"

static const double BF16 = 2, F32 = 4;
static const double LAUNCH = 0.9e-6;                    /* between two kernels of a graph */
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

static double most(double a, double b)
{
	return a > b ? a : b;
}

/* n_out rows of n_in, and columns of all ranks, of so many bytes each, that are passed on for each row. A block of rows
 * reads x of its tokens, and one of tokens the weights of its rows, through L2. */
static struct tt_op_cost product(
	const struct tt_step_case *of, double rows, uint32_t n_in, double column_bytes, const struct tt_shard *shard)
{
	uint32_t n_out = (uint32_t)rows, n = of->n_rows;
	struct product_question q = {of->gpu->n_sms, of->gpu->most_shared, of->gpu->clusters,
		of->weights != TT_TYPE_BF16, (n_out + PRODUCT_TILE - 1) / PRODUCT_TILE, n_in, n};
	const struct product_shape *shape = &PRODUCT_TABLE[tt_product_choose(&q)].shape;
	const struct product_grid grid = tt_product_grid_of(shape, q.n_tiles, n);
	static const char *const families[] = {"narrow", "wide", "cluster"};
	struct tt_op_cost cost = {
		.weight_bytes = (double)tt_type_row_bytes(of->weights, n_in) * n_out,
		.flops = 2.0 * n_out * n_in * n,
		.received = column_bytes * n * (shard->n_ranks - 1) / shard->n_ranks,
		.n_blocks = grid.x * grid.y,
	};
	cost.l2_bytes = cost.weight_bytes * (grid.x / tt_product_cluster_blocks(shape)) + BF16 * grid.y * n * n_in;
	cost.waves = (double)cost.n_blocks / (of->gpu->n_sms * tt_product_resident(shape, n_in, of->gpu->most_shared));
	cost.seconds =
		most(most(cost.weight_bytes / of->gpu->bytes_a_second, cost.l2_bytes / of->gpu->l2_bytes_a_second),
			cost.flops / of->gpu->flops_a_second);
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

static void count_ops(const struct tt_model *part, const struct tt_shard *shard, const struct tt_step_case *of,
	struct tt_op_cost *ops)
{
	const struct tt_config *c = &part->config;
	const struct tt_layer *l = &part->layers[0];
	double d = c->hidden_size,
	       tiles = d / 16 * F32; /* the squares that the next norm adds up, by tiles of columns */
	ops[TT_STEP_QKV] = product(of, (double)l->wq.n_out + l->wk.n_out + l->wv.n_out, l->wq.n_in, 0, shard);
	ops[TT_STEP_ATTENTION] = attention(of, c, l->wo.n_in, shard);
	ops[TT_STEP_O_PROJ] = product(of, l->wo.n_out, l->wo.n_in, d * BF16 + tiles, shard);
	ops[TT_STEP_GATE_UP] =
		product(of, (double)l->w_gate.n_out + l->w_up.n_out, l->w_gate.n_in, l->w_down.n_in * BF16, shard);
	ops[TT_STEP_DOWN_PROJ] = product(of, l->w_down.n_out, l->w_down.n_in, d * BF16 + tiles, shard);
	ops[TT_STEP_LOGITS] = product(of, part->output.n_out, part->output.n_in, c->vocab_size * F32, shard);
	for (int i = 0; i < TT_N_STEP_OPS; i++)
		ops[i].n_times = i == TT_STEP_LOGITS ? 1 : c->n_layers;
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
	count_ops(part, shard, of, cost->ops);
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
