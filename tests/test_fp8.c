/* Weights of eight bits and their scales in Hugging Face directories: what they stand for, and what is refused. The
 * weights are worked out here from the format's bits. */
#define _GNU_SOURCE /* memmem */
#include <math.h>

#include "base/fail.h"
#include "golden.h"
#include "weights/model.h"
#include "weights_files.h"

#define Q "model.layers.0.self_attn.q_proj.weight"

static const char *const FILES[] = {"config.json", "model.safetensors"};

static float number_of(uint8_t code)
{
	int exponent = code >> 3 & 15, mantissa = code & 7;
	float magnitude = exponent ? ldexpf((float)(8 + mantissa), exponent - 10) : ldexpf((float)mantissa, -9);
	return code & 0x80 ? -magnitude : magnitude;
}

/* The tensors of a golden model, to be changed, and a directory to write them to. */
struct world {
	struct scratch scratch;
	struct tt_safetensors *file;
	struct tt_st_tensor list[64];
	size_t n;
};

static void open_world(struct world *w, const char *model)
{
	char path[512];
	struct tt_buffer config = {0};
	scratch_make(&w->scratch);
	snprintf(path, sizeof path, "%s/%s/config.json", TT_TEST_DATA, model);
	must(tt_file_read(&config, path, 1 << 16, err));
	scratch_write(&w->scratch, FILES[0], config.data, config.len);
	tt_buffer_free(&config);
	snprintf(path, sizeof path, "%s/%s/model.safetensors", TT_TEST_DATA, model);
	w->file = golden_open(path);
	w->n = w->file->n_tensors;
	cr_assert_lt(w->n, 63);
	memcpy(w->list, w->file->tensors, w->n * sizeof *w->list);
}

/* Replaces the first such words of config.json. */
static void change_config(struct world *w, const char *from, const char *to)
{
	struct tt_buffer old = {0}, new = {0};
	snprintf(w->scratch.path, sizeof w->scratch.path, "%s/%s", w->scratch.directory, FILES[0]);
	must(tt_file_read(&old, w->scratch.path, 1 << 16, err));
	const char *end = old.data + old.len, *at = memmem(old.data, old.len, from, strlen(from));
	cr_assert_not_null(at, "no %s", from);
	must(tt_buffer_add(&new, old.data, (size_t)(at - old.data), err));
	must(tt_buffer_add(&new, to, strlen(to), err));
	at += strlen(from);
	must(tt_buffer_add(&new, at, (size_t)(end - at), err));
	scratch_write(&w->scratch, FILES[0], new.data, new.len);
	tt_buffer_free(&old);
	tt_buffer_free(&new);
}

static void close_world(struct world *w)
{
	tt_safetensors_close(w->file);
	scratch_remove(&w->scratch, FILES, 2);
}

static struct tt_st_tensor *tensor(struct world *w, const char *name)
{
	for (size_t i = 0; i < w->n; i++)
		if (strcmp(w->list[i].name, name) == 0)
			return &w->list[i];
	cr_assert_fail("no %s", name);
	return NULL;
}

static int open_model(struct world *w, struct tt_model **out, struct tt_error *err)
{
	snprintf(w->scratch.path, sizeof w->scratch.path, "%s/%s", w->scratch.directory, FILES[1]);
	TT_TRY(tt_safetensors_write(w->scratch.path, w->list, w->n, NULL, 0, err));
	return tt_model_open(out, w->scratch.directory, err);
}

/* A matrix against its numbers times scale (row, column). */
static void expect_weights(const struct tt_matrix *m, const struct tt_st_tensor *numbers,
	const struct tt_st_tensor *scales, uint32_t row_step, uint32_t column_step)
{
	uint32_t columns = (m->n_in + column_step - 1) / column_step;
	float *row = malloc(m->n_in * sizeof *row);
	cr_assert_eq(m->type, TT_TYPE_F8_E4M3);
	for (uint32_t r = 0; r < m->n_out; r++) {
		must(tt_matrix_row(m, r, row, err));
		for (uint32_t k = 0; k < m->n_in; k++) {
			float scale = tt_st_float(scales, r / row_step * columns + k / column_step);
			uint8_t code = ((const uint8_t *)numbers->data)[(size_t)r * m->n_in + k];
			cr_assert_eq(row[k], number_of(code) * scale, "row %u, column %u", r, k);
		}
	}
	free(row);
}

static void expect_q(struct world *w, const char *scales, uint32_t row_step, uint32_t column_step)
{
	struct tt_model *model = NULL;
	must(open_model(w, &model, err));
	expect_weights(&model->layers[0].wq, tensor(w, Q), tensor(w, scales), row_step, column_step);
	tt_model_close(model);
}

static void expect_model_refused(struct world *w, const char *label, const char *words)
{
	struct tt_model *model = NULL;
	struct tt_error err = {0};
	expect_refused(open_model(w, &model, &err), &err, label, w->scratch.directory, words);
}

Test(fp8, scales_of_128_rows_and_columns)
{
	struct world w;
	open_world(&w, "tiny-fp8-block");
	expect_q(&w, Q "_scale_inv", 128, 128);
	close_world(&w);
}

Test(fp8, scales_of_rows_of_all_and_of_columns_by_either_name)
{
	static const float floats[64] = {0, 255, 0.125f, 1e-40f, 3};
	struct world w;
	open_world(&w, "tiny-fp8-channel");
	struct tt_st_tensor *scales = tensor(&w, Q "_scale");
	expect_q(&w, Q "_scale", 1, 64);
	scales->n_dims = 1;
	expect_q(&w, Q "_scale", 1, 64);
	scales->name = Q "_scale_inv";
	expect_q(&w, Q "_scale_inv", 1, 64);
	scales->dtype = TT_DTYPE_F32;
	scales->data = floats;
	expect_q(&w, Q "_scale_inv", 1, 64);
	for (uint32_t n_dims = 0; n_dims <= 2; n_dims++) {
		scales->n_dims = n_dims;
		scales->shape[0] = scales->shape[1] = 1;
		scales->data = floats + 2;
		expect_q(&w, Q "_scale_inv", 64, 64);
	}
	close_world(&w);
}

Test(fp8, what_is_said_of_activations_is_read_over_only_beside_weights_of_eight_bits)
{
	static const float one = 1;
	struct world w;
	struct tt_model *model = NULL;
	open_world(&w, "tiny-fp8-channel");
	w.list[w.n++] =
		(struct tt_st_tensor){.name = "model.layers.0.self_attn.k_scale", .dtype = TT_DTYPE_F32, .data = &one};
	must(open_model(&w, &model, err));
	tt_model_close(model);
	w.list[w.n - 1].name = "model.layers.0.self_attn.q_proj.weight_zero_point";
	expect_model_refused(&w, "zero point", "q_proj.weight_zero_point has no place in a model");
	close_world(&w);
	open_world(&w, "weights/tiny");
	w.list[w.n++] =
		(struct tt_st_tensor){.name = "model.layers.0.self_attn.k_scale", .dtype = TT_DTYPE_F32, .data = &one};
	expect_model_refused(&w, "bf16", "self_attn.k_scale has no place in a model");
	close_world(&w);
}

/* Else weights of another method that happen to be these numbers would be taken for these. */
Test(fp8, the_configuration_says_how_weights_of_eight_bits_are_meant)
{
	struct world w;
	open_world(&w, "tiny-fp8-channel");
	change_config(&w, "quantization_config", "compression_config");
	expect_q(&w, Q "_scale", 1, 64);
	change_config(&w, "float-quantized", "pack-quantized");
	expect_model_refused(&w, "format", "compression_config: format \"pack-quantized\" is not supported");
	change_config(&w, "compression_config", "other_config");
	expect_model_refused(&w, "none", " is F8_E4M3, and config.json does not say how: it has neither ");
	close_world(&w);
}

Test(fp8, an_output_beside_a_tied_embedding_is_passed_over_with_its_scales)
{
	static const char *const names[] = {"lm_head.weight_scale", "lm_head.weight_scale_inv"};
	struct world w;
	struct tt_model *model = NULL;
	open_world(&w, "tiny-fp8-channel");
	w.list[w.n] = *tensor(&w, Q);
	w.list[w.n].name = "lm_head.weight";
	w.list[w.n + 1] = *tensor(&w, Q "_scale");
	w.n += 2;
	for (size_t i = 0; i < 2; i++) {
		w.list[w.n - 1].name = names[i];
		must(open_model(&w, &model, err));
		cr_expect_eq(model->output.data, model->embedding.data);
		tt_model_close(model);
	}
	w.list[w.n - 1].name = "lm_head.weight_scales";
	expect_model_refused(&w, "scales", "lm_head.weight_scales has no place in a model");
	w.list[w.n - 1].name = names[0];
	tensor(&w, "lm_head.weight")->dtype = TT_DTYPE_BF16;
	tensor(&w, "lm_head.weight")->shape[0] /= 2;
	expect_model_refused(&w, "bf16", "lm_head.weight_scale has no place in a model");
	close_world(&w);
}

/* What a device has in its own memory. */
Test(fp8, blocks_of_layers_can_be_dropped)
{
	float row[64];
	struct world w;
	struct tt_model *model = NULL;
	open_world(&w, "tiny-fp8-output");
	must(open_model(&w, &model, err));
	const struct tt_layer *layer = &model->layers[0];
	tt_model_drop_blocks(model);
	cr_expect(!layer->wq.data && !layer->wv.data && !layer->wo.data && !layer->w_up.data && !layer->w_down.data);
	cr_expect_eq(tt_matrix_row(&layer->w_gate, 0, row, NULL), TT_ERR_UNSUPPORTED);
	expect_weights(&model->embedding, tensor(&w, "model.embed_tokens.weight"),
		tensor(&w, "model.embed_tokens.weight_scale"), 1, 64);
	expect_weights(&model->output, tensor(&w, "lm_head.weight"), tensor(&w, "lm_head.weight_scale"), 1, 64);
	tt_model_drop_blocks(model);
	tt_model_close(model);
	close_world(&w);
	open_world(&w, "weights/tiny");
	must(open_model(&w, &model, err));
	tt_model_drop_blocks(model);
	cr_expect_not_null(model->layers[0].wq.data);
	tt_model_close(model);
	close_world(&w);
}

Test(fp8, refuses_scales_that_are_missing_twice_there_or_of_another_shape)
{
	struct world w;
	open_world(&w, "tiny-fp8-channel");
	struct tt_st_tensor *scales = tensor(&w, Q "_scale"), kept = *scales;
	scales->name = "x";
	expect_model_refused(&w, "none", Q " is F8_E4M3, and its scales are missing: ");
	*scales = kept;
	w.list[w.n] = kept;
	w.list[w.n++].name = Q "_scale_inv";
	expect_model_refused(&w, "both", Q " has scales twice, in " Q "_scale too");
	w.n--;
	scales->shape[0] = 1;
	scales->shape[1] = 64;
	expect_model_refused(&w, "columns", Q "_scale has scales for neither the whole of [64][64] nor");
	*scales = kept;
	scales->shape[0] = 32;
	expect_model_refused(&w, "half", Q "_scale has scales for neither");
	scales->shape[0] = 0;
	expect_model_refused(&w, "empty", Q "_scale has scales for neither");
	*scales = kept;
	scales->n_dims = 3;
	scales->shape[2] = 1;
	expect_model_refused(&w, "three", Q "_scale has scales for neither");
	*scales = kept;
	scales->dtype = TT_DTYPE_I32;
	scales->shape[0] = 32;
	expect_model_refused(&w, "integers", Q "_scale has a number type that is not supported for scales");
	close_world(&w);
}

Test(fp8, refuses_numbers_and_scales_that_are_none)
{
	static const float bad[] = {NAN, INFINITY, -1, -1e-30f, 256};
	float values[64];
	uint8_t codes[64 * 64];
	struct world w;
	open_world(&w, "tiny-fp8-channel");
	struct tt_st_tensor *scales = tensor(&w, Q "_scale"), *numbers = tensor(&w, Q);
	scales->dtype = TT_DTYPE_F32;
	scales->data = values;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		for (size_t k = 0; k < 64; k++)
			values[k] = k == 63 ? bad[i] : 1;
		expect_model_refused(&w, "scale", Q "_scale holds a scale of ");
	}
	values[63] = 1;
	for (int sign = 0; sign < 2; sign++) {
		memcpy(codes, numbers->data, sizeof codes);
		codes[63 * 64 + 5] = sign ? 0xff : 0x7f;
		const void *kept = numbers->data;
		numbers->data = codes;
		expect_model_refused(&w, "NaN", Q ": weight 5 of row 63 is NaN");
		numbers->data = kept;
	}
	close_world(&w);
}

Test(fp8, refuses_vectors_and_short_rows)
{
	static const uint8_t ones[64] = {0x38};
	struct world w;
	open_world(&w, "tiny-fp8-channel");
	struct tt_st_tensor *norm = tensor(&w, "model.norm.weight");
	norm->dtype = TT_DTYPE_F8_E4M3;
	norm->data = ones;
	expect_model_refused(&w, "norm", "model.norm.weight is a vector of F8_E4M3");
	close_world(&w);
	open_world(&w, "weights/tiny");
	change_config(&w, "{", "{\"quantization_config\":{\"quant_method\":\"fp8\"},");
	tensor(&w, Q)->dtype = TT_DTYPE_F8_E4M3;
	w.list[w.n++] = (struct tt_st_tensor){.name = Q "_scale", .dtype = TT_DTYPE_BF16, .data = "\x80\x3f"};
	expect_model_refused(&w, "rows of 16", Q ": rows of 16 F8_E4M3 are not whole blocks of 32");
	close_world(&w);
}

Test(fp8, refuses_other_types_of_eight_bits)
{
	struct world w;
	struct tt_model *model = NULL;
	struct tt_error refused = {0};
	struct tt_buffer bytes = {0};
	open_world(&w, "tiny-fp8-channel");
	must(open_model(&w, &model, err));
	tt_model_close(model);
	must(tt_file_read(&bytes, w.scratch.path, 1 << 20, err));
	char *at = memmem(bytes.data, bytes.len, "F8_E4M3", 7);
	cr_assert_not_null(at);
	memcpy(at, "F8_E5M2", 7);
	scratch_write(&w.scratch, FILES[1], bytes.data, bytes.len);
	expect_refused(tt_model_open(&model, w.scratch.directory, &refused), &refused, "E5M2", w.scratch.directory,
		"has a number type that is not supported (supported: F32, F16, BF16, F8_E4M3)");
	tt_buffer_free(&bytes);
	close_world(&w);
}
