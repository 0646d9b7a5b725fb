/* Figures of classifiers against scikit-learn's and scipy's, and closed numbers. */
#include "controller/measure/metrics.h"
#include "train_golden.h"

Test(metrics, curves_are_those_of_scikit_learn)
{
	struct tt_safetensors *file = golden_open(GOLDEN("train/metrics.safetensors"));
	size_t n, n_bounds;
	double *scores = golden_array(file, sizeof *scores, &n, "scores"), got, threshold;
	bool *label = golden_array(file, sizeof *label, &n, "label");
	double *auc = golden_array(file, sizeof *auc, &n_bounds, "auc");
	double *bounds = golden_array(file, sizeof *bounds, &n_bounds, "max_fpr");
	double *tpr = golden_array(file, sizeof *tpr, &n_bounds, "tpr");
	double *thresholds = golden_array(file, sizeof *thresholds, &n_bounds, "threshold");
	must(tt_auc(scores, label, n, &got, err));
	cr_expect(fabs(got - *auc) <= 1e-14, "%.17g, not %.17g", got, *auc);
	for (size_t i = 0; i < n_bounds; i++) {
		must(tt_tpr_at_fpr(scores, label, n, bounds[i], &got, &threshold, err));
		cr_expect(fabs(got - tpr[i]) <= 1e-15, "at %g: %g, not %g", bounds[i], got, tpr[i]);
		cr_expect(threshold == thresholds[i], "at %g: %g, not %g", bounds[i], threshold, thresholds[i]);
	}
	free(scores);
	free(label);
	free(auc);
	free(bounds);
	free(tpr);
	free(thresholds);
	tt_safetensors_close(file);
}

Test(metrics, costs_follow_from_the_curve_of_scikit_learn)
{
	struct tt_safetensors *file = golden_open(GOLDEN("train/metrics.safetensors"));
	size_t n, n_want, n_prices, n_got, cheapest, best = 0;
	double *scores = golden_array(file, sizeof *scores, &n, "scores");
	bool *label = golden_array(file, sizeof *label, &n, "label");
	double *prices = golden_array(file, sizeof *prices, &n_prices, "prices");
	double *from = golden_array(file, sizeof *from, &n_want, "cost_from");
	double *costs = golden_array(file, sizeof *costs, &n_want, "costs");
	struct tt_errors *got;
	must(tt_cost_curve(scores, label, n, prices[0], prices[1], &got, &n_got, &cheapest, err));
	cr_assert_eq(n_got, n_want);
	for (size_t i = 0; i < n_want; i++) {
		cr_expect(got[i].from == from[i] && fabs(got[i].cost - costs[i]) <= 1e-13, "from %g: %.17g, not %.17g",
			got[i].from, got[i].cost, costs[i]);
		best = costs[i] < costs[best] - 1e-13 ? i : best;
	}
	cr_expect_eq(cheapest, best);
	cr_expect(got[0].n_false == 0 && got[n_got - 1].n_missed == 0);
	free(got);
	scores[7] = (double)NAN;
	must(tt_cost_curve(scores, label, n, 1, 1, &got, &n_got, &cheapest, err));
	cr_expect_eq(n_got, 0);
	free(got);
	free(scores);
	free(label);
	free(prices);
	free(from);
	free(costs);
	tt_safetensors_close(file);
}

Test(metrics, intervals_and_tests_are_those_of_scipy)
{
	struct tt_safetensors *file = golden_open(GOLDEN("train/metrics.safetensors"));
	size_t n;
	double *intervals = golden_array(file, sizeof *intervals, &n, "intervals"), low, high;
	int32_t *shares = golden_array(file, sizeof *shares, &n, "shares");
	for (size_t i = 0; i < n; i += 2) {
		tt_wilson((size_t)shares[i], (size_t)shares[i + 1], &low, &high);
		cr_expect(fabs(low - intervals[i]) <= 1e-14 && fabs(high - intervals[i + 1]) <= 1e-14,
			"%d of %d: %.17g to %.17g", shares[i], shares[i + 1], low, high);
	}
	double *areas = golden_array(file, sizeof *areas, &n, "areas");
	double *bounds = golden_array(file, sizeof *bounds, &n, "area_intervals");
	for (size_t i = 0; i < n / 2; i++) {
		const double *area = areas + 3 * i;
		tt_auc_interval(area[0], (size_t)area[1], (size_t)area[2], &low, &high);
		cr_expect(fabs(low - bounds[2 * i]) <= 1e-12 && fabs(high - bounds[2 * i + 1]) <= 1e-12,
			"%g of %g and %g: %.17g to %.17g", area[0], area[1], area[2], low, high);
	}
	int32_t *splits = golden_array(file, sizeof *splits, &n, "splits");
	double *tests = golden_array(file, sizeof *tests, &n, "sign_tests");
	for (size_t i = 0; i < n; i++) {
		double p = tt_sign_test((size_t)splits[2 * i], (size_t)splits[2 * i + 1]);
		cr_expect(fabs(p - tests[i]) <= 1e-11 * tests[i], "%d to %d: %.17g, not %.17g", splits[2 * i],
			splits[2 * i + 1], p, tests[i]);
	}
	free(intervals);
	free(shares);
	free(areas);
	free(bounds);
	free(splits);
	free(tests);
	tt_safetensors_close(file);
}

Test(metrics, edges)
{
	const double scores[] = {1, 1, 0, (double)NAN, -(double)INFINITY};
	const bool label[] = {true, false, false, true, true};
	double figure, threshold, low, high;
	must(tt_auc(scores, label, 2, &figure, err));
	cr_expect(figure == 0.5, "a tie is a half");
	must(tt_auc(scores, label, 3, &figure, err));
	cr_expect(figure == 0.75);
	must(tt_tpr_at_fpr(scores, label, 3, 0.4, &figure, &threshold, err));
	cr_expect(figure == 0 && threshold == (double)INFINITY, "those of one score pass together");
	must(tt_tpr_at_fpr(scores, label, 3, 0.5, &figure, NULL, err));
	cr_expect(figure == 1);
	must(tt_auc(scores, label, 4, &figure, err));
	cr_expect(isnan(figure));
	must(tt_tpr_at_fpr(scores, label, 4, 1, &figure, &threshold, err));
	cr_expect(isnan(figure) && isnan(threshold));
	must(tt_auc(scores + 3, label + 3, 2, &figure, err));
	cr_expect(isnan(figure), "one label only");
	must(tt_auc(scores, label, 0, &figure, err));
	cr_expect(isnan(figure));
	struct tt_errors *errors;
	size_t n, cheapest;
	must(tt_cost_curve((double[]){1, 0}, (bool[]){false, true}, 2, 1, 1, &errors, &n, &cheapest, err));
	cr_expect(n == 3 && errors[0].cost == 0.5 && errors[1].cost == 1 && errors[2].cost == 0.5 && cheapest == 0,
		"of equal costs the first, which flags least");
	free(errors);
	tt_wilson(0, 0, &low, &high);
	cr_expect(low == 0 && high == 1);
	tt_auc_interval(1, 5, 0, &low, &high);
	cr_expect(low == 0 && high == 1);
	cr_expect(fabs(tt_sign_test(0, 3) - 0.25) <= 1e-15 && tt_sign_test(1, 0) == 1 && tt_sign_test(5, 5) == 1);
}
