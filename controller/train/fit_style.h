/* A fit to any behaviour that pairs of responses show: its prompts and responses, and the directions between these. */
#ifndef CONTROLLER_TRAIN_FIT_STYLE_H
#define CONTROLLER_TRAIN_FIT_STYLE_H

#include "controller/measure/contrast.h"
#include "controller/train/fit_directions.h"

struct tt_fit_style {
	struct tt_contrast contrast;
	struct tt_fit_rows own; /* the prompts of the file, if it has any */
	/* The prompts that make the directions and those that judge, of the file or of the data. Those that judge are
	 * where the rows that a policy is to act on are, under TT_HARMFUL. */
	struct tt_fit_row_list train, judged[TT_N_LABELS];
	/* Their responses: [train.n] and [judged[TT_HARMFUL].n] of each side. */
	struct tt_completion *train_responses[TT_N_SIDES], *judged_responses[TT_N_SIDES];
};

/* Reads the contrast file of the options. Its prompts are taken, or if it has none the benign rows of data. */
int tt_fit_style_read(struct tt_fit_style *out, struct tt_engine *engine, const struct tt_fit_rows *data,
	const struct tt_fit_options *options, struct tt_error *err);
void tt_fit_style_free(struct tt_fit_style *style);

/* Makes directions from the negative to the positive responses of the first n_prompts train prompts. */
int tt_fit_style_directions(struct tt_fit_directions *out, struct tt_engine *engine, const struct tt_fit_style *style,
	uint32_t n_prompts, struct tt_progress *progress, struct tt_error *err);

#endif
