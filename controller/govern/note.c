#include "controller/govern/note.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/fail.h"
#include "base/hex.h"
#include "base/sha256.h"
#include "base/utf8.h"

enum { ED25519 = 1, SIGNATURE = 64, MAX_ORIGIN_LINES = 64 };

static const char dash[] = "\xe2\x80\x94 "; /* an em dash and a space, before each signature */

static int no_crypto(struct tt_error *err)
{
	return tt_fail(err, TT_ERR_MEMORY, "Ed25519: libcrypto has no memory, or no such algorithm");
}

static bool is_name(const char *name, size_t n)
{
	uint32_t c;
	if (n == 0 || n > TT_MAX_KEY_NAME)
		return false;
	for (size_t i = 0; i < n;) {
		size_t length = tt_utf8_decode(name + i, n - i, &c);
		/* Unicode's white space beyond ASCII, too. */
		if (length == 0 || c <= ' ' || c == '+' || c == 0x7f || c == 0x85 || c == 0xa0 || c == 0x1680 ||
			(c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
			c == 0x3000)
			return false;
		i += length;
	}
	return true;
}

/* ---- Keys */

static int set_id(struct tt_verifier *verifier, struct tt_error *err)
{
	uint8_t text[TT_MAX_KEY_NAME + 34], digest[32];
	size_t n = strlen(verifier->name);
	memcpy(text, verifier->name, n);
	text[n] = '\n';
	text[n + 1] = ED25519;
	memcpy(text + n + 2, verifier->key, 32);
	TT_TRY(tt_sha256_bytes(digest, text, n + 34, err));
	memcpy(verifier->id, digest, sizeof verifier->id);
	return TT_OK;
}

int tt_signer_make(struct tt_signer *out, const char *name, const uint8_t seed[32], struct tt_error *err)
{
	size_t n = strlen(name), n_key = 32;
	*out = (struct tt_signer){0};
	if (!is_name(name, n))
		return tt_fail(err, TT_ERR_ARGUMENT,
			"%.150s is no name of a log: 1 to %d bytes without white space and plus signs", name,
			TT_MAX_KEY_NAME);
	memcpy(out->verifier.name, name, n);
	memcpy(out->seed, seed, 32);
	EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, 32);
	bool good = key && EVP_PKEY_get_raw_public_key(key, out->verifier.key, &n_key) == 1 && n_key == 32;
	EVP_PKEY_free(key);
	return good ? set_id(&out->verifier, err) : no_crypto(err);
}

int tt_verifier_print(char out[TT_VERIFIER_BYTES], const struct tt_verifier *verifier, struct tt_error *err)
{
	uint8_t key[33] = {ED25519};
	char id[9], *text;
	memcpy(key + 1, verifier->key, 32);
	TT_TRY(tt_base64(&text, key, sizeof key, err));
	tt_hex(id, verifier->id, 4);
	snprintf(out, TT_VERIFIER_BYTES, "%s+%s+%s", verifier->name, id, text);
	free(text);
	return TT_OK;
}

int tt_verifier_parse(struct tt_verifier *out, const char *text, struct tt_error *err)
{
	const char *name_end = strchr(text, '+'), *id_end = name_end ? strchr(name_end + 1, '+') : NULL;
	uint8_t key[33], id[4];
	size_t n_name = name_end ? (size_t)(name_end - text) : 0, n_key = 0;
	*out = (struct tt_verifier){0};
	if (!id_end || !is_name(text, n_name) || !tt_hex_parse(id, 4, name_end + 1, (size_t)(id_end - name_end - 1)) ||
		!tt_base64_parse(key, sizeof key, &n_key, id_end + 1, strlen(id_end + 1)) || n_key != sizeof key ||
		key[0] != ED25519)
		return tt_fail(err, TT_ERR_FORMAT, "%.200s is no key of a log (NAME+ID+KEY, Ed25519)", text);
	memcpy(out->name, text, n_name);
	memcpy(out->key, key + 1, 32);
	TT_TRY(set_id(out, err));
	if (memcmp(out->id, id, sizeof id) != 0)
		return tt_fail(err, TT_ERR_FORMAT, "%.200s: the key and its id do not belong together", text);
	return TT_OK;
}

/* ---- Notes */

static int sign(
	uint8_t out[SIGNATURE], const struct tt_signer *signer, const char *text, size_t n, struct tt_error *err)
{
	size_t n_out = SIGNATURE;
	EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, signer->seed, 32);
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	bool good = key && context && EVP_DigestSignInit(context, NULL, NULL, NULL, key) == 1 &&
		    EVP_DigestSign(context, out, &n_out, (const uint8_t *)text, n) == 1 && n_out == SIGNATURE;
	EVP_MD_CTX_free(context);
	EVP_PKEY_free(key);
	return good ? TT_OK : no_crypto(err);
}

static bool is_signed(const uint8_t *signature, const struct tt_verifier *verifier, const char *text, size_t n)
{
	EVP_PKEY *key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, verifier->key, 32);
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	bool good = key && context && EVP_DigestVerifyInit(context, NULL, NULL, NULL, key) == 1 &&
		    EVP_DigestVerify(context, signature, SIGNATURE, (const uint8_t *)text, n) == 1;
	EVP_MD_CTX_free(context);
	EVP_PKEY_free(key);
	return good;
}

int tt_note_sign(struct tt_buffer *out, const struct tt_signer *signer, const char *text, struct tt_error *err)
{
	uint8_t signature[4 + SIGNATURE];
	char *encoded;
	memcpy(signature, signer->verifier.id, 4);
	TT_TRY(sign(signature + 4, signer, text, strlen(text), err));
	TT_TRY(tt_base64(&encoded, signature, sizeof signature, err));
	int status = tt_buffer_print(out, err, "%s\n%s%s %s\n", text, dash, signer->verifier.name, encoded);
	free(encoded);
	return status;
}

static int bad_note(struct tt_error *err)
{
	return tt_fail(err, TT_ERR_FORMAT, "this is no signed note");
}

/* Where the signatures begin: after the last empty line. */
static const char *signatures_of(const char *note, size_t n)
{
	for (size_t i = n; i >= 2; i--)
		if (note[i - 1] == '\n' && note[i - 2] == '\n')
			return note + i;
	return NULL;
}

/* Control characters but for newlines have no place in a note, nor has what is not UTF-8. */
static bool is_text(const char *note, size_t n)
{
	if (n == 0 || n > TT_MAX_NOTE || note[n - 1] != '\n' || tt_utf8_check(note, n) != n)
		return false;
	for (size_t i = 0; i < n; i++)
		if ((uint8_t)note[i] < 0x20 && note[i] != '\n')
			return false;
	return true;
}

/* Takes a signature's line apart; false: it is none. */
static bool read_signature(const char *line, size_t n, size_t *n_name, uint8_t *signature, size_t max, size_t *n_bytes)
{
	const size_t n_dash = sizeof dash - 1;
	if (n < n_dash || memcmp(line, dash, n_dash) != 0)
		return false;
	const char *space = memchr(line + n_dash, ' ', n - n_dash);
	if (!space)
		return false;
	*n_name = (size_t)(space - line) - n_dash;
	return is_name(line + n_dash, *n_name) &&
	       tt_base64_parse(signature, max, n_bytes, space + 1, n - n_dash - *n_name - 1) && *n_bytes >= 5;
}

int tt_note_open(const char *note, size_t n_note, const struct tt_verifier *verifier, size_t *n, struct tt_error *err)
{
	uint8_t signature[512];
	const char *line = n_note && is_text(note, n_note) ? signatures_of(note, n_note) : NULL, *end = note + n_note;
	size_t n_name, n_bytes, n_lines = 0;
	bool found = false;
	if (!line || line == end)
		return bad_note(err);
	*n = (size_t)(line - note) - 1;
	for (; line < end; n_lines++) {
		size_t length = (size_t)((const char *)memchr(line, '\n', (size_t)(end - line)) - line);
		if (n_lines == TT_MAX_SIGNATURES ||
			!read_signature(line, length, &n_name, signature, sizeof signature, &n_bytes))
			return bad_note(err);
		bool is_its = n_name == strlen(verifier->name) &&
			      memcmp(line + sizeof dash - 1, verifier->name, n_name) == 0 &&
			      memcmp(signature, verifier->id, 4) == 0;
		/* Signatures of others are passed over; one that claims to be this key's must be. */
		if (is_its && (n_bytes != 4 + SIGNATURE || !is_signed(signature + 4, verifier, note, *n)))
			return tt_fail(err, TT_ERR_FORMAT, "the signature is not that of %.150s", verifier->name);
		found = found || is_its;
		line += length + 1;
	}
	if (!found)
		return tt_fail(err, TT_ERR_FORMAT, "the note is not signed by the key of %.150s", verifier->name);
	return TT_OK;
}

/* ---- Checkpoints */

int tt_checkpoint_sign(struct tt_buffer *out, const struct tt_signer *signer, const struct tt_checkpoint *checkpoint,
	struct tt_error *err)
{
	struct tt_buffer text = {0};
	char *root;
	TT_TRY(tt_base64(&root, checkpoint->root.bytes, sizeof checkpoint->root, err));
	int status =
		tt_buffer_print(&text, err, "%s\n%" PRIu64 "\n%s\n", signer->verifier.name, checkpoint->size, root);
	if (status == TT_OK)
		status = tt_note_sign(out, signer, text.data, err);
	tt_buffer_free(&text);
	free(root);
	return status;
}

/* A decimal number without a sign or leading zeros. */
static bool read_size(uint64_t *out, const char *text, size_t n)
{
	*out = 0;
	if (n == 0 || n > 15 || (n > 1 && text[0] == '0'))
		return false;
	for (size_t i = 0; i < n; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		*out = *out * 10 + (uint64_t)(text[i] - '0');
	}
	return true;
}

int tt_checkpoint_open(struct tt_checkpoint *out, const char *note, size_t n_note, const struct tt_verifier *verifier,
	struct tt_error *err)
{
	const char *lines[3];
	size_t lengths[3], n, n_root = 0;
	TT_TRY(tt_note_open(note, n_note, verifier, &n, err));
	const char *at = note, *end = note + n;
	for (int i = 0; i < 3; i++) { /* lines after these are extensions */
		const char *stop = at < end ? memchr(at, '\n', (size_t)(end - at)) : NULL;
		if (!stop)
			return tt_fail(err, TT_ERR_FORMAT, "the note is no checkpoint");
		lines[i] = at;
		lengths[i] = (size_t)(stop - at);
		at = stop + 1;
	}
	if (lengths[0] != strlen(verifier->name) || memcmp(lines[0], verifier->name, lengths[0]) != 0)
		return tt_fail(err, TT_ERR_FORMAT, "the checkpoint is of another log than %.150s", verifier->name);
	if (!read_size(&out->size, lines[1], lengths[1]) ||
		!tt_base64_parse(out->root.bytes, sizeof out->root, &n_root, lines[2], lengths[2]) ||
		n_root != sizeof out->root)
		return tt_fail(err, TT_ERR_FORMAT, "the note is no checkpoint");
	return TT_OK;
}
