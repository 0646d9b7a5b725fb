/* The search for a push: candidates, and which of them is chosen. */
#ifndef CONTROLLER_TRAIN_FIT_SEARCH_H
#define CONTROLLER_TRAIN_FIT_SEARCH_H

#include "controller/train/fit_judge.h"

struct tt_fit_search {
	const struct tt_model_info *info;
	const struct tt_fit_directions *directions;
	const struct tt_fit_gates *gates;
	struct tt_fit_judge *judge;
	uint32_t max_candidates;
	enum tt_policy_when when; /* TT_WHEN_POLICY: all are tried; else only this one */

	struct tt_candidate *candidates; // [n_candidates]
	uint32_t n_candidates;
	const struct tt_candidate *chosen;
	const char *why;
};

/* Tries bands, strengths and whens, judged by what the model then writes. Fills the second part. */
int tt_fit_search(struct tt_fit_search *search, struct tt_error *err);
void tt_fit_search_free(struct tt_fit_search *search);

/* fit_grid.c: fills candidates, best guesses first, at most max_candidates. */
int tt_fit_grid(struct tt_fit_search *search, struct tt_error *err);

#endif
