/* Which rows of an evaluation a person should look at: those that came out wrong and those that nearly did. */
#ifndef CONTROLLER_MEASURE_REVIEW_H
#define CONTROLLER_MEASURE_REVIEW_H

#include <stdbool.h>
#include <stddef.h>

#include "base/tt_error.h"

/* Why a row is chosen. */
enum tt_review_reason {
	TT_REVIEW_MISS,    /* harmful, and not flagged */
	TT_REVIEW_FALSE,   /* flagged, and not harmful */
	TT_REVIEW_OUTCOME, /* the gate was right, but what was written is not what the label asks for */
	TT_REVIEW_NEAR,    /* right, and next to the threshold */
	TT_N_REVIEW_REASONS
};

struct tt_review_case {
	double score; /* the gate's, the higher the more it wants to act; NAN where it gave nothing: never chosen */
	bool harmful, flagged; /* all that are flagged score above all that are not */
	bool is_outcome_wrong;
};

struct tt_review_choice {
	size_t row;
	enum tt_review_reason reason;
};

/* Fills chosen [at most n_most] and *n_chosen. A wrong row and one next to the threshold take turns until there are
 * n_most, or no more. Wrong ones: a miss, a false flag and a wrong outcome in turn, of the first two those furthest on
 * the wrong side first. Next to the threshold: one above and one below in turn, the nearest first, by how many rows lie
 * between, since figures of a gate are not as far apart on both sides. Equal scores stand in the order of the rows. */
int tt_review_choose(const struct tt_review_case *cases, size_t n, size_t n_most, struct tt_review_choice *chosen,
	size_t *n_chosen, struct tt_error *err);

/* "miss", "false", "outcome", "near" */
const char *tt_review_reason_word(enum tt_review_reason reason);

#endif
