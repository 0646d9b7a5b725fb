/* The search for a push: candidates, and which of them is chosen. */
#ifndef CONTROLLER_TRAIN_FIT_SEARCH_H
#define CONTROLLER_TRAIN_FIT_SEARCH_H

#include "controller/train/fit_judge.h"

/* A band of layers, as shares of the model's depth, that a method was published with, and what it adds there: unit
 * vectors times the strength. */
struct tt_fit_published {
	double centre, width, strength;
};

struct tt_fit_search {
	const struct tt_model_info *info;
	const struct tt_fit_directions *directions;
	const struct tt_fit_gate *gate;
	struct tt_fit_judge *judge;
	const struct tt_fit_published *published; /* compared with the usual sites, if not NULL */
	uint32_t max_candidates;
	enum tt_policy_when when;
	enum tt_policy_op op;

	struct tt_candidate *candidates; // [n_candidates], with room for one more than max_candidates
	uint32_t n_candidates;
	const struct tt_candidate *chosen;
	bool within_bars; /* the chosen one is */
	const char *why;
};

/* The bars of the chosen policy, each a figure that may be that high. */
struct tt_fit_bars {
	double nll_ratio, repeated, false_refusals;
};
struct tt_fit_bars tt_fit_bars(const struct tt_fit_judge *judge);

/* Tries sites and directions at one strength, then strengths at the best of them, judged by what the model then writes.
 * Fills the second part. */
int tt_fit_search(struct tt_fit_search *search, struct tt_error *err);
/* Judges and chooses the one candidate of these weights [n_layers] and this alpha along D; of another operation than
 * add, of this push. Fills the second part. */
int tt_fit_search_fixed(struct tt_fit_search *search, const float *weights, double alpha, struct tt_error *err);
/* Chooses found, which was judged on all prompts, if it is within the bars and what was chosen is not, or if it is as
 * good as that by the bars and has a better score by more than half a prompt. */
void tt_fit_prefer(struct tt_fit_search *search, const struct tt_candidate *found, const char *why);
void tt_fit_search_free(struct tt_fit_search *search);

/* Judges candidates on the first n prompts of each kind and fills their figures. generating and scoring name the
 * stages. */
int tt_fit_judge_candidates(struct tt_fit_search *search, struct tt_candidate **active, uint32_t n_active,
	const uint32_t n[TT_N_JUDGE_KINDS], const char *generating, const char *scoring, struct tt_error *err);

/* fit_grid.c: appends a candidate, unless there is room for none or one like it exists. */
int tt_fit_add(struct tt_fit_search *search, const float *weights, double mix, double push, struct tt_error *err);
/* Appends at most n candidates: what was published, then sites and directions at one strength, best guesses first; or
 * other strengths of the n_best candidates. Neither goes beyond max_candidates. */
int tt_fit_add_sites(struct tt_fit_search *search, uint32_t n, struct tt_error *err);
int tt_fit_add_strengths(struct tt_fit_search *search, struct tt_candidate *const *best, uint32_t n_best, uint32_t n,
	struct tt_error *err);

#endif
