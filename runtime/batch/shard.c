#include "runtime/batch/shard.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/sha256.h"
#include "runtime/batch/describe.h"
#include "runtime/batch/merge.h"
#include "runtime/engine/engine.h"

/* *each: rows that are there already have a case of scale 0 for each policy, as all had once. */
static int look_for_baselines(const struct tt_batch_options *o, const char *ending, bool *each, struct tt_error *err)
{
	struct tt_buffer path = {0};
	json_t *job = NULL;
	TT_TRY(tt_buffer_print(&path, err, "%s%s", o->output, ending));
	int status = tt_job_peek(&job, path.data, err);
	const char *sweep = json_string_value(json_object_get(job, "sweep"));
	*each |= sweep && !strcmp(sweep, o->sweep) && !json_object_get(job, "baselines");
	json_decref(job);
	tt_buffer_free(&path);
	return status;
}

static int load_sweep(struct tt_batch_job *job, struct tt_error *err)
{
	const struct tt_batch_options *o = job->options;
	bool each = false;
	TT_TRY(tt_batch_sweep(&job->sweep, o, err));
	if (o->sweep && !o->restart) {
		TT_TRY(look_for_baselines(o, ".journal", &each, err));
		TT_TRY(look_for_baselines(o, ".job", &each, err));
	}
	job->one_baseline = !each && tt_sweep_keep_one_baseline(&job->sweep) > 0;
	return TT_OK;
}

int tt_batch_load(struct tt_batch_job *job, struct tt_error *err)
{
	const struct tt_batch_options *o = job->options;
	if (o->note && strcmp(tt_engine_info(job->engine)->mode, "strict") != 0)
		o->note(o->user, "in fast mode a row may depend on its batch mates, so a stopped run does not end with "
				 "the same bytes");
	TT_TRY(load_sweep(job, err));
	const struct tt_policy_files policies = {o->policies, o->n_policies, o->layers, o->note, o->user};
	return tt_named_policies_load(&job->policies, job->engine, &policies, err);
}

void tt_batch_unload(struct tt_batch_job *job)
{
	tt_named_policies_free(&job->policies, job->engine);
	tt_sweep_free(&job->sweep);
}

/* ---- The job file */

int tt_share_refuse_plain(const struct tt_batch_options *options, struct tt_error *err)
{
	char *path = NULL;
	TT_TRY(tt_job_path(&path, options->output, err));
	bool shared = tt_file_exists(path);
	free(path);
	return shared ? tt_fail(err, TT_ERR_MISMATCH,
				"several processes share %s: its rows are in %s.parts. Go on with --shard or "
				"trimtab-mpi, or make one file of them with --merge",
				options->output, options->output)
		      : TT_OK;
}

/* Describes the job as this process has it. file: what it says of the input, whose digest need not be made again; or
 * NULL. */
static int describe(json_t **out, struct tt_share *share, const struct tt_job_file *file, struct tt_error *err)
{
	const char *path = share->options.input;
	const json_t *input = file ? json_object_get(file->job, "input") : NULL;
	char sha256[65];
	if (!input) {
		TT_TRY(tt_sha256_file(sha256, path, &share->run.input_bytes, err));
		return tt_batch_describe(out, &share->run.job, sha256, share->run.input_bytes, err);
	}
	struct stat status;
	if (stat(path, &status) < 0)
		return tt_fail_io(err, path, "read");
	share->run.input_bytes = (uint64_t)status.st_size;
	const char *known = json_string_value(json_object_get(input, "sha256"));
	return tt_batch_describe(out, &share->run.job, known ? known : "", share->run.input_bytes, err);
}

static int make_file(struct tt_share *share, const char *path, json_t *job, struct tt_error *err)
{
	struct tt_job_file file;
	TT_TRY(tt_job_file_scan(&file, &share->run.job, share->run.input_bytes, err));
	file.job = json_incref(job);
	int status = tt_merge_look(&share->options, &file, false, &share->is_merged, share->run.report, err);
	if (status == TT_OK && !share->is_merged)
		status = tt_job_file_write(&file, path, err);
	tt_job_file_free(&file);
	return status;
}

static int open_file(struct tt_share *share, const char *path, bool makes, struct tt_error *err)
{
	json_t *job = NULL;
	int status = TT_OK;
	if (!makes)
		TT_TRY(tt_job_file_read(&share->file, path, err));
	TT_TRY(describe(&job, share, makes ? NULL : &share->file, err));
	if (makes && !tt_file_exists(path))
		status = make_file(share, path, job, err);
	if (status == TT_OK && makes && !share->is_merged)
		status = tt_job_file_read(&share->file, path, err);
	if (status == TT_OK && !share->is_merged)
		status = tt_batch_compare(share->file.job, job, path, err);
	/* A merge that was stopped may have left its job file behind. */
	if (status == TT_OK && makes && !share->is_merged)
		status = tt_merge_look(&share->options, &share->file, true, &share->is_merged, share->run.report, err);
	json_decref(job);
	return status;
}

int tt_share_open(struct tt_share *share, bool makes, struct tt_error *err)
{
	struct tt_answering *run = &share->run;
	char *path = NULL;
	run->journal.output.file = run->journal.telemetry.file = run->journal.log.file = -1;
	TT_TRY(tt_batch_load(&run->job, err));
	TT_TRY(tt_job_path(&path, share->options.output, err));
	int status = open_file(share, path, makes, err);
	free(path);
	run->job.created = share->file.created;
	run->file = &share->file;
	run->ids = (struct tt_ids_seen){
		.is_known = true, .repeated = share->file.repeated, .n_repeated = share->file.n_repeated};
	return status;
}

int tt_share_read(struct tt_share *share, uint64_t rank, struct tt_error *err)
{
	const struct tt_batch_options *o = &share->options;
	TT_TRY(tt_parts_find(&share->parts, o->output, o->telemetry != NULL, err));
	TT_TRY(tt_parts_check_idle(&share->parts, rank, err));
	return tt_parts_read(&share->done, &share->parts, &share->file, false, err);
}

/* A merge takes no part that it did not see, and a shard that found none of those that it took would answer all rows
 * again. So what was merged is looked for once more when the part is there. */
static int check_not_merged(struct tt_share *share, struct tt_error *err)
{
	const char *output = share->options.output;
	struct tt_batch_report report;
	char *path = NULL;
	bool is_merged = false;
	TT_TRY(tt_job_path(&path, output, err));
	int status = tt_merge_look(&share->options, &share->file, true, &is_merged, &report, err);
	if (status == TT_OK && (is_merged || !tt_file_exists(path)))
		status = tt_fail(err, TT_ERR_MISMATCH, "%s was merged meanwhile: there is nothing left to do", output);
	free(path);
	return status;
}

int tt_share_begin(struct tt_share *share, uint64_t rank, struct tt_error *err)
{
	const char *output = share->options.output;
	TT_TRY(tt_part_create(&share->part, &share->run.journal, &share->parts, output, rank, &share->file, err));
	int status = check_not_merged(share, err);
	const struct tt_parts own = {.list = &share->part, .n = 1};
	if (status != TT_OK)
		tt_parts_remove(&own, output, NULL);
	return status;
}

void tt_share_close(struct tt_share *share)
{
	tt_answer_free(&share->run);
	tt_journal_close(&share->run.journal);
	tt_batch_unload(&share->run.job);
	tt_part_free(&share->part);
	tt_parts_free(&share->parts);
	tt_rows_done_free(&share->done);
	tt_job_file_free(&share->file);
}

/* ---- A static shard: every n_shards-th unit */

struct shard {
	struct tt_share share;
	uint64_t unit, row; /* the present unit, and the first row from which on nothing was given out */
	uint64_t n_rows, n_earlier, n_errors;
};

static struct tt_row_range unit_range(const struct shard *s, uint64_t unit)
{
	uint64_t n = tt_job_file_unit_rows(&s->share.file), total = s->share.done.n_rows;
	uint64_t from = unit * n;
	return (struct tt_row_range){from, total - from < n ? total : from + n};
}

static int next_rows(void *user, bool idle, struct tt_row_range *out, bool *ended, struct tt_error *err)
{
	struct shard *s = user;
	(void)idle;
	(void)err;
	for (; s->unit < s->share.file.n_units; s->unit += s->share.options.n_shards) {
		struct tt_row_range unit = unit_range(s, s->unit);
		uint64_t from = s->row > unit.from ? s->row : unit.from;
		*out = tt_rows_undone(&s->share.done, from, unit.to, UINT64_MAX);
		if (out->from < out->to) {
			s->row = out->to;
			return TT_OK;
		}
	}
	*ended = true;
	return TT_OK;
}

static int report_progress(void *user, struct tt_error *err)
{
	struct shard *s = user;
	const struct tt_batch_options *o = &s->share.options;
	if (o->progress && o->progress(o->user, "rows", s->n_earlier + s->share.run.journal.n_rows, s->n_rows))
		return tt_fail(err, TT_ERR_LIMIT, "stopped");
	return TT_OK;
}

/* How many rows the shard has, and how many of them are there. */
static void count_rows(struct shard *s)
{
	for (uint64_t unit = s->unit; unit < s->share.file.n_units; unit += s->share.options.n_shards) {
		struct tt_row_range range = unit_range(s, unit);
		s->n_rows += range.to - range.from;
		for (uint64_t row = range.from; row < range.to; row++)
			s->n_earlier += tt_row_is_done(&s->share.done, row);
	}
}

static int answer_shard(struct shard *s, struct tt_error *err)
{
	struct tt_batch_report *report = s->share.run.report;
	TT_TRY(tt_share_open(&s->share, true, err));
	if (s->share.is_merged)
		return TT_OK;
	TT_TRY(tt_share_read(&s->share, s->unit, err));
	count_rows(s);
	report->n_rows = report->n_earlier = s->n_earlier;
	if (s->n_earlier == s->n_rows)
		return TT_OK;
	TT_TRY(tt_share_begin(&s->share, s->unit, err));
	s->share.run.source = (struct tt_row_source){next_rows, report_progress, s};
	int status = tt_answer(&s->share.run, err);
	report->n_rows = s->n_earlier + s->share.run.journal.n_rows;
	report->n_errors = s->share.run.journal.n_errors;
	return status;
}

int tt_batch_shard(struct tt_engine *engine, const struct tt_batch_options *options, struct tt_batch_report *report,
	struct tt_error *err)
{
	struct shard s = {.share.options = *options, .unit = options->shard};
	s.share.run.report = report;
	s.share.run.job = (struct tt_batch_job){.engine = engine, .options = &s.share.options};
	int status = answer_shard(&s, err);
	tt_share_close(&s.share);
	return status;
}
