/* How library code reports an error: one call that fills the message and returns the code. */
#ifndef BASE_FAIL_H
#define BASE_FAIL_H

#include <stddef.h>

#include "base/tt_error.h"

/* Fills err (which may be NULL) and returns code, so that a failure is one statement:
 *     return tt_fail(err, TT_ERR_FORMAT, "%s: tensor %s has no data", path, name); */
int tt_fail(struct tt_error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* TT_ERR_IO for a file: "PATH: cannot VERB: " and the message of errno. */
int tt_fail_io(struct tt_error *err, const char *path, const char *verb);

/* Puts "PREFIX: " before the message that err holds, and returns its code. For a caller that knows the file name when
 * the callee knew only the field. */
int tt_fail_within(struct tt_error *err, const char *prefix);

/* TT_ERR_ARGUMENT when a caller gave NULL for the argument or field of that name; for a list, only when it should have
 * entries. */
int tt_need(const void *pointer, const char *name, struct tt_error *err);
int tt_need_list(const void *list, size_t n, const char *name, struct tt_error *err);

/* Returns status; where that is an error, puts "PREFIX: " before the message. */
int tt_within(int status, struct tt_error *err, const char *prefix);

/* Returns from the calling function with the code of a failed call. */
#define TT_TRY(call)                                                                                                   \
	do {                                                                                                           \
		int tt_try_ = (call);                                                                                  \
		if (tt_try_ != TT_OK)                                                                                  \
			return tt_try_;                                                                                \
	} while (0)

#endif
