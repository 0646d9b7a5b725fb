/* Sealed parts of a log as plain files, C2SP's tlog-tiles in the state folder: tile/entries/... with 256 entries each,
 * tile/LEVEL/... with 256 hashes each. */
#ifndef CONTROLLER_GOVERN_BUNDLE_H
#define CONTROLLER_GOVERN_BUNDLE_H

#include "base/memory.h"
#include "controller/govern/tree.h"

/* A bundle of entries: each its length, two bytes with the higher first, and its bytes. Zero-initialise it. */
struct tt_bundle {
	struct tt_buffer bytes;
	uint32_t n;
	uint32_t at[TT_TILE_WIDTH + 1]; // [n + 1] of each entry's length
};
void tt_bundle_free(struct tt_bundle *bundle);
/* Takes bytes apart, which may be anything; what names them in messages. */
int tt_bundle_parse(struct tt_bundle *bundle, const char *what, struct tt_error *err);
/* Adds an entry to bytes that will be a bundle. */
int tt_bundle_add(struct tt_buffer *bytes, const void *entry, size_t n, struct tt_error *err);
const char *tt_bundle_entry(const struct tt_bundle *bundle, uint32_t i, size_t *n);

/* Reads the bundle of an index from below a folder; it must have so many entries as width says. */
int tt_bundle_read(struct tt_bundle *out, const char *directory, uint64_t index, uint32_t width, struct tt_error *err);
/* Writes a tile below a folder, whose folders are made; a file that is there is written anew. */
int tt_tile_write(const char *directory, uint32_t level, uint64_t index, uint32_t width, const void *data, size_t n,
	struct tt_error *err);
/* Reads the hashes of a tile of n. */
int tt_tile_read(
	struct tt_hash *out, const char *directory, uint32_t level, uint64_t index, uint32_t n, struct tt_error *err);

#endif
