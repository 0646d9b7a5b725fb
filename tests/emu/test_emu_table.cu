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

static void *zeros(size_t n_bytes)
{
	void *p = op_device<char>(n_bytes);
	cr_assert_eq(cudaMemset(p, 0, n_bytes), cudaSuccess);
	return p;
}

/* Bytes that o_proj's copies of weights and of x take, by the emulator's sectors, over those of the weights. w_readers:
 * blocks of tokens, each of which reads all weights. */
static double operand_traffic(uint32_t n_out, uint32_t n_in, uint32_t n_tokens, bool clusters, uint32_t w_readers)
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
	/* the residual; the norm's weights, read by each block of tokens, or of a cluster */
	uint64_t h = n_h * 4, constants = (uint64_t)n_out * 4 * w_readers * (clusters ? PRODUCT_CLUSTER : 1);
	uint64_t x = loads[TT_TRAFFIC_ACTIVATION].sectors * 32 - h;
	uint64_t w = loads[TT_TRAFFIC_WEIGHT].sectors * 32 - constants;
	free(step);
	cr_assert_eq(w, n_weights * 2 * w_readers, "%llu bytes of %zu", (unsigned long long)w, n_weights * 2);
	return (double)(w + x) / (double)(n_weights * 2);
}

/* The same, reckoned for o_proj by the model of a step (bench/harness/step_cost.h); and its blocks. */
static double reckoned(const struct matrix_of *m, uint32_t n_tokens, bool is_prompt, bool clusters, uint32_t *n_blocks)
{
	struct tt_gpu_kind gpu = *tt_gpu_kind_find("h200");
	gpu.clusters = clusters;
	const struct tt_step_case of = {n_tokens, n_tokens, TT_KV_BF16, TT_TYPE_BF16, &gpu, is_prompt};
	const struct tt_matrix small = {NULL, TT_TYPE_BF16, 256, 256, 0};
	struct tt_layer layer = {};
	struct tt_model model = {};
	struct tt_shard alone = {};
	struct tt_step_cost cost;
	layer.wq = layer.wk = layer.wv = layer.w_gate = layer.w_up = layer.w_down = model.output = small;
	layer.wo = {NULL, TT_TYPE_BF16, m->n_rows, m->n_in, 0};
	model.layers = &layer;
	model.config.n_heads = model.config.n_kv_heads = 1;
	model.config.head_dim = 64;
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
		of_model[clusters] = reckoned(&counted, ROWS, false, clusters, &n_blocks[clusters]);
	now = operand_traffic(counted.n_rows, K, ROWS, true, 1);
	cr_assert_eq(tt_emu_counted()->blocks, n_blocks[1]);
	alone = operand_traffic(counted.n_rows, K, ROWS, false, 1);
	cr_assert_eq(tt_emu_counted()->blocks, n_blocks[0]);
	printf("4096 rows of weights, 64 tokens: %.4f times the weights' bytes, %.4f without clusters\n", now, alone);
	cr_assert_float_eq(now, of_model[1], 1e-9);
	cr_assert_float_eq(alone, of_model[0], 1e-9);
	cr_assert_geq(alone, 3);
	for (const struct matrix_of &m : matrices) {
		double traffic = reckoned(&m, ROWS, false, true, &n_blocks[1]);
		printf("%s %s: %.4f\n", m.model, m.op, traffic);
		cr_assert_leq(traffic, 1.3);
	}
}

/* A prompt's tokens, in blocks of 128: of few rows of weights in tiles of 64 by 128, of many in 128 by 128. */
Test(emu_table, products_of_a_prompt_read_what_is_reckoned)
{
	enum { K = 256, TOKENS = 384 };
	static const struct matrix_of counted[] = {{"", "", 1024, K}, {"", "", 5120, K}};
	if (!tt_emu_counts_traffic())
		cr_skip_test("PTX does not say what kind of data it moves");
	for (const struct matrix_of &m : counted) {
		uint32_t n_blocks = 0;
		double of_model = reckoned(&m, TOKENS, true, true, &n_blocks);
		double now = operand_traffic(m.n_rows, K, TOKENS, false, TOKENS / 128);
		printf("%u rows of weights, %u tokens: %.4f times the weights' bytes\n", m.n_rows, TOKENS, now);
		cr_assert_float_eq(now, of_model, 1e-9);
		cr_assert_eq(tt_emu_counted()->blocks, n_blocks);
	}
}

/* Tokens of a prompt with so many positions, by the attention of 4 heads of 256 and 2 key heads on 16 multiprocessors.
 * Whole tiles, since what a tile's other rows would take is reckoned and not done. */
static void prompts_attention(uint32_t n_tokens, uint32_t n_context, const char *kernel)
{
	enum { HEADS = 4, KV_HEADS = 2, WIDE = 256, PAGES = 4 };
	struct tt_gpu_kind gpu = *tt_gpu_kind_find("h200");
	const struct tt_matrix small = {NULL, TT_TYPE_BF16, 256, HEADS * WIDE, 0};
	struct tt_step_plan counts = {}, *step;
	struct tt_layer layer = {};
	struct tt_model model = {};
	struct tt_shard alone = {};
	struct tt_step_cost cost;
	gpu.n_sms = 16;
	const struct tt_step_case of = {n_tokens, n_context, TT_KV_BF16, TT_TYPE_BF16, &gpu, true};
	layer.wq = layer.wk = layer.wv = layer.wo = layer.w_gate = layer.w_up = layer.w_down = model.output = small;
	model.layers = &layer;
	model.config.n_heads = HEADS;
	model.config.n_kv_heads = KV_HEADS;
	model.config.head_dim = WIDE;
	alone.n_ranks = 1;
	cr_assert_eq(tt_step_cost_of(&cost, &model, &alone, &of, &op_error), TT_OK, "%s", op_error.message);
	const struct tt_op_cost *attention = &cost.ops[TT_STEP_ATTENTION];
	cr_expect_str_eq(attention->kernel, kernel, "%s", attention->kernel);

	op_open(TT_EMU_FORWARD, 1, 64 << 20);
	counts.n_tokens = n_tokens;
	counts.n_seqs = 1;
	counts.max_pages = (n_context + TT_PAGE_TOKENS - 1) / TT_PAGE_TOKENS;
	step = op_step(counts);
	for (uint32_t i = 0; i < n_tokens; i++)
		tt_step_positions(step)[i] = (int32_t)(n_context - n_tokens + i);
	for (uint32_t i = 0; i < counts.max_pages; i++)
		tt_step_pages(step)[i] = (int32_t)(i % PAGES);
	op_begin(step, n_tokens, 0);
	op_cuda.n_sms = gpu.n_sms;
	for (op_cuda.max_splits = 1; op_cuda.max_splits * TT_SPLIT_KEYS < n_context;)
		op_cuda.max_splits *= 2;
	size_t n_q = (size_t)n_tokens * HEADS * WIDE * 2;
	struct tt_kv_pages kv = {
		zeros((size_t)PAGES * 2 * KV_HEADS * TT_PAGE_TOKENS * WIDE * 2), TT_KV_BF16, PAGES, NULL, NULL};
	const struct tt_attention_args args = {&model.config, step, 0, zeros(n_q), zeros(n_q), &kv};
	OP_OK(tt_cuda_attention(&op_cuda.base, &args, &op_error));
	OP_DONE();
	const struct tt_emu_counters *c = tt_emu_counted();
	double keys = (double)c->loads[TT_TRAFFIC_KV].bytes,
	       results = (double)(c->loads[TT_TRAFFIC_SCRATCH].bytes + c->stores[TT_TRAFFIC_SCRATCH].bytes);
	printf("%u of %u positions: %s, %u blocks, %g MB of keys and values, %g of results, %g MFLOP\n", n_tokens,
		n_context, attention->kernel, attention->n_blocks, keys / 1e6, results / 1e6,
		(double)c->products * 4096 / 1e6);
	cr_expect_eq(c->blocks, attention->n_blocks, "%llu blocks", (unsigned long long)c->blocks);
	cr_expect_float_eq((double)c->products * 4096, attention->flops, 1e-9 * attention->flops);
	if (tt_emu_counts_traffic())
		cr_expect_float_eq(keys + results, attention->l2_bytes, 1e-9 * attention->l2_bytes, "%g, not %g",
			keys + results, attention->l2_bytes);
	free(step);
}

Test(emu_table, attention_of_a_prompt_does_what_is_reckoned)
{
	prompts_attention(320, 320, "64 rows");
	prompts_attention(64, 40 * TT_SPLIT_KEYS + 128, "64 rows, by 11");
	prompts_attention(8, 8 * TT_SPLIT_KEYS, "16 rows");
}
