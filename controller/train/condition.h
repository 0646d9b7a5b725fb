/* Conditions of CAST (arXiv 2409.05907): a condition vector, and the similarity at which it tells rows of one kind from
 * others. */
#ifndef CONTROLLER_TRAIN_CONDITION_H
#define CONTROLLER_TRAIN_CONDITION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/tt_error.h"

/* The rows of one layer. A fold holds rows that are related to one another, as in struct tt_detector_rows. */
struct tt_condition_rows {
	const float *x;       // [n][d]
	const bool *positive; // [n]
	const bool *partner;  // [n] rows that are not positive and are paired with those that are
	const size_t *order;  // [n] a permutation: the rows in the order of their pairs
	const uint8_t *fold;  // [n] below n_folds
	size_t n, d;
	uint32_t n_folds; /* without the rows of any one of them, pairs remain */
};

/* Where a condition holds: at similarities above the threshold, or below it. */
struct tt_condition_point {
	float threshold;
	bool below;
	double f1; /* of what it flags as positive */
};

struct tt_condition {
	float *w;                        // [d] a unit vector, made of all rows
	float *held;                     // [n] the similarity of each row to the vector of the rows of other folds
	double auc;                      /* of held, the larger being positive */
	struct tt_condition_point point; /* the best on held */
};

/* The k-th positive row and the k-th partner, in the order given, are a pair, as far as both kinds reach. Twins, which
 * differ in little but the condition, make far better vectors than rows by chance: on 168 prompts of SmolLM2-135M the
 * best F1 of any layer was 0.85, and 0.66 with the rows shuffled. TT_ERR_ARGUMENT if the pairs do not differ, or if all
 * rows of held are equal. What it holds is freed by tt_condition_free, also after a failure. */
int tt_condition_fit(struct tt_condition *out, const struct tt_condition_rows *rows, struct tt_error *err);
void tt_condition_free(struct tt_condition *condition);

/* What the gate `cosine` compares (kernels/steer.h): the cosine of x [d] and its projection on w [d] under tanh. */
float tt_condition_similarity(const float *w, const float *x, size_t d);

/* The point of the best F1, half way between two similarities [n], so that rows lie on both sides; of equals the first
 * by threshold, above before below. Rows whose fold is `without` are not looked at (n_folds: all are). f1 is -1 if
 * there is no such point. */
int tt_condition_best(struct tt_condition_point *out, const float *similarity, const struct tt_condition_rows *rows,
	uint32_t without, struct tt_error *err);

bool tt_condition_holds(const struct tt_condition_point *point, float similarity);

#endif
