/* SHA-256, by libcrypto. */
#ifndef BASE_SHA256_H
#define BASE_SHA256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/tt_error.h"

/* The digest of n bytes of data. TT_ERR_MEMORY where libcrypto has no memory, or no such digest. */
int tt_sha256_bytes(uint8_t out[32], const void *data, size_t n, struct tt_error *err);
/* The digest as 64 lower-case hexadecimal digits and a 0. */
int tt_sha256(char out[65], const void *data, size_t n, struct tt_error *err);
/* Whether two digests are the same, in a time that does not say where they differ. */
bool tt_sha256_equal(const uint8_t a[32], const uint8_t b[32]);
/* The digest of a regular file, read piece by piece; *size gets the file's size in bytes. TT_ERR_IO where it cannot be
 * read. */
int tt_sha256_file(char out[65], const char *path, uint64_t *size, struct tt_error *err);

#endif
