/* How library code reports an error: one call that fills the message and returns the code. */
#ifndef BASE_FAIL_H
#define BASE_FAIL_H

#include "tt_error.h"

/* Fills err (which may be NULL) and returns code, so that a failure is one statement:
 *     return tt_fail(err, TT_ERR_FORMAT, "%s: tensor %s has no data", path, name); */
int tt_fail(struct tt_error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Puts "PREFIX: " in front of a message that is already there, and returns its code. For a caller that knows
 * the file name when the callee knew only the field. */
int tt_fail_within(struct tt_error *err, const char *prefix);

/* status as it is, with "PREFIX: " in front of the message where it is an error. */
int tt_within(int status, struct tt_error *err, const char *prefix);

/* Returns from the calling function with the code of a failed call. */
#define TT_TRY(call)                                                                                                   \
	do {                                                                                                           \
		int tt_try_ = (call);                                                                                  \
		if (tt_try_ != TT_OK)                                                                                  \
			return tt_try_;                                                                                \
	} while (0)

#endif
