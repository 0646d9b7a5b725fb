/* Requests through an engine in order: submitted within a window, stepped or waited for, taken when finished. What fit, eval and
 * batch are made of. It works the same whether the caller steps the engine or the engine has a thread of its own, and
 * several may run on one started engine at once: each waits for and takes its own requests alone. */
#ifndef RUNTIME_ENGINE_PUMP_H
#define RUNTIME_ENGINE_PUMP_H

#include "runtime/engine/request.h"

struct tt_pump {
	struct tt_engine *engine;
	size_t window;      /* requests that are submitted and not taken, at most */
	size_t max_running; /* of these, requests that are not finished, at most; 0: the whole window */

	/* Submits the next request, with tt_request_submit_own. *out comes as NULL and stays so when there is none now: it is
	 * asked again after every step, and when none is in flight either, all is done. */
	int (*next)(void *user, struct tt_request **out, struct tt_error *err);
	/* A finished request, in the order of submission; it is the taker's to free from here on, also when it fails. */
	int (*take)(void *user, struct tt_request *request, struct tt_error *err);
	/* Before every step, or wait for one: may look at requests in flight, cancel them, or end all with an error. NULL: none. */
	int (*tick)(void *user, struct tt_error *err);
	void *user;
};

/* Runs until there is no more. What is in flight when a callback or the engine fails is cancelled and freed. Requests that
 * a failed step ended give the engine's error and are not taken. */
int tt_pump_run(const struct tt_pump *pump, struct tt_error *err);

/* Where a long job stands. One stage may take several tt_pump_all calls. */
struct tt_progress {
	tt_progress_fn fn; /* or NULL */
	void *user;
	const char *stage;
	uint64_t done, total;
};

/* Begins a stage and reports it. */
int tt_progress_begin(struct tt_progress *progress, const char *stage, uint64_t total, struct tt_error *err);
/* One unit more. TT_ERR_LIMIT when the caller wants to stop. */
int tt_progress_step(struct tt_progress *progress, struct tt_error *err);

/* Takes what it wants from finished request `index`, which is freed after it. */
typedef int (*tt_take_fn)(void *user, size_t index, struct tt_request *request, struct tt_error *err);

/* Runs n requests, a window of them in flight, and hands them to take in their own order, so that sums over them do not
 * depend on how they were batched. */
int tt_pump_all(struct tt_engine *engine, const struct tt_request_options *options, size_t n, tt_take_fn take,
	void *user, struct tt_progress *progress, struct tt_error *err);

#endif
