/* A policy as the kernels see it, and the arithmetic of steering: the only definition of what an operation does. */
#ifndef KERNELS_STEER_H
#define KERNELS_STEER_H

#include <stdint.h>

#include "base/tt_enums.h"

/* h' = op(h; D, c), all of the form h + c * sum_k (a_k.h + b_k) d_k over the layer's directions d_k:
 *   add        h + c * d
 *   ablate     h - c * sum_k (h.d_k) d_k               d_k orthonormal
 *   clamp      h + c * sum_k (t_k - h.d_k) d_k         d_k orthonormal, t_k the target projection
 *   affine     h + c * sum_k (a_k.h + b_k) d_k         a_k = W_k - d_k: LoReFT's h + c * R^T(W h + b - R h), R of rows d_k
 *   one_sided  h - c * (h.d) d                         where h.d > 0; elsewhere h is left alone as where c is 0
 * c == 0 leaves h untouched, bit for bit: it is a select, never a product (an added zero turns -0.0 into +0.0). So is a
 * factor of some d_k that comes out as 0.
 * With several rows on one token all read the same h, and their changes are added in the order of the rows. */

/* always: s = 1.
 * probe: p = sigmoid(w.x_c + b), s = 1 where p > threshold, else 0.
 * mlp: z = fc2 relu(fc1 x_c + b1) + b2; s = sigmoid(z[0]), or z[0] where it is not bounded; w[l] is multiplied by
 * sigmoid(z[1 + l]). An s that is not finite steers nothing. */
/* One loaded policy, in the backend's memory. */
struct tt_steer_slot {
	enum tt_policy_op op;
	uint32_t form;           /* of the operation: 0 is its default */
	uint32_t n_directions;   /* rows a layer; 1 for add and one_sided */
	const float *directions; // [n_layers][n_directions][hidden]
	const float *readers;    // [n_layers][n_directions][hidden] a_k, affine only
	const float *targets;    // [n_layers][n_directions] t_k of clamp, b_k of affine
	const float *weights;    // [n_layers] w: 0 where the policy does nothing
	float alpha;             /* coefficients are scale * alpha * s * w[l] */
	enum tt_policy_gate gate;
	uint32_t gate_form; /* mlp: 1 where s is fc2's output itself, as in the paper */
	uint32_t n_observed;
	const uint32_t *observed; // [n_observed] layers, ascending
	const float *gate_weight; // [n_observed * hidden], in the order of observed
	float gate_bias, threshold;
	uint32_t n_units;        /* of an mlp; x_c is in the order of observed */
	const float *fc1_weight; // [n_units][n_observed * hidden]
	const float *fc1_bias;   // [n_units]
	const float *fc2_weight; // [1 + n_layers][n_units]
	const float *fc2_bias;   // [1 + n_layers]
};

#endif
