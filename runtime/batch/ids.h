/* The custom_ids that were seen, so that a repeated one is refused. They are kept as 64 bits of their SHA-256, which
 * two of a million ids do not share by accident. Memory is bounded: only the first million ids are kept, so later ids
 * are compared with those, but not with each other. */
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
	/* Where all lines were looked at before: the numbers of those whose id an earlier line has, ascending. Then ids
	 * are not kept. */
	bool is_known;
	const uint64_t *repeated; // [n_repeated] borrowed
	size_t n_repeated;
};

/* Sets *earlier to whether an earlier line has the id, and adds it if there is room. line: the number of its line. */
int tt_ids_seen_add(struct tt_ids_seen *ids, const char *id, uint64_t line, bool *earlier, struct tt_error *err);
void tt_ids_seen_free(struct tt_ids_seen *ids);

#endif
