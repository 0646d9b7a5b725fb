#include "controller/train/fit_candidate.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fail.h"

/* The band that a unit of push is defined by. */
static const double unit_band_start = 0.27, unit_band_width = 0.2;

double tt_push_length(const struct tt_fit_directions *directions, const float *weights)
{
	double length = 0;
	for (uint32_t l = 0; l < directions->n_layers; l++)
		length += (double)weights[l] * directions->norms[l];
	return length;
}

double tt_push_unit(const struct tt_fit_directions *directions)
{
	uint32_t n = directions->n_layers, first = (uint32_t)lround(unit_band_start * n);
	uint32_t width = (uint32_t)lround(unit_band_width * n);
	double sum = 0;
	width = width < 1 ? 1 : width;
	for (uint32_t l = first; l < first + width; l++)
		sum += directions->norms[l];
	return sum / width;
}

int tt_candidate_aim(struct tt_candidate *c, const struct tt_fit_directions *directions, const float *weights,
	double mix, double push, struct tt_error *err)
{
	float largest = 0;
	for (uint32_t l = 0; l < directions->n_layers; l++)
		largest = weights[l] > largest ? weights[l] : largest;
	TT_TRY(tt_alloc(&c->weights, directions->n_layers, sizeof *c->weights, err));
	c->first = directions->n_layers;
	for (uint32_t l = 0; l < directions->n_layers; l++) {
		c->weights[l] = largest > 0 ? weights[l] / largest : 0;
		if (c->weights[l] == 0)
			continue;
		c->first = l < c->first ? l : c->first;
		c->last = l;
	}
	c->mix = mix;
	c->push = push;
	switch (tt_fit_operation_of(c->op)->strength) {
	case TT_FIT_LENGTH:
		c->alpha = (float)(push * tt_push_unit(directions) / tt_push_length(directions, c->weights));
		break;
	case TT_FIT_SHARE:
	case TT_FIT_COEFFICIENT:
		c->alpha = (float)push;
		break;
	case TT_FIT_WAY:
		c->alpha = 1;
	}
	return TT_OK;
}

void tt_candidate_name(char out[TT_CANDIDATE_NAME_BYTES], uint32_t i)
{
	snprintf(out, TT_CANDIDATE_NAME_BYTES, "candidate-%02" PRIu32, i);
}

static int fill_policy(const struct tt_candidate *c, const struct tt_fit_directions *directions,
	const struct tt_model_info *info, bool gated, struct tt_policy *p, struct tt_error *err)
{
	if (gated)
		TT_TRY(c->gate->fill(c->gate, p, err));
	TT_TRY(tt_policy_set_operation(p, c->op, err));
	p->when = c->when;
	p->alpha = gated && c->gate->mean_weight > 0 ? (float)((double)c->alpha / c->gate->mean_weight) : c->alpha;
	for (uint32_t l = c->first; l <= c->last; l++) {
		p->weights[l] = c->weights[l];
		if (c->weights[l] > 0)
			tt_fit_operation_of(c->op)->fill(directions, l, c->mix, c->push, p);
	}
	TT_TRY(tt_policy_set_text(&p->fingerprint, info->fingerprint, err));
	TT_TRY(tt_policy_set_text(&p->weights_digest, info->weights_digest, err));
	TT_TRY(tt_policy_set_text(&p->version, TT_VERSION, err));
	return tt_policy_finish(p, err);
}

int tt_candidate_policy(const struct tt_candidate *candidate, const struct tt_fit_directions *directions,
	const struct tt_model_info *info, bool gated, struct tt_policy **out, struct tt_error *err)
{
	uint32_t n_rows = tt_fit_operation_of(candidate->op)->n_rows;
	n_rows = n_rows ? n_rows : directions->maps.rank;
	TT_TRY(tt_policy_new(out, directions->n_layers, directions->hidden_size, n_rows, err));
	int status = fill_policy(candidate, directions, info, gated, *out, err);
	if (status != TT_OK) {
		tt_policy_free(*out);
		*out = NULL;
	}
	return status;
}
