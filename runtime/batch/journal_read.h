/* Reads the journal of an earlier run, as far as it can be trusted. */
#ifndef RUNTIME_BATCH_JOURNAL_READ_H
#define RUNTIME_BATCH_JOURNAL_READ_H

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

/* The digest by which a journal names its telemetry: of the path that tt_file_resolve gives; "" without telemetry. */
int tt_journal_name_telemetry(char out[65], const struct tt_journal *journal, struct tt_error *err);

#endif
