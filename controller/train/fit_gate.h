/* A trained gate as the search and the report see it: what it decides of the validation rows, how good it is, and how a
 * policy gets it. What kind of detector it is only its maker knows. */
#ifndef CONTROLLER_TRAIN_FIT_GATE_H
#define CONTROLLER_TRAIN_FIT_GATE_H

#include "controller/measure/prompts.h"
#include "controller/policy/policy.h"

struct tt_fit_gate {
	char *observe;        /* the layers that it reads: "15" or "12,16,20" */
	uint32_t known_after; /* the last of them */
	float threshold;
	/* On rows that it was not trained on, at the threshold: the share of each label that is flagged, the share of
	 * right decisions (mean of both labels), and the mean log loss, which ranks gates whose decisions are equally
	 * good. */
	double flagged[TT_N_LABELS], balanced, loss;
	bool *flags[TT_N_LABELS]; // [n val rows] whether it flags the row
	const void *detector;     /* its maker's */
	/* Gives a policy this gate. */
	int (*fill)(const void *detector, struct tt_policy *policy, struct tt_error *err);
};

struct tt_fit_gates {
	struct tt_fit_gate *gates; // [n]
	uint32_t n;
	size_t n_held[TT_N_LABELS]; /* the rows of each label that the figures were measured on */
};

/* The best gate for a policy whose first steered layer is `first` and that steers the tokens of `when`. */
const struct tt_fit_gate *tt_fit_choose_gate(
	const struct tt_fit_gates *gates, uint32_t first, enum tt_policy_when when);

void tt_fit_gates_free(struct tt_fit_gates *gates);

#endif
