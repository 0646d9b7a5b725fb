/* An engine's steps: each is planned, launched and, when the device has run it, collected. */
#include "runtime/engine/loop.h"

#include "base/clock.h"
#include "base/fail.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/policy_slots.h"
#include "runtime/engine/ranks.h"
#include "runtime/engine/request.h"
#include "runtime/engine/thread.h"
#include "weights/model.h"

/* Plans a step. lock and launch are held: launch from before `killed` is read until the step is launched, so that a
 * kill switch that comes after the read waits for this launch. */
static int prepare(struct tt_engine *engine, const struct tt_scheduled_step **plan, struct tt_error *err)
{
	engine->scheduler.killed = atomic_load(&engine->killed);
	TT_TRY(tt_scheduler_plan(&engine->scheduler, plan, err));
	return (*plan)->step->n_tokens > 0 ? tt_ranks_prepare(engine, *plan, err) : TT_OK;
}

static uint64_t n_in_flight(const struct tt_engine *engine)
{
	return engine->scheduler.n_planned - engine->scheduler.n_collected;
}

/* Whether requests wait although nothing runs and nothing will. The lock must be held since the step was planned: a
 * request that was submitted afterwards would be taken for one that cannot run. */
static bool is_stuck(const struct tt_engine *engine, const struct tt_scheduled_step *plan)
{
	return plan->step->n_tokens == 0 && n_in_flight(engine) == 0 && tt_step_due(engine);
}

static void stamp(const struct tt_scheduled_step *plan, double now)
{
	for (uint32_t i = 0; i < plan->n_planned; i++) {
		struct tt_request *r = (struct tt_request *)plan->planned[i].sequence;
		if (r->started == 0)
			r->started = now;
	}
}

static int begin(struct tt_engine *engine, const struct tt_scheduled_step **plan, struct tt_error *err)
{
	double now = tt_now();
	tt_lock(engine);
	tt_scheduler_expire(&engine->scheduler, now);
	pthread_mutex_lock(&engine->launch);
	int status = prepare(engine, plan, err);
	if (status == TT_OK && is_stuck(engine, *plan))
		status = tt_fail(err, TT_ERR_LIMIT, "no request can run, though some wait");
	if (status == TT_OK)
		stamp(*plan, now);
	tt_unlock(engine);
	if (status == TT_OK && (*plan)->step->n_tokens > 0)
		status = tt_ranks_submit(engine, (*plan)->step, err);
	pthread_mutex_unlock(&engine->launch);
	return status;
}

static int finish_one(struct tt_engine *engine, struct tt_error *err)
{
	struct tt_results results = {0};
	TT_TRY(tt_ranks_wait(engine, &results, err));
	tt_lock(engine);
	tt_scheduler_collect(&engine->scheduler, &results);
	pthread_cond_broadcast(&engine->changed);
	tt_unlock(engine);
	return TT_OK;
}

static int finish_down_to(struct tt_engine *engine, uint32_t n, struct tt_error *err)
{
	while (n_in_flight(engine) > n)
		TT_TRY(finish_one(engine, err));
	return TT_OK;
}

/* A step that captures rows or keeps logits ends before the next begins; so do all steps when there is no next one. */
static int step(struct tt_engine *engine, struct tt_error *err)
{
	const struct tt_scheduled_step *plan = NULL;
	TT_TRY(begin(engine, &plan, err));
	bool may_overlap = plan->step->n_tokens > 0 && !(plan->step->wants & (TT_WANT_CAPTURED | TT_WANT_LOGITS));
	uint32_t in_flight = engine->rank.backend->in_flight;
	in_flight = in_flight < TT_MAX_IN_FLIGHT ? in_flight : TT_MAX_IN_FLIGHT;
	return finish_down_to(engine, may_overlap ? in_flight - 1 : 0, err);
}

/* The lock is held, once, but while the step runs. */
static int run_one(struct tt_engine *engine, bool begins, struct tt_error *err)
{
	double start = tt_now();
	if (engine->stepping)
		return tt_fail(err, TT_ERR_ARGUMENT, "a step is under way: a callback cannot step, nor two threads");
	engine->stepping = true;
	engine->beat = start;
	engine->stepper = pthread_self();
	tt_unlock(engine);
	int status = begins ? step(engine, err) : finish_down_to(engine, 0, err);
	tt_lock(engine);
	if (status != TT_OK) {
		tt_ranks_drop(engine);
		tt_scheduler_abandon(&engine->scheduler);
	}
	if (tt_ranks_failure(engine)) {
		engine->failure = *tt_ranks_failure(engine);
		tt_fail_requests(engine);
	}
	tt_policy_slots_sweep(engine);
	engine->stepping = false;
	engine->beat = tt_now();
	engine->seconds += engine->beat - start;
	const struct tt_device_counters *counters = engine->rank.backend->counters;
	if (counters)
		/* A copy, since the backend's own counters change while a step is launched, without the lock. */
		engine->counters = *counters;
	pthread_cond_broadcast(&engine->changed); /* another thread may step now */
	return status;
}

int tt_step_locked(struct tt_engine *engine, struct tt_error *err)
{
	return run_one(engine, true, err);
}

int tt_step_once(struct tt_engine *engine, struct tt_error *err)
{
	tt_lock(engine);
	int status = run_one(engine, true, err);
	tt_unlock(engine);
	return status;
}

int tt_step_drain(struct tt_engine *engine, struct tt_error *err)
{
	tt_lock(engine);
	int status = run_one(engine, false, err);
	tt_unlock(engine);
	return status;
}

bool tt_step_due(const struct tt_engine *engine)
{
	const struct tt_scheduler *s = &engine->scheduler;
	return s->n_waiting + s->n_running > 0 || n_in_flight(engine) > 0;
}
