/* The rows of trimtab bench: llama-bench's columns, and behind them what steering costs. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "bench.h"
#include "bench/harness/harness.h"

struct side {
	struct tt_bench_result result;
	double mean, deviation; /* of tokens a second */
};

struct figures {
	struct side off, steered;
	bool has_steered;
	double n_tokens;
};

/* llama-bench's: of the rates of the repetitions, the deviation with n - 1. */
static void fill_side(struct side *side, double n_tokens)
{
	const struct tt_bench_result *r = &side->result;
	double squares = 0;
	side->mean = side->deviation = 0;
	for (size_t i = 0; i < r->n_samples; i++)
		side->mean += n_tokens / r->samples[i] / (double)r->n_samples;
	for (size_t i = 0; i < r->n_samples; i++)
		squares += pow(n_tokens / r->samples[i] - side->mean, 2);
	if (r->n_samples > 1)
		side->deviation = sqrt(squares / (double)(r->n_samples - 1));
}

static int read_figures(struct figures *f, const struct cli_bench_report *report, const struct cli_bench_row *row)
{
	struct tt_error err = {0};
	*f = (struct figures){.n_tokens = (double)row->test.n_prompt + row->test.n_gen, .has_steered = report->steered};
	if (tt_bench_result(row->bench, 0, &f->off.result, &err) != TT_OK ||
		(f->has_steered && tt_bench_result(row->bench, 1, &f->steered.result, &err) != TT_OK))
		return cli_fail(&err);
	fill_side(&f->off, f->n_tokens);
	if (f->has_steered)
		fill_side(&f->steered, f->n_tokens);
	return CLI_OK;
}

/* ---- What a row is about */

/* In capitals, as llama-bench has it. */
static void backend_name(char out[16], const struct tt_model_info *info)
{
	size_t i = 0;
	for (; i < 15 && info->backend[i]; i++)
		out[i] = (char)toupper((unsigned char)info->backend[i]);
	out[i] = 0;
}

static void size_text(char out[32], uint64_t bytes)
{
	double mib = (double)bytes / 1024 / 1024;
	snprintf(out, 32, mib < 1024 ? "%.2f MiB" : "%.2f GiB", mib < 1024 ? mib : mib / 1024);
}

static void count_text(char out[32], uint64_t n)
{
	snprintf(out, 32, n < 1000000000 ? "%.2f M" : "%.2f B", (double)n / (n < 1000000000 ? 1e6 : 1e9));
}

/* ---- Markdown */

struct column {
	const char *name;
	int width; /* negative: to the left */
	char text[96];
};

enum { MAX_COLUMNS = 16 };

struct columns {
	struct column list[MAX_COLUMNS]; // [n]
	size_t n;
};

static struct column *add(struct columns *c, const char *name, int width)
{
	struct column *column = &c->list[c->n++];
	*column = (struct column){.name = name, .width = width};
	return column;
}

static void add_text(struct columns *c, const char *name, int width, const char *text)
{
	snprintf(add(c, name, width)->text, sizeof c->list->text, "%s", text);
}

static void add_rate(struct columns *c, const char *name, const struct side *side)
{
	snprintf(add(c, name, 20)->text, sizeof c->list->text, "%.2f ± %.2f", side->mean, side->deviation);
	if (side->result.error)
		snprintf(c->list[c->n - 1].text, sizeof c->list->text, "failed");
}

static void add_share(struct columns *c, const struct tt_bench_result *r, uint32_t work, const char *name)
{
	char *text = add(c, name, 8)->text;
	if (r->shares[work].n)
		snprintf(text, sizeof c->list->text, "%.1f%%", 100 * r->shares[work].median);
	else
		snprintf(text, sizeof c->list->text, "-");
}

static void fill_columns(struct columns *c, const struct cli_bench_report *report, const struct cli_bench_row *row,
	const struct figures *f)
{
	const struct tt_model_info *info = tt_engine_info(row->engine);
	char text[TT_TOKEN_TEST_NAME];
	add_text(c, "model", -30, info->name);
	size_text(text, info->n_weight_bytes);
	add_text(c, "size", 10, text);
	count_text(text, info->n_parameters);
	add_text(c, "params", 10, text);
	backend_name(text, info);
	add_text(c, "backend", -10, text);
	snprintf(add(c, "threads", 7)->text, sizeof c->list->text, "%u", info->n_threads);
	if (report->several_batches)
		snprintf(add(c, "n_ubatch", 8)->text, sizeof c->list->text, "%u", row->n_batch);
	if (strcmp(report->kv, "f16") != 0) { /* llama-bench names them where they are not f16 */
		add_text(c, "type_k", 6, report->kv);
		add_text(c, "type_v", 6, report->kv);
	}
	if (strcmp(report->compute, "f32") != 0)
		add_text(c, "compute", 7, report->compute);
	tt_token_test_name(text, &row->test);
	add_text(c, "test", 15, text);
	add_rate(c, "t/s", &f->off);
	if (f->has_steered) {
		const struct tt_bench_summary *ratio = &f->steered.result.ratio;
		add_rate(c, "t/s steered", &f->steered);
		snprintf(add(c, "ratio of times", 26)->text, sizeof c->list->text, "%.4f (%.4f to %.4f)", ratio->median,
			ratio->low, ratio->high);
	}
	if (report->limits) {
		add_share(c, &f->off.result, 1, "of fma");
		add_share(c, &f->off.result, 2, "of read");
	}
}

/* printf counts bytes. */
static void print_cell(const char *text, int width)
{
	int n = (int)cli_text_width(text), room = abs(width) > n ? abs(width) - n : 0;
	printf(" %*s%s%*s |", width > 0 ? room : 0, "", text, width > 0 ? 0 : room, "");
}

static void print_md(const struct cli_bench_report *report, const struct cli_bench_row *row, const struct figures *f)
{
	struct columns c = {0};
	fill_columns(&c, report, row, f);
	for (size_t line = report->n_rows ? 2 : 0; line < 3; line++) {
		putchar('|');
		for (size_t i = 0; i < c.n; i++) {
			const struct column *column = &c.list[i];
			if (line != 1) {
				print_cell(line ? column->text : column->name, column->width);
				continue;
			}
			printf(" %s", column->width > 0 ? "" : "-");
			for (int k = 1; k < abs(column->width); k++)
				putchar('-');
			printf("%s |", column->width > 0 ? ":" : "");
		}
		putchar('\n');
	}
}

/* ---- The same as JSON, from which CSV is made */

static json_t *numbers(const struct tt_bench_result *r, double per_sample)
{
	json_t *list = json_array();
	for (size_t i = 0; i < r->n_samples; i++)
		json_array_append_new(list, per_sample > 0 ? json_real(per_sample / r->samples[i])
							   : json_integer((json_int_t)(r->samples[i] * 1e9)));
	return list;
}

static double deviation_ns(const struct tt_bench_result *r, double mean)
{
	double squares = 0;
	for (size_t i = 0; i < r->n_samples; i++)
		squares += pow(r->samples[i] * 1e9 - mean, 2);
	return r->n_samples > 1 ? sqrt(squares / (double)(r->n_samples - 1)) : 0;
}

/* llama-bench's fields, under its names. */
static json_t *side_json(const struct side *side, double n_tokens)
{
	const struct tt_bench_result *r = &side->result;
	double mean = 0;
	for (size_t i = 0; i < r->n_samples; i++)
		mean += r->samples[i] * 1e9 / (double)r->n_samples;
	return json_pack("{s:I, s:I, s:f, s:f, s:o, s:o, s:s?}", "avg_ns", (json_int_t)mean, "stddev_ns",
		(json_int_t)deviation_ns(r, mean), "avg_ts", side->mean, "stddev_ts", side->deviation, "samples_ns",
		numbers(r, 0), "samples_ts", numbers(r, n_tokens), "error", r->error);
}

static json_t *summary_json(const struct tt_bench_summary *s)
{
	if (s->n == 0)
		return json_null();
	return json_pack("{s:f, s:f, s:f, s:f, s:I}", "median", s->median, "low", s->low, "high", s->high, "coverage",
		s->coverage, "n", (json_int_t)s->n);
}

static json_t *build_json(void)
{
	char *text = NULL;
	json_t *build = NULL;
	if (tt_describe_build(&text, NULL) == TT_OK)
		build = json_loads(text, 0, NULL);
	tt_free(text);
	return build;
}

static json_t *row_json(const struct cli_bench_report *report, const struct cli_bench_row *row, const struct figures *f)
{
	const struct tt_model_info *info = tt_engine_info(row->engine);
	json_t *build = build_json();
	json_t *out = json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:s, s:i, s:i, s:s, s:s, s:s, s:i, s:i, s:i, s:s}",
		"build_version", TT_VERSION, "build_commit", tt_json_string_or(build, "commit", "unknown"),
		"model_filename", info->name, "model_type", info->architecture, "model_size",
		(json_int_t)info->n_weight_bytes, "model_n_params", (json_int_t)info->n_parameters, "backends",
		info->backend, "n_ubatch", (int)row->n_batch, "n_threads", (int)info->n_threads, "type_k", report->kv,
		"type_v", report->kv, "compute", report->compute, "n_prompt", (int)row->test.n_prompt, "n_gen",
		(int)row->test.n_gen, "n_depth", (int)row->test.n_depth, "test_time", row->date);
	json_t *off = side_json(&f->off, f->n_tokens);
	json_object_update(out, off);
	json_decref(off);
	json_decref(build);
	if (report->limits) {
		json_object_set_new(out, "share_of_fma", summary_json(&f->off.result.shares[1]));
		json_object_set_new(out, "share_of_read", summary_json(&f->off.result.shares[2]));
	}
	if (!f->has_steered)
		return out;
	json_t *steered = side_json(&f->steered, f->n_tokens);
	json_object_set_new(steered, "policy", json_string(report->policy));
	json_object_set_new(steered, "ratio", summary_json(&f->steered.result.ratio));
	json_object_set_new(out, "steered", steered);
	return out;
}

static void print_csv_text(const char *text)
{
	putchar('"');
	for (; *text; text++)
		printf("%s%c", *text == '"' ? "\"" : "", *text);
	putchar('"');
}

static void print_csv_value(const json_t *value)
{
	if (json_is_string(value))
		print_csv_text(json_string_value(value));
	else if (json_is_integer(value))
		printf("\"%lld\"", (long long)json_integer_value(value));
	else if (json_is_number(value))
		printf("\"%f\"", json_number_value(value));
	else
		printf("\"\"");
}

/* Lists are left out. Objects become columns of their own, OBJECT_KEY, and a summary its three numbers. */
static void print_csv_fields(const json_t *row, const char *prefix, bool heads, bool *first)
{
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)row, key, value)
	{
		char name[64];
		snprintf(name, sizeof name, "%s%s", prefix, key);
		if (json_is_array(value) || strcmp(key, "coverage") == 0 || strcmp(key, "n") == 0)
			continue;
		if (json_is_object(value)) {
			strncat(name, "_", sizeof name - strlen(name) - 1);
			print_csv_fields(value, name, heads, first);
			continue;
		}
		printf("%s", *first ? "" : ",");
		*first = false;
		if (heads)
			printf("%s", name);
		else
			print_csv_value(value);
	}
}

static void print_csv(const struct cli_bench_report *report, const json_t *row)
{
	for (int heads = report->n_rows == 0; heads >= 0; heads--) {
		bool first = true;
		print_csv_fields(row, "", heads, &first);
		putchar('\n');
	}
}

static int print_json(const struct cli_bench_report *report, const json_t *row)
{
	struct tt_error err = {0};
	char *text = NULL;
	bool lines = report->format == CLI_BENCH_JSONL;
	if (tt_json_dump(&text, json_incref((json_t *)(uintptr_t)row),
		    JSON_REAL_PRECISION(9) | (lines ? JSON_COMPACT : JSON_INDENT(1)), &err) != TT_OK)
		return cli_fail(&err);
	printf("%s%s%s", lines ? "" : report->n_rows ? ",\n" : "[\n", text, lines ? "\n" : "");
	free(text);
	return CLI_OK;
}

/* ---- */

int cli_bench_print(struct cli_bench_report *report, const struct cli_bench_row *row)
{
	struct figures f;
	int status = read_figures(&f, report, row);
	if (status != CLI_OK)
		return status;
	const struct tt_bench_result *sides[] = {&f.off.result, &f.steered.result};
	for (int i = 0; i < (f.has_steered ? 2 : 1); i++)
		if (sides[i]->error)
			cli_note("%s, %s: %s", sides[i]->spec->group, sides[i]->spec->name, sides[i]->error);
	if (report->format == CLI_BENCH_MD) {
		print_md(report, row, &f);
	} else {
		json_t *json = row_json(report, row, &f);
		if (report->format == CLI_BENCH_CSV)
			print_csv(report, json);
		else
			status = print_json(report, json);
		json_decref(json);
	}
	fflush(stdout);
	report->n_rows++;
	return status;
}

void cli_bench_print_end(const struct cli_bench_report *report)
{
	if (report->format == CLI_BENCH_JSON)
		printf("%s\n]\n", report->n_rows ? "" : "[");
	if (report->format != CLI_BENCH_MD)
		return;
	json_t *build = build_json();
	printf("\nbuild: trimtab %s (%s)\n", TT_VERSION, tt_json_string_or(build, "commit", "unknown"));
	json_decref(build);
}
