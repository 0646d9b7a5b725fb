#include "controller/train/fit_modes.h"

#include "base/fail.h"
#include "controller/train/fit_detector.h"

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

static int search_push(struct tt_fit *fit, struct tt_error *err)
{
	const struct tt_fit_options *o = fit->options;
	TT_TRY(tt_fit_judge_open(&fit->judge, fit->engine, &fit->rows, o, &fit->progress, err));
	fit->search = (struct tt_fit_search){.info = fit->info,
		.directions = &fit->directions,
		.gate = &fit->gate,
		.judge = &fit->judge,
		.max_candidates = o->max_candidates,
		.when = o->when};
	TT_TRY(tt_fit_search(&fit->search, err));
	if (!o->search_layer_weights)
		return TT_OK;
	TT_TRY(tt_fit_judge_open_train(
		&fit->train_judge, fit->engine, &fit->rows, o->n_judge_prompts, o, &fit->progress, err));
	return tt_fit_search_weights(&fit->weights, &fit->search, &fit->train_judge, o->seed, err);
}

static const struct tt_fit_mode_row modes[] = {
	[TT_FIT_CONTRAST] = {"contrast", contrast_directions, detector_gate, search_push},
};

const struct tt_fit_mode_row *tt_fit_mode_of(enum tt_fit_mode mode)
{
	return (size_t)mode < sizeof modes / sizeof *modes ? &modes[mode] : NULL;
}
