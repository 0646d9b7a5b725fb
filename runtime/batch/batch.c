/* tt_batch: the options of a batch, and a run of one process, which writes rows in the order of the input. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/options.h"
#include "base/outputs.h"
#include "base/sampling.h"
#include "base/sha256.h"
#include "runtime/batch/describe.h"
#include "runtime/batch/merge.h"
#include "runtime/batch/shard.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/outputs.h"

/* A run of one process, from the first row to the last. */
struct batch {
	struct tt_answering run;
	struct tt_batch_options options;
	uint64_t n_rows; /* of the whole job */
	bool given;      /* the rows that are not there yet were given out */
};

static const struct tt_batch_options DEFAULTS = {.max_tokens = 256, .max_batch = 32};

void tt_batch_options_default_sized(struct tt_batch_options *options, size_t size)
{
	tt_options_default(options, size, &DEFAULTS, sizeof DEFAULTS);
}

/* ---- The job */

/* A path with an ending; *out stays NULL for none. */
static int add_ending(char **out, const char *path, const char *ending, struct tt_error *err)
{
	struct tt_buffer text = {0};
	if (path)
		TT_TRY(tt_buffer_print(&text, err, "%s%s", path, ending));
	*out = text.data;
	return TT_OK;
}

enum { N_WRITES = 7 };

/* What a batch writes, or its merge; paths [N_WRITES] are new strings, also after an error. */
static int list_writes(char **paths, struct tt_file_use *writes, const struct tt_batch_options *o, struct tt_error *err)
{
	const struct {
		const char *path, *ending, *role;
	} files[N_WRITES] = {
		{o->output, "", "the output"},
		{o->output, ".journal", "the journal"},
		{o->output, ".job", "the job file"},
		{o->telemetry, "", "the telemetry"},
		{o->output, ".tmp", "the output while it is merged"},
		{o->output, ".tmp.journal", "the journal while it is merged"},
		{o->telemetry, ".tmp", "the telemetry while it is merged"},
	};
	for (int i = 0; i < N_WRITES; i++) {
		TT_TRY(add_ending(&paths[i], files[i].path, files[i].ending, err));
		writes[i] = (struct tt_file_use){paths[i], files[i].role};
	}
	return TT_OK;
}

/* Refuses to write a file that is read, or one file in two roles. engine may be NULL, if there is none yet; then the
 * files of its model and policies are not checked. */
static int check_paths(struct tt_engine *engine, const struct tt_batch_options *o, struct tt_error *err)
{
	char *paths[N_WRITES] = {NULL};
	struct tt_file_use writes[N_WRITES];
	struct tt_file_use *reads = NULL; // [1 + n_policies]
	size_t n_reads = 1 + o->n_policies;
	TT_TRY(tt_alloc(&reads, n_reads, sizeof *reads, err));
	reads[0] = (struct tt_file_use){o->input, "the input"};
	for (size_t i = 0; i < o->n_policies; i++)
		reads[1 + i] = (struct tt_file_use){o->policies[i].path, "a policy"};
	int status = list_writes(paths, writes, o, err);
	if (status == TT_OK)
		status = engine ? tt_engine_check_outputs(engine, reads, n_reads, writes, N_WRITES, err)
				: tt_check_outputs(reads, n_reads, writes, N_WRITES, err);
	for (int i = 0; i < N_WRITES; i++)
		free(paths[i]);
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
	if (o->n_shards ? o->shard >= o->n_shards : o->shard > 0)
		return tt_fail(err, TT_ERR_ARGUMENT, "there is no shard %u of %u: they are counted from 0", o->shard,
			o->n_shards);
	if (o->n_shards && o->restart)
		return tt_fail(err, TT_ERR_ARGUMENT,
			"a shard cannot start over, since it does not know of the others: remove %s.job and %s.parts",
			o->output, o->output);
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

static int count_rows(struct batch *b, struct tt_error *err)
{
	const char *path = b->options.input;
	struct tt_lines lines;
	bool found = true;
	TT_TRY(tt_lines_open(&lines, path, b->run.input_bytes, err));
	int status = TT_OK;
	while (found && (status = tt_lines_next(&lines, &found, err)) == TT_OK)
		b->n_rows += found ? tt_cases(&b->run.job) : 0;
	tt_lines_close(&lines);
	if (status == TT_OK && b->n_rows == 0)
		status = tt_fail(err, TT_ERR_FORMAT, "%s: no rows", path);
	return status;
}

/* ---- Rows */

static int next_rows(void *user, bool idle, struct tt_row_range *out, bool *ended, struct tt_error *err)
{
	struct batch *b = user;
	(void)idle;
	(void)err;
	if (!b->given)
		*out = (struct tt_row_range){b->run.journal.n_rows, b->n_rows};
	b->given = *ended = true;
	return TT_OK;
}

static int report_progress(void *user, struct tt_error *err)
{
	struct batch *b = user;
	const struct tt_batch_options *o = &b->options;
	if (o->progress && o->progress(o->user, "rows", b->run.journal.n_rows, b->n_rows))
		return tt_fail(err, TT_ERR_LIMIT, "stopped");
	return TT_OK;
}

static void note_where(const struct batch *b)
{
	const struct tt_batch_options *o = &b->options;
	uint64_t n = b->run.journal.n_rows;
	char text[128];
	if (!o->note || n == 0 || n >= b->n_rows)
		return;
	snprintf(text, sizeof text, "going on after %llu of %llu rows", (unsigned long long)n,
		(unsigned long long)b->n_rows);
	o->note(o->user, text);
}

static int open_job(struct batch *b, struct tt_error *err)
{
	const struct tt_batch_options *o = &b->options;
	struct tt_answering *run = &b->run;
	char sha256[65];
	json_t *job = NULL;
	TT_TRY(tt_share_refuse_plain(o, err));
	TT_TRY(tt_batch_load(&run->job, err));
	TT_TRY(tt_sha256_file(sha256, o->input, &run->input_bytes, err));
	TT_TRY(count_rows(b, err));
	int status = tt_batch_describe(&job, &run->job, sha256, run->input_bytes, err);
	const struct tt_journal_job asked = {.job = job};
	if (status == TT_OK)
		status = tt_journal_open(&run->journal, o->output, o->telemetry, &asked, o->restart, err);
	json_decref(job);
	TT_TRY(status);
	run->job.created = run->journal.created;
	note_where(b);
	return TT_OK;
}

static int run_batch(struct batch *b, struct tt_error *err)
{
	struct tt_batch_report *report = b->run.report;
	TT_TRY(open_job(b, err));
	report->n_earlier = b->run.journal.n_rows;
	b->run.source = (struct tt_row_source){next_rows, report_progress, b};
	int status = tt_answer(&b->run, err);
	report->n_rows = b->run.journal.n_rows;
	report->n_errors = b->run.journal.n_errors;
	return status;
}

static int answer_all(struct tt_engine *engine, const struct tt_batch_options *options, struct tt_batch_report *report,
	struct tt_error *err)
{
	struct batch b = {.options = *options, .run.report = report};
	b.run.job = (struct tt_batch_job){.engine = engine, .options = &b.options};
	b.run.journal.output.file = b.run.journal.telemetry.file = b.run.journal.log.file = -1;
	int status = run_batch(&b, err);
	tt_answer_free(&b.run);
	tt_journal_close(&b.run.journal);
	tt_batch_unload(&b.run.job);
	return status;
}

int tt_batch_take(struct tt_batch_options *own, struct tt_engine *engine, const struct tt_batch_options *options,
	struct tt_error *err)
{
	TT_TRY(tt_need(engine, "engine", err));
	TT_TRY(take_options(own, options, err));
	return check_paths(engine, own, err);
}

int tt_batch(struct tt_engine *engine, const struct tt_batch_options *options, struct tt_batch_report *report,
	struct tt_error *err)
{
	struct tt_batch_report ignored;
	struct tt_batch_options o;
	report = report ? report : &ignored;
	*report = (struct tt_batch_report){0};
	TT_TRY(tt_batch_take(&o, engine, options, err));
	double begun = tt_now();
	int status = o.n_shards ? tt_batch_shard(engine, &o, report, err) : answer_all(engine, &o, report, err);
	report->seconds = tt_now() - begun;
	return status;
}

int tt_batch_merge(const struct tt_batch_options *options, struct tt_batch_report *report, struct tt_error *err)
{
	struct tt_batch_report ignored;
	struct tt_batch_options o;
	report = report ? report : &ignored;
	*report = (struct tt_batch_report){0};
	TT_TRY(take_options(&o, options, err));
	double begun = tt_now();
	int status = tt_merge(&o, report, err);
	report->seconds = tt_now() - begun;
	return status;
}

int tt_batch_missing(
	const struct tt_batch_options *options, tt_batch_missing_fn missing, void *user, struct tt_error *err)
{
	struct tt_batch_options o;
	if (!missing)
		return tt_need(NULL, "missing", err);
	TT_TRY(take_options(&o, options, err));
	return tt_merge_missing(&o, missing, user, err);
}
