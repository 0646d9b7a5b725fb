/* Hugging Face's tokenizer.json, with a BPE model, byte-level or with byte fallback. Everything that would change ids
 * and is not implemented here is refused by name. */
#include "runtime/text/tokenizer/tokenizer_json.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"

/* The largest published tokenizer.json have about 35 MB. */
enum { MAX_FILE_BYTES = 256 << 20, MAX_CONFIG_BYTES = 16 << 20 };

static int refuse_unless_null(const json_t *object, const char *key, struct tt_error *err)
{
	const json_t *value = json_object_get(object, key);
	if (value && !json_is_null(value))
		return tt_fail(err, TT_ERR_UNSUPPORTED, "%s is not supported", key);
	return TT_OK;
}

static int refuse_unless_empty(const json_t *object, const char *key, struct tt_error *err)
{
	const char *text = "";
	TT_TRY(tt_json_string(object, key, &text, err));
	if (*text)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "model.%s is not supported", key);
	return TT_OK;
}

static struct tt_span span_of(const json_t *string)
{
	return (struct tt_span){json_string_value(string), json_string_length(string)};
}

static int read_model_options(struct tt_vocabulary *v, const json_t *model, struct tt_error *err)
{
	const char *type = "", *unk = NULL;
	float dropout = 0;
	TT_TRY(tt_json_string(model, "type", &type, err));
	if (strcmp(type, "BPE") != 0)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "model: %.60s is not supported (BPE is)", type);
	TT_TRY(tt_json_float(model, "dropout", 0, 1, &dropout, err));
	if (dropout != 0)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "model.dropout is not supported");
	TT_TRY(tt_json_bool(model, "byte_fallback", &v->characters, err));
	TT_TRY(refuse_unless_empty(model, "continuing_subword_prefix", err));
	TT_TRY(refuse_unless_empty(model, "end_of_word_suffix", err));
	TT_TRY(tt_json_string(model, "unk_token", &unk, err));
	v->refuse_missing_bytes = unk != NULL || v->characters;
	return tt_json_bool(model, "ignore_merges", &v->ignore_merges, err);
}

/* Ids must be 0 to n - 1, each once. It suffices that they are below n and different: n such ids leave no hole. */
static int place_token(struct tt_vocabulary *v, json_int_t id, struct tt_span text, uint8_t flags, const char *field,
	struct tt_error *err)
{
	int shown = (int)(text.len < 60 ? text.len : 60);
	if (id < 0 || (size_t)id >= v->n_tokens)
		return tt_fail(err, TT_ERR_FORMAT, "%s: id %lld of %.*s, and there are %zu tokens", field,
			(long long)id, shown, text.data, v->n_tokens);
	if (v->tokens[id].data)
		return tt_fail(
			err, TT_ERR_FORMAT, "%s: id %lld of %.*s is taken", field, (long long)id, shown, text.data);
	v->tokens[id] = text;
	v->flags[id] = flags;
	return TT_OK;
}

static int read_vocab(struct tt_vocabulary *v, json_t *vocab, const json_t *added, struct tt_error *err)
{
	const char *key;
	size_t key_len, i;
	json_t *value;
	if (!json_is_object(vocab))
		return tt_fail(err, TT_ERR_FORMAT, "model.vocab must be an object");
	if (added && !json_is_null(added) && !json_is_array(added))
		return tt_fail(err, TT_ERR_FORMAT, "added_tokens must be a list");
	v->n_tokens = json_object_size(vocab);
	for (i = 0; i < json_array_size(added); i++) {
		const char *content = NULL;
		const json_t *token = json_array_get(added, i);
		TT_TRY(tt_json_string(token, "content", &content, err));
		if (!json_is_object(token) || !content)
			return tt_fail(err, TT_ERR_FORMAT, "added_tokens: entry %zu has no content", i);
		v->n_tokens += !json_object_get(vocab, content);
	}
	if (v->n_tokens > TT_MAX_TOKENS)
		return tt_fail(err, TT_ERR_FORMAT, "model.vocab: %zu tokens (at most %d are supported)", v->n_tokens,
			TT_MAX_TOKENS);
	TT_TRY(tt_alloc(&v->tokens, v->n_tokens, sizeof *v->tokens, err));
	TT_TRY(tt_alloc(&v->flags, v->n_tokens, 1, err));
	json_object_keylen_foreach(vocab, key, key_len, value)
	{
		if (!json_is_integer(value))
			return tt_fail(err, TT_ERR_FORMAT, "model.vocab: the id of %.60s must be an integer", key);
		struct tt_span text = {key, key_len};
		uint8_t flags = TT_TOKEN_MODEL | (v->characters && tt_byte_token(&text) >= 0 ? TT_TOKEN_BYTE : 0);
		TT_TRY(place_token(v, json_integer_value(value), text, flags, "model.vocab", err));
	}
	return TT_OK;
}

static int read_added_token(struct tt_vocabulary *v, const json_t *vocab, const json_t *token, struct tt_error *err)
{
	static const struct {
		const char *key;
		uint8_t flag;
	} fields[] = {{"special", TT_TOKEN_SPECIAL}, {"normalized", TT_TOKEN_NORMALIZED}, {"lstrip", TT_TOKEN_LSTRIP},
		{"rstrip", TT_TOKEN_RSTRIP}};
	uint8_t flags = TT_TOKEN_ADDED;
	bool single_word = false;
	struct tt_span text = span_of(json_object_get(token, "content"));
	const json_t *id = json_object_get(token, "id"), *in_vocab = json_object_get(vocab, text.data);
	TT_TRY(tt_json_bool(token, "single_word", &single_word, err));
	if (single_word)
		return tt_fail(
			err, TT_ERR_UNSUPPORTED, "added_tokens: single_word (of %.60s) is not supported", text.data);
	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
		bool set = fields[i].flag == TT_TOKEN_NORMALIZED;
		TT_TRY(tt_json_bool(token, fields[i].key, &set, err));
		flags |= set ? fields[i].flag : 0;
	}
	if (!json_is_integer(id))
		return tt_fail(err, TT_ERR_FORMAT, "added_tokens: the id of %.60s must be an integer", text.data);
	if (!in_vocab)
		return place_token(v, json_integer_value(id), text, flags, "added_tokens", err);
	if (!json_equal(id, in_vocab))
		return tt_fail(err, TT_ERR_FORMAT, "added_tokens: %.60s has another id in model.vocab", text.data);
	if (v->flags[json_integer_value(id)] & TT_TOKEN_ADDED)
		return tt_fail(err, TT_ERR_FORMAT, "added_tokens: %.60s appears twice", text.data);
	v->flags[json_integer_value(id)] |= flags;
	return TT_OK;
}

static int read_merge(struct tt_span out[2], const json_t *merge)
{
	if (json_is_array(merge) && json_array_size(merge) == 2) {
		out[0] = span_of(json_array_get(merge, 0));
		out[1] = span_of(json_array_get(merge, 1));
		return out[0].data && out[1].data && out[0].len && out[1].len ? TT_OK : TT_ERR_FORMAT;
	}
	struct tt_span both = span_of(merge);
	const char *space = both.data ? memchr(both.data, ' ', both.len) : NULL;
	size_t left = space ? (size_t)(space - both.data) : 0;
	if (left == 0 || left + 1 == both.len || memchr(space + 1, ' ', both.len - left - 1))
		return TT_ERR_FORMAT;
	out[0] = (struct tt_span){both.data, left};
	out[1] = (struct tt_span){space + 1, both.len - left - 1};
	return TT_OK;
}

static int read_merges(struct tt_vocabulary *v, const json_t *merges, struct tt_error *err)
{
	if (!json_is_array(merges))
		return tt_fail(err, TT_ERR_FORMAT, "model.merges must be a list");
	v->n_merges = json_array_size(merges);
	TT_TRY(tt_alloc(&v->merges, v->n_merges, 2 * sizeof *v->merges, err));
	for (size_t i = 0; i < v->n_merges; i++)
		if (read_merge(&v->merges[2 * i], json_array_get(merges, i)) != TT_OK)
			return tt_fail(err, TT_ERR_FORMAT, "model.merges: merge %zu is not two tokens", i);
	return TT_OK;
}

static int read_tokenizer(struct tt_vocabulary *v, json_t *root, struct tt_error *err)
{
	const char *const parts[] = {"model", "decoder"};
	json_t *model = json_object_get(root, "model"), *vocab = json_object_get(model, "vocab");
	const json_t *added = json_object_get(root, "added_tokens");
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		if (!json_is_object(json_object_get(root, parts[i])))
			return tt_fail(err, TT_ERR_UNSUPPORTED, "%s: none is not supported", parts[i]);
	TT_TRY(refuse_unless_null(root, "truncation", err));
	TT_TRY(refuse_unless_null(root, "padding", err));
	TT_TRY(read_model_options(v, model, err));
	TT_TRY(read_vocab(v, vocab, added, err));
	for (size_t i = 0; i < json_array_size(added); i++)
		TT_TRY(read_added_token(v, vocab, json_array_get(added, i), err));
	TT_TRY(read_merges(v, json_object_get(model, "merges"), err));
	TT_TRY(tt_pretokenizer_init(&v->pretokenizer, err));
	return tt_tokenizer_json_steps(v, root, err);
}

/* Reads bos_token or eos_token, which is the text of a token as a string or as {"content": ...}. */
static int read_named(
	const struct tt_tokenizer *t, const json_t *config, const char *key, int32_t *out, struct tt_error *err)
{
	const json_t *value = json_object_get(config, key);
	if (json_is_object(value))
		value = json_object_get(value, "content");
	if (!value || json_is_null(value))
		return TT_OK;
	struct tt_span name = span_of(value);
	if (!name.data)
		return tt_fail(err, TT_ERR_FORMAT, "%s must be a string", key);
	*out = tt_tokenizer_find(t, name.data, name.len);
	if (*out < 0)
		return tt_fail(err, TT_ERR_FORMAT, "%s: no token %.60s", key, name.data);
	return TT_OK;
}

static int read_config(struct tt_tokenizer *t, const char *directory, struct tt_error *err)
{
	char *path = NULL;
	json_t *config = NULL;
	TT_TRY(tt_file_join(&path, directory, "tokenizer_config.json", err));
	int status = TT_OK;
	t->bos = t->prefix;
	if (tt_file_exists(path)) {
		status = tt_json_load(&config, path, MAX_CONFIG_BYTES, err);
		if (status == TT_OK) {
			status = read_named(t, config, "bos_token", &t->bos, err);
			if (status == TT_OK)
				status = read_named(t, config, "eos_token", &t->eos, err);
			if (status != TT_OK)
				tt_fail_within(err, path);
		}
	}
	json_decref(config);
	free(path);
	return status;
}

int tt_tokenizer_from_directory(struct tt_tokenizer **out, const char *directory, struct tt_error *err)
{
	struct tt_vocabulary v = {.bos = -1, .eos = -1, .prefix = -1};
	struct tt_tokenizer *tokenizer = NULL;
	char *path = NULL;
	json_t *root = NULL;
	TT_TRY(tt_file_join(&path, directory, "tokenizer.json", err));
	int status = tt_json_load(&root, path, MAX_FILE_BYTES, err);
	if (status == TT_OK) {
		status = read_tokenizer(&v, root, err);
		if (status == TT_OK)
			status = tt_tokenizer_build(&tokenizer, &v, err);
		if (status != TT_OK)
			tt_fail_within(err, path);
	}
	tt_vocabulary_free(&v);
	json_decref(root);
	free(path);
	if (status == TT_OK)
		status = read_config(tokenizer, directory, err);
	if (status == TT_OK)
		*out = tokenizer;
	else
		tt_tokenizer_free(tokenizer);
	return status;
}
