/* A thread of the library's own gets none of the host's signals. */
#include <criterion/criterion.h>
#include <signal.h>

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
