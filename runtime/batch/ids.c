#include "runtime/batch/ids.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "base/sha256.h"

/* The slot that holds the key, or the empty one where it belongs. Keys are digests, so they serve as their own hash. */
static size_t find(const struct tt_ids_seen *ids, uint64_t key)
{
	size_t slot = (size_t)key & (ids->capacity - 1);
	while (ids->slots[slot] && ids->slots[slot] != key)
		slot = (slot + 1) & (ids->capacity - 1);
	return slot;
}

static int grow(struct tt_ids_seen *ids, struct tt_error *err)
{
	struct tt_ids_seen larger = {.capacity = ids->capacity ? 2 * ids->capacity : 1024, .n = ids->n};
	TT_TRY(tt_alloc(&larger.slots, larger.capacity, sizeof *larger.slots, err));
	for (size_t i = 0; i < ids->capacity; i++)
		if (ids->slots[i])
			larger.slots[find(&larger, ids->slots[i])] = ids->slots[i];
	free(ids->slots);
	*ids = larger;
	return TT_OK;
}

static bool is_repeated(const struct tt_ids_seen *ids, uint64_t line)
{
	size_t low = 0, high = ids->n_repeated;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (ids->repeated[middle] < line)
			low = middle + 1;
		else
			high = middle;
	}
	return low < ids->n_repeated && ids->repeated[low] == line;
}

int tt_ids_seen_add(struct tt_ids_seen *ids, const char *id, uint64_t line, bool *earlier, struct tt_error *err)
{
	uint8_t digest[32];
	uint64_t key;
	*earlier = ids->is_known && is_repeated(ids, line);
	if (ids->is_known)
		return TT_OK;
	TT_TRY(tt_sha256_bytes(digest, id, strlen(id), err));
	memcpy(&key, digest, sizeof key);
	key += key == 0;
	if (2 * ids->n >= ids->capacity && ids->n < TT_MAX_IDS_SEEN)
		TT_TRY(grow(ids, err));
	size_t slot = find(ids, key);
	*earlier = ids->slots[slot] == key;
	if (*earlier || ids->n == TT_MAX_IDS_SEEN)
		return TT_OK;
	ids->slots[slot] = key;
	ids->n++;
	return TT_OK;
}

void tt_ids_seen_free(struct tt_ids_seen *ids)
{
	free(ids->slots);
	*ids = (struct tt_ids_seen){0};
}
