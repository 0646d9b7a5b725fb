/* Models without a file, for timing: a known model's dimensions, and noise for weights. A kernel's speed depends on the
 * shapes, and a GPU's clocks on how many bits flip, so the weights are random and never zero. */
#ifndef WEIGHTS_DUMMY_H
#define WEIGHTS_DUMMY_H

#include <stdbool.h>

#include "base/host_device.h"
#include "weights/model.h"

#define TT_DUMMY_PREFIX "dummy:"

/* Fills an empty model: llama-3.1-70b, llama-3.1-8b, llama-3.2-1b, smollm2-135m or tiny (for tests). Its vectors are
 * filled; its matrices have no data, which a backend's load makes from tt_dummy_weight. TT_ERR_ARGUMENT, with a list of
 * the names, for any other name. */
int tt_model_open_dummy(struct tt_model *model, const char *name, struct tt_error *err);

/* Gives a dummy model's matrices data in host memory, as bf16; does nothing for another model. TT_ERR_MEMORY. */
int tt_model_fill_dummy(struct tt_model *model, struct tt_error *err);

/* Weight i of a matrix, before it is rounded to bf16: uniform with a variance of 1 / n_in, so that h keeps its size
 * through a layer; half is tt_dummy_half(n_in). Matrices of one shape are equal. A GPU computes the same bits: each
 * step is exact but the last product. */
TT_HOST_DEVICE static inline float tt_dummy_weight(uint64_t i, float half)
{
	uint64_t x = (i + 1) * 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 32) * 0xd6e8feb86659fd93u;
	return ((float)(int32_t)(x >> 40) * 0x1p-23f - 1.0f) * half;
}

/* Half the width of the range of tt_dummy_weight: sqrt(3 / n_in), so that the variance is 1 / n_in. */
float tt_dummy_half(uint32_t n_in);

#endif
