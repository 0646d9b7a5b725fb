/* The tokenizer's side of scripts/measure/conformance.py: conformance VOCABULARY CASES.json, the first a GGUF file or a
 * directory with tokenizer.json, the second a list of {"text", "ids", "special", "decoded"}: the ids of the text, with
 * special tokens recognised or not, and the text of the ids (without "decoded": not compared). Prints "passed N of M"
 * or "refused: why"; exits 1 unless all passed. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "runtime/text/tokenizer/tokenizer.h"
#include "weights/gguf.h"

static int open_tokenizer(struct tt_tokenizer **out, const char *path, struct tt_error *err)
{
	struct tt_gguf *file = NULL;
	if (tt_file_is_directory(path))
		return tt_tokenizer_from_directory(out, path, err);
	int status = tt_gguf_open(&file, path, err);
	if (status == TT_OK)
		status = tt_tokenizer_from_gguf(out, file, err);
	tt_gguf_close(file);
	return status;
}

static bool same_ids(const struct tt_ids *ids, const json_t *want)
{
	bool same = ids->len == json_array_size(want);
	for (size_t i = 0; same && i < ids->len; i++)
		same = ids->data[i] == json_integer_value(json_array_get(want, i));
	return same;
}

static bool same_text(const struct tt_tokenizer *tokenizer, const struct tt_ids *ids, const char *want)
{
	struct tt_error err = {0};
	char *text = NULL;
	bool same =
		tt_tokenizer_decode(tokenizer, ids->data, ids->len, &text, &err) == TT_OK && strcmp(text, want) == 0;
	if (!same)
		fprintf(stderr, "  decoded: '%s' and not '%s'\n", text ? text : err.message, want);
	free(text);
	return same;
}

static bool check(const struct tt_tokenizer *tokenizer, const json_t *one)
{
	struct tt_error err = {0};
	struct tt_ids ids = {0};
	const json_t *text = json_object_get(one, "text"), *want = json_object_get(one, "ids");
	const char *decoded = json_string_value(json_object_get(one, "decoded"));
	unsigned flags = json_is_true(json_object_get(one, "special")) ? TT_ENCODE_SPECIAL : 0;
	bool same = tt_tokenizer_encode(tokenizer, json_string_value(text), json_string_length(text), NULL, flags, &ids,
			    &err) == TT_OK &&
		    same_ids(&ids, want);
	if (!same) {
		fprintf(stderr, "  '%s': %s\n   ", json_string_value(text), err.message);
		for (size_t i = 0; i < ids.len; i++)
			fprintf(stderr, " %d", ids.data[i]);
		fprintf(stderr, "\n  and not\n   ");
		for (size_t i = 0; i < json_array_size(want); i++)
			fprintf(stderr, " %d", (int)json_integer_value(json_array_get(want, i)));
		fprintf(stderr, "\n");
	} else if (decoded) {
		same = same_text(tokenizer, &ids, decoded);
	}
	tt_ids_free(&ids);
	return same;
}

int main(int argc, char **argv)
{
	struct tt_error err = {0};
	struct tt_tokenizer *tokenizer = NULL;
	json_t *cases = NULL;
	size_t passed = 0, n = 0;
	if (argc != 3) {
		fprintf(stderr, "usage: conformance VOCABULARY CASES.json\n");
		return 2;
	}
	if (tt_json_load(&cases, argv[2], (size_t)64 << 20, &err) != TT_OK) {
		fprintf(stderr, "conformance: %s\n", err.message);
		return 1;
	}
	if (open_tokenizer(&tokenizer, argv[1], &err) != TT_OK) {
		printf("refused: %s\n", err.message);
	} else {
		for (n = 0; n < json_array_size(cases); n++)
			passed += check(tokenizer, json_array_get(cases, n));
		printf("passed %zu of %zu\n", passed, n);
	}
	tt_tokenizer_free(tokenizer);
	json_decref(cases);
	return n && passed == n ? 0 : 1;
}
