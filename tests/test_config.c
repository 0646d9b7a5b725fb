/* Configurations: Hugging Face's older and newer style, and rope frequencies against transformers. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "base/fail.h"
#include "weights/config.h"
#include "weights/gguf.h"
#include "weights/safetensors.h"
#include "weights_files.h"

static const char *const FILES[] = {"config.json", "generation_config.json", "tokenizer_config.json"};

/* A configuration's fields but for what each test adds. */
#define OF(class, type)                                                                                                \
	"\"architectures\":[\"" class "ForCausalLM\"],\"model_type\":\"" type "\",\"vocab_size\":100,"                 \
				      "\"hidden_size\":64,\"intermediate_size\":96,\"num_hidden_layers\":2,\"num_"     \
				      "attention_heads\":4"
#define BASE OF("Llama", "llama")

static int read_config(struct tt_config *out, struct scratch *s, const char *config, const char *generation,
	const char *tokenizer, struct tt_error *err)
{
	const char *texts[] = {config, generation, tokenizer};
	for (int i = 0; i < 3; i++)
		if (texts[i])
			scratch_write(s, FILES[i], texts[i], strlen(texts[i]));
	int status = tt_config_from_directory(out, s->directory, err);
	char directory[64];
	memcpy(directory, s->directory, sizeof directory);
	for (int i = 0; i < 3; i++) {
		snprintf(s->path, sizeof s->path, "%s/%s", directory, FILES[i]);
		unlink(s->path);
	}
	return status;
}

/* Reads what must be right. */
static struct tt_config good(const char *config, const char *generation, const char *tokenizer)
{
	struct scratch s;
	struct tt_config out;
	struct tt_error err = {0};
	scratch_make(&s);
	cr_assert_eq(read_config(&out, &s, config, generation, tokenizer, &err), TT_OK, "%s: %s", config, err.message);
	scratch_remove(&s, FILES, 0);
	return out;
}

Test(config, absent_fields_take_the_defaults_of_transformers)
{
	struct tt_config c = good("{" BASE "}", NULL, NULL);
	cr_expect(c.n_layers == 2 && c.hidden_size == 64 && c.n_heads == 4 && c.n_kv_heads == 4 && c.head_dim == 16);
	cr_expect(c.ffn_size == 96 && c.vocab_size == 100 && c.context_length == 2048);
	cr_expect(c.rms_norm_eps == 1e-6f && c.rope_theta == 10000 && c.rope_scaling == TT_ROPE_NONE);
	cr_expect(!c.tied_output && !c.attention_bias && !c.mlp_bias && !c.rope_interleaved && c.sliding_window == 0);
	cr_expect(c.bos == -1 && c.n_eos == 0 && !c.add_bos);
}

/* Each class has its own. */
Test(config, absent_fields_of_other_architectures)
{
	struct tt_config c = good("{" OF("Mistral", "mistral") ",\"num_key_value_heads\":4}", NULL, NULL);
	cr_expect(c.arch == TT_ARCH_MISTRAL && c.context_length == 131072 && !c.attention_bias);
	cr_expect(c.sliding_window == 4096 && tt_config_window(&c, 1) == 4096);
	c = good("{" OF("Mistral", "mistral") ",\"num_key_value_heads\":null,\"sliding_window\":null}", NULL, NULL);
	cr_expect(c.n_kv_heads == 4 && c.sliding_window == 0);
	c = good("{" OF("Qwen2", "qwen2") ",\"num_key_value_heads\":2}", NULL, NULL);
	cr_expect(c.arch == TT_ARCH_QWEN2 && c.attention_bias && !c.head_norms && c.head_dim == 16);
	cr_expect(c.context_length == 32768 && c.sliding_window == 0);
	c = good("{" OF("Qwen3", "qwen3") ",\"num_key_value_heads\":2}", NULL, NULL);
	cr_expect(c.arch == TT_ARCH_QWEN3 && !c.attention_bias && c.head_norms && c.head_dim == 128);
}

#define WINDOWED OF("Qwen2", "qwen2") ",\"num_key_value_heads\":2,\"use_sliding_window\":true,\"sliding_window\":7"

Test(config, windows_of_some_layers)
{
	struct tt_config c = good("{" WINDOWED ",\"max_window_layers\":1}", NULL, NULL);
	cr_expect(c.sliding_window == 7 && tt_config_window(&c, 0) == 0 && tt_config_window(&c, 1) == 7);
	c = good("{" WINDOWED ",\"max_window_layers\":0}", NULL, NULL);
	cr_expect(tt_config_window(&c, 0) == 7 && tt_config_window(&c, 1) == 7);
	c = good("{" WINDOWED "}", NULL, NULL); /* from layer 28 on, of 2 */
	cr_expect(c.sliding_window == 0);
	/* The list goes before max_window_layers, as in transformers. */
	c = good("{" WINDOWED ",\"max_window_layers\":1,\"layer_types\":[\"sliding_attention\",\"full_attention\"]}",
		NULL, NULL);
	cr_expect(tt_config_window(&c, 0) == 7 && tt_config_window(&c, 1) == 0);
	c = good("{" WINDOWED ",\"layer_types\":[\"full_attention\",\"full_attention\"]}", NULL, NULL);
	cr_expect(c.sliding_window == 0);
	c = good("{" BASE ",\"sliding_window\":7,\"layer_types\":[\"full_attention\",\"full_attention\"]}", NULL, NULL);
	cr_expect(c.sliding_window == 0, "Llama has none, whatever a file says");
}

Test(config, null_reads_as_absent)
{
	struct tt_config c = good("{" BASE ",\"num_key_value_heads\":null,\"head_dim\":null,\"rope_scaling\":null,"
				  "\"rope_parameters\":null,\"bos_token_id\":null,\"eos_token_id\":null,"
				  "\"quantization_config\":null,\"hidden_act\":null,\"sliding_window\":null}",
		"{\"eos_token_id\":null}", "{\"add_bos_token\":null}");
	cr_expect(c.n_kv_heads == 4 && c.head_dim == 16 && c.bos == -1 && c.n_eos == 0 && !c.add_bos);
}

Test(config, the_older_style_of_rope)
{
	struct tt_config c = good("{" BASE ",\"rope_theta\":500000.0,\"max_position_embeddings\":131072,"
				  "\"num_key_value_heads\":2,\"head_dim\":8,\"rms_norm_eps\":1e-05,"
				  "\"tie_word_embeddings\":true,\"attention_bias\":true,\"mlp_bias\":true,"
				  "\"bos_token_id\":1,\"eos_token_id\":[2,3],"
				  "\"rope_scaling\":{\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
				  "\"original_max_position_embeddings\":8192,\"rope_type\":\"llama3\"}}",
		"{\"eos_token_id\":[3,4]}", "{\"add_bos_token\":true}");
	cr_expect(c.rope_scaling == TT_ROPE_LLAMA3 && c.rope_theta == 500000 && c.rope_factor == 8);
	cr_expect(c.rope_low_freq_factor == 1 && c.rope_high_freq_factor == 4 && c.rope_original_context == 8192);
	cr_expect(c.context_length == 131072 && c.n_kv_heads == 2 && c.head_dim == 8 && c.rms_norm_eps == 1e-5f);
	cr_expect(c.tied_output && c.attention_bias && c.mlp_bias && c.bos == 1 && c.add_bos);
	cr_expect(c.n_eos == 3 && c.eos[0] == 2 && c.eos[1] == 3 && c.eos[2] == 4, "the two lists merge");

	c = good("{" BASE ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}}", NULL, NULL);
	cr_expect(c.rope_scaling == TT_ROPE_LINEAR && c.rope_factor == 2 && c.rope_theta == 10000);
}

Test(config, the_newer_style_of_rope)
{
	struct tt_config c =
		good("{" BASE ",\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":100000}}", NULL, NULL);
	cr_expect(c.rope_scaling == TT_ROPE_NONE && c.rope_theta == 100000);
	c = good("{" BASE
		 ",\"rope_theta\":7,\"rope_parameters\":{\"rope_theta\":20000,\"rope_type\":\"linear\",\"factor\":4}}",
		NULL, NULL);
	cr_expect(c.rope_scaling == TT_ROPE_LINEAR && c.rope_theta == 20000 && c.rope_factor == 4);
	c = good("{" BASE ",\"max_position_embeddings\":64,\"rope_parameters\":{\"rope_type\":\"llama3\","
		 "\"rope_theta\":5e5,\"factor\":32,\"low_freq_factor\":1,\"high_freq_factor\":4}}",
		NULL, NULL);
	cr_expect(c.rope_scaling == TT_ROPE_LLAMA3 && c.rope_factor == 32 && c.rope_original_context == 64);
	c = good("{" BASE ",\"original_max_position_embeddings\":32,\"rope_parameters\":{\"rope_type\":\"llama3\","
		 "\"factor\":32,\"low_freq_factor\":1,\"high_freq_factor\":4,\"original_max_position_embeddings\":16}}",
		NULL, NULL);
	cr_expect_eq(c.rope_original_context, 32);
}

Test(config, reads_what_transformers_saved)
{
	struct tt_config c;
	struct tt_error err = {0};
	cr_assert_eq(tt_config_from_directory(&c, TT_TEST_DATA "/weights/tiny", &err), TT_OK, "%s", err.message);
	cr_expect(c.vocab_size == 24 && c.hidden_size == 16 && c.ffn_size == 20 && c.n_layers == 1);
	cr_expect(c.n_heads == 2 && c.n_kv_heads == 1 && c.head_dim == 4 && c.context_length == 64);
	cr_expect(c.attention_bias && c.mlp_bias && !c.tied_output && c.add_bos && c.bos == 1);
	cr_expect(c.rope_scaling == TT_ROPE_LINEAR && c.rope_factor == 4 && c.rope_theta == 20000);
	cr_expect(c.n_eos == 2 && c.eos[0] == 2 && c.eos[1] == 5);
}

#define PHI3 OF("Phi3", "phi3") ",\"num_key_value_heads\":2,\"hidden_act\":\"silu\""
#define FACTORS "\"short_factor\":[1,1,1,1,1,1,1,2],\"long_factor\":[1,2,3,4,5,6,7,8.5]"

Test(config, longrope)
{
	struct tt_config c =
		good("{" PHI3 ",\"max_position_embeddings\":131072,\"original_max_position_embeddings\":4096,"
		     "\"rope_scaling\":{\"type\":\"longrope\"," FACTORS "}}",
			NULL, NULL);
	float frequencies[2][8];
	cr_expect(c.rope_scaling == TT_ROPE_LONGROPE && c.rope_original_context == 4096 && c.context_length == 131072);
	cr_expect(c.rope_short[7] == 2 && c.rope_long[7] == 8.5f && c.sliding_window == 0 && c.rms_norm_eps == 1e-5f);
	/* sqrt(1 + log(32) / log(4096)) */
	cr_expect_float_eq(c.rope_attention_factor, 1.1902380714f, 1e-6f);
	cr_expect_float_eq(tt_config_attention_scale(&c), (1 + 5.0 / 12) / 4, 1e-7f);
	tt_config_inverse_frequencies(&c, 4096, false, frequencies[0]);
	tt_config_inverse_frequencies(&c, 4097, false, frequencies[1]);
	cr_expect_float_eq(frequencies[0][7] / frequencies[1][7], 4.25f, 1e-6f);
	c = good("{" PHI3 ",\"rope_parameters\":{\"rope_type\":\"longrope\",\"rope_theta\":7,\"factor\":1," FACTORS
		 "}}",
		NULL, NULL);
	cr_expect(c.rope_theta == 7 && c.rope_attention_factor == 1 && c.rope_original_context == 4096);
	c = good("{" PHI3 ",\"rope_scaling\":{\"type\":\"su\",\"attention_factor\":1.5," FACTORS "}}", NULL, NULL);
	cr_expect(c.rope_scaling == TT_ROPE_LONGROPE && c.rope_attention_factor == 1.5f);
}

#define GEMMA3 OF("Gemma3", "gemma3_text")

Test(config, gemma)
{
	struct tt_config c = good("{" OF("Gemma2", "gemma2") "}", NULL, NULL);
	cr_expect(c.post_norms && c.activation == TT_GELU_TANH && c.embedding_scale == 8 && !c.head_norms);
	cr_expect(c.attention_soft_cap == 50 && c.logit_soft_cap == 30 && c.query_scale == 256 && c.tied_output);
	cr_expect(c.head_dim == 256 && c.n_kv_heads == 4 && c.context_length == 8192 && !tt_config_has_local_rope(&c));
	cr_expect(tt_config_window(&c, 0) == 4096 && tt_config_window(&c, 1) == 0);
	c = good("{" OF("Gemma2", "gemma2") ",\"attn_logit_softcapping\":null,\"final_logit_softcapping\":null}", NULL,
		NULL);
	cr_expect(c.attention_soft_cap == 0 && c.logit_soft_cap == 0);
	c = good("{" OF("Gemma2", "gemma2") ",\"sliding_window_pattern\":1}", NULL, NULL);
	cr_expect_eq(tt_config_window(&c, 0), 4096, "a key of Gemma 3's");

	c = good("{" GEMMA3 ",\"sliding_window_pattern\":2,\"rope_theta\":7e5,\"rope_local_base_freq\":3000,"
		 "\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":8}}",
		NULL, NULL);
	cr_expect(c.head_norms && c.attention_soft_cap == 0 && c.logit_soft_cap == 0 && c.context_length == 131072);
	cr_expect(tt_config_window(&c, 0) == 4096 && tt_config_window(&c, 1) == 0 && tt_config_has_local_rope(&c));
	cr_expect(c.rope_theta == 7e5f && c.rope_local_theta == 3000 && c.rope_scaling == TT_ROPE_LINEAR);
	struct tt_config newer =
		good("{" GEMMA3 ",\"layer_types\":[\"sliding_attention\",\"full_attention\"],"
		     "\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"linear\",\"factor\":8,"
		     "\"rope_theta\":7e5},\"sliding_attention\":{\"rope_type\":\"default\",\"rope_theta\":3000}}}",
			NULL, NULL);
	cr_expect(newer.rope_theta == 7e5f && newer.rope_local_theta == 3000 && newer.rope_factor == 8);
	cr_expect(newer.rope_scaling == TT_ROPE_LINEAR && newer.full_layers[0] == c.full_layers[0]);
	/* The values that the files of models with vision leave out. */
	struct tt_config seeing =
		good("{\"model_type\":\"gemma3\",\"eos_token_id\":[1,106],\"text_config\":{\"hidden_size\":2560,"
		     "\"intermediate_size\":10240,\"model_type\":\"gemma3_text\",\"num_hidden_layers\":34,"
		     "\"rope_scaling\":{\"factor\":8.0,\"rope_type\":\"linear\"},\"sliding_window\":1024}}",
			"{\"bos_token_id\":2}", "{\"add_bos_token\":true}");
	cr_expect(seeing.n_heads == 8 && seeing.n_kv_heads == 4 && seeing.vocab_size == 262208 && seeing.n_eos == 2);
	cr_expect(seeing.bos == 2 && seeing.add_bos && seeing.sliding_window == 1024 && seeing.rope_factor == 8);
	cr_expect(tt_config_window(&seeing, 4) == 1024 && tt_config_window(&seeing, 5) == 0);
	float global[128], local[128];
	tt_config_inverse_frequencies(&c, 0, false, global);
	tt_config_inverse_frequencies(&c, 0, true, local);
	cr_expect(global[0] == 0.125f && local[0] == 1);
	c = good("{" GEMMA3 "}", NULL, NULL); /* every 6th of 2 */
	cr_expect(c.rope_theta == 1e6f && c.rope_local_theta == 1e4f && c.full_layers[0] == 0);
	cr_expect_eq(c.query_scale, 256);
	c = good("{" GEMMA3 ",\"query_pre_attn_scalar\":168}", NULL, NULL);
	cr_expect_eq(c.query_scale, 168);
	c = good("{" BASE ",\"query_pre_attn_scalar\":168}", NULL, NULL);
	cr_expect_eq(c.query_scale, 0, "Llama has no such key");
}

#define ROPE "\"rope_scaling\":{"

static const struct {
	const char *config, *words;
} REFUSED[] = {
	{"", "not valid JSON"},
	{"[]", "not an object"},
	{"{}", "architectures and model_type are missing"},
	{"{\"architectures\":[\"GPT2LMHeadModel\"],\"model_type\":\"gpt2\"}",
		"\"GPT2LMHeadModel\" is not supported (supported: LlamaForCausalLM, MistralForCausalLM, "
		"Qwen2ForCausalLM"},
	{"{\"architectures\":[\"Qwen3ForCausalLM\"],\"model_type\":\"llama\"}", "contradict"},
	{"{" BASE ",\"use_sliding_window\":true}", "use_sliding_window"},
	{"{" BASE ",\"layer_types\":[\"full_attention\",\"sliding_attention\"]}", "sliding_attention"},
	{"{" BASE ",\"layer_types\":[\"full_attention\"]}", "layer_types is not a list of num_hidden_layers (2) names"},
	{"{" BASE ",\"layer_types\":[\"full_attention\",\"chunked_attention\"]}",
		"\"chunked_attention\" is not supported"},
	{"{" OF("Mistral", "mistral") ",\"layer_types\":[\"full_attention\",\"sliding_attention\"]}",
		"layer_types: full_attention in layer 0"},
	{"{" OF("Qwen2", "qwen2") ",\"use_sliding_window\":true,\"sliding_window\":0}", "sliding_window"},
	{"{\"model_type\":\"gpt2\"}", "\"gpt2\" is not supported (supported: llama, mistral, qwen2, qwen3"},
	{"{\"architectures\":\"LlamaForCausalLM\"}", "architectures is not a list"},
	{"{\"architectures\":[],\"model_type\":\"llama\"}", "architectures is not a list"},
	{"{\"architectures\":[3]}", "architectures is not a list"},
	{"{\"model_type\":\"llama\"}", "num_hidden_layers is missing"},
	{"{" BASE ",\"hidden_act\":\"gelu\"}", "hidden_act \"gelu\" is not supported (supported: silu)"},
	{"{" BASE ",\"hidden_act\":1}", "hidden_act"},
	{"{" BASE ",\"quantization_config\":{}}", "quantization_config: quant_method is missing"},
	{"{" BASE ",\"quantization_config\":{\"quant_method\":\"gptq\"}}",
		"quant_method \"gptq\" is not supported (supported: fp8, fbgemm_fp8, compressed-tensors)"},
	{"{" BASE ",\"quantization_config\":{\"quant_method\":\"fp8\",\"fmt\":\"e5m2\"}}",
		"fmt \"e5m2\" is not supported"},
	{"{" BASE ",\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[128,64]}}",
		"weight_block_size is not supported but for [128, 128]"},
	{"{" BASE ",\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":128}}",
		"weight_block_size"},
	{"{" BASE ",\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"format\":\"pack-quantized\"}}",
		"format \"pack-quantized\" is not supported (supported: float-quantized)"},
	{"{" BASE ",\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"sparsity_config\":"
	 "{\"format\":\"sparse-24-bitmask\"}}}",
		"format \"sparse-24-bitmask\" is not supported"},
	{"{" BASE ",\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"transform_config\":"
	 "{\"config_groups\":{}}}}",
		"transform_config is not supported"},
	{"{" BASE ",\"compression_config\":{\"quant_method\":\"gptq\"}}",
		"compression_config: quant_method \"gptq\" is not supported"},
	{"{" BASE ",\"partial_rotary_factor\":0.5}", "partial_rotary_factor 0.5"},
	{"{" BASE ",\"vocab_size\":100}", "duplicate"},
	{"{" BASE ",\"num_key_value_heads\":0}", "num_key_value_heads"},
	{"{" BASE ",\"num_key_value_heads\":-1}", "num_key_value_heads"},
	{"{" BASE ",\"num_key_value_heads\":1.0}", "num_key_value_heads"},
	{"{" BASE ",\"num_key_value_heads\":3}", "n_kv_heads 3"},
	{"{" BASE ",\"num_key_value_heads\":8}", "n_kv_heads 8"},
	{"{" BASE ",\"head_dim\":0}", "head_dim"},
	{"{" BASE ",\"head_dim\":15}", "head_dim 15 is odd"},
	{"{" BASE ",\"head_dim\":131072}", "n_heads 4 times head_dim 131072"},
	{"{" BASE ",\"max_position_embeddings\":0}", "max_position_embeddings"},
	{"{" BASE ",\"rms_norm_eps\":0}", "rms_norm_eps"},
	{"{" BASE ",\"rms_norm_eps\":-1e-6}", "rms_norm_eps"},
	{"{" BASE ",\"rms_norm_eps\":\"1e-6\"}", "rms_norm_eps"},
	{"{" BASE ",\"tie_word_embeddings\":1}", "tie_word_embeddings"},
	{"{" BASE ",\"rope_theta\":0}", "rope_theta"},
	{"{" BASE ",\"rope_theta\":-5}", "rope_theta"},
	{"{" BASE ",\"rope_theta\":1e300}", "rope_theta"},
	{"{" BASE ",\"rope_scaling\":\"linear\"}", "rope_scaling is not an object"},
	{"{" BASE "," ROPE "\"type\":\"yarn\",\"factor\":2}}", "rope_scaling: rope_type \"yarn\" is not supported"},
	{"{" BASE "," ROPE "\"type\":\"dynamic\",\"factor\":2}}", "\"dynamic\" is not supported"},
	{"{" BASE "," ROPE "\"rope_type\":3}}", "rope_type"},
	{"{" BASE "," ROPE "\"type\":\"linear\"}}", "rope_scaling: factor is missing"},
	{"{" PHI3 "," ROPE "\"type\":\"longrope\"}}", "short_factor is not a list of head_dim / 2 = 8 numbers"},
	{"{" PHI3 "," ROPE "\"type\":\"longrope\",\"short_factor\":[1,1,1,1,1,1,1,1],\"long_factor\":[1]}}",
		"long_factor is not a list"},
	{"{" PHI3 "," ROPE "\"type\":\"longrope\",\"short_factor\":[1,1,1,1,1,1,1,\"1\"]}}", "short_factor: number 7"},
	{"{" PHI3 "," ROPE
	 "\"type\":\"longrope\",\"short_factor\":[1,1,1,0,1,1,1,1],\"long_factor\":[1,1,1,1,1,1,1,1]}}",
		"factors 3, 0 and 1, are not positive"},
	{"{" PHI3 "," ROPE "\"type\":\"longrope\",\"attention_factor\":0," FACTORS "}}", "attention factor 0"},
	{"{" PHI3 ",\"original_max_position_embeddings\":0," ROPE "\"type\":\"longrope\"," FACTORS "}}",
		"original_max_position_embeddings"},
	{"{" OF("Gemma2", "gemma2") ",\"hidden_activation\":\"gelu\"}",
		"\"gelu\" is not supported (supported: gelu_pytorch_tanh)"},
	{"{" OF("Gemma2", "gemma2") ",\"query_pre_attn_scalar\":0}", "query_pre_attn_scalar"},
	{"{" OF("Gemma2", "gemma2") ",\"final_logit_softcapping\":-1}", "final_logit_softcapping"},
	{"{" OF("Gemma2", "gemma2") ",\"sliding_window\":null}", "without a sliding_window"},
	{"{" GEMMA3 ",\"attn_logit_softcapping\":50}", "attn_logit_softcapping is not supported for gemma3"},
	{"{" GEMMA3 ",\"use_bidirectional_attention\":true}", "use_bidirectional_attention"},
	{"{" GEMMA3 ",\"sliding_window_pattern\":0}", "sliding_window_pattern"},
	{"{" GEMMA3 ",\"rope_local_base_freq\":0}", "rope_local_base_freq"},
	{"{" GEMMA3 ",\"rope_parameters\":{\"sliding_attention\":{\"rope_type\":\"linear\",\"factor\":2}}}",
		"sliding_attention: rope_type \"linear\""},
	{"{\"architectures\":[\"Gemma3ForConditionalGeneration\"],\"model_type\":\"gemma3\"}",
		"text_config is missing"},
	{"{\"model_type\":\"gemma3\",\"text_config\":{\"hidden_activation\":\"gelu\"}}", "gelu_pytorch_tanh"},
	{"{" PHI3 ",\"partial_rotary_factor\":0.75}", "partial_rotary_factor 0.75 is not supported"},
	{"{" BASE "," ROPE "\"type\":\"linear\",\"factor\":0}}", "factor 0 is not positive"},
	{"{" BASE "," ROPE "\"type\":\"linear\",\"factor\":-2}}", "rope_scaling: factor"},
	{"{" BASE "," ROPE "\"rope_type\":\"llama3\",\"factor\":8}}", "low_freq_factor is missing"},
	{"{" BASE "," ROPE "\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,\"high_freq_factor\":4}}",
		"0 < low < high"},
	{"{" BASE "," ROPE "\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":0,\"high_freq_factor\":4}}",
		"0 < low < high"},
	{"{" BASE "," ROPE "\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,\"high_freq_factor\":4,"
	 "\"original_max_position_embeddings\":0}}",
		"original_max_position_embeddings"},
	{"{" BASE ",\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"default\"}}}", "layer type"},
	{"{" BASE ",\"rope_parameters\":{\"partial_rotary_factor\":0.25,\"rope_type\":\"default\"}}",
		"rope_parameters: partial_rotary_factor"},
	{"{" BASE ",\"bos_token_id\":100}", "bos token 100"},
	{"{" BASE ",\"bos_token_id\":-1}", "bos_token_id"},
	{"{" BASE ",\"eos_token_id\":100}", "eos token 100"},
	{"{" BASE ",\"eos_token_id\":[1,\"2\"]}", "eos_token_id"},
	{"{" BASE ",\"eos_token_id\":[1,2,3,4,5,6,7,8,9]}", "more than 8 eos"},
	{"{" BASE ",\"eos_token_id\":-1}", "eos_token_id"},
	{"{\"model_type\":\"llama\",\"vocab_size\":0,\"hidden_size\":64,\"intermediate_size\":96,"
	 "\"num_hidden_layers\":2,\"num_attention_heads\":4}",
		"vocab_size"},
	{"{\"model_type\":\"llama\",\"vocab_size\":9,\"hidden_size\":64,\"intermediate_size\":96,"
	 "\"num_hidden_layers\":2,\"num_attention_heads\":0}",
		"num_attention_heads"},
	{"{\"model_type\":\"llama\",\"vocab_size\":9,\"hidden_size\":64,\"intermediate_size\":96,"
	 "\"num_hidden_layers\":2,\"num_attention_heads\":5}",
		"hidden_size 64 is not a multiple of num_attention_heads 5"},
	{"{\"model_type\":\"llama\",\"vocab_size\":9,\"hidden_size\":64,\"intermediate_size\":96,"
	 "\"num_hidden_layers\":2000,\"num_attention_heads\":4}",
		"num_hidden_layers"},
	{"{\"model_type\":\"llama\",\"vocab_size\":9,\"hidden_size\":99999999999,\"intermediate_size\":96,"
	 "\"num_hidden_layers\":2,\"num_attention_heads\":4}",
		"hidden_size"},
};

Test(config, refuses_by_field)
{
	struct scratch s;
	scratch_make(&s);
	for (size_t i = 0; i < sizeof REFUSED / sizeof *REFUSED; i++) {
		struct tt_config c;
		struct tt_error err = {0};
		int status = read_config(&c, &s, REFUSED[i].config, NULL, NULL, &err);
		expect_refused(status, &err, REFUSED[i].config, "config.json", REFUSED[i].words);
	}
	struct tt_config c;
	struct tt_error err = {0};
	int status = read_config(&c, &s, "{" BASE "}", "{\"eos_token_id\":101}", NULL, &err);
	expect_refused(status, &err, "generation", "generation_config.json", "eos token 101");
	status = read_config(&c, &s, "{" BASE "}", NULL, "{\"add_bos_token\":3}", &err);
	expect_refused(status, &err, "tokenizer", "tokenizer_config.json", "add_bos_token");
	status = read_config(&c, &s, NULL, NULL, NULL, &err);
	expect_refused(status, &err, "absent", "config.json", "cannot open");
	scratch_remove(&s, FILES, 0);
}

/* One power, one division and the scaling's few operations, each rounded once: transformers' vectorised power may
 * round its last place otherwise, and 4 units of 2^-24 are left for what follows from that. */
static void expect_frequencies(const struct tt_config *c, const char *name)
{
	struct tt_safetensors *file = NULL;
	struct tt_error err = {0};
	float got[64];
	cr_assert_eq(tt_safetensors_open(&file, TT_TEST_DATA "/weights/frequencies.safetensors", &err), TT_OK, "%s",
		err.message);
	const struct tt_st_tensor *want = tt_safetensors_find(file, name);
	cr_assert_eq(want->n_elements, c->head_dim / 2);
	tt_config_inverse_frequencies(c, 0, false, got);
	for (uint32_t i = 0; i < c->head_dim / 2; i++)
		cr_expect_lt(fabsf(got[i] / tt_st_float(want, i) - 1), 4 * 0x1p-24f, "%s %u: %.9g, %.9g", name, i,
			(double)got[i], (double)tt_st_float(want, i));
	tt_safetensors_close(file);
}

Test(config, frequencies_are_those_of_transformers)
{
	expect_frequencies(&(struct tt_config){.head_dim = 64, .rope_theta = 100000}, "none");
	expect_frequencies(
		&(struct tt_config){
			.head_dim = 32, .rope_theta = 10000, .rope_scaling = TT_ROPE_LINEAR, .rope_factor = 3},
		"linear");
	expect_frequencies(&(struct tt_config){.head_dim = 128,
				   .rope_theta = 500000,
				   .rope_scaling = TT_ROPE_LLAMA3,
				   .rope_factor = 8,
				   .rope_low_freq_factor = 1,
				   .rope_high_freq_factor = 4,
				   .rope_original_context = 8192},
		"llama3");
}

Test(config, gguf_keys_and_its_rope_factors)
{
	struct tt_gguf *file = NULL;
	struct tt_config c;
	struct tt_error err = {0};
	float plain[8], divided[8];
	cr_assert_eq(tt_gguf_open(&file, TT_TEST_DATA "/weights/tiny.gguf", &err), TT_OK, "%s", err.message);
	cr_assert_eq(tt_config_from_gguf(&c, file, &err), TT_OK, "%s", err.message);
	cr_expect(c.n_layers == 2 && c.hidden_size == 32 && c.n_heads == 2 && c.n_kv_heads == 1 && c.head_dim == 16);
	cr_expect(c.ffn_size == 64 && c.vocab_size == 40 && c.context_length == 128 && c.rms_norm_eps == 1e-5f);
	cr_expect(c.rope_theta == 50000 && c.rope_scaling == TT_ROPE_NONE && c.rope_interleaved && !c.tied_output);
	cr_expect(c.bos == 1 && c.n_eos == 2 && c.eos[0] == 2 && c.eos[1] == 3 && c.add_bos);
	/* The golden's factors run evenly from 1 to 8. */
	cr_assert_not_null(c.rope_factors);
	tt_config_inverse_frequencies(&c, 0, false, divided);
	c.rope_factors = NULL;
	tt_config_inverse_frequencies(&c, 0, false, plain);
	for (int i = 0; i < 8; i++)
		cr_expect_eq(divided[i], plain[i] / (float)(i + 1), "%d", i);
	tt_gguf_close(file);
}

/* Every `from` of a golden model becomes `to`, which is as long; the model is refused for `words`, or read where they
 * are NULL. */
static void check_changed_gguf(const char *name, const char *from, const char *to, const char *words)
{
	struct tt_buffer bytes = {0};
	struct scratch s;
	struct tt_gguf *file = NULL;
	struct tt_config c;
	struct tt_error err = {0};
	char path[512];
	size_t n = strlen(from), changed = 0;
	snprintf(path, sizeof path, "%s/%s", TT_TEST_DATA, name);
	cr_assert_eq(tt_file_read(&bytes, path, 1 << 24, &err), TT_OK, "%s", err.message);
	for (size_t i = 0; i + n <= bytes.len; i++)
		if (!memcmp(bytes.data + i, from, n)) {
			memcpy(bytes.data + i, to, n);
			changed++;
		}
	cr_assert(changed && strlen(to) == n, "%s", from);
	scratch_make(&s);
	scratch_write(&s, "model.gguf", bytes.data, bytes.len);
	cr_assert_eq(tt_gguf_open(&file, s.path, &err), TT_OK, "%s", err.message);
	int status = tt_config_from_gguf(&c, file, &err);
	if (words)
		cr_expect(status < 0 && strstr(err.message, words), "%s: %s", to, err.message);
	else
		cr_expect_eq(status, TT_OK, "%s: %s", to, err.message);
	tt_gguf_close(file);
	static const char *const names[] = {"model.gguf"};
	scratch_remove(&s, names, 1);
	tt_buffer_free(&bytes);
}

Test(config, gguf_refuses_what_another_architecture_has)
{
	static const char phi3[] = "tiny-phi3/tiny-phi3.q8_0.gguf", gemma2[] = "tiny-gemma2/tiny-gemma2.q8_0.gguf";
	static const char qwen2[] = "tiny-qwen2/tiny-qwen2.q8_0.gguf";
	check_changed_gguf(phi3, "rope_factors_short", "rope_factors_shirt", "longrope needs the tensors");
	check_changed_gguf(phi3, "phi3.rope.scaling.orig", "phi3.rope.scaling.orug", NULL); /* the context's length */
	check_changed_gguf(gemma2, "gemma2", "gemma3", "key gemma3.attn_logit_softcapping is not supported");
	check_changed_gguf(gemma2, "gemma2.attn_logit_soft", "gemma2.attn_logit_saft", NULL); /* 50 */
	check_changed_gguf(
		qwen2, "qwen2.feed_forward_length", "qwen2.feed_forwird_length", "feed_forward_length is missing");
}

/* Another key of the file, or another tensor, takes the name of what makes the model a different one. */
Test(config, gguf_refuses_what_changes_the_model)
{
	static const char phi3[] = "tiny-phi3/tiny-phi3.q8_0.gguf", qwen2[] = "tiny-qwen2/tiny-qwen2.q8_0.gguf";
	check_changed_gguf(phi3, "general.file_type", "phi3.expert_count", "mixtures of experts are not supported");
	check_changed_gguf("weights/tiny.gguf", "test.string", "split.count", "key split.count is not supported");
	check_changed_gguf(qwen2, "attention.key_length", "attention.kay_length", "16 differs from key_length 8");
	check_changed_gguf(qwen2, "tokenizer.chat_template", "qwen2.rope.scaling.type", "is not supported (supported:");
	check_changed_gguf(qwen2, "blk.0.attn_q.bias", "rope_freqs.weight", "rope_freqs.weight must be F32 [8]");
	check_changed_gguf(qwen2, "smollm", "llama3", NULL); /* a pre-tokenizer whose text begins with bos */
}
