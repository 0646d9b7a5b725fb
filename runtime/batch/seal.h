/* Lines of a journal that show whether they are what was written: each ends in a checksum of itself and of what it
 * comes after. */
#ifndef RUNTIME_BATCH_SEAL_H
#define RUNTIME_BATCH_SEAL_H

#include "base/memory.h"

enum { TT_SEAL = 16 }; /* hexadecimal digits */

/* Ends line, a JSON object without its closing brace, with "check", the brace and a newline. check is the SHA-256 of
 * before (the check of the line that this one comes after, or "") and the line so far, and goes to check as well. */
int tt_seal(struct tt_buffer *line, const char *before, char check[TT_SEAL + 1], struct tt_error *err);

/* Is a line, without its newline, what was sealed? check then gets what it says. */
bool tt_sealed(const char *line, size_t n, const char *before, char check[TT_SEAL + 1]);

#endif
