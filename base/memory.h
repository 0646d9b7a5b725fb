/* Checked allocation and a growable byte buffer. Every allocation of the library goes through here, so that its
 * size is checked before it is made and a test can make any one of them fail. */
#ifndef BASE_MEMORY_H
#define BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/tt_error.h"

/* a * b and a + b; false, with *out untouched, when the result does not fit. */
bool tt_mul_size(size_t a, size_t b, size_t *out);
bool tt_add_size(size_t a, size_t b, size_t *out);

/* count elements of size bytes, zeroed, aligned for any type; release with free(). count 0 gives a valid pointer. */
int tt_alloc(void *out_pointer, size_t count, size_t size, struct tt_error *err);

/* Like tt_alloc, aligned to 64 bytes (a cache line and the widest vector); release with free(). */
int tt_alloc_aligned(void *out_pointer, size_t count, size_t size, struct tt_error *err);

/* Grows *pointer (of *capacity elements of size bytes) to hold at least needed, doubling; new bytes are not zeroed.
 * On failure the old array stays valid. */
int tt_grow(void *pointer, size_t *capacity, size_t needed, size_t size, struct tt_error *err);

/* A copy of n bytes, with a terminating 0; release with free(). */
int tt_copy_string(char **out, const char *text, size_t n, struct tt_error *err);

/* Whether text ends with end. */
bool tt_ends_with(const char *text, const char *end);

/* A growable byte string. data is terminated by a 0 that len does not count (or NULL while nothing was added).
 * Zero-initialise it. */
struct tt_buffer {
	char *data;
	size_t len, capacity;
};

/* Append n bytes, or formatted text. On failure (TT_ERR_MEMORY, or TT_ERR_FORMAT for a format that
 * cannot be printed) the content is unchanged. */
int tt_buffer_add(struct tt_buffer *buffer, const void *data, size_t n, struct tt_error *err);
int tt_buffer_print(struct tt_buffer *buffer, struct tt_error *err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Releases the memory and leaves an empty buffer. */
void tt_buffer_free(struct tt_buffer *buffer);

#endif
