/* Whole models with quantised weights on the emulated CUDA backend: the bits of the same model dequantised, and as many
 * bytes as the file has. */
#include <unistd.h>

#include "kernels/cuda/cuda.h"
#include "kernels/emu/emu.h"
#include "kernels/product_table.h"
#include "tests/golden.h"
#include "tests/random.h"

/* so many rows that a step takes the long prompt whole, its logits too */
enum { MOST_ROWS = 72, LONG_PROMPT = 70, TRIMMED_LAYERS = 1, TRIMMED_VOCABULARY = 256 };

static int (*plain_load)(
	struct tt_backend *, struct tt_model *, const struct tt_limits *, const struct tt_model **, struct tt_error *);
static bool dequantise, trim;
static uint32_t changed_part; /* 1, 2: wq or wv is random Q8_0 */

static int make_bf16(struct tt_model *model, struct tt_matrix *m, struct tt_error *err)
{
	uint16_t *data = NULL;
	float *row = calloc(m->n_in, sizeof *row);
	TT_TRY(tt_model_own(model, &data, (size_t)m->n_out * m->n_in * sizeof *data, err));
	for (uint32_t i = 0; i < m->n_out; i++) {
		TT_TRY(tt_matrix_row(m, i, row, err));
		for (uint32_t k = 0; k < m->n_in; k++)
			data[(size_t)i * m->n_in + k] = tt_f32_to_bf16(row[k]);
	}
	free(row);
	*m = (struct tt_matrix){data, TT_TYPE_BF16, m->n_out, m->n_in, 0};
	return TT_OK;
}

/* A matrix of random Q8_0 blocks, of steps near 2^-9. */
static int make_q8(struct tt_model *model, struct tt_matrix *m, struct tt_error *err)
{
	size_t n = tt_type_row_bytes(TT_TYPE_Q8_0, m->n_in) * m->n_out;
	uint64_t state = m->n_out;
	uint8_t *data = NULL;
	TT_TRY(tt_model_own(model, &data, n, err));
	for (size_t i = 0; i < n; i++)
		data[i] = (uint8_t)random_bits(&state);
	for (size_t i = 1; i < n; i += 34) /* the upper byte of a half */
		data[i] = (uint8_t)(0x18 | (data[i] & 0x80));
	*m = (struct tt_matrix){data, TT_TYPE_Q8_0, m->n_out, m->n_in, 0};
	return TT_OK;
}

/* As many as on the device, where F8_E4M3 has one scale for 128 columns. */
static uint64_t file_bytes(const struct tt_matrix *m)
{
	if (m->type == TT_TYPE_F8_E4M3)
		return (uint64_t)m->n_out * ((m->n_in + 127) / 128) * (sizeof(float) + 128);
	return tt_type_row_bytes(m->type, m->n_in) * m->n_out;
}

/* Of all matrices, and of those that a decode step multiplies. */
static uint64_t model_bytes, step_bytes;

static int changed_load(struct tt_backend *backend, struct tt_model *model, const struct tt_limits *limits,
	const struct tt_model **out, struct tt_error *err)
{
	if (trim) {
		model->config.n_layers = TRIMMED_LAYERS;
		model->config.vocab_size = TRIMMED_VOCABULARY;
		model->embedding.n_out = model->output.n_out = TRIMMED_VOCABULARY;
	}
	bool tied = model->config.tied_output;
	model_bytes = file_bytes(&model->embedding) + (tied ? 0 : file_bytes(&model->output));
	step_bytes = file_bytes(&model->output);
	for (uint32_t l = 0; l < model->config.n_layers; l++) {
		struct tt_layer *layer = &model->layers[l];
		struct tt_matrix *all[] = {
			&layer->wq, &layer->wk, &layer->wv, &layer->wo, &layer->w_gate, &layer->w_up, &layer->w_down};
		if (changed_part)
			TT_TRY(make_q8(model, all[changed_part == 1 ? 0 : 2], err));
		for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
			model_bytes += file_bytes(all[i]);
			step_bytes += file_bytes(all[i]);
			if (dequantise)
				TT_TRY(make_bf16(model, all[i], err));
		}
	}
	if (dequantise) {
		TT_TRY(make_bf16(model, &model->embedding, err));
		if (tied)
			model->output = model->embedding;
		else
			TT_TRY(make_bf16(model, &model->output, err));
	}
	TT_TRY(plain_load(backend, model, limits, out, err));
	const struct tt_matrix *wq = &model->layers[0].wq;
	cr_assert(!wq->data == (wq->type == TT_TYPE_F8_E4M3), "what the device has need not be kept");
	return TT_OK;
}

static struct tt_engine *open_changed(const char *path, bool as_bf16, bool fast)
{
	struct tt_engine_options options;
	struct tt_engine *engine = NULL;
	struct tt_backend *backend = NULL;
	tt_emu_reset(TT_EMU_RANDOM, 5);
	tt_engine_options_default(&options);
	options.max_batch = MOST_ROWS;
	options.max_step_tokens = 136;
	options.context = 256;
	options.fast = fast;
	must(tt_cuda_open(&backend, 0, err));
	plain_load = backend->load;
	backend->load = changed_load;
	dequantise = as_bf16;
	must(tt_engine_open_on(&engine, backend, path, &options, err));
	return engine;
}

static const uint64_t EVERY_LAYER[(TT_MAX_LAYERS + 63) / 64] = {~0ull};

/* n rows in one step, or one row of a long prompt: their logits and h at all layers, into a new array. */
static float *run(struct tt_engine *engine, uint32_t n_rows, size_t n_ids, size_t *n)
{
	const struct tt_model_info *info = tt_engine_info(engine);
	size_t row = n_ids * (info->vocab_size + (size_t)info->n_layers * info->hidden_size), at = 0;
	struct tt_request *requests[MOST_ROWS];
	float *all = calloc(n_rows, row * sizeof *all);
	for (uint32_t i = 0; i < n_rows; i++) {
		struct tt_request_options options;
		int32_t ids[LONG_PROMPT];
		tt_request_options_default(&options);
		for (size_t k = 0; k < n_ids; k++)
			ids[k] = (int32_t)((i * 37 + k * 11 + i * k) % info->vocab_size);
		options.ids = ids;
		options.n_ids = n_ids;
		options.keep_logits = true;
		options.keep_layers = EVERY_LAYER;
		must(tt_request_submit(&requests[i], engine, &options, err));
	}
	for (uint32_t i = 0; i < n_rows; i++) {
		must(tt_request_wait(requests[i], err));
		memcpy(all + at, tt_request_logits(requests[i]), n_ids * info->vocab_size * sizeof *all);
		at += n_ids * info->vocab_size;
		for (uint32_t l = 0; l < info->n_layers; l++, at += n_ids * info->hidden_size)
			memcpy(all + at, tt_request_hidden(requests[i], l), n_ids * info->hidden_size * sizeof *all);
		tt_request_free(requests[i]);
	}
	cr_assert_str_empty(tt_emu_report());
	*n = at;
	return all;
}

struct shape {
	uint32_t n_rows;
	size_t n_ids;
};
static const struct shape SHAPES[] = {{1, 1}, {9, 1}, {64, 1}, {1, LONG_PROMPT}};
enum { N_SHAPES = sizeof SHAPES / sizeof *SHAPES };

/* rounded: whether some matrices cannot stay as they are. */
static void check_model(const char *path, uint32_t n_shapes, bool rounded)
{
	float *want[N_SHAPES];
	size_t n[N_SHAPES], n_got;
	struct tt_engine *engine = open_changed(path, true, false);
	cr_expect_eq(tt_engine_info(engine)->rounded_weight_bytes, 0);
	for (uint32_t i = 0; i < n_shapes; i++)
		want[i] = run(engine, SHAPES[i].n_rows, SHAPES[i].n_ids, &n[i]);
	tt_engine_close(engine);
	engine = open_changed(path, false, false);
	cr_expect_eq(tt_engine_info(engine)->rounded_weight_bytes != 0, rounded, "%s", path);
	if (!rounded)
		cr_expect_eq(tt_engine_info(engine)->device_weight_bytes, model_bytes, "%s", path);
	for (uint32_t i = 0; i < n_shapes; i++) {
		float *got = run(engine, SHAPES[i].n_rows, SHAPES[i].n_ids, &n_got);
		cr_assert_eq(n_got, n[i]);
		cr_expect_arr_eq(got, want[i], n_got * sizeof *got, "%s: %u rows of %zu", path, SHAPES[i].n_rows,
			SHAPES[i].n_ids);
		cr_expect(want[i][0] != 0 && want[i][0] == want[i][0]);
		free(got);
		free(want[i]);
	}
	tt_engine_close(engine);
}

/* A file of each type; the other kernels are reached with one of them, by a long prompt. */
#define TINY(name, path, n_shapes)                                                                                     \
	Test(emu_quants_engine, name##_has_the_bits_of_its_dequantised_numbers)                                        \
	{                                                                                                              \
		check_model(GOLDEN(path "." #name ".gguf"), n_shapes, false);                                          \
	}
TINY(q8_0, "tiny-llama/tiny-llama", N_SHAPES)
TINY(q4_0, "tiny-llama/tiny-llama", 3)
TINY(q4_1, "tiny-llama/tiny-llama", 3)
TINY(q5_0, "tiny-llama/tiny-llama", 3)
TINY(iq4_nl, "tiny-llama/tiny-llama", 3)
TINY(q4_k, "tiny-k/tiny-k", 3)
TINY(q5_k, "tiny-k/tiny-k", 3)
TINY(q6_k, "tiny-k/tiny-k", N_SHAPES)

/* Rows of 160, 192 and 288 end within 128 columns that have a scale; of 64, 96 and 160 too. */
Test(emu_quants_engine, hugging_face_fp8_has_the_bits_of_its_dequantised_numbers)
{
	check_model(GOLDEN("tiny-fp8-block"), N_SHAPES, false);
	check_model(GOLDEN("tiny-fp8-channel"), 2, false);
	check_model(GOLDEN("tiny-fp8-tensor"), 2, false);
	check_model(GOLDEN("tiny-fp8-output"), 2, false);
}

/* wq of another type than wk and wv, in clusters and in wide kernels too: its 256 rows are whole blocks, so each type
 * stays. wv begins with row 320, in the
 * middle of a block: all three become bf16. */
Test(emu_quants_engine, matrices_of_one_product_may_differ_in_type_or_become_bf16)
{
	static const struct tt_emu_device without_clusters = {
		.major = 9, .n_sms = 132, .shared_bytes = 227 << 10, .no_clusters = true};
	changed_part = 1;
	check_model(GOLDEN("tiny-k/tiny-k.q4_k.gguf"), N_SHAPES, false);
	tt_emu_set_device(&without_clusters);
	check_model(GOLDEN("tiny-k/tiny-k.q4_k.gguf"), N_SHAPES, false);
	tt_emu_set_device(NULL);
	changed_part = 2;
	check_model(GOLDEN("tiny-k/tiny-k.q6_k.gguf"), 1, true);
}

enum { GRAPH_ROWS = 10, GRAPH_TOKENS = 4 };

/* Tokens of n rows that begin with row `first`, decoded together: their log-probabilities. */
static void decode(struct tt_engine *engine, uint32_t first, uint32_t n, float (*out)[GRAPH_TOKENS])
{
	struct tt_request *requests[GRAPH_ROWS];
	for (uint32_t i = 0; i < n; i++) {
		struct tt_request_options options;
		const int32_t id = (int32_t)((first + i) * 37 % tt_engine_info(engine)->vocab_size);
		tt_request_options_default(&options);
		options.ids = &id;
		options.n_ids = 1;
		options.max_tokens = GRAPH_TOKENS;
		options.ignore_eos = true;
		must(tt_request_submit(&requests[i], engine, &options, err));
	}
	for (uint32_t i = 0; i < n; i++) {
		struct tt_token token;
		must(tt_request_wait(requests[i], err));
		for (size_t t = 0; tt_request_next(requests[i], &token); t++)
			out[i][t] = token.logprob;
		tt_request_free(requests[i]);
	}
	cr_assert_str_empty(tt_emu_report());
}

/* K of 256 has eight slices, so products of ten rows are of clusters, from a graph too: with bf16 weights and with
 * quantised ones. A row alone has none. */
Test(emu_quants_engine, clusters_in_graphs_have_the_bits_of_rows_alone)
{
	const struct product_question question = {132, 227 << 10, true, false, 256 / PRODUCT_TILE, 256, GRAPH_ROWS};
	static float want[2][GRAPH_ROWS][GRAPH_TOKENS], got[GRAPH_ROWS][GRAPH_TOKENS];
	cr_assert_eq(PRODUCT_TABLE[tt_product_choose(&question)].shape.family, PRODUCT_IN_CLUSTER);
	for (int bf16 = 0; bf16 < 2; bf16++) {
		struct tt_engine *engine = open_changed(GOLDEN("tiny-k/tiny-k.q4_k.gguf"), bf16, false);
		struct tt_engine_stats stats;
		for (uint32_t i = 0; i < GRAPH_ROWS; i++)
			decode(engine, i, 1, &want[bf16][i]);
		for (int again = 0; again < 2; again++) {
			memset(got, 0, sizeof got);
			decode(engine, 0, GRAPH_ROWS, got);
			cr_expect_arr_eq(got, want[bf16], sizeof got, "%s", bf16 ? "bf16" : "q4_k");
		}
		tt_engine_stats(engine, &stats);
		cr_expect_gt(stats.n_graph_launches, GRAPH_ROWS * (GRAPH_TOKENS - 1));
		tt_engine_close(engine);
	}
	cr_expect_neq(want[0][0][0], want[0][1][0]);
	cr_expect_arr_eq(want[0], want[1], sizeof got, "quantised, not the same dequantised");
}

/* The first layer of a real model. Skipped where it is not there. */
static void check_layer(const char *path, uint32_t n_shapes)
{
	if (access(path, R_OK) != 0)
		cr_skip_test("the model is not there (make models)");
	trim = true;
	check_model(path, n_shapes, false);
}

Test(emu_quants_engine, a_layer_of_smollm2_has_the_bits_of_the_dequantised_one)
{
	check_layer(SMOLLM2, 3);
}

/* Q5_0 with Q8_0 in one product, Q6_K with slices that begin within a block. */
Test(emu_quants_engine, a_layer_of_qwen_has_the_bits_of_the_dequantised_one)
{
	check_layer(TT_MODEL_DIR "/Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf", 3);
}

Test(emu_quants_engine, a_layer_of_gemma_has_the_bits_of_the_dequantised_one)
{
	check_layer(TT_MODEL_DIR "/gemma-3-270m.Q4_K_M.gguf", 3);
}

/* What a decode step reads of weights, in sectors of 32 bytes: the file's bytes of the matrices that it multiplies. */
static void check_step_bytes(const char *path, uint32_t n_rows)
{
	if (access(path, R_OK) != 0)
		cr_skip_test("the model is not there (make models)");
	trim = true;
	struct tt_engine *engine = open_changed(path, false, false);
	const struct tt_model_info *info = tt_engine_info(engine);
	struct tt_request *requests[MOST_ROWS];
	for (uint32_t i = 0; i < n_rows; i++) {
		struct tt_request_options options;
		const int32_t id = (int32_t)(i * 37 % info->vocab_size);
		tt_request_options_default(&options);
		options.ids = &id;
		options.n_ids = 1;
		options.max_tokens = 8;
		options.ignore_eos = true;
		must(tt_request_submit(&requests[i], engine, &options, err));
	}
	for (int i = 0; i < 4; i++)
		must(tt_engine_step(engine, err));
	tt_emu_clear_counters();
	must(tt_engine_step(engine, err));
	if (!tt_emu_counts_traffic())
		cr_skip_test("PTX does not say what kind of data it moves");
	double read = 32 * (double)tt_emu_counted()->loads[TT_TRAFFIC_WEIGHT].sectors;
	/* Norms and biases, which each of a cluster's blocks reads, and a row of the embedding for each token: of a
	 * chunk, three sectors. */
	double norms = 4.0 * (info->hidden_size * (2 * info->n_layers + 1)) * (n_rows > 8 ? 8 : 1);
	double others = norms + n_rows * info->hidden_size * 3.0;
	fprintf(stderr, "%s, %u rows: %.4f of the bytes of its matrices in the file\n", path, n_rows,
		read / (double)step_bytes);
	cr_expect(read >= (double)step_bytes, "%g", read / (double)step_bytes);
	cr_expect(read <= 1.01 * (double)step_bytes + others, "%g", read / (double)step_bytes);
	for (uint32_t i = 0; i < n_rows; i++)
		tt_request_free(requests[i]);
	tt_engine_close(engine);
}

Test(emu_quants_engine, a_decode_step_reads_the_files_bytes_of_its_matrices)
{
	check_step_bytes(SMOLLM2, 1);
	check_step_bytes(SMOLLM2, 9);
}

/* Prompts by cuBLASLt's stand-in, from rows that were unpacked: other sums, so within what rounding costs. */
Test(emu_quants_engine, fast_products_take_quantised_weights)
{
	enum { FAST_PROMPT = TT_CUDA_FAST_TOKENS + 2 };
	float *strict = NULL;
	int32_t ids[FAST_PROMPT];
	trim = true;
	for (uint32_t i = 0; i < FAST_PROMPT; i++)
		ids[i] = (int32_t)(i * 37 % TRIMMED_VOCABULARY);
	for (int fast = 0; fast < 2; fast++) {
		struct tt_request_options options;
		struct tt_engine *engine = open_changed(GOLDEN("tiny-llama/tiny-llama.q4_1.gguf"), false, fast);
		const struct tt_model_info *info = tt_engine_info(engine);
		cr_expect_str_eq(info->mode, fast ? "fast" : "strict");
		cr_expect_eq(info->device_weight_bytes > model_bytes, fast);
		tt_request_options_default(&options);
		options.ids = ids;
		options.n_ids = FAST_PROMPT;
		options.keep_layers = EVERY_LAYER;
		struct tt_request *request = request_run(engine, &options);
		size_t n = FAST_PROMPT * (size_t)info->hidden_size;
		const float *h = tt_request_hidden(request, 0);
		if (fast) {
			double error = relative_error(h, strict, n);
			cr_expect(error <= TOLERANCE / 10 && error > 0, "%g", error);
		} else {
			strict = calloc(n, sizeof *strict);
			memcpy(strict, h, n * sizeof *strict);
		}
		tt_request_free(request);
		tt_engine_close(engine); /* before the emulator is reset for the next */
	}
	free(strict);
}
