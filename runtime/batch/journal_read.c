#include "runtime/batch/journal_read.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"
#include "base/outputs.h"
#include "base/sha256.h"

/* How a journal of any format begins. */
static const char beginning[] = "{\"trimtab.batch\":";

int tt_journal_name_telemetry(char out[65], const struct tt_journal *journal, struct tt_error *err)
{
	char *path = NULL;
	out[0] = 0;
	if (!journal->telemetry.path)
		return TT_OK;
	TT_TRY(tt_file_resolve(&path, journal->telemetry_name, err));
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
 * record's. False if the file is shorter or the record makes no sense. unchecked: the bytes are not looked at. */
static bool is_whole(const struct tt_append_log *f, const json_t *record, const char *end_key, const char *sha_key,
	bool unchecked, uint64_t *end, struct tt_buffer *bytes)
{
	const json_t *at = json_object_get(record, end_key);
	const char *expected = json_string_value(json_object_get(record, sha_key));
	char actual[65];
	if (!f->path)
		return true;
	if (!json_is_integer(at) || !expected)
		return false;
	*end = (uint64_t)json_integer_value(at);
	if (*end < f->end || unchecked)
		return *end >= f->end;
	return tt_append_log_peek(f, bytes, *end - f->end) &&
	       tt_sha256(actual, bytes->data, bytes->len, NULL) == TT_OK && !strcmp(actual, expected);
}

/* Takes the next row if it is as its record says. Returns NULL, or the path of the file whose bytes differ. */
static const char *take_row(struct tt_journal_reader *reader, struct tt_journal *j, const json_t *record)
{
	uint64_t output_end = 0, telemetry_end = 0;
	bool unchecked = reader->is_unchecked;
	if (!is_whole(&j->output, record, "end", "sha256", unchecked, &output_end, &reader->line))
		return j->output.path;
	if (!is_whole(&j->telemetry, record, "telemetry_end", "telemetry_sha256", unchecked, &telemetry_end,
		    &reader->telemetry))
		return j->telemetry.path;
	j->output.end = output_end;
	j->telemetry.end = telemetry_end;
	reader->row = (uint64_t)json_integer_value(json_object_get(record, "row"));
	reader->is_error = json_is_true(json_object_get(record, "error"));
	reader->has_row = true;
	j->n_rows++;
	j->n_errors += reader->is_error;
	return NULL;
}

static bool is_next_row(const struct tt_journal_reader *reader, const struct tt_journal *j, const json_t *row)
{
	if (!json_is_integer(row) || json_integer_value(row) < 0)
		return false;
	uint64_t number = (uint64_t)json_integer_value(row);
	return reader->is_part ? !reader->has_row || number > reader->row : number == j->n_rows;
}

/* Reads a line after the first. Rows are taken as long as they and their records are what was written; after the first
 * that is not, only the number of rows that were forced to disk matters. */
static int take_line(struct tt_journal_reader *reader, struct tt_journal *j, struct tt_error *err)
{
	struct tt_journal_found *found = &reader->found;
	const struct tt_buffer *line = &reader->lines.line;
	char check[TT_SEAL + 1];
	json_t *record = NULL;
	bool good = !found->damaged && !found->changed;
	if (tt_json_parse(&record, line->data, line->len, j->log.path, err) == TT_ERR_MEMORY)
		return TT_ERR_MEMORY;
	const json_t *synced = json_object_get(record, "synced"), *row = json_object_get(record, "row");
	if (json_is_integer(synced) && tt_sealed(line->data, line->len, j->head, check)) {
		j->n_synced = (uint64_t)json_integer_value(synced);
	} else if (good && is_next_row(reader, j, row) && tt_sealed(line->data, line->len, j->last, check)) {
		found->changed = take_row(reader, j, record);
		if (!found->changed)
			memcpy(j->last, check, sizeof j->last);
	} else if (good) {
		found->damaged = reader->lines.number;
	}
	if (!found->damaged && !found->changed)
		j->log.end = reader->lines.offset;
	json_decref(record);
	return TT_OK;
}

int tt_journal_reader_open(struct tt_journal_reader *reader, struct tt_journal *journal, struct tt_error *err)
{
	uint64_t size;
	bool more;
	TT_TRY(tt_append_log_size(&journal->log, &size, err));
	TT_TRY(tt_lines_open(&reader->lines, journal->log.path, size, err));
	TT_TRY(tt_lines_next(&reader->lines, &more, err));
	if (!more)
		return TT_OK;
	TT_TRY(read_head(journal, &reader->found, &reader->lines, err));
	if (!reader->found.job)
		return TT_OK;
	journal->log.end = reader->lines.offset;
	TT_TRY(tt_append_log_open(&journal->output, false, err));
	return tt_append_log_open(&journal->telemetry, false, err);
}

int tt_journal_reader_next(
	struct tt_journal_reader *reader, struct tt_journal *journal, bool *more, struct tt_error *err)
{
	uint64_t before = journal->n_rows;
	*more = false;
	while (reader->found.job && journal->n_rows == before) {
		bool found;
		TT_TRY(tt_lines_next(&reader->lines, &found, err));
		if (!found || !reader->lines.ended)
			return TT_OK;
		TT_TRY(take_line(reader, journal, err));
	}
	*more = journal->n_rows > before;
	return TT_OK;
}

void tt_journal_reader_close(struct tt_journal_reader *reader)
{
	json_decref(reader->found.job);
	tt_lines_close(&reader->lines);
	tt_buffer_free(&reader->line);
	tt_buffer_free(&reader->telemetry);
	*reader = (struct tt_journal_reader){0};
}

int tt_journal_read(struct tt_journal *journal, struct tt_journal_found *found, struct tt_error *err)
{
	struct tt_journal_reader reader = {0};
	bool more = true;
	int status = tt_journal_reader_open(&reader, journal, err);
	while (status == TT_OK && more)
		status = tt_journal_reader_next(&reader, journal, &more, err);
	*found = reader.found;
	reader.found.job = NULL; /* is the caller's now */
	tt_journal_reader_close(&reader);
	return status;
}
