/* The arithmetic of steering: the only definition of what an operation or a gate does. kernels/steer_slot.h has its operands. */
#ifndef KERNELS_STEER_H
#define KERNELS_STEER_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/host_device.h"
#include "base/tt_enums.h"
#include "kernels/steer_slot.h"

enum {
	TT_MAX_DIRECTIONS = 64, /* rows of one layer of a policy */
	TT_MAX_TOGETHER = 2,    /* directions whose factors follow from one another's readings */
};

/* h' = op(h; D, c), most of the form h + c * sum_k (a_k.h + b_k) d_k over the layer's directions d_k:
 *   add        h + c * d; in its second form (keep) (h + c * d) * |h| / |h + c * d|, see tt_steer_ratio
 *   ablate     h - c * sum_k (h.d_k) d_k               d_k orthonormal
 *   clamp      h + c * sum_k (t_k - h.d_k) d_k         d_k orthonormal, t_k the target projection
 *   affine     h + c * sum_k (a_k.h + b_k) d_k         a_k = W_k - d_k: LoReFT's h + c * R^T(W h + b - R h), R of rows d_k
 *   one_sided  h - c * (h.d) d                         where h.d > 0; elsewhere h is left alone as where c is 0
 *   rotate     h - P h + |P h| (cos u d_1 + sin u d_2) P the projection on the plane of d_1 and d_2 (orthonormal), u the angle
 *              of P h from d_1 towards d_2, turned by the share c of the shortest way to the angle of the point (t_1, t_2).
 *              In its second form (adaptive) only where h.d_1 > 0
 * c == 0 leaves h untouched, bit for bit: it is a select, never a product (an added zero turns -0.0 into +0.0). So is a
 * factor of some d_k that comes out as 0.
 * With several rows on one token all read the same h, and their changes are added in the order of the rows. */

/* always: s = 1.
 * probe: p = sigmoid(w.x_c + b), s = 1 where p > threshold, else 0.
 * mlp: z = fc2 relu(fc1 x_c + b1) + b2; s = sigmoid(z[0]), or z[0] where it is not bounded; w[l] is multiplied by
 * sigmoid(z[1 + l]). An s that is not finite steers nothing.
 * cosine: x_c and w are each one vector over all observed layers; p = cos(x_c, tanh((w.x_c / w.w) w)), 0 where either is 0;
 * s = 1 where p > threshold, in its second form (below) where p < threshold, else 0. */

/* The coefficient of a layer whose weight is w, under a gate that said s. A weight of 0 steers nothing whatever the rest is,
 * and a coefficient of 0 is never -0.0, nor the NaN of infinity * 0. */
TT_HOST_DEVICE static inline float tt_steer_coefficient(float scale, float alpha, float s, float w)
{
	float c = scale * alpha * s * w;
	return s == 0 || w == 0 || c == 0 ? 0.0f : c;
}

/* Of the gates that hold what they read against a threshold. A NaN is on neither side. */
TT_HOST_DEVICE static inline bool tt_steer_opens(bool below, float gate, float threshold)
{
	return below ? gate < threshold : gate > threshold;
}

/* cosine's p, of v = tanh((w.x / w.w) w): x.v, v.v and x.x. */
TT_HOST_DEVICE static inline double tt_steer_cosine(double xv, double vv, double xx)
{
	return vv == 0 || xx == 0 ? 0 : xv / (sqrt(vv) * sqrt(xx));
}

/* Whether the operation takes dots of h before it can change it. */
TT_HOST_DEVICE static inline bool tt_steer_reads(uint32_t op)
{
	return op != TT_OP_ADD;
}

/* Whether a number of h' follows from more of h than that number, so that kernels need a whole row. */
TT_HOST_DEVICE static inline bool tt_steer_whole_row(uint32_t op, uint32_t form)
{
	return tt_steer_reads(op) || form != 0;
}

/* Whether h + g * d gets the length of h back. */
TT_HOST_DEVICE static inline bool tt_steer_keeps_length(uint32_t op, uint32_t form)
{
	return op == TT_OP_ADD && form != 0;
}

/* What gives it back, of the squared lengths before and after; 1 where there is no length to be had. */
TT_HOST_DEVICE static inline float tt_steer_ratio(float before, float after)
{
	float ratio = sqrtf(before) / sqrtf(after);
	return after > 0 && isfinite(after) && isfinite(ratio) ? ratio : 1.0f;
}

/* How many of a layer's directions are taken together. */
TT_HOST_DEVICE static inline uint32_t tt_steer_together(uint32_t op)
{
	return op == TT_OP_ROTATE ? 2 : 1;
}

/* What is read of h for one direction d_k of a layer. */
struct tt_steer_read {
	float along;  /* a_k.h, where a_k is d_k but for affine */
	float target; /* t_k or b_k; 0 where the operation has none */
};

/* Of rotate. (x, y) is P h in the plane; the target counts by its angle alone, so that it is scaled where it cannot overflow. */
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

/* What each of the directions taken together is multiplied with, from a coefficient c that is not 0. read and g: [together]. */
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
