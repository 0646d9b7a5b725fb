/* Layer weights, learned by a search without derivatives. */
#ifndef CONTROLLER_TRAIN_FIT_WEIGHTS_H
#define CONTROLLER_TRAIN_FIT_WEIGHTS_H

#include "controller/train/fit_search.h"

/* A hill over the layers: the weight of a layer falls off as a normal density does, on either side of centre, with a
 * width of its own. The direction is D + mix * E. */
struct tt_fit_shape {
	double centre, width; /* in layers */
	double skew;          /* the widths below and above the centre are width / e^skew and width * e^skew */
	double mix;
};

/* Fills weights [n_layers]; layers with less than a twentieth of the largest weight get none. */
void tt_fit_shape_weights(const struct tt_fit_shape *shape, uint32_t n_layers, float *weights);

/* The layers of a candidate as a hill. */
struct tt_fit_shape tt_fit_shape_of(const struct tt_candidate *site);

struct tt_fit_weights {
	uint32_t n_tried, n_prompts; /* shapes, and the train prompts that they were compared on */
	struct tt_fit_shape shape;   /* the best */
	struct tt_figures on_train, site_on_train;
	double likelihood, site_likelihood; /* mean log-probability of a token of a refusing sentence */
	const struct tt_candidate *found;   /* the best as a candidate of the search, on all judge prompts */
	const struct tt_candidate *site;    /* what the search chose before */
};

/* Starts from what the search chose, and searches shapes of the same whole push by the harmful train rows that `train`
 * judges. The best is then judged as the search's candidates were, and chosen if it is better by half a prompt. */
int tt_fit_search_weights(struct tt_fit_weights *out, struct tt_fit_search *search, struct tt_fit_judge *train,
	uint64_t seed, struct tt_error *err);

#endif
