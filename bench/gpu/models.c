/* Whole models with random weights through the engine, on its CUDA device: decoding at a context of 512 and a prompt of
 * 2048, each unsteered, steered at one layer, steered at all layers, and with a separate policy in every row. The cases
 * of a group run the same prompts in turn; the prompts' pages are still there, so that only decoding takes time. */
#include <stdio.h>
#include <stdlib.h>

#include "base/fail.h"
#include "base/memory.h"
#include "bench/gpu/gpu.h"
#include "bench/harness/noise.h"

enum { MAX_BATCH = 256, CONTEXT = 512, PROMPT = 2048, N_STEPS = 24, TINY_BATCH = 8, TINY_PROMPT = 40, TINY_STEPS = 3 };
enum { OFF, ONE_LAYER, ALL_LAYERS, OWN_POLICIES, N_ARMS };
static const char *const arm_names[N_ARMS] = {
	"unsteered", "steered at one layer", "steered at all layers", "a policy for every row"};

struct arm {
	struct tt_model_bench *of;
	int kind;
	uint32_t batch;
	uint32_t n_prompts; /* of a prefill: the next prompt is a new one */
	struct tt_request *requests[MAX_BATCH];
};

struct tt_model_bench {
	struct tt_engine *engine;
	struct tt_policy *policies[1 + MAX_BATCH]; /* the first steers one layer, the others all */
	uint32_t max_batch, n_steps;               /* n_steps: in a sample */
	/* tokens in the prompt of a row that decodes, and in a prompt that is timed */
	uint32_t n_decode, n_prefill;
	struct arm arms[N_ARMS]; /* of the group */
	uint32_t batch;          /* 0: a prompt instead of a batch */
	bool fast, every_arm;
};

static void free_requests(struct arm *arm)
{
	for (uint32_t i = 0; i < MAX_BATCH; i++) {
		tt_request_free(arm->requests[i]);
		arm->requests[i] = NULL;
	}
}

static int submit(struct arm *arm, uint32_t row, uint32_t n_ids, uint64_t seed, uint32_t n_generated,
	enum tt_policy_when when, struct tt_error *err)
{
	struct tt_model_bench *all = arm->of;
	struct tt_request_options options;
	int32_t ids[PROMPT];
	uint32_t vocab = tt_engine_info(all->engine)->vocab_size;
	for (uint32_t i = 0; i < n_ids; i++)
		ids[i] = (int32_t)(tt_bench_draw(&seed) % vocab);
	tt_request_options_default(&options);
	options.ids = ids;
	options.n_ids = n_ids;
	options.max_tokens = n_generated;
	options.ignore_eos = true;
	options.when = when;
	options.n_steering = arm->kind != OFF;
	uint32_t policy = arm->kind == ONE_LAYER ? 0 : arm->kind == ALL_LAYERS ? 1 : 1 + row;
	options.steering[0] = (struct tt_steering){all->policies[policy], 1};
	return tt_request_submit(&arm->requests[row], all->engine, &options, err);
}

/* A row that is not steered would make steering look free. */
static int check_steered(const struct arm *arm, uint32_t row, struct tt_error *err)
{
	struct tt_decision decision;
	uint32_t n = 0, n_layers = tt_engine_info(arm->of->engine)->n_layers;
	if (arm->kind == OFF)
		return TT_OK;
	if (tt_request_decision(arm->requests[row], 0, &decision))
		for (uint32_t l = 0; l < n_layers; l++)
			n += decision.coef[l] != 0;
	if (n != (arm->kind == ONE_LAYER ? 1 : n_layers))
		return tt_fail(err, TT_ERR_MISMATCH, "row %u is steered at %u layers", row, n);
	return TT_OK;
}

/* Starts the batch, runs its prompts until every row only decodes, and then some steps more, so that graphs exist. */
static int decode_before(void *context, struct tt_error *err)
{
	struct arm *arm = context;
	struct tt_engine *engine = arm->of->engine;
	for (uint32_t row = 0; row < arm->batch; row++)
		TT_TRY(submit(
			arm, row, arm->of->n_decode, 100 + row, MAX_BATCH + 2 * N_STEPS, TT_WHEN_GENERATION, err));
	for (uint32_t row = 0; row < arm->batch; row++)
		while (tt_request_n_generated(arm->requests[row]) == 0)
			TT_TRY(tt_engine_step(engine, err));
	for (uint32_t row = 0; row < arm->batch; row++)
		TT_TRY(check_steered(arm, row, err));
	for (uint32_t i = 0; i < 4; i++)
		TT_TRY(tt_engine_step(engine, err));
	return TT_OK;
}

static int decode_run(void *context, struct tt_error *err)
{
	struct arm *arm = context;
	struct tt_engine_stats before, after;
	tt_engine_stats(arm->of->engine, &before);
	for (uint32_t i = 0; i < arm->of->n_steps; i++)
		TT_TRY(tt_engine_step(arm->of->engine, err));
	tt_engine_stats(arm->of->engine, &after);
	uint64_t n = after.n_decode_tokens - before.n_decode_tokens;
	if (n != (uint64_t)arm->batch * arm->of->n_steps)
		return tt_fail(err, TT_ERR_LIMIT, "the steps decoded %llu tokens, not %u", (unsigned long long)n,
			arm->batch * arm->of->n_steps);
	return TT_OK;
}

static int end_requests(void *context, struct tt_error *err)
{
	(void)err;
	free_requests(context);
	return TT_OK;
}

static int prefill_before(void *context, struct tt_error *err)
{
	struct arm *arm = context;
	uint64_t seed = 1000000 + 1000 * (uint64_t)arm->kind + arm->n_prompts++;
	return submit(arm, 0, arm->of->n_prefill, seed, 1, TT_WHEN_ALL, err);
}

static int prefill_run(void *context, struct tt_error *err)
{
	struct arm *arm = context;
	return tt_request_wait(arm->requests[0], err);
}

static int prefill_after(void *context, struct tt_error *err)
{
	struct arm *arm = context;
	int status = check_steered(arm, 0, err);
	free_requests(arm);
	return status;
}

static int fill_group(void *context, struct tt_bench *bench, const char *group, struct tt_error *err)
{
	struct tt_model_bench *all = context;
	uint32_t batch = all->batch;
	for (int kind = 0; kind < N_ARMS; kind++) {
		struct arm *arm = &all->arms[kind];
		if ((kind == OWN_POLICIES && batch < 2) || (!all->every_arm && kind != OFF && kind != ALL_LAYERS))
			continue;
		arm->of = all;
		arm->kind = kind;
		arm->batch = batch;
		struct tt_bench_case one = {
			.group = group,
			.name = arm_names[kind],
			.run = batch ? decode_run : prefill_run,
			.before = batch ? decode_before : prefill_before,
			.after = batch ? end_requests : prefill_after,
			.context = arm,
			.n_calls = 1,
			.work = {{"tokens", batch ? (double)batch * all->n_steps : all->n_prefill, NULL}},
			.baseline = kind == OFF ? NULL : arm_names[OFF],
		};
		TT_TRY(tt_bench_add(bench, &one, err));
	}
	return TT_OK;
}

static int open_engine(struct tt_model_bench *all, const char *model, const struct tt_gpu_groups *groups, bool fast,
	struct tt_error *err)
{
	bool tiny = groups->tiny;
	struct tt_engine_options options;
	char path[64];
	all->fast = fast;
	all->max_batch = tiny ? TINY_BATCH : MAX_BATCH;
	all->n_steps = tiny ? TINY_STEPS : N_STEPS;
	all->n_decode = tiny ? TINY_PROMPT : CONTEXT - N_STEPS;
	all->n_prefill = tiny ? TINY_PROMPT : PROMPT;
	snprintf(path, sizeof path, "dummy:%s", model);
	tt_engine_options_default(&options);
	options.device = "cuda";
	options.fast = fast;
	options.n_ranks = groups->n_ranks;
	options.max_batch = all->max_batch;
	options.max_step_tokens = tiny ? 64 : 2048;
	options.context = tiny ? 512 : 4096;
	options.kv_tokens = all->max_batch * (all->n_decode + 64) + 2 * all->n_prefill + options.context;
	TT_TRY(tt_engine_open(&all->engine, path, &options, err));
	for (uint32_t i = 0; i <= (all->every_arm ? all->max_batch : 1); i++) {
		const struct tt_model_info *info = tt_engine_info(all->engine);
		int layer = i == 0 ? (int)info->n_layers / 2 : TT_BENCH_ALL_LAYERS;
		TT_TRY(tt_bench_synthetic_policy(&all->policies[i], info, layer, 1000 * (uint64_t)i, err));
		TT_TRY(tt_engine_add_policy(all->engine, all->policies[i], NULL, err));
	}
	return TT_OK;
}

static void end_group(struct tt_model_bench *all)
{
	for (int kind = 0; kind < N_ARMS; kind++)
		free_requests(&all->arms[kind]);
}

static int run_group(struct tt_gpu_groups *groups, struct tt_model_bench *all, const char *model, uint32_t batch,
	struct tt_error *err)
{
	char group[96], name[64];
	snprintf(name, sizeof name, "%s", model);
	if (groups->n_ranks)
		snprintf(name, sizeof name, "%s, %u ranks,", model, groups->n_ranks);
	if (batch)
		snprintf(group, sizeof group, "%s decode batch %u", name, batch);
	else
		snprintf(group, sizeof group, "%s%s prefill %u", name, all->fast ? " fast" : "", all->n_prefill);
	all->batch = batch;
	int status = tt_gpu_group(groups, group, fill_group, all, err);
	end_group(all);
	return status;
}

static void close_engine(struct tt_model_bench *all)
{
	end_group(all);
	tt_engine_close(all->engine);
	for (uint32_t i = 0; i < 1 + MAX_BATCH; i++)
		tt_policy_free(all->policies[i]);
	free(all);
}

/* First one row and 64, which say what decoding costs, and a prompt. */
static int run_groups(struct tt_gpu_groups *groups, const char *model, bool every_arm, bool fast, struct tt_error *err)
{
	static const uint32_t batches[] = {1, 64, 0, 8, 256};
	struct tt_model_bench *all = NULL;
	TT_TRY(tt_alloc(&all, 1, sizeof *all, err));
	all->every_arm = every_arm;
	int status = open_engine(all, model, groups, fast, err);
	for (size_t i = 0; i < sizeof batches / sizeof *batches && status == TT_OK; i++) {
		uint32_t n = batches[i] ? batches[i] : all->n_prefill;
		if (batches[i] <= all->max_batch && !(fast && batches[i]) && (!groups->tokens || groups->tokens == n))
			status = run_group(groups, all, model, batches[i], err);
	}
	close_engine(all);
	return status;
}

/* Fast mode only changes long prompts, and needs cuBLASLt, which a machine may lack. */
int tt_model_bench_run(struct tt_gpu_groups *groups, const char *model, bool every_arm, struct tt_error *err)
{
	TT_TRY(run_groups(groups, model, every_arm, false, err));
	if (groups->n_ranks)
		return TT_OK;
	int status = run_groups(groups, model, every_arm, true, err);
	if (status != TT_ERR_UNSUPPORTED)
		return status;
	printf("no fast mode: %s\n", err->message);
	return TT_OK;
}
