/* The pool of KV pages: which pages are free, how many sequences use each of the others, and which full pages, found by
 * a key of their content, may serve other sequences. The memory itself belongs to the backend. */
#ifndef RUNTIME_SCHEDULE_PAGE_POOL_H
#define RUNTIME_SCHEDULE_PAGE_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/step_plan.h"

/* Names the content of a full page: all tokens up to its end, and what steered each. It is 128 bits of a SHA-256
 * digest, so nobody can construct a prompt that passes for another. */
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

/* A page is free (holds nothing), in use, or idle. An idle page has a key and no user, and stays until no page is
 * free. */
struct tt_page_pool {
	struct tt_page *pages; // [n_pages]
	int32_t *free_pages;   // [n_pages] a stack: the page freed last is used next, since the CPU's cache may hold it
	uint32_t n_pages, n_free, n_idle;
	int32_t oldest, newest; /* idle pages, by when they became idle */
	/* With more idle pages than these the oldest is taken although others are free, so that memory that was never
	 * touched stays so. All, unless somebody sets it. */
	uint32_t max_idle;
	int32_t *chains; // [mask + 1] the index's hash table: the first page of each chain, -1 for none
	uint32_t mask;
	bool shares; /* false: no page ever gets a key */
};

/* The pages that n positions need. */
static inline uint32_t tt_pages_for(size_t n_positions)
{
	return (uint32_t)((n_positions + TT_PAGE_TOKENS - 1) / TT_PAGE_TOKENS);
}

int tt_page_pool_open(struct tt_page_pool *pool, uint32_t n_pages, bool shares, struct tt_error *err);
void tt_page_pool_close(struct tt_page_pool *pool);

/* How many pages tt_page_take can give: the free and the idle ones. */
uint32_t tt_page_pool_available(const struct tt_page_pool *pool);

/* Returns a page and makes the caller its one user, or returns -1. Free pages go first (but see max_idle), then
 * the page that has been idle longest, which loses its key. */
int32_t tt_page_take(struct tt_page_pool *pool);
/* Removes one user. A page without users becomes idle if it has a key, free otherwise. */
void tt_page_drop(struct tt_page_pool *pool, int32_t page);

/* Returns the page with this key and adds a user to it; -1 if there is none. */
int32_t tt_page_find(struct tt_page_pool *pool, const struct tt_page_key *key);
/* Enters a page in use into the index under its key, unless another page has that key already. */
void tt_page_publish(struct tt_page_pool *pool, int32_t page, const struct tt_page_key *key);
/* Forgets every key, for when it is no longer known what the pages hold. Idle pages become free. */
void tt_page_pool_forget(struct tt_page_pool *pool);

#endif
