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

/* What a journal is of. */
struct tt_journal_job {
	const json_t *job;     /* what was asked */
	int64_t created;       /* when it was, for a new journal; 0: now */
	const char *telemetry; /* the path by which the first line names the telemetry; NULL: where it is written */
	double sync_seconds;   /* rows are forced to disk so often; 0: each second */
};

struct tt_journal {
	struct tt_append_log output, telemetry, log;
	struct tt_buffer log_path;
	uint64_t n_rows, n_errors; /* complete rows, and how many of these are errors */
	uint64_t n_synced;         /* rows that were forced to disk */
	int64_t created;           /* when the job was begun */
	char head[TT_SEAL + 1];    /* checksum of the first line, to which those of the synced lines are chained */
	char last[TT_SEAL + 1]; /* checksum of the last row's record, or of the first line: the next row chains to it */
	double synced;          /* when the files were last forced to disk */
	double sync_seconds;
	const char *telemetry_name; /* borrowed, as in struct tt_journal_job */
};

/* Opens the files and finds the complete rows. job->job is compared with the earlier run's, if there is one, whose time
 * of creation then holds. restart throws away what an earlier run wrote there, whatever its job, and nothing else.
 * Returns TT_ERR_MISMATCH for another job, for rows that were changed and for a file that no journal names;
 * TT_ERR_FORMAT for a journal that was changed. With these errors no file was made, and no byte was changed. */
int tt_journal_open(struct tt_journal *journal, const char *output, const char *telemetry,
	const struct tt_journal_job *job, bool restart, struct tt_error *err);
/* Makes the files of a part of a job (runtime/batch/parts.h), and takes none that is there: *taken says that there is
 * one, and nothing was changed. */
int tt_journal_create(struct tt_journal *journal, const char *output, const char *telemetry,
	const struct tt_journal_job *job, bool *taken, struct tt_error *err);

/* Appends a row (its line with the newline, and its telemetry) and its record. row: its number over the whole job,
 * which is n_rows except in a part. From then on the row survives the death of the process; it survives a crash of the
 * machine once it is synced, at most sync_seconds later if rows keep coming. If a write fails, the files are cut back
 * to the last complete row. */
int tt_journal_add(struct tt_journal *journal, uint64_t row, const struct tt_buffer *line,
	const struct tt_buffer *telemetry, bool is_error, struct tt_error *err);
/* Forces all rows to disk, and records that. */
int tt_journal_sync(struct tt_journal *journal, struct tt_error *err);
void tt_journal_close(struct tt_journal *journal);

/* TT_ERR_MISMATCH for a file with content that no journal names: it must not be overwritten. TT_ERR_IO if it is no
 * regular file, since nothing may be made beside it either. */
int tt_journal_refuse_stranger(const char *path, struct tt_error *err);

#endif
