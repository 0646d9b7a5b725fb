/* Steering in a whole model: compared with PyTorch and its hooks, and the promises about equal bits. */
#include "golden.h"

#define MODEL GOLDEN("tiny-llama")

static const uint64_t EVERY_LAYER[(TT_MAX_LAYERS + 63) / 64] = {~0ull};

/* Copies the n numbers of a layer's tensor to out. */
static void read_layer(const struct tt_safetensors *golden, const char *format, uint32_t layer, float *out, size_t n)
{
	char name[32];
	snprintf(name, sizeof name, format, layer);
	const struct tt_st_tensor *tensor = golden_tensor(golden, name);
	cr_assert_eq(tensor->n_elements, n, "%s", name);
	memcpy(out, tensor->data, n * sizeof *out);
}

/* Reads the tensors that the policy's operation has on layer l. */
static void read_operation(struct tt_policy *p, const struct tt_safetensors *golden, uint32_t l)
{
	const struct tt_policy_row *row = &tt_operation_of(p->op)->row;
	for (uint32_t i = 0; i < row->n_tensors; i++) {
		const struct tt_policy_tensor *tensor = &row->tensors[i];
		size_t n = tt_tensor_size(p, tensor->shape) / p->n_layers;
		read_layer(golden, tensor->name, l, tt_tensor_values(p, tensor) + l * n, n);
	}
}

static struct tt_policy *new_policy(struct tt_engine *engine, enum tt_policy_op op, uint32_t n_directions)
{
	const struct tt_model_info *info = tt_engine_info(engine);
	struct tt_policy *policy = NULL;
	must(tt_policy_new(&policy, info->n_layers, info->hidden_size, n_directions, err));
	must(tt_policy_set_operation(policy, op, err));
	return policy;
}

enum { AFFINE_RANK = 4 }; /* in the goldens */

static uint32_t golden_rows(enum tt_policy_op op)
{
	return op == TT_OP_AFFINE ? AFFINE_RANK : tt_operation_of(op)->min_rows;
}

/* Makes a policy from a golden's tensors: coef[l] = alpha * w[l], and the direction takes the sign of the
 * coefficient. */
static struct tt_policy *golden_policy(
	struct tt_engine *engine, const struct tt_safetensors *golden, enum tt_policy_op op)
{
	struct tt_policy *policy = new_policy(engine, op, golden_rows(op));
	size_t n;
	float *coef = golden_floats(golden, "coef", &n), largest = 0;
	for (uint32_t l = 0; l < n; l++)
		largest = fmaxf(largest, fabsf(coef[l]));
	policy->alpha = largest;
	for (uint32_t l = 0; l < n; l++) {
		if (coef[l] == 0)
			continue;
		read_operation(policy, golden, l);
		policy->weights[l] = fabsf(coef[l]) / largest;
		cr_assert(coef[l] > 0 || op == TT_OP_ADD);
		for (size_t i = 0; i < policy->hidden_size && coef[l] < 0; i++)
			policy->directions[l * policy->hidden_size + i] *= -1;
	}
	free(coef);
	policy_adopt(engine, policy);
	return policy;
}

static void read_all(const struct tt_safetensors *golden, const char *name, float *out, size_t n)
{
	const struct tt_st_tensor *tensor = golden_tensor(golden, name);
	cr_assert_eq(tensor->n_elements, n, "%s", name);
	memcpy(out, tensor->data, n * sizeof *out);
}

/* Makes an affine policy whose gate is an mlp. */
static struct tt_policy *gated_policy(struct tt_engine *engine, const struct tt_safetensors *golden,
	const uint32_t *observed, uint32_t n_observed, bool unbounded)
{
	struct tt_policy *p = new_policy(engine, TT_OP_AFFINE, AFFINE_RANK);
	size_t n_units = golden_tensor(golden, "gate.fc1.bias")->n_elements, n_outputs = 1 + (size_t)p->n_layers;
	const struct tt_gate_choice gate = {
		.gate = TT_GATE_MLP, .observed = observed, .n_observed = n_observed, .n_units = (uint32_t)n_units};
	must(tt_policy_set_gate(p, &gate, err));
	read_all(golden, "gate.fc1.weight", p->fc1_weight, n_units * n_observed * p->hidden_size);
	read_all(golden, "gate.fc1.bias", p->fc1_bias, n_units);
	read_all(golden, "gate.fc2.weight", p->fc2_weight, n_outputs * n_units);
	read_all(golden, "gate.fc2.bias", p->fc2_bias, n_outputs);
	read_all(golden, "weight", p->weights, p->n_layers);
	p->alpha = 2;
	p->gate_form = unbounded;
	for (uint32_t l = 0; l < p->n_layers; l++)
		if (p->weights[l] != 0)
			read_operation(p, golden, l);
	policy_adopt(engine, p);
	return p;
}

/* Compares the gate's report. The stream that it reads is within TOLERANCE of PyTorch's, and the network does not
 * magnify the difference much. */
static void check_decision(const struct tt_request *request, const struct tt_safetensors *golden)
{
	struct tt_decision decision;
	size_t n, n_coef;
	float *s = golden_floats(golden, "s", &n), *output = golden_floats(golden, "output", &n);
	float *coef = golden_floats(golden, "coef", &n_coef);
	cr_assert(tt_request_decision(request, 0, &decision));
	cr_assert_float_eq(decision.s, *s, 3 * TOLERANCE, "s is %g, not %g", decision.s, *s);
	cr_assert_float_eq(decision.gate, *output, 3 * TOLERANCE * (1 + fabsf(*output)));
	for (size_t l = 0; l < n_coef; l++)
		cr_assert_float_eq(decision.coef[l], coef[l], 3 * TOLERANCE, "coefficient %zu", l);
	free(s);
	free(output);
	free(coef);
}

static void check_hidden(struct tt_engine *engine, const struct tt_safetensors *golden, struct tt_policy *policy)
{
	const struct tt_model_info *info = tt_engine_info(engine);
	struct tt_request_options options;
	size_t n, n_positions, n_want;
	int32_t *ids = golden_ints(golden, "ids", &n),
		*positions = golden_ints(golden, "positions_hidden", &n_positions);
	tt_request_options_default(&options);
	options.ids = ids;
	options.n_ids = n;
	options.keep_layers = EVERY_LAYER;
	options.n_steering = 1;
	options.steering[0] = (struct tt_steering){policy, 1};
	options.when = TT_WHEN_ALL;
	struct tt_request *request = request_run(engine, &options);
	if (policy->gate == TT_GATE_MLP)
		check_decision(request, golden);
	for (uint32_t l = 0; l < info->n_layers; l++) {
		char name[32];
		snprintf(name, sizeof name, "hidden.%u", l);
		float *want = golden_floats(golden, name, &n_want), *got = malloc(n_want * sizeof *got);
		for (size_t i = 0; i < n_positions; i++)
			memcpy(got + i * info->hidden_size,
				tt_request_hidden(request, l) + (size_t)positions[i] * info->hidden_size,
				info->hidden_size * sizeof *got);
		double error = relative_error(got, want, n_want);
		cr_assert(error <= TOLERANCE, "%s is %g off", name, error);
		free(want);
		free(got);
	}
	tt_request_free(request);
	free(ids);
	free(positions);
}

static void check_greedy(struct tt_engine *engine, const struct tt_safetensors *golden, struct tt_policy *policy,
	const char *name, enum tt_policy_when when)
{
	struct tt_request_options options;
	size_t n_prompt, n_want;
	int32_t *prompt = golden_ints(golden, "greedy_prompt", &n_prompt), *want = golden_ints(golden, name, &n_want);
	tt_request_options_default(&options);
	options.ids = prompt;
	options.n_ids = n_prompt;
	options.n_steering = 1;
	options.steering[0] = (struct tt_steering){policy, 1};
	options.when = when;
	check_greedy_tokens(engine, &options, want, n_want, name);
	free(prompt);
	free(want);
}

static void check_policy(struct tt_engine *engine, const struct tt_safetensors *golden, struct tt_policy *policy)
{
	check_hidden(engine, golden, policy);
	check_greedy(engine, golden, policy, "greedy_ids.all", TT_WHEN_ALL);
	check_greedy(engine, golden, policy, "greedy_ids.last", TT_WHEN_LAST);
	check_greedy(engine, golden, policy, "greedy_ids.generation", TT_WHEN_GENERATION);
}

/* The engine copies the form when the policy is added, so the policy is added again. */
static void in_form(struct tt_engine *engine, struct tt_policy *policy, uint32_t form)
{
	must(tt_engine_remove_policy(engine, policy, err));
	policy->form = form;
	must(tt_engine_add_policy(engine, policy, NULL, err));
}

static void check_operation(const char *path, enum tt_policy_op op, uint32_t form)
{
	struct tt_engine *engine = engine_open(MODEL, 4, 512);
	struct tt_safetensors *golden = golden_open(path);
	struct tt_policy *policy = golden_policy(engine, golden, op);
	in_form(engine, policy, form);
	check_policy(engine, golden, policy);
	tt_engine_close(engine);
	tt_policy_free(policy);
	tt_safetensors_close(golden);
}

/* In Gemma a norm ends a block, and steering comes after it. */
#ifndef TT_TEST_CUDA
Test(steering, add_on_gemma_equals_pytorch)
{
	struct tt_engine *engine = engine_open(GOLDEN("tiny-gemma2"), 4, 512);
	struct tt_safetensors *golden = golden_open(GOLDEN("tiny-gemma2/steered_add.safetensors"));
	struct tt_policy *policy = golden_policy(engine, golden, TT_OP_ADD);
	check_hidden(engine, golden, policy);
	tt_engine_close(engine);
	tt_policy_free(policy);
	tt_safetensors_close(golden);
}
#endif

Test(steering, add_equals_pytorch)
{
	check_operation(GOLDEN("tiny-llama/steered_add.safetensors"), TT_OP_ADD, 0);
}

Test(steering, ablate_equals_pytorch)
{
	check_operation(GOLDEN("tiny-llama/steered_ablate.safetensors"), TT_OP_ABLATE, 0);
}

Test(steering, clamp_equals_pytorch)
{
	check_operation(GOLDEN("tiny-llama/steered_clamp.safetensors"), TT_OP_CLAMP, 0);
}

Test(steering, affine_equals_pytorch)
{
	check_operation(GOLDEN("tiny-llama/steered_affine.safetensors"), TT_OP_AFFINE, 0);
}

Test(steering, one_sided_equals_pytorch)
{
	check_operation(GOLDEN("tiny-llama/steered_one_sided.safetensors"), TT_OP_ONE_SIDED, 0);
}

Test(steering, an_add_that_keeps_the_length_equals_pytorch)
{
	check_operation(GOLDEN("tiny-llama/steered_add_keep.safetensors"), TT_OP_ADD, 1);
}

Test(steering, rotate_equals_pytorch)
{
	check_operation(GOLDEN("tiny-llama/steered_rotate.safetensors"), TT_OP_ROTATE, 0);
}

static void check_gated(const char *path, const uint32_t *observed, uint32_t n_observed, bool unbounded)
{
	struct tt_engine *engine = engine_open(MODEL, 4, 512);
	struct tt_safetensors *golden = golden_open(path);
	struct tt_policy *policy = gated_policy(engine, golden, observed, n_observed, unbounded);
	check_policy(engine, golden, policy);
	tt_engine_close(engine);
	tt_policy_free(policy);
	tt_safetensors_close(golden);
}

/* The gate reads layer 0, before the layers that it steers; in the second case also the last layer, after them. */
Test(steering, affine_behind_an_mlp_equals_pytorch)
{
	check_gated(GOLDEN("tiny-llama/steered_mlp.safetensors"), (const uint32_t[]){0}, 1, false);
}

Test(steering, affine_behind_an_unbounded_mlp_equals_pytorch)
{
	check_gated(GOLDEN("tiny-llama/steered_mlp_unbounded.safetensors"), (const uint32_t[]){0, 2}, 2, true);
}

/* ---- Bits ---- */

enum { N_PROMPT = 40, N_GENERATED = 10 };

static void make_prompt(uint32_t seed, int32_t ids[N_PROMPT])
{
	uint32_t state = seed * 2654435761u + 1;
	for (size_t i = 0; i < N_PROMPT; i++) {
		state = state * 1664525u + 1013904223u;
		ids[i] = (int32_t)(state >> 16) % 256;
	}
}

/* A probe on layer `observed` that steers the layers from `first` on. Only its bias decides. */
static struct tt_policy *probe_policy(struct tt_engine *engine, uint32_t observed, uint32_t first, float bias)
{
	const struct tt_model_info *info = tt_engine_info(engine);
	struct tt_policy *policy = NULL;
	must(tt_policy_new(&policy, info->n_layers, info->hidden_size, 1, err));
	policy->alpha = 1;
	policy->gate = TT_GATE_PROBE;
	policy->n_observed = 1;
	policy->observed = malloc(sizeof(uint32_t));
	policy->observed[0] = observed;
	policy->gate_weight = calloc(info->hidden_size, sizeof(float));
	policy->gate_bias = bias;
	policy->threshold = 0.5f;
	for (uint32_t l = first; l < info->n_layers; l++) {
		policy->weights[l] = 1;
		for (uint32_t i = 0; i < info->hidden_size; i++)
			policy->directions[(size_t)l * info->hidden_size + i] = 0.3f * sinf((float)(i * (l + 2)));
	}
	policy_adopt(engine, policy);
	return policy;
}

struct outcome {
	int32_t ids[N_GENERATED];
	float logprobs[N_GENERATED];
	float s, gate;
};

static struct outcome generate(
	struct tt_engine *engine, uint32_t seed, struct tt_policy *policy, float scale, enum tt_policy_when when)
{
	int32_t ids[N_PROMPT];
	struct tt_request_options options;
	struct outcome out = {0};
	struct tt_token token;
	struct tt_decision decision;
	make_prompt(seed, ids);
	tt_request_options_default(&options);
	options.ids = ids;
	options.n_ids = N_PROMPT;
	options.max_tokens = N_GENERATED;
	options.ignore_eos = true;
	options.n_steering = policy != NULL;
	options.steering[0] = (struct tt_steering){policy, scale};
	options.when = when;
	struct tt_request *request = request_run(engine, &options);
	for (size_t i = 0; tt_request_next(request, &token); i++) {
		out.ids[i] = token.id;
		out.logprobs[i] = token.logprob;
	}
	if (tt_request_decision(request, 0, &decision)) {
		out.s = decision.s;
		out.gate = decision.gate;
	}
	tt_request_free(request);
	return out;
}

static bool same_bits(const struct outcome *a, const struct outcome *b)
{
	return !memcmp(a->ids, b->ids, sizeof a->ids) && !memcmp(a->logprobs, b->logprobs, sizeof a->logprobs);
}

Test(steering, scale_0_and_a_closed_gate_are_the_bits_of_no_policy)
{
	struct tt_engine *engine = engine_open(MODEL, 4, 512);
	struct tt_policy *open = probe_policy(engine, 0, 1, 5), *closed = probe_policy(engine, 0, 1, -5);
	for (enum tt_policy_when when = TT_WHEN_GENERATION; when <= TT_WHEN_ALL; when++) {
		struct outcome none = generate(engine, 1, NULL, 0, when), zero = generate(engine, 1, open, 0, when);
		struct outcome shut = generate(engine, 1, closed, 1, when),
			       steered = generate(engine, 1, open, 1, when);
		cr_assert(same_bits(&none, &zero), "scale 0, when %d", when);
		cr_assert(same_bits(&none, &shut), "closed gate, when %d", when);
		cr_assert(!same_bits(&none, &steered), "the open gate steers, when %d", when);
		cr_assert_eq(shut.s, 0);
		cr_assert_eq(steered.s, 1);
		cr_assert_float_eq(steered.gate, 1 / (1 + exp(-5)), 1e-6);
	}
	tt_engine_close(engine);
	tt_policy_free(open);
	tt_policy_free(closed);
}

/* The gate reads a layer before the first steered one: one pass is enough if the prompt fits in a step, and two are
 * needed if it comes in chunks. */
Test(steering, one_pass_and_two_passes_give_the_same_bits)
{
	struct tt_engine *whole = engine_open(MODEL, 4, 512), *chunked = engine_open(MODEL, 4, 13);
	struct tt_policy *a = probe_policy(whole, 0, 1, 5), *b = probe_policy(chunked, 0, 1, 5);
	struct tt_engine_stats stats;
	for (enum tt_policy_when when = TT_WHEN_GENERATION; when <= TT_WHEN_ALL; when++) {
		struct outcome one = generate(whole, 3, a, 1, when), two = generate(chunked, 3, b, 1, when);
		cr_assert(same_bits(&one, &two), "when %d", when);
	}
	tt_engine_stats(whole, &stats);
	cr_assert_eq(stats.n_reruns, 0);
	tt_engine_stats(chunked, &stats);
	cr_assert_eq(stats.n_reruns, 1, "only `all` in chunks runs again, not %zu times", (size_t)stats.n_reruns);
	tt_engine_close(whole);
	tt_engine_close(chunked);
	tt_policy_free(a);
	tt_policy_free(b);
}

/* A gate after the first steered layer always needs the second pass; an always-gate with the same coefficients gives
 * the same answer without one. */
Test(steering, a_late_gate_equals_an_always_gate)
{
	struct tt_engine *engine = engine_open(MODEL, 4, 512);
	struct tt_policy *late = probe_policy(engine, 2, 1, 5), *always = probe_policy(engine, 0, 1, 5),
			 *never = probe_policy(engine, 2, 1, -5);
	struct tt_engine_stats stats;
	must(tt_engine_remove_policy(engine, always, err));
	always->gate = TT_GATE_ALWAYS;
	always->n_observed = 0;
	must(tt_engine_add_policy(engine, always, NULL, err));
	for (enum tt_policy_when when = TT_WHEN_GENERATION; when <= TT_WHEN_ALL; when++) {
		struct outcome a = generate(engine, 4, late, 1, when), b = generate(engine, 4, always, 1, when);
		cr_assert(same_bits(&a, &b), "when %d", when);
	}
	tt_engine_stats(engine, &stats);
	cr_assert_eq(stats.n_reruns, 2, "last and all run again");
	generate(engine, 4, never, 1, TT_WHEN_ALL);
	tt_engine_stats(engine, &stats);
	cr_assert_eq(stats.n_reruns, 2, "a prompt that was not flagged does not");
	tt_engine_close(engine);
	tt_policy_free(late);
	tt_policy_free(always);
	tt_policy_free(never);
}

/* A gate that reads the very layer that is steered first decides too late for it, so it needs the second pass too. */
Test(steering, a_gate_on_the_first_steered_layer_equals_an_always_gate)
{
	struct tt_engine *engine = engine_open(MODEL, 4, 512);
	struct tt_policy *gated = probe_policy(engine, 1, 1, 5), *always = probe_policy(engine, 0, 1, 5);
	struct tt_engine_stats stats;
	must(tt_engine_remove_policy(engine, always, err));
	always->gate = TT_GATE_ALWAYS;
	always->n_observed = 0;
	must(tt_engine_add_policy(engine, always, NULL, err));
	for (enum tt_policy_when when = TT_WHEN_GENERATION; when <= TT_WHEN_ALL; when++) {
		struct outcome a = generate(engine, 4, gated, 1, when), b = generate(engine, 4, always, 1, when);
		cr_assert(same_bits(&a, &b), "when %d", when);
	}
	tt_engine_stats(engine, &stats);
	cr_assert_eq(stats.n_reruns, 2, "last and all run again");
	tt_engine_close(engine);
	tt_policy_free(gated);
	tt_policy_free(always);
}

/* Every row of a batch has another policy and scale, and is compared with the same request alone. */
Test(steering, a_row_keeps_its_own_policy_in_a_batch)
{
	enum { N = 9 };
	struct tt_engine *engine = engine_open(MODEL, N, 64), *alone = engine_open(MODEL, 1, 512);
	struct tt_policy *policies[N], *copies[N];
	struct tt_request *requests[N];
	for (uint32_t i = 0; i < N; i++) {
		policies[i] = probe_policy(engine, i % 3, 1 + i % 2, i % 4 ? 3 : -3);
		copies[i] = probe_policy(alone, i % 3, 1 + i % 2, i % 4 ? 3 : -3);
	}
	for (uint32_t i = 0; i < N; i++) {
		int32_t ids[N_PROMPT];
		struct tt_request_options options;
		make_prompt(i, ids);
		tt_request_options_default(&options);
		options.ids = ids;
		options.n_ids = N_PROMPT;
		options.max_tokens = N_GENERATED;
		options.ignore_eos = true;
		options.n_steering = 1;
		options.steering[0] = (struct tt_steering){policies[i], 0.5f + 0.25f * (float)i};
		options.when = (enum tt_policy_when)(i % 3);
		must(tt_request_submit(&requests[i], engine, &options, err));
	}
	for (uint32_t i = 0; i < N; i++) {
		must(tt_request_wait(requests[i], err));
		struct outcome want =
			generate(alone, i, copies[i], 0.5f + 0.25f * (float)i, (enum tt_policy_when)(i % 3));
		cr_assert_arr_eq(tt_request_generated(requests[i]), want.ids, sizeof want.ids, "row %u", i);
		tt_request_free(requests[i]);
	}
	tt_engine_close(engine);
	tt_engine_close(alone);
	for (uint32_t i = 0; i < N; i++) {
		tt_policy_free(policies[i]);
		tt_policy_free(copies[i]);
	}
}

/* For an operation that keeps the length of the stream, the norms show it, and each row of a batch has the bits that it
 * has alone. */
static void check_kept(const char *path, enum tt_policy_op op, uint32_t form)
{
	enum { N = 5 };
	struct tt_engine *engine = engine_open(MODEL, N, 64), *alone = engine_open(MODEL, 1, 512);
	struct tt_safetensors *golden = golden_open(path);
	struct tt_policy *policy = golden_policy(engine, golden, op), *copy = golden_policy(alone, golden, op);
	struct tt_request *requests[N];
	uint32_t n_layers = policy->n_layers, n_steered = 0;
	struct tt_engine *engines[] = {engine, alone};
	struct tt_policy *both[] = {policy, copy};
	for (int i = 0; i < 2; i++)
		in_form(engines[i], both[i], form);
	for (uint32_t i = 0; i < N; i++) {
		int32_t ids[N_PROMPT];
		struct tt_request_options options;
		make_prompt(i, ids);
		tt_request_options_default(&options);
		options.ids = ids;
		options.n_ids = N_PROMPT;
		options.max_tokens = N_GENERATED;
		options.ignore_eos = true;
		options.trace = true;
		options.n_steering = i > 0;
		options.steering[0] = (struct tt_steering){policy, 0.25f + 0.5f * (float)i};
		options.when = TT_WHEN_ALL;
		must(tt_request_submit(&requests[i], engine, &options, err));
	}
	for (uint32_t i = 0; i < N; i++) {
		size_t n;
		must(tt_request_wait(requests[i], err));
		struct outcome want = generate(alone, i, i ? copy : NULL, 0.25f + 0.5f * (float)i, TT_WHEN_ALL);
		struct tt_token token;
		cr_assert_arr_eq(tt_request_generated(requests[i]), want.ids, sizeof want.ids, "row %u", i);
		for (size_t k = 0; tt_request_next(requests[i], &token); k++)
			cr_assert_eq(token.logprob, want.logprobs[k], "row %u, token %zu", i, k);
		const float *norms = tt_request_norms(requests[i], &n);
		for (size_t k = 0; i && k < n * n_layers; k++) {
			double before = (double)norms[2 * k], after = (double)norms[2 * k + 1];
			cr_assert_float_eq(after, before, 1e-6 * before, "row %u: %g became %g", i, before, after);
			n_steered += before > 0;
		}
		tt_request_free(requests[i]);
	}
	cr_assert_gt(n_steered, 0);
	tt_engine_close(engine);
	tt_engine_close(alone);
	tt_policy_free(policy);
	tt_policy_free(copy);
	tt_safetensors_close(golden);
}

Test(steering, what_keeps_the_length_keeps_its_bits_in_a_batch)
{
	check_kept(GOLDEN("tiny-llama/steered_add_keep.safetensors"), TT_OP_ADD, 1);
	check_kept(GOLDEN("tiny-llama/steered_rotate.safetensors"), TT_OP_ROTATE, 0);
	check_kept(GOLDEN("tiny-llama/steered_rotate.safetensors"), TT_OP_ROTATE, 1);
}

/* A coefficient row passes from request to request. The coefficients of its former owner must not steer the layers that
 * the next request runs before its own gate is decided; such a layer has a direction, but no weight. */
Test(steering, a_row_forgets_its_former_owner)
{
	struct tt_engine *used = engine_open(MODEL, 1, 512), *fresh = engine_open(MODEL, 1, 512);
	struct tt_policy *former = probe_policy(used, 0, 1, 5);
	struct tt_policy *policies[2] = {probe_policy(used, 1, 2, 5), probe_policy(fresh, 1, 2, 5)};
	struct tt_engine *engines[2] = {used, fresh};
	for (int i = 0; i < 2; i++) {
		must(tt_engine_remove_policy(engines[i], policies[i], err));
		for (uint32_t k = 0; k < policies[i]->hidden_size; k++)
			policies[i]->directions[policies[i]->hidden_size + k] = 1;
		must(tt_engine_add_policy(engines[i], policies[i], NULL, err));
	}
	generate(used, 6, former, 1, TT_WHEN_ALL);
	struct outcome a = generate(used, 6, policies[0], 1, TT_WHEN_ALL);
	struct outcome b = generate(fresh, 6, policies[1], 1, TT_WHEN_ALL);
	cr_assert(same_bits(&a, &b));
	tt_engine_close(used);
	tt_engine_close(fresh);
	tt_policy_free(former);
	tt_policy_free(policies[0]);
	tt_policy_free(policies[1]);
}

/* Two policies that differ only in W are different: neither may use the pages that the other has filled. */
Test(steering, pages_are_not_shared_between_affine_maps)
{
	struct tt_engine *engine = engine_open(MODEL, 4, 512), *fresh = engine_open(MODEL, 4, 512);
	struct tt_safetensors *golden = golden_open(GOLDEN("tiny-llama/steered_affine.safetensors"));
	struct tt_policy *policies[3];
	for (int i = 0; i < 3; i++) {
		struct tt_engine *on = i < 2 ? engine : fresh;
		policies[i] = golden_policy(on, golden, TT_OP_AFFINE);
		if (i == 0)
			continue;
		must(tt_engine_remove_policy(on, policies[i], err));
		for (uint32_t k = 0; k < policies[i]->hidden_size; k++)
			policies[i]->affine[k] += 0.5f;
		must(tt_engine_add_policy(on, policies[i], NULL, err));
	}
	struct outcome first = generate(engine, 2, policies[0], 1, TT_WHEN_ALL);
	struct outcome second = generate(engine, 2, policies[1], 1, TT_WHEN_ALL);
	struct outcome alone = generate(fresh, 2, policies[2], 1, TT_WHEN_ALL);
	cr_assert(same_bits(&second, &alone));
	cr_assert(!same_bits(&first, &second));
	tt_engine_close(engine);
	tt_engine_close(fresh);
	tt_safetensors_close(golden);
	for (int i = 0; i < 3; i++)
		tt_policy_free(policies[i]);
}

/* ---- Stacks ---- */

static struct tt_policy *last_layer_policy(
	struct tt_engine *engine, enum tt_policy_op op, uint32_t seed, float *direction)
{
	const struct tt_model_info *info = tt_engine_info(engine);
	struct tt_policy *policy = NULL;
	must(tt_policy_new(&policy, info->n_layers, info->hidden_size, 1, err));
	policy->op = op;
	policy->when = TT_WHEN_ALL;
	policy->alpha = 1;
	policy->weights[info->n_layers - 1] = 1;
	float *d = policy->directions + (size_t)(info->n_layers - 1) * info->hidden_size;
	for (uint32_t i = 0; i < info->hidden_size; i++)
		d[i] = cosf((float)(i * i + seed));
	policy_adopt(engine, policy);
	memcpy(direction, d, info->hidden_size * sizeof *d);
	return policy;
}

/* h + c1 a - c2 (h.u)u + c3 b: every policy reads the same h. The test computes it in double from the unsteered
 * stream. */
Test(steering, stacked_policies_all_read_the_same_stream)
{
	enum { D = 64 };
	struct tt_engine *engine = engine_open(MODEL, 1, 512);
	float a[D], u[D], b[D];
	const float scales[3] = {0.5f, 0.75f, -1.25f};
	struct tt_policy *policies[3] = {last_layer_policy(engine, TT_OP_ADD, 1, a),
		last_layer_policy(engine, TT_OP_ABLATE, 2, u), last_layer_policy(engine, TT_OP_ADD, 3, b)};
	uint32_t last = tt_engine_info(engine)->n_layers - 1;
	int32_t ids[N_PROMPT];
	struct tt_request_options options;
	make_prompt(9, ids);
	tt_request_options_default(&options);
	options.ids = ids;
	options.n_ids = N_PROMPT;
	options.keep_layers = EVERY_LAYER;
	options.trace = true;
	struct tt_request *plain = request_run(engine, &options);
	options.n_steering = 3;
	for (int i = 0; i < 3; i++)
		options.steering[i] = (struct tt_steering){policies[i], scales[i]};
	struct tt_request *steered = request_run(engine, &options);
	size_t n_positions;
	const float *norms = tt_request_norms(steered, &n_positions);
	cr_assert_eq(n_positions, N_PROMPT);
	for (size_t t = 0; t < N_PROMPT; t++) {
		const float *h = tt_request_hidden(plain, last) + t * D,
			    *got = tt_request_hidden(steered, last) + t * D;
		float want[D];
		double dot = 0, before = 0, after = 0;
		for (int i = 0; i < D; i++)
			dot += (double)h[i] * u[i];
		for (int i = 0; i < D; i++) {
			want[i] = (float)(h[i] + (double)scales[0] * a[i] - scales[1] * dot * u[i] +
					  (double)scales[2] * b[i]);
			before += (double)h[i] * h[i];
			after += (double)want[i] * want[i];
		}
		double error = relative_error(got, want, D);
		cr_assert(error <= 1e-6, "token %zu is %g off", t, error);
		const float *norm = norms + (t * (last + 1) + last) * 2;
		cr_assert_float_eq(norm[0], sqrt(before), 1e-5 * sqrt(before));
		cr_assert_float_eq(norm[1], sqrt(after), 1e-5 * sqrt(after));
	}
	tt_request_free(plain);
	tt_request_free(steered);
	tt_engine_close(engine);
	for (int i = 0; i < 3; i++)
		tt_policy_free(policies[i]);
}
