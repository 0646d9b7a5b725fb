#include "controller/measure/choices.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/sha256.h"
#include "base/utf8.h"
#include "controller/measure/prompts.h"
#include "runtime/text/unicode.h"

struct reader {
	struct tt_choices *out;
	struct tt_engine *engine;
	const struct tt_choices_form *form;
	uint32_t limit;
};

/* ---- What a row says */

struct row {
	const char *id, *question, *context;          /* one of question and context */
	const char *choices[TT_MAX_QUESTION_CHOICES]; /* [n] */
	char letters[TT_MAX_QUESTION_CHOICES][2];     /* "A", "B" and so on */
	size_t n;
	uint32_t answer;
};

static int read_answer(struct row *row, const json_t *json, struct tt_error *err)
{
	const char *letter = NULL;
	row->answer = UINT32_MAX;
	if (json_is_string(json_object_get(json, "answer"))) {
		TT_TRY(tt_json_string(json, "answer", &letter, err));
		if (!letter[0] || letter[1] || letter[0] < 'A' || (size_t)(letter[0] - 'A') >= row->n)
			return tt_fail(err, TT_ERR_FORMAT, "answer is neither an index nor a letter of the %zu choices",
				row->n);
		row->answer = (uint32_t)(letter[0] - 'A');
		return TT_OK;
	}
	TT_TRY(tt_json_u32(json, "answer", 0, (uint32_t)row->n - 1, &row->answer, err));
	return row->answer == UINT32_MAX ? tt_fail(err, TT_ERR_FORMAT, "answer is missing") : TT_OK;
}

static int read_row(struct row *row, const json_t *json, const struct tt_choices_form *form, struct tt_error *err)
{
	const json_t *list = json_object_get(json, "choices"), *item;
	size_t i;
	if (!json_is_object(json))
		return tt_fail(err, TT_ERR_FORMAT, "not a JSON object");
	TT_TRY(tt_json_string(json, "id", &row->id, err));
	TT_TRY(tt_json_string(json, "question", &row->question, err));
	TT_TRY(tt_json_string(json, "context", &row->context, err));
	if (!row->question == !row->context)
		return tt_fail(err, TT_ERR_FORMAT,
			row->context ? "question and context exclude each other" : "question is missing");
	if (form->letters && row->context)
		return tt_fail(err, TT_ERR_FORMAT, "letters need a question, not a context");
	row->n = json_array_size(list);
	if (!json_is_array(list) || row->n < 2 || row->n > TT_MAX_QUESTION_CHOICES)
		return tt_fail(err, TT_ERR_FORMAT, "choices must be a list of 2 to %d texts", TT_MAX_QUESTION_CHOICES);
	json_array_foreach(list, i, item)
	{
		if (!json_is_string(item) || !*json_string_value(item))
			return tt_fail(err, TT_ERR_FORMAT, "choices[%zu] is not a text, or empty", i);
		row->choices[i] = json_string_value(item);
		row->letters[i][0] = (char)('A' + i);
	}
	return read_answer(row, json, err);
}

/* ---- What the model reads */

/* The text before the choices: the whole context, or a user's message. */
static int write_context(
	struct tt_buffer *out, const struct row *row, const struct tt_choices_form *form, struct tt_error *err)
{
	if (row->context)
		return tt_buffer_print(out, err, "%s", row->context);
	if (form->letters) {
		TT_TRY(tt_buffer_print(out, err, "%s", row->question));
		for (size_t i = 0; i < row->n; i++)
			TT_TRY(tt_buffer_print(out, err, "\n%s. %s", row->letters[i], row->choices[i]));
		return form->chat ? TT_OK : tt_buffer_print(out, err, "\nAnswer:");
	}
	return tt_buffer_print(out, err, form->chat ? "%s" : "Question: %s\nAnswer:", row->question);
}

/* Bytes of text without the white space at its end. */
static size_t without_space(const char *text, size_t n)
{
	while (n) {
		size_t first = n - 1;
		uint32_t c;
		while (first && ((unsigned char)text[first] & 0xC0) == 0x80)
			first--;
		tt_utf8_next(text + first, n - first, &c);
		if (!tt_unicode_is_space(c))
			return n;
		n = first;
	}
	return n;
}

static int encode_context(
	const struct reader *r, struct tt_question *q, const struct tt_buffer *context, struct tt_error *err)
{
	int32_t *ids = NULL;
	tt_request_options_default(&q->prompt);
	if (r->form->chat)
		return tt_encode_prompt(r->engine, context->data, "question", 1, &ids, &q->prompt, err);
	TT_TRY(tt_text_encode(tt_engine_text(r->engine), context->data, without_space(context->data, context->len),
		r->form->text, &ids, &q->prompt.n_ids, err));
	q->prompt.ids = ids;
	return q->prompt.n_ids ? TT_OK
			       : tt_fail(err, TT_ERR_FORMAT,
					 "the context is empty, and the tokenizer puts nothing in front of a text");
}

/* The choice's ids are what the whole text has after as many ids as the context has. */
static int encode_after(const struct reader *r, const struct tt_question *q, const struct tt_buffer *context,
	const char *choice, struct tt_completion *out, struct tt_error *err)
{
	const struct tt_text *text = tt_engine_text(r->engine);
	struct tt_buffer whole = {0};
	int32_t *ids = NULL;
	size_t n = 0;
	if (r->form->chat)
		return tt_text_encode(text, choice, strlen(choice), 0, &out->ids, &out->n_ids, err);
	int status = tt_buffer_print(&whole, err, "%s%s", context->data, choice);
	if (status == TT_OK)
		status = tt_text_encode(text, whole.data, whole.len, r->form->text, &ids, &n, err);
	tt_buffer_free(&whole);
	TT_TRY(status);
	out->n_ids = n > q->prompt.n_ids ? n - q->prompt.n_ids : 0;
	status = tt_alloc(&out->ids, out->n_ids, sizeof *out->ids, err);
	if (status == TT_OK && out->n_ids)
		memcpy(out->ids, ids + q->prompt.n_ids, out->n_ids * sizeof *ids);
	tt_free(ids);
	return status;
}

static int add_choice(
	struct reader *r, const struct row *row, size_t index, const struct tt_buffer *context, struct tt_error *err)
{
	struct tt_choices *out = r->out;
	const struct tt_question *q = &out->questions[out->n - 1];
	const char *shown = r->form->letters ? row->letters[index] : row->choices[index];
	struct tt_buffer follows = {0};
	TT_TRY(tt_grow(&out->choices, &out->choices_capacity, out->n_choices + 1, sizeof *out->choices, err));
	struct tt_completion *choice = &out->choices[out->n_choices++];
	*choice = (struct tt_completion){0};
	TT_TRY(tt_copy_string(&choice->text, shown, strlen(shown), err));
	TT_TRY(tt_buffer_print(&follows, err, "%s%s", row->context || r->form->chat ? "" : " ", shown));
	int status = encode_after(r, q, context, follows.data, choice, err);
	tt_buffer_free(&follows);
	TT_TRY(status);
	uint32_t room = tt_engine_info(r->engine)->context;
	if (choice->n_ids == 0)
		return tt_fail(err, TT_ERR_FORMAT, "choices[%zu] adds no token to the context", index);
	if (q->prompt.n_ids > room || choice->n_ids > room - q->prompt.n_ids)
		return tt_fail(err, TT_ERR_LIMIT, "choices[%zu]: %zu tokens after %zu do not fit the context of %u",
			index, choice->n_ids, q->prompt.n_ids, room);
	return TT_OK;
}

static int name_question(struct tt_question *q, const struct row *row, uint32_t line, struct tt_error *err)
{
	struct tt_buffer name = {0};
	TT_TRY(row->id ? tt_buffer_print(&name, err, "%s", row->id) : tt_buffer_print(&name, err, "%u", line));
	q->id = name.data;
	return TT_OK;
}

static int take_row(void *user, const struct tt_json_line *line, struct tt_error *err)
{
	struct reader *r = user;
	struct tt_choices *out = r->out;
	struct row row = {0};
	struct tt_buffer context = {0};
	if (r->limit && out->n == r->limit)
		return TT_OK;
	TT_TRY(read_row(&row, line->value, r->form, err));
	TT_TRY(tt_grow(&out->questions, &out->capacity, out->n + 1, sizeof *out->questions, err));
	struct tt_question *q = &out->questions[out->n++];
	*q = (struct tt_question){.first = out->n_choices, .n = row.n, .answer = row.answer};
	TT_TRY(name_question(q, &row, line->number, err));
	int status = write_context(&context, &row, r->form, err);
	if (status == TT_OK)
		status = encode_context(r, q, &context, err);
	for (size_t i = 0; status == TT_OK && i < row.n; i++)
		status = add_choice(r, &row, i, &context, err);
	tt_buffer_free(&context);
	return status;
}

int tt_choices_read(struct tt_choices *out, struct tt_engine *engine, const char *path,
	const struct tt_choices_form *form, uint32_t limit, struct tt_error *err)
{
	struct tt_mapping mapping;
	struct reader reader = {out, engine, form, limit};
	*out = (struct tt_choices){0};
	TT_TRY(tt_file_map(&mapping, path, err));
	int status = tt_sha256(out->sha256, mapping.data, mapping.size, err);
	if (status == TT_OK)
		status = tt_json_lines(path, (const char *)mapping.data, mapping.size, take_row, &reader, err);
	tt_file_unmap(&mapping);
	if (status == TT_OK && out->n == 0)
		status = tt_fail(err, TT_ERR_FORMAT, "%s: no rows", path);
	if (status != TT_OK)
		tt_choices_free(out);
	return status;
}

void tt_choices_free(struct tt_choices *choices)
{
	for (size_t i = 0; i < choices->n; i++) {
		tt_free((void *)(uintptr_t)choices->questions[i].prompt.ids);
		free(choices->questions[i].id);
	}
	for (size_t i = 0; i < choices->n_choices; i++)
		tt_completion_free(&choices->choices[i]);
	free(choices->questions);
	free(choices->choices);
	*choices = (struct tt_choices){0};
}

/* ---- Scores */

static double figure_of(const struct tt_completion *choice, enum tt_choice_by by)
{
	if (by == TT_BY_CHARACTER)
		return choice->logprob / (double)tt_utf8_count(choice->text, strlen(choice->text));
	return by == TT_BY_TOKEN ? choice->logprob / (double)choice->n_ids : choice->logprob;
}

size_t tt_choices_best(const struct tt_completion *choices, size_t n, enum tt_choice_by by)
{
	size_t best = 0;
	for (size_t i = 1; i < n; i++)
		if (figure_of(&choices[i], by) > figure_of(&choices[best], by))
			best = i;
	return best;
}

/* Choices of a question follow each other, so that they find each other's pages. */
int tt_choices_score(struct tt_engine *engine, const struct tt_choices *choices, size_t first, size_t n,
	const struct tt_request_options *how, struct tt_completion *scored, struct tt_progress *progress,
	struct tt_error *err)
{
	struct tt_request_options *options = NULL;
	const struct tt_question *q = choices->questions + first, *last = q + n - 1;
	size_t n_choices = last->first + last->n - q->first, at = 0;
	int status = tt_alloc(&options, n_choices, sizeof *options, err);
	for (; status == TT_OK && q <= last; q++)
		for (size_t k = 0; status == TT_OK && k < q->n; k++, at++) {
			options[at] = q->prompt;
			options[at].n_steering = how->n_steering;
			memcpy(options[at].steering, how->steering, sizeof how->steering);
			options[at].when = how->when;
			status = tt_completion_copy(&scored[at], &choices->choices[q->first + k], err);
		}
	if (status == TT_OK)
		status = tt_completions_score_steered(engine, options, n_choices, scored, progress, err);
	free(options);
	return status;
}

int tt_choices_accuracy(struct tt_engine *engine, const struct tt_choices *choices,
	const struct tt_request_options *how, double *accuracy, struct tt_progress *progress, struct tt_error *err)
{
	struct tt_completion *scored = NULL;
	size_t n_right = 0;
	TT_TRY(tt_alloc(&scored, choices->n_choices, sizeof *scored, err));
	int status = tt_choices_score(engine, choices, 0, choices->n, how, scored, progress, err);
	for (size_t i = 0; status == TT_OK && i < choices->n; i++) {
		const struct tt_question *q = &choices->questions[i];
		n_right += tt_choices_best(scored + q->first, q->n, TT_BY_TOKEN) == q->answer;
	}
	*accuracy = (double)n_right / (double)choices->n;
	for (size_t i = 0; i < choices->n_choices; i++)
		tt_completion_free(&scored[i]);
	free(scored);
	return status;
}
