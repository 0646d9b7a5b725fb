/* The candidates of the search: a grid of bands, strengths and whens. */
#include <math.h>

#include "base/fail.h"
#include "controller/train/fit_search.h"

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

static bool exists(const struct tt_fit_search *search, const struct tt_candidate *c)
{
	for (uint32_t i = 0; i < search->n_candidates; i++) {
		const struct tt_candidate *o = &search->candidates[i];
		if (o->first == c->first && o->shift == c->shift && o->when == c->when)
			return true;
	}
	return false;
}

static int add(struct tt_fit_search *search, const struct tt_candidate *candidate, struct tt_error *err)
{
	if (search->n_candidates == search->max_candidates || exists(search, candidate))
		return TT_OK;
	struct tt_candidate *c = &search->candidates[search->n_candidates++];
	*c = *candidate;
	c->gate = tt_fit_choose_gate(search->gates, c->first, c->when);
	TT_TRY(tt_alloc(&c->harmful, search->judge->n[TT_JUDGE_HARMFUL], sizeof *c->harmful, err));
	TT_TRY(tt_alloc(&c->benign, search->judge->n[TT_JUDGE_BENIGN], sizeof *c->benign, err));
	return tt_candidate_policy(c, search->directions, search->info, false, &c->policy, err);
}

int tt_fit_grid(struct tt_fit_search *search, struct tt_error *err)
{
	uint32_t n_layers = search->info->n_layers, width = (uint32_t)lround(n_layers / 5.0);
	TT_TRY(tt_alloc(&search->candidates, search->max_candidates, sizeof *search->candidates, err));
	if (width < 1)
		width = 1;
	for (size_t s = 0; s < sizeof shifts / sizeof *shifts; s++)
		for (size_t b = 0; b < sizeof starts / sizeof *starts; b++)
			for (size_t w = 0; w < sizeof whens / sizeof *whens; w++) {
				struct tt_candidate c = {.width = width, .when = whens[w]};
				if (search->when != TT_WHEN_POLICY && search->when != c.when)
					continue;
				c.first = (uint32_t)lround(starts[b] * n_layers);
				if (c.first > n_layers - width)
					c.first = n_layers - width;
				c.shift = (float)(c.when == TT_WHEN_GENERATION ? generation_shift : shifts[s]);
				TT_TRY(add(search, &c, err));
			}
	return TT_OK;
}
