/* A policy file. */
#include "controller/policy/policy.h"
#include "target.h"

static volatile uint32_t sink;

void fuzz_one(const uint8_t *data, size_t size)
{
	struct tt_policy *policy = NULL;
	struct tt_policy_info info;
	struct tt_error err;
	uint32_t first, last;
	fuzz_file_set("policy.safetensors", data, size);
	if (tt_policy_load(&policy, "policy.safetensors", &err) != TT_OK)
		return;
	tt_policy_describe(policy, &info);
	if (tt_policy_band(policy, &first, &last))
		sink = tt_policy_has_direction(policy, first) + last;
	tt_policy_free(policy);
}
