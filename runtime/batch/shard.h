/* A batch that several processes answer, each a share of it: what they have in common, and static shards, which take
 * units of the input by their number. */
#ifndef RUNTIME_BATCH_SHARD_H
#define RUNTIME_BATCH_SHARD_H

#include "runtime/batch/parts.h"

/* One process's share of a job. */
struct tt_share {
	struct tt_answering run;
	struct tt_batch_options options; /* run.job.options */
	struct tt_job_file file;
	struct tt_parts parts; /* those of earlier runs, and of other processes */
	struct tt_rows_done done;
	struct tt_part part; /* its own */
	bool is_merged;      /* OUT is complete, and there is nothing to do; run.report says so */
};

/* Takes the caller's options, and checks them and the files that they name. */
int tt_batch_take(struct tt_batch_options *own, struct tt_engine *engine, const struct tt_batch_options *options,
	struct tt_error *err);
/* Loads policies and sweep of run->job. */
int tt_batch_load(struct tt_batch_job *job, struct tt_error *err);
void tt_batch_unload(struct tt_batch_job *job);

/* Whether one process has begun the output, or others share it: TT_ERR_MISMATCH where plain `trimtab batch` must not
 * touch it. */
int tt_share_refuse_plain(const struct tt_batch_options *options, struct tt_error *err);

/* Loads the policies and finds the job file, or makes it where makes is set. The caller has zeroed share and set its
 * options, run.report, run.job.engine and run.job.options. With TT_ERR_MISMATCH, as where the job is another's, nothing
 * was changed. */
int tt_share_open(struct tt_share *share, bool makes, struct tt_error *err);
/* Finds the parts and which rows they hold. rank: whose parts nobody else may be writing; UINT64_MAX: all. */
int tt_share_read(struct tt_share *share, uint64_t rank, struct tt_error *err);
/* Makes the part that the share's rows go to. TT_ERR_MISMATCH, and no part, where the job was merged meanwhile. */
int tt_share_begin(struct tt_share *share, uint64_t rank, struct tt_error *err);
void tt_share_close(struct tt_share *share);

/* Answers shard options->shard of options->n_shards. */
int tt_batch_shard(struct tt_engine *engine, const struct tt_batch_options *options, struct tt_batch_report *report,
	struct tt_error *err);

#endif
