/* Rounds: the order of the cases, the clock, and what happens when one fails. */
#include "bench/harness/harness_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/memory.h"

enum { MAX_CALLS = 1000000000 };

/* SplitMix64: any seed will do, adjacent ones too, and the stream is the same everywhere. */
uint64_t tt_bench_draw(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

void tt_bench_round_order(enum tt_bench_order order, uint64_t seed, uint32_t round, uint32_t n, uint32_t *out)
{
	for (uint32_t i = 0; i < n; i++)
		out[i] = order == TT_BENCH_ABBA && round % 2 ? n - 1 - i : i;
	if (order == TT_BENCH_ABBA)
		return;
	uint64_t state = seed + round;
	state = tt_bench_draw(&state);
	for (uint32_t i = n; i > 1; i--) {
		uint32_t j = (uint32_t)(tt_bench_draw(&state) % i), moved = out[i - 1];
		out[i - 1] = out[j];
		out[j] = moved;
	}
}

static int time_calls(const struct tt_bench_case *spec, uint64_t n_calls, double *seconds, struct tt_error *err)
{
	int status = TT_OK;
	double start = tt_now();
	for (uint64_t i = 0; i < n_calls && status == TT_OK; i++)
		status = spec->run(spec->context, err);
	*seconds = tt_now() - start;
	return status;
}

/* One sample, with the calls before and after it. The first error is kept. */
static int take_sample(const struct tt_bench_entry *e, double *seconds, struct tt_error *err)
{
	const struct tt_bench_case *spec = &e->spec;
	struct tt_error later = {0};
	if (spec->before)
		TT_TRY(spec->before(spec->context, err));
	int status = time_calls(spec, e->n_calls, seconds, err);
	int status_after = spec->after ? spec->after(spec->context, &later) : TT_OK;
	if (status == TT_OK && status_after != TT_OK) {
		*err = later;
		status = status_after;
	}
	/* The clock counts nanoseconds; a call that took none of them would have an infinite rate. */
	*seconds = fmax(*seconds, 1e-9) / (double)e->n_calls;
	return status;
}

static void note_failure(struct tt_bench_entry *e, int status, const struct tt_error *error)
{
	e->failed = true;
	e->error = *error;
	e->error.code = status;
	if (!e->error.message[0])
		tt_fail(&e->error, status, "failed with code %d", status);
}

/* The fastest of three, because one may be interrupted for longer than the call takes. Long calls are not repeated. */
static int time_fastest(const struct tt_bench_entry *e, double wanted, double *fastest, struct tt_error *err)
{
	*fastest = INFINITY;
	for (int i = 0; i < 3 && !(*fastest > 20 * wanted && i > 0); i++) {
		double seconds;
		TT_TRY(time_calls(&e->spec, e->n_calls, &seconds, err));
		*fastest = fmin(*fastest, seconds);
	}
	return TT_OK;
}

/* Finds how many calls a sample of min_sample_seconds takes. Each try has at most 100 times as many as the one before,
 * because a single call says little about a million. */
static void calibrate(const struct tt_bench *bench, struct tt_bench_entry *e)
{
	double wanted = bench->options.min_sample_seconds, seconds;
	e->n_calls = e->spec.n_calls ? e->spec.n_calls : 1;
	if (e->spec.n_calls || e->spec.before || e->spec.after)
		return;
	for (;;) {
		struct tt_error error = {0};
		int status = time_fastest(e, wanted, &seconds, &error);
		if (status != TT_OK) {
			note_failure(e, status, &error);
			return;
		}
		if (seconds >= wanted || e->n_calls >= MAX_CALLS)
			return;
		double factor = fmin(100, 1.2 * wanted / fmax(seconds, 1e-9));
		e->n_calls = (uint64_t)fmin(MAX_CALLS, ceil((double)e->n_calls * fmax(factor, 1.1)));
	}
}

static int run_round(struct tt_bench *bench, const uint32_t *members, uint32_t n, uint32_t *order, uint32_t round,
	bool counted, struct tt_error *err)
{
	tt_bench_round_order(bench->options.order, bench->options.seed, round, n, order);
	for (uint32_t i = 0; i < n; i++) {
		struct tt_bench_entry *e = &bench->entries[members[order[i]]];
		struct tt_error error = {0};
		double seconds = 0;
		if (e->failed)
			continue;
		int status = take_sample(e, &seconds, &error);
		if (status != TT_OK) {
			note_failure(e, status, &error);
			continue;
		}
		if (!counted)
			continue;
		TT_TRY(tt_grow(&e->samples, &e->capacity, e->n_samples + 1, sizeof *e->samples, err));
		e->samples[e->n_samples++] = seconds;
	}
	return TT_OK;
}

static bool any_left(const struct tt_bench *bench, const uint32_t *members, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (!bench->entries[members[i]].failed)
			return true;
	return false;
}

static int run_rounds(
	struct tt_bench *bench, const uint32_t *members, uint32_t n, uint32_t *order, struct tt_error *err)
{
	const struct tt_bench_options *o = &bench->options;
	for (uint32_t round = 0; round < o->n_warmup; round++)
		TT_TRY(run_round(bench, members, n, order, round, false, err));
	double start = tt_now();
	for (uint32_t round = 0; round < o->max_rounds && any_left(bench, members, n); round++) {
		if (round >= o->min_rounds && tt_now() - start >= o->min_seconds)
			break;
		if (o->progress)
			o->progress(o->user, bench->entries[members[0]].spec.group, round, o->min_rounds);
		TT_TRY(run_round(bench, members, n, order, o->n_warmup + round, true, err));
	}
	return TT_OK;
}

/* members, order: [n] entries of the group, and memory for a permutation. */
static int run_group(struct tt_bench *bench, const uint32_t *members, uint32_t n, uint32_t *order, struct tt_error *err)
{
	for (uint32_t i = 0; i < n; i++) {
		bench->entries[members[i]].ran = true;
		calibrate(bench, &bench->entries[members[i]]);
	}
	int status = run_rounds(bench, members, n, order, err);
	for (uint32_t i = 0; i < n; i++) {
		struct tt_bench_entry *e = &bench->entries[members[i]];
		struct tt_error error = {0};
		int finished = e->spec.finish ? e->spec.finish(e->spec.context, &error) : TT_OK;
		if (finished != TT_OK && !e->failed)
			note_failure(e, finished, &error);
	}
	return status;
}

int tt_bench_run(struct tt_bench *bench, struct tt_error *err)
{
	uint32_t *members = NULL; // [2][n_entries] of the group, and its order
	TT_TRY(tt_bench_resolve(bench, err));
	TT_TRY(tt_alloc(&members, bench->n_entries, 2 * sizeof *members, err));
	int status = TT_OK;
	for (size_t first = 0; status == TT_OK && first < bench->n_entries; first++) {
		const char *group = bench->entries[first].spec.group;
		uint32_t n = 0;
		for (size_t i = first; i < bench->n_entries; i++)
			if (!bench->entries[i].ran && !strcmp(bench->entries[i].spec.group, group))
				members[n++] = (uint32_t)i;
		if (n > 0)
			status = run_group(bench, members, n, members + bench->n_entries, err);
	}
	free(members);
	return status;
}
