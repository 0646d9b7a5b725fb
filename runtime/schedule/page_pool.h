/* The KV pages as a pool: which are free, which are in use by how many sequences, and which, full and keyed by what they
 * hold, may serve other sequences. What they hold is the kernels' affair. */
#ifndef RUNTIME_SCHEDULE_PAGE_POOL_H
#define RUNTIME_SCHEDULE_PAGE_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/step_plan.h"

/* Names the content of a full page: all tokens up to its end and what steered each. 128 bits of SHA-256, so that no
 * prompt can be made that passes for another. */
struct tt_page_key {
	uint64_t words[2];
};

struct tt_page {
	struct tt_page_key key;
	uint32_t n_users;
	bool keyed;            /* in the index */
	int32_t older, newer;  /* in the list of idle pages, -1 at its ends */
	int32_t next_in_chain; /* of the index, -1 at the end */
};

/* A page is free (nothing in it), in use, or idle: keyed and unused, kept until nothing is free. */
struct tt_page_pool {
	struct tt_page *pages; // [n_pages]
	int32_t *free_pages;   // [n_pages] a stack: the page freed last is used next, while it is in the cache
	uint32_t n_pages, n_free, n_idle;
	int32_t oldest, newest; /* idle pages, by when they became idle */
	int32_t *chains;        // [mask + 1] heads of the index, -1 for none
	uint32_t mask;
	bool shares; /* false: nothing is ever keyed */
};

/* Whole pages for n positions. */
static inline uint32_t tt_pages_for(size_t n_positions)
{
	return (uint32_t)((n_positions + TT_PAGE_TOKENS - 1) / TT_PAGE_TOKENS);
}

int tt_page_pool_open(struct tt_page_pool *pool, uint32_t n_pages, bool shares, struct tt_error *err);
void tt_page_pool_close(struct tt_page_pool *pool);

/* Pages that tt_page_take can give: free and idle ones. */
uint32_t tt_page_pool_available(const struct tt_page_pool *pool);

/* A page with one user, or -1. Of the idle pages the oldest goes first. */
int32_t tt_page_take(struct tt_page_pool *pool);
/* One user less. */
void tt_page_drop(struct tt_page_pool *pool, int32_t page);

/* The page with this key, with one user more; -1 when there is none. */
int32_t tt_page_find(struct tt_page_pool *pool, const struct tt_page_key *key);
/* Enters a page in use under its key, unless another page holds the same already. */
void tt_page_publish(struct tt_page_pool *pool, int32_t page, const struct tt_page_key *key);
/* Forgets every key: what the pages hold is no longer known. */
void tt_page_pool_forget(struct tt_page_pool *pool);

#endif
