/* The search for layer weights: an evolution strategy of one parent. Each generation draws children about the best so
 * far and judges them as candidates are judged. There are four numbers to find, and what tells shapes apart is counted
 * on few prompts, so a finer method would only follow the noise. */
#include "controller/train/fit_weights.h"

#include <math.h>
#include <stdlib.h>

#include "base/fail.h"
#include "base/random.h"

enum { N_GENERATIONS = 4, N_CHILDREN = 5 };
/* Standard deviations of a child's changes: of the centre as a share of the depth, of the logarithm of the width, and
 * of the others as they are. */
static const double step_centre = 0.04, step_width = 0.5, step_skew = 0.4, step_mix = 0.4;
static const double min_width = 0.25, max_width = 0.2; /* in layers, and as a share of the depth */
static const double max_skew = 1.5, max_mix = 2, least_weight = 0.05;

void tt_fit_shape_weights(const struct tt_fit_shape *shape, uint32_t n_layers, float *weights)
{
	double largest = 0;
	for (int pass = 0; pass < 2; pass++)
		for (uint32_t l = 0; l < n_layers; l++) {
			double distance = (double)l - shape->centre;
			double width = shape->width * exp(distance < 0 ? -shape->skew : shape->skew);
			double weight = exp(-0.5 * distance * distance / (width * width));
			if (pass == 0)
				largest = fmax(largest, weight);
			else
				weights[l] = weight < least_weight * largest ? 0 : (float)(weight / largest);
		}
}

/* A number from 0 to 1, neither included. */
static double uniform(uint64_t *state)
{
	return ((double)(tt_random_next(state) >> 12) + 0.5) / 4503599627370496.0; /* 2^52 */
}

static double normal(uint64_t *state)
{
	double radius = sqrt(-2 * log(uniform(state)));
	return radius * cos(6.283185307179586 * uniform(state));
}

static double within(double value, double min, double max)
{
	return fmin(fmax(value, min), max);
}

static struct tt_fit_shape child_of(
	const struct tt_fit_shape *parent, uint32_t n_layers, bool has_apology, uint64_t *state)
{
	struct tt_fit_shape child;
	child.centre = within(parent->centre + step_centre * n_layers * normal(state), 0, n_layers - 1);
	child.width = within(
		parent->width * exp(step_width * normal(state)), min_width, fmax(min_width, max_width * n_layers));
	child.skew = within(parent->skew + step_skew * normal(state), -max_skew, max_skew);
	child.mix = within(parent->mix + step_mix * normal(state), 0, has_apology ? max_mix : 0);
	return child;
}

/* A band is as wide as the normal density of the same standard deviation. */
struct tt_fit_shape tt_fit_shape_of(const struct tt_candidate *site)
{
	double n = site->last - site->first + 1;
	return (struct tt_fit_shape){.centre = (site->first + site->last) / 2.0,
		.width = fmax(min_width, sqrt((n * n - 1) / 12)),
		.mix = site->mix};
}

struct climb {
	struct tt_fit_weights *out;
	struct tt_fit_search search; /* of shapes, on train rows */
	struct tt_fit_shape shapes[1 + N_GENERATIONS * N_CHILDREN];
	double likelihood[1 + N_GENERATIONS * N_CHILDREN];
	uint32_t best;
	float *weights; // [n_layers]
};

static int judge_new(struct climb *c, uint32_t first, struct tt_error *err)
{
	struct tt_candidate *active[1 + N_CHILDREN];
	uint32_t n_active = 0, n = c->search.judge->n[TT_JUDGE_HARMFUL];
	for (uint32_t i = first; i < c->search.n_candidates; i++)
		active[n_active++] = &c->search.candidates[i];
	TT_TRY(tt_fit_judge_candidates(
		&c->search, active, n_active, (const uint32_t[]){n, 0}, "weights", "fluency of weights", err));
	return tt_fit_likelihood(
		c->search.judge, active, n_active, n, "likelihood of weights", c->likelihood + first, err);
}

/* Scores within half a prompt are equal, and then the likelier refusal is better. */
static bool better(const struct climb *c, uint32_t a, uint32_t b)
{
	double difference = c->search.candidates[a].figures.score - c->search.candidates[b].figures.score;
	if (fabs(difference) > 0.5 / c->search.judge->n[TT_JUDGE_HARMFUL] + 1e-9)
		return difference > 0;
	return c->likelihood[a] > c->likelihood[b];
}

static int climb(struct climb *c, const struct tt_candidate *site, uint64_t seed, struct tt_error *err)
{
	uint32_t n_layers = c->search.info->n_layers;
	bool has_apology = c->search.directions->apology != NULL;
	TT_TRY(tt_fit_add(&c->search, site->weights, site->mix, site->push, err));
	c->shapes[0] = tt_fit_shape_of(site);
	TT_TRY(judge_new(c, 0, err));
	for (int generation = 0; generation < N_GENERATIONS; generation++) {
		const struct tt_fit_shape parent = c->shapes[c->best];
		uint32_t first = c->search.n_candidates;
		for (int i = 0; i < N_CHILDREN; i++) {
			uint32_t k = c->search.n_candidates;
			c->shapes[k] = child_of(&parent, n_layers, has_apology, &seed);
			tt_fit_shape_weights(&c->shapes[k], n_layers, c->weights);
			TT_TRY(tt_fit_add(&c->search, c->weights, c->shapes[k].mix, site->push, err));
		}
		if (c->search.n_candidates > first)
			TT_TRY(judge_new(c, first, err));
		for (uint32_t k = first; k < c->search.n_candidates; k++)
			if (better(c, k, c->best))
				c->best = k;
	}
	return TT_OK;
}

/* Adds the best shape to the search, judges it there, and chooses between it and the site. */
static int compare_with_site(struct climb *c, struct tt_fit_search *search, struct tt_error *err)
{
	const struct tt_candidate *best = &c->search.candidates[c->best];
	uint32_t k = search->n_candidates;
	search->max_candidates++;
	TT_TRY(tt_fit_add(search, best->weights, best->mix, best->push, err));
	if (search->n_candidates == k)
		return TT_OK;
	struct tt_candidate *found = &search->candidates[k];
	TT_TRY(tt_fit_judge_candidates(
		search, &found, 1, search->judge->n, "weights, all prompts", "fluency of all", err));
	c->out->found = found;
	tt_fit_prefer(search, found, "learned layer weights, better than the best site by more than half a prompt");
	return TT_OK;
}

int tt_fit_search_weights(struct tt_fit_weights *out, struct tt_fit_search *search, struct tt_fit_judge *train,
	uint64_t seed, struct tt_error *err)
{
	struct climb c = {.out = out, .search = *search};
	c.search.judge = train;
	c.search.candidates = NULL;
	c.search.n_candidates = 0;
	c.search.max_candidates = 1 + N_GENERATIONS * N_CHILDREN;
	*out = (struct tt_fit_weights){.site = search->chosen, .n_prompts = train->n[TT_JUDGE_HARMFUL]};
	int status = tt_alloc(&c.search.candidates, c.search.max_candidates, sizeof *c.search.candidates, err);
	if (status == TT_OK)
		status = tt_alloc(&c.weights, search->info->n_layers, sizeof *c.weights, err);
	if (status == TT_OK)
		status = climb(&c, search->chosen, seed, err);
	if (status == TT_OK) {
		out->n_tried = c.search.n_candidates;
		out->shape = c.shapes[c.best];
		out->on_train = c.search.candidates[c.best].figures;
		out->site_on_train = c.search.candidates[0].figures;
		out->likelihood = c.likelihood[c.best];
		out->site_likelihood = c.likelihood[0];
		status = compare_with_site(&c, search, err);
	}
	free(c.weights);
	tt_fit_search_free(&c.search);
	return status;
}
