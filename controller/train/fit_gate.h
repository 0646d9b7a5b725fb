/* A trained gate as the search and the report see it: what it decides of the validation rows, how good it is, and how a
 * policy gets it. What kind of gate it is only its maker knows. */
#ifndef CONTROLLER_TRAIN_FIT_GATE_H
#define CONTROLLER_TRAIN_FIT_GATE_H

#include <jansson.h>

#include "controller/policy/policy.h"
#include "controller/train/fit_features.h"

struct tt_fit_gate {
	char *observe; /* the layers that it reads: "15" or "12,16,20"; "" if it reads none */
	float threshold;
	/* On rows that it was not trained on, at the threshold: how many there are of each label, the share of them
	 * that is flagged, and the share of right decisions, the mean over harmful rows and others. */
	size_t n_held[TT_N_LABELS];
	double flagged[TT_N_LABELS], balanced;
	bool *flags[TT_N_LABELS]; // [n val rows] whether it flags the row
	/* The activations that it was trained on (sha256 of struct tt_fit_features), of how many rows, and how many of
	 * these the model ran. n_rows is 0 for a gate that was trained on none. */
	char activations[65];
	size_t n_rows, n_run;
	size_t n_texts;    /* rows labelled text that it was trained on */
	size_t n_too_long; /* texts that it was not trained on, since they do not fit the context */
	/* Its scalar is any number, so it acts on every prompt, whether it flags it or not: candidates are judged with
	 * this gate, and not with an open one. */
	bool graded;
	/* The mean of the factors by which it multiplies the layers' weights, by the length of the push that they are
	 * of: a push is as much longer, so that its length is the candidate's in the mean. 0: it is not made up for. */
	double mean_weight;
	void *made; /* what its maker made, for the functions below, which the maker sets */
	/* Gives a policy this gate. */
	int (*fill)(const struct tt_fit_gate *gate, struct tt_policy *policy, struct tt_error *err);
	/* The gate's part of the report, a new reference; NULL if memory ran out. */
	json_t *(*report)(const struct tt_fit_gate *gate);
	void (*free_made)(void *made);
};

/* Fills activations, n_rows, n_run and n_texts. */
void tt_fit_gate_trained_on(struct tt_fit_gate *gate, const struct tt_fit_features *features);

/* Fills what the gate decides, from features whose last rows but the plain ones are the val rows, and the scores [n] of
 * these rows, which are flagged above cut. */
int tt_fit_gate_rate(struct tt_fit_gate *gate, const struct tt_fit_features *features, const struct tt_fit_rows *rows,
	const double *scores, double cut, struct tt_error *err);

/* Makes a gate that reads nothing and is always open. */
int tt_fit_gate_always(struct tt_fit_gate *out, const struct tt_fit_rows *rows, struct tt_error *err);

/* The share of the rows of a label, plain ones aside, whose score is above cut; 0 if there are none. */
double tt_fit_share_above(
	const struct tt_fit_features *features, const double *scores, enum tt_label label, double cut);

void tt_fit_gate_free(struct tt_fit_gate *gate);

#endif
