/* Who may ask, where there is no store: a file of keys, of which it holds the digests alone. A line is
 *
 *     ID SHA-256 PERSON
 *
 * the digest in lower-case hexadecimal, of the key's own bytes; the person is the rest of the line. Empty lines and
 * those that begin with # are skipped. */
#ifndef RUNTIME_SERVE_KEYS_H
#define RUNTIME_SERVE_KEYS_H

#include "base/string_index.h"
#include "controller/govern/key.h"

/* TT_ERR_FORMAT, with the line, for one that is not such, and for two of one id or digest. */
int tt_keys_load(struct tt_keys *out, const char *path, struct tt_error *err);
/* Whose key the value of an Authorization field is ("Bearer KEY"), or NULL. */
const struct tt_key *tt_keys_find(const struct tt_keys *keys, struct tt_span authorization);

#endif
