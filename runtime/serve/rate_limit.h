/* How many tokens a key may have within a minute and a day: windows that slide, so that no 60 seconds and no 24 hours
 * have more, wherever they begin. It knows no clock. */
#ifndef RUNTIME_SERVE_RATE_LIMIT_H
#define RUNTIME_SERVE_RATE_LIMIT_H

#include <stdint.h>

enum tt_rate_window { TT_A_MINUTE, TT_A_DAY, TT_N_RATE_WINDOWS };

enum { TT_RATE_SLOTS = 61 }; /* a window in sixty parts, and one that has not passed in full */

/* Of one key. Zero-initialise it. */
struct tt_rate_limit {
	uint64_t reserved; /* that requests may still come to, which have begun and not ended */
	struct {
		uint64_t slot;                  /* the newest, in slots since the clock began */
		uint64_t counts[TT_RATE_SLOTS]; /* tokens that were charged, by slot */
	} windows[TT_N_RATE_WINDOWS];
};

/* Milliseconds until the key may begin what comes to n tokens at most, as far as what has ended is in the way, and the
 * window that is in its way longest; a second where only what runs is; 0: it may now. limits: of each window, 0 for
 * none; none may be below n. now: in milliseconds, of a clock that never goes back. */
uint64_t tt_rate_wait(struct tt_rate_limit *rate, const uint32_t limits[TT_N_RATE_WINDOWS], uint64_t n, uint64_t now,
	enum tt_rate_window *window);
/* It begins that. */
void tt_rate_reserve(struct tt_rate_limit *rate, uint64_t n);
/* It has ended, and came to used. */
void tt_rate_charge(struct tt_rate_limit *rate, uint64_t reserved, uint64_t used, uint64_t now);

#endif
