#include "runtime/batch/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"
#include "base/sha256.h"
#include "runtime/batch/lines.h"

enum { SYNC_SECONDS = 1 };

static int io_error(struct tt_error *err, const char *path, const char *verb)
{
	return tt_fail(err, TT_ERR_IO, "%s: cannot %s: %s", path, verb, strerror(errno));
}

/* ---- Opening */

static int size_of(const struct tt_journal_file *f, uint64_t *size, struct tt_error *err)
{
	struct stat status;
	if (fstat(f->file, &status) < 0)
		return io_error(err, f->path, "read");
	if (!S_ISREG(status.st_mode))
		return tt_fail(err, TT_ERR_IO, "%s: not a regular file, so no later run could go on with it", f->path);
	*size = (uint64_t)status.st_size;
	return TT_OK;
}

static int open_file(struct tt_journal_file *f, struct tt_error *err)
{
	uint64_t size = 0;
	if (!f->path)
		return TT_OK;
	f->file = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666);
	if (f->file < 0)
		return io_error(err, f->path, "open");
	return size_of(f, &size, err);
}

/* Nothing of a file that this job did not write is overwritten. */
static int refuse_stranger(const char *path, struct tt_error *err)
{
	struct stat status;
	if (path && stat(path, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0)
		return tt_fail(err, TT_ERR_MISMATCH, "%s is there and has no journal to go on with", path);
	return TT_OK;
}

static int write_all(const struct tt_journal_file *f, const struct tt_buffer *data)
{
	const char *at = data->data;
	for (size_t left = data->len; left > 0;) {
		ssize_t n = write(f->file, at, left);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		at += n;
		left -= (size_t)n;
	}
	return 0;
}

/* A file's name is on disk when its folder is. */
static int sync_folder(const char *path, struct tt_error *err)
{
	char *folder = NULL;
	const char *slash = strrchr(path, '/');
	TT_TRY(slash ? tt_copy_string(&folder, path, slash == path ? 1 : (size_t)(slash - path), err)
		     : tt_copy_string(&folder, ".", 1, err));
	int file = open(folder, O_RDONLY | O_CLOEXEC);
	free(folder);
	if (file >= 0) {
		fsync(file); /* some file systems cannot, and need not */
		close(file);
	}
	return TT_OK;
}

/* Cuts a file to its whole rows and appends from there. */
static int cut(struct tt_journal_file *f, struct tt_error *err)
{
	if (!f->path)
		return TT_OK;
	if (ftruncate(f->file, (off_t)f->end) < 0 || lseek(f->file, (off_t)f->end, SEEK_SET) < 0)
		return io_error(err, f->path, "write");
	return TT_OK;
}

static int cut_all(struct tt_journal *j, struct tt_error *err)
{
	TT_TRY(cut(&j->output, err));
	TT_TRY(cut(&j->telemetry, err));
	return cut(&j->log, err);
}

/* The first line of a new journal. The job is on disk before any row is. */
static int begin_job(struct tt_journal *j, const json_t *job, struct tt_error *err)
{
	struct tt_buffer line = {0};
	j->created = (int64_t)time(NULL);
	json_t *head = json_pack("{s:i, s:I, s:O}", "trimtab.batch", 1, "created", (json_int_t)j->created, "job", job);
	char *text = NULL;
	TT_TRY(tt_json_dump(&text, head, JSON_COMPACT, err));
	int status = tt_buffer_print(&line, err, "%s\n", text);
	free(text);
	if (status == TT_OK && (write_all(&j->log, &line) < 0 || fsync(j->log.file) < 0))
		status = io_error(err, j->log.path, "write");
	j->log.end = line.len;
	tt_buffer_free(&line);
	return status;
}

/* ---- Going on */

/* The first thing in which two jobs differ. */
static int compare_jobs(const json_t *earlier, const json_t *job, struct tt_error *err)
{
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)job, key, value)
	{
		if (!json_equal(value, json_object_get(earlier, key)))
			return tt_fail(
				err, TT_ERR_MISMATCH, "the run to go on with had another %s: nothing was changed", key);
	}
	if (json_object_size(earlier) != json_object_size(job))
		return tt_fail(err, TT_ERR_MISMATCH, "the run to go on with was another trimtab's");
	return TT_OK;
}

static int read_head(struct tt_journal *j, const struct tt_lines *lines, const json_t *job, struct tt_error *err)
{
	json_t *head = NULL;
	TT_TRY(tt_json_parse(&head, lines->line.data, lines->line.len, j->log.path, err));
	const json_t *created = json_object_get(head, "created");
	int status = TT_OK;
	if (json_integer_value(json_object_get(head, "trimtab.batch")) != 1 || !json_is_integer(created))
		status = tt_fail(err, TT_ERR_FORMAT, "%s: not the journal of a batch", j->log.path);
	else
		status = compare_jobs(json_object_get(head, "job"), job, err);
	j->created = json_integer_value(created);
	json_decref(head);
	return status;
}

/* Are the bytes from the file's end to the record's what they were? *end then gets the record's. A file that is
 * shorter, or a record that says nothing sensible, is a no. */
static bool is_whole(const struct tt_journal_file *f, const json_t *record, const char *end_key, const char *sha_key,
	uint64_t *end, struct tt_buffer *scratch)
{
	const json_t *at = json_object_get(record, end_key);
	const char *expected = json_string_value(json_object_get(record, sha_key));
	char actual[65];
	uint64_t size = 0;
	if (!f->path)
		return true;
	if (!json_is_integer(at) || !expected || size_of(f, &size, NULL) != TT_OK)
		return false;
	*end = (uint64_t)json_integer_value(at);
	if (*end < f->end || *end > size || *end - f->end > SIZE_MAX / 2)
		return false;
	size_t n = (size_t)(*end - f->end);
	if (tt_grow(&scratch->data, &scratch->capacity, n + 1, 1, NULL) != TT_OK)
		return false;
	for (size_t done = 0; done < n;) {
		ssize_t got = pread(f->file, scratch->data + done, n - done, (off_t)(f->end + done));
		if (got <= 0)
			return false;
		done += (size_t)got;
	}
	return tt_sha256(actual, scratch->data, n, NULL) == TT_OK && !strcmp(actual, expected);
}

/* Takes the record of the next row if that is whole. */
static bool take_row(struct tt_journal *j, const json_t *record, struct tt_buffer *scratch)
{
	const json_t *row = json_object_get(record, "row");
	uint64_t output_end = 0, telemetry_end = 0;
	if (!json_is_integer(row) || (uint64_t)json_integer_value(row) != j->n_rows ||
		!is_whole(&j->output, record, "end", "sha256", &output_end, scratch) ||
		!is_whole(&j->telemetry, record, "telemetry_end", "telemetry_sha256", &telemetry_end, scratch))
		return false;
	j->output.end = output_end;
	j->telemetry.end = telemetry_end;
	j->n_rows++;
	j->n_errors += json_is_true(json_object_get(record, "error"));
	return true;
}

/* Takes records while their rows are whole; behind the first that is not, only looks how far the disk had got. */
static int take_records(struct tt_journal *j, struct tt_lines *lines, struct tt_buffer *scratch, struct tt_error *err)
{
	bool found, whole = true;
	for (;;) {
		json_t *record = NULL;
		TT_TRY(tt_lines_next(lines, &found, err));
		if (!found || !lines->ended || lines->too_long ||
			tt_json_parse(&record, lines->line.data, lines->line.len, "", NULL) != TT_OK)
			return TT_OK;
		const json_t *synced = json_object_get(record, "synced");
		if (json_is_integer(synced))
			j->n_synced = (uint64_t)json_integer_value(synced);
		else
			whole = whole && take_row(j, record, scratch);
		if (whole)
			j->log.end = lines->offset;
		json_decref(record);
	}
}

static int read_log(struct tt_journal *j, struct tt_lines *lines, const json_t *job, struct tt_error *err)
{
	struct tt_buffer scratch = {0};
	bool found;
	TT_TRY(tt_lines_next(lines, &found, err));
	if (!found || !lines->ended)
		return TT_OK; /* it died before its job was on disk, so before any row */
	TT_TRY(read_head(j, lines, job, err));
	j->log.end = lines->offset;
	TT_TRY(open_file(&j->output, err));
	TT_TRY(open_file(&j->telemetry, err));
	int status = take_records(j, lines, &scratch, err);
	tt_buffer_free(&scratch);
	if (status == TT_OK && j->n_synced > j->n_rows)
		status = tt_fail(err, TT_ERR_MISMATCH,
			"row %llu of %s is no longer what was written there: nothing was changed",
			(unsigned long long)j->n_rows + 1, j->output.path);
	return status;
}

static int go_on(struct tt_journal *j, const json_t *job, struct tt_error *err)
{
	struct tt_lines lines;
	uint64_t size = 0;
	TT_TRY(size_of(&j->log, &size, err));
	TT_TRY(tt_lines_open(&lines, j->log.path, size, err));
	int status = read_log(j, &lines, job, err);
	tt_lines_close(&lines);
	return status;
}

static int open_journal(struct tt_journal *j, const json_t *job, bool restart, struct tt_error *err)
{
	bool existed = tt_file_exists(j->log.path);
	if (!existed && !restart) {
		TT_TRY(refuse_stranger(j->output.path, err));
		TT_TRY(refuse_stranger(j->telemetry.path, err));
	}
	TT_TRY(open_file(&j->log, err));
	if (flock(j->log.file, LOCK_EX | LOCK_NB) < 0)
		return tt_fail(err, TT_ERR_IO, "%s: another run is writing it", j->log.path);
	if (!restart)
		TT_TRY(go_on(j, job, err));
	if (j->log.end == 0) {
		TT_TRY(restart ? TT_OK : refuse_stranger(j->output.path, err));
		TT_TRY(restart ? TT_OK : refuse_stranger(j->telemetry.path, err));
		TT_TRY(cut(&j->log, err));
		TT_TRY(begin_job(j, job, err));
		TT_TRY(open_file(&j->output, err));
		TT_TRY(open_file(&j->telemetry, err));
	}
	TT_TRY(cut_all(j, err));
	TT_TRY(sync_folder(j->output.path, err));
	if (j->telemetry.path)
		TT_TRY(sync_folder(j->telemetry.path, err));
	j->synced = tt_now();
	return TT_OK;
}

int tt_journal_open(struct tt_journal *journal, const char *output, const char *telemetry, const json_t *job,
	bool restart, struct tt_error *err)
{
	*journal = (struct tt_journal){0};
	journal->output = (struct tt_journal_file){.path = output, .file = -1};
	journal->telemetry = (struct tt_journal_file){.path = telemetry, .file = -1};
	journal->log.file = -1;
	TT_TRY(tt_buffer_print(&journal->log_path, err, "%s.journal", output));
	journal->log.path = journal->log_path.data;
	int status = open_journal(journal, job, restart, err);
	if (status != TT_OK)
		tt_journal_close(journal);
	return status;
}

/* ---- Writing */

static int failed_write(struct tt_journal *j, const struct tt_journal_file *f, struct tt_error *err)
{
	int reason = errno;
	cut_all(j, NULL);
	return tt_fail(err, TT_ERR_IO,
		"%s: cannot write: %s; %llu rows are kept, and a run like this one goes on behind them", f->path,
		strerror(reason), (unsigned long long)j->n_rows);
}

static int describe(struct tt_buffer *record, const struct tt_journal *j, const struct tt_buffer *line,
	const struct tt_buffer *telemetry, bool is_error, struct tt_error *err)
{
	char sha256[65];
	TT_TRY(tt_sha256(sha256, line->data, line->len, err));
	TT_TRY(tt_buffer_print(record, err, "{\"row\":%llu,\"end\":%llu,\"sha256\":\"%s\"",
		(unsigned long long)j->n_rows, (unsigned long long)(j->output.end + line->len), sha256));
	if (j->telemetry.path) {
		TT_TRY(tt_sha256(sha256, telemetry->len ? telemetry->data : "", telemetry->len, err));
		TT_TRY(tt_buffer_print(record, err, ",\"telemetry_end\":%llu,\"telemetry_sha256\":\"%s\"",
			(unsigned long long)(j->telemetry.end + telemetry->len), sha256));
	}
	return tt_buffer_print(record, err, "%s}\n", is_error ? ",\"error\":true" : "");
}

static int append(struct tt_journal *j, const struct tt_buffer *line, const struct tt_buffer *telemetry,
	const struct tt_buffer *record, struct tt_error *err)
{
	if (j->telemetry.path && write_all(&j->telemetry, telemetry) < 0)
		return failed_write(j, &j->telemetry, err);
	if (write_all(&j->output, line) < 0)
		return failed_write(j, &j->output, err);
	if (write_all(&j->log, record) < 0)
		return failed_write(j, &j->log, err);
	j->telemetry.end += j->telemetry.path ? telemetry->len : 0;
	j->output.end += line->len;
	j->log.end += record->len;
	return TT_OK;
}

int tt_journal_add(struct tt_journal *journal, const struct tt_buffer *line, const struct tt_buffer *telemetry,
	bool is_error, struct tt_error *err)
{
	struct tt_buffer record = {0};
	int status = describe(&record, journal, line, telemetry, is_error, err);
	if (status == TT_OK)
		status = append(journal, line, telemetry, &record, err);
	tt_buffer_free(&record);
	if (status != TT_OK)
		return status;
	journal->n_rows++;
	journal->n_errors += is_error;
	return tt_now() - journal->synced < SYNC_SECONDS ? TT_OK : tt_journal_sync(journal, err);
}

int tt_journal_sync(struct tt_journal *journal, struct tt_error *err)
{
	const struct tt_journal_file *files[] = {&journal->telemetry, &journal->output, &journal->log};
	struct tt_buffer record = {0};
	journal->synced = tt_now();
	if (journal->n_synced == journal->n_rows)
		return TT_OK;
	for (int i = 0; i < 3; i++)
		if (files[i]->path && fdatasync(files[i]->file) < 0)
			return failed_write(journal, files[i], err);
	TT_TRY(tt_buffer_print(&record, err, "{\"synced\":%llu}\n", (unsigned long long)journal->n_rows));
	int status = write_all(&journal->log, &record) < 0 ? failed_write(journal, &journal->log, err) : TT_OK;
	if (status == TT_OK) {
		journal->log.end += record.len;
		journal->n_synced = journal->n_rows;
	}
	tt_buffer_free(&record);
	return status;
}

void tt_journal_close(struct tt_journal *journal)
{
	struct tt_journal_file *files[] = {&journal->telemetry, &journal->output, &journal->log};
	for (int i = 0; i < 3; i++) {
		if (files[i]->file >= 0)
			close(files[i]->file);
		files[i]->file = -1;
	}
	tt_buffer_free(&journal->log_path);
}
