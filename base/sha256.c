#include "base/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fail.h"

static int no_digest(struct tt_error *err)
{
	return tt_fail(err, TT_ERR_MEMORY, "SHA-256: libcrypto has no memory, or no such digest");
}

int tt_sha256_bytes(uint8_t out[32], const void *data, size_t n, struct tt_error *err)
{
	unsigned int length = 0;
	if (EVP_Digest(data, n, out, &length, EVP_sha256(), NULL) != 1 || length != 32)
		return no_digest(err);
	return TT_OK;
}

static void print_hex(char out[65], const uint8_t digest[32])
{
	for (int i = 0; i < 32; i++)
		snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

bool tt_sha256_equal(const uint8_t a[32], const uint8_t b[32])
{
	return CRYPTO_memcmp(a, b, 32) == 0;
}

int tt_sha256(char out[65], const void *data, size_t n, struct tt_error *err)
{
	uint8_t digest[32];
	TT_TRY(tt_sha256_bytes(digest, data, n, err));
	print_hex(out, digest);
	return TT_OK;
}

static int digest_file(
	EVP_MD_CTX *context, int file, char out[65], const char *path, uint64_t *size, struct tt_error *err)
{
	unsigned char chunk[65536], digest[EVP_MAX_MD_SIZE];
	ssize_t n;
	*size = 0;
	if (!context || EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1)
		return no_digest(err);
	while ((n = read(file, chunk, sizeof chunk)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return tt_fail_io(err, path, "read");
		EVP_DigestUpdate(context, chunk, (size_t)n);
		*size += (uint64_t)n;
	}
	EVP_DigestFinal_ex(context, digest, NULL);
	print_hex(out, digest);
	return TT_OK;
}

int tt_sha256_file(char out[65], const char *path, uint64_t *size, struct tt_error *err)
{
	struct stat status;
	int file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return tt_fail_io(err, path, "open");
	int code;
	if (fstat(file, &status) < 0) {
		code = tt_fail_io(err, path, "read");
	} else if (!S_ISREG(status.st_mode)) {
		code = tt_fail(err, TT_ERR_IO, "%s: not a regular file", path);
	} else {
		EVP_MD_CTX *context = EVP_MD_CTX_new();
		code = digest_file(context, file, out, path, size, err);
		EVP_MD_CTX_free(context);
	}
	close(file);
	return code;
}
