/* Time: a steady clock for measuring, and the date for reports. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdbool.h>

/* Seconds of a clock that never goes back, counted from an arbitrary moment. */
double tt_now(void);

/* Leaves the processor for so long, or until a signal comes: who waits for something asks again. */
void tt_sleep(double seconds);

enum { TT_DATE_BYTES = 32 };

/* The current time as 2025-01-31T12:00:00Z. False, with an empty text, when the system's clock has no valid date. */
bool tt_date_now(char out[TT_DATE_BYTES]);

#endif
