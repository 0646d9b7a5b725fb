/* The arithmetic of steering. What an operation or a gate does is defined here and nowhere else; kernels/steer_slot.h
 * has the operands. */
#ifndef KERNELS_STEER_H
#define KERNELS_STEER_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/host_device.h"
#include "base/tt_enums.h"
#include "kernels/steer_slot.h"

enum {
	TT_MAX_DIRECTIONS = 64, /* at most in one layer of a policy */
	TT_MAX_TOGETHER = 2,    /* directions at most whose factors depend on each other's readings */
};

/* h' = op(h; D, c). Most operations have the form h + c * sum_k (a_k.h + b_k) d_k, over the layer's directions d_k:
 *   add        h + c * d; in its second form (keep) (h + c * d) * |h| / |h + c * d|, see tt_steer_ratio
 *   ablate     h - c * sum_k (h.d_k) d_k               d_k orthonormal
 *   clamp      h + c * sum_k (t_k - h.d_k) d_k         d_k orthonormal, t_k the target projection
 *   affine     h + c * sum_k (a_k.h + b_k) d_k         a_k = W_k - d_k: LoReFT's h + c * R^T(W h + b - R h), where R
 *                                                      has the rows d_k
 *   one_sided  h - c * (h.d) d                         if h.d > 0; otherwise h is left alone, as if c were 0
 *   rotate     h - P h + |P h| (cos u d_1 + sin u d_2) d_1 and d_2 orthonormal, P the projection on their plane; u is
 *              the angle of P h, counted from d_1 towards d_2, turned by the share c of the shortest way to the angle
 *              of the point (t_1, t_2). In its second form (adaptive) only if h.d_1 > 0
 * c == 0 leaves h untouched, bit for bit: this is a select, never a product, because adding a zero turns -0.0 into
 * +0.0. A factor of some d_k that comes out as 0 is treated in the same way.
 * If several rows steer one token, all of them read the same h, and their changes are added in the order of the
 * rows. */

/* The gates. x_c is the stream after the observed layers, at the last prompt token or its mean over the last user
 * message or both, as one vector (tt_gate_vectors); s is the gate's scalar.
 *   always  s = 1.
 *   probe   p = sigmoid(w.x_c + b); s = 1 if p > threshold, else 0.
 *   mlp     z = fc2 relu(fc1 x_c + b1) + b2; s = sigmoid(z[0]), or z[0] in its second form (none: not bounded). w[l] is
 *           multiplied by sigmoid(z[1 + l]). An s that is not finite steers nothing.
 *   cosine  w is one vector as wide as x_c; p = cos(x_c, tanh((w.x_c / w.w) w)), and 0 if either of
 *           the two is 0; s = 1 if p > threshold, or in its second form (below) if p < threshold, else 0.
 *   probe_mlp  z = fc2 relu(fc1 x_c + b1) + b2; p = sigmoid(w.x_c + b + z[0]); s = 1 if p > threshold, else 0. In its
 *           second form (learned) w[l] is multiplied by sigmoid(z[1 + l]); in its first (fixed) there is z[0] alone.
 *   rule    x_k is x_c with 0 where w_k, the row of condition k, is 0; p_k is cosine's p of these. Condition k holds if
 *           p_k > threshold_k, or if it is below, p_k < threshold_k; p is the sum of 2^k over those that hold; s = 1 if
 *           the rule's table opens there (tt_steer_rule), else 0. If a p_k is NaN, p is NaN and s = 0. */

/* The coefficient of a layer whose weight is w, when the gate's scalar is s. A weight of 0 steers nothing, whatever the
 * rest is. A coefficient of 0 is never -0.0, nor the NaN of infinity * 0. */
TT_HOST_DEVICE static inline float tt_steer_coefficient(float scale, float alpha, float s, float w)
{
	float c = scale * alpha * s * w;
	return s == 0 || w == 0 || c == 0 ? 0.0f : c;
}

/* Whether a gate with a threshold lets the policy steer. A NaN is on neither side of the threshold. */
TT_HOST_DEVICE static inline bool tt_steer_opens(bool below, float gate, float threshold)
{
	return below ? gate < threshold : gate > threshold;
}

/* cosine's p from x.v, v.v and x.x, where v = tanh((w.x / w.w) w). */
TT_HOST_DEVICE static inline double tt_steer_cosine(double xv, double vv, double xx)
{
	return vv == 0 || xx == 0 ? 0 : xv / (sqrt(vv) * sqrt(xx));
}

/* Whether the operation needs dot products with h before it can change h. */
TT_HOST_DEVICE static inline bool tt_steer_reads(uint32_t op)
{
	return op != TT_OP_ADD;
}

/* Whether kernels must hold a whole row of h for it. The epilogue of down_proj knows c, d and one element of h: it
 * takes h + c * d alone, and everything else needs a row, be it for a dot product, a target or a length. */
TT_HOST_DEVICE static inline bool tt_steer_whole_row(uint32_t op, uint32_t form)
{
	return op != TT_OP_ADD || form != 0;
}

/* Whether h + g * d is scaled to the length that h had. */
TT_HOST_DEVICE static inline bool tt_steer_keeps_length(uint32_t op, uint32_t form)
{
	return op == TT_OP_ADD && form != 0;
}

/* The factor that restores the length, from the squared lengths before and after the change. It is 1 if it would not be
 * finite, or if the length after is 0 or not finite. */
TT_HOST_DEVICE static inline float tt_steer_ratio(float before, float after)
{
	float ratio = sqrtf(before) / sqrtf(after);
	return after > 0 && isfinite(after) && isfinite(ratio) ? ratio : 1.0f;
}

/* How many of a layer's directions are handled together, because their factors depend on each other. */
TT_HOST_DEVICE static inline uint32_t tt_steer_together(uint32_t op)
{
	return op == TT_OP_ROTATE ? 2 : 1;
}

/* The readings that one direction d_k of a layer needs. */
struct tt_steer_read {
	float along;  /* a_k.h; a_k is d_k except for affine */
	float target; /* t_k or b_k; 0 if the operation has none */
};

/* The factors of rotate. (x, y) is P h in the plane. Only the angle of the target matters, so the target is scaled to a
 * size that cannot overflow. */
TT_HOST_DEVICE static inline void tt_steer_turn(bool adaptive, float c, const struct tt_steer_read *read, float *g)
{
	float x = read[0].along, y = read[1].along, larger = fmaxf(fabsf(read[0].target), fabsf(read[1].target));
	float to_x = read[0].target / larger, to_y = read[1].target / larger;
	float angle = c * atan2f(x * to_y - y * to_x, x * to_x + y * to_y); /* at most half a turn */
	float cosine = cosf(angle), sine = sinf(angle);
	bool turns = !adaptive || x > 0;
	g[0] = turns ? x * cosine - y * sine - x : 0.0f;
	g[1] = turns ? x * sine + y * cosine - y : 0.0f;
}

/* The factors g that directions handled together are multiplied with before they are added to h. c is not 0.
 * read and g: [together]. */
TT_HOST_DEVICE static inline void tt_steer_factors(
	uint32_t op, uint32_t form, float c, const struct tt_steer_read *read, float *g)
{
	switch (op) {
	case TT_OP_ADD:
		g[0] = c;
		break;
	case TT_OP_ABLATE:
		g[0] = -(c * read->along);
		break;
	case TT_OP_CLAMP:
		g[0] = c * (read->target - read->along);
		break;
	case TT_OP_AFFINE:
		g[0] = c * (read->target + read->along);
		break;
	case TT_OP_ONE_SIDED:
		g[0] = read->along > 0 ? -(c * read->along) : 0.0f;
		break;
	case TT_OP_ROTATE:
		tt_steer_turn(form != 0, c, read, g);
		break;
	default:
		g[0] = 0;
	}
}

#endif
