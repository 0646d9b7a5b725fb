/* The operations that a fit makes policies of, and what a candidate's push means for each. */
#ifndef CONTROLLER_TRAIN_FIT_OPERATION_H
#define CONTROLLER_TRAIN_FIT_OPERATION_H

#include "controller/policy/policy.h"
#include "controller/train/fit_directions.h"

enum tt_fit_strength {
	TT_FIT_LENGTH,      /* the length of the whole push, as a multiple of tt_push_unit */
	TT_FIT_SHARE,       /* the coefficient, at most 1: the share of a part of the stream that is taken out */
	TT_FIT_COEFFICIENT, /* the coefficient */
	TT_FIT_WAY, /* where the target lies on the way from the mean answering state, at 0, to the mean refusing
	                * one, at 1; the coefficient is 1 */
};

struct tt_fit_operation {
	enum tt_fit_strength strength;
	uint32_t n_rows; /* directions a layer; 0: as many as the maps' rank */
	/* Fills a layer of a policy, along D + mix * E. */
	void (*fill)(const struct tt_fit_directions *directions, uint32_t layer, double mix, double push,
		struct tt_policy *policy);
};

/* The row of an operation; NULL for one that no fit makes. */
const struct tt_fit_operation *tt_fit_operation_of(enum tt_policy_op op);

#endif
