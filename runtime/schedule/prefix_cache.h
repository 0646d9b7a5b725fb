/* Which pages may serve more than one sequence: full ones, keyed by every token up to their end and by what steered each.
 * A coefficient of 0 steers nothing, so a closed gate and scale 0 share with the unsteered. */
#ifndef RUNTIME_SCHEDULE_PREFIX_CACHE_H
#define RUNTIME_SCHEDULE_PREFIX_CACHE_H

#include "runtime/schedule/page_pool.h"
#include "runtime/schedule/sequence.h"

/* Works out acts and key of a policy from its coefficients. */
void tt_prefix_key_policy(struct tt_sequence *q, uint32_t policy, uint32_t n_layers);
/* Takes the pages that are there already for a sequence that has none. one_pass: its whole prompt is to run in one step,
 * which its decision steers. */
void tt_prefix_acquire(struct tt_sequence *q, struct tt_page_pool *pool, bool one_pass);
/* Offers the pages that have become full to others. */
void tt_prefix_publish(struct tt_sequence *q, struct tt_page_pool *pool);

#endif
