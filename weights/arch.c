#include "weights/arch.h"

#include <stdio.h>
#include <string.h>

const struct tt_arch_names TT_GGUF_NAMES = {
	.embedding = "token_embd.weight",
	.output = "output.weight",
	.output_norm = "output_norm.weight",
	.layer = "blk.",
	.attn_norm = "attn_norm",
	.ffn_norm = "ffn_norm",
	.q = "attn_q",
	.k = "attn_k",
	.v = "attn_v",
	.o = "attn_output",
	.gate = "ffn_gate",
	.up = "ffn_up",
	.down = "ffn_down",
	.q_norm = "attn_q_norm",
	.k_norm = "attn_k_norm",
	.qkv = "attn_qkv",
	.gate_up = "ffn_up",
	.attn_post_norm = "post_attention_norm",
	.ffn_post_norm = "post_ffw_norm",
};

/* All names but that of the norm between attention and feed-forward. */
#define HF_NAMES_IN(prefix)                                                                                            \
	.embedding = prefix "model.embed_tokens.weight", .output = prefix "lm_head.weight",                            \
	.output_norm = prefix "model.norm.weight", .layer = prefix "model.layers.", .attn_norm = "input_layernorm",    \
	.q = "self_attn.q_proj", .k = "self_attn.k_proj", .v = "self_attn.v_proj", .o = "self_attn.o_proj",            \
	.gate = "mlp.gate_proj", .up = "mlp.up_proj", .down = "mlp.down_proj", .q_norm = "self_attn.q_norm",           \
	.k_norm = "self_attn.k_norm", .qkv = "self_attn.qkv_proj", .gate_up = "mlp.gate_up_proj"
/* In Gemma, the name that other models give to the norm before the feed-forward part belongs to a norm after
 * attention. */
#define GEMMA_NORMS                                                                                                    \
	.ffn_norm = "pre_feedforward_layernorm", .attn_post_norm = "post_attention_layernorm",                         \
	.ffn_post_norm = "post_feedforward_layernorm"

static const struct tt_arch_names HF_NAMES = {HF_NAMES_IN(""), .ffn_norm = "post_attention_layernorm"};
static const struct tt_arch_names GEMMA_NAMES = {HF_NAMES_IN(""), GEMMA_NORMS};
static const struct tt_arch_names GEMMA_VISION_NAMES = {HF_NAMES_IN("language_model."), GEMMA_NORMS};

#define GEMMA_PARTS                                                                                                    \
	.post_norms = true, .norms_plus_one = true, .scaled_embedding = true, .activation = TT_GELU_TANH,              \
	.activation_key = "hidden_activation", .logit_caps = true, .windows = TT_WINDOWS_PATTERN
/* The two rows of Gemma 3; the shape is that of its 27B model. */
#define GEMMA3_PARTS                                                                                                   \
	.name = "gemma3", .gguf = "gemma3", .head_norms = true, GEMMA_PARTS, .window_pattern_key = true,               \
	.scaled_by_width = {5376, 32, 128}
#define GEMMA3_DEFAULTS                                                                                                \
	.n_kv_heads = 4, .head_dim = 256, .context_length = 131072, .sliding_window = 4096, .window_pattern = 6,       \
	.rms_norm_eps = 1e-6f, .rope_theta = 1000000, .rope_local_theta = 10000, .query_scale = 256,                   \
	.tied_output = true

const struct tt_arch_row TT_ARCHS[TT_N_ARCHS] = {
	[TT_ARCH_LLAMA] = {.arch = TT_ARCH_LLAMA,
		.name = "llama",
		.hf_class = "LlamaForCausalLM",
		.hf_type = "llama",
		.gguf = "llama",
		.hf = &HF_NAMES,
		.rope_interleaved = true,
		.defaults = {.context_length = 2048, .rms_norm_eps = 1e-6f, .rope_theta = 10000}},
	/* GGUF calls it Llama, and has no key for its window. */
	[TT_ARCH_MISTRAL] = {.arch = TT_ARCH_MISTRAL,
		.name = "mistral",
		.hf_class = "MistralForCausalLM",
		.hf_type = "mistral",
		.gguf = "llama",
		.hf = &HF_NAMES,
		.rope_interleaved = true,
		.windows = TT_WINDOWS_ALL,
		.defaults = {.n_kv_heads = 8,
			.context_length = 131072,
			.sliding_window = 4096,
			.rms_norm_eps = 1e-6f,
			.rope_theta = 10000}},
	[TT_ARCH_QWEN2] = {.arch = TT_ARCH_QWEN2,
		.name = "qwen2",
		.hf_class = "Qwen2ForCausalLM",
		.hf_type = "qwen2",
		.gguf = "qwen2",
		.hf = &HF_NAMES,
		.qkv_bias = true,
		.windows = TT_WINDOWS_OPTIONAL,
		.defaults = {.n_kv_heads = 32,
			.context_length = 32768,
			.sliding_window = 4096,
			.max_window_layers = 28,
			.rms_norm_eps = 1e-6f,
			.rope_theta = 10000}},
	[TT_ARCH_QWEN3] = {.arch = TT_ARCH_QWEN3,
		.name = "qwen3",
		.hf_class = "Qwen3ForCausalLM",
		.hf_type = "qwen3",
		.gguf = "qwen3",
		.hf = &HF_NAMES,
		.head_norms = true,
		.windows = TT_WINDOWS_OPTIONAL,
		.defaults = {.n_kv_heads = 32,
			.head_dim = 128,
			.context_length = 32768,
			.sliding_window = 4096,
			.max_window_layers = 28,
			.rms_norm_eps = 1e-6f,
			.rope_theta = 10000}},
	[TT_ARCH_PHI3] = {.arch = TT_ARCH_PHI3,
		.name = "phi3",
		.hf_class = "Phi3ForCausalLM",
		.hf_type = "phi3",
		.gguf = "phi3",
		.hf = &HF_NAMES,
		.fused = true,
		.windows = TT_WINDOWS_ALL,
		.defaults =
			{.context_length = 4096, .original_context = 4096, .rms_norm_eps = 1e-5f, .rope_theta = 10000}},
	[TT_ARCH_GEMMA2] = {.arch = TT_ARCH_GEMMA2,
		.name = "gemma2",
		.hf_class = "Gemma2ForCausalLM",
		.hf_type = "gemma2",
		.gguf = "gemma2",
		.hf = &GEMMA_NAMES,
		GEMMA_PARTS,
		.score_caps = true,
		.assumed_window = true,             /* the first files of its converter have no window */
		.scaled_by_width = {4608, 32, 128}, /* the 27B model */
		.defaults = {.n_kv_heads = 4,
			.head_dim = 256,
			.context_length = 8192,
			.sliding_window = 4096,
			.window_pattern = 2,
			.rms_norm_eps = 1e-6f,
			.rope_theta = 10000,
			.attention_soft_cap = 50,
			.logit_soft_cap = 30,
			.query_scale = 256,
			.tied_output = true}},
	[TT_ARCH_GEMMA3] = {.arch = TT_ARCH_GEMMA3,
		.hf_class = "Gemma3ForCausalLM",
		.hf_type = "gemma3_text",
		.hf = &GEMMA_NAMES,
		GEMMA3_PARTS,
		.defaults = {GEMMA3_DEFAULTS}},
	[TT_ARCH_GEMMA3_VISION] = {.arch = TT_ARCH_GEMMA3_VISION,
		.hf_class = "Gemma3ForConditionalGeneration",
		.hf_type = "gemma3",
		.hf = &GEMMA_VISION_NAMES,
		.vision = true,
		GEMMA3_PARTS,
		.defaults = {GEMMA3_DEFAULTS, .n_heads = 8, .vocab_size = 262208}},
};

static const char *field(const struct tt_arch_row *row, size_t which)
{
	const char *name;
	memcpy(&name, (const char *)row + which, sizeof name);
	return name;
}

const struct tt_arch_row *tt_arch_find(size_t which, const char *text, size_t n)
{
	for (size_t i = 0; i < TT_N_ARCHS; i++) {
		const char *name = field(&TT_ARCHS[i], which);
		if (strlen(name) == n && memcmp(name, text, n) == 0)
			return &TT_ARCHS[i];
	}
	return NULL;
}

const char *tt_arch_list(char out[300], size_t which)
{
	size_t n = 0;
	out[0] = 0;
	for (size_t i = 0; i < TT_N_ARCHS; i++) {
		const char *name = field(&TT_ARCHS[i], which);
		if (tt_arch_find(which, name, strlen(name)) != &TT_ARCHS[i]) /* the list has it already */
			continue;
		n += (size_t)snprintf(out + n, 300 - n, "%s%s", i ? ", " : "", name);
	}
	return out;
}

const char *tt_arch_name(enum tt_arch arch)
{
	return TT_ARCHS[arch].name;
}
