#include "runtime/serve/rate_limit.h"

#include <string.h>

static const uint64_t slot_times[TT_N_RATE_WINDOWS] = {1000, 24 * 60 * 1000}; /* milliseconds */

/* Moves the windows up to now: what has left them is forgotten. */
static void move(struct tt_rate_limit *rate, uint64_t now)
{
	for (int w = 0; w < TT_N_RATE_WINDOWS; w++) {
		uint64_t slot = now / slot_times[w], n = slot - rate->windows[w].slot;
		for (uint64_t i = 0; i < n && i < TT_RATE_SLOTS; i++)
			rate->windows[w].counts[(slot - i) % TT_RATE_SLOTS] = 0;
		rate->windows[w].slot = slot;
	}
}

/* How long until the oldest have left of which at most limit may stay beside n. What is reserved is given back for what
 * it came to, so it is not waited for as long as for what stays in the window. */
static uint64_t wait_for(
	const struct tt_rate_limit *rate, enum tt_rate_window w, uint64_t limit, uint64_t n, uint64_t now)
{
	uint64_t slot = rate->windows[w].slot, sum = n;
	for (uint64_t age = 0; age < TT_RATE_SLOTS; age++) {
		/* The slots down to this one fit; if it does not, it must have left. */
		uint64_t count = age <= slot ? rate->windows[w].counts[(slot - age) % TT_RATE_SLOTS] : 0;
		sum += count;
		if (sum > limit && count)
			return (slot - age + TT_RATE_SLOTS) * slot_times[w] - now;
	}
	return sum + rate->reserved > limit ? slot_times[TT_A_MINUTE] : 0; /* until something has ended: soon */
}

uint64_t tt_rate_wait(struct tt_rate_limit *rate, const uint32_t limits[TT_N_RATE_WINDOWS], uint64_t n, uint64_t now,
	enum tt_rate_window *window)
{
	uint64_t longest = 0;
	move(rate, now);
	for (int w = 0; w < TT_N_RATE_WINDOWS; w++) {
		uint64_t wait = limits[w] ? wait_for(rate, w, limits[w], n, now) : 0;
		if (wait > longest) {
			longest = wait;
			*window = w;
		}
	}
	return longest;
}

void tt_rate_reserve(struct tt_rate_limit *rate, uint64_t n)
{
	rate->reserved += n;
}

void tt_rate_charge(struct tt_rate_limit *rate, uint64_t reserved, uint64_t used, uint64_t now)
{
	move(rate, now);
	rate->reserved -= reserved;
	for (int w = 0; w < TT_N_RATE_WINDOWS; w++)
		rate->windows[w].counts[rate->windows[w].slot % TT_RATE_SLOTS] += used;
}
