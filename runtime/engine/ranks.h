/* All ranks of an engine, as one. The first is the engine's own; each of the others is a process (follower.h). */
#ifndef RUNTIME_ENGINE_RANKS_H
#define RUNTIME_ENGINE_RANKS_H

#include "runtime/engine/engine.h"

/* Opens the engine's rank on its backend, which is open, and its model, and starts the processes of the others.
 * TT_ERR_UNSUPPORTED where the backend has no ranks, or the model cannot be cut into so many. Call tt_ranks_close even
 * if this fails. */
int tt_ranks_open(struct tt_engine *engine, const char *path, const struct tt_limits *limits, enum tt_kv_type kv_type,
	struct tt_error *err);
/* Waits for all that was begun, before anything of it is closed. */
void tt_ranks_settle(struct tt_engine *engine);
void tt_ranks_close(struct tt_engine *engine);
/* The bytes that all have of pages and weights. */
void tt_ranks_describe(const struct tt_engine *engine, struct tt_model_info *info);

/* A policy in a slot of every rank, or of none where this fails. */
int tt_ranks_add_policy(struct tt_engine *engine, uint32_t slot, const struct tt_policy *policy, struct tt_error *err);
void tt_ranks_remove_policy(struct tt_engine *engine, uint32_t slot);

/* A step of every rank: makes room for what it captures and writes the coefficient rows that it restores, runs it, and
 * gives its results, which are rank 0's. TT_ERR_DEVICE, with the rank and the step, where another has made something
 * else of it. Of several ranks, the first error is the last: all processes have ended when it is returned. */
int tt_ranks_prepare(struct tt_engine *engine, const struct tt_scheduled_step *plan, struct tt_error *err);
int tt_ranks_submit(struct tt_engine *engine, const struct tt_step_plan *step, struct tt_error *err);
int tt_ranks_wait(struct tt_engine *engine, struct tt_results *results, struct tt_error *err);
/* Drops the results of all steps that were begun, after one failed. */
void tt_ranks_drop(struct tt_engine *engine);
/* What ended the engine's ranks, so that it runs no step any more; else NULL. */
const struct tt_error *tt_ranks_failure(const struct tt_engine *engine);

#endif
