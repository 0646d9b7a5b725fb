/* The reckoning of a step, beside sums done by hand for known models. */
#include "bench/harness/step_cost.h"
#include "golden.h"

static enum tt_kv_type kv_type = TT_KV_BF16;

static struct tt_step_cost cost_of(const char *name, uint32_t n_ranks, uint32_t n_rows, const char *gpu)
{
	struct tt_model *model = NULL, *part = NULL;
	struct tt_shard shard;
	char path[64];
	snprintf(path, sizeof path, "dummy:%s", name);
	must(tt_model_open(&model, path, err));
	must(tt_shard_open(&shard, &model->config, 0, n_ranks, err));
	must(tt_shard_model_open(&part, model, &shard, err));
	const struct tt_step_cost cost = tt_step_cost(part, &shard, n_rows, 1024, kv_type, tt_gpu_find(gpu));
	tt_shard_model_close(part);
	tt_model_close(model);
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
		{"llama-3.1-8b", "h200", 8, 256, 53000}, {"llama-3.1-70b", "h200", 2, 1, 51},
		{"llama-3.1-70b", "h200", 8, 1, 155}, {"llama-3.1-70b", "h200", 8, 64, 7220},
		{"llama-3.1-70b", "h100", 8, 1, 119}, {"llama-3.1-70b", "b200", 8, 1, 216}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tt_step_cost c = cost_of(cases[i].model, cases[i].n_ranks, cases[i].n_rows, cases[i].gpu);
		char what[80];
		snprintf(what, sizeof what, "%s on %u %s, batch %u", cases[i].model, cases[i].n_ranks, cases[i].gpu,
			cases[i].n_rows);
		near(cases[i].n_rows / (c.weights + c.kv + c.exchange + c.rest), cases[i].want, 0.02, what);
	}
	cr_assert_null(tt_gpu_find("a100"));
}

/* Llama 3.1 70B on 8: a layer's matrices are 8192 * (8192 + 2 * 1024 + 8192 + 3 * 28672) numbers; a token and layer
 * pass on 2 * (q + 2d + ffn) + d/2 bytes, of which a rank receives seven eighths. */
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
	near(received, (2.0 * (8192 + 2 * 8192 + 28672) + 4096) * 7 / 8, 1e-12, "received");
	near(c.ops[TT_STEP_ATTENTION].kv_bytes, 1024 * 2 * 1 * 128 * 2.0, 1e-12, "one key head's pages");
	kv_type = TT_KV_FP8;
	double codes = cost_of("llama-3.1-70b", 8, 1, "h200").ops[TT_STEP_ATTENTION].kv_bytes;
	near(codes, 1024 * 2 * 1 * (128 + 2.0), 1e-12, "the same in eight bits, with a scale of 2 bytes a head");
	kv_type = TT_KV_BF16;
	near(c.ops[TT_STEP_LOGITS].weight_bytes, 2.0 * 8192 * 16032, 1e-12, "rows of the vocabulary");
	struct tt_step_cost alone = cost_of("llama-3.1-70b", 1, 1, "h200");
	cr_expect_eq(alone.exchange, 0);
}
