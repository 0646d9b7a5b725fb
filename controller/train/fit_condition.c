#include "controller/train/fit_condition.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"

static size_t width_of(const struct tt_fit_features *f)
{
	return f->d / f->n_observed;
}

/* out [n][width] = what a gate reads that observes layer k of the features alone: its last token, its mean, or both. */
static void copy_layer(const struct tt_fit_features *f, uint32_t k, float *out)
{
	size_t parts = f->pool == TT_POOL_LAST_MEAN ? 2 : 1, hidden = width_of(f) / parts;
	for (size_t i = 0; i < f->n; i++)
		for (size_t part = 0; part < parts; part++)
			memcpy(out + (i * parts + part) * hidden, f->x + i * f->d + (part * f->n_observed + k) * hidden,
				hidden * sizeof *out);
}

static int make_features(struct tt_fit_features *out, struct tt_engine *engine, const struct tt_fit_rows *rows,
	enum tt_gate_pool pool, struct tt_progress *progress, struct tt_error *err)
{
	uint32_t layers[TT_N_CONDITION_LAYERS], n_layers = tt_engine_info(engine)->n_layers;
	const struct tt_fit_row **list = NULL;
	struct tt_fit_features_spec spec = {.layers = layers, .pool = pool};
	spec.n_layers = n_layers < TT_N_CONDITION_LAYERS ? n_layers : TT_N_CONDITION_LAYERS;
	for (uint32_t i = 0; i < spec.n_layers; i++)
		layers[i] = i * n_layers / spec.n_layers;
	TT_TRY(tt_fit_rows_list(rows, &list, &spec.n_rows, err));
	spec.rows = list;
	int status = tt_fit_features_make(out, &spec, engine, progress, err);
	free(list);
	return status;
}

/* ---- Pairs */

struct place {
	const struct tt_prompt *prompt;
	size_t row;
};

static int compare_places(const void *a, const void *b)
{
	const struct tt_prompt *x = ((const struct place *)a)->prompt, *y = ((const struct place *)b)->prompt;
	if (x->file != y->file)
		return x->file < y->file ? -1 : 1;
	return (x->line > y->line) - (x->line < y->line);
}

static int pair_rows(struct tt_fit_condition *c, struct tt_error *err)
{
	const struct tt_fit_features *f = &c->features;
	struct place *places = NULL; // [n]
	TT_TRY(tt_alloc(&c->partner, f->n, sizeof *c->partner, err));
	TT_TRY(tt_alloc(&c->order, f->n, sizeof *c->order, err));
	TT_TRY(tt_alloc(&places, f->n, sizeof *places, err));
	for (size_t i = 0; i < f->n; i++) {
		c->partner[i] = f->prompt[i]->label == TT_BENIGN;
		places[i] = (struct place){f->prompt[i], i};
	}
	qsort(places, f->n, sizeof *places, compare_places);
	for (size_t i = 0; i < f->n; i++)
		c->order[i] = places[i].row;
	free(places);
	return TT_OK;
}

static bool pairs_are_possible(const struct tt_fit_condition *c)
{
	const struct tt_fit_features *f = &c->features;
	for (uint32_t fold = 0; fold < TT_N_FOLDS; fold++) {
		size_t harmful = 0, partners = 0;
		for (size_t i = 0; i < f->n; i++) {
			harmful += f->fold[i] != fold && f->harmful[i];
			partners += f->fold[i] != fold && c->partner[i];
		}
		if (!harmful || !partners)
			return false;
	}
	return true;
}

/* x [n][width]: of one layer. */
static struct tt_condition_rows rows_of(const struct tt_fit_condition *c, const float *x)
{
	const struct tt_fit_features *f = &c->features;
	return (struct tt_condition_rows){.x = x,
		.positive = f->harmful,
		.partner = c->partner,
		.order = c->order,
		.fold = f->fold,
		.n = f->n,
		.d = width_of(f),
		.n_folds = TT_N_FOLDS};
}

/* ---- The choice */

static double f1_of(size_t right, size_t flagged, size_t positive)
{
	return flagged + positive ? 2 * (double)right / (double)(flagged + positive) : 0;
}

/* Counts the rows of a fold that are flagged by the layer and the point that are best on the rows of other folds. */
static int count_unseen(
	const struct tt_fit_condition *c, uint32_t fold, size_t *flagged, size_t *right, struct tt_error *err)
{
	const struct tt_fit_features *f = &c->features;
	const struct tt_condition_rows rows = rows_of(c, NULL);
	struct tt_condition_point best = {.f1 = -1};
	uint32_t layer = 0;
	for (uint32_t k = 0; k < f->n_observed; k++) {
		struct tt_condition_point point;
		TT_TRY(tt_condition_best(&point, c->conditions[k].held, &rows, fold, err));
		if (point.f1 <= best.f1)
			continue;
		best = point;
		layer = k;
	}
	for (size_t i = 0; i < f->n; i++) {
		bool holds = f->fold[i] == fold && tt_condition_holds(&best, c->conditions[layer].held[i]);
		*flagged += holds;
		*right += holds && f->harmful[i];
	}
	return TT_OK;
}

static int measure(struct tt_fit_condition *c, struct tt_error *err)
{
	const struct tt_fit_features *f = &c->features;
	const struct tt_condition *chosen = &c->conditions[c->chosen];
	size_t positive = 0, flagged = 0, right = 0, unseen_flagged = 0, unseen_right = 0;
	for (size_t i = 0; i < f->n; i++) {
		bool holds = tt_condition_holds(&chosen->point, chosen->held[i]);
		positive += f->harmful[i];
		flagged += holds;
		right += holds && f->harmful[i];
	}
	c->precision = flagged ? (double)right / (double)flagged : 0;
	c->recall = positive ? (double)right / (double)positive : 0;
	for (uint32_t fold = 0; fold < TT_N_FOLDS; fold++)
		TT_TRY(count_unseen(c, fold, &unseen_flagged, &unseen_right, err));
	c->f1_unseen = f1_of(unseen_right, unseen_flagged, positive);
	return TT_OK;
}

static int compare_layers(struct tt_fit_condition *c, struct tt_error *err)
{
	const struct tt_fit_features *f = &c->features;
	float *x = NULL; // [n][width]
	TT_TRY(tt_alloc(&x, f->n, width_of(f) * sizeof *x, err));
	int status = TT_OK;
	for (uint32_t k = 0; status == TT_OK && k < f->n_observed; k++) {
		const struct tt_condition_rows rows = rows_of(c, x);
		copy_layer(f, k, x);
		status = tt_condition_fit(&c->conditions[k], &rows, err);
		if (c->conditions[k].point.f1 > c->conditions[c->chosen].point.f1)
			c->chosen = k;
	}
	free(x);
	return status;
}

/* ---- What others see of the gate */

static int fill(const struct tt_fit_gate *gate, struct tt_policy *p, struct tt_error *err)
{
	const struct tt_fit_condition *c = gate->made;
	const struct tt_condition *chosen = &c->conditions[c->chosen];
	const struct tt_gate_choice choice = {.gate = TT_GATE_COSINE,
		.form = chosen->point.below,
		.pool = c->features.pool,
		.observed = &c->features.observed[c->chosen],
		.n_observed = 1};
	TT_TRY(tt_policy_set_gate(p, &choice, err));
	memcpy(p->gate_weight, chosen->w, width_of(&c->features) * sizeof *p->gate_weight);
	p->threshold = gate->threshold;
	return TT_OK;
}

static const char *side_of(const struct tt_condition_point *point)
{
	return point->below ? "below" : "above";
}

static json_t *layers_report(const struct tt_fit_condition *c)
{
	json_t *list = json_array();
	for (uint32_t k = 0; k < c->features.n_observed; k++) {
		const struct tt_condition *condition = &c->conditions[k];
		json_array_append_new(list,
			json_pack("{s:i, s:s, s:o, s:o, s:o}", "layer", (int)c->features.observed[k], "side",
				side_of(&condition->point), "threshold", tt_json_number(condition->point.threshold),
				"f1", tt_json_number(condition->point.f1), "auc", tt_json_number(condition->auc)));
	}
	return list;
}

/* What each row's similarity was to the vector that was made without its fold. */
static json_t *held_report(const struct tt_fit_condition *c)
{
	json_t *list = json_array();
	for (size_t i = 0; i < c->features.n; i++) {
		const struct tt_prompt *row = c->features.prompt[i];
		json_array_append_new(
			list, json_pack("{s:s, s:s, s:o}", "id", row->id, "label", tt_label_name(row->label),
				      "similarity", tt_json_number(c->conditions[c->chosen].held[i])));
	}
	return list;
}

/* The figures are of held-out rows. */
static json_t *report(const struct tt_fit_gate *g)
{
	const struct tt_fit_condition *c = g->made;
	const struct tt_condition *chosen = &c->conditions[c->chosen];
	return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "observe",
		g->observe, "pool", tt_gate_pool_word(c->features.pool), "side", side_of(&chosen->point), "threshold",
		tt_json_number(g->threshold), "f1", tt_json_number(chosen->point.f1), "precision",
		tt_json_number(c->precision), "recall", tt_json_number(c->recall), "f1_unseen",
		tt_json_number(c->f1_unseen), "auc",
		tt_json_number(chosen->point.below ? 1 - chosen->auc : chosen->auc), "flagged_harmful",
		tt_json_number(g->flagged[TT_HARMFUL]), "flagged_benign", tt_json_number(g->flagged[TT_BENIGN]),
		"flagged_borderline",
		g->n_held[TT_BORDERLINE] ? tt_json_number(g->flagged[TT_BORDERLINE]) : json_null(), "balanced_accuracy",
		tt_json_number(g->balanced), "layers", layers_report(c), "held_out", held_report(c));
}

static void free_condition(void *made)
{
	struct tt_fit_condition *c = made;
	for (uint32_t k = 0; k < TT_N_CONDITION_LAYERS; k++)
		tt_condition_free(&c->conditions[k]);
	tt_fit_features_free(&c->features);
	free(c->partner);
	free(c->order);
	free(c);
}

/* The gate's figures, by scores that are above the cut where the condition holds. */
static int rate(
	struct tt_fit_gate *out, const struct tt_fit_condition *c, const struct tt_fit_rows *rows, struct tt_error *err)
{
	const struct tt_condition *chosen = &c->conditions[c->chosen];
	double *scores = NULL, sign = chosen->point.below ? -1 : 1;
	struct tt_fit_features one = c->features;
	one.observed += c->chosen;
	one.n_observed = 1;
	TT_TRY(tt_alloc(&scores, one.n, sizeof *scores, err));
	for (size_t i = 0; i < one.n; i++)
		scores[i] = sign * (double)chosen->held[i];
	int status = tt_fit_gate_rate(out, &one, rows, scores, sign * (double)out->threshold, err);
	free(scores);
	return status;
}

int tt_fit_condition_make(struct tt_fit_gate *out, struct tt_engine *engine, const struct tt_fit_rows *rows,
	const struct tt_fit_options *options, struct tt_progress *progress, struct tt_error *err)
{
	struct tt_fit_condition *c = NULL;
	TT_TRY(tt_alloc(&c, 1, sizeof *c, err));
	*out = (struct tt_fit_gate){.made = c, .fill = fill, .report = report, .free_made = free_condition};
	TT_TRY(make_features(&c->features, engine, rows, options->pool, progress, err));
	TT_TRY(pair_rows(c, err));
	if (!pairs_are_possible(c))
		return tt_fail(err, TT_ERR_ARGUMENT,
			"too few rows to find a condition: every fifth of the files must leave harmful and benign "
			"rows");
	TT_TRY(compare_layers(c, err));
	TT_TRY(measure(c, err));
	out->threshold = c->conditions[c->chosen].point.threshold;
	return rate(out, c, rows, err);
}
