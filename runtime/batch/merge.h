/* Makes the output of a batch of its parts: the bytes, and the journal, of a run of one process. */
#ifndef RUNTIME_BATCH_MERGE_H
#define RUNTIME_BATCH_MERGE_H

#include "runtime/batch/parts.h"

/* Looks whether the output is there already, under the job that file describes, complete: then *is_merged, and report
 * gets its rows. is_shared: the file has its name already, so that an output with its time is a merge's that was
 * stopped. TT_ERR_MISMATCH for an output that is another job's or nobody's, and for one that a run of one process
 * has begun; nothing is changed. */
int tt_merge_look(const struct tt_batch_options *options, const struct tt_job_file *file, bool is_shared,
	bool *is_merged, struct tt_batch_report *report, struct tt_error *err);

/* tt_batch_merge and tt_batch_missing of trimtab.h, whose options were checked. */
int tt_merge(const struct tt_batch_options *options, struct tt_batch_report *report, struct tt_error *err);
int tt_merge_missing(
	const struct tt_batch_options *options, tt_batch_missing_fn missing, void *user, struct tt_error *err);

#endif
