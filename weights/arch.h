/* How families of models differ, one row each: what its files call it and its tensors, which parts its blocks have, and
 * what transformers assumes where config.json is silent. The readers of configurations and weights use this table. The
 * ops see no family, only the fields of struct tt_config and struct tt_layer that follow from it. */
#ifndef WEIGHTS_ARCH_H
#define WEIGHTS_ARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tt_arch {
	TT_ARCH_LLAMA,
	TT_ARCH_MISTRAL,
	TT_ARCH_QWEN2,
	TT_ARCH_QWEN3,
	TT_ARCH_PHI3,
	TT_ARCH_GEMMA2,
	TT_ARCH_GEMMA3,
	TT_ARCH_GEMMA3_VISION, /* only its text model, from Hugging Face directories */
	TT_N_ARCHS,
};

enum tt_activation { TT_SILU, TT_GELU_TANH /* 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) */ };

/* Which layers see only a window of keys. */
enum tt_windows {
	TT_WINDOWS_NONE,     /* none: a window is refused */
	TT_WINDOWS_ALL,      /* all of them, where the file gives a window */
	TT_WINDOWS_OPTIONAL, /* Qwen: with use_sliding_window, the layers from max_window_layers on */
	TT_WINDOWS_PATTERN,  /* Gemma: all but every n-th layer */
};

/* Tensor names. Those of a layer follow the layer's prefix and index, and are followed by .weight or .bias. NULL: not
 * in files of this kind. */
struct tt_arch_names {
	const char *embedding, *output, *output_norm, *layer;
	const char *attn_norm, *ffn_norm;
	const char *q, *k, *v, *o, *gate, *up, *down;
	const char *qkv, *gate_up; /* the rows of q, k and v, or of gate and up, contiguous in one tensor */
	const char *q_norm, *k_norm;
	const char *attn_post_norm, *ffn_post_norm;
};

/* What Hugging Face's configuration class takes for an absent key. 0: it follows from other keys. */
struct tt_arch_defaults {
	uint32_t n_heads, vocab_size; /* 0: the key must be present */
	uint32_t n_kv_heads, head_dim, context_length, sliding_window, max_window_layers, window_pattern,
		original_context;
	float rms_norm_eps, rope_theta;
	float rope_local_theta; /* of layers with a window, which rotate unscaled; 0: as the other layers */
	float attention_soft_cap, logit_soft_cap;
	float query_scale; /* query_pre_attn_scalar; 0: the class has no such key, and uses head_dim */
	bool tied_output;
};

/* The widths of one model. */
struct tt_arch_shape {
	uint32_t hidden_size, n_heads, head_dim;
};

struct tt_arch_row {
	enum tt_arch arch;
	const char *name;               /* our name */
	const char *hf_class, *hf_type; /* in config.json: architectures, model_type */
	/* general.architecture, and the prefix of keys; the same for models that GGUF does not distinguish */
	const char *gguf;
	const struct tt_arch_names *hf; /* in safetensors files */
	bool rope_interleaved;          /* in GGUF files; struct tt_config explains it */
	bool qkv_bias;                  /* q, k and v have a bias in any case; elsewhere attention_bias says so */
	bool fused;                     /* qkv and gate_up take the place of q, k, v, gate and up */
	bool head_norms;                /* each head of q and k is normalised before rotation */
	/* What attention and feed-forward add to the residual is normalised too. Every architecture here normalises the
	 * input of both (attn_norm, ffn_norm). One without those, such as OLMo 2, has no row and would need ops that
	 * leave them out. Its norms over all of q and all of k at once have no ops either (head_norms are one for each
	 * head). */
	bool post_norms;
	bool norms_plus_one;   /* norms multiply by 1 + w; safetensors files hold w, GGUF files the sum */
	bool scaled_embedding; /* embeddings are multiplied by sqrt(hidden_size) */
	enum tt_activation activation;
	const char *activation_key; /* in config.json; NULL: hidden_act */
	/* the file has keys for a soft cap on scores, on logits; the defaults have the numbers */
	bool score_caps, logit_caps;
	bool vision; /* the model is text_config; tensors of the vision tower are ignored */
	enum tt_windows windows;
	bool window_pattern_key; /* config.json may give n where every n-th layer has no window */
	/* GGUF files may omit the window: then it is the default; elsewhere it would be none */
	bool assumed_window;
	/* GGUF has no key for query_pre_attn_scalar. It is head_dim in all of Google's models except those of this
	 * shape, whose authors chose hidden_size / n_heads. (llama.cpp recognises them by their number of layers.) */
	struct tt_arch_shape scaled_by_width;
	struct tt_arch_defaults defaults;
};

extern const struct tt_arch_row TT_ARCHS[TT_N_ARCHS]; /* indexed by enum tt_arch */
extern const struct tt_arch_names TT_GGUF_NAMES;

/* The row whose name of that kind is text[n], or NULL. which selects the kind: offsetof(struct tt_arch_row, hf_class),
 * for example. */
const struct tt_arch_row *tt_arch_find(size_t which, const char *text, size_t n);

/* All names of that kind, "a, b, c", for a message that refuses another. */
const char *tt_arch_list(char out[300], size_t which);

/* "llama" */
const char *tt_arch_name(enum tt_arch arch);

#endif
