#include "runtime/engine/pump.h"

#include <stdlib.h>

#include "base/fail.h"
#include "base/memory.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/request.h"
#include "runtime/engine/thread.h"

/* The window of tt_pump_all: twice the engine's default batch, so that the next requests are ready when some end, while
 * the memory for kept hidden states stays bounded. */
enum { WINDOW = 64 };

/* Requests [n_taken, n_submitted) of a run are in flight; request i is at requests[i % window]. */
struct flow {
	const struct tt_pump *pump;
	struct tt_request **requests; // [window]
	size_t n_taken, n_submitted;
	size_t n_running; /* requests that were not finished at the last submission */
};

static struct tt_request *request_at(const struct flow *f, size_t i)
{
	return f->requests[i % f->pump->window];
}

/* The lock is held. */
static size_t count_running(const struct flow *f)
{
	size_t n = 0;
	for (size_t i = f->n_taken; i < f->n_submitted; i++)
		n += request_at(f, i)->sequence.place != TT_NOWHERE;
	return n;
}

static int submit_some(struct flow *f, struct tt_error *err)
{
	const struct tt_pump *pump = f->pump;
	size_t max_running = pump->max_running ? pump->max_running : pump->window;
	tt_lock(pump->engine);
	f->n_running = count_running(f);
	tt_unlock(pump->engine);
	while (f->n_submitted - f->n_taken < pump->window && f->n_running < max_running) {
		struct tt_request *request = NULL;
		TT_TRY(pump->next(pump->user, &request, err));
		if (!request)
			return TT_OK;
		f->requests[f->n_submitted++ % pump->window] = request;
		f->n_running++;
	}
	return TT_OK;
}

/* Steps the engine, or waits for it; but not if a request has finished since the last submission, since others may be
 * submitted in its place first. */
static int advance(struct flow *f, struct tt_error *err)
{
	struct tt_engine *engine = f->pump->engine;
	int status = TT_OK;
	tt_lock(engine);
	if (request_at(f, f->n_taken)->sequence.place != TT_NOWHERE && count_running(f) == f->n_running)
		status = tt_engine_advance(engine, 0, err);
	tt_unlock(engine);
	return status;
}

static int take_some(struct flow *f, struct tt_error *err)
{
	while (f->n_taken < f->n_submitted) {
		struct tt_request *request = request_at(f, f->n_taken);
		enum tt_finish finish = tt_request_finish(request);
		if (finish == TT_RUNNING)
			return TT_OK;
		if (finish == TT_FINISH_FAILED)
			return tt_request_wait(request, err); /* returns the engine's error */
		f->n_taken++;
		TT_TRY(f->pump->take(f->pump->user, request, err));
	}
	return TT_OK;
}

static int run(struct flow *f, struct tt_error *err)
{
	for (;;) {
		if (f->pump->tick)
			TT_TRY(f->pump->tick(f->pump->user, err));
		TT_TRY(submit_some(f, err));
		if (f->n_taken == f->n_submitted)
			return TT_OK;
		TT_TRY(advance(f, err));
		TT_TRY(take_some(f, err));
	}
}

int tt_pump_run(const struct tt_pump *pump, struct tt_error *err)
{
	struct flow f = {.pump = pump};
	TT_TRY(tt_alloc(&f.requests, pump->window, sizeof(struct tt_request *), err));
	int status = run(&f, err);
	for (; f.n_taken < f.n_submitted; f.n_taken++)
		tt_request_free(request_at(&f, f.n_taken));
	free(f.requests);
	return status;
}

/* ---- Progress */

int tt_progress_report(const struct tt_progress *p, struct tt_error *err)
{
	if (p->fn && p->fn(p->user, p->stage, p->done, p->total))
		return tt_fail(err, TT_ERR_LIMIT, "stopped at %s, %llu of %llu", p->stage, (unsigned long long)p->done,
			(unsigned long long)p->total);
	return TT_OK;
}

int tt_progress_begin(struct tt_progress *progress, const char *stage, uint64_t total, struct tt_error *err)
{
	progress->stage = stage;
	progress->done = 0;
	progress->total = total;
	return tt_progress_report(progress, err);
}

int tt_progress_step(struct tt_progress *progress, struct tt_error *err)
{
	if (progress->done < progress->total)
		progress->done++;
	return tt_progress_report(progress, err);
}

/* ---- A list of requests */

struct list {
	struct tt_engine *engine;
	const struct tt_request_options *options; // [n]
	size_t n, n_submitted, n_taken;
	tt_take_fn take;
	void *user;
	struct tt_progress *progress;
};

static int next_of_list(void *user, struct tt_request **out, struct tt_error *err)
{
	struct list *list = user;
	if (list->n_submitted == list->n)
		return TT_OK;
	return tt_request_submit_own(out, list->engine, &list->options[list->n_submitted++], err);
}

static int take_of_list(void *user, struct tt_request *request, struct tt_error *err)
{
	struct list *list = user;
	int status = list->take(list->user, list->n_taken++, request, err);
	tt_request_free(request);
	return status == TT_OK ? tt_progress_step(list->progress, err) : status;
}

int tt_pump_all(struct tt_engine *engine, const struct tt_request_options *options, size_t n, tt_take_fn take,
	void *user, struct tt_progress *progress, struct tt_error *err)
{
	struct list list = {
		.engine = engine, .options = options, .n = n, .take = take, .user = user, .progress = progress};
	const struct tt_pump pump = {
		.engine = engine, .window = WINDOW, .next = next_of_list, .take = take_of_list, .user = &list};
	return tt_pump_run(&pump, err);
}
