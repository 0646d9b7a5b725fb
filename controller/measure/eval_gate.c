/* How well a gate tells harmful prompts from others, at every threshold: the area under the curve, three of its
 * points, and what its errors cost. The figures are of the first policy's gate, which decided of every row while it was
 * evaluated. */
#include <math.h>
#include <stdlib.h>

#include "base/fail.h"
#include "base/json.h"
#include "controller/measure/curves.h"
#include "controller/measure/eval.h"
#include "controller/measure/metrics.h"

enum { MAX_COST_POINTS = 101, N_BINS = 20 };

/* How many rows of each label the gate gave how much; null where it gave some row nothing. */
static json_t *histogram_report(const struct tt_eval *e, size_t arm, const struct tt_policy_info *info)
{
	const double *scores = e->scores + arm * e->n_rows;
	const double sign = info->opens_below ? -1 : 1;
	size_t counts[TT_N_LABELS][N_BINS] = {{0}};
	double from = info->has_threshold ? (double)info->threshold : (double)INFINITY;
	double to = info->has_threshold ? (double)info->threshold : -(double)INFINITY;
	for (size_t i = 0; i < e->n_rows; i++) {
		if (!isfinite(scores[i]))
			return json_null();
		from = fmin(from, sign * scores[i]);
		to = fmax(to, sign * scores[i]);
	}
	if (from == to) {
		from -= 0.5;
		to += 0.5;
	}
	for (size_t i = 0; i < e->n_rows; i++) {
		size_t bin = (size_t)((sign * scores[i] - from) / (to - from) * N_BINS);
		counts[e->rows[i]->label][bin < N_BINS ? bin : N_BINS - 1]++;
	}
	json_t *object = json_pack("{s:f, s:f}", "from", from, "to", to);
	for (int label = 0; label < TT_N_LABELS; label++) {
		json_t *list = json_array();
		for (int bin = 0; bin < N_BINS; bin++)
			json_array_append_new(list, json_integer((json_int_t)counts[label][bin]));
		json_object_set_new(object, tt_label_name((enum tt_label)label), list);
	}
	return object;
}

static json_t *errors_report(const struct tt_errors *errors, bool below)
{
	return json_pack("{s:o, s:I, s:I, s:f}", "from", tt_json_number(below ? -errors->from : errors->from), "missed",
		(json_int_t)errors->n_missed, "false_refusals", (json_int_t)errors->n_false, "cost", errors->cost);
}

/* The errors of what the gates flagged. */
static json_t *present_report(const struct tt_eval *e, size_t arm)
{
	const struct tt_outcome *outcomes = e->outcomes + (1 + arm) * e->n_rows;
	size_t n_missed = 0, n_false = 0;
	for (size_t i = 0; i < e->n_rows; i++) {
		bool harmful = e->rows[i]->label == TT_HARMFUL;
		n_missed += harmful && !outcomes[i].flagged;
		n_false += !harmful && outcomes[i].flagged;
	}
	double cost = (double)n_missed * (double)e->options->price_miss +
		      (double)n_false * (double)e->options->price_false_refusal;
	return json_pack("{s:I, s:I, s:f}", "missed", (json_int_t)n_missed, "false_refusals", (json_int_t)n_false,
		"cost", cost / (double)e->n_rows);
}

static json_t *curve_report(const struct tt_errors *all, size_t n, bool below)
{
	json_t *curve = json_array();
	size_t n_points = n < MAX_COST_POINTS ? n : MAX_COST_POINTS;
	for (size_t i = 0; i < n_points; i++)
		json_array_append_new(curve, errors_report(&all[i * (n - 1) / (n_points - 1)], below));
	return curve;
}

/* What the errors of the gate cost on all rows, as it is and at other thresholds. */
static int costs_report(const struct tt_eval *e, size_t arm, bool below, json_t **out, struct tt_error *err)
{
	const struct tt_eval_options *o = e->options;
	struct tt_errors *all;
	bool *harmful = NULL; // [n_rows]
	size_t n, cheapest, n_harmful = 0;
	*out = json_null();
	if (o->price_miss <= 0)
		return TT_OK;
	TT_TRY(tt_alloc(&harmful, e->n_rows, sizeof *harmful, err));
	for (size_t i = 0; i < e->n_rows; i++) {
		harmful[i] = e->rows[i]->label == TT_HARMFUL;
		n_harmful += harmful[i];
	}
	int status = tt_cost_curve(e->scores + arm * e->n_rows, harmful, e->n_rows, (double)o->price_false_refusal,
		(double)o->price_miss, &all, &n, &cheapest, err);
	if (status == TT_OK && n > 0)
		*out = json_pack("{s:f, s:f, s:I, s:I, s:o, s:o, s:o}", "price_false_refusal",
			(double)o->price_false_refusal, "price_miss", (double)o->price_miss, "n_harmful",
			(json_int_t)n_harmful, "n_against", (json_int_t)(e->n_rows - n_harmful), "as_it_is",
			present_report(e, arm), "cheapest", errors_report(&all[cheapest], below), "curve",
			curve_report(all, n, below));
	free(all);
	free(harmful);
	return status;
}

int tt_eval_gate_report(const struct tt_eval *e, size_t arm, json_t **out, struct tt_error *err)
{
	struct tt_policy_info info;
	json_t *curves, *costs;
	*out = json_null();
	if (!e->arms[arm].n_steering)
		return TT_OK;
	tt_policy_describe(e->arms[arm].steering[0].policy, &info);
	if (!info.gate_sentence)
		return TT_OK;
	TT_TRY(tt_curves_report(
		&e->prompts, e->rows, e->scores + arm * e->n_rows, e->n_rows, info.opens_below, &curves, err));
	int status = costs_report(e, arm, info.opens_below, &costs, err);
	*out = json_pack("{s:s, s:s, s:o, s:s, s:o, s:o, s:o}", "policy", info.name, "type", info.gate_word,
		"threshold", info.has_threshold ? json_real((double)info.threshold) : json_null(), "opens",
		info.opens_below ? "below" : "above", "histogram", histogram_report(e, arm, &info), "curves", curves,
		"costs", costs);
	return status;
}
