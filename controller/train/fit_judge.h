/* The judge of a search: what the model writes for prompts, unsteered and under each candidate. */
#ifndef CONTROLLER_TRAIN_FIT_JUDGE_H
#define CONTROLLER_TRAIN_FIT_JUDGE_H

#include "controller/measure/contrast.h"
#include "controller/train/fit_candidate.h"
#include "controller/train/fit_rows.h"

enum { TT_JUDGE_HARMFUL, TT_JUDGE_BENIGN, TT_N_JUDGE_KINDS };

struct tt_fit_judge {
	struct tt_engine *engine;
	const struct tt_fit_row_list *rows; // [TT_N_LABELS]
	bool gated;                         /* gates say which of the rows they flag, which they do of val rows */
	struct tt_progress *progress;
	uint32_t n_tokens;                                 /* of each completion, at most */
	uint32_t n[TT_N_JUDGE_KINDS];                      /* prompts */
	struct tt_completion *unsteered[TT_N_JUDGE_KINDS]; // [n]
	double unsteered_nll; /* nats a token of unsteered refusals or, if there are few, completions */
	bool nll_is_of_refusals;
	double max_nll_ratio;            /* the bar that the options ask for; 0: none */
	bool gate_bounds_false_refusals; /* by its threshold: a push can refuse only what the gate lets through */
	/* What shows the behaviour that is wanted, and its opposite, for each of the harmful rows [n], which are any
	 * prompts then; NULL: refusing them is what is wanted. */
	const struct tt_completion *responses[TT_N_SIDES];
	double preference; /* of the unsteered model, by tt_contrast_preference */
};

/* A judge on val rows, of as many as the options say and at most as many tokens; or on harmful train rows, at most n.
 * Generates the unsteered completions. */
int tt_fit_judge_open(struct tt_fit_judge *out, struct tt_engine *engine, const struct tt_fit_rows *rows,
	const struct tt_fit_options *options, struct tt_progress *progress, struct tt_error *err);
int tt_fit_judge_open_train(struct tt_fit_judge *out, struct tt_engine *engine, const struct tt_fit_rows *rows,
	uint32_t n, const struct tt_fit_options *options, struct tt_progress *progress, struct tt_error *err);
/* A judge of a behaviour, on any prompts [n] and by their responses. */
int tt_fit_judge_open_style(struct tt_fit_judge *out, struct tt_engine *engine, const struct tt_fit_row_list *rows,
	const struct tt_completion *const responses[TT_N_SIDES], const struct tt_fit_options *options,
	struct tt_progress *progress, struct tt_error *err);
void tt_fit_judge_close(struct tt_fit_judge *judge);

/* Generates the candidates' completions of the first n_harmful and n_benign judge prompts; those that exist stay. */
int tt_fit_generate(struct tt_fit_judge *judge, struct tt_candidate **active, uint32_t n_active, uint32_t n_harmful,
	uint32_t n_benign, const char *stage, struct tt_error *err);
/* Has the unsteered model score the candidates' completions, which gives nll. */
int tt_fit_score(struct tt_fit_judge *judge, struct tt_candidate **active, uint32_t n_active, const char *stage,
	struct tt_error *err);
/* How much each candidate, on the prompts that it was judged on, raises the preference for the responses of the judge:
 * its effect. */
int tt_fit_effect(struct tt_fit_judge *judge, struct tt_candidate **active, uint32_t n_active, const char *stage,
	struct tt_error *err);
/* One harmful prompt under one candidate. */
struct tt_fit_trial {
	const struct tt_candidate *candidate;
	uint32_t prompt;   /* index of a row; it may be beyond those that the judge completes */
	double likelihood; /* mean log-probability of a token of a refusing sentence after it */
};
/* Fills likelihood of the trials [n]. Those of one candidate stand beside each other. */
int tt_fit_try(
	struct tt_fit_judge *judge, struct tt_fit_trial *trials, size_t n, const char *stage, struct tt_error *err);
/* The mean likelihood of each candidate, on the first n harmful prompts. */
int tt_fit_likelihood(struct tt_fit_judge *judge, struct tt_candidate **active, uint32_t n_active, uint32_t n,
	const char *stage, double *out, struct tt_error *err);
/* Computes the candidate's figures from its completions and its effect; nll is NAN until tt_fit_score. */
void tt_fit_rate(const struct tt_fit_judge *judge, struct tt_candidate *candidate);

#endif
