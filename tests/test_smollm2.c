/* The real model against float32 PyTorch on its dequantised weights. */
#include <unistd.h>

#include "real_model.h"

/* A page has records for four layers, so that many can be pooled for one request, whichever policies read them. */
Test(smollm2, gates_of_a_request_pool_four_layers_together)
{
	static const uint32_t observed[3][3] = {{3, 9, 20}, {3, 12, 20}, {7, 12, 20}};
	if (access(SMOLLM2, R_OK))
		cr_skip_test("no model: run `make model`");
	struct tt_engine *engine = engine_open(SMOLLM2, 8, 512);
	const struct tt_model_info *info = tt_engine_info(engine);
	struct tt_policy *policies[3] = {NULL};
	struct tt_request_options options;
	struct tt_request *request = NULL;
	struct tt_error refusal = {0};
	const int32_t ids[2] = {5, 6};
	tt_request_options_default(&options);
	options.ids = ids;
	options.n_ids = 2;
	for (int i = 0; i < 3; i++) {
		const struct tt_gate_choice gate = {
			.gate = TT_GATE_PROBE, .pool = TT_POOL_MEAN, .observed = observed[i], .n_observed = 3};
		must(tt_policy_new(&policies[i], info->n_layers, info->hidden_size, 1, err));
		must(tt_policy_set_gate(policies[i], &gate, err));
		policies[i]->weights[1] = policies[i]->directions[info->hidden_size] = 1;
		policy_adopt(engine, policies[i]);
		options.steering[i] = (struct tt_steering){policies[i], 1};
	}
	options.n_steering = 2;
	must(tt_request_submit(&request, engine, &options, err));
	tt_request_free(request);
	options.n_steering = 3;
	cr_expect_eq(tt_request_submit(&request, engine, &options, &refusal), TT_ERR_LIMIT);
	cr_expect(strstr(refusal.message, "more than 4 layers"), "%s", refusal.message);
	tt_engine_close(engine);
	for (int i = 0; i < 3; i++)
		tt_policy_free(policies[i]);
}

Test(smollm2, greedy_continuations_equal_pytorch)
{
	if (access(SMOLLM2, R_OK))
		cr_skip_test("no model: run `make model`");
	check_real_model(SMOLLM2, GOLDEN("smollm2/greedy.json"), 6, TT_TEXT_SPECIAL);
}
