/* The text of a generated answer, token by token, and the strings that end it. */
#ifndef RUNTIME_ENGINE_STOP_STRINGS_H
#define RUNTIME_ENGINE_STOP_STRINGS_H

#include "base/memory.h"
#include "base/utf8.h"
#include "runtime/text/tokenizer/tokenizer.h"

struct tt_stop_strings {
	struct tt_utf8_stream stream;
	struct tt_buffer text; /* whole code points */
	size_t *ends;          // [max_tokens] how many bytes of text may be shown once each token has come
	size_t n_tokens;
	char **stops; // [n_stops]
	size_t n_stops;
	size_t limit;  /* where the stop string that was found begins; SIZE_MAX: none was */
	bool finished; /* no more tokens will come */

	size_t n_given; /* bytes of text handed out so far */
	char *given;    /* the piece handed out last, terminated */
	size_t given_capacity;
};

/* *reply is zeroed before. The stop strings are copied. Call tt_stop_strings_close even if this fails. */
int tt_stop_strings_open(struct tt_stop_strings *reply, size_t max_tokens, const char *const *stops, size_t n_stops,
	struct tt_error *err);
void tt_stop_strings_close(struct tt_stop_strings *reply);

/* Adds the bytes of the next token; returns true if the text now contains a stop string. If memory runs out, the text
 * of the token is lost, but not the token. */
bool tt_stop_strings_add(struct tt_stop_strings *reply, const char *piece, size_t n);
/* No more tokens will come. */
void tt_stop_strings_finish(struct tt_stop_strings *reply);

/* The text that may be shown with token i; call it once for each token, in order. Text that could be the beginning of a
 * stop string comes with a later token. That is judged by what was known when token i came, so the pieces do not depend
 * on when they are asked for. The result is terminated, and valid until the next call. */
const char *tt_stop_strings_give(struct tt_stop_strings *reply, size_t i, size_t *n);

#endif
