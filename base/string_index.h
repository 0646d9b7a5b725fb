/* An index of byte strings: open addressing over an array that the caller owns. */
#ifndef BASE_STRING_INDEX_H
#define BASE_STRING_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/tt_error.h"

struct tt_span {
	const char *data; /* not terminated */
	size_t len;
};

/* Hashes of a number and of n bytes; the same in every process. */
uint64_t tt_hash_u64(uint64_t value);
uint64_t tt_hash_bytes(const void *data, size_t n);

/* A table is at most half full, so that a probe takes few steps. The hash has no secret, so a file can be made whose
 * keys collide; past this many steps it is refused rather than waited for. */
enum { TT_HASH_MAX_PROBES = 1024 };

/* The number of slots of a table for n keys: a power of two, at least 2 n. False when it does not fit. */
bool tt_hash_slots(size_t n, size_t *out);

struct tt_span_index {
	uint32_t *slots; /* [mask + 1], position in the array + 1, or 0 */
	size_t mask;
};

/* Allocates a table for n strings. */
int tt_span_index_init(struct tt_span_index *index, size_t n, struct tt_error *err);
void tt_span_index_free(struct tt_span_index *index);

/* Adds spans[i]. *earlier is the position that already has these bytes (then i is not added), or -1. */
int tt_span_index_add(
	struct tt_span_index *index, const struct tt_span *spans, size_t i, int32_t *earlier, struct tt_error *err);
/* The position of these n bytes, or -1. */
int32_t tt_span_index_find(const struct tt_span_index *index, const struct tt_span *spans, const void *data, size_t n);

#endif
