/* The job file of a batch that several processes answer, OUT.job: what is asked, when it began, and what no process can
 * know of the input from its own lines alone, namely where lines begin and which of them repeat an earlier one's id.
 *
 * It is JSON lines, each with a checksum that is chained to the line before. The first describes the job as the first
 * line of a journal does; then comes a line for every unit of the input. It is written once: whoever is first gives it
 * its name, and all others go by what it says. */
#ifndef RUNTIME_BATCH_JOB_FILE_H
#define RUNTIME_BATCH_JOB_FILE_H

#include "runtime/batch/row.h"

/* Lines of a unit, blank ones not counted: what is handed out at once at most. A part of the format. */
enum { TT_UNIT_LINES = 256, TT_JOB_FORMAT = 1 };

struct tt_unit {
	uint64_t offset; /* in the input, of a byte from which the unit's first line is the next that is not blank */
	uint64_t number; /* of the lines before that byte, blank ones too */
};

struct tt_job_file {
	int64_t created;
	uint64_t n_lines, n_cases; /* n_lines * n_cases rows */
	json_t *job;               /* tt_batch_describe's */
	struct tt_unit *units;     // [n_units]
	size_t n_units, units_capacity;
	uint64_t *repeated; // [n_repeated] numbers of lines whose id an earlier line has, ascending
	size_t n_repeated, repeated_capacity;
};

/* Reads the input to its end. created is now; file->job is the caller's to set. */
int tt_job_file_scan(
	struct tt_job_file *file, const struct tt_batch_job *job, uint64_t input_bytes, struct tt_error *err);

/* Writes the file under a name of its own, then gives it the name path, unless another process has done that before:
 * then nothing is changed, and TT_OK returned too. */
int tt_job_file_write(const struct tt_job_file *file, const char *path, struct tt_error *err);

/* TT_ERR_FORMAT for a file that is none, or not what was written. */
int tt_job_file_read(struct tt_job_file *file, const char *path, struct tt_error *err);

/* The description in the first line of a job file or journal, unchecked, as a new reference; NULL where there is none.
 */
int tt_job_peek(json_t **out, const char *path, struct tt_error *err);

/* Cases of the sweep of a description of tt_batch_describe's; 1 without one. TT_ERR_FORMAT for a sweep that is none. */
int tt_job_cases(uint64_t *n, const json_t *job, const char *path, struct tt_error *err);

/* Rows of the job, and the rows of a unit: units * rows a unit, the last one perhaps with fewer. */
uint64_t tt_job_file_rows(const struct tt_job_file *file);
uint64_t tt_job_file_unit_rows(const struct tt_job_file *file);

void tt_job_file_free(struct tt_job_file *file);

#endif
