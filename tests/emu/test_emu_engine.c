/* The engine on the emulated CUDA backend: what a step costs, counted twice (by the backend and by the emulator), that
 * no batch and no graph changes a bit, and a whole model against the CPU twin. */
#include "kernels/cuda/cuda.h"
#include "kernels/emu/emu.h"
#include "runtime/engine/numerics.h"
#include "tests/golden.h"

#define DUMMY "dummy:tiny"

enum { MAX_ROWS = 256, PROMPT = 5, GENERATED = 4, LAUNCHES_A_LAYER = 5, OTHER_LAUNCHES = 5 };

static struct tt_engine *open_dummy(uint32_t max_batch, uint32_t max_step_tokens)
{
	tt_emu_reset(TT_EMU_FORWARD, 1);
	return engine_open(DUMMY, max_batch, max_step_tokens);
}

static struct tt_policy *make_policy(struct tt_engine *engine, enum tt_policy_op op)
{
	const struct tt_model_info *info = tt_engine_info(engine);
	struct tt_policy *policy = NULL;
	must(tt_policy_new(&policy, info->n_layers, info->hidden_size, 1, err));
	policy->op = op;
	policy->when = TT_WHEN_ALL;
	for (uint32_t l = 0; l < info->n_layers; l++) {
		policy->weights[l] = 1;
		for (uint32_t k = 0; k < info->hidden_size; k++)
			policy->directions[l * info->hidden_size + k] = (float)((k * 7 + l) % 11) / 16 - 0.25f;
	}
	policy_adopt(engine, policy);
	return policy;
}

static struct tt_request *submit(
	struct tt_engine *engine, uint32_t row, uint32_t max_tokens, struct tt_policy *policy, bool trace)
{
	struct tt_request_options options;
	struct tt_request *request = NULL;
	int32_t ids[PROMPT];
	tt_request_options_default(&options);
	for (uint32_t i = 0; i < PROMPT; i++)
		ids[i] = (int32_t)((row * 31 + i * 17 + row * i) % tt_engine_info(engine)->vocab_size);
	options.ids = ids;
	options.n_ids = PROMPT;
	options.max_tokens = max_tokens;
	options.ignore_eos = true;
	options.trace = trace;
	options.sampling.temperature = row % 3 ? 0 : 0.9f;
	options.sampling.seed = row;
	options.n_steering = policy != NULL;
	options.steering[0] = (struct tt_steering){policy, row % 4 ? 1 : 0};
	must(tt_request_submit(&request, engine, &options, err));
	return request;
}

/* ---- What a decode step costs ---- */

/* One decode step's calls to the device, after the graph of its bucket has been captured. */
static void check_step(struct tt_engine *engine, uint64_t launches)
{
	enum { STEPS = 4 };
	struct tt_engine_stats before, after;
	tt_engine_stats(engine, &before);
	tt_emu_clear_counters();
	for (int i = 0; i < STEPS; i++)
		must(tt_engine_step(engine, err));
	tt_engine_stats(engine, &after);
	cr_assert_eq(after.n_copies_in - before.n_copies_in, STEPS);
	cr_assert_eq(after.n_graph_launches - before.n_graph_launches, STEPS);
	cr_assert_eq(after.n_copies_out - before.n_copies_out, STEPS);
	cr_assert_eq(after.n_waits - before.n_waits, STEPS);
	cr_assert_eq(after.n_launches - before.n_launches, 0);
	const struct tt_emu_counters *emu = tt_emu_counted(); /* on a GPU the test is skipped from here on */
	cr_assert_eq(emu->copies_in, STEPS);
	cr_assert_eq(emu->graph_launches, STEPS);
	cr_assert_eq(emu->copies_out, STEPS);
	cr_assert_eq(emu->waits, STEPS);
	cr_assert_eq(emu->host_launches, 0);
	cr_assert_eq(emu->sets + emu->copies_within, 0);
	cr_assert_eq(emu->launches, STEPS * launches, "%g kernels a step", (double)emu->launches / STEPS);
	cr_assert_eq(emu->dependent_launches, emu->launches - STEPS); /* the first follows a copy */
	cr_assert_eq(emu->bytes_in, after.n_bytes_in - before.n_bytes_in);
	cr_assert_eq(emu->bytes_out, after.n_bytes_out - before.n_bytes_out);
}

static void check_decode_of(
	const char *model, enum tt_policy_op op, bool steered, bool trace, uint64_t launches_a_layer)
{
	enum { ROWS = 3 };
	tt_emu_reset(TT_EMU_FORWARD, 1);
	struct tt_engine *engine = engine_open(model, 4, 64);
	struct tt_policy *policy = steered ? make_policy(engine, op) : NULL;
	struct tt_request *requests[ROWS];
	for (uint32_t i = 0; i < ROWS; i++)
		requests[i] = submit(engine, i, 12, policy, trace);
	/* The prompts; a bucket's first step; the one that is captured; and one more, since the host lags by a step. */
	for (int i = 0; i < 4; i++)
		must(tt_engine_step(engine, err));
	check_step(engine, launches_a_layer * tt_engine_info(engine)->n_layers + OTHER_LAUNCHES);
	for (uint32_t i = 0; i < ROWS; i++) {
		must(tt_request_wait(requests[i], err));
		tt_request_free(requests[i]);
	}
	cr_assert_str_empty(tt_emu_report());
	tt_engine_close(engine);
	tt_policy_free(policy);
}

static void check_decode(enum tt_policy_op op, bool steered, bool trace, uint64_t launches_a_layer)
{
	check_decode_of(DUMMY, op, steered, trace, launches_a_layer);
}

Test(emu_engine, a_decode_step_is_one_copy_in_one_launch_one_copy_out_one_wait)
{
	check_decode(TT_OP_ADD, false, false, LAUNCHES_A_LAYER);
}

Test(emu_engine, so_it_is_when_steered_with_telemetry_on_and_off)
{
	check_decode(TT_OP_ADD, true, false, LAUNCHES_A_LAYER);
	check_decode(TT_OP_ADD, true, true, LAUNCHES_A_LAYER);
}

/* Operations that need a whole row run as one kernel more. */
Test(emu_engine, so_it_is_with_whole_rows)
{
	check_decode(TT_OP_ABLATE, true, false, LAUNCHES_A_LAYER + 1);
	check_decode(TT_OP_ABLATE, true, true, LAUNCHES_A_LAYER + 1);
}

/* Gemma's norms behind the products are two kernels more, of which one steers, whatever the operation. */
Test(emu_engine, so_it_is_with_norms_behind_the_products)
{
	check_decode_of(GOLDEN("tiny-gemma2"), TT_OP_ADD, false, false, LAUNCHES_A_LAYER + 2);
	check_decode_of(GOLDEN("tiny-gemma3"), TT_OP_ABLATE, true, true, LAUNCHES_A_LAYER + 2);
}

/* A graph whose launches are looked at: what its kernels read. */
Test(emu_engine, a_decode_step_reads_each_weight_once)
{
	static const uint32_t batches[] = {1, 7, 32};
	for (size_t b = 0; b < sizeof batches / sizeof *batches; b++) {
		struct tt_engine *engine = open_dummy(batches[b], 256);
		const struct tt_model_info *info = tt_engine_info(engine);
		/* The vectors, and for each token a row of the embedding with the one that it shares sectors with. */
		double model = (double)info->n_weight_bytes + 4.0 * info->hidden_size * (2 * info->n_layers + 1) +
			       2 * 2.0 * batches[b] * info->hidden_size;
		struct tt_request *requests[MAX_ROWS];
		for (uint32_t i = 0; i < batches[b]; i++)
			requests[i] = submit(engine, i, 8, NULL, false);
		for (int i = 0; i < 4; i++)
			must(tt_engine_step(engine, err));
		tt_emu_clear_counters();
		must(tt_engine_step(engine, err));
		if (!tt_emu_counts_traffic())
			cr_skip_test("PTX does not say what kind of data it moves");
		const struct tt_emu_traffic *weights = &tt_emu_counted()->loads[TT_TRAFFIC_WEIGHT];
		const struct tt_emu_traffic *kv = &tt_emu_counted()->loads[TT_TRAFFIC_KV];
		fprintf(stderr, "batch %u: %.4f of the model's bytes, sectors used: weights %.3f, KV %.3f\n",
			batches[b], (double)weights->bytes / model,
			(double)weights->bytes / (32.0 * (double)weights->sectors),
			(double)kv->bytes / (32.0 * (double)kv->sectors));
		cr_expect((double)weights->bytes >= model, "%g of the model", (double)weights->bytes / model);
		cr_expect((double)weights->bytes <= 1.01 * model, "%g of the model", (double)weights->bytes / model);
		cr_expect((double)weights->bytes >= 0.9 * 32 * (double)weights->sectors);
		cr_expect((double)kv->bytes >= 0.9 * 32 * (double)kv->sectors);
		for (uint32_t i = 0; i < batches[b]; i++)
			tt_request_free(requests[i]);
		tt_engine_close(engine);
	}
}

/* A prompt's steps run without a graph; their kernels' attributes are set by the first of them. */
Test(emu_engine, kernels_are_prepared_once)
{
	struct tt_engine *engine = open_dummy(2, 64);
	uint64_t set[2];
	for (uint32_t i = 0; i < 2; i++) {
		tt_emu_clear_counters();
		struct tt_request *request = submit(engine, i, 1, NULL, false);
		must(tt_request_wait(request, err));
		tt_request_free(request);
		cr_assert_gt(tt_emu_counted()->host_launches, 0);
		set[i] = tt_emu_counted()->attributes;
	}
	cr_assert_gt(set[0], 0);
	cr_assert_eq(set[1], 0, "%llu times", (unsigned long long)set[1]);
	cr_assert_str_empty(tt_emu_report());
	tt_engine_close(engine);
}

/* ---- The same bits ---- */

struct outcome {
	int32_t ids[GENERATED];
	float logprobs[GENERATED];
};

static enum tt_kv_type kv_type; /* of the engines that are opened next by run_rows_of */

static void run_rows_of(
	const char *model, uint32_t n_rows, uint32_t max_batch, uint32_t max_step_tokens, struct outcome *out)
{
	struct tt_engine_options options;
	struct tt_engine *engine = NULL;
	tt_emu_reset(TT_EMU_FORWARD, 1);
	tt_engine_options_default(&options);
	options.device = "cuda";
	options.kv = kv_type;
	options.max_batch = max_batch;
	options.max_step_tokens = max_step_tokens;
	must(tt_engine_open(&engine, model, &options, err));
	struct tt_policy *policies[3] = {NULL, make_policy(engine, TT_OP_ADD), make_policy(engine, TT_OP_ABLATE)};
	struct tt_request *requests[MAX_ROWS];
	for (uint32_t i = 0; i < n_rows; i++)
		requests[i] = submit(engine, i, GENERATED, policies[i % 3], false);
	for (uint32_t i = 0; i < n_rows; i++) {
		struct tt_token token;
		must(tt_request_wait(requests[i], err));
		for (size_t t = 0; tt_request_next(requests[i], &token); t++) {
			out[i].ids[t] = token.id;
			out[i].logprobs[t] = token.logprob;
		}
		tt_request_free(requests[i]);
	}
	cr_assert_str_empty(tt_emu_report());
	tt_engine_close(engine);
	tt_policy_free(policies[1]);
	tt_policy_free(policies[2]);
}

static void run_rows(uint32_t n_rows, uint32_t max_batch, uint32_t max_step_tokens, struct outcome *out)
{
	run_rows_of(DUMMY, n_rows, max_batch, max_step_tokens, out);
}

/* Rows that add, that ablate and that do neither share each batch; graphs and kernels without one take turns. */
Test(emu_engine, a_row_has_the_same_bits_in_every_batch)
{
	static const uint32_t batches[] = {7, 8, 9, 64};
	enum { ROWS = 64 };
	struct outcome *alone = calloc(ROWS, sizeof *alone), *batched = calloc(ROWS, sizeof *batched);
	run_rows(9, 1, 64, alone);
	run_rows(ROWS, 64, 512, batched);
	cr_assert_arr_eq(alone, batched, 9 * sizeof *alone, "batch 64");
	for (size_t b = 0; b + 1 < sizeof batches / sizeof *batches; b++) {
		memset(alone, 0, ROWS * sizeof *alone);
		run_rows(batches[b] * 2, batches[b], 64, alone);
		cr_assert_arr_eq(alone, batched, batches[b] * 2 * sizeof *alone, "batch %u", batches[b]);
	}
	free(alone);
	free(batched);
}

/* K of 256, so that products of nine rows are of clusters, from a graph too; and the same where a device refuses
 * them, or runs code that has none. */
Test(emu_engine, clusters_in_graphs_change_no_bit)
{
	enum { ROWS = 10 };
	static const struct tt_emu_device refusing = {.major = 9,
						  .n_sms = 132,
						  .shared_bytes = 227 << 10,
						  .no_clusters = true},
					  of_ptx = {
						  .major = 9, .n_sms = 132, .shared_bytes = 227 << 10, .of_ptx = true};
	const struct tt_emu_device *const devices[] = {NULL, &refusing, &of_ptx};
	struct outcome alone[ROWS] = {0};
	run_rows_of(GOLDEN("tiny-k/tiny-k.q4_k.gguf"), ROWS, 1, 64, alone);
	for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) {
		struct outcome batched[ROWS] = {0};
		if (devices[i]) /* a GPU, which is no other device, has run the first by then */
			tt_emu_set_device(devices[i]);
		run_rows_of(GOLDEN("tiny-k/tiny-k.q4_k.gguf"), ROWS, ROWS, 64, batched);
		cr_expect_arr_eq(batched, alone, sizeof alone, "device %zu", i);
	}
	tt_emu_set_device(NULL);
}

Test(emu_engine, a_row_of_gemma_has_the_same_bits_in_every_batch)
{
	enum { ROWS = 9 };
	const char *const models[] = {GOLDEN("tiny-gemma2"), GOLDEN("tiny-gemma3")};
	for (size_t i = 0; i < 2; i++) {
		struct outcome alone[ROWS] = {0}, batched[ROWS] = {0};
		run_rows_of(models[i], ROWS, 1, 64, alone);
		run_rows_of(models[i], ROWS, ROWS, 64, batched);
		cr_expect_arr_eq(batched, alone, sizeof alone, "%s", models[i]);
	}
}

/* Pages of eight bits: with norms of heads (qwen3) and without, alone and together, from graphs and without. */
Test(emu_engine, a_row_has_the_same_bits_in_every_batch_with_pages_of_eight_bits)
{
	enum { ROWS = 12 };
	const char *const models[] = {DUMMY, GOLDEN("tiny-qwen3")};
	kv_type = TT_KV_FP8;
	for (size_t i = 0; i < 2; i++) {
		struct outcome alone[ROWS] = {0}, batched[ROWS] = {0};
		run_rows_of(models[i], ROWS, 1, 64, alone);
		run_rows_of(models[i], ROWS, ROWS, 256, batched);
		cr_expect_arr_eq(batched, alone, sizeof alone, "%s", models[i]);
	}
}

/* ---- Against the CPU twin ---- */

static const uint64_t EVERY_LAYER[(TT_MAX_LAYERS + 63) / 64] = {~0ull};

/* policies: of each engine, or NULL. */
static double whole_model_error(
	struct tt_engine *engine, struct tt_engine *twin, struct tt_policy *const policies[2], size_t n_ids)
{
	const struct tt_model_info *info = tt_engine_info(engine);
	struct tt_engine *engines[] = {engine, twin};
	struct tt_request *requests[2];
	int32_t *ids = malloc(n_ids * sizeof *ids);
	for (size_t i = 0; i < n_ids; i++)
		ids[i] = (int32_t)(i * 37 % info->vocab_size);
	for (int i = 0; i < 2; i++) {
		struct tt_request_options options;
		tt_request_options_default(&options);
		options.ids = ids;
		options.n_ids = n_ids;
		options.keep_logits = true;
		options.keep_layers = EVERY_LAYER;
		options.n_steering = policies != NULL;
		options.steering[0] = (struct tt_steering){policies ? policies[i] : NULL, 0.5f};
		requests[i] = request_run(engines[i], &options);
	}
	double error = relative_error(
		tt_request_logits(requests[0]), tt_request_logits(requests[1]), n_ids * info->vocab_size);
	for (uint32_t l = 0; l < info->n_layers; l++) {
		double hidden = relative_error(tt_request_hidden(requests[0], l), tt_request_hidden(requests[1], l),
			n_ids * info->hidden_size);
		error = hidden <= error ? error : hidden; /* NaN stays */
	}
	tt_request_free(requests[0]);
	tt_request_free(requests[1]);
	free(ids);
	return error;
}

/* A bf16 number that falls on the other side of the middle moves what follows by up to 2^-9 of one term: over layers
 * that is less than a tenth of what rounding costs by itself (TOLERANCE), and far less than what any wrong term
 * would. */
Test(emu_engine, whole_models_equal_the_twin)
{
	static const char *const models[] = {DUMMY, GOLDEN("tiny-llama/tiny-llama.q8_0.gguf"), GOLDEN("tiny-llama3"),
		GOLDEN("tiny-qwen3"), GOLDEN("tiny-gemma2"), GOLDEN("tiny-gemma3")};
	for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
		struct tt_backend *backend;
		struct tt_engine *twin;
		struct tt_engine_options options;
		tt_emu_reset(TT_EMU_RANDOM, 3);
		struct tt_engine *engine = engine_open(models[i], 2, 64);
		tt_engine_options_default(&options);
		must(tt_cpu_open_bf16(&backend, 2, err));
		must(tt_engine_open_on(&twin, backend, models[i], &options, err));
		double error = whole_model_error(engine, twin, NULL, 75);
		fprintf(stderr, "%s: %.2e from the twin\n", models[i], error);
		cr_expect(error <= TOLERANCE / 10, "%s: %g from the twin", models[i], error);
		tt_engine_close(engine);
		tt_engine_close(twin);
	}
}

/* Keys and values of eight bits, of the twin too: what is a hair apart may round to the next code, a sixteenth away. So
 * it is within a tenth of what the type itself costs (test_compute.c: 1e-1), and the pages are a half as large. */
Test(emu_engine, whole_models_with_pages_of_eight_bits_equal_the_twin)
{
	static const char *const models[] = {DUMMY, GOLDEN("tiny-llama3"), GOLDEN("tiny-qwen3"), GOLDEN("tiny-gemma3")};
	for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
		struct tt_backend *backend;
		struct tt_engine *engine = NULL, *twin = NULL;
		struct tt_engine_options options;
		tt_emu_reset(TT_EMU_RANDOM, 3);
		tt_engine_options_default(&options);
		options.kv = TT_KV_FP8;
		must(tt_cpu_open_bf16(&backend, 2, err));
		must(tt_engine_open_on(&twin, backend, models[i], &options, err));
		options.device = "cuda";
		options.max_batch = 2;
		options.max_step_tokens = 64;
		must(tt_engine_open(&engine, models[i], &options, err));
		cr_expect_eq(tt_engine_kv_type(engine), TT_KV_FP8);
		double error = whole_model_error(engine, twin, NULL, 75);
		fprintf(stderr, "%s in fp8: %.2e from the twin\n", models[i], error);
		cr_expect(error <= 1e-2, "%s: %g from the twin", models[i], error);
		tt_engine_close(engine);
		tt_engine_close(twin);
	}
}

/* ---- --fast ---- */

static uint64_t launches_of(const char *name)
{
	const struct tt_emu_kernel *kernels;
	size_t n = tt_emu_kernels(&kernels);
	for (size_t i = 0; i < n; i++)
		if (!strcmp(kernels[i].name, name))
			return kernels[i].launches;
	return 0;
}

/* Long prompts by (a stand-in for) cuBLASLt, with the strict kernels' epilogues: unsteered, added to, ablated. Short
 * ones and decode stay strict. */
Test(emu_engine, fast_products_have_the_strict_epilogues)
{
	enum { LONG = TT_CUDA_FAST_TOKENS + 22 };
	struct tt_engine_options options;
	struct tt_engine *fast, *twin;
	struct tt_backend *backend;
	tt_emu_reset(TT_EMU_BACKWARD, 3);
	tt_engine_options_default(&options);
	must(tt_cpu_open_bf16(&backend, 2, err));
	must(tt_engine_open_on(&twin, backend, DUMMY, &options, err));
	options.device = "cuda";
	options.fast = true;
	options.max_batch = LONG; /* logits of the whole prompt in one step */
	must(tt_engine_open(&fast, DUMMY, &options, err));
	cr_assert_str_eq(tt_engine_info(fast)->mode, "fast");
	for (int op = -1; op < 2; op++) {
		struct tt_policy *policies[2] = {NULL, NULL};
		if (op >= 0) {
			policies[0] = make_policy(fast, (enum tt_policy_op)op);
			policies[1] = make_policy(twin, (enum tt_policy_op)op);
		}
		uint64_t before = launches_of("cublaslt_kernel");
		double error = whole_model_error(fast, twin, op < 0 ? NULL : policies, LONG);
		fprintf(stderr, "fast, operation %d: %.2e from the twin\n", op, error);
		cr_expect(error <= TOLERANCE / 10, "operation %d: %g from the twin", op, error);
		cr_expect_eq(launches_of("cublaslt_kernel") - before, 4 * tt_engine_info(fast)->n_layers);
		before = launches_of("cublaslt_kernel");
		cr_expect(whole_model_error(fast, twin, op < 0 ? NULL : policies, 20) <= TOLERANCE / 10);
		cr_expect_eq(launches_of("cublaslt_kernel"), before);
		for (int i = 0; i < 2 && op >= 0; i++) {
			must(tt_engine_remove_policy(i ? twin : fast, policies[i], err));
			tt_policy_free(policies[i]);
		}
	}
	cr_assert_str_empty(tt_emu_report());
	tt_engine_close(fast);
	tt_engine_close(twin);
}

/* ---- What activations take ---- */

static int (*plain_allocate)(struct tt_backend *, void *, size_t, size_t, struct tt_error *);
static size_t activation_bytes[4]; /* of h, q, attention, ffn */

static int counted_allocate(
	struct tt_backend *backend, void *out_pointer, size_t count, size_t size, struct tt_error *err)
{
	void *const all[] = {&backend->activations.h, &backend->activations.q, &backend->activations.attention,
		&backend->activations.ffn};
	for (int i = 0; i < 4; i++)
		if (out_pointer == all[i])
			activation_bytes[i] += count * size;
	return plain_allocate(backend, out_pointer, count, size, err);
}

/* A GPU's hold bf16, all but h: half of what a CPU's take. */
Test(emu_engine, activations_take_what_their_numbers_need)
{
	enum { TOKENS = 48 };
	for (int cuda = 0; cuda < 2; cuda++) {
		struct tt_engine_options options;
		struct tt_engine *engine = NULL;
		struct tt_backend *backend = NULL;
		struct tt_error note;
		tt_emu_reset(TT_EMU_FORWARD, 1);
		tt_engine_options_default(&options);
		options.max_step_tokens = TOKENS;
		must(tt_device_open(&backend, cuda ? "cuda" : "cpu", 1, NULL, &note, err));
		plain_allocate = backend->allocate;
		backend->allocate = counted_allocate;
		memset(activation_bytes, 0, sizeof activation_bytes);
		must(tt_engine_open_on(&engine, backend, DUMMY, &options, err));
		const struct tt_config *c = &engine->model->config;
		size_t number = cuda ? 2 : 4, heads = (size_t)c->n_heads * c->head_dim;
		cr_expect_eq(activation_bytes[0], TOKENS * c->hidden_size * 4);
		cr_expect_eq(activation_bytes[1], TOKENS * heads * number);
		cr_expect_eq(activation_bytes[2], TOKENS * heads * number);
		cr_expect_eq(activation_bytes[3], TOKENS * c->ffn_size * number);
		tt_engine_close(engine);
	}
}

/* More than a CPU's by default, as long as the requests are fewer. */
Test(emu_engine, a_step_takes_2048_tokens_by_default)
{
	struct tt_engine_options options;
	struct tt_engine *engine = NULL;
	tt_emu_reset(TT_EMU_FORWARD, 1);
	tt_engine_options_default(&options);
	must(tt_engine_open(&engine, DUMMY, &options, err));
	cr_assert_str_eq(tt_engine_info(engine)->backend, "cuda");
	cr_expect_eq(tt_engine_info(engine)->max_step_tokens, 2048);
	tt_engine_close(engine);
}

/* ---- What goes wrong ---- */

/* A device error ends a request's wait with a message that says what CUDA said, and nothing else. */
Test(emu_engine, a_device_error_is_a_message)
{
	struct tt_engine *engine = open_dummy(2, 64);
	struct tt_request *request = submit(engine, 0, 4, NULL, false);
	struct tt_error error = {0};
	engine->rank.backend->release(engine->rank.backend, engine->rank.backend->activations.ffn);
	engine->rank.backend->activations.ffn = NULL;
	cr_assert_eq(tt_request_wait(request, &error), TT_ERR_DEVICE, "%s", error.message);
	cr_assert_not_null(strstr(error.message, "(cudaError"), "%s", error.message);
	cr_assert_eq(tt_request_wait(request, &error), TT_ERR_DEVICE, "%s", error.message);
	tt_request_free(request);
	tt_engine_close(engine);
}

/* ---- Other devices ---- */

static const struct tt_emu_device L40S = {.major = 8, .minor = 9, .n_sms = 142, .shared_bytes = TT_CUDA_LEAST_SHARED},
				  RTX_5090 = {.major = 12, .n_sms = 170, .shared_bytes = TT_CUDA_LEAST_SHARED},
				  TOO_SMALL = {.major = 8, .minor = 9, .n_sms = 142, .shared_bytes = 64 << 10},
				  TOO_OLD = {.major = 7, .minor = 5, .n_sms = 72, .shared_bytes = 64 << 10},
				  WITHOUT_CODE = {.major = 12,
					  .n_sms = 170,
					  .shared_bytes = TT_CUDA_LEAST_SHARED,
					  .no_code = true},
				  WITHOUT_ROOM = {.major = 9, .n_sms = 132, .shared_bytes = 227 << 10, .no_room = true};

/* Heads of 128 over a long prompt, batches that take each product, sampled rows: with the bits of a device that has
 * more shared memory. */
static void run_on(const struct tt_emu_device *device, const char *model, struct outcome *out)
{
	enum { ROWS = 3, LONG = 150 };
	struct tt_engine_options options;
	struct tt_engine *engine = NULL;
	int32_t ids[LONG];
	tt_emu_set_device(device);
	tt_emu_reset(TT_EMU_FORWARD, 1);
	tt_engine_options_default(&options);
	options.max_batch = ROWS;
	options.max_step_tokens = 256;
	must(tt_engine_open(&engine, model, &options, err));
	cr_assert_str_eq(tt_engine_info(engine)->backend, "cuda", "%s", tt_engine_info(engine)->device_note);
	for (uint32_t row = 0; row < ROWS; row++) {
		struct tt_request_options request;
		tt_request_options_default(&request);
		for (uint32_t i = 0; i < LONG; i++)
			ids[i] = (int32_t)((row * 31 + i * 17) % tt_engine_info(engine)->vocab_size);
		request.ids = ids;
		request.n_ids = LONG - row * 60;
		request.max_tokens = GENERATED;
		request.ignore_eos = true;
		request.sampling.temperature = 0.9f;
		request.sampling.top_p = 0.8f;
		request.sampling.seed = row;
		struct tt_request *answer = request_run(engine, &request);
		struct tt_token token;
		for (size_t t = 0; tt_request_next(answer, &token); t++) {
			out[row].ids[t] = token.id;
			out[row].logprobs[t] = token.logprob;
		}
		tt_request_free(answer);
	}
	cr_assert_str_empty(tt_emu_report());
	tt_engine_close(engine);
	tt_emu_set_device(NULL);
}

Test(emu_engine, devices_of_99_kb_have_the_bits_of_an_h200)
{
	const char *const models[] = {DUMMY, GOLDEN("tiny-llama3")};
	const struct tt_emu_device *const devices[] = {&L40S, &RTX_5090};
	for (size_t m = 0; m < 2; m++) {
		struct outcome want[3] = {0}, got[3];
		run_on(NULL, models[m], want);
		for (size_t d = 0; d < 2; d++) {
			memset(got, 0, sizeof got);
			run_on(devices[d], models[m], got);
			cr_expect_arr_eq(got, want, sizeof want, "%s on device %zu", models[m], d);
		}
	}
}

/* "auto" says why it does not take a device; by name it is an error with the same words. */
Test(emu_engine, a_device_that_would_fail_is_not_chosen)
{
	const struct {
		const struct tt_emu_device *device;
		int status;
		const char *says;
	} cases[] = {{&TOO_SMALL, TT_ERR_UNSUPPORTED,
			     "cuda:0 gives a block 65536 bytes of shared memory, the kernels need 101376"},
		{&TOO_OLD, TT_ERR_UNSUPPORTED, "compute capability 7.5"},
		{&WITHOUT_CODE, TT_ERR_DEVICE, "cudaErrorNoKernelImageForDevice"},
		{&WITHOUT_ROOM, TT_ERR_UNSUPPORTED,
			"attention: a multiprocessor of cuda:0 has no room for a block of 128 threads"}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tt_engine_options options;
		struct tt_engine *engine = NULL;
		struct tt_error error = {0};
		tt_emu_set_device(cases[i].device);
		tt_emu_reset(TT_EMU_FORWARD, 1);
		tt_engine_options_default(&options);
		must(tt_engine_open(&engine, DUMMY, &options, err));
		cr_expect_str_eq(tt_engine_info(engine)->backend, "cpu");
		cr_expect_not_null(strstr(tt_engine_info(engine)->device_note, cases[i].says), "%s",
			tt_engine_info(engine)->device_note);
		tt_engine_close(engine);
		engine = NULL;
		options.device = "cuda";
		cr_expect_eq(tt_engine_open(&engine, DUMMY, &options, &error), cases[i].status);
		cr_expect_not_null(strstr(error.message, cases[i].says), "%s", error.message);
	}
	tt_emu_set_device(NULL);
}

/* What the device cannot do for a model of that size, though it can for others. */
Test(emu_engine, a_model_whose_rows_do_not_fit_is_not_for_that_device)
{
	struct tt_config config = {.hidden_size = 16384, .ffn_size = 64, .head_dim = 128, .activation = TT_SILU};
	for (int small = 0; small < 2; small++) {
		struct tt_backend *backend = NULL;
		struct tt_error note, error = {0};
		tt_emu_set_device(small ? &L40S : NULL);
		tt_emu_reset(TT_EMU_FORWARD, 1);
		must(tt_device_open(&backend, "auto", 1, &config, &note, err));
		cr_expect_str_eq(backend->name, small ? "cpu" : "cuda", "%s", note.message);
		cr_expect_eq(strstr(note.message, "steering rows of 16384 takes 139296 bytes") != NULL, small, "%s",
			note.message);
		backend->close(backend);
		must(tt_device_open(&backend, "cuda", 1, &config, &note, err));
		cr_expect_eq(backend->can_run(backend, &config, &error), small ? TT_ERR_UNSUPPORTED : TT_OK);
		backend->close(backend);
	}
	tt_emu_set_device(NULL);
}

Test(emu_engine, refuses_a_device_that_is_not_there_and_pages_of_another_type)
{
	struct tt_engine_options options;
	struct tt_engine *engine = NULL;
	struct tt_error error = {0};
	tt_emu_reset(TT_EMU_FORWARD, 1);
	tt_engine_options_default(&options);
	options.device = "cuda:777";
	cr_assert_eq(tt_engine_open(&engine, DUMMY, &options, &error), TT_ERR_DEVICE, "%s", error.message);
	cr_assert_not_null(strstr(error.message, "cuda:777"), "%s", error.message);
	options.device = "cuda:x";
	cr_assert_eq(tt_engine_open(&engine, DUMMY, &options, &error), TT_ERR_ARGUMENT);
	options.device = "cuda";
	options.kv_f16 = true;
	cr_assert_eq(tt_engine_open(&engine, DUMMY, &options, &error), TT_ERR_UNSUPPORTED);
	cr_assert_not_null(
		strstr(error.message, "KV pages are bf16 or fp8 on cuda, not f16 (--kv)"), "%s", error.message);
	options.kv_f16 = false;
	options.kv = TT_KV_Q8;
	cr_assert_eq(tt_engine_open(&engine, DUMMY, &options, &error), TT_ERR_UNSUPPORTED);
	options.kv = TT_KV_DEFAULT;
	cr_assert_eq(tt_engine_open(&engine, "dummy:none", &options, &error), TT_ERR_ARGUMENT);
	cr_assert_not_null(strstr(error.message, "llama-3.1-8b"), "%s", error.message);
}
