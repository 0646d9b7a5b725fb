#include "runtime/batch/job_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/append_log.h"
#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"
#include "runtime/batch/answer.h"
#include "runtime/batch/seal.h"

uint64_t tt_job_file_rows(const struct tt_job_file *file)
{
	return file->n_lines * file->n_cases;
}

uint64_t tt_job_file_unit_rows(const struct tt_job_file *file)
{
	return TT_UNIT_LINES * file->n_cases;
}

void tt_job_file_free(struct tt_job_file *file)
{
	json_decref(file->job);
	free(file->units);
	free(file->repeated);
	*file = (struct tt_job_file){0};
}

static int add_unit(struct tt_job_file *file, const struct tt_unit *unit, struct tt_error *err)
{
	TT_TRY(tt_grow(&file->units, &file->units_capacity, file->n_units + 1, sizeof *file->units, err));
	file->units[file->n_units++] = *unit;
	return TT_OK;
}

static int add_repeated(struct tt_job_file *file, uint64_t number, struct tt_error *err)
{
	size_t n = file->n_repeated + 1;
	TT_TRY(tt_grow(&file->repeated, &file->repeated_capacity, n, sizeof *file->repeated, err));
	file->repeated[file->n_repeated++] = number;
	return TT_OK;
}

/* ---- Making one */

/* Lines are read as a run of one process reads them, so that the same ones are refused. */
static int scan(struct tt_job_file *file, const struct tt_batch_job *job, struct tt_lines *lines,
	struct tt_ids_seen *ids, struct tt_error *err)
{
	for (;;) {
		struct tt_unit unit = {lines->offset, lines->number};
		struct tt_input input;
		bool found;
		TT_TRY(tt_lines_next(lines, &found, err));
		if (!found)
			return TT_OK;
		if (file->n_lines++ % TT_UNIT_LINES == 0)
			TT_TRY(add_unit(file, &unit, err));
		TT_TRY(tt_input_read(&input, job, lines, ids, err));
		int status = input.repeats ? add_repeated(file, input.number, err) : TT_OK;
		tt_input_free(&input);
		TT_TRY(status);
	}
}

int tt_job_file_scan(
	struct tt_job_file *file, const struct tt_batch_job *job, uint64_t input_bytes, struct tt_error *err)
{
	const char *path = job->options->input;
	struct tt_lines lines;
	struct tt_ids_seen ids = {0};
	*file = (struct tt_job_file){.created = (int64_t)time(NULL), .n_cases = tt_cases(job)};
	TT_TRY(tt_lines_open(&lines, path, input_bytes, err));
	int status = scan(file, job, &lines, &ids, err);
	tt_ids_seen_free(&ids);
	tt_lines_close(&lines);
	if (status == TT_OK && file->n_lines == 0)
		status = tt_fail(err, TT_ERR_FORMAT, "%s: no rows", path);
	if (status != TT_OK)
		tt_job_file_free(file);
	return status;
}

/* ---- Writing */

static int print_head(struct tt_buffer *line, const struct tt_job_file *file, struct tt_error *err)
{
	char *text = NULL;
	TT_TRY(tt_json_dump(&text, json_incref(file->job), JSON_COMPACT, err));
	int status = tt_buffer_print(line, err,
		"{\"trimtab.job\":%d,\"created\":%lld,\"lines\":%llu,\"cases\":%llu,\"job\":%s", TT_JOB_FORMAT,
		(long long)file->created, (unsigned long long)file->n_lines, (unsigned long long)file->n_cases, text);
	free(text);
	return status;
}

/* Prints unit i, whose repeated lines begin at *at of all. */
static int print_unit(
	struct tt_buffer *line, const struct tt_job_file *file, size_t i, size_t *at, struct tt_error *err)
{
	const struct tt_unit *unit = &file->units[i];
	uint64_t end = i + 1 < file->n_units ? file->units[i + 1].number : UINT64_MAX;
	TT_TRY(tt_buffer_print(line, err, "{\"unit\":%zu,\"offset\":%llu,\"number\":%llu,\"repeated\":[", i,
		(unsigned long long)unit->offset, (unsigned long long)unit->number));
	for (bool first = true; *at < file->n_repeated && file->repeated[*at] <= end; first = false)
		TT_TRY(tt_buffer_print(
			line, err, "%s%llu", first ? "" : ",", (unsigned long long)file->repeated[(*at)++]));
	return tt_buffer_print(line, err, "]");
}

static int print_lines(struct tt_buffer *out, const struct tt_job_file *file, struct tt_error *err)
{
	char check[TT_SEAL + 1] = "";
	size_t at = 0;
	for (size_t i = 0; i <= file->n_units; i++) {
		struct tt_buffer line = {0};
		int status = i ? print_unit(&line, file, i - 1, &at, err) : print_head(&line, file, err);
		if (status == TT_OK)
			status = tt_seal(&line, check, check, err);
		if (status == TT_OK)
			status = tt_buffer_add(out, line.data, line.len, err);
		tt_buffer_free(&line);
		TT_TRY(status);
	}
	return TT_OK;
}

/* A hard link, unlike a rename, never takes the place of a file that is there. */
static int give_name(const char *from, const char *path, struct tt_error *err)
{
	const struct tt_append_log log = {.path = path, .file = -1};
	int status = link(from, path) < 0 && errno != EEXIST ? tt_fail_io(err, path, "make") : TT_OK;
	unlink(from);
	return status == TT_OK ? tt_append_log_sync_name(&log, err) : status;
}

int tt_job_file_write(const struct tt_job_file *file, const char *path, struct tt_error *err)
{
	struct tt_buffer text = {0}, name = {0};
	char host[256] = "";
	gethostname(host, sizeof host - 1);
	int status = tt_buffer_print(&name, err, "%s.%s-%ld", path, host, (long)getpid());
	if (status == TT_OK)
		status = print_lines(&text, file, err);
	if (status == TT_OK)
		status = tt_file_write(name.data, text.data, text.len, err);
	if (status == TT_OK)
		status = give_name(name.data, path, err);
	tt_buffer_free(&text);
	tt_buffer_free(&name);
	return status;
}

/* ---- Reading */

/* A number of the line, not negative; false if it has none. */
static bool take_number(const json_t *line, const char *key, uint64_t *out)
{
	const json_t *value = json_object_get(line, key);
	if (!json_is_integer(value) || json_integer_value(value) < 0)
		return false;
	*out = (uint64_t)json_integer_value(value);
	return true;
}

static bool take_head(struct tt_job_file *file, const json_t *line)
{
	uint64_t format, created, rows;
	json_t *job = json_object_get(line, "job");
	if (!take_number(line, "trimtab.job", &format) || !take_number(line, "created", &created) ||
		!take_number(line, "lines", &file->n_lines) || !take_number(line, "cases", &file->n_cases))
		return false;
	file->created = (int64_t)created;
	file->job = json_incref(job);
	bool good = format == TT_JOB_FORMAT && json_is_object(job) && file->n_lines && file->n_cases;
	return good && !__builtin_mul_overflow(file->n_lines, file->n_cases, &rows) &&
	       rows < UINT64_MAX / TT_UNIT_LINES;
}

/* Adds the next unit; *good is false where the line is none. */
static int take_unit(struct tt_job_file *file, const json_t *line, bool *good, struct tt_error *err)
{
	struct tt_unit unit;
	uint64_t i;
	const json_t *repeated = json_object_get(line, "repeated");
	*good = take_number(line, "unit", &i) && i == file->n_units && take_number(line, "offset", &unit.offset) &&
		take_number(line, "number", &unit.number) && json_is_array(repeated);
	if (!*good)
		return TT_OK;
	for (size_t k = 0; k < json_array_size(repeated); k++) {
		const json_t *number = json_array_get(repeated, k);
		uint64_t value = (uint64_t)json_integer_value(number);
		*good = json_is_integer(number) && value > 0 &&
			(!file->n_repeated || value > file->repeated[file->n_repeated - 1]);
		if (!*good)
			return TT_OK;
		TT_TRY(add_repeated(file, value, err));
	}
	return add_unit(file, &unit, err);
}

static int take_line(
	struct tt_job_file *file, const struct tt_lines *lines, char check[TT_SEAL + 1], struct tt_error *err)
{
	json_t *json = NULL;
	bool good = !lines->too_long && lines->ended && tt_sealed(lines->line.data, lines->line.len, check, check);
	int status = tt_json_parse(&json, lines->line.data, lines->line.len, lines->path, err);
	if (status == TT_ERR_MEMORY)
		return status;
	good &= status == TT_OK;
	status = TT_OK;
	if (good && !file->job)
		good = take_head(file, json);
	else if (good)
		status = take_unit(file, json, &good, err);
	json_decref(json);
	TT_TRY(status);
	return good ? TT_OK
		    : tt_fail(err, TT_ERR_FORMAT, "%s: line %llu is not what was written; nothing was changed",
			      lines->path, (unsigned long long)lines->number);
}

int tt_job_peek(json_t **out, const char *path, struct tt_error *err)
{
	struct tt_lines lines;
	struct stat file;
	json_t *head = NULL;
	bool found;
	*out = NULL;
	if (stat(path, &file) < 0 || !S_ISREG(file.st_mode))
		return TT_OK;
	TT_TRY(tt_lines_open(&lines, path, (uint64_t)file.st_size, err));
	int status = tt_lines_next(&lines, &found, err);
	if (status == TT_OK && found)
		status = tt_json_parse(&head, lines.line.data, lines.line.len, path, err);
	tt_lines_close(&lines);
	*out = json_incref(json_object_get(head, "job"));
	json_decref(head);
	return status == TT_ERR_FORMAT ? TT_OK : status; /* who reads the file says what is wrong with it */
}

int tt_job_cases(uint64_t *n, const json_t *job, const char *path, struct tt_error *err)
{
	json_t *policies = json_object_get(job, "policies");
	const char *text = json_string_value(json_object_get(job, "sweep"));
	const char **names = NULL; // [n_names]
	size_t n_names = 0;
	const char *name;
	json_t *digest;
	struct tt_sweep sweep;
	TT_TRY(tt_alloc(&names, json_object_size(policies), sizeof *names, err));
	json_object_foreach(policies, name, digest) names[n_names++] = name;
	int status = tt_sweep_parse(&sweep, names, n_names, text, err);
	if (status == TT_OK && json_object_get(job, "baselines"))
		tt_sweep_keep_one_baseline(&sweep);
	*n = sweep.n ? sweep.n : 1;
	tt_sweep_free(&sweep);
	free(names);
	return status == TT_OK || status == TT_ERR_MEMORY
		       ? status
		       : tt_fail(err, TT_ERR_FORMAT, "%s: it describes no sweep; nothing was changed", path);
}

static int read_lines(struct tt_job_file *file, struct tt_lines *lines, struct tt_error *err)
{
	uint64_t n_cases;
	char check[TT_SEAL + 1] = "";
	bool found;
	for (;;) {
		TT_TRY(tt_lines_next(lines, &found, err));
		if (!found)
			break;
		TT_TRY(take_line(file, lines, check, err));
	}
	if (!file->job || file->n_units != (file->n_lines + TT_UNIT_LINES - 1) / TT_UNIT_LINES)
		return tt_fail(err, TT_ERR_FORMAT, "%s: not a whole job file; nothing was changed", lines->path);
	/* With as many lines as units hold, this bounds the rows, and so what is allocated and looked through. */
	TT_TRY(tt_job_cases(&n_cases, file->job, lines->path, err));
	return file->n_cases == n_cases
		       ? TT_OK
		       : tt_fail(err, TT_ERR_FORMAT, "%s: its sweep has %llu cases, not %llu; nothing was changed",
				 lines->path, (unsigned long long)n_cases, (unsigned long long)file->n_cases);
}

int tt_job_file_read(struct tt_job_file *file, const char *path, struct tt_error *err)
{
	struct tt_append_log log = {.path = path, .file = -1};
	struct tt_lines lines;
	uint64_t size;
	*file = (struct tt_job_file){0};
	TT_TRY(tt_append_log_open(&log, false, err));
	int status = tt_append_log_size(&log, &size, err);
	tt_append_log_close(&log);
	TT_TRY(status);
	TT_TRY(tt_lines_open(&lines, path, size, err));
	status = read_lines(file, &lines, err);
	tt_lines_close(&lines);
	if (status != TT_OK)
		tt_job_file_free(file);
	return status;
}
