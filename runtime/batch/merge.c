#include "runtime/batch/merge.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/sha256.h"
#include "runtime/batch/describe.h"

/* ---- What is there */

/* Reads the journal of the output, if there is one; found->job is NULL where there is none. */
static int read_output(
	struct tt_journal *j, struct tt_journal_found *found, const struct tt_batch_options *o, struct tt_error *err)
{
	*found = (struct tt_journal_found){0};
	*j = (struct tt_journal){.telemetry_name = o->telemetry};
	j->output = (struct tt_append_log){.path = o->output, .file = -1};
	j->telemetry = (struct tt_append_log){.path = o->telemetry, .file = -1};
	j->log.file = -1;
	TT_TRY(tt_buffer_print(&j->log_path, err, "%s.journal", o->output));
	j->log.path = j->log_path.data;
	TT_TRY(tt_append_log_open(&j->log, false, err));
	return j->log.file < 0 ? TT_OK : tt_journal_read(j, found, err);
}

static int look(struct tt_journal *j, const struct tt_journal_found *found, const struct tt_batch_options *o,
	const struct tt_job_file *file, bool is_shared, bool *is_merged, struct tt_error *err)
{
	if (!found->job) {
		TT_TRY(tt_journal_refuse_stranger(o->output, err));
		return tt_journal_refuse_stranger(o->telemetry, err);
	}
	TT_TRY(tt_batch_compare(found->job, file->job, o->output, err));
	*is_merged = j->n_rows == tt_job_file_rows(file);
	/* A merge that was stopped between two of its renames has left its own journal, of the job file's time. */
	if (!*is_merged && !(is_shared && j->created == file->created))
		return tt_fail(err, TT_ERR_MISMATCH,
			"%s was begun by one process: go on with it without --shard or trimtab-mpi, or name another "
			"output",
			o->output);
	return TT_OK;
}

int tt_merge_look(const struct tt_batch_options *options, const struct tt_job_file *file, bool is_shared,
	bool *is_merged, struct tt_batch_report *report, struct tt_error *err)
{
	struct tt_journal j;
	struct tt_journal_found found;
	*is_merged = false;
	int status = read_output(&j, &found, options, err);
	if (status == TT_OK)
		status = look(&j, &found, options, file, is_shared, is_merged, err);
	if (status == TT_OK && *is_merged) {
		report->n_rows = report->n_earlier = j.n_rows;
		report->n_errors = j.n_errors;
	}
	json_decref(found.job);
	tt_journal_close(&j);
	return status;
}

/* Whether the options name what a journal or job file is of, as far as that is known without a model. */
static int check_options(
	const struct tt_batch_options *o, const json_t *job, const char *path, uint64_t *size, struct tt_error *err)
{
	const char *expected = json_string_value(json_object_get(json_object_get(job, "input"), "sha256"));
	bool telemetry = json_is_true(json_object_get(json_object_get(job, "options"), "telemetry"));
	char sha256[65];
	if (telemetry != (o->telemetry != NULL))
		return tt_fail(err, TT_ERR_MISMATCH, "%s is of a job %s --telemetry; nothing was changed", path,
			telemetry ? "with" : "without");
	TT_TRY(tt_sha256_file(sha256, o->input, size, err));
	return expected && !strcmp(expected, sha256)
		       ? TT_OK
		       : tt_fail(err, TT_ERR_MISMATCH, "%s is not the input of %s; nothing was changed", o->input,
				 path);
}

static int count_rows(uint64_t *n, const char *path, uint64_t input_bytes, uint64_t n_cases, struct tt_error *err)
{
	struct tt_lines lines;
	bool found = true;
	*n = 0;
	TT_TRY(tt_lines_open(&lines, path, input_bytes, err));
	int status = TT_OK;
	while (found && (status = tt_lines_next(&lines, &found, err)) == TT_OK)
		*n += found ? n_cases : 0;
	tt_lines_close(&lines);
	return status;
}

/* Whether the output is all that the options ask for. */
static int check_whole(const struct tt_batch_options *o, const struct tt_journal *j,
	const struct tt_journal_found *found, struct tt_error *err)
{
	uint64_t size, n_cases, n_rows;
	TT_TRY(check_options(o, found->job, o->output, &size, err));
	TT_TRY(tt_journal_check_rows(j, found, err));
	TT_TRY(tt_job_cases(&n_cases, found->job, j->log.path, err));
	TT_TRY(count_rows(&n_rows, o->input, size, n_cases, err));
	return j->n_rows == n_rows
		       ? TT_OK
		       : tt_fail(err, TT_ERR_MISMATCH,
				 "%s has %llu of its %llu rows, and there is no job file of others to merge; nothing "
				 "was changed",
				 o->output, (unsigned long long)j->n_rows, (unsigned long long)n_rows);
}

/* Without a job file: the output may be merged already. */
static int look_without_file(
	const struct tt_batch_options *o, const char *path, struct tt_batch_report *report, struct tt_error *err)
{
	struct tt_journal j;
	struct tt_journal_found found;
	int status = read_output(&j, &found, o, err);
	if (status == TT_OK && !found.job)
		status = tt_fail(err, TT_ERR_IO, "%s is not there: there is nothing to merge", path);
	if (status == TT_OK)
		status = check_whole(o, &j, &found, err);
	report->n_rows = report->n_earlier = j.n_rows;
	report->n_errors = j.n_errors;
	json_decref(found.job);
	tt_journal_close(&j);
	return status;
}

/* ---- Merging */

struct merge {
	const struct tt_batch_options *options;
	const struct tt_job_file *file;
	struct tt_parts parts;
	struct tt_part_reader *readers; // [parts.n]
	size_t n_open;
	struct tt_journal journal;
	char *output, *telemetry, *log; /* where it is written, before it has its name */
};

static int open_parts(struct merge *m, struct tt_error *err)
{
	TT_TRY(tt_alloc(&m->readers, m->parts.n, sizeof *m->readers, err));
	for (; m->n_open < m->parts.n; m->n_open++) {
		struct tt_part_reader *reader = &m->readers[m->n_open];
		int status = tt_part_open(reader, &m->parts.list[m->n_open], m->file, false, err);
		if (status == TT_OK)
			status = tt_part_next(reader, err);
		if (status != TT_OK) {
			tt_part_close(reader);
			return status;
		}
	}
	return TT_OK;
}

/* The part that has the row. One that has it too is passed over later: in strict mode its bytes are the same. Parts
 * have runs of rows, so the last one is asked first. */
static int find_row(struct merge *m, uint64_t row, size_t *at, struct tt_error *err)
{
	for (size_t i = 0; i < m->n_open; i++, *at = (*at + 1) % m->n_open) {
		struct tt_part_reader *reader = &m->readers[*at];
		while (reader->has_row && reader->reader.row < row)
			TT_TRY(tt_part_next(reader, err));
		if (reader->has_row && reader->reader.row == row)
			return TT_OK;
	}
	return tt_fail(err, TT_ERR_MISMATCH, "row %llu of %s is in no part any more", (unsigned long long)row,
		m->options->output);
}

static int merge_rows(struct merge *m, struct tt_error *err)
{
	uint64_t total = tt_job_file_rows(m->file);
	const struct tt_batch_options *o = m->options;
	size_t at = 0;
	for (uint64_t row = 0; row < total; row++) {
		TT_TRY(find_row(m, row, &at, err));
		struct tt_journal_reader *reader = &m->readers[at].reader;
		TT_TRY(tt_journal_add(&m->journal, row, &reader->line, &reader->telemetry, reader->is_error, err));
		if (o->progress && row % 1024 == 0 && o->progress(o->user, "merging", row, total))
			return tt_fail(err, TT_ERR_LIMIT, "stopped");
	}
	return tt_journal_sync(&m->journal, err);
}

static int name_files(struct merge *m, struct tt_error *err)
{
	struct tt_buffer output = {0}, telemetry = {0}, log = {0};
	int status = tt_buffer_print(&output, err, "%s.tmp", m->options->output);
	if (status == TT_OK)
		status = tt_buffer_print(&log, err, "%s.tmp.journal", m->options->output);
	if (status == TT_OK && m->options->telemetry)
		status = tt_buffer_print(&telemetry, err, "%s.tmp", m->options->telemetry);
	m->output = output.data;
	m->telemetry = telemetry.data;
	m->log = log.data;
	return status;
}

/* Whether there is a journal of an output, and that of this very job, by its first line; TT_ERR_MISMATCH for another
 * job's, and TT_ERR_IO for one that a merge still writes. */
static int find_own(const struct merge *m, const char *output, bool *found, struct tt_error *err)
{
	struct tt_journal j = {.telemetry_name = m->options->telemetry};
	struct tt_journal_reader reader = {.is_unchecked = true};
	j.output = (struct tt_append_log){.path = output, .file = -1};
	j.telemetry.file = j.log.file = -1;
	TT_TRY(tt_buffer_print(&j.log_path, err, "%s.journal", output));
	j.log.path = j.log_path.data;
	int status = tt_append_log_open(&j.log, false, err);
	if (status == TT_OK && j.log.file >= 0)
		status = tt_append_log_lock(&j.log, err);
	if (status == TT_OK && j.log.file >= 0)
		status = tt_journal_reader_open(&reader, &j, err);
	*found = status == TT_OK && reader.found.job;
	if (*found)
		status = tt_batch_compare(reader.found.job, m->file->job, output, err);
	if (status == TT_OK && *found && j.created != m->file->created)
		status = tt_fail(err, TT_ERR_MISMATCH,
			"%s is of a job that was begun at another time; nothing was changed. Move it and its journal "
			"away, or name another output",
			output);
	tt_journal_reader_close(&reader);
	tt_journal_close(&j);
	return status;
}

static void remove_written(const struct merge *m)
{
	const char *const written[] = {m->output, m->telemetry, m->log};
	for (int i = 0; i < 3; i++)
		if (written[i])
			unlink(written[i]);
}

/* Makes room for the files: refuses another job's, and removes those that this job's merge left without a journal when
 * it was stopped after it had renamed that. */
static int make_room(const struct merge *m, struct tt_error *err)
{
	bool named, renamed;
	TT_TRY(find_own(m, m->output, &named, err));
	TT_TRY(find_own(m, m->options->output, &renamed, err));
	if (renamed && !named)
		remove_written(m);
	return TT_OK;
}

static int move(const char *from, const char *to, struct tt_error *err)
{
	return from && rename(from, to) < 0 ? tt_fail_io(err, to, "rename into place") : TT_OK;
}

/* The journal comes first: by it the other two are known to be the job's, if this is stopped. */
static int move_files(struct merge *m, struct tt_error *err)
{
	const struct tt_append_log log = {.path = m->options->output, .file = -1};
	const struct tt_append_log telemetry = {.path = m->options->telemetry, .file = -1};
	struct tt_buffer name = {0};
	TT_TRY(tt_buffer_print(&name, err, "%s.journal", m->options->output));
	int status = move(m->log, name.data, err);
	tt_buffer_free(&name);
	if (status == TT_OK)
		status = move(m->telemetry, m->options->telemetry, err);
	if (status == TT_OK)
		status = move(m->output, m->options->output, err);
	/* Parts go only when both names are on the disk. */
	if (status == TT_OK)
		status = tt_append_log_sync_name(&telemetry, err);
	return status == TT_OK ? tt_append_log_sync_name(&log, err) : status;
}

static int merge_parts(struct merge *m, struct tt_error *err)
{
	/* Every second's sync would be in vain: nothing goes on with a merge that was stopped. */
	const struct tt_journal_job job = {.job = m->file->job,
		.created = m->file->created,
		.telemetry = m->options->telemetry,
		.sync_seconds = 1e9};
	TT_TRY(name_files(m, err));
	TT_TRY(open_parts(m, err));
	TT_TRY(make_room(m, err));
	TT_TRY(tt_journal_open(&m->journal, m->output, m->telemetry, &job, true, err));
	int status = merge_rows(m, err);
	if (status == TT_OK)
		status = move_files(m, err);
	if (status != TT_OK)
		remove_written(m);
	return status;
}

static void free_merge(struct merge *m)
{
	for (size_t i = 0; i < m->n_open; i++)
		tt_part_close(&m->readers[i]);
	free(m->readers);
	tt_journal_close(&m->journal);
	tt_parts_free(&m->parts);
	free(m->output);
	free(m->telemetry);
	free(m->log);
}

static int check_complete(const struct tt_rows_done *done, const struct tt_batch_options *o, struct tt_error *err)
{
	if (done->n_done == done->n_rows)
		return TT_OK;
	return tt_fail(err, TT_ERR_MISMATCH,
		"%llu of the %llu rows of %s are missing, which --merge --missing names; nothing was changed",
		(unsigned long long)(done->n_rows - done->n_done), (unsigned long long)done->n_rows, o->output);
}

static int merge_all(const struct tt_batch_options *o, const struct tt_job_file *file, struct tt_batch_report *report,
	struct tt_error *err)
{
	struct merge m = {.options = o, .file = file};
	struct tt_rows_done done;
	bool is_merged;
	m.journal.output.file = m.journal.telemetry.file = m.journal.log.file = -1;
	TT_TRY(tt_merge_look(o, file, true, &is_merged, report, err));
	TT_TRY(tt_parts_find(&m.parts, o->output, o->telemetry != NULL, err));
	int status = tt_parts_check_idle(&m.parts, UINT64_MAX, err);
	if (status == TT_OK && !is_merged) {
		/* By records alone: merging looks at every byte. */
		status = tt_parts_read(&done, &m.parts, file, true, err);
		if (status == TT_OK) {
			status = check_complete(&done, o, err);
			report->n_rows = report->n_earlier = done.n_done;
			tt_rows_done_free(&done);
		}
		if (status == TT_OK)
			status = merge_parts(&m, err);
		report->n_errors = m.journal.n_errors;
	}
	if (status == TT_OK)
		status = tt_parts_remove(&m.parts, o->output, err);
	free_merge(&m);
	return status;
}

/* Reads the job file; *is_there is false where there is none. */
static int read_file(struct tt_job_file *file, const struct tt_batch_options *o, const char *path, bool *is_there,
	struct tt_error *err)
{
	uint64_t size;
	*is_there = tt_file_exists(path);
	if (!*is_there)
		return TT_OK;
	TT_TRY(tt_job_file_read(file, path, err));
	int status = check_options(o, file->job, path, &size, err);
	if (status != TT_OK)
		tt_job_file_free(file);
	return status;
}

static int merge(
	const struct tt_batch_options *o, const char *path, struct tt_batch_report *report, struct tt_error *err)
{
	struct tt_job_file file;
	bool is_there;
	TT_TRY(read_file(&file, o, path, &is_there, err));
	if (!is_there)
		return look_without_file(o, path, report, err);
	int status = merge_all(o, &file, report, err);
	tt_job_file_free(&file);
	if (status == TT_OK && unlink(path) < 0 && errno != ENOENT)
		status = tt_fail_io(err, path, "remove");
	return status;
}

int tt_merge(const struct tt_batch_options *options, struct tt_batch_report *report, struct tt_error *err)
{
	char *path = NULL;
	TT_TRY(tt_job_path(&path, options->output, err));
	int status = merge(options, path, report, err);
	free(path);
	return status;
}

/* ---- What is missing */

static int name_missing(const struct tt_rows_done *done, const struct tt_job_file *file, tt_batch_missing_fn missing,
	void *user, struct tt_error *err)
{
	uint64_t n = tt_job_file_unit_rows(file);
	for (uint64_t from = 0; from < done->n_rows;) {
		uint64_t unit = from / n, end = done->n_rows - unit * n < n ? done->n_rows : (unit + 1) * n;
		struct tt_row_range range = tt_rows_undone(done, from, end, UINT64_MAX);
		if (range.from < range.to && missing(user, unit, range.from, range.to - range.from))
			return tt_fail(err, TT_ERR_LIMIT, "stopped");
		from = range.to;
	}
	return TT_OK;
}

static int list_missing(const struct tt_batch_options *o, const struct tt_job_file *file, tt_batch_missing_fn missing,
	void *user, struct tt_error *err)
{
	struct tt_parts parts;
	struct tt_rows_done done;
	TT_TRY(tt_parts_find(&parts, o->output, o->telemetry != NULL, err));
	int status = tt_parts_read(&done, &parts, file, false, err);
	tt_parts_free(&parts);
	TT_TRY(status);
	status = name_missing(&done, file, missing, user, err);
	tt_rows_done_free(&done);
	return status;
}

int tt_merge_missing(
	const struct tt_batch_options *options, tt_batch_missing_fn missing, void *user, struct tt_error *err)
{
	struct tt_batch_report report;
	struct tt_job_file file;
	bool is_there = false;
	char *path = NULL;
	TT_TRY(tt_job_path(&path, options->output, err));
	int status = read_file(&file, options, path, &is_there, err);
	if (status == TT_OK && !is_there)
		status = look_without_file(options, path, &report, err);
	free(path);
	if (status != TT_OK || !is_there)
		return status;
	status = list_missing(options, &file, missing, user, err);
	tt_job_file_free(&file);
	return status;
}
