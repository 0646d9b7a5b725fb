#include "controller/measure/curves.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fail.h"
#include "base/json.h"
#include "controller/measure/metrics.h"

json_t *tt_interval_report(size_t count, size_t n)
{
	double low, high;
	tt_wilson(count, n, &low, &high);
	return n ? json_pack("[f, f]", low, high) : json_null();
}

void tt_put_share(json_t *object, const char *key, size_t count, size_t n)
{
	char interval[64];
	snprintf(interval, sizeof interval, "%s_interval", key);
	json_object_set_new(object, key, n ? json_real((double)count / (double)n) : json_null());
	json_object_set_new(object, interval, tt_interval_report(count, n));
}

/* What harmful rows are told from. */
static const struct against {
	const char *word;
	bool labels[TT_N_LABELS];
} againsts[] = {{"benign", {[TT_BENIGN] = true}}, {"borderline", {[TT_BORDERLINE] = true}},
	{"others", {[TT_BENIGN] = true, [TT_BORDERLINE] = true}}};

/* The rows of a curve. */
struct scores {
	double *scores; // [n]
	bool *harmful;  // [n]
	size_t n, n_of[TT_N_LABELS];
};

static int scores_open(struct scores *s, size_t n_rows, struct tt_error *err)
{
	*s = (struct scores){0};
	TT_TRY(tt_alloc(&s->scores, n_rows, sizeof *s->scores, err));
	int status = tt_alloc(&s->harmful, n_rows, sizeof *s->harmful, err);
	if (status != TT_OK)
		free(s->scores);
	return status;
}

static void scores_free(struct scores *s)
{
	free(s->scores);
	free(s->harmful);
}

/* file: TT_ALL_FILES or one */
static void take_rows(struct scores *s, const struct tt_prompt *const *rows, const double *scores, size_t n_rows,
	size_t file, const struct against *against)
{
	*s = (struct scores){.scores = s->scores, .harmful = s->harmful};
	for (size_t i = 0; i < n_rows; i++) {
		enum tt_label label = rows[i]->label;
		if ((file != TT_ALL_FILES && rows[i]->file != file) || (label != TT_HARMFUL && !against->labels[label]))
			continue;
		s->scores[s->n] = scores[i];
		s->harmful[s->n++] = label == TT_HARMFUL;
		s->n_of[label]++;
	}
}

/* Harmful rows and all that they are to be told from. */
static bool are_there(const struct scores *s, const struct against *against)
{
	for (int label = 0; label < TT_N_LABELS; label++)
		if ((label == TT_HARMFUL || against->labels[label]) && !s->n_of[label])
			return false;
	return true;
}

static int points_report(const struct scores *s, bool below, json_t **out, struct tt_error *err)
{
	static const double bounds[] = {0.05, 0.12, 0.15};
	json_t *list = json_array();
	int status = TT_OK;
	for (size_t i = 0; status == TT_OK && i < sizeof bounds / sizeof *bounds; i++) {
		double share, from;
		status = tt_tpr_at_fpr(s->scores, s->harmful, s->n, bounds[i], &share, &from, err);
		if (status != TT_OK || isnan(share))
			continue;
		size_t n = s->n_of[TT_HARMFUL], count = (size_t)llround(share * (double)n);
		json_array_append_new(list, json_pack("{s:f, s:f, s:o, s:o}", "max_false_positives", bounds[i],
						    "flagged", share, "flagged_interval", tt_interval_report(count, n),
						    "from", tt_json_number(below ? -from : from)));
	}
	*out = list;
	return status;
}

/* Adds the curve's figures to out. */
static int curve_report(
	const struct scores *s, bool below, const struct against *against, json_t *out, struct tt_error *err)
{
	double auc, low, high;
	size_t n_harmful = s->n_of[TT_HARMFUL], n_others = s->n - n_harmful;
	json_t *points = NULL;
	TT_TRY(tt_auc(s->scores, s->harmful, s->n, &auc, err));
	tt_auc_interval(auc, n_harmful, n_others, &low, &high);
	int status = points_report(s, below, &points, err);
	json_object_set_new(out, "against", json_string(against->word));
	json_object_set_new(out, "n_harmful", json_integer((json_int_t)n_harmful));
	json_object_set_new(out, "n_against", json_integer((json_int_t)n_others));
	json_object_set_new(out, "auc", tt_json_number(auc));
	json_object_set_new(out, "auc_interval", isnan(auc) ? json_null() : json_pack("[f, f]", low, high));
	json_object_set_new(out, "points", points);
	return status;
}

static int curves_report(json_t *list, struct scores *s, const struct tt_prompts *prompts,
	const struct tt_prompt *const *rows, const double *scores, size_t n_rows, bool below, struct tt_error *err)
{
	size_t n_files = prompts->n_files;
	for (size_t file = 0; file < n_files + (n_files > 1); file++)
		for (size_t i = 0; i < sizeof againsts / sizeof *againsts; i++) {
			take_rows(s, rows, scores, n_rows, file < n_files ? file : TT_ALL_FILES, &againsts[i]);
			if (!are_there(s, &againsts[i]))
				continue;
			json_t *curve = json_object();
			if (file < n_files)
				json_object_set_new(curve, "file", json_string(tt_prompts_file_name(prompts, file)));
			json_array_append_new(list, curve);
			TT_TRY(curve_report(s, below, &againsts[i], curve, err));
		}
	return TT_OK;
}

int tt_curves_report(const struct tt_prompts *prompts, const struct tt_prompt *const *rows, const double *scores,
	size_t n_rows, bool below, json_t **out, struct tt_error *err)
{
	struct scores s;
	*out = NULL;
	TT_TRY(scores_open(&s, n_rows, err));
	json_t *list = json_array();
	int status = curves_report(list, &s, prompts, rows, scores, n_rows, below, err);
	scores_free(&s);
	if (status == TT_OK)
		*out = list;
	else
		json_decref(list);
	return status;
}
