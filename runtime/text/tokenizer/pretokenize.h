/* Splits text into the words that byte pair merging then treats one by one. This goes in stages (patterns, digits,
 * punctuation), each of which splits the pieces of the previous one. */
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

/* GPT-2's pattern, which is part of the ByteLevel pre-tokenizer. */
extern const char tt_pattern_gpt2[];

int tt_pretokenizer_init(struct tt_pretokenizer *pretokenizer, struct tt_error *err);
void tt_pretokenizer_free(struct tt_pretokenizer *pretokenizer);

/* Adds a stage: each match of the pattern, and each stretch between matches, becomes a piece. name stands in messages.
 * literal: the pattern is text, not an expression. */
int tt_pretokenizer_add_pattern(struct tt_pretokenizer *pretokenizer, const char *pattern, size_t n, bool literal,
	const char *name, struct tt_error *err);
/* Adds a stage that cuts out numeric characters: single ones, or whole runs. */
int tt_pretokenizer_add_digits(struct tt_pretokenizer *pretokenizer, bool individual, struct tt_error *err);
/* Adds a stage that cuts out punctuation: single characters, or whole runs. Punctuation is what `tokenizers` takes for
 * it: that of Unicode 8, and ASCII's symbols. */
int tt_pretokenizer_add_punctuation(
	struct tt_pretokenizer *pretokenizer, bool runs, const char *name, struct tt_error *err);
/* Adds a stage for Digits (runs of numeric characters) or for [0-9][0-9][0-9] (threes) that comes after ByteLevel, and
 * so sees bytes as the characters of ByteLevel's alphabet. Its pieces may end inside a code point, so no other stage
 * may follow. */
int tt_pretokenizer_add_byte_digits(struct tt_pretokenizer *pretokenizer, bool threes, struct tt_error *err);

/* What a named pre-tokenizer implies besides its stages. */
struct tt_named_pretokenizer {
	bool nfc, ignore_merges;
};
/* Adds the stages that a name in GGUF's tokenizer.ggml.pre stands for; TT_ERR_UNSUPPORTED if the name is not known. */
int tt_pretokenizer_add_named(struct tt_pretokenizer *pretokenizer, const char *name, size_t n,
	struct tt_named_pretokenizer *also, struct tt_error *err);

/* The working memory that one thread needs to run the patterns. */
struct tt_pretokenize_run {
	void *match, *context, *stack; /* PCRE2's */
};
int tt_pretokenize_begin(struct tt_pretokenize_run *run, struct tt_error *err);
void tt_pretokenize_end(struct tt_pretokenize_run *run);

/* Calls take for every piece, in order. text must be valid UTF-8. */
typedef int (*tt_take_piece)(void *state, const char *piece, size_t n, struct tt_error *err);
int tt_pretokenize(const struct tt_pretokenizer *pretokenizer, struct tt_pretokenize_run *run, const char *text,
	size_t n, tt_take_piece take, void *state, struct tt_error *err);

#endif
