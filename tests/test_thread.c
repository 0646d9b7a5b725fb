/* An engine's own thread: what those who wait are given when it ends, whenever they wake, and what a start forgets. */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "base/fail.h"
#include "golden.h"
#include "runtime/engine/thread.h"

#define MODEL GOLDEN("tiny-llama/tiny-llama.q8_0.gguf")

static const int32_t IDS[] = {5, 90, 17, 33, 8};

static void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/* ---- The waiting thread's waits */

static _Thread_local bool is_waiter;
static atomic_bool waits, oversleeps, late_enough;
static atomic_int n_wakes;

int __real_pthread_cond_wait(pthread_cond_t *changed, pthread_mutex_t *lock);
int __wrap_pthread_cond_wait(pthread_cond_t *changed, pthread_mutex_t *lock);

/* A waiter that oversleeps is woken, and looks around only when late_enough is set. */
int __wrap_pthread_cond_wait(pthread_cond_t *changed, pthread_mutex_t *lock)
{
	if (is_waiter)
		waits = true;
	int status = __real_pthread_cond_wait(changed, lock);
	if (is_waiter)
		n_wakes++;
	if (is_waiter && oversleeps) {
		pthread_mutex_unlock(lock);
		while (!late_enough)
			nap();
		pthread_mutex_lock(lock);
	}
	return status;
}

struct waiter {
	struct tt_engine *engine;
	struct tt_request *request, *next;
	bool waits_for_any;
	int status;
	struct tt_error err;
};

static void *wait_on(void *argument)
{
	struct waiter *w = argument;
	is_waiter = true;
	w->status = w->waits_for_any ? tt_engine_next(w->engine, &w->next, -1, &w->err)
				     : tt_request_wait(w->request, &w->err);
	return NULL;
}

/* Back once the waiter's thread is inside pthread_cond_wait. */
static pthread_t begin_to_wait(struct waiter *w)
{
	pthread_t thread;
	waits = false;
	cr_assert_eq(pthread_create(&thread, NULL, wait_on, w), 0);
	while (!waits)
		nap();
	tt_lock(w->engine);
	tt_unlock(w->engine);
	return thread;
}

/* ---- Steps that are slow, held or fail */

static int (*real_begin)(struct tt_backend *, const struct tt_step_plan *, bool *, struct tt_error *);
static struct tt_engine *opened;
static atomic_bool held, held_until_stop, begun, fails;

static bool is_stopping(struct tt_engine *engine)
{
	tt_lock(engine);
	bool stopping = engine->stopping;
	tt_unlock(engine);
	return stopping;
}

static int begin(struct tt_backend *backend, const struct tt_step_plan *step, bool *recorded, struct tt_error *err)
{
	begun = true;
	do
		nap();
	while (held || (held_until_stop && !is_stopping(opened)));
	if (fails)
		return tt_fail(err, TT_ERR_DEVICE, "the device fell over");
	return real_begin(backend, step, recorded, err);
}

static struct tt_engine *open(void)
{
	opened = engine_open(MODEL, 2, 64);
	begun = false;
	real_begin = opened->rank.backend->begin;
	opened->rank.backend->begin = begin;
	return opened;
}

static struct tt_request *submit(struct tt_engine *engine, uint32_t max_tokens)
{
	struct tt_request_options options;
	struct tt_request *request = NULL;
	tt_request_options_default(&options);
	options.ids = IDS;
	options.n_ids = sizeof IDS / sizeof *IDS;
	options.max_tokens = max_tokens;
	options.ignore_eos = true;
	must(tt_request_submit(&request, engine, &options, err));
	return request;
}

/* Three threads wait when it ends, two for a request each and one for any: all get there by themselves, stepping in
 * turn or waiting on for a thread that was started since. late: all look around only when it has ended. */
static void end_under_waiters(bool late, bool again)
{
	enum { N = 3 };
	struct tt_engine *engine = open();
	struct waiter w[N];
	pthread_t threads[N];
	oversleeps = late;
	late_enough = false;
	held_until_stop = true;
	must(tt_engine_start(engine, err));
	for (int i = 0; i < N; i++) {
		w[i] = (struct waiter){.engine = engine, .waits_for_any = i == 2};
		w[i].request = i < 2 ? submit(engine, i == 0 ? 60 : 80) : NULL;
		threads[i] = begin_to_wait(&w[i]);
	}
	must(tt_engine_stop(engine, err));
	held_until_stop = false;
	cr_expect(tt_request_finish(w[0].request) == TT_RUNNING && tt_request_finish(w[1].request) == TT_RUNNING);
	if (again)
		must(tt_engine_start(engine, err));
	late_enough = true;
	for (int i = 0; i < N; i++) {
		pthread_join(threads[i], NULL);
		cr_expect_eq(w[i].status, TT_OK, "waiter %d, late %d, again %d: %s", i, late, again, w[i].err.message);
	}
	cr_expect_eq(tt_request_n_generated(w[0].request), 60);
	cr_expect_eq(tt_request_n_generated(w[1].request), 80);
	cr_expect_eq(w[2].next, w[0].request);
	must(tt_engine_stop(engine, err));
	for (int i = 0; i < 2; i++)
		tt_request_free(w[i].request);
	tt_engine_close(engine);
}

Test(thread, who_waits_when_it_ends_goes_on_by_itself, .timeout = 60)
{
	end_under_waiters(false, false);
	end_under_waiters(true, false);
	end_under_waiters(true, true);
}

/* Without one, a callback still cannot wait: the step that it is called from is its own thread's. */
static void wait_in_callback(void *user, struct tt_request *request)
{
	struct waiter *w = user;
	(void)request;
	w->status = tt_request_wait(w->request, &w->err);
}

Test(thread, a_callback_cannot_wait, .timeout = 60)
{
	struct tt_engine *engine = open();
	struct waiter w = {.engine = engine, .request = submit(engine, 8)};
	struct tt_request_options options;
	tt_request_options_default(&options);
	options.ids = IDS;
	options.n_ids = 2;
	options.max_tokens = 1;
	options.notify = wait_in_callback;
	options.user = &w;
	tt_request_free(request_run(engine, &options));
	cr_expect_eq(w.status, TT_ERR_ARGUMENT);
	cr_expect_not_null(strstr(w.err.message, "a step is under way"), "%s", w.err.message);
	must(tt_request_wait(w.request, err));
	tt_request_free(w.request);
	tt_engine_close(engine);
}

/* All calls that would wait for another thread, in the notify of a request that this thread cancels. */
struct canceller {
	struct tt_engine *engine;
	struct tt_request *other;
	struct tt_policy *policy;
	int n_calls;
	struct tt_error errors[5];
};

static void wait_while_cancelling(void *user, struct tt_request *request)
{
	struct canceller *c = user;
	struct tt_request *next = NULL;
	c->n_calls++;
	cr_expect_eq(tt_request_finish(request), TT_FINISH_CANCELLED);
	cr_expect_eq(tt_request_wait(c->other, &c->errors[0]), TT_ERR_ARGUMENT);
	/* At most the cancelled request can be given out, since the step of the other one is held. */
	while (tt_engine_next(c->engine, &next, -1, &c->errors[1]) == TT_OK)
		cr_expect_eq(next, request);
	cr_expect_eq(tt_engine_add_policy(c->engine, c->policy, NULL, &c->errors[2]), TT_ERR_ARGUMENT);
	cr_expect_eq(tt_engine_remove_policy(c->engine, c->policy, &c->errors[3]), TT_ERR_ARGUMENT);
	cr_expect_eq(tt_engine_stop(c->engine, &c->errors[4]), TT_ERR_ARGUMENT);
}

/* The cancelling thread holds the lock while its callback runs, and a wait would not release it. The calls are refused,
 * and the same ones are served when the callback has returned. */
Test(thread, a_callback_of_a_cancel_cannot_wait_either, .timeout = 60)
{
	struct canceller c = {.engine = open()};
	struct tt_request_options options;
	const struct tt_model_info *info = tt_engine_info(c.engine);
	must(tt_policy_new(&c.policy, info->n_layers, info->hidden_size, 1, err));
	c.policy->weights[0] = 1;
	c.policy->directions[0] = 1;
	must(tt_policy_finish(c.policy, err));
	free(c.policy->fingerprint);
	c.policy->fingerprint = strdup(info->fingerprint);
	held = true;
	must(tt_engine_start(c.engine, err));
	c.other = submit(c.engine, 4);
	tt_request_options_default(&options);
	options.ids = IDS;
	options.n_ids = 2;
	options.notify = wait_while_cancelling;
	options.user = &c;
	struct tt_request *request = NULL;
	must(tt_request_submit(&request, c.engine, &options, err));
	tt_request_cancel(request);
	held = false;
	cr_expect_eq(c.n_calls, 1);
	for (int i = 0; i < 5; i++)
		cr_expect_str_eq(c.errors[i].message,
			"a callback cannot wait: its thread holds the engine's lock until it returns", "call %d", i);
	must(tt_engine_add_policy(c.engine, c.policy, NULL, err));
	must(tt_request_wait(c.other, err));
	must(tt_engine_remove_policy(c.engine, c.policy, err));
	must(tt_engine_stop(c.engine, err));
	tt_request_free(request);
	tt_request_free(c.other);
	tt_policy_free(c.policy);
	tt_engine_close(c.engine);
}

static void *stop(void *engine)
{
	must(tt_engine_stop(engine, err));
	return NULL;
}

/* The step under way is completed: a request that it finishes is no error, though its waiter wakes before. */
Test(thread, what_the_last_step_finishes_is_waited_for, .timeout = 60)
{
	struct tt_engine *engine = open();
	pthread_t stopper;
	held = true;
	must(tt_engine_start(engine, err));
	struct waiter w = {.engine = engine, .request = submit(engine, 1)};
	pthread_t thread = begin_to_wait(&w);
	/* A thread that is told to stop before its first step has none to complete. */
	while (!begun)
		nap();
	int before = n_wakes;
	cr_assert_eq(pthread_create(&stopper, NULL, stop, engine), 0);
	while (!is_stopping(engine))
		nap();
	while (n_wakes == before)
		nap();
	held = false;
	pthread_join(stopper, NULL);
	pthread_join(thread, NULL);
	cr_expect_eq(w.status, TT_OK, "%s", w.err.message);
	cr_expect_eq(tt_request_finish(w.request), TT_FINISH_LENGTH);
	tt_request_free(w.request);
	tt_engine_close(engine);
}

Test(thread, a_start_forgets_what_failed_before_it)
{
	struct tt_engine *engine = open();
	struct tt_error error = {0};
	fails = true;
	must(tt_engine_start(engine, err));
	struct tt_request *request = submit(engine, 2);
	cr_expect_eq(tt_request_wait(request, &error), TT_ERR_DEVICE);
	cr_expect_str_eq(error.message, "the device fell over");
	cr_expect_eq(tt_engine_stop(engine, &error), TT_ERR_DEVICE);
	fails = false;
	must(tt_engine_start(engine, err));
	cr_expect_eq(tt_request_wait(request, &error), TT_ERR_DEVICE);
	cr_expect_str_eq(error.message, "the engine could not run a step");
	must(tt_engine_stop(engine, err));
	tt_request_free(request);
	tt_engine_close(engine);
}
