#include "controller/govern/tree.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "base/fail.h"

bool tt_hash_equal(const struct tt_hash *a, const struct tt_hash *b)
{
	return memcmp(a, b, sizeof *a) == 0;
}

/* ---- Hashes. EVP_Digest looks its algorithm up each time, which takes longer than a node's hash does. */

int tt_hasher_open(struct tt_hasher *out, struct tt_error *err)
{
	*out = (struct tt_hasher){EVP_MD_CTX_new(), EVP_MD_fetch(NULL, "SHA256", NULL), false};
	if (out->context && out->digest)
		return TT_OK;
	tt_hasher_close(out);
	return tt_fail(err, TT_ERR_MEMORY, "SHA-256: libcrypto has no memory, or no such digest");
}

void tt_hasher_close(struct tt_hasher *hasher)
{
	EVP_MD_CTX_free(hasher->context);
	EVP_MD_free(hasher->digest);
	*hasher = (struct tt_hasher){0};
}

int tt_hasher_check(const struct tt_hasher *hasher, struct tt_error *err)
{
	return hasher->failed ? tt_fail(err, TT_ERR_MEMORY, "SHA-256: libcrypto failed") : TT_OK;
}

static void hash(struct tt_hasher *hasher, struct tt_hash *out, const uint8_t *prefix, const void *a, size_t n_a,
	const void *b, size_t n_b)
{
	unsigned int n = 0;
	EVP_MD_CTX *context = hasher->context;
	if (EVP_DigestInit_ex2(context, hasher->digest, NULL) != 1 ||
		EVP_DigestUpdate(context, prefix, prefix != NULL) != 1 || EVP_DigestUpdate(context, a, n_a) != 1 ||
		EVP_DigestUpdate(context, b, n_b) != 1 || EVP_DigestFinal_ex(context, out->bytes, &n) != 1 ||
		n != sizeof *out)
		hasher->failed = true;
}

void tt_hash_leaf(struct tt_hasher *hasher, struct tt_hash *out, const void *data, size_t n)
{
	static const uint8_t leaf = 0;
	hash(hasher, out, &leaf, data, n, NULL, 0);
}

void tt_hash_node(
	struct tt_hasher *hasher, struct tt_hash *out, const struct tt_hash *left, const struct tt_hash *right)
{
	static const uint8_t node = 1;
	hash(hasher, out, &node, left, sizeof *left, right, sizeof *right);
}

/* ---- Appending */

uint32_t tt_tree_n_roots(uint64_t size)
{
	uint32_t n = 0;
	for (; size; size &= size - 1)
		n++;
	return n;
}

int tt_tree_append(struct tt_tree *tree, struct tt_hasher *hasher, const struct tt_hash *leaf, tt_tree_made_fn made,
	void *user, struct tt_error *err)
{
	uint32_t n = tt_tree_n_roots(tree->size), height = 0;
	struct tt_hash top = *leaf;
	if (tree->size >= (UINT64_C(1) << TT_TREE_HEIGHT) - 1)
		return tt_fail(err, TT_ERR_LIMIT, "the log is full");
	/* Two subtrees of one height become one, as in a binary number to which 1 is added. */
	for (uint64_t rest = tree->size; rest & 1; rest >>= 1) {
		tt_hash_node(hasher, &top, &tree->roots[--n], &top);
		height++;
		if (height % TT_TILE_HEIGHT == 0 && made)
			TT_TRY(made(user, height / TT_TILE_HEIGHT, tree->size >> height, &top, err));
	}
	tree->roots[n] = top;
	tree->size++;
	return tt_hasher_check(hasher, err);
}

void tt_tree_root(const struct tt_tree *tree, struct tt_hasher *hasher, struct tt_hash *out)
{
	uint32_t n = tt_tree_n_roots(tree->size);
	if (n == 0) {
		hash(hasher, out, NULL, NULL, 0, NULL, 0);
		return;
	}
	*out = tree->roots[n - 1];
	while (--n > 0)
		tt_hash_node(hasher, out, &tree->roots[n - 1], out);
}

/* ---- Roots of parts, from what is stored */

/* The root of the 2^height leaves from index * 2^height on. */
static int subtree(
	struct tt_hash *out, const struct tt_tree_reader *reader, uint32_t height, uint64_t index, struct tt_error *err)
{
	struct tt_hash hashes[TT_TILE_WIDTH / 2];
	uint32_t level = height / TT_TILE_HEIGHT, n = UINT32_C(1) << height % TT_TILE_HEIGHT;
	TT_TRY(reader->read(reader->user, level, index * n, n, hashes, err));
	for (; n > 1; n /= 2)
		for (uint32_t i = 0; i < n / 2; i++)
			tt_hash_node(reader->hasher, &hashes[i], &hashes[2 * i], &hashes[2 * i + 1]);
	*out = hashes[0];
	return tt_hasher_check(reader->hasher, err);
}

/* The height of the largest perfect tree that is smaller than one of n > 1 leaves. */
static uint32_t split(uint64_t n)
{
	uint32_t height = 0;
	while (UINT64_C(2) << height < n)
		height++;
	return height;
}

/* RFC 6962's MTH of the leaves from `from` to `to`. A part of a tree begins at a multiple of the first perfect subtree
 * in it. */
static int part(
	struct tt_hash *out, const struct tt_tree_reader *reader, uint64_t from, uint64_t to, struct tt_error *err)
{
	struct tt_hash rights[TT_TREE_HEIGHT];
	uint32_t n = 0;
	while (to > from) {
		uint64_t size = to - from;
		uint32_t height = size == 1 ? 0 : split(size);
		if (size == UINT64_C(2) << height && size > 1) /* it is perfect itself */
			height++;
		TT_TRY(subtree(&rights[n++], reader, height, from >> height, err));
		from += UINT64_C(1) << height;
	}
	*out = rights[--n];
	while (n-- > 0)
		tt_hash_node(reader->hasher, out, &rights[n], out);
	return tt_hasher_check(reader->hasher, err);
}

static int check_size(uint64_t size, struct tt_error *err)
{
	if (size >> TT_TREE_HEIGHT)
		return tt_fail(err, TT_ERR_ARGUMENT, "no log has so many entries");
	return TT_OK;
}

int tt_tree_root_at(struct tt_hash *out, const struct tt_tree_reader *reader, uint64_t size, struct tt_error *err)
{
	const struct tt_tree empty = {0};
	TT_TRY(check_size(size, err));
	if (size > 0)
		return part(out, reader, 0, size, err);
	tt_tree_root(&empty, reader->hasher, out);
	return tt_hasher_check(reader->hasher, err);
}

/* ---- Proofs: RFC 6962, 2.1.1 and 2.1.2. They go down from the root; a proof is read upwards. */

static void turn_round(struct tt_proof *proof)
{
	for (uint32_t i = 0; i < proof->n / 2; i++) {
		struct tt_hash first = proof->hashes[i];
		proof->hashes[i] = proof->hashes[proof->n - 1 - i];
		proof->hashes[proof->n - 1 - i] = first;
	}
}

int tt_tree_prove_inclusion(
	struct tt_proof *out, const struct tt_tree_reader *reader, uint64_t index, uint64_t size, struct tt_error *err)
{
	uint64_t from = 0, to = size;
	out->n = 0;
	TT_TRY(check_size(size, err));
	if (index >= size)
		return tt_fail(err, TT_ERR_ARGUMENT, "entry %" PRIu64 " is not in a log of %" PRIu64, index, size);
	while (to - from > 1) {
		uint64_t middle = from + (UINT64_C(1) << split(to - from));
		struct tt_hash *sibling = &out->hashes[out->n++];
		TT_TRY(index < middle ? part(sibling, reader, middle, to, err)
				      : part(sibling, reader, from, middle, err));
		*(index < middle ? &to : &from) = middle;
	}
	turn_round(out);
	return TT_OK;
}

int tt_tree_prove_consistency(
	struct tt_proof *out, const struct tt_tree_reader *reader, uint64_t old, uint64_t size, struct tt_error *err)
{
	uint64_t from = 0, to = size;
	out->n = 0;
	TT_TRY(check_size(size, err));
	if (old > size)
		return tt_fail(err, TT_ERR_ARGUMENT, "%" PRIu64 " entries are more than %" PRIu64, old, size);
	if (old == 0 || old == size) /* nothing needs to be said */
		return TT_OK;
	while (old < to) {
		uint64_t middle = from + (UINT64_C(1) << split(to - from));
		struct tt_hash *sibling = &out->hashes[out->n++];
		TT_TRY(old <= middle ? part(sibling, reader, middle, to, err)
				     : part(sibling, reader, from, middle, err));
		*(old <= middle ? &to : &from) = middle;
	}
	if (from > 0) /* else it is the old root itself, which who checks has */
		TT_TRY(part(&out->hashes[out->n++], reader, from, to, err));
	turn_round(out);
	return TT_OK;
}

/* ---- Checking: RFC 9162, 2.1.3.2 and 2.1.4.2 */

bool tt_tree_check_inclusion(struct tt_hasher *hasher, const struct tt_proof *proof, uint64_t index, uint64_t size,
	const struct tt_hash *leaf, const struct tt_hash *root)
{
	struct tt_hash top = *leaf;
	uint64_t at = index, last = size - 1;
	if (index >= size || proof->n > TT_PROOF_HASHES)
		return false;
	for (uint32_t i = 0; i < proof->n; i++) {
		if (last == 0)
			return false;
		if ((at & 1) || at == last) {
			tt_hash_node(hasher, &top, &proof->hashes[i], &top);
			while (!(at & 1) && at != 0) {
				at >>= 1;
				last >>= 1;
			}
		} else {
			tt_hash_node(hasher, &top, &top, &proof->hashes[i]);
		}
		at >>= 1;
		last >>= 1;
	}
	return last == 0 && !hasher->failed && tt_hash_equal(&top, root);
}

bool tt_tree_check_consistency(struct tt_hasher *hasher, const struct tt_proof *proof, uint64_t old, uint64_t size,
	const struct tt_hash *old_root, const struct tt_hash *root)
{
	uint64_t at = old - 1, last = size - 1;
	uint32_t i = 0;
	if (proof->n > TT_PROOF_HASHES || old > size)
		return false;
	if (old == size)
		return proof->n == 0 && tt_hash_equal(old_root, root);
	if (old == 0) {
		const struct tt_tree empty = {0};
		struct tt_hash nothing;
		tt_tree_root(&empty, hasher, &nothing);
		return proof->n == 0 && !hasher->failed && tt_hash_equal(old_root, &nothing);
	}
	while (at & 1) {
		at >>= 1;
		last >>= 1;
	}
	if (at && proof->n == 0)
		return false;
	struct tt_hash before = at ? proof->hashes[i++] : *old_root, after = before;
	for (; i < proof->n; i++) {
		if (last == 0)
			return false;
		if ((at & 1) || at == last) {
			tt_hash_node(hasher, &before, &proof->hashes[i], &before);
			tt_hash_node(hasher, &after, &proof->hashes[i], &after);
			while (!(at & 1) && at != 0) {
				at >>= 1;
				last >>= 1;
			}
		} else {
			tt_hash_node(hasher, &after, &after, &proof->hashes[i]);
		}
		at >>= 1;
		last >>= 1;
	}
	return last == 0 && !hasher->failed && tt_hash_equal(&before, old_root) && tt_hash_equal(&after, root);
}

/* ---- Paths of tiles */

void tt_tile_path(char out[TT_TILE_PATH_BYTES], uint32_t level, uint64_t index, uint32_t width)
{
	char groups[32] = "";
	size_t n = 0;
	uint64_t unit = 1;
	while (index / unit >= 1000)
		unit *= 1000;
	for (; unit > 1; unit /= 1000)
		n += (size_t)snprintf(groups + n, sizeof groups - n, "x%03u/", (unsigned)(index / unit % 1000));
	snprintf(groups + n, sizeof groups - n, "%03u", (unsigned)(index % 1000));
	n = level == TT_TILE_ENTRIES ? (size_t)snprintf(out, TT_TILE_PATH_BYTES, "tile/entries/%s", groups)
				     : (size_t)snprintf(out, TT_TILE_PATH_BYTES, "tile/%u/%s", level, groups);
	if (width < TT_TILE_WIDTH)
		snprintf(out + n, TT_TILE_PATH_BYTES - n, ".p/%u", width);
}

/* A number of 1 to 3 digits; the text after it, or NULL. */
static const char *take_number(const char *text, uint32_t *out)
{
	size_t n = strspn(text, "0123456789");
	if (n == 0 || n > 3)
		return NULL;
	*out = 0;
	for (size_t i = 0; i < n; i++)
		*out = *out * 10 + (uint32_t)(text[i] - '0');
	return text + n;
}

/* What is read must be what is written: there is one path for a tile. */
bool tt_tile_parse(const char *path, uint32_t *level, uint64_t *index, uint32_t *width)
{
	char again[TT_TILE_PATH_BYTES];
	const char *at = path;
	uint32_t group = 0;
	*index = 0;
	*width = TT_TILE_WIDTH;
	if (strncmp(at, "tile/", 5) != 0)
		return false;
	at += 5;
	if (strncmp(at, "entries/", 8) == 0) {
		*level = TT_TILE_ENTRIES;
		at += 8;
	} else {
		at = take_number(at, level);
		if (!at || *at++ != '/' || *level >= TT_TILE_ENTRIES)
			return false;
	}
	for (uint32_t n = 0; n < 6; n++) {
		bool more = *at == 'x';
		at = take_number(at + more, &group);
		if (!at)
			return false;
		*index = *index * 1000 + group;
		if (!more)
			break;
		if (*at++ != '/')
			return false;
	}
	if (strncmp(at, ".p/", 3) == 0 && !take_number(at + 3, width))
		return false;
	if (*width == 0 || *width > TT_TILE_WIDTH)
		return false;
	tt_tile_path(again, *level, *index, *width);
	return strcmp(path, again) == 0;
}
