/* Splits text into the words that byte pair merging then treats one by one: stages of patterns and digit splitting, each
 * cutting the pieces of the one before. */
#ifndef RUNTIME_TEXT_TOKENIZER_PRETOKENIZE_H
#define RUNTIME_TEXT_TOKENIZER_PRETOKENIZE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/tt_error.h"

enum { TT_PRETOKENIZER_MAX_STAGES = 16 };

struct tt_pretokenizer_stage; /* private */

struct tt_pretokenizer {
	struct tt_pretokenizer_stage *stages; /* [TT_PRETOKENIZER_MAX_STAGES] */
	size_t n_stages;
};

/* GPT-2's pattern, which the ByteLevel pre-tokenizer brings with it. */
extern const char tt_pattern_gpt2[];

int tt_pretokenizer_init(struct tt_pretokenizer *pretokenizer, struct tt_error *err);
void tt_pretokenizer_free(struct tt_pretokenizer *pretokenizer);

/* Every match of the pattern, and what lies between matches, is a piece. name stands in messages. literal: the pattern
 * is text, not an expression. */
int tt_pretokenizer_add_pattern(struct tt_pretokenizer *pretokenizer, const char *pattern, size_t n, bool literal,
	const char *name, struct tt_error *err);
/* Cuts out single numeric characters, or runs of them. */
int tt_pretokenizer_add_digits(struct tt_pretokenizer *pretokenizer, bool individual, struct tt_error *err);
/* Cuts out single characters of punctuation, or runs of them (as `tokenizers` has it: Unicode 8 and ASCII's symbols). */
int tt_pretokenizer_add_punctuation(
	struct tt_pretokenizer *pretokenizer, bool runs, const char *name, struct tt_error *err);
/* What stands behind ByteLevel sees its alphabet: runs of numeric characters, or [0-9][0-9][0-9]. Pieces may end inside
 * a code point, so nothing else may follow. */
int tt_pretokenizer_add_byte_digits(struct tt_pretokenizer *pretokenizer, bool threes, struct tt_error *err);

/* What else the tokenizer.json of a named pre-tokenizer says. */
struct tt_named_pretokenizer {
	bool nfc, ignore_merges;
};
/* The stages that GGUF's tokenizer.ggml.pre stands for; TT_ERR_UNSUPPORTED for a name that is not known. */
int tt_pretokenizer_add_named(struct tt_pretokenizer *pretokenizer, const char *name, size_t n,
	struct tt_named_pretokenizer *also, struct tt_error *err);

/* What one thread needs to run the patterns. */
struct tt_pretokenize_run {
	void *match, *context, *stack; /* PCRE2's */
};
int tt_pretokenize_begin(struct tt_pretokenize_run *run, struct tt_error *err);
void tt_pretokenize_end(struct tt_pretokenize_run *run);

/* Calls take for every piece, in order. text is valid UTF-8. */
typedef int (*tt_take_piece)(void *state, const char *piece, size_t n, struct tt_error *err);
int tt_pretokenize(const struct tt_pretokenizer *pretokenizer, struct tt_pretokenize_run *run, const char *text,
	size_t n, tt_take_piece take, void *state, struct tt_error *err);

#endif
