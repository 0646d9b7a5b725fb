/* Shares pages between sequences. A full page may serve several; its key covers every token up to its end and what
 * steered each token. A coefficient of 0 steers nothing, so sequences with a closed gate or scale 0 share pages with
 * unsteered ones. It also covers what the page's records are sums of (struct tt_pool_args), so that a sequence that
 * still has to take a mean finds only pages that hold its share of it. */
#ifndef RUNTIME_SCHEDULE_PREFIX_CACHE_H
#define RUNTIME_SCHEDULE_PREFIX_CACHE_H

#include "runtime/schedule/page_pool.h"
#include "runtime/schedule/sequence.h"

/* Sets `acts` and `key` of a policy from its coefficients. */
void tt_prefix_key_policy(struct tt_sequence *q, uint32_t policy, uint32_t n_layers);
/* Gives a sequence without pages those that exist already for the beginning of its tokens, and sets n_fed accordingly.
 * one_pass: its whole prompt is to run in one step, and its decision steers that step. */
void tt_prefix_acquire(struct tt_sequence *q, struct tt_page_pool *pool, bool one_pass);
/* Offers the pages that have become full to other sequences. */
void tt_prefix_publish(struct tt_sequence *q, struct tt_page_pool *pool);

#endif
