/* Tokenizer files that are built here: models small enough to be worked out by hand, and files that lie. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "runtime/text/tokenizer/tokenizer.h"
#include "weights/gguf.h"

/* Three letters, a space, two merges of a (Ġ is the space). */
static const char *const small =
	"{\"version\": \"1.0\", \"truncation\": null, \"padding\": null, \"added_tokens\": ["
	"{\"id\": 9, \"content\": \"<s>\", \"special\": true, \"normalized\": false},"
	"{\"id\": 10, \"content\": \"<s><s>\", \"special\": true, \"normalized\": false},"
	"{\"id\": 8, \"content\": \"abba\", \"special\": true, \"normalized\": false}],"
	"\"normalizer\": null, \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false},"
	"\"post_processor\": null, \"decoder\": {\"type\": \"ByteLevel\"}, \"model\": {\"type\": \"BPE\", \"vocab\": "
	"{\"a\": 0, \"b\": 1, \"c\": 2, \"Ġ\": 3, \"aa\": 4, \"aaaa\": 5, \"ab\": 6, \"ba\": 7, \"abba\": 8},"
	"\"merges\": [\"a a\", [\"aa\", \"aa\"], \"a b\", \"b a\", \"ab ba\"]}}";

/* Sets the value at a path of keys such as model.vocab.a; value NULL takes it out. */
static void set(json_t *root, const char *path, const char *value)
{
	char key[100];
	const char *dot;
	while ((dot = strchr(path, '.'))) {
		memcpy(key, path, (size_t)(dot - path));
		key[dot - path] = 0;
		root = json_object_get(root, key);
		path = dot + 1;
	}
	if (!value)
		cr_assert_eq(json_object_del(root, path), 0);
	else
		cr_assert_eq(json_object_set_new(root, path, json_loads(value, JSON_DECODE_ANY, NULL)), 0, "%s", value);
}

static int load_json(struct tt_tokenizer **out, const char *text, struct tt_error *err)
{
	char directory[] = "tokenizer-XXXXXX", path[100];
	cr_assert_not_null(mkdtemp(directory));
	snprintf(path, sizeof path, "%s/tokenizer.json", directory);
	cr_assert_eq(tt_file_write(path, text, strlen(text), err), TT_OK);
	int status = tt_tokenizer_from_directory(out, directory, err);
	unlink(path);
	rmdir(directory);
	return status;
}

static int load_changed(struct tt_tokenizer **out, const char *path, const char *value, struct tt_error *err)
{
	json_t *root = json_loads(small, 0, NULL);
	set(root, path, value);
	char *text = json_dumps(root, 0);
	int status = load_json(out, text, err);
	free(text);
	json_decref(root);
	return status;
}

static struct tt_tokenizer *load_small(void)
{
	struct tt_error err = {0};
	struct tt_tokenizer *tokenizer = NULL;
	cr_assert_eq(load_json(&tokenizer, small, &err), TT_OK, "%s", err.message);
	return tokenizer;
}

static void expect(const struct tt_tokenizer *tokenizer, const char *text, const uint8_t *marks, unsigned flags,
	const int32_t *expected, size_t n)
{
	struct tt_error err = {0};
	struct tt_ids ids = {0};
	cr_assert_eq(
		tt_tokenizer_encode(tokenizer, text, strlen(text), marks, flags, &ids, &err), TT_OK, "%s", err.message);
	cr_assert_eq(ids.len, n, "'%s': %zu ids, not %zu", text, ids.len, n);
	for (size_t i = 0; i < n; i++)
		cr_assert_eq(ids.data[i], expected[i], "'%s': id %zu is %d", text, i, ids.data[i]);
	tt_ids_free(&ids);
}

Test(tokenizer_files, merges_the_lowest_rank_first_and_leftmost)
{
	struct tt_tokenizer *tokenizer = load_small();
	expect(tokenizer, "aaa", NULL, 0, (int32_t[]){4, 0}, 2);
	expect(tokenizer, "aaaaaaa", NULL, 0, (int32_t[]){5, 4, 0}, 3);
	expect(tokenizer, "aab", NULL, 0, (int32_t[]){4, 1}, 2);
	expect(tokenizer, "bab", NULL, 0, (int32_t[]){1, 6}, 2);
	expect(tokenizer, "abab ba", NULL, 0, (int32_t[]){6, 6, 3, 7}, 4);
	/* No token has the byte x, and there is no unk_token: `tokenizers` drops it, and a meets a. */
	expect(tokenizer, "axa", NULL, 0, (int32_t[]){4}, 1);
	tt_tokenizer_free(tokenizer);
}

/* Once b and c are one, the rank of a b must not pass to the pair of a and bc, which is last: bc d comes before it. The
 * longer word goes through the heap. */
Test(tokenizer_files, forgets_a_pair_that_is_gone)
{
	struct tt_error err = {0};
	struct tt_tokenizer *tokenizer = NULL;
	char text[81] = "";
	int32_t expected[40];
	json_t *root = json_loads(small, 0, NULL);
	set(root, "added_tokens", "[]");
	set(root, "model.vocab",
		"{\"a\": 0, \"b\": 1, \"c\": 2, \"d\": 3, \"bc\": 4, \"ab\": 5, \"bcd\": 6, \"abc\": 7}");
	set(root, "model.merges", "[\"b c\", \"a b\", \"bc d\", \"a bc\"]");
	char *json = json_dumps(root, 0);
	cr_assert_eq(load_json(&tokenizer, json, &err), TT_OK, "%s", err.message);
	for (size_t i = 0; i < 20; i++) {
		strcat(text, "abcd");
		expected[2 * i] = 0;
		expected[2 * i + 1] = 6;
	}
	expect(tokenizer, "abcd", NULL, 0, expected, 2);
	expect(tokenizer, text, NULL, 0, expected, 40);
	tt_tokenizer_free(tokenizer);
	free(json);
	json_decref(root);
}

/* The word abba is special, so the merge that spells it is not taken. */
Test(tokenizer_files, merges_no_special_token_together)
{
	struct tt_tokenizer *tokenizer = load_small();
	expect(tokenizer, "abba", NULL, TT_ENCODE_SPECIAL, (int32_t[]){8}, 1);
	expect(tokenizer, "abba", NULL, 0, (int32_t[]){6, 7}, 2);
	expect(tokenizer, "abba", (uint8_t[]){1, 1, 1, 1}, TT_ENCODE_SPECIAL, (int32_t[]){6, 7}, 2);
	tt_tokenizer_free(tokenizer);
}

/* A user who ends with <s> must not turn the prompt's own <s> into part of <s><s>, which is then refused. */
Test(tokenizer_files, finds_a_trusted_token_behind_a_longer_marked_one)
{
	static const uint8_t marks[6] = {1, 1, 1};
	struct tt_error err = {0};
	struct tt_tokenizer *tokenizer = load_small();
	struct tt_ids ids = {0};
	expect(tokenizer, "<s><s>", NULL, TT_ENCODE_SPECIAL, (int32_t[]){10}, 1);
	cr_assert_eq(tt_tokenizer_encode(tokenizer, "<s><s>", 6, marks, TT_ENCODE_SPECIAL, &ids, &err), TT_OK);
	cr_assert(ids.len == 1 && ids.data[0] == 9, "%zu ids", ids.len); /* < s > have no bytes in this vocabulary */
	tt_ids_free(&ids);
	tt_tokenizer_free(tokenizer);
}

Test(tokenizer_files, merges_a_word_of_a_megabyte)
{
	enum { N = (1 << 20) + 3 };
	struct tt_error err = {0};
	struct tt_ids ids = {0};
	struct tt_tokenizer *tokenizer = load_small();
	char *text = malloc(N);
	memset(text, 'a', N);
	cr_assert_eq(tt_tokenizer_encode(tokenizer, text, N, NULL, 0, &ids, &err), TT_OK, "%s", err.message);
	cr_assert_eq(ids.len, (1 << 18) + 2);
	for (size_t i = 0; i < 1 << 18; i++)
		cr_assert_eq(ids.data[i], 5);
	cr_assert(ids.data[1 << 18] == 4 && ids.data[(1 << 18) + 1] == 0);
	free(text);
	tt_ids_free(&ids);
	tt_tokenizer_free(tokenizer);
}

#define SPLIT(pattern, rest)                                                                                           \
	"{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"Regex\": \"" pattern       \
	"\"}, " rest "}, {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": false}]}"
#define ISOLATED "\"behavior\": \"Isolated\", \"invert\": false"

Test(tokenizer_files, stops_a_pattern_that_explodes)
{
	char text[64];
	struct tt_error err = {0};
	struct tt_ids ids = {0};
	struct tt_tokenizer *tokenizer = NULL;
	cr_assert_eq(load_changed(&tokenizer, "pre_tokenizer", SPLIT("(?:a+)+(?!a)b", ISOLATED), &err), TT_OK, "%s",
		err.message);
	strcpy(text, "ab"); /* matched, and taken back when the rest fails */
	memset(text + 2, 'a', 48);
	strcpy(text + 50, "cb");
	cr_assert_eq(tt_tokenizer_encode(tokenizer, text, strlen(text), NULL, 0, &ids, &err), TT_ERR_LIMIT);
	cr_assert(strstr(err.message, "Split (stage 1)") && ids.len == 0, "%s", err.message);
	tt_ids_free(&ids);
	tt_tokenizer_free(tokenizer);
}

static const struct {
	const char *path, *value, *message;
} refused_json[] = {
	{"truncation", "{\"max_length\": 5}", "truncation"},
	{"padding", "{}", "padding"},
	{"model", NULL, "model"},
	{"model", "[]", "model"},
	{"model.type", "\"WordPiece\"", "WordPiece"},
	{"model.dropout", "0.1", "model.dropout"},
	{"model.byte_fallback", "true", "pre_tokenizer: ByteLevel"},
	{"pre_tokenizer",
		"{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"ByteLevel\", \"add_prefix_space\": false}, "
		"{\"type\": \"Digits\", \"individual_digits\": true}]}",
		"Digits after ByteLevel"},
	{"pre_tokenizer", "{\"type\": \"Punctuation\", \"behavior\": \"Removed\"}", "Punctuation"},
	{"model.continuing_subword_prefix", "\"##\"", "model.continuing_subword_prefix"},
	{"model.end_of_word_suffix", "\"</w>\"", "model.end_of_word_suffix"},
	{"model.unk_token", "\"a\"", "unk_token"},
	{"model.ignore_merges", "1", "ignore_merges"},
	{"model.vocab", "[]", "model.vocab"},
	{"model.vocab", "{}", "there are 3 tokens"},
	{"model.vocab.a", "11", "model.vocab: id 11 of a"},
	{"model.vocab.a", "-1", "model.vocab: id -1 of a"},
	{"model.vocab.a", "1", "id 1 of b is taken"},
	{"model.vocab.a", "0.0", "the id of a must be an integer"},
	{"model.vocab.a", NULL, "id 10"},
	{"model.merges", "{}", "model.merges"},
	{"model.merges", "[\"a a\", \"ab\"]", "model.merges: merge 1"},
	{"model.merges", "[\"a b c\"]", "model.merges: merge 0"},
	{"model.merges", "[[\"a\"]]", "model.merges: merge 0"},
	{"model.merges", "[[\"a\", 1]]", "model.merges: merge 0"},
	{"model.merges", "[\"a a\", \"a q\"]", "merge 1 (a q): no token q"},
	{"model.merges", "[\"a c\"]", "merge 0 (a c): no token ac"},
	{"model.merges", "[\"a a\", \"a b\", \"a a\"]", "merge 2 (a a)"},
	{"added_tokens", "{}", "added_tokens"},
	{"added_tokens", "[1]", "added_tokens: entry 0"},
	{"added_tokens", "[{\"id\": 9}]", "added_tokens: entry 0"},
	{"added_tokens", "[{\"id\": 9, \"content\": \"\"}]", "added token 9"},
	{"added_tokens", "[{\"id\": 9, \"content\": \"<x>\", \"single_word\": true}]", "single_word"},
	{"added_tokens", "[{\"id\": 3000000000, \"content\": \"<x>\"}]", "id 3000000000 of <x>"},
	{"added_tokens", "[{\"id\": \"9\", \"content\": \"<x>\"}]", "id of <x>"},
	{"added_tokens", "[{\"id\": 3, \"content\": \"a\"}]", "a has another id"},
	{"added_tokens", "[{\"id\": 4, \"content\": \"aa\"}, {\"id\": 4, \"content\": \"aa\"}]", "aa appears twice"},
	{"added_tokens", "[{\"id\": 0, \"content\": \"a\", \"special\": true}]", "special token 0"},
	{"normalizer", "{\"type\": \"Lowercase\"}", "normalizer: Lowercase"},
	{"normalizer", "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFC\"}, {\"type\": \"NFKC\"}]}",
		"NFKC"},
	{"normalizer", "{\"type\": \"Sequence\"}", "normalizers"},
	{"pre_tokenizer", "null", "pre_tokenizer"},
	{"pre_tokenizer", "{\"type\": \"Metaspace\"}", "pre_tokenizer: Metaspace"},
	{"pre_tokenizer", "{\"type\": \"Digits\"}", "ByteLevel"},
	{"pre_tokenizer", "{\"type\": \"ByteLevel\"}", "add_prefix_space"},
	{"pre_tokenizer", SPLIT("a", "\"behavior\": \"Removed\""), "Removed"},
	{"pre_tokenizer", SPLIT("a", ISOLATED ", \"invert\": true"), "invert"},
	{"pre_tokenizer", SPLIT("\\\\w+", ISOLATED), "\\w at byte 0"},
	{"pre_tokenizer", SPLIT("a|^b", ISOLATED), "^ at byte 2"},
	{"pre_tokenizer", SPLIT("\\\\p{Han}", ISOLATED), "\\p{Han}"},
	{"pre_tokenizer", SPLIT("[a[b]]", ISOLATED), "class within a class"},
	{"pre_tokenizer", SPLIT("(?P<x>a)", ISOLATED), "(?P<"},
	{"pre_tokenizer", SPLIT("a{,3}", ISOLATED), "{,3}"},
	{"pre_tokenizer", SPLIT("a{2}+", ISOLATED), "{2}+"},
	{"pre_tokenizer", SPLIT("(?i:ss)", ISOLATED), "ss"},
	{"pre_tokenizer", SPLIT("(a", ISOLATED), "group"},
	{"pre_tokenizer", SPLIT("a)", ISOLATED), ")"},
	{"pre_tokenizer", SPLIT("+a", ISOLATED), "does not compile"},
	{"post_processor", "{\"type\": \"BertProcessing\"}", "post_processor: BertProcessing"},
	{"post_processor", "{\"type\": \"TemplateProcessing\", \"single\": []}", "post_processor"},
	{"post_processor",
		"{\"type\": \"TemplateProcessing\", \"single\": [{\"Sequence\": {}}, {\"SpecialToken\": {\"id\": "
		"\"<s>\"}}], \"special_tokens\": {\"<s>\": {\"ids\": [9]}}}",
		"post_processor"},
	{"post_processor",
		"{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"<s>\"}}, {\"Sequence\": "
		"{}}], \"special_tokens\": {\"<s>\": {\"ids\": [99]}}}",
		"post_processor: id 99"},
	{"decoder", "null", "decoder"},
	{"decoder", "{\"type\": \"Metaspace\"}", "decoder: Metaspace"},
};

Test(tokenizer_files, refuses_a_tokenizer_json_by_the_field)
{
	for (size_t i = 0; i < sizeof refused_json / sizeof *refused_json; i++) {
		struct tt_error err = {0};
		struct tt_tokenizer *tokenizer = NULL;
		int status = load_changed(&tokenizer, refused_json[i].path, refused_json[i].value, &err);
		cr_assert(status < 0 && !tokenizer, "%s = %s was taken", refused_json[i].path, refused_json[i].value);
		cr_assert(strstr(err.message, refused_json[i].message), "'%s' does not say '%s'", err.message,
			refused_json[i].message);
		cr_assert(strstr(err.message, "tokenizer.json: "), "'%s' does not name the file", err.message);
	}
}

Test(tokenizer_files, refuses_json_with_a_token_twice)
{
	struct tt_error err = {0};
	struct tt_tokenizer *tokenizer = NULL;
	cr_assert_eq(load_json(&tokenizer, "{\"model\": {\"vocab\": {\"a\": 0, \"a\": 1}}}", &err), TT_ERR_FORMAT);
	cr_assert(strstr(err.message, "duplicate"), "%s", err.message);
}

/* A GGUF file with just a vocabulary. */
struct vocabulary {
	const char *model, *pre;
	const char *tokens[12]; /* up to the first NULL */
	const char *merges[8];
	int32_t types[12]; /* 0 ends it; none at all: no key */
	int64_t bos, eos;  /* -1 for no key */
	int add_bos, add_eos;
};

static void put(struct tt_buffer *out, const void *data, size_t n)
{
	cr_assert_eq(tt_buffer_add(out, data, n, NULL), TT_OK);
}

static void put_u32(struct tt_buffer *out, uint32_t value)
{
	put(out, &value, 4);
}

static void put_u64(struct tt_buffer *out, uint64_t value)
{
	put(out, &value, 8);
}

static void put_text(struct tt_buffer *out, const char *text)
{
	put_u64(out, strlen(text));
	put(out, text, strlen(text));
}

static uint64_t put_key(struct tt_buffer *out, const char *key, uint32_t type)
{
	put_text(out, key);
	put_u32(out, type);
	return 1;
}

static uint64_t put_texts(struct tt_buffer *out, const char *key, const char *const *texts)
{
	uint64_t n = 0;
	while (texts[n])
		n++;
	put_key(out, key, 9);
	put_u32(out, 8);
	put_u64(out, n);
	for (uint64_t i = 0; i < n; i++)
		put_text(out, texts[i]);
	return 1;
}

static uint64_t put_fields(struct tt_buffer *out, const struct vocabulary *v)
{
	uint64_t n = put_key(out, "tokenizer.ggml.model", 8), n_types = 0;
	put_text(out, v->model);
	if (v->pre) {
		n += put_key(out, "tokenizer.ggml.pre", 8);
		put_text(out, v->pre);
	}
	n += put_texts(out, "tokenizer.ggml.tokens", v->tokens);
	n += put_texts(out, "tokenizer.ggml.merges", v->merges);
	while (v->types[n_types])
		n_types++;
	if (n_types) {
		n += put_key(out, "tokenizer.ggml.token_type", 9);
		put_u32(out, 5);
		put_u64(out, n_types);
		put(out, v->types, 4 * n_types);
	}
	if (v->bos >= 0) {
		n += put_key(out, "tokenizer.ggml.bos_token_id", 4);
		put_u32(out, (uint32_t)v->bos);
	}
	if (v->eos >= 0) {
		n += put_key(out, "tokenizer.ggml.eos_token_id", 4);
		put_u32(out, (uint32_t)v->eos);
	}
	n += put_key(out, "tokenizer.ggml.add_bos_token", 7);
	put(out, &(uint8_t){(uint8_t)v->add_bos}, 1);
	n += put_key(out, "tokenizer.ggml.add_eos_token", 7);
	put(out, &(uint8_t){(uint8_t)v->add_eos}, 1);
	return n;
}

static int load_gguf(struct tt_tokenizer **out, const struct vocabulary *v, struct tt_error *err)
{
	char path[] = "tokenizer-XXXXXX";
	struct tt_buffer fields = {0}, file = {0};
	struct tt_gguf *gguf = NULL;
	int descriptor = mkstemp(path);
	cr_assert_geq(descriptor, 0);
	close(descriptor);
	uint64_t n = put_fields(&fields, v);
	put(&file, "GGUF", 4);
	put_u32(&file, 3);
	put_u64(&file, 0);
	put_u64(&file, n);
	put(&file, fields.data, fields.len);
	cr_assert_eq(tt_file_write(path, file.data, file.len, err), TT_OK);
	cr_assert_eq(tt_gguf_open(&gguf, path, err), TT_OK, "%s", err->message);
	int status = tt_tokenizer_from_gguf(out, gguf, err);
	tt_gguf_close(gguf);
	unlink(path);
	tt_buffer_free(&fields);
	tt_buffer_free(&file);
	return status;
}

static const struct vocabulary good = {
	.model = "gpt2",
	.pre = "gpt-2",
	.tokens = {"<s>", "a", "b", "aa", "ab", "<user>", "Ġ"},
	.merges = {"a a", "a b"},
	.types = {3, 1, 1, 1, 1, 4, 1},
	.bos = 0,
	.eos = -1,
	.add_bos = 1,
};

Test(tokenizer_files, reads_a_gguf_vocabulary)
{
	struct tt_error err = {0};
	struct tt_tokenizer *tokenizer = NULL;
	cr_assert_eq(load_gguf(&tokenizer, &good, &err), TT_OK, "%s", err.message);
	expect(tokenizer, "aab<s> <user>", NULL, TT_ENCODE_SPECIAL | TT_ENCODE_BOS, (int32_t[]){0, 3, 2, 0, 6, 5}, 6);
	expect(tokenizer, "ab<user>", NULL, 0, (int32_t[]){4, 5}, 2);
	expect(tokenizer, "ab<user>", (uint8_t[]){1, 1, 1, 1, 1, 1, 1, 1}, TT_ENCODE_SPECIAL, (int32_t[]){4, 5}, 2);
	cr_assert(tt_tokenizer_bos(tokenizer) == 0 && tt_tokenizer_eos(tokenizer) == -1);
	cr_assert(tt_tokenizer_is_special(tokenizer, 0) && !tt_tokenizer_is_special(tokenizer, 5));
	tt_tokenizer_free(tokenizer);
}

static void refuse_gguf(const struct vocabulary *v, const char *message)
{
	struct tt_error err = {0};
	struct tt_tokenizer *tokenizer = NULL;
	cr_assert_lt(load_gguf(&tokenizer, v, &err), 0, "taken, but for: %s", message);
	cr_assert(strstr(err.message, message), "'%s' does not say '%s'", err.message, message);
}

Test(tokenizer_files, refuses_a_gguf_vocabulary_by_the_field)
{
	struct vocabulary v = good;
	v.model = "bert";
	refuse_gguf(&v, "tokenizer.ggml.model: bert");
	v = good;
	v.pre = "tekken";
	refuse_gguf(&v, "tokenizer.ggml.pre: pre-tokenizer \"tekken\"");
	v.pre = NULL;
	refuse_gguf(&v, "tokenizer.ggml.pre");
	v = good;
	v.tokens[3] = "a";
	refuse_gguf(&v, "tokens 1 and 3 are both a");
	v = good;
	v.tokens[3] = "a\xff";
	refuse_gguf(&v, "token 3 is not valid UTF-8");
	v = good;
	v.tokens[0] = NULL;
	refuse_gguf(&v, "tokenizer.ggml.token_type has 7 entries for 0 tokens");
	v = good;
	v.types[6] = 0;
	refuse_gguf(&v, "tokenizer.ggml.token_type has 6 entries for 7 tokens");
	v = good;
	v.types[6] = 6;
	refuse_gguf(&v, "token 6 is a byte of its own");
	v.types[6] = 7;
	refuse_gguf(&v, "tokenizer.ggml.token_type: type 7 of token 6");
	v = good;
	v.merges[1] = "ab";
	refuse_gguf(&v, "tokenizer.ggml.merges: merge 1");
	v.merges[1] = "a  b";
	refuse_gguf(&v, "tokenizer.ggml.merges: merge 1");
	v.merges[1] = "a q";
	refuse_gguf(&v, "merge 1 (a q): no token q");
	v.merges[1] = "b b";
	refuse_gguf(&v, "merge 1 (b b): no token bb");
	v.merges[1] = "a a";
	refuse_gguf(&v, "merge 1 (a a): the pair already stands at rank 0");
	v = good;
	v.bos = 7;
	refuse_gguf(&v, "tokenizer.ggml.bos_token_id is 7");
	v.bos = -1;
	refuse_gguf(&v, "tokenizer.ggml.add_bos_token");
	v = good;
	v.eos = 4000000000;
	refuse_gguf(&v, "tokenizer.ggml.eos_token_id");
	v = good;
	v.add_eos = 1;
	refuse_gguf(&v, "tokenizer.ggml.add_eos_token");
}
