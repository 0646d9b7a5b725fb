/* The log as plain files that any tool for C2SP's tlog-tiles reads: a checkpoint, tiles of hashes, bundles of entries.
 * Sealing moves entries from the database into bundles of the state folder; exporting writes all of them elsewhere. */
#ifndef CONTROLLER_GOVERN_LOG_FILES_H
#define CONTROLLER_GOVERN_LOG_FILES_H

#include "controller/govern/log_check.h"

/* Seals all full bundles of 256 entries, and says so in an entry for each 4096 of them; others can write meanwhile. The
 * database is open for writing, with nothing begun. *n: entries that were sealed. If it is stopped at any moment, it
 * can be done again. */
int tt_log_seal(struct tt_log *log, uint64_t *n, struct tt_error *err);

/* Whether the tiles of hashes in the state folder are those of the database; tt_log_verify looks at the bundles. */
int tt_log_check_sealed(struct tt_log *log, struct tt_error *err);

/* Writes the log up to its newest checkpoint into a folder: checkpoint, audit.pub and tile/. A folder that holds an
 * earlier export of the log is brought up to date. TT_ERR_UNSUPPORTED where there is no checkpoint yet. */
int tt_log_export(struct tt_log *log, const struct tt_verifier *verifier, const char *directory,
	struct tt_checkpoint *out, struct tt_error *err);

/* Checks such a folder: each entry, each tile, the checkpoint; as tt_log_verify does. */
int tt_log_verify_files(const char *directory, const struct tt_verifier *verifier, const char *held,
	struct tt_log_report *report, struct tt_error *err);

#endif
