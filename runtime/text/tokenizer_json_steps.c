#include "runtime/text/tokenizer_json.h"

#include <stdio.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"

/* A Sequence may hold others; the files are untrusted and this is walked by recursion. */
enum { MAX_NESTING = 8 };

static const char *type_of(const json_t *step)
{
	const char *type = json_string_value(json_object_get(step, "type"));
	return type ? type : "a step without a type";
}

static bool is(const json_t *step, const char *type)
{
	return strcmp(type_of(step), type) == 0;
}

static int refuse(const char *part, const json_t *step, struct tt_error *err)
{
	return tt_fail(err, TT_ERR_UNSUPPORTED, "%s: %.60s is not supported", part, type_of(step));
}

typedef int (*read_step)(struct tt_vocabulary *v, const json_t *step, struct tt_error *err);

/* One step, or the steps of a Sequence in order. list is what the Sequence calls them. */
static int walk(struct tt_vocabulary *v, const json_t *step, const char *part, const char *list, read_step read,
	int depth, struct tt_error *err)
{
	if (depth > MAX_NESTING)
		return tt_fail(err, TT_ERR_LIMIT, "%s: more than %d sequences within each other", part, MAX_NESTING);
	if (!is(step, "Sequence"))
		return read(v, step, err);
	const json_t *steps = json_object_get(step, list);
	if (!json_is_array(steps))
		return tt_fail(err, TT_ERR_FORMAT, "%s: Sequence without %s", part, list);
	for (size_t i = 0; i < json_array_size(steps); i++)
		TT_TRY(walk(v, json_array_get(steps, i), part, list, read, depth + 1, err));
	return TT_OK;
}

static int read_normalizer(struct tt_vocabulary *v, const json_t *step, struct tt_error *err)
{
	if (!is(step, "NFC"))
		return refuse("normalizer", step, err);
	v->nfc = true;
	return TT_OK;
}

static int read_split(struct tt_vocabulary *v, const json_t *step, struct tt_error *err)
{
	const char *behavior = "", *text = NULL, *expression = NULL;
	bool invert = false;
	char name[48];
	const json_t *pattern = json_object_get(step, "pattern");
	TT_TRY(tt_json_string(step, "behavior", &behavior, err));
	TT_TRY(tt_json_bool(step, "invert", &invert, err));
	if (strcmp(behavior, "Isolated") != 0)
		return tt_fail(
			err, TT_ERR_UNSUPPORTED, "pre_tokenizer: Split with behavior %.60s is not supported", behavior);
	if (invert)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "pre_tokenizer: Split with invert is not supported");
	TT_TRY(tt_json_string(pattern, "String", &text, err));
	TT_TRY(tt_json_string(pattern, "Regex", &expression, err));
	if (!text == !expression)
		return tt_fail(err, TT_ERR_FORMAT, "pre_tokenizer: Split needs a pattern, String or Regex");
	if (!expression)
		expression = text;
	snprintf(name, sizeof name, "Split (stage %zu)", v->pretokenizer.n_stages + 1);
	return tt_pretokenizer_add_pattern(&v->pretokenizer, expression, strlen(expression), text != NULL, name, err);
}

/* ByteLevel spells the text in its alphabet, which is done at the end here: whatever follows it would see other text,
 * so nothing may. */
static int read_pre_tokenizer(struct tt_vocabulary *v, const json_t *step, struct tt_error *err)
{
	bool individual = false, prefix_space = true, use_regex = true;
	if (v->byte_level)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "pre_tokenizer: %.60s after ByteLevel is not supported",
			type_of(step));
	if (is(step, "Split"))
		return read_split(v, step, err);
	if (is(step, "Digits")) {
		TT_TRY(tt_json_bool(step, "individual_digits", &individual, err));
		return tt_pretokenizer_add_digits(&v->pretokenizer, individual, err);
	}
	if (!is(step, "ByteLevel"))
		return refuse("pre_tokenizer", step, err);
	TT_TRY(tt_json_bool(step, "add_prefix_space", &prefix_space, err));
	TT_TRY(tt_json_bool(step, "use_regex", &use_regex, err));
	if (prefix_space)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "pre_tokenizer: add_prefix_space is not supported");
	v->byte_level = true;
	if (!use_regex)
		return TT_OK;
	return tt_pretokenizer_add_pattern(
		&v->pretokenizer, tt_pattern_gpt2, strlen(tt_pattern_gpt2), false, "ByteLevel", err);
}

/* The id that a template's special token stands for: special_tokens names it apart from the vocabulary. */
static int template_id(
	struct tt_vocabulary *v, const json_t *step, const char *name, int32_t *out, struct tt_error *err)
{
	const json_t *token = json_object_get(json_object_get(step, "special_tokens"), name);
	const json_t *ids = json_object_get(token, "ids"), *id = json_array_get(ids, 0);
	if (json_array_size(ids) != 1 || !json_is_integer(id))
		return tt_fail(err, TT_ERR_UNSUPPORTED, "post_processor: %.60s must stand for one id", name);
	if (json_integer_value(id) < 0 || (size_t)json_integer_value(id) >= v->n_tokens)
		return tt_fail(err, TT_ERR_FORMAT, "post_processor: id %lld of %.60s, and there are %zu tokens",
			(long long)json_integer_value(id), name, v->n_tokens);
	*out = (int32_t)json_integer_value(id);
	return TT_OK;
}

static int read_template(struct tt_vocabulary *v, const json_t *step, struct tt_error *err)
{
	const json_t *single = json_object_get(step, "single");
	bool has_text = false;
	if (!json_is_array(single))
		return tt_fail(err, TT_ERR_FORMAT, "post_processor: single must be a list");
	for (size_t i = 0; i < json_array_size(single); i++) {
		const json_t *part = json_array_get(single, i), *token = json_object_get(part, "SpecialToken");
		const char *name = json_string_value(json_object_get(token, "id"));
		if (json_is_object(json_object_get(part, "Sequence")) && !has_text) {
			has_text = true;
			continue;
		}
		if (!name || has_text || v->prefix >= 0)
			return tt_fail(err, TT_ERR_UNSUPPORTED,
				"post_processor: a template other than one token before the text is not supported");
		TT_TRY(template_id(v, step, name, &v->prefix, err));
	}
	if (!has_text)
		return tt_fail(err, TT_ERR_FORMAT, "post_processor: a template without the text");
	return TT_OK;
}

static int read_post_processor(struct tt_vocabulary *v, const json_t *step, struct tt_error *err)
{
	if (is(step, "ByteLevel")) /* only moves offsets */
		return TT_OK;
	if (is(step, "TemplateProcessing"))
		return read_template(v, step, err);
	return refuse("post_processor", step, err);
}

int tt_tokenizer_json_steps(struct tt_vocabulary *v, const json_t *root, struct tt_error *err)
{
	const json_t *normalizer = json_object_get(root, "normalizer"), *decoder = json_object_get(root, "decoder");
	const json_t *post = json_object_get(root, "post_processor");
	if (normalizer && !json_is_null(normalizer))
		TT_TRY(walk(v, normalizer, "normalizer", "normalizers", read_normalizer, 0, err));
	TT_TRY(walk(v, json_object_get(root, "pre_tokenizer"), "pre_tokenizer", "pretokenizers", read_pre_tokenizer, 0,
		err));
	if (!v->byte_level)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "pre_tokenizer: one without ByteLevel is not supported");
	if (post && !json_is_null(post))
		TT_TRY(walk(v, post, "post_processor", "processors", read_post_processor, 0, err));
	return is(decoder, "ByteLevel") ? TT_OK : refuse("decoder", decoder, err);
}
