/* Weights of eight bits as Hugging Face files have them: a tensor NAME of F8_E4M3 [n_out][n_in], and its scales in
 * NAME_scale_inv (transformers' "fp8") or in NAME_scale (compressed-tensors, fbgemm_fp8 and others). By either name a
 * weight is its number times its scale. There is one scale for all rows, for each row, or for each 128 of them; and one
 * for all columns or for each 128 of them. They become blocks of TT_TYPE_F8_E4M3. */
#ifndef WEIGHTS_FP8_H
#define WEIGHTS_FP8_H

#include "weights/tensors.h"

/* The scales of a tensor of TT_TENSOR_F8_E4M3. Their number type and shape are checked. */
int tt_fp8_find_scales(
	struct tt_tensor **out, const struct tt_tensors *all, const struct tt_tensor *weight, struct tt_error *err);

/* out: the weight's rows as blocks, tt_type_row_bytes(TT_TYPE_F8_E4M3, n_in) each; n_in is a multiple of 32, else that
 * is refused. Refused too: numbers and scales that are NaN, and scales that the type does not admit. */
int tt_fp8_blocks(uint8_t *out, const struct tt_tensor *weight, const struct tt_tensor *scales, struct tt_error *err);

/* Whether the scales of a tensor of this name may have that name. */
bool tt_fp8_are_scales(const char *name, const char *weight);

/* Whether a tensor says how activations or keys and values would be rounded to eight bits, which is not done here. */
bool tt_fp8_of_activations(const char *name);

#endif
