#include "runtime/text/tokenizer/tokenizer_json.h"

#include <stdio.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"

/* A Sequence may hold others. It is read by recursion and files are untrusted, so the depth is limited. */
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

/* What the steps read so far say. What they say about spaces has to agree in the end. */
struct steps {
	struct tt_vocabulary *v;
	bool replaced, prepended; /* the normalizer puts U+2581 for each space, and one before the text */
	bool metaspace;           /* the pre-tokenizer is Metaspace */
	bool plain_spaces, byte_fallback, byte_level; /* the decoder has these steps */
};

typedef int (*read_step)(struct steps *s, const json_t *step, struct tt_error *err);

/* Calls read for a step or, if it is a Sequence, for each of its steps in order. list is the key of its list. */
static int walk(struct steps *s, const json_t *step, const char *part, const char *list, read_step read, int depth,
	struct tt_error *err)
{
	if (depth > MAX_NESTING)
		return tt_fail(err, TT_ERR_LIMIT, "%s: more than %d sequences within each other", part, MAX_NESTING);
	if (!is(step, "Sequence"))
		return read(s, step, err);
	const json_t *steps = json_object_get(step, list);
	if (!json_is_array(steps))
		return tt_fail(err, TT_ERR_FORMAT, "%s: Sequence without %s", part, list);
	for (size_t i = 0; i < json_array_size(steps); i++)
		TT_TRY(walk(s, json_array_get(steps, i), part, list, read, depth + 1, err));
	return TT_OK;
}

static bool has_text(const json_t *object, const char *key, const char *text)
{
	const char *value = json_string_value(json_object_get(object, key));
	return value && strcmp(value, text) == 0;
}

/* Whether the step is Replace, of the string from by to. */
static bool replaces(const json_t *step, const char *from, const char *to)
{
	return is(step, "Replace") && has_text(json_object_get(step, "pattern"), "String", from) &&
	       has_text(step, "content", to);
}

static int read_normalizer(struct steps *s, const json_t *step, struct tt_error *err)
{
	if (is(step, "NFC") && !s->v->characters) {
		s->v->nfc = true;
		return TT_OK;
	}
	if (s->v->characters && is(step, "Prepend") && has_text(step, "prepend", TT_SPACE_SIGN) && !s->prepended) {
		s->prepended = true;
		return TT_OK;
	}
	if (s->v->characters && replaces(step, " ", TT_SPACE_SIGN)) {
		s->replaced = true;
		return TT_OK;
	}
	return refuse("normalizer", step, err);
}

/* Metaspace has prepend_scheme and split in new files, add_prefix_space in old ones. */
static int read_metaspace(struct steps *s, const json_t *step, struct tt_error *err)
{
	/* Splits before every U+2581, which is a space by the time that this runs. */
	static const char words[] = " ?[^ ]+| ";
	const char *scheme = NULL;
	bool prefix_space = true, split = true;
	if (!has_text(step, "replacement", TT_SPACE_SIGN))
		return tt_fail(err, TT_ERR_UNSUPPORTED, "pre_tokenizer: Metaspace with another sign than U+2581");
	TT_TRY(tt_json_string(step, "prepend_scheme", &scheme, err));
	TT_TRY(tt_json_bool(step, "add_prefix_space", &prefix_space, err));
	TT_TRY(tt_json_bool(step, "split", &split, err));
	if (!scheme)
		scheme = prefix_space ? "always" : "never";
	if (strcmp(scheme, "always") == 0)
		s->v->prepend = TT_PREPEND_UNLESS;
	else if (strcmp(scheme, "first") == 0)
		s->v->prepend = TT_PREPEND_FIRST_GAP;
	else if (strcmp(scheme, "never") != 0)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "pre_tokenizer: Metaspace with prepend_scheme %.60s", scheme);
	s->metaspace = true;
	if (!split)
		return TT_OK;
	return tt_pretokenizer_add_pattern(&s->v->pretokenizer, words, strlen(words), false, "Metaspace", err);
}

/* Gemma has a Split at spaces, which does nothing: its normalizer has replaced them all. */
static int read_character_pre_tokenizer(struct steps *s, const json_t *step, struct tt_error *err)
{
	if (is(step, "Metaspace") && !s->metaspace && !s->prepended)
		return read_metaspace(s, step, err);
	if (is(step, "Split") && s->replaced && has_text(json_object_get(step, "pattern"), "String", " "))
		return TT_OK;
	return refuse("pre_tokenizer", step, err);
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

/* Digits, or Falcon's [0-9][0-9][0-9], after ByteLevel: they see characters of its alphabet. */
static int read_after_byte_level(struct tt_vocabulary *v, const json_t *step, struct tt_error *err)
{
	bool individual = false, invert = false;
	TT_TRY(tt_json_bool(step, "individual_digits", &individual, err));
	TT_TRY(tt_json_bool(step, "invert", &invert, err));
	if (is(step, "Digits") && !individual)
		return tt_pretokenizer_add_byte_digits(&v->pretokenizer, false, err);
	if (is(step, "Split") && !invert && has_text(step, "behavior", "Isolated") &&
		has_text(json_object_get(step, "pattern"), "Regex", "[0-9][0-9][0-9]"))
		return tt_pretokenizer_add_byte_digits(&v->pretokenizer, true, err);
	return tt_fail(
		err, TT_ERR_UNSUPPORTED, "pre_tokenizer: this %.60s after ByteLevel is not supported", type_of(step));
}

static int read_byte_level(struct tt_vocabulary *v, const json_t *step, struct tt_error *err)
{
	bool prefix_space = true, use_regex = true;
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

/* ByteLevel spells the text in its alphabet. Here that is done after all steps, so a step that follows ByteLevel would
 * see other text than it should; only those that read_after_byte_level knows may follow. */
static int read_pre_tokenizer(struct steps *s, const json_t *step, struct tt_error *err)
{
	struct tt_vocabulary *v = s->v;
	bool individual = false;
	if (v->characters)
		return read_character_pre_tokenizer(s, step, err);
	if (v->byte_level)
		return read_after_byte_level(v, step, err);
	if (is(step, "Split"))
		return read_split(v, step, err);
	if (is(step, "Digits")) {
		TT_TRY(tt_json_bool(step, "individual_digits", &individual, err));
		return tt_pretokenizer_add_digits(&v->pretokenizer, individual, err);
	}
	if (is(step, "Punctuation")) {
		bool runs = has_text(step, "behavior", "Contiguous");
		if (!runs && json_object_get(step, "behavior") && !has_text(step, "behavior", "Isolated"))
			return tt_fail(err, TT_ERR_UNSUPPORTED, "pre_tokenizer: this Punctuation is not supported");
		return tt_pretokenizer_add_punctuation(&v->pretokenizer, runs, "Punctuation", err);
	}
	return is(step, "ByteLevel") ? read_byte_level(v, step, err) : refuse("pre_tokenizer", step, err);
}

/* The id that a template's special token stands for. special_tokens lists it; the vocabulary is not asked. */
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

static int read_post_processor(struct steps *s, const json_t *step, struct tt_error *err)
{
	if (is(step, "ByteLevel")) /* changes offsets only */
		return TT_OK;
	if (is(step, "TemplateProcessing"))
		return read_template(s->v, step, err);
	return refuse("post_processor", step, err);
}

static int read_decoder(struct steps *s, const json_t *step, struct tt_error *err)
{
	const char *scheme = "always";
	bool prefix_space = true;
	if (!s->v->characters) {
		s->byte_level = is(step, "ByteLevel");
		return s->byte_level ? TT_OK : refuse("decoder", step, err);
	}
	if (replaces(step, TT_SPACE_SIGN, " ")) {
		s->plain_spaces = true;
	} else if (is(step, "ByteFallback")) {
		s->byte_fallback = true;
	} else if (is(step, "Strip") && has_text(step, "content", " ") &&
		   json_integer_value(json_object_get(step, "start")) == 1 &&
		   json_integer_value(json_object_get(step, "stop")) == 0) {
		s->v->strips_space = true;
	} else if (is(step, "Metaspace") && has_text(step, "replacement", TT_SPACE_SIGN)) {
		TT_TRY(tt_json_string(step, "prepend_scheme", &scheme, err));
		TT_TRY(tt_json_bool(step, "add_prefix_space", &prefix_space, err));
		s->plain_spaces = true;
		s->v->strips_space = prefix_space && strcmp(scheme, "never") != 0;
	} else if (!is(step, "Fuse")) {
		return refuse("decoder", step, err);
	}
	return TT_OK;
}

/* Refuses combinations in which the missing steps would change ids, or the decoded text. */
static int check_spaces(struct steps *s, struct tt_error *err)
{
	if (!s->v->characters)
		return s->v->byte_level ? TT_OK
					: tt_fail(err, TT_ERR_UNSUPPORTED,
						  "pre_tokenizer: one without ByteLevel is not supported");
	if (!s->replaced && !s->metaspace)
		return tt_fail(err, TT_ERR_UNSUPPORTED,
			"model.byte_fallback is not supported without U+2581 for spaces (Replace, or Metaspace)");
	if (!s->plain_spaces || !s->byte_fallback)
		return tt_fail(err, TT_ERR_UNSUPPORTED,
			"decoder: one without ByteFallback and spaces for U+2581 is not supported with byte_fallback");
	if (s->prepended)
		s->v->prepend = TT_PREPEND_GAPS;
	return TT_OK;
}

int tt_tokenizer_json_steps(struct tt_vocabulary *v, const json_t *root, struct tt_error *err)
{
	struct steps s = {.v = v};
	const json_t *normalizer = json_object_get(root, "normalizer"), *post = json_object_get(root, "post_processor");
	const json_t *pre_tokenizer = json_object_get(root, "pre_tokenizer");
	if (normalizer && !json_is_null(normalizer))
		TT_TRY(walk(&s, normalizer, "normalizer", "normalizers", read_normalizer, 0, err));
	if (pre_tokenizer && !json_is_null(pre_tokenizer))
		TT_TRY(walk(&s, pre_tokenizer, "pre_tokenizer", "pretokenizers", read_pre_tokenizer, 0, err));
	else if (!v->characters)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "pre_tokenizer: none is not supported");
	if (post && !json_is_null(post))
		TT_TRY(walk(&s, post, "post_processor", "processors", read_post_processor, 0, err));
	TT_TRY(walk(&s, json_object_get(root, "decoder"), "decoder", "decoders", read_decoder, 0, err));
	return check_spaces(&s, err);
}
