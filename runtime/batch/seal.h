/* Seals the lines of a journal, so that it shows if they are not what was written: each ends in a checksum of itself
 * and of the line to which it is chained. */
#ifndef RUNTIME_BATCH_SEAL_H
#define RUNTIME_BATCH_SEAL_H

#include "base/memory.h"

enum { TT_SEAL = 16 }; /* hexadecimal digits */

/* Ends line, a JSON object without its closing brace, with the key "check", the brace and a newline. The checksum is
 * the beginning of the SHA-256 of before (the checksum of the line to which this one is chained, or "") and the line so
 * far. It is also written to check. */
int tt_seal(struct tt_buffer *line, const char *before, char check[TT_SEAL + 1], struct tt_error *err);

/* Whether a line, without its newline, is what was sealed. If so, check is set to its checksum. */
bool tt_sealed(const char *line, size_t n, const char *before, char check[TT_SEAL + 1]);

#endif
