/* tt_capture_data: the rows of a file through the engine, and what was asked for of each to one safetensors file. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/json.h"
#include "base/options.h"
#include "base/sha256.h"
#include "controller/policy/layer_list.h"
#include "controller/policy/policy.h"
#include "runtime/capture/capture_file.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/numerics.h"
#include "runtime/engine/outputs.h"
#include "runtime/engine/pump.h"
#include "runtime/engine/thread.h"

/* Rows in flight: twice the engine's default batch, but no more than fit into MAX_KEPT, unless it is a single one. */
enum { WINDOW = 64, MAX_FACTS = 24, MAX_KEPT = 256 << 20 };
/* KV pages of rows that are done: what the prompts begin with alike is found in these, and more would be memory that
 * grows with the rows. */
enum { MAX_IDLE_PAGES = 64 };

static const char *const position_words[] = {"last", "all", "response"};

struct capture {
	struct tt_engine *engine;
	const struct tt_capture_data_options *options;
	const char *path;
	struct tt_progress progress;
	struct tt_capture_data_report *report;

	bool layers[TT_MAX_LAYERS];
	uint64_t layer_bits[(TT_MAX_LAYERS + 63) / 64];
	struct tt_buffer layers_text, steering_text;
	json_t *numerics;
	char data_sha256[65], rows_sha256[65];
	struct tt_capture_fact facts[MAX_FACTS];
	size_t n_facts;

	struct tt_lines lines;
	uint64_t data_size;
	struct tt_capture_shape shape;
	struct tt_capture_file file;
	struct tt_capture_row rows[WINDOW]; /* in flight: row i is at i % WINDOW */
	uint64_t n_read;                    /* rows that were read, and skipped or submitted */
	size_t n_in_flight_bytes;
	bool going_on; /* rows of earlier runs may follow */
};

/* ---- What is asked */

static int choose_layers(struct capture *c, struct tt_error *err)
{
	uint32_t n_layers = tt_engine_info(c->engine)->n_layers;
	for (uint32_t l = 0; l < n_layers; l++)
		c->layers[l] = !c->options->layers;
	if (c->options->layers)
		TT_TRY(tt_layers_parse(c->layers, n_layers, c->options->layers, "layers", err));
	for (uint32_t l = 0; l < n_layers; l++)
		if (c->layers[l])
			c->layer_bits[l / 64] |= (uint64_t)1 << (l % 64);
	return tt_layers_print(&c->layers_text, c->layers, n_layers, err);
}

static int check(struct capture *c, struct tt_error *err)
{
	const struct tt_capture_data_options *o = c->options;
	TT_TRY(tt_need(o->data, "data", err));
	if (o->positions < TT_CAPTURE_LAST || o->positions > TT_CAPTURE_RESPONSE)
		return tt_fail(err, TT_ERR_ARGUMENT, "positions is not one of last, all and response");
	if (o->raw && o->system)
		return tt_fail(err, TT_ERR_ARGUMENT, "a raw prompt has no system message");
	TT_TRY(tt_request_check_steering(c->engine, o->steering, o->n_steering, TT_WHEN_POLICY, err));
	return choose_layers(c, err);
}

static int check_paths(struct capture *c, struct tt_error *err)
{
	struct tt_buffer partial = {0}, journal = {0};
	const struct tt_file_use data = {c->options->data, "the data"};
	int status = tt_buffer_print(&partial, err, "%s.partial", c->path);
	if (status == TT_OK)
		status = tt_buffer_print(&journal, err, "%s.journal", c->path);
	const struct tt_file_use writes[] = {{c->path, "the output"}, {partial.data, "the output while it is written"},
		{journal.data, "the journal"}};
	if (status == TT_OK)
		status = tt_engine_check_outputs(c->engine, &data, 1, writes, 3, err);
	tt_buffer_free(&partial);
	tt_buffer_free(&journal);
	return status;
}

/* ---- What there is */

static int read_row(struct capture *c, struct tt_capture_row *row, bool *found, struct tt_error *err)
{
	*row = (struct tt_capture_row){0};
	TT_TRY(tt_lines_next(&c->lines, found, err));
	if (!*found)
		return TT_OK;
	return tt_capture_row_read(row, &c->lines, tt_engine_text(c->engine), c->options, err);
}

static struct tt_request_options request_of(const struct capture *c, const struct tt_capture_row *row)
{
	struct tt_request_options o;
	tt_request_options_default(&o);
	o.ids = row->ids;
	o.n_ids = row->n_ids;
	o.n_prompt = row->n_prompt;
	o.mean_from = row->mean_from;
	o.mean_to = row->mean_to;
	o.keep_layers = c->layer_bits;
	o.keep_from = row->from;
	o.keep_logits = c->options->logits;
	o.logits_from = row->from;
	memcpy(o.steering, c->options->steering, sizeof o.steering);
	o.n_steering = c->options->n_steering;
	return o;
}

/* Counts a row, and refuses one that cannot be run before any is. */
static int survey_row(struct capture *c, const struct tt_capture_row *row, uint8_t digest[32], struct tt_error *err)
{
	char what[300];
	const struct tt_request_options o = request_of(c, row);
	snprintf(what, sizeof what, "%.200s:%llu", c->lines.path, (unsigned long long)c->lines.number);
	TT_TRY(tt_within(tt_request_check(c->engine, &o, err), err, what));
	size_t n_id = strlen(row->id);
	c->shape.n_id = n_id > c->shape.n_id ? n_id : c->shape.n_id;
	c->shape.n_rows++;
	c->shape.n_kept += row->n_kept;
	return tt_capture_row_digest(digest, row, err);
}

/* Reads all rows once, so that their number and places are known. */
static int survey(struct capture *c, struct tt_error *err)
{
	const struct tt_capture_data_options *o = c->options;
	uint8_t digest[32] = {0};
	bool found = true;
	TT_TRY(tt_sha256_file(c->data_sha256, o->data, &c->data_size, err));
	TT_TRY(tt_lines_open(&c->lines, o->data, c->data_size, err));
	TT_TRY(tt_progress_begin(&c->progress, "reading, bytes", c->data_size, err));
	while (found) {
		struct tt_capture_row row;
		int status = read_row(c, &row, &found, err);
		if (status == TT_OK && found)
			status = survey_row(c, &row, digest, err);
		tt_capture_row_free(&row);
		TT_TRY(status);
		c->progress.done = c->lines.offset;
		TT_TRY(tt_progress_report(&c->progress, err));
	}
	tt_lines_close(&c->lines);
	if (c->shape.n_rows == 0)
		return tt_fail(err, TT_ERR_FORMAT, "%s: no rows", o->data);
	return tt_sha256(c->rows_sha256, digest, sizeof digest, err);
}

/* ---- What the rows depend on */

static void add_fact(struct capture *c, const char *key, const char *name, const char *value)
{
	if (c->n_facts < MAX_FACTS)
		c->facts[c->n_facts++] = (struct tt_capture_fact){key, value, name};
}

/* A policy by its file, or by what it does where it has none. */
static int print_policy(struct tt_buffer *out, const struct tt_steering *steering, struct tt_error *err)
{
	const struct tt_policy *policy = steering->policy;
	uint8_t digest[32];
	uint64_t size;
	char text[65];
	if (policy->path) {
		TT_TRY(tt_sha256_file(text, policy->path, &size, err));
	} else {
		TT_TRY(tt_policy_digest(policy, digest, err));
		TT_TRY(tt_sha256(text, digest, sizeof digest, err));
	}
	return tt_buffer_print(out, err, "%s%s:%.9g", out->len ? " " : "", text, (double)steering->scale);
}

static int read_numerics(struct capture *c, struct tt_error *err)
{
	c->numerics = json_object();
	int status = c->numerics ? tt_engine_numerics(c->numerics, c->engine, err) : TT_ERR_FORMAT;
	/* Its texts are the engine's own, so that they are UTF-8 and only memory can be lacking. */
	return status == TT_ERR_FORMAT ? tt_fail(err, TT_ERR_MEMORY, "out of memory: what the rows depend on") : status;
}

static int describe(struct capture *c, struct tt_error *err)
{
	static const struct {
		const char *numeric, *key, *name;
		const char *absent; /* what stands in the file where the model has nothing to say; NULL: no key */
	} of_model[] = {
		{"fingerprint", "trimtab.model", "model", ""},
		{"weights_digest", "trimtab.weights_digest", "weights", ""},
		{"backend", "trimtab.backend", "--device", ""},
		{"mode", "trimtab.mode", "mode (--fast)", ""},
		{"kv", "trimtab.kv", "--kv", ""},
		{"compute", "trimtab.compute", "--compute", ""},                     /* f32 */
		{"chat_template", "trimtab.chat_template", "--chat-template", NULL}, /* the model's */
		{"probe", "trimtab.probe", "rounding of the processor, by its answer to 16 tokens", ""},
	};
	TT_TRY(read_numerics(c, err));
	for (uint32_t i = 0; i < c->options->n_steering; i++)
		TT_TRY(print_policy(&c->steering_text, &c->options->steering[i], err));
	add_fact(c, "trimtab.format", "format", "captures 1");
	add_fact(c, "trimtab.version", "trimtab", TT_VERSION);
	add_fact(c, "trimtab.data", "data", c->data_sha256);
	for (size_t i = 0; i < sizeof of_model / sizeof *of_model; i++)
		add_fact(c, of_model[i].key, of_model[i].name,
			tt_json_string_or(c->numerics, of_model[i].numeric, of_model[i].absent));
	add_fact(c, "trimtab.steering", "--policy", c->steering_text.len ? c->steering_text.data : "none");
	add_fact(c, "trimtab.layers", "--layers", c->layers_text.data);
	add_fact(c, "trimtab.positions", "--positions", position_words[c->options->positions]);
	add_fact(c, "trimtab.logits", "--logits", c->options->logits ? "yes" : "no");
	/* What is run may differ with all that is said so far the same: by the system message, or the template. */
	add_fact(c, "trimtab.rows", "text (--system, --raw, chat template)", c->rows_sha256);
	return TT_OK;
}

static int open_file(struct capture *c, struct tt_error *err)
{
	const struct tt_model_info *info = tt_engine_info(c->engine);
	c->shape.layers = c->layers;
	c->shape.n_layers = info->n_layers;
	c->shape.hidden_size = info->hidden_size;
	c->shape.vocab_size = info->vocab_size;
	c->shape.logits = c->options->logits;
	c->shape.coef = c->options->n_steering > 0;
	TT_TRY(describe(c, err));
	TT_TRY(tt_capture_file_plan(&c->file, c->path, &c->shape, c->facts, c->n_facts, err));
	return tt_capture_file_open(&c->file, c->options->restart, err);
}

/* ---- Rows */

static size_t kept_bytes(const struct capture *c, const struct tt_capture_row *row)
{
	size_t n = 0;
	for (uint32_t i = 0; i < c->file.n_columns; i++)
		n += c->file.columns[i].by_row ? 0 : c->file.columns[i].n_each * row->n_kept;
	return n;
}

static void note_where(const struct capture *c)
{
	const struct tt_capture_data_options *o = c->options;
	char text[128];
	if (!o->note || c->file.row == 0)
		return;
	snprintf(text, sizeof text, "going on after %llu of %llu rows", (unsigned long long)c->file.row,
		(unsigned long long)c->shape.n_rows);
	o->note(o->user, text);
}

/* Passes over rows that are done. Once one is not, none after it is. */
static int skip_row(struct capture *c, struct tt_capture_row *row, bool *done, struct tt_error *err)
{
	*done = false;
	if (!c->going_on)
		return TT_OK;
	TT_TRY(tt_capture_file_skip(&c->file, row, done, err));
	if (*done)
		return tt_progress_step(&c->progress, err);
	c->going_on = false;
	c->report->n_earlier = c->file.row;
	note_where(c);
	return TT_OK;
}

static int report_progress(void *user, struct tt_error *err)
{
	const struct capture *c = user;
	return tt_progress_report(&c->progress, err);
}

static int next_request(void *user, struct tt_request **out, struct tt_error *err)
{
	struct capture *c = user;
	bool found = true, done = true;
	if (c->n_in_flight_bytes >= MAX_KEPT)
		return TT_OK;
	while (done) {
		struct tt_capture_row *row = &c->rows[c->n_read % WINDOW];
		TT_TRY(read_row(c, row, &found, err));
		if (!found)
			return TT_OK;
		TT_TRY(skip_row(c, row, &done, err));
		c->n_read++;
		if (done) {
			tt_capture_row_free(row);
			continue;
		}
		const struct tt_request_options o = request_of(c, row);
		TT_TRY(tt_request_submit_own(out, c->engine, &o, err));
		c->n_in_flight_bytes += kept_bytes(c, row);
	}
	return TT_OK;
}

static int take_request(void *user, struct tt_request *request, struct tt_error *err)
{
	struct capture *c = user;
	struct tt_capture_row *row = &c->rows[c->file.row % WINDOW];
	int status = tt_capture_file_add(&c->file, row, request, err);
	tt_request_free(request);
	c->n_in_flight_bytes -= kept_bytes(c, row);
	tt_capture_row_free(row);
	return status == TT_OK ? tt_progress_step(&c->progress, err) : status;
}

/* Sets how many idle pages the engine keeps, and gives what it was. */
static uint32_t set_max_idle(struct tt_engine *engine, uint32_t max_idle)
{
	tt_lock(engine);
	uint32_t before = engine->scheduler.pool.max_idle;
	engine->scheduler.pool.max_idle = max_idle;
	tt_unlock(engine);
	return before;
}

static int run_rows(struct capture *c, struct tt_error *err)
{
	const struct tt_pump pump = {.engine = c->engine,
		.window = WINDOW,
		.next = next_request,
		.take = take_request,
		.tick = report_progress,
		.user = c};
	struct tt_engine_stats before, after;
	TT_TRY(tt_lines_open(&c->lines, c->options->data, c->data_size, err));
	TT_TRY(tt_progress_begin(&c->progress, "rows", c->shape.n_rows, err));
	c->going_on = true;
	tt_engine_stats(c->engine, &before);
	uint32_t max_idle = set_max_idle(c->engine, MAX_IDLE_PAGES);
	int status = tt_pump_run(&pump, err);
	set_max_idle(c->engine, max_idle);
	tt_engine_stats(c->engine, &after);
	c->report->n_tokens =
		after.n_prefill_tokens + after.n_decode_tokens - before.n_prefill_tokens - before.n_decode_tokens;
	c->report->n_shared = after.n_shared - before.n_shared;
	c->report->n_done = c->file.row;
	if (c->going_on)
		c->report->n_earlier = c->file.row;
	return status;
}

static int run(struct capture *c, struct tt_error *err)
{
	TT_TRY(check(c, err));
	TT_TRY(check_paths(c, err));
	TT_TRY(survey(c, err));
	TT_TRY(open_file(c, err));
	c->report->n_rows = c->shape.n_rows;
	c->report->n_kept = c->shape.n_kept;
	c->report->n_bytes = c->file.n_bytes;
	c->report->n_earlier = c->report->n_done = c->shape.n_rows;
	if (!c->file.is_complete)
		TT_TRY(run_rows(c, err));
	return tt_capture_file_finish(&c->file, err);
}

static void close_capture(struct capture *c)
{
	for (size_t i = 0; i < WINDOW; i++)
		tt_capture_row_free(&c->rows[i]);
	tt_lines_close(&c->lines);
	tt_capture_file_close(&c->file);
	tt_buffer_free(&c->layers_text);
	tt_buffer_free(&c->steering_text);
	json_decref(c->numerics);
	free(c);
}

int tt_capture_data(struct tt_engine *engine, const struct tt_capture_data_options *options, const char *path,
	struct tt_capture_data_report *report, struct tt_error *err)
{
	struct tt_capture_data_report ignored;
	struct tt_capture_data_options o = {0};
	struct capture *c = NULL;
	double begun = tt_now();
	report = report ? report : &ignored;
	*report = (struct tt_capture_data_report){0};
	TT_TRY(tt_need(engine, "engine", err));
	TT_TRY(tt_need(options, "options", err));
	TT_TRY(tt_options_take(&o, sizeof o, options, "tt_capture_data_options", err));
	TT_TRY(tt_need(path, "path", err));
	TT_TRY(tt_alloc(&c, 1, sizeof *c, err));
	*c = (struct capture){.engine = engine,
		.options = &o,
		.path = path,
		.progress = {.fn = o.progress, .user = o.user},
		.report = report,
		.file = {.data.file = -1, .log.file = -1}};
	int status = run(c, err);
	close_capture(c);
	report->seconds = tt_now() - begun;
	return status;
}
