/* The output files of a batch and the journal beside them, which says what of them is whole.
 *
 * The journal is JSON lines: first the job (what was asked, so that nothing else goes on with it, and when it began),
 * then a record for every row: where it ends in the output and the telemetry, and the SHA-256 of its bytes there; and
 * how many rows were forced to disk, each time they were. Every line ends in a checksum, those of rows chained. A run
 * that goes on believes only rows whose bytes have the digest of their record, in order, and cuts the files behind the
 * last one; so nothing depends on the order in which a file system writes blocks of different files. A row that had
 * been forced to disk and is no longer what it was, or a record of one, somebody has changed: that is refused, not
 * repaired. */
#ifndef RUNTIME_BATCH_JOURNAL_H
#define RUNTIME_BATCH_JOURNAL_H

#include <jansson.h>

#include "base/append_log.h"
#include "runtime/batch/seal.h"

enum { TT_JOURNAL_FORMAT = 2 };

struct tt_journal {
	struct tt_append_log output, telemetry, log;
	struct tt_buffer log_path;
	uint64_t n_rows, n_errors; /* whole rows, and those of them that are errors */
	uint64_t n_synced;         /* rows that were forced to disk */
	int64_t created;           /* when the job was begun */
	char head[TT_SEAL + 1];    /* the first line's checksum, which those of how far the disk had got come after */
	char last[TT_SEAL + 1];    /* the last row's, or the first line's: the next row's comes after it */
	double synced;             /* when the files were last forced to disk */
};

/* Opens the files and finds what is whole. job is compared with that of the run to go on with, if there is one;
 * restart throws away what an earlier run wrote there, of whatever job, and nothing else. TT_ERR_MISMATCH for another
 * job, rows that were changed, or a file that no journal speaks of; TT_ERR_FORMAT for a journal that was changed. Then
 * nothing was made, and no byte changed. */
int tt_journal_open(struct tt_journal *journal, const char *output, const char *telemetry, const json_t *job,
	bool restart, struct tt_error *err);

/* Appends a row (its line with the newline, and its telemetry) and its record. They survive the death of the process
 * at once, that of the machine when they are synced: at most a second later, if rows keep coming. When a write fails,
 * the files are cut back to the last whole row. */
int tt_journal_add(struct tt_journal *journal, const struct tt_buffer *line, const struct tt_buffer *telemetry,
	bool is_error, struct tt_error *err);
int tt_journal_sync(struct tt_journal *journal, struct tt_error *err);
void tt_journal_close(struct tt_journal *journal);

#endif
