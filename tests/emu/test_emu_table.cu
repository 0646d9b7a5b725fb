/* Which kernel runs for the products of real models, and what it costs: no fewer blocks than an H200 has
 * multiprocessors, and of up to 64 rows hardly more from L2 than the weights. What the kernels read is counted. */
#include "tests/emu/op_case.h"

#include "kernels/product_table.h"
extern "C" {
#include "bench/harness/step_cost.h"
}

struct matrix_of {
	const char *model, *op;
	uint32_t n_rows, n_in;
};
static const struct matrix_of matrices[] = {
	{"8B", "qkv", 6144, 4096},
	{"8B", "o_proj", 4096, 4096},
	{"8B", "gate_up", 28672, 4096},
	{"8B", "down_proj", 4096, 14336},
	{"8B", "logits", 128256, 4096},
	{"70B", "qkv", 10240, 8192},
	{"70B", "o_proj", 8192, 8192},
	{"70B", "gate_up", 57344, 8192},
	{"70B", "down_proj", 8192, 28672},
	{"70B", "logits", 128256, 8192},
};
enum { N_SMS = 132, SHARED = 227 * 1024 };

/* What product_choose takes on an H200, and its blocks. */
static const struct product_shape *chosen(
	const struct matrix_of *m, uint32_t n_tokens, bool quantised, bool clusters, uint32_t *n_blocks)
{
	const struct product_question q = {
		N_SMS, SHARED, clusters, quantised, m->n_rows / PRODUCT_TILE, m->n_in, n_tokens};
	const struct product_shape *shape = &PRODUCT_TABLE[tt_product_choose(&q)].shape;
	const struct product_grid grid = tt_product_grid_of(shape, q.n_tiles, n_tokens);
	*n_blocks = grid.x * grid.y;
	return shape;
}

static uint32_t blocks_of(const struct matrix_of *m, uint32_t n_tokens, bool quantised, bool clusters)
{
	uint32_t n_blocks = 0;
	chosen(m, n_tokens, quantised, clusters, &n_blocks);
	return n_blocks;
}

Test(emu_table, every_product_has_a_block_for_each_multiprocessor)
{
	static const uint32_t shown[] = {1, 2, 4, 8, 16, 32, 64, 128, 256};
	for (int quantised = 0; quantised < 2; quantised++)
		for (const struct matrix_of &m : matrices) {
			printf("%s %s %-9s", m.model, quantised ? "quantised" : "bf16", m.op);
			for (uint32_t n : shown)
				printf(" %u: %u (%u alone)", n, blocks_of(&m, n, quantised, true),
					blocks_of(&m, n, quantised, false));
			printf("\n");
			for (uint32_t n = 1; n <= 256; n++)
				cr_assert_geq(blocks_of(&m, n, quantised, true), N_SMS, "%s %s, %u rows: %u blocks",
					m.model, m.op, n, blocks_of(&m, n, quantised, true));
		}
}

/* Bytes that o_proj's copies of weights and of x take, by the emulator's sectors, over those of the weights. */
static double operand_traffic(uint32_t n_out, uint32_t n_in, uint32_t n_tokens, bool clusters)
{
	struct tt_step_plan counts = {}, *step;
	struct tt_config config = {};
	struct tt_layer layer = {};
	op_open(TT_EMU_FORWARD, 1, 16);
	counts.n_tokens = n_tokens;
	step = op_step(counts);
	op_begin(step, n_tokens, 0);
	op_cuda.n_sms = N_SMS;
	op_cuda.clusters = clusters;
	auto zeros = [](size_t n_bytes) {
		void *p = op_device<char>(n_bytes);
		cr_assert_eq(cudaMemset(p, 0, n_bytes), cudaSuccess);
		return p;
	};
	size_t n_weights = tt_packed_size(n_out, n_in), n_h = (size_t)n_tokens * n_out;
	op_cuda.x = (uint16_t *)zeros(n_h * 2);
	op_cuda.squares = (float *)zeros(n_h / TT_NORM_TILE * 4);
	layer.wo = {zeros(n_weights * 2), TT_TYPE_BF16, n_out, n_in, 0};
	layer.ffn_norm = (const float *)zeros(n_out * 4);
	const struct tt_o_proj_args args = {
		&config, step, &layer, zeros((size_t)n_tokens * n_in * 2), (float *)zeros(n_h * 4)};
	tt_emu_clear_counters();
	OP_OK(tt_cuda_o_proj(&op_cuda.base, &args, &op_error));
	OP_DONE();
	const struct tt_emu_traffic *loads = tt_emu_counted()->loads;
	uint64_t h = n_h * 4, constants = 0; /* the residual; the norm's weights, read by each block of a cluster */
	for (uint32_t i = 0; i < 2; i++)
		constants += (uint64_t)n_out * 4 * (clusters ? PRODUCT_CLUSTER : 1) / 2;
	uint64_t x = loads[TT_TRAFFIC_ACTIVATION].sectors * 32 - h;
	uint64_t w = loads[TT_TRAFFIC_WEIGHT].sectors * 32 - constants;
	free(step);
	cr_assert_eq(w, n_weights * 2, "%llu bytes of %zu", (unsigned long long)w, n_weights * 2);
	return (double)(w + x) / (double)(n_weights * 2);
}

/* The same, reckoned for o_proj by the model of a step (bench/harness/step_cost.h); and its blocks. */
static double reckoned(const struct matrix_of *m, uint32_t n_tokens, bool clusters, uint32_t *n_blocks)
{
	struct tt_gpu_kind gpu = *tt_gpu_kind_find("h200");
	gpu.clusters = clusters;
	const struct tt_step_case of = {n_tokens, 16, TT_KV_BF16, TT_TYPE_BF16, &gpu};
	const struct tt_matrix small = {NULL, TT_TYPE_BF16, 256, 256, 0};
	struct tt_layer layer = {};
	struct tt_model model = {};
	struct tt_shard alone = {};
	struct tt_step_cost cost;
	layer.wq = layer.wk = layer.wv = layer.w_gate = layer.w_up = layer.w_down = model.output = small;
	layer.wo = {NULL, TT_TYPE_BF16, m->n_rows, m->n_in, 0};
	model.layers = &layer;
	alone.n_ranks = 1;
	cr_assert_eq(tt_step_cost_of(&cost, &model, &alone, &of, &op_error), TT_OK);
	const struct tt_op_cost *o_proj = &cost.ops[TT_STEP_O_PROJ];
	*n_blocks = o_proj->n_blocks;
	return o_proj->l2_bytes / o_proj->weight_bytes;
}

Test(emu_table, products_of_64_rows_read_little_more_than_their_weights)
{
	enum { K = 256, ROWS = 64 };
	static const struct matrix_of counted = {"", "", 4096, K}; /* 8B's and 70B's; the share does not depend on K */
	if (!tt_emu_counts_traffic())
		cr_skip_test("PTX does not say what kind of data it moves");
	uint32_t n_blocks[2] = {};
	double of_model[2], now, alone;
	for (int clusters = 0; clusters < 2; clusters++)
		of_model[clusters] = reckoned(&counted, ROWS, clusters, &n_blocks[clusters]);
	now = operand_traffic(counted.n_rows, K, ROWS, true);
	cr_assert_eq(tt_emu_counted()->blocks, n_blocks[1]);
	alone = operand_traffic(counted.n_rows, K, ROWS, false);
	cr_assert_eq(tt_emu_counted()->blocks, n_blocks[0]);
	printf("4096 rows of weights, 64 tokens: %.4f times the weights' bytes, %.4f without clusters\n", now, alone);
	cr_assert_float_eq(now, of_model[1], 1e-9);
	cr_assert_float_eq(alone, of_model[0], 1e-9);
	cr_assert_geq(alone, 3);
	for (const struct matrix_of &m : matrices) {
		double traffic = reckoned(&m, ROWS, true, &n_blocks[1]);
		printf("%s %s: %.4f\n", m.model, m.op, traffic);
		cr_assert_leq(traffic, 1.3);
	}
}
