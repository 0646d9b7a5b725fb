/* The files that an evaluation writes: the completions, the requests to a judge, and the rows to review. */
#include <stdlib.h>

#include "base/fail.h"
#include "base/json.h"
#include "base/outputs.h"
#include "controller/measure/eval.h"
#include "runtime/engine/outputs.h"

/* Refuses to write an output over the data, the judgements, the model, a policy or the other output. */
static int check_outputs(const struct tt_eval *e, struct tt_error *err)
{
	const struct tt_eval_options *o = e->options;
	struct tt_file_use *reads = NULL; // [n_data + 1]
	const struct tt_file_use writes[] = {{e->completions.path, "the completions"},
		{e->completions.partial, "the completions while they are written"},
		{e->requests.path, "the requests to a judge"},
		{e->requests.partial, "the requests to a judge while they are written"},
		{e->review.path, "the rows to review"},
		{e->review.partial, "the rows to review while they are written"}};
	TT_TRY(tt_alloc(&reads, o->n_data + 1, sizeof *reads, err));
	for (size_t i = 0; i < o->n_data; i++)
		reads[i] = (struct tt_file_use){o->data[i], "the data"};
	if (o->judgements)
		reads[o->n_data] = (struct tt_file_use){o->judgements, "the judgements"};
	int status = tt_engine_check_outputs(
		e->engine, reads, o->n_data + (o->judgements != NULL), writes, sizeof writes / sizeof *writes, err);
	free(reads);
	return status;
}

int tt_eval_outputs_open(struct tt_eval *e, struct tt_error *err)
{
	TT_TRY(tt_line_file_name(&e->completions, e->options->completions, err));
	TT_TRY(tt_line_file_name(&e->requests, e->options->judge_requests, err));
	TT_TRY(tt_line_file_name(&e->review, e->options->review, err));
	TT_TRY(check_outputs(e, err));
	TT_TRY(tt_line_file_open(&e->completions, err));
	return tt_line_file_open(&e->requests, err);
}

static double nll(const struct tt_completion *c)
{
	return c->n_ids ? -c->logprob / (double)c->n_ids : 0;
}

static json_t *verdict_word(enum tt_verdict verdict)
{
	static const char *const words[] = {
		[TT_NO_VERDICT] = NULL, [TT_FULFILLED] = "fulfilled", [TT_REFUSED] = "refused"};
	return words[verdict] ? json_string(words[verdict]) : json_null();
}

static int put_texts(json_t *object, const struct tt_completion *unsteered, const struct tt_completion *steered,
	struct tt_error *err)
{
	return tt_json_add(
		object, json_pack("{s:s, s:s}", "unsteered", unsteered->text, "steered", steered->text), err);
}

static int put_decision(
	json_t *object, const struct tt_eval_arm *arm, const struct tt_completion *steered, struct tt_error *err)
{
	double scale = arm->n_steering ? (double)arm->steering[0].scale : 0;
	return tt_json_add(object,
		json_pack("{s:f, s:f, s:f, s:b}", "scale", scale, "gate", (double)steered->gate, "s",
			(double)steered->s, "flagged", (int)steered->flagged),
		err);
}

static int put_figures(json_t *object, const struct tt_completion *unsteered, const struct tt_completion *steered,
	struct tt_error *err)
{
	return tt_json_add(object,
		json_pack("{s:b, s:b, s:b, s:b, s:o, s:o, s:f, s:f}", "refused_unsteered", (int)unsteered->refused,
			"refused_steered", (int)steered->refused, "refused_by_phrases_unsteered",
			(int)unsteered->refused_by_phrases, "refused_by_phrases_steered",
			(int)steered->refused_by_phrases, "verdict_unsteered", verdict_word(unsteered->verdict),
			"verdict_steered", verdict_word(steered->verdict), "nll_unsteered", nll(unsteered),
			"nll_steered", nll(steered)),
		err);
}

/* Of an evaluation of gates the decision alone. */
static int fill_line(json_t *object, const struct tt_eval *e, const struct tt_prompt *row,
	const struct tt_eval_arm *arm, const struct tt_completion *unsteered, const struct tt_completion *steered,
	struct tt_error *err)
{
	uint64_t seed;
	bool has_texts = !tt_eval_is_of_gates(e);
	TT_TRY(tt_eval_seed(e, row, &seed, err));
	TT_TRY(tt_json_set(object, "id", json_string(row->id), err));
	if (e->options->n_arms)
		TT_TRY(tt_json_set(object, "arm", json_string(arm->name), err));
	if (e->variant)
		TT_TRY(tt_json_set(object, "variant", json_string(e->variant), err));
	TT_TRY(tt_prompt_put(object, row, row->text, err));
	TT_TRY(tt_json_set(object, "label", json_string(tt_label_name(row->label)), err));
	if (has_texts)
		TT_TRY(put_texts(object, unsteered, steered, err));
	TT_TRY(put_decision(object, arm, steered, err));
	if (has_texts)
		TT_TRY(put_figures(object, unsteered, steered, err));
	return e->options->sampling.temperature > 0 ? tt_json_set(object, "seed", json_integer((json_int_t)seed), err)
						    : TT_OK;
}

static int write_completion(struct tt_eval *e, const struct tt_prompt *row, const struct tt_eval_arm *arm,
	const struct tt_completion *unsteered, const struct tt_completion *steered, struct tt_error *err)
{
	char *line = NULL;
	json_t *object = json_object();
	int status = fill_line(object, e, row, arm, unsteered, steered, err);
	if (status == TT_OK)
		status = tt_json_dump(&line, json_incref(object), JSON_COMPACT | JSON_REAL_PRECISION(6), err);
	json_decref(object);
	TT_TRY(status);
	return tt_line_file_put(&e->completions, line, err);
}

static int write_request(struct tt_eval *e, const struct tt_prompt *row, size_t side,
	const struct tt_completion *completion, struct tt_error *err)
{
	char *line = NULL;
	TT_TRY(tt_judge_request(&line, row->id, tt_eval_side_name(e, side), row->text, completion->text, err));
	return tt_line_file_put(&e->requests, line, err);
}

int tt_eval_outputs_row(
	struct tt_eval *e, const struct tt_prompt *row, const struct tt_completion *const *sides, struct tt_error *err)
{
	for (size_t arm = 0; e->completions.file && arm < e->n_arms; arm++)
		TT_TRY(write_completion(e, row, &e->arms[arm], sides[0], sides[1 + arm], err));
	for (size_t side = 0; e->requests.file && side < e->n_sides; side++)
		TT_TRY(write_request(e, row, side, sides[side], err));
	return TT_OK;
}

int tt_eval_outputs_flush(struct tt_eval *e, struct tt_error *err)
{
	TT_TRY(tt_line_file_flush(&e->completions, err));
	return tt_line_file_flush(&e->requests, err);
}

int tt_eval_outputs_close(struct tt_eval *e, struct tt_error *err)
{
	TT_TRY(tt_line_file_close(&e->completions, err));
	return tt_line_file_close(&e->requests, err);
}

void tt_eval_outputs_free(struct tt_eval *e)
{
	tt_line_file_free(&e->completions);
	tt_line_file_free(&e->requests);
	tt_line_file_free(&e->review);
}
