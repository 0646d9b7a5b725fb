/* q8 in plain C: the specification of the other bodies. A panel is one output. */
#include <math.h>

#include "kernels/cpu/groups_q8.inc"
#include "kernels/cpu/quantise_x.inc"

static size_t panel_bytes(size_t n_groups)
{
	return (n_groups * sizeof(struct weight_group) + 63) / 64 * 64;
}

static void pack(const struct tt_matrix *m, uint32_t first, uint32_t end, uint8_t *panel)
{
	const uint8_t *row = (const uint8_t *)m->data + first * tt_type_row_bytes(m->type, m->n_in);
	struct weight_group *groups = (void *)panel;
	(void)end;
	for (uint32_t g = 0; g < m->n_in / TT_Q8_GROUP; g++)
		open_weight_group(m->type, row, g, &groups[g]);
}

static int dot16(const int8_t *w, const int8_t *x)
{
	int sum = 0;
	for (int i = 0; i < TT_Q8_GROUP / 2; i++)
		sum += w[i] * x[i];
	return sum;
}

static void multiply(const struct tt_q8_product *p, const uint8_t *panels)
{
	size_t bytes = panel_bytes(p->x->n_groups);
	bool minimum = tt_q8_kind(p->matrix->type) == TT_Q8_MINIMUM;
	for (uint32_t r = 0; r < p->n_rows; r++) {
		struct tt_q8_row x = tt_q8_row(p->x, p->row + r);
		for (uint32_t c = 0; c < p->count; c++) {
			const struct weight_group *w = (const void *)(panels + c * bytes);
			float y = 0;
			for (uint32_t g = 0; g < p->x->n_groups; g++, w++) {
				const int8_t *q = x.q + g * TT_Q8_GROUP;
				int dot = w->scale[0] * dot16(w->q, q) + w->scale[1] * dot16(w->q + 16, q + 16);
				y = fmaf((float)dot, w->factor * x.factor[g], y);
				if (minimum)
					y = fmaf(w->offset, x.offset[g], y);
			}
			p->y[r * p->y_stride + c] = y;
		}
	}
}

const struct tt_q8_body *tt_q8_body_portable(void)
{
	static const struct tt_q8_body body = {.name = "portable",
		.panel = 1,
		.panel_bytes = panel_bytes,
		.quantise = quantise_x,
		.pack = pack,
		.multiply = multiply};
	return &body;
}
