/* The policies that requests may name. */
#ifndef RUNTIME_OPENAI_POLICY_NAMES_H
#define RUNTIME_OPENAI_POLICY_NAMES_H

#include <stdbool.h>

#include "runtime/trimtab.h"

/* The label of what a request gets that names a policy and no more. */
#define TT_STANDARD_LABEL "production"

struct tt_named_policy {
	const char *name;  /* borrowed from who gave it */
	const char *label; /* likewise; NULL: it comes from a file, and has none */
	float least, most; /* of one with a label: the scales that may be asked for */
	bool killed;       /* it does not steer */
	struct tt_policy *policy;
	char sha256[65]; /* of the policy's file */
};

struct tt_named_policies {
	struct tt_named_policy *list; // [n]
	size_t n;
};

struct tt_policy_files {
	const struct tt_batch_policy *list; // [n]
	size_t n;
	const char *layers;                         /* they steer no others, "8-14"; NULL: each its own */
	void (*note)(void *user, const char *line); /* gets warnings; may be NULL */
	void *user;
};

/* Loads the files and adds them to the engine. */
int tt_named_policies_load(struct tt_named_policies *out, struct tt_engine *engine, const struct tt_policy_files *files,
	struct tt_error *err);
/* Removes the policies from the engine and frees them. The requests that use them must be freed before. */
void tt_named_policies_free(struct tt_named_policies *policies, struct tt_engine *engine);
/* The policy with this name, or NULL; policies may be NULL. */
const struct tt_named_policy *tt_named_policies_find(const struct tt_named_policies *policies, const char *name);

#endif
