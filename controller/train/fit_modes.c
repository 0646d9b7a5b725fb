#include "controller/train/fit_modes.h"

#include <stdlib.h>

#include "base/fail.h"
#include "controller/train/fit_affine.h"
#include "controller/train/fit_condition.h"
#include "controller/train/fit_detector.h"
#include "controller/train/fit_embedding.h"
#include "controller/train/fit_mlp.h"
#include "controller/train/fit_pca.h"
#include "runtime/engine/engine.h"

/* ---- Response contrast: directions between responses, a detector, and a search for the push */

static int contrast_directions(struct tt_fit *fit, struct tt_error *err)
{
	return tt_fit_directions_make(&fit->directions, fit->engine, &fit->rows, fit->options->n_direction_prompts,
		false, &fit->progress, err);
}

static int detector_gate(struct tt_fit *fit, struct tt_error *err)
{
	return tt_fit_detector_make(
		&fit->gate, fit->engine, &fit->rows, fit->options, fit->activations, &fit->progress, err);
}

static void set_search(struct tt_fit *fit, enum tt_policy_when when)
{
	fit->search = (struct tt_fit_search){.info = fit->info,
		.directions = &fit->directions,
		.gate = &fit->gate,
		.judge = &fit->judge,
		.max_candidates = fit->options->max_candidates,
		.when = when,
		.op = fit->options->mode == TT_FIT_AFFINE ? TT_OP_AFFINE : fit->options->op};
}

static int open_search(struct tt_fit *fit, enum tt_policy_when when, struct tt_error *err)
{
	set_search(fit, when);
	TT_TRY(tt_fit_judge_open(&fit->judge, fit->engine, &fit->rows, fit->options, &fit->progress, err));
	fit->judge.gate_bounds_false_refusals = tt_fit_detector_of(&fit->gate) != NULL;
	return TT_OK;
}

static int run_search(struct tt_fit *fit, struct tt_error *err)
{
	const struct tt_fit_options *o = fit->options;
	uint32_t n = 0;
	if (o->layer_weights == TT_WEIGHTS_PROMPT)
		TT_TRY(tt_fit_prompt_weights_rows(&n, &fit->rows, o->n_judge_prompts, err));
	TT_TRY(tt_fit_search(&fit->search, err));
	if (o->layer_weights == TT_WEIGHTS_SITE)
		return TT_OK;
	TT_TRY(tt_fit_judge_open_train(
		&fit->train_judge, fit->engine, &fit->rows, o->n_judge_prompts, o, &fit->progress, err));
	if (o->layer_weights == TT_WEIGHTS_SEARCH)
		return tt_fit_search_weights(&fit->weights, &fit->search, &fit->train_judge, o->seed, err);
	return tt_fit_learn_prompt_weights(
		&fit->prompt_weights, &fit->search, &fit->train_judge, &fit->rows, n, o->seed, err);
}

static int search_push(struct tt_fit *fit, struct tt_error *err)
{
	TT_TRY(open_search(fit, fit->options->when, err));
	return run_search(fit, err);
}

/* ---- The controller of arXiv 2505.20309, as the paper describes it and as its authors' code does it */

static int output_embedding(struct tt_fit *fit, struct tt_error *err)
{
	return tt_fit_embedding_make(&fit->directions, fit->engine, &fit->engine->model->output, err);
}

static int input_embedding(struct tt_fit *fit, struct tt_error *err)
{
	return tt_fit_embedding_make(&fit->directions, fit->engine, &fit->engine->model->embedding, err);
}

static int mlp_gate(struct tt_fit *fit, struct tt_error *err)
{
	return tt_fit_mlp_make(
		&fit->gate, fit->engine, &fit->rows, fit->options, fit->activations, &fit->progress, err);
}

/* Pushes from a layer on, at one strength. */
static int fixed_push(
	struct tt_fit *fit, uint32_t first_layer, double alpha, enum tt_policy_when when, struct tt_error *err)
{
	float *weights = NULL;
	TT_TRY(open_search(fit, when, err));
	TT_TRY(tt_alloc(&weights, fit->info->n_layers, sizeof *weights, err));
	for (uint32_t l = first_layer; l < fit->info->n_layers; l++)
		weights[l] = 1;
	int status = tt_fit_search_fixed(&fit->search, weights, alpha, err);
	free(weights);
	return status;
}

static int push_all_layers(struct tt_fit *fit, struct tt_error *err)
{
	return fixed_push(fit, 0, 2, TT_WHEN_GENERATION, err);
}

/* The code means to push in all layers too, but its controller has answered only when the last has run. */
static int push_last_layer(struct tt_fit *fit, struct tt_error *err)
{
	return fixed_push(fit, fit->info->n_layers - 1, 4, TT_WHEN_LAST, err);
}

/* ---- Style: directions between the responses of a file, no gate, and a search by their likelihood */

static int style_directions(struct tt_fit *fit, struct tt_error *err)
{
	TT_TRY(tt_fit_style_read(&fit->style, fit->engine, &fit->rows, fit->options, err));
	return tt_fit_style_directions(
		&fit->directions, fit->engine, &fit->style, fit->options->n_direction_prompts, &fit->progress, err);
}

static int no_gate(struct tt_fit *fit, struct tt_error *err)
{
	return tt_fit_gate_always(&fit->gate, &fit->rows, err);
}

static int search_style(struct tt_fit *fit, struct tt_error *err)
{
	const struct tt_completion *const responses[TT_N_SIDES] = {
		fit->style.judged_responses[TT_POSITIVE], fit->style.judged_responses[TT_NEGATIVE]};
	TT_TRY(tt_fit_judge_open_style(
		&fit->judge, fit->engine, fit->style.judged, responses, fit->options, &fit->progress, err));
	set_search(fit, fit->options->when);
	return tt_fit_search(&fit->search, err);
}

int (*tt_fit_gate_step(enum tt_fit_gate_choice gate))(struct tt_fit *fit, struct tt_error *err)
{
	return gate == TT_FIT_GATE_NONE ? no_gate : detector_gate;
}

/* ---- Principal components of the same responses' differences; the rest as above */

static int pca_directions(struct tt_fit *fit, struct tt_error *err)
{
	TT_TRY(tt_fit_directions_make(&fit->directions, fit->engine, &fit->rows, fit->options->n_direction_prompts,
		true, &fit->progress, err));
	return tt_fit_pca(&fit->directions, err);
}

/* ---- A difference of means, selected by scores of the next token, and judged as the published work uses it */

static int mean_directions(struct tt_fit *fit, struct tt_error *err)
{
	return tt_fit_mean_make(
		&fit->mean, &fit->directions, fit->engine, &fit->rows, fit->options, &fit->progress, err);
}

static int judge_mean(struct tt_fit *fit, struct tt_error *err)
{
	float weights[TT_MAX_LAYERS] = {0};
	TT_TRY(open_search(fit, fit->options->when, err));
	for (uint32_t l = 0; l < fit->info->n_layers; l++)
		weights[l] = fit->options->op == TT_OP_ABLATE || l == fit->mean.chosen->layer;
	return tt_fit_search_fixed(&fit->search, weights, 1, err);
}

/* ---- Maps of low rank between the same responses' states, and the same search at single layers */

static int affine_directions(struct tt_fit *fit, struct tt_error *err)
{
	TT_TRY(tt_fit_directions_make(&fit->directions, fit->engine, &fit->rows, fit->options->n_direction_prompts,
		true, &fit->progress, err));
	free(fit->directions.apology);
	fit->directions.apology = NULL;
	return tt_fit_affine(&fit->directions, fit->options->rank, err);
}

/* ---- CAST (arXiv 2409.05907): the same components, and a condition as the gate */

static int condition_gate(struct tt_fit *fit, struct tt_error *err)
{
	return tt_fit_condition_make(
		&fit->gate, fit->engine, &fit->rows, fit->options, fit->activations, &fit->progress, err);
}

/* CAST's own example adds 1.5 to what goes into layers 15 to 23 of 32, so to what layers 14 to 22 write. */
static int search_cast(struct tt_fit *fit, struct tt_error *err)
{
	static const struct tt_fit_published published = {.centre = 18.5 / 32, .width = 9.0 / 32, .strength = 1.5};
	TT_TRY(open_search(fit, fit->options->when, err));
	fit->search.published = &published;
	return run_search(fit, err);
}

static const struct tt_fit_mode_row modes[] = {
	[TT_FIT_CONTRAST] = {"contrast", contrast_directions, detector_gate, search_push, true},
	[TT_FIT_PAPER] = {"paper", output_embedding, mlp_gate, push_all_layers, false},
	[TT_FIT_RELEASED] = {"released", input_embedding, mlp_gate, push_last_layer, false},
	[TT_FIT_STYLE] = {"style", style_directions, no_gate, search_style, false},
	[TT_FIT_PCA] = {"pca", pca_directions, detector_gate, search_push, true},
	[TT_FIT_MEAN] = {"mean", mean_directions, detector_gate, judge_mean, false},
	[TT_FIT_AFFINE] = {"affine", affine_directions, detector_gate, search_push, false},
	[TT_FIT_CAST] = {"cast", pca_directions, condition_gate, search_cast, true},
};

const struct tt_fit_mode_row *tt_fit_mode_of(enum tt_fit_mode mode)
{
	return (size_t)mode < sizeof modes / sizeof *modes ? &modes[mode] : NULL;
}

bool tt_fit_mode_takes_op(enum tt_fit_mode mode)
{
	return mode == TT_FIT_CONTRAST || mode == TT_FIT_PCA || mode == TT_FIT_MEAN;
}

bool tt_fit_has_detector(const struct tt_fit_options *options)
{
	if (options->gate == TT_FIT_GATE_OF_MODE)
		return modes[options->mode].gate == detector_gate;
	return options->gate == TT_FIT_GATE_DETECTOR;
}
