#include "bench/harness/step_cost.h"

#include <string.h>

static const double BF16 = 2, F32 = 4;
static const double LAUNCH = 0.9e-6;                    /* between two kernels of a graph */
static const double MEETING = 3.5e-6, A_PEER = 0.15e-6; /* of an exchange, however little is passed on */

static const struct tt_gpu GPUS[] = {
	{"h100", 0.8 * 3.35e12, 400e12, 300e9},
	{"h200", 0.8 * 4.8e12, 400e12, 300e9},
	{"b200", 0.8 * 8e12, 400e12, 600e9},
};

const char *const tt_step_op_names[TT_N_STEP_OPS] = {"qkv", "attention", "o_proj", "gate_up", "down_proj", "logits"};

const struct tt_gpu *tt_gpu_find(const char *name)
{
	for (size_t i = 0; i < sizeof GPUS / sizeof *GPUS; i++)
		if (!strcmp(name, GPUS[i].name))
			return &GPUS[i];
	return NULL;
}

static double size(const struct tt_matrix *m)
{
	return (double)m->n_out * m->n_in;
}

/* Matrices of n numbers together, and columns of all ranks, of so many bytes each, that are passed on for each row. */
static struct tt_op_cost product(double n, uint32_t n_rows, double column_bytes, const struct tt_shard *shard)
{
	return (struct tt_op_cost){
		.weight_bytes = n * BF16,
		.flops = 2 * n * n_rows,
		.received = column_bytes * n_rows * (shard->n_ranks - 1) / shard->n_ranks,
	};
}

static void count_ops(const struct tt_model *part, const struct tt_shard *shard, uint32_t n_rows, uint32_t n_context,
	enum tt_kv_type kv, struct tt_op_cost *ops)
{
	const struct tt_config *c = &part->config;
	const struct tt_layer *l = &part->layers[0];
	double d = c->hidden_size,
	       tiles = d / 16 * F32; /* the squares that the next norm adds up, by tiles of columns */
	double positions = (double)n_rows * n_context;
	ops[TT_STEP_QKV] = product(size(&l->wq) + size(&l->wk) + size(&l->wv), n_rows, 0, shard);
	ops[TT_STEP_ATTENTION] = product(0, n_rows, l->wo.n_in * BF16, shard);
	ops[TT_STEP_ATTENTION].kv_bytes =
		2 * positions * (double)tt_kv_position_bytes(kv, 1, c->n_kv_heads, c->head_dim);
	ops[TT_STEP_ATTENTION].flops = 4 * positions * c->head_dim * c->n_heads;
	ops[TT_STEP_O_PROJ] = product(size(&l->wo), n_rows, d * BF16 + tiles, shard);
	ops[TT_STEP_GATE_UP] = product(size(&l->w_gate) + size(&l->w_up), n_rows, l->w_down.n_in * BF16, shard);
	ops[TT_STEP_DOWN_PROJ] = product(size(&l->w_down), n_rows, d * BF16 + tiles, shard);
	ops[TT_STEP_LOGITS] = product(size(&part->output), n_rows, c->vocab_size * F32, shard);
	for (int i = 0; i < TT_N_STEP_OPS; i++)
		ops[i].n_times = i == TT_STEP_LOGITS ? 1 : c->n_layers;
}

struct tt_step_cost tt_step_cost(const struct tt_model *part, const struct tt_shard *shard, uint32_t n_rows,
	uint32_t n_context, enum tt_kv_type kv, const struct tt_gpu *gpu)
{
	struct tt_step_cost cost = {0};
	double weight_bytes = 0, flops = 0;
	double meeting = shard->n_ranks > 1 ? MEETING + A_PEER * shard->n_ranks : 0;
	count_ops(part, shard, n_rows, n_context, kv, cost.ops);
	for (int i = 0; i < TT_N_STEP_OPS; i++) {
		const struct tt_op_cost *op = &cost.ops[i];
		weight_bytes += op->n_times * op->weight_bytes;
		flops += i == TT_STEP_ATTENTION ? 0 : op->n_times * op->flops;
		cost.kv += op->n_times * op->kv_bytes / gpu->bytes_a_second;
		if (op->received > 0)
			cost.exchange += op->n_times * (meeting + op->received / gpu->peer_bytes_a_second);
	}
	cost.weights = weight_bytes / gpu->bytes_a_second;
	if (cost.weights < flops / gpu->flops_a_second)
		cost.weights = flops / gpu->flops_a_second;
	cost.rest = LAUNCH * (TT_N_STEP_OPS - 1) * part->config.n_layers;
	return cost;
}
