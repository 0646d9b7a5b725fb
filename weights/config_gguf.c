/* The configuration from GGUF's `{arch}.*` keys. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/fail.h"
#include "weights/config.h"
#include "weights/config_check.h"
#include "weights/gguf.h"
#include "weights/quant.h"

static bool text_is(struct tt_gguf_string text, const char *expected)
{
	return text.len == strlen(expected) && memcmp(text.data, expected, text.len) == 0;
}

static int quoted(struct tt_gguf_string text)
{
	return text.len < 60 ? (int)text.len : 60;
}

/* Reads a key that every model has. */
static int need_u32(const struct tt_gguf *file, const char *key, uint32_t max, uint32_t *out, struct tt_error *err)
{
	if (!tt_gguf_find(file, key))
		return tt_fail(err, TT_ERR_FORMAT, "key %s is missing", key);
	return tt_gguf_u32(file, key, 1, max, out, err);
}

/* The architecture's key of that name. */
static const char *arch_key(char out[64], const struct tt_config *c, const char *name)
{
	snprintf(out, 64, "%s.%s", TT_ARCHS[c->arch].gguf, name);
	return out;
}
#define KEY(name) arch_key((char[64]){0}, c, name)

static int read_architecture(struct tt_config *c, const struct tt_gguf *file, struct tt_error *err)
{
	struct tt_gguf_string name = {"", 0};
	TT_TRY(tt_gguf_text(file, "general.architecture", &name, err));
	if (name.len == 0)
		return tt_fail(err, TT_ERR_FORMAT, "key general.architecture is missing");
	const size_t GGUF = offsetof(struct tt_arch_row, gguf);
	const struct tt_arch_row *row = tt_arch_find(GGUF, name.data, name.len);
	char names[300];
	if (!row)
		return tt_fail(err, TT_ERR_UNSUPPORTED,
			"general.architecture \"%.*s\" is not supported (supported: %s)", quoted(name), name.data,
			tt_arch_list(names, GGUF));
	c->arch = row->arch;
	c->rope_interleaved = row->rope_interleaved;
	return TT_OK;
}

/* Whether converters to GGUF write the architecture's key for a window. */
static bool has_windows(const struct tt_config *c)
{
	enum tt_windows windows = TT_ARCHS[c->arch].windows;
	return windows == TT_WINDOWS_ALL || windows == TT_WINDOWS_PATTERN;
}

static const char SCORE_CAP[] = "attn_logit_softcapping", LOGIT_CAP[] = "final_logit_softcapping";

/* Refuses keys by which a model of this architecture says that it computes something else. */
static int refuse_variants(const struct tt_config *c, const struct tt_gguf *file, struct tt_error *err)
{
	const struct tt_arch_row *row = &TT_ARCHS[c->arch];
	static const char *const NAMES[] = {"attention.clamp_kqv", "attention.max_alibi_bias", "attention.scale",
		"logit_scale", "residual_scale", "embedding_scale"};
	uint32_t n_experts = 0;
	TT_TRY(tt_gguf_u32(file, KEY("expert_count"), 0, UINT32_MAX, &n_experts, err));
	if (n_experts)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "%s is %u: mixtures of experts are not supported",
			KEY("expert_count"), n_experts);
	for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
		if (tt_gguf_find(file, KEY(NAMES[i])))
			return tt_fail(err, TT_ERR_UNSUPPORTED, "key %s is not supported", KEY(NAMES[i]));
	if (!row->score_caps && tt_gguf_find(file, KEY(SCORE_CAP)))
		return tt_fail(err, TT_ERR_UNSUPPORTED, "key %s is not supported", KEY(SCORE_CAP));
	if (!row->logit_caps && tt_gguf_find(file, KEY(LOGIT_CAP)))
		return tt_fail(err, TT_ERR_UNSUPPORTED, "key %s is not supported", KEY(LOGIT_CAP));
	if (tt_gguf_find(file, KEY("attention.sliding_window")) && !has_windows(c))
		return tt_fail(err, TT_ERR_UNSUPPORTED, "key %s is not supported", KEY("attention.sliding_window"));
	if (tt_gguf_find(file, "split.count"))
		return tt_fail(err, TT_ERR_UNSUPPORTED, "key split.count is not supported");
	return TT_OK;
}

static int read_windows(struct tt_config *c, const struct tt_gguf *file, struct tt_error *err)
{
	const struct tt_arch_row *row = &TT_ARCHS[c->arch];
	uint32_t pattern = row->defaults.window_pattern;
	if (!has_windows(c))
		return TT_OK;
	c->sliding_window = row->assumed_window ? row->defaults.sliding_window : 0;
	TT_TRY(tt_gguf_u32(file, KEY("attention.sliding_window"), 0, TT_MAX_CONTEXT, &c->sliding_window, err));
	TT_TRY(tt_gguf_u32(file, KEY("attention.sliding_window_pattern"), 1, UINT32_MAX, &pattern, err));
	tt_config_set_pattern(c, pattern);
	return TT_OK;
}

static void set_query_scale(struct tt_config *c)
{
	const struct tt_arch_shape *shape = &TT_ARCHS[c->arch].scaled_by_width;
	if (c->hidden_size == shape->hidden_size && c->n_heads == shape->n_heads && c->head_dim == shape->head_dim)
		c->query_scale = (float)(c->hidden_size / c->n_heads);
}

static int read_caps(struct tt_config *c, const struct tt_gguf *file, struct tt_error *err)
{
	const struct tt_arch_row *row = &TT_ARCHS[c->arch];
	c->attention_soft_cap = row->defaults.attention_soft_cap;
	c->logit_soft_cap = row->defaults.logit_soft_cap;
	if (row->score_caps)
		TT_TRY(tt_gguf_float(file, KEY(SCORE_CAP), &c->attention_soft_cap, err));
	return row->logit_caps ? tt_gguf_float(file, KEY(LOGIT_CAP), &c->logit_soft_cap, err) : TT_OK;
}

static int read_dimensions(struct tt_config *c, const struct tt_gguf *file, struct tt_error *err)
{
	TT_TRY(need_u32(file, KEY("block_count"), TT_MAX_LAYERS, &c->n_layers, err));
	TT_TRY(need_u32(file, KEY("embedding_length"), TT_MAX_HIDDEN, &c->hidden_size, err));
	TT_TRY(need_u32(file, KEY("feed_forward_length"), TT_MAX_HIDDEN, &c->ffn_size, err));
	TT_TRY(need_u32(file, KEY("context_length"), TT_MAX_CONTEXT, &c->context_length, err));
	TT_TRY(need_u32(file, KEY("attention.head_count"), TT_MAX_HIDDEN, &c->n_heads, err));
	c->n_kv_heads = c->n_heads;
	TT_TRY(tt_gguf_u32(file, KEY("attention.head_count_kv"), 1, TT_MAX_HIDDEN, &c->n_kv_heads, err));

	if (!tt_gguf_find(file, KEY("attention.key_length")) && c->hidden_size % c->n_heads)
		return tt_fail(err, TT_ERR_FORMAT, "%s %u is not a multiple of head_count %u", KEY("embedding_length"),
			c->hidden_size, c->n_heads);
	c->head_dim = c->hidden_size / c->n_heads;
	TT_TRY(tt_gguf_u32(file, KEY("attention.key_length"), 1, TT_MAX_HIDDEN, &c->head_dim, err));
	uint32_t value_length = c->head_dim, rotated = c->head_dim;
	TT_TRY(tt_gguf_u32(file, KEY("attention.value_length"), 1, TT_MAX_HIDDEN, &value_length, err));
	if (value_length != c->head_dim)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "%s %u differs from key_length %u",
			KEY("attention.value_length"), value_length, c->head_dim);
	TT_TRY(tt_gguf_u32(file, KEY("rope.dimension_count"), 1, TT_MAX_HIDDEN, &rotated, err));
	if (rotated != c->head_dim)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "%s %u: rotating a part of head_dim %u is not supported",
			KEY("rope.dimension_count"), rotated, c->head_dim);

	tt_config_set_parts(c);
	TT_TRY(read_windows(c, file, err));
	set_query_scale(c);
	TT_TRY(read_caps(c, file, err));
	if (!tt_gguf_find(file, KEY("attention.layer_norm_rms_epsilon")))
		return tt_fail(err, TT_ERR_FORMAT, "key %s is missing", KEY("attention.layer_norm_rms_epsilon"));
	return tt_gguf_float(file, KEY("attention.layer_norm_rms_epsilon"), &c->rms_norm_eps, err);
}

/* The n factors of a tensor, all positive; NULL where there is no such tensor. */
static int read_factors(
	const float **out, const struct tt_gguf *file, const char *name, uint32_t n, struct tt_error *err)
{
	const struct tt_gguf_tensor *t = tt_gguf_tensor(file, name);
	*out = NULL;
	if (!t)
		return TT_OK;
	if (t->type != TT_TYPE_F32 || t->n_dims != 1 || t->shape[0] != n)
		return tt_fail(err, TT_ERR_FORMAT, "tensor %s must be F32 [%u]", name, n);
	const float *factors = t->data;
	for (uint32_t i = 0; i < n; i++)
		if (!(factors[i] > 0) || !isfinite(factors[i]))
			return tt_fail(err, TT_ERR_FORMAT, "tensor %s: factor %u is %g, not positive", name, i,
				(double)factors[i]);
	*out = factors;
	return TT_OK;
}

static int read_longrope(struct tt_config *c, const struct tt_gguf *file, struct tt_error *err)
{
	const float *shorter = NULL, *longer = NULL;
	uint32_t n = c->head_dim / 2;
	TT_TRY(read_factors(&shorter, file, "rope_factors_short.weight", n, err));
	TT_TRY(read_factors(&longer, file, "rope_factors_long.weight", n, err));
	if (!shorter || !longer || n > TT_MAX_ROPE_FACTORS)
		return tt_fail(err, TT_ERR_FORMAT,
			"longrope needs the tensors rope_factors_short.weight and rope_factors_long.weight, of heads "
			"up to %d",
			2 * TT_MAX_ROPE_FACTORS);
	c->rope_scaling = TT_ROPE_LONGROPE;
	memcpy(c->rope_short, shorter, n * sizeof *shorter);
	memcpy(c->rope_long, longer, n * sizeof *longer);
	c->rope_attention_factor = 1;
	TT_TRY(tt_gguf_float(file, KEY("rope.scaling.attn_factor"), &c->rope_attention_factor, err));
	c->rope_original_context = c->context_length;
	return tt_gguf_u32(
		file, KEY("rope.scaling.original_context_length"), 1, TT_MAX_CONTEXT, &c->rope_original_context, err);
}

static int read_rope(struct tt_config *c, const struct tt_gguf *file, struct tt_error *err)
{
	struct tt_gguf_string type = {"none", 4};
	c->rope_theta = TT_ARCHS[c->arch].defaults.rope_theta;
	c->rope_local_theta = TT_ARCHS[c->arch].defaults.rope_local_theta;
	if (c->rope_local_theta)
		TT_TRY(tt_gguf_float(file, KEY("rope.freq_base_swa"), &c->rope_local_theta, err));
	TT_TRY(tt_gguf_float(file, KEY("rope.freq_base"), &c->rope_theta, err));
	c->rope_factor = 1;
	TT_TRY(tt_gguf_float(file, KEY("rope.scale_linear"), &c->rope_factor, err)); /* the older name */
	if (c->rope_factor != 1)
		type = (struct tt_gguf_string){"linear", 6};
	TT_TRY(tt_gguf_float(file, KEY("rope.scaling.factor"), &c->rope_factor, err));
	TT_TRY(tt_gguf_text(file, KEY("rope.scaling.type"), &type, err));
	/* Phi-3's converter writes the tensors and no type. */
	if (text_is(type, "longrope") || tt_gguf_tensor(file, "rope_factors_long.weight"))
		return read_longrope(c, file, err);
	if (text_is(type, "linear"))
		c->rope_scaling = TT_ROPE_LINEAR;
	else if (!text_is(type, "none"))
		return tt_fail(err, TT_ERR_UNSUPPORTED,
			"%s \"%.*s\" is not supported (supported: none, linear, longrope, and the "
			"tensor rope_freqs.weight)",
			KEY("rope.scaling.type"), quoted(type), type.data);
	/* Llama 3.1 and later: the converter writes the scaling as one factor for each frequency. */
	return read_factors(&c->rope_factors, file, "rope_freqs.weight", c->head_dim / 2, err);
}

static int add_eos_key(struct tt_config *c, const struct tt_gguf *file, const char *key, struct tt_error *err)
{
	uint32_t id;
	if (!tt_gguf_find(file, key))
		return TT_OK;
	TT_TRY(tt_gguf_u32(file, key, 0, TT_MAX_VOCAB, &id, err));
	return tt_config_add_eos(c, (int32_t)id, err);
}

/* Without a key for it, bos comes first for a SentencePiece vocabulary and for Llama 3's, and not for other byte-level
 * ones, as in llama.cpp. */
static int read_add_bos(struct tt_config *c, const struct tt_gguf *file, struct tt_error *err)
{
	struct tt_gguf_string model = {"", 0}, pre = {"", 0};
	TT_TRY(tt_gguf_text(file, "tokenizer.ggml.model", &model, err));
	TT_TRY(tt_gguf_text(file, "tokenizer.ggml.pre", &pre, err));
	c->add_bos = text_is(model, "llama") || text_is(pre, "llama-bpe") || text_is(pre, "llama3") ||
		     text_is(pre, "llama-v3");
	TT_TRY(tt_gguf_bool(file, "tokenizer.ggml.add_bos_token", &c->add_bos, err));
	if (c->bos < 0)
		c->add_bos = false;
	return TT_OK;
}

static int read_tokens(struct tt_config *c, const struct tt_gguf *file, struct tt_error *err)
{
	const struct tt_gguf_tensor *embedding = tt_gguf_tensor(file, "token_embd.weight");
	if (embedding && embedding->n_dims == 2 && embedding->shape[0] <= TT_MAX_VOCAB)
		c->vocab_size = (uint32_t)embedding->shape[0]; /* older files have no key for it */
	TT_TRY(tt_gguf_u32(file, KEY("vocab_size"), 1, TT_MAX_VOCAB, &c->vocab_size, err));
	uint32_t bos = UINT32_MAX;
	TT_TRY(tt_gguf_u32(file, "tokenizer.ggml.bos_token_id", 0, TT_MAX_VOCAB, &bos, err));
	c->bos = bos == UINT32_MAX ? -1 : (int32_t)bos;
	TT_TRY(add_eos_key(c, file, "tokenizer.ggml.eos_token_id", err));
	TT_TRY(add_eos_key(c, file, "tokenizer.ggml.eot_token_id", err));
	TT_TRY(add_eos_key(c, file, "tokenizer.ggml.eom_token_id", err));
	return read_add_bos(c, file, err);
}

int tt_config_from_gguf(struct tt_config *out, const struct tt_gguf *file, struct tt_error *err)
{
	struct tt_config c = {.bos = -1};
	TT_TRY(read_architecture(&c, file, err));
	TT_TRY(refuse_variants(&c, file, err));
	TT_TRY(read_dimensions(&c, file, err));
	TT_TRY(read_rope(&c, file, err));
	TT_TRY(read_tokens(&c, file, err));
	/* GGUF has no keys for these three; they follow from which tensors are present. */
	c.tied_output = !tt_gguf_tensor(file, "output.weight");
	c.attention_bias = tt_gguf_tensor(file, "blk.0.attn_q.bias") != NULL;
	c.mlp_bias = tt_gguf_tensor(file, "blk.0.ffn_gate.bias") != NULL;
	TT_TRY(tt_config_check(&c, err));
	*out = c;
	return TT_OK;
}
