/* Signed notes and checkpoints, as C2SP has them (signed-note, tlog-checkpoint), by Ed25519: a text whose lines anybody
 * can read, an empty line, and a line for each signature. What is opened may be anything. */
#ifndef CONTROLLER_GOVERN_NOTE_H
#define CONTROLLER_GOVERN_NOTE_H

#include "base/memory.h"
#include "controller/govern/tree.h"

enum {
	TT_MAX_NOTE = 1 << 16, /* bytes */
	TT_MAX_KEY_NAME = 128, /* bytes */
	TT_VERIFIER_BYTES = TT_MAX_KEY_NAME + 64,
	TT_MAX_SIGNATURES = 16,
};

/* Whose signatures are believed. */
struct tt_verifier {
	char name[TT_MAX_KEY_NAME + 1];
	uint8_t id[4]; /* which tells keys of one name apart */
	uint8_t key[32];
};
/* Who signs. */
struct tt_signer {
	struct tt_verifier verifier;
	uint8_t seed[32]; /* the private key of RFC 8032 */
};

/* A name has no white space, control character or plus sign. */
int tt_signer_make(struct tt_signer *out, const char *name, const uint8_t seed[32], struct tt_error *err);
/* The key as a text, NAME+ID+KEY, and from it. */
int tt_verifier_print(char out[TT_VERIFIER_BYTES], const struct tt_verifier *verifier, struct tt_error *err);
int tt_verifier_parse(struct tt_verifier *out, const char *text, struct tt_error *err);

/* Adds the note of a text, whose lines all end, to out. */
int tt_note_sign(struct tt_buffer *out, const struct tt_signer *signer, const char *text, struct tt_error *err);
/* The text, which begins the note, is *n bytes long. TT_ERR_FORMAT for what is no note, or is not signed by the
 * verifier's key. */
int tt_note_open(const char *note, size_t n_note, const struct tt_verifier *verifier, size_t *n, struct tt_error *err);

struct tt_checkpoint {
	uint64_t size;
	struct tt_hash root;
};
/* The checkpoint's note, signed; its origin is the name of the key. */
int tt_checkpoint_sign(struct tt_buffer *out, const struct tt_signer *signer, const struct tt_checkpoint *checkpoint,
	struct tt_error *err);
int tt_checkpoint_open(struct tt_checkpoint *out, const char *note, size_t n_note, const struct tt_verifier *verifier,
	struct tt_error *err);

#endif
