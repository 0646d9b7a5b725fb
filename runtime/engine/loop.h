/* The engine's loop: plan, launch, finish. */
#ifndef RUNTIME_ENGINE_LOOP_H
#define RUNTIME_ENGINE_LOOP_H

#include "runtime/engine/engine.h"

/* Begins a step if there is something to run, and finishes earlier steps until no more are in flight than the backend
 * allows beside the next. The lock is not held. */
int tt_step_once(struct tt_engine *engine, struct tt_error *err);
/* The same with the lock held, once; it is given up meanwhile. */
int tt_step_locked(struct tt_engine *engine, struct tt_error *err);
/* Finishes all steps in flight. The lock is not held. */
int tt_step_drain(struct tt_engine *engine, struct tt_error *err);
/* Whether a request waits or runs, or a step is in flight. The lock is held. */
bool tt_step_due(const struct tt_engine *engine);

#endif
