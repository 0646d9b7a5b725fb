/* The Merkle tree against Go's (scripts/goldens/make_log_goldens.go): roots, proofs, paths; and proofs that must not
 * hold. */
#include "base/hex.h"
#include "base/json.h"
#include "controller/govern/tree.h"
#include "golden.h"

enum { LEAVES = 66000, LEVELS = 3 };

struct world {
	struct tt_hasher hasher;
	struct tt_tree tree;
	struct tt_hash *levels[LEVELS]; // [n_levels]
	uint64_t n_levels[LEVELS];
	struct tt_hash roots[LEAVES + 1];
	json_t *golden;
	struct tt_tree_reader reader;
};

static int keep(void *user, uint32_t level, uint64_t index, const struct tt_hash *hash, struct tt_error *err)
{
	struct world *w = user;
	(void)err;
	cr_assert(level < LEVELS && index == w->n_levels[level], "hash %zu of level %u", (size_t)index, level);
	w->levels[level][w->n_levels[level]++] = *hash;
	return TT_OK;
}

static int give(void *user, uint32_t level, uint64_t from, uint32_t n, struct tt_hash *out, struct tt_error *err)
{
	struct world *w = user;
	(void)err;
	cr_assert(level < LEVELS && n <= TT_TILE_WIDTH && from + n <= w->n_levels[level], "read %zu + %u of level %u",
		(size_t)from, n, level);
	memcpy(out, w->levels[level] + from, n * sizeof *out);
	return TT_OK;
}

static struct world *make(void)
{
	struct world *w = calloc(1, sizeof *w);
	must(tt_hasher_open(&w->hasher, err));
	w->reader = (struct tt_tree_reader){give, w, &w->hasher};
	for (int i = 0; i < LEVELS; i++)
		w->levels[i] = calloc(LEAVES, sizeof **w->levels);
	must(tt_json_load(&w->golden, GOLDEN("log/tree.json"), 1 << 24, err));
	tt_tree_root(&w->tree, &w->hasher, &w->roots[0]);
	for (uint64_t i = 0; i < LEAVES; i++) {
		char text[32];
		int n = snprintf(text, sizeof text, "entry %zu", (size_t)i);
		struct tt_hash *leaf = &w->levels[0][w->n_levels[0]++];
		tt_hash_leaf(&w->hasher, leaf, text, (size_t)n);
		must(tt_tree_append(&w->tree, &w->hasher, leaf, keep, w, err));
		tt_tree_root(&w->tree, &w->hasher, &w->roots[i + 1]);
	}
	return w;
}

static void unmake(struct world *w)
{
	for (int i = 0; i < LEVELS; i++)
		free(w->levels[i]);
	json_decref(w->golden);
	tt_hasher_close(&w->hasher);
	free(w);
}

static uint64_t number(const json_t *object, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(object, key));
}

static struct tt_hash hash_of(const json_t *text)
{
	struct tt_hash hash;
	cr_assert(tt_hex_parse(hash.bytes, 32, json_string_value(text), json_string_length(text)));
	return hash;
}

static void check_hashes(const struct tt_proof *proof, const json_t *golden)
{
	const json_t *list = json_object_get(golden, "hashes");
	cr_assert_eq(proof->n, json_array_size(list), "%zu of %zu: %u hashes", (size_t)number(golden, "index"),
		(size_t)number(golden, "size"), proof->n);
	for (uint32_t i = 0; i < proof->n; i++) {
		struct tt_hash want = hash_of(json_array_get(list, i));
		cr_assert(tt_hash_equal(&proof->hashes[i], &want), "hash %u", i);
	}
}

Test(govern_tree, roots_are_those_of_go)
{
	struct world *w = make();
	size_t i;
	const json_t *row;
	json_array_foreach(json_object_get(w->golden, "roots"), i, row)
	{
		struct tt_hash want = hash_of(json_object_get(row, "root")), got;
		uint64_t size = number(row, "size");
		cr_assert(tt_hash_equal(&w->roots[size], &want), "the root of %zu", (size_t)size);
		must(tt_tree_root_at(&got, &w->reader, size, err));
		cr_assert(tt_hash_equal(&got, &want), "the root of %zu, read", (size_t)size);
	}
	unmake(w);
}

Test(govern_tree, proofs_are_those_of_go_and_hold)
{
	struct world *w = make();
	struct tt_proof proof;
	size_t i;
	const json_t *row;
	json_array_foreach(json_object_get(w->golden, "inclusion"), i, row)
	{
		uint64_t index = number(row, "index"), size = number(row, "size");
		must(tt_tree_prove_inclusion(&proof, &w->reader, index, size, err));
		check_hashes(&proof, row);
		cr_assert(tt_tree_check_inclusion(
			&w->hasher, &proof, index, size, &w->levels[0][index], &w->roots[size]));
	}
	json_array_foreach(json_object_get(w->golden, "consistency"), i, row)
	{
		uint64_t old = number(row, "index"), size = number(row, "size");
		must(tt_tree_prove_consistency(&proof, &w->reader, old, size, err));
		check_hashes(&proof, row);
		cr_assert(tt_tree_check_consistency(&w->hasher, &proof, old, size, &w->roots[old], &w->roots[size]));
	}
	unmake(w);
}

/* Every proof of every small tree; and none with another index, size, leaf, root or hash, or one more or fewer. */
Test(govern_tree, changed_proofs_do_not_hold)
{
	enum { MOST = 40 };
	struct world *w = make();
	struct tt_proof proof, changed;
	for (uint64_t size = 1; size <= MOST; size++) {
		for (uint64_t index = 0; index < size; index++) {
			const struct tt_hash *leaf = &w->levels[0][index], *root = &w->roots[size];
			must(tt_tree_prove_inclusion(&proof, &w->reader, index, size, err));
			cr_assert(tt_tree_check_inclusion(&w->hasher, &proof, index, size, leaf, root));
			for (uint64_t other = 0; other <= size; other++)
				cr_assert(other == index ||
					  !tt_tree_check_inclusion(&w->hasher, &proof, other, size, leaf, root));
			cr_assert(!tt_tree_check_inclusion(&w->hasher, &proof, index, size, root, leaf) || size == 1);
			cr_assert(!tt_tree_check_inclusion(&w->hasher, &proof, index, size, leaf, &w->roots[size + 1]));
			for (uint32_t i = 0; i < proof.n; i++) {
				changed = proof;
				changed.hashes[i].bytes[i % 32] ^= 1;
				cr_assert(!tt_tree_check_inclusion(&w->hasher, &changed, index, size, leaf, root));
			}
			changed = proof;
			changed.n++;
			changed.hashes[proof.n] = *leaf;
			cr_assert(!tt_tree_check_inclusion(&w->hasher, &changed, index, size, leaf, root));
			changed.n = proof.n - 1;
			cr_assert(proof.n == 0 ||
				  !tt_tree_check_inclusion(&w->hasher, &changed, index, size, leaf, root));
		}
		for (uint64_t old = 0; old <= size; old++) {
			const struct tt_hash *before = &w->roots[old], *root = &w->roots[size];
			must(tt_tree_prove_consistency(&proof, &w->reader, old, size, err));
			cr_assert(tt_tree_check_consistency(&w->hasher, &proof, old, size, before, root));
			for (uint64_t other = 0; other <= size + 1; other++)
				cr_assert(other == old ||
					  !tt_tree_check_consistency(&w->hasher, &proof, other, size, before, root));
			cr_assert(!tt_tree_check_consistency(&w->hasher, &proof, old, size, &w->roots[old + 1], root));
			/* That the empty tree is the beginning of any other says nothing of the other's root. */
			cr_assert(old == 0 || !tt_tree_check_consistency(
						      &w->hasher, &proof, old, size, before, &w->roots[size + 1]));
			for (uint32_t i = 0; i < proof.n; i++) {
				changed = proof;
				changed.hashes[i].bytes[i % 32] ^= 1;
				cr_assert(!tt_tree_check_consistency(&w->hasher, &changed, old, size, before, root));
			}
		}
	}
	unmake(w);
}

Test(govern_tree, what_is_not_in_a_tree_is_refused)
{
	struct world *w = make();
	struct tt_proof proof = {.n = TT_PROOF_HASHES + 1};
	struct tt_hash hash;
	cr_assert_eq(tt_tree_prove_inclusion(&proof, &w->reader, 5, 5, NULL), TT_ERR_ARGUMENT);
	cr_assert_eq(tt_tree_prove_consistency(&proof, &w->reader, 6, 5, NULL), TT_ERR_ARGUMENT);
	cr_assert_eq(tt_tree_prove_inclusion(&proof, &w->reader, 0, UINT64_MAX, NULL), TT_ERR_ARGUMENT);
	cr_assert_eq(tt_tree_root_at(&hash, &w->reader, UINT64_C(1) << TT_TREE_HEIGHT, NULL), TT_ERR_ARGUMENT);
	proof.n = TT_PROOF_HASHES + 1;
	cr_assert(!tt_tree_check_inclusion(&w->hasher, &proof, 0, 2, &w->roots[0], &w->roots[1]));
	cr_assert(!tt_tree_check_consistency(&w->hasher, &proof, 1, 2, &w->roots[0], &w->roots[1]));
	w->tree.size = (UINT64_C(1) << TT_TREE_HEIGHT) - 1;
	cr_assert_eq(tt_tree_append(&w->tree, &w->hasher, &hash, NULL, NULL, NULL), TT_ERR_LIMIT);
	unmake(w);
}

Test(govern_tree, paths_are_those_of_go)
{
	json_t *golden;
	size_t i;
	const json_t *row;
	must(tt_json_load(&golden, GOLDEN("log/tree.json"), 1 << 24, err));
	json_array_foreach(json_object_get(golden, "paths"), i, row)
	{
		char path[TT_TILE_PATH_BYTES];
		uint32_t level, width;
		uint64_t index;
		const char *want = json_string_value(json_object_get(row, "path"));
		tt_tile_path(
			path, (uint32_t)number(row, "level"), number(row, "index"), (uint32_t)number(row, "width"));
		cr_assert_str_eq(path, want);
		cr_assert(tt_tile_parse(want, &level, &index, &width), "%s", want);
		cr_assert(
			level == number(row, "level") && index == number(row, "index") && width == number(row, "width"),
			"%s", want);
	}
	json_decref(golden);
}

Test(govern_tree, there_is_one_path_for_a_tile)
{
	static const char *const wrong[] = {"", "tile", "tile/", "tile/0", "tile/0/", "tile/0/0", "tile/0/00",
		"tile/0/0000", "tile/00/000", "tile/64/000", "tile/0/x000/000", "tile/0/x001", "tile/0/x001/",
		"tile/0/001/001", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/05", "tile/0/000.p/",
		"tile/0/000.p/5/", "tile/0/000/", "/tile/0/000", "tile/entries", "tile/entries/", "tile/entries/0",
		"tile/entries/../000", "tile/-1/000", "tile/0/x001/x001/x001/x001/x001/x001/001", "tile/0/ 00"};
	uint32_t level, width;
	uint64_t index;
	char path[TT_TILE_PATH_BYTES];
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		cr_assert(!tt_tile_parse(wrong[i], &level, &index, &width), "%s", wrong[i]);
	tt_tile_path(path, TT_TILE_ENTRIES, 1234067, 7);
	cr_assert_str_eq(path, "tile/entries/x001/x234/067.p/7");
	cr_assert(tt_tile_parse(path, &level, &index, &width) && level == TT_TILE_ENTRIES && index == 1234067);
}
