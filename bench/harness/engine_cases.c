#include "bench/harness/engine_cases.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/fail.h"
#include "base/memory.h"

/* Tokens are random: their text makes no difference to the time, because end tokens are ignored. */
enum { TOKEN_SEED = 5, MAX_PREFILL = 1 << 16 };

double tt_lab_block_macs(const struct tt_model_info *info)
{
	double d = info->hidden_size, heads = (double)info->n_heads * info->head_dim,
	       kv_heads = (double)info->n_kv_heads * info->head_dim;
	return info->n_layers * d * (2 * heads + 2 * kv_heads + 3.0 * info->ffn_size);
}

double tt_lab_output_macs(const struct tt_model_info *info)
{
	return (double)info->vocab_size * info->hidden_size;
}

double tt_lab_step_bytes(const struct tt_model_info *info)
{
	double read = tt_lab_block_macs(info) + tt_lab_output_macs(info), all = (double)info->n_parameters;
	return (double)info->n_weight_bytes * (read < all ? read / all : 1);
}

/* Adjacent seeds would give shifted streams. */
void tt_lab_tokens(int32_t *ids, size_t n, uint32_t vocab, uint64_t seed)
{
	uint64_t state = tt_bench_draw(&seed);
	for (size_t i = 0; i < n; i++)
		ids[i] = (int32_t)(tt_bench_draw(&state) % vocab);
}

bool tt_lab_is_steered(const struct tt_request *request, uint32_t n_layers)
{
	struct tt_decision decision;
	for (uint32_t i = 0; i < TT_MAX_STACK && tt_request_decision(request, i, &decision); i++)
		for (uint32_t l = 0; l < n_layers; l++)
			if (decision.coef[l] != 0)
				return true;
	return false;
}

/* ---- Prefill ---- */

struct prefill_arm {
	const struct tt_prefill_case *of;
	struct tt_request *request;
	bool steered;
};

struct tt_prefill_case {
	const struct tt_lab *lab;
	uint32_t n_tokens;
	int32_t *ids; // [n_tokens]
	struct prefill_arm arms[2];
};

static int prefill_before(void *context, struct tt_error *err)
{
	struct prefill_arm *arm = context;
	struct tt_request_options options;
	tt_request_options_default(&options);
	options.ids = arm->of->ids;
	options.n_ids = arm->of->n_tokens;
	options.max_tokens = 1;
	options.ignore_eos = true;
	options.n_steering = arm->steered;
	options.steering[0] = (struct tt_steering){arm->of->lab->policy, 1};
	return tt_request_submit(&arm->request, arm->of->lab->engines[0], &options, err);
}

static int prefill_run(void *context, struct tt_error *err)
{
	struct prefill_arm *arm = context;
	return tt_request_wait(arm->request, err);
}

static int prefill_after(void *context, struct tt_error *err)
{
	struct prefill_arm *arm = context;
	const struct tt_lab *lab = arm->of->lab;
	size_t n_generated = tt_request_n_generated(arm->request);
	bool unsteered = arm->steered && lab->synthetic &&
			 !tt_lab_is_steered(arm->request, tt_engine_info(lab->engines[0])->n_layers);
	tt_request_free(arm->request);
	arm->request = NULL;
	if (n_generated != 1)
		return tt_fail(err, TT_ERR_LIMIT, "the prompt gave %zu tokens, not one", n_generated);
	return unsteered ? tt_fail(err, TT_ERR_MISMATCH, "the prompt was not steered") : TT_OK;
}

int tt_prefill_add(struct tt_prefill_case **out, struct tt_bench *bench, const struct tt_lab *lab, const char *group,
	uint32_t n_tokens, struct tt_error *err)
{
	const struct tt_model_info *info = tt_engine_info(lab->engines[0]);
	struct tt_prefill_case *prefill = NULL;
	if (n_tokens < 1 || n_tokens > MAX_PREFILL)
		return tt_fail(err, TT_ERR_ARGUMENT, "a prompt of %u tokens cannot be timed", n_tokens);
	TT_TRY(tt_alloc(&prefill, 1, sizeof *prefill, err));
	*out = prefill;
	prefill->lab = lab;
	prefill->n_tokens = n_tokens;
	TT_TRY(tt_alloc(&prefill->ids, n_tokens, sizeof *prefill->ids, err));
	tt_lab_tokens(prefill->ids, n_tokens, info->vocab_size, TOKEN_SEED);
	double flops = 2 * (n_tokens * tt_lab_block_macs(info) + tt_lab_output_macs(info));
	for (int steered = 0; steered < 2; steered++) {
		struct prefill_arm *arm = &prefill->arms[steered];
		*arm = (struct prefill_arm){.of = prefill, .steered = steered};
		struct tt_bench_case one = {
			.group = group,
			.name = steered ? "steered" : "unsteered",
			.run = prefill_run,
			.before = prefill_before,
			.after = prefill_after,
			.context = arm,
			.work = {{"tokens", n_tokens, NULL}, {"flops", flops, "fma"}},
			.baseline = steered ? "unsteered" : NULL,
		};
		TT_TRY(tt_bench_add(bench, &one, err));
	}
	return TT_OK;
}

void tt_prefill_free(struct tt_prefill_case *prefill)
{
	if (!prefill)
		return;
	for (int i = 0; i < 2; i++)
		tt_request_free(prefill->arms[i].request);
	free(prefill->ids);
	free(prefill);
}

/* ---- Decode ---- */

struct decode_arm {
	struct tt_decode_case *of;
	struct tt_engine *engine;
	struct tt_request *requests[TT_LAB_MAX_BATCH]; // [batch]
	uint32_t n_samples_left;                       /* tokens until its sequences have their full length */
	bool steered;
	struct tt_error start_error; /* why its last batch could not start; code 0 otherwise */
};

struct tt_decode_case {
	const struct tt_lab *lab;
	uint32_t batch, n_steps, n_batches, n_steered;
	struct decode_arm arms[2];
};

static void free_requests(struct decode_arm *arm)
{
	for (uint32_t i = 0; i < TT_LAB_MAX_BATCH; i++) {
		tt_request_free(arm->requests[i]);
		arm->requests[i] = NULL;
	}
}

static int submit_row(struct decode_arm *arm, uint32_t row, struct tt_error *err)
{
	const struct tt_decode_case *decode = arm->of;
	struct tt_request_options options;
	int32_t ids[TT_LAB_PROMPT];
	tt_lab_tokens(ids, TT_LAB_PROMPT, tt_engine_info(arm->engine)->vocab_size, TOKEN_SEED + 1 + row);
	tt_request_options_default(&options);
	options.ids = ids;
	options.n_ids = TT_LAB_PROMPT;
	/* The first rows decode while the last rows' prompts still run: this leaves a few tokens more, which are never
	 * reached. */
	options.max_tokens = TT_LAB_DECODED + decode->batch + decode->n_steps;
	options.ignore_eos = true;
	options.n_steering = arm->steered;
	options.steering[0] = (struct tt_steering){decode->lab->by_row ? decode->lab->by_row[row] : decode->lab->policy,
		0.5f + (float)row / (float)decode->batch};
	return tt_request_submit(&arm->requests[row], arm->engine, &options, err);
}

/* Submits the batch and runs the prompts, until every row has its first token and only decodes. */
static int start_batch(struct decode_arm *arm, struct tt_error *err)
{
	struct tt_decode_case *decode = arm->of;
	for (uint32_t row = 0; row < decode->batch; row++)
		TT_TRY(submit_row(arm, row, err));
	for (uint32_t row = 0; row < decode->batch; row++)
		while (tt_request_n_generated(arm->requests[row]) == 0)
			TT_TRY(tt_engine_step(arm->engine, err));
	arm->n_samples_left = TT_LAB_DECODED / decode->n_steps;
	if (!arm->steered)
		return TT_OK;
	uint32_t n_layers = tt_engine_info(arm->engine)->n_layers;
	decode->n_steered = 0;
	for (uint32_t row = 0; row < decode->batch; row++)
		decode->n_steered += tt_lab_is_steered(arm->requests[row], n_layers);
	if (decode->n_steered == 0 || (decode->lab->synthetic && decode->n_steered < decode->batch))
		return tt_fail(
			err, TT_ERR_MISMATCH, "the policy steers %u of %u rows", decode->n_steered, decode->batch);
	return TT_OK;
}

/* Both sides restart together, so that they are always at the same context, and swap engines, so that no engine's place
 * in memory is taken for the cost of steering. A side that cannot start fails in its own turn. */
static int decode_before(void *context, struct tt_error *err)
{
	struct decode_arm *arm = context;
	struct tt_decode_case *decode = arm->of;
	if (arm->n_samples_left == 0 && arm->start_error.code == TT_OK) {
		for (int i = 0; i < 2; i++)
			free_requests(&decode->arms[i]);
		decode->n_batches++;
		for (uint32_t i = 0; i < 2; i++) {
			struct decode_arm *one = &decode->arms[i];
			one->engine = decode->lab->engines[(i + decode->n_batches) % 2];
			if (one->start_error.code == TT_OK && start_batch(one, &one->start_error) != TT_OK)
				free_requests(one);
		}
	}
	return arm->start_error.code ? tt_fail(err, arm->start_error.code, "%s", arm->start_error.message) : TT_OK;
}

static int decode_run(void *context, struct tt_error *err)
{
	struct decode_arm *arm = context;
	struct tt_engine_stats before, after;
	tt_engine_stats(arm->engine, &before);
	for (uint32_t i = 0; i < arm->of->n_steps; i++)
		TT_TRY(tt_engine_step(arm->engine, err));
	tt_engine_stats(arm->engine, &after);
	arm->n_samples_left--;
	uint64_t n = after.n_decode_tokens - before.n_decode_tokens,
		 wanted = (uint64_t)arm->of->batch * arm->of->n_steps;
	if (n != wanted)
		return tt_fail(err, TT_ERR_LIMIT, "the steps decoded %llu tokens, not %llu", (unsigned long long)n,
			(unsigned long long)wanted);
	return TT_OK;
}

/* The engines are not closed: the next group uses them too. */
static int decode_finish(void *context, struct tt_error *err)
{
	(void)err;
	free_requests(context);
	return TT_OK;
}

int tt_decode_add(struct tt_decode_case **out, struct tt_bench *bench, const struct tt_lab *lab, const char *group,
	uint32_t batch, uint32_t n_steps, struct tt_error *err)
{
	const struct tt_model_info *info = tt_engine_info(lab->engines[0]);
	struct tt_decode_case *decode = NULL;
	if (batch < 1 || batch > TT_LAB_MAX_BATCH || n_steps < 1 || n_steps > TT_LAB_DECODED)
		return tt_fail(err, TT_ERR_ARGUMENT, "%u steps of batch %u cannot be timed", n_steps, batch);
	TT_TRY(tt_alloc(&decode, 1, sizeof *decode, err));
	*out = decode;
	*decode = (struct tt_decode_case){.lab = lab, .batch = batch, .n_steps = n_steps};
	double tokens = (double)batch * n_steps;
	double flops = 2 * tokens * (tt_lab_block_macs(info) + tt_lab_output_macs(info));
	for (int steered = 0; steered < 2; steered++) {
		struct decode_arm *arm = &decode->arms[steered];
		arm->of = decode;
		arm->steered = steered;
		struct tt_bench_case one = {
			.group = group,
			.name = steered ? "steered" : "unsteered",
			.run = decode_run,
			.before = decode_before,
			.finish = decode_finish,
			.context = arm,
			.work = {{"tokens", tokens, NULL}, {"flops", flops, "fma"},
				{"bytes", n_steps * tt_lab_step_bytes(info), "read"}},
			.baseline = steered ? "unsteered" : NULL,
		};
		TT_TRY(tt_bench_add(bench, &one, err));
	}
	return TT_OK;
}

void tt_decode_free(struct tt_decode_case *decode)
{
	if (!decode)
		return;
	for (int i = 0; i < 2; i++)
		free_requests(&decode->arms[i]);
	free(decode);
}

uint32_t tt_decode_n_steered(const struct tt_decode_case *decode)
{
	return decode->n_steered;
}

uint32_t tt_decode_n_steps(const struct tt_decode_case *decode)
{
	return decode->n_steps;
}
