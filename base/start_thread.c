#include "base/start_thread.h"

#include <signal.h>
#include <stdbool.h>
#include <time.h>

#include "base/fail.h"

int tt_start_thread(pthread_t *thread, void *(*run)(void *), void *argument, struct tt_error *err)
{
	sigset_t every, before;
	sigfillset(&every);
	pthread_sigmask(SIG_SETMASK, &every, &before);
	int error = pthread_create(thread, NULL, run, argument);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return error ? tt_fail(err, TT_ERR_LIMIT, "a thread could not be started") : TT_OK;
}

int tt_steady_condition(pthread_cond_t *condition, struct tt_error *err)
{
	pthread_condattr_t steady;
	if (pthread_condattr_init(&steady))
		return tt_fail(err, TT_ERR_MEMORY, "a condition could not be made");
	bool good = !pthread_condattr_setclock(&steady, CLOCK_MONOTONIC) && !pthread_cond_init(condition, &steady);
	pthread_condattr_destroy(&steady);
	return good ? TT_OK : tt_fail(err, TT_ERR_MEMORY, "a condition could not be made");
}
