/* The candidates of the search: sites, directions and strengths. */
#include <math.h>
#include <stdlib.h>

#include "base/fail.h"
#include "controller/train/fit_search.h"

/* A site, as shares of the model's depth, and the direction: m is D + m E. A width of 0 is one layer. On SmolLM2-135M
 * (30 layers), at a push of 1.25, layer 10 alone along D + E refused 35 of 40 unseen questions in substance, layers 9
 * to 11 along D + E 29, and the band of a fifth along D 29; and of 230 harmful rows that fits read, of five sets,
 * layers 10 and 11 along D + 2 E 218 and layer 10 along D + E 211 (11 and 4 that the other did not), at a loss of 1.29
 * and 1.33 nats a token. */
static const struct site {
	double centre, width, mix;
} sites[] = {
	{0.355, 0.067, 2},
	{0.355, 0, 1},
	{0.355, 0.1, 1},
	{0.355, 0.2, 0},
	{0.355, 0, 0},
	{0.355, 0.1, 0},
	{0.355, 0.2, 1},
	{0.42, 0, 1},
	{0.42, 0.1, 1},
	{0.42, 0.2, 0},
	{0.28, 0, 1},
	{0.28, 0.1, 1},
	{0.28, 0.2, 0},
	{0.42, 0, 0},
	{0.42, 0.1, 0},
	{0.42, 0.2, 1},
	{0.28, 0, 0},
	{0.28, 0.1, 0},
	{0.28, 0.2, 1},
};
enum { N_SITES = sizeof sites / sizeof *sites };

/* All sites are compared at the first push. A site that refused little there is tried at stronger ones first, one that
 * broke a bar or refused nearly all at weaker ones: SmolLM2-135M needs 1.1 to 1.25, Qwen2.5-0.5B half as much. */
static const double first_push = 1.0;
enum { N_PUSHES = 5 };
static const double stronger_first[N_PUSHES] = {1.25, 1.12, 1.6, 0.7, 0.5};
static const double weaker_first[N_PUSHES] = {0.7, 1.25, 0.5, 1.12, 1.6};
static const double nearly_all = 0.9;
/* The effect of a style rises with the push, so what is looked for is the last push before a bar. */
static const double style_stronger_first[N_PUSHES] = {1.12, 1.25, 1.6, 0.85, 0.7};
static const double style_weaker_first[N_PUSHES] = {0.85, 0.7, 0.5, 0.35, 1.12};
/* A share that is taken out begins at all of it. */
enum { N_SHARES = 2 };
static const double shares[N_SHARES] = {0.75, 0.5};
/* Steering only generated tokens needs a stronger push, since the prompt is not steered. */
static const double generation_factor = 1.5;

static bool same_weights(const struct tt_candidate *a, const float *weights, uint32_t n_layers)
{
	for (uint32_t l = 0; l < n_layers; l++)
		if (a->weights[l] != weights[l])
			return false;
	return true;
}

/* Small models have fewer sites than the table: several lines can mean the same layers. */
static bool exists(const struct tt_fit_search *search, const float *weights, double mix, double push)
{
	for (uint32_t i = 0; i < search->n_candidates; i++) {
		const struct tt_candidate *c = &search->candidates[i];
		if (c->mix == mix && c->push == push && same_weights(c, weights, search->info->n_layers))
			return true;
	}
	return false;
}

int tt_fit_add(struct tt_fit_search *search, const float *weights, double mix, double push, struct tt_error *err)
{
	if (search->n_candidates == search->max_candidates || exists(search, weights, mix, push))
		return TT_OK;
	struct tt_candidate *c = &search->candidates[search->n_candidates++];
	c->when = search->when;
	c->op = search->op;
	TT_TRY(tt_candidate_aim(c, search->directions, weights, mix, push, err));
	c->gate = search->gate;
	TT_TRY(tt_alloc(&c->harmful, search->judge->n[TT_JUDGE_HARMFUL], sizeof *c->harmful, err));
	TT_TRY(tt_alloc(&c->benign, search->judge->n[TT_JUDGE_BENIGN], sizeof *c->benign, err));
	return tt_candidate_policy(c, search->directions, search->info, c->gate->graded, &c->policy, err);
}

static enum tt_fit_strength strength_of(const struct tt_fit_search *search)
{
	return tt_fit_operation_of(search->op)->strength;
}

static double push_of(const struct tt_fit_search *search, double push)
{
	bool longer = search->when == TT_WHEN_GENERATION && strength_of(search) == TT_FIT_LENGTH;
	return longer ? generation_factor * push : push;
}

/* Weight 1 on the layers of a site; returns how many they are. */
static uint32_t site_weights(uint32_t n_layers, double centre, double share, float *weights)
{
	uint32_t width = (uint32_t)lround(share * n_layers);
	width = width < 1 ? 1 : width;
	double start = fmax(0, centre * n_layers - width / 2.0);
	uint32_t first = (uint32_t)lround(fmin(start, n_layers - width));
	for (uint32_t l = 0; l < n_layers; l++)
		weights[l] = l >= first && l < first + width;
	return width;
}

/* The band as it was published, then as a site among the others. Strength times a unit vector is the direction with a
 * coefficient of strength / |D|. */
static int add_published(struct tt_fit_search *search, float *weights, struct tt_error *err)
{
	const struct tt_fit_directions *directions = search->directions;
	const struct tt_fit_published *p = search->published;
	uint32_t n = directions->n_layers, width = site_weights(n, p->centre, p->width, weights);
	for (uint32_t l = 0; l < n; l++)
		weights[l] = directions->norms[l] > 0 ? (float)(weights[l] / directions->norms[l]) : 0;
	TT_TRY(tt_fit_add(search, weights, 0, p->strength * width / tt_push_unit(directions), err));
	site_weights(n, p->centre, p->width, weights);
	return tt_fit_add(search, weights, 0, push_of(search, first_push), err);
}

static int add_sites(struct tt_fit_search *search, uint32_t n, float *weights, struct tt_error *err)
{
	uint32_t end = search->n_candidates + n;
	if (search->published)
		TT_TRY(add_published(search, weights, err));
	for (size_t i = 0; i < N_SITES && search->n_candidates < end; i++) {
		if (sites[i].mix != 0 && !search->directions->apology)
			continue;
		/* A map takes answering states, which those after another map are no longer. */
		if (sites[i].width > 0 && search->op == TT_OP_AFFINE)
			continue;
		site_weights(search->info->n_layers, sites[i].centre, sites[i].width, weights);
		TT_TRY(tt_fit_add(search, weights, sites[i].mix, push_of(search, first_push), err));
	}
	return TT_OK;
}

int tt_fit_add_sites(struct tt_fit_search *search, uint32_t n, struct tt_error *err)
{
	float *weights = NULL;
	TT_TRY(tt_alloc(&weights, search->info->n_layers, sizeof *weights, err));
	int status = add_sites(search, n, weights, err);
	free(weights);
	return status;
}

int tt_fit_add_strengths(struct tt_fit_search *search, struct tt_candidate *const *best, uint32_t n_best, uint32_t n,
	struct tt_error *err)
{
	bool shared = strength_of(search) == TT_FIT_SHARE;
	uint32_t end = search->n_candidates + n;
	bool by_effect = search->judge->responses[TT_POSITIVE] != NULL;
	const double *stronger = by_effect ? style_stronger_first : stronger_first;
	const double *weaker = by_effect ? style_weaker_first : weaker_first;
	for (size_t k = 0; k < (shared ? N_SHARES : N_PUSHES); k++)
		for (uint32_t i = 0; i < n_best && search->n_candidates < end; i++) {
			bool strong = best[i]->figures.out || (!by_effect && best[i]->figures.refused > nearly_all);
			double push = push_of(search, (shared ? shares : strong ? weaker : stronger)[k]);
			TT_TRY(tt_fit_add(search, best[i]->weights, best[i]->mix, push, err));
		}
	return TT_OK;
}
