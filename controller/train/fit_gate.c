#include "controller/train/fit_gate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "controller/policy/layer_list.h"

double tt_fit_share_above(const struct tt_fit_features *f, const double *scores, enum tt_label label, double cut)
{
	size_t n = 0, above = 0;
	for (size_t i = 0; i < tt_fit_n_rated(f); i++) {
		n += f->prompt[i]->label == label;
		above += f->prompt[i]->label == label && scores[i] > cut;
	}
	return n ? (double)above / (double)n : 0;
}

/* The share of right decisions, the mean of both classes. */
static double balanced_accuracy(const struct tt_fit_features *f, const double *scores, double cut)
{
	double right[2] = {0}, n[2] = {0};
	for (size_t i = 0; i < tt_fit_n_rated(f); i++) {
		n[f->harmful[i]]++;
		right[f->harmful[i]] += (scores[i] > cut) == f->harmful[i];
	}
	return (right[0] / n[0] + right[1] / n[1]) / 2;
}

static int print_layers(const struct tt_fit_features *f, char **out, struct tt_error *err)
{
	bool member[TT_MAX_LAYERS] = {false};
	struct tt_buffer text = {0};
	for (uint32_t i = 0; i < f->n_observed; i++)
		member[f->observed[i]] = true;
	int status = tt_layers_print(&text, member, f->observed[f->n_observed - 1] + 1, err);
	*out = text.data;
	return status;
}

void tt_fit_gate_trained_on(struct tt_fit_gate *gate, const struct tt_fit_features *f)
{
	memcpy(gate->activations, f->sha256, sizeof gate->activations);
	gate->n_rows = f->n;
	gate->n_run = f->n_run;
	gate->n_texts = 0;
	for (size_t i = 0; i < f->n; i++)
		gate->n_texts += f->prompt[i]->is_text;
}

int tt_fit_gate_rate(struct tt_fit_gate *gate, const struct tt_fit_features *f, const struct tt_fit_rows *rows,
	const double *scores, double cut, struct tt_error *err)
{
	size_t row = tt_fit_n_rated(f);
	TT_TRY(print_layers(f, &gate->observe, err));
	for (int label = 0; label < TT_N_LABELS; label++)
		row -= rows->val[label].n;
	for (int label = 0; label < TT_N_LABELS; label++) {
		TT_TRY(tt_alloc(&gate->flags[label], rows->val[label].n, sizeof *gate->flags[label], err));
		for (size_t i = 0; i < rows->val[label].n; i++)
			gate->flags[label][i] = scores[row++] > cut;
		gate->flagged[label] = tt_fit_share_above(f, scores, (enum tt_label)label, cut);
	}
	for (size_t i = 0; i < tt_fit_n_rated(f); i++)
		gate->n_held[f->prompt[i]->label]++;
	gate->balanced = balanced_accuracy(f, scores, cut);
	return TT_OK;
}

/* ---- A gate that is always open */

/* A new policy has this gate. */
static int fill_nothing(const struct tt_fit_gate *gate, struct tt_policy *policy, struct tt_error *err)
{
	(void)gate;
	(void)policy;
	(void)err;
	return TT_OK;
}

static json_t *report_always(const struct tt_fit_gate *gate)
{
	return json_pack("{s:s}", "observe", gate->observe);
}

int tt_fit_gate_always(struct tt_fit_gate *out, const struct tt_fit_rows *rows, struct tt_error *err)
{
	*out = (struct tt_fit_gate){.balanced = NAN, .fill = fill_nothing, .report = report_always};
	TT_TRY(tt_copy_string(&out->observe, "", 0, err));
	for (int label = 0; label < TT_N_LABELS; label++) {
		size_t n = rows->val[label].n;
		TT_TRY(tt_alloc(&out->flags[label], n, sizeof *out->flags[label], err));
		for (size_t i = 0; i < n; i++)
			out->flags[label][i] = true;
		out->flagged[label] = 1;
	}
	return TT_OK;
}

void tt_fit_gate_free(struct tt_fit_gate *gate)
{
	free(gate->observe);
	for (int label = 0; label < TT_N_LABELS; label++)
		free(gate->flags[label]);
	if (gate->made)
		gate->free_made(gate->made);
	*gate = (struct tt_fit_gate){0};
}
