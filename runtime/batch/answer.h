/* Answers rows of a batch and writes them to its journal, in the order in which their source gives them, with as many
 * in flight as keep the engine full. */
#ifndef RUNTIME_BATCH_ANSWER_H
#define RUNTIME_BATCH_ANSWER_H

#include "runtime/batch/job_file.h"
#include "runtime/batch/journal.h"
#include "runtime/batch/row.h"

/* Rows [from, to), counted over the whole job: a row is a line of the input that is not blank under a case of the
 * sweep, and its number is that of the line, from 0, times the number of cases, plus that of the case. */
struct tt_row_range {
	uint64_t from, to;
};

/* Which rows a run answers. */
struct tt_row_source {
	/* Gives the next rows, which come after those that it gave before. *out is empty before the call, and stays so
	 * where there are none now; *ended says that there will be none. idle: nothing is in flight, so the call may
	 * wait for rows. */
	int (*next)(void *user, bool idle, struct tt_row_range *out, bool *ended, struct tt_error *err);
	/* Called before every step, also to report progress and to end the run with an error. */
	int (*tick)(void *user, struct tt_error *err);
	void *user;
};

/* A run. The caller sets the first group; the rest begins as zeros. */
struct tt_answering {
	struct tt_batch_job job;
	struct tt_journal journal;
	struct tt_row_source source;
	const struct tt_job_file *file; /* where lines begin; NULL: they are read from the first on */
	uint64_t input_bytes;
	struct tt_batch_report *report; /* gets the tokens */

	struct tt_lines lines;
	struct tt_ids_seen ids;
	uint64_t next_line;    /* the line, from 0, that tt_lines_next would give */
	struct tt_input input; /* line next_line - 1, if has_input */
	bool has_input, ended;
	struct tt_row_range range; /* rows that the source gave and that have not begun */
	struct tt_row *rows;       // [window] a ring: the i-th row that began is in rows[i % window]
	uint64_t window, n_begun, n_written;
};

/* Cases of the sweep; 1 without one. */
uint64_t tt_cases(const struct tt_batch_job *job);

/* Answers rows until the source has no more. Rows that are written are kept, and forced to disk, whatever happens. */
int tt_answer(struct tt_answering *run, struct tt_error *err);
/* Releases all but the journal and the job. */
void tt_answer_free(struct tt_answering *run);

#endif
