/* Bodies as a server reads them, and the events of its streams. tests/test_batch_input.c has what a batch reads too. */
#include "base/json.h"
#include "golden.h"
#include "runtime/openai/chunk.h"

#define SHA "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static struct tt_named_policy named[] = {{.name = "a", .sha256 = SHA}, {.name = "b"}, {.name = "c"}};
static const struct tt_named_policies policies = {named, 3};

/* a and b stand, c is a shadow. */
static int parse(struct tt_api_request *body, json_t **json, const char *text, bool lenient, struct tt_error *err)
{
	struct tt_api_context context = {
		.policies = &policies,
		.max_tokens = 16,
		.sampling = {.top_p = 1, .temperature = 1, .seed = 7},
		.now = 1700000000,
		.serves = true,
		.right = TT_API_CHOOSES_ANY,
		.lenient = lenient,
		.standing = {{&named[0], 1}, {&named[1], 1}},
		.n_standing = 2,
		.shadows = {{&named[2], 0}},
		.n_shadows = 1,
		.timeout = 60,
	};
	struct tt_text *model = NULL;
	cr_assert_eq(tt_text_open(&model, GOLDEN("tiny-llama"), err), TT_OK, "%s", err->message);
	context.text = model;
	cr_assert_eq(tt_json_parse(json, text, strlen(text), "body", err), TT_OK, "%s", err->message);
	int status = tt_api_request_parse(body, *json, TT_COMPLETIONS, &context, err);
	tt_text_close(model);
	return status;
}

Test(api_body, names_the_key_at_fault)
{
	static const struct {
		const char *keys, *param, *code;
	} cases[] = {
		{"\"odd\":1", "odd", "unknown_parameter"},
		{"\"suffix\":\"x\"", "suffix", "unsupported_parameter"},
		{"\"repetition_penalty\":0", "repetition_penalty", NULL},
		{"\"repetition_penalty\":true", "repetition_penalty", NULL},
		{"\"presence_penalty\":2.1", "presence_penalty", NULL},
		{"\"frequency_penalty\":-2.1,\"presence_penalty\":1", "frequency_penalty", NULL},
		{"\"skip_special_tokens\":false", "skip_special_tokens", "unsupported_parameter"},
		{"\"min_tokens\":2", "min_tokens", "unsupported_parameter"},
		{"\"temperature\":-1", "temperature", NULL},
		{"\"temperature\":\"1\"", "temperature", NULL},
		{"\"top_p\":2", "top_p", NULL},
		{"\"min_p\":[]", "min_p", NULL},
		{"\"top_k\":-2", "top_k", NULL},
		{"\"ignore_eos\":1", "ignore_eos", NULL},
		{"\"n\":129", "n", NULL},
		{"\"best_of\":2", "best_of", NULL},
		{"\"seed\":\"1\"", "seed", NULL},
		{"\"logprobs\":21", "logprobs", NULL},
		{"\"max_tokens\":0", "max_tokens", NULL},
		{"\"stop\":[1]", "stop", NULL},
		{"\"stop_token_ids\":1", "stop_token_ids", NULL},
		{"\"stop_token_ids\":[-1]", "stop_token_ids", NULL},
		{"\"stop_token_ids\":[2147483648]", "stop_token_ids", NULL},
		{"\"stop_token_ids\":[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]", "stop_token_ids", NULL},
		{"\"stream\":1", "stream", NULL},
		{"\"stream_options\":{}", "stream_options", NULL},
		{"\"stream\":true,\"stream_options\":1", "stream_options", NULL},
		{"\"stream\":true,\"stream_options\":{\"odd\":1}", "stream_options", NULL},
		{"\"stream\":true,\"stream_options\":{\"include_usage\":1}", "stream_options", NULL},
		{"\"stream\":true,\"stream_options\":{\"include_obfuscation\":1}", "stream_options", NULL},
		{"\"stream\":true,\"stream_options\":{\"include_obfuscation\":true}", "stream_options", NULL},
		{"\"stream\":true,\"stream_options\":{\"continuous_usage_stats\":1}", "stream_options", NULL},
		{"\"timeout\":0", "timeout", NULL},
		{"\"timeout\":\"1\"", "timeout", NULL},
		{"\"steering\":true", "steering", NULL},
		{"\"steering\":{\"policies\":[{\"name\":\"a\"}],\"odd\":1}", "steering", NULL},
		{"\"steering\":{\"policies\":1}", "steering.policies", NULL},
		{"\"steering\":{\"policies\":[{},{},{},{},{}]}", "steering.policies", NULL},
		{"\"steering\":{\"policies\":[1]}", "steering.policies[0]", NULL},
		{"\"steering\":{\"policies\":[{\"name\":\"a\"},{\"path\":\"a\"}]}", "steering.policies[1]", NULL},
		{"\"steering\":{\"policies\":[{\"name\":\"a\"},{}]}", "steering.policies[1].name", NULL},
		{"\"steering\":{\"policies\":[{\"name\":1}]}", "steering.policies[0].name", NULL},
		{"\"steering\":{\"policies\":[{\"name\":\"d\"}]}", "steering.policies[0].name", NULL},
		{"\"steering\":{\"policies\":[{\"name\":\"a\",\"scale\":\"1\"}]}", "steering.policies[0].scale", NULL},
		{"\"steering\":{\"policies\":[{\"name\":\"a\",\"version\":\"0123\"}]}", "steering.policies[0].version",
			NULL},
		{"\"steering\":{\"policies\":[{\"name\":\"a\",\"version\":\"0123456789ab0\"}]}",
			"steering.policies[0].version", NULL},
		{"\"steering\":{\"policies\":[{\"name\":\"a\",\"version\":1}]}", "steering.policies[0].version", NULL},
		{"\"steering\":{\"policies\":[],\"when\":1}", "steering.when", NULL},
		/* Beside a shadow there is room for three. */
		{"\"steering\":{\"policies\":[{\"name\":\"a\"},{\"name\":\"a\"},{\"name\":\"a\"},{\"name\":\"a\"}]}",
			"steering.policies", NULL},
		{"\"prompt_logprobs_from\":1", "prompt_logprobs_from", NULL},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tt_api_request body;
		struct tt_error err = {0};
		json_t *json;
		char text[400];
		snprintf(text, sizeof text, "{\"prompt\":\"x\",%s}", cases[i].keys);
		cr_expect_neq(parse(&body, &json, text, false, &err), TT_OK, "%s", cases[i].keys);
		cr_expect_str_eq(body.param, cases[i].param, "%s: %s", cases[i].keys, body.param);
		cr_expect(cases[i].code ? body.code && strcmp(body.code, cases[i].code) == 0 : !body.code, "%s",
			cases[i].keys);
		cr_expect(*err.message);
		json_decref(json);
	}
}

static void expect_stack(const char *steering, const char *names, uint32_t n_acting)
{
	struct tt_api_request body;
	struct tt_error err = {0};
	json_t *json;
	char text[300], got[TT_MAX_STACK + 1] = "";
	snprintf(text, sizeof text, "{\"prompt\":\"x\"%s%s}", *steering ? ",\"steering\":" : "", steering);
	cr_assert_eq(parse(&body, &json, text, false, &err), TT_OK, "%s", err.message);
	for (uint32_t i = 0; i < body.options.n_steering; i++) {
		strcat(got, body.policies[i]->name);
		cr_expect(i < n_acting || body.options.steering[i].scale == 0, "a shadow acts");
	}
	cr_expect_str_eq(got, names, "%s: %s", steering, got);
	cr_expect_eq(body.n_acting, n_acting, "%s", steering);
	tt_api_request_free(&body);
	json_decref(json);
}

Test(api_body, stacks_what_stands_or_what_is_named)
{
	expect_stack("", "abc", 2);
	expect_stack("null", "abc", 2);
	expect_stack("false", "c", 0);
	expect_stack("{\"policies\":[]}", "c", 0);
	expect_stack("{\"policies\":[{\"name\":\"b\"},{\"name\":\"a\",\"version\":\"" SHA "\"}]}", "bac", 2);
	expect_stack("{\"policies\":[{\"name\":\"a\",\"version\":\"0123456789ab\"}]}", "ac", 1);
}

Test(api_body, reads_what_a_server_does)
{
	struct tt_api_request body;
	struct tt_error err = {0};
	json_t *json;
	cr_assert_eq(parse(&body, &json,
			     "{\"prompt\":\"x\",\"stream\":true,\"stream_options\":{\"include_usage\":true,"
			     "\"continuous_usage_stats\":true,\"include_obfuscation\":false},\"timeout\":2.5,"
			     "\"stop_token_ids\":[3,9],\"repetition_penalty\":1.25,\"length_penalty\":null,"
			     "\"presence_penalty\":-2,\"frequency_penalty\":0.5,"
			     "\"skip_special_tokens\":true,\"odd\":1,\"a:b\":2}",
			     true, &err),
		TT_OK, "%s", err.message);
	cr_expect(body.stream && body.include_usage && body.continuous_usage && body.options.timeout == 2.5);
	cr_expect(body.options.repetition_penalty == 1.25f && body.options.presence_penalty == -2 &&
		  body.options.frequency_penalty == 0.5f);
	cr_expect(body.n_stop_ids == 2 && body.stop_ids[0] == 3 && body.stop_ids[1] == 9);
	cr_expect(body.options.sampling.seed == 7 && body.options.max_tokens == 16 && !*body.param && !body.code);
	cr_expect(strstr(body.ignored, "odd") && strstr(body.ignored, "a?") && !strchr(body.ignored, ':'));
	tt_api_request_free(&body);
	json_decref(json);
	cr_assert_eq(
		parse(&body, &json, "{\"prompt\":\"x\",\"timeout\":100,\"stream_options\":null}", false, &err), TT_OK);
	cr_expect(body.options.timeout == 60 && !body.stream && !*body.ignored, "not longer than the server has it");
	tt_api_request_free(&body);
	json_decref(json);
}

/* As jansson reads it, whatever the text. */
Test(api_body, quotes_every_character)
{
	struct tt_buffer out = {0};
	char text[0x80 + 16];
	for (int c = 0; c < 0x80; c++)
		text[c] = (char)c;
	memcpy(text + 0x80, "\xC3\xA9\xE4\xB8\x96\xF0\x9F\x98\x80\xE2\x80\xA8", 12);
	cr_assert_eq(tt_add_quoted(&out, text, 0x80 + 12, NULL), TT_OK);
	json_t *read = json_loadb(out.data, out.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	cr_assert_not_null(read, "%s", out.data);
	cr_expect(json_string_length(read) == 0x80 + 12 && memcmp(json_string_value(read), text, 0x80 + 12) == 0);
	for (size_t i = 0; i < out.len; i++)
		cr_expect((unsigned char)out.data[i] >= ' ', "a control character that would end an event");
	json_decref(read);
	tt_buffer_free(&out);
}
