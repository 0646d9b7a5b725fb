/* The tokenizer of a GGUF file, which names its pre-tokenizer but does not contain the pattern. */
#include "runtime/text/tokenizer/tokenizer_internal.h"

#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "weights/gguf.h"

static bool equals(struct tt_gguf_string string, const char *text)
{
	return string.len == strlen(text) && memcmp(string.data, text, string.len) == 0;
}

static int require_strings(
	const struct tt_gguf *file, const char *key, const struct tt_gguf_value **out, struct tt_error *err)
{
	const struct tt_gguf_value *value = tt_gguf_find(file, key);
	if (!value)
		return tt_fail(err, TT_ERR_FORMAT, "%s is missing", key);
	if (value->kind != TT_GGUF_ARRAY || value->element != TT_GGUF_STRING)
		return tt_fail(err, TT_ERR_FORMAT, "%s must be an array of strings", key);
	if (value->count > TT_MAX_TOKENS)
		return tt_fail(err, TT_ERR_FORMAT, "%s has %llu entries (at most %d are supported)", key,
			(unsigned long long)value->count, TT_MAX_TOKENS);
	*out = value;
	return TT_OK;
}

/* tokenizer.ggml.token_type: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused (fills a hole), 6 byte. */
static int type_flags(double type, size_t i, uint8_t *out, struct tt_error *err)
{
	if (type == 1)
		*out = TT_TOKEN_MODEL;
	else if (type == 2 || type == 3)
		*out = TT_TOKEN_MODEL | TT_TOKEN_ADDED | TT_TOKEN_SPECIAL;
	else if (type == 4)
		*out = TT_TOKEN_MODEL | TT_TOKEN_ADDED;
	else if (type == 5)
		*out = 0;
	else if (type == 6)
		*out = TT_TOKEN_MODEL | TT_TOKEN_BYTE;
	else
		return tt_fail(err, TT_ERR_UNSUPPORTED, "tokenizer.ggml.token_type: type %g of token %zu", type, i);
	return TT_OK;
}

static int read_tokens(struct tt_vocabulary *v, const struct tt_gguf *file, struct tt_error *err)
{
	const struct tt_gguf_value *tokens = NULL, *types = tt_gguf_find(file, "tokenizer.ggml.token_type");
	TT_TRY(require_strings(file, "tokenizer.ggml.tokens", &tokens, err));
	size_t n = (size_t)tokens->count;
	if (types && (types->kind != TT_GGUF_ARRAY || (types->element != TT_GGUF_I32 && types->element != TT_GGUF_U32)))
		return tt_fail(err, TT_ERR_FORMAT, "tokenizer.ggml.token_type must be an array of 32-bit integers");
	if (types && types->count != n)
		return tt_fail(err, TT_ERR_FORMAT, "tokenizer.ggml.token_type has %llu entries for %zu tokens",
			(unsigned long long)types->count, n);
	TT_TRY(tt_alloc(&v->tokens, n, sizeof *v->tokens, err));
	TT_TRY(tt_alloc(&v->flags, n, 1, err));
	v->n_tokens = n;
	const uint8_t *cursor = tokens->data;
	for (size_t i = 0; i < n; i++) {
		struct tt_gguf_string token = tt_gguf_next_string(&cursor);
		v->tokens[i] = (struct tt_span){token.data, token.len};
		TT_TRY(type_flags(types ? tt_gguf_number(types, i) : 1, i, &v->flags[i], err));
	}
	return TT_OK;
}

static int read_merges(struct tt_vocabulary *v, const struct tt_gguf *file, struct tt_error *err)
{
	const struct tt_gguf_value *merges = NULL;
	TT_TRY(require_strings(file, "tokenizer.ggml.merges", &merges, err));
	size_t n = (size_t)merges->count;
	TT_TRY(tt_alloc(&v->merges, 2 * n, sizeof *v->merges, err));
	v->n_merges = n;
	const uint8_t *cursor = merges->data;
	for (size_t i = 0; i < n; i++) {
		struct tt_gguf_string merge = tt_gguf_next_string(&cursor);
		const char *space = merge.len ? memchr(merge.data, ' ', merge.len) : NULL;
		size_t left = space ? (size_t)(space - merge.data) : 0;
		if (left == 0 || left + 1 == merge.len || memchr(space + 1, ' ', merge.len - left - 1))
			return tt_fail(err, TT_ERR_FORMAT, "tokenizer.ggml.merges: merge %zu is not two tokens", i);
		v->merges[2 * i] = (struct tt_span){merge.data, left};
		v->merges[2 * i + 1] = (struct tt_span){space + 1, merge.len - left - 1};
	}
	return TT_OK;
}

static int read_id(const struct tt_gguf *file, const char *key, size_t n, int32_t *out, struct tt_error *err)
{
	uint32_t id = UINT32_MAX;
	TT_TRY(tt_gguf_u32(file, key, 0, UINT32_MAX, &id, err));
	if (id == UINT32_MAX) /* absent; some writers write this number for "none" */
		return TT_OK;
	if (id >= n)
		return tt_fail(err, TT_ERR_FORMAT, "%s is %u, and there are %zu tokens", key, id, n);
	*out = (int32_t)id;
	return TT_OK;
}

static int read_scores(struct tt_vocabulary *v, const struct tt_gguf *file, struct tt_error *err)
{
	const struct tt_gguf_value *scores = tt_gguf_find(file, "tokenizer.ggml.scores");
	if (!scores || scores->kind != TT_GGUF_ARRAY || scores->element != TT_GGUF_F32 || scores->count != v->n_tokens)
		return tt_fail(err, TT_ERR_FORMAT, "tokenizer.ggml.scores must be an array of %zu floats", v->n_tokens);
	TT_TRY(tt_alloc(&v->scores, v->n_tokens, sizeof *v->scores, err));
	for (size_t i = 0; i < v->n_tokens; i++)
		v->scores[i] = (float)tt_gguf_number(scores, i);
	return TT_OK;
}

/* Most added tokens of Phi-3 take the white space after them. Its tokenizer.json says so, but a GGUF file does not. */
static void strip_as_phi3(struct tt_vocabulary *v)
{
	static const char *const plain[] = {"<unk>", "<s>", "<|endoftext|>"};
	for (size_t i = 0; i < v->n_tokens; i++) {
		bool strips = v->flags[i] & TT_TOKEN_ADDED;
		for (size_t j = 0; j < sizeof plain / sizeof *plain; j++)
			if (v->tokens[i].len == strlen(plain[j]) &&
				memcmp(v->tokens[i].data, plain[j], v->tokens[i].len) == 0)
				strips = false;
		v->flags[i] |= strips ? TT_TOKEN_RSTRIP : 0;
	}
}

/* SentencePiece's BPE: pairs are ranked by the scores of the tokens that they make. */
static int read_llama(struct tt_vocabulary *v, const struct tt_gguf *file, struct tt_error *err)
{
	struct tt_gguf_string architecture = {"", 0};
	bool space = true;
	v->characters = v->refuse_missing_bytes = true;
	TT_TRY(read_tokens(v, file, err));
	TT_TRY(read_scores(v, file, err));
	TT_TRY(tt_gguf_bool(file, "tokenizer.ggml.add_space_prefix", &space, err));
	v->prepend = space ? TT_PREPEND_GAPS : TT_PREPEND_NEVER;
	v->strips_space = space;
	TT_TRY(tt_gguf_text(file, "general.architecture", &architecture, err));
	if (equals(architecture, "phi3"))
		strip_as_phi3(v);
	return TT_OK;
}

/* Gemma 4: characters are the symbols, as with SentencePiece, but there is a list of merges. */
static int read_gemma4(struct tt_vocabulary *v, const struct tt_gguf *file, struct tt_error *err)
{
	v->characters = v->refuse_missing_bytes = true;
	TT_TRY(read_tokens(v, file, err));
	return read_merges(v, file, err);
}

static int read_gpt2(struct tt_vocabulary *v, const struct tt_gguf *file, struct tt_error *err)
{
	struct tt_gguf_string pre = {"", 0};
	struct tt_named_pretokenizer also;
	TT_TRY(tt_gguf_text(file, "tokenizer.ggml.pre", &pre, err));
	if (pre.len == 0)
		return tt_fail(
			err, TT_ERR_UNSUPPORTED, "tokenizer.ggml.pre is missing: how text is split is not known");
	TT_TRY(tt_pretokenizer_add_named(&v->pretokenizer, pre.data, pre.len, &also, err));
	v->ignore_merges = also.ignore_merges;
	v->nfc = also.nfc;
	TT_TRY(read_tokens(v, file, err));
	return read_merges(v, file, err);
}

static int read_vocabulary(struct tt_vocabulary *v, const struct tt_gguf *file, struct tt_error *err)
{
	static const struct {
		const char *model;
		int (*read)(struct tt_vocabulary *v, const struct tt_gguf *file, struct tt_error *err);
	} models[] = {{"gpt2", read_gpt2}, {"llama", read_llama}, {"gemma4", read_gemma4}};
	struct tt_gguf_string model = {"", 0};
	bool add_eos = false;
	size_t i = 0, n_models = sizeof models / sizeof *models;
	TT_TRY(tt_gguf_text(file, "tokenizer.ggml.model", &model, err));
	while (i < n_models && !equals(model, models[i].model))
		i++;
	if (i == n_models)
		return tt_fail(err, TT_ERR_UNSUPPORTED,
			"tokenizer.ggml.model: %.*s is not supported (gpt2, llama and gemma4 are)",
			(int)(model.len < 60 ? model.len : 60), model.data);
	TT_TRY(tt_pretokenizer_init(&v->pretokenizer, err));
	TT_TRY(models[i].read(v, file, err));
	/* The default of llama.cpp if the file does not say. */
	bool add_bos = v->ignore_merges || v->characters;
	TT_TRY(read_id(file, "tokenizer.ggml.bos_token_id", v->n_tokens, &v->bos, err));
	TT_TRY(read_id(file, "tokenizer.ggml.eos_token_id", v->n_tokens, &v->eos, err));
	TT_TRY(tt_gguf_bool(file, "tokenizer.ggml.add_bos_token", &add_bos, err));
	TT_TRY(tt_gguf_bool(file, "tokenizer.ggml.add_eos_token", &add_eos, err));
	if (add_eos)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "tokenizer.ggml.add_eos_token: true is not supported");
	if (add_bos && v->bos < 0)
		return tt_fail(
			err, TT_ERR_FORMAT, "tokenizer.ggml.add_bos_token is true without tokenizer.ggml.bos_token_id");
	if (add_bos)
		v->prefix = v->bos;
	return TT_OK;
}

int tt_tokenizer_from_gguf(struct tt_tokenizer **out, const struct tt_gguf *file, struct tt_error *err)
{
	struct tt_vocabulary v = {.bos = -1, .eos = -1, .prefix = -1};
	int status = read_vocabulary(&v, file, err);
	if (status == TT_OK && (status = tt_tokenizer_build(out, &v, err)) != TT_OK)
		tt_fail_within(err, "tokenizer.ggml");
	tt_vocabulary_free(&v);
	return status;
}
