#include "controller/train/fit_condition.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"

static size_t parts_of(const struct tt_fit_features *f)
{
	return f->pool == TT_POOL_LAST_MEAN ? 2 : 1;
}

static size_t hidden_of(const struct tt_fit_features *f)
{
	return f->d / f->n_observed / parts_of(f);
}

/* out [n][parts][hidden] = what a gate reads that observes layer k of the features alone. */
static void copy_layer(const struct tt_fit_features *f, uint32_t k, float *out)
{
	size_t parts = parts_of(f), hidden = hidden_of(f);
	for (size_t i = 0; i < f->n; i++)
		for (size_t part = 0; part < parts; part++)
			memcpy(out + (i * parts + part) * hidden, f->x + i * f->d + (part * f->n_observed + k) * hidden,
				hidden * sizeof *out);
}

static int make_features(struct tt_fit_features *out, struct tt_engine *engine, const struct tt_fit_rows *rows,
	enum tt_gate_pool pool, struct tt_activation_file *file, struct tt_progress *progress, struct tt_error *err)
{
	uint32_t layers[TT_N_CONDITION_LAYERS], n_layers = tt_engine_info(engine)->n_layers;
	const struct tt_fit_row **list = NULL;
	struct tt_fit_features_spec spec = {.layers = layers, .pool = pool, .file = file};
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

static bool has_name(const struct tt_prompt *row, const char *name)
{
	return strcmp(tt_label_name(row->label), name) == 0 || strcmp(row->source, name) == 0 ||
	       strcmp(row->kind, name) == 0;
}

static bool pairs_are_possible(const struct tt_fit_features *f, const struct tt_fit_condition *c)
{
	for (uint32_t fold = 0; fold < TT_N_FOLDS; fold++) {
		size_t positive = 0, partners = 0;
		for (size_t i = 0; i < f->n; i++) {
			positive += f->fold[i] != fold && c->positive[i];
			partners += f->fold[i] != fold && c->partner[i];
		}
		if (!positive || !partners)
			return false;
	}
	return true;
}

static int find_rows(
	struct tt_fit_condition *c, const struct tt_fit_features *f, const char *name, struct tt_error *err)
{
	size_t n = 0, n_partners = 0;
	TT_TRY(tt_alloc(&c->positive, f->n, sizeof *c->positive, err));
	TT_TRY(tt_alloc(&c->partner, f->n, sizeof *c->partner, err));
	TT_TRY(tt_alloc(&c->holds, f->n, sizeof *c->holds, err));
	TT_TRY(tt_alloc(&c->unseen, f->n, sizeof *c->unseen, err));
	for (size_t i = 0; i < f->n; i++) {
		c->positive[i] = has_name(f->prompt[i], name);
		c->partner[i] = !c->positive[i] && f->prompt[i]->label == TT_BENIGN;
		n += c->positive[i];
		n_partners += c->partner[i];
	}
	for (size_t i = 0; i < f->n && !n_partners; i++)
		c->partner[i] = !c->positive[i];
	if (!n)
		return tt_fail(err, TT_ERR_ARGUMENT, "no row has the label, source or kind \"%s\"", name);
	if (!pairs_are_possible(f, c))
		return tt_fail(err, TT_ERR_ARGUMENT,
			"too few rows to find condition %s: without those of any one fold, rows of it and benign "
			"others "
			"must remain (in a file of their own, few rows are spread over the folds)",
			name);
	return TT_OK;
}

/* x [n][d]: of one layer. */
static struct tt_condition_rows rows_of(
	const struct tt_fit_conditions *all, const struct tt_fit_condition *c, const float *x)
{
	const struct tt_fit_features *f = &all->features;
	return (struct tt_condition_rows){.x = x,
		.positive = c->positive,
		.partner = c->partner,
		.order = all->order,
		.fold = f->fold,
		.n = f->n,
		.d = f->d / f->n_observed,
		.n_folds = TT_N_FOLDS};
}

/* ---- The choice */

/* Sets the rows of a fold that are flagged by the layer and the point that are best on the rows of other folds. */
static int flag_unseen(
	const struct tt_fit_conditions *all, struct tt_fit_condition *c, uint32_t fold, struct tt_error *err)
{
	const struct tt_fit_features *f = &all->features;
	const struct tt_condition_rows rows = rows_of(all, c, NULL);
	struct tt_condition_point best = {.f1 = -1};
	uint32_t layer = 0;
	for (uint32_t k = 0; k < f->n_observed; k++) {
		struct tt_condition_point point;
		TT_TRY(tt_condition_best(&point, c->layers[k].held, &rows, fold, err));
		if (point.f1 <= best.f1)
			continue;
		best = point;
		layer = k;
	}
	for (size_t i = 0; i < f->n; i++)
		if (f->fold[i] == fold)
			c->unseen[i] = best.f1 >= 0 && tt_condition_holds(&best, c->layers[layer].held[i]);
	return TT_OK;
}

static int compare_layers(
	const struct tt_fit_conditions *all, struct tt_fit_condition *c, float *x, struct tt_error *err)
{
	const struct tt_fit_features *f = &all->features;
	for (uint32_t k = 0; k < f->n_observed; k++) {
		const struct tt_condition_rows rows = rows_of(all, c, x);
		copy_layer(f, k, x);
		TT_TRY(tt_condition_fit(&c->layers[k], &rows, err));
		if (c->layers[k].point.f1 > c->layers[c->chosen].point.f1)
			c->chosen = k;
	}
	const struct tt_condition *chosen = &c->layers[c->chosen];
	for (size_t i = 0; i < f->n; i++)
		c->holds[i] = tt_condition_holds(&chosen->point, chosen->held[i]);
	for (uint32_t fold = 0; fold < TT_N_FOLDS; fold++)
		TT_TRY(flag_unseen(all, c, fold, err));
	return TT_OK;
}

static struct tt_fit_found find(const bool *positive, const bool *flags, size_t n)
{
	size_t n_positive = 0, flagged = 0, right = 0;
	for (size_t i = 0; i < n; i++) {
		n_positive += positive[i];
		flagged += flags[i];
		right += flags[i] && positive[i];
	}
	return (struct tt_fit_found){.precision = flagged ? (double)right / (double)flagged : 0,
		.recall = n_positive ? (double)right / (double)n_positive : 0,
		.f1 = n_positive + flagged ? 2 * (double)right / (double)(n_positive + flagged) : 0};
}

/* What the rule makes of its conditions, and how well that finds the harmful rows. */
static int join(struct tt_fit_conditions *all, struct tt_error *err)
{
	const struct tt_fit_features *f = &all->features;
	TT_TRY(tt_alloc(&all->opens, f->n, sizeof *all->opens, err));
	TT_TRY(tt_alloc(&all->unseen, f->n, sizeof *all->unseen, err));
	for (uint32_t k = 0; k < all->rule.n; k++)
		all->rule.below |= all->conditions[k].layers[all->conditions[k].chosen].point.below ? 1u << k : 0;
	for (size_t i = 0; i < f->n; i++) {
		uint32_t held = 0, unseen = 0;
		for (uint32_t k = 0; k < all->rule.n; k++) {
			held |= all->conditions[k].holds[i] ? 1u << k : 0;
			unseen |= all->conditions[k].unseen[i] ? 1u << k : 0;
		}
		all->opens[i] = tt_steer_rule(all->rule.table, held);
		all->unseen[i] = tt_steer_rule(all->rule.table, unseen);
	}
	all->found = find(f->harmful, all->opens, f->n);
	all->found_unseen = find(f->harmful, all->unseen, f->n);
	return TT_OK;
}

/* ---- What others see of the gate */

static const struct tt_condition *chosen_of(const struct tt_fit_condition *c)
{
	return &c->layers[c->chosen];
}

/* The layers that any condition was chosen on, ascending; returns how many they are. */
static uint32_t observed_layers(const struct tt_fit_conditions *all, uint32_t layers[TT_MAX_CONDITIONS])
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < all->features.n_observed; i++) {
		bool read = false;
		for (uint32_t k = 0; k < all->rule.n; k++)
			read |= all->conditions[k].chosen == i;
		if (read)
			layers[n++] = all->features.observed[i];
	}
	return n;
}

static int fill_one(const struct tt_fit_conditions *all, struct tt_policy *p, struct tt_error *err)
{
	const struct tt_fit_features *f = &all->features;
	const struct tt_condition *chosen = chosen_of(&all->conditions[0]);
	const struct tt_gate_choice choice = {.gate = TT_GATE_COSINE,
		.form = chosen->point.below,
		.pool = f->pool,
		.observed = &f->observed[all->conditions[0].chosen],
		.n_observed = 1};
	TT_TRY(tt_policy_set_gate(p, &choice, err));
	memcpy(p->gate_weight, chosen->w, parts_of(f) * hidden_of(f) * sizeof *p->gate_weight);
	p->threshold = chosen->point.threshold;
	return TT_OK;
}

/* The weights of a condition are 0 on the layers of others. */
static int fill_rule(const struct tt_fit_conditions *all, struct tt_policy *p, struct tt_error *err)
{
	const struct tt_fit_features *f = &all->features;
	size_t parts = parts_of(f), hidden = hidden_of(f);
	uint32_t layers[TT_MAX_CONDITIONS];
	struct tt_buffer conditions = {0};
	struct tt_gate_choice choice = {
		.gate = TT_GATE_RULE, .pool = f->pool, .observed = layers, .rule = all->rule.text};
	choice.n_observed = observed_layers(all, layers);
	int status = tt_rule_print_conditions(&conditions, &all->rule, err);
	choice.conditions = conditions.data;
	if (status == TT_OK)
		status = tt_policy_set_gate(p, &choice, err);
	tt_buffer_free(&conditions);
	TT_TRY(status);
	for (uint32_t k = 0; k < all->rule.n; k++) {
		const struct tt_condition *chosen = chosen_of(&all->conditions[k]);
		uint32_t at = 0;
		while (layers[at] != f->observed[all->conditions[k].chosen])
			at++;
		for (size_t part = 0; part < parts; part++)
			memcpy(p->gate_weight + ((k * parts + part) * choice.n_observed + at) * hidden,
				chosen->w + part * hidden, hidden * sizeof *p->gate_weight);
		p->thresholds[k] = chosen->point.threshold;
	}
	return TT_OK;
}

static int fill(const struct tt_fit_gate *gate, struct tt_policy *p, struct tt_error *err)
{
	const struct tt_fit_conditions *all = gate->made;
	return all->asked ? fill_rule(all, p, err) : fill_one(all, p, err);
}

static const char *side_of(const struct tt_condition_point *point)
{
	return point->below ? "below" : "above";
}

static double auc_of(const struct tt_condition *c)
{
	return c->point.below ? 1 - c->auc : c->auc;
}

static json_t *layers_report(const struct tt_fit_features *f, const struct tt_fit_condition *c)
{
	json_t *list = json_array();
	for (uint32_t k = 0; k < f->n_observed; k++) {
		const struct tt_condition *layer = &c->layers[k];
		json_array_append_new(
			list, json_pack("{s:i, s:s, s:o, s:o, s:o}", "layer", (int)f->observed[k], "side",
				      side_of(&layer->point), "threshold", tt_json_number(layer->point.threshold), "f1",
				      tt_json_number(layer->point.f1), "auc", tt_json_number(auc_of(layer))));
	}
	return list;
}

/* How a condition finds the rows of its own name. */
static json_t *condition_report(const struct tt_fit_conditions *all, uint32_t k)
{
	const struct tt_fit_condition *c = &all->conditions[k];
	const struct tt_condition *chosen = chosen_of(c);
	const struct tt_fit_found found = find(c->positive, c->holds, all->features.n);
	return json_pack("{s:s, s:i, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "name", all->rule.names[k], "layer",
		(int)all->features.observed[c->chosen], "side", side_of(&chosen->point), "threshold",
		tt_json_number(chosen->point.threshold), "f1", tt_json_number(found.f1), "precision",
		tt_json_number(found.precision), "recall", tt_json_number(found.recall), "f1_unseen",
		tt_json_number(find(c->positive, c->unseen, all->features.n).f1), "auc", tt_json_number(auc_of(chosen)),
		"layers", layers_report(&all->features, c));
}

static json_t *conditions_report(const struct tt_fit_conditions *all)
{
	json_t *list = json_array();
	for (uint32_t k = 0; k < all->rule.n; k++)
		json_array_append_new(list, condition_report(all, k));
	return list;
}

/* What the similarities of each row were to the vectors that were made without its fold. */
static json_t *held_report(const struct tt_fit_conditions *all)
{
	json_t *list = json_array();
	for (size_t i = 0; i < all->features.n; i++) {
		const struct tt_prompt *row = all->features.prompt[i];
		json_t *similarities = json_array();
		for (uint32_t k = 0; k < all->rule.n; k++)
			json_array_append_new(similarities, tt_json_number(chosen_of(&all->conditions[k])->held[i]));
		json_array_append_new(list, json_pack("{s:s, s:s, s:o}", "id", row->id, "label",
						    tt_label_name(row->label), "similarities", similarities));
	}
	return list;
}

/* The figures are of held-out rows. */
static json_t *report(const struct tt_fit_gate *g)
{
	const struct tt_fit_conditions *all = g->made;
	return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "observe", g->observe,
		"pool", tt_gate_pool_word(all->features.pool), "rule", all->rule.text, "f1",
		tt_json_number(all->found.f1), "precision", tt_json_number(all->found.precision), "recall",
		tt_json_number(all->found.recall), "f1_unseen", tt_json_number(all->found_unseen.f1), "flagged_harmful",
		tt_json_number(g->flagged[TT_HARMFUL]), "flagged_benign", tt_json_number(g->flagged[TT_BENIGN]),
		"flagged_borderline",
		g->n_held[TT_BORDERLINE] ? tt_json_number(g->flagged[TT_BORDERLINE]) : json_null(), "balanced_accuracy",
		tt_json_number(g->balanced), "conditions", conditions_report(all), "held_out", held_report(all));
}

static void free_conditions(void *made)
{
	struct tt_fit_conditions *all = made;
	for (uint32_t i = 0; i < TT_MAX_CONDITIONS; i++) {
		struct tt_fit_condition *c = &all->conditions[i];
		for (uint32_t k = 0; k < TT_N_CONDITION_LAYERS; k++)
			tt_condition_free(&c->layers[k]);
		free(c->positive);
		free(c->partner);
		free(c->holds);
		free(c->unseen);
	}
	tt_fit_features_free(&all->features);
	free(all->order);
	free(all->opens);
	free(all->unseen);
	free(all);
}

/* The gate's figures, of the layers that it reads. */
static int rate(struct tt_fit_gate *out, const struct tt_fit_conditions *all, const struct tt_fit_rows *rows,
	struct tt_error *err)
{
	uint32_t layers[TT_MAX_CONDITIONS];
	double *scores = NULL;
	struct tt_fit_features read = all->features;
	read.observed = layers;
	read.n_observed = observed_layers(all, layers);
	TT_TRY(tt_alloc(&scores, read.n, sizeof *scores, err));
	for (size_t i = 0; i < read.n; i++)
		scores[i] = all->opens[i];
	int status = tt_fit_gate_rate(out, &read, rows, scores, 0.5, err);
	free(scores);
	return status;
}

static int make_conditions(struct tt_fit_conditions *all, struct tt_error *err)
{
	float *x = NULL; // [n][d] of one layer
	size_t d = all->features.d / all->features.n_observed;
	TT_TRY(tt_alloc(&all->order, all->features.n, sizeof *all->order, err));
	TT_TRY(tt_fit_order(&all->features, all->order, err));
	TT_TRY(tt_alloc(&x, all->features.n, d * sizeof *x, err));
	int status = TT_OK;
	for (uint32_t k = 0; status == TT_OK && k < all->rule.n; k++) {
		status = find_rows(&all->conditions[k], &all->features, all->rule.names[k], err);
		if (status == TT_OK)
			status = compare_layers(all, &all->conditions[k], x, err);
	}
	free(x);
	TT_TRY(status);
	return join(all, err);
}

int tt_fit_condition_make(struct tt_fit_gate *out, struct tt_engine *engine, const struct tt_fit_rows *rows,
	const struct tt_fit_options *options, struct tt_activation_file *file, struct tt_progress *progress,
	struct tt_error *err)
{
	struct tt_fit_conditions *all = NULL;
	TT_TRY(tt_alloc(&all, 1, sizeof *all, err));
	*out = (struct tt_fit_gate){.made = all, .fill = fill, .report = report, .free_made = free_conditions};
	all->asked = options->rule != NULL;
	TT_TRY(tt_rule_parse(&all->rule, NULL, all->asked ? options->rule : tt_label_name(TT_HARMFUL), err));
	TT_TRY(make_features(&all->features, engine, rows, options->pool, file, progress, err));
	tt_fit_gate_trained_on(out, &all->features);
	TT_TRY(make_conditions(all, err));
	out->threshold = all->asked ? 0 : chosen_of(&all->conditions[0])->point.threshold;
	return rate(out, all, rows, err);
}
