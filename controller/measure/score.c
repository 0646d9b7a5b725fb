/* tt_score: what is asked, the sides, the files and the report's frame. */
#include "controller/measure/score.h"

#include <math.h>
#include <string.h>

#include "base/fail.h"
#include "base/options.h"
#include "base/json.h"
#include "controller/measure/eval.h"
#include "runtime/engine/numerics.h"
#include "runtime/engine/outputs.h"
#include "runtime/engine/request.h"

static const struct tt_score_options DEFAULTS = {.when = TT_WHEN_POLICY};

void tt_score_options_default_sized(struct tt_score_options *options, size_t size)
{
	tt_options_default(options, size, &DEFAULTS, sizeof DEFAULTS);
}

unsigned tt_score_text_flags(const struct tt_score_options *o)
{
	return (o->no_special ? 0u : TT_TEXT_SPECIAL) | (o->no_bos ? 0u : TT_TEXT_BOS);
}

void tt_score_count(struct tt_score *s, size_t side, const struct tt_engine_stats *before)
{
	struct tt_engine_stats now;
	tt_engine_stats(s->engine, &now);
	s->computed[side] +=
		now.n_prefill_tokens + now.n_decode_tokens - before->n_prefill_tokens - before->n_decode_tokens;
	s->shared[side] += now.n_shared - before->n_shared;
}

json_t *tt_score_sides(const struct tt_score *s, tt_side_fn make, const void *user)
{
	return json_pack("{s:o, s:o}", "unsteered", make(user, TT_UNSTEERED), "steered",
		s->n_sides > 1 ? make(user, TT_STEERED) : json_null());
}

json_t *tt_score_interval(double low, double high)
{
	return isfinite(low) && isfinite(high) ? json_pack("[f, f]", low, high) : json_null();
}

/* Nine digits tell any two floats apart. */
int tt_score_put_row(struct tt_score *s, json_t *row, struct tt_error *err)
{
	char *line = NULL;
	if (!s->rows.file) {
		json_decref(row);
		return TT_OK;
	}
	TT_TRY(tt_json_dump(&line, row, JSON_COMPACT | JSON_REAL_PRECISION(9), err));
	return tt_line_file_put(&s->rows, line, err);
}

static int check(struct tt_score *s, struct tt_error *err)
{
	const struct tt_score_options *o = s->options;
	if (!o->choices == !o->perplexity)
		return tt_fail(err, TT_ERR_ARGUMENT, "either choices or a text for perplexity must be given");
	if (o->choices && (o->window || o->stride))
		return tt_fail(err, TT_ERR_ARGUMENT, "window and stride are for perplexity");
	if (o->perplexity && (o->letters || o->chat))
		return tt_fail(err, TT_ERR_ARGUMENT, "letters and chat are for choices");
	return tt_request_check_steering(s->engine, o->steering, o->n_steering, o->when, err);
}

static int open_rows(struct tt_score *s, struct tt_error *err)
{
	const struct tt_score_options *o = s->options;
	TT_TRY(tt_line_file_name(&s->rows, o->rows, err));
	const struct tt_file_use reads[] = {{o->choices, "the choices"}, {o->perplexity, "the text"}};
	const struct tt_file_use writes[] = {
		{s->rows.path, "the rows"}, {s->rows.partial, "the rows while they are written"}};
	TT_TRY(tt_engine_check_outputs(s->engine, reads, 2, writes, 2, err));
	return tt_line_file_open(&s->rows, err);
}

static void choose_sides(struct tt_score *s)
{
	const struct tt_score_options *o = s->options;
	for (size_t side = 0; side < TT_SCORE_SIDES; side++)
		tt_request_options_default(&s->how[side]);
	struct tt_request_options *steered = &s->how[TT_STEERED];
	memcpy(steered->steering, o->steering, sizeof o->steering);
	steered->n_steering = o->n_steering;
	steered->when = o->when;
	s->n_sides = o->n_steering ? TT_SCORE_SIDES : 1;
}

static json_t *count_json(const void *user, size_t side)
{
	const uint64_t *counts = user;
	return json_integer((json_int_t)counts[side]);
}

/* measured: what was measured, under key; taken over. */
static int write_report(struct tt_score *s, const char *key, json_t *measured, char **report, struct tt_error *err)
{
	const struct tt_score_options *o = s->options;
	json_t *numerics = json_object();
	int status = numerics ? tt_engine_numerics(numerics, s->engine, err)
			      : tt_fail(err, TT_ERR_MEMORY, "out of memory: what the scores depend on");
	if (status == TT_OK) /* which leaves f32 out */
		status = tt_json_set(numerics, "compute", json_string(tt_engine_compute(s->engine)), err);
	json_t *json = json_pack("{s:s, s:o, s:o, s:o, s:{s:o, s:o}}", "model", tt_engine_info(s->engine)->name,
		"numerics", numerics, "policies", tt_eval_policies_report(o->steering, o->n_steering, o->when), key,
		measured, "tokens", "computed", tt_score_sides(s, count_json, s->computed), "shared",
		tt_score_sides(s, count_json, s->shared));
	if (status == TT_OK)
		return tt_json_dump(report, json, JSON_INDENT(1) | JSON_REAL_PRECISION(9), err);
	json_decref(json);
	return status;
}

static int run(struct tt_score *s, char **report, struct tt_error *err)
{
	json_t *measured = NULL;
	TT_TRY(check(s, err));
	choose_sides(s);
	TT_TRY(open_rows(s, err));
	if (s->options->choices)
		TT_TRY(tt_score_choices(s, &measured, err));
	else
		TT_TRY(tt_score_text(s, &measured, err));
	int status = tt_line_file_close(&s->rows, err);
	if (status == TT_OK)
		return write_report(s, s->options->choices ? "choices" : "perplexity", measured, report, err);
	json_decref(measured);
	return status;
}

int tt_score(struct tt_engine *engine, const struct tt_score_options *options, char **report, struct tt_error *err)
{
	TT_TRY(tt_need(report, "report", err));
	*report = NULL;
	TT_TRY(tt_need(engine, "engine", err));
	TT_TRY(tt_need(options, "options", err));
	struct tt_score_options o = DEFAULTS;
	TT_TRY(tt_options_take(&o, sizeof o, options, "tt_score_options", err));
	struct tt_score s = {.engine = engine, .options = &o, .progress = {.fn = o.progress, .user = o.user}};
	int status = run(&s, report, err);
	tt_line_file_free(&s.rows);
	return status;
}
