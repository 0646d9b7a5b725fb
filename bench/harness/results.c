/* From samples to medians, rates, ratios and shares. */
#include "base/fail.h"
#include "bench/harness/harness_internal.h"

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Only rounds that both cases have: a case that failed has only the first ones. */
static int compare_with(const struct tt_bench *bench, const struct tt_bench_entry *e, struct tt_bench_summary *out,
	struct tt_error *err)
{
	const struct tt_bench_entry *baseline = &bench->entries[e->baseline];
	double amount = e->n_work ? e->spec.work[0].amount : 1;
	double other = baseline->n_work ? baseline->spec.work[0].amount : 1;
	return tt_bench_summarise_ratio(out, e->samples, baseline->samples, smaller(e->n_samples, baseline->n_samples),
		other / amount, bench->options.confidence, err);
}

static int share_of(const struct tt_bench *bench, const struct tt_bench_entry *e, uint32_t w,
	struct tt_bench_summary *out, struct tt_error *err)
{
	const struct tt_bench_entry *ceiling = &bench->entries[e->ceiling[w]];
	const struct tt_bench_work *work = &e->spec.work[w];
	double most = ceiling->spec.work[tt_bench_find_work(ceiling, work->unit)].amount;
	return tt_bench_summarise_ratio(out, ceiling->samples, e->samples, smaller(e->n_samples, ceiling->n_samples),
		work->amount / most, bench->options.confidence, err);
}

int tt_bench_result(const struct tt_bench *bench, size_t index, struct tt_bench_result *result, struct tt_error *err)
{
	double confidence = bench->options.confidence;
	if (index >= bench->n_entries)
		return tt_fail(err, TT_ERR_ARGUMENT, "there is no case %zu", index);
	const struct tt_bench_entry *e = &bench->entries[index];
	*result = (struct tt_bench_result){
		.spec = &e->spec,
		.n_calls = e->n_calls,
		.samples = e->samples,
		.n_samples = e->n_samples,
		.error = e->failed ? e->error.message : NULL,
	};
	TT_TRY(tt_bench_summarise(&result->seconds, e->samples, e->n_samples, confidence, err));
	if (e->baseline != TT_BENCH_NONE)
		TT_TRY(compare_with(bench, e, &result->ratio, err));
	for (uint32_t w = 0; w < e->n_work; w++) {
		TT_TRY(tt_bench_summarise_ratio(
			&result->rates[w], NULL, e->samples, e->n_samples, e->spec.work[w].amount, confidence, err));
		if (e->ceiling[w] != TT_BENCH_NONE)
			TT_TRY(share_of(bench, e, w, &result->shares[w], err));
	}
	return TT_OK;
}
