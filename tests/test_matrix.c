/* The steering matrix on a tiny model: every operation and gate has its way, and each does what it says. */
#include "golden.h"

#include "bench/harness/matrix.h"
#include "bench/harness/noise.h"
#include "controller/policy/policy.h"

#define MODEL GOLDEN("tiny-llama")

static struct tt_matrix *matrix_open(enum tt_matrix_ways ways, uint32_t n_rows)
{
	struct tt_engine_options options;
	struct tt_matrix *matrix = NULL;
	tt_engine_options_default(&options);
	options.n_threads = 1;
	options.max_batch = n_rows;
	options.max_step_tokens = 64;
	must(tt_matrix_open(&matrix, MODEL, &options, ways, n_rows, err));
	return matrix;
}

static void run(struct tt_matrix *matrix, const struct tt_token_test *test)
{
	struct tt_bench_options options;
	struct tt_bench *bench = NULL;
	struct tt_token_cases *cases = NULL;
	tt_bench_options_default(&options);
	options.min_rounds = options.max_rounds = 2;
	options.n_warmup = 0;
	must(tt_bench_open(&bench, &options, err));
	must(tt_token_test_add(&cases, bench, tt_matrix_lab(matrix), "test", test, false, err));
	must(tt_bench_run(bench, err));
	for (size_t i = 0; i < tt_bench_n_cases(bench); i++) {
		struct tt_bench_result r;
		must(tt_bench_result(bench, i, &r, err));
		cr_expect_null(r.error, "%s: %s", r.spec->name, r.error);
		cr_expect_eq(r.n_samples, 2, "%s", r.spec->name);
		cr_expect(i == 0 || r.ratio.n == 2, "%s", r.spec->name);
	}
	tt_token_cases_free(cases);
	tt_bench_close(bench);
}

static const struct tt_token_way *way_of(struct tt_matrix *matrix, const char *name)
{
	const struct tt_token_lab *lab = tt_matrix_lab(matrix);
	for (size_t i = 0; i < lab->n_ways; i++)
		if (strcmp(lab->ways[i].name, name) == 0)
			return &lab->ways[i];
	cr_assert_fail("there is no way %s", name);
	return NULL;
}

/* A new operation or gate is timed without a change here. */
Test(matrix, has_every_operation_and_gate)
{
	struct tt_matrix *matrix = matrix_open(TT_WAYS_ALL, 1);
	for (uint32_t op = 0; op < tt_n_operations(); op++) {
		const char *word = tt_operation_of((enum tt_policy_op)op)->row.word;
		const struct tt_token_way *way = way_of(matrix, word);
		cr_expect_eq(way->steering[0].policy->op, op);
		cr_expect(!way->has_gate && way->n_steering == 1);
	}
	for (uint32_t gate = 1; gate < tt_n_gates(); gate++) {
		char name[48];
		snprintf(name, sizeof name, "add, %s", tt_gate_of((enum tt_policy_gate)gate)->row.word);
		const struct tt_token_way *way = way_of(matrix, name);
		cr_expect(way->has_gate && way->steering[0].policy->gate == gate);
	}
	cr_expect_eq(way_of(matrix, "add, one layer")->steering[0].policy->weights[0], 0);
	cr_expect_eq(way_of(matrix, "add, 4 stacked")->n_steering, 4);
	cr_expect_neq(way_of(matrix, "off")->engine, way_of(matrix, "idle")->engine);
	cr_expect(way_of(matrix, "telemetry")->telemetry && way_of(matrix, "capture of all layers")->captures);
	tt_matrix_close(matrix);
}

/* The cases themselves fail where nothing is steered, captured or told. */
Test(matrix, every_way_runs_a_prompt_and_generation)
{
	struct tt_matrix *matrix = matrix_open(TT_WAYS_ALL, 1);
	run(matrix, &(struct tt_token_test){.n_prompt = 24});
	run(matrix, &(struct tt_token_test){.n_gen = 3, .n_given = 2});
	tt_matrix_close(matrix);
}

Test(matrix, rows_have_policies_of_their_own)
{
	struct tt_matrix *matrix = matrix_open(TT_WAYS_ALL, 6);
	const struct tt_token_way *way = way_of(matrix, "add, 4 policies");
	cr_expect_neq(way->by_row[0], way->by_row[1]);
	cr_expect_eq(way->by_row[0], way->by_row[4]);
	run(matrix, &(struct tt_token_test){.n_gen = 3, .n_given = 2});
	tt_matrix_close(matrix);
}

/* What a gate steers lies behind what it reads, so that one pass does both; unless prompts are to run again. */
Test(matrix, gates_decide_in_the_pass_that_they_steer)
{
	static const struct tt_model_info info = {
		.n_layers = 24, .hidden_size = 8, .fingerprint = "x", .weights_digest = "y"};
	for (int behind = 0; behind < 2; behind++) {
		const struct tt_noise noise = {.gate = TT_GATE_PROBE, .behind_gate = behind};
		struct tt_policy *p = NULL;
		uint32_t first, last;
		must(tt_noise_policy(&p, &info, &noise, err));
		cr_assert(tt_policy_band(p, &first, &last));
		cr_expect(p->n_observed == 3 && last == 23);
		cr_expect_eq(first, behind ? p->observed[2] + 1 : 0);
		tt_policy_free(p);
	}
}

/* Gates of noise are open, so that their requests are steered like the others. */
Test(matrix, gates_of_noise_are_open)
{
	struct tt_engine *engine = engine_open(MODEL, 1, 64);
	static const int32_t ids[] = {3, 4, 5, 6};
	for (uint32_t gate = 1; gate < tt_n_gates(); gate++)
		for (uint64_t seed = 0; seed < 5; seed++) {
			const struct tt_noise noise = {.gate = (enum tt_policy_gate)gate, .seed = seed};
			struct tt_policy *policy = NULL;
			struct tt_request_options options;
			struct tt_decision decision;
			must(tt_noise_policy(&policy, tt_engine_info(engine), &noise, err));
			must(tt_engine_add_policy(engine, policy, NULL, err));
			tt_request_options_default(&options);
			options.ids = ids;
			options.n_ids = 4;
			options.steering[0] = (struct tt_steering){policy, 1};
			options.n_steering = 1;
			struct tt_request *request = request_run(engine, &options);
			cr_assert(tt_request_decision(request, 0, &decision));
			cr_expect(decision.s > 0.99f, "gate %u, seed %llu: %g", gate, (unsigned long long)seed,
				(double)decision.s);
			tt_request_free(request);
			must(tt_engine_remove_policy(engine, policy, err));
			tt_policy_free(policy);
		}
	tt_engine_close(engine);
}
