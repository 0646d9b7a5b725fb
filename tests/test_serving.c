/* Requests that arrive over time: when they come, what is noted of them, and that metrics are those of the notes. */
#include "golden.h"

#include "bench/harness/serving.h"

#define MODEL GOLDEN("tiny-llama")

/* numpy.percentile of the same numbers. */
Test(serving, percentiles_are_numpys)
{
	static const double four[] = {1, 2, 3, 4}, five[] = {0.5, 0.75, 1, 4, 64};
	cr_expect_eq(tt_serving_percentile(four, 4, 50), 2.5);
	cr_expect(fabs(tt_serving_percentile(four, 4, 90) - 3.7) < 1e-12);
	cr_expect(fabs(tt_serving_percentile(four, 4, 99) - 3.97) < 1e-12);
	cr_expect_eq(tt_serving_percentile(five, 5, 50), 1);
	cr_expect(fabs(tt_serving_percentile(five, 5, 90) - 40) < 1e-12);
	cr_expect_eq(tt_serving_percentile(five, 5, 0), 0.5);
	cr_expect_eq(tt_serving_percentile(five, 5, 100), 64);
	cr_expect_eq(tt_serving_percentile(five, 1, 99), 0.5);
	cr_expect(isnan(tt_serving_percentile(five, 0, 50)));
}

/* Three requests, by hand. */
Test(serving, metrics_follow_from_the_times)
{
	double a[] = {1.5, 1.75, 2.5}, b[] = {2}, c[] = {2, 4};
	struct tt_served requests[] = {{1, a, 3}, {1, b, 1}, {1.75, c, 2}};
	const struct tt_serving run = {requests, 3, 8, 4};
	double limits[TT_N_SERVING_METRICS] = {INFINITY, INFINITY, INFINITY, INFINITY};
	struct tt_serving_report r;
	must(tt_serving_measure(&r, &run, limits, err));
	cr_expect(r.n_tokens == 6 && r.n_good == 3);
	const struct tt_serving_summary *m = r.metrics;
	cr_expect(m[TT_TTFT].n == 3 && m[TT_TPOT].n == 2 && m[TT_ITL].n == 3 && m[TT_E2EL].n == 3);
	cr_expect_eq(m[TT_TTFT].median, 0.5); /* 0.25, 0.5, 1 */
	cr_expect(fabs(m[TT_TTFT].mean - 1.75 / 3) < 1e-12);
	cr_expect_eq(m[TT_TPOT].mean, 1.25); /* 0.5 and 2; the single token has none */
	cr_expect_eq(m[TT_TPOT].std, 0.75);
	cr_expect_eq(m[TT_ITL].median, 0.75); /* 0.25, 0.75, 2 */
	cr_expect_eq(m[TT_E2EL].median, 1.5); /* 1, 1.5, 2.25 */
	limits[TT_TTFT] = 0.5;                /* at the limit is within it */
	must(tt_serving_measure(&r, &run, limits, err));
	cr_expect_eq(r.n_good, 2);
	limits[TT_TPOT] = 1; /* which a single token keeps */
	must(tt_serving_measure(&r, &run, limits, err));
	cr_expect_eq(r.n_good, 1);
	limits[TT_TTFT] = INFINITY;
	must(tt_serving_measure(&r, &run, limits, err));
	cr_expect_eq(r.n_good, 2);
	limits[TT_E2EL] = 1;
	must(tt_serving_measure(&r, &run, limits, err));
	cr_expect_eq(r.n_good, 1);
}

/* Of exponential gaps a share of 1/e is longer than their mean. */
Test(serving, arrivals_are_a_poisson_process_of_the_rate)
{
	enum { N = 20000 };
	static double at[N], again[N];
	size_t n_long = 0;
	tt_serving_arrivals(at, N, 4, 7);
	tt_serving_arrivals(again, N, 4, 7);
	cr_expect_arr_eq(at, again, sizeof at);
	cr_expect(fabs(at[N - 1] - N / 4.0) < 1e-6, "the last at %g", at[N - 1]);
	for (size_t i = 0; i < N; i++) {
		double gap = at[i] - (i ? at[i - 1] : 0);
		cr_assert(gap > 0);
		n_long += gap > 0.25;
	}
	cr_expect(fabs((double)n_long / N - exp(-1)) < 0.015, "%zu gaps are long", n_long);
	tt_serving_arrivals(again, N, 4, 8);
	cr_expect_neq(at[0], again[0]);
	tt_serving_arrivals(at, N, INFINITY, 7);
	cr_expect(at[0] == 0 && at[N - 1] == 0);
}

static void serve(struct tt_serving *out, const struct tt_serving_options *options)
{
	struct tt_engine *engine = engine_open(MODEL, 4, 64);
	must(tt_serving_run(out, engine, options, err));
	tt_engine_close(engine);
	cr_assert_eq(out->n, options->n_requests);
	for (size_t i = 0; i < out->n; i++) {
		const struct tt_served *r = &out->requests[i];
		cr_assert_eq(r->n_times, options->n_gen);
		cr_expect(r->times[0] > r->start && (i == 0 || r->start >= out->requests[i - 1].start));
		for (size_t k = 1; k < r->n_times; k++)
			cr_expect(r->times[k] > r->times[k - 1]);
		cr_expect(r->times[r->n_times - 1] <= out->seconds);
	}
}

/* How many are in flight when request i begins, itself included. */
static size_t in_flight(const struct tt_serving *run, size_t i)
{
	size_t n = 0;
	for (size_t k = 0; k < run->n; k++)
		n += run->requests[k].start <= run->requests[i].start &&
		     run->requests[k].times[run->requests[k].n_times - 1] > run->requests[i].start;
	return n;
}

Test(serving, a_closed_loop_begins_a_request_when_one_ends)
{
	const struct tt_serving_options options = {
		.n_requests = 11, .n_prompt = 20, .n_gen = 5, .rate = INFINITY, .concurrency = 3};
	struct tt_serving run;
	serve(&run, &options);
	for (size_t i = 0; i < run.n; i++) {
		bool freed = run.requests[i].start == 0;
		cr_expect_leq(in_flight(&run, i), 3, "%zu at request %zu", in_flight(&run, i), i);
		for (size_t k = 0; k < run.n; k++)
			freed |= run.requests[k].times[4] == run.requests[i].start;
		cr_expect(freed, "request %zu began when none ended", i);
	}
	tt_serving_free(&run);
}

Test(serving, requests_begin_when_they_arrive)
{
	enum { N = 12 };
	const struct tt_serving_options options = {.n_requests = N, .n_prompt = 30, .n_gen = 3, .rate = 300, .seed = 5};
	struct tt_serving run;
	double at[N];
	tt_serving_arrivals(at, N, 300, 5);
	serve(&run, &options);
	for (size_t i = 0; i < N; i++)
		cr_expect_eq(run.requests[i].start, at[i], "request %zu", i);
	tt_serving_free(&run);
}

Test(serving, refuses_what_has_no_meaning)
{
	static const struct tt_serving_options cases[] = {{0, 8, 8, 1, 0, 0, {{0}}, 0}, {1, 0, 8, 1, 0, 0, {{0}}, 0},
		{1, 8, 0, 1, 0, 0, {{0}}, 0}, {1, 8, 8, 0, 0, 0, {{0}}, 0}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tt_serving run;
		cr_expect_eq(tt_serving_run(&run, NULL, &cases[i], NULL), TT_ERR_ARGUMENT);
		tt_serving_free(&run);
	}
}
