/* The lock of an engine, and the thread of its own that it may have. */
#ifndef RUNTIME_ENGINE_THREAD_H
#define RUNTIME_ENGINE_THREAD_H

#include "runtime/engine/engine.h"

int tt_thread_open(struct tt_engine *engine, struct tt_error *err);
void tt_thread_close(struct tt_engine *engine);
void tt_lock(struct tt_engine *engine);
void tt_unlock(struct tt_engine *engine);
/* One step or, where the engine has its thread or another thread steps, the wait for something to change, until
 * deadline (of tt_now; 0: none). Those who wait while the engine's thread is ended go on so, one of them at a time
 * stepping. The lock is held, once. */
int tt_engine_advance(struct tt_engine *engine, double deadline, struct tt_error *err);
/* On the thread that owns the model, between two steps. */
int tt_on_owner(struct tt_engine *engine, int (*run)(struct tt_engine *, void *, struct tt_error *), void *argument,
	struct tt_error *err);

#endif
