#include "base/base64.h"

#include <limits.h>
#include <openssl/evp.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"

int tt_base64(char **out, const void *data, size_t n, struct tt_error *err)
{
	*out = NULL;
	/* libcrypto counts in int. */
	if (n > INT_MAX / 2)
		return tt_fail(err, TT_ERR_LIMIT, "%zu bytes are too many for Base64", n);
	TT_TRY(tt_alloc(out, (n + 2) / 3 * 4 + 1, 1, err));
	EVP_EncodeBlock((unsigned char *)*out, data, (int)n);
	return TT_OK;
}

static int value_of(char c)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c ? strchr(alphabet, c) : NULL;
	return at ? (int)(at - alphabet) : -1;
}

bool tt_base64_parse(uint8_t *out, size_t max, size_t *n_out, const char *text, size_t n)
{
	size_t padding = 0, at = 0;
	*n_out = 0;
	if (n % 4 != 0)
		return false;
	while (padding < 2 && padding < n && text[n - 1 - padding] == '=')
		padding++;
	if (n / 4 * 3 - padding > max)
		return false;
	for (size_t i = 0; i < n; i += 4) {
		uint32_t bits = 0;
		size_t n_digits = i + 4 == n ? 4 - padding : 4;
		for (size_t k = 0; k < n_digits; k++) {
			int value = value_of(text[i + k]);
			if (value < 0)
				return false;
			bits |= (uint32_t)value << (18 - 6 * k);
		}
		for (size_t k = 0; k + 1 < n_digits; k++)
			out[at++] = (uint8_t)(bits >> (16 - 8 * k));
		/* What the last digit has beyond the bytes must be zeros: there is one text for them. */
		if ((bits & (UINT32_C(0xffffff) >> 8 * (n_digits - 1))) != 0)
			return false;
	}
	*n_out = at;
	return true;
}
