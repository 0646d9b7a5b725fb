/* A model's chat template: found in GGUF metadata or in a Hugging Face directory, rendered over messages. */
#ifndef RUNTIME_TEXT_CHAT_H
#define RUNTIME_TEXT_CHAT_H

#include <stdbool.h>

#include "runtime/text/jinja/jinja.h"

struct tt_gguf;

struct tt_chat_template {
	struct tt_jinja *jinja; /* NULL when the model has none */
	char *source;           /* its text */
	char *bos_token, *eos_token;
};

/* GGUF: tokenizer.chat_template. Directory: chat_template.jinja, else tokenizer_config.json (a string, or the entry
 * named "default" of a list). A model without one is no error; a template that cannot be parsed is kept as source and
 * refused with its reason when it is used. */
int tt_chat_from_gguf(struct tt_chat_template *out, const struct tt_gguf *file, struct tt_error *err);
int tt_chat_from_directory(struct tt_chat_template *out, const char *directory, struct tt_error *err);
/* A template alone, with the tokens it may name (NULL for empty). */
int tt_chat_from_source(struct tt_chat_template *out, const char *source, size_t n, const char *name,
	const char *bos_token, const char *eos_token, struct tt_error *err);
void tt_chat_free(struct tt_chat_template *chat);

/* conversation: an array of {"role", "content", ...}, or an object of such "messages" and "tools" and "documents". now: 0 for the present. */
int tt_chat_render(const struct tt_chat_template *chat, const json_t *conversation, bool add_generation_prompt,
	time_t now, struct tt_buffer *text, struct tt_buffer *untrusted, struct tt_error *err);

#endif
