/* Why not OpenMP: libgomp's threads spin for milliseconds when they wait, and a loop ends at a barrier of all of them.
 * With other processes on the same two cores a 512-token prefill took 6.6 to 8.2 s with OpenMP, 3.1 to 5.2 s with these
 * threads. Here a thread that waits goes to sleep after some microseconds, and nobody waits for a thread that is not
 * scheduled. */
#include "kernels/cpu/threads.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/fail.h"
#include "base/memory.h"
#include "base/pause.h"

enum { SPINS = 1000 }; /* 10 to 40 us: the next op of a step comes sooner, the next step does not */

struct worker {
	struct tt_threads *threads;
	pthread_t handle;
	uint32_t index;
};

struct tt_threads {
	/* Round number << 32 | jobs not yet claimed. A claim succeeds only in the round in which it was read, and a
	 * round does not end before its claimed jobs have. So the members below stay unchanged between a claim and the
	 * job's end. */
	_Atomic uint64_t ticket;
	_Atomic uint32_t n_done;
	tt_thread_job *run;
	void *context;
	uint32_t n_jobs;

	pthread_mutex_t mutex;
	pthread_cond_t work, done;
	_Atomic uint32_t n_sleeping;
	_Atomic bool caller_sleeps, closing;
	uint32_t n_workers;
	struct worker *workers; // [n_workers]
};

static bool claim(struct tt_threads *t, uint32_t *job)
{
	uint64_t ticket = atomic_load(&t->ticket);
	while ((uint32_t)ticket) {
		if (atomic_compare_exchange_weak(&t->ticket, &ticket, ticket - 1)) {
			*job = t->n_jobs - (uint32_t)ticket;
			return true;
		}
	}
	return false;
}

/* Claims and runs jobs until none is left. */
static void work(struct tt_threads *t, uint32_t thread)
{
	uint32_t job;
	while (claim(t, &job)) {
		uint32_t n_jobs = t->n_jobs;
		t->run(t->context, job, thread);
		if (atomic_fetch_add(&t->n_done, 1) + 1 == n_jobs && atomic_load(&t->caller_sleeps)) {
			pthread_mutex_lock(&t->mutex);
			pthread_cond_signal(&t->done);
			pthread_mutex_unlock(&t->mutex);
		}
	}
}

static bool has_work(struct tt_threads *t)
{
	return (uint32_t)atomic_load(&t->ticket) || atomic_load(&t->closing);
}

static void *worker_main(void *argument)
{
	struct worker *worker = argument;
	struct tt_threads *t = worker->threads;
	while (!atomic_load(&t->closing)) {
		for (int i = 0; i < SPINS && !has_work(t); i++)
			tt_pause();
		if (!has_work(t)) {
			pthread_mutex_lock(&t->mutex);
			/* before the last look at the ticket, so that a new round sees it */
			atomic_fetch_add(&t->n_sleeping, 1);
			while (!has_work(t))
				pthread_cond_wait(&t->work, &t->mutex);
			atomic_fetch_sub(&t->n_sleeping, 1);
			pthread_mutex_unlock(&t->mutex);
		}
		work(t, worker->index);
	}
	return NULL;
}

static void wake(struct tt_threads *t)
{
	if (!atomic_load(&t->n_sleeping))
		return;
	pthread_mutex_lock(&t->mutex);
	pthread_cond_broadcast(&t->work);
	pthread_mutex_unlock(&t->mutex);
}

void tt_threads_run(struct tt_threads *t, uint32_t n_jobs, tt_thread_job *run, void *context)
{
	if (!t || n_jobs <= 1 || !t->n_workers) {
		for (uint32_t job = 0; job < n_jobs; job++)
			run(context, job, 0);
		return;
	}
	t->run = run;
	t->context = context;
	t->n_jobs = n_jobs;
	atomic_store(&t->n_done, 0);
	atomic_store(&t->ticket, ((atomic_load(&t->ticket) >> 32) + 1) << 32 | n_jobs);
	wake(t);
	work(t, 0);
	for (int i = 0; i < SPINS && atomic_load(&t->n_done) != n_jobs; i++)
		tt_pause();
	if (atomic_load(&t->n_done) != n_jobs) {
		pthread_mutex_lock(&t->mutex);
		atomic_store(&t->caller_sleeps, true);
		while (atomic_load(&t->n_done) != n_jobs)
			pthread_cond_wait(&t->done, &t->mutex);
		atomic_store(&t->caller_sleeps, false);
		pthread_mutex_unlock(&t->mutex);
	}
}

int tt_threads_open(struct tt_threads **out, uint32_t n_threads, struct tt_error *err)
{
	struct tt_threads *t;
	TT_TRY(tt_alloc(&t, 1, sizeof *t, err));
	pthread_mutex_init(&t->mutex, NULL);
	pthread_cond_init(&t->work, NULL);
	pthread_cond_init(&t->done, NULL);
	int status = tt_alloc(&t->workers, n_threads, sizeof *t->workers, err);
	for (uint32_t i = 1; status == TT_OK && i < n_threads; i++) {
		struct worker *worker = &t->workers[t->n_workers];
		*worker = (struct worker){.threads = t, .index = i};
		if (pthread_create(&worker->handle, NULL, worker_main, worker))
			status = tt_fail(err, TT_ERR_LIMIT, "thread %u of %u could not be started", i + 1, n_threads);
		else
			t->n_workers++;
	}
	if (status != TT_OK) {
		tt_threads_close(t);
		return status;
	}
	*out = t;
	return TT_OK;
}

void tt_threads_close(struct tt_threads *t)
{
	if (!t)
		return;
	pthread_mutex_lock(&t->mutex);
	atomic_store(&t->closing, true);
	pthread_cond_broadcast(&t->work);
	pthread_mutex_unlock(&t->mutex);
	for (uint32_t i = 0; i < t->n_workers; i++)
		pthread_join(t->workers[i].handle, NULL);
	pthread_cond_destroy(&t->work);
	pthread_cond_destroy(&t->done);
	pthread_mutex_destroy(&t->mutex);
	free(t->workers);
	free(t);
}
