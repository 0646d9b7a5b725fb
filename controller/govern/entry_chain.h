/* Entries one after another, as a log must have them: numbered, each naming the one before, not earlier than it, and
 * every end of something that had begun and not ended. */
#ifndef CONTROLLER_GOVERN_ENTRY_CHAIN_H
#define CONTROLLER_GOVERN_ENTRY_CHAIN_H

#include "controller/govern/log.h"

struct tt_entry_chain {
	uint64_t size, most;       /* entries so far, and at most */
	struct tt_hash prev;       /* the leaf hash of the last one */
	struct tt_entry_head head; /* of it */
	uint8_t *open;             // [most / 8 + 1] a bit an entry: it has begun something that has not ended
	uint64_t n_open;
};
int tt_entry_chain_open(struct tt_entry_chain *out, uint64_t most, struct tt_error *err);
void tt_entry_chain_close(struct tt_entry_chain *chain);

/* Adds an entry, whose bytes may be anything; leaf is their hash. TT_ERR_FORMAT says what is wrong with which. */
int tt_entry_chain_add(
	struct tt_entry_chain *chain, const char *body, size_t n, const struct tt_hash *leaf, struct tt_error *err);
bool tt_entry_chain_is_open(const struct tt_entry_chain *chain, uint64_t seq);

#endif
