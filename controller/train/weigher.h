/* A network that gives each prompt weights of the layers, and its training on weights that were found for some prompts.
 * These are few, so it is small, reads few components, and starts at the same weights for all of them. */
#ifndef CONTROLLER_TRAIN_WEIGHER_H
#define CONTROLLER_TRAIN_WEIGHER_H

#include "controller/numerics/mlp.h"

/* The coefficient of layer l is most[l] * sigmoid(output l). Over the rows that it was trained on, its mean is that of
 * the coefficients that were wanted, in every layer. */
struct tt_weigher {
	size_t n_layers;
	float *most;            // [n_layers] 0 for a layer that no row wants pushed
	struct tt_mlp *network; /* on the features as they are; an output for each layer */
};

/* coefficient [features->n][n_layers] is what is wanted of each row, 0 or more; weights of the rows are not looked at.
 * Deterministic. What the weigher holds is freed by tt_weigher_free, also after a failure. */
int tt_weigher_train(struct tt_weigher *out, const struct tt_rows *features, const float *coefficient, size_t n_layers,
	uint64_t seed, struct tt_error *err);
/* Replaces values [features->n][n_values] by what another such network learns of them by squared error: what chance is
 * in them goes, what the features tell of them stays. */
int tt_weigher_smooth(
	const struct tt_rows *features, double *values, size_t n_values, uint64_t seed, struct tt_error *err);
void tt_weigher_free(struct tt_weigher *weigher);

/* Fills coefficient [rows->n][n_layers] with what the weigher gives. */
int tt_weigher_run(
	const struct tt_weigher *weigher, const struct tt_rows *rows, float *coefficient, struct tt_error *err);

#endif
