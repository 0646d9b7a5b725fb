/* Runs many requests through an engine: submits them, at most a window of them at a time, steps the engine or waits for
 * it, and takes the finished ones in order. Fit, eval and batch are built on it. It works the same whether the caller
 * steps the engine or the engine has its own thread, and several pumps may run on one started engine at once: each
 * waits for and takes only its own requests. */
#ifndef RUNTIME_ENGINE_PUMP_H
#define RUNTIME_ENGINE_PUMP_H

#include "runtime/engine/request.h"

struct tt_pump {
	struct tt_engine *engine;
	size_t window;      /* requests that are submitted and not taken, at most */
	size_t max_running; /* requests among these that are not finished, at most; 0: the whole window */

	/* Submits the next request, with tt_request_submit_own. *out is NULL before the call and stays NULL if there is
	 * no request now. It is called again after every step; if it has none and none is in flight, the run ends. */
	int (*next)(void *user, struct tt_request **out, struct tt_error *err);
	/* Gets each finished request, in the order of submission, and owns it from then on, also if it fails. */
	int (*take)(void *user, struct tt_request *request, struct tt_error *err);
	/* Called before every step or wait. It may look at requests in flight, cancel them, or end the run with an
	 * error. May be NULL. */
	int (*tick)(void *user, struct tt_error *err);
	void *user;
};

/* Runs until there are no more requests. If a callback or the engine fails, requests in flight are cancelled and freed.
 * If a step fails, the requests that it ended are not taken, and its error is returned. The lock is not held. */
int tt_pump_run(const struct tt_pump *pump, struct tt_error *err);

/* The progress of a long job. One stage may take several tt_pump_all calls. */
struct tt_progress {
	tt_progress_fn fn; /* or NULL */
	void *user;
	const char *stage;
	uint64_t done, total;
};

/* Begins a stage and reports it. */
int tt_progress_begin(struct tt_progress *progress, const char *stage, uint64_t total, struct tt_error *err);
/* Reports how much is done. Returns TT_ERR_LIMIT if the callback asks to stop. */
int tt_progress_report(const struct tt_progress *progress, struct tt_error *err);
/* The same after one more unit. */
int tt_progress_step(struct tt_progress *progress, struct tt_error *err);

/* Reads finished request `index`, which is freed afterwards. */
typedef int (*tt_take_fn)(void *user, size_t index, struct tt_request *request, struct tt_error *err);

/* Runs n requests with a fixed window and hands them to take in the order of options, so that sums over them do not
 * depend on how they were batched. */
int tt_pump_all(struct tt_engine *engine, const struct tt_request_options *options, size_t n, tt_take_fn take,
	void *user, struct tt_progress *progress, struct tt_error *err);

#endif
