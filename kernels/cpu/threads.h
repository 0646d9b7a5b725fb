/* The CPU backend's threads. Jobs are claimed one by one, the caller works too, and nobody waits for a thread that has
 * not claimed a job. */
#ifndef KERNELS_CPU_THREADS_H
#define KERNELS_CPU_THREADS_H

#include <stdint.h>

#include "base/tt_error.h"

struct tt_threads;

/* thread is 0 .. n_threads - 1 and selects scratch memory; it must not change what is computed. */
typedef void tt_thread_job(void *context, uint32_t job, uint32_t thread);

/* Starts n_threads - 1 threads; the caller of tt_threads_run is the other one.
 * TT_ERR_LIMIT where the system does not start one. */
int tt_threads_open(struct tt_threads **out, uint32_t n_threads, struct tt_error *err);
void tt_threads_close(struct tt_threads *threads); /* NULL is fine */

/* Runs jobs 0 .. n_jobs - 1 and returns when all are done. One caller at a time. threads NULL: the caller runs them
 * alone. */
void tt_threads_run(struct tt_threads *threads, uint32_t n_jobs, tt_thread_job *run, void *context);

#endif
