/* Limits of tokens a minute and a day, against a list of all that was ever used, which is looked through whole. */
#include <criterion/criterion.h>

#include "random.h"
#include "runtime/serve/rate_limit.h"

enum { MAX = 4096 };

#define RUNS (UINT64_MAX / 2) /* the end of what has not ended */

/* A request as it was: from when to when it ran, and the tokens that it came to. */
struct run {
	uint64_t begun, ended, reserved, used;
};

/* Tokens that were made within `length` up to the moment `at`, at most: those of every request that ran in it. */
static uint64_t used_within(const struct run *runs, size_t n, uint64_t at, uint64_t length)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < n; i++)
		if (runs[i].begun <= at && runs[i].ended + length > at)
			sum += runs[i].ended <= at ? runs[i].used : runs[i].reserved;
	return sum;
}

/* Requests come and end at random; none begins where the list has more than the limit, and none waits where the list,
 * of a sixtieth more time, has room. */
static void simulate(uint64_t seed, uint64_t pace, const uint32_t limits[TT_N_RATE_WINDOWS])
{
	static const uint64_t lengths[] = {60 * 1000, 24 * 3600 * 1000};
	static struct run runs[MAX];
	struct tt_rate_limit rate = {0};
	uint64_t now = 5000 + seed;
	size_t n = 0, n_refused = 0;
	while (n < MAX) {
		enum tt_rate_window window = TT_N_RATE_WINDOWS;
		now += next_random(&seed) % pace;
		for (size_t i = n > 64 ? n - 64 : 0; i < n; i++) { /* the others have ended */
			if (runs[i].ended == RUNS && (next_random(&seed) % 4 == 0 || i + 60 < n)) {
				runs[i].ended = now;
				tt_rate_charge(&rate, runs[i].reserved, runs[i].used, now);
			}
		}
		uint64_t longest = 1 + next_random(&seed) % 90;
		uint64_t wait = tt_rate_wait(&rate, limits, longest, now, &window);
		bool fits = true, fits_longer = true;
		for (int w = 0; w < TT_N_RATE_WINDOWS; w++) {
			fits = fits && (!limits[w] || used_within(runs, n, now, lengths[w]) + longest <= limits[w]);
			fits_longer =
				fits_longer &&
				(!limits[w] || used_within(runs, n, now, lengths[w] / 60 * 61) + longest <= limits[w]);
		}
		cr_assert(wait > 0 || fits, "it begins beyond its limit");
		cr_assert(wait == 0 || !fits_longer, "it waits for %llu where there is room", (unsigned long long)wait);
		cr_assert(wait == 0 || (window < TT_N_RATE_WINDOWS && limits[window]), "no window is in the way");
		if (wait == 0) {
			tt_rate_reserve(&rate, longest);
			runs[n++] = (struct run){now, RUNS, longest, next_random(&seed) % (longest + 1)};
		} else {
			n_refused++;
		}
		if (rate.reserved == 0 && wait > 0) { /* what it was told is when it may */
			struct tt_rate_limit copy = rate;
			cr_assert(
				tt_rate_wait(&copy, limits, longest, now + wait, &window) == 0, "not when it was told");
			copy = rate;
			cr_assert(tt_rate_wait(&copy, limits, longest, now + wait - 1, &window) > 0,
				"it could have been sooner");
		}
	}
	cr_assert(n_refused > MAX / 8, "nothing was refused");
}

Test(rate_limit, no_window_has_more_than_its_limit)
{
	simulate(1, 8000, (uint32_t[]){400, 0});
	simulate(2, 100000, (uint32_t[]){150, 0});
	simulate(3, 600000, (uint32_t[]){0, 3000});
	simulate(4, 200000, (uint32_t[]){120, 9000});
}

/* A day's charge that may stay is not waited for where what runs is in the way, which will be given back. */
Test(rate_limit, what_runs_is_waited_for_a_second)
{
	const uint32_t limits[] = {0, 450};
	struct tt_rate_limit rate = {0};
	enum tt_rate_window window = TT_N_RATE_WINDOWS;
	tt_rate_reserve(&rate, 6);
	tt_rate_charge(&rate, 6, 6, 1000);
	tt_rate_reserve(&rate, 444);
	cr_expect_eq(tt_rate_wait(&rate, limits, 5, 2000, &window), 1000);
	cr_expect_eq(window, TT_A_DAY);
	/* Where what was charged must leave whatever runs, its time is told. */
	cr_expect_eq(tt_rate_wait(&rate, limits, 445, 2000, &window), 61ull * 24 * 60 * 1000 - 2000);
	tt_rate_charge(&rate, 444, 10, 3000);
	cr_expect_eq(tt_rate_wait(&rate, limits, 5, 3000, &window), 0);
}

Test(rate_limit, a_pause_empties_it_and_the_first_moment_is_like_any)
{
	const uint32_t limits[] = {10, 20};
	struct tt_rate_limit rate = {0};
	enum tt_rate_window window;
	cr_expect(tt_rate_wait(&rate, limits, 10, 0, &window) == 0);
	tt_rate_reserve(&rate, 10);
	tt_rate_charge(&rate, 10, 10, 999);
	cr_expect(tt_rate_wait(&rate, limits, 1, 999, &window) == 61000 - 999);
	cr_expect(window == TT_A_MINUTE);
	cr_expect(tt_rate_wait(&rate, limits, 10, 61000, &window) == 0);
	tt_rate_charge(&rate, 0, 10, 61000);
	cr_expect(tt_rate_wait(&rate, limits, 1, 200000, &window) == 61ull * 24 * 60 * 1000 - 200000);
	cr_expect(window == TT_A_DAY);
	cr_expect(tt_rate_wait(&rate, limits, 10, 1ull << 60, &window) == 0);
}
