/* The parts of a batch before any row runs: lines, ids that were seen, the sweep, bodies. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "runtime/batch/ids.h"
#include "base/lines.h"
#include "runtime/batch/sweep.h"
#include "runtime/openai/request_body.h"
#include "weights_files.h"

static const char *const FILES[] = {"rows.jsonl"};

Test(batch_input, takes_lines_of_every_end_and_leaves_blank_ones_out)
{
	static const char text[] = "\xEF\xBB\xBF"
				   "a\r\n\n \t\r\nbb\nlast";
	static const struct {
		const char *line;
		uint64_t number, offset;
		bool ended;
	} want[] = {{"a\r", 1, 6, true}, {"bb", 4, 14, true}, {"last", 5, 18, false}};
	struct scratch s;
	struct tt_lines lines;
	struct tt_error err = {0};
	bool found;
	scratch_make(&s);
	const char *path = scratch_write(&s, FILES[0], text, sizeof text - 1);
	cr_assert_eq(tt_lines_open(&lines, path, sizeof text - 1, &err), TT_OK, "%s", err.message);
	for (size_t i = 0; i < 3; i++) {
		cr_assert_eq(tt_lines_next(&lines, &found, &err), TT_OK, "%s", err.message);
		cr_assert(found);
		cr_expect_str_eq(lines.line.data, want[i].line);
		cr_expect(lines.number == want[i].number && lines.offset == want[i].offset &&
				  lines.ended == want[i].ended,
			"%zu: number %llu, offset %llu", i, (unsigned long long)lines.number,
			(unsigned long long)lines.offset);
	}
	cr_assert_eq(tt_lines_next(&lines, &found, &err), TT_OK);
	cr_expect_not(found);
	tt_lines_close(&lines);
	scratch_remove(&s, FILES, 1);
}

Test(batch_input, passes_over_a_line_that_is_too_long)
{
	static char text[TT_MAX_LINE + 10];
	struct scratch s;
	struct tt_lines lines;
	struct tt_error err = {0};
	bool found;
	memset(text, 'x', sizeof text);
	memcpy(text + sizeof text - 4, "\nok\n", 4);
	scratch_make(&s);
	const char *path = scratch_write(&s, FILES[0], text, sizeof text);
	cr_assert_eq(tt_lines_open(&lines, path, sizeof text, &err), TT_OK, "%s", err.message);
	cr_assert_eq(tt_lines_next(&lines, &found, &err), TT_OK, "%s", err.message);
	cr_expect(found && lines.too_long && lines.line.len <= TT_MAX_LINE);
	cr_assert_eq(tt_lines_next(&lines, &found, &err), TT_OK, "%s", err.message);
	cr_expect(found && !lines.too_long);
	cr_expect_str_eq(lines.line.data, "ok");
	tt_lines_close(&lines);
	scratch_remove(&s, FILES, 1);
}

/* A line of exactly the limit is kept whole; one byte more is too long. */
Test(batch_input, a_line_of_exactly_its_limit_is_kept)
{
	static char text[2 * TT_MAX_LINE + 3];
	struct scratch s;
	struct tt_lines lines;
	struct tt_error err = {0};
	bool found;
	memset(text, 'x', sizeof text);
	text[TT_MAX_LINE] = text[sizeof text - 1] = '\n';
	scratch_make(&s);
	const char *path = scratch_write(&s, FILES[0], text, sizeof text);
	cr_assert_eq(tt_lines_open(&lines, path, sizeof text, &err), TT_OK, "%s", err.message);
	cr_assert_eq(tt_lines_next(&lines, &found, &err), TT_OK, "%s", err.message);
	cr_expect(found && !lines.too_long && lines.line.len == TT_MAX_LINE);
	cr_assert_eq(tt_lines_next(&lines, &found, &err), TT_OK, "%s", err.message);
	cr_expect(found && lines.too_long);
	tt_lines_close(&lines);
	scratch_remove(&s, FILES, 1);
}

Test(batch_input, names_a_file_that_became_shorter)
{
	struct scratch s;
	struct tt_lines lines;
	struct tt_error err = {0};
	bool found;
	scratch_make(&s);
	const char *path = scratch_write(&s, FILES[0], "a\nb", 3);
	cr_assert_eq(tt_lines_open(&lines, path, 5, &err), TT_OK);
	cr_assert_eq(tt_lines_next(&lines, &found, &err), TT_OK);
	expect_refused(
		tt_lines_next(&lines, &found, &err), &err, "shorter", path, "it became shorter while it was read");
	tt_lines_close(&lines);
	scratch_remove(&s, FILES, 1);
	expect_refused(tt_lines_open(&lines, path, 5, &err), &err, "absent", path, "cannot open");
	tt_lines_close(&lines);
}

Test(batch_input, remembers_a_hundred_thousand_ids)
{
	struct tt_ids_seen ids = {0};
	struct tt_error err = {0};
	bool earlier;
	char id[32];
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < 100000; i++) {
			snprintf(id, sizeof id, "row-%d", i);
			cr_assert_eq(tt_ids_seen_add(&ids, id, 0, &earlier, &err), TT_OK, "%s", err.message);
			cr_assert_eq(earlier, round == 1, "%s", id);
		}
	cr_expect_eq(ids.n, 100000);
	tt_ids_seen_free(&ids);
}

static const struct tt_batch_policy POLICIES[] = {{"a", "a.safetensors"}, {"b.c-_9", "b.safetensors"}};

static int parse(struct tt_sweep *sweep, const struct tt_batch_policy *policies, size_t n, const char *text,
	struct tt_error *err)
{
	struct tt_batch_options options;
	tt_batch_options_default(&options);
	options.policies = policies;
	options.n_policies = n;
	options.sweep = text;
	return tt_batch_sweep(sweep, &options, err);
}

Test(batch_input, reads_a_sweep_with_its_scales_as_written)
{
	static const char *const want[] = {"#b.c-_9@0", "#b.c-_9@-1.50", "#b.c-_9@1e2", "#a@0", "#a@-1.50", "#a@1e2"};
	static const float scales[] = {0, -1.5f, 100, 0, -1.5f, 100};
	struct tt_sweep sweep;
	struct tt_error err = {0};
	cr_assert_eq(parse(&sweep, POLICIES, 2, "b.c-_9,a@0,-1.50,1e2", &err), TT_OK, "%s", err.message);
	cr_assert_eq(sweep.n, 6);
	for (size_t i = 0; i < 6; i++) {
		cr_expect_str_eq(sweep.cases[i].suffix, want[i]);
		cr_expect(sweep.cases[i].name == (i < 3) && sweep.cases[i].scale == scales[i]);
	}
	cr_expect_eq(tt_sweep_keep_one_baseline(&sweep), 1); /* a@0, which is b.c-_9@0 */
	cr_expect_eq(tt_sweep_keep_one_baseline(&sweep), 0);
	cr_assert_eq(sweep.n, 5);
	for (size_t i = 0; i < 5; i++)
		cr_expect_str_eq(sweep.cases[i].suffix, want[i < 3 ? i : i + 1]);
	tt_sweep_free(&sweep);
	cr_assert_eq(parse(&sweep, POLICIES, 2, NULL, &err), TT_OK);
	cr_expect_eq(sweep.n, 0);
	tt_sweep_free(&sweep);
}

/* As many cases as a sweep may have, and one more. */
Test(batch_input, takes_the_largest_sweep_and_no_larger)
{
	struct tt_sweep sweep;
	struct tt_error err = {0};
	struct tt_buffer text = {0};
	cr_assert_eq(tt_buffer_print(&text, &err, "a@0"), TT_OK);
	for (int i = 1; i < TT_MAX_SWEEP; i++)
		cr_assert_eq(tt_buffer_print(&text, &err, ",%d", i), TT_OK);
	cr_assert_eq(parse(&sweep, POLICIES, 2, text.data, &err), TT_OK, "%s", err.message);
	cr_expect_eq(sweep.n, TT_MAX_SWEEP);
	cr_expect_eq(sweep.cases[TT_MAX_SWEEP - 1].scale, TT_MAX_SWEEP - 1);
	tt_sweep_free(&sweep);
	cr_assert_eq(tt_buffer_print(&text, &err, ",%d", TT_MAX_SWEEP), TT_OK);
	expect_refused(parse(&sweep, POLICIES, 2, text.data, &err), &err, "one more", "", "more than 1024 cases");
	tt_buffer_free(&text);
}

Test(batch_input, refuses_a_sweep_by_what_is_wrong)
{
	static const struct {
		const char *sweep, *words;
	} cases[] = {{"", "is not NAME,..@SCALE,.."}, {"a", "is not NAME,..@SCALE,.."},
		{"a@1@2", "is not NAME,..@SCALE,.."}, {"@1", "the sweep names ''"}, {"a,@1", "the sweep names ''"},
		{"c@1", "the sweep names 'c'"}, {"a@", "the scale ''"}, {"a@1,", "the scale ''"},
		{"a@x", "the scale 'x'"}, {"a@nan", "the scale 'nan'"}, {"a@1e99", "the scale '1e99'"},
		{"a@0x10", "the scale '0x10'"}, {"a@1 ", "the scale '1 '"},
		{"a@1111111111111111111111111111111111111111", "which is no number"},
		{"a@1,1", "the sweep has a@1 twice"}, {"a,a@1", "the sweep has a@1 twice"}};
	struct tt_batch_policy names[] = {{"a", "a"}, {"a", "b"}};
	struct tt_sweep sweep;
	struct tt_error err = {0};
	struct tt_buffer many = {0};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		expect_refused(
			parse(&sweep, POLICIES, 2, cases[i].sweep, &err), &err, cases[i].sweep, "", cases[i].words);
	expect_refused(parse(&sweep, names, 2, NULL, &err), &err, "twice", "", "two policies are called a");
	names[1].name = "b c";
	expect_refused(parse(&sweep, names, 2, NULL, &err), &err, "space", "", "'b c' is no name for a policy");
	names[1].name = "";
	expect_refused(parse(&sweep, names, 2, NULL, &err), &err, "empty", "", "'' is no name for a policy");
	expect_refused(parse(&sweep, names, 257, NULL, &err), &err, "many", "", "more than 256 policies");
	cr_assert_eq(tt_buffer_print(&many, &err, "a@0"), TT_OK);
	for (int i = 1; i <= TT_MAX_SWEEP; i++)
		cr_assert_eq(tt_buffer_print(&many, &err, ",%d", i), TT_OK);
	expect_refused(parse(&sweep, POLICIES, 2, many.data, &err), &err, "cases", "", "more than 1024 cases");
	tt_buffer_free(&many);
}

static int parse_body(struct tt_api_request *body, const char *text, enum tt_endpoint endpoint, struct tt_error *err)
{
	struct tt_named_policy named[] = {{.name = "a"}, {.name = "b"}};
	struct tt_named_policies policies = {named, 2};
	struct tt_api_context context = {
		.policies = &policies, .max_tokens = 4, .sampling.top_p = 1, .now = 1700000000};
	struct tt_text *model = NULL;
	json_t *json = NULL;
	cr_assert_eq(tt_text_open(&model, TT_TEST_DATA "/tiny-llama", err), TT_OK, "%s", err->message);
	context.text = model;
	cr_assert_eq(tt_json_parse(&json, text, strlen(text), "body", err), TT_OK, "%s", err->message);
	int status = tt_api_request_parse(body, json, endpoint, &context, err);
	json_decref(json);
	tt_text_close(model);
	return status;
}

#define SAY "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define STEER "{\"prompt\":\"x\",\"steering\":"

Test(batch_input, refuses_a_body_by_its_key)
{
	static const struct {
		enum tt_endpoint endpoint;
		const char *body, *words;
	} cases[] = {
		{TT_COMPLETIONS, "[]", "body must be an object"},
		{TT_COMPLETIONS, "{}", "prompt must be a string"},
		{TT_COMPLETIONS, "{\"prompt\":[\"a\",2]}", "prompt must be a string"},
		{TT_COMPLETIONS, "{\"prompt\":[[1,2],[3,\"b\"]]}", "prompt must be a string"},
		{TT_COMPLETIONS, "{\"prompt\":[1,-2]}", "prompt must be a string"},
		{TT_COMPLETIONS, "{\"prompt\":[4294967296]}", "prompt must be a string"},
		{TT_COMPLETIONS, "{\"prompt\":\"x\",\"messages\":[]}", "unknown key \"messages\""},
		{TT_COMPLETIONS, "{\"prompt\":\"x\",\"echo\":1}", "echo must be"},
		{TT_COMPLETIONS, "{\"prompt\":\"x\",\"max_tokens\":0}", "max_tokens must be an integer from 1"},
		{TT_COMPLETIONS, "{\"prompt\":\"x\",\"prompt_logprobs\":21}", "prompt_logprobs"},
		{TT_COMPLETIONS, "{\"prompt\":\"x\",\"prompt_logprobs\":-1}", "prompt_logprobs"},
		{TT_COMPLETIONS, "{\"prompt\":\"x\",\"echo\":true,\"prompt_logprobs_from\":1}",
			"prompt_logprobs_from needs"},
		{TT_COMPLETIONS, "{\"prompt\":[5,6],\"prompt_logprobs\":0,\"prompt_logprobs_from\":3}",
			"from 0 to the prompt's 2 tokens"},
		{TT_COMPLETIONS, "{\"prompt\":[[5,6],[7]],\"prompt_logprobs\":0,\"prompt_logprobs_from\":[1]}",
			"a number for each prompt"},
		{TT_COMPLETIONS, "{\"prompt\":[[5,6],[7]],\"prompt_logprobs\":0,\"prompt_logprobs_from\":[1,2]}",
			"from 0 to the prompt's 1 tokens"},
		{TT_CHAT_COMPLETIONS, "{" SAY ",\"echo\":true}", "unknown key \"echo\""},
		{TT_CHAT_COMPLETIONS, "{" SAY ",\"max_completion_tokens\":0}", "max_completion_tokens"},
		{TT_COMPLETIONS, "{\"prompt\":\"x\",\"suffix\":\"y\"}", "suffix is not supported"},
		{TT_COMPLETIONS, "{\"prompt\":\"x\",\"logit_bias\":{\"1\":2}}", "logit_bias is not supported"},
		{TT_COMPLETIONS, "{\"prompt\":\"x\",\"presence_penalty\":2.5}",
			"presence_penalty must be from -2 to 2"},
		{TT_COMPLETIONS, "{\"prompt\":\"x\",\"repetition_penalty\":true}",
			"repetition_penalty must be a number"},
		{TT_COMPLETIONS, "{\"prompt\":\"x\",\"best_of\":2}", "best_of is not supported"},
		{TT_COMPLETIONS, "{\"prompt\":\"x\",\"n\":0}", "n must be an integer from 1 to 128"},
		{TT_COMPLETIONS, "{\"prompt\":\"x\",\"temperature\":-1}", "temperature"},
		{TT_COMPLETIONS, "{\"prompt\":\"x\",\"top_p\":2}", "top_p"},
		{TT_COMPLETIONS, "{\"prompt\":\"x\",\"top_k\":-2}", "top_k"},
		{TT_COMPLETIONS, "{\"prompt\":\"x\",\"seed\":1.5}", "seed must be an integer"},
		{TT_COMPLETIONS, "{\"prompt\":\"x\",\"stop\":\"\"}", "stop must be a string that is not empty"},
		{TT_COMPLETIONS, "{\"prompt\":\"x\",\"stop\":[1]}", "stop must be a string that is not empty"},
		{TT_COMPLETIONS, "{\"prompt\":\"x\",\"stop\":[\"a\",\"b\",\"c\",\"d\",\"e\"]}",
			"more than 4 stop strings"},
		{TT_COMPLETIONS, "{\"prompt\":\"x\",\"logprobs\":21}", "logprobs"},
		{TT_COMPLETIONS, STEER "3}", "steering must be an object"},
		{TT_COMPLETIONS, STEER "{}}", "steering.policies must be a list"},
		{TT_COMPLETIONS, STEER "{\"policy\":1}}", "steering has the unknown key \"policy\""},
		{TT_COMPLETIONS, STEER "{\"policies\":[1]}}", "steering.policies must hold objects"},
		{TT_COMPLETIONS, STEER "{\"policies\":[{}]}}", "a policy of steering has no name"},
		{TT_COMPLETIONS, STEER "{\"policies\":[{\"name\":\"c\"}]}}", "the policy \"c\", which was not given"},
		{TT_COMPLETIONS, STEER "{\"policies\":[{\"name\":\"a\",\"scale\":1e9}]}}", "scale"},
		{TT_COMPLETIONS, STEER "{\"policies\":[{},{},{},{},{}]}}", "steering has more than 4 policies"},
		{TT_COMPLETIONS, STEER "{\"policies\":[],\"when\":\"now\"}}", "steering.when must be"},
		{TT_CHAT_COMPLETIONS, "{\"messages\":[]}", "messages must be a list that is not empty"},
		{TT_CHAT_COMPLETIONS, "{\"messages\":[1]}", "messages[0] must be an object"},
		{TT_CHAT_COMPLETIONS, "{\"messages\":[{\"content\":\"x\"}]}", "messages[0] has no role"},
		{TT_CHAT_COMPLETIONS, "{\"messages\":[{\"role\":\"user\"}]}", "messages[0] has no content"},
		{TT_CHAT_COMPLETIONS, "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}",
			"content of type \"image_url\"; only text"},
		{TT_CHAT_COMPLETIONS, "{\"messages\":[{\"role\":\"user\",\"content\":\"x\",\"tool_calls\":[]}]}",
			"messages[0] has the unknown key \"tool_calls\""},
		{TT_CHAT_COMPLETIONS, "{" SAY ",\"max_tokens\":1,\"max_completion_tokens\":2}", "differ"},
		{TT_CHAT_COMPLETIONS, "{" SAY ",\"top_logprobs\":2}", "top_logprobs needs logprobs to be true"},
		{TT_CHAT_COMPLETIONS, "{" SAY ",\"response_format\":{\"type\":\"json_object\"}}", "response_format"},
		{TT_CHAT_COMPLETIONS, "{" SAY ",\"tools\":[{}]}", "tools is not supported"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tt_api_request body;
		struct tt_error err = {0};
		int status = parse_body(&body, cases[i].body, cases[i].endpoint, &err);
		expect_refused(status, &err, cases[i].body, "", cases[i].words);
	}
}

Test(batch_input, takes_what_asks_for_nothing)
{
	struct tt_api_request body;
	struct tt_error err = {0};
	const char *text =
		"{" SAY ",\"stream\":false,\"tools\":[],\"logit_bias\":{},\"presence_penalty\":0,\"store\":null,"
		"\"top_k\":-1,\"stop\":[\"a\",\"b\"],\"max_tokens\":2,\"max_completion_tokens\":2,\"seed\":-1,"
		"\"steering\":{\"policies\":[{\"name\":\"b\"},{\"name\":\"a\",\"scale\":-2}],\"when\":\"last\"}}";
	cr_assert_eq(parse_body(&body, text, TT_CHAT_COMPLETIONS, &err), TT_OK, "%s", err.message);
	cr_expect(body.n_stop == 2 && body.options.max_tokens == 2 && body.options.sampling.top_k == 0);
	cr_expect(body.options.sampling.seed == UINT64_MAX && body.options.when == TT_WHEN_LAST &&
		  body.options.n_steering == 2);
	cr_expect_str_eq(body.policies[0]->name, "b");
	cr_expect(body.options.steering[1].scale == -2.0f && body.options.steering[0].scale == 1.0f);
	cr_expect_gt(body.prompts->n_ids, 3);
	tt_api_request_free(&body);
}

/* Gates that read a mean take it over the last user message; the template's own text is around it. */
Test(batch_input, knows_the_last_user_message)
{
	static const char *const bodies[] = {"{" SAY "}",
		"{\"messages\":[{\"role\":\"user\",\"content\":\"one two three four\"},"
		"{\"role\":\"assistant\",\"content\":\"hi\"},{\"role\":\"user\",\"content\":[{\"type\":\"text\","
		"\"text\":\"h\"},{\"type\":\"text\",\"text\":\"i\"}]}]}"};
	size_t after[2];
	for (int i = 0; i < 2; i++) {
		struct tt_api_request body;
		struct tt_error err = {0};
		cr_assert_eq(parse_body(&body, bodies[i], TT_CHAT_COMPLETIONS, &err), TT_OK, "%s", err.message);
		const struct tt_api_prompt *o = body.prompts;
		cr_expect(o->mean_from > 0 && o->mean_from < o->mean_to && o->mean_to < o->n_ids);
		after[i] = o->n_ids - o->mean_from;
		tt_api_request_free(&body);
	}
	cr_expect_eq(after[0], after[1], "the same message, and the same after it");
	struct tt_api_request body;
	struct tt_error err = {0};
	cr_assert_eq(parse_body(&body, "{\"prompt\":\"x\"}", TT_COMPLETIONS, &err), TT_OK, "%s", err.message);
	cr_expect(body.prompts->mean_from == 0 && body.prompts->mean_to == 0, "all of a plain prompt");
	tt_api_request_free(&body);
}
