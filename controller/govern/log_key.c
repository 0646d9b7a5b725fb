#include "controller/govern/log_key.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/fail.h"
#include "base/file.h"
#include "base/hex.h"

enum { MAX_KEY_FILE = 1024 };

static const char prefix[] = "PRIVATE+KEY+";

/* NAME+ID+BASE64 in the file, as Go's sumdb/note writes its signers. */
static int parse(struct tt_signer *out, char *text, const char *path, struct tt_error *err)
{
	uint8_t seed[33], id[4];
	size_t n_seed = 0;
	text[strcspn(text, "\r\n")] = 0;
	char *name = strncmp(text, prefix, sizeof prefix - 1) == 0 ? text + sizeof prefix - 1 : NULL;
	char *id_text = name ? strchr(name, '+') : NULL, *key = id_text ? strchr(id_text + 1, '+') : NULL;
	if (!key || !tt_hex_parse(id, 4, id_text + 1, (size_t)(key - id_text - 1)) ||
		!tt_base64_parse(seed, sizeof seed, &n_seed, key + 1, strlen(key + 1)) || n_seed != sizeof seed ||
		seed[0] != 1)
		return tt_fail(err, TT_ERR_FORMAT, "%s is not the key of a log", path);
	*id_text = 0;
	int status = tt_signer_make(out, name, seed + 1, err);
	OPENSSL_cleanse(seed, sizeof seed);
	if (status == TT_OK && memcmp(id, out->verifier.id, sizeof id) != 0)
		return tt_fail(err, TT_ERR_FORMAT, "%s is damaged: the key and its id do not belong together", path);
	return status;
}

static int read_key(struct tt_signer *out, const char *path, struct tt_error *err)
{
	struct tt_buffer text = {0};
	int status = tt_file_read(&text, path, MAX_KEY_FILE, err);
	if (status == TT_OK && !text.data)
		status = tt_fail(err, TT_ERR_FORMAT, "%s is empty", path);
	if (status == TT_OK)
		status = parse(out, text.data, path, err);
	if (text.data)
		OPENSSL_cleanse(text.data, text.len);
	tt_buffer_free(&text);
	return status;
}

int tt_log_key_write_verifier(const char *directory, const struct tt_verifier *verifier, struct tt_error *err)
{
	char text[TT_VERIFIER_BYTES + 1], *path;
	TT_TRY(tt_verifier_print(text, verifier, err));
	strcat(text, "\n");
	TT_TRY(tt_file_join(&path, directory, "audit.pub", err));
	int status = tt_file_write(path, text, strlen(text), err);
	free(path);
	return status;
}

static int make(const char *path, const char *name, struct tt_error *err)
{
	uint8_t random[6], seed[33] = {1};
	char own[32] = "trimtab-", id[9], *encoded = NULL;
	struct tt_signer signer;
	struct tt_buffer text = {0};
	if (RAND_bytes(random, sizeof random) != 1 || RAND_priv_bytes(seed + 1, 32) != 1)
		return tt_fail(err, TT_ERR_IO, "libcrypto has no random numbers");
	tt_hex(own + strlen(own), random, sizeof random);
	int status = tt_signer_make(&signer, name ? name : own, seed + 1, err);
	if (status == TT_OK)
		status = tt_base64(&encoded, seed, sizeof seed, err);
	if (status == TT_OK) {
		tt_hex(id, signer.verifier.id, 4);
		status = tt_buffer_print(&text, err, "%s%s+%s+%s\n", prefix, signer.verifier.name, id, encoded);
	}
	if (status == TT_OK)
		status = tt_file_write_secret(path, text.data, text.len, err);
	OPENSSL_cleanse(seed, sizeof seed);
	OPENSSL_cleanse(&signer, sizeof signer);
	free(encoded);
	tt_buffer_free(&text);
	return status;
}

/* Writes audit.pub where it is missing: of a new key, and of one whose maker was killed before it came to that. */
static int complete(const char *directory, const struct tt_verifier *verifier, struct tt_error *err)
{
	char *path;
	TT_TRY(tt_file_join(&path, directory, "audit.pub", err));
	int status = tt_file_exists(path) ? TT_OK : tt_log_key_write_verifier(directory, verifier, err);
	if (status == TT_OK) /* whoever made it, and the key */
		status = tt_file_sync_folder(path, err);
	free(path);
	return status;
}

int tt_log_key_open(struct tt_signer *out, const char *directory, bool create, const char *name, struct tt_error *err)
{
	char *path;
	TT_TRY(tt_file_join(&path, directory, "audit.key", err));
	int status = TT_OK;
	if (create && !tt_file_exists(path))
		status = make(path, name, err);
	if (status == TT_OK)
		status = read_key(out, path, err);
	if (status == TT_OK && create)
		status = complete(directory, &out->verifier, err);
	if (status == TT_OK && name && strcmp(name, out->verifier.name) != 0)
		status = tt_fail(err, TT_ERR_ARGUMENT, "the log in %s is called %.150s, not %.150s", directory,
			out->verifier.name, name);
	free(path);
	return status;
}

int tt_log_key_verifier(struct tt_verifier *out, const char *directory, struct tt_error *err)
{
	char *path;
	struct tt_buffer text = {0};
	TT_TRY(tt_file_join(&path, directory, "audit.pub", err));
	int status = tt_file_read(&text, path, MAX_KEY_FILE, err);
	if (status == TT_OK && !text.data)
		status = tt_fail(err, TT_ERR_FORMAT, "%s is empty", path);
	if (status == TT_OK) {
		text.data[strcspn(text.data, "\r\n")] = 0;
		status = tt_verifier_parse(out, text.data, err);
	}
	tt_buffer_free(&text);
	free(path);
	return status;
}

int tt_log_key_publish(const char *directory, const char *note, struct tt_error *err)
{
	char *path;
	TT_TRY(tt_file_join(&path, directory, "checkpoint", err));
	int status = tt_file_write(path, note, strlen(note), err);
	free(path);
	return status;
}
