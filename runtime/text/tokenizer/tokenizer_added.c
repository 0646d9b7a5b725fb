#include "runtime/text/tokenizer/tokenizer_internal.h"

#include <stdlib.h>

#include "base/fail.h"
#include "base/memory.h"

/* At every position that begins like an added token, matching takes up to as many steps as the token has bytes. */
enum { MAX_ADDED_BYTES = 4096 };

void tt_added_free(struct tt_added *added)
{
	free(added->nodes);
	*added = (struct tt_added){0};
}

static int new_node(struct tt_added *added, uint8_t byte, uint32_t *out, struct tt_error *err)
{
	if (added->n_nodes == 0)
		added->n_nodes = 1;
	if (added->n_nodes >= UINT32_MAX)
		return tt_fail(err, TT_ERR_LIMIT, "too many added tokens");
	TT_TRY(tt_grow(&added->nodes, &added->capacity, added->n_nodes + 1, sizeof *added->nodes, err));
	*out = (uint32_t)added->n_nodes++;
	added->nodes[*out] = (struct tt_added_node){0, 0, -1, byte};
	return TT_OK;
}

/* Finds or makes the child of parent (0: the root) for byte. */
static int enter(struct tt_added *added, uint32_t parent, uint8_t byte, uint32_t *out, struct tt_error *err)
{
	uint32_t node = parent ? added->nodes[parent].child : added->first[byte];
	while (node && added->nodes[node].byte != byte)
		node = added->nodes[node].sibling;
	if (!node) {
		TT_TRY(new_node(added, byte, &node, err));
		if (parent) {
			added->nodes[node].sibling = added->nodes[parent].child;
			added->nodes[parent].child = node;
		} else {
			added->first[byte] = node;
		}
	}
	*out = node;
	return TT_OK;
}

int tt_added_insert(struct tt_added *added, const char *text, size_t n, int32_t id, struct tt_error *err)
{
	uint32_t node = 0;
	if (n == 0 || n > MAX_ADDED_BYTES)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "added token %d has %zu bytes (1 to %d are supported)", id, n,
			MAX_ADDED_BYTES);
	for (size_t i = 0; i < n; i++)
		TT_TRY(enter(added, node, (uint8_t)text[i], &node, err));
	if (added->nodes[node].id >= 0)
		return tt_fail(
			err, TT_ERR_FORMAT, "added tokens %d and %d have the same text", added->nodes[node].id, id);
	added->nodes[node].id = id;
	return TT_OK;
}
