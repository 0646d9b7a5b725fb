#include "runtime/batch/journal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"
#include "base/sha256.h"
#include "runtime/batch/describe.h"
#include "runtime/batch/journal_read.h"

static const double SYNC_SECONDS = 1;

/* ---- Opening */

int tt_journal_refuse_stranger(const char *path, struct tt_error *err)
{
	struct stat status;
	if (!path || stat(path, &status) != 0)
		return TT_OK;
	if (!S_ISREG(status.st_mode))
		return tt_fail(err, TT_ERR_IO, "%s: not a regular file, so no later run could go on with it", path);
	if (status.st_size > 0)
		return tt_fail(err, TT_ERR_MISMATCH,
			"%s is there and has no journal to go on with: move it away, or name another file", path);
	return TT_OK;
}

/* Refuses a file with content that is not an earlier run's. It is that run's if its first row is the journal's, or if
 * the journal names it and no row was forced to disk yet. */
static int refuse_other_file(
	const struct tt_journal *j, const struct tt_append_log *f, bool named, struct tt_error *err)
{
	uint64_t size;
	TT_TRY(tt_append_log_size(f, &size, err));
	if (size == 0 || f->end > 0 || (named && j->n_synced == 0))
		return TT_OK;
	return tt_fail(err, TT_ERR_MISMATCH,
		"%s is there and is not what %s speaks of; nothing was changed. Move it away, or name another file",
		f->path, j->log.path);
}

static int cut_all(struct tt_journal *j, struct tt_error *err)
{
	TT_TRY(tt_append_log_cut(&j->output, err));
	TT_TRY(tt_append_log_cut(&j->telemetry, err));
	return tt_append_log_cut(&j->log, err);
}

static int failed_write(struct tt_journal *j, const struct tt_append_log *f, struct tt_error *err)
{
	int reason = errno;
	cut_all(j, NULL);
	return tt_fail(err, TT_ERR_IO,
		"%s: cannot write: %s; %llu rows are kept, and a run like this one goes on after them", f->path,
		strerror(reason), (unsigned long long)j->n_rows);
}

/* Prints the first line without its closing brace, which tt_seal adds. */
static int print_head(struct tt_buffer *line, const struct tt_journal *j, const json_t *job, struct tt_error *err)
{
	char telemetry[65];
	char *text = NULL;
	TT_TRY(tt_journal_name_telemetry(telemetry, j, err));
	TT_TRY(tt_json_dump(&text, json_incref((json_t *)(uintptr_t)job), JSON_COMPACT, err));
	int status =
		tt_buffer_print(line, err, "{\"trimtab.batch\":%d,\"created\":%lld,\"telemetry\":\"%s\",\"job\":%s",
			TT_JOURNAL_FORMAT, (long long)j->created, telemetry, text);
	free(text);
	return status;
}

/* Writes the first line of a new journal, and forces it to disk before any row is written. */
static int begin_job(struct tt_journal *j, const struct tt_journal_job *job, struct tt_error *err)
{
	struct tt_buffer line = {0};
	j->created = job->created ? job->created : (int64_t)time(NULL);
	int status = print_head(&line, j, job->job, err);
	if (status == TT_OK)
		status = tt_seal(&line, "", j->head, err);
	if (status == TT_OK && (tt_append_log_add(&j->log, line.data, line.len) < 0 || tt_append_log_sync(&j->log) < 0))
		status = failed_write(j, &j->log, err);
	memcpy(j->last, j->head, sizeof j->last);
	tt_buffer_free(&line);
	return status;
}

/* Empties the earlier run's files, and its journal last: until then it shows that the files are that run's. */
static int start_over(struct tt_journal *j, struct tt_error *err)
{
	j->output.end = j->telemetry.end = j->log.end = 0;
	j->n_rows = j->n_errors = j->n_synced = 0;
	return cut_all(j, err);
}

int tt_journal_check_rows(const struct tt_journal *j, const struct tt_journal_found *found, struct tt_error *err)
{
	if (j->n_synced <= j->n_rows)
		return TT_OK; /* rows that are not complete had not been forced to disk, and are made again */
	if (found->damaged)
		return tt_fail(err, TT_ERR_FORMAT,
			"%s: line %llu is damaged; nothing was changed. The rows of %s may be whole: "
			"move both away, and keep them",
			j->log.path, (unsigned long long)found->damaged, j->output.path);
	return tt_fail(err, TT_ERR_MISMATCH,
		"row %llu of %s is no longer what was written there; nothing was changed. "
		"Put the file back as it was, or move it and %s away",
		(unsigned long long)j->n_rows + 1, found->changed ? found->changed : j->output.path, j->log.path);
}

static int check_found(struct tt_journal *j, const struct tt_journal_found *found, const json_t *job, bool restart,
	struct tt_error *err)
{
	if (!found->job) {
		TT_TRY(tt_journal_refuse_stranger(j->output.path, err));
		return tt_journal_refuse_stranger(j->telemetry.path, err);
	}
	if (!restart) {
		TT_TRY(tt_batch_compare(found->job, job, j->output.path, err));
		TT_TRY(tt_journal_check_rows(j, found, err));
	}
	/* If only the telemetry of a row is not complete, its output is, which shows that the output is the job's. */
	if (!found->changed || found->changed != j->telemetry.path)
		TT_TRY(refuse_other_file(j, &j->output, true, err));
	return refuse_other_file(j, &j->telemetry, found->names_telemetry, err);
}

/* Checks the files that exist, and locks the journal, before anything is changed. */
static int look(struct tt_journal *j, const json_t *job, bool restart, bool *begins, struct tt_error *err)
{
	struct tt_journal_found found = {0};
	TT_TRY(tt_append_log_open(&j->log, false, err));
	if (j->log.file < 0) {
		TT_TRY(tt_journal_refuse_stranger(j->output.path, err));
		TT_TRY(tt_journal_refuse_stranger(j->telemetry.path, err));
		TT_TRY(tt_append_log_open(&j->log, true, err));
	}
	TT_TRY(tt_append_log_lock(&j->log, err));
	int status = tt_journal_read(j, &found, err);
	if (status == TT_OK)
		status = check_found(j, &found, job, restart, err);
	*begins = restart || !found.job;
	json_decref(found.job);
	return status;
}

static int open_outputs(struct tt_journal *j, struct tt_error *err)
{
	TT_TRY(tt_append_log_open(&j->output, true, err));
	TT_TRY(tt_append_log_open(&j->telemetry, true, err));
	TT_TRY(cut_all(j, err));
	TT_TRY(tt_append_log_sync_name(&j->output, err));
	TT_TRY(tt_append_log_sync_name(&j->telemetry, err));
	j->synced = tt_now();
	return TT_OK;
}

static int open_journal(struct tt_journal *j, const struct tt_journal_job *job, bool restart, struct tt_error *err)
{
	bool begins;
	TT_TRY(look(j, job->job, restart, &begins, err));
	if (begins) {
		TT_TRY(start_over(j, err));
		TT_TRY(begin_job(j, job, err));
	}
	return open_outputs(j, err);
}

static int name_files(struct tt_journal *j, const char *output, const char *telemetry, const struct tt_journal_job *job,
	struct tt_error *err)
{
	*j = (struct tt_journal){.sync_seconds = job->sync_seconds ? job->sync_seconds : SYNC_SECONDS,
		.telemetry_name = job->telemetry ? job->telemetry : telemetry};
	j->output = (struct tt_append_log){.path = output, .file = -1};
	j->telemetry = (struct tt_append_log){.path = telemetry, .file = -1};
	j->log.file = -1;
	TT_TRY(tt_buffer_print(&j->log_path, err, "%s.journal", output));
	j->log.path = j->log_path.data;
	return TT_OK;
}

int tt_journal_open(struct tt_journal *journal, const char *output, const char *telemetry,
	const struct tt_journal_job *job, bool restart, struct tt_error *err)
{
	TT_TRY(name_files(journal, output, telemetry, job, err));
	int status = open_journal(journal, job, restart, err);
	if (status != TT_OK)
		tt_journal_close(journal);
	return status;
}

static int create_journal(struct tt_journal *j, const struct tt_journal_job *job, bool *taken, struct tt_error *err)
{
	TT_TRY(tt_append_log_create(&j->log, taken, err));
	if (*taken)
		return TT_OK;
	TT_TRY(tt_journal_refuse_stranger(j->output.path, err));
	TT_TRY(tt_journal_refuse_stranger(j->telemetry.path, err));
	TT_TRY(begin_job(j, job, err));
	TT_TRY(tt_append_log_sync_name(&j->log, err));
	return open_outputs(j, err);
}

int tt_journal_create(struct tt_journal *journal, const char *output, const char *telemetry,
	const struct tt_journal_job *job, bool *taken, struct tt_error *err)
{
	*taken = false;
	TT_TRY(name_files(journal, output, telemetry, job, err));
	int status = create_journal(journal, job, taken, err);
	if (status != TT_OK && journal->log.file >= 0 && journal->log.end == 0)
		unlink(journal->log.path); /* made in vain */
	if (status != TT_OK || *taken)
		tt_journal_close(journal);
	return status;
}

/* ---- Writing */

static int describe(struct tt_buffer *record, const struct tt_journal *j, uint64_t row, const struct tt_buffer *line,
	const struct tt_buffer *telemetry, bool is_error, struct tt_error *err)
{
	char sha256[65];
	TT_TRY(tt_sha256(sha256, line->data, line->len, err));
	TT_TRY(tt_buffer_print(record, err, "{\"row\":%llu,\"end\":%llu,\"sha256\":\"%s\"", (unsigned long long)row,
		(unsigned long long)(j->output.end + line->len), sha256));
	if (j->telemetry.path) {
		TT_TRY(tt_sha256(sha256, telemetry->len ? telemetry->data : "", telemetry->len, err));
		TT_TRY(tt_buffer_print(record, err, ",\"telemetry_end\":%llu,\"telemetry_sha256\":\"%s\"",
			(unsigned long long)(j->telemetry.end + telemetry->len), sha256));
	}
	return tt_buffer_print(record, err, "%s", is_error ? ",\"error\":true" : "");
}

/* Appends to all three files or to none: if a write fails, the ends stay, and the files are cut there. */
static int append(struct tt_journal *j, const struct tt_buffer *line, const struct tt_buffer *telemetry,
	const struct tt_buffer *record, struct tt_error *err)
{
	struct tt_append_log *const logs[] = {&j->telemetry, &j->output, &j->log};
	const struct tt_buffer *const data[] = {telemetry, line, record};
	uint64_t ends[3];
	for (int i = 0; i < 3; i++)
		ends[i] = logs[i]->end;
	for (int i = 0; i < 3; i++) {
		if (tt_append_log_add(logs[i], data[i]->data, data[i]->len) == 0)
			continue;
		for (int k = 0; k < i; k++)
			logs[k]->end = ends[k];
		return failed_write(j, logs[i], err);
	}
	return TT_OK;
}

int tt_journal_add(struct tt_journal *journal, uint64_t row, const struct tt_buffer *line,
	const struct tt_buffer *telemetry, bool is_error, struct tt_error *err)
{
	struct tt_buffer record = {0};
	char check[TT_SEAL + 1];
	int status = describe(&record, journal, row, line, telemetry, is_error, err);
	if (status == TT_OK)
		status = tt_seal(&record, journal->last, check, err);
	if (status == TT_OK)
		status = append(journal, line, telemetry, &record, err);
	tt_buffer_free(&record);
	if (status != TT_OK)
		return status;
	memcpy(journal->last, check, sizeof check);
	journal->n_rows++;
	journal->n_errors += is_error;
	return tt_now() - journal->synced < journal->sync_seconds ? TT_OK : tt_journal_sync(journal, err);
}

int tt_journal_sync(struct tt_journal *journal, struct tt_error *err)
{
	const struct tt_append_log *const logs[] = {&journal->telemetry, &journal->output, &journal->log};
	struct tt_buffer record = {0};
	char check[TT_SEAL + 1];
	journal->synced = tt_now();
	if (journal->n_synced == journal->n_rows)
		return TT_OK;
	for (int i = 0; i < 3; i++)
		if (tt_append_log_sync(logs[i]) < 0)
			return failed_write(journal, logs[i], err);
	int status = tt_buffer_print(&record, err, "{\"synced\":%llu", (unsigned long long)journal->n_rows);
	if (status == TT_OK)
		status = tt_seal(&record, journal->head, check, err);
	if (status == TT_OK && tt_append_log_add(&journal->log, record.data, record.len) < 0)
		status = failed_write(journal, &journal->log, err);
	if (status == TT_OK)
		journal->n_synced = journal->n_rows;
	tt_buffer_free(&record);
	return status;
}

void tt_journal_close(struct tt_journal *journal)
{
	tt_append_log_close(&journal->telemetry);
	tt_append_log_close(&journal->output);
	tt_append_log_close(&journal->log);
	tt_buffer_free(&journal->log_path);
}
