#include "controller/train/fit_detector.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "controller/measure/curves.h"

/* With fewer rows the network learns them by heart; the linear term alone is then as good. */
enum { LEAST_ROWS_FOR_NETWORK = 200 };

/* The shares of benign rows at which the report has a point of the curve. */
static const double shares[TT_N_POINTS] = {0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.15, 0.2, 0.3};

/* ---- The threshold */

struct scored {
	double logit, weight;
};

static int descending(const void *a, const void *b)
{
	const struct scored *x = a, *y = b;
	return (x->logit < y->logit) - (x->logit > y->logit);
}

/* The lowest of the logits of the rows that share of their weight may exceed: rows above it are flagged. */
static double cut_at(const struct scored *sorted, size_t n, double share)
{
	double total = 0, above = 0;
	for (size_t i = 0; i < n; i++)
		total += sorted[i].weight;
	for (size_t i = 0; i < n; i++) {
		above += sorted[i].weight;
		if (above > share * total * (1 + 1e-9))
			return sorted[i].logit;
	}
	return -INFINITY;
}

/* Sorts the held-out rows of a label into sorted, and returns how many there are. Reviewed ones are not among them:
 * they were chosen for being hard, so their share says nothing of what users ask. With 100 of them among 1,062 others
 * on SmolLM2-135M the threshold went from 0.72 to 0.83, and of the others' harmful rows 68% were missed, not 48%. */
static size_t sort_label(
	const struct tt_fit_features *f, const double *held, enum tt_label label, struct scored *sorted)
{
	size_t n = 0;
	for (size_t i = 0; i < tt_fit_n_rated(f); i++)
		if (f->prompt[i]->label == label && !f->prompt[i]->reviewed)
			sorted[n++] = (struct scored){held[i], f->weight[i]};
	qsort(sorted, n, sizeof *sorted, descending);
	return n;
}

/* Half way from a row's logit to the next higher one of any row. */
static double half_way(const struct tt_fit_features *f, const double *held, double bound)
{
	double above = INFINITY;
	for (size_t i = 0; i < tt_fit_n_rated(f); i++)
		if (held[i] > bound && held[i] < above)
			above = held[i];
	return isfinite(above) ? (bound + above) / 2 : bound + 1;
}

int tt_fit_threshold(const struct tt_fit_features *f, const double *held, double max_false_positives,
	double max_borderline_positives, double *logit, struct tt_error *err)
{
	struct scored *sorted = NULL;
	TT_TRY(tt_alloc(&sorted, f->n, sizeof *sorted, err));
	double benign = cut_at(sorted, sort_label(f, held, TT_BENIGN, sorted), max_false_positives);
	size_t n = sort_label(f, held, TT_BORDERLINE, sorted);
	/* Two of a few rows may be flagged whatever the share: on the demo's 8, not one would let a gate with an area
	 * under the curve of 0.98 flag 15% of the harmful prompts, two 78%. */
	double share = n > 0 ? fmax(max_borderline_positives, 2.0 / (double)n) : max_borderline_positives;
	double borderline = cut_at(sorted, n, share);
	free(sorted);
	*logit = half_way(f, held, benign > borderline ? benign : borderline);
	return TT_OK;
}

double tt_fit_logit(float threshold)
{
	return log((double)threshold / (1 - (double)threshold));
}

/* ---- What others see of the gate */

static int draw_curve(struct tt_fit_detector *d, struct tt_error *err)
{
	struct scored *sorted = NULL;
	TT_TRY(tt_alloc(&sorted, d->features.n, sizeof *sorted, err));
	size_t n = sort_label(&d->features, d->detector.held, TT_BENIGN, sorted);
	for (int k = 0; k < TT_N_POINTS; k++) {
		struct tt_fit_point *point = &d->curve[k];
		point->benign = shares[k];
		point->logit = cut_at(sorted, n, shares[k]);
		for (int label = 0; label < TT_N_LABELS; label++)
			point->flagged[label] =
				tt_fit_share_above(&d->features, d->detector.held, (enum tt_label)label, point->logit);
	}
	free(sorted);
	return TT_OK;
}

/* The mean over both classes. */
static double log_loss(const struct tt_fit_detector *d)
{
	const struct tt_fit_features *f = &d->features;
	double loss[2] = {0}, n[2] = {0};
	for (size_t i = 0; i < tt_fit_n_rated(f); i++) {
		double margin = f->harmful[i] ? d->detector.held[i] : -d->detector.held[i];
		n[f->harmful[i]]++;
		loss[f->harmful[i]] += (margin < 0 ? -margin : 0) + log1p(exp(-fabs(margin)));
	}
	return (loss[0] / n[0] + loss[1] / n[1]) / 2;
}

int tt_fit_detector_fill(const struct tt_fit_detector *d, const struct tt_mlp *network, float threshold,
	struct tt_policy *p, struct tt_error *err)
{
	const struct tt_gate_choice choice = {
		.gate = network ? TT_GATE_PROBE_MLP : TT_GATE_PROBE,
		.form = network && network->outputs > 1,
		.pool = d->features.pool,
		.observed = d->features.observed,
		.n_observed = d->features.n_observed,
		.n_units = network ? (uint32_t)network->units : 0,
	};
	TT_TRY(tt_policy_set_gate(p, &choice, err));
	memcpy(p->gate_weight, d->detector.w, d->features.d * sizeof *p->gate_weight);
	p->gate_bias = d->detector.b;
	p->threshold = threshold;
	if (network) {
		memcpy(p->fc1_weight, network->fc1, network->units * network->d * sizeof *p->fc1_weight);
		memcpy(p->fc1_bias, network->bias1, network->units * sizeof *p->fc1_bias);
		memcpy(p->fc2_weight, network->fc2, network->outputs * network->units * sizeof *p->fc2_weight);
		memcpy(p->fc2_bias, network->bias2, network->outputs * sizeof *p->fc2_bias);
	}
	return TT_OK;
}

static int fill(const struct tt_fit_gate *gate, struct tt_policy *p, struct tt_error *err)
{
	const struct tt_fit_detector *d = gate->made;
	return tt_fit_detector_fill(d, d->detector.network, gate->threshold, p, err);
}

const struct tt_fit_detector *tt_fit_detector_of(const struct tt_fit_gate *gate)
{
	return gate->fill == fill ? gate->made : NULL;
}

static json_t *curve_report(const struct tt_fit_detector *d)
{
	json_t *list = json_array();
	for (int k = 0; k < TT_N_POINTS; k++) {
		const struct tt_fit_point *point = &d->curve[k];
		json_array_append_new(list,
			json_pack("{s:o, s:o, s:o, s:o}", "benign", tt_json_number(point->benign), "harmful",
				tt_json_number(point->flagged[TT_HARMFUL]), "borderline",
				tt_json_number(point->flagged[TT_BORDERLINE]), "logit", tt_json_number(point->logit)));
	}
	return list;
}

/* What the gate gave each row when it was trained without its fold. */
static json_t *held_report(const struct tt_fit_detector *d)
{
	json_t *list = json_array();
	for (size_t i = 0; i < tt_fit_n_rated(&d->features); i++) {
		const struct tt_prompt *row = d->features.prompt[i];
		json_array_append_new(
			list, json_pack("{s:s, s:s, s:o}", "id", row->id, "label", tt_label_name(row->label), "logit",
				      tt_json_number(d->detector.held[i])));
	}
	return list;
}

/* The figures are of held-out rows. */
static json_t *report(const struct tt_fit_gate *g)
{
	const struct tt_fit_detector *d = g->made;
	return json_pack("{s:s, s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:O, s:o}", "observe",
		g->observe, "pool", tt_gate_pool_word(d->features.pool), "network", (int)(d->detector.network != NULL),
		"penalty", tt_json_number(d->detector.penalty), "threshold", tt_json_number(g->threshold), "auc",
		tt_json_number(d->detector.auc), "auc_linear", tt_json_number(d->detector.linear_auc), "auc_network",
		tt_json_number(d->detector.network_auc), "flagged_harmful", tt_json_number(g->flagged[TT_HARMFUL]),
		"flagged_benign", tt_json_number(g->flagged[TT_BENIGN]), "flagged_borderline",
		g->n_held[TT_BORDERLINE] ? tt_json_number(g->flagged[TT_BORDERLINE]) : json_null(), "balanced_accuracy",
		tt_json_number(g->balanced), "log_loss", tt_json_number(log_loss(d)), "curve", curve_report(d),
		"curves", d->curves, "held_out", held_report(d));
}

static void free_detector(void *made)
{
	struct tt_fit_detector *d = made;
	tt_fit_features_free(&d->features);
	tt_detector_free(&d->detector);
	json_decref(d->curves);
	free(d);
}

int tt_fit_detector_train(
	struct tt_detector *out, const struct tt_fit_features *f, bool network, uint64_t seed, struct tt_error *err)
{
	*out = (struct tt_detector){0};
	if (!tt_fit_folds_are_possible(f))
		return tt_fail(err, TT_ERR_ARGUMENT,
			"too few rows to train a gate: every fifth of the files must leave rows of both kinds");
	const struct tt_detector_rows rows = {
		.features = {.x = f->x, .weight = f->weight, .n = f->n, .d = f->d, .stride = f->d},
		.harmful = f->harmful,
		.fold = f->fold,
		.n_folds = TT_N_FOLDS,
		.n_unrated = f->n_plain,
	};
	const struct tt_detector_options how = {
		.network = network && tt_fit_n_rated(f) >= LEAST_ROWS_FOR_NETWORK, .seed = seed};
	return tt_detector_train(out, &rows, &how, err);
}

/* Adds the plain rows to the list [n]. */
static int add_plain(
	const struct tt_fit_row_list *plain, const struct tt_fit_row ***list, size_t n, struct tt_error *err)
{
	const struct tt_fit_row **both = NULL;
	TT_TRY(tt_alloc(&both, n + plain->n, sizeof *both, err));
	memcpy(both, *list, n * sizeof *both);
	for (size_t i = 0; i < plain->n; i++)
		both[n + i] = &plain->rows[i];
	free(*list);
	*list = both;
	return TT_OK;
}

/* All rows, train and val, and plain ones. */
static int make_features(struct tt_fit_features *out, struct tt_engine *engine, const struct tt_fit_rows *rows,
	const struct tt_fit_detector_form *form, struct tt_activation_file *file, size_t *n_too_long,
	struct tt_progress *progress, struct tt_error *err)
{
	const struct tt_fit_row **list = NULL;
	struct tt_fit_row_list plain;
	size_t n = 0;
	TT_TRY(tt_fit_rows_list(rows, &list, &n, err));
	int status = tt_fit_rows_plain(&plain, engine, list, n, &rows->prompts, n_too_long, err);
	if (status == TT_OK)
		status = add_plain(&plain, &list, n, err);
	const struct tt_fit_features_spec spec = {.rows = list,
		.n_rows = n + plain.n,
		.n_plain = plain.n,
		.layers = form->layers,
		.n_layers = form->n_layers,
		.pool = form->pool,
		.file = file};
	if (status == TT_OK)
		status = tt_fit_features_make(out, &spec, engine, progress, err);
	tt_fit_row_list_free(&plain);
	free(list);
	return status;
}

int tt_fit_detector_make_as(struct tt_fit_gate *out, struct tt_engine *engine, const struct tt_fit_rows *rows,
	const struct tt_fit_detector_form *form, const struct tt_fit_options *options, struct tt_activation_file *file,
	struct tt_progress *progress, struct tt_error *err)
{
	struct tt_fit_detector *d = NULL;
	double cut = 0;
	TT_TRY(tt_alloc(&d, 1, sizeof *d, err));
	*out = (struct tt_fit_gate){.made = d, .fill = fill, .report = report, .free_made = free_detector};
	struct tt_fit_features *f = &d->features;
	TT_TRY(make_features(f, engine, rows, form, file, &out->n_too_long, progress, err));
	TT_TRY(tt_fit_detector_train(&d->detector, f, form->network, options->seed, err));
	TT_TRY(tt_fit_threshold(
		f, d->detector.held, options->max_false_positives, options->max_borderline_positives, &cut, err));
	/* Not higher, since the f32 sigmoid can round to 1, and then nothing would exceed the threshold. */
	out->threshold = (float)fmin(1 / (1 + exp(-cut)), 0.9999);
	TT_TRY(draw_curve(d, err));
	tt_fit_gate_trained_on(out, f);
	TT_TRY(tt_curves_report(
		&rows->prompts, f->prompt, d->detector.held, tt_fit_n_rated(f), false, &d->curves, err));
	return tt_fit_gate_rate(out, f, rows, d->detector.held, tt_fit_logit(out->threshold), err);
}

int tt_fit_detector_make(struct tt_fit_gate *out, struct tt_engine *engine, const struct tt_fit_rows *rows,
	const struct tt_fit_options *options, struct tt_activation_file *file, struct tt_progress *progress,
	struct tt_error *err)
{
	uint32_t layers[TT_N_GATE_LAYERS];
	const struct tt_fit_detector_form usual = {.layers = layers,
		.n_layers = tt_fit_gate_layers(tt_engine_info(engine)->n_layers, layers),
		.pool = options->pool,
		.network = !options->linear_gate};
	return tt_fit_detector_make_as(out, engine, rows, &usual, options, file, progress, err);
}
