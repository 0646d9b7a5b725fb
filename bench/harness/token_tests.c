#include "bench/harness/token_tests.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "bench/harness/engine_cases.h"
#include "kernels/step_plan.h"

enum { TOKEN_SEED = 5, DEPTH_SEED = 6 };

struct token_arm {
	struct tt_token_cases *of;
	struct tt_request *request;
	struct tt_engine_stats before;
	bool steered;
};

struct tt_token_cases {
	struct tt_token_lab *lab;
	struct tt_token_test test;
	size_t n_ids;
	int32_t *ids; // [n_ids] the context, then the prompt
	struct token_arm arms[2];
};

uint64_t tt_token_test_positions(const struct tt_token_test *test)
{
	return (uint64_t)test->n_depth + test->n_prompt + test->n_gen + 1;
}

void tt_token_test_name(char out[TT_TOKEN_TEST_NAME], const struct tt_token_test *test)
{
	char prompt[24] = "", gen[24] = "", depth[24] = "";
	if (test->n_prompt)
		snprintf(prompt, sizeof prompt, "pp%u", test->n_prompt);
	if (test->n_gen)
		snprintf(gen, sizeof gen, "%stg%u", test->n_prompt ? "+" : "", test->n_gen);
	if (test->n_depth)
		snprintf(depth, sizeof depth, " @ d%u", test->n_depth);
	snprintf(out, TT_TOKEN_TEST_NAME, "%s%s%s", prompt, gen, depth);
}

static struct tt_request_options options_of(const struct token_arm *arm, size_t n_ids, uint32_t max_tokens)
{
	const struct tt_token_lab *lab = arm->of->lab;
	struct tt_request_options options;
	tt_request_options_default(&options);
	options.ids = arm->of->ids;
	options.n_ids = n_ids;
	options.max_tokens = max_tokens;
	options.ignore_eos = true;
	options.n_steering = arm->steered ? lab->n_steering : 0;
	memcpy(options.steering, lab->steering, sizeof options.steering);
	return options;
}

/* Runs the context, unless its pages are still there. One token more makes its last page a page that others share. */
static int run_context(const struct token_arm *arm, struct tt_error *err)
{
	const struct tt_token_cases *c = arm->of;
	const struct tt_request_options options = options_of(arm, c->test.n_depth + 1, 0);
	struct tt_request *request = NULL;
	if (c->test.n_depth == 0)
		return TT_OK;
	TT_TRY(tt_request_submit(&request, c->lab->engine, &options, err));
	int status = tt_request_wait(request, err);
	tt_request_free(request);
	return status;
}

/* A prompt's last pass samples the first token; each token after it is a pass. */
static int arm_before(void *context, struct tt_error *err)
{
	struct token_arm *arm = context;
	struct tt_token_cases *c = arm->of;
	const struct tt_model_info *info = tt_engine_info(c->lab->engine);
	size_t depth = c->test.n_depth;
	tt_lab_tokens(c->ids + depth, c->n_ids - depth, info->vocab_size, TOKEN_SEED + ++c->lab->n_samples);
	TT_TRY(run_context(arm, err));
	const struct tt_request_options options = options_of(arm, c->n_ids, c->test.n_gen + (c->test.n_prompt > 0));
	tt_engine_stats(c->lab->engine, &arm->before);
	return tt_request_submit(&arm->request, c->lab->engine, &options, err);
}

static int arm_run(void *context, struct tt_error *err)
{
	struct token_arm *arm = context;
	return tt_request_wait(arm->request, err);
}

/* The fastest test is the one that does nothing: what ran is counted. */
static int check(const struct token_arm *arm, struct tt_error *err)
{
	const struct tt_token_cases *c = arm->of;
	struct tt_engine_stats now;
	tt_engine_stats(c->lab->engine, &now);
	uint64_t n_ran =
		now.n_prefill_tokens + now.n_decode_tokens - arm->before.n_prefill_tokens - arm->before.n_decode_tokens;
	uint64_t n_wanted = (uint64_t)c->test.n_prompt + c->test.n_gen;
	bool gated = arm->steered && c->lab->has_gate;
	if (tt_request_n_generated(arm->request) != c->test.n_gen + (c->test.n_prompt > 0) ||
		(n_ran != n_wanted && !gated))
		return tt_fail(err, TT_ERR_LIMIT, "%llu tokens ran, not %llu", (unsigned long long)n_ran,
			(unsigned long long)n_wanted);
	if (arm->steered && !gated && !tt_lab_is_steered(arm->request, tt_engine_info(c->lab->engine)->n_layers))
		return tt_fail(err, TT_ERR_MISMATCH, "nothing was steered");
	return TT_OK;
}

static int arm_after(void *context, struct tt_error *err)
{
	struct token_arm *arm = context;
	int status = check(arm, err);
	tt_request_free(arm->request);
	arm->request = NULL;
	return status;
}

/* Tokens whose logits are computed: of a prompt the last, of generation all. */
static double flops_of(const struct tt_model_info *info, const struct tt_token_test *test)
{
	double passes = (double)test->n_prompt + test->n_gen, logits = (double)test->n_gen + (test->n_prompt > 0);
	return 2 * (passes * tt_lab_block_macs(info) + logits * tt_lab_output_macs(info));
}

static int add_arm(struct tt_bench *bench, struct token_arm *arm, const char *group, bool limits, struct tt_error *err)
{
	const struct tt_token_test *test = &arm->of->test;
	const struct tt_model_info *info = tt_engine_info(arm->of->lab->engine);
	const char *fma = limits ? "fma" : NULL, *read = limits ? "read" : NULL;
	struct tt_bench_case one = {
		.group = group,
		.name = arm->steered ? "steered" : "off",
		.run = arm_run,
		.before = arm_before,
		.after = arm_after,
		.context = arm,
		.work = {{"tokens", (double)test->n_prompt + test->n_gen, NULL}, {"flops", flops_of(info, test), fma}},
		.baseline = arm->steered ? "off" : NULL,
	};
	/* Of a prompt the weights are read once a step, which is no bound. */
	if (test->n_prompt == 0)
		one.work[2] = (struct tt_bench_work){"bytes", test->n_gen * tt_lab_step_bytes(info), read};
	return tt_bench_add(bench, &one, err);
}

int tt_token_test_add(struct tt_token_cases **out, struct tt_bench *bench, struct tt_token_lab *lab, const char *group,
	const struct tt_token_test *test, bool limits, struct tt_error *err)
{
	const struct tt_model_info *info = tt_engine_info(lab->engine);
	struct tt_token_cases *c = NULL;
	if (test->n_prompt + test->n_gen == 0)
		return tt_fail(err, TT_ERR_ARGUMENT, "a test needs a prompt or tokens to generate");
	if (test->n_depth % TT_PAGE_TOKENS != 0)
		return tt_fail(err, TT_ERR_ARGUMENT, "a depth of %u is no multiple of %d, the tokens of a KV page",
			test->n_depth, TT_PAGE_TOKENS);
	if (tt_token_test_positions(test) > info->context)
		return tt_fail(err, TT_ERR_LIMIT, "the test takes %llu positions, and the context has %u",
			(unsigned long long)tt_token_test_positions(test), info->context);
	TT_TRY(tt_alloc(&c, 1, sizeof *c, err));
	*out = c;
	*c = (struct tt_token_cases){.lab = lab, .test = *test};
	c->n_ids = (size_t)test->n_depth + (test->n_prompt ? test->n_prompt : 1);
	TT_TRY(tt_alloc(&c->ids, c->n_ids + 1, sizeof *c->ids, err));
	tt_lab_tokens(c->ids, test->n_depth, info->vocab_size, DEPTH_SEED);
	for (int steered = 0; steered < (lab->n_steering ? 2 : 1); steered++) {
		c->arms[steered] = (struct token_arm){.of = c, .steered = steered};
		TT_TRY(add_arm(bench, &c->arms[steered], group, limits, err));
	}
	return TT_OK;
}

void tt_token_cases_free(struct tt_token_cases *c)
{
	if (!c)
		return;
	for (int i = 0; i < 2; i++)
		tt_request_free(c->arms[i].request);
	free(c->ids);
	free(c);
}
