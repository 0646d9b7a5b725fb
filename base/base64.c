#include "base/base64.h"

#include <limits.h>
#include <openssl/evp.h>

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
