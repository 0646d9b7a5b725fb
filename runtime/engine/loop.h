/* The engine's loop: plan, launch, finish. */
#ifndef RUNTIME_ENGINE_LOOP_H
#define RUNTIME_ENGINE_LOOP_H

#include "runtime/engine/engine.h"

/* Begins a step if there is something to run, and finishes those that must be over. */
int tt_step_once(struct tt_engine *engine, struct tt_error *err);
int tt_step_locked(struct tt_engine *engine, struct tt_error *err); /* the same with the lock held, once */
int tt_step_drain(struct tt_engine *engine, struct tt_error *err);  /* finishes what is in flight */
bool tt_step_due(const struct tt_engine *engine);                   /* something waits, runs or is in flight */

#endif
