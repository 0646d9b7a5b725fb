/* Whole models against float32 PyTorch: logits, every block's output, greedy tokens. */
#include "golden.h"

/* Quantised files compare with PyTorch on the dequantised weights, so the bound is the same for them. */
static const uint64_t EVERY_LAYER[(TT_MAX_LAYERS + 63) / 64] = {~0ull, ~0ull, ~0ull, ~0ull, ~0ull, ~0ull, ~0ull, ~0ull};

/* The rows of a golden, picked from an array of rows by its list of positions. */
static double rows_error(const struct tt_safetensors *golden, const char *name, const char *positions_name,
	const float *rows, size_t width)
{
	size_t n_positions, n;
	int32_t *positions = golden_ints(golden, positions_name, &n_positions);
	float *want = golden_floats(golden, name, &n), *got = malloc(n * sizeof *got);
	cr_assert_eq(n, n_positions * width, "%s has %zu numbers", name, n);
	for (size_t i = 0; i < n_positions; i++)
		memcpy(got + i * width, rows + (size_t)positions[i] * width, width * sizeof *got);
	double error = relative_error(got, want, n);
	free(positions);
	free(want);
	free(got);
	return error;
}

/* The largest relative error of logits and hidden states. */
static double largest_error(struct tt_engine *engine, const struct tt_safetensors *golden)
{
	const struct tt_model_info *info = tt_engine_info(engine);
	struct tt_request_options options;
	tt_request_options_default(&options);
	size_t n;
	int32_t *ids = golden_ints(golden, "ids", &n);
	options.ids = ids;
	options.n_ids = n;
	options.keep_logits = true;
	options.keep_layers = EVERY_LAYER;
	struct tt_request *request = request_run(engine, &options);
	double error = rows_error(golden, "logits", "positions_logits", tt_request_logits(request), info->vocab_size);
	for (uint32_t l = 0; l < info->n_layers; l++) {
		char name[32];
		snprintf(name, sizeof name, "hidden.%u", l);
		double hidden =
			rows_error(golden, name, "positions_hidden", tt_request_hidden(request, l), info->hidden_size);
		error = hidden <= error ? error : hidden; /* NaN stays */
	}
	tt_request_free(request);
	free(ids);
	return error;
}

static void check_greedy(struct tt_engine *engine, const struct tt_safetensors *golden, const char *what)
{
	struct tt_request_options options;
	size_t n_prompt, n_want;
	int32_t *prompt = golden_ints(golden, "greedy_prompt", &n_prompt),
		*want = golden_ints(golden, "greedy_ids", &n_want);
	tt_request_options_default(&options);
	options.ids = prompt;
	options.n_ids = n_prompt;
	check_greedy_tokens(engine, &options, want, n_want, what);
	free(prompt);
	free(want);
}

static void check_model_for(const char *model, const char *golden_path, uint32_t context)
{
	struct tt_engine *engine = engine_open_for(model, 4, 512, context);
	struct tt_safetensors *golden = golden_open(golden_path);
	double error = largest_error(engine, golden);
	cr_assert(error <= TOLERANCE, "%s: %g off", model, error);
	check_greedy(engine, golden, model);
	tt_safetensors_close(golden);
	tt_engine_close(engine);
}

static void check_model(const char *model, const char *golden_path)
{
	check_model_for(model, golden_path, 0);
}

Test(forward, hugging_face_float32_tied)
{
	check_model(GOLDEN("tiny-llama"), GOLDEN("tiny-llama/golden.safetensors"));
}

Test(forward, hugging_face_bfloat16_untied_sharded_biases_llama3_rope)
{
	check_model(GOLDEN("tiny-llama3"), GOLDEN("tiny-llama3/golden.safetensors"));
}

Test(forward, hugging_face_float16_linear_rope)
{
	check_model(GOLDEN("tiny-linear"), GOLDEN("tiny-linear/golden.safetensors"));
}

Test(forward, qwen3_norms_of_heads)
{
	check_model(GOLDEN("tiny-qwen3"), GOLDEN("tiny-qwen3/golden.safetensors"));
	check_model(GOLDEN("tiny-qwen3/tiny-qwen3.q8_0.gguf"), GOLDEN("tiny-qwen3/golden.q8_0.safetensors"));
}

Test(forward, qwen2_biases_and_a_window_over_some_layers)
{
	check_model(GOLDEN("tiny-qwen2"), GOLDEN("tiny-qwen2/golden.safetensors"));
	check_model(GOLDEN("tiny-qwen2/tiny-qwen2.q8_0.gguf"), GOLDEN("tiny-qwen2/golden.q8_0.safetensors"));
}

Test(forward, mistral_window)
{
	check_model(GOLDEN("tiny-mistral"), GOLDEN("tiny-mistral/golden.safetensors"));
}

/* Left to itself the engine keeps to the context of the short factors. */
Test(forward, phi3_fused_tensors_a_window_and_both_lists_of_longrope)
{
	static const char gguf[] = GOLDEN("tiny-phi3/tiny-phi3.q8_0.gguf");
	check_model(GOLDEN("tiny-phi3"), GOLDEN("tiny-phi3/golden.safetensors"));
	check_model_for(GOLDEN("tiny-phi3"), GOLDEN("tiny-phi3/golden.long.safetensors"), 512);
	check_model_for(gguf, GOLDEN("tiny-phi3/golden.q8_0.safetensors"), 128);
	check_model_for(gguf, GOLDEN("tiny-phi3/golden.q8_0.long.safetensors"), 129 + 512 / 4);
}

Test(forward, gemma2_norms_on_both_sides_soft_caps_gelu_and_windows)
{
	check_model(GOLDEN("tiny-gemma2"), GOLDEN("tiny-gemma2/golden.safetensors"));
	check_model(GOLDEN("tiny-gemma2/tiny-gemma2.q8_0.gguf"), GOLDEN("tiny-gemma2/golden.q8_0.safetensors"));
}

Test(forward, gemma3_two_ropes)
{
	check_model(GOLDEN("tiny-gemma3"), GOLDEN("tiny-gemma3/golden.safetensors"));
	check_model(GOLDEN("tiny-gemma3/tiny-gemma3.q8_0.gguf"), GOLDEN("tiny-gemma3/golden.q8_0.safetensors"));
}

/* A model that sees, given text: transformers' logits of the whole. */
Test(forward, gemma3_text_part_of_a_model_with_vision)
{
	struct tt_engine *engine = engine_open(GOLDEN("tiny-gemma3-vision"), 4, 512);
	struct tt_safetensors *golden = golden_open(GOLDEN("tiny-gemma3-vision/golden.safetensors"));
	struct tt_request_options options;
	tt_request_options_default(&options);
	size_t n;
	int32_t *ids = golden_ints(golden, "ids", &n);
	options.ids = ids;
	options.n_ids = n;
	options.keep_logits = true;
	struct tt_request *request = request_run(engine, &options);
	double error = rows_error(
		golden, "logits", "positions_logits", tt_request_logits(request), tt_engine_info(engine)->vocab_size);
	cr_assert(error <= TOLERANCE, "%g off", error);
	tt_request_free(request);
	free(ids);
	tt_safetensors_close(golden);
	tt_engine_close(engine);
}

Test(forward, gguf_float32_has_permuted_rows)
{
	check_model(GOLDEN("tiny-llama/tiny-llama.f32.gguf"), GOLDEN("tiny-llama/golden.safetensors"));
}

Test(forward, gguf_types)
{
	check_model(GOLDEN("tiny-llama/tiny-llama.f16.gguf"), GOLDEN("tiny-llama/golden.f16.safetensors"));
	check_model(GOLDEN("tiny-llama/tiny-llama.bf16.gguf"), GOLDEN("tiny-llama/golden.bf16.safetensors"));
	check_model(GOLDEN("tiny-llama/tiny-llama.q8_0.gguf"), GOLDEN("tiny-llama/golden.q8_0.safetensors"));
	check_model(GOLDEN("tiny-llama/tiny-llama.q4_0.gguf"), GOLDEN("tiny-llama/golden.q4_0.safetensors"));
	check_model(GOLDEN("tiny-llama/tiny-llama.q4_1.gguf"), GOLDEN("tiny-llama/golden.q4_1.safetensors"));
	check_model(GOLDEN("tiny-llama/tiny-llama.q5_0.gguf"), GOLDEN("tiny-llama/golden.q5_0.safetensors"));
	check_model(GOLDEN("tiny-llama/tiny-llama.iq4_nl.gguf"), GOLDEN("tiny-llama/golden.iq4_nl.safetensors"));
}

Test(forward, gguf_k_types)
{
	check_model(GOLDEN("tiny-k/tiny-k.q4_k.gguf"), GOLDEN("tiny-k/golden.q4_k.safetensors"));
	check_model(GOLDEN("tiny-k/tiny-k.q5_k.gguf"), GOLDEN("tiny-k/golden.q5_k.safetensors"));
	check_model(GOLDEN("tiny-k/tiny-k.q6_k.gguf"), GOLDEN("tiny-k/golden.q6_k.safetensors"));
}

/* Scales for 128 rows and columns, for rows, and one for all, beside which the file says how to round activations. */
Test(forward, hugging_face_fp8)
{
	check_model(GOLDEN("tiny-fp8-block"), GOLDEN("tiny-fp8-block/golden.safetensors"));
	check_model(GOLDEN("tiny-fp8-channel"), GOLDEN("tiny-fp8-channel/golden.safetensors"));
	check_model(GOLDEN("tiny-fp8-tensor"), GOLDEN("tiny-fp8-tensor/golden.safetensors"));
	check_model(GOLDEN("tiny-fp8-output"), GOLDEN("tiny-fp8-output/golden.safetensors"));
}

/* log softmax of the golden logits, worked out here in double. */
Test(forward, scores_are_the_log_probabilities_of_the_next_ids)
{
	struct tt_engine *engine = engine_open(GOLDEN("tiny-llama"), 1, 512);
	struct tt_safetensors *golden = golden_open(GOLDEN("tiny-llama/golden.safetensors"));
	struct tt_request_options options;
	size_t n, n_logits, n_positions;
	int32_t *ids = golden_ints(golden, "ids", &n),
		*positions = golden_ints(golden, "positions_logits", &n_positions);
	float *logits = golden_floats(golden, "logits", &n_logits);
	size_t vocab = n_logits / n_positions;
	tt_request_options_default(&options);
	options.ids = ids;
	options.n_ids = n;
	options.score = true;
	struct tt_request *request = request_run(engine, &options);
	const float *scores = tt_request_scores(request);
	for (size_t i = 0; i + 1 < n_positions; i++) {
		const float *row = logits + i * vocab;
		double sum = 0;
		for (size_t v = 0; v < vocab; v++)
			sum += exp(row[v]);
		double want = row[ids[positions[i] + 1]] - log(sum);
		cr_assert(fabs(scores[positions[i] + 1] - want) <= 50 * TOLERANCE, "position %d: %g, not %g",
			positions[i], scores[positions[i] + 1], want);
	}
	tt_request_free(request);
	tt_safetensors_close(golden);
	tt_engine_close(engine);
	free(ids);
	free(positions);
	free(logits);
}

/* Scores from an index on are the bits of all, and what lies before is not computed where another request's pages hold
 * it. */
Test(forward, scores_from_an_index_on_share_what_lies_before)
{
	enum { N = 70, FROM = 50 };
	int32_t ids[N];
	float all[N];
	struct tt_request_options options;
	struct tt_engine_stats before, after;
	struct tt_engine *engine = engine_open(GOLDEN("tiny-llama"), 2, 512);
	tt_request_options_default(&options);
	for (int i = 0; i < N; i++)
		ids[i] = (i * 7 + 3) % 100;
	options.ids = ids;
	options.n_ids = N;
	options.score = true;
	struct tt_request *request = request_run(engine, &options);
	memcpy(all, tt_request_scores(request), sizeof all);
	tt_request_free(request);
	for (size_t from = FROM; from <= N; from += N - FROM) {
		tt_engine_stats(engine, &before);
		options.score_from = from;
		request = request_run(engine, &options);
		tt_engine_stats(engine, &after);
		const float *scores = tt_request_scores(request);
		for (size_t i = 0; i < N; i++)
			cr_expect(scores[i] == (i < from ? 0 : all[i]), "from %zu: %zu is %g", from, i,
				(double)scores[i]);
		/* Pages of 16 positions, and the id before the first that is scored must run. */
		cr_expect_geq(after.n_shared - before.n_shared, (from - 1) / TT_PAGE_TOKENS * TT_PAGE_TOKENS);
		tt_request_free(request);
	}
	tt_engine_close(engine);
}

/* The same of logits, also where scores are asked for from another index on. */
Test(forward, logits_from_an_index_on_share_what_lies_before)
{
	enum { N = 70, FROM = 50 };
	int32_t ids[N];
	struct tt_request_options options;
	struct tt_engine_stats before, after;
	struct tt_engine *engine = engine_open(GOLDEN("tiny-llama"), 2, 24);
	size_t vocab = tt_engine_info(engine)->vocab_size;
	tt_request_options_default(&options);
	for (int i = 0; i < N; i++)
		ids[i] = (i * 7 + 3) % 100;
	options.ids = ids;
	options.n_ids = N;
	options.keep_logits = options.score = true;
	struct tt_request *all = request_run(engine, &options);
	for (size_t from = FROM; from < N; from += N - 1 - FROM)
		for (size_t score_from = FROM - 10; score_from <= N; score_from += N - FROM + 10) {
			tt_engine_stats(engine, &before);
			options.logits_from = from;
			options.score_from = score_from;
			struct tt_request *request = request_run(engine, &options);
			tt_engine_stats(engine, &after);
			cr_expect_arr_eq(tt_request_logits(request), tt_request_logits(all) + from * vocab,
				(N - from) * vocab * sizeof(float), "from %zu", from);
			for (size_t i = score_from; i < N; i++)
				cr_expect_eq(tt_request_scores(request)[i], tt_request_scores(all)[i]);
			size_t first = from < score_from - 1 ? from : score_from - 1;
			cr_expect_geq(after.n_shared - before.n_shared, first / TT_PAGE_TOKENS * TT_PAGE_TOKENS);
			tt_request_free(request);
		}
	tt_request_free(all);
	tt_engine_close(engine);
	/* Those before it are not computed for nothing. */
	const struct tt_sequence q = {.keeps_logits = true, .logits_from = FROM, .n_ids = N};
	cr_expect(!tt_sequence_keeps_logits(&q, FROM - 1) && tt_sequence_keeps_logits(&q, FROM));
}

/* The twin of the CUDA kernels rounds weights and the inputs of every product to bf16, up to 2^-9 of each: 6e-3 to
 * 1.9e-2 after the blocks of these random models. Far less would mean that it does not round. test_kernels_bf16.c looks
 * closer. */
Test(forward, bf16_twin)
{
	static const char *const models[] = {"tiny-llama", "tiny-llama3", "tiny-linear", "tiny-qwen3", "tiny-mistral",
		"tiny-qwen2", "tiny-phi3", "tiny-gemma2", "tiny-gemma3"};
	for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
		char model[200], path[200];
		struct tt_engine *engine;
		struct tt_engine_options options;
		struct tt_backend *twin;
		snprintf(model, sizeof model, GOLDEN("%s"), models[i]);
		snprintf(path, sizeof path, GOLDEN("%s/golden.safetensors"), models[i]);
		tt_engine_options_default(&options);
		must(tt_cpu_open_bf16(&twin, 2, err));
		must(tt_engine_open_on(&engine, twin, model, &options, err));
		struct tt_safetensors *golden = golden_open(path);
		double error = largest_error(engine, golden);
		cr_assert(error >= 2e-3 && error <= 3e-2, "%s: %g off", models[i], error);
		tt_safetensors_close(golden);
		tt_engine_close(engine);
	}
}
