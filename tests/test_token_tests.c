/* llama-bench's tests on a tiny model: their names, what they count, and that they notice what was not done. */
#include "golden.h"

#include "bench/harness/noise.h"
#include "bench/harness/token_tests.h"

#define MODEL GOLDEN("tiny-llama")

struct world {
	struct tt_token_lab lab;
	struct tt_token_way ways[2];
	struct tt_policy *policy;
	struct tt_bench *bench;
	struct tt_token_cases *cases;
};

static void begin_with(struct world *w, bool sharing)
{
	struct tt_engine_options options;
	struct tt_bench_options bench;
	*w = (struct world){0};
	tt_engine_options_default(&options);
	options.n_threads = 1;
	options.max_batch = 1;
	options.max_step_tokens = 24;
	options.no_prefix_sharing = !sharing;
	must(tt_engine_open(&w->lab.engine, MODEL, &options, err));
	must(tt_bench_synthetic_policy(&w->policy, tt_engine_info(w->lab.engine), TT_BENCH_ALL_LAYERS, 3, err));
	must(tt_engine_add_policy(w->lab.engine, w->policy, NULL, err));
	w->ways[0].name = "off";
	w->ways[1] = (struct tt_token_way){.name = "steered", .steering = {{w->policy, 1}}, .n_steering = 1};
	w->lab.ways = w->ways;
	w->lab.n_ways = 2;
	tt_bench_options_default(&bench);
	bench.min_rounds = bench.max_rounds = 3;
	must(tt_bench_open(&w->bench, &bench, err));
}

static void begin(struct world *w)
{
	begin_with(w, true);
}

static void end(struct world *w)
{
	tt_token_cases_free(w->cases);
	tt_bench_close(w->bench);
	tt_engine_close(w->lab.engine);
	tt_policy_free(w->policy);
}

static void time_test(struct world *w, const struct tt_token_test *test)
{
	must(tt_token_test_add(&w->cases, w->bench, &w->lab, "test", test, false, err));
	must(tt_bench_run(w->bench, err));
}

Test(token_tests, names_are_those_of_llama_bench)
{
	static const struct {
		struct tt_token_test test;
		const char *name;
	} cases[] = {{{512, 0, 0, 0}, "pp512"}, {{0, 128, 0, 0}, "tg128"}, {{512, 128, 0, 0}, "pp512+tg128"},
		{{512, 0, 1024, 0}, "pp512 @ d1024"}, {{0, 128, 512, 0}, "tg128 @ d512"},
		{{0, 128, 0, 2}, "tg128 @ p2"},
		{{4294967295u, 4294967295u, 4294967295u, 4294967295u},
			"pp4294967295+tg4294967295 @ d4294967295 @ p4294967295"}};
	char name[TT_TOKEN_TEST_NAME];
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		tt_token_test_name(name, &cases[i].test);
		cr_expect_str_eq(name, cases[i].name);
	}
}

/* The engine counts what ran; the cases compare that with what they say. */
Test(token_tests, count_prompts_generation_and_both_behind_any_context)
{
	static const struct tt_token_test tests[] = {{1, 0, 0, 0}, {40, 0, 0, 0}, {0, 1, 0, 0}, {0, 9, 0, 0},
		{40, 9, 0, 0}, {40, 0, 32, 0}, {0, 9, 32, 0}, {17, 5, 64, 0}, {0, 1, 0, 2}, {0, 9, 0, 40}};
	for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
		struct world w;
		struct tt_bench_result off, steered;
		begin(&w);
		time_test(&w, &tests[i]);
		cr_assert_eq(tt_bench_n_cases(w.bench), 2);
		must(tt_bench_result(w.bench, 0, &off, err));
		must(tt_bench_result(w.bench, 1, &steered, err));
		cr_expect_null(off.error, "test %zu: %s", i, off.error);
		cr_expect_null(steered.error, "test %zu: %s", i, steered.error);
		cr_expect_str_eq(off.spec->name, "off");
		cr_expect_eq(off.spec->work[0].amount, tests[i].n_prompt + tests[i].n_gen);
		cr_expect(off.n_samples == 3 && steered.n_samples == 3 && steered.ratio.n == 3);
		end(&w);
	}
}

/* In the tiny model: 3 blocks of 43008 multiply-adds a token, and 288 x 64 for logits. */
Test(token_tests, flops_have_the_logits_of_what_is_sampled)
{
	static const struct tt_token_test test = {40, 9, 0, 0};
	struct world w;
	struct tt_bench_result r;
	begin(&w);
	time_test(&w, &test);
	must(tt_bench_result(w.bench, 0, &r, err));
	cr_expect_eq(r.spec->work[1].amount, 2.0 * (49 * 3 * (64 * 64 * 2 + 64 * 64 + 3 * 64 * 160) + 10 * 288 * 64));
	end(&w);
}

/* Without shared pages the context would run in the timed part. */
Test(token_tests, a_context_that_is_not_there_is_noticed)
{
	static const struct tt_token_test test = {0, 4, 32, 0};
	struct world w;
	struct tt_bench_result r;
	begin_with(&w, false);
	time_test(&w, &test);
	for (size_t i = 0; i < 2; i++) {
		must(tt_bench_result(w.bench, i, &r, err));
		cr_expect(r.error && strstr(r.error, "36 tokens ran, not 4"), "%s", r.error);
	}
	end(&w);
}

Test(token_tests, a_side_that_is_not_steered_is_noticed)
{
	static const struct tt_token_test test = {8, 0, 0, 0};
	struct world w;
	struct tt_bench_result r;
	begin(&w);
	w.ways[1].steering[0].scale = 0;
	time_test(&w, &test);
	must(tt_bench_result(w.bench, 0, &r, err));
	cr_expect_null(r.error);
	must(tt_bench_result(w.bench, 1, &r, err));
	cr_expect(r.error && strstr(r.error, "nothing was steered"), "%s", r.error);
	end(&w);
}

Test(token_tests, refuses_what_cannot_be_timed)
{
	static const struct {
		struct tt_token_test test;
		const char *words;
	} cases[] = {{{0, 0, 16, 0}, "needs a prompt or tokens"}, {{8, 0, 17, 0}, "17 is no multiple of 16"},
		{{400, 112, 0, 0}, "takes 513 positions, and the context has 512"},
		{{8, 4, 0, 2}, "before generation alone"}, {{0, 4, 16, 2}, "before generation alone"},
		{{4294967295u, 4294967295u, 0, 0}, "takes 8589934591 positions"}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct world w;
		struct tt_error err = {0};
		begin(&w);
		cr_expect_neq(tt_token_test_add(&w.cases, w.bench, &w.lab, "test", &cases[i].test, false, &err), TT_OK);
		cr_expect_not_null(strstr(err.message, cases[i].words), "%s", err.message);
		end(&w);
	}
}
