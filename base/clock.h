/* Time: a steady clock to measure with, and the date to sign with. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdbool.h>

/* Seconds of a clock that only goes forward, from no particular moment on. */
double tt_now(void);

enum { TT_DATE_BYTES = 32 };

/* The present as 2025-01-31T12:00:00Z. False, with an empty text, when the system's clock shows no date. */
bool tt_date_now(char out[TT_DATE_BYTES]);

#endif
