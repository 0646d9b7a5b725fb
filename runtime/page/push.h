/* How hard layers were pushed: the length of what was added to the residual stream, over the stream's own. */
#ifndef PAGE_PUSH_H
#define PAGE_PUSH_H

#include "runtime/trimtab.h"

/* Adds |h' - h| / |h| of a request that was submitted with trace, summed over its policies, to push
 * [n_positions][n_layers], which is zero, and returns the largest. A position is 0 where nothing ran. */
float tt_push_fill(float *push, size_t n_positions, const struct tt_request *request,
	const struct tt_steering *steering, uint32_t n_steering, uint32_t n_layers);
/* Whether a gate of these policies reads the layer at the last prompt token. */
bool tt_push_is_read(const struct tt_steering *steering, uint32_t n_steering, uint32_t layer);

#endif
