#include "controller/measure/choices.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "controller/measure/prompts.h"

enum { ROOM = 256 }; /* tokens that a choice may have */

struct reader {
	struct tt_choices *out;
	struct tt_engine *engine;
	uint32_t limit;
};

static int add_choice(struct reader *r, const char *text, struct tt_error *err)
{
	struct tt_choices *out = r->out;
	size_t *n = &out->first[out->n];
	TT_TRY(tt_grow(&out->choices, &out->choices_capacity, *n + 1, sizeof *out->choices, err));
	struct tt_completion *choice = &out->choices[*n];
	*choice = (struct tt_completion){0};
	++*n;
	TT_TRY(tt_copy_string(&choice->text, text, strlen(text), err));
	TT_TRY(tt_text_encode(tt_engine_text(r->engine), text, strlen(text), 0, &choice->ids, &choice->n_ids, err));
	if (choice->n_ids == 0 || choice->n_ids > ROOM)
		return tt_fail(err, TT_ERR_FORMAT, "a choice must have 1 to %d tokens", ROOM);
	return TT_OK;
}

static int read_choices(struct reader *r, const json_t *row, struct tt_error *err)
{
	const json_t *list = json_object_get(row, "choices"), *item;
	size_t i, n = json_array_size(list);
	if (!json_is_array(list) || n < 2 || n > TT_MAX_CHOICES)
		return tt_fail(err, TT_ERR_FORMAT, "choices must be a list of 2 to %d texts", TT_MAX_CHOICES);
	json_array_foreach(list, i, item)
	{
		if (!json_is_string(item) || !*json_string_value(item))
			return tt_fail(err, TT_ERR_FORMAT, "choices[%zu] is not a text, or empty", i);
		TT_TRY(add_choice(r, json_string_value(item), err));
	}
	uint32_t answer = UINT32_MAX;
	TT_TRY(tt_json_u32(row, "answer", 0, (uint32_t)n - 1, &answer, err));
	if (answer == UINT32_MAX)
		return tt_fail(err, TT_ERR_FORMAT, "answer is missing");
	r->out->answers[r->out->n - 1] = answer;
	return TT_OK;
}

static int take_row(void *user, const struct tt_json_line *line, struct tt_error *err)
{
	struct reader *r = user;
	const json_t *row = line->value;
	struct tt_choices *out = r->out;
	const char *question = NULL;
	int32_t *ids = NULL;
	if (r->limit && out->n == r->limit)
		return TT_OK;
	if (!json_is_object(row))
		return tt_fail(err, TT_ERR_FORMAT, "not a JSON object");
	TT_TRY(tt_json_string(row, "question", &question, err));
	if (!question || !*question)
		return tt_fail(err, TT_ERR_FORMAT, "question is missing");
	TT_TRY(tt_grow(&out->prompts, &out->capacity, out->n + 1, sizeof *out->prompts, err));
	TT_TRY(tt_grow(&out->answers, &out->answers_capacity, out->n + 1, sizeof *out->answers, err));
	TT_TRY(tt_grow(&out->first, &out->first_capacity, out->n + 2, sizeof *out->first, err));
	out->first[out->n + 1] = out->first[out->n];
	struct tt_request_options *prompt = &out->prompts[out->n++];
	tt_request_options_default(prompt);
	TT_TRY(tt_encode_prompt(r->engine, question, "question", ROOM, &ids, prompt, err));
	return read_choices(r, row, err);
}

int tt_choices_read(
	struct tt_choices *out, struct tt_engine *engine, const char *path, uint32_t limit, struct tt_error *err)
{
	struct tt_mapping mapping;
	struct reader reader = {out, engine, limit};
	*out = (struct tt_choices){0};
	TT_TRY(tt_file_map(&mapping, path, err));
	int status = tt_grow(&out->first, &out->first_capacity, 1, sizeof *out->first, err);
	if (status == TT_OK) {
		out->first[0] = 0;
		status = tt_json_lines(path, (const char *)mapping.data, mapping.size, take_row, &reader, err);
	}
	tt_file_unmap(&mapping);
	if (status == TT_OK && out->n == 0)
		status = tt_fail(err, TT_ERR_FORMAT, "%s: no rows", path);
	if (status != TT_OK)
		tt_choices_free(out);
	return status;
}

void tt_choices_free(struct tt_choices *choices)
{
	for (size_t i = 0; i < choices->n; i++)
		tt_free((void *)(uintptr_t)choices->prompts[i].ids);
	for (size_t i = 0; choices->first && i < choices->first[choices->n]; i++)
		tt_completion_free(&choices->choices[i]);
	free(choices->prompts);
	free(choices->first);
	free(choices->choices);
	free(choices->answers);
	*choices = (struct tt_choices){0};
}

static bool is_right(const struct tt_choices *choices, const struct tt_completion *scored, size_t question)
{
	const struct tt_completion *c = scored + choices->first[question];
	size_t n = choices->first[question + 1] - choices->first[question], best = 0;
	for (size_t i = 1; i < n; i++)
		if (c[i].logprob / (double)c[i].n_ids > c[best].logprob / (double)c[best].n_ids)
			best = i;
	return best == choices->answers[question];
}

static int score_choices(struct tt_engine *engine, const struct tt_choices *choices,
	const struct tt_request_options *how, struct tt_request_options *options, struct tt_completion *scored,
	double *accuracy, struct tt_progress *progress, struct tt_error *err)
{
	size_t n_right = 0;
	for (size_t i = 0; i < choices->n; i++)
		for (size_t k = choices->first[i]; k < choices->first[i + 1]; k++) {
			options[k] = choices->prompts[i];
			options[k].n_steering = how->n_steering;
			memcpy(options[k].steering, how->steering, sizeof how->steering);
			options[k].when = how->when;
			TT_TRY(tt_completion_copy(&scored[k], &choices->choices[k], err));
		}
	TT_TRY(tt_completions_score_steered(engine, options, choices->first[choices->n], scored, progress, err));
	for (size_t i = 0; i < choices->n; i++)
		n_right += is_right(choices, scored, i);
	*accuracy = (double)n_right / (double)choices->n;
	return TT_OK;
}

int tt_choices_accuracy(struct tt_engine *engine, const struct tt_choices *choices,
	const struct tt_request_options *how, double *accuracy, struct tt_progress *progress, struct tt_error *err)
{
	size_t n = choices->first[choices->n];
	struct tt_request_options *options = NULL;
	struct tt_completion *scored = NULL;
	int status = tt_alloc(&options, n, sizeof *options, err);
	if (status == TT_OK)
		status = tt_alloc(&scored, n, sizeof *scored, err);
	if (status == TT_OK)
		status = score_choices(engine, choices, how, options, scored, accuracy, progress, err);
	for (size_t i = 0; scored && i < n; i++)
		tt_completion_free(&scored[i]);
	free(scored);
	free(options);
	return status;
}
