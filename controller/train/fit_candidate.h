/* A candidate policy, with its figures. */
#ifndef CONTROLLER_TRAIN_FIT_CANDIDATE_H
#define CONTROLLER_TRAIN_FIT_CANDIDATE_H

#include "controller/measure/completion.h"
#include "controller/train/fit_directions.h"
#include "controller/train/fit_gate.h"
#include "controller/train/fit_operation.h"

/* What a candidate was rated at, on so many judge prompts of each kind. */
struct tt_figures {
	uint32_t n_harmful, n_benign;
	double refused;        /* share of the harmful prompts, with an open gate or a graded one */
	double refused_gated;  /* share of the harmful prompts, with its own gate */
	double false_refusals; /* share of the benign prompts, less the unsteered model's */
	double repeated;       /* share of repeated 4-grams, less the unsteered model's */
	double diverged;       /* share of the benign completions that differ from unsteered ones */
	double nll, nll_ratio; /* nats a token under the unsteered model, and over its baseline */
	double effect;         /* see tt_fit_effect; NAN where refusals are judged */
	double score;          /* the search ranks by this */
	bool out;              /* a figure is beyond its bar */
};

enum tt_fit_round { TT_ROUND_SITES, TT_ROUND_STRENGTHS, TT_ROUND_ALL, TT_N_ROUNDS };

struct tt_candidate {
	float *weights; // [n_layers] the largest is 1
	float alpha;
	uint32_t first, last; /* layers with a weight */
	double mix;           /* along D + mix * E, of the length of D */
	double push;          /* how strong: see enum tt_fit_strength */
	enum tt_policy_op op;
	enum tt_policy_when when;
	const struct tt_fit_gate *gate;
	struct tt_policy *policy; /* with an open gate, since it is known which prompts pass; or with a graded one */
	struct tt_completion *harmful, *benign; // [judge->n] each, filled as far as it was judged
	uint32_t n_harmful, n_benign;           /* judged so far */
	uint32_t n_effect;                      /* the harmful ones that the effect is of */
	double effect;
	struct tt_figures figures;
	/* The figures at the end of each round that it took part in, and whether it went on from there. */
	struct tt_figures in_round[TT_N_ROUNDS];
	bool took_part[TT_N_ROUNDS], kept[TT_N_ROUNDS];
};

/* The length of a push: the sum over layers of weight times |D|. */
double tt_push_length(const struct tt_fit_directions *directions, const float *weights);

/* The unit of pushes: the length of the push that a band of a fifth of the layers has whose coefficients sum to 1. A
 * direction is the difference between two states of the model itself, so this is a natural length on any model,
 * whatever the norm of its stream. */
double tt_push_unit(const struct tt_fit_directions *directions);

/* Fills the weights (a copy), alpha, mix and push of a candidate, whose op is set. Whatever the weights and the mix, a
 * push that is added has the same length. */
int tt_candidate_aim(struct tt_candidate *candidate, const struct tt_fit_directions *directions, const float *weights,
	double mix, double push, struct tt_error *err);

/* Makes the policy of a candidate for the model, with its own gate or with an open gate. It has no name yet. */
int tt_candidate_policy(const struct tt_candidate *candidate, const struct tt_fit_directions *directions,
	const struct tt_model_info *info, bool gated, struct tt_policy **out, struct tt_error *err);

/* The name of the policy of the candidate at place i of the report, of which the folder of candidates has a file. */
enum { TT_CANDIDATE_NAME_BYTES = 24 };
void tt_candidate_name(char out[TT_CANDIDATE_NAME_BYTES], uint32_t i);

#endif
