/* A model's architecture and dimensions: the same struct from GGUF keys and from config.json. */
#ifndef WEIGHTS_CONFIG_H
#define WEIGHTS_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/tt_error.h"
#include "weights/arch.h"

struct tt_gguf;

enum {
	TT_MAX_LAYERS = 512,     /* blocks of a model */
	TT_MAX_EOS = 8,          /* end tokens a model may name */
	TT_MAX_HIDDEN = 1 << 17, /* the largest of any width */
	TT_MAX_VOCAB = 1 << 22,
	TT_MAX_CONTEXT = 1 << 24,
	TT_MAX_ROPE_FACTORS = 128, /* of longrope: enough for heads of up to 256 */
};

/* None leaves the base frequencies as they are, linear divides them all; llama3 divides the low ones and blends
 * between; longrope has two lists of divisors, for contexts of up to rope_original_context and for longer ones. */
enum tt_rope_scaling { TT_ROPE_NONE, TT_ROPE_LINEAR, TT_ROPE_LLAMA3, TT_ROPE_LONGROPE };

struct tt_config {
	enum tt_arch arch;
	uint32_t n_layers, hidden_size, n_heads, n_kv_heads, head_dim, ffn_size, vocab_size, context_length;
	float rms_norm_eps, rope_theta;
	float rope_local_theta; /* of layers with a window, which rotate unscaled; 0: as the other layers */
	enum tt_rope_scaling rope_scaling;
	float rope_factor, rope_low_freq_factor, rope_high_freq_factor;
	uint32_t rope_original_context;
	float rope_short[TT_MAX_ROPE_FACTORS], rope_long[TT_MAX_ROPE_FACTORS]; // [head_dim / 2] of longrope
	float rope_attention_factor; /* longrope: rotated q and k are multiplied by it; 0: 1 */
	/* The divisors of llama3 scaling, where the file gives them itself (GGUF's rope_freqs.weight), or NULL. Points
	 * into the mapping: valid as long as the file is open. */
	const float *rope_factors; // [head_dim / 2]
	/* Rotation pairs neighbours in a head, 2i and 2i + 1 (GPT-J style): the rows of q and k are in that order
	 * (GGUF's Llama). False: it pairs i of one half with i of the other (NeoX style). */
	bool rope_interleaved;
	bool tied_output;    /* the output matrix is the embedding */
	bool attention_bias; /* q, k, v (and o where the file has it) carry a bias */
	bool mlp_bias;
	bool scaled_weights;           /* the file says that matrices may be eight bits with scales (fp8.h) */
	float embedding_scale;         /* embeddings are multiplied by it; 0: 1 */
	float query_scale;             /* scores are divided by its root; 0: head_dim */
	float attention_soft_cap;      /* scores become cap * tanh(score / cap); 0: they stay */
	float logit_soft_cap;          /* the cap of logits, with the same formula */
	enum tt_activation activation; /* of the feed-forward gate */
	bool post_norms;               /* what attention and feed-forward add to the residual is normalised too */
	bool head_norms;               /* each head of q and k is normalised before rotation */
	uint32_t sliding_window;       /* keys a query sees, 0 for all; tt_config_window for one layer */
	uint64_t full_layers[TT_MAX_LAYERS / 64]; /* bit l: layer l sees all keys whatever sliding_window is */
	int32_t bos, eos[TT_MAX_EOS];
	uint32_t n_eos; /* bos is -1 when there is none */
	bool add_bos;   /* the tokenizer puts bos before raw text */
};

/* Fills *out from `{arch}.*` keys, or from DIR/config.json and, where it exists, DIR/generation_config.json. Refuses by
 * name what this build cannot compute exactly (another architecture, a rope type, an activation). */
int tt_config_from_gguf(struct tt_config *out, const struct tt_gguf *file, struct tt_error *err);
int tt_config_from_directory(struct tt_config *out, const char *directory, struct tt_error *err);

/* The number of keys that a query sees in this layer, 0 for all. */
static inline uint32_t tt_config_window(const struct tt_config *config, uint32_t layer)
{
	return config->full_layers[layer / 64] >> layer % 64 & 1 ? 0 : config->sliding_window;
}

/* Whether some layers (those with a window) rotate differently from the others. */
static inline bool tt_config_has_local_rope(const struct tt_config *config)
{
	return config->rope_local_theta != 0 && config->sliding_window != 0;
}

/* inverse_frequencies[head_dim / 2] for this config: theta^(-2i/head_dim) in f32, then the scaling, as in
 * modeling_rope_utils of Hugging Face's transformers. context: the most positions that a sequence may ever have; it
 * selects longrope's short or long factors. It is not the number of positions so far, or a sequence's first tokens
 * would depend on how many follow. local: for the layers with a window, where those rotate differently. */
void tt_config_inverse_frequencies(
	const struct tt_config *config, uint32_t context, bool local, float *inverse_frequencies);

/* The factor of a product of q and k: 1 / sqrt(query_scale), times the square of rope_attention_factor, because all of
 * q and of k is rotated. */
float tt_config_attention_scale(const struct tt_config *config);

#endif
