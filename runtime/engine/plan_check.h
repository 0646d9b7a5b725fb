/* Whether a step plan that came from another process is one that the ops can run: every index in it is in range. */
#ifndef RUNTIME_ENGINE_PLAN_CHECK_H
#define RUNTIME_ENGINE_PLAN_CHECK_H

#include "kernels/results.h"
#include "kernels/steer_slot.h"

struct tt_plan_bounds {
	const struct tt_limits *limits;
	const struct tt_config *config; /* of the whole model */
	uint32_t n_pages;
	uint32_t n_sampled;                /* samples of the step before, which tokens may stand for */
	const struct tt_steer_slot *slots; // [TT_MAX_SLOTS] free where weights is NULL
	bool has_sums;                     /* pages have their records */
};

/* step: at least n_bytes, which nobody else writes to. TT_ERR_FORMAT names what is not as it should be. */
int tt_plan_check(
	const struct tt_step_plan *step, size_t n_bytes, const struct tt_plan_bounds *bounds, struct tt_error *err);

#endif
