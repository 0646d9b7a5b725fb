#include "controller/train/fit_modes.h"

#include <stdlib.h>

#include "base/fail.h"
#include "controller/train/fit_detector.h"
#include "controller/train/fit_embedding.h"
#include "controller/train/fit_mlp.h"
#include "runtime/engine/engine.h"

/* ---- Response contrast: directions between responses, a detector, and a search for the push */

static int contrast_directions(struct tt_fit *fit, struct tt_error *err)
{
	return tt_fit_directions_make(
		&fit->directions, fit->engine, &fit->rows, fit->options->n_direction_prompts, &fit->progress, err);
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
		.when = when};
}

static int open_search(struct tt_fit *fit, enum tt_policy_when when, struct tt_error *err)
{
	set_search(fit, when);
	return tt_fit_judge_open(&fit->judge, fit->engine, &fit->rows, fit->options, &fit->progress, err);
}

static int search_push(struct tt_fit *fit, struct tt_error *err)
{
	const struct tt_fit_options *o = fit->options;
	uint32_t n = 0;
	if (o->layer_weights == TT_WEIGHTS_PROMPT)
		TT_TRY(tt_fit_prompt_weights_rows(&n, &fit->rows, o->n_judge_prompts, err));
	TT_TRY(open_search(fit, o->when, err));
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

static const struct tt_fit_mode_row modes[] = {
	[TT_FIT_CONTRAST] = {"contrast", contrast_directions, detector_gate, search_push},
	[TT_FIT_PAPER] = {"paper", output_embedding, mlp_gate, push_all_layers},
	[TT_FIT_RELEASED] = {"released", input_embedding, mlp_gate, push_last_layer},
	[TT_FIT_STYLE] = {"style", style_directions, no_gate, search_style},
};

const struct tt_fit_mode_row *tt_fit_mode_of(enum tt_fit_mode mode)
{
	return (size_t)mode < sizeof modes / sizeof *modes ? &modes[mode] : NULL;
}
