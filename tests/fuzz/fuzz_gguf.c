/* A GGUF file as far as a model: tensors, configuration, tokenizer, chat template, weights. */
#include <stdlib.h>

#include "runtime/text/chat.h"
#include "runtime/text/tokenizer/tokenizer.h"
#include "target.h"
#include "weights/config.h"
#include "weights/gguf.h"
#include "weights/model.h"
#include "weights/quant.h"

static volatile float sink;

/* The first and the last elements of every tensor that can be read. */
static void read_tensors(const struct tt_gguf *file)
{
	float numbers[512];
	for (size_t i = 0; i < file->n_tensors; i++) {
		const struct tt_gguf_tensor *t = &file->tensors[i];
		if (!tt_type_in_gguf(t->type) || tt_gguf_tensor(file, t->name) != t)
			continue;
		enum tt_type type = (enum tt_type)t->type;
		size_t block = tt_type_block_bytes(type), n = tt_type_block(type);
		if (t->n_bytes < block)
			continue;
		tt_dequantise(type, t->data, numbers, n);
		sink = numbers[0];
		tt_dequantise(type, (const uint8_t *)t->data + t->n_bytes - block, numbers, n);
		sink = numbers[0];
	}
}

static void read_values(const struct tt_gguf *file)
{
	for (size_t i = 0; i < file->n_values; i++) {
		const struct tt_gguf_value *v = &file->values[i];
		if (v->element != TT_GGUF_STRING && v->count)
			sink = (float)tt_gguf_number(v, v->count - 1);
		const uint8_t *cursor = v->data;
		for (uint64_t k = 0; v->element == TT_GGUF_STRING && k < v->count; k++) {
			struct tt_gguf_string text = tt_gguf_next_string(&cursor);
			sink = text.len ? (float)text.data[text.len - 1] : 0;
		}
	}
}

static void read_text(const struct tt_gguf *file)
{
	static const char text[] = "Hello <s>\xc3\xa9 wor\xe2\x96\x81ld 123\n";
	struct tt_tokenizer *tokenizer = NULL;
	struct tt_chat_template chat;
	struct tt_error err;
	struct tt_ids ids = {0};
	char *decoded = NULL;
	if (tt_tokenizer_from_gguf(&tokenizer, file, &err) == TT_OK &&
		tt_tokenizer_encode(
			tokenizer, text, sizeof text - 1, NULL, TT_ENCODE_SPECIAL | TT_ENCODE_BOS, &ids, &err) == TT_OK)
		tt_tokenizer_decode(tokenizer, ids.data, ids.len, &decoded, &err);
	free(decoded);
	tt_ids_free(&ids);
	tt_tokenizer_free(tokenizer);
	if (tt_chat_from_gguf(&chat, file, &err) == TT_OK)
		tt_chat_free(&chat);
}

void fuzz_one(const uint8_t *data, size_t size)
{
	struct tt_gguf *file = NULL;
	struct tt_model *model = NULL;
	struct tt_config config;
	struct tt_error err;
	fuzz_file_set("model.gguf", data, size);
	if (tt_gguf_open(&file, "model.gguf", &err) != TT_OK)
		return;
	read_values(file);
	read_tensors(file);
	read_text(file);
	if (tt_config_from_gguf(&config, file, &err) == TT_OK)
		tt_model_open(&model, "model.gguf", &err);
	tt_model_close(model);
	tt_gguf_close(file);
}
