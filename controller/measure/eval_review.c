/* The rows of an evaluation that a person should look at, with room for a verdict. */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "controller/measure/eval.h"

int tt_eval_review_check(const struct tt_eval *e, struct tt_error *err)
{
	const struct tt_eval_options *o = e->options;
	struct tt_policy_info info;
	if (!o->review)
		return TT_OK;
	if (o->n_review_rows < 1)
		return tt_fail(err, TT_ERR_ARGUMENT, "a review needs at least one row");
	if (o->n_arms || o->n_steering != 1)
		return tt_fail(err, TT_ERR_ARGUMENT, "a review is of one policy");
	tt_policy_describe(o->steering[0].policy, &info);
	if (!info.has_threshold)
		return tt_fail(err, TT_ERR_ARGUMENT,
			"a review needs a gate with a threshold, and that of %s, %s, has none", info.name,
			info.gate_word);
	return TT_OK;
}

int tt_eval_review_keep(struct tt_eval *e, size_t row, const struct tt_completion *const *sides, struct tt_error *err)
{
	if (!e->options->review || tt_eval_is_of_gates(e) || e->variant)
		return TT_OK;
	if (!e->texts)
		TT_TRY(tt_alloc(&e->texts, e->n_rows, sizeof *e->texts, err));
	for (int side = 0; side < 2; side++)
		TT_TRY(tt_copy_string(&e->texts[row][side], sides[side]->text, strlen(sides[side]->text), err));
	return TT_OK;
}

/* By the judge where it has a verdict, else by the rules. */
static bool is_refused(const struct tt_eval *e, size_t side, size_t row)
{
	const enum tt_verdict *verdicts = e->outcomes[side * e->n_rows + row].verdicts;
	enum tt_verdict by_judge = verdicts[TT_BY_JUDGE];
	return (by_judge == TT_NO_VERDICT ? verdicts[TT_IN_SUBSTANCE] : by_judge) == TT_REFUSED;
}

static struct tt_review_case case_of(const struct tt_eval *e, size_t row)
{
	bool harmful = e->rows[row]->label == TT_HARMFUL;
	return (struct tt_review_case){.score = e->scores[row],
		.harmful = harmful,
		.flagged = e->outcomes[e->n_rows + row].flagged,
		.is_outcome_wrong = !tt_eval_is_of_gates(e) && is_refused(e, 1, row) != harmful};
}

/* A key that a row may lack: NULL and "" are left out. */
static int put_text(json_t *object, const char *key, const char *text, struct tt_error *err)
{
	return text && *text ? tt_json_set(object, key, json_string(text), err) : TT_OK;
}

static int fill_line(
	json_t *object, const struct tt_eval *e, const struct tt_review_choice *choice, struct tt_error *err)
{
	const struct tt_prompt *row = e->rows[choice->row];
	struct tt_policy_info info;
	tt_policy_describe(e->options->steering[0].policy, &info);
	double score = e->scores[choice->row];
	TT_TRY(tt_json_add(object,
		json_pack("{s:s, s:s, s:s}", "id", row->id, "verdict", "", "label", tt_label_name(row->label)), err));
	TT_TRY(tt_prompt_put(object, row, row->text, err));
	TT_TRY(put_text(object, "split", row->split_name, err));
	TT_TRY(put_text(object, "source", row->source, err));
	TT_TRY(put_text(object, "kind", row->kind, err));
	TT_TRY(tt_json_add(object,
		json_pack("{s:s, s:f, s:f, s:b}", "reason", tt_review_reason_word(choice->reason), "gate",
			info.opens_below ? -score : score, "threshold", (double)info.threshold, "flagged",
			(int)e->outcomes[e->n_rows + choice->row].flagged),
		err));
	if (!e->texts)
		return TT_OK;
	return tt_json_add(object,
		json_pack("{s:s, s:s, s:b, s:b}", "unsteered", e->texts[choice->row][0], "steered",
			e->texts[choice->row][1], "refused_unsteered", (int)is_refused(e, 0, choice->row),
			"refused_steered", (int)is_refused(e, 1, choice->row)),
		err);
}

static int write_row(struct tt_eval *e, const struct tt_review_choice *choice, struct tt_error *err)
{
	char *line = NULL;
	json_t *object = json_object();
	int status = fill_line(object, e, choice, err);
	if (status == TT_OK)
		status = tt_json_dump(&line, json_incref(object), JSON_COMPACT | JSON_REAL_PRECISION(6), err);
	json_decref(object);
	TT_TRY(status);
	e->n_to_review[choice->reason]++;
	return tt_line_file_put(&e->review, line, err);
}

static int choose(const struct tt_eval *e, struct tt_review_choice *chosen, size_t *n, struct tt_error *err)
{
	struct tt_review_case *cases = NULL; // [n_rows]
	TT_TRY(tt_alloc(&cases, e->n_rows, sizeof *cases, err));
	for (size_t i = 0; i < e->n_rows; i++)
		cases[i] = case_of(e, i);
	int status = tt_review_choose(cases, e->n_rows, e->options->n_review_rows, chosen, n, err);
	free(cases);
	return status;
}

int tt_eval_review_write(struct tt_eval *e, struct tt_error *err)
{
	struct tt_review_choice *chosen = NULL; // [n_rows]
	size_t n = 0;
	if (!e->options->review)
		return TT_OK;
	TT_TRY(tt_alloc(&chosen, e->n_rows, sizeof *chosen, err));
	int status = choose(e, chosen, &n, err);
	if (status == TT_OK)
		status = tt_line_file_open(&e->review, err);
	for (size_t i = 0; status == TT_OK && i < n; i++)
		status = write_row(e, &chosen[i], err);
	free(chosen);
	TT_TRY(status);
	return tt_line_file_close(&e->review, err);
}

json_t *tt_eval_review_report(const struct tt_eval *e)
{
	json_t *report = e->options->review ? json_object() : json_null();
	for (int reason = 0; e->options->review && reason < TT_N_REVIEW_REASONS; reason++)
		json_object_set_new(report, tt_review_reason_word((enum tt_review_reason)reason),
			json_integer((json_int_t)e->n_to_review[reason]));
	return report;
}

void tt_eval_review_free(struct tt_eval *e)
{
	for (size_t i = 0; e->texts && i < e->n_rows; i++) {
		free(e->texts[i][0]);
		free(e->texts[i][1]);
	}
	free(e->texts);
}
