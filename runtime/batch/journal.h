/* The output files of a batch and the journal beside them, which says how much of them is complete.
 *
 * The journal is JSON lines. The first describes the job: what was asked, so that no different job continues it, and
 * when it began. Then there is a record for every row, with the positions where it ends in the output and in the
 * telemetry, and the SHA-256 of its bytes there; and each time that rows are forced to disk, a line that says how many
 * are. Every line ends in a checksum; those of rows are chained. A run that continues trusts rows only in order and as
 * long as their bytes have the digest of their record, and cuts the files after the last such row; so nothing depends
 * on the order in which a file system writes blocks of different files. If a row that had been forced to disk, or its
 * record, is no longer what was written, then somebody has changed it: that is refused, not repaired. */
#ifndef RUNTIME_BATCH_JOURNAL_H
#define RUNTIME_BATCH_JOURNAL_H

#include <jansson.h>

#include "base/append_log.h"
#include "runtime/batch/seal.h"

enum { TT_JOURNAL_FORMAT = 2 };

struct tt_journal {
	struct tt_append_log output, telemetry, log;
	struct tt_buffer log_path;
	uint64_t n_rows, n_errors; /* complete rows, and how many of these are errors */
	uint64_t n_synced;         /* rows that were forced to disk */
	int64_t created;           /* when the job was begun */
	char head[TT_SEAL + 1];    /* checksum of the first line, to which those of the synced lines are chained */
	char last[TT_SEAL + 1]; /* checksum of the last row's record, or of the first line: the next row chains to it */
	double synced;          /* when the files were last forced to disk */
};

/* Opens the files and finds the complete rows. job is compared with the earlier run's, if there is one. restart throws
 * away what an earlier run wrote there, whatever its job, and nothing else. Returns TT_ERR_MISMATCH for another job,
 * for rows that were changed and for a file that no journal names; TT_ERR_FORMAT for a journal that was changed. With
 * these errors no file was made, and no byte was changed. */
int tt_journal_open(struct tt_journal *journal, const char *output, const char *telemetry, const json_t *job,
	bool restart, struct tt_error *err);

/* Appends a row (its line with the newline, and its telemetry) and its record. From then on the row survives the death
 * of the process; it survives a crash of the machine once it is synced, at most a second later if rows keep coming. If
 * a write fails, the files are cut back to the last complete row. */
int tt_journal_add(struct tt_journal *journal, const struct tt_buffer *line, const struct tt_buffer *telemetry,
	bool is_error, struct tt_error *err);
/* Forces all rows to disk, and records that. */
int tt_journal_sync(struct tt_journal *journal, struct tt_error *err);
void tt_journal_close(struct tt_journal *journal);

#endif
