/* The controller of arXiv 2505.20309 as the gate of a fit: a network that reads h at the last prompt token after the
 * last layers, and gives s and a factor for each layer's weight (the gate mlp of kernels/steer.h, s not bounded). As
 * the paper describes it (TT_FIT_PAPER) or as its authors' code trains it (TT_FIT_RELEASED). */
#ifndef CONTROLLER_TRAIN_FIT_MLP_H
#define CONTROLLER_TRAIN_FIT_MLP_H

#include "controller/train/fit_gate.h"
#include "controller/numerics/mlp.h"

/* The first layer that the network reads; it reads all from there on. */
uint32_t tt_fit_mlp_first_layer(enum tt_fit_mode mode, uint32_t n_layers);

/* How the network is trained, on as many harmful rows (target 1) as benign ones (target 0), which follow them. */
void tt_fit_mlp_training(enum tt_fit_mode mode, uint64_t seed, struct tt_mlp_options *out);

/* Trains on train rows that are harmful or benign, as many of each, and measures on the val rows. A row is flagged
 * where s is above a half. The gate is graded, and freed by tt_fit_gate_free, also after a failure. */
int tt_fit_mlp_make(struct tt_fit_gate *out, struct tt_engine *engine, const struct tt_fit_rows *rows,
	const struct tt_fit_options *options, struct tt_activation_file *file, struct tt_progress *progress,
	struct tt_error *err);

/* What the gate's `made` is. */
struct tt_fit_mlp {
	enum tt_fit_mode mode;
	struct tt_mlp *network;
	size_t n_each, n_steps;         /* train rows of each label; steps of all epochs */
	double *losses;                 // [epochs] mean of the steps' losses
	double train_accuracy;          /* share of the train rows that are flagged as they are labelled */
	struct tt_fit_features val;     /* the val rows of all labels */
	double *s;                      // [val.n]
	double mean_s[TT_N_LABELS];     /* NAN without rows of the label */
	double auc;                     /* of s on the val rows */
	double least_w, mean_w, most_w; /* the factors of the layers' weights, over val rows and layers */
};

#endif
