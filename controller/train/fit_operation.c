#include "controller/train/fit_operation.h"

#include <math.h>
#include <string.h>

static float *rows_of(const struct tt_policy *p, uint32_t layer)
{
	return p->directions + (size_t)layer * p->n_directions * p->hidden_size;
}

static double dot(const float *a, const float *b, size_t n)
{
	double sum = 0;
	for (size_t i = 0; i < n; i++)
		sum += (double)a[i] * (double)b[i];
	return sum;
}

/* add, and ablate, which takes out the part along the direction whichever way it points. */
static void fill_direction(
	const struct tt_fit_directions *d, uint32_t layer, double mix, double push, struct tt_policy *p)
{
	(void)push;
	tt_fit_direction(d, layer, mix, rows_of(p, layer));
}

/* one_sided takes a part out where it points along the row. That is to be the answering side, so the row is the
 * direction turned round; along the direction itself it would take out what refuses. */
static void fill_opposite(
	const struct tt_fit_directions *d, uint32_t layer, double mix, double push, struct tt_policy *p)
{
	float *row = rows_of(p, layer);
	(void)push;
	tt_fit_direction(d, layer, mix, row);
	for (uint32_t i = 0; i < p->hidden_size; i++)
		row[i] = -row[i];
}

/* The target is on the line through the two means' projections rather than a multiple of the refusing one: where that
 * lies below zero, a multiple above 1 would lead back to answering. */
static void fill_clamp(const struct tt_fit_directions *d, uint32_t layer, double mix, double push, struct tt_policy *p)
{
	size_t n = p->hidden_size;
	float *row = rows_of(p, layer);
	tt_fit_direction(d, layer, mix, row);
	double length = sqrt(dot(row, row, n)), answering = dot(d->mean_answering + layer * n, row, n) / length,
	       refusing = dot(d->mean_refusing + layer * n, row, n) / length;
	p->targets[layer] = (float)(answering + push * (refusing - answering));
}

/* The plane of the direction and of the means' middle. Most of a stream is common to all states, so this plane holds
 * most of it, and an angle in it says how the direction compares with the rest, as the angle does that angular steering
 * (arXiv 2510.26243) turns after a norm. In the plane of the direction and a second component the part that is turned
 * would be small, and its angle noise. Past the direction itself nothing is turned. */
static void fill_rotate(const struct tt_fit_directions *d, uint32_t layer, double mix, double push, struct tt_policy *p)
{
	size_t n = p->hidden_size;
	float *row = rows_of(p, layer), *middle = row + n, *target = p->targets + (size_t)layer * 2;
	const float *means[] = {d->mean_answering + layer * n, d->mean_refusing + layer * n};
	double angles[2];
	tt_fit_direction(d, layer, mix, row);
	for (size_t i = 0; i < n; i++)
		middle[i] = (float)(((double)means[0][i] + (double)means[1][i]) / 2);
	double length = sqrt(dot(row, row, n)), along = dot(middle, row, n) / length,
	       across = sqrt(fmax(dot(middle, middle, n) - along * along, 0));
	for (int k = 0; k < 2; k++) {
		double x = dot(means[k], row, n) / length, y = (dot(means[k], middle, n) - along * x) / across;
		angles[k] = atan2(y, x);
	}
	double angle = fmax(angles[0] + push * (angles[1] - angles[0]), 0);
	target[0] = (float)cos(angle);
	target[1] = (float)sin(angle);
}

static void fill_affine(const struct tt_fit_directions *d, uint32_t layer, double mix, double push, struct tt_policy *p)
{
	size_t first = (size_t)layer * d->maps.rank, n = d->maps.rank * (size_t)d->hidden_size;
	(void)mix;
	(void)push;
	memcpy(rows_of(p, layer), d->maps.rows + first * d->hidden_size, n * sizeof(float));
	memcpy(p->affine + first * d->hidden_size, d->maps.readers + first * d->hidden_size, n * sizeof(float));
	memcpy(p->targets + first, d->maps.offsets + first, d->maps.rank * sizeof(float));
}

static const struct tt_fit_operation operations[] = {
	[TT_OP_ADD] = {TT_FIT_LENGTH, 1, fill_direction},
	[TT_OP_ABLATE] = {TT_FIT_SHARE, 1, fill_direction},
	[TT_OP_CLAMP] = {TT_FIT_WAY, 1, fill_clamp},
	[TT_OP_AFFINE] = {TT_FIT_COEFFICIENT, 0, fill_affine},
	[TT_OP_ONE_SIDED] = {TT_FIT_SHARE, 1, fill_opposite},
	[TT_OP_ROTATE] = {TT_FIT_WAY, 2, fill_rotate},
};

const struct tt_fit_operation *tt_fit_operation_of(enum tt_policy_op op)
{
	return (size_t)op < sizeof operations / sizeof *operations && operations[op].fill ? &operations[op] : NULL;
}
