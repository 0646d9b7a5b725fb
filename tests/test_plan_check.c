/* What a rank takes from another process. Plans and policies with words changed at random: whatever the checks let
 * through is run, which under the sanitizers shows an index that nobody looked at. */
#include "golden.h"
#include "random.h"
#include "runtime/engine/forward.h"
#include "runtime/engine/plan_check.h"
#include "runtime/engine/policy_pack.h"
#include "runtime/engine/rank_policies.h"

enum { MAX_PLANS = 64 };

static struct tt_step_plan *plans[MAX_PLANS];
static uint32_t n_plans, previous[MAX_PLANS]; /* samples of the step before */
static int (*real_begin)(struct tt_backend *, const struct tt_step_plan *, bool *, struct tt_error *);

static int keep_plan(struct tt_backend *backend, const struct tt_step_plan *step, bool *recorded, struct tt_error *err)
{
	static uint32_t n_samples;
	if (n_plans < MAX_PLANS) {
		plans[n_plans] = malloc(step->n_bytes);
		memcpy(plans[n_plans], step, step->n_bytes);
		previous[n_plans++] = n_samples;
	}
	n_samples = step->n_samples;
	return real_begin(backend, step, recorded, err);
}

/* Behind a gate that reads the mean and the last token of two layers. */
static struct tt_policy *make_policy(struct tt_engine *engine)
{
	static const uint32_t observed[] = {0, 1};
	const struct tt_model_info *info = tt_engine_info(engine);
	const struct tt_gate_choice choice = {
		.gate = TT_GATE_MLP, .pool = TT_POOL_LAST_MEAN, .observed = observed, .n_observed = 2, .n_units = 5};
	struct tt_policy *p = NULL;
	must(tt_policy_new(&p, info->n_layers, info->hidden_size, 2, err));
	must(tt_policy_set_operation(p, TT_OP_ABLATE, err));
	must(tt_policy_set_gate(p, &choice, err));
	for (uint32_t l = 0; l < info->n_layers; l++)
		p->weights[l] = p->directions[2 * l * info->hidden_size] =
			p->directions[(2 * l + 1) * info->hidden_size + 1] = 1;
	p->when = TT_WHEN_ALL;
	policy_adopt(engine, p);
	return p;
}

static struct tt_engine *open_small(void)
{
	struct tt_engine_options options;
	struct tt_engine *engine = NULL;
	tt_engine_options_default(&options);
	options.device = "cpu";
	options.n_threads = 1;
	options.max_batch = 4;
	options.max_step_tokens = 24;
	options.context = 64;
	options.kv_tokens = 192;
	must(tt_engine_open(&engine, GOLDEN("tiny-llama3"), &options, err));
	return engine;
}

/* Prompts in chunks, decoding, penalties, captures, gates and means. */
static void make_plans(struct tt_engine *engine, struct tt_policy *policy)
{
	struct tt_backend *backend = engine->rank.backend;
	real_begin = backend->begin;
	backend->begin = keep_plan;
	for (uint32_t i = 0; i < 4; i++) {
		struct tt_request *request;
		struct tt_request_options options;
		int32_t ids[40];
		for (int k = 0; k < 40; k++)
			ids[k] = 5 + k;
		tt_request_options_default(&options);
		options.ids = ids;
		options.n_ids = 7 + 11 * i;
		options.max_tokens = 3;
		options.ignore_eos = true;
		options.repetition_penalty = i % 2 ? 1.5f : 1;
		options.n_top = 2;
		options.n_steering = i > 0;
		options.steering[0] = (struct tt_steering){policy, 1};
		must(tt_request_submit(&request, engine, &options, err));
		must(tt_request_wait(request, err));
		tt_request_free(request);
	}
	backend->begin = real_begin;
	cr_assert(n_plans > 8);
}

static uint32_t odd_value(uint64_t *state, uint32_t old)
{
	static const uint32_t odd[] = {0, 1, 2, 15, 16, 17, 63, 64, 255, 0x7fffffff, 0x80000000, 0xffffffff};
	uint64_t r = next_random(state);
	return r % 3 == 0   ? odd[r / 3 % (sizeof odd / sizeof *odd)]
	       : r % 3 == 1 ? old + (uint32_t)(r / 3 % 5) - 2
			    : (uint32_t)(r / 3 % 300);
}

Test(plan_check, a_plan_that_passes_can_be_run)
{
	struct tt_engine *engine = open_small();
	struct tt_policy *policy = make_policy(engine);
	struct tt_rank *rank = &engine->rank;
	struct tt_plan_bounds bounds = {.limits = &rank->state.limits,
		.config = &engine->model->config,
		.n_pages = rank->kv.pages.n_pages,
		.slots = rank->slots,
		.has_sums = rank->kv.pages.sums != NULL};
	uint64_t state = 1;
	uint32_t n_taken = 0, n_refused = 0;
	make_plans(engine, policy);
	for (uint32_t round = 0; round < 20000; round++) {
		const struct tt_step_plan *from = plans[round % n_plans];
		struct tt_step_plan *step = malloc(from->n_bytes);
		struct tt_results results = {0};
		struct tt_error error = {0};
		memcpy(step, from, from->n_bytes);
		bounds.n_sampled = previous[round % n_plans];
		for (uint32_t k = 0; k < (round < n_plans ? 0 : 1 + round % 2); k++) {
			uint32_t at = (uint32_t)(next_random(&state) % (from->n_bytes / sizeof(uint32_t)));
			((uint32_t *)(void *)step)[at] = odd_value(&state, ((uint32_t *)(void *)step)[at]);
		}
		int status = tt_plan_check(step, from->n_bytes, &bounds, &error);
		cr_assert(status == TT_OK || round >= n_plans, "plan %u as it was made: %s", round, error.message);
		if (status == TT_OK) {
			must(tt_rank_grow(rank, step->n_captures, err));
			must(tt_forward_submit(&rank->state, &rank->kv.pages, step, err));
			must(tt_forward_wait(&rank->state, &results, err));
		}
		n_taken += status == TT_OK;
		n_refused += status != TT_OK;
		free(step);
	}
	cr_expect(n_taken > 2000 && n_refused > 2000, "%u plans taken, %u refused", n_taken, n_refused);
	for (uint32_t i = 0; i < n_plans; i++)
		free(plans[i]);
	tt_engine_close(engine);
	tt_policy_free(policy);
}

Test(plan_check, a_policy_that_passes_can_be_loaded)
{
	struct tt_engine *engine = open_small();
	struct tt_policy *policy = make_policy(engine);
	const struct tt_config *config = &engine->model->config;
	struct tt_buffer block = {0};
	uint64_t state = 2;
	uint32_t n_taken = 0, n_refused = 0;
	must(tt_policy_pack(&block, policy, err));
	for (uint32_t round = 0; round < 3000; round++) {
		struct tt_policy copy;
		size_t n = round % 5 == 4 ? next_random(&state) % block.len : block.len;
		uint32_t *words = malloc(n + 4);
		memcpy(words, block.data, n);
		if (round > 0 && n >= 100) {
			uint32_t at = (uint32_t)(next_random(&state) % 25); /* kinds, sizes, layers */
			words[at] = odd_value(&state, words[at]);
		}
		int status = tt_policy_unpack(&copy, words, n, config, NULL);
		cr_assert(status == TT_OK || round > 0);
		if (status == TT_OK) {
			must(tt_rank_add_policy(&engine->rank, 9, &copy, config, err));
			tt_rank_remove_policy(&engine->rank, 9);
		}
		n_taken += status == TT_OK;
		n_refused += status != TT_OK;
		free(words);
	}
	cr_expect(n_taken > 100 && n_refused > 100, "%u policies taken, %u refused", n_taken, n_refused);
	tt_buffer_free(&block);
	tt_engine_close(engine);
	tt_policy_free(policy);
}
