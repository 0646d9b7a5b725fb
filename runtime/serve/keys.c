#include "runtime/serve/keys.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/hex.h"
#include "base/sha256.h"

enum { MAX_FILE = 16 << 20 };

/* Cuts the next word off a line. */
static struct tt_span next_word(struct tt_span *line)
{
	struct tt_span word = *line;
	while (word.len && (*word.data == ' ' || *word.data == '\t')) {
		word.data++;
		word.len--;
	}
	size_t n = 0;
	while (n < word.len && word.data[n] != ' ' && word.data[n] != '\t')
		n++;
	*line = (struct tt_span){word.data + n, word.len - n};
	word.len = n;
	return word;
}

static bool read_key(struct tt_key *out, struct tt_span line)
{
	struct tt_span id = next_word(&line), digest = next_word(&line);
	while (line.len && (*line.data == ' ' || *line.data == '\t')) {
		line.data++;
		line.len--;
	}
	if (id.len == 0 || id.len > TT_MAX_KEY_ID || line.len == 0 || line.len > TT_MAX_PERSON ||
		!tt_hex_parse(out->digest, sizeof out->digest, digest.data, digest.len))
		return false;
	memcpy(out->id, id.data, id.len);
	memcpy(out->person, line.data, line.len);
	return true;
}

static bool is_twice(const struct tt_keys *keys, const struct tt_key *key)
{
	for (size_t i = 0; i < keys->n; i++)
		if (strcmp(keys->list[i].id, key->id) == 0 ||
			memcmp(keys->list[i].digest, key->digest, sizeof key->digest) == 0)
			return true;
	return false;
}

static int add_line(struct tt_keys *keys, size_t *capacity, const char *path, size_t number, struct tt_span line,
	struct tt_error *err)
{
	struct tt_key key = {.roles = TT_ROLE_USER, .steer = TT_STEER_ANY};
	if (line.len && line.data[line.len - 1] == '\r')
		line.len--;
	struct tt_span rest = line, first = next_word(&rest);
	if (first.len == 0 || *first.data == '#')
		return TT_OK;
	if (!read_key(&key, line))
		return tt_fail(err, TT_ERR_FORMAT, "%s:%zu: not a key's id, SHA-256 and person", path, number);
	if (is_twice(keys, &key))
		return tt_fail(err, TT_ERR_FORMAT, "%s:%zu: an earlier line has this id or key", path, number);
	if (keys->n == TT_MAX_KEYS)
		return tt_fail(err, TT_ERR_LIMIT, "%s: more than %d keys", path, TT_MAX_KEYS);
	TT_TRY(tt_grow(&keys->list, capacity, keys->n + 1, sizeof *keys->list, err));
	keys->list[keys->n++] = key;
	return TT_OK;
}

int tt_keys_load(struct tt_keys *out, const char *path, struct tt_error *err)
{
	struct tt_buffer text = {0};
	size_t capacity = 0, number = 0;
	*out = (struct tt_keys){0};
	int status = tt_file_read(&text, path, MAX_FILE, err);
	for (size_t at = 0; status == TT_OK && at < text.len;) {
		const char *end = memchr(text.data + at, '\n', text.len - at);
		size_t n = end ? (size_t)(end - text.data) - at : text.len - at;
		status = add_line(out, &capacity, path, ++number, (struct tt_span){text.data + at, n}, err);
		at += n + 1;
	}
	tt_buffer_free(&text);
	if (status != TT_OK)
		tt_keys_free(out);
	return status;
}

const struct tt_key *tt_keys_find(const struct tt_keys *keys, struct tt_span authorization)
{
	static const char scheme[] = "bearer ";
	const size_t n = sizeof scheme - 1;
	uint8_t digest[32];
	if (authorization.len <= n || strncasecmp(authorization.data, scheme, n) != 0 ||
		tt_sha256_bytes(digest, authorization.data + n, authorization.len - n, NULL) != TT_OK)
		return NULL;
	return tt_keys_find_digest(keys, digest, (int64_t)time(NULL));
}
