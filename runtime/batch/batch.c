/* tt_batch: answers rows and writes them in the order of the input, with as many in flight as keep the engine full. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/file.h"
#include "base/options.h"
#include "base/outputs.h"
#include "base/sampling.h"
#include "base/sha256.h"
#include "runtime/batch/describe.h"
#include "runtime/batch/journal.h"
#include "runtime/batch/row.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/outputs.h"
#include "runtime/engine/pump.h"

/* The window in multiples of the engine's batch: how many rows there may be from the oldest unwritten one to the newest
 * one begun, and how many requests. A row that takes long delays the writing of the rows after it, but the engine stays
 * full until the window is full. */
enum { WINDOW_BATCHES = 4 };

struct batch {
	struct tt_batch_job job;
	struct tt_journal journal;
	struct tt_lines lines;
	struct tt_ids_seen ids;
	struct tt_input input; /* the present line */
	size_t next_case;      /* the next case of the sweep for that line */
	bool has_input, at_end;
	uint64_t n_lines;    /* lines of the whole input that are not blank */
	uint64_t n_begun;    /* rows that were begun, in this run or earlier */
	struct tt_row *rows; // [window] a ring: row i is in rows[i % window]
	uint64_t window;
	struct tt_batch_report *report;
};

static const struct tt_batch_options DEFAULTS = {.max_tokens = 256, .max_batch = 32};

void tt_batch_options_default_sized(struct tt_batch_options *options, size_t size)
{
	tt_options_default(options, size, &DEFAULTS, sizeof DEFAULTS);
}

/* ---- The job */

/* Refuses to write a file that is read, or one file in two roles. engine may be NULL, if there is none yet; then the
 * files of its model and policies are not checked. */
static int check_paths(struct tt_engine *engine, const struct tt_batch_options *o, struct tt_error *err)
{
	struct tt_buffer log = {0};
	struct tt_file_use *reads = NULL; // [1 + n_policies]
	TT_TRY(tt_alloc(&reads, 1 + o->n_policies, sizeof *reads, err));
	reads[0] = (struct tt_file_use){o->input, "the input"};
	for (size_t i = 0; i < o->n_policies; i++)
		reads[1 + i] = (struct tt_file_use){o->policies[i].path, "a policy"};
	int status = tt_buffer_print(&log, err, "%s.journal", o->output);
	const struct tt_file_use writes[] = {
		{o->output, "the output"}, {log.data, "the journal"}, {o->telemetry, "the telemetry"}};
	if (status == TT_OK)
		status = engine ? tt_engine_check_outputs(engine, reads, 1 + o->n_policies, writes, 3, err)
				: tt_check_outputs(reads, 1 + o->n_policies, writes, 3, err);
	tt_buffer_free(&log);
	free(reads);
	return status;
}

/* Takes the caller's options, and checks them without an engine. */
static int take_options(struct tt_batch_options *o, const struct tt_batch_options *options, struct tt_error *err)
{
	struct tt_sweep sweep;
	TT_TRY(tt_need(options, "options", err));
	*o = DEFAULTS;
	TT_TRY(tt_options_take(o, sizeof *o, options, "tt_batch_options", err));
	TT_TRY(tt_need(o->input, "input", err));
	TT_TRY(tt_need(o->output, "output", err));
	if (o->max_tokens < 1 || o->max_batch < 1)
		return tt_fail(err, TT_ERR_ARGUMENT, "a batch needs at least one token and one request at once");
	const struct tt_sampling sampling = tt_row_sampling(o, true, 0);
	TT_TRY(tt_sampling_check(&sampling, err));
	TT_TRY(tt_batch_sweep(&sweep, o, err));
	tt_sweep_free(&sweep);
	return check_paths(NULL, o, err);
}

int tt_batch_check(const struct tt_batch_options *options, struct tt_error *err)
{
	struct tt_batch_options o;
	return take_options(&o, options, err);
}

static int count_lines(struct batch *b, uint64_t size, struct tt_error *err)
{
	struct tt_lines lines;
	bool found = true;
	TT_TRY(tt_lines_open(&lines, b->job.options->input, size, err));
	int status = TT_OK;
	while (found && (status = tt_lines_next(&lines, &found, err)) == TT_OK)
		b->n_lines += found;
	tt_lines_close(&lines);
	if (status == TT_OK && b->n_lines == 0)
		status = tt_fail(err, TT_ERR_FORMAT, "%s: no rows", b->job.options->input);
	return status;
}

static uint64_t rows_per_line(const struct batch *b)
{
	return b->job.sweep.n ? b->job.sweep.n : 1;
}

/* ---- Rows */

/* Goes on to the next line of the input. */
static int next_input(struct batch *b, struct tt_error *err)
{
	bool found;
	tt_input_free(&b->input);
	b->has_input = false;
	b->next_case = 0;
	TT_TRY(tt_lines_next(&b->lines, &found, err));
	b->at_end = !found;
	if (!found)
		return TT_OK;
	TT_TRY(tt_input_read(&b->input, &b->job, &b->lines, &b->ids, err));
	b->has_input = true;
	return TT_OK;
}

/* Skips the rows that are written already, but reads their lines, since a later line may have the same id. */
static int skip_written(struct batch *b, struct tt_error *err)
{
	uint64_t lines = b->journal.n_rows / rows_per_line(b);
	for (uint64_t i = 0; i < lines && !b->at_end; i++)
		TT_TRY(next_input(b, err));
	TT_TRY(next_input(b, err));
	b->next_case = (size_t)(b->journal.n_rows % rows_per_line(b));
	b->n_begun = b->journal.n_rows;
	return TT_OK;
}

static struct tt_row *row_at(const struct batch *b, uint64_t i)
{
	return &b->rows[i % b->window];
}

/* Writes the rows that are done and have no unfinished one before them. */
static int write_rows(struct batch *b, struct tt_error *err)
{
	while (b->journal.n_rows < b->n_begun && row_at(b, b->journal.n_rows)->done) {
		struct tt_row *row = row_at(b, b->journal.n_rows);
		TT_TRY(tt_journal_add(&b->journal, &row->line, &row->telemetry, row->is_error, err));
		b->report->n_prompt_tokens += row->n_prompt;
		b->report->n_generated_tokens += row->n_generated;
		tt_row_free(row);
	}
	return TT_OK;
}

/* Begins the next row of the present line or, if it has no more, goes on to the next line. */
static int begin_row(struct batch *b, struct tt_error *err)
{
	if (!b->has_input || b->next_case == rows_per_line(b))
		return next_input(b, err);
	const struct tt_sweep_case *sweep = b->job.sweep.n ? &b->job.sweep.cases[b->next_case] : NULL;
	struct tt_row *row = row_at(b, b->n_begun);
	*row = (struct tt_row){0};
	b->n_begun++;
	b->next_case++;
	TT_TRY(tt_row_start(row, &b->job, &b->input, sweep, err));
	return write_rows(b, err);
}

static struct tt_row *row_to_submit(const struct batch *b)
{
	struct tt_row *row = b->n_begun > b->journal.n_rows ? row_at(b, b->n_begun - 1) : NULL;
	return row && !row->done && row->n_submitted < row->n_choices ? row : NULL;
}

/* The next request is the newest row's, if that has more, else that of a new row, if the window has room. */
static int next_request(void *user, struct tt_request **out, struct tt_error *err)
{
	struct batch *b = user;
	while (!*out) {
		struct tt_row *row = row_to_submit(b);
		if (row) {
			TT_TRY(tt_row_submit(row, out, &b->job, &b->input, err));
			TT_TRY(write_rows(b, err)); /* if the engine refused the row, it is done */
		} else if (b->at_end || b->n_begun - b->journal.n_rows == b->window) {
			return TT_OK;
		} else {
			TT_TRY(begin_row(b, err));
		}
	}
	return TT_OK;
}

/* The request belongs to the oldest row that is not written: requests are taken in order, and rows without requests are
 * done at once. */
static int take_request(void *user, struct tt_request *request, struct tt_error *err)
{
	struct batch *b = user;
	TT_TRY(tt_row_take(row_at(b, b->journal.n_rows), request, &b->job, err));
	return write_rows(b, err);
}

static int report_progress(void *user, struct tt_error *err)
{
	struct batch *b = user;
	const struct tt_batch_options *o = b->job.options;
	uint64_t total = b->n_lines * rows_per_line(b);
	if (o->progress && o->progress(o->user, "rows", b->journal.n_rows, total))
		return tt_fail(err, TT_ERR_LIMIT, "stopped");
	return TT_OK;
}

static int answer_rows(struct batch *b, struct tt_error *err)
{
	const struct tt_pump pump = {
		.engine = b->job.engine,
		.window = b->window,
		.max_running = 2 * (size_t)b->job.options->max_batch,
		.next = next_request,
		.take = take_request,
		.tick = report_progress,
		.user = b,
	};
	TT_TRY(tt_pump_run(&pump, err));
	return report_progress(b, err);
}

static void note_where(const struct batch *b)
{
	const struct tt_batch_options *o = b->job.options;
	uint64_t total = b->n_lines * rows_per_line(b);
	char text[128];
	if (o->note && strcmp(tt_engine_info(b->job.engine)->mode, "strict") != 0)
		o->note(o->user, "in fast mode a row may depend on its batch mates, so a stopped run does not end with "
				 "the same bytes");
	if (!o->note || b->journal.n_rows == 0 || b->journal.n_rows >= total)
		return;
	snprintf(text, sizeof text, "going on after %llu of %llu rows", (unsigned long long)b->journal.n_rows,
		(unsigned long long)total);
	o->note(o->user, text);
}

static int open_job(struct batch *b, struct tt_error *err)
{
	const struct tt_batch_options *o = b->job.options;
	char sha256[65];
	uint64_t size;
	json_t *job = NULL;
	TT_TRY(tt_batch_sweep(&b->job.sweep, o, err));
	const struct tt_policy_files policies = {o->policies, o->n_policies, o->layers, o->note, o->user};
	TT_TRY(tt_named_policies_load(&b->job.policies, b->job.engine, &policies, err));
	TT_TRY(tt_sha256_file(sha256, o->input, &size, err));
	TT_TRY(count_lines(b, size, err));
	int status = tt_batch_describe(&job, &b->job, sha256, size, err);
	if (status == TT_OK)
		status = tt_journal_open(&b->journal, o->output, o->telemetry, job, o->restart, err);
	json_decref(job);
	TT_TRY(status);
	b->job.created = b->journal.created;
	note_where(b);
	b->window = WINDOW_BATCHES * (uint64_t)o->max_batch;
	TT_TRY(tt_alloc(&b->rows, b->window, sizeof *b->rows, err));
	return tt_lines_open(&b->lines, o->input, size, err);
}

static int run(struct batch *b, struct tt_error *err)
{
	TT_TRY(open_job(b, err));
	b->report->n_earlier = b->journal.n_rows;
	int status = skip_written(b, err);
	if (status == TT_OK)
		status = answer_rows(b, err);
	/* Rows that are written are kept, whatever happened; of two errors the first is reported. */
	int synced = tt_journal_sync(&b->journal, status == TT_OK ? err : NULL);
	b->report->n_rows = b->journal.n_rows;
	b->report->n_errors = b->journal.n_errors;
	return status == TT_OK ? synced : status;
}

int tt_batch(struct tt_engine *engine, const struct tt_batch_options *options, struct tt_batch_report *report,
	struct tt_error *err)
{
	struct tt_batch_report ignored;
	struct tt_batch_options o;
	struct batch b = {.job = {.engine = engine, .options = &o}, .report = report ? report : &ignored};
	*b.report = (struct tt_batch_report){0};
	TT_TRY(tt_need(engine, "engine", err));
	TT_TRY(take_options(&o, options, err));
	TT_TRY(check_paths(engine, &o, err));
	b.journal.output.file = b.journal.telemetry.file = b.journal.log.file = -1;
	double begun = tt_now();
	int status = run(&b, err);
	b.report->seconds = tt_now() - begun;
	for (uint64_t i = b.journal.n_rows; i < b.n_begun; i++)
		tt_row_free(&b.rows[i % b.window]);
	free(b.rows);
	tt_input_free(&b.input);
	tt_ids_seen_free(&b.ids);
	tt_lines_close(&b.lines);
	tt_journal_close(&b.journal);
	tt_named_policies_free(&b.job.policies, engine);
	tt_sweep_free(&b.job.sweep);
	return status;
}
