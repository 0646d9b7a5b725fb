/* The gate of a fit as CAST has it (arXiv 2409.05907): a condition vector on one layer, and a similarity to it; or
 * several conditions, each on a layer of its own, that a rule joins. */
#ifndef CONTROLLER_TRAIN_FIT_CONDITION_H
#define CONTROLLER_TRAIN_FIT_CONDITION_H

#include "controller/policy/rule.h"
#include "controller/train/condition.h"
#include "controller/train/fit_gate.h"

/* Layers that are compared, at most: their states of all rows are in memory at once. */
enum { TT_N_CONDITION_LAYERS = 12 };

/* What tells the rows of a name (a label, a source or a kind) from all others. The arrays [n] are of the features. */
struct tt_fit_condition {
	bool *positive,
		*partner; // [n] the rows of the name; those that they are paired with: benign ones, if others are
	struct tt_condition layers[TT_N_CONDITION_LAYERS];
	uint32_t chosen; /* of the layers */
	bool *holds,
		*unseen; // [n] held out; and where layer, threshold and side were chosen without the row's fold too
};

/* How well flags find the rows of a kind. */
struct tt_fit_found {
	double precision, recall, f1;
};

/* What a gate's `made` is. */
struct tt_fit_conditions {
	struct tt_fit_features features; /* of the layers that were compared */
	size_t *order;                   // [features.n] by file and line
	bool *opens, *unseen;            // [features.n] what the rule makes of the conditions' holds and unseen
	struct tt_rule rule;             /* of one condition, harmful, if none was asked for */
	bool asked;                      /* it was, so that the gate is one with a rule */
	struct tt_fit_condition conditions[TT_MAX_CONDITIONS];
	struct tt_fit_found found, found_unseen; /* harmful rows, by opens and unseen */
};

/* Of each condition pairs the rows in the order of the files, and compares layers of the whole depth, thresholds and
 * both sides by F1 on rows that the vector was made without; the chosen layer's vector is then made of all rows, train
 * and val. The gate is freed by tt_fit_gate_free, also after a failure. */
int tt_fit_condition_make(struct tt_fit_gate *out, struct tt_engine *engine, const struct tt_fit_rows *rows,
	const struct tt_fit_options *options, struct tt_activation_file *file, struct tt_progress *progress,
	struct tt_error *err);

#endif
