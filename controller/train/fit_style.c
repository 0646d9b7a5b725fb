#include "controller/train/fit_style.h"

#include <stdlib.h>

#include "base/fail.h"

static int encode_responses(struct tt_completion *out[TT_N_SIDES], struct tt_engine *engine,
	const struct tt_contrast *contrast, const struct tt_fit_row_list *rows, struct tt_error *err)
{
	for (int side = 0; side < TT_N_SIDES; side++)
		TT_TRY(tt_alloc(&out[side], rows->n, sizeof *out[side], err));
	for (size_t i = 0; i < rows->n; i++) {
		struct tt_completion pair[TT_N_SIDES] = {{0}};
		int status = tt_contrast_encode(pair, contrast, tt_engine_text(engine), rows->rows[i].prompt, i, err);
		for (int side = 0; side < TT_N_SIDES; side++)
			out[side][i] = pair[side];
		TT_TRY(status);
	}
	return TT_OK;
}

/* Without prompts of its own a file's openings are for the benign rows of the data. */
static int take_prompts(struct tt_fit_style *out, struct tt_engine *engine, const struct tt_fit_rows *data,
	const struct tt_fit_options *o, struct tt_error *err)
{
	bool own = out->contrast.prompts.n_rows > 0;
	if (own && o->n_data > 0 && o->gate != TT_FIT_GATE_DETECTOR)
		return tt_fail(err, TT_ERR_ARGUMENT,
			"%s has prompts of its own, and there is no detector to train: nothing of data is used",
			o->contrast);
	if (own)
		TT_TRY(tt_fit_rows_take(&out->own, engine, &out->contrast.prompts, TT_HARMFUL, o, err));
	out->train = own ? out->own.train[TT_HARMFUL] : data->train[TT_BENIGN];
	out->judged[TT_HARMFUL] = own ? out->own.val[TT_HARMFUL] : data->val[TT_BENIGN];
	if (out->train.n < 2 || out->judged[TT_HARMFUL].n < 1)
		return tt_fail(err, TT_ERR_ARGUMENT,
			"%s: fitting needs at least 2 prompts that train and 1 that judges, here%s; there are %zu and "
			"%zu",
			o->contrast, own ? "" : " or as benign rows of data", out->train.n, out->judged[TT_HARMFUL].n);
	return TT_OK;
}

int tt_fit_style_read(struct tt_fit_style *out, struct tt_engine *engine, const struct tt_fit_rows *data,
	const struct tt_fit_options *options, struct tt_error *err)
{
	*out = (struct tt_fit_style){0};
	TT_TRY(tt_contrast_read(&out->contrast, options->contrast, err));
	TT_TRY(take_prompts(out, engine, data, options, err));
	TT_TRY(encode_responses(out->train_responses, engine, &out->contrast, &out->train, err));
	return encode_responses(out->judged_responses, engine, &out->contrast, &out->judged[TT_HARMFUL], err);
}

static void free_responses(struct tt_completion *const responses[TT_N_SIDES], size_t n)
{
	for (int side = 0; side < TT_N_SIDES; side++) {
		for (size_t i = 0; responses[side] && i < n; i++)
			tt_completion_free(&responses[side][i]);
		free(responses[side]);
	}
}

void tt_fit_style_free(struct tt_fit_style *style)
{
	free_responses(style->train_responses, style->train.n);
	free_responses(style->judged_responses, style->judged[TT_HARMFUL].n);
	tt_fit_rows_free(&style->own);
	tt_contrast_free(&style->contrast);
	*style = (struct tt_fit_style){0};
}

int tt_fit_style_directions(struct tt_fit_directions *out, struct tt_engine *engine, const struct tt_fit_style *style,
	uint32_t n_prompts, struct tt_progress *progress, struct tt_error *err)
{
	struct tt_fit_sequence *sequences = NULL; // [n][TT_N_SIDES]
	uint32_t n = style->train.n < n_prompts ? (uint32_t)style->train.n : n_prompts;
	TT_TRY(tt_alloc(&sequences, (size_t)n * TT_N_SIDES, sizeof *sequences, err));
	for (uint32_t i = 0; i < n; i++)
		for (int side = 0; side < TT_N_SIDES; side++) {
			const struct tt_completion *response = &style->train_responses[side][i];
			sequences[(size_t)i * TT_N_SIDES + (size_t)side] = (struct tt_fit_sequence){
				.row = &style->train.rows[i], .response = response->ids, .n_response = response->n_ids};
		}
	int status = tt_fit_directions_between(out, engine, sequences, n, TT_N_SIDES, false, progress, err);
	free(sequences);
	return status;
}
