/* The table of architectures: each property of a row alone, from GGUF keys that are written here. The expected values
 * are what the models' authors published in config.json. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "weights/config.h"
#include "weights/gguf.h"
#include "weights_files.h"

static void add(struct tt_buffer *out, const void *data, size_t n)
{
	cr_assert_eq(tt_buffer_add(out, data, n, NULL), TT_OK);
}

static void add_string(struct tt_buffer *out, const char *text)
{
	uint64_t n = strlen(text);
	add(out, &n, sizeof n);
	add(out, text, n);
}

/* ARCH.NAME of four bytes. */
static void add_key(struct tt_buffer *out, const char *arch, const char *name, uint32_t kind, const void *value)
{
	char key[80];
	snprintf(key, sizeof key, "%s.%s", arch, name);
	add_string(out, key);
	add(out, &kind, sizeof kind);
	add(out, value, 4);
}

/* A configuration, and one key more with the value 0.5 unless extra is NULL. */
static int read_gguf(struct tt_config *out, const char *arch, uint32_t n_layers, struct tt_arch_shape shape,
	const char *extra, struct tt_error *err)
{
	const struct {
		const char *name;
		uint32_t value;
	} keys[] = {{"block_count", n_layers}, {"embedding_length", shape.hidden_size}, {"feed_forward_length", 64},
		{"context_length", 8192}, {"attention.head_count", shape.n_heads},
		{"attention.key_length", shape.head_dim}, {"attention.value_length", shape.head_dim},
		{"vocab_size", 100}};
	enum { N_KEYS = sizeof keys / sizeof *keys, STRING = 8, FLOAT = 6, U32 = 4 };
	const uint32_t version = 3, string = STRING;
	const uint64_t n_tensors = 0, n_values = N_KEYS + 2 + (extra != NULL);
	const float eps = 1e-6f, half = 0.5f;
	struct tt_buffer bytes = {0};
	struct tt_gguf *file = NULL;
	struct scratch s;
	add(&bytes, "GGUF", 4);
	add(&bytes, &version, sizeof version);
	add(&bytes, &n_tensors, sizeof n_tensors);
	add(&bytes, &n_values, sizeof n_values);
	add_string(&bytes, "general.architecture");
	add(&bytes, &string, sizeof string);
	add_string(&bytes, arch);
	for (size_t i = 0; i < N_KEYS; i++)
		add_key(&bytes, arch, keys[i].name, U32, &keys[i].value);
	add_key(&bytes, arch, "attention.layer_norm_rms_epsilon", FLOAT, &eps);
	if (extra)
		add_key(&bytes, arch, extra, FLOAT, &half);
	scratch_make(&s);
	scratch_write(&s, "model.gguf", bytes.data, bytes.len);
	cr_assert_eq(tt_gguf_open(&file, s.path, err), TT_OK, "%s", err->message);
	int status = tt_config_from_gguf(out, file, err);
	tt_gguf_close(file);
	static const char *const names[] = {"model.gguf"};
	scratch_remove(&s, names, 1);
	tt_buffer_free(&bytes);
	return status;
}

static struct tt_config good(const char *arch, uint32_t n_layers, struct tt_arch_shape shape, const char *extra)
{
	struct tt_config c;
	struct tt_error err = {0};
	cr_assert_eq(read_gguf(&c, arch, n_layers, shape, extra, &err), TT_OK, "%s: %s", arch, err.message);
	return c;
}

/* Google's models with the query_pre_attn_scalar of their config.json, and what has lost or gained layers since. */
Test(arch, query_scale_follows_from_a_models_widths_and_not_from_its_depth)
{
	static const struct {
		const char *arch;
		uint32_t n_layers;
		struct tt_arch_shape shape;
		float scalar;
	} models[] = {
		{"gemma2", 26, {2304, 8, 256}, 256},  /* 2B */
		{"gemma2", 42, {3584, 16, 256}, 256}, /* 9B */
		{"gemma2", 46, {4608, 32, 128}, 144}, /* 27B */
		{"gemma3", 18, {640, 4, 256}, 256},   /* 270M */
		{"gemma3", 26, {1152, 4, 256}, 256},  /* 1B */
		{"gemma3", 34, {2560, 8, 256}, 256},  /* 4B */
		{"gemma3", 48, {3840, 16, 256}, 256}, /* 12B */
		{"gemma3", 62, {5376, 32, 128}, 168}, /* 27B */
		{"gemma2", 40, {4608, 32, 128}, 144},
		{"gemma3", 61, {5376, 32, 128}, 168},
		{"gemma2", 46, {3584, 16, 256}, 256},
		{"gemma3", 62, {3840, 16, 256}, 256},
		{"llama", 46, {4608, 32, 128}, 128},
	};
	for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
		struct tt_config c = good(models[i].arch, models[i].n_layers, models[i].shape, NULL);
		cr_expect_float_eq(tt_config_attention_scale(&c), 1 / sqrt((double)models[i].scalar), 1e-7,
			"model %zu: %g", i, (double)tt_config_attention_scale(&c));
	}
}

/* The two Gemmas differ in these, all others have none of them. */
Test(arch, keys_that_a_file_may_leave_out)
{
	const struct tt_arch_shape shape = {64, 4, 16};
	struct tt_config c = good("gemma2", 4, shape, NULL);
	cr_expect(c.attention_soft_cap == 50 && c.logit_soft_cap == 30 && c.rope_local_theta == 0);
	cr_expect(tt_config_window(&c, 0) == 4096 && tt_config_window(&c, 1) == 0);
	c = good("gemma3", 4, shape, NULL);
	cr_expect(c.attention_soft_cap == 0 && c.logit_soft_cap == 0 && c.sliding_window == 0);
	cr_expect_eq(c.rope_local_theta, 10000);
	c = good("gemma2", 4, shape, "attn_logit_softcapping");
	cr_expect(c.attention_soft_cap == 0.5f && c.logit_soft_cap == 30);
	c = good("gemma2", 4, shape, "final_logit_softcapping");
	cr_expect(c.attention_soft_cap == 50 && c.logit_soft_cap == 0.5f);
	c = good("gemma3", 4, shape, "final_logit_softcapping");
	cr_expect(c.attention_soft_cap == 0 && c.logit_soft_cap == 0.5f);
}

Test(arch, soft_caps_are_refused_where_the_architecture_has_none)
{
	static const char *const keys[] = {"attn_logit_softcapping", "final_logit_softcapping"};
	static const char *const archs[] = {"llama", "qwen2", "qwen3", "gemma3"};
	for (size_t i = 0; i < sizeof archs / sizeof *archs; i++)
		for (int cap = 0; cap < (strcmp(archs[i], "gemma3") ? 2 : 1); cap++) {
			struct tt_config c;
			struct tt_error err = {0};
			struct tt_arch_shape shape = {64, 4, 16};
			int status = read_gguf(&c, archs[i], 2, shape, keys[cap], &err);
			expect_refused(status, &err, archs[i], archs[i], keys[cap]);
		}
}

/* Which parts a row has, by its name in GGUF. */
Test(arch, each_part_alone)
{
	static const struct {
		const char *arch;
		bool rope_interleaved, head_norms, gemma;
	} rows[] = {{"llama", true, false, false}, {"qwen2", false, false, false}, {"qwen3", false, true, false},
		{"phi3", false, false, false}, {"gemma2", false, false, true}, {"gemma3", false, true, true}};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tt_config c = good(rows[i].arch, 2, (struct tt_arch_shape){64, 4, 16}, NULL);
		cr_expect_eq(c.rope_interleaved, rows[i].rope_interleaved, "%s", rows[i].arch);
		cr_expect_eq(c.head_norms, rows[i].head_norms, "%s", rows[i].arch);
		cr_expect_eq(c.post_norms, rows[i].gemma, "%s", rows[i].arch);
		cr_expect_eq(c.embedding_scale, rows[i].gemma ? 8 : 0, "%s", rows[i].arch);
		cr_expect_eq(c.activation, rows[i].gemma ? TT_GELU_TANH : TT_SILU, "%s", rows[i].arch);
	}
}

/* A reader that follows a row asks these names for the tensors that its properties promise. */
Test(arch, every_row_names_the_tensors_of_its_parts)
{
	for (size_t i = 0; i < TT_N_ARCHS; i++) {
		const struct tt_arch_row *row = &TT_ARCHS[i];
		const struct tt_arch_names *kinds[] = {row->hf, &TT_GGUF_NAMES};
		cr_assert_eq(row->arch, i);
		for (int k = 0; k < 2; k++) {
			const struct tt_arch_names *n = kinds[k];
			cr_assert(n->embedding && n->output && n->output_norm && n->layer, "%s", row->name);
			cr_assert(n->attn_norm && n->ffn_norm && n->o && n->down, "%s", row->name);
			cr_assert(row->fused ? n->qkv && n->gate_up : n->q && n->k && n->v && n->gate && n->up, "%s",
				row->name);
			cr_assert(!row->head_norms || (n->q_norm && n->k_norm), "%s", row->name);
			cr_assert(!row->post_norms || (n->attn_post_norm && n->ffn_post_norm), "%s", row->name);
			/* One name for two norms would read one tensor twice. */
			cr_assert(!row->post_norms || (strcmp(n->ffn_norm, n->attn_post_norm) &&
							      strcmp(n->ffn_norm, n->ffn_post_norm)),
				"%s", row->name);
		}
	}
}
