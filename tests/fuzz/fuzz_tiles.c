/* Paths of tiles, bundles of entries, and proofs: the first byte says which. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "controller/govern/bundle.h"
#include "controller/govern/log_proof.h"
#include "target.h"

static void parse_path(const uint8_t *data, size_t n)
{
	char path[256], again[TT_TILE_PATH_BYTES];
	uint32_t level, width;
	uint64_t index;
	if (n >= sizeof path)
		return;
	memcpy(path, data, n);
	path[n] = 0;
	if (!tt_tile_parse(path, &level, &index, &width))
		return;
	tt_tile_path(again, level, index, width);
	if (strcmp(again, path) != 0 || width == 0 || width > TT_TILE_WIDTH || strstr(path, ".."))
		abort();
}

/* What is taken apart is, put together, the same. */
static void parse_bundle(const uint8_t *data, size_t n)
{
	struct tt_bundle bundle = {0};
	struct tt_buffer again = {0};
	if (tt_buffer_add(&bundle.bytes, data, n, NULL) != TT_OK)
		abort();
	if (tt_bundle_parse(&bundle, "it", NULL) == TT_OK) {
		for (uint32_t i = 0; i < bundle.n; i++) {
			size_t n_entry;
			const char *entry = tt_bundle_entry(&bundle, i, &n_entry);
			if (tt_bundle_add(&again, entry, n_entry, NULL) != TT_OK)
				abort();
		}
		if (again.len != n || (n && memcmp(again.data, data, n) != 0))
			abort();
	}
	tt_buffer_free(&again);
	tt_bundle_free(&bundle);
}

static void check_proof(const uint8_t *data, size_t n)
{
	static const uint8_t seed[32] = {1};
	struct tt_signer signer;
	struct tt_checkpoint checkpoint;
	json_t *proof;
	if (tt_json_parse(&proof, (const char *)data, n, "it", NULL) != TT_OK)
		return;
	if (tt_signer_make(&signer, "example.org/log", seed, NULL) != TT_OK)
		abort();
	(void)tt_log_check_proof(proof, &signer.verifier, &checkpoint, NULL);
	json_decref(proof);
}

/* Of a tree of seven leaves. A proof that holds has the hashes of that tree, whatever numbers are said beside it: a
 * checkpoint binds the size, not the proof. */
static void check_hashes(const uint8_t *data, size_t n)
{
	struct tt_hasher hasher;
	struct tt_tree tree = {0};
	struct tt_hash leaves[7], root;
	struct tt_proof proof = {.n = 0};
	if (n < 2 || tt_hasher_open(&hasher, NULL) != TT_OK)
		return;
	for (uint8_t i = 0; i < 7; i++) {
		tt_hash_leaf(&hasher, &leaves[i], &i, 1);
		if (tt_tree_append(&tree, &hasher, &leaves[i], NULL, NULL, NULL) != TT_OK)
			abort();
	}
	tt_tree_root(&tree, &hasher, &root);
	for (size_t at = 2; at + 32 <= n && proof.n < TT_PROOF_HASHES; at += 32)
		memcpy(&proof.hashes[proof.n++], data + at, 32);
	if (tt_tree_check_inclusion(&hasher, &proof, data[0], data[1], &leaves[data[0] % 7], &root) && proof.n != 2 &&
		proof.n != 3)
		abort();
	if (tt_tree_check_consistency(&hasher, &proof, data[0], data[1], &leaves[0], &root) && proof.n != 3)
		abort();
	tt_hasher_close(&hasher);
}

void fuzz_one(const uint8_t *data, size_t size)
{
	if (size == 0)
		return;
	data++;
	size--;
	switch (data[-1]) {
	case 'p':
		parse_path(data, size);
		break;
	case 'b':
		parse_bundle(data, size);
		break;
	case 'j':
		check_proof(data, size);
		break;
	default:
		check_hashes(data, size);
	}
}
