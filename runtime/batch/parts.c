#include "runtime/batch/parts.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/file.h"
#include "runtime/batch/describe.h"

/* Rows reach the disk so often; every process chooses a time of its own between half of it and all, so that a file
 * server does not get the calls of thousands at once. */
static const double SYNC_SECONDS = 10;

int tt_job_path(char **out, const char *output, struct tt_error *err)
{
	struct tt_buffer path = {0};
	TT_TRY(tt_buffer_print(&path, err, "%s.job", output));
	*out = path.data;
	return TT_OK;
}

int tt_parts_path(char **out, const char *output, struct tt_error *err)
{
	struct tt_buffer path = {0};
	TT_TRY(tt_buffer_print(&path, err, "%s.parts", output));
	*out = path.data;
	return TT_OK;
}

/* ---- Which there are */

static int name_part(
	struct tt_part *part, const char *output, uint64_t run, uint64_t rank, bool telemetry, struct tt_error *err)
{
	struct tt_buffer answers = {0}, tokens = {0};
	*part = (struct tt_part){.run = run, .rank = rank};
	TT_TRY(tt_buffer_print(
		&answers, err, "%s.parts/%llu-%llu.jsonl", output, (unsigned long long)run, (unsigned long long)rank));
	part->output = answers.data;
	if (!telemetry)
		return TT_OK;
	TT_TRY(tt_buffer_print(&tokens, err, "%s.parts/%llu-%llu.telemetry.jsonl", output, (unsigned long long)run,
		(unsigned long long)rank));
	part->telemetry = tokens.data;
	return TT_OK;
}

void tt_part_free(struct tt_part *part)
{
	free(part->output);
	free(part->telemetry);
	*part = (struct tt_part){0};
}

/* Whether the name is that of a part's journal, as name_part would write it. */
static bool is_journal(const char *name, uint64_t *run, uint64_t *rank)
{
	unsigned long long numbers[2];
	char expected[80];
	if (sscanf(name, "%llu-%llu.", &numbers[0], &numbers[1]) != 2)
		return false;
	snprintf(expected, sizeof expected, "%llu-%llu.jsonl.journal", numbers[0], numbers[1]);
	*run = numbers[0];
	*rank = numbers[1];
	return !strcmp(name, expected);
}

static int by_run(const void *a, const void *b)
{
	const struct tt_part *x = a, *y = b;
	if (x->run != y->run)
		return x->run < y->run ? -1 : 1;
	return x->rank < y->rank ? -1 : x->rank > y->rank;
}

static int list_folder(struct tt_parts *parts, const char *output, DIR *folder, bool telemetry, struct tt_error *err)
{
	for (struct dirent *entry; (entry = readdir(folder));) {
		uint64_t run, rank;
		if (!is_journal(entry->d_name, &run, &rank))
			continue;
		TT_TRY(tt_grow(&parts->list, &parts->capacity, parts->n + 1, sizeof *parts->list, err));
		int status = name_part(&parts->list[parts->n++], output, run, rank, telemetry, err);
		TT_TRY(status);
	}
	return TT_OK;
}

int tt_parts_find(struct tt_parts *parts, const char *output, bool telemetry, struct tt_error *err)
{
	char *path = NULL;
	*parts = (struct tt_parts){0};
	TT_TRY(tt_parts_path(&path, output, err));
	DIR *folder = opendir(path);
	int status = !folder && errno != ENOENT ? tt_fail_io(err, path, "open") : TT_OK;
	free(path);
	if (!folder)
		return status;
	status = list_folder(parts, output, folder, telemetry, err);
	closedir(folder);
	if (status != TT_OK)
		tt_parts_free(parts);
	else if (parts->n)
		qsort(parts->list, parts->n, sizeof *parts->list, by_run);
	return status;
}

void tt_parts_free(struct tt_parts *parts)
{
	for (size_t i = 0; i < parts->n; i++)
		tt_part_free(&parts->list[i]);
	free(parts->list);
	*parts = (struct tt_parts){0};
}

/* ---- Making and removing one */

static int try_to_create(struct tt_part *part, struct tt_journal *journal, const struct tt_job_file *file, bool *taken,
	struct tt_error *err)
{
	double share = (double)((uint64_t)getpid() * 2654435761u % 1024) / 1024;
	const struct tt_journal_job job = {
		.job = file->job, .created = file->created, .sync_seconds = SYNC_SECONDS * (1 + share) / 2};
	return tt_journal_create(journal, part->output, part->telemetry, &job, taken, err);
}

int tt_part_create(struct tt_part *part, struct tt_journal *journal, const struct tt_parts *parts, const char *output,
	uint64_t rank, const struct tt_job_file *file, struct tt_error *err)
{
	bool telemetry = json_is_true(json_object_get(json_object_get(file->job, "options"), "telemetry"));
	bool taken = true;
	uint64_t run = 0;
	char *folder = NULL;
	for (size_t i = 0; i < parts->n; i++)
		if (parts->list[i].rank == rank)
			run = parts->list[i].run + 1;
	TT_TRY(tt_parts_path(&folder, output, err));
	int status = mkdir(folder, 0777) < 0 && errno != EEXIST ? tt_fail_io(err, folder, "make") : TT_OK;
	free(folder);
	for (; status == TT_OK && taken; run++) {
		status = name_part(part, output, run, rank, telemetry, err);
		if (status == TT_OK)
			status = try_to_create(part, journal, file, &taken, err);
		if (status != TT_OK || taken)
			tt_part_free(part);
	}
	return status;
}

/* A file that is not there is no error: an earlier call may have been stopped. */
static int remove_file(const char *path, struct tt_error *err)
{
	return path && unlink(path) < 0 && errno != ENOENT ? tt_fail_io(err, path, "remove") : TT_OK;
}

int tt_parts_remove(const struct tt_parts *parts, const char *output, struct tt_error *err)
{
	char *folder = NULL;
	for (size_t i = 0; i < parts->n; i++) {
		struct tt_buffer journal = {0};
		TT_TRY(tt_buffer_print(&journal, err, "%s.journal", parts->list[i].output));
		int status = remove_file(parts->list[i].output, err);
		if (status == TT_OK)
			status = remove_file(parts->list[i].telemetry, err);
		if (status == TT_OK)
			status = remove_file(journal.data, err); /* last: by it the others are found */
		tt_buffer_free(&journal);
		TT_TRY(status);
	}
	TT_TRY(tt_parts_path(&folder, output, err));
	rmdir(folder); /* stays, if somebody has put something else there */
	free(folder);
	return TT_OK;
}

int tt_parts_check_idle(const struct tt_parts *parts, uint64_t rank, struct tt_error *err)
{
	for (size_t i = 0; i < parts->n; i++) {
		struct tt_buffer path = {0};
		uint64_t size;
		if (rank != UINT64_MAX && parts->list[i].rank != rank)
			continue;
		TT_TRY(tt_buffer_print(&path, err, "%s.journal", parts->list[i].output));
		struct tt_append_log log = {.path = path.data, .file = -1};
		int status = tt_append_log_open(&log, false, err);
		/* Shared, so that those who look do not get in each other's way; an empty one may be about to be
		 * locked by who has just made it. */
		if (status == TT_OK && log.file >= 0 && tt_append_log_size(&log, &size, NULL) == TT_OK && size)
			status = tt_append_log_lock_shared(&log, err);
		tt_append_log_close(&log);
		tt_buffer_free(&path);
		TT_TRY(status);
	}
	return TT_OK;
}

/* ---- Reading one */

static int check_job(const struct tt_part_reader *part, const struct tt_job_file *file, struct tt_error *err)
{
	TT_TRY(tt_batch_compare(part->reader.found.job, file->job, part->journal.output.path, err));
	if (part->journal.created != file->created)
		return tt_fail(err, TT_ERR_MISMATCH,
			"%s is of a job that was begun at another time; nothing was changed. Move it and its journal "
			"away",
			part->journal.output.path);
	return TT_OK;
}

int tt_part_open(struct tt_part_reader *out, const struct tt_part *part, const struct tt_job_file *file, bool unchecked,
	struct tt_error *err)
{
	struct tt_journal *j = &out->journal;
	*out = (struct tt_part_reader){.reader = {.is_part = true, .is_unchecked = unchecked}};
	j->output = (struct tt_append_log){.path = part->output, .file = -1};
	j->telemetry = (struct tt_append_log){.path = part->telemetry, .file = -1};
	j->telemetry_name = part->telemetry;
	j->log.file = -1;
	TT_TRY(tt_buffer_print(&j->log_path, err, "%s.journal", part->output));
	j->log.path = j->log_path.data;
	TT_TRY(tt_append_log_open(&j->log, false, err));
	if (j->log.file < 0)
		return tt_fail(err, TT_ERR_IO, "%s is gone: it was merged meanwhile, unless somebody has removed it",
			j->log.path);
	TT_TRY(tt_journal_reader_open(&out->reader, j, err));
	return out->reader.found.job ? check_job(out, file, err) : TT_OK;
}

int tt_part_next(struct tt_part_reader *out, struct tt_error *err)
{
	TT_TRY(tt_journal_reader_next(&out->reader, &out->journal, &out->has_row, err));
	return out->has_row ? TT_OK : tt_journal_check_rows(&out->journal, &out->reader.found, err);
}

void tt_part_close(struct tt_part_reader *out)
{
	tt_journal_reader_close(&out->reader);
	tt_journal_close(&out->journal);
}

/* ---- All of them */

bool tt_row_is_done(const struct tt_rows_done *done, uint64_t row)
{
	return done->bits[row / 8] >> row % 8 & 1;
}

struct tt_row_range tt_rows_undone(const struct tt_rows_done *done, uint64_t from, uint64_t limit, uint64_t max)
{
	while (from < limit && tt_row_is_done(done, from))
		from += from % 8 == 0 && done->bits[from / 8] == 0xFF ? 8 : 1;
	struct tt_row_range range = {from < limit ? from : limit, from < limit ? from : limit};
	while (range.to < limit && range.to - range.from < max && !tt_row_is_done(done, range.to))
		range.to++;
	return range;
}

static int read_part(struct tt_rows_done *done, const struct tt_part *part, const struct tt_job_file *file,
	bool unchecked, struct tt_error *err)
{
	struct tt_part_reader reader;
	int status = tt_part_open(&reader, part, file, unchecked, err);
	for (bool more = true; status == TT_OK && more;) {
		status = tt_part_next(&reader, err);
		more = status == TT_OK && reader.has_row;
		uint64_t row = reader.reader.row;
		if (more && row >= done->n_rows)
			status = tt_fail(err, TT_ERR_FORMAT, "%s: row %llu is not of the job", reader.journal.log.path,
				(unsigned long long)row);
		else if (more && !tt_row_is_done(done, row)) {
			done->bits[row / 8] |= (uint8_t)(1u << row % 8);
			done->n_done++;
			done->n_errors += reader.reader.is_error;
		}
	}
	tt_part_close(&reader);
	return status;
}

int tt_parts_read(struct tt_rows_done *done, const struct tt_parts *parts, const struct tt_job_file *file,
	bool unchecked, struct tt_error *err)
{
	*done = (struct tt_rows_done){.n_rows = tt_job_file_rows(file)};
	TT_TRY(tt_alloc(&done->bits, (size_t)(done->n_rows / 8 + 1), 1, err));
	int status = TT_OK;
	for (size_t i = 0; status == TT_OK && i < parts->n; i++)
		status = read_part(done, &parts->list[i], file, unchecked, err);
	if (status != TT_OK)
		tt_rows_done_free(done);
	return status;
}

void tt_rows_done_free(struct tt_rows_done *done)
{
	free(done->bits);
	*done = (struct tt_rows_done){0};
}
