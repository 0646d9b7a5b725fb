/* The CPU backend's threads: every job runs once, rounds do not mix, and waiting threads sleep and wake. */
#include <criterion/criterion.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "kernels/cpu/threads.h"

enum { MOST = 5000, THREADS = 4 };

struct round {
	_Atomic uint32_t runs[MOST];
	_Atomic uint32_t by_thread[THREADS];
	uint32_t number, n_jobs;
	long nap; /* nanoseconds a job takes */
};

static void nap(long nanoseconds)
{
	nanosleep(&(struct timespec){.tv_nsec = nanoseconds}, NULL);
}

static void count(void *context, uint32_t job, uint32_t thread)
{
	struct round *round = context;
	cr_assert_lt(job, round->n_jobs);
	cr_assert_lt(thread, THREADS);
	atomic_fetch_add(&round->runs[job], 1);
	atomic_fetch_add(&round->by_thread[thread], 1);
	if (round->nap)
		nap(round->nap);
}

static void run_round(struct tt_threads *threads, struct round *round, uint32_t n_jobs, long job_nap)
{
	round->n_jobs = n_jobs;
	round->nap = job_nap;
	for (uint32_t i = 0; i < MOST; i++)
		atomic_store(&round->runs[i], 0);
	tt_threads_run(threads, n_jobs, count, round);
	for (uint32_t i = 0; i < MOST; i++)
		cr_assert_eq(atomic_load(&round->runs[i]), i < n_jobs, "job %u of %u", i, n_jobs);
}

static struct tt_threads *open_threads(uint32_t n)
{
	struct tt_threads *threads = NULL;
	struct tt_error err = {0};
	cr_assert(tt_threads_open(&threads, n, &err) == TT_OK, "%s", err.message);
	return threads;
}

Test(kernels_threads, every_job_runs_once, .timeout = 60)
{
	static const uint32_t sizes[] = {0, 1, 2, 3, 7, 64, 1000, MOST};
	struct round *round = calloc(1, sizeof *round);
	cr_assert(round);
	for (uint32_t n = 1; n <= THREADS; n++) {
		struct tt_threads *threads = open_threads(n);
		for (int i = 0; i < 400; i++)
			run_round(threads, round, sizes[i % 8] / (i % 8 == 7 ? 1 + (uint32_t)i % 9 : 1), 0);
		tt_threads_close(threads);
	}
	run_round(NULL, round, 100, 0);
	tt_threads_close(NULL);
	free(round);
}

/* Pauses longer than the spin, before rounds and inside jobs: workers and the caller must sleep and be woken. */
Test(kernels_threads, sleepers_wake, .timeout = 60)
{
	struct round *round = calloc(1, sizeof *round);
	struct tt_threads *threads = open_threads(THREADS);
	cr_assert(round);
	for (int i = 0; i < 30; i++) {
		nap(i % 3 * 1000000L);
		run_round(threads, round, 4 + (uint32_t)i % 5, 500000);
	}
	for (int i = 1; i < THREADS; i++)
		cr_assert_gt(atomic_load(&round->by_thread[i]), 0, "thread %d never worked", i);
	tt_threads_close(threads);
	free(round);
}

Test(kernels_threads, closing_at_once_is_fine, .timeout = 60)
{
	for (int i = 0; i < 50; i++)
		tt_threads_close(open_threads(THREADS));
}
