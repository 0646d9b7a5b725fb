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
	/* On rows that it was not trained on, at the threshold: how many there are of each label, the share of them
	 * that is flagged, and the share of right decisions and the mean log loss, both means over harmful rows and
	 * others. */
	size_t n_held[TT_N_LABELS];
	double flagged[TT_N_LABELS], balanced, loss;
	bool *flags[TT_N_LABELS]; // [n val rows] whether it flags the row
	const void *detector;     /* its maker's */
	/* Gives a policy this gate. */
	int (*fill)(const void *detector, struct tt_policy *policy, struct tt_error *err);
};

#endif
