#include "runtime/batch/sweep.h"

#include <stdlib.h>

#include "base/fail.h"
#include "base/memory.h"

int tt_batch_sweep(struct tt_sweep *out, const struct tt_batch_options *o, struct tt_error *err)
{
	const char **names = NULL; // [n_policies]
	*out = (struct tt_sweep){0};
	TT_TRY(tt_need_list(o->policies, o->n_policies, "policies", err));
	/* Before the names are read: a list need not be as long as a count that is refused. */
	if (o->n_policies > TT_MAX_SWEEP_NAMES)
		return tt_fail(err, TT_ERR_ARGUMENT, "more than %d policies", TT_MAX_SWEEP_NAMES);
	TT_TRY(tt_alloc(&names, o->n_policies, sizeof *names, err));
	for (size_t i = 0; i < o->n_policies; i++)
		names[i] = o->policies[i].name;
	int status = tt_sweep_parse(out, names, o->n_policies, o->sweep, err);
	for (size_t i = 0; status == TT_OK && i < o->n_policies; i++)
		status = tt_need(o->policies[i].path, "the path of a policy", err);
	free(names);
	if (status != TT_OK)
		tt_sweep_free(out);
	return status;
}
