/* What the journal of an earlier run says, as far as it is to be believed. */
#ifndef RUNTIME_BATCH_JOURNAL_READ_H
#define RUNTIME_BATCH_JOURNAL_READ_H

#include "runtime/batch/journal.h"

/* What was found beside the journal's own numbers. */
struct tt_journal_found {
	json_t *job;          /* of the first line; NULL: there is none yet, and so no row */
	bool names_telemetry; /* is journal->telemetry the file that the first line names? */
	uint64_t damaged;     /* the first line, from 1, that is not what was written; 0: none */
	const char
		*changed; /* the file whose row n_rows is not what was written, where no line before that is damaged */
};

/* Reads the journal, whose log is open; opens the files that are there, and makes none. Sets created, n_rows,
 * n_errors, n_synced, head, last and the files' ends. TT_ERR_FORMAT for what is no journal, or one whose first line is
 * not what was written. found->job is to be dropped, also after an error. */
int tt_journal_read(struct tt_journal *journal, struct tt_journal_found *found, struct tt_error *err);

/* The digest that a journal names its telemetry by: of the path that tt_file_resolve gives. "" without telemetry. */
int tt_journal_name_telemetry(char out[65], const struct tt_journal *journal, struct tt_error *err);

#endif
