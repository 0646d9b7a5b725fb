/* The gate of a fit: a detector that is trained on the prompts, and the threshold at which it opens. */
#ifndef CONTROLLER_TRAIN_FIT_DETECTOR_H
#define CONTROLLER_TRAIN_FIT_DETECTOR_H

#include "controller/train/detector.h"
#include "controller/train/fit_gate.h"

/* One point of the curve that the threshold was chosen from: what is flagged of the held-out rows above a logit. */
struct tt_fit_point {
	double logit;
	double benign;               /* share, in which each source counts as much as in training */
	double flagged[TT_N_LABELS]; /* shares of the rows */
};

enum { TT_N_POINTS = 10 };

/* What a gate's `made` is. */
struct tt_fit_detector {
	struct tt_fit_features features;
	struct tt_detector detector;
	struct tt_fit_point curve[TT_N_POINTS];
	json_t *curves; /* by file, as tt_curves_report gives them */
};

/* Trains on all rows, train and val, in the template and as plain text, and measures those in the template in
 * cross-validation. The threshold is the lowest at which at most max_false_positives of the benign rows are flagged
 * (sources weighted) and at most max_borderline_positives of the borderline ones. file: see struct
 * tt_fit_features_spec. The gate is freed by tt_fit_gate_free, also after a failure. */
int tt_fit_detector_make(struct tt_fit_gate *out, struct tt_engine *engine, const struct tt_fit_rows *rows,
	const struct tt_fit_options *options, struct tt_activation_file *file, struct tt_progress *progress,
	struct tt_error *err);

/* What a detector reads, and what it is made of. */
struct tt_fit_detector_form {
	const uint32_t *layers; // [n_layers] ascending
	uint32_t n_layers;
	enum tt_gate_pool pool;
	bool network; /* beside the linear term, where there are rows enough */
};
/* The same of a given form. */
int tt_fit_detector_make_as(struct tt_fit_gate *out, struct tt_engine *engine, const struct tt_fit_rows *rows,
	const struct tt_fit_detector_form *form, const struct tt_fit_options *options, struct tt_activation_file *file,
	struct tt_progress *progress, struct tt_error *err);
/* Its training alone, on features with folds and weights. */
int tt_fit_detector_train(struct tt_detector *out, const struct tt_fit_features *features, bool network, uint64_t seed,
	struct tt_error *err);

/* The detector that a gate is, or NULL if it is another kind of gate. */
const struct tt_fit_detector *tt_fit_detector_of(const struct tt_fit_gate *gate);
/* Gives a policy the detector as its gate with another network in the place of its own: NULL, one of one output, or one
 * of 1 + n_layers outputs, the sigmoids of whose others multiply the layers' weights. */
int tt_fit_detector_fill(const struct tt_fit_detector *detector, const struct tt_mlp *network, float threshold,
	struct tt_policy *policy, struct tt_error *err);

/* The threshold by held-out logits [features->n] of the rows that were not reviewed and are not plain, as a logit. */
int tt_fit_threshold(const struct tt_fit_features *features, const double *held, double max_false_positives,
	double max_borderline_positives, double *logit, struct tt_error *err);
/* A policy's threshold as a logit. */
double tt_fit_logit(float threshold);

#endif
