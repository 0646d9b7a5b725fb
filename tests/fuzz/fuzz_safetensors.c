/* A safetensors file alone and as the weights of a directory. An input that begins with { is an index, and the shard
 * that it names follows. */
#define _GNU_SOURCE /* memmem */
#include <string.h>

#include "target.h"
#include "weights/model.h"
#include "weights/safetensors.h"

static volatile float sink;

static const char config[] = "{\"architectures\":[\"LlamaForCausalLM\"],\"num_hidden_layers\":1,\"hidden_size\":4,"
			     "\"intermediate_size\":4,\"vocab_size\":2,\"num_attention_heads\":1,\"rms_norm_eps\":1e-5,"
			     "\"max_position_embeddings\":8,\"tie_word_embeddings\":true}";

/* Rows of 32, which weights of eight bits are read in. */
static const char wide_config[] =
	"{\"architectures\":[\"LlamaForCausalLM\"],\"num_hidden_layers\":1,\"hidden_size\":32,"
	"\"intermediate_size\":4,\"vocab_size\":2,\"num_attention_heads\":1,\"head_dim\":2,"
	"\"rms_norm_eps\":1e-5,\"max_position_embeddings\":8,\"tie_word_embeddings\":true,"
	"\"quantization_config\":{\"quant_method\":\"fp8\"}}";

static void read_file(void)
{
	struct tt_safetensors *file = NULL;
	struct tt_error err;
	if (tt_safetensors_open(&file, "model.safetensors", &err) != TT_OK)
		return;
	for (size_t i = 0; i < file->n_tensors; i++) {
		const struct tt_st_tensor *t = &file->tensors[i];
		const uint8_t *bytes = t->data;
		if (tt_safetensors_find(file, t->name) && t->n_bytes)
			sink = tt_st_float(t, t->n_elements - 1) + tt_st_float(t, 0) + bytes[t->n_bytes - 1];
	}
	for (size_t i = 0; i < file->n_metadata; i++)
		sink = (float)strlen(tt_safetensors_metadata(file, file->metadata[i].key));
	tt_safetensors_close(file);
}

void fuzz_one(const uint8_t *data, size_t size)
{
	struct tt_model *model = NULL;
	struct tt_error err;
	fuzz_files_clear();
	if (size && memmem(data, size, "_scale", 6))
		fuzz_file_set("config.json", wide_config, sizeof wide_config - 1);
	else
		fuzz_file_set("config.json", config, sizeof config - 1);
	if (size && *data == '{') {
		struct fuzz_part index = fuzz_take_part(&data, &size);
		fuzz_file_set("model.safetensors.index.json", index.data, index.n);
		fuzz_file_set("a.safetensors", data, size);
	} else {
		fuzz_file_set("model.safetensors", data, size);
		read_file();
	}
	tt_model_open(&model, "directory", &err);
	tt_model_close(model);
}
