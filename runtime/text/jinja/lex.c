#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/utf8.h"
#include "runtime/text/jinja/ast.h"

struct lexer {
	const char *source, *name;
	size_t n, at;
	uint32_t line;
	bool line_starting; /* the last match ended with a newline: lstrip_blocks may act here */
	struct jj_arena *arena;
	struct jj_tokens *out;
	char open[JJ_MAX_NESTING]; /* the awaited closing brackets; if there are any, }} and %} are operators */
	size_t n_open;
};

static int refuse(struct lexer *lexer, const char *what)
{
	return tt_fail(lexer->arena->err, TT_ERR_FORMAT, "%s: line %u: %s", lexer->name, lexer->line, what);
}

static char peek(const struct lexer *lexer, size_t ahead)
{
	return lexer->at + ahead < lexer->n ? lexer->source[lexer->at + ahead] : 0;
}

static bool starts(const struct lexer *lexer, size_t at, const char *word)
{
	size_t len = strlen(word);
	return at <= lexer->n && lexer->n - at >= len && memcmp(lexer->source + at, word, len) == 0;
}

static size_t skip_space(const struct lexer *lexer, size_t at)
{
	return at + tt_jj_strip_start(lexer->source + at, lexer->n - at);
}

/* Moves to position `to` and counts the lines up to it. */
static void advance(struct lexer *lexer, size_t to)
{
	for (; lexer->at < to; lexer->at++)
		lexer->line += lexer->source[lexer->at] == '\n';
}

static int emit(struct lexer *lexer, enum jj_token_kind kind, unsigned op, struct jj_value value)
{
	struct jj_tokens *out = lexer->out;
	TT_TRY(tt_grow(&out->data, &out->capacity, out->len + 1, sizeof *out->data, lexer->arena->err));
	out->data[out->len++] =
		(struct jj_token){.kind = (uint8_t)kind, .op = (uint16_t)op, .line = lexer->line, .value = value};
	return TT_OK;
}

static int emit_plain(struct lexer *lexer, enum jj_token_kind kind)
{
	return emit(lexer, kind, 0, (struct jj_value){0});
}

static int emit_text(struct lexer *lexer, enum jj_token_kind kind, const char *data, size_t n)
{
	struct jj_string *string = NULL;
	TT_TRY(tt_jj_alloc(lexer->arena, &string, 1, sizeof *string));
	*string = (struct jj_string){.data = data, .len = n};
	return emit(lexer, kind, 0, (struct jj_value){.kind = JJ_STRING, .string = string});
}

/* Trims the text before a tag: the sign - removes all white space at its end. Without a sign (but not before {{),
 * the blanks of a line that holds nothing else are removed. */
static int emit_data(struct lexer *lexer, size_t end, char sign, bool before_tag)
{
	const char *text = lexer->source + lexer->at;
	size_t n = end - lexer->at, line_start = n;
	if (sign == '-') {
		n = tt_jj_strip_end(text, n);
	} else if (sign != '+' && before_tag) {
		while (line_start > 0 && text[line_start - 1] != '\n')
			line_start--;
		if ((line_start > 0 || lexer->line_starting) && line_start < n &&
			tt_jj_strip_start(text + line_start, n - line_start) == n - line_start)
			n = line_start;
	}
	if (n > 0)
		TT_TRY(emit_text(lexer, JJ_T_DATA, text, n));
	advance(lexer, end);
	return TT_OK;
}

static char sign_at(const struct lexer *lexer, size_t at)
{
	char c = at < lexer->n ? lexer->source[at] : 0;
	return c == '-' || c == '+' ? c : 0;
}

/* If a tag closes at `at`, perhaps after a sign, with close ("%}", "#}"): the position after it and after the white
 * space or newline that is trimmed with it. Otherwise 0. */
static size_t tag_end(const struct lexer *lexer, size_t at, const char *close)
{
	char sign = sign_at(lexer, at);
	size_t end = at + (sign ? 1 : 0);
	if (!starts(lexer, end, close))
		return 0;
	end += 2;
	if (sign == '-')
		return skip_space(lexer, end);
	if (!sign && starts(lexer, end, "\n"))
		end++;
	return end;
}

static void pass(struct lexer *lexer, size_t end)
{
	advance(lexer, end);
	lexer->line_starting = end > 0 && lexer->source[end - 1] == '\n';
}

static int lex_comment(struct lexer *lexer)
{
	for (size_t at = lexer->at; at + 1 < lexer->n; at++) {
		size_t end = tag_end(lexer, at, "#}");
		if (end) {
			pass(lexer, end);
			return TT_OK;
		}
	}
	return refuse(lexer, "missing end of comment tag");
}

/* After {% and its sign: the end of "raw %}", or 0 if this is another tag. */
static size_t raw_begin(const struct lexer *lexer, size_t at)
{
	at = skip_space(lexer, at);
	if (!starts(lexer, at, "raw"))
		return 0;
	at = skip_space(lexer, at + 3);
	if (starts(lexer, at, "-%}"))
		return skip_space(lexer, at + 3);
	return starts(lexer, at, "%}") ? at + 2 : 0;
}

static int lex_raw(struct lexer *lexer)
{
	for (size_t at = lexer->at; at + 1 < lexer->n; at++) {
		if (!starts(lexer, at, "{%"))
			continue;
		char sign = sign_at(lexer, at + 2);
		size_t word = skip_space(lexer, at + 2 + (sign ? 1 : 0));
		size_t end = starts(lexer, word, "endraw") ? tag_end(lexer, skip_space(lexer, word + 6), "%}") : 0;
		if (end) {
			TT_TRY(emit_data(lexer, at, sign, true));
			pass(lexer, end);
			return TT_OK;
		}
	}
	return refuse(lexer, "missing end of raw directive");
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* The end of digits with single underscores between them, or start if there are none. */
static size_t digits_end(const struct lexer *lexer, size_t at)
{
	size_t end = at;
	while (end < lexer->n &&
		(is_digit(lexer->source[end]) || (end > at && lexer->source[end] == '_' && end + 1 < lexer->n &&
							 is_digit(lexer->source[end + 1]))))
		end++;
	return end;
}

/* The end of a float at the current position, or 0. A digit after a point does not start a float. */
static size_t float_end(const struct lexer *lexer)
{
	size_t end = digits_end(lexer, lexer->at), fraction, exponent;
	bool real = false;
	if (end == lexer->at || (lexer->at > 0 && lexer->source[lexer->at - 1] == '.'))
		return 0;
	if (starts(lexer, end, ".") && (fraction = digits_end(lexer, end + 1)) > end + 1) {
		end = fraction;
		real = true;
	}
	if (end < lexer->n && (lexer->source[end] == 'e' || lexer->source[end] == 'E')) {
		size_t start = end + 1 + (sign_at(lexer, end + 1) ? 1 : 0);
		if ((exponent = digits_end(lexer, start)) > start) {
			end = exponent;
			real = true;
		}
	}
	return real ? end : 0;
}

static int lex_float(struct lexer *lexer, size_t end)
{
	char text[64];
	size_t n = 0;
	for (size_t i = lexer->at; i < end; i++)
		if (lexer->source[i] != '_') {
			if (n + 1 == sizeof text)
				return refuse(lexer, "number of more than 63 characters");
			text[n++] = lexer->source[i];
		}
	text[n] = 0;
	struct jj_value value = {.kind = JJ_FLOAT, .real = strtod(text, NULL)};
	TT_TRY(emit(lexer, JJ_T_FLOAT, 0, value));
	advance(lexer, end);
	return TT_OK;
}

static int digit_value(char c)
{
	return is_digit(c) ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : 99;
}

static int lex_integer(struct lexer *lexer)
{
	size_t at = lexer->at;
	char next = (char)(peek(lexer, 1) | 32);
	int base = peek(lexer, 0) != '0' ? 10 : next == 'x' ? 16 : next == 'o' ? 8 : next == 'b' ? 2 : 1;
	int64_t number = 0;
	if (base != 10 && base != 1)
		at += 2;
	/* Base 1: a number that starts with 0 has zeros only; another digit would start the next token. */
	for (; at < lexer->n; at++) {
		if (lexer->source[at] == '_' && at + 1 < lexer->n && digit_value(lexer->source[at + 1]) < base)
			continue;
		int digit = digit_value(lexer->source[at]);
		if (digit >= base)
			break;
		if (__builtin_mul_overflow(number, (int64_t)base, &number) ||
			__builtin_add_overflow(number, (int64_t)digit, &number))
			return refuse(lexer, "integer of more than 64 bits");
	}
	TT_TRY(emit(lexer, JJ_T_INT, 0, (struct jj_value){.kind = JJ_INT, .integer = number}));
	advance(lexer, at);
	return TT_OK;
}

/* Reads n_digits digits of base at *at, or fewer (octal); returns how many it read. */
static size_t escape_digits(const char *s, size_t n, size_t at, size_t most, int base, uint32_t *out)
{
	size_t count = 0;
	*out = 0;
	while (count < most && at + count < n && digit_value(s[at + count]) < base)
		*out = *out * (uint32_t)base + (uint32_t)digit_value(s[at + count++]);
	return count;
}

/* Reads one escape of a string literal, as Python's unicode-escape does; s[*at] is the byte after the backslash. */
static int unescape(struct lexer *lexer, const char *s, size_t n, size_t *at, char *out, size_t *len)
{
	static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
	char c = s[*at];
	const char *simple = strchr(from, c);
	uint32_t code = 0;
	size_t want = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
	if (c == 'N')
		return refuse(lexer, "\\N{...} in a string is not supported");
	if (c == '\n') {
		*at += 1;
		return TT_OK;
	}
	if (c && simple) {
		out[(*len)++] = to[simple - from];
		*at += 1;
		return TT_OK;
	}
	if (want) {
		if (escape_digits(s, n, *at + 1, want, 16, &code) != want)
			return refuse(lexer, "truncated escape in a string");
		*at += 1 + want;
	} else if (c >= '0' && c <= '7') {
		*at += escape_digits(s, n, *at, 3, 8, &code);
	} else {
		out[(*len)++] = '\\';
		return TT_OK;
	}
	if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
		return refuse(lexer, "an escape in a string names no character");
	*len += tt_utf8_encode(code, out + *len);
	return TT_OK;
}

static int lex_string(struct lexer *lexer)
{
	char quote = peek(lexer, 0), *text = NULL;
	const char *s = lexer->source;
	size_t at = lexer->at + 1, end = at, len = 0;
	while (end < lexer->n && s[end] != quote)
		end += s[end] == '\\' ? 2 : 1;
	if (end >= lexer->n)
		return refuse(lexer, "a string has no end");
	/* No escape is shorter than its UTF-8, so the bytes fit; tt_utf8_encode may write up to 4 bytes. */
	TT_TRY(tt_jj_alloc(lexer->arena, &text, end - at + 4, 1));
	while (at < end) {
		if (s[at] != '\\') {
			text[len++] = s[at++];
			continue;
		}
		at++;
		TT_TRY(unescape(lexer, s, end, &at, text, &len));
	}
	TT_TRY(emit_text(lexer, JJ_T_STRING, text, len));
	advance(lexer, end + 1);
	return TT_OK;
}

static bool is_name_start(char c)
{
	return c == '_' || ((c | 32) >= 'a' && (c | 32) <= 'z');
}

static int lex_name(struct lexer *lexer)
{
	size_t end = lexer->at;
	while (end < lexer->n && (is_name_start(lexer->source[end]) || is_digit(lexer->source[end])))
		end++;
	TT_TRY(emit_text(lexer, JJ_T_NAME, lexer->source + lexer->at, end - lexer->at));
	advance(lexer, end);
	return TT_OK;
}

static int lex_operator(struct lexer *lexer)
{
	static const char *const pairs[] = {"//", "**", "==", "!=", ">=", "<="};
	char c = peek(lexer, 0);
	for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
		if (starts(lexer, lexer->at, pairs[i])) {
			TT_TRY(emit(lexer, JJ_T_OPERATOR, JJ_OP2((unsigned)pairs[i][0], (unsigned)pairs[i][1]),
				(struct jj_value){0}));
			advance(lexer, lexer->at + 2);
			return TT_OK;
		}
	if (!c || !strchr("+-/*%~[](){}><=.:|,;", c))
		return tt_fail(lexer->arena->err, TT_ERR_FORMAT, "%s: line %u: unexpected character 0x%02x",
			lexer->name, lexer->line, (unsigned)(uint8_t)c);
	if (strchr("([{", c)) {
		if (lexer->n_open == JJ_MAX_NESTING)
			return tt_fail(lexer->arena->err, TT_ERR_LIMIT,
				"%s: line %u: brackets nested more than %d deep", lexer->name, lexer->line,
				JJ_MAX_NESTING);
		lexer->open[lexer->n_open++] = c == '(' ? ')' : c == '[' ? ']' : '}';
	} else if (strchr(")]}", c) && (lexer->n_open == 0 || lexer->open[--lexer->n_open] != c)) {
		return refuse(lexer, "a closing bracket does not match");
	}
	TT_TRY(emit(lexer, JJ_T_OPERATOR, (unsigned)c, (struct jj_value){0}));
	advance(lexer, lexer->at + 1);
	return TT_OK;
}

static int lex_one(struct lexer *lexer)
{
	char c = peek(lexer, 0);
	size_t end;
	if ((end = float_end(lexer)) > 0)
		return lex_float(lexer, end);
	if (is_digit(c))
		return lex_integer(lexer);
	if (is_name_start(c))
		return lex_name(lexer);
	if (c == '\'' || c == '"')
		return lex_string(lexer);
	return lex_operator(lexer);
}

/* Reads the inside of {{ }} or {% %}, up to and including its end. */
static int lex_tag(struct lexer *lexer, bool variable)
{
	TT_TRY(emit_plain(lexer, variable ? JJ_T_VARIABLE_BEGIN : JJ_T_BLOCK_BEGIN));
	while (lexer->at < lexer->n) {
		size_t end = 0, spaces;
		if (lexer->n_open == 0 && variable)
			end = starts(lexer, lexer->at, "-}}")  ? skip_space(lexer, lexer->at + 3)
			      : starts(lexer, lexer->at, "}}") ? lexer->at + 2
							       : 0;
		else if (lexer->n_open == 0)
			end = tag_end(lexer, lexer->at, "%}");
		if (end) {
			TT_TRY(emit_plain(lexer, variable ? JJ_T_VARIABLE_END : JJ_T_BLOCK_END));
			pass(lexer, end);
			return TT_OK;
		}
		spaces = skip_space(lexer, lexer->at);
		if (spaces > lexer->at)
			advance(lexer, spaces);
		else
			TT_TRY(lex_one(lexer));
	}
	return refuse(lexer, "the template ends inside a tag");
}

int tt_jj_lex(struct jj_tokens *out, struct jj_arena *arena, const char *source, size_t n, const char *name)
{
	struct lexer lexer = {
		.source = source, .n = n, .name = name, .line = 1, .line_starting = true, .arena = arena, .out = out};
	while (lexer.at < n) {
		size_t tag = lexer.at, raw;
		while (tag < n && !starts(&lexer, tag, "{%") && !starts(&lexer, tag, "{{") &&
			!starts(&lexer, tag, "{#"))
			tag++;
		if (tag == n) {
			TT_TRY(emit_data(&lexer, n, '+', false));
			break;
		}
		char kind = source[tag + 1], sign = sign_at(&lexer, tag + 2);
		size_t inside = tag + 2 + (sign ? 1 : 0);
		TT_TRY(emit_data(&lexer, tag, sign, kind != '{'));
		raw = kind == '%' ? raw_begin(&lexer, inside) : 0;
		pass(&lexer, raw ? raw : inside);
		if (raw)
			TT_TRY(lex_raw(&lexer));
		else if (kind == '#')
			TT_TRY(lex_comment(&lexer));
		else
			TT_TRY(lex_tag(&lexer, kind == '{'));
	}
	return emit_plain(&lexer, JJ_T_EOF);
}
