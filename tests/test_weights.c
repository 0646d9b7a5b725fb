/* Whole models: every tensor where the configuration says, from GGUF, a directory and shards. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "weights/gguf.h"
#include "weights/model.h"
#include "weights/safetensors.h"
#include "weights_files.h"

static struct tt_model *open_model(const char *path)
{
	struct tt_model *model = NULL;
	struct tt_error err = {0};
	cr_assert_eq(tt_model_open(&model, path, &err), TT_OK, "%s", err.message);
	return model;
}

static struct tt_safetensors *open_tensors(const char *path)
{
	struct tt_safetensors *file = NULL;
	struct tt_error err = {0};
	cr_assert_eq(tt_safetensors_open(&file, path, &err), TT_OK, "%s", err.message);
	return file;
}

static void expect_floats(const float *got, const struct tt_safetensors *want, const char *name)
{
	const struct tt_st_tensor *w = tt_safetensors_find(want, name);
	cr_assert(w && got, "%s", name);
	size_t wrong = 0;
	for (uint64_t i = 0; i < w->n_elements; i++)
		wrong += got[i] != tt_st_float(w, i);
	cr_expect_eq(wrong, 0, "%s: %zu differ", name, wrong);
}

static void expect_matrix(const struct tt_matrix *m, const struct tt_safetensors *want, const char *name)
{
	const struct tt_st_tensor *w = tt_safetensors_find(want, name);
	cr_assert(w && w->n_dims == 2 && m->n_out == w->shape[0] && m->n_in == w->shape[1], "%s", name);
	float *got = calloc(w->n_elements, sizeof *got);
	tt_dequantise(m->type, m->data, got, w->n_elements);
	expect_floats(got, want, name);
	free(got);
}

static json_t *expected(void)
{
	struct tt_error err = {0};
	json_t *out = NULL;
	cr_assert_eq(
		tt_json_load(&out, TT_TEST_DATA "/weights/expected.json", 1 << 16, &err), TT_OK, "%s", err.message);
	return out;
}

Test(weights, gguf_tensors_are_where_their_names_say)
{
	struct tt_model *model = open_model(TT_TEST_DATA "/weights/tiny.gguf");
	struct tt_safetensors *want = open_tensors(TT_TEST_DATA "/weights/tiny_want.safetensors");
	json_t *numbers = expected();
	expect_matrix(&model->embedding, want, "token_embd.weight");
	expect_matrix(&model->output, want, "output.weight");
	expect_floats(model->output_norm, want, "output_norm.weight");
	for (uint32_t i = 0; i < 2; i++) {
		const struct tt_layer *l = &model->layers[i];
		const struct {
			const struct tt_matrix *matrix;
			const char *name;
		} parts[] = {{&l->wq, "attn_q"}, {&l->wk, "attn_k"}, {&l->wv, "attn_v"}, {&l->wo, "attn_output"},
			{&l->w_gate, "ffn_gate"}, {&l->w_up, "ffn_up"}, {&l->w_down, "ffn_down"}};
		char name[64];
		for (size_t j = 0; j < 7; j++) {
			snprintf(name, sizeof name, "blk.%u.%s.weight", i, parts[j].name);
			expect_matrix(parts[j].matrix, want, name);
		}
		snprintf(name, sizeof name, "blk.%u.attn_norm.weight", i);
		expect_floats(l->attn_norm, want, name);
		snprintf(name, sizeof name, "blk.%u.ffn_norm.weight", i);
		expect_floats(l->ffn_norm, want, name);
		cr_expect(!l->bq && !l->bo && !l->b_gate);
	}
	cr_expect_str_eq(model->weights_digest, json_string_value(json_object_get(numbers, "tiny_digest")));
	json_decref(numbers);
	tt_safetensors_close(want);
	tt_model_close(model);
}

/* Every tensor of tests/golden/weights/tiny against the file itself, which another reader's test vouches for. */
static void expect_tiny(const struct tt_model *model, const struct tt_safetensors *want)
{
	const struct tt_layer *l = &model->layers[0];
	expect_matrix(&model->embedding, want, "model.embed_tokens.weight");
	expect_matrix(&model->output, want, "lm_head.weight");
	expect_floats(model->output_norm, want, "model.norm.weight");
	expect_floats(l->attn_norm, want, "model.layers.0.input_layernorm.weight");
	expect_floats(l->ffn_norm, want, "model.layers.0.post_attention_layernorm.weight");
	expect_matrix(&l->wq, want, "model.layers.0.self_attn.q_proj.weight");
	expect_matrix(&l->wk, want, "model.layers.0.self_attn.k_proj.weight");
	expect_matrix(&l->wv, want, "model.layers.0.self_attn.v_proj.weight");
	expect_matrix(&l->wo, want, "model.layers.0.self_attn.o_proj.weight");
	expect_matrix(&l->w_gate, want, "model.layers.0.mlp.gate_proj.weight");
	expect_matrix(&l->w_up, want, "model.layers.0.mlp.up_proj.weight");
	expect_matrix(&l->w_down, want, "model.layers.0.mlp.down_proj.weight");
	expect_floats(l->bq, want, "model.layers.0.self_attn.q_proj.bias");
	expect_floats(l->bk, want, "model.layers.0.self_attn.k_proj.bias");
	expect_floats(l->bv, want, "model.layers.0.self_attn.v_proj.bias");
	expect_floats(l->bo, want, "model.layers.0.self_attn.o_proj.bias");
	expect_floats(l->b_gate, want, "model.layers.0.mlp.gate_proj.bias");
	expect_floats(l->b_up, want, "model.layers.0.mlp.up_proj.bias");
	expect_floats(l->b_down, want, "model.layers.0.mlp.down_proj.bias");
}

Test(weights, a_directory_with_biases_and_an_output_matrix)
{
	struct tt_model *model = open_model(TT_TEST_DATA "/weights/tiny");
	struct tt_safetensors *want = open_tensors(TT_TEST_DATA "/weights/tiny/model.safetensors");
	json_t *numbers = expected();
	expect_tiny(model, want);
	cr_expect_eq(model->embedding.type, TT_TYPE_BF16);
	cr_expect_eq(model->n_parameters, (uint64_t)json_integer_value(json_object_get(numbers, "tiny_parameters")));
	cr_expect_eq(model->n_weight_bytes, 2 * model->n_parameters);
	cr_expect(!model->gguf && strcmp(model->directory, TT_TEST_DATA "/weights/tiny") == 0);
	json_decref(numbers);
	tt_safetensors_close(want);
	tt_model_close(model);
}

static const char *const FILES[] = {
	"config.json", "model.safetensors", "model.safetensors.index.json", "a.safetensors", "b.safetensors"};
enum { N_FILES = sizeof FILES / sizeof *FILES };

static void copy_config(struct scratch *s)
{
	struct tt_buffer config = golden("tiny/config.json");
	scratch_write(s, FILES[0], config.data, config.len);
	tt_buffer_free(&config);
}

/* Writes some of the tiny model's tensors, from one to before another, after n_odd bytes of something else. */
static void write_part(
	struct scratch *s, const char *name, const struct tt_safetensors *from, size_t first, size_t last, size_t n_odd)
{
	struct tt_st_tensor list[32];
	struct tt_error err = {0};
	size_t n = 0;
	if (n_odd)
		list[n++] = (struct tt_st_tensor){.name = "model.layers.0.self_attn.rotary_emb.inv_freq",
			.dtype = TT_DTYPE_U8,
			.n_dims = 1,
			.shape = {n_odd},
			.data = "xyz"};
	for (size_t i = first; i < last; i++)
		list[n++] = from->tensors[i];
	snprintf(s->path, sizeof s->path, "%s/%s", s->directory, name);
	cr_assert_eq(tt_safetensors_write(s->path, list, n, NULL, 0, &err), TT_OK, "%s", err.message);
}

Test(weights, data_that_lies_unaligned_is_copied)
{
	struct scratch s;
	struct tt_safetensors *want = open_tensors(TT_TEST_DATA "/weights/tiny/model.safetensors");
	scratch_make(&s);
	copy_config(&s);
	write_part(&s, FILES[1], want, 0, want->n_tensors, 1);
	struct tt_model *model = open_model(s.directory);
	expect_tiny(model, want);
	cr_expect_eq((uintptr_t)model->embedding.data % 2, 0);
	cr_expect_eq((uintptr_t)model->layers[0].w_down.data % 2, 0);
	tt_model_close(model);
	tt_safetensors_close(want);
	scratch_remove(&s, FILES, N_FILES);
}

/* An index over all tensors but the last n_missing: those before first_of_b in a, the others in b. */
static void write_index(struct scratch *s, const struct tt_safetensors *from, size_t first_of_b, size_t n_missing,
	const char *a, const char *b)
{
	struct tt_error err = {0};
	struct tt_buffer text = {0};
	cr_assert_eq(tt_buffer_print(&text, &err, "{\"metadata\":{},\"weight_map\":{"), TT_OK);
	for (size_t i = 0; i + n_missing < from->n_tensors; i++)
		cr_assert_eq(tt_buffer_print(&text, &err, "%s\"%s\":\"%s\"", i ? "," : "", from->tensors[i].name,
				     i < first_of_b ? a : b),
			TT_OK);
	cr_assert_eq(tt_buffer_print(&text, &err, "}}"), TT_OK);
	scratch_write(s, FILES[2], text.data, text.len);
	tt_buffer_free(&text);
}

Test(weights, shards_read_like_one_file)
{
	struct scratch s;
	struct tt_safetensors *want = open_tensors(TT_TEST_DATA "/weights/tiny/model.safetensors");
	struct tt_model *whole = open_model(TT_TEST_DATA "/weights/tiny");
	scratch_make(&s);
	copy_config(&s);
	write_part(&s, FILES[3], want, 0, 9, 0);
	write_part(&s, FILES[4], want, 9, want->n_tensors, 0);
	write_index(&s, want, 9, 0, FILES[3], FILES[4]);
	struct tt_model *model = open_model(s.directory);
	expect_tiny(model, want);
	cr_expect_str_eq(model->weights_digest, whole->weights_digest);
	cr_expect_eq(model->n_parameters, whole->n_parameters);
	tt_model_close(model);
	tt_model_close(whole);
	tt_safetensors_close(want);
	scratch_remove(&s, FILES, N_FILES);
}

Test(weights, refuses_hostile_indices)
{
	static const struct {
		size_t first_of_b, split; /* the index's place of change, and the files' */
		const char *a, *b, *words;
	} CASES[] = {
		{9, 9, "a.safetensors", "../b.safetensors", "\"../b.safetensors\", must be a plain name"},
		{9, 9, "a.safetensors", "/etc/passwd", "\"/etc/passwd\", must be a plain name"},
		{9, 9, "a.safetensors", "..", "\"..\", must be a plain name"},
		{9, 9, "a.safetensors", "", "\"\", must be a plain name"},
		{9, 9, "a.safetensors", "x/b.safetensors", "must be a plain name"},
		{9, 9, "a.safetensors", "x\\\\b.safetensors", "must be a plain name"},
		{9, 9, "a.safetensors", "c.safetensors", "c.safetensors: cannot open"},
		{8, 9, "a.safetensors", "b.safetensors", "is not in b.safetensors"},
		{9, 8, "a.safetensors", "b.safetensors", "is not in a.safetensors"},
		{9, 9, "config.json", "b.safetensors", "config.json: "},
	};
	struct scratch s;
	struct tt_safetensors *from = open_tensors(TT_TEST_DATA "/weights/tiny/model.safetensors");
	struct tt_model *model = NULL;
	struct tt_error err = {0};
	scratch_make(&s);
	copy_config(&s);
	for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
		write_part(&s, FILES[3], from, 0, CASES[i].split, 0);
		write_part(&s, FILES[4], from, CASES[i].split, from->n_tensors, 0);
		write_index(&s, from, CASES[i].first_of_b, 0, CASES[i].a, CASES[i].b);
		expect_refused(tt_model_open(&model, s.directory, &err), &err, CASES[i].b, FILES[2], CASES[i].words);
	}
	write_part(&s, FILES[3], from, 0, 9, 0);
	write_part(&s, FILES[4], from, 8, from->n_tensors, 0);
	write_index(&s, from, 9, 0, FILES[3], FILES[4]);
	expect_refused(tt_model_open(&model, s.directory, &err), &err, "twice", FILES[2], "is in two files");
	static const struct {
		const char *text, *words;
	} INDICES[] = {{"", "not valid JSON"}, {"[]", "weight_map is missing"}, {"{}", "weight_map is missing"},
		{"{\"weight_map\":[]}", "weight_map is missing"}, {"{\"weight_map\":{\"a\":1}}", "the file of a"}};
	for (size_t i = 0; i < sizeof INDICES / sizeof *INDICES; i++) {
		scratch_write(&s, FILES[2], INDICES[i].text, strlen(INDICES[i].text));
		expect_refused(
			tt_model_open(&model, s.directory, &err), &err, INDICES[i].text, FILES[2], INDICES[i].words);
	}
	tt_safetensors_close(from);
	scratch_remove(&s, FILES, N_FILES);
}

Test(weights, refuses_a_directory_whose_tensors_do_not_fit)
{
	struct scratch s;
	struct tt_safetensors *from = open_tensors(TT_TEST_DATA "/weights/tiny/model.safetensors");
	struct tt_model *model = NULL;
	struct tt_error err = {0};
	struct tt_buffer config = golden("tiny/config.json");
	static const struct {
		const char *from, *to, *words;
	} CASES[] = {
		{"\"attention_bias\": true", "\"attention_bias\":false", ".bias has no place in a model"},
		{"\"mlp_bias\": true", "\"mlp_bias\":false", "mlp.down_proj.bias has no place in a model"},
		{"\"num_hidden_layers\": 1", "\"num_hidden_layers\": 2",
			"model.layers.1.input_layernorm.weight is missing"},
		{"\"vocab_size\": 24", "\"vocab_size\": 25", "model.embed_tokens.weight has shape [24][16]"},
		{"\"num_key_value_heads\": 1", "\"num_key_value_heads\": 2", "k_proj.weight has shape [4][16]"},
		{"\"head_dim\": 4", "\"head_dim\": 8", "q_proj.weight has shape [8][16]"},
		{"\"intermediate_size\": 20", "\"intermediate_size\": 24", "gate_proj.weight has shape [20][16]"},
	};
	scratch_make(&s);
	write_part(&s, FILES[1], from, 0, from->n_tensors, 0);
	for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
		char *text = strdup(config.data), *at = strstr(text, CASES[i].from);
		cr_assert(at && strlen(CASES[i].from) == strlen(CASES[i].to), "%s", CASES[i].from);
		memcpy(at, CASES[i].to, strlen(CASES[i].to));
		scratch_write(&s, FILES[0], text, config.len);
		expect_refused(
			tt_model_open(&model, s.directory, &err), &err, CASES[i].to, s.directory, CASES[i].words);
		free(text);
	}
	scratch_write(&s, FILES[0], config.data, config.len);
	write_part(&s, FILES[1], from, 1, from->n_tensors, 0);
	expect_refused(
		tt_model_open(&model, s.directory, &err), &err, "untied", s.directory, "lm_head.weight is missing");
	snprintf(s.path, sizeof s.path, "%s/%s", s.directory, FILES[1]);
	unlink(s.path);
	expect_refused(
		tt_model_open(&model, s.directory, &err), &err, "empty", s.directory, "neither model.safetensors");
	tt_buffer_free(&config);
	tt_safetensors_close(from);
	scratch_remove(&s, FILES, N_FILES);
}

Test(weights, a_tied_model_uses_its_embedding_and_ignores_a_second_copy)
{
	struct scratch s;
	struct tt_safetensors *from = open_tensors(TT_TEST_DATA "/weights/tiny/model.safetensors");
	struct tt_buffer config = golden("tiny/config.json");
	char *at = strstr(config.data, "\"tie_word_embeddings\": false");
	cr_assert_not_null(at);
	memcpy(at, "\"tie_word_embeddings\": true ", 28);
	scratch_make(&s);
	scratch_write(&s, FILES[0], config.data, config.len);
	for (size_t first = 0; first < 2; first++) { /* with lm_head.weight, the first by name, and without */
		write_part(&s, FILES[1], from, first, from->n_tensors, 0);
		struct tt_model *model = open_model(s.directory);
		cr_expect_eq(model->output.data, model->embedding.data);
		cr_expect_eq(model->n_parameters, 2248 - 24 * 16);
		tt_model_close(model);
	}
	tt_buffer_free(&config);
	tt_safetensors_close(from);
	scratch_remove(&s, FILES, N_FILES);
}

#ifdef TT_MODEL_DIR
Test(weights, smollm2)
{
	const char *path = TT_MODEL_DIR "/SmolLM2-135M-Instruct.Q4_1.gguf";
	if (!tt_file_exists(path))
		cr_skip_test("the model file is not there");
	struct tt_model *model = open_model(path);
	const struct tt_config *c = &model->config;
	cr_expect(c->n_layers == 30 && c->hidden_size == 576 && c->n_heads == 9 && c->n_kv_heads == 3);
	cr_expect(c->head_dim == 64 && c->ffn_size == 1536 && c->vocab_size == 49152 && c->context_length == 8192);
	cr_expect(c->rope_theta == 100000 && c->rms_norm_eps == 1e-5f && c->rope_scaling == TT_ROPE_NONE);
	cr_expect(c->tied_output && c->rope_interleaved && !c->attention_bias && !c->add_bos && !c->rope_factors);
	cr_expect(c->bos == 1 && c->n_eos == 1 && c->eos[0] == 2);
	cr_expect(model->embedding.type == TT_TYPE_Q8_0 && model->layers[29].w_down.type == TT_TYPE_Q4_1);
	cr_expect_eq(model->output.data, model->embedding.data);
	/* Counted by gguf-py's reader. */
	cr_expect_eq(model->n_parameters, 134515008);
	cr_expect_eq(model->n_weight_bytes, 96576768);
	tt_model_close(model);
}
#endif
