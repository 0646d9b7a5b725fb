/* Applies steering to h: adds g * d for all rows and directions, where every g comes from the h that came in. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

/* The readings of `came`, the h that came in, for the policy's direction number `at`. */
static struct tt_steer_read read_direction(
	const struct tt_cpu_body *body, const struct tt_steer_slot *slot, size_t at, const float *came, size_t hidden)
{
	const float *readers = slot->readers ? slot->readers : slot->directions;
	struct tt_steer_read read = {0};
	if (tt_steer_reads(slot->op))
		read.along = body->dot(came, readers + at * hidden, hidden);
	if (slot->targets)
		read.target = slot->targets[at];
	return read;
}

/* Elements of a row that are worked on at a time, so that they fit on the stack. */
enum { CHUNK = 512 };

/* sum = came + c * d, for one chunk. */
static void add_chunk(const struct tt_cpu_body *body, float c, const float *d, const float *came, size_t n, float *sum)
{
	memcpy(sum, came, n * sizeof *sum);
	body->axpy(c, d, sum, n);
}

/* Adds (came + c * d) * ratio - came to h. If this is the only row, h is came, so subtracting came first leaves 0 and
 * the result is the product, rounded once. */
static void apply_keeping(
	const struct tt_cpu_body *body, float c, const float *d, const float *came, float *h, size_t hidden)
{
	float sum[CHUNK], after = 0;
	for (size_t at = 0; at < hidden; at += CHUNK) {
		size_t n = hidden - at < CHUNK ? hidden - at : CHUNK;
		add_chunk(body, c, d + at, came + at, n, sum);
		after += body->dot(sum, sum, n);
	}
	float ratio = tt_steer_ratio(body->dot(came, came, hidden), after);
	for (size_t at = 0; at < hidden; at += CHUNK) {
		size_t n = hidden - at < CHUNK ? hidden - at : CHUNK;
		add_chunk(body, c, d + at, came + at, n, sum);
		body->axpy(-1, came + at, h + at, n);
		body->axpy(ratio, sum, h + at, n);
	}
}

/* Applies one row of the plan: adds the layer's directions to h, with factors read from came. */
static void apply(const struct tt_cpu_body *body, const struct tt_steer_slot *slot, uint32_t layer, float c,
	const float *came, float *h, size_t hidden)
{
	size_t first = (size_t)layer * slot->n_directions;
	uint32_t together = tt_steer_together(slot->op);
	if (tt_steer_keeps_length(slot->op, slot->form)) {
		apply_keeping(body, c, slot->directions + first * hidden, came, h, hidden);
		return;
	}
	for (size_t at = first; at < first + slot->n_directions; at += together) {
		struct tt_steer_read read[TT_MAX_TOGETHER];
		float g[TT_MAX_TOGETHER] = {0};
		for (uint32_t i = 0; i < together; i++)
			read[i] = read_direction(body, slot, at + i, came, hidden);
		tt_steer_factors(slot->op, slot->form, c, read, g);
		for (uint32_t i = 0; i < together; i++)
			if (g[i] != 0)
				body->axpy(g[i], slot->directions + (at + i) * hidden, h, hidden);
	}
}

void tt_cpu_steer(const struct tt_cpu_body *body, const struct tt_down_proj_args *args, uint32_t token, float *scratch)
{
	const struct tt_step_plan *step = args->step;
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
			memcpy(scratch, h, hidden * sizeof *h); /* every row reads this copy */
		changed = true;
		apply(body, slot, (uint32_t)l, c, scratch, h, hidden);
	}
	if (norms && changed)
		norms[1] = sqrtf(body->dot(h, h, hidden));
}
