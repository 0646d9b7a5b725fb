#include "base/clock.h"

#include <math.h>
#include <time.h>

double tt_now(void)
{
	struct timespec t = {0};
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void tt_sleep(double seconds)
{
	double whole = floor(seconds);
	if (seconds > 0)
		nanosleep(
			&(struct timespec){.tv_sec = (time_t)whole, .tv_nsec = (long)(1e9 * (seconds - whole))}, NULL);
}

bool tt_date_now(char out[TT_DATE_BYTES])
{
	time_t seconds = time(NULL);
	struct tm utc;
	out[0] = 0;
	return gmtime_r(&seconds, &utc) && strftime(out, TT_DATE_BYTES, "%Y-%m-%dT%H:%M:%SZ", &utc) > 0;
}
