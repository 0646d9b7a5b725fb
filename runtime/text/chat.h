/* A model's chat template: found in GGUF metadata or in a Hugging Face directory, rendered over messages. */
#ifndef RUNTIME_TEXT_CHAT_H
#define RUNTIME_TEXT_CHAT_H

#include <stdbool.h>

#include "runtime/text/jinja/jinja.h"

struct tt_gguf;

struct tt_chat_template {
	struct tt_jinja *jinja; /* NULL if the model has no template, or one that cannot be parsed */
	char *source;           /* the template's text; NULL if the model has none */
	char *bos_token, *eos_token;
};

/* Read the template from tokenizer.chat_template of a GGUF file; from a directory's chat_template.jinja, else from its
 * tokenizer_config.json (a string, or the entry named "default" of a list). A model without a template is no error. A
 * template that cannot be parsed is kept as source, and tt_chat_render returns the reason. */
int tt_chat_from_gguf(struct tt_chat_template *out, const struct tt_gguf *file, struct tt_error *err);
int tt_chat_from_directory(struct tt_chat_template *out, const char *directory, struct tt_error *err);
/* Makes a template from its text and the tokens that it may name (NULL for empty). name stands in messages. */
int tt_chat_from_source(struct tt_chat_template *out, const char *source, size_t n, const char *name,
	const char *bos_token, const char *eos_token, struct tt_error *err);
/* chat_named.c: the source of a template that this program has itself, by its name; NULL for another name. */
const char *tt_chat_named(const char *name);
/* A role as templates know it: OpenAI's "developer" is "system", its older name, and any other itself. */
const char *tt_chat_role(const char *role);
void tt_chat_free(struct tt_chat_template *chat);

/* Appends the rendered prompt to *text, and to *untrusted a byte for each of its bytes: not 0 where it comes from the
 * conversation, and TT_JINJA_LAST_USER where from the content of its last user message. conversation: an array of
 * {"role", "content", ...}, or an object with such "messages" and perhaps "tools" and "documents". now: the time that
 * the template sees; 0 for the present. */
int tt_chat_render(const struct tt_chat_template *chat, const json_t *conversation, bool add_generation_prompt,
	time_t now, struct tt_buffer *text, struct tt_buffer *untrusted, struct tt_error *err);

#endif
