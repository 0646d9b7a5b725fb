/* Steps on the caller's thread or on the engine's own, and waiting for their results. */
#include "runtime/engine/thread.h"

#include <errno.h>
#include <math.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/start_thread.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/loop.h"
#include "runtime/engine/policy_slots.h"
#include "runtime/engine/request.h"

/* Where a wait would release one of the two levels that its thread holds, and so last for ever. */
static const char WAITS_IN_CALLBACK[] = "a callback cannot wait: its thread holds the engine's lock until it returns";

int tt_thread_open(struct tt_engine *engine, struct tt_error *err)
{
	pthread_mutexattr_t recursive;
	bool good = !pthread_mutexattr_init(&recursive) &&
		    !pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE) &&
		    !pthread_mutex_init(&engine->lock, &recursive) && !pthread_mutex_init(&engine->launch, NULL);
	if (!good)
		return tt_fail(err, TT_ERR_MEMORY, "a lock could not be made");
	pthread_mutexattr_destroy(&recursive);
	TT_TRY(tt_steady_condition(&engine->changed, err));
	engine->synchronised = true;
	return TT_OK;
}

void tt_thread_close(struct tt_engine *engine)
{
	if (!engine->synchronised)
		return;
	tt_engine_stop(engine, NULL);
	pthread_mutex_destroy(&engine->lock);
	pthread_mutex_destroy(&engine->launch);
	pthread_cond_destroy(&engine->changed);
}

void tt_lock(struct tt_engine *engine)
{
	pthread_mutex_lock(&engine->lock);
	engine->lock_depth++;
}

void tt_unlock(struct tt_engine *engine)
{
	engine->lock_depth--;
	pthread_mutex_unlock(&engine->lock);
}

/* Waits until something changes or, if until is not NULL, until that time. The lock is held before and after, exactly
 * once, since a wait releases one level only. */
static void wait_for_change(struct tt_engine *engine, const struct timespec *until)
{
	engine->lock_depth--;
	if (until)
		pthread_cond_timedwait(&engine->changed, &engine->lock, until);
	else
		pthread_cond_wait(&engine->changed, &engine->lock);
	engine->lock_depth++;
}

/* Whether this thread took the lock before the call that asks has taken it: the call comes from a callback. */
static bool in_callback(const struct tt_engine *engine)
{
	return engine->lock_depth > 1;
}

/* ---- The engine's own thread */

static void run_owner_calls(struct tt_engine *engine)
{
	while (engine->owner_calls) {
		struct tt_owner_call *call = engine->owner_calls;
		engine->owner_calls = call->next;
		call->status = call->run(engine, call->argument, call->err);
		call->done = true;
		pthread_cond_broadcast(&engine->changed);
	}
}

void tt_fail_requests(struct tt_engine *engine)
{
	struct tt_scheduler *s = &engine->scheduler;
	while (s->waiting)
		tt_scheduler_finish(s, s->waiting, TT_FINISH_FAILED);
	while (s->n_running > 0)
		tt_scheduler_finish(s, s->running[0], TT_FINISH_FAILED);
}

/* Runs one step, or collects the last results. The lock is held before and after, and given up meanwhile. */
static void serve_one(struct tt_engine *engine, int (*run)(struct tt_engine *, struct tt_error *))
{
	struct tt_error failure = {0};
	tt_unlock(engine);
	int status = run(engine, &failure);
	tt_lock(engine);
	if (status == TT_OK)
		return;
	if (engine->failure.code == TT_OK)
		engine->failure = failure;
	tt_fail_requests(engine);
}

static void *serve(void *argument)
{
	struct tt_engine *engine = argument;
	tt_lock(engine);
	while (!engine->stopping) {
		run_owner_calls(engine);
		/* A request that was cancelled since the last step may have been the last user of a removed policy. */
		tt_policy_slots_sweep(engine);
		if (tt_step_due(engine))
			serve_one(engine, tt_step_once);
		else
			wait_for_change(engine, NULL);
	}
	serve_one(engine, tt_step_drain);
	run_owner_calls(engine);
	engine->serving = false;
	tt_unlock(engine);
	return NULL;
}

int tt_engine_start(struct tt_engine *engine, struct tt_error *err)
{
	TT_TRY(tt_need(engine, "engine", err));
	tt_lock(engine);
	int status = TT_OK;
	if (engine->started) {
		status = tt_fail(err, TT_ERR_ARGUMENT, "the engine has its thread already");
	} else if (engine->stepping) {
		status = tt_fail(err, TT_ERR_ARGUMENT, "a step is under way, which the thread cannot take over");
	} else {
		engine->failure = (struct tt_error){0};
		if (pthread_create(&engine->owner, NULL, serve, engine))
			status = tt_fail(err, TT_ERR_MEMORY, "a thread could not be made");
		engine->started = engine->serving = status == TT_OK;
	}
	tt_unlock(engine);
	return status;
}

static bool on_owner(const struct tt_engine *engine)
{
	return !engine->started || (engine->serving && pthread_equal(engine->owner, pthread_self()));
}

/* If several threads stop the engine at once, the first ends its thread and the others wait for that. The lock is held
 * before and after, and given up meanwhile. */
static void end_thread(struct tt_engine *engine)
{
	if (engine->stopping) {
		while (engine->stopping)
			wait_for_change(engine, NULL);
		return;
	}
	engine->stopping = true;
	pthread_cond_broadcast(&engine->changed);
	tt_unlock(engine);
	pthread_join(engine->owner, NULL);
	tt_lock(engine);
	engine->started = engine->stopping = false;
	pthread_cond_broadcast(&engine->changed);
}

int tt_engine_stop(struct tt_engine *engine, struct tt_error *err)
{
	int status = TT_OK;
	TT_TRY(tt_need(engine, "engine", err));
	tt_lock(engine);
	if (engine->started && on_owner(engine)) {
		status = tt_fail(err, TT_ERR_ARGUMENT, "the engine's own thread cannot end itself");
	} else if (engine->started && in_callback(engine)) {
		status = tt_fail(err, TT_ERR_ARGUMENT, "%s", WAITS_IN_CALLBACK);
	} else if (engine->started) {
		end_thread(engine);
		if (engine->failure.code != TT_OK)
			status = tt_fail(err, engine->failure.code, "%s", engine->failure.message);
	}
	tt_unlock(engine);
	return status;
}

int tt_on_owner(struct tt_engine *engine, int (*run)(struct tt_engine *, void *, struct tt_error *), void *argument,
	struct tt_error *err)
{
	struct tt_owner_call call = {.run = run, .argument = argument, .err = err}, **end = &engine->owner_calls;
	tt_lock(engine);
	bool refused = in_callback(engine) && !on_owner(engine);
	while (!refused && engine->stopping && !on_owner(engine))
		wait_for_change(engine, NULL);
	if (refused) {
		call.status = tt_fail(err, TT_ERR_ARGUMENT, "%s", WAITS_IN_CALLBACK);
	} else if (on_owner(engine)) {
		call.status = run(engine, argument, err);
	} else {
		while (*end)
			end = &(*end)->next;
		*end = &call;
		pthread_cond_broadcast(&engine->changed);
		while (!call.done)
			wait_for_change(engine, NULL);
	}
	tt_unlock(engine);
	return call.status;
}

/* ---- Stepping and waiting */

int tt_engine_step(struct tt_engine *engine, struct tt_error *err)
{
	TT_TRY(tt_need(engine, "engine", err));
	tt_lock(engine);
	bool started = engine->started;
	tt_unlock(engine);
	if (started)
		return tt_fail(err, TT_ERR_ARGUMENT, "the engine's own thread steps");
	return tt_step_once(engine, err);
}

size_t tt_engine_pending(const struct tt_engine *engine)
{
	struct tt_engine *e = (struct tt_engine *)(uintptr_t)engine; /* not const, so that it can be locked */
	if (!e)
		return 0;
	tt_lock(e);
	size_t n = (size_t)e->scheduler.n_waiting + e->scheduler.n_running;
	tt_unlock(e);
	return n;
}

void tt_engine_stats(const struct tt_engine *engine, struct tt_engine_stats *stats)
{
	struct tt_engine *e = (struct tt_engine *)(uintptr_t)engine;
	if (stats)
		*stats = (struct tt_engine_stats){0};
	if (!e || !stats)
		return;
	const struct tt_scheduler *s = &e->scheduler;
	tt_lock(e);
	*stats = (struct tt_engine_stats){
		.n_steps = s->n_collected,
		.n_prefill_tokens = s->n_prefill_tokens,
		.n_decode_tokens = s->n_decode_tokens,
		.n_reruns = s->n_reruns,
		.n_shared = s->n_shared,
		.n_preemptions = s->n_preemptions,
		.n_wasted = s->n_wasted,
		.seconds = e->seconds,
		.n_launches = e->counters.launches,
		.n_graph_launches = e->counters.graph_launches,
		.n_copies_in = e->counters.copies_in,
		.n_copies_out = e->counters.copies_out,
		.n_waits = e->counters.waits,
		.n_drains = e->counters.drains,
		.n_bytes_in = e->counters.bytes_in,
		.n_bytes_out = e->counters.bytes_out,
	};
	tt_unlock(e);
}

void tt_engine_load(struct tt_engine *engine, struct tt_engine_load *out)
{
	const struct tt_scheduler *s = &engine->scheduler;
	tt_lock(engine);
	*out = (struct tt_engine_load){
		.n_running = s->n_running,
		.n_waiting = s->n_waiting,
		.n_pages = s->pool.n_pages,
		.n_used_pages = s->pool.n_pages - s->pool.n_free - s->pool.n_idle,
		.quiet = tt_step_due(engine) ? tt_now() - engine->beat : 0,
	};
	tt_unlock(engine);
}

int tt_engine_advance(struct tt_engine *engine, double deadline, struct tt_error *err)
{
	struct timespec until = {.tv_sec = (time_t)deadline, .tv_nsec = (long)(1e9 * (deadline - floor(deadline)))};
	bool steps_here = engine->stepping && pthread_equal(engine->stepper, pthread_self());
	if (engine->started && on_owner(engine))
		return tt_fail(err, TT_ERR_ARGUMENT, "a callback cannot wait for its own thread");
	if (in_callback(engine) && !steps_here)
		return tt_fail(err, TT_ERR_ARGUMENT, "%s", WAITS_IN_CALLBACK);
	if (!engine->started && (!engine->stepping || steps_here))
		return tt_step_locked(engine, err);
	wait_for_change(engine, deadline > 0 ? &until : NULL);
	return TT_OK;
}

/* Returns the error of the step that ended a request, unless a tt_engine_start since then has cleared it. */
static int fail_as_engine(const struct tt_engine *engine, struct tt_error *err)
{
	const struct tt_error *failure = &engine->failure;
	if (failure->code == TT_OK)
		return tt_fail(err, TT_ERR_DEVICE, "the engine could not run a step");
	return tt_fail(err, failure->code, "%s", failure->message);
}

int tt_request_wait(struct tt_request *request, struct tt_error *err)
{
	int status = TT_OK;
	TT_TRY(tt_need(request, "request", err));
	struct tt_engine *engine = request->engine;
	tt_lock(engine);
	while (status == TT_OK && request->sequence.finish == TT_RUNNING)
		status = tt_engine_advance(engine, 0, err);
	if (status == TT_OK && request->sequence.finish == TT_FINISH_FAILED)
		status = fail_as_engine(engine, err);
	tt_unlock(engine);
	return status;
}

static struct tt_request *take_finished(struct tt_engine *engine)
{
	struct tt_request *r = engine->first_finished;
	if (r)
		tt_request_unlist(r);
	return r;
}

int tt_engine_next(struct tt_engine *engine, struct tt_request **out, double timeout, struct tt_error *err)
{
	double deadline = timeout < 0 || timeout >= 1e9 ? 0 : tt_now() + timeout;
	int status = TT_OK;
	TT_TRY(tt_need(out, "out", err));
	*out = NULL;
	TT_TRY(tt_need(engine, "engine", err));
	if (!isfinite(timeout))
		return tt_fail(err, TT_ERR_ARGUMENT, "timeout is not a finite number");
	tt_lock(engine);
	while (!(*out = take_finished(engine)) && status == TT_OK && tt_engine_pending(engine) > 0) {
		if (deadline > 0 && tt_now() >= deadline)
			break;
		status = tt_engine_advance(engine, deadline, err);
	}
	tt_unlock(engine);
	return status;
}

void tt_engine_kill_steering(struct tt_engine *engine)
{
	if (!engine)
		return;
	atomic_store(&engine->killed, true);
	pthread_mutex_lock(&engine->launch);
	pthread_mutex_unlock(&engine->launch);
}

void tt_engine_resume_steering(struct tt_engine *engine)
{
	if (engine)
		atomic_store(&engine->killed, false);
}

bool tt_engine_is_killed(const struct tt_engine *engine)
{
	return atomic_load(&engine->killed);
}
