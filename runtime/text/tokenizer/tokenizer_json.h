#ifndef RUNTIME_TEXT_TOKENIZER_TOKENIZER_JSON_H
#define RUNTIME_TEXT_TOKENIZER_TOKENIZER_JSON_H

#include <jansson.h>

#include "runtime/text/tokenizer/tokenizer_internal.h"

/* The parts around the model: normalizer, pre_tokenizer, post_processor and decoder. Tokens have been read. */
int tt_tokenizer_json_steps(struct tt_vocabulary *vocabulary, const json_t *root, struct tt_error *err);

#endif
