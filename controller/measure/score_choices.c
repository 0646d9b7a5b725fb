/* Multiple choice: which choice the model finds likeliest, by lm-evaluation-harness's two measures. Works in blocks of
 * questions, each on both sides, so that finished rows are on disk while the rest runs. */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"
#include "controller/measure/choices.h"
#include "controller/measure/curves.h"
#include "controller/measure/metrics.h"
#include "controller/measure/score.h"

enum { BLOCK = 64, N_BY = 2 };

static const struct {
	enum tt_choice_by by;
	const char *name, *interval, *chosen, *n_right;
} measures[N_BY] = {{TT_BY_SUM, "acc", "acc_interval", "chosen", "n_right"},
	{TT_BY_CHARACTER, "acc_norm", "acc_norm_interval", "chosen_norm", "n_right_norm"}};

struct figures {
	size_t n_right[TT_SCORE_SIDES];
	size_t gained, lost, changed; /* right on the steered side alone, on the other alone; another choice there */
};

struct measure {
	struct tt_score *score;
	struct tt_choices choices;
	struct tt_completion *scored[TT_SCORE_SIDES]; // [n_choices] of the present block
	struct figures figures[N_BY];
	size_t n_flagged;
};

static int measure_side(struct measure *m, size_t side, size_t first, size_t n, struct tt_error *err)
{
	struct tt_score *s = m->score;
	struct tt_engine_stats before;
	tt_engine_stats(s->engine, &before);
	TT_TRY(tt_choices_score(s->engine, &m->choices, first, n, &s->how[side],
		m->scored[side] + m->choices.questions[first].first, &s->progress, err));
	tt_score_count(s, side, &before);
	return TT_OK;
}

static void count_question(struct measure *m, const struct tt_question *q)
{
	for (int i = 0; i < N_BY; i++) {
		struct figures *f = &m->figures[i];
		size_t best[TT_SCORE_SIDES] = {0};
		for (size_t side = 0; side < m->score->n_sides; side++) {
			best[side] = tt_choices_best(m->scored[side] + q->first, q->n, measures[i].by);
			f->n_right[side] += best[side] == q->answer;
		}
		if (m->score->n_sides == 1)
			continue;
		f->gained += best[TT_STEERED] == q->answer && best[TT_UNSTEERED] != q->answer;
		f->lost += best[TT_STEERED] != q->answer && best[TT_UNSTEERED] == q->answer;
		f->changed += best[TT_STEERED] != best[TT_UNSTEERED];
	}
	m->n_flagged += m->score->n_sides > 1 && m->scored[TT_STEERED][q->first].flagged;
}

struct row {
	const struct measure *measure;
	const struct tt_question *question;
};

static json_t *side_of_row(const void *user, size_t side)
{
	const struct row *row = user;
	const struct tt_completion *c = row->measure->scored[side] + row->question->first;
	json_t *object = json_object(), *logprobs = json_array(), *greedy = json_array();
	for (size_t k = 0; k < row->question->n; k++) {
		json_array_append_new(logprobs, tt_json_number(c[k].logprob));
		json_array_append_new(greedy, json_boolean(c[k].greedy));
	}
	for (int i = 0; i < N_BY; i++)
		json_object_set_new(object, measures[i].chosen,
			json_integer((json_int_t)tt_choices_best(c, row->question->n, measures[i].by)));
	json_object_set_new(object, "logprobs", logprobs);
	json_object_set_new(object, "greedy", greedy);
	if (side == TT_STEERED) {
		json_object_set_new(object, "s", tt_json_number((double)c->s));
		json_object_set_new(object, "gate", tt_json_number((double)c->gate));
		json_object_set_new(object, "flagged", json_boolean(c->flagged));
	}
	return object;
}

static int write_question(struct measure *m, const struct tt_question *q, struct tt_error *err)
{
	const struct row row = {m, q};
	json_t *n_tokens = json_array();
	if (!m->score->rows.file) {
		json_decref(n_tokens);
		return TT_OK;
	}
	for (size_t k = 0; k < q->n; k++)
		json_array_append_new(n_tokens, json_integer((json_int_t)m->choices.choices[q->first + k].n_ids));
	json_t *line = tt_score_sides(m->score, side_of_row, &row);
	json_object_set_new(line, "id", json_string(q->id));
	json_object_set_new(line, "answer", json_integer(q->answer));
	json_object_set_new(line, "context_tokens", json_integer((json_int_t)q->prompt.n_ids));
	json_object_set_new(line, "choice_tokens", n_tokens);
	return tt_score_put_row(m->score, line, err);
}

static int measure_block(struct measure *m, size_t first, size_t n, struct tt_error *err)
{
	for (size_t side = 0; side < m->score->n_sides; side++)
		TT_TRY(measure_side(m, side, first, n, err));
	for (size_t i = first; i < first + n; i++) {
		count_question(m, &m->choices.questions[i]);
		TT_TRY(write_question(m, &m->choices.questions[i], err));
	}
	return tt_line_file_flush(&m->score->rows, err);
}

static int measure_all(struct measure *m, struct tt_error *err)
{
	struct tt_score *s = m->score;
	const struct tt_score_options *o = s->options;
	const struct tt_choices_form form = {.letters = o->letters, .chat = o->chat, .text = tt_score_text_flags(o)};
	TT_TRY(tt_choices_read(&m->choices, s->engine, o->choices, &form, o->limit, err));
	for (size_t side = 0; side < s->n_sides; side++)
		TT_TRY(tt_alloc(&m->scored[side], m->choices.n_choices, sizeof *m->scored[side], err));
	TT_TRY(tt_progress_begin(&s->progress, "choices", s->n_sides * m->choices.n_choices, err));
	for (size_t first = 0; first < m->choices.n; first += BLOCK)
		TT_TRY(measure_block(m, first, m->choices.n - first < BLOCK ? m->choices.n - first : BLOCK, err));
	return TT_OK;
}

/* ---- The report */

struct part {
	const struct measure *measure;
	const struct figures *figures;
};

static json_t *n_right_json(const void *user, size_t side)
{
	const struct part *part = user;
	return json_integer((json_int_t)part->figures->n_right[side]);
}

static json_t *share_json(const void *user, size_t side)
{
	const struct part *part = user;
	return json_real((double)part->figures->n_right[side] / (double)part->measure->choices.n);
}

static json_t *interval_json(const void *user, size_t side)
{
	const struct part *part = user;
	return tt_interval_report(part->figures->n_right[side], part->measure->choices.n);
}

static json_t *pairs_json(const struct measure *m, const struct figures *f)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:f}", "n", (json_int_t)m->choices.n, "gained", (json_int_t)f->gained,
		"lost", (json_int_t)f->lost, "changed", (json_int_t)f->changed, "p", tt_sign_test(f->gained, f->lost));
}

static const char *form_word(const struct tt_score_options *o)
{
	if (o->chat)
		return o->letters ? "chat letters" : "chat";
	return o->letters ? "letters" : "text";
}

static json_t *report_of(const struct measure *m)
{
	const struct tt_score *s = m->score;
	size_t n = m->choices.n;
	json_t *out = json_pack("{s:s, s:s, s:s, s:I, s:I}", "file", tt_file_name(s->options->choices), "sha256",
		m->choices.sha256, "form", form_word(s->options), "n", (json_int_t)n, "n_choices",
		(json_int_t)m->choices.n_choices);
	json_t *paired = s->n_sides > 1 ? json_object() : json_null();
	for (int i = 0; i < N_BY; i++) {
		const struct part part = {m, &m->figures[i]};
		json_object_set_new(out, measures[i].n_right, tt_score_sides(s, n_right_json, &part));
		json_object_set_new(out, measures[i].name, tt_score_sides(s, share_json, &part));
		json_object_set_new(out, measures[i].interval, tt_score_sides(s, interval_json, &part));
		if (s->n_sides > 1)
			json_object_set_new(paired, measures[i].name, pairs_json(m, &m->figures[i]));
	}
	json_object_set_new(out, "paired", paired);
	json_object_set_new(out, "flagged", s->n_sides > 1 ? json_real((double)m->n_flagged / (double)n) : json_null());
	json_object_set_new(
		out, "flagged_interval", s->n_sides > 1 ? tt_interval_report(m->n_flagged, n) : json_null());
	return out;
}

int tt_score_choices(struct tt_score *s, json_t **report, struct tt_error *err)
{
	struct measure m = {.score = s};
	int status = measure_all(&m, err);
	if (status == TT_OK)
		*report = report_of(&m);
	for (size_t side = 0; side < TT_SCORE_SIDES; side++) {
		for (size_t i = 0; m.scored[side] && i < m.choices.n_choices; i++)
			tt_completion_free(&m.scored[side][i]);
		free(m.scored[side]);
	}
	tt_choices_free(&m.choices);
	return status;
}
