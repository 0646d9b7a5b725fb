/* The reckoning of a step, beside sums done by hand for known models. */
#include "bench/harness/step_cost.h"
#include "golden.h"

static enum tt_kv_type kv_type = TT_KV_BF16;
static enum tt_type weight_type = TT_TYPE_BF16;
static uint32_t n_context = 1024;
static bool is_prompt;

static int try_cost(const char *name, uint32_t n_ranks, uint32_t n_rows, const char *gpu, struct tt_step_cost *cost,
	struct tt_error *error)
{
	const struct tt_step_case of = {n_rows, n_context, kv_type, weight_type, tt_gpu_kind_find(gpu), is_prompt};
	struct tt_model *model = NULL, *part = NULL;
	struct tt_shard shard;
	char path[64];
	snprintf(path, sizeof path, "dummy:%s", name);
	must(tt_model_open(&model, path, err));
	must(tt_shard_open(&shard, &model->config, 0, n_ranks, err));
	must(tt_shard_model_open(&part, model, &shard, err));
	int status = tt_step_cost_of(cost, part, &shard, &of, error);
	tt_shard_model_close(part);
	tt_model_close(model);
	return status;
}

static struct tt_step_cost cost_of(const char *name, uint32_t n_ranks, uint32_t n_rows, const char *gpu)
{
	struct tt_step_cost cost;
	struct tt_error error = {0};
	cr_assert_eq(try_cost(name, n_ranks, n_rows, gpu, &cost, &error), TT_OK, "%s", error.message);
	return cost;
}

static void near(double got, double want, double bound, const char *what)
{
	cr_expect(fabs(got - want) <= bound * want, "%s: %g, not %g", what, got, want);
}

/* Tokens a second by the formula alone: step = max(W/(t*BW), 2*B*P/(t*F)) + KV/(t*BW) + exchanges + 5*L*0.9us. */
Test(step_cost, is_the_formulas)
{
	static const struct {
		const char *model, *gpu;
		uint32_t n_ranks, n_rows;
		double want;
	} cases[] = {{"llama-3.1-8b", "h200", 1, 1, 244}, {"llama-3.1-8b", "h200", 2, 1, 380},
		{"llama-3.1-8b", "h200", 8, 1, 788}, {"llama-3.1-8b", "h200", 1, 64, 10100},
		{"llama-3.1-8b", "h200", 8, 256, 50000}, {"llama-3.1-70b", "h200", 2, 1, 51},
		{"llama-3.1-70b", "h200", 8, 1, 155}, {"llama-3.1-70b", "h200", 8, 64, 6905},
		{"llama-3.1-70b", "h100", 8, 1, 119}, {"llama-3.1-70b", "b200", 8, 1, 216}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tt_step_cost c = cost_of(cases[i].model, cases[i].n_ranks, cases[i].n_rows, cases[i].gpu);
		char what[80];
		snprintf(what, sizeof what, "%s on %u %s, batch %u", cases[i].model, cases[i].n_ranks, cases[i].gpu,
			cases[i].n_rows);
		near(cases[i].n_rows / (c.weights + c.kv + c.exchange + c.rest), cases[i].want, 0.03, what);
	}
	cr_assert_null(tt_gpu_kind_find("v100"));
}

/* Llama 3.1 70B on 8: a layer's matrices are 8192 * (8192 + 2 * 1024 + 8192 + 3 * 28672) numbers; a token and layer
 * pass on 2 * (q + ffn) bytes of bf16 and 8d of f32, of which a rank receives seven eighths. */
Test(step_cost, counts_a_ranks_bytes)
{
	struct tt_step_cost c = cost_of("llama-3.1-70b", 8, 1, "h200");
	double weights = 0, received = 0;
	for (int i = 0; i < TT_STEP_LOGITS; i++) {
		weights += c.ops[i].weight_bytes;
		received += c.ops[i].received;
		cr_expect_eq(c.ops[i].n_times, 80);
	}
	near(weights, 2.0 * 8192 * (8192 + 2 * 1024 + 8192 + 3 * 28672) / 8, 1e-12, "weights of a layer");
	near(received, (2.0 * (8192 + 28672) + 8 * 8192) * 7 / 8, 1e-12, "received");
	near(c.ops[TT_STEP_ATTENTION].kv_bytes, 1024 * 2 * 1 * 128 * 2.0, 1e-12, "one key head's pages");
	kv_type = TT_KV_FP8;
	double codes = cost_of("llama-3.1-70b", 8, 1, "h200").ops[TT_STEP_ATTENTION].kv_bytes;
	near(codes, 1024 * 2 * 1 * (128 + 2.0), 1e-12, "the same in eight bits, with a scale of 2 bytes a head");
	kv_type = TT_KV_BF16;
	near(c.ops[TT_STEP_LOGITS].weight_bytes, 2.0 * 8192 * 16032, 1e-12, "rows of the vocabulary");
	struct tt_step_cost alone = cost_of("llama-3.1-70b", 1, 1, "h200");
	cr_expect_eq(alone.exchange, 0);
}

/* Of o_proj of 8B, 4096 rows of 4096: which kernel, its blocks, and the operands' bytes through L2 by hand. */
Test(step_cost, counts_blocks_and_what_goes_through_l2)
{
	static const struct {
		const char *gpu;
		uint32_t n_rows;
		const char *kernel;
		uint32_t n_blocks, x_readers, w_readers,
			resident; /* blocks that read all of x, and all of the weights */
	} cases[] = {
		{"h200", 1, "narrow 1x1", 256, 256, 1, 4 * 132},
		{"h200", 64, "cluster 14x8", 19 * 8, 19, 1, 2 * 132},
		{"a100", 64, "narrow 2x8", 128, 128, 1, 108},
		{"b200", 64, "narrow 2x8", 128, 128, 1, 148},
		{"rtx4090", 64, "narrow 1x8", 256, 256, 1, 128},
		{"a100", 256, "wide 4x16", 64 * 2, 64, 2, 2 * 108},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tt_step_cost c = cost_of("llama-3.1-8b", 1, cases[i].n_rows, cases[i].gpu);
		const struct tt_op_cost *op = &c.ops[TT_STEP_O_PROJ];
		double w = 4096.0 * 4096 * 2, x = 4096.0 * 2 * cases[i].n_rows;
		cr_expect_str_eq(
			op->kernel, cases[i].kernel, "%s, %u rows: %s", cases[i].gpu, cases[i].n_rows, op->kernel);
		cr_expect_eq(op->n_blocks, cases[i].n_blocks, "%s, %u rows: %u", cases[i].gpu, cases[i].n_rows,
			op->n_blocks);
		near(op->l2_bytes, cases[i].w_readers * w + cases[i].x_readers * x, 1e-12, cases[i].kernel);
		near(op->waves, (double)cases[i].n_blocks / cases[i].resident, 1e-12, cases[i].kernel);
	}
}

/* Q4_K is 144 bytes for 256 weights, Q8_0 34 for 32; rows of 576 have no blocks of 256, and F16 becomes bf16. */
Test(step_cost, counts_quantised_weights_as_the_file_has_them)
{
	struct tt_step_cost cost;
	struct tt_error error = {0};
	double bf16 = cost_of("llama-3.1-8b", 1, 1, "h200").weights;
	weight_type = TT_TYPE_Q4_K;
	near(cost_of("llama-3.1-8b", 1, 1, "h200").weights, bf16 * 144 / 512, 0.01, "q4_k");
	cr_expect_eq(try_cost("smollm2-135m", 1, 1, "h200", &cost, &error), TT_ERR_ARGUMENT);
	cr_expect_str_eq(error.message, "rows of 576 are no whole blocks of Q4_K");
	weight_type = TT_TYPE_Q8_0;
	near(cost_of("llama-3.1-8b", 1, 1, "h200").weights, bf16 * 34 / 64, 0.01, "q8_0");
	cr_expect_str_eq(cost_of("llama-3.1-8b", 1, 64, "h200").ops[TT_STEP_GATE_UP].kernel, "narrow 2x8");
	weight_type = TT_TYPE_F16;
	cr_expect_eq(try_cost("llama-3.1-8b", 1, 1, "h200", &cost, &error), TT_ERR_ARGUMENT);
	cr_expect_not_null(strstr(error.message, "does not keep weights as F16"), "%s", error.message);
}

/* Of 8B on an H200. Tiles of 16 tokens, and of 8 key heads: tile i of a prompt reads 16 i keys for each, and computes
 * whole stages of 64, each 4 * 64 * 64 * 128 operations. */
Test(step_cost, counts_a_prompts_tiles)
{
	struct tt_step_cost cost;
	struct tt_error error = {0};
	const struct tt_op_cost *o_proj = &cost.ops[TT_STEP_O_PROJ], *attention = &cost.ops[TT_STEP_ATTENTION];
	double w = 4096.0 * 4096 * 2, x = 4096.0 * 2 * 2048, keys = 0, stages = 0;
	is_prompt = true;
	n_context = 2048;
	cost = cost_of("llama-3.1-8b", 1, 2048, "h200");
	cr_expect_str_eq(o_proj->kernel, "wide 8x16", "%s", o_proj->kernel);
	cr_expect_eq(o_proj->n_blocks, 32 * 16);
	near(o_proj->l2_bytes, 16 * w + 32 * x, 1e-12, "128 by 128 outputs a block");
	near(o_proj->seconds, o_proj->l2_bytes / 5.7e12, 1e-12, "as long as L2 takes, operations take 172 us");
	cr_expect_str_eq(cost.ops[TT_STEP_LOGITS].kernel, "narrow 1x1");
	for (int i = 1; i <= 128; i++) {
		keys += 16 * i;
		stages += (i + 3) / 4;
	}
	near(attention->l2_bytes, keys * 8 * 2 * 256, 1e-12, "keys and values through L2");
	near(attention->flops, stages * 8 * 4 * 64 * 64 * 128, 1e-12, "operations");
	near(attention->kv_bytes, 2048.0 * 8 * 2 * 256, 1e-12, "keys and values of memory");
	cr_expect_str_eq(attention->kernel, "64 rows", "%s", attention->kernel);
	cr_expect_eq(attention->n_blocks, 132);
	cr_expect_eq(try_cost("llama-3.1-8b", 1, 2049, "h200", &cost, &error), TT_ERR_ARGUMENT);
	cr_expect_str_eq(error.message, "a prompt of 2049 tokens has no context of 2048");
}

/* 128 tokens behind many are 8 tiles, times 8 heads: less than half of 132 blocks, where each takes all splits. With
 * shares of 32 of 128 splits there are 256, two a block. Of 512 splits 256 MiB have room for 126 of each tile and head
 * besides the first share. */
Test(step_cost, shares_a_prompt_behind_many_keys)
{
	static const struct {
		uint32_t n_context;
		const char *kernel;
		double most, splits;
	} cases[] = {{8192, "64 rows, by 16", 16, 32}, {32768, "64 rows, by 32", 64, 128},
		{131072, "64 rows, by 387", 387, 512}};
	is_prompt = true;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		n_context = cases[i].n_context;
		struct tt_step_cost c = cost_of("llama-3.1-8b", 1, 128, "h200");
		const struct tt_op_cost *attention = &c.ops[TT_STEP_ATTENTION];
		cr_expect_str_eq(attention->kernel, cases[i].kernel, "%u: %s", n_context, attention->kernel);
		near(attention->waves, cases[i].most / (64 * cases[i].splits / 132), 1e-12, cases[i].kernel);
	}
	n_context = 16384;
	cr_expect_str_eq(cost_of("llama-3.1-8b", 1, 2048, "h200").ops[TT_STEP_ATTENTION].kernel, "64 rows");
	cr_expect_str_eq(cost_of("llama-3.1-8b", 1, 4, "h200").ops[TT_STEP_ATTENTION].kernel, "16 rows");
}
