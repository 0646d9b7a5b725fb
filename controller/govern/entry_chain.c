#include "controller/govern/entry_chain.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"

int tt_entry_chain_open(struct tt_entry_chain *out, uint64_t most, struct tt_error *err)
{
	*out = (struct tt_entry_chain){.most = most};
	return tt_alloc(&out->open, most / 8 + 1, 1, err);
}

void tt_entry_chain_close(struct tt_entry_chain *chain)
{
	free(chain->open);
	chain->open = NULL;
}

bool tt_entry_chain_is_open(const struct tt_entry_chain *chain, uint64_t seq)
{
	return seq < chain->size && (chain->open[seq / 8] >> seq % 8 & 1);
}

static int fail(const struct tt_entry_chain *chain, const char *what, struct tt_error *err)
{
	return tt_fail(err, TT_ERR_FORMAT, "entry %" PRIu64 ": %s", chain->size, what);
}

static int note_begun(struct tt_entry_chain *chain, const struct tt_entry_head *head, struct tt_error *err)
{
	uint64_t seq = chain->size;
	if (strcmp(head->kind, "begin") == 0) {
		chain->open[seq / 8] |= (uint8_t)(1 << seq % 8);
		chain->n_open++;
	}
	if (!head->ends)
		return TT_OK;
	if (!tt_entry_chain_is_open(chain, head->begin))
		return fail(chain, "it ends what has not begun, or has ended before", err);
	chain->open[head->begin / 8] &= (uint8_t) ~(1 << head->begin % 8);
	chain->n_open--;
	return TT_OK;
}

int tt_entry_chain_add(
	struct tt_entry_chain *chain, const char *body, size_t n, const struct tt_hash *leaf, struct tt_error *err)
{
	struct tt_entry_head head;
	if (chain->size >= chain->most)
		return fail(chain, "there are more than there should be", err);
	if (tt_entry_parse(&head, body, n, NULL) != TT_OK)
		return fail(chain, "it has not the form of an entry", err);
	if (head.seq != chain->size)
		return fail(chain, "it bears another number", err);
	if (!tt_hash_equal(&head.prev, &chain->prev))
		return fail(chain, "it names another entry as the one before", err);
	if (chain->size && head.at < chain->head.at && strcmp(head.kind, "clock") != 0)
		return fail(chain, "it is earlier than the one before", err);
	TT_TRY(note_begun(chain, &head, err));
	chain->size++;
	chain->prev = *leaf;
	chain->head = head;
	return TT_OK;
}
