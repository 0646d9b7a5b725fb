/* The sweep of a batch: every row is answered under each of some policies at each of some scales. */
#ifndef RUNTIME_BATCH_SWEEP_H
#define RUNTIME_BATCH_SWEEP_H

#include "base/sweep.h"
#include "runtime/trimtab.h"

/* Checks the policies' names and paths, and reads the sweep. A case's name is an index into the policies. */
int tt_batch_sweep(struct tt_sweep *out, const struct tt_batch_options *options, struct tt_error *err);

#endif
