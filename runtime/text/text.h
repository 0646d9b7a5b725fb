/* A tokenizer and a chat template behind one handle, as the rest of the runtime sees it. */
#ifndef RUNTIME_TEXT_TEXT_H
#define RUNTIME_TEXT_TEXT_H

#include "runtime/text/tokenizer/tokenizer.h"
#include "runtime/trimtab.h"
#include "weights/model.h"

/* The tokenizer behind a text (NULL for a template alone). */
const struct tt_tokenizer *tt_text_tokenizer(const struct tt_text *text);
/* From an open model, sharing nothing with it. */
int tt_text_from_model(struct tt_text **out, const struct tt_model *model, struct tt_error *err);

#endif
