#include "runtime/openai/prompt_logprobs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "base/utf8.h"
#include "runtime/text/text.h"

/* The tokens of the prompt's text, one after the other. */
struct shown {
	const struct tt_api_prompt *prompt;
	const struct tt_text *text;
	struct tt_utf8_stream stream;
	struct tt_buffer scratch;
	size_t n_points; /* code points that the tokens so far have completed */
};

static bool is_hidden(const struct shown *s, size_t index)
{
	return index < s->prompt->n_hidden ||
	       (s->prompt->no_special && tt_text_has_tokenizer(s->text) &&
		       tt_tokenizer_is_special(tt_text_tokenizer(s->text), s->prompt->ids[index]));
}

/* Adds what a token completes. */
static int show(struct shown *s, size_t index, struct tt_error *err)
{
	size_t n;
	const char *piece = tt_text_piece(s->text, s->prompt->ids[index], &n);
	if (is_hidden(s, index))
		return TT_OK;
	TT_TRY(tt_grow(&s->scratch.data, &s->scratch.capacity, 3 * n + 16, 1, err));
	n = tt_utf8_stream_push(&s->stream, piece, n, s->scratch.data);
	s->n_points += tt_utf8_count(s->scratch.data, n);
	return TT_OK;
}

/* By how much the tokens spell more than the text: the space that some tokenizers put before a text. */
static int count_surplus(struct shown *s, size_t *surplus, struct tt_error *err)
{
	size_t n_text = tt_utf8_count(s->prompt->text, strlen(s->prompt->text));
	for (size_t i = 0; i < s->prompt->n_ids; i++)
		TT_TRY(show(s, i, err));
	*surplus = s->n_points > n_text ? s->n_points - n_text : 0;
	s->n_points = 0;
	s->stream = (struct tt_utf8_stream){0};
	return TT_OK;
}

/* Token `index` of the prompt, as one that was generated; without a number where none is told. */
static bool scored_token(struct tt_token *out, const struct tt_choice *choice, const struct tt_api_prompt *prompt,
	size_t index, uint32_t n_top)
{
	*out = (struct tt_token){.id = prompt->ids[index]};
	if (index == 0 || index < prompt->score_from)
		return false;
	out->logprob = tt_request_scores(choice->request)[index];
	out->n_top = tt_request_score_top(choice->request, index, &out->top_ids, &out->top_logprobs);
	out->n_top = out->n_top < n_top ? out->n_top : n_top;
	return true;
}

static int echo_tokens(
	struct tt_choice *choice, const struct tt_api_request *body, struct shown *s, struct tt_error *err)
{
	size_t surplus;
	TT_TRY(count_surplus(s, &surplus, err));
	for (size_t i = 0; i < s->prompt->n_ids; i++) {
		struct tt_token token;
		bool told = scored_token(&token, choice, s->prompt, i, body->options.n_top);
		choice->offset = s->n_points > surplus ? s->n_points - surplus : 0;
		TT_TRY(tt_add_completion_logprob(choice, s->text, &token, told, err));
		TT_TRY(show(s, i, err));
	}
	return TT_OK;
}

int tt_choice_echo(
	struct tt_choice *choice, const struct tt_api_request *body, const struct tt_text *text, struct tt_error *err)
{
	const struct tt_api_prompt *prompt = tt_api_prompt_of(body, choice->index);
	struct shown s = {.prompt = prompt, .text = text};
	int status = TT_OK;
	if (choice->logprobs)
		status = echo_tokens(choice, body, &s, err);
	free(s.scratch.data);
	TT_TRY(status);
	choice->offset = tt_utf8_count(prompt->text, strlen(prompt->text));
	return tt_buffer_add(&choice->text, prompt->text, strlen(prompt->text), err);
}

static json_t *entry_json(const struct tt_text *text, int32_t id, float logprob, json_t *rank)
{
	size_t n;
	const char *piece = tt_text_piece(text, id, &n);
	return json_pack("{s:o, s:o, s:o}", "logprob", tt_json_number((double)logprob), "rank", rank, "decoded_token",
		tt_piece_json(piece, n));
}

/* The likeliest, and the token itself if it is not one of them. */
static json_t *token_json(const struct tt_text *text, const struct tt_token *token)
{
	json_t *object = json_object();
	char key[16];
	for (uint32_t k = 0; k < token->n_top; k++) {
		snprintf(key, sizeof key, "%d", token->top_ids[k]);
		json_object_set_new(
			object, key, entry_json(text, token->top_ids[k], token->top_logprobs[k], json_integer(k + 1)));
	}
	snprintf(key, sizeof key, "%d", token->id);
	if (!json_object_get(object, key))
		json_object_set_new(object, key, entry_json(text, token->id, token->logprob, json_null()));
	return object;
}

int tt_prompt_logprobs_json(json_t **out, const struct tt_choice *choice, const struct tt_api_request *body,
	const struct tt_text *text, struct tt_error *err)
{
	const struct tt_api_prompt *prompt = tt_api_prompt_of(body, choice->index);
	json_t *list = json_array();
	for (size_t i = 0; i < prompt->n_ids; i++) {
		struct tt_token token;
		bool told = scored_token(&token, choice, prompt, i, body->n_prompt_top);
		if (json_array_append_new(list, told ? token_json(text, &token) : json_null()) < 0) {
			json_decref(list);
			return tt_fail(err, TT_ERR_MEMORY, "out of memory");
		}
	}
	*out = list;
	return TT_OK;
}
