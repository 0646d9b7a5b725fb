/* The sweep: every row is answered under each of some policies at each of some scales. */
#ifndef RUNTIME_BATCH_SWEEP_H
#define RUNTIME_BATCH_SWEEP_H

#include "runtime/trimtab.h"

enum { TT_MAX_BATCH_POLICIES = 256, TT_MAX_SWEEP = 1024 };

struct tt_sweep_case {
	size_t policy; /* index into the options' policies */
	float scale;
	char *suffix; /* "#NAME@SCALE", with the scale as the user wrote it */
};

struct tt_sweep {
	struct tt_sweep_case *cases; // [n] all scales of the first name, then of the second ...; NULL without a sweep
	size_t n;
};

/* Checks the names and reads the sweep. */
int tt_sweep_parse(struct tt_sweep *out, const struct tt_batch_options *options, struct tt_error *err);
void tt_sweep_free(struct tt_sweep *sweep);

#endif
