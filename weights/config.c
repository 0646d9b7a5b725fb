#include "weights/config.h"

#include <math.h>

#include "base/fail.h"
#include "weights/config_check.h"

static int check_positive(const char *name, uint32_t value, uint32_t max, struct tt_error *err)
{
	if (value == 0 || value > max)
		return tt_fail(err, TT_ERR_FORMAT, "%s is %u, not from 1 to %u", name, value, max);
	return TT_OK;
}

static int check_widths(const struct tt_config *c, struct tt_error *err)
{
	TT_TRY(check_positive("n_layers", c->n_layers, TT_MAX_LAYERS, err));
	TT_TRY(check_positive("hidden_size", c->hidden_size, TT_MAX_HIDDEN, err));
	TT_TRY(check_positive("ffn_size", c->ffn_size, TT_MAX_HIDDEN, err));
	TT_TRY(check_positive("n_heads", c->n_heads, TT_MAX_HIDDEN, err));
	TT_TRY(check_positive("n_kv_heads", c->n_kv_heads, TT_MAX_HIDDEN, err));
	TT_TRY(check_positive("head_dim", c->head_dim, TT_MAX_HIDDEN, err));
	TT_TRY(check_positive("vocab_size", c->vocab_size, TT_MAX_VOCAB, err));
	TT_TRY(check_positive("context_length", c->context_length, TT_MAX_CONTEXT, err));
	if (c->n_heads % c->n_kv_heads)
		return tt_fail(
			err, TT_ERR_FORMAT, "n_heads %u is not a multiple of n_kv_heads %u", c->n_heads, c->n_kv_heads);
	if (c->head_dim % 2)
		return tt_fail(err, TT_ERR_FORMAT, "head_dim %u is odd: rope rotates pairs", c->head_dim);
	if ((uint64_t)c->n_heads * c->head_dim > TT_MAX_HIDDEN)
		return tt_fail(err, TT_ERR_FORMAT, "n_heads %u times head_dim %u is more than %d", c->n_heads,
			c->head_dim, TT_MAX_HIDDEN);
	return TT_OK;
}

static int check_longrope(const struct tt_config *c, struct tt_error *err)
{
	if (c->head_dim / 2 > TT_MAX_ROPE_FACTORS)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "longrope for heads of %u, more than %d", c->head_dim,
			2 * TT_MAX_ROPE_FACTORS);
	for (uint32_t i = 0; i < c->head_dim / 2; i++)
		if (!(c->rope_short[i] > 0) || !isfinite(c->rope_short[i]) || !(c->rope_long[i] > 0) ||
			!isfinite(c->rope_long[i]))
			return tt_fail(err, TT_ERR_FORMAT, "longrope's factors %u, %g and %g, are not positive", i,
				(double)c->rope_short[i], (double)c->rope_long[i]);
	if (!(c->rope_attention_factor > 0) || !isfinite(c->rope_attention_factor))
		return tt_fail(err, TT_ERR_FORMAT, "longrope's attention factor %g is not positive",
			(double)c->rope_attention_factor);
	return check_positive("original_max_position_embeddings", c->rope_original_context, TT_MAX_CONTEXT, err);
}

static int check_numbers(const struct tt_config *c, struct tt_error *err)
{
	if (!(c->rms_norm_eps > 0) || !(c->rms_norm_eps < 1))
		return tt_fail(err, TT_ERR_FORMAT, "rms_norm_eps %g is not between 0 and 1", (double)c->rms_norm_eps);
	if (!(c->rope_theta >= 1) || !isfinite(c->rope_theta))
		return tt_fail(err, TT_ERR_FORMAT, "rope_theta %g is not a number from 1 up", (double)c->rope_theta);
	if (c->rope_scaling != TT_ROPE_NONE && (!(c->rope_factor > 0) || !isfinite(c->rope_factor)))
		return tt_fail(
			err, TT_ERR_FORMAT, "the rope scaling factor %g is not positive", (double)c->rope_factor);
	if (c->rope_local_theta && (!(c->rope_local_theta >= 1) || !isfinite(c->rope_local_theta)))
		return tt_fail(err, TT_ERR_FORMAT,
			"the rope_theta of layers with a window, %g, is not a number from 1 up",
			(double)c->rope_local_theta);
	if (!(c->attention_soft_cap >= 0) || !isfinite(c->attention_soft_cap) || !(c->logit_soft_cap >= 0) ||
		!isfinite(c->logit_soft_cap) || !(c->query_scale >= 0) || !isfinite(c->query_scale))
		return tt_fail(err, TT_ERR_FORMAT,
			"the soft caps %g and %g and query_pre_attn_scalar %g must be positive",
			(double)c->attention_soft_cap, (double)c->logit_soft_cap, (double)c->query_scale);
	if (c->rope_scaling == TT_ROPE_LONGROPE)
		TT_TRY(check_longrope(c, err));
	if (c->rope_scaling != TT_ROPE_LLAMA3)
		return TT_OK;
	if (!(c->rope_low_freq_factor > 0) || !(c->rope_high_freq_factor > c->rope_low_freq_factor) ||
		!isfinite(c->rope_high_freq_factor))
		return tt_fail(err, TT_ERR_FORMAT,
			"the rope scaling's low_freq_factor %g and high_freq_factor %g must be 0 < low < high",
			(double)c->rope_low_freq_factor, (double)c->rope_high_freq_factor);
	return check_positive("original_max_position_embeddings", c->rope_original_context, TT_MAX_CONTEXT, err);
}

int tt_config_check(const struct tt_config *config, struct tt_error *err)
{
	TT_TRY(check_widths(config, err));
	TT_TRY(check_numbers(config, err));
	if (config->bos >= (int64_t)config->vocab_size)
		return tt_fail(err, TT_ERR_FORMAT, "the bos token %d is not in the vocabulary of %u", config->bos,
			config->vocab_size);
	for (uint32_t i = 0; i < config->n_eos; i++)
		if (config->eos[i] < 0 || config->eos[i] >= (int64_t)config->vocab_size)
			return tt_fail(err, TT_ERR_FORMAT, "the eos token %d is not in the vocabulary of %u",
				config->eos[i], config->vocab_size);
	return TT_OK;
}

void tt_config_set_parts(struct tt_config *config)
{
	const struct tt_arch_row *row = &TT_ARCHS[config->arch];
	config->head_norms = row->head_norms;
	config->post_norms = row->post_norms;
	config->activation = row->activation;
	config->embedding_scale = row->scaled_embedding ? (float)sqrt((double)config->hidden_size) : 0;
}

void tt_config_set_pattern(struct tt_config *config, uint32_t pattern)
{
	for (uint32_t l = 1; pattern && l <= config->n_layers / pattern; l++)
		tt_config_set_full(config, l * pattern - 1, l * pattern);
}

void tt_config_set_full(struct tt_config *config, uint32_t first, uint32_t end)
{
	uint32_t n = 0;
	for (uint32_t l = first; l < end && l < config->n_layers; l++)
		config->full_layers[l / 64] |= (uint64_t)1 << l % 64;
	while (n < config->n_layers && !tt_config_window(config, n))
		n++;
	if (n == config->n_layers)
		config->sliding_window = 0;
}

int tt_config_add_eos(struct tt_config *config, int32_t id, struct tt_error *err)
{
	for (uint32_t i = 0; i < config->n_eos; i++)
		if (config->eos[i] == id)
			return TT_OK;
	if (config->n_eos == TT_MAX_EOS)
		return tt_fail(err, TT_ERR_LIMIT, "more than %d eos tokens", TT_MAX_EOS);
	config->eos[config->n_eos++] = id;
	return TT_OK;
}

/* Long wavelengths are divided by the factor, short ones stay, those between are blended. In f32, in the order of
 * operations of the library with which the models were trained, where number / tensor is number * (1 / tensor). */
static float llama3_frequency(const struct tt_config *c, float frequency)
{
	float context = (float)c->rope_original_context;
	float low = c->rope_low_freq_factor, high = c->rope_high_freq_factor;
	float wavelength = 6.28318530717958647692f * (1 / frequency);
	if (wavelength > context / low)
		return frequency / c->rope_factor;
	if (wavelength < context / high)
		return frequency;
	float smooth = (context * (1 / wavelength) - low) / (high - low);
	return (1 - smooth) * frequency / c->rope_factor + smooth * frequency;
}

float tt_config_attention_scale(const struct tt_config *config)
{
	double factor = config->rope_attention_factor ? (double)config->rope_attention_factor : 1;
	return (float)(factor * factor / sqrt(config->query_scale ? (double)config->query_scale : config->head_dim));
}

void tt_config_inverse_frequencies(
	const struct tt_config *config, uint32_t context, bool local, float *inverse_frequencies)
{
	const float *factors = context > config->rope_original_context ? config->rope_long : config->rope_short;
	for (uint32_t i = 0; i < config->head_dim / 2; i++) {
		float exponent = (float)(2 * i) / (float)config->head_dim;
		float power = powf(local ? config->rope_local_theta : config->rope_theta, exponent);
		if (local) {
			inverse_frequencies[i] = 1.0f / power;
			continue;
		}
		float frequency = 1.0f / (config->rope_scaling == TT_ROPE_LONGROPE ? factors[i] * power : power);
		if (config->rope_scaling == TT_ROPE_LINEAR)
			frequency /= config->rope_factor;
		if (config->rope_scaling == TT_ROPE_LLAMA3)
			frequency = llama3_frequency(config, frequency);
		if (config->rope_factors)
			frequency /= config->rope_factors[i];
		inverse_frequencies[i] = frequency;
	}
}
