/* The rest of the runtime's access to a struct tt_text, which holds a tokenizer and a chat template. */
#ifndef RUNTIME_TEXT_TEXT_H
#define RUNTIME_TEXT_TEXT_H

#include "runtime/text/chat.h"
#include "runtime/text/tokenizer/tokenizer.h"
#include "runtime/trimtab.h"
#include "weights/model.h"

/* The tokenizer of a text, borrowed; NULL if it has only a template. */
const struct tt_tokenizer *tt_text_tokenizer(const struct tt_text *text);
/* Its chat template, borrowed; without a source if it has none. */
const struct tt_chat_template *tt_text_template(const struct tt_text *text);
/* Makes a text from an open model. It keeps no reference to the model. */
int tt_text_from_model(struct tt_text **out, const struct tt_model *model, struct tt_error *err);
/* Renders by another template from now on: one that tt_chat_named knows, else that of a file. bos and eos stay. */
int tt_text_take_template(struct tt_text *text, const char *name_or_path, struct tt_error *err);
/* Of a template that was taken, the SHA-256 of its source, and its file, absolute; borrowed, NULL where there is none.
 */
const char *tt_text_template_sha256(const struct tt_text *text);
const char *tt_text_template_path(const struct tt_text *text);
/* How many ids stand in front of what is encoded with these flags: those that an empty text has. */
int tt_text_n_front(const struct tt_text *text, unsigned flags, size_t *n, struct tt_error *err);

#endif
