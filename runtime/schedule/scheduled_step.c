#include "runtime/schedule/scheduled_step.h"

#include <stdlib.h>

#include "base/fail.h"
#include "base/memory.h"

int tt_scheduled_step_open(struct tt_scheduled_step *plan, const struct tt_limits *limits, struct tt_error *err)
{
	TT_TRY(tt_alloc_aligned(&plan->step, limits->plan_bytes, 1, err));
	TT_TRY(tt_alloc(&plan->planned, limits->max_seqs, sizeof *plan->planned, err));
	return tt_alloc(&plan->restores, limits->n_rows, sizeof *plan->restores, err);
}

void tt_scheduled_step_close(struct tt_scheduled_step *plan)
{
	free(plan->step);
	free(plan->planned);
	free(plan->restores);
}
