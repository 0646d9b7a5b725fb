/* Entries of the audit log, a line each, as verify takes them from a file that may hold anything. An entry that is
 * taken has its number, its time and its kind, and is taken once. */
#define _GNU_SOURCE /* memmem */
#include <stdlib.h>
#include <string.h>

#include "controller/govern/entry_chain.h"
#include "target.h"

static void check(const struct tt_entry_chain *chain, const char *line, size_t n)
{
	struct tt_entry_head head;
	char date[TT_LOG_DATE_BYTES];
	if (tt_entry_parse(&head, line, n, NULL) != TT_OK || head.n >= n || head.seq + 1 != chain->size ||
		strlen(head.kind) == 0 || strlen(head.kind) > TT_MAX_ENTRY_KIND)
		abort();
	tt_log_date(date, head.at);
	if (!memmem(line, n, date, strlen(date)))
		abort();
	if (head.ends && (head.begin >= head.seq || tt_entry_chain_is_open(chain, head.begin)))
		abort();
}

void fuzz_one(const uint8_t *data, size_t size)
{
	enum { MOST = 64 };
	struct tt_entry_chain chain;
	struct tt_hasher hasher;
	struct tt_error err;
	if (tt_entry_chain_open(&chain, MOST, &err) != TT_OK || tt_hasher_open(&hasher, &err) != TT_OK)
		abort();
	while (size > 0) {
		struct tt_hash leaf;
		const uint8_t *end = memchr(data, '\n', size);
		const size_t n = end ? (size_t)(end - data) : size;
		tt_hash_leaf(&hasher, &leaf, data, n);
		if (tt_entry_chain_add(&chain, (const char *)data, n, &leaf, &err) == TT_OK)
			check(&chain, (const char *)data, n);
		data += n + (end != NULL);
		size -= n + (end != NULL);
	}
	if (chain.n_open > chain.size)
		abort();
	tt_hasher_close(&hasher);
	tt_entry_chain_close(&chain);
}
