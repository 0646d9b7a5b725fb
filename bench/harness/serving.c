#include "bench/harness/serving.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/memory.h"
#include "bench/harness/engine_cases.h"

const char *const tt_serving_metric_names[TT_N_SERVING_METRICS] = {"ttft", "tpot", "itl", "e2el"};

/* ---- The run */

struct flow {
	struct tt_serving *out;
	struct tt_engine *engine;
	const struct tt_serving_options *options;
	struct tt_request **requests; // [n_requests] NULL: not submitted, or ended
	double *arrivals;             // [n_requests]
	int32_t *ids;                 // [n_prompt]
	double begun, freed;          /* freed: when a place last became free */
	size_t n_submitted, n_ended;
};

void tt_serving_arrivals(double *out, size_t n, double rate, uint64_t seed)
{
	uint64_t state = tt_bench_draw(&seed);
	double at = 0;
	for (size_t i = 0; i < n; i++) {
		/* 53 bits, above 0 */
		double u = ((double)(tt_bench_draw(&state) >> 11) + 1) * 0x1p-53;
		at += isfinite(rate) ? -log(u) / rate : 0;
		out[i] = at;
	}
	for (size_t i = 0; i < n && at > 0; i++)
		out[i] *= (double)n / rate / at;
}

static bool has_place(const struct flow *f)
{
	return f->options->concurrency == 0 || f->n_submitted - f->n_ended < f->options->concurrency;
}

static int submit(struct flow *f, struct tt_error *err)
{
	const struct tt_serving_options *o = f->options;
	size_t i = f->n_submitted;
	struct tt_request_options options;
	tt_request_options_default(&options);
	tt_lab_tokens(f->ids, o->n_prompt, tt_engine_info(f->engine)->vocab_size, o->seed + 1 + i);
	options.ids = f->ids;
	options.n_ids = o->n_prompt;
	options.max_tokens = o->n_gen;
	options.ignore_eos = true;
	memcpy(options.steering, o->steering, sizeof options.steering);
	options.n_steering = o->n_steering;
	TT_TRY(tt_request_submit(&f->requests[i], f->engine, &options, err));
	f->out->requests[i].start = f->arrivals[i] > f->freed ? f->arrivals[i] : f->freed;
	f->n_submitted++;
	return TT_OK;
}

/* Notes the tokens of a step, at the moment that it ended. */
static int take_tokens(struct flow *f, size_t i, double now, struct tt_error *err)
{
	struct tt_served *served = &f->out->requests[i];
	struct tt_token token;
	while (tt_request_next(f->requests[i], &token))
		if (served->n_times < f->options->n_gen)
			served->times[served->n_times++] = now;
	if (tt_request_finish(f->requests[i]) == TT_RUNNING)
		return TT_OK;
	if (served->n_times != f->options->n_gen)
		return tt_fail(
			err, TT_ERR_LIMIT, "a request gave %zu tokens, not %u", served->n_times, f->options->n_gen);
	tt_request_free(f->requests[i]);
	f->requests[i] = NULL;
	f->n_ended++;
	f->freed = f->options->concurrency ? now : 0;
	f->out->seconds = now;
	return TT_OK;
}

static int step(struct flow *f, struct tt_error *err)
{
	TT_TRY(tt_engine_step(f->engine, err));
	double now = tt_now() - f->begun;
	for (size_t i = 0; i < f->n_submitted; i++)
		if (f->requests[i])
			TT_TRY(take_tokens(f, i, now, err));
	return TT_OK;
}

static int serve(struct flow *f, struct tt_error *err)
{
	size_t n = f->options->n_requests;
	f->begun = tt_now();
	while (f->n_ended < n) {
		while (f->n_submitted < n && has_place(f) && f->arrivals[f->n_submitted] <= tt_now() - f->begun)
			TT_TRY(submit(f, err));
		if (f->n_submitted > f->n_ended)
			TT_TRY(step(f, err));
		else
			tt_sleep(f->arrivals[f->n_submitted] - (tt_now() - f->begun));
	}
	return TT_OK;
}

static int allocate(struct flow *f, struct tt_error *err)
{
	const struct tt_serving_options *o = f->options;
	TT_TRY(tt_alloc(&f->requests, o->n_requests, sizeof *f->requests, err));
	TT_TRY(tt_alloc(&f->arrivals, o->n_requests, sizeof *f->arrivals, err));
	TT_TRY(tt_alloc(&f->ids, o->n_prompt, sizeof *f->ids, err));
	TT_TRY(tt_alloc(&f->out->requests, o->n_requests, sizeof *f->out->requests, err));
	f->out->n = o->n_requests;
	f->out->n_prompt = o->n_prompt;
	for (size_t i = 0; i < o->n_requests; i++)
		TT_TRY(tt_alloc(&f->out->requests[i].times, o->n_gen, sizeof(double), err));
	tt_serving_arrivals(f->arrivals, o->n_requests, o->rate, o->seed);
	return TT_OK;
}

int tt_serving_run(struct tt_serving *out, struct tt_engine *engine, const struct tt_serving_options *options,
	struct tt_error *err)
{
	struct flow f = {.out = out, .engine = engine, .options = options};
	*out = (struct tt_serving){0};
	if (!options->n_requests || !options->n_prompt || !options->n_gen || !(options->rate > 0))
		return tt_fail(err, TT_ERR_ARGUMENT, "serving needs requests with prompts and tokens, and a rate");
	int status = allocate(&f, err);
	if (status == TT_OK)
		status = serve(&f, err);
	for (size_t i = 0; f.requests && i < options->n_requests; i++)
		tt_request_free(f.requests[i]);
	free(f.requests);
	free(f.arrivals);
	free(f.ids);
	return status;
}

void tt_serving_free(struct tt_serving *serving)
{
	for (size_t i = 0; serving->requests && i < serving->n; i++)
		free(serving->requests[i].times);
	free(serving->requests);
	*serving = (struct tt_serving){0};
}

/* ---- Metrics */

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

double tt_serving_percentile(const double *sorted, size_t n, double p)
{
	if (n == 0)
		return NAN;
	double at = p / 100 * (double)(n - 1);
	size_t below = (size_t)at;
	return below + 1 < n ? sorted[below] + (at - (double)below) * (sorted[below + 1] - sorted[below])
			     : sorted[n - 1];
}

/* Sorts the values. */
static void summarise(struct tt_serving_summary *out, double *values, size_t n)
{
	double sum = 0, squares = 0;
	qsort(values, n, sizeof *values, compare);
	for (size_t i = 0; i < n; i++)
		sum += values[i];
	*out = (struct tt_serving_summary){.n = n, .mean = n ? sum / (double)n : NAN};
	for (size_t i = 0; i < n; i++)
		squares += (values[i] - out->mean) * (values[i] - out->mean);
	out->std = n ? sqrt(squares / (double)n) : NAN;
	out->median = tt_serving_percentile(values, n, 50);
	out->p90 = tt_serving_percentile(values, n, 90);
	out->p99 = tt_serving_percentile(values, n, 99);
}

/* The values of a metric that a request has, [its tokens] at most; how many. A single token has no time per token. */
static size_t values_of(const struct tt_served *r, enum tt_serving_metric metric, double *out)
{
	size_t n = r->n_times;
	switch (metric) {
	case TT_TTFT:
		out[0] = r->times[0] - r->start;
		return 1;
	case TT_TPOT:
		out[0] = n > 1 ? (r->times[n - 1] - r->times[0]) / (double)(n - 1) : 0;
		return n > 1;
	case TT_ITL:
		for (size_t i = 1; i < n; i++)
			out[i - 1] = r->times[i] - r->times[i - 1];
		return n - 1;
	case TT_E2EL:
		out[0] = r->times[n - 1] - r->start;
		return 1;
	case TT_N_SERVING_METRICS:
		break;
	}
	return 0;
}

/* As vLLM has it: a single token's time per token counts as 0, and ITL has no limit. */
static bool is_good(const struct tt_served *r, const double *limits)
{
	static const enum tt_serving_metric limited[] = {TT_TTFT, TT_TPOT, TT_E2EL};
	for (size_t i = 0; i < sizeof limited / sizeof *limited; i++) {
		double value = 0;
		values_of(r, limited[i], &value);
		if (value > limits[limited[i]])
			return false;
	}
	return true;
}

int tt_serving_measure(
	struct tt_serving_report *out, const struct tt_serving *serving, const double *limits, struct tt_error *err)
{
	double *values = NULL;
	*out = (struct tt_serving_report){0};
	for (size_t i = 0; i < serving->n; i++) {
		out->n_tokens += serving->requests[i].n_times;
		out->n_good += is_good(&serving->requests[i], limits);
	}
	TT_TRY(tt_alloc(&values, out->n_tokens, sizeof *values, err));
	for (int metric = 0; metric < TT_N_SERVING_METRICS; metric++) {
		size_t n = 0;
		for (size_t i = 0; i < serving->n; i++)
			n += values_of(&serving->requests[i], (enum tt_serving_metric)metric, values + n);
		summarise(&out->metrics[metric], values, n);
	}
	free(values);
	return TT_OK;
}
