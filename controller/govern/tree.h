/* The Merkle tree of RFC 6962, SHA-256: what is appended, its root, and proofs about it. Knows no file and no database:
 * hashes that were stored come through a reader.
 *
 * Stored are hashes of levels. One of level k is the root of 256^k leaves; those of level 0 are the leaves' own. So a
 * level has one hash for 256 of the one before, and each 256 of a level are a tile of C2SP's tlog-tiles. */
#ifndef CONTROLLER_GOVERN_TREE_H
#define CONTROLLER_GOVERN_TREE_H

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/tt_error.h"

enum {
	TT_TILE_HEIGHT = 8,
	TT_TILE_WIDTH = 1 << TT_TILE_HEIGHT,
	TT_TREE_HEIGHT = 48,                  /* a tree has fewer than 2^48 leaves */
	TT_TREE_LEVELS = 6,                   /* of which hashes are stored */
	TT_PROOF_HASHES = TT_TREE_HEIGHT + 1, /* of a proof, at most */
	TT_TILE_PATH_BYTES = 64,
};

struct tt_hash {
	uint8_t bytes[32];
};

bool tt_hash_equal(const struct tt_hash *a, const struct tt_hash *b);

/* Makes hashes, one after another. That libcrypto failed is remembered: look at failed before a hash is used. */
struct tt_hasher {
	EVP_MD_CTX *context;
	EVP_MD *digest;
	bool failed;
};
int tt_hasher_open(struct tt_hasher *out, struct tt_error *err);
void tt_hasher_close(struct tt_hasher *hasher);
/* TT_ERR_MEMORY if any hash since it was opened could not be made. */
int tt_hasher_check(const struct tt_hasher *hasher, struct tt_error *err);

void tt_hash_leaf(struct tt_hasher *hasher, struct tt_hash *out, const void *data, size_t n);
void tt_hash_node(
	struct tt_hasher *hasher, struct tt_hash *out, const struct tt_hash *left, const struct tt_hash *right);

/* A tree as far as appending needs it: the roots of its perfect subtrees, the largest first, one for each bit of
 * size. Zero-initialise it: the empty tree. */
struct tt_tree {
	uint64_t size;
	struct tt_hash roots[TT_TREE_HEIGHT];
};
uint32_t tt_tree_n_roots(uint64_t size);
/* Appends a leaf. made: gets the hashes of level 1 and more that this completes, in ascending order; or NULL.
 * TT_ERR_LIMIT for a full tree. */
typedef int (*tt_tree_made_fn)(
	void *user, uint32_t level, uint64_t index, const struct tt_hash *hash, struct tt_error *err);
int tt_tree_append(struct tt_tree *tree, struct tt_hasher *hasher, const struct tt_hash *leaf, tt_tree_made_fn made,
	void *user, struct tt_error *err);
/* That of the empty tree is the digest of nothing. */
void tt_tree_root(const struct tt_tree *tree, struct tt_hasher *hasher, struct tt_hash *out);

/* Reads n hashes, at most 256, of a level from an index on. */
typedef int (*tt_tree_read_fn)(
	void *user, uint32_t level, uint64_t from, uint32_t n, struct tt_hash *out, struct tt_error *err);
struct tt_tree_reader {
	tt_tree_read_fn read;
	void *user;
	struct tt_hasher *hasher;
};
struct tt_proof {
	struct tt_hash hashes[TT_PROOF_HASHES]; // [n]
	uint32_t n;
};
/* The root that the tree had at a size. */
int tt_tree_root_at(struct tt_hash *out, const struct tt_tree_reader *reader, uint64_t size, struct tt_error *err);
/* That leaf index is in the tree of a size; that the tree of size old is the beginning of the one of size. */
int tt_tree_prove_inclusion(
	struct tt_proof *out, const struct tt_tree_reader *reader, uint64_t index, uint64_t size, struct tt_error *err);
int tt_tree_prove_consistency(
	struct tt_proof *out, const struct tt_tree_reader *reader, uint64_t old, uint64_t size, struct tt_error *err);

/* Whether a proof holds. What it is made of may be anything. */
bool tt_tree_check_inclusion(struct tt_hasher *hasher, const struct tt_proof *proof, uint64_t index, uint64_t size,
	const struct tt_hash *leaf, const struct tt_hash *root);
bool tt_tree_check_consistency(struct tt_hasher *hasher, const struct tt_proof *proof, uint64_t old, uint64_t size,
	const struct tt_hash *old_root, const struct tt_hash *root);

/* The path of a tile in tlog-tiles, "tile/1/x001/234.p/5": of a level's hashes, or for level TT_TILE_ENTRIES of the
 * entries themselves; width: how many it has, 256 for a full one. Reads one: false for what is no such path. */
enum { TT_TILE_ENTRIES = 64 };
void tt_tile_path(char out[TT_TILE_PATH_BYTES], uint32_t level, uint64_t index, uint32_t width);
bool tt_tile_parse(const char *path, uint32_t *level, uint64_t *index, uint32_t *width);

#endif
