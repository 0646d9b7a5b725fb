#include "controller/govern/commitment.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <string.h>

#include "base/fail.h"
#include "base/hex.h"

int tt_secret_make(uint8_t out[TT_SECRET], struct tt_error *err)
{
	if (RAND_priv_bytes(out, TT_SECRET) != 1)
		return tt_fail(err, TT_ERR_IO, "libcrypto has no random numbers");
	return TT_OK;
}

static void drop(struct tt_commitment *commitment)
{
	EVP_MAC_CTX_free(commitment->context);
	commitment->context = NULL;
}

void tt_commitment_begin(struct tt_commitment *out, const uint8_t open[TT_SECRET], const char *what)
{
	char digest[] = "SHA256";
	const OSSL_PARAM parameters[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0), OSSL_PARAM_construct_end()};
	EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	out->context = mac ? EVP_MAC_CTX_new(mac) : NULL;
	EVP_MAC_free(mac);
	if (out->context && EVP_MAC_init(out->context, open, TT_SECRET, parameters) != 1)
		drop(out);
	tt_commitment_add(out, what, strlen(what) + 1);
}

void tt_commitment_add(struct tt_commitment *commitment, const void *data, size_t n)
{
	if (commitment->context && n && EVP_MAC_update(commitment->context, data, n) != 1)
		drop(commitment);
}

void tt_commitment_add_size(struct tt_commitment *commitment, uint64_t n)
{
	uint8_t bytes[8];
	for (int i = 0; i < 8; i++)
		bytes[i] = (uint8_t)(n >> 8 * i);
	tt_commitment_add(commitment, bytes, sizeof bytes);
}

int tt_commitment_end(struct tt_commitment *commitment, char out[65], struct tt_error *err)
{
	uint8_t digest[32];
	size_t n = 0;
	bool good =
		commitment->context && EVP_MAC_final(commitment->context, digest, &n, sizeof digest) == 1 && n == 32;
	drop(commitment);
	out[0] = 0;
	if (!good)
		return tt_fail(err, TT_ERR_MEMORY, "HMAC: libcrypto has no memory, or no such algorithm");
	tt_hex(out, digest, sizeof digest);
	return TT_OK;
}
