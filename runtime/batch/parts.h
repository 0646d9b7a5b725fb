/* The parts of a batch that several processes answer: OUT.parts/K-R.jsonl, written by shard or rank R in its K-th run,
 * with K-R.telemetry.jsonl beside it and a journal like that of a whole output (runtime/batch/journal.h), but for its
 * rows, which are numbered over the whole job, and ascend. Every run makes parts of its own and changes no other, so
 * the number of processes, their kind and their machines may change from run to run. */
#ifndef RUNTIME_BATCH_PARTS_H
#define RUNTIME_BATCH_PARTS_H

#include "runtime/batch/answer.h"
#include "runtime/batch/journal_read.h"

struct tt_part {
	uint64_t run, rank;
	char *output, *telemetry; /* paths; telemetry is NULL for a job without */
};

struct tt_parts {
	struct tt_part *list; // [n] by run, then rank
	size_t n, capacity;
};

/* Which rows of a job parts hold. */
struct tt_rows_done {
	uint8_t *bits; // [(n_rows + 7) / 8] bit row % 8 of byte row / 8
	uint64_t n_rows, n_done, n_errors;
};

/* OUT.job and OUT.parts; new strings. */
int tt_job_path(char **out, const char *output, struct tt_error *err);
int tt_parts_path(char **out, const char *output, struct tt_error *err);

/* Finds the parts that there are of an output; none where there is no folder. */
int tt_parts_find(struct tt_parts *parts, const char *output, bool telemetry, struct tt_error *err);
void tt_parts_free(struct tt_parts *parts);
/* Removes the files of the parts, and the folder if that leaves it empty. */
int tt_parts_remove(const struct tt_parts *parts, const char *output, struct tt_error *err);
/* TT_ERR_IO where a run is writing a part, of one rank or, for UINT64_MAX, of any. */
int tt_parts_check_idle(const struct tt_parts *parts, uint64_t rank, struct tt_error *err);

/* Makes the next part of a rank; part's strings must outlive the journal. parts: those that there are. */
int tt_part_create(struct tt_part *part, struct tt_journal *journal, const struct tt_parts *parts, const char *output,
	uint64_t rank, const struct tt_job_file *file, struct tt_error *err);
void tt_part_free(struct tt_part *part);

/* Reads a part, row by row. */
struct tt_part_reader {
	struct tt_journal journal;
	struct tt_journal_reader reader;
	bool has_row;
};
/* TT_ERR_MISMATCH where the part is another job's, TT_ERR_IO where it is there no more. unchecked: rows are believed by
 * their records alone. To be closed after an error too. */
int tt_part_open(struct tt_part_reader *out, const struct tt_part *part, const struct tt_job_file *file, bool unchecked,
	struct tt_error *err);
/* Goes to the next row; out->has_row is false where there is none. */
int tt_part_next(struct tt_part_reader *out, struct tt_error *err);
void tt_part_close(struct tt_part_reader *out);

/* Finds out which rows the parts hold; done is filled. */
int tt_parts_read(struct tt_rows_done *done, const struct tt_parts *parts, const struct tt_job_file *file,
	bool unchecked, struct tt_error *err);
void tt_rows_done_free(struct tt_rows_done *done);
bool tt_row_is_done(const struct tt_rows_done *done, uint64_t row);
/* The first rows of [from, limit) that are not done and follow one another, max at most; empty if there are none. */
struct tt_row_range tt_rows_undone(const struct tt_rows_done *done, uint64_t from, uint64_t limit, uint64_t max);

#endif
