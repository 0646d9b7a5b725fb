/* The candidates of the search: a grid of bands, strengths and whens. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "controller/train/fit.h"

/* Where the band begins, as a share of the model's depth; its width is a fifth of it. On SmolLM2-135M (30 layers) bands
 * from layer 8 or 9 on refused 94 to 98% of unseen harmful prompts, a band from layer 12 on 71%; the later a band
 * begins, the less fluent the completions are. */
static const double starts[] = {0.27, 0.2, 0.34, 0.42};

/* alpha times width: the band's whole push in units of the directions. A direction is the difference between two states
 * of the model itself, so 1 is the natural length on any model, whatever the norm of its stream. */
static const double shifts[] = {1.0, 1.25, 0.8};
/* Steering only generated tokens needs a stronger push, since the prompt is not steered. It was never the best, so it
 * is tried at one strength. */
static const double generation_shift = 1.5;

static const enum tt_policy_when whens[] = {TT_WHEN_ALL, TT_WHEN_LAST, TT_WHEN_GENERATION};

static bool exists(const struct tt_fit *fit, const struct tt_candidate *c)
{
	for (uint32_t i = 0; i < fit->n_candidates; i++) {
		const struct tt_candidate *o = &fit->candidates[i];
		if (o->first == c->first && o->shift == c->shift && o->when == c->when)
			return true;
	}
	return false;
}

static int add(struct tt_fit *fit, const struct tt_candidate *candidate, struct tt_error *err)
{
	if (fit->n_candidates == fit->options->max_candidates || exists(fit, candidate))
		return TT_OK;
	struct tt_candidate *c = &fit->candidates[fit->n_candidates++];
	*c = *candidate;
	c->probe = tt_fit_choose_probe(fit, c->first, c->when);
	TT_TRY(tt_alloc(&c->harmful, fit->n_judge[0], sizeof *c->harmful, err));
	TT_TRY(tt_alloc(&c->benign, fit->n_judge[1], sizeof *c->benign, err));
	return tt_fit_policy(fit, c, false, &c->policy, err);
}

int tt_fit_grid(struct tt_fit *fit, struct tt_error *err)
{
	uint32_t n_layers = fit->info->n_layers, width = (uint32_t)lround(n_layers / 5.0);
	TT_TRY(tt_alloc(&fit->candidates, fit->options->max_candidates, sizeof *fit->candidates, err));
	if (width < 1)
		width = 1;
	for (size_t s = 0; s < sizeof shifts / sizeof *shifts; s++)
		for (size_t b = 0; b < sizeof starts / sizeof *starts; b++)
			for (size_t w = 0; w < sizeof whens / sizeof *whens; w++) {
				struct tt_candidate c = {.width = width, .when = whens[w]};
				if (fit->options->when != TT_WHEN_POLICY && fit->options->when != c.when)
					continue;
				c.first = (uint32_t)lround(starts[b] * n_layers);
				if (c.first > n_layers - width)
					c.first = n_layers - width;
				c.shift = (float)(c.when == TT_WHEN_GENERATION ? generation_shift : shifts[s]);
				TT_TRY(add(fit, &c, err));
			}
	return TT_OK;
}

static int fill_gate(struct tt_policy *p, const struct tt_probe *probe, struct tt_error *err)
{
	const struct tt_gate_choice gate = {
		.gate = TT_GATE_PROBE, .observed = probe->observed, .n_observed = probe->n_observed};
	TT_TRY(tt_policy_set_gate(p, &gate, err));
	memcpy(p->gate_weight, probe->w, (size_t)probe->n_observed * p->hidden_size * sizeof *p->gate_weight);
	p->gate_bias = probe->b;
	p->threshold = probe->threshold;
	return TT_OK;
}

static int fill_policy(
	const struct tt_fit *fit, const struct tt_candidate *c, bool gated, struct tt_policy *p, struct tt_error *err)
{
	size_t d = fit->info->hidden_size;
	if (gated)
		TT_TRY(fill_gate(p, c->probe, err));
	p->op = TT_OP_ADD;
	p->when = c->when;
	p->alpha = c->shift / (float)c->width;
	for (uint32_t l = c->first; l < c->first + c->width; l++) {
		memcpy(p->directions + l * d, fit->directions + l * d, d * sizeof *p->directions);
		p->weights[l] = 1;
	}
	TT_TRY(tt_policy_set_text(&p->name, tt_fit_name(fit), err));
	TT_TRY(tt_policy_set_text(&p->fingerprint, fit->info->fingerprint, err));
	TT_TRY(tt_policy_set_text(&p->weights_digest, fit->info->weights_digest, err));
	TT_TRY(tt_policy_set_text(&p->version, TT_VERSION, err));
	return tt_policy_finish(p, err);
}

int tt_fit_policy(const struct tt_fit *fit, const struct tt_candidate *candidate, bool gated, struct tt_policy **out,
	struct tt_error *err)
{
	TT_TRY(tt_policy_new(out, fit->info->n_layers, fit->info->hidden_size, 1, err));
	int status = fill_policy(fit, candidate, gated, *out, err);
	if (status != TT_OK) {
		tt_policy_free(*out);
		*out = NULL;
	}
	return status;
}
