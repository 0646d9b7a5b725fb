/* The text of a generated answer, token by token, and the strings that end it. */
#ifndef RUNTIME_ENGINE_STOP_STRINGS_H
#define RUNTIME_ENGINE_STOP_STRINGS_H

#include "base/memory.h"
#include "base/utf8.h"
#include "runtime/text/tokenizer/tokenizer.h"

struct tt_stop_strings {
	struct tt_utf8_stream stream;
	struct tt_buffer text; /* whole code points */
	size_t *ends;          // [max_tokens] bytes of text that may be shown with each token
	size_t n_tokens;
	char **stops; // [n_stops]
	size_t n_stops;
	size_t limit;  /* where the stop string begins; SIZE_MAX */
	bool finished; /* nothing more comes */

	size_t n_given; /* bytes handed out */
	char *given;    /* the last of them, terminated */
	size_t given_capacity;
};

int tt_stop_strings_open(struct tt_stop_strings *reply, size_t max_tokens, const char *const *stops, size_t n_stops,
	struct tt_error *err);
void tt_stop_strings_close(struct tt_stop_strings *reply);

/* The bytes of the next token; true when the text now holds a stop string. Where memory runs out, text is lost rather than
 * the token. */
bool tt_stop_strings_add(struct tt_stop_strings *reply, const char *piece, size_t n);
void tt_stop_strings_finish(struct tt_stop_strings *reply);

/* The text that may be shown with token i (each in turn, once): not what could be the beginning of a stop string, as far as was
 * known when the token came, whenever it is asked for. Terminated, until the next call. */
const char *tt_stop_strings_give(struct tt_stop_strings *reply, size_t i, size_t *n);

#endif
