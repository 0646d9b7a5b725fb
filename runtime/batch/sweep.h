/* The policies that rows may name, and the sweep over them. */
#ifndef RUNTIME_BATCH_SWEEP_H
#define RUNTIME_BATCH_SWEEP_H

#include "trimtab.h"

enum { TT_MAX_BATCH_POLICIES = 256, TT_MAX_SWEEP = 1024 };

struct tt_named_policy {
	const char *name; /* borrowed from the options */
	struct tt_policy *policy;
	char sha256[65]; /* of its file */
};

struct tt_named_policies {
	struct tt_named_policy *list; // [n]
	size_t n;
};

/* Loads the files and adds them to the engine; a warning goes to options->note. */
int tt_named_policies_load(struct tt_named_policies *out, struct tt_engine *engine,
	const struct tt_batch_options *options, struct tt_error *err);
/* After their requests. */
void tt_named_policies_free(struct tt_named_policies *policies, struct tt_engine *engine);
/* NULL when there is none of that name. */
struct tt_policy *tt_named_policies_find(const struct tt_named_policies *policies, const char *name);

struct tt_sweep_case {
	size_t policy; /* index */
	float scale;
	char *suffix; /* "#NAME@SCALE", the scale as it was written */
};

struct tt_sweep {
	struct tt_sweep_case *cases; // [n], scales within names; none without a sweep
	size_t n;
};

/* Checks the names and reads the sweep. */
int tt_sweep_parse(struct tt_sweep *out, const struct tt_batch_options *options, struct tt_error *err);
void tt_sweep_free(struct tt_sweep *sweep);

#endif
