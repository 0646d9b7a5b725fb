/* The lock of an engine, and its own thread, which it may have. The rules for both are in engine.h. */
#ifndef RUNTIME_ENGINE_THREAD_H
#define RUNTIME_ENGINE_THREAD_H

#include "runtime/engine/engine.h"

/* Creates the locks. */
int tt_thread_open(struct tt_engine *engine, struct tt_error *err);
/* Ends the engine's thread, if it has one, and destroys the locks. Does nothing if tt_thread_open failed. */
void tt_thread_close(struct tt_engine *engine);
void tt_lock(struct tt_engine *engine);
void tt_unlock(struct tt_engine *engine);

/* What the engine has to do at the moment. */
struct tt_engine_load {
	uint32_t n_running, n_waiting;
	uint32_t n_pages, n_used_pages; /* used: by requests that run, not just kept to be shared */
	double quiet; /* seconds since a step was last begun or ended; 0 where there is nothing to do */
};
void tt_engine_load(struct tt_engine *engine, struct tt_engine_load *out);

/* Runs one step or, if the engine has its own thread or another thread steps, waits until something changes or the
 * deadline comes (a time of tt_now; 0: none). When the engine's thread is ended, those who wait go on in this way, one
 * of them at a time stepping. The lock is held, exactly once; it is given up meanwhile. */
int tt_engine_advance(struct tt_engine *engine, double deadline, struct tt_error *err);
/* Calls run(engine, argument, err) between two steps, with the lock held: on the engine's own thread if it has one,
 * else here. Returns its status when it is done. */
int tt_on_owner(struct tt_engine *engine, int (*run)(struct tt_engine *, void *, struct tt_error *), void *argument,
	struct tt_error *err);

/* Whether a rank of the engine has ended, so that no request will be answered any more. From any thread. */
bool tt_engine_is_lost(const struct tt_engine *engine);
/* TT_OK, or the end of the rank that it is lost by. On the thread that steps, or after tt_engine_stop. */
int tt_engine_check(struct tt_engine *engine, struct tt_error *err);

/* Ends all requests with TT_FINISH_FAILED. The lock is held. */
void tt_fail_requests(struct tt_engine *engine);

/* Whether the kill switch is on. */
bool tt_engine_is_killed(const struct tt_engine *engine);

#endif
