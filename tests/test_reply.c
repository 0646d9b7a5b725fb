/* The text of an answer against its definition: shown is what no stop string can take back, and all of that; the answer
 * ends with the first token that completes a stop string, and where the earliest of those that are complete begins. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/engine/stop_strings.h"

struct stops {
	const char *strings[4];
	size_t n;
};

/* Where the first complete stop string of text[n] begins; SIZE_MAX. */
static size_t first_stop(const char *text, size_t n, const struct stops *stops)
{
	for (size_t at = 0; at < n; at++)
		for (size_t i = 0; i < stops->n; i++)
			if (strlen(stops->strings[i]) <= n - at &&
				!strncmp(text + at, stops->strings[i], strlen(stops->strings[i])))
				return at;
	return SIZE_MAX;
}

/* Bytes of text[n] that may be shown while more is to come: up to the first place where what is there begins a stop
 * string. */
static size_t may_show(const char *text, size_t n, const struct stops *stops)
{
	for (size_t at = 0; at < n; at++)
		for (size_t i = 0; i < stops->n; i++)
			if (!strncmp(text + at, stops->strings[i], n - at))
				return at;
	return n;
}

static void reply_open(struct tt_stop_strings *reply, size_t n_tokens, const struct stops *stops)
{
	struct tt_error err = {0};
	*reply = (struct tt_stop_strings){0};
	cr_assert_eq(tt_stop_strings_open(reply, n_tokens, stops->strings, stops->n, &err), TT_OK, "%s", err.message);
}

/* The piece that comes with token i is want[n]. */
static void expect_given(struct tt_stop_strings *reply, size_t i, const char *want, size_t n, const char *what)
{
	size_t n_given;
	const char *given = tt_stop_strings_give(reply, i, &n_given);
	cr_assert(n_given == n && !memcmp(given, want, n) && given[n] == 0, "%s, token %zu: \"%s\", not \"%.*s\"", what,
		i, given, (int)n, want);
}

/* ASCII text, cut into tokens after each byte whose bit is set in cuts, read as it comes. */
static void check_as_it_comes(const char *text, unsigned cuts, const struct stops *stops)
{
	struct tt_stop_strings reply;
	size_t n = strlen(text), shown = 0, token = 0;
	bool stopped = false;
	char what[100];
	snprintf(what, sizeof what, "\"%s\" cut %x, stop \"%s\"", text, cuts, stops->strings[0]);
	reply_open(&reply, n, stops);
	for (size_t begin = 0, end = 1; end <= n && !stopped; end++) {
		if (end < n && !(cuts >> (end - 1) & 1))
			continue;
		size_t stop = first_stop(text, end, stops);
		stopped = tt_stop_strings_add(&reply, text + begin, end - begin);
		cr_assert_eq(stopped, stop != SIZE_MAX, "%s, token %zu", what, token);
		if (stopped || end == n)
			tt_stop_strings_finish(&reply);
		size_t until = stopped ? stop : end == n ? n : may_show(text, end, stops);
		cr_assert_geq(until, shown, "the definition takes back what it has shown");
		expect_given(&reply, token++, text + shown, until - shown, what);
		shown = until;
		begin = end;
	}
	tt_stop_strings_close(&reply);
}

static const struct stops SETS[] = {
	{{"a"}, 1},
	{{"ab"}, 1},
	{{"aa"}, 1},
	{{"aab"}, 1},
	{{"aabaab"}, 1},
	{{"abab", "b"}, 2},
	{{"bb", "aab"}, 2}, /* the longer one comes last */
	{{"aab", "bb"}, 2},
	{{"ba", "abba", "aaaa"}, 3},
	{{"bbbb", "ab", "babb", "a"}, 4},
};

/* Every text of two letters up to seven, cut into tokens in every way. */
Test(reply, shows_all_that_no_stop_string_can_take_back)
{
	for (size_t s = 0; s < sizeof SETS / sizeof *SETS; s++)
		for (size_t n = 1; n <= 7; n++)
			for (unsigned bits = 0; bits < 1u << n; bits++)
				for (unsigned cuts = 0; cuts < 1u << (n - 1); cuts++) {
					char text[8] = "";
					for (size_t i = 0; i < n; i++)
						text[i] = bits >> i & 1 ? 'b' : 'a';
					check_as_it_comes(text, cuts, &SETS[s]);
				}
}

struct token {
	const char *bytes;
	size_t n;
	const char *shown; /* with it, read as it comes; of the last: once the reply is finished */
};

static void check_tokens(const struct token *tokens, size_t n, const struct stops *stops, bool stops_there)
{
	struct tt_stop_strings reply;
	reply_open(&reply, n, stops);
	for (size_t i = 0; i < n; i++) {
		bool stopped = tt_stop_strings_add(&reply, tokens[i].bytes, tokens[i].n);
		cr_assert_eq(stopped, stops_there && i + 1 == n, "token %zu", i);
		if (i + 1 == n)
			tt_stop_strings_finish(&reply);
		expect_given(&reply, i, tokens[i].shown, strlen(tokens[i].shown), "tokens");
	}
	tt_stop_strings_close(&reply);
}

/* U+00E9 and U+20AC cut into their bytes; U+FFFD for what is left half. */
Test(reply, code_points_over_tokens)
{
	static const struct token whole[] = {{"x\xc3", 2, "x"}, {"\xa9\xe2", 2, "\xc3\xa9"}, {"\x82", 1, ""},
		{"\xac", 1, "\xe2\x82\xac"}, {"y", 1, "y"}};
	static const struct token half[] = {{"x", 1, "x"}, {"\xe2\x82", 2, "\xef\xbf\xbd"}};
	/* The stop string is the euro sign and y: its first two bytes are not text yet. */
	static const struct token stopped[] = {{"x\xe2", 2, "x"}, {"\x82", 1, ""}, {"\xac", 1, ""}, {"yz", 2, ""}};
	static const struct token passed[] = {{"x\xe2", 2, "x"}, {"\x82\xac", 2, ""}, {"z", 1, "\xe2\x82\xacz"}};
	/* A character that begins with the bytes of another: U+20AB for U+20AC. */
	static const struct token other[] = {{"\xe2\x82\xab", 3, "\xe2\x82\xab"}, {"y", 1, "y"}};
	static const struct stops none = {{NULL}, 0}, euro = {{"\xe2\x82\xacy"}, 1};
	check_tokens(whole, 5, &none, false);
	check_tokens(half, 2, &none, false);
	check_tokens(stopped, 4, &euro, true);
	check_tokens(passed, 3, &euro, false);
	check_tokens(other, 2, &euro, false);
}

/* Read late, each token has the text that it had when it came: what was held then comes with the token that freed
 * it. */
Test(reply, tokens_that_are_read_late_have_their_own_text)
{
	static const struct stops end = {{"END"}, 1};
	static const struct token tokens[] = {{"ab", 2, "ab"}, {"cE", 2, "c"}, {"Nx", 2, "ENx"}, {"E", 1, "E"}};
	struct tt_stop_strings reply;
	reply_open(&reply, 4, &end);
	for (size_t i = 0; i < 4; i++)
		cr_assert_not(tt_stop_strings_add(&reply, tokens[i].bytes, tokens[i].n));
	expect_given(&reply, 0, "ab", 2, "not finished");
	tt_stop_strings_finish(&reply);
	for (size_t i = 1; i < 4; i++)
		expect_given(&reply, i, tokens[i].shown, strlen(tokens[i].shown), "finished");
	tt_stop_strings_close(&reply);

	/* The stop string takes back what lies before its last token, none of which was read. */
	reply_open(&reply, 3, &end);
	cr_assert_not(tt_stop_strings_add(&reply, "aE", 2));
	cr_assert_not(tt_stop_strings_add(&reply, "N", 1));
	cr_assert(tt_stop_strings_add(&reply, "D!", 2));
	tt_stop_strings_finish(&reply);
	expect_given(&reply, 0, "a", 1, "stopped");
	expect_given(&reply, 1, "", 0, "stopped");
	expect_given(&reply, 2, "", 0, "stopped");
	tt_stop_strings_close(&reply);
}
