/* The report as JSON. Its layout is bench/schema.json; a change there or here changes TT_BENCH_SCHEMA. */
#include "bench/harness/harness_internal.h"

#include <math.h>
#include <stdlib.h>

#include "base/fail.h"
#include "base/file.h"
#include "runtime/trimtab.h"

/* JSON has no NaN and no infinity. */
static json_t *number(double value)
{
	return isfinite(value) ? json_real(value) : json_null();
}

static json_t *summary(const struct tt_bench_summary *s)
{
	return json_pack("{s:I, s:o, s:o, s:o, s:o, s:o, s:o}", "n", (json_int_t)s->n, "median", number(s->median),
		"low", number(s->low), "high", number(s->high), "coverage", number(s->coverage), "min", number(s->min),
		"max", number(s->max));
}

static json_t *samples(const struct tt_bench_result *r)
{
	json_t *list = json_array();
	for (size_t i = 0; list && i < r->n_samples; i++)
		if (json_array_append_new(list, json_real(r->samples[i]))) {
			json_decref(list);
			return NULL;
		}
	return list;
}

static json_t *work(const struct tt_bench_result *r)
{
	json_t *list = json_array();
	for (uint32_t w = 0; w < TT_BENCH_MAX_WORK && r->spec->work[w].unit; w++) {
		const struct tt_bench_work *one = &r->spec->work[w];
		json_t *share = one->ceiling ? summary(&r->shares[w]) : json_null();
		json_t *entry = json_pack("{s:s, s:f, s:o, s:s?, s:o}", "unit", one->unit, "amount", one->amount,
			"per_second", summary(&r->rates[w]), "ceiling", one->ceiling, "share", share);
		if (json_array_append_new(list, entry)) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *one_case(const struct tt_bench_result *r)
{
	json_t *ratio = r->spec->baseline ? summary(&r->ratio) : json_null();
	return json_pack("{s:s, s:s, s:s?, s:s?, s:I, s:o, s:o, s:o, s:s?, s:o}", "group", r->spec->group, "name",
		r->spec->name, "note", r->spec->note, "error", r->error, "calls_per_sample", (json_int_t)r->n_calls,
		"samples_s", samples(r), "seconds", summary(&r->seconds), "work", work(r), "baseline",
		r->spec->baseline, "ratio", ratio);
}

static int add_cases(const struct tt_bench *bench, json_t *list, struct tt_error *err)
{
	for (size_t i = 0; i < tt_bench_n_cases(bench); i++) {
		struct tt_bench_result result;
		TT_TRY(tt_bench_result(bench, i, &result, err));
		if (json_array_append_new(list, one_case(&result)))
			return tt_bench_json_failed(err);
	}
	return TT_OK;
}

static json_t *command(const struct tt_bench_options *o)
{
	json_t *list = json_array();
	for (size_t i = 0; i < o->n_arguments; i++) {
		/* A path may hold bytes that are not UTF-8, which JSON cannot represent. */
		json_t *argument = json_string(o->arguments[i]);
		if (json_array_append_new(list, argument ? argument : json_string("?"))) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *settings(const struct tt_bench_options *o)
{
	return json_pack("{s:s, s:I, s:f, s:i, s:i, s:i, s:f, s:f}", "order",
		o->order == TT_BENCH_ABBA ? "abba" : "shuffled", "seed", (json_int_t)o->seed, "confidence",
		o->confidence, "warmup_rounds", (int)o->n_warmup, "min_rounds", (int)o->min_rounds, "max_rounds",
		(int)o->max_rounds, "min_seconds", o->min_seconds, "min_sample_seconds", o->min_sample_seconds);
}

int tt_bench_json(const struct tt_bench *bench, json_t **out, struct tt_error *err)
{
	json_t *cases = json_array();
	int status = cases ? add_cases(bench, cases, err) : tt_bench_json_failed(err);
	if (status != TT_OK) {
		json_decref(cases);
		return status;
	}
	*out = json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:O, s:o, s:O, s:o}", "schema", TT_BENCH_SCHEMA, "program",
		bench->options.program, "version", TT_VERSION, "commit", tt_bench_commit(), "date", bench->date,
		"command", command(&bench->options), "machine", bench->machine, "settings", settings(&bench->options),
		"subject", bench->subject, "cases", cases);
	return *out ? TT_OK : tt_bench_json_failed(err);
}

int tt_bench_write_report(const json_t *report, const char *path, struct tt_error *err)
{
	char *text = json_dumps(report, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
	if (!text)
		return tt_bench_json_failed(err);
	struct tt_buffer line = {0};
	int status = tt_buffer_print(&line, err, "%s\n", text);
	free(text);
	if (status == TT_OK)
		status = tt_file_write(path, line.data, line.len, err);
	tt_buffer_free(&line);
	return status;
}

int tt_bench_write_json(const struct tt_bench *bench, const char *path, struct tt_error *err)
{
	json_t *report = NULL;
	TT_TRY(tt_bench_json(bench, &report, err));
	int status = tt_bench_write_report(report, path, err);
	json_decref(report);
	return status;
}
