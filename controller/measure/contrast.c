#include "controller/measure/contrast.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"

static const char *const side_names[TT_N_SIDES] = {"positive", "negative"};

/* Appends a copy of the text; NULL stays NULL. */
static int add_text(struct tt_openings *list, const char *text, struct tt_error *err)
{
	TT_TRY(tt_grow(&list->texts, &list->capacity, list->n + 1, sizeof *list->texts, err));
	list->texts[list->n++] = NULL;
	return text ? tt_copy_string(&list->texts[list->n - 1], text, strlen(text), err) : TT_OK;
}

static int take_openings(struct tt_contrast *out, const json_t *row, int side, struct tt_error *err)
{
	const char *name = side_names[side];
	const json_t *list = json_object_get(row, name), *item;
	size_t i;
	if (!list || json_is_null(list))
		return tt_fail(err, TT_ERR_FORMAT, "%s is missing", name);
	if (!json_is_array(list) || json_array_size(list) == 0)
		return tt_fail(err, TT_ERR_FORMAT, "%s must be a list of openings in a row without a prompt", name);
	json_array_foreach(list, i, item)
	{
		if (!json_is_string(item) || !*json_string_value(item))
			return tt_fail(err, TT_ERR_FORMAT, "%s[%zu] is not a text, or empty", name, i);
		TT_TRY(add_text(&out->openings[side], json_string_value(item), err));
	}
	return TT_OK;
}

static int take_responses(struct tt_contrast *out, const json_t *row, struct tt_error *err)
{
	const char *text[TT_N_SIDES] = {NULL};
	for (int side = 0; side < TT_N_SIDES; side++) {
		TT_TRY(tt_json_string(row, side_names[side], &text[side], err));
		if (text[side] && !*text[side])
			return tt_fail(err, TT_ERR_FORMAT, "%s is empty", side_names[side]);
	}
	for (int side = 0; side < TT_N_SIDES; side++) {
		if (!text[side] && text[!side])
			return tt_fail(
				err, TT_ERR_FORMAT, "%s is missing beside %s", side_names[side], side_names[!side]);
		TT_TRY(add_text(&out->responses[side], text[side], err));
	}
	return TT_OK;
}

static int take_row(void *user, const struct tt_json_line *line, bool *holds_prompt, struct tt_error *err)
{
	struct tt_contrast *out = user;
	const json_t *row = line->value;
	if (!json_is_object(row))
		return tt_fail(err, TT_ERR_FORMAT, "not a JSON object");
	*holds_prompt = tt_json_has(row, "prompt");
	if (*holds_prompt)
		return take_responses(out, row, err);
	if (tt_json_has(row, "messages"))
		return tt_fail(err, TT_ERR_UNSUPPORTED, "messages: a contrast's rows have a prompt, no conversation");
	for (int side = 0; side < TT_N_SIDES; side++)
		TT_TRY(take_openings(out, row, side, err));
	return TT_OK;
}

static int check(const struct tt_contrast *contrast, struct tt_error *err)
{
	for (size_t i = 0; contrast->openings[TT_POSITIVE].n == 0 && i < contrast->prompts.n_rows; i++) {
		const struct tt_prompt *row = &contrast->prompts.rows[i];
		if (!contrast->responses[TT_POSITIVE].texts[i])
			return tt_fail(err, TT_ERR_FORMAT,
				"%s:%u: positive is missing, and no row of the file has openings",
				contrast->prompts.files[0].path, row->line);
	}
	return TT_OK;
}

int tt_contrast_read(struct tt_contrast *out, const char *path, struct tt_error *err)
{
	*out = (struct tt_contrast){0};
	const struct tt_prompt_form form = {.take = take_row, .user = out};
	int status = tt_prompts_read_as(&out->prompts, &path, 1, &form, err);
	if (status == TT_OK)
		status = check(out, err);
	if (status != TT_OK)
		tt_contrast_free(out);
	return status;
}

static void free_texts(struct tt_openings *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->texts[i]);
	free(list->texts);
}

void tt_contrast_free(struct tt_contrast *contrast)
{
	for (int side = 0; side < TT_N_SIDES; side++) {
		free_texts(&contrast->responses[side]);
		free_texts(&contrast->openings[side]);
	}
	tt_prompts_free(&contrast->prompts);
	*contrast = (struct tt_contrast){0};
}

/* The text of one side for a prompt: its own, or an opening. */
static const char *response_of(
	const struct tt_contrast *contrast, int side, const struct tt_prompt *prompt, size_t turn)
{
	const struct tt_openings *openings = &contrast->openings[side];
	const char *own = NULL;
	if (contrast->prompts.n_rows > 0)
		own = contrast->responses[side].texts[prompt - contrast->prompts.rows];
	return own ? own : openings->texts[turn % openings->n];
}

int tt_contrast_encode(struct tt_completion out[TT_N_SIDES], const struct tt_contrast *contrast,
	const struct tt_text *text, const struct tt_prompt *prompt, size_t turn, struct tt_error *err)
{
	for (int side = 0; side < TT_N_SIDES; side++) {
		const char *response = response_of(contrast, side, prompt, turn);
		TT_TRY(tt_text_encode(text, response, strlen(response), 0, &out[side].ids, &out[side].n_ids, err));
		if (out[side].n_ids < 2)
			return tt_fail(err, TT_ERR_FORMAT, "%s: %s \"%.40s\" has fewer than two tokens",
				contrast->prompts.files[0].path, side_names[side], response);
		if (out[side].n_ids > TT_MAX_RESPONSE)
			out[side].n_ids = TT_MAX_RESPONSE;
		TT_TRY(tt_copy_string(&out[side].text, response, strlen(response), err));
	}
	return TT_OK;
}

static int score_side(struct tt_engine *engine, const struct tt_request_options *options, size_t n,
	const struct tt_completion *responses, struct tt_completion *copies, double *nll, struct tt_progress *progress,
	struct tt_error *err)
{
	struct tt_tally tally = {0};
	for (size_t i = 0; i < n; i++)
		TT_TRY(tt_completion_copy(&copies[i], &responses[i], err));
	TT_TRY(tt_completions_score_steered(engine, options, n, copies, progress, err));
	for (size_t i = 0; i < n; i++)
		tt_tally_add(&tally, &copies[i]);
	*nll = tt_tally_nll(&tally);
	return TT_OK;
}

int tt_contrast_preference(struct tt_engine *engine, const struct tt_request_options *options, size_t n,
	const struct tt_completion *const responses[TT_N_SIDES], double *out, struct tt_progress *progress,
	struct tt_error *err)
{
	double nll[TT_N_SIDES] = {0};
	int status = TT_OK;
	for (int side = 0; status == TT_OK && side < TT_N_SIDES; side++) {
		struct tt_completion *copies = NULL;
		TT_TRY(tt_alloc(&copies, n, sizeof *copies, err));
		status = score_side(engine, options, n, responses[side], copies, &nll[side], progress, err);
		for (size_t i = 0; i < n; i++)
			tt_completion_free(&copies[i]);
		free(copies);
	}
	*out = nll[TT_NEGATIVE] - nll[TT_POSITIVE];
	return status;
}
