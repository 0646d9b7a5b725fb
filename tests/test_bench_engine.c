/* The engine's benchmark cases on a tiny model: that they count what is done and notice what is not. */
#include "golden.h"

#include "bench/harness/engine_cases.h"
#include "bench/harness/noise.h"

#define MODEL GOLDEN("tiny-llama")

/* The tiny model: 3 layers, d 64, 4 heads and 2 KV heads of 16, ffn 160, 288 tokens, tied, float32. */
enum {
	BLOCK_MACS = 3 * (64 * 64 + 2 * 64 * 32 + 64 * 64 + 3 * 64 * 160),
	OUTPUT_MACS = 288 * 64,
};

static void lab_open(struct tt_lab *lab)
{
	struct tt_engine_options options;
	tt_engine_options_default(&options);
	options.n_threads = 1;
	for (int i = 0; i < 2; i++)
		must(tt_engine_open(&lab->engines[i], MODEL, &options, err));
	must(tt_bench_synthetic_policy(&lab->policy, tt_engine_info(lab->engines[0]), TT_BENCH_ALL_LAYERS, 3, err));
	lab->synthetic = true;
}

/* Apart from lab_open, so that a test can change the policy before the engines copy it. */
static void lab_add_policy(struct tt_lab *lab)
{
	for (int i = 0; i < 2; i++)
		must(tt_engine_add_policy(lab->engines[i], lab->policy, NULL, err));
}

static void lab_close(struct tt_lab *lab)
{
	for (int i = 0; i < 2; i++)
		tt_engine_close(lab->engines[i]);
	tt_policy_free(lab->policy);
}

static struct tt_bench *bench_open(uint32_t n_rounds)
{
	struct tt_bench_options options;
	struct tt_bench *bench = NULL;
	tt_bench_options_default(&options);
	options.min_rounds = options.max_rounds = n_rounds;
	must(tt_bench_open(&bench, &options, err));
	return bench;
}

/* The ceiling that the cases name. */
static int no_work(void *context, struct tt_error *err)
{
	(void)context;
	(void)err;
	return TT_OK;
}

static void add_ceilings(struct tt_bench *bench, const char *group)
{
	struct tt_bench_case one = {.group = group, .run = no_work, .n_calls = 1};
	one.name = "fma";
	one.work[0] = (struct tt_bench_work){"flops", 1, NULL};
	must(tt_bench_add(bench, &one, err));
	one.name = "read";
	one.work[0] = (struct tt_bench_work){"bytes", 1, NULL};
	must(tt_bench_add(bench, &one, err));
}

Test(bench_engine, synthetic_policy_is_a_unit_direction_at_every_layer)
{
	struct tt_lab lab = {0};
	struct tt_policy *other = NULL;
	struct tt_policy_info info;
	lab_open(&lab);
	tt_policy_describe(lab.policy, &info);
	cr_assert(info.n_layers == 3 && info.hidden_size == 64 && info.n_directions == 1);
	cr_assert(info.op == TT_OP_ADD && info.when == TT_WHEN_ALL && info.gate == TT_GATE_ALWAYS);
	for (uint32_t l = 0; l < 3; l++) {
		cr_assert_eq(info.weights[l], 1);
		cr_assert(fabsf(info.norms[l] - 1) < 1e-5f, "layer %u has norm %g", l, info.norms[l]);
	}
	must(tt_bench_synthetic_policy(&other, tt_engine_info(lab.engines[0]), TT_BENCH_ALL_LAYERS, 4, err));
	const float *d = lab.policy->directions, *e = other->directions;
	cr_assert(memcmp(d, d + 64, 256) && memcmp(d + 64, d + 128, 256), "two layers are alike");
	cr_assert_gt(relative_error(d, e, 64), 0.5, "two seeds are alike");
	tt_policy_free(other);
	lab_close(&lab);
}

/* 40 samples of two steps: sequences of 64 tokens start afresh after 32, so this crosses one change of engines. */
Test(bench_engine, cases_count_what_they_do)
{
	struct tt_lab lab = {0};
	struct tt_prefill_case *prefill = NULL;
	struct tt_decode_case *decodes[2] = {NULL, NULL};
	struct tt_bench *bench = bench_open(40);
	struct tt_bench_result r;
	lab_open(&lab);
	lab_add_policy(&lab);
	must(tt_prefill_add(&prefill, bench, &lab, "prefill", 100, err));
	add_ceilings(bench, "prefill");
	must(tt_decode_add(&decodes[0], bench, &lab, "decode 1", 1, 2, err));
	add_ceilings(bench, "decode 1");
	must(tt_decode_add(&decodes[1], bench, &lab, "decode 9", 9, 2, err));
	add_ceilings(bench, "decode 9");
	must(tt_bench_run(bench, err));
	for (size_t i = 0; i < tt_bench_n_cases(bench); i++) {
		must(tt_bench_result(bench, i, &r, err));
		cr_assert_null(r.error, "%s: %s: %s", r.spec->group, r.spec->name, r.error);
		cr_assert_eq(r.n_samples, 40);
	}
	must(tt_bench_result(bench, 1, &r, err));
	cr_assert_str_eq(r.spec->baseline, "unsteered");
	cr_assert_eq(r.ratio.n, 40);
	cr_assert_eq(r.spec->work[0].amount, 100);
	cr_assert_eq(r.spec->work[1].amount, 2.0 * (100 * BLOCK_MACS + OUTPUT_MACS));
	must(tt_bench_result(bench, 8, &r, err));
	cr_assert_str_eq(r.spec->group, "decode 9");
	cr_assert_eq(r.spec->work[0].amount, 18);
	cr_assert_eq(r.spec->work[1].amount, 2.0 * 18 * (BLOCK_MACS + OUTPUT_MACS));
	cr_assert(fabs(r.spec->work[2].amount - 2.0 * 4 * (BLOCK_MACS + OUTPUT_MACS)) < 1, "two steps read %g bytes",
		r.spec->work[2].amount);
	cr_assert_eq(tt_decode_n_steered(decodes[0]), 1);
	cr_assert_eq(tt_decode_n_steered(decodes[1]), 9);
	tt_prefill_free(prefill);
	tt_decode_free(decodes[0]);
	tt_decode_free(decodes[1]);
	tt_bench_close(bench);
	lab_close(&lab);
}

/* A policy that adds nothing would make steering look free. */
Test(bench_engine, rows_that_are_not_steered_are_no_figure)
{
	struct tt_lab lab = {0};
	struct tt_prefill_case *prefill = NULL;
	struct tt_decode_case *decode = NULL;
	struct tt_bench *bench = bench_open(3);
	struct tt_bench_result r;
	lab_open(&lab);
	lab.policy->alpha = 0;
	lab_add_policy(&lab);
	must(tt_prefill_add(&prefill, bench, &lab, "prefill", 20, err));
	add_ceilings(bench, "prefill");
	must(tt_decode_add(&decode, bench, &lab, "decode", 3, 2, err));
	add_ceilings(bench, "decode");
	must(tt_bench_run(bench, err));
	cr_assert_eq(tt_bench_n_failed(bench), 2);
	must(tt_bench_result(bench, 1, &r, err));
	cr_assert_str_eq(r.error, "the prompt was not steered");
	must(tt_bench_result(bench, 4, &r, err));
	cr_assert(r.n_samples == 3 && !r.error, "the unsteered side was lost");
	must(tt_bench_result(bench, 5, &r, err));
	cr_assert_str_eq(r.error, "the policy steers 0 of 3 rows");
	tt_prefill_free(prefill);
	tt_decode_free(decode);
	tt_bench_close(bench);
	lab_close(&lab);
}

/* A gate may pass over some rows of a given policy, but not over all. */
Test(bench_engine, a_given_policy_must_steer_some_row)
{
	struct tt_lab lab = {0};
	struct tt_decode_case *decode = NULL;
	struct tt_bench *bench = bench_open(3);
	struct tt_bench_result r;
	lab_open(&lab);
	lab.synthetic = false;
	lab.policy->alpha = 0;
	lab_add_policy(&lab);
	must(tt_decode_add(&decode, bench, &lab, "decode", 3, 2, err));
	add_ceilings(bench, "decode");
	must(tt_bench_run(bench, err));
	must(tt_bench_result(bench, 1, &r, err));
	cr_assert_str_eq(r.error, "the policy steers 0 of 3 rows");
	tt_decode_free(decode);
	tt_bench_close(bench);
	lab_close(&lab);
}

/* Another sequence on an engine makes its steps longer than what is counted. */
Test(bench_engine, steps_that_do_other_work_are_no_figure)
{
	static const int32_t ids[] = {5};
	struct tt_lab lab = {0};
	struct tt_decode_case *decode = NULL;
	struct tt_request_options options;
	struct tt_request *stranger = NULL;
	struct tt_bench *bench = bench_open(3);
	struct tt_bench_result r;
	lab_open(&lab);
	lab_add_policy(&lab);
	tt_request_options_default(&options);
	options.ids = ids;
	options.n_ids = 1;
	options.max_tokens = 100;
	options.ignore_eos = true;
	must(tt_request_submit(&stranger, lab.engines[1], &options, err));
	must(tt_decode_add(&decode, bench, &lab, "decode", 3, 2, err));
	add_ceilings(bench, "decode");
	must(tt_bench_run(bench, err));
	must(tt_bench_result(bench, 0, &r, err)); /* the unsteered side is on the second engine first */
	cr_assert_str_eq(r.error, "the steps decoded 8 tokens, not 6");
	must(tt_bench_result(bench, 1, &r, err));
	cr_assert(r.n_samples == 3 && !r.error, "the steered side was lost");
	tt_request_free(stranger);
	tt_decode_free(decode);
	tt_bench_close(bench);
	lab_close(&lab);
}
