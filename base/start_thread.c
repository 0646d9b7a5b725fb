#include "base/start_thread.h"

#include <signal.h>

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
