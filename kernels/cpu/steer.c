/* The arithmetic of steering: h + sum over rows and directions of g * d, g from the h that came in. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

/* What direction k of the layer is multiplied with. at: the direction's index over all layers. */
static float factor(const struct tt_cpu_body *body, const struct tt_steer_slot *slot, size_t at, float c,
	const float *h, size_t hidden)
{
	if (slot->op == TT_OP_ADD)
		return c;
	const float *reader = (slot->op == TT_OP_AFFINE ? slot->readers : slot->directions) + at * hidden;
	float read = body->dot(h, reader, hidden);
	switch (slot->op) {
	case TT_OP_ABLATE:
		return -(c * read);
	case TT_OP_CLAMP:
		return c * (slot->targets[at] - read);
	case TT_OP_AFFINE:
		return c * (slot->targets[at] + read);
	case TT_OP_ONE_SIDED:
		return read > 0 ? -(c * read) : 0;
	default:
		return 0;
	}
}

void tt_cpu_steer(const struct tt_cpu_body *body, const struct tt_down_proj_args *args, uint32_t token, float *scratch)
{
	const struct tt_step *step = args->step;
	const uint16_t *rows = tt_step_coef_rows(step) + (size_t)token * TT_STACK, *slots = tt_step_row_slots(step);
	size_t hidden = args->config->hidden_size, n_layers = args->config->n_layers, l = args->layer_index;
	float *h = args->h + token * hidden, *norms = args->norms ? args->norms + (token * n_layers + l) * 2 : NULL;
	bool any = false, changed = false;
	for (int i = 0; i < TT_STACK; i++)
		any |= rows[i] != 0;
	if (norms)
		norms[0] = norms[1] = any ? sqrtf(body->dot(h, h, hidden)) : 0;
	for (int i = 0; i < TT_STACK && any; i++) {
		float c = rows[i] ? args->coef[rows[i] * n_layers + l] : 0;
		if (c == 0) /* a select: an added zero would turn -0.0 into +0.0 */
			continue;
		const struct tt_steer_slot *slot = &args->slots[slots[rows[i]]];
		if (!changed)
			memcpy(scratch, h, hidden * sizeof *h); /* what all rows read */
		changed = true;
		for (size_t k = 0; k < slot->n_directions; k++) {
			size_t at = l * slot->n_directions + k;
			float g = factor(body, slot, at, c, scratch, hidden);
			if (g != 0)
				body->axpy(g, slot->directions + at * hidden, h, hidden);
		}
	}
	if (norms && changed)
		norms[1] = sqrtf(body->dot(h, h, hidden));
}
