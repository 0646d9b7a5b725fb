#include "runtime/batch/journal_read.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"
#include "base/outputs.h"
#include "base/sha256.h"
#include "base/lines.h"

/* How a journal of any format begins. */
static const char beginning[] = "{\"trimtab.batch\":";

int tt_journal_name_telemetry(char out[65], const struct tt_journal *journal, struct tt_error *err)
{
	char *path = NULL;
	out[0] = 0;
	if (!journal->telemetry.path)
		return TT_OK;
	TT_TRY(tt_file_resolve(&path, journal->telemetry.path, err));
	int status = tt_sha256(out, path, strlen(path), err);
	free(path);
	return status;
}

/* ---- The first line */

static int no_journal(const struct tt_journal *j, struct tt_error *err)
{
	return tt_fail(err, TT_ERR_FORMAT,
		"%s: not the journal of a batch; nothing was changed. Move it away, or name another output",
		j->log.path);
}

/* The rows may all be good, so the message must not make a user delete them. */
static int damaged_head(const struct tt_journal *j, struct tt_error *err)
{
	return tt_fail(err, TT_ERR_FORMAT,
		"%s: its first line is damaged; nothing was changed. The rows of %s may be whole: move both away, and "
		"keep "
		"them",
		j->log.path, j->output.path);
}

static int take_head(struct tt_journal *j, struct tt_journal_found *found, const json_t *head, struct tt_error *err)
{
	char telemetry[65];
	const json_t *created = json_object_get(head, "created");
	const char *named = json_string_value(json_object_get(head, "telemetry"));
	json_t *job = json_object_get(head, "job");
	if (!json_is_integer(created) || !json_is_object(job))
		return damaged_head(j, err);
	TT_TRY(tt_journal_name_telemetry(telemetry, j, err));
	j->created = json_integer_value(created);
	found->job = json_incref(job);
	found->names_telemetry = named && !strcmp(named, telemetry);
	return TT_OK;
}

static int read_head(
	struct tt_journal *j, struct tt_journal_found *found, const struct tt_lines *lines, struct tt_error *err)
{
	json_t *head = NULL;
	const struct tt_buffer *line = &lines->line;
	size_t n = line->len < sizeof beginning - 1 ? line->len : sizeof beginning - 1;
	if (lines->too_long || memcmp(line->data, beginning, n) != 0)
		return no_journal(j, err);
	if (!lines->ended) {
		/* The run died before its job was on disk, and so before it wrote a row. */
		uint64_t size;
		TT_TRY(tt_append_log_open(&j->output, false, err));
		TT_TRY(tt_append_log_size(&j->output, &size, err));
		return size ? damaged_head(j, err) : TT_OK;
	}
	bool sealed = tt_sealed(line->data, line->len, "", j->head);
	int status = tt_json_parse(&head, line->data, line->len, j->log.path, NULL);
	json_int_t format = json_integer_value(json_object_get(head, "trimtab.batch"));
	if (status == TT_OK && format == 1 && !json_object_get(head, "check"))
		status = tt_fail(err, TT_ERR_FORMAT,
			"%s: begun by an older trimtab, whose journals this one does not read; nothing was changed. "
			"Go on with that one, or move it and %s away",
			j->log.path, j->output.path);
	else if (status != TT_OK || !sealed || format != TT_JOURNAL_FORMAT)
		status = damaged_head(j, err);
	else
		status = take_head(j, found, head, err);
	memcpy(j->last, j->head, sizeof j->last);
	json_decref(head);
	return status;
}

/* ---- Rows */

/* Whether the file's bytes from f->end to the end that the record gives are those that were written; *end is set to the
 * record's. False if the file is shorter or the record makes no sense. */
static bool is_whole(const struct tt_append_log *f, const json_t *record, const char *end_key, const char *sha_key,
	uint64_t *end, struct tt_buffer *scratch)
{
	const json_t *at = json_object_get(record, end_key);
	const char *expected = json_string_value(json_object_get(record, sha_key));
	char actual[65];
	if (!f->path)
		return true;
	if (!json_is_integer(at) || !expected)
		return false;
	*end = (uint64_t)json_integer_value(at);
	return *end >= f->end && tt_append_log_peek(f, scratch, *end - f->end) &&
	       tt_sha256(actual, scratch->data, scratch->len, NULL) == TT_OK && !strcmp(actual, expected);
}

/* Takes the next row if it is as its record says. Returns NULL, or the path of the file whose bytes differ. */
static const char *take_row(struct tt_journal *j, const json_t *record, struct tt_buffer *scratch)
{
	uint64_t output_end = 0, telemetry_end = 0;
	if (!is_whole(&j->output, record, "end", "sha256", &output_end, scratch))
		return j->output.path;
	if (!is_whole(&j->telemetry, record, "telemetry_end", "telemetry_sha256", &telemetry_end, scratch))
		return j->telemetry.path;
	j->output.end = output_end;
	j->telemetry.end = telemetry_end;
	j->n_rows++;
	j->n_errors += json_is_true(json_object_get(record, "error"));
	return NULL;
}

/* Reads a line after the first. Rows are taken as long as they and their records are what was written; after the first
 * that is not, only the number of rows that were forced to disk matters. */
static int take_line(struct tt_journal *j, struct tt_journal_found *found, const struct tt_lines *lines,
	struct tt_buffer *scratch, struct tt_error *err)
{
	const struct tt_buffer *line = &lines->line;
	char check[TT_SEAL + 1];
	json_t *record = NULL;
	bool good = !found->damaged && !found->changed;
	if (tt_json_parse(&record, line->data, line->len, j->log.path, err) == TT_ERR_MEMORY)
		return TT_ERR_MEMORY;
	const json_t *synced = json_object_get(record, "synced"), *row = json_object_get(record, "row");
	if (json_is_integer(synced) && tt_sealed(line->data, line->len, j->head, check)) {
		j->n_synced = (uint64_t)json_integer_value(synced);
	} else if (good && json_is_integer(row) && (uint64_t)json_integer_value(row) == j->n_rows &&
		   tt_sealed(line->data, line->len, j->last, check)) {
		found->changed = take_row(j, record, scratch);
		if (!found->changed)
			memcpy(j->last, check, sizeof j->last);
	} else if (good) {
		found->damaged = lines->number;
	}
	if (!found->damaged && !found->changed)
		j->log.end = lines->offset;
	json_decref(record);
	return TT_OK;
}

static int read_lines(
	struct tt_journal *j, struct tt_journal_found *found, struct tt_lines *lines, struct tt_error *err)
{
	struct tt_buffer scratch = {0};
	bool more;
	TT_TRY(tt_lines_next(lines, &more, err));
	if (!more)
		return TT_OK;
	TT_TRY(read_head(j, found, lines, err));
	if (!found->job)
		return TT_OK;
	j->log.end = lines->offset;
	TT_TRY(tt_append_log_open(&j->output, false, err));
	TT_TRY(tt_append_log_open(&j->telemetry, false, err));
	int status = tt_lines_next(lines, &more, err);
	while (status == TT_OK && more && lines->ended) {
		status = take_line(j, found, lines, &scratch, err);
		if (status == TT_OK)
			status = tt_lines_next(lines, &more, err);
	}
	tt_buffer_free(&scratch);
	return status;
}

int tt_journal_read(struct tt_journal *journal, struct tt_journal_found *found, struct tt_error *err)
{
	struct tt_lines lines;
	uint64_t size;
	*found = (struct tt_journal_found){0};
	TT_TRY(tt_append_log_size(&journal->log, &size, err));
	TT_TRY(tt_lines_open(&lines, journal->log.path, size, err));
	int status = read_lines(journal, found, &lines, err);
	tt_lines_close(&lines);
	return status;
}
