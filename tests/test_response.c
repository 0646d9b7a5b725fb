/* Log-probabilities in OpenAI's form, of made-up tokens: text_offset in code points, tokens by all of their bytes. */
#include "golden.h"
#include "runtime/openai/response.h"

#define TINY GOLDEN("tiny-llama")

/* What the request gives out. */
static const struct tt_token *next_tokens; // [n_next]
static size_t n_next;

bool __wrap_tt_request_next(struct tt_request *request, struct tt_token *token);
bool __wrap_tt_request_next(struct tt_request *request, struct tt_token *token)
{
	(void)request;
	if (n_next == 0)
		return false;
	n_next--;
	*token = *next_tokens++;
	return true;
}

static json_t *logprobs_of(struct tt_engine *engine, const struct tt_token *tokens, size_t n)
{
	struct tt_choice choice = {0};
	const struct tt_api_request body = {.endpoint = TT_COMPLETIONS, .n = 1, .logprobs = true};
	next_tokens = tokens;
	n_next = n;
	choice.logprobs =
		json_pack("{s:[], s:[], s:[], s:[]}", "tokens", "token_logprobs", "top_logprobs", "text_offset");
	must(tt_choice_collect(&choice, NULL, &body, tt_engine_text(engine), err));
	json_t *logprobs = json_incref(choice.logprobs);
	tt_choice_free(&choice);
	return logprobs;
}

/* Text comes when a character is whole; an offset is what stands before the token, in code points. */
Test(response, offsets_count_code_points)
{
	static const struct {
		const char *text;
		json_int_t offset;
	} want[] = {
		{"", 0}, {"\xC3\xA9", 0}, {"x", 1}, {"\xE2\x9C\x93\xF0\x9F\x98\x80", 2}, {"", 4}, {"yz", 4}, {"!", 6}};
	enum { N = sizeof want / sizeof *want };
	struct tt_engine *engine = engine_open(TINY, 2, 64);
	struct tt_token tokens[N];
	for (size_t i = 0; i < N; i++)
		tokens[i] =
			(struct tt_token){.id = 5, .logprob = -1, .text = want[i].text, .n_text = strlen(want[i].text)};
	json_t *logprobs = logprobs_of(engine, tokens, N);
	const json_t *offsets = json_object_get(logprobs, "text_offset");
	cr_assert_eq(json_array_size(offsets), N);
	for (size_t i = 0; i < N; i++)
		cr_expect_eq(json_integer_value(json_array_get(offsets, i)), want[i].offset, "token %zu", i);
	json_decref(logprobs);
	tt_engine_close(engine);
}

/* The token that is this one byte. */
static int32_t byte_token(struct tt_engine *engine, char byte)
{
	for (int32_t id = 0; id < (int32_t)tt_engine_info(engine)->vocab_size; id++) {
		size_t n;
		const char *piece = tt_text_piece(tt_engine_text(engine), id, &n);
		if (n == 1 && *piece == byte)
			return id;
	}
	cr_assert(false, "the vocabulary has no byte %d", byte);
	return -1;
}

/* A token with a NUL in it is not the one that its text up to there names; the first of equal texts counts. */
Test(response, a_token_is_listed_under_all_of_its_bytes)
{
	struct tt_engine *engine = engine_open(TINY, 2, 64);
	int32_t top_ids[] = {byte_token(engine, 'x'), byte_token(engine, 0)};
	float top_logprobs[] = {-1, -2};
	const struct tt_token token = {
		.id = top_ids[1], .logprob = -2, .n_top = 2, .top_ids = top_ids, .top_logprobs = top_logprobs};
	json_t *logprobs = logprobs_of(engine, &token, 1);
	const json_t *top = json_array_get(json_object_get(logprobs, "top_logprobs"), 0);
	cr_expect_eq(json_object_size(top), 2);
	cr_expect_null(json_object_get(top, ""), "under the empty text");
	cr_expect_eq(json_number_value(json_object_getn(top, "x", 1)), -1);
	cr_expect_eq(json_number_value(json_object_getn(top, "\0", 1)), -2);
	char *text = json_dumps(top, JSON_COMPACT);
	cr_expect_not_null(strstr(text, "\"\\u0000\":-2.0"), "%s", text);
	free(text);
	json_decref(logprobs);
	tt_engine_close(engine);
}
