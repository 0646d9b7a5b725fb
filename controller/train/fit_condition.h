/* The gate of a fit as CAST has it (arXiv 2409.05907): a condition vector on one layer, and a similarity to it. */
#ifndef CONTROLLER_TRAIN_FIT_CONDITION_H
#define CONTROLLER_TRAIN_FIT_CONDITION_H

#include "controller/train/condition.h"
#include "controller/train/fit_gate.h"

/* Layers that are compared, at most: their states of all rows are in memory at once. */
enum { TT_N_CONDITION_LAYERS = 12 };

/* What a gate's `made` is. */
struct tt_fit_condition {
	struct tt_fit_features features; /* of the layers that were compared */
	bool *partner;                   // [features.n] benign rows, which harmful ones are paired with
	size_t *order;                   // [features.n] by file and line
	struct tt_condition conditions[TT_N_CONDITION_LAYERS];
	uint32_t chosen; /* of the layers */
	double precision, recall;
	double f1_unseen; /* where layer, threshold and side were chosen without the row's fold too */
};

/* Pairs the harmful and the benign rows in the order of the files, compares layers of the whole depth, thresholds and both sides by F1 on rows that the vector was made without; the
 * chosen layer's vector is then made of all rows, train and val. The gate is freed by tt_fit_gate_free, also after a
 * failure. */
int tt_fit_condition_make(struct tt_fit_gate *out, struct tt_engine *engine, const struct tt_fit_rows *rows,
	const struct tt_fit_options *options, struct tt_progress *progress, struct tt_error *err);

#endif
