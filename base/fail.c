#include "base/fail.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

/* Names come from files that nobody vouches for: makes the message one line, without anything that a terminal would
 * obey. A byte that is not UTF-8 is judged by its own value, as a terminal without UTF-8 does. */
static void tame(char *message)
{
	size_t n = strlen(message);
	for (size_t i = 0; i < n;) {
		uint32_t c = (unsigned char)message[i];
		size_t length = tt_utf8_decode(message + i, n - i, &c);
		length = length ? length : 1;
		if (tt_utf8_is_control(c))
			memset(message + i, '?', length);
		i += length;
	}
}

int tt_fail(struct tt_error *err, int code, const char *format, ...)
{
	if (err) {
		va_list args;
		va_start(args, format);
		vsnprintf(err->message, sizeof err->message, format, args);
		va_end(args);
		err->code = code;
		tame(err->message);
	}
	return code;
}

int tt_fail_io(struct tt_error *err, const char *path, const char *verb)
{
	return tt_fail(err, TT_ERR_IO, "%s: cannot %s: %s", path, verb, strerror(errno));
}

int tt_fail_within(struct tt_error *err, const char *prefix)
{
	if (!err)
		return TT_ERR_FORMAT;
	struct tt_error inner = *err;
	return tt_fail(err, inner.code, "%s: %s", prefix, inner.message);
}

int tt_need(const void *pointer, const char *name, struct tt_error *err)
{
	return pointer ? TT_OK : tt_fail(err, TT_ERR_ARGUMENT, "%s must not be NULL", name);
}

int tt_need_list(const void *list, size_t n, const char *name, struct tt_error *err)
{
	return list || n == 0 ? TT_OK : tt_fail(err, TT_ERR_ARGUMENT, "%s is NULL, but should hold %zu", name, n);
}

int tt_within(int status, struct tt_error *err, const char *prefix)
{
	if (status != TT_OK)
		tt_fail_within(err, prefix);
	return status;
}
