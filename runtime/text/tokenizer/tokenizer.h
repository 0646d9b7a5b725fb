/* Byte-level BPE, and SentencePiece's BPE with byte fallback, from a GGUF file's vocabulary or from Hugging Face's
 * tokenizer.json, with the ids that the `tokenizers` library gives. */
#ifndef RUNTIME_TEXT_TOKENIZER_TOKENIZER_H
#define RUNTIME_TEXT_TOKENIZER_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/tt_error.h"

struct tt_gguf;
struct tt_tokenizer;

/* Make a tokenizer from a GGUF file or from a directory. Anything that cannot be reproduced exactly (another model,
 * normalizer or pre-tokenizer) is refused by name with TT_ERR_UNSUPPORTED. The tokenizer keeps no reference to its
 * source. */
int tt_tokenizer_from_gguf(struct tt_tokenizer **out, const struct tt_gguf *file, struct tt_error *err);
/* directory holds tokenizer.json, and perhaps tokenizer_config.json. */
int tt_tokenizer_from_directory(struct tt_tokenizer **out, const char *directory, struct tt_error *err);
void tt_tokenizer_free(struct tt_tokenizer *tokenizer); /* NULL is fine */

/* A growable list of ids; release with tt_ids_free. */
struct tt_ids {
	int32_t *data;
	size_t len, capacity;
};
void tt_ids_free(struct tt_ids *ids);

enum tt_encode_flags {
	TT_ENCODE_SPECIAL = 1, /* text that spells a special token becomes that token */
	TT_ENCODE_BOS = 2,     /* first the token that the tokenizer itself puts before a text (none, or bos) */
};

/* Appends the ids of text. Invalid UTF-8 is TT_ERR_FORMAT with the byte offset. untrusted is NULL or has one byte for
 * each byte of text: a special token is never recognised where one of its bytes is marked, so user text inside a
 * rendered chat prompt stays text while the prompt's own markers become tokens. */
int tt_tokenizer_encode(const struct tt_tokenizer *tokenizer, const char *text, size_t n, const uint8_t *untrusted,
	unsigned flags, struct tt_ids *ids, struct tt_error *err);

/* Finds which of the ids that tt_tokenizer_encode made of text hold some of its bytes [first, end): ids [*from, *to).
 * Both are 0 where none does, or where the ids do not spell the text. */
int tt_tokenizer_locate(const struct tt_tokenizer *tokenizer, const char *text, size_t n, size_t first, size_t end,
	const struct tt_ids *ids, size_t *from, size_t *to, struct tt_error *err);

/* The bytes of a token (those of its text, for a special token), borrowed; *n is 0 if the id is out of range. */
const char *tt_tokenizer_piece(const struct tt_tokenizer *tokenizer, int32_t id, size_t *n);
bool tt_tokenizer_is_special(const struct tt_tokenizer *tokenizer, int32_t id);
size_t tt_tokenizer_size(const struct tt_tokenizer *tokenizer);
/* The id of the token with exactly this text, or -1. */
int32_t tt_tokenizer_find(const struct tt_tokenizer *tokenizer, const char *text, size_t n);
/* -1 if there is none. */
int32_t tt_tokenizer_bos(const struct tt_tokenizer *tokenizer);
int32_t tt_tokenizer_eos(const struct tt_tokenizer *tokenizer);
/* SHA-256, in hexadecimal, over all pieces in order of id: the vocabulary part of a model's fingerprint. */
const char *tt_tokenizer_digest(const struct tt_tokenizer *tokenizer);

/* The text of ids without special tokens, terminated, which the caller frees. If the tokenizer puts a space before a
 * text, that space is taken off again. */
int tt_tokenizer_decode(
	const struct tt_tokenizer *tokenizer, const int32_t *ids, size_t n_ids, char **text, struct tt_error *err);

#endif
