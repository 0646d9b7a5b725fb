/* A policy file or a control vector: by its first bytes, tt_policy_load takes either reader. */
#include "controller/policy/control_vector.h"
#include "controller/policy/policy.h"
#include "target.h"

static volatile uint32_t sink;

void fuzz_one(const uint8_t *data, size_t size)
{
	struct tt_policy *policy = NULL;
	struct tt_policy_info info;
	struct tt_model_info model = {.fingerprint = "llama", .weights_digest = "ab"};
	struct tt_error err;
	uint32_t first, last;
	fuzz_file_set("policy.safetensors", data, size);
	if (tt_policy_load(&policy, "policy.safetensors", &err) != TT_OK)
		return;
	tt_policy_describe(policy, &info);
	if (tt_policy_band(policy, &first, &last))
		sink = tt_policy_has_direction(policy, first) + last;
	model.n_layers = policy->n_layers + 1;
	model.hidden_size = policy->hidden_size;
	if (tt_control_vector_is_free(policy) && tt_control_vector_adopt(policy, &model, &err) == TT_OK)
		sink = tt_policy_has_direction(policy, policy->n_layers - 1);
	if (tt_policy_keep_layers(policy, "1-3", &err) == TT_OK)
		sink = policy->weights[0] != 0;
	tt_policy_free(policy);
}
