/* The configuration from a Hugging Face directory. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"
#include "weights/config.h"
#include "weights/config_check.h"

enum {
	MAX_CONFIG = 4 << 20,
	MAX_TOKENIZER_CONFIG = 32 << 20, /* holds every added token and the chat template */
};

static const json_t *field(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);
	return json_is_null(value) ? NULL : value;
}

static int no_such(const char *what, const char *name, size_t which, struct tt_error *err)
{
	char names[300];
	return tt_fail(err, TT_ERR_UNSUPPORTED, "%s \"%.60s\" is not supported (supported: %s)", what, name,
		tt_arch_list(names, which));
}

static int read_architecture(struct tt_config *c, const json_t *object, struct tt_error *err)
{
	const size_t CLASS = offsetof(struct tt_arch_row, hf_class), TYPE = offsetof(struct tt_arch_row, hf_type);
	const json_t *list = field(object, "architectures");
	const char *name = json_string_value(json_array_get(list, 0)), *type = NULL;
	TT_TRY(tt_json_string(object, "model_type", &type, err));
	if (list && !name)
		return tt_fail(err, TT_ERR_FORMAT, "architectures is not a list of names");
	if (!name && !type)
		return tt_fail(err, TT_ERR_FORMAT, "architectures and model_type are missing");
	const struct tt_arch_row *by_name = name ? tt_arch_find(CLASS, name, strlen(name)) : NULL;
	const struct tt_arch_row *by_type = type ? tt_arch_find(TYPE, type, strlen(type)) : NULL;
	if (name && !by_name)
		return no_such("architecture", name, CLASS, err);
	if (type && !by_type)
		return no_such("model_type", type, TYPE, err);
	if (name && type && by_name != by_type)
		return tt_fail(err, TT_ERR_FORMAT, "architecture \"%s\" and model_type \"%s\" contradict", name, type);
	c->arch = by_name ? by_name->arch : by_type->arch;
	return TT_OK;
}

/* Reads which layers have a window from layer_types. Only some architectures have a choice. */
static int read_layer_types(struct tt_config *c, const json_t *types, struct tt_error *err)
{
	const struct tt_arch_row *row = &TT_ARCHS[c->arch];
	bool choice = row->windows == TT_WINDOWS_OPTIONAL || row->windows == TT_WINDOWS_PATTERN;
	uint32_t i;
	if (json_array_size(types) != c->n_layers)
		return tt_fail(
			err, TT_ERR_FORMAT, "layer_types is not a list of num_hidden_layers (%u) names", c->n_layers);
	for (i = 0; i < c->n_layers; i++) {
		const char *name = json_string_value(json_array_get(types, i));
		bool full = name && strcmp(name, "full_attention") == 0;
		if (!full && (!name || strcmp(name, "sliding_attention")))
			return tt_fail(err, TT_ERR_UNSUPPORTED,
				"layer_types: \"%s\" is not supported (supported: full_attention, sliding_attention)",
				name ? name : "?");
		if (full ? !choice && c->sliding_window : !c->sliding_window)
			return tt_fail(err, TT_ERR_UNSUPPORTED,
				"layer_types: %s in layer %u is not supported for %s %s", name, i, row->name,
				full ? "with a sliding window" : "without a sliding window");
	}
	for (i = 0; i < c->n_layers; i++)
		if (strcmp(json_string_value(json_array_get(types, i)), "full_attention") == 0)
			tt_config_set_full(c, i, i + 1);
	return TT_OK;
}

/* Which layers have the window where no list gives it. */
static int read_window_layers(struct tt_config *c, const json_t *object, struct tt_error *err)
{
	const struct tt_arch_row *row = &TT_ARCHS[c->arch];
	uint32_t first = row->defaults.max_window_layers, pattern = row->defaults.window_pattern;
	if (row->windows == TT_WINDOWS_OPTIONAL) {
		TT_TRY(tt_json_u32(object, "max_window_layers", 0, UINT32_MAX, &first, err));
		tt_config_set_full(c, 0, first);
	}
	if (row->windows == TT_WINDOWS_PATTERN) {
		if (row->window_pattern_key)
			TT_TRY(tt_json_u32(object, "sliding_window_pattern", 1, UINT32_MAX, &pattern, err));
		tt_config_set_pattern(c, pattern);
	}
	return TT_OK;
}

static int read_windows(struct tt_config *c, const json_t *object, struct tt_error *err)
{
	const struct tt_arch_row *row = &TT_ARCHS[c->arch];
	bool window = row->windows == TT_WINDOWS_ALL || row->windows == TT_WINDOWS_PATTERN, asked = false;
	TT_TRY(tt_json_bool(object, "use_sliding_window", &asked, err));
	if (asked && row->windows == TT_WINDOWS_NONE)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "use_sliding_window is not supported for %s", row->name);
	if (window || asked) {
		/* null means none; an absent key means the default. */
		bool none = json_is_null(json_object_get(object, "sliding_window"));
		c->sliding_window = none ? 0 : row->defaults.sliding_window;
		TT_TRY(tt_json_u32(object, "sliding_window", 1, TT_MAX_CONTEXT, &c->sliding_window, err));
	}
	if (row->windows == TT_WINDOWS_PATTERN && !c->sliding_window)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "%s without a sliding_window is not supported", row->name);
	const json_t *types = field(object, "layer_types");
	return types ? read_layer_types(c, types, err) : read_window_layers(c, object, err);
}

/* Refuses a name that is not the one supported. */
static int only(const json_t *object, const char *key, const char *ours, struct tt_error *err)
{
	const char *name = ours;
	TT_TRY(tt_json_string(object, key, &name, err));
	return strcmp(name, ours) == 0 ? TT_OK
				       : tt_fail(err, TT_ERR_UNSUPPORTED,
						 "%s \"%.60s\" is not supported (supported: %s)", key, name, ours);
}

static int check_block_size(const json_t *size, struct tt_error *err)
{
	for (size_t i = 0; size && i < 2; i++)
		if (json_array_size(size) != 2 || json_integer_value(json_array_get(size, i)) != 128)
			return tt_fail(err, TT_ERR_UNSUPPORTED,
				"weight_block_size is not supported but for [128, 128] and null");
	return TT_OK;
}

/* Weights of eight bits with scales: of what kind they are follows from the tensors (fp8.h). How activations would be
 * rounded is not read, since they are not. */
static int check_quantisation(const json_t *object, struct tt_error *err)
{
	static const char FP8[] = "fp8", FBGEMM[] = "fbgemm_fp8", COMPRESSED[] = "compressed-tensors";
	const char *method = NULL;
	if (!object)
		return TT_OK;
	TT_TRY(tt_json_string(object, "quant_method", &method, err));
	if (!method)
		return tt_fail(err, TT_ERR_FORMAT, "quant_method is missing");
	if (strcmp(method, FP8) && strcmp(method, FBGEMM) && strcmp(method, COMPRESSED))
		return tt_fail(err, TT_ERR_UNSUPPORTED,
			"quant_method \"%.60s\" is not supported (supported: %s, %s, %s)", method, FP8, FBGEMM,
			COMPRESSED);
	TT_TRY(only(object, "fmt", "e4m3", err));
	TT_TRY(check_block_size(field(object, "weight_block_size"), err));
	if (strcmp(method, COMPRESSED))
		return TT_OK;
	TT_TRY(only(object, "format", "float-quantized", err));
	if (json_object_size(field(object, "transform_config")))
		return tt_fail(err, TT_ERR_UNSUPPORTED, "transform_config is not supported");
	return only(field(object, "sparsity_config"), "format", "dense", err);
}

/* Refuses what would change the computation and is not implemented. */
static int refuse_variants(const struct tt_config *c, const json_t *object, struct tt_error *err)
{
	static const char *const NAMES[] = {[TT_SILU] = "silu", [TT_GELU_TANH] = "gelu_pytorch_tanh"};
	const struct tt_arch_row *row = &TT_ARCHS[c->arch];
	const char *key = row->activation_key ? row->activation_key : "hidden_act", *ours = NAMES[row->activation];
	const char *activation = ours;
	bool both_ways = false;
	float rotated = 1;
	TT_TRY(tt_json_string(object, key, &activation, err));
	if (strcmp(activation, ours))
		return tt_fail(
			err, TT_ERR_UNSUPPORTED, "%s \"%s\" is not supported (supported: %s)", key, activation, ours);
	TT_TRY(tt_json_bool(object, "use_bidirectional_attention", &both_ways, err));
	if (both_ways)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "use_bidirectional_attention is not supported");
	TT_TRY(tt_json_float(object, "partial_rotary_factor", 0, 1, &rotated, err));
	if (rotated != 1)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "partial_rotary_factor %g is not supported", (double)rotated);
	return TT_OK;
}

/* The second name is that of older files of compressed-tensors. */
static int read_quantisation(struct tt_config *c, const json_t *object, struct tt_error *err)
{
	static const char *const KEYS[] = {"quantization_config", "compression_config"};
	for (size_t i = 0; i < sizeof KEYS / sizeof *KEYS; i++) {
		const json_t *value = field(object, KEYS[i]);
		TT_TRY(tt_within(check_quantisation(value, err), err, KEYS[i]));
		c->scaled_weights |= value != NULL;
	}
	return TT_OK;
}

static int need_u32(const json_t *object, const char *key, uint32_t max, uint32_t *out, struct tt_error *err)
{
	if (!field(object, key))
		return tt_fail(err, TT_ERR_FORMAT, "%s is missing", key);
	return tt_json_u32(object, key, 1, max, out, err);
}

/* The value for an absent key: the class's own number where it has one; else, and for null, what follows from the other
 * keys. */
static uint32_t absent(const json_t *object, const char *key, uint32_t ours, uint32_t derived)
{
	return ours && !json_object_get(object, key) ? ours : derived;
}

static int read_heads(struct tt_config *c, const json_t *object, struct tt_error *err)
{
	const struct tt_arch_defaults *d = &TT_ARCHS[c->arch].defaults;
	c->n_kv_heads = absent(object, "num_key_value_heads", d->n_kv_heads, c->n_heads);
	TT_TRY(tt_json_u32(object, "num_key_value_heads", 1, TT_MAX_HIDDEN, &c->n_kv_heads, err));
	c->head_dim = absent(object, "head_dim", d->head_dim, 0);
	TT_TRY(tt_json_u32(object, "head_dim", 1, TT_MAX_HIDDEN, &c->head_dim, err));
	if (!c->head_dim && c->hidden_size % c->n_heads)
		return tt_fail(err, TT_ERR_FORMAT, "hidden_size %u is not a multiple of num_attention_heads %u",
			c->hidden_size, c->n_heads);
	if (!c->head_dim)
		c->head_dim = c->hidden_size / c->n_heads;
	return TT_OK;
}

static int read_dimensions(struct tt_config *c, const json_t *object, struct tt_error *err)
{
	TT_TRY(need_u32(object, "num_hidden_layers", TT_MAX_LAYERS, &c->n_layers, err));
	TT_TRY(need_u32(object, "hidden_size", TT_MAX_HIDDEN, &c->hidden_size, err));
	TT_TRY(need_u32(object, "intermediate_size", TT_MAX_HIDDEN, &c->ffn_size, err));
	c->vocab_size = TT_ARCHS[c->arch].defaults.vocab_size;
	if (field(object, "vocab_size") || !c->vocab_size)
		TT_TRY(need_u32(object, "vocab_size", TT_MAX_VOCAB, &c->vocab_size, err));
	c->n_heads = TT_ARCHS[c->arch].defaults.n_heads;
	if (field(object, "num_attention_heads") || !c->n_heads)
		TT_TRY(need_u32(object, "num_attention_heads", TT_MAX_HIDDEN, &c->n_heads, err));
	TT_TRY(read_heads(c, object, err));
	tt_config_set_parts(c);
	const struct tt_arch_defaults *d = &TT_ARCHS[c->arch].defaults;
	c->context_length = d->context_length;
	TT_TRY(tt_json_u32(object, "max_position_embeddings", 1, TT_MAX_CONTEXT, &c->context_length, err));
	c->rms_norm_eps = d->rms_norm_eps;
	TT_TRY(tt_json_float(object, "rms_norm_eps", 0, 1, &c->rms_norm_eps, err));
	c->tied_output = d->tied_output;
	TT_TRY(tt_json_bool(object, "tie_word_embeddings", &c->tied_output, err));
	TT_TRY(tt_json_bool(object, "attention_bias", &c->attention_bias, err));
	c->attention_bias |= TT_ARCHS[c->arch].qkv_bias;
	return tt_json_bool(object, "mlp_bias", &c->mlp_bias, err);
}

/* A cap, or null for none. */
static int read_cap(const json_t *object, const char *key, float ours, float *out, struct tt_error *err)
{
	*out = json_is_null(json_object_get(object, key)) ? 0 : ours;
	return tt_json_float(object, key, 0, (double)FLT_MAX, out, err);
}

static int read_query_scale(struct tt_config *c, const json_t *object, struct tt_error *err)
{
	c->query_scale = TT_ARCHS[c->arch].defaults.query_scale;
	if (!c->query_scale)
		return TT_OK;
	TT_TRY(tt_json_float(object, "query_pre_attn_scalar", 0, (double)FLT_MAX, &c->query_scale, err));
	if (!(c->query_scale > 0))
		return tt_fail(err, TT_ERR_FORMAT, "query_pre_attn_scalar is not positive");
	return TT_OK;
}

static int read_caps(struct tt_config *c, const json_t *object, struct tt_error *err)
{
	const struct tt_arch_row *row = &TT_ARCHS[c->arch];
	const struct tt_arch_defaults *d = &row->defaults;
	if (!row->logit_caps)
		return TT_OK;
	TT_TRY(read_cap(object, "final_logit_softcapping", d->logit_soft_cap, &c->logit_soft_cap, err));
	TT_TRY(read_cap(object, "attn_logit_softcapping", d->attention_soft_cap, &c->attention_soft_cap, err));
	if (c->attention_soft_cap && !row->score_caps) /* transformers ignores the key then */
		return tt_fail(err, TT_ERR_UNSUPPORTED, "attn_logit_softcapping is not supported for %s", row->name);
	return TT_OK;
}

static int need_float(const json_t *object, const char *key, float *out, struct tt_error *err)
{
	if (!field(object, key))
		return tt_fail(err, TT_ERR_FORMAT, "%s is missing", key);
	return tt_json_float(object, key, 0, (double)FLT_MAX, out, err);
}

/* The key beside the scaling takes precedence over the key within it, as in transformers. */
static int read_original_context(struct tt_config *c, const json_t *config, const json_t *scaling, struct tt_error *err)
{
	static const char KEY[] = "original_max_position_embeddings";
	c->rope_original_context = c->context_length;
	TT_TRY(tt_json_u32(scaling, KEY, 1, TT_MAX_CONTEXT, &c->rope_original_context, err));
	return tt_json_u32(config, KEY, 1, TT_MAX_CONTEXT, &c->rope_original_context, err);
}

static int read_factors(const json_t *scaling, const char *key, uint32_t n, float *out, struct tt_error *err)
{
	const json_t *list = field(scaling, key);
	size_t i;
	json_t *value;
	if (!json_is_array(list) || json_array_size(list) != n || n > TT_MAX_ROPE_FACTORS)
		return tt_fail(err, TT_ERR_FORMAT, "%s is not a list of head_dim / 2 = %u numbers", key, n);
	json_array_foreach(list, i, value)
	{
		if (!json_is_number(value))
			return tt_fail(err, TT_ERR_FORMAT, "%s: number %zu is none", key, i);
		out[i] = (float)json_number_value(value);
	}
	return TT_OK;
}

/* The attention factor follows from how much longer the context became, unless it is given, as in transformers. */
static int read_longrope(struct tt_config *c, const json_t *config, const json_t *scaling, struct tt_error *err)
{
	const uint32_t own = TT_ARCHS[c->arch].defaults.original_context;
	c->rope_scaling = TT_ROPE_LONGROPE;
	TT_TRY(read_factors(scaling, "short_factor", c->head_dim / 2, c->rope_short, err));
	TT_TRY(read_factors(scaling, "long_factor", c->head_dim / 2, c->rope_long, err));
	TT_TRY(read_original_context(c, config, scaling, err));
	if (own && !field(config, "original_max_position_embeddings"))
		c->rope_original_context = own;
	double longer = (double)c->context_length / c->rope_original_context;
	if (field(scaling, "factor")) {
		TT_TRY(need_float(scaling, "factor", &c->rope_factor, err));
		longer = (double)c->rope_factor;
	}
	c->rope_attention_factor =
		longer <= 1 ? 1 : (float)sqrt(1 + log(longer) / log((double)c->rope_original_context));
	return tt_json_float(scaling, "attention_factor", 0, (double)FLT_MAX, &c->rope_attention_factor, err);
}

static int read_scaling(struct tt_config *c, const json_t *config, const json_t *scaling, struct tt_error *err)
{
	const char *type = "default", *key;
	json_t *value;
	float rotated = 1;
	json_object_foreach((json_t *)(uintptr_t)scaling, key, value) if (json_is_object(value)) return tt_fail(
		err, TT_ERR_UNSUPPORTED, "rope parameters by layer type (\"%s\")", key);
	TT_TRY(tt_json_string(scaling, "type", &type, err)); /* the older name; rope_type takes precedence */
	TT_TRY(tt_json_string(scaling, "rope_type", &type, err));
	TT_TRY(tt_json_float(scaling, "partial_rotary_factor", 0, 1, &rotated, err));
	if (rotated != 1)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "partial_rotary_factor %g is not supported", (double)rotated);
	if (strcmp(type, "default") == 0)
		return TT_OK;
	if (strcmp(type, "linear") == 0) {
		c->rope_scaling = TT_ROPE_LINEAR;
		return need_float(scaling, "factor", &c->rope_factor, err);
	}
	if (strcmp(type, "longrope") == 0 || strcmp(type, "su") == 0) /* the older name */
		return read_longrope(c, config, scaling, err);
	if (strcmp(type, "llama3"))
		return tt_fail(err, TT_ERR_UNSUPPORTED,
			"rope_type \"%s\" is not supported (supported: default, linear, llama3, longrope)", type);
	c->rope_scaling = TT_ROPE_LLAMA3;
	TT_TRY(need_float(scaling, "factor", &c->rope_factor, err));
	TT_TRY(need_float(scaling, "low_freq_factor", &c->rope_low_freq_factor, err));
	TT_TRY(need_float(scaling, "high_freq_factor", &c->rope_high_freq_factor, err));
	return read_original_context(c, config, scaling, err);
}

/* An object, or NULL where it is absent or empty. */
static int read_object(const json_t **out, const json_t *object, const char *key, struct tt_error *err)
{
	const json_t *found = field(object, key);
	if (found && !json_is_object(found))
		return tt_fail(err, TT_ERR_FORMAT, "%s is not an object", key);
	*out = json_object_size(found) ? found : NULL;
	return TT_OK;
}

/* Layers with a window have no scaling. parameters: those of these layers, since transformers 5, or NULL. */
static int read_local_rope(struct tt_config *c, const json_t *object, const json_t *parameters, struct tt_error *err)
{
	const char *type = "default";
	c->rope_local_theta = TT_ARCHS[c->arch].defaults.rope_local_theta;
	TT_TRY(tt_json_float(object, "rope_local_base_freq", 1, (double)FLT_MAX, &c->rope_local_theta, err));
	if (!parameters)
		return TT_OK;
	TT_TRY(tt_json_float(parameters, "rope_theta", 1, (double)FLT_MAX, &c->rope_local_theta, err));
	TT_TRY(tt_json_string(parameters, "rope_type", &type, err));
	if (strcmp(type, "default"))
		return tt_fail(err, TT_ERR_UNSUPPORTED,
			"sliding_attention: rope_type \"%s\" is not supported (supported: default)", type);
	return TT_OK;
}

/* Older files have rope_theta, and rope_scaling or null. Since transformers 5 there is rope_parameters, which holds
 * both, by type of layer where they differ. Where both are present, transformers takes rope_scaling. */
static int read_rope(struct tt_config *c, const json_t *object, struct tt_error *err)
{
	const json_t *parameters = NULL, *scaling = NULL, *local = NULL;
	const char *place = "rope_parameters";
	c->rope_theta = TT_ARCHS[c->arch].defaults.rope_theta;
	c->rope_factor = 1;
	TT_TRY(read_object(&parameters, object, "rope_parameters", err));
	TT_TRY(read_object(&scaling, object, "rope_scaling", err));
	TT_TRY(tt_json_float(object, "rope_theta", 1, (double)FLT_MAX, &c->rope_theta, err));
	if (TT_ARCHS[c->arch].defaults.rope_local_theta) {
		const json_t *by_type = parameters;
		TT_TRY(read_object(&local, by_type, "sliding_attention", err));
		TT_TRY(read_local_rope(c, object, local, err));
		TT_TRY(read_object(&parameters, by_type, "full_attention", err));
	}
	if (parameters)
		TT_TRY(tt_json_float(parameters, "rope_theta", 1, (double)FLT_MAX, &c->rope_theta, err));
	if (scaling) {
		place = "rope_scaling";
		parameters = scaling;
	}
	if (!parameters)
		return TT_OK;
	int status = tt_json_float(parameters, "rope_theta", 1, (double)FLT_MAX, &c->rope_theta, err);
	if (status == TT_OK)
		status = read_scaling(c, object, parameters, err);
	return tt_within(status, err, place);
}

/* An id, a list of them, or nothing. */
static int add_eos(struct tt_config *c, const json_t *object, struct tt_error *err)
{
	const json_t *value = field(object, "eos_token_id");
	size_t n = json_is_array(value) ? json_array_size(value) : value != NULL;
	for (size_t i = 0; i < n; i++) {
		const json_t *id = json_is_array(value) ? json_array_get(value, i) : value;
		if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > TT_MAX_VOCAB)
			return tt_fail(err, TT_ERR_FORMAT, "eos_token_id must be a token id or a list of them");
		TT_TRY(tt_config_add_eos(c, (int32_t)json_integer_value(id), err));
	}
	return TT_OK;
}

static int read_bos(struct tt_config *c, const json_t *object, struct tt_error *err)
{
	uint32_t bos = UINT32_MAX;
	TT_TRY(tt_json_u32(object, "bos_token_id", 0, TT_MAX_VOCAB, &bos, err));
	c->bos = bos == UINT32_MAX ? -1 : (int32_t)bos;
	return TT_OK;
}

static int read_config(struct tt_config *c, const json_t *object, struct tt_error *err)
{
	if (!json_is_object(object))
		return tt_fail(err, TT_ERR_FORMAT, "not an object");
	TT_TRY(read_architecture(c, object, err));
	TT_TRY(refuse_variants(c, object, err));
	TT_TRY(read_quantisation(c, object, err));
	const json_t *text = object;
	if (TT_ARCHS[c->arch].vision) {
		TT_TRY(read_object(&text, object, "text_config", err));
		if (!text)
			return tt_fail(err, TT_ERR_FORMAT, "text_config is missing");
		TT_TRY(refuse_variants(c, text, err));
		TT_TRY(read_quantisation(c, text, err));
	}
	TT_TRY(read_dimensions(c, text, err));
	TT_TRY(read_windows(c, text, err));
	TT_TRY(read_query_scale(c, text, err));
	TT_TRY(read_caps(c, text, err));
	TT_TRY(read_rope(c, text, err));
	TT_TRY(read_bos(c, text, err));
	TT_TRY(add_eos(c, object, err));
	if (text != object)
		TT_TRY(add_eos(c, text, err));
	return tt_config_check(c, err);
}

static int read_generation_config(struct tt_config *c, const json_t *object, struct tt_error *err)
{
	if (c->bos < 0)
		TT_TRY(read_bos(c, object, err));
	TT_TRY(add_eos(c, object, err));
	return tt_config_check(c, err);
}

static int read_tokenizer_config(struct tt_config *c, const json_t *object, struct tt_error *err)
{
	TT_TRY(tt_json_bool(object, "add_bos_token", &c->add_bos, err));
	if (c->bos < 0)
		c->add_bos = false;
	return TT_OK;
}

typedef int read_fn(struct tt_config *config, const json_t *object, struct tt_error *err);

/* Reads DIR/NAME; every message then begins with that name. */
static int read_file(struct tt_config *c, const char *directory, const char *name, size_t max_bytes, bool optional,
	read_fn *read, struct tt_error *err)
{
	char *path = NULL;
	json_t *object = NULL;
	int status = TT_OK;
	TT_TRY(tt_file_join(&path, directory, name, err));
	if (!optional || tt_file_exists(path)) {
		status = tt_json_load(&object, path, max_bytes, err);
		if (status == TT_OK)
			status = tt_within(read(c, object, err), err, path);
	}
	json_decref(object);
	free(path);
	return status;
}

int tt_config_from_directory(struct tt_config *out, const char *directory, struct tt_error *err)
{
	struct tt_config c = {.bos = -1};
	TT_TRY(read_file(&c, directory, "config.json", MAX_CONFIG, false, read_config, err));
	TT_TRY(read_file(&c, directory, "generation_config.json", MAX_CONFIG, true, read_generation_config, err));
	TT_TRY(read_file(
		&c, directory, "tokenizer_config.json", MAX_TOKENIZER_CONFIG, true, read_tokenizer_config, err));
	*out = c;
	return TT_OK;
}
