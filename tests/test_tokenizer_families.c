/* Every family of tokenizers, from tokenizer.json and from a GGUF vocabulary, against `tokenizers`
 * (scripts/goldens/make_family_goldens.py). */
#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/utf8.h"
#include "runtime/text/tokenizer/tokenizer.h"
#include "weights/gguf.h"

#define GOLDEN TT_TEST_DATA "/tokenizer/families/"

static struct tt_tokenizer *open_directory(const char *family)
{
	struct tt_error err = {0};
	struct tt_tokenizer *tokenizer = NULL;
	char path[1000];
	snprintf(path, sizeof path, GOLDEN "%s", family);
	cr_assert_eq(tt_tokenizer_from_directory(&tokenizer, path, &err), TT_OK, "%s", err.message);
	return tokenizer;
}

static struct tt_tokenizer *open_gguf(const char *family)
{
	struct tt_error err = {0};
	struct tt_tokenizer *tokenizer = NULL;
	struct tt_gguf *file = NULL;
	char path[1000];
	snprintf(path, sizeof path, GOLDEN "%s/vocabulary.gguf", family);
	cr_assert_eq(tt_gguf_open(&file, path, &err), TT_OK, "%s", err.message);
	cr_assert_eq(tt_tokenizer_from_gguf(&tokenizer, file, &err), TT_OK, "%s: %s", family, err.message);
	tt_gguf_close(file);
	return tokenizer;
}

static void check_ids(const struct tt_tokenizer *tokenizer, const json_t *text, unsigned flags, const json_t *want,
	const char *family, struct tt_ids *ids)
{
	struct tt_error err = {0};
	const char *data = json_string_value(text);
	ids->len = 0;
	cr_assert_eq(tt_tokenizer_encode(tokenizer, data, json_string_length(text), NULL, flags, ids, &err), TT_OK,
		"%s", err.message);
	cr_assert_eq(ids->len, json_array_size(want), "%s: '%s': %zu ids, not %zu", family, data, ids->len,
		json_array_size(want));
	for (size_t i = 0; i < ids->len; i++)
		cr_assert_eq(ids->data[i], json_integer_value(json_array_get(want, i)), "%s: '%s': id %zu is %d",
			family, data, i, ids->data[i]);
}

/* A token at a time, as a client of a stream sees it: the same text, but for the space that a whole text loses. */
static void check_stream(const struct tt_tokenizer *tokenizer, const struct tt_ids *ids, const char *want)
{
	struct tt_utf8_stream stream = {0};
	struct tt_buffer out = {0};
	char part[1000];
	for (size_t i = 0; i < ids->len; i++) {
		size_t n = 0;
		if (tt_tokenizer_is_special(tokenizer, ids->data[i]))
			continue;
		const char *piece = tt_tokenizer_piece(tokenizer, ids->data[i], &n);
		cr_assert_leq(3 * n + 16, sizeof part);
		size_t written = tt_utf8_stream_push(&stream, piece, n, part);
		cr_assert_eq(tt_utf8_check(part, written), written, "a code point was split");
		cr_assert_eq(tt_buffer_add(&out, part, written, NULL), TT_OK);
	}
	cr_assert_eq(tt_buffer_add(&out, "", 1, NULL), TT_OK);
	cr_assert(strcmp(out.data, want) == 0 || (out.data[0] == ' ' && strcmp(out.data + 1, want) == 0),
		"streamed '%s', not '%s'", out.data, want);
	tt_buffer_free(&out);
}

static void check_text(
	const struct tt_tokenizer *tokenizer, const struct tt_ids *ids, const json_t *one, const char *family)
{
	struct tt_error err = {0};
	char *text = NULL;
	const json_t *decoded = json_object_get(one, "decoded");
	const char *want = json_string_value(decoded ? decoded : json_object_get(one, "text"));
	if (!want) /* bytes that are no code points, which `tokenizers` shows by another rule than we do */
		return;
	cr_assert_eq(tt_tokenizer_decode(tokenizer, ids->data, ids->len, &text, &err), TT_OK, "%s", err.message);
	cr_assert_str_eq(text, want, "%s: '%s' and not '%s'", family, text, want);
	check_stream(tokenizer, ids, want);
	free(text);
}

static void check_family(struct tt_tokenizer *tokenizer, const char *family)
{
	struct tt_error err = {0};
	struct tt_ids ids = {0};
	json_t *root = NULL, *hello = json_string("Hello");
	char path[1000];
	snprintf(path, sizeof path, GOLDEN "%s/cases.json", family);
	cr_assert_eq(tt_json_load(&root, path, 1 << 20, &err), TT_OK, "%s", err.message);
	const json_t *cases = json_object_get(root, "cases");
	cr_assert_geq(json_array_size(cases), 100);
	for (size_t i = 0; i < json_array_size(cases); i++) {
		const json_t *one = json_array_get(cases, i), *text = json_object_get(one, "text");
		const json_t *want = json_object_get(one, "ids"), *plain = json_object_get(one, "plain");
		check_ids(tokenizer, text, 0, plain ? plain : want, family, &ids);
		check_ids(tokenizer, text, TT_ENCODE_SPECIAL, want, family, &ids);
		check_text(tokenizer, &ids, one, family);
	}
	check_ids(tokenizer, hello, TT_ENCODE_BOS, json_object_get(root, "with_bos"), family, &ids);
	tt_ids_free(&ids);
	json_decref(hello);
	json_decref(root);
	tt_tokenizer_free(tokenizer);
}

Test(tokenizer_families, gives_the_ids_and_texts_of_tokenizer_json)
{
	static const char *const families[] = {"deepseek-llm", "deepseek-coder", "falcon", "starcoder", "qwen35",
		"llama-2", "llama-2-normalized", "mistral", "mistral-always", "phi-3", "gemma"};
	for (size_t i = 0; i < sizeof families / sizeof *families; i++)
		check_family(open_directory(families[i]), families[i]);
}

Test(tokenizer_families, gives_the_ids_and_texts_of_a_gguf_vocabulary)
{
	static const char *const families[] = {
		"deepseek-llm", "deepseek-coder", "falcon", "starcoder", "qwen35", "llama-2", "phi-3", "gemma"};
	for (size_t i = 0; i < sizeof families / sizeof *families; i++)
		check_family(open_gguf(families[i]), families[i]);
}

/* "</s>" that a user wrote is text, in the raw text and where a space was put in front of it. */
Test(tokenizer_families, never_makes_a_special_token_of_marked_text)
{
	static const char *const families[] = {"llama-2", "llama-2-normalized", "mistral", "gemma"};
	static const char text[] = " </s>x</s>";
	for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
		struct tt_tokenizer *tokenizer = open_directory(families[i]);
		struct tt_error err = {0};
		struct tt_ids marked = {0}, plain = {0};
		uint8_t marks[sizeof text - 1];
		memset(marks, 1, sizeof marks);
		cr_assert_eq(
			tt_tokenizer_encode(tokenizer, text, sizeof marks, marks, TT_ENCODE_SPECIAL, &marked, &err),
			TT_OK);
		cr_assert_eq(tt_tokenizer_encode(tokenizer, text, sizeof marks, NULL, 0, &plain, &err), TT_OK);
		cr_assert_eq(marked.len, plain.len, "%s", families[i]);
		cr_assert_arr_eq(marked.data, plain.data, plain.len * sizeof *plain.data, "%s", families[i]);
		for (size_t j = 0; j < marked.len; j++)
			cr_assert_not(tt_tokenizer_is_special(tokenizer, marked.data[j]));
		tt_ids_free(&marked);
		tt_ids_free(&plain);
		tt_tokenizer_free(tokenizer);
	}
}

static json_t *read_json(const char *family)
{
	struct tt_error err = {0};
	json_t *root = NULL;
	char path[1000];
	snprintf(path, sizeof path, GOLDEN "%s/tokenizer.json", family);
	cr_assert_eq(tt_json_load(&root, path, 1 << 20, &err), TT_OK, "%s", err.message);
	return root;
}

static void refuse_json(const json_t *root, const char *message)
{
	struct tt_error err = {0};
	struct tt_tokenizer *tokenizer = NULL;
	char directory[] = "families-XXXXXX", path[100], *text = json_dumps(root, 0);
	cr_assert_not_null(mkdtemp(directory));
	snprintf(path, sizeof path, "%s/tokenizer.json", directory);
	cr_assert_eq(tt_file_write(path, text, strlen(text), &err), TT_OK);
	cr_assert_lt(tt_tokenizer_from_directory(&tokenizer, directory, &err), 0, "taken, but for: %s", message);
	cr_assert(strstr(err.message, message), "'%s' does not say '%s'", err.message, message);
	unlink(path);
	rmdir(directory);
	free(text);
}

#define METASPACE(more) "{\"type\": \"Metaspace\", \"replacement\": \"\xe2\x96\x81\"" more "}"
#define PLAIN "{\"type\": \"Replace\", \"pattern\": {\"String\": \"\xe2\x96\x81\"}, \"content\": \" \"}"

/* The fields that SentencePiece's models need, and those that would change ids or texts unnoticed. */
Test(tokenizer_families, refuses_a_character_model_by_the_field)
{
	static const struct {
		const char *key, *value, *message;
	} changes[] = {
		{"normalizer", "{\"type\": \"NFC\"}", "normalizer: NFC"},
		{"normalizer", "{\"type\": \"Prepend\", \"prepend\": \"x\"}", "normalizer: Prepend"},
		{"normalizer", "{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"_\"}",
			"Replace"},
		{"normalizer", "null", "without U+2581 for spaces"},
		{"pre_tokenizer", METASPACE(""), "pre_tokenizer: Metaspace"}, /* there is a Prepend already */
		{"pre_tokenizer", "{\"type\": \"ByteLevel\", \"add_prefix_space\": false}", "pre_tokenizer: ByteLevel"},
		{"decoder", "{\"type\": \"ByteLevel\"}", "decoder: ByteLevel"},
		{"decoder", "{\"type\": \"ByteFallback\"}", "decoder"},
		{"decoder", PLAIN, "decoder"},
		{"decoder", "null", "decoder"},
	};
	for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
		json_t *root = read_json("llama-2");
		json_object_set_new(root, changes[i].key, json_loads(changes[i].value, JSON_DECODE_ANY, NULL));
		refuse_json(root, changes[i].message);
		json_decref(root);
	}
	json_t *root = read_json("mistral"), *model = json_object_get(root, "model");
	json_object_set_new(root, "pre_tokenizer", json_loads(METASPACE(", \"prepend_scheme\": \"last\""), 0, NULL));
	refuse_json(root, "prepend_scheme last");
	json_object_set_new(
		root, "pre_tokenizer", json_loads("{\"type\": \"Metaspace\", \"replacement\": \"_\"}", 0, NULL));
	refuse_json(root, "Metaspace with another sign");
	json_decref(root);
	root = read_json("mistral");
	model = json_object_get(root, "model");
	json_t *vocab = json_object_get(model, "vocab"), *id = json_incref(json_object_get(vocab, "<0x41>"));
	json_object_del(vocab, "<0x41>");
	json_object_set_new(vocab, "<0X41>", id);
	refuse_json(root, "no token stands for byte 41");
	json_decref(root);
}

/* Writes patch over the vocabulary, at bytes after the place where find begins. */
static void refuse_gguf(const char *find, size_t len, size_t at, const void *patch, size_t n, const char *message)
{
	struct tt_error err = {0};
	struct tt_tokenizer *tokenizer = NULL;
	struct tt_gguf *file = NULL;
	struct tt_buffer image = {0};
	char path[] = "families-XXXXXX";
	size_t start = 0;
	cr_assert_eq(tt_file_read(&image, GOLDEN "llama-2/vocabulary.gguf", 1 << 20, &err), TT_OK, "%s", err.message);
	while (start + len + at + n < image.len && memcmp(image.data + start, find, len) != 0)
		start++;
	cr_assert_lt(start + len + at + n, image.len, "%s is not there", find);
	memcpy(image.data + start + at, patch, n);
	close(mkstemp(path));
	cr_assert_eq(tt_file_write(path, image.data, image.len, &err), TT_OK);
	cr_assert_eq(tt_gguf_open(&file, path, &err), TT_OK, "%s", err.message);
	cr_assert_lt(tt_tokenizer_from_gguf(&tokenizer, file, &err), 0, "taken, but for: %s", message);
	cr_assert(strstr(err.message, message), "'%s' does not say '%s'", err.message, message);
	tt_gguf_close(file);
	unlink(path);
	tt_buffer_free(&image);
}

Test(tokenizer_families, refuses_a_scored_vocabulary_by_the_field)
{
	static const char scores[] = "tokenizer.ggml.scores", letter[] = "\1\0\0\0\0\0\0\0e";
	static const float nan_bits = NAN;
	static const uint32_t u32 = 4;
	const size_t n = sizeof scores - 1; /* then the array's types and its count */
	refuse_gguf(scores, n, n - 1, "_", 1, "tokenizer.ggml.scores must be an array");
	refuse_gguf(scores, n, n + 4, &u32, 4, "tokenizer.ggml.scores must be an array");
	refuse_gguf(scores, n, n + 16 + 4 * 300, &nan_bits, 4, "the score of token 300 is not finite");
	refuse_gguf("<0x4", 4, 4, "G", 1, "does not spell one");
	refuse_gguf("<0x4", 4, 4, "1", 1, "both <0x41>");
	/* A letter that stands alone no more, but in longer tokens. */
	refuse_gguf(letter, sizeof letter - 1, sizeof letter - 2, "\1", 1, "holds a character that is no token");
}
