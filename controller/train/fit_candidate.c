#include "controller/train/fit_candidate.h"

#include <string.h>

#include "base/fail.h"

static int fill_policy(const struct tt_candidate *c, const struct tt_fit_directions *directions,
	const struct tt_model_info *info, bool gated, struct tt_policy *p, struct tt_error *err)
{
	size_t d = directions->hidden_size;
	if (gated)
		TT_TRY(c->gate->fill(c->gate->detector, p, err));
	p->op = TT_OP_ADD;
	p->when = c->when;
	p->alpha = c->shift / (float)c->width;
	for (uint32_t l = c->first; l < c->first + c->width; l++) {
		memcpy(p->directions + l * d, directions->rows + l * d, d * sizeof *p->directions);
		p->weights[l] = 1;
	}
	TT_TRY(tt_policy_set_text(&p->fingerprint, info->fingerprint, err));
	TT_TRY(tt_policy_set_text(&p->weights_digest, info->weights_digest, err));
	TT_TRY(tt_policy_set_text(&p->version, TT_VERSION, err));
	return tt_policy_finish(p, err);
}

int tt_candidate_policy(const struct tt_candidate *candidate, const struct tt_fit_directions *directions,
	const struct tt_model_info *info, bool gated, struct tt_policy **out, struct tt_error *err)
{
	TT_TRY(tt_policy_new(out, directions->n_layers, directions->hidden_size, 1, err));
	int status = fill_policy(candidate, directions, info, gated, *out, err);
	if (status != TT_OK) {
		tt_policy_free(*out);
		*out = NULL;
	}
	return status;
}
