/* The real model against float32 PyTorch on its dequantised weights. */
#include "golden.h"

#include <jansson.h>
#include <stdio.h>
#include <unistd.h>

/* Two candidates whose logits PyTorch itself has this close may change places under another order of summation: the
 * logits' absolute errors measured up to 6e-5. */
#define NEAR_TIE 1e-3

static bool same_greedy(struct tt_engine *engine, const json_t *row, size_t index)
{
	struct tt_request_options options;
	const json_t *ids = json_object_get(row, "ids"), *want = json_object_get(row, "greedy_ids");
	int32_t *prompt = malloc(json_array_size(ids) * sizeof *prompt), *encoded = NULL;
	size_t n_encoded = 0, n_want = json_array_size(want), n = 0;
	const char *text = json_string_value(json_object_get(row, "text"));
	for (size_t i = 0; i < json_array_size(ids); i++)
		prompt[i] = (int32_t)json_integer_value(json_array_get(ids, i));
	must(tt_text_encode(tt_engine_text(engine), text, strlen(text), TT_TEXT_SPECIAL, &encoded, &n_encoded, err));
	cr_assert_eq(n_encoded, json_array_size(ids), "prompt %zu has %zu ids", index, n_encoded);
	cr_assert_arr_eq(encoded, prompt, n_encoded * sizeof *prompt, "prompt %zu is tokenized otherwise", index);
	tt_request_options_default(&options);
	options.ids = prompt;
	options.n_ids = json_array_size(ids);
	options.max_tokens = (uint32_t)n_want;
	options.ignore_eos = true;
	struct tt_request *request = request_run(engine, &options);
	while (n < n_want && tt_request_generated(request)[n] == json_integer_value(json_array_get(want, n)))
		n++;
	if (n < n_want) {
		double gap = json_number_value(json_array_get(json_object_get(row, "gap"), n));
		fprintf(stderr, "prompt %zu differs from token %zu on, where PyTorch's two best are %g apart\n", index,
			n, gap);
		cr_expect(gap <= NEAR_TIE, "prompt %zu differs at token %zu with a gap of %g", index, n, gap);
	}
	tt_request_free(request);
	tt_free(encoded);
	free(prompt);
	return n == n_want;
}

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
	json_error_t where;
	json_t *rows = json_load_file(GOLDEN("smollm2/greedy.json"), 0, &where);
	cr_assert_not_null(rows, "%s", where.text);
	struct tt_engine *engine = engine_open(SMOLLM2, 8, 512);
	size_t same = 0;
	for (size_t i = 0; i < json_array_size(rows); i++)
		same += same_greedy(engine, json_array_get(rows, i), i);
	cr_assert_eq(json_array_size(rows), 6);
	cr_assert_geq(same, 5, "only %zu of 6 continuations are PyTorch's", same);
	tt_engine_close(engine);
	json_decref(rows);
}
