/* Shared by the tokenizer's own files: the tokenizer itself, and the vocabulary that the reader of each source fills
 * and tt_tokenizer_build checks. */
#ifndef RUNTIME_TEXT_TOKENIZER_TOKENIZER_INTERNAL_H
#define RUNTIME_TEXT_TOKENIZER_TOKENIZER_INTERNAL_H

#include "base/memory.h"
#include "base/string_index.h"
#include "runtime/text/tokenizer/bpe.h"
#include "runtime/text/tokenizer/pretokenize.h"
#include "runtime/text/tokenizer/tokenizer.h"

enum tt_token_flags {
	TT_TOKEN_MODEL = 1,      /* a word of the BPE model, in GPT-2's alphabet or with U+2581 for spaces */
	TT_TOKEN_ADDED = 2,      /* cut out of the text before the model sees it; spelled as plain text */
	TT_TOKEN_SPECIAL = 4,    /* added, and matched only where the text is trusted */
	TT_TOKEN_NORMALIZED = 8, /* added, and matched in the normalised text */
	TT_TOKEN_LSTRIP = 16,    /* takes the white space on its left with it */
	TT_TOKEN_RSTRIP = 32,
	TT_TOKEN_BYTE = 64, /* spelled <0xNN>: stands for that byte, if characters are the symbols */
};

/* Where a space is put before text: SentencePiece's dummy prefix, in the forms that tokenizer.json has for it. A gap is
 * the text between two added tokens, or before the first or after the last. */
enum tt_prepend {
	TT_PREPEND_NEVER,
	TT_PREPEND_GAPS,      /* before each gap (normalizer Prepend; GGUF's add_space_prefix) */
	TT_PREPEND_UNLESS,    /* before each gap that does not begin with a space (Metaspace, always) */
	TT_PREPEND_FIRST_GAP, /* the same, but only at the beginning of the text (Metaspace, first) */
};

/* Strings point into the source. Zero-initialise. */
struct tt_vocabulary {
	struct tt_span *tokens; /* [n_tokens] as the source spells them */
	uint8_t *flags;         /* [n_tokens] enum tt_token_flags */
	size_t n_tokens;
	struct tt_span *merges; /* [n_merges][2] in order of rank */
	size_t n_merges;
	float *scores; /* [n_tokens], or NULL. If given, there are no merges: a pair ranks by the score of its result */
	/* The model works on characters, with U+2581 for a space, and on the bytes of characters that are no token. */
	bool characters;
	enum tt_prepend prepend;
	bool strips_space;                   /* decoding takes off a space at the beginning of the text */
	struct tt_pretokenizer pretokenizer; /* tt_tokenizer_build moves it into the tokenizer */
	bool ignore_merges;                  /* a word that as a whole is a token becomes that token, without merging */
	bool nfc;                            /* the text is normalised to NFC first */
	bool byte_level;                     /* the source says that the model works on bytes */
	bool refuse_missing_bytes; /* the source has an unk_token, so a byte without a token would become that */
	int32_t bos, eos, prefix;  /* -1 for none; prefix: the token put before a text */
};

enum { TT_MAX_TOKENS = 1 << 24 };

/* Fills bpe from scores: enters a merge for every way to make a token out of two; the higher the token's score, the
 * lower the rank. index finds v's tokens. */
int tt_tokenizer_add_scored_merges(
	struct tt_bpe *bpe, const struct tt_vocabulary *v, const struct tt_span_index *index, struct tt_error *err);
/* Checks a vocabulary and makes a tokenizer of it. The vocabulary must still be freed. */
int tt_tokenizer_build(struct tt_tokenizer **out, struct tt_vocabulary *vocabulary, struct tt_error *err);
void tt_vocabulary_free(struct tt_vocabulary *vocabulary);

/* Added tokens as a trie, for the longest match at a position. */
struct tt_added_node {
	uint32_t child, sibling; /* 0 for none */
	int32_t id;              /* of the token that ends here, or -1 */
	uint8_t byte;
};
struct tt_added {
	struct tt_added_node *nodes; /* node 0 is unused */
	size_t n_nodes, capacity;
	uint32_t first[256]; /* the nodes of the first bytes */
};

int tt_added_insert(struct tt_added *added, const char *text, size_t n, int32_t id, struct tt_error *err);
void tt_added_free(struct tt_added *added);

struct tt_tokenizer {
	struct tt_span *pieces; /* [n_pieces] into bytes */
	char *bytes;
	uint8_t *flags; /* [n_pieces] */
	size_t n_pieces;
	struct tt_span_index by_text;  /* all pieces; of equal ones, the added one */
	struct tt_span_index by_model; /* for ignore_merges: the model's pieces, without special ones */
	struct tt_bpe bpe;
	struct tt_pretokenizer pretokenizer;
	struct tt_added raw, normalized; /* the added tokens matched before and after normalisation */
	bool ignore_merges, nfc, characters, strips_space;
	enum tt_prepend prepend;
	int32_t bos, eos, prefix;
	char digest[65];
};

/* SentencePiece's sign for a space, U+2581. */
#define TT_SPACE_SIGN "\xe2\x96\x81"
/* Appends text with a space for every U+2581. */
int tt_plain_spaces(struct tt_buffer *out, const char *text, size_t n, struct tt_error *err);

/* The byte that <0xNN> spells, or -1. */
int tt_byte_token(const struct tt_span *token);

/* GPT-2's alphabet has a printable character for each byte. Writes the bytes that n bytes of text spell (at most n) and
 * returns their count, or SIZE_MAX if some character is not in the alphabet. */
size_t tt_alphabet_decode(const char *text, size_t n, char *out);

#endif
