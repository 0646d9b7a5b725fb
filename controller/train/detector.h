/* A detector of harmful prompts: a linear term and a network of two layers on the same features, added up. The two err
 * on different prompts: of 6,230 held-out rows on SmolLM2-135M the areas under the curve are 0.952 and 0.960 alone, and
 * 0.962 together. */
#ifndef CONTROLLER_TRAIN_DETECTOR_H
#define CONTROLLER_TRAIN_DETECTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "controller/numerics/mlp.h"
#include "runtime/trimtab.h"

/* The rows that it is trained on. A fold holds rows that are related to one another, so that what is measured on it is
 * measured on unseen prompts. */
struct tt_detector_rows {
	struct tt_rows features; /* with weights */
	const bool *harmful;     // [n]
	const uint8_t *fold;     // [n] below n_folds
	uint32_t n_folds;        /* 2 or more; without the rows of any one of them, both labels remain */
	size_t n_unrated;        /* the last rows, which train and do not count in what is said of the detector */
};

struct tt_detector_options {
	bool network; /* train the network too; else the linear term is the whole detector */
	uint64_t seed;
};

/* p = sigmoid(w.x + b + the network's output), x the features as they are. Held-out logits are of detectors that were
 * trained without the fold of the row. */
struct tt_detector {
	float *w; // [d]
	float b;
	struct tt_mlp *network; /* NULL: none */
	double penalty;         /* of the ridge regression, chosen in cross-validation */
	double *held;           // [n] logits
	/* Of held but the unrated rows, and of each term alone; network_auc is NAN without one. */
	double auc, linear_auc, network_auc;
};

/* Trains on the rows. Deterministic. What the detector holds is freed by tt_detector_free, also after a failure. */
int tt_detector_train(struct tt_detector *out, const struct tt_detector_rows *rows,
	const struct tt_detector_options *options, struct tt_error *err);
void tt_detector_free(struct tt_detector *detector);

#endif
