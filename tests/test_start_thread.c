/* A thread of the library's own gets none of the host's signals; and what threads wait by. */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>

#include "base/clock.h"
#include "base/start_thread.h"

static void *read_mask(void *out)
{
	pthread_sigmask(SIG_SETMASK, NULL, out);
	return NULL;
}

Test(start_thread, has_all_signals_blocked_and_the_caller_what_it_had)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGCHLD, SIGALRM, SIGPIPE, SIGUSR1};
	sigset_t own, after;
	pthread_t thread;
	struct tt_error err = {0};
	sigemptyset(&own);
	sigaddset(&own, SIGUSR2);
	pthread_sigmask(SIG_SETMASK, &own, NULL);
	cr_assert_eq(tt_start_thread(&thread, read_mask, &own, &err), TT_OK, "%s", err.message);
	pthread_join(thread, NULL);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
		cr_expect(sigismember(&own, signals[i]), "signal %d", signals[i]);
		cr_expect_not(sigismember(&after, signals[i]), "signal %d", signals[i]);
	}
	cr_expect(sigismember(&after, SIGUSR2));
}

/* The deadline is one of the steady clock, which counts from when the machine started: a condition of the system's time
 * would find it long past. */
Test(start_thread, waits_by_a_clock_that_nobody_sets)
{
	pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t condition;
	struct tt_error err = {0};
	double begun = tt_now(), until = begun + 0.02;
	const struct timespec deadline = {
		.tv_sec = (time_t)until, .tv_nsec = (long)(1e9 * (until - (double)(time_t)until))};
	int status = 0;
	cr_assert_eq(tt_steady_condition(&condition, &err), TT_OK, "%s", err.message);
	pthread_mutex_lock(&mutex);
	while (status != ETIMEDOUT)
		status = pthread_cond_timedwait(&condition, &mutex, &deadline);
	pthread_mutex_unlock(&mutex);
	cr_expect_geq(tt_now(), begun + 0.0199);
	pthread_cond_destroy(&condition);
}

Test(start_thread, sleeps_as_long_as_it_is_told)
{
	double begun = tt_now();
	tt_sleep(0);
	tt_sleep(-1);
	tt_sleep(0.003);
	cr_expect_geq(tt_now(), begun + 0.003);
	cr_expect_lt(tt_now(), begun + 1000); /* not the unsigned value of a negative time */
}
