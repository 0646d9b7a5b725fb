/* A policy as the kernels see it, and the arithmetic of steering: the only definition of what an operation does. */
#ifndef KERNELS_STEER_H
#define KERNELS_STEER_H

#include <stdint.h>

/* h' = op(h; D, c), all of the form h + sum_k g_k d_k over the layer's directions d_k:
 *   add     h + c * d
 *   ablate  h - c * sum_k (h.d_k) d_k                 d_k orthonormal
 *   clamp   h + c * sum_k (t_k - h.d_k) d_k           d_k orthonormal, t_k the target projection
 * c == 0 leaves h untouched, bit for bit: it is a select, never a product (an added zero turns -0.0 into +0.0).
 * With several rows on one token all read the same h, and their changes are added in the order of the rows. */
enum tt_steer_op { TT_STEER_ADD, TT_STEER_ABLATE, TT_STEER_CLAMP };

/* always: s = 1. probe: p = sigmoid(w.x_c + b), s = 1 where p > threshold, else 0. */
enum tt_gate { TT_GATE_ALWAYS, TT_GATE_PROBE };

/* One loaded policy, in the backend's memory. */
struct tt_steer_slot {
	enum tt_steer_op op;
	uint32_t n_directions;   /* rows a layer; 1 for add */
	const float *directions; // [n_layers][n_directions][hidden]
	const float *targets;    // [n_layers][n_directions], clamp only
	const float *weights;    // [n_layers] w: 0 where the policy does nothing
	float alpha;             /* coefficients are scale * alpha * s * w[l] */
	enum tt_gate gate;
	uint32_t n_observed;
	const uint32_t *observed; // [n_observed] layers, ascending
	const float *gate_weight; // [n_observed * hidden], in the order of observed
	float gate_bias, threshold;
};

#endif
