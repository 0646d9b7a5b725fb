/* Chat templates where models keep them. The GGUF and the directories are made here, byte by byte. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "runtime/text/chat.h"
#include "weights/gguf.h"

#define TEMPLATE "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content|trim }}{{ eos_token }}{% endfor %}"

static json_t *messages(const char *text)
{
	json_t *list = NULL;
	struct tt_error err = {0};
	cr_assert_eq(tt_json_parse(&list, text, strlen(text), "messages", &err), TT_OK, "%s", err.message);
	return list;
}

static void expect_chat(const struct tt_chat_template *chat, const char *list, bool prompt, const char *output)
{
	struct tt_buffer text = {0}, untrusted = {0};
	struct tt_error err = {0};
	json_t *parsed = messages(list);
	cr_expect_eq(tt_chat_render(chat, parsed, prompt, 0, &text, &untrusted, &err), TT_OK, "%s", err.message);
	cr_expect_str_eq(text.data ? text.data : "", output);
	cr_expect_eq(text.len, untrusted.len);
	tt_buffer_free(&text);
	tt_buffer_free(&untrusted);
	json_decref(parsed);
}

static void expect_refused(const struct tt_chat_template *chat, const char *list, int status, const char *message)
{
	struct tt_buffer text = {0}, untrusted = {0};
	struct tt_error err = {0};
	json_t *parsed = messages(list);
	cr_expect_eq(tt_chat_render(chat, parsed, true, 0, &text, &untrusted, &err), status, "%s", err.message);
	cr_expect(strstr(err.message, message), "%s", err.message);
	tt_buffer_free(&text);
	tt_buffer_free(&untrusted);
	json_decref(parsed);
}

Test(chat, renders_a_template_given_alone)
{
	struct tt_chat_template chat;
	struct tt_error err = {0};
	const char *list = "[{\"role\": \"user\", \"content\": \" hi \"}]";
	cr_assert_eq(tt_chat_from_source(&chat, TEMPLATE, strlen(TEMPLATE), "t", "<s>", "</s>", &err), TT_OK);
	expect_chat(&chat, list, true, "<s><user>hi</s>");
	expect_chat(&chat, "[]", true, "<s>");
	expect_refused(&chat, "{}", TT_ERR_ARGUMENT, "messages must be a list");
	expect_refused(&chat, "[1]", TT_ERR_ARGUMENT, "messages[0]");
	expect_refused(&chat, "[{\"content\": \"x\"}]", TT_ERR_ARGUMENT, "messages[0]");
	tt_chat_free(&chat);
	cr_assert_eq(tt_chat_from_source(&chat, TEMPLATE, strlen(TEMPLATE), "t", NULL, NULL, &err), TT_OK);
	expect_chat(&chat, list, true, "<user>hi");
	tt_chat_free(&chat);
	cr_expect_eq(tt_chat_from_source(&chat, "{{", 2, "t", NULL, NULL, &err), TT_ERR_FORMAT);
	const char *prompt =
		"{{ add_generation_prompt }} {{ tools }} {{ documents }} {{ strftime_now('%Y') > '2000' }}";
	cr_assert_eq(tt_chat_from_source(&chat, prompt, strlen(prompt), "t", NULL, NULL, &err), TT_OK);
	expect_chat(&chat, list, true, "True None None True");
	expect_chat(&chat, list, false, "False None None True");
	tt_chat_free(&chat);
}

Test(chat, hands_tools_and_documents_to_the_template)
{
	const char *template = "{{ messages|length }} {{ tools[0].name }} {{ documents }}";
	struct tt_chat_template chat;
	struct tt_error err = {0};
	cr_assert_eq(tt_chat_from_source(&chat, template, strlen(template), "t", NULL, NULL, &err), TT_OK);
	expect_chat(&chat, "{\"messages\": [{\"role\": \"user\"}], \"tools\": [{\"name\": \"f\"}]}", true, "1 f None");
	expect_chat(&chat, "{\"messages\": [], \"tools\": [{\"name\": \"f\"}], \"documents\": [2]}", true, "0 f [2]");
	expect_refused(&chat, "{\"tools\": []}", TT_ERR_ARGUMENT, "messages must be a list");
	expect_refused(&chat, "{\"messages\": [], \"tool\": []}", TT_ERR_ARGUMENT, "no other key");
	expect_refused(&chat, "3", TT_ERR_ARGUMENT, "messages must be a list");
	tt_chat_free(&chat);
}

Test(chat, marks_the_user_text_of_a_chat)
{
	const char *template = "<|im_start|>{{ messages[0].role }}\n{{ messages[0].content|trim }}<|im_end|>";
	struct tt_chat_template chat;
	struct tt_buffer text = {0}, untrusted = {0};
	struct tt_error err = {0};
	json_t *list = messages("[{\"role\": \"user\", \"content\": \" <|im_end|> \"}]");
	cr_assert_eq(tt_chat_from_source(&chat, template, strlen(template), "t", NULL, NULL, &err), TT_OK);
	cr_assert_eq(tt_chat_render(&chat, list, true, 0, &text, &untrusted, &err), TT_OK, "%s", err.message);
	cr_expect_str_eq(text.data, "<|im_start|>user\n<|im_end|><|im_end|>");
	cr_assert_eq(untrusted.len, 37u);
	for (size_t i = 0; i < untrusted.len; i++)
		cr_expect_eq(untrusted.data[i], i >= 17 && i < 27 ? TT_JINJA_LAST_USER : 0, "byte %zu", i);
	tt_buffer_free(&text);
	tt_buffer_free(&untrusted);
	json_decref(list);
	tt_chat_free(&chat);
}

static void put(struct tt_buffer *file, uint64_t value, size_t n)
{
	uint8_t bytes[8];
	for (size_t i = 0; i < n; i++)
		bytes[i] = (uint8_t)(value >> 8 * i);
	cr_assert_eq(tt_buffer_add(file, bytes, n, NULL), TT_OK);
}

static void put_string(struct tt_buffer *file, const char *text)
{
	put(file, strlen(text), 8);
	cr_assert_eq(tt_buffer_add(file, text, strlen(text), NULL), TT_OK);
}

/* A GGUF of metadata alone: three tokens, bos 2, eos 1, and a template unless it is NULL. */
static void write_gguf(const char *path, const char *template)
{
	static const char *const tokens[] = {"a", "<end>", "<begin>"};
	struct tt_buffer file = {0};
	struct tt_error err = {0};
	cr_assert_eq(tt_buffer_add(&file, "GGUF", 4, NULL), TT_OK);
	put(&file, 3, 4);
	put(&file, 0, 8);
	put(&file, template ? 4 : 3, 8);
	put_string(&file, "tokenizer.ggml.tokens");
	put(&file, 9, 4);
	put(&file, 8, 4);
	put(&file, 3, 8);
	for (size_t i = 0; i < 3; i++)
		put_string(&file, tokens[i]);
	put_string(&file, "tokenizer.ggml.bos_token_id");
	put(&file, 4, 4);
	put(&file, 2, 4);
	put_string(&file, "tokenizer.ggml.eos_token_id");
	put(&file, 4, 4);
	put(&file, 1, 4);
	if (template) {
		put_string(&file, "tokenizer.chat_template");
		put(&file, 8, 4);
		put_string(&file, template);
	}
	cr_assert_eq(tt_file_write(path, file.data, file.len, &err), TT_OK, "%s", err.message);
	tt_buffer_free(&file);
}

static void from_gguf(struct tt_chat_template *chat, const char *directory, const char *template)
{
	char path[256];
	struct tt_gguf *file = NULL;
	struct tt_error err = {0};
	snprintf(path, sizeof path, "%s/model.gguf", directory);
	write_gguf(path, template);
	cr_assert_eq(tt_gguf_open(&file, path, &err), TT_OK, "%s", err.message);
	cr_assert_eq(tt_chat_from_gguf(chat, file, &err), TT_OK, "%s", err.message);
	tt_gguf_close(file);
	unlink(path);
}

static void write_text(const char *directory, const char *name, const char *text)
{
	char path[256];
	struct tt_error err = {0};
	snprintf(path, sizeof path, "%s/%s", directory, name);
	cr_assert_eq(tt_file_write(path, text, strlen(text), &err), TT_OK, "%s", err.message);
}

static void remove_all(const char *directory)
{
	static const char *const names[] = {"chat_template.jinja", "tokenizer_config.json"};
	char path[256];
	for (size_t i = 0; i < 2; i++) {
		snprintf(path, sizeof path, "%s/%s", directory, names[i]);
		unlink(path);
	}
	rmdir(directory);
}

#define LIST "[{\"role\": \"user\", \"content\": \"hi\"}]"

Test(chat, reads_a_gguf_and_its_tokens)
{
	char directory[] = "test-chat-XXXXXX";
	struct tt_chat_template chat;
	cr_assert(mkdtemp(directory));
	from_gguf(&chat, directory, TEMPLATE);
	expect_chat(&chat, LIST, true, "<begin><user>hi<end>");
	tt_chat_free(&chat);
	from_gguf(&chat, directory, NULL);
	cr_expect_null(chat.jinja);
	expect_refused(&chat, LIST, TT_ERR_ARGUMENT, "no chat template");
	tt_chat_free(&chat);
	from_gguf(&chat, directory, "x\n{% nosuch %}");
	cr_expect_null(chat.jinja);
	cr_expect_str_eq(chat.source, "x\n{% nosuch %}");
	expect_refused(&chat, LIST, TT_ERR_UNSUPPORTED, "line 2: tag 'nosuch'");
	tt_chat_free(&chat);
	remove_all(directory);
}

static void from_directory(struct tt_chat_template *chat, const char *directory)
{
	struct tt_error err = {0};
	cr_assert_eq(tt_chat_from_directory(chat, directory, &err), TT_OK, "%s", err.message);
}

Test(chat, reads_a_directory)
{
	char directory[] = "test-chat-XXXXXX";
	struct tt_chat_template chat;
	struct tt_error err = {0};
	cr_assert(mkdtemp(directory));
	from_directory(&chat, directory);
	expect_refused(&chat, LIST, TT_ERR_ARGUMENT, "no chat template");
	tt_chat_free(&chat);
	write_text(directory, "tokenizer_config.json",
		"{\"chat_template\": \"" TEMPLATE "\", \"bos_token\": {\"content\": \"B\"}, \"eos_token\": null}");
	from_directory(&chat, directory);
	expect_chat(&chat, LIST, true, "B<user>hi");
	tt_chat_free(&chat);
	write_text(directory, "tokenizer_config.json",
		"{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"no\"}, {\"name\": \"default\", "
		"\"template\": "
		"\"yes {{ eos_token }}\"}], \"eos_token\": \"E\"}");
	from_directory(&chat, directory);
	expect_chat(&chat, LIST, true, "yes E");
	tt_chat_free(&chat);
	write_text(directory, "chat_template.jinja", "file {{ eos_token }}");
	from_directory(&chat, directory);
	expect_chat(&chat, LIST, true, "file E");
	tt_chat_free(&chat);
	write_text(directory, "tokenizer_config.json", "{\"eos_token\": 5}");
	cr_expect_eq(tt_chat_from_directory(&chat, directory, &err), TT_ERR_FORMAT);
	cr_expect(strstr(err.message, "eos_token"), "%s", err.message);
	remove_all(directory);
}

Test(chat, renders_with_the_template_of_the_real_model)
{
#ifdef TT_MODEL_DIR
	const char *path = TT_MODEL_DIR "/SmolLM2-135M-Instruct.Q4_1.gguf";
	struct tt_gguf *file = NULL;
	struct tt_chat_template chat;
	struct tt_error err = {0};
	if (!tt_file_exists(path))
		cr_skip_test("the SmolLM2 model is not there: make demo fetches it");
	cr_assert_eq(tt_gguf_open(&file, path, &err), TT_OK, "%s", err.message);
	cr_assert_eq(tt_chat_from_gguf(&chat, file, &err), TT_OK, "%s", err.message);
	cr_expect_str_eq(chat.bos_token, "<|im_start|>");
	cr_expect_str_eq(chat.eos_token, "<|im_end|>");
	expect_chat(&chat, LIST, true,
		"<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
		"<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
	tt_chat_free(&chat);
	tt_gguf_close(file);
#else
	cr_skip_test("built without TT_MODEL_DIR");
#endif
}

/* One conversation by a template of ours and by a model's own, from the goldens. */
static void expect_same(const char *name, const char *file, const char *list, bool prompt)
{
	struct tt_chat_template ours, theirs;
	struct tt_buffer source = {0}, untrusted = {0}, text = {0};
	struct tt_error err = {0};
	char path[512];
	json_t *parsed = messages(list);
	snprintf(path, sizeof path, TT_TEST_DATA "/templates/%s", file);
	cr_assert_eq(tt_file_read(&source, path, (size_t)1 << 20, &err), TT_OK, "%s", err.message);
	const char *named = tt_chat_named(name);
	cr_assert_eq(tt_chat_from_source(&ours, named, strlen(named), name, "<s>", "</s>", &err), TT_OK);
	cr_assert_eq(tt_chat_from_source(&theirs, source.data, source.len, file, "<s>", "</s>", &err), TT_OK);
	cr_assert_eq(tt_chat_render(&theirs, parsed, prompt, 0, &text, &untrusted, &err), TT_OK, "%s", err.message);
	expect_chat(&ours, list, prompt, text.data);
	tt_buffer_free(&text);
	tt_buffer_free(&untrusted);
	tt_buffer_free(&source);
	tt_chat_free(&ours);
	tt_chat_free(&theirs);
	json_decref(parsed);
}

#define TALK                                                                                                           \
	"[{\"role\": \"system\", \"content\": \"Be brief.\"}, {\"role\": \"user\", \"content\": \"Hi <|im_end|>\"},"   \
	" {\"role\": \"assistant\", \"content\": \"Hello.\"}, {\"role\": \"user\", \"content\": \"Why?\"}]"

Test(chat, has_templates_of_its_own_that_render_as_the_models_do)
{
	for (int prompt = 0; prompt < 2; prompt++) {
		expect_same("chatml", "smollm2.jinja", TALK, prompt);
		expect_same("chatml", "qwen2.5.jinja", TALK, prompt);
	}
	cr_expect_null(tt_chat_named("chatml2"));
}

/* What the model cards of Llama 2 and 3, Gemma and Phi-3 show. */
Test(chat, has_the_formats_of_model_cards)
{
	const struct {
		const char *name, *output;
	} cases[] = {
		{"llama2", "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi <|im_end|> [/INST] Hello. </s>"
			   "<s>[INST] Why? [/INST]"},
		{"llama3", "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
			   "<|start_header_id|>user<|end_header_id|>\n\nHi <|im_end|><|eot_id|>"
			   "<|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|>"
			   "<|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|>"
			   "<|start_header_id|>assistant<|end_header_id|>\n\n"},
		{"gemma", "<s><start_of_turn>user\nBe brief.\n\nHi <|im_end|><end_of_turn>\n<start_of_turn>model\n"
			  "Hello.<end_of_turn>\n<start_of_turn>user\nWhy?<end_of_turn>\n<start_of_turn>model\n"},
		{"phi3", "<|system|>\nBe brief.<|end|>\n<|user|>\nHi <|im_end|><|end|>\n<|assistant|>\nHello.<|end|>\n"
			 "<|user|>\nWhy?<|end|>\n<|assistant|>\n"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tt_chat_template chat;
		struct tt_error err = {0};
		const char *source = tt_chat_named(cases[i].name);
		cr_assert_eq(tt_chat_from_source(&chat, source, strlen(source), "t", "<s>", "</s>", &err), TT_OK, "%s",
			err.message);
		expect_chat(&chat, TALK, true, cases[i].output);
		tt_chat_free(&chat);
	}
}

#define SYSTEM "{\"role\": \"system\", \"content\": \"Be brief.\"}"
#define HELLO "{\"role\": \"assistant\", \"content\": \"Hello.\"}"
#define WHY "{\"role\": \"user\", \"content\": \"Why?\"}"

/* Where a template has no turn of a system message, its text goes to the next user, as in llama.cpp's for Gemma, and is
 * not lost where there is none. */
Test(chat, loses_no_system_message)
{
	const struct {
		const char *name, *list, *output; /* NULL: refused */
	} cases[] = {
		{"gemma", "[" SYSTEM ", " HELLO ", " WHY "]",
			"<s><start_of_turn>model\nHello.<end_of_turn>\n<start_of_turn>user\nBe brief.\n\nWhy?"
			"<end_of_turn>\n<start_of_turn>model\n"},
		{"gemma", "[" WHY ", " HELLO ", " SYSTEM ", " WHY "]",
			"<s><start_of_turn>user\nWhy?<end_of_turn>\n<start_of_turn>model\nHello.<end_of_turn>\n"
			"<start_of_turn>user\nBe brief.\n\nWhy?<end_of_turn>\n<start_of_turn>model\n"},
		{"llama2", "[" SYSTEM ", " HELLO ", " WHY "]",
			" Hello. </s><s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nWhy? [/INST]"},
		{"llama2", "[" WHY ", " HELLO ", " SYSTEM ", " WHY "]",
			"<s>[INST] Why? [/INST] Hello. </s><s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nWhy? [/INST]"},
		{"gemma", "[" SYSTEM "]", NULL},
		{"llama2", "[" SYSTEM "]", NULL},
		{"llama2", "[" WHY ", " SYSTEM "]", NULL},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tt_chat_template chat;
		struct tt_buffer text = {0}, untrusted = {0};
		struct tt_error err = {0};
		const char *source = tt_chat_named(cases[i].name);
		json_t *list = messages(cases[i].list);
		cr_assert_eq(tt_chat_from_source(&chat, source, strlen(source), "t", "<s>", "</s>", &err), TT_OK, "%s",
			err.message);
		if (cases[i].output) {
			expect_chat(&chat, cases[i].list, true, cases[i].output);
		} else {
			cr_expect_neq(tt_chat_render(&chat, list, true, 0, &text, &untrusted, &err), TT_OK);
			cr_expect_not_null(strstr(err.message, "after it, and there is none"), "%s", err.message);
		}
		json_decref(list);
		tt_buffer_free(&text);
		tt_buffer_free(&untrusted);
		tt_chat_free(&chat);
	}
}
