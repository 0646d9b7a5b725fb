/* KV pages that serve more than one request, where what steered them is all that tells them apart. Each answer is held
 * against the same request's on an engine of its own, and against what must be shared, so that nothing passes by never
 * sharing. */
#include "golden.h"
#include "runtime/schedule/prefix_cache.h"

#define MODEL GOLDEN("tiny-llama/tiny-llama.q8_0.gguf")

enum { N_PROMPT = 3 * TT_PAGE_TOKENS + 5, N_GENERATED = 6 };

struct answer {
	int32_t ids[N_GENERATED];
	float logprobs[N_GENERATED];
};

/* One policy of a kind, made anew for each engine. */
struct kind {
	enum tt_policy_op op;
	float target;     /* of a clamp; of a rotation, beside 1 */
	uint32_t form;    /* of the operation */
	float gate;       /* its bias, for a probe that reads the first layer; 0: none, always open */
	uint32_t observe; /* the layer that the probe reads */
};

static struct tt_policy *add_policy(struct tt_engine *engine, const struct kind *kind)
{
	const struct tt_model_info *info = tt_engine_info(engine);
	struct tt_policy *p = NULL;
	uint32_t rows = kind->op == TT_OP_ROTATE ? 2 : 1;
	must(tt_policy_new(&p, info->n_layers, info->hidden_size, rows, err));
	must(tt_policy_set_operation(p, kind->op, err));
	p->form = kind->form;
	p->alpha = 0.5f;
	if (kind->gate != 0) {
		must(tt_policy_set_gate(
			p, &(struct tt_gate_choice){TT_GATE_PROBE, .observed = &kind->observe, .n_observed = 1}, err));
		p->gate_bias = kind->gate;
	}
	for (uint32_t l = 1; l < info->n_layers; l++) {
		p->weights[l] = 1;
		for (uint32_t k = 0; p->targets && k < rows; k++)
			p->targets[l * rows + k] = k ? 1 : kind->target;
		for (uint32_t i = 0; i < rows * info->hidden_size; i++)
			p->directions[(size_t)l * rows * info->hidden_size + i] = cosf((float)(i * i + l));
	}
	policy_adopt(engine, p);
	return p;
}

static void make_prompt(int32_t *ids, size_t n)
{
	for (size_t i = 0; i < n; i++)
		ids[i] = (int32_t)(i * 31 + 7) % 200;
}

static struct tt_request *submit(
	struct tt_engine *engine, struct tt_policy *policy, enum tt_policy_when when, size_t n_prompt)
{
	int32_t ids[N_PROMPT];
	struct tt_request_options options;
	struct tt_request *request;
	make_prompt(ids, n_prompt);
	tt_request_options_default(&options);
	options.ids = ids;
	options.n_ids = n_prompt;
	options.max_tokens = N_GENERATED;
	options.ignore_eos = true;
	options.when = when;
	options.n_steering = policy != NULL;
	options.steering[0] = (struct tt_steering){policy, 1};
	must(tt_request_submit(&request, engine, &options, err));
	return request;
}

static struct answer collect(struct tt_request *request)
{
	struct answer a = {0};
	struct tt_token token;
	must(tt_request_wait(request, err));
	for (size_t i = 0; tt_request_next(request, &token); i++) {
		a.ids[i] = token.id;
		a.logprobs[i] = token.logprob;
	}
	tt_request_free(request);
	return a;
}

static struct answer run(struct tt_engine *engine, struct tt_policy *policy, enum tt_policy_when when, size_t n_prompt)
{
	return collect(submit(engine, policy, when, n_prompt));
}

static bool same_bits(const struct answer *a, const struct answer *b)
{
	return !memcmp(a, b, sizeof *a);
}

static uint64_t n_shared(const struct tt_engine *engine)
{
	struct tt_engine_stats stats;
	tt_engine_stats(engine, &stats);
	return stats.n_shared;
}

/* The answer to a request of this kind where nothing else ran. */
static struct answer alone(const struct kind *kind, enum tt_policy_when when, size_t n_prompt)
{
	struct tt_engine *engine = engine_open(MODEL, 4, 512);
	struct tt_policy *policy = kind ? add_policy(engine, kind) : NULL;
	struct answer a = run(engine, policy, when, n_prompt);
	tt_engine_close(engine);
	tt_policy_free(policy);
	return a;
}

/* Two kinds, one after the other: no page of the first serves the second, and both share with their own kind. */
static void check_told_apart(const struct kind *first, const struct kind *second)
{
	struct tt_engine *engine = engine_open(MODEL, 4, 512);
	struct tt_policy *policies[3] = {
		add_policy(engine, first), add_policy(engine, second), add_policy(engine, first)};
	struct answer a = run(engine, policies[0], TT_WHEN_ALL, N_PROMPT);
	struct answer b = run(engine, policies[1], TT_WHEN_ALL, N_PROMPT);
	struct answer want = alone(second, TT_WHEN_ALL, N_PROMPT);
	cr_expect_eq(n_shared(engine), 0);
	cr_expect(same_bits(&b, &want), "the answer is not its own");
	cr_expect(!same_bits(&a, &b), "the two steer alike, which tells nothing");
	struct answer again = run(engine, policies[2], TT_WHEN_ALL, N_PROMPT);
	cr_expect_eq(n_shared(engine), 3 * TT_PAGE_TOKENS, "the same policy, loaded twice, shares");
	cr_expect(same_bits(&again, &a));
	tt_engine_close(engine);
	for (int i = 0; i < 3; i++)
		tt_policy_free(policies[i]);
}

Test(pages, policies_that_differ_in_their_operation_alone_share_nothing)
{
	static const struct kind ablate = {.op = TT_OP_ABLATE}, one_sided = {.op = TT_OP_ONE_SIDED};
	static const struct kind add = {.op = TT_OP_ADD};
	check_told_apart(&ablate, &one_sided);
	check_told_apart(&one_sided, &ablate);
	check_told_apart(&add, &ablate);
	static const struct kind keep = {.op = TT_OP_ADD, .form = 1};
	check_told_apart(&add, &keep);
	check_told_apart(&keep, &add);
}

Test(pages, clamps_that_differ_in_their_targets_alone_share_nothing)
{
	static const struct kind low = {.op = TT_OP_CLAMP, .target = 0.5f}, high = {.op = TT_OP_CLAMP, .target = 4};
	check_told_apart(&low, &high);
	check_told_apart(&high, &low);
}

Test(pages, rotations_that_differ_in_their_target_or_form_alone_share_nothing)
{
	static const struct kind low = {.op = TT_OP_ROTATE, .target = 0.5f}, high = {.op = TT_OP_ROTATE, .target = -4};
	static const struct kind adaptive = {.op = TT_OP_ROTATE, .target = 0.5f, .form = 1};
	check_told_apart(&low, &high);
	check_told_apart(&low, &adaptive);
	check_told_apart(&adaptive, &low);
}

/* A policy that steers one layer alone, with one direction in all, so that only the coefficients differ. */
static struct tt_policy *one_layer(struct tt_engine *engine, uint32_t layer)
{
	const struct tt_model_info *info = tt_engine_info(engine);
	struct tt_policy *p = NULL;
	must(tt_policy_new(&p, info->n_layers, info->hidden_size, 1, err));
	for (uint32_t l = 0; l < info->n_layers; l++) {
		p->weights[l] = l == layer || l == 1 ? 1 : 0;
		for (uint32_t i = 0; i < info->hidden_size; i++)
			p->directions[(size_t)l * info->hidden_size + i] = 0.2f * cosf((float)(i * i + l));
	}
	p->weights[1] = layer == 0 ? 0 : 1; /* 0: the first layer alone; otherwise the second and that */
	policy_adopt(engine, p);
	return p;
}

static struct answer alone_one_layer(uint32_t layer)
{
	struct tt_engine *engine = engine_open(MODEL, 4, 512);
	struct tt_policy *policy = one_layer(engine, layer);
	struct answer a = run(engine, policy, TT_WHEN_ALL, N_PROMPT);
	tt_engine_close(engine);
	tt_policy_free(policy);
	return a;
}

/* Every layer's coefficient is in the key: one that acts on the first layer alone acts, and two that differ in the last
 * layer alone are two. */
Test(pages, coefficients_of_the_first_and_of_the_last_layer_count)
{
	struct tt_engine *engine = engine_open(MODEL, 4, 512);
	uint32_t last = tt_engine_info(engine)->n_layers - 1;
	struct tt_policy *policies[3] = {one_layer(engine, 0), one_layer(engine, 1), one_layer(engine, last)};
	struct answer plain = run(engine, NULL, TT_WHEN_ALL, N_PROMPT);
	for (int i = 0; i < 3; i++) {
		struct answer got = run(engine, policies[i], TT_WHEN_ALL, N_PROMPT);
		struct answer want = alone_one_layer(i == 2 ? last : (uint32_t)i);
		cr_expect(same_bits(&got, &want), "policy %d has another's pages", i);
		cr_expect(!same_bits(&got, &plain), "policy %d steers nothing, which tells nothing", i);
	}
	cr_expect_eq(n_shared(engine), 0);
	tt_engine_close(engine);
	for (int i = 0; i < 3; i++)
		tt_policy_free(policies[i]);
}

/* A page holds what came before it too: the second pages of two prompts are the same tokens, after other first ones. */
Test(pages, a_page_after_another_prefix_is_another_page)
{
	struct tt_engine *engine = engine_open(MODEL, 1, 512), *fresh = engine_open(MODEL, 1, 512);
	int32_t ids[3][N_PROMPT];
	struct answer got[3], want;
	struct tt_request_options options;
	tt_request_options_default(&options);
	options.max_tokens = N_GENERATED;
	options.ignore_eos = true;
	for (int i = 0; i < 3; i++) {
		make_prompt(ids[i], N_PROMPT);
		for (int k = 0; i > 0 && k < TT_PAGE_TOKENS; k++)
			ids[i][k] += 20;
	}
	/* The first prompt; the other's first page, which ends there; the other whole. */
	for (int i = 0; i < 3; i++) {
		options.ids = ids[i];
		options.n_ids = i == 1 ? TT_PAGE_TOKENS + 1 : N_PROMPT;
		struct tt_request *request;
		must(tt_request_submit(&request, engine, &options, err));
		got[i] = collect(request);
	}
	struct tt_request *request;
	must(tt_request_submit(&request, fresh, &options, err));
	want = collect(request);
	cr_expect_eq(n_shared(engine), TT_PAGE_TOKENS, "the first page, and no other: %zu", (size_t)n_shared(engine));
	cr_expect(same_bits(&got[2], &want));
	tt_engine_close(engine);
	tt_engine_close(fresh);
}

/* ---- The kill switch */

/* A prompt that the kill switch meets after a chunk of n_before tokens, and what ran before and after it on that
 * engine. Its pages serve neither the steered nor the unsteered, but for those that ran wholly as these do. */
static void check_killed(
	const struct kind *kind, uint32_t n_before, uint64_t shared_by_steered, uint64_t shared_by_plain)
{
	struct tt_engine *engine = engine_open(MODEL, 1, n_before);
	struct tt_policy *policy = add_policy(engine, kind);
	struct answer want = alone(kind, TT_WHEN_ALL, N_PROMPT), want_plain = alone(NULL, TT_WHEN_ALL, N_PROMPT);
	struct tt_request *killed = submit(engine, policy, TT_WHEN_ALL, N_PROMPT);
	struct tt_decision decision;
	must(tt_engine_step(engine, err));
	tt_engine_kill_steering(engine);
	must(tt_request_wait(killed, err));
	tt_engine_resume_steering(engine);
	cr_assert(tt_request_decision(killed, 0, &decision) && decision.killed);
	struct answer mixed = collect(killed);
	cr_assert(!same_bits(&mixed, &want) && !same_bits(&mixed, &want_plain), "it was killed too late or too early");
	struct answer plain = run(engine, NULL, TT_WHEN_ALL, N_PROMPT);
	uint64_t by_plain = n_shared(engine);
	struct answer steered = run(engine, policy, TT_WHEN_ALL, N_PROMPT);
	cr_expect(same_bits(&plain, &want_plain), "killed at %u: an unsteered request took a steered page", n_before);
	cr_expect(same_bits(&steered, &want), "killed at %u: a steered request took an unsteered page", n_before);
	cr_expect_eq(by_plain, shared_by_plain, "%zu", (size_t)by_plain);
	cr_expect_eq(n_shared(engine) - by_plain, shared_by_steered, "%zu", (size_t)(n_shared(engine) - by_plain));
	tt_engine_close(engine);
	tt_policy_free(policy);
}

Test(pages, what_the_kill_switch_met_is_keyed_as_it_ran)
{
	static const struct kind add = {.op = TT_OP_ADD};
	check_killed(&add, 5, 0, 0);
	check_killed(&add, TT_PAGE_TOKENS - 1, 0, 0);
	check_killed(&add, TT_PAGE_TOKENS, TT_PAGE_TOKENS, 0);
	check_killed(&add, TT_PAGE_TOKENS + 3, TT_PAGE_TOKENS, 0);
	check_killed(&add, 2 * TT_PAGE_TOKENS, 2 * TT_PAGE_TOKENS, 0);
}

/* One that is killed before anything of it ran is unsteered, and shares with the unsteered both ways. */
Test(pages, what_was_killed_from_the_start_is_keyed_as_unsteered)
{
	static const struct kind add = {.op = TT_OP_ADD};
	struct tt_engine *engine = engine_open(MODEL, 2, 512);
	struct tt_policy *policy = add_policy(engine, &add);
	struct answer want = alone(&add, TT_WHEN_ALL, N_PROMPT), want_plain = alone(NULL, TT_WHEN_ALL, N_PROMPT);
	tt_engine_kill_steering(engine);
	struct answer killed = run(engine, policy, TT_WHEN_ALL, N_PROMPT);
	tt_engine_resume_steering(engine);
	struct answer plain = run(engine, NULL, TT_WHEN_ALL, N_PROMPT);
	cr_expect_eq(n_shared(engine), 3 * TT_PAGE_TOKENS);
	struct answer steered = run(engine, policy, TT_WHEN_ALL, N_PROMPT);
	cr_expect_eq(n_shared(engine), 3 * TT_PAGE_TOKENS);
	cr_expect(same_bits(&killed, &want_plain) && same_bits(&plain, &want_plain) && same_bits(&steered, &want));
	tt_engine_close(engine);
	tt_policy_free(policy);
}

/* One whose pages were looked up in vain before the kill switch and that is let in after it: it runs unsteered,
 * whatever the keys of that first look said. */
Test(pages, what_waited_while_it_was_killed_is_keyed_as_unsteered)
{
	static const struct kind add = {.op = TT_OP_ADD};
	enum { N_OTHER = 4 * TT_PAGE_TOKENS };
	struct tt_engine_options options;
	struct tt_engine *engine = NULL;
	tt_engine_options_default(&options);
	options.max_batch = 2;
	options.max_step_tokens = 512;
	options.context = N_OTHER + TT_PAGE_TOKENS;
	options.kv_tokens =
		7 * TT_PAGE_TOKENS; /* the other has 5 pages then: 2 are left, and 4 and one more are asked for */
	options.device = TEST_DEVICE;
	must(tt_engine_open(&engine, MODEL, &options, err));
	struct tt_policy *policy = add_policy(engine, &add);
	struct answer want = alone(&add, TT_WHEN_ALL, N_PROMPT), want_plain = alone(NULL, TT_WHEN_ALL, N_PROMPT);
	int32_t ids[N_OTHER];
	struct tt_request_options other;
	struct tt_request *running;
	tt_request_options_default(&other);
	for (int i = 0; i < N_OTHER; i++)
		ids[i] = 3 + i;
	other.ids = ids;
	other.n_ids = N_OTHER;
	other.max_tokens = TT_PAGE_TOKENS;
	other.ignore_eos = true;
	must(tt_request_submit(&running, engine, &other, err));
	struct tt_request *waiting = submit(engine, policy, TT_WHEN_ALL, N_PROMPT);
	must(tt_engine_step(engine, err));
	must(tt_engine_step(engine, err));
	cr_assert(engine->scheduler.n_running == 1 && engine->scheduler.n_waiting == 1);
	tt_engine_kill_steering(engine);
	must(tt_request_wait(running, err));
	struct answer killed = collect(waiting);
	tt_engine_resume_steering(engine);
	tt_request_free(running);
	cr_expect(same_bits(&killed, &want_plain));
	uint64_t before = n_shared(engine);
	struct answer steered = run(engine, policy, TT_WHEN_ALL, N_PROMPT);
	cr_expect_eq(n_shared(engine), before);
	cr_expect(same_bits(&steered, &want), "a steered request took an unsteered page");
	tt_engine_close(engine);
	tt_policy_free(policy);
}

/* ---- Decisions that are still open */

/* Two requests for one prompt in one step: while a gate is open, its pages are nobody's but those that cannot
 * change. */
static void check_together(const struct kind *kind, enum tt_policy_when when, uint32_t chunk, size_t n_prompt)
{
	struct answer want[2] = {alone(kind, when, n_prompt), alone(NULL, when, n_prompt)};
	for (int order = 0; order < 2; order++) {
		struct tt_engine *engine = engine_open(MODEL, 3, chunk);
		struct tt_policy *policy = add_policy(engine, kind);
		struct tt_request *requests[3];
		for (int i = 0; i < 3; i++)
			requests[i] = submit(engine, (i + order) % 2 ? NULL : policy, when, n_prompt);
		for (int i = 0; i < 3; i++) {
			struct answer got = collect(requests[i]);
			cr_expect(same_bits(&got, &want[(i + order) % 2]),
				"gate %g at layer %u, when %d, chunks of %u, %zu ids: request %d of order %d",
				kind->gate, kind->observe, when, chunk, n_prompt, i, order);
		}
		tt_engine_close(engine);
		tt_policy_free(policy);
	}
}

/* Gates that are open and shut, before the steered layers and after; prompts that end in a page and with one. */
Test(pages, an_open_decision_gives_nothing_away)
{
	static const size_t lengths[] = {2 * TT_PAGE_TOKENS, 2 * TT_PAGE_TOKENS + 1, N_PROMPT};
	static const uint32_t chunks[] = {512, 13, TT_PAGE_TOKENS};
	for (uint32_t k = 0; k < 4; k++) {
		const struct kind kind = {.op = TT_OP_ADD, .gate = k % 2 ? 5 : -5, .observe = k < 2 ? 0 : 2};
		for (enum tt_policy_when when = TT_WHEN_GENERATION; when <= TT_WHEN_ALL; when++)
			for (int c = 0; c < 3; c++)
				for (int n = 0; n < 3; n++)
					check_together(&kind, when, chunks[c], lengths[n]);
	}
}

/* ---- The pool itself */

static struct tt_page_key key_of(uint64_t n)
{
	return (struct tt_page_key){{n, ~n}};
}

/* Among the pages that nobody uses, the one that has been idle for longest goes first; a second page of one content is
 * not kept. */
Test(pages, the_longest_idle_page_goes_first)
{
	enum { N = 6 };
	struct tt_page_pool pool;
	int32_t pages[N];
	must(tt_page_pool_open(&pool, N, true, err));
	for (uint64_t i = 0; i < N; i++) {
		const struct tt_page_key key = key_of(i);
		pages[i] = tt_page_take(&pool);
		cr_assert_geq(pages[i], 0);
		tt_page_publish(&pool, pages[i], &key);
	}
	cr_assert_eq(tt_page_take(&pool), -1);
	for (int i = 0; i < N; i++)
		tt_page_drop(&pool, pages[i]);
	const struct tt_page_key first = key_of(0), second = key_of(1), third = key_of(2);
	cr_assert_eq(tt_page_find(&pool, &first), pages[0], "used again");
	tt_page_drop(&pool, pages[0]);
	cr_expect_eq(tt_page_take(&pool), pages[1], "the longest idle");
	cr_expect_eq(tt_page_find(&pool, &second), -1, "what it held is gone");
	cr_expect_eq(tt_page_find(&pool, &third), pages[2]);
	cr_expect_eq(tt_page_take(&pool), pages[3]);
	cr_expect_eq(tt_page_take(&pool), pages[4]);
	cr_expect_eq(tt_page_take(&pool), pages[5]);
	cr_expect_eq(tt_page_take(&pool), pages[0]);
	cr_expect_eq(tt_page_take(&pool), -1);
	tt_page_pool_close(&pool);
}

/* With max_idle the memory that is touched stays what is in use and so many pages, while others are free. */
Test(pages, idle_pages_beyond_the_bound_go_before_free_ones)
{
	enum { N = 8, IDLE = 2 };
	struct tt_page_pool pool;
	must(tt_page_pool_open(&pool, N, true, err));
	pool.max_idle = IDLE;
	for (uint64_t i = 0; i < 3 * N; i++) {
		const struct tt_page_key key = key_of(i);
		int32_t page = tt_page_take(&pool);
		cr_expect(page >= 0 && page <= IDLE, "page %d was touched", page);
		tt_page_publish(&pool, page, &key);
		tt_page_drop(&pool, page);
	}
	const struct tt_page_key newest = key_of(3 * N - 1), older = key_of(3 * N - 1 - IDLE),
				 gone = key_of(3 * N - 2 - IDLE);
	cr_expect_neq(tt_page_find(&pool, &newest), -1);
	cr_expect_neq(tt_page_find(&pool, &older), -1);
	cr_expect_eq(tt_page_find(&pool, &gone), -1);
	for (int i = 0; i < N - 2; i++)
		cr_expect_neq(tt_page_take(&pool), -1, "all pages can be had");
	cr_expect_eq(tt_page_take(&pool), -1);
	tt_page_pool_close(&pool);
}

Test(pages, one_page_of_each_content_is_kept)
{
	struct tt_page_pool pool;
	const struct tt_page_key key = key_of(9);
	must(tt_page_pool_open(&pool, 3, true, err));
	int32_t a = tt_page_take(&pool), b = tt_page_take(&pool);
	tt_page_publish(&pool, a, &key);
	tt_page_publish(&pool, b, &key);
	tt_page_drop(&pool, b);
	cr_expect_eq(pool.n_idle, 0, "the second of one content is free, not kept");
	cr_expect_eq(tt_page_find(&pool, &key), a);
	tt_page_drop(&pool, a);
	tt_page_drop(&pool, a);
	cr_expect_eq(pool.n_idle, 1);
	tt_page_pool_forget(&pool);
	cr_expect_eq(tt_page_find(&pool, &key), -1);
	cr_expect(pool.n_idle == 0 && pool.n_free == 3);
	tt_page_pool_close(&pool);
}

/* Positions that were reported before a pre-emption need not run again; those that were not must. */
Test(pages, what_was_reported_need_not_run_again)
{
	struct tt_page_pool pool;
	struct tt_sequence q[2];
	int32_t ids[N_PROMPT];
	make_prompt(ids, N_PROMPT);
	must(tt_page_pool_open(&pool, 8, true, err));
	for (int i = 0; i < 2; i++)
		must(tt_sequence_open(&q[i], ids, N_PROMPT, N_PROMPT + 1, 0, 3, err));
	while (q[0].n_pages < tt_pages_for(N_PROMPT))
		q[0].pages[q[0].n_pages++] = tt_page_take(&pool);
	q[0].n_fed = N_PROMPT;
	tt_prefix_publish(&q[0], &pool);
	cr_assert_eq(q[0].n_published, 3);
	static const struct {
		size_t report_from, n_reported, want;
	} cases[] = {{SIZE_MAX, 0, 3}, {0, 0, 0}, {0, 2 * TT_PAGE_TOKENS - 1, 1}, {0, 2 * TT_PAGE_TOKENS, 2},
		{TT_PAGE_TOKENS, 0, 1}, {TT_PAGE_TOKENS, N_PROMPT, 3}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		q[1].report_from = cases[i].report_from;
		q[1].n_reported = cases[i].n_reported;
		tt_prefix_acquire(&q[1], &pool, false);
		cr_expect_eq(q[1].n_pages, cases[i].want, "case %zu: %u pages", i, q[1].n_pages);
		cr_expect_eq(q[1].n_fed, cases[i].want * TT_PAGE_TOKENS);
		tt_sequence_give_pages(&q[1], &pool, 0);
	}
	for (int i = 0; i < 2; i++)
		tt_sequence_close(&q[i]);
	tt_page_pool_close(&pool);
}
