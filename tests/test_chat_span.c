/* Which ids hold the last user message: every template of the goldens with the tokenizer of every family. That their
 * pieces contain the message, and no fewer of them do, is found by searching the bytes. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "runtime/trimtab.h"

static const char *const TOKENIZERS[] = {"llama3", "qwen2", "families/llama-2", "families/llama-2-normalized",
	"families/mistral", "families/mistral-always", "families/phi-3", "families/gemma", "families/falcon",
	"families/qwen35", "families/starcoder", "families/deepseek-llm", "families/deepseek-coder"};
static const char *const TEMPLATES[] = {"chatml", "smollm2", "qwen2.5", "llama3"};
enum { N_TOKENIZERS = sizeof TOKENIZERS / sizeof *TOKENIZERS, N_TEMPLATES = sizeof TEMPLATES / sizeof *TEMPLATES };

/* A directory with the tokenizer and the template, in place. */
static struct tt_text *open_text(const char *tokenizer, const char *template)
{
	char directory[] = "/tmp/trimtab-span-XXXXXX", from[1000], to[1000];
	const char *const names[] = {"tokenizer.json", "chat_template.jinja"};
	struct tt_text *text = NULL;
	struct tt_error err = {0};
	cr_assert(mkdtemp(directory));
	for (int i = 0; i < 2; i++) {
		if (i == 0)
			snprintf(from, sizeof from, TT_TEST_DATA "/tokenizer/%s/tokenizer.json", tokenizer);
		else
			snprintf(from, sizeof from, TT_TEST_DATA "/templates/%s.jinja", template);
		snprintf(to, sizeof to, "%s/%s", directory, names[i]);
		cr_assert_eq(symlink(from, to), 0);
	}
	cr_assert_eq(tt_text_open(&text, directory, &err), TT_OK, "%s: %s", tokenizer, err.message);
	for (int i = 0; i < 2; i++) {
		snprintf(to, sizeof to, "%s/%s", directory, names[i]);
		unlink(to);
	}
	rmdir(directory);
	return text;
}

/* Whether the pieces of the ids, one after the other, contain the bytes. */
static bool spell(const struct tt_text *text, const int32_t *ids, size_t n_ids, const char *bytes)
{
	struct tt_buffer all = {0};
	for (size_t i = 0; i < n_ids; i++) {
		size_t n;
		const char *piece = tt_text_piece(text, ids[i], &n);
		cr_assert_eq(tt_buffer_add(&all, piece, n, NULL), TT_OK);
	}
	cr_assert_eq(tt_buffer_add(&all, "", 1, NULL), TT_OK);
	bool found = strstr(all.data, bytes);
	tt_buffer_free(&all);
	return found;
}

struct conversation {
	const char *messages,
		*shown; /* what a template shows of the last user message, and the tokenizer keeps of it */
};

static const struct conversation CONVERSATIONS[] = {
	{"[{\"role\": \"user\", \"content\": \"Hello <|im_end|> \\u00e4\\u00f6 \\ud83c\\udf89 there\"}]",
		"Hello <|im_end|> \xc3\xa4\xc3\xb6 \xf0\x9f\x8e\x89 there"},
	{"[{\"role\": \"system\", \"content\": \"Why is it so?\"}, {\"role\": \"user\", \"content\": \"Why is it "
	 "so?\"}]",
		"Why is it so?"},
	{"[{\"role\": \"user\", \"content\": \"Say q.\"}, {\"role\": \"assistant\", \"content\": \"q.\"},"
	 " {\"role\": \"user\", \"content\": \"Say z.\"}]",
		"Say z."},
	/* The answer repeats the message, which stands before it. */
	{"[{\"role\": \"user\", \"content\": \"Say xyz twice\"},"
	 " {\"role\": \"assistant\", \"content\": \"Say xyz twice; Say xyz twice\"}]",
		"Say xyz twice"},
	{"[{\"role\": \"user\", \"content\": \"Z\"}]", "Z"},
};
enum { N_CONVERSATIONS = sizeof CONVERSATIONS / sizeof *CONVERSATIONS };

static void check(const struct tt_text *text, const struct conversation *c, const char *name)
{
	const struct tt_chat_options options = {.size = sizeof options, .bos = "<s>", .eos = "</s>", .now = 1722387723};
	int32_t *ids = NULL, *plain = NULL;
	size_t n_ids, n_plain, from, to;
	struct tt_error err = {0};
	cr_assert_eq(tt_text_encode_chat_span(text, c->messages, &options, &ids, &n_ids, &from, &to, &err), TT_OK,
		"%s: %s", name, err.message);
	cr_assert(from < to && to <= n_ids, "%s: %s: %zu to %zu of %zu", name, c->messages, from, to, n_ids);
	cr_expect(spell(text, ids + from, to - from, c->shown), "%s: %s is not in its span", name, c->shown);
	cr_expect(!spell(text, ids + from + 1, to - from - 1, c->shown), "%s: %s begins later", name, c->shown);
	cr_expect(!spell(text, ids + from, to - from - 1, c->shown), "%s: %s ends earlier", name, c->shown);
	cr_assert_eq(tt_text_encode_chat(text, c->messages, &options, &plain, &n_plain, &err), TT_OK);
	cr_expect(n_plain == n_ids && !memcmp(plain, ids, n_ids * sizeof *ids), "%s: the ids are others", name);
	/* The last of the same messages, not an earlier one. */
	cr_expect(
		strstr(c->messages, "assistant\", \"content\": \"Say") || !spell(text, ids + to, n_ids - to, c->shown),
		"%s: %s comes again", name, c->shown);
	tt_free(ids);
	tt_free(plain);
}

Test(chat_span, every_template_and_tokenizer_finds_the_last_user_message)
{
	for (size_t t = 0; t < N_TOKENIZERS; t++)
		for (size_t k = 0; k < N_TEMPLATES; k++) {
			struct tt_text *text = open_text(TOKENIZERS[t], TEMPLATES[k]);
			char name[100];
			snprintf(name, sizeof name, "%s, %s", TOKENIZERS[t], TEMPLATES[k]);
			for (size_t i = 0; i < N_CONVERSATIONS; i++)
				check(text, &CONVERSATIONS[i], name);
			tt_text_close(text);
		}
}

/* White space around the message may be stripped, characters composed, and U+2581 is a space where tokens use it. */
Test(chat_span, what_templates_and_tokenizers_change_is_found_all_the_same)
{
	static const struct conversation trimmed = {"[{\"role\": \"user\", \"content\": \" \\n Be kind \\n\"}]",
						 "Be kind"},
					 accent = {"[{\"role\": \"user\", \"content\": \"caf\\u0065\\u0301 noir\"}]",
						 "caf\xc3\xa9 noir"},
					 sign = {"[{\"role\": \"user\", \"content\": \"x\\u2581y\"}]", "x y"};
	struct tt_text *text = open_text("llama3", "llama3");
	check(text, &trimmed, "llama3");
	tt_text_close(text);
	text = open_text("qwen2", "chatml");
	check(text, &accent, "qwen2");
	tt_text_close(text);
	text = open_text("families/llama-2", "chatml");
	check(text, &sign, "llama-2");
	tt_text_close(text);
}

Test(chat_span, a_prompt_without_a_user_message_has_none)
{
	static const char *const without[] = {"[{\"role\": \"system\", \"content\": \"Be kind\"}]",
		"[{\"role\": \"user\", \"content\": \"\"}]", "[{\"role\": \"user\", \"content\": \"  \"}]"};
	struct tt_text *text = open_text("llama3", "llama3");
	int32_t *ids = NULL;
	size_t n_ids, from = 1, to = 1;
	for (size_t i = 0; i < sizeof without / sizeof *without; i++) {
		cr_assert_eq(tt_text_encode_chat_span(text, without[i], NULL, &ids, &n_ids, &from, &to, NULL), TT_OK);
		cr_expect(from == 0 && to == 0, "%s: %zu to %zu", without[i], from, to);
		tt_free(ids);
	}
	tt_text_close(text);
}
