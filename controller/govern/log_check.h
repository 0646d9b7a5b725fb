/* Whether a log is what it was: each entry against its hash, its number and the one before, the tree against the
 * hashes, the checkpoints against the tree. Needs no server, no model, and of keys the public one alone. */
#ifndef CONTROLLER_GOVERN_LOG_CHECK_H
#define CONTROLLER_GOVERN_LOG_CHECK_H

#include "controller/govern/entry_chain.h"

/* Computes the tree from the hashes of the entries: TT_ERR_FORMAT where it is not the one that the next entry would be
 * added to. */
int tt_log_check_tree(struct tt_log *log, struct tt_error *err);

struct tt_log_report {
	uint64_t n_entries, n_sealed, n_checkpoints;
	uint64_t n_open;             /* begun and not ended, which is no fault while a server runs */
	struct tt_checkpoint newest; /* of the log */
	struct tt_hash root;
	char last[TT_LOG_DATE_BYTES]; /* when the newest entry was made */
};
void tt_log_report_chain(struct tt_log_report *report, const struct tt_entry_chain *chain);
/* Checks all of it, at one moment. held: the note of a checkpoint that the caller has kept, of which the log must be a
 * continuation; or NULL. TT_ERR_FORMAT names the entry, hash or checkpoint that does not hold. */
int tt_log_verify(struct tt_log *log, const struct tt_verifier *verifier, const char *held,
	struct tt_log_report *report, struct tt_error *err);

#endif
