/* Options structs that were compiled with another header than the library. */
#include "base/options.h"

#include <string.h>

#include "base/fail.h"

/* Far more than any struct has: a larger size was never set. */
enum { MAX_SIZE = 1 << 14 };

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

void tt_options_default(void *options, size_t size, const void *defaults, size_t n)
{
	if (!options || size < sizeof size)
		return;
	memset(options, 0, size);
	memcpy(options, defaults, smaller(size, n));
	memcpy(options, &size, sizeof size);
}

int tt_options_take(void *own, size_t n, const void *options, const char *name, struct tt_error *err)
{
	const unsigned char *bytes = options;
	size_t size;
	memcpy(&size, options, sizeof size);
	if (size < sizeof size || size > MAX_SIZE)
		return tt_fail(err, TT_ERR_ARGUMENT, "%s.size is %zu: it must be sizeof(struct %s)", name, size, name);
	for (size_t i = n; i < size; i++)
		if (bytes[i])
			return tt_fail(err, TT_ERR_UNSUPPORTED,
				"struct %s: byte %zu is not 0, and this library knows %zu bytes: the program was made "
				"with a newer one",
				name, i, n);
	memcpy(own, options, smaller(size, n));
	memcpy(own, &n, sizeof n);
	return TT_OK;
}
