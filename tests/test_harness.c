/* The timing harness: its statistics against figures worked out apart from it, its order, its report. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fail.h"
#include "bench/harness/ceilings.h"
#include "bench/harness/harness_internal.h"
#include "json_schema.h"

#define must(call)                                                                                                     \
	do {                                                                                                           \
		struct tt_error must_err = {0};                                                                        \
		struct tt_error *err = &must_err;                                                                      \
		cr_assert_eq(call, TT_OK, "%s: %s", #call, must_err.message);                                          \
	} while (0)

#define assert_near(got, want) cr_assert(fabs((got) - (want)) <= 1e-12, "%s is %.17g, not %.17g", #got, got, want)

/* ---- Statistics ---- */

/* From Python's fractions and math.comb: the largest k with 1 - 2 sum_{i<k} C(n, i) / 2^n >= confidence, else 1. */
Test(harness, interval_ranks_are_the_binomial_ones)
{
	static const struct {
		size_t n;
		double confidence;
		size_t rank;
		double coverage;
	} want[] = {{0, 0.95, 0, 0}, {1, 0.95, 1, 0}, {2, 0.95, 1, 0.5}, {5, 0.95, 1, 0.9375}, {6, 0.95, 1, 0.96875},
		{8, 0.95, 1, 0.9921875}, {9, 0.95, 2, 0.9609375}, {10, 0.95, 2, 0.978515625}, {15, 0.95, 4, 0.96484375},
		{20, 0.95, 6, 0.9586105346679688}, {25, 0.95, 8, 0.9567147493362427},
		{50, 0.95, 18, 0.9671608624357315}, {100, 0.95, 40, 0.9647997997822951},
		{2000, 0.95, 956, 0.9534471795082162}, {10, 0.99, 1, 0.998046875}, {100, 0.5, 47, 0.5158815863927085},
		{15, 0.5, 6, 0.6982421875}};
	for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
		double coverage = -1;
		size_t rank = tt_bench_interval_rank(want[i].n, want[i].confidence, &coverage);
		cr_assert_eq(rank, want[i].rank, "n %zu: rank %zu, not %zu", want[i].n, rank, want[i].rank);
		cr_assert(fabs(coverage - want[i].coverage) < 1e-9, "n %zu: coverage %.12f", want[i].n, coverage);
	}
}

Test(harness, summaries_of_odd_and_even_counts)
{
	const double odd[] = {5, 1, 4, 2, 3, 9, 7, 8, 6}, even[] = {10, 30, 20, 40};
	struct tt_bench_summary s;
	must(tt_bench_summarise(&s, odd, 9, 0.95, err));
	cr_assert_eq(s.n, 9);
	assert_near(s.median, 5.0);
	assert_near(s.min, 1.0);
	assert_near(s.max, 9.0);
	assert_near(s.low, 2.0); /* rank 2 of 9 */
	assert_near(s.high, 8.0);
	assert_near(s.coverage, 0.9609375);
	must(tt_bench_summarise(&s, even, 4, 0.95, err));
	assert_near(s.median, 25.0);
	assert_near(s.low, 10.0); /* too few for 95%: the extremes, and it says what they cover */
	assert_near(s.high, 40.0);
	assert_near(s.coverage, 0.875);
	cr_assert_eq(odd[0], 5, "the samples were reordered");
	must(tt_bench_summarise(&s, odd, 1, 0.95, err));
	assert_near(s.low, 5.0);
	assert_near(s.coverage, 0.0);
	must(tt_bench_summarise(&s, NULL, 0, 0.95, err));
	cr_assert(s.n == 0 && isnan(s.median) && isnan(s.low));
}

/* A machine that slows down fivefold half way: the quotient of the medians is 3, each round's quotient is 1.5. */
Test(harness, ratios_are_taken_within_rounds)
{
	const double a[] = {3, 3, 15, 15, 15}, b[] = {2, 2, 10, 10, 10}, odd[] = {1, 1, 1, 10, 1};
	struct tt_bench_summary s;
	must(tt_bench_summarise_ratio(&s, a, b, 5, 1, 0.95, err));
	assert_near(s.median, 1.5);
	assert_near(s.min, 1.5);
	assert_near(s.max, 1.5);
	must(tt_bench_summarise_ratio(&s, a, odd, 4, 2, 0.95, err)); /* 6, 6, 30, 3 */
	assert_near(s.median, 6.0);
	assert_near(s.min, 3.0);
	assert_near(s.max, 30.0);
	must(tt_bench_summarise_ratio(&s, NULL, b, 4, 20, 0.95, err)); /* 10, 10, 2, 2 */
	assert_near(s.median, 6.0);
}

/* ---- Order ---- */

Test(harness, abba_turns_round_every_other_round)
{
	uint32_t order[3];
	tt_bench_round_order(TT_BENCH_ABBA, 1, 0, 3, order);
	cr_assert(order[0] == 0 && order[1] == 1 && order[2] == 2);
	tt_bench_round_order(TT_BENCH_ABBA, 1, 1, 3, order);
	cr_assert(order[0] == 2 && order[1] == 1 && order[2] == 0);
	tt_bench_round_order(TT_BENCH_ABBA, 1, 2, 3, order);
	cr_assert(order[0] == 0 && order[1] == 1 && order[2] == 2);
}

/* 6000 rounds of 3 cases: each of the 6 orders 1000 times, within 5 standard deviations (29). */
Test(harness, shuffled_orders_are_fair_and_repeatable)
{
	uint32_t seen[27] = {0}, differing = 0, order[3], again[3], other[3];
	for (uint32_t round = 0; round < 6000; round++) {
		tt_bench_round_order(TT_BENCH_SHUFFLED, 7, round, 3, order);
		tt_bench_round_order(TT_BENCH_SHUFFLED, 7, round, 3, again);
		tt_bench_round_order(TT_BENCH_SHUFFLED, 8, round, 3, other);
		cr_assert_arr_eq(order, again, sizeof order);
		differing += memcmp(order, other, sizeof order) != 0;
		cr_assert(order[0] < 3 && order[1] < 3 && order[2] < 3);
		cr_assert(order[0] != order[1] && order[1] != order[2] && order[0] != order[2]);
		seen[order[0] * 9 + order[1] * 3 + order[2]]++;
	}
	for (size_t i = 0; i < 27; i++)
		cr_assert(seen[i] == 0 || abs((int)seen[i] - 1000) < 145, "an order came %u times", seen[i]);
	cr_assert_gt(differing, 4000, "the seed makes no difference");
}

/* ---- Runs ---- */

enum { MAX_LOG = 4096 };

struct log {
	char events[MAX_LOG];
	size_t n;
};

struct actor {
	struct log *log;
	char letter;
	int fails_at, n_runs; /* fails_at 0: never */
	int fails_before_at, n_before;
};

static void note(struct log *log, char event)
{
	cr_assert_lt(log->n, MAX_LOG - 1);
	log->events[log->n++] = event;
}

static int actor_run(void *context, struct tt_error *err)
{
	struct actor *actor = context;
	note(actor->log, actor->letter);
	if (++actor->n_runs == actor->fails_at)
		return tt_fail(err, TT_ERR_IO, "%c broke", actor->letter);
	return TT_OK;
}

static int actor_before(void *context, struct tt_error *err)
{
	struct actor *actor = context;
	note(actor->log, '(');
	if (++actor->n_before == actor->fails_before_at)
		return tt_fail(err, TT_ERR_IO, "%c cannot begin", actor->letter);
	return TT_OK;
}

static int actor_after(void *context, struct tt_error *err)
{
	struct actor *actor = context;
	(void)err;
	note(actor->log, ')');
	return TT_OK;
}

static int actor_finish(void *context, struct tt_error *err)
{
	struct actor *actor = context;
	(void)err;
	note(actor->log, '.');
	return TT_OK;
}

static struct tt_bench *bench_open(enum tt_bench_order order, uint32_t n_warmup, uint32_t n_rounds)
{
	static const char *const arguments[] = {"test", "--quick", "\xff"};
	struct tt_bench_options options;
	struct tt_bench *bench = NULL;
	tt_bench_options_default(&options);
	options.program = "test";
	options.arguments = arguments;
	options.n_arguments = 3;
	options.order = order;
	options.seed = 11;
	options.n_warmup = n_warmup;
	options.min_rounds = n_rounds;
	options.max_rounds = n_rounds;
	options.min_seconds = 0;
	options.n_threads = 1;
	must(tt_bench_open(&bench, &options, err));
	return bench;
}

static void add_actor(struct tt_bench *bench, const char *group, const char *name, struct actor *actor)
{
	struct tt_bench_case one = {.group = group, .name = name, .run = actor_run, .context = actor, .n_calls = 1};
	must(tt_bench_add(bench, &one, err));
}

Test(harness, rounds_interleave_and_warm_up_is_not_counted)
{
	static const char letters[] = "ABC";
	struct log log = {{0}, 0};
	struct actor actors[] = {{.log = &log, .letter = 'A'}, {.log = &log, .letter = 'B'},
		{.log = &log, .letter = 'C'}, {.log = &log, .letter = 'D'}};
	struct tt_bench *bench = bench_open(TT_BENCH_SHUFFLED, 2, 10);
	char want[MAX_LOG] = {0};
	size_t n = 0;
	add_actor(bench, "one", "a", &actors[0]);
	add_actor(bench, "one", "b", &actors[1]);
	add_actor(bench, "two", "d", &actors[3]);
	add_actor(bench, "one", "c", &actors[2]);
	must(tt_bench_run(bench, err));
	for (uint32_t round = 0; round < 12; round++) {
		uint32_t order[3];
		tt_bench_round_order(TT_BENCH_SHUFFLED, 11, round, 3, order);
		for (size_t i = 0; i < 3; i++)
			want[n++] = letters[order[i]];
	}
	memset(want + n, 'D', 12);
	cr_assert_str_eq(log.events, want);
	for (size_t i = 0; i < 4; i++) {
		struct tt_bench_result result;
		must(tt_bench_result(bench, i, &result, err));
		cr_assert_eq(result.n_samples, 10);
		cr_assert_gt(result.seconds.min, 0);
	}
	tt_bench_close(bench);
}

Test(harness, a_failing_case_is_reported_and_loses_no_other)
{
	struct log log = {{0}, 0};
	struct actor good = {.log = &log, .letter = 'G'}, bad = {.log = &log, .letter = 'B', .fails_at = 4},
		     worse = {.log = &log, .letter = 'W', .fails_before_at = 3};
	struct tt_bench *bench = bench_open(TT_BENCH_ABBA, 1, 8);
	struct tt_bench_result result;
	add_actor(bench, "g", "good", &good);
	must(tt_bench_add(bench,
		&(struct tt_bench_case){.group = "g",
			.name = "bad",
			.run = actor_run,
			.context = &bad,
			.n_calls = 1,
			.baseline = "good",
			.after = actor_after},
		err));
	must(tt_bench_add(bench,
		&(struct tt_bench_case){.group = "g",
			.name = "worse",
			.run = actor_run,
			.context = &worse,
			.before = actor_before,
			.after = actor_after,
			.finish = actor_finish},
		err));
	must(tt_bench_run(bench, err));
	cr_assert_eq(tt_bench_n_failed(bench), 2);
	cr_assert_eq(good.n_runs, 9);
	cr_assert_eq(bad.n_runs, 4);
	cr_assert_eq(worse.n_runs, 2);
	must(tt_bench_result(bench, 0, &result, err));
	cr_assert(result.n_samples == 8 && !result.error);
	must(tt_bench_result(bench, 1, &result, err));
	cr_assert_eq(result.n_samples, 2, "a warm-up round and two counted ones went well, not %zu", result.n_samples);
	cr_assert_str_eq(result.error, "B broke");
	cr_assert_eq(result.ratio.n, 2);
	must(tt_bench_result(bench, 2, &result, err));
	cr_assert_eq(result.n_samples, 1);
	cr_assert_str_eq(result.error, "W cannot begin");
	/* The step after a sample also runs when the sample failed, but not when it never began. */
	static const char *const rounds[] = {"GB)(W)", "(W)B)G", "GB)(", "B)G", "G", "G", "G", "G", "G", "."};
	char want[64] = "";
	for (size_t i = 0; i < sizeof rounds / sizeof *rounds; i++)
		strcat(want, rounds[i]);
	cr_assert_str_eq(log.events, want);
	tt_bench_close(bench);
}

static int sleep_for(void *context, struct tt_error *err)
{
	const long *milliseconds = context;
	struct timespec t = {0, *milliseconds * 1000000};
	(void)err;
	nanosleep(&t, NULL);
	return TT_OK;
}

Test(harness, times_are_those_of_the_clock)
{
	long two = 2, four = 4;
	struct tt_bench *bench = bench_open(TT_BENCH_SHUFFLED, 0, 9);
	struct tt_bench_result result;
	must(tt_bench_add(bench,
		&(struct tt_bench_case){.group = "g", .name = "two", .run = sleep_for, .context = &two, .n_calls = 1},
		err));
	must(tt_bench_add(bench,
		&(struct tt_bench_case){.group = "g",
			.name = "four",
			.run = sleep_for,
			.context = &four,
			.n_calls = 5,
			.baseline = "two"},
		err));
	must(tt_bench_run(bench, err));
	must(tt_bench_result(bench, 1, &result, err));
	/* Wide bounds upwards: a sleep on a busy machine is longer than was asked for. */
	cr_assert_geq(result.seconds.min, 0.004, "a call of 4 ms took %g s", result.seconds.min);
	cr_assert_lt(result.seconds.median, 0.018, "five calls were not divided by five: %g s", result.seconds.median);
	cr_assert(result.ratio.median > 1 && result.ratio.median < 8, "the ratio is %g", result.ratio.median);
	tt_bench_close(bench);
}

static int count_call(void *context, struct tt_error *err)
{
	(void)err;
	++*(volatile uint64_t *)context;
	return TT_OK;
}

Test(harness, short_calls_are_repeated)
{
	uint64_t n_calls = 0;
	struct tt_bench *bench = bench_open(TT_BENCH_SHUFFLED, 1, 9);
	struct tt_bench_result result;
	must(tt_bench_add(bench,
		&(struct tt_bench_case){.group = "g", .name = "count", .run = count_call, .context = &n_calls}, err));
	must(tt_bench_run(bench, err));
	must(tt_bench_result(bench, 0, &result, err));
	cr_assert_gt(result.n_calls, 1000);
	cr_assert_geq(n_calls, 10 * result.n_calls);
	/* Half of what was asked for: the machine may be faster than while the number was found. */
	cr_assert_gt(result.seconds.median * (double)result.n_calls, 0.0025);
	tt_bench_close(bench);
}

/* ---- Rates, ratios and shares of a result ---- */

/* Samples that no clock gave. */
static void plant(struct tt_bench *bench, size_t index, const double *samples, size_t n)
{
	struct tt_bench_entry *e = &bench->entries[index];
	free(e->samples);
	e->samples = malloc(n * sizeof *samples);
	memcpy(e->samples, samples, n * sizeof *samples);
	e->n_samples = e->capacity = n;
}

static struct tt_bench *planted_bench(void)
{
	static struct log log;
	static struct actor actor = {.log = &log, .letter = 'x'};
	static const double base[] = {2, 1, 4}, slow[] = {1.5, 0.5, 3}, peak[] = {0.25, 0.5, 1};
	struct tt_bench_case one = {.group = "g", .run = actor_run, .context = &actor, .n_calls = 1};
	struct tt_bench *bench = bench_open(TT_BENCH_SHUFFLED, 0, 1);
	one.name = "base";
	one.work[0] = (struct tt_bench_work){"tokens", 8, NULL};
	must(tt_bench_add(bench, &one, err));
	one.name = "slow";
	one.note = "half the tokens";
	one.baseline = "base";
	one.work[0] = (struct tt_bench_work){"tokens", 4, NULL};
	one.work[1] = (struct tt_bench_work){"flops", 6e9, "peak"};
	must(tt_bench_add(bench, &one, err));
	one.name = "peak";
	one.baseline = NULL;
	one.work[0] = (struct tt_bench_work){"flops", 2e9, NULL};
	one.work[1].unit = NULL;
	must(tt_bench_add(bench, &one, err));
	must(tt_bench_run(bench, err));
	plant(bench, 0, base, 3);
	plant(bench, 1, slow, 3);
	plant(bench, 2, peak, 3);
	return bench;
}

Test(harness, results_by_hand)
{
	struct tt_bench *bench = planted_bench();
	struct tt_bench_result r;
	must(tt_bench_result(bench, 1, &r, err));
	assert_near(r.seconds.median, 1.5);
	assert_near(r.rates[0].median, 4 / 1.5); /* 4/1.5, 8, 4/3 */
	assert_near(r.rates[0].max, 8.0);
	assert_near(r.rates[1].median / 1e9, 4.0); /* 4, 12, 2 */
	/* A token: 0.375, 0.125, 0.75 s against 0.25, 0.125, 0.5. */
	cr_assert_eq(r.ratio.n, 3);
	assert_near(r.ratio.median, 1.5);
	assert_near(r.ratio.min, 1.0);
	assert_near(r.ratio.max, 1.5);
	/* 4, 12, 2 against 8, 4, 2 GFLOP/s. */
	assert_near(r.shares[1].median, 1.0);
	assert_near(r.shares[1].min, 0.5);
	assert_near(r.shares[1].max, 3.0);
	cr_assert_eq(r.shares[0].n, 0);
	must(tt_bench_result(bench, 0, &r, err));
	cr_assert_eq(r.ratio.n, 0);
	tt_bench_close(bench);
}

static int do_nothing(void *context, struct tt_error *err)
{
	(void)context;
	(void)err;
	return TT_OK;
}

static void refused(struct tt_bench *bench, const struct tt_bench_case *one, const char *word)
{
	struct tt_error err = {0};
	int status = tt_bench_add(bench, one, &err);
	if (status == TT_OK)
		status = tt_bench_run(bench, &err);
	cr_assert_eq(status, TT_ERR_ARGUMENT);
	cr_assert_not_null(strstr(err.message, word), "\"%s\" does not name %s", err.message, word);
}

Test(harness, meaningless_cases_are_refused)
{
	struct tt_bench_case one = {.group = "g", .name = "a", .run = do_nothing, .work = {{"tokens", 1, NULL}}};
	struct tt_bench *bench = bench_open(TT_BENCH_SHUFFLED, 0, 1);
	must(tt_bench_add(bench, &one, err));
	refused(bench, &one, "registered already");
	one.name = "b";
	one.work[0].amount = 0;
	refused(bench, &one, "tokens");
	one.work[0].amount = NAN;
	refused(bench, &one, "tokens");
	one.work[0] = (struct tt_bench_work){"flops", 1, NULL};
	one.baseline = "a";
	refused(bench, &one, "counts");
	tt_bench_close(bench);
	bench = bench_open(TT_BENCH_SHUFFLED, 0, 1);
	refused(bench, &one, "no case a");
	tt_bench_close(bench);
	bench = bench_open(TT_BENCH_SHUFFLED, 0, 1);
	one.baseline = NULL;
	one.work[0].ceiling = "peak";
	refused(bench, &one, "no case peak");
	tt_bench_close(bench);
	bench = bench_open(TT_BENCH_SHUFFLED, 0, 1);
	one.work[0].ceiling = NULL;
	must(tt_bench_add(bench, &one, err));
	must(tt_bench_run(bench, err));
	one.name = "late";
	refused(bench, &one, "has run");
	tt_bench_close(bench);
	bench = bench_open(TT_BENCH_SHUFFLED, 0, 1);
	refused(bench, &(struct tt_bench_case){.group = "g", .name = "n"}, "function");
	tt_bench_close(bench);
}

/* ---- Report ---- */

Test(harness, report_follows_its_schema)
{
	json_error_t where;
	json_t *schema = json_load_file(TT_SOURCE_DIR "/bench/schema.json", JSON_REJECT_DUPLICATES, &where);
	cr_assert_not_null(schema, "%s", where.text);
	struct tt_bench *bench = planted_bench();
	json_t *report = NULL;
	must(tt_bench_subject(bench, "model", json_string("tiny"), err));
	must(tt_bench_json(bench, &report, err));
	assert_valid(schema, report);
	json_t *cases = json_object_get(report, "cases"), *slow = json_array_get(cases, 1);
	cr_assert_eq(json_array_size(cases), 3);
	cr_assert_eq(json_array_size(json_object_get(slow, "samples_s")), 3);
	cr_assert_eq(json_number_value(json_array_get(json_object_get(slow, "samples_s"), 2)), 3);
	cr_assert_eq(json_number_value(json_object_get(json_object_get(slow, "ratio"), "median")), 1.5);
	cr_assert_str_eq(json_string_value(json_object_get(slow, "baseline")), "base");
	cr_assert_str_eq(json_string_value(json_object_get(report, "commit")), tt_bench_commit());
	cr_assert_str_eq(json_string_value(json_array_get(json_object_get(report, "command"), 2)), "?");
	json_decref(report);
	tt_bench_close(bench);
	json_decref(schema);
}

/* Whatever is missing or unknown, the schema says so: otherwise the test above shows nothing. */
Test(harness, schema_refuses_what_does_not_follow_it)
{
	json_error_t where;
	json_t *schema = json_load_file(TT_SOURCE_DIR "/bench/schema.json", 0, &where), *report = NULL;
	struct tt_bench *bench = planted_bench();
	must(tt_bench_json(bench, &report, err));
	assert_every_key_is_required(schema, report, report);
	json_t *first = json_array_get(json_object_get(report, "cases"), 0);
	assert_every_key_is_required(schema, report, first);
	assert_every_key_is_required(schema, report, json_object_get(report, "machine"));
	assert_every_key_is_required(schema, report, json_object_get(report, "settings"));
	assert_every_key_is_required(schema, report, json_object_get(first, "seconds"));
	assert_every_key_is_required(schema, report, json_array_get(json_object_get(first, "work"), 0));
	json_object_set_new(report, "date", json_integer(1));
	cr_assert_not(schema_allows(schema, schema, report));
	json_decref(report);
	tt_bench_close(bench);
	json_decref(schema);
}

Test(harness, reports_failures_in_json_and_in_the_table)
{
	json_error_t where;
	json_t *schema = json_load_file(TT_SOURCE_DIR "/bench/schema.json", 0, &where), *report = NULL;
	struct log log = {{0}, 0};
	struct actor bad = {.log = &log, .letter = 'B', .fails_at = 1};
	struct tt_bench *bench = bench_open(TT_BENCH_SHUFFLED, 0, 3);
	char *text = NULL;
	size_t n = 0;
	add_actor(bench, "g", "bad", &bad);
	must(tt_bench_run(bench, err));
	must(tt_bench_json(bench, &report, err));
	assert_valid(schema, report);
	json_t *one = json_array_get(json_object_get(report, "cases"), 0);
	cr_assert_str_eq(json_string_value(json_object_get(one, "error")), "B broke");
	cr_assert(json_is_null(json_object_get(json_object_get(one, "seconds"), "median")));
	FILE *file = open_memstream(&text, &n);
	must(tt_bench_print(bench, file, err));
	fclose(file);
	cr_assert_not_null(strstr(text, "FAILED in round 0: B broke"), "%s", text);
	free(text);
	json_decref(report);
	json_decref(schema);
	tt_bench_close(bench);
}

Test(harness, table_shows_rates_ratios_and_shares)
{
	struct tt_bench *bench = planted_bench();
	char *text = NULL;
	size_t n = 0;
	FILE *file = open_memstream(&text, &n);
	must(tt_bench_print(bench, file, err));
	fclose(file);
	cr_assert_not_null(strstr(text, "2.67 tokens/s"), "%s", text);
	cr_assert_not_null(strstr(text, "4.0 GFLOP/s, 100.0% of peak"), "%s", text);
	cr_assert_not_null(strstr(text, "1.5000 times the time of base, 1.0000 to 1.5000 (3 rounds"), "%s", text);
	free(text);
	tt_bench_close(bench);
}

/* Their speed depends on the machine; their count does not: two threads' flops are twice one's. */
Test(harness, ceilings_run_and_count_their_work)
{
	struct tt_ceilings *one = NULL, *two = NULL;
	struct tt_bench *bench = bench_open(TT_BENCH_ABBA, 0, 1);
	struct tt_bench_result a, b;
	must(tt_ceilings_open(&one, 1, 1 << 20, err));
	must(tt_ceilings_open(&two, 2, 1 << 20, err));
	must(tt_ceilings_add(one, bench, "one", TT_CEILING_FMA | TT_CEILING_COPY | TT_CEILING_READ, err));
	must(tt_ceilings_add(two, bench, "two", TT_CEILING_FMA, err));
	must(tt_bench_run(bench, err));
	cr_assert_eq(tt_bench_n_cases(bench), 4);
	cr_assert_eq(tt_bench_n_failed(bench), 0);
	must(tt_bench_result(bench, 0, &a, err));
	must(tt_bench_result(bench, 3, &b, err));
	cr_assert_str_eq(a.spec->work[0].unit, "flops");
	assert_near(b.spec->work[0].amount / a.spec->work[0].amount, 2.0);
	must(tt_bench_result(bench, 1, &a, err));
	must(tt_bench_result(bench, 2, &b, err));
	cr_assert(fabs(a.spec->work[0].amount / (1 << 20) - 1) < 0.01, "a copy of 1 MiB in all counts %g bytes",
		a.spec->work[0].amount);
	assert_near(a.spec->work[0].amount / b.spec->work[0].amount, 2.0);
	tt_bench_close(bench);
	tt_ceilings_close(one);
	tt_ceilings_close(two);
}
