/* Layer weights that depend on the prompt: a network beside the gate's, trained on which of some shapes of equal push
 * makes each train prompt's refusal likeliest. */
#ifndef CONTROLLER_TRAIN_FIT_PROMPT_WEIGHTS_H
#define CONTROLLER_TRAIN_FIT_PROMPT_WEIGHTS_H

#include "controller/train/fit_detector.h"
#include "controller/train/fit_weights.h"
#include "controller/train/weigher.h"

enum {
	TT_N_PROMPT_SHAPES = 7,
	TT_LEAST_PROMPTS = 20, /* harmful train prompts, for it to be tried at all */
};

/* A gate that gives the layers weights. */
struct tt_weighing_gate {
	struct tt_weigher weigher;
	const struct tt_fit_detector *detector;
	struct tt_mlp *network;  /* the detector's units and the weigher's, 1 + n_layers outputs */
	struct tt_fit_gate gate; /* the detector's, but for the network; its `made` is this struct, which must stay */
};

/* Likelihoods are mean log-probabilities of a token of a refusing sentence, over the train prompts. */
struct tt_fit_prompt_weights {
	const struct tt_candidate *site;             /* what the search chose; NULL: nothing was learned */
	uint32_t n_prompts;                          /* harmful train prompts */
	struct tt_fit_search shapes;                 /* its candidates: the site first, then hills */
	double likelihood[TT_N_PROMPT_SHAPES];       /* of each shape */
	uint32_t n_likeliest[TT_N_PROMPT_SHAPES];    /* prompts whose likeliest shape it is */
	double best, oracle;                         /* of the best shape for all, and of each prompt's own */
	double mean;                                 /* of the mean of the targets, the same for all prompts */
	double held_out;                             /* of the learned weights on prompts that did not train them */
	double refused_by_any, refused_by_likeliest; /* shares of the prompts that `shapes` completed */
	double least_push, mean_push, most_push;     /* of the learned weights on harmful val prompts */
	struct tt_weighing_gate weighing;
	const struct tt_candidate *found; /* the learned weights as a candidate of the search; or NULL */
};

/* How many harmful train rows would be used. TT_ERR_ARGUMENT if these are too few. */
int tt_fit_prompt_weights_rows(
	uint32_t *n, const struct tt_fit_rows *rows, uint32_t n_judge_prompts, struct tt_error *err);

/* Starts from what the search chose. Shapes of the same whole push are tried on n of the harmful train rows, which
 * `train` judges; the network learns their mixtures. Its weights are then judged as the search's candidates were, and
 * chosen if that is better by half a prompt. Freed by tt_fit_prompt_weights_free before `train` and the search's gate,
 * also after a failure. */
int tt_fit_learn_prompt_weights(struct tt_fit_prompt_weights *out, struct tt_fit_search *search,
	struct tt_fit_judge *train, const struct tt_fit_rows *rows, uint32_t n, uint64_t seed, struct tt_error *err);
void tt_fit_prompt_weights_free(struct tt_fit_prompt_weights *weights);

#endif
