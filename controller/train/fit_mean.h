/* Directions by difference of means, and the selection of one of them by three scores: the refusal direction of Arditi
 * et al., arXiv 2406.11717. A candidate is the mean of h at one token of the chat template after the user's text, after
 * one block, over harmful prompts, less the same over benign ones. It is not normalised. */
#ifndef CONTROLLER_TRAIN_FIT_MEAN_H
#define CONTROLLER_TRAIN_FIT_MEAN_H

#include <jansson.h>

#include "controller/train/fit_directions.h"

enum { TT_MAX_OPENINGS = 2 };

/* A refusal score is the log-odds that the next token is one that refusals begin with, its probability p being that of
 * all of them: log(p + 1e-8) - log(1 - p + 1e-8). */
struct tt_mean_candidate {
	uint32_t position; /* tokens back from the last of the prompt, which is 0 */
	uint32_t layer;    /* whose output it is of */
	double norm;
	double added;   /* mean refusal score of benign prompts with it added there */
	double kl;      /* mean divergence, from the unsteered, of their next token with it ablated everywhere */
	double ablated; /* mean refusal score of harmful prompts with it ablated everywhere; NAN: discarded before */
	const char *discarded; /* why, or NULL */
};

struct tt_fit_mean {
	uint32_t n_positions, n_layers, hidden_size;
	uint32_t n_prompts;                /* of each label */
	double *harmful, *benign;          // [n_positions][n_layers][hidden_size] mean states
	double *stream_norms;              // [n_positions][n_layers]
	int32_t openings[TT_MAX_OPENINGS]; // [n_openings] tokens that refusals begin with
	uint32_t n_openings;
	double harmful_score, benign_score;   /* mean refusal scores, unsteered */
	struct tt_mean_candidate *candidates; // [n_candidates]
	uint32_t n_candidates, n_possible;    /* tried, and how many there are */
	struct tt_mean_candidate *chosen;
	const char *why;
};

/* Finds the candidates by the first n_direction_prompts train rows of each label and tries at most max_candidates of
 * them, evenly spread over the layers, on n_judge_prompts val rows. Fills directions with the chosen one, which is the
 * direction of every layer. */
int tt_fit_mean_make(struct tt_fit_mean *out, struct tt_fit_directions *directions, struct tt_engine *engine,
	const struct tt_fit_rows *rows, const struct tt_fit_options *options, struct tt_progress *progress,
	struct tt_error *err);
/* Lists the candidates of the means, with their norms. */
int tt_fit_mean_list(struct tt_fit_mean *mean, uint32_t max_candidates, struct tt_error *err);
/* Discards candidates by added and kl, and chooses, by ablated, among those that remain; if none does, by added. */
void tt_fit_mean_discard(struct tt_fit_mean *mean);
void tt_fit_mean_choose(struct tt_fit_mean *mean);
/* A new reference, NULL if memory ran out; JSON's null for a fit of another mode. */
json_t *tt_fit_mean_report(const struct tt_fit_mean *mean);
void tt_fit_mean_free(struct tt_fit_mean *mean);

#endif
