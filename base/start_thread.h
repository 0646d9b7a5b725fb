/* Threads of the library's own beside those of the host, and what they wait by. */
#ifndef BASE_START_THREAD_H
#define BASE_START_THREAD_H

#include <pthread.h>

#include "base/tt_error.h"

/* Starts a thread with all signals blocked: they are for the host's threads, and threads that this one makes (NCCL's)
 * have its mask. The caller's own mask is what it was. TT_ERR_LIMIT where there is no thread to be had. */
int tt_start_thread(pthread_t *thread, void *(*run)(void *), void *argument, struct tt_error *err);

/* Makes a condition whose timed waits take the time of CLOCK_MONOTONIC, which nobody sets. TT_ERR_MEMORY where there is
 * none to be had. */
int tt_steady_condition(pthread_cond_t *condition, struct tt_error *err);

#endif
