/* What stands in the log for a text that is not in it: HMAC-SHA-256 under a random key of the request. A plain hash
 * could be guessed by whoever has the model; with the key, which the client gets, a text can be shown to be the one. */
#ifndef CONTROLLER_GOVERN_COMMITMENT_H
#define CONTROLLER_GOVERN_COMMITMENT_H

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/tt_error.h"

enum { TT_SECRET = 32 };

/* Random bytes for a key. */
int tt_secret_make(uint8_t out[TT_SECRET], struct tt_error *err);

/* Of what ("trimtab-body-1" and the like), a zero byte, and the bytes that are added. */
struct tt_commitment {
	EVP_MAC_CTX *context; /* NULL: it failed, which the end says */
};
void tt_commitment_begin(struct tt_commitment *out, const uint8_t open[TT_SECRET], const char *what);
void tt_commitment_add(struct tt_commitment *commitment, const void *data, size_t n);
/* The number as 8 bytes, the lowest first. */
void tt_commitment_add_size(struct tt_commitment *commitment, uint64_t n);
/* Writes 64 hexadecimal digits and a 0, and frees the rest. */
int tt_commitment_end(struct tt_commitment *commitment, char out[65], struct tt_error *err);

#endif
