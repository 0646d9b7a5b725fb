/* All ranks of an engine, as one. Each runs its steps on a thread of its own. */
#ifndef RUNTIME_ENGINE_RANKS_H
#define RUNTIME_ENGINE_RANKS_H

#include "runtime/engine/engine.h"

/* Opens n_ranks ranks on engine->ranks[0].backend, which is open, and its model. TT_ERR_UNSUPPORTED where the backend
 * has no ranks, or the model cannot be cut into so many. Call tt_ranks_close even if this fails. */
int tt_ranks_open(struct tt_engine *engine, uint32_t n_ranks, const struct tt_limits *limits, enum tt_kv_type kv_type,
	struct tt_error *err);
void tt_ranks_close(struct tt_engine *engine);

/* tt_rank_prepare, tt_forward_submit and tt_forward_wait for every rank. The results are rank 0's; TT_ERR_DEVICE, with
 * the rank and the step, where another has sampled or decided otherwise. */
int tt_ranks_prepare(struct tt_engine *engine, const struct tt_scheduled_step *plan, struct tt_error *err);
int tt_ranks_submit(struct tt_engine *engine, const struct tt_step_plan *step, struct tt_error *err);
int tt_ranks_wait(struct tt_engine *engine, struct tt_results *results, struct tt_error *err);
/* Drops the results of all steps that were begun, after one failed. */
void tt_ranks_drop(struct tt_engine *engine);

#endif
