#include "runtime/schedule/prefix_cache.h"

#include <string.h>

#include "base/sha256.h"
#include "weights/config.h"

/* The bytes that a page's key is the digest of; none of them is padding. */
struct page_content {
	struct tt_page_key previous;           /* the key of the page before this one; of the first, its depth */
	struct tt_page_key policies[TT_STACK]; /* the policies that act on a token of this page; 0 for the others */
	int32_t tokens[TT_PAGE_TOKENS];
	uint8_t rows[TT_PAGE_TOKENS]; /* bit k: policies[k] steers the token */
	/* What the page's records are sums of: positions [from, to) and 1 + each layer. 0 where they hold nothing. */
	uint32_t from, to, layers[TT_MAX_POOLED];
};

/* Returns false if SHA-256 is not available; then nothing is shared. */
static bool make_key(struct tt_page_key *key, const void *data, size_t n)
{
	uint8_t digest[32];
	if (tt_sha256_bytes(digest, data, n, NULL) != 0)
		return false;
	memcpy(key, digest, sizeof *key);
	return true;
}

void tt_prefix_key_policy(struct tt_sequence *q, uint32_t policy, uint32_t n_layers)
{
	struct tt_sequence_policy *p = &q->policies[policy];
	const float *coef = q->coef + (size_t)policy * n_layers;
	struct {
		struct tt_page_key identity;
		float coef[TT_MAX_LAYERS];
	} content;
	p->acts = false;
	for (uint32_t l = 0; l < n_layers; l++)
		p->acts |= coef[l] != 0;
	content.identity = p->identity;
	memcpy(content.coef, coef, n_layers * sizeof *coef);
	make_key(&p->key, &content, sizeof content.identity + n_layers * sizeof *coef);
}

/* A page has records where a step summed all of its part of the span, which is where the part ran before the gates had
 * decided. */
static void describe_records(const struct tt_sequence *q, uint32_t page, struct page_content *content)
{
	size_t from = (size_t)page * TT_PAGE_TOKENS, to = from + TT_PAGE_TOKENS;
	from = from > q->pool_from ? from : q->pool_from;
	to = to < q->pool_to ? to : q->pool_to;
	if (q->n_pooled == 0 || from >= to || to > q->pooled_until)
		return;
	content->from = (uint32_t)from;
	content->to = (uint32_t)to;
	for (uint32_t j = 0; j < q->n_pooled; j++)
		content->layers[j] = 1 + q->pooled[j];
}

static bool key_page(struct tt_sequence *q, uint32_t page)
{
	struct page_content content = {0};
	uint8_t used = 0;
	content.previous = page > 0 ? q->keys[page - 1] : (struct tt_page_key){{q->depth}};
	memcpy(content.tokens, q->tokens + (size_t)page * TT_PAGE_TOKENS, sizeof content.tokens);
	for (uint32_t i = 0, k = 0; i < q->n_policies; i++) {
		if (!q->policies[i].acts)
			continue;
		for (uint32_t t = 0; t < TT_PAGE_TOKENS; t++)
			if (tt_sequence_steers(q, i, (size_t)page * TT_PAGE_TOKENS + t))
				content.rows[t] |= (uint8_t)(1u << k);
		content.policies[k++] = q->policies[i].key;
	}
	for (uint32_t t = 0; t < TT_PAGE_TOKENS; t++)
		used |= content.rows[t];
	for (uint32_t k = 0; k < TT_STACK; k++)
		if (!(used >> k & 1))
			content.policies[k] = (struct tt_page_key){0};
	describe_records(q, page, &content);
	return make_key(&q->keys[page], &content, sizeof content);
}

/* Makes the keys up to and including that page's; keys that exist stay. */
static bool key_pages(struct tt_sequence *q, uint32_t page)
{
	for (; q->n_keys <= page; q->n_keys++)
		if (!key_page(q, q->n_keys))
			return false;
	return true;
}

/* For positions below the result it is known what steers them. Until the gates have decided, the prompt runs unsteered,
 * unless the decision steers the same pass. */
static size_t steering_known_until(const struct tt_sequence *q, bool one_pass)
{
	size_t until = q->n_prompt;
	if (q->n_policies == 0 || q->decided || q->coef_known_at_start)
		return SIZE_MAX;
	for (uint32_t i = 0; i < q->n_policies; i++) {
		if (q->policies[i].when == TT_WHEN_ALL && one_pass)
			until = 0;
		if (q->policies[i].when == TT_WHEN_LAST && until == q->n_prompt)
			until--;
	}
	return until;
}

/* Positions below the result need not run if their pages exist: none of them gives the next token or the decision, and
 * none is still to be reported. */
static size_t may_skip(const struct tt_sequence *q)
{
	size_t until = q->n_policies > 0 && !q->decided ? q->n_prompt - 1 : q->n_tokens - 1;
	size_t reported = q->n_reported > q->report_from ? q->n_reported : q->report_from;
	return until < reported ? until : reported;
}

static int32_t find_page(struct tt_sequence *q, struct tt_page_pool *pool)
{
	return key_pages(q, q->n_pages) ? tt_page_find(pool, &q->keys[q->n_pages]) : -1;
}

/* Forgets the keys of the pages from that one on. */
static void drop_keys(struct tt_sequence *q, size_t page)
{
	if (q->n_keys > page)
		q->n_keys = (uint32_t)page;
}

/* The next page of a sequence whose gates read means. Before they have decided, it must have the records. Afterwards
 * any page will do, first those with records, which it may have written itself before it was pre-empted; but it sums
 * nothing any more, so after one page without records come only such. */
static int32_t find_pooled_page(struct tt_sequence *q, struct tt_page_pool *pool)
{
	size_t here = (size_t)q->n_pages * TT_PAGE_TOKENS;
	int32_t page = find_page(q, pool);
	if (page >= 0 || !q->decided || q->pooled_until <= here)
		return page;
	q->pooled_until = here;
	drop_keys(q, q->n_pages);
	return find_page(q, pool);
}

void tt_prefix_acquire(struct tt_sequence *q, struct tt_page_pool *pool, bool one_pass)
{
	size_t until = may_skip(q), known = steering_known_until(q, one_pass);
	if (known < until)
		until = known;
	/* The keys that a sequence made before it decided say that its pages have records. */
	if (q->decided && q->n_pooled > 0)
		drop_keys(q, q->pool_from / TT_PAGE_TOKENS);
	q->pooled_until = SIZE_MAX;
	for (; pool->shares && (size_t)(q->n_pages + 1) * TT_PAGE_TOKENS <= until; q->n_pages++) {
		int32_t page = q->n_pooled > 0 ? find_pooled_page(q, pool) : find_page(q, pool);
		if (page < 0)
			break;
		q->pages[q->n_pages] = page;
	}
	q->n_published = q->n_pages;
	q->n_fed = (size_t)q->n_pages * TT_PAGE_TOKENS;
	q->pooled_until = q->pooled_until < q->n_fed ? q->pooled_until : q->n_fed;
}

void tt_prefix_publish(struct tt_sequence *q, struct tt_page_pool *pool)
{
	size_t until = steering_known_until(q, q->same_pass);
	until = until < q->n_fed ? until : q->n_fed;
	until = until < q->n_tokens ? until : q->n_tokens;
	for (; pool->shares && (size_t)(q->n_published + 1) * TT_PAGE_TOKENS <= until; q->n_published++) {
		if (!key_pages(q, q->n_published))
			return;
		tt_page_publish(pool, q->pages[q->n_published], &q->keys[q->n_published]);
	}
}
