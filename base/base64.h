/* Base64 of RFC 4648, with padding and without line breaks. */
#ifndef BASE_BASE64_H
#define BASE_BASE64_H

#include <stddef.h>

#include "base/tt_error.h"

/* *out (free()) gets the terminated text of n bytes. */
int tt_base64(char **out, const void *data, size_t n, struct tt_error *err);

#endif
