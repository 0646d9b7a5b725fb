/* Preloaded, it makes a process slow without making it busy, so that several slow ones share a core and do not slow
 * each other: an engine sleeps SLOW_MS milliseconds whenever it tells those who wait that something has changed, twice
 * a step and twice a request; or SLOW_FACTOR times that, in the rank of Open MPI that SLOW_RANK names, and in a process
 * that is no rank. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double number(const char *name, double otherwise)
{
	const char *text = getenv(name);
	return text ? atof(text) : otherwise;
}

static double seconds(void)
{
	const char *rank = getenv("OMPI_COMM_WORLD_RANK"), *slow = getenv("SLOW_RANK");
	double factor = !rank || (slow && !strcmp(rank, slow)) ? number("SLOW_FACTOR", 1) : 1;
	return factor * number("SLOW_MS", 0) / 1000;
}

int pthread_cond_broadcast(pthread_cond_t *condition)
{
	static int (*real)(pthread_cond_t *);
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "pthread_cond_broadcast");
	double pause = seconds();
	struct timespec left = {(time_t)pause, (long)(1e9 * (pause - (double)(time_t)pause))};
	while (nanosleep(&left, &left))
		;
	return real(condition);
}
