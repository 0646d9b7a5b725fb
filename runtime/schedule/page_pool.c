#include "runtime/schedule/page_pool.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/string_index.h"

int tt_page_pool_open(struct tt_page_pool *pool, uint32_t n_pages, bool shares, struct tt_error *err)
{
	uint32_t n_chains = 1;
	while (n_chains < n_pages)
		n_chains *= 2;
	*pool = (struct tt_page_pool){.n_pages = n_pages, .mask = n_chains - 1, .max_idle = n_pages, .shares = shares};
	pool->oldest = pool->newest = -1;
	int status = tt_alloc(&pool->pages, n_pages, sizeof *pool->pages, err);
	if (status == TT_OK)
		status = tt_alloc(&pool->free_pages, n_pages, sizeof *pool->free_pages, err);
	if (status == TT_OK)
		status = tt_alloc(&pool->chains, n_chains, sizeof *pool->chains, err);
	if (status != TT_OK)
		return status;
	for (uint32_t i = 0; i < n_pages; i++)
		pool->free_pages[pool->n_free++] = (int32_t)(n_pages - 1 - i);
	for (uint32_t i = 0; i < n_chains; i++)
		pool->chains[i] = -1;
	return TT_OK;
}

void tt_page_pool_close(struct tt_page_pool *pool)
{
	free(pool->pages);
	free(pool->free_pages);
	free(pool->chains);
	*pool = (struct tt_page_pool){0};
}

uint32_t tt_page_pool_available(const struct tt_page_pool *pool)
{
	return pool->n_free + pool->n_idle;
}

/* ---- Idle pages */

static void add_idle(struct tt_page_pool *pool, int32_t page)
{
	pool->pages[page].older = pool->newest;
	pool->pages[page].newer = -1;
	if (pool->newest >= 0)
		pool->pages[pool->newest].newer = page;
	else
		pool->oldest = page;
	pool->newest = page;
	pool->n_idle++;
}

static void remove_idle(struct tt_page_pool *pool, int32_t page)
{
	const struct tt_page *p = &pool->pages[page];
	if (p->older >= 0)
		pool->pages[p->older].newer = p->newer;
	else
		pool->oldest = p->newer;
	if (p->newer >= 0)
		pool->pages[p->newer].older = p->older;
	else
		pool->newest = p->older;
	pool->n_idle--;
}

/* ---- The index */

static int32_t *chain_of(const struct tt_page_pool *pool, const struct tt_page_key *key)
{
	return &pool->chains[key->words[0] & pool->mask];
}

static int32_t lookup(const struct tt_page_pool *pool, const struct tt_page_key *key)
{
	for (int32_t page = *chain_of(pool, key); page >= 0; page = pool->pages[page].next_in_chain)
		if (!memcmp(&pool->pages[page].key, key, sizeof *key))
			return page;
	return -1;
}

static void unkey(struct tt_page_pool *pool, int32_t page)
{
	int32_t *at = chain_of(pool, &pool->pages[page].key);
	while (*at != page)
		at = &pool->pages[*at].next_in_chain;
	*at = pool->pages[page].next_in_chain;
	pool->pages[page].keyed = false;
}

/* ---- */

int32_t tt_page_take(struct tt_page_pool *pool)
{
	int32_t page;
	if (pool->n_free > 0 && pool->n_idle <= pool->max_idle) {
		page = pool->free_pages[--pool->n_free];
	} else if (pool->n_idle > 0) {
		page = pool->oldest;
		remove_idle(pool, page);
		unkey(pool, page);
	} else {
		return -1;
	}
	pool->pages[page].n_users = 1;
	return page;
}

void tt_page_drop(struct tt_page_pool *pool, int32_t page)
{
	struct tt_page *p = &pool->pages[page];
	if (--p->n_users > 0)
		return;
	if (p->keyed)
		add_idle(pool, page);
	else
		pool->free_pages[pool->n_free++] = page;
}

int32_t tt_page_find(struct tt_page_pool *pool, const struct tt_page_key *key)
{
	int32_t page = pool->shares ? lookup(pool, key) : -1;
	if (page >= 0 && pool->pages[page].n_users++ == 0)
		remove_idle(pool, page);
	return page;
}

void tt_page_publish(struct tt_page_pool *pool, int32_t page, const struct tt_page_key *key)
{
	struct tt_page *p = &pool->pages[page];
	if (!pool->shares || p->keyed || lookup(pool, key) >= 0)
		return;
	p->key = *key;
	p->keyed = true;
	p->next_in_chain = *chain_of(pool, key);
	*chain_of(pool, key) = page;
}

void tt_page_pool_forget(struct tt_page_pool *pool)
{
	while (pool->oldest >= 0) {
		int32_t page = pool->oldest;
		remove_idle(pool, page);
		pool->free_pages[pool->n_free++] = page;
	}
	for (uint32_t i = 0; i < pool->n_pages; i++)
		pool->pages[i].keyed = false;
	for (uint32_t i = 0; i <= pool->mask; i++)
		pool->chains[i] = -1;
}
