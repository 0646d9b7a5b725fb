/* Base64 of RFC 4648, with padding and without line breaks. */
#ifndef BASE_BASE64_H
#define BASE_BASE64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/tt_error.h"

/* *out (free()) gets the terminated text of n bytes. */
int tt_base64(char **out, const void *data, size_t n, struct tt_error *err);
/* The bytes of n characters; *n_out of them, at most max. False for what tt_base64 does not write. */
bool tt_base64_parse(uint8_t *out, size_t max, size_t *n_out, const char *text, size_t n);

#endif
