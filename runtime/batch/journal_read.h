/* Reads the journal of an earlier run, as far as it can be trusted. */
#ifndef RUNTIME_BATCH_JOURNAL_READ_H
#define RUNTIME_BATCH_JOURNAL_READ_H

#include "base/lines.h"
#include "runtime/batch/journal.h"

/* What was found, besides what goes into struct tt_journal. */
struct tt_journal_found {
	json_t *job;          /* of the first line; NULL: there is none yet, and so no row */
	bool names_telemetry; /* journal->telemetry is the file that the first line names */
	uint64_t damaged;     /* number, from 1, of the first line that is not what was written; 0: none */
	const char *changed;  /* the file whose row n_rows is not what its (undamaged) record says; NULL: none */
};

/* Reads the journal, whose log is open. Opens the other files if they exist, and makes none. Sets created, n_rows,
 * n_errors, n_synced, head, last and the files' ends. Returns TT_ERR_FORMAT for a file that is no journal, or whose
 * first line is not what was written. The caller drops found->job, even after an error. */
int tt_journal_read(struct tt_journal *journal, struct tt_journal_found *found, struct tt_error *err);

/* Whether a job may go on after the rows that were found: TT_ERR_FORMAT or TT_ERR_MISMATCH where one that had been
 * forced to disk is no longer what was written. */
int tt_journal_check_rows(const struct tt_journal *journal, const struct tt_journal_found *found, struct tt_error *err);

/* The digest by which a journal names its telemetry: of the path that tt_file_resolve gives; "" without telemetry. */
int tt_journal_name_telemetry(char out[65], const struct tt_journal *journal, struct tt_error *err);

/* ---- The same row by row, for the journal of a part, whose rows' numbers only ascend */

struct tt_journal_reader {
	struct tt_journal_found found;
	struct tt_lines lines;
	bool is_part, is_unchecked; /* unchecked: rows are taken by their records alone, and line and telemetry stay
				       empty */
	uint64_t row;               /* the row that was taken last, if there is one */
	bool is_error, has_row;
	struct tt_buffer line, telemetry; /* its bytes */
};

/* Reads the first line, as tt_journal_read does; the reader is zeros but for is_part and is_unchecked. To be closed
 * after an error too. */
int tt_journal_reader_open(struct tt_journal_reader *reader, struct tt_journal *journal, struct tt_error *err);
/* Takes the next row that is what was written; *more is false where there is none. tt_journal_check_rows then says
 * whether that is as it should be. */
int tt_journal_reader_next(
	struct tt_journal_reader *reader, struct tt_journal *journal, bool *more, struct tt_error *err);
/* Releases all, found.job too. */
void tt_journal_reader_close(struct tt_journal_reader *reader);

#endif
