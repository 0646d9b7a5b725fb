/* Directions by response contrast. */
#ifndef CONTROLLER_TRAIN_FIT_DIRECTIONS_H
#define CONTROLLER_TRAIN_FIT_DIRECTIONS_H

#include "controller/train/fit_rows.h"
#include "runtime/engine/pump.h"

struct tt_fit_directions {
	uint32_t n_layers, hidden_size, n_pairs;
	float *rows;          // [n_layers][hidden_size] D
	double *stream_norms; // [n_layers] mean L2 norm of h over the response tokens
};

/* Makes them of the first n_prompts train rows of each label, or of as many as both labels have. */
int tt_fit_directions_make(struct tt_fit_directions *out, struct tt_engine *engine, const struct tt_fit_rows *rows,
	uint32_t n_prompts, struct tt_progress *progress, struct tt_error *err);
void tt_fit_directions_free(struct tt_fit_directions *directions);

#endif
