/* The custom_ids that were seen, so that a second one is refused: by 64 bits of their SHA-256, which no million ids share
 * by accident. Memory is bounded: ids behind the first million are held against those, but not against each other. */
#ifndef RUNTIME_BATCH_IDS_H
#define RUNTIME_BATCH_IDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/tt_error.h"

enum { TT_MAX_IDS_SEEN = 1 << 20 };

struct tt_ids_seen {
	uint64_t *slots; // [capacity], 0 for an empty one; at most half are full
	size_t capacity, n;
};

/* *earlier: it was there already. */
int tt_ids_seen_add(struct tt_ids_seen *ids, const char *id, bool *earlier, struct tt_error *err);
void tt_ids_seen_free(struct tt_ids_seen *ids);

#endif
