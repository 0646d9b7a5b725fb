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
	const struct tt_token_way *way;
	struct tt_engine *engine;
	struct tt_request *requests[TT_MAX_TOKEN_ROWS]; // [n_rows]
	struct tt_engine_stats before;
	uint64_t n_told; /* calls of its telemetry in a sample */
};

struct tt_token_cases {
	struct tt_token_lab *lab;
	struct tt_token_test test;
	size_t n_ids;
	int32_t *ids; // [n_ids] the context, then the prompt
	uint32_t n_rows;
	uint64_t *every_layer;  // a bit for each
	struct token_arm *arms; // [lab->n_ways]
};

uint64_t tt_token_test_positions(const struct tt_token_test *test)
{
	return (uint64_t)test->n_depth + test->n_given + test->n_prompt + test->n_gen + 1;
}

void tt_token_test_name(char out[TT_TOKEN_TEST_NAME], const struct tt_token_test *test)
{
	char prompt[24] = "", gen[24] = "", depth[24] = "", given[24] = "";
	if (test->n_prompt)
		snprintf(prompt, sizeof prompt, "pp%u", test->n_prompt);
	if (test->n_gen)
		snprintf(gen, sizeof gen, "%stg%u", test->n_prompt ? "+" : "", test->n_gen);
	if (test->n_depth)
		snprintf(depth, sizeof depth, " @ d%u", test->n_depth);
	if (test->n_given)
		snprintf(given, sizeof given, " @ p%u", test->n_given);
	snprintf(out, TT_TOKEN_TEST_NAME, "%s%s%s%s", prompt, gen, depth, given);
}

/* Tokens that a request generates: those that are timed, and the one that a prompt's last pass gives. */
static uint32_t generated(const struct tt_token_test *test)
{
	return test->n_gen + (test->n_prompt + test->n_given > 0);
}

static void count_telemetry(void *user, struct tt_request *request, const struct tt_telemetry *telemetry)
{
	uint64_t *n = user;
	(void)request;
	(void)telemetry;
	++*n;
}

static struct tt_request_options options_of(struct token_arm *arm, uint32_t row, size_t n_ids, uint32_t max_tokens)
{
	const struct tt_token_way *way = arm->way;
	struct tt_request_options options;
	tt_request_options_default(&options);
	options.ids = arm->of->ids;
	options.n_ids = n_ids;
	options.max_tokens = max_tokens;
	options.ignore_eos = true;
	options.n_steering = way->n_steering;
	memcpy(options.steering, way->steering, sizeof options.steering);
	if (way->by_row)
		options.steering[0].policy = way->by_row[row];
	if (way->captures)
		options.keep_layers = arm->of->every_layer;
	if (way->telemetry) {
		options.telemetry = count_telemetry;
		options.user = &arm->n_told;
	}
	return options;
}

static int run_untimed(struct token_arm *arm, const struct tt_request_options *options, struct tt_error *err)
{
	struct tt_request *request = NULL;
	TT_TRY(tt_request_submit(&request, arm->engine, options, err));
	int status = tt_request_wait(request, err);
	tt_request_free(request);
	return status;
}

/* Runs the context, unless its pages are still there. One token more makes its last page a page that others share; and
 * one is generated, since what only gates read runs fewer layers, whose pages nobody else takes. */
static int run_context(struct token_arm *arm, uint32_t row, struct tt_error *err)
{
	const struct tt_token_cases *c = arm->of;
	struct tt_request_options options = options_of(arm, row, c->test.n_depth + 1, 1);
	options.keep_layers = NULL;
	return c->test.n_depth ? run_untimed(arm, &options, err) : TT_OK;
}

/* A pass of one token: the threads of an engine that others had to wait for have gone to sleep. */
static int wake(struct token_arm *arm, struct tt_error *err)
{
	struct tt_request_options options;
	tt_request_options_default(&options);
	options.ids = arm->of->ids;
	options.n_ids = 1;
	return run_untimed(arm, &options, err);
}

/* A prompt's last pass samples the first token; each token after it is a pass. */
static int submit_row(struct token_arm *arm, uint32_t row, struct tt_error *err)
{
	struct tt_token_cases *c = arm->of;
	size_t depth = c->test.n_depth;
	uint32_t vocab = tt_engine_info(arm->engine)->vocab_size;
	tt_lab_tokens(c->ids + depth, c->n_ids - depth, vocab, TOKEN_SEED + ++c->lab->n_samples);
	TT_TRY(run_context(arm, row, err));
	struct tt_request_options options = options_of(arm, row, c->n_ids, generated(&c->test));
	options.keep_from = depth;
	return tt_request_submit(&arm->requests[row], arm->engine, &options, err);
}

/* Runs the prompts until each has given its first token. They are few tokens, of one step. */
static int run_given(struct token_arm *arm, struct tt_error *err)
{
	for (uint32_t row = 0; row < arm->of->n_rows; row++)
		while (tt_request_n_generated(arm->requests[row]) == 0 &&
			tt_request_finish(arm->requests[row]) == TT_RUNNING)
			TT_TRY(tt_engine_step(arm->engine, err));
	return TT_OK;
}

static int arm_before(void *context, struct tt_error *err)
{
	struct token_arm *arm = context;
	TT_TRY(wake(arm, err));
	for (uint32_t row = 0; row < arm->of->n_rows; row++)
		TT_TRY(submit_row(arm, row, err));
	if (arm->of->test.n_given)
		TT_TRY(run_given(arm, err));
	arm->n_told = 0;
	tt_engine_stats(arm->engine, &arm->before);
	return TT_OK;
}

static int arm_run(void *context, struct tt_error *err)
{
	struct token_arm *arm = context;
	for (uint32_t row = 0; row < arm->of->n_rows; row++)
		TT_TRY(tt_request_wait(arm->requests[row], err));
	return TT_OK;
}

static int check_row(const struct token_arm *arm, uint32_t row, struct tt_error *err)
{
	const struct tt_token_test *test = &arm->of->test;
	const struct tt_request *request = arm->requests[row];
	uint32_t n_layers = tt_engine_info(arm->engine)->n_layers;
	size_t n = tt_request_n_generated(request), n_wanted = generated(test);
	if (n != n_wanted)
		return tt_fail(err, TT_ERR_LIMIT, "%zu tokens were generated, not %zu", n, n_wanted);
	if (arm->way->captures && !tt_request_hidden(request, n_layers - 1))
		return tt_fail(err, TT_ERR_MISMATCH, "nothing was captured");
	bool decided = !arm->way->has_gate || arm->of->n_ids > 1;
	if (arm->way->n_steering && decided && !tt_lab_is_steered(request, n_layers))
		return tt_fail(err, TT_ERR_MISMATCH, "nothing was steered");
	return TT_OK;
}

/* The fastest test is the one that does nothing: what ran is counted. */
static int check(const struct token_arm *arm, struct tt_error *err)
{
	const struct tt_token_cases *c = arm->of;
	struct tt_engine_stats now;
	tt_engine_stats(arm->engine, &now);
	uint64_t n_ran =
		now.n_prefill_tokens + now.n_decode_tokens - arm->before.n_prefill_tokens - arm->before.n_decode_tokens;
	uint64_t n_wanted = ((uint64_t)c->test.n_prompt + c->test.n_gen) * c->n_rows;
	if (n_ran != n_wanted && (!arm->way->has_gate || c->test.n_given))
		return tt_fail(err, TT_ERR_LIMIT, "%llu tokens ran, not %llu", (unsigned long long)n_ran,
			(unsigned long long)n_wanted);
	if (arm->way->telemetry && arm->n_told < n_wanted)
		return tt_fail(err, TT_ERR_MISMATCH, "%llu tokens were told of, not %llu",
			(unsigned long long)arm->n_told, (unsigned long long)n_wanted);
	for (uint32_t row = 0; row < c->n_rows; row++)
		TT_TRY(check_row(arm, row, err));
	return TT_OK;
}

static void free_requests(struct token_arm *arm)
{
	for (uint32_t row = 0; row < TT_MAX_TOKEN_ROWS; row++) {
		tt_request_free(arm->requests[row]);
		arm->requests[row] = NULL;
	}
}

static int arm_after(void *context, struct tt_error *err)
{
	struct token_arm *arm = context;
	int status = check(arm, err);
	free_requests(arm);
	return status;
}

/* What a before that failed left. */
static int arm_finish(void *context, struct tt_error *err)
{
	(void)err;
	free_requests(context);
	return TT_OK;
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
	const struct tt_token_way *first = &arm->of->lab->ways[0];
	const struct tt_model_info *info = tt_engine_info(arm->engine);
	const char *fma = limits ? "fma" : NULL, *read = limits ? "read" : NULL;
	double n_rows = arm->of->n_rows, n_tokens = n_rows * ((double)test->n_prompt + test->n_gen);
	struct tt_bench_case one = {
		.group = group,
		.name = arm->way->name,
		.run = arm_run,
		.before = arm_before,
		.after = arm_after,
		.finish = arm_finish,
		.context = arm,
		.work = {{"tokens", n_tokens, NULL}, {"flops", n_rows * flops_of(info, test), fma}},
		.baseline = arm->way == first ? NULL : first->name,
	};
	/* Of a prompt the weights are read once a step, which is no bound. */
	if (test->n_prompt == 0)
		one.work[2] = (struct tt_bench_work){"bytes", test->n_gen * tt_lab_step_bytes(info), read};
	return tt_bench_add(bench, &one, err);
}

static int check_test(const struct tt_token_lab *lab, const struct tt_token_test *test, struct tt_error *err)
{
	uint32_t context = tt_engine_info(lab->engine)->context;
	if (test->n_prompt + test->n_gen == 0)
		return tt_fail(err, TT_ERR_ARGUMENT, "a test needs a prompt or tokens to generate");
	if (test->n_given && (test->n_prompt || test->n_depth))
		return tt_fail(err, TT_ERR_ARGUMENT, "a prompt that is not timed comes before generation alone");
	if (test->n_depth % TT_PAGE_TOKENS != 0)
		return tt_fail(err, TT_ERR_ARGUMENT, "a depth of %u is no multiple of %d, the tokens of a KV page",
			test->n_depth, TT_PAGE_TOKENS);
	if (tt_token_test_positions(test) > context)
		return tt_fail(err, TT_ERR_LIMIT, "the test takes %llu positions, and the context has %u",
			(unsigned long long)tt_token_test_positions(test), context);
	if (lab->n_ways < 1 || lab->n_ways > TT_MAX_TOKEN_WAYS || lab->n_rows > TT_MAX_TOKEN_ROWS)
		return tt_fail(
			err, TT_ERR_ARGUMENT, "at most %d ways and %d rows", TT_MAX_TOKEN_WAYS, TT_MAX_TOKEN_ROWS);
	return TT_OK;
}

int tt_token_test_add(struct tt_token_cases **out, struct tt_bench *bench, struct tt_token_lab *lab, const char *group,
	const struct tt_token_test *test, bool limits, struct tt_error *err)
{
	const struct tt_model_info *info = tt_engine_info(lab->engine);
	struct tt_token_cases *c = NULL;
	TT_TRY(check_test(lab, test, err));
	TT_TRY(tt_alloc(&c, 1, sizeof *c, err));
	*out = c;
	*c = (struct tt_token_cases){.lab = lab, .test = *test, .n_rows = lab->n_rows ? lab->n_rows : 1};
	uint32_t n_new = test->n_given + test->n_prompt;
	c->n_ids = (size_t)test->n_depth + (n_new ? n_new : 1);
	TT_TRY(tt_alloc(&c->ids, c->n_ids + 1, sizeof *c->ids, err));
	TT_TRY(tt_alloc(&c->every_layer, (info->n_layers + 63) / 64, sizeof *c->every_layer, err));
	memset(c->every_layer, 0xff, (info->n_layers + 63) / 64 * sizeof *c->every_layer);
	TT_TRY(tt_alloc(&c->arms, lab->n_ways, sizeof *c->arms, err));
	tt_lab_tokens(c->ids, test->n_depth, info->vocab_size, DEPTH_SEED);
	for (size_t i = 0; i < lab->n_ways; i++) {
		const struct tt_token_way *way = &lab->ways[i];
		c->arms[i] = (struct token_arm){.of = c, .way = way, .engine = way->engine ? way->engine : lab->engine};
		TT_TRY(add_arm(bench, &c->arms[i], group, limits, err));
	}
	return TT_OK;
}

void tt_token_cases_free(struct tt_token_cases *c)
{
	if (!c)
		return;
	for (size_t i = 0; c->arms && i < c->lab->n_ways; i++)
		free_requests(&c->arms[i]);
	free(c->arms);
	free(c->every_layer);
	free(c->ids);
	free(c);
}
