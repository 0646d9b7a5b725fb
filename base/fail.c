#include "base/fail.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int tt_fail(struct tt_error *err, int code, const char *format, ...)
{
	if (err) {
		va_list args;
		va_start(args, format);
		vsnprintf(err->message, sizeof err->message, format, args);
		va_end(args);
		err->code = code;
		/* Names come from files that nobody vouches for: one line, and nothing that a terminal would obey. */
		for (char *c = err->message; *c; c++)
			if ((unsigned char)*c < 0x20 || *c == 0x7f)
				*c = '?';
	}
	return code;
}

int tt_fail_within(struct tt_error *err, const char *prefix)
{
	if (!err)
		return TT_ERR_FORMAT;
	struct tt_error inner = *err;
	return tt_fail(err, inner.code, "%s: %s", prefix, inner.message);
}

int tt_within(int status, struct tt_error *err, const char *prefix)
{
	if (status != TT_OK)
		tt_fail_within(err, prefix);
	return status;
}
