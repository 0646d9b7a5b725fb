#include "runtime/serve/reply.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "base/utf8.h"
#include "runtime/openai/response.h"
#include "runtime/serve/routes.h"

enum { MAX_DEPTH = 64 }; /* of JSON */

const struct tt_problem tt_no_key = {401, "a key of the store is needed, as Authorization: Bearer KEY", NULL,
				"invalid_api_key"},
			tt_no_right = {403, "this key's roles do not allow that", NULL, "no_right"};

const char *tt_status_words(int status)
{
	static const struct {
		int status;
		const char *words;
	} all[] = {
		{200, "OK"},
		{400, "Bad Request"},
		{401, "Unauthorized"},
		{403, "Forbidden"},
		{404, "Not Found"},
		{405, "Method Not Allowed"},
		{408, "Request Timeout"},
		{413, "Content Too Large"},
		{414, "URI Too Long"},
		{415, "Unsupported Media Type"},
		{417, "Expectation Failed"},
		{429, "Too Many Requests"},
		{431, "Request Header Fields Too Large"},
		{500, "Internal Server Error"},
		{503, "Service Unavailable"},
		{504, "Gateway Timeout"},
		{505, "HTTP Version Not Supported"},
	};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (all[i].status == status)
			return all[i].words;
	return "Unknown";
}

const char *tt_problem_type(int status)
{
	if (status == 401)
		return "authentication_error";
	if (status == 403)
		return "permission_error";
	if (status == 429)
		return "rate_limit_error";
	return status >= 500 ? "server_error" : "invalid_request_error";
}

/* Whether the text nests deeper than that. jansson reads values by recursion, with a bound of its own that is wider. */
static bool is_too_deep(const char *text, size_t n)
{
	size_t depth = 0;
	bool quoted = false;
	for (size_t i = 0; i < n; i++) {
		char c = text[i];
		if (quoted) {
			i += c == '\\';
			quoted = c != '"';
		} else if (c == '"') {
			quoted = true;
		} else if (c == '[' || c == '{') {
			if (++depth > MAX_DEPTH)
				return true;
		} else if ((c == ']' || c == '}') && depth) {
			depth--;
		}
	}
	return false;
}

int tt_body_parse(json_t **out, const struct tt_buffer *text, struct tt_error *err)
{
	if (is_too_deep(text->data, text->len))
		return tt_fail(err, TT_ERR_FORMAT, "the body nests deeper than %d levels", MAX_DEPTH);
	return tt_json_parse(out, text->data, text->len, "the body", err);
}

static json_t *text_or_null(const char *text)
{
	return text && tt_utf8_is_valid(text) ? json_string(text) : json_null(); /* it may be cut within a letter */
}

char *tt_problem_text(const struct tt_problem *problem)
{
	char *text = NULL;
	/* A message may quote what is no UTF-8. */
	const char *message = tt_utf8_is_valid(problem->message) ? problem->message : "not valid UTF-8";
	tt_json_dump(&text,
		json_pack("{s:{s:s, s:s, s:o, s:o}}", "error", "message", message, "type",
			tt_problem_type(problem->status), "param", text_or_null(problem->param), "code",
			text_or_null(problem->code)),
		JSON_COMPACT, NULL);
	return text;
}

static void reply(struct tt_connection *c, int status, const char *fields, char *text)
{
	if (text)
		tt_connection_answer(c, status, "application/json", fields, text, strlen(text));
	else
		tt_connection_break(c);
	free(text);
}

void tt_reply_retry(struct tt_connection *c, const struct tt_problem *problem, uint64_t milliseconds)
{
	char fields[100] = "";
	if (problem->status == 429 || problem->status == 503)
		snprintf(fields, sizeof fields, "Retry-After: %" PRIu64 "\r\nRetry-After-Ms: %" PRIu64 "\r\n",
			(milliseconds + 999) / 1000, milliseconds);
	if (problem->status == 401)
		snprintf(fields, sizeof fields, "WWW-Authenticate: Bearer\r\n");
	if (problem->status == 405)
		snprintf(fields, sizeof fields, "Allow: %s\r\n", tt_route_methods(c));
	reply(c, problem->status, fields, tt_problem_text(problem));
}

void tt_reply_problem(struct tt_connection *c, const struct tt_problem *problem)
{
	tt_reply_retry(c, problem, 500);
}

void tt_reply_json(struct tt_connection *c, int status, json_t *value)
{
	char *text = NULL;
	tt_json_dump(&text, value, TT_ANSWER_FLAGS, NULL);
	reply(c, status, "", text);
}
