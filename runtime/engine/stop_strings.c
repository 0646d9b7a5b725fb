#include "runtime/engine/stop_strings.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"

int tt_stop_strings_open(struct tt_stop_strings *reply, size_t max_tokens, const char *const *stops, size_t n_stops,
	struct tt_error *err)
{
	reply->limit = SIZE_MAX;
	TT_TRY(tt_alloc(&reply->ends, max_tokens, sizeof *reply->ends, err));
	TT_TRY(tt_alloc(&reply->stops, n_stops, sizeof(char *), err));
	for (size_t i = 0; i < n_stops; i++, reply->n_stops++)
		TT_TRY(tt_copy_string(&reply->stops[i], stops[i], strlen(stops[i]), err));
	return TT_OK;
}

void tt_stop_strings_close(struct tt_stop_strings *reply)
{
	for (size_t i = 0; i < reply->n_stops; i++)
		free(reply->stops[i]);
	free(reply->stops);
	free(reply->ends);
	free(reply->given);
	tt_buffer_free(&reply->text);
}

/* Sets limit to the beginning of the first stop string that ends after `from`, if there is one. */
static bool find_stop(struct tt_stop_strings *reply, size_t from)
{
	for (size_t i = 0; i < reply->n_stops; i++) {
		size_t n = strlen(reply->stops[i]);
		for (size_t at = from < n ? 0 : from - n + 1; at + n <= reply->text.len && at < reply->limit; at++)
			if (!memcmp(reply->text.data + at, reply->stops[i], n))
				reply->limit = at;
	}
	return reply->limit != SIZE_MAX;
}

/* How many bytes at the end of the text are the beginning of some stop string. */
static size_t n_held(const struct tt_stop_strings *reply)
{
	size_t held = 0;
	for (size_t i = 0; i < reply->n_stops; i++) {
		size_t n = strlen(reply->stops[i]);
		size_t most = n - 1 < reply->text.len ? n - 1 : reply->text.len;
		for (size_t k = most; k > held; k--)
			if (!memcmp(reply->text.data + reply->text.len - k, reply->stops[i], k))
				held = k;
	}
	return held;
}

bool tt_stop_strings_add(struct tt_stop_strings *reply, const char *piece, size_t n)
{
	struct tt_buffer *text = &reply->text;
	size_t before = text->len;
	if (tt_grow(&text->data, &text->capacity, text->len + 3 * n + 32, 1, NULL) == TT_OK)
		text->len += tt_utf8_stream_push(&reply->stream, piece, n, text->data + text->len);
	reply->ends[reply->n_tokens++] = text->len - n_held(reply);
	return reply->n_stops > 0 && find_stop(reply, before);
}

void tt_stop_strings_finish(struct tt_stop_strings *reply)
{
	struct tt_buffer *text = &reply->text;
	reply->finished = true;
	if (tt_grow(&text->data, &text->capacity, text->len + 32, 1, NULL) == TT_OK)
		text->len += tt_utf8_stream_finish(&reply->stream, text->data + text->len);
}

const char *tt_stop_strings_give(struct tt_stop_strings *reply, size_t i, size_t *n)
{
	bool last = reply->finished && i + 1 == reply->n_tokens;
	size_t until = last ? reply->text.len : reply->ends[i];
	if (reply->limit < until)
		until = reply->limit;
	*n = 0;
	if (until <= reply->n_given ||
		tt_grow(&reply->given, &reply->given_capacity, until - reply->n_given + 1, 1, NULL))
		return "";
	*n = until - reply->n_given;
	memcpy(reply->given, reply->text.data + reply->n_given, *n);
	reply->given[*n] = 0;
	reply->n_given = until;
	return reply->given;
}
