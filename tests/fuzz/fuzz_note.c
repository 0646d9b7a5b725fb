/* Signed notes, checkpoints and keys of logs: the first byte says which. What is opened as a checkpoint is one that the
 * key has signed: only the seed's is, so anything else that opens is a forgery. */
#include <stdlib.h>
#include <string.h>

#include "controller/govern/note.h"
#include "target.h"

static void open_note(const char *text, size_t n)
{
	static const uint8_t seed[32] = {1};
	struct tt_signer signer;
	struct tt_checkpoint checkpoint;
	struct tt_buffer again = {0};
	size_t n_text;
	if (tt_signer_make(&signer, "example.org/log", seed, NULL) != TT_OK)
		abort();
	bool opens = tt_note_open(text, n, &signer.verifier, &n_text, NULL) == TT_OK;
	if (opens && (n_text == 0 || n_text >= n || text[n_text - 1] != '\n'))
		abort();
	if (tt_checkpoint_open(&checkpoint, text, n, &signer.verifier, NULL) != TT_OK)
		return;
	if (!opens || tt_checkpoint_sign(&again, &signer, &checkpoint, NULL) != TT_OK || checkpoint.size != 5)
		abort();
	tt_buffer_free(&again);
}

static void parse_key(const char *text, size_t n)
{
	struct tt_verifier verifier;
	char copy[512], again[TT_VERIFIER_BYTES];
	if (n >= sizeof copy)
		return;
	memcpy(copy, text, n);
	copy[n] = 0;
	if (tt_verifier_parse(&verifier, copy, NULL) != TT_OK)
		return;
	if (tt_verifier_print(again, &verifier, NULL) != TT_OK || strcmp(again, copy) != 0)
		abort();
}

void fuzz_one(const uint8_t *data, size_t size)
{
	if (size == 0)
		return;
	(data[0] == 'k' ? parse_key : open_note)((const char *)data + 1, size - 1);
}
