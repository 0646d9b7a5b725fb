/* A candidate policy, with its figures. */
#ifndef CONTROLLER_TRAIN_FIT_CANDIDATE_H
#define CONTROLLER_TRAIN_FIT_CANDIDATE_H

#include "controller/measure/completion.h"
#include "controller/train/fit_directions.h"
#include "controller/train/fit_gate.h"

/* A band of layers, a strength and a when. */
struct tt_candidate {
	uint32_t first, width; /* layers [first, first + width) */
	float shift;           /* alpha * width: the band's whole push, in units of the directions */
	enum tt_policy_when when;
	const struct tt_fit_gate *gate;
	struct tt_policy *policy;               /* with an open gate, since it is known which prompts pass the gate */
	struct tt_completion *harmful, *benign; // [judge->n] each, filled as far as it was judged
	uint32_t n_harmful, n_benign;           /* judged so far */
	double refused;                         /* share of the harmful prompts, with an open gate */
	double refused_gated;                   /* share of the harmful prompts, with its own gate */
	double false_refusals;                  /* share of the benign prompts, less the unsteered model's */
	double repeated;                        /* share of repeated 4-grams, less the unsteered model's */
	double diverged;                        /* share of the benign completions that differ from unsteered ones */
	double nll, nll_ratio;                  /* nats a token under the unsteered model, and over its baseline */
	double score;                           /* the search ranks by this */
	bool out;                               /* a figure is beyond its bar */
};

/* Makes the policy of a candidate for the model, with its own gate or with an open gate. It has no name yet. */
int tt_candidate_policy(const struct tt_candidate *candidate, const struct tt_fit_directions *directions,
	const struct tt_model_info *info, bool gated, struct tt_policy **out, struct tt_error *err);

#endif
