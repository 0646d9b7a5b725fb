/* The policy files of scripts/goldens/make_policy_goldens.py. */
#ifndef TESTS_POLICY_FILES_H
#define TESTS_POLICY_FILES_H

#include <criterion/criterion.h>

#include "controller/policy/policy.h"

#define POLICY(name) TT_TEST_DATA "/policy/" name ".safetensors"

/* Names for files in a scratch folder. */
static const char *const FILES[] = {"p.safetensors", "q.safetensors"};

/* The policy in a file that must be one; the caller frees it. */
static inline struct tt_policy *load(const char *path)
{
	struct tt_policy *policy = NULL;
	struct tt_error err = {0};
	cr_assert_eq(tt_policy_load(&policy, path, &err), TT_OK, "%s", err.message);
	return policy;
}

#endif
