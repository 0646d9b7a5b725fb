/* Filters for single values. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "runtime/text/jinja/strings.h"

#define FILTER(name)                                                                                                   \
	static int name(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)

static bool given(struct jj_value value)
{
	return value.kind != JJ_MISSING;
}

static int integer_or(struct jj_run *run, struct jj_value value, int64_t other, int64_t *out)
{
	*out = other;
	if (!given(value))
		return TT_OK;
	if (value.kind != JJ_INT && value.kind != JJ_BOOL)
		return tt_jj_fail(
			run, TT_ERR_FORMAT, "'%s' object cannot be interpreted as an integer", tt_jj_type(value));
	*out = value.kind == JJ_BOOL ? value.boolean : value.integer;
	return TT_OK;
}

static int change_case(struct jj_run *run, struct jj_value value, enum jj_case how, struct jj_value *out)
{
	const struct jj_string *s;
	TT_TRY(tt_jj_to_string(run, value, &s));
	return tt_jj_change_case(run, s, how, out);
}

FILTER(upper)
{
	(void)self;
	return change_case(run, v[0], JJ_UPPER, out);
}

FILTER(lower)
{
	(void)self;
	return change_case(run, v[0], JJ_LOWER, out);
}

FILTER(title)
{
	(void)self;
	return change_case(run, v[0], JJ_WORDS, out);
}

FILTER(capitalize)
{
	(void)self;
	return change_case(run, v[0], JJ_CAPITAL, out);
}

FILTER(trim)
{
	const struct jj_string *s;
	(void)self;
	TT_TRY(tt_jj_to_string(run, v[0], &s));
	return tt_jj_strip(run, s, v[1], true, true, out);
}

FILTER(string)
{
	(void)self;
	const struct jj_string *s;
	TT_TRY(tt_jj_to_string(run, v[0], &s));
	*out = (struct jj_value){.kind = JJ_STRING, .string = s};
	return TT_OK;
}

FILTER(safe)
{
	const struct jj_string *s;
	(void)self;
	TT_TRY(tt_jj_to_string(run, v[0], &s));
	TT_TRY(tt_jj_part(run, s, 0, s->len, out));
	((struct jj_string *)out->string)->markup = true;
	return TT_OK;
}

int tt_jj_escape(struct jj_run *run, const struct jj_string *s, struct jj_value *out)
{
	static const char from[] = "&<>'\"";
	static const char *const to[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
	struct jj_builder builder = tt_jj_builder(run);
	TT_TRY(tt_jj_charge(run, s->len / 16));
	for (size_t i = 0; i < s->len; i++) {
		const char *at = s->data[i] ? strchr(from, s->data[i]) : NULL;
		if (at)
			TT_TRY(tt_jj_add_bytes(&builder, to[at - from], strlen(to[at - from]), tt_jj_mark_at(s, i)));
		else
			TT_TRY(tt_jj_add_part(&builder, s, i, i + 1));
	}
	TT_TRY(tt_jj_finish(&builder, false, out));
	((struct jj_string *)out->string)->markup = true;
	return TT_OK;
}

FILTER(escape)
{
	const struct jj_string *s;
	(void)self;
	*out = v[0];
	if (v[0].kind == JJ_STRING && v[0].string->markup)
		return TT_OK;
	TT_TRY(tt_jj_to_string(run, v[0], &s));
	return tt_jj_escape(run, s, out);
}

FILTER(replace)
{
	const struct jj_string *s, *old, *fresh;
	int64_t count = -1;
	(void)self;
	TT_TRY(tt_jj_to_string(run, v[0], &s));
	TT_TRY(tt_jj_to_string(run, v[1], &old));
	TT_TRY(tt_jj_to_string(run, v[2], &fresh));
	if (v[3].kind != JJ_NONE)
		TT_TRY(integer_or(run, v[3], -1, &count));
	return tt_jj_replace(run, s, old, fresh, count, out);
}

FILTER(indent)
{
	struct jj_builder builder = tt_jj_builder(run);
	struct jj_value spaces = v[1];
	bool first, blank, start = true;
	int64_t width;
	(void)self;
	if (v[0].kind == JJ_UNDEFINED)
		return tt_jj_undefined(run, v[0]);
	if (v[0].kind != JJ_STRING)
		return tt_jj_fail(run, TT_ERR_FORMAT, "indent of a %s", tt_jj_type(v[0]));
	if (v[1].kind != JJ_STRING) {
		struct jj_value one;
		TT_TRY(integer_or(run, v[1], 4, &width));
		TT_TRY(tt_jj_text(run, " ", 1, &one));
		TT_TRY(tt_jj_binary(run, '*', one, tt_jj_int(width), &spaces));
	}
	TT_TRY(tt_jj_truth(run, v[2], &first));
	TT_TRY(tt_jj_truth(run, v[3], &blank));
	const struct jj_string *s = v[0].string;
	TT_TRY(tt_jj_charge(run, s->len / 16));
	/* jinja2 adds a newline and then splits, so a newline at the end gives one more empty line, but \r does not. */
	for (size_t from = 0, next, end;; from = next) {
		end = tt_jj_line_end(s, from, &next);
		TT_TRY(tt_jj_charge(run, 1 + spaces.string->len / 64));
		if (!start)
			TT_TRY(tt_jj_add_text(&builder, "\n"));
		if (start ? first : blank || end > from)
			TT_TRY(tt_jj_add(&builder, spaces.string));
		TT_TRY(tt_jj_add_part(&builder, s, from, end));
		start = false;
		if (end == s->len || (next == s->len && s->data[next - 1] == '\r'))
			break;
	}
	return tt_jj_finish(&builder, false, out);
}

FILTER(tojson)
{
	struct jj_builder builder = tt_jj_builder(run);
	(void)self;
	TT_TRY(tt_jj_add_json(run, &builder, v[0], v + 1));
	return tt_jj_finish(&builder, true, out);
}

FILTER(default_)
{
	bool boolean, truth;
	(void)self;
	TT_TRY(tt_jj_truth(run, v[2], &boolean));
	TT_TRY(tt_jj_truth(run, v[0], &truth));
	*out = v[0];
	if (v[0].kind != JJ_UNDEFINED && (!boolean || truth))
		return TT_OK;
	if (given(v[1]))
		*out = v[1];
	else
		TT_TRY(tt_jj_text(run, "", 0, out));
	return TT_OK;
}

/* Copies the digits of the number in text to plain, without white space and single underscores. False if it is not a
 * number. */
static bool plain_number(const struct jj_string *s, char *plain, size_t size)
{
	size_t from = tt_jj_strip_start(s->data, s->len), to = tt_jj_strip_end(s->data, s->len), n = 0;
	for (size_t i = from; i < to; i++) {
		char c = s->data[i];
		bool inside = i > from && i + 1 < to;
		if (c == '_' && inside && strchr("_+-.", s->data[i - 1]) == NULL && s->data[i + 1] != '_')
			continue;
		if (n + 1 >= size || c == 0)
			return false;
		plain[n++] = c;
	}
	plain[n] = 0;
	return n > 0;
}

/* int(text, base): returns 0 if it is not an integer, 1 if it is, -1 if it does not fit. */
static int parse_integer(const struct jj_string *s, int base, int64_t *out)
{
	char text[128], *at = text;
	bool minus;
	if (!plain_number(s, text, sizeof text))
		return 0;
	minus = *at == '-';
	at += *at == '-' || *at == '+';
	if (at[0] == '0' && ((base == 16 && (at[1] | 32) == 'x') || (base == 8 && (at[1] | 32) == 'o') ||
				    (base == 2 && (at[1] | 32) == 'b')))
		at += 2;
	if (!*at)
		return 0;
	*out = 0;
	bool fits = true;
	for (; *at; at++) {
		int digit = *at >= '0' && *at <= '9' ? *at - '0' : (*at | 32) >= 'a' ? (*at | 32) - 'a' + 10 : 99;
		if (digit >= base)
			return 0;
		fits = fits && !__builtin_mul_overflow(*out, (int64_t)base, out) &&
		       !__builtin_add_overflow(*out, (int64_t)(minus ? -digit : digit), out);
	}
	return fits ? 1 : -1;
}

static bool parse_float(const struct jj_string *s, double *out)
{
	static const char *const words[] = {"inf", "infinity", "nan"};
	char text[128], *end, *at = text;
	if (!plain_number(s, text, sizeof text))
		return false;
	at += *at == '-' || *at == '+';
	bool word = false;
	for (size_t i = 0; i < 3; i++) {
		size_t n = 0;
		while (words[i][n] && (at[n] | 32) == words[i][n])
			n++;
		word = word || (!words[i][n] && !at[n]);
	}
	/* strtod also reads hexadecimal numbers, which are refused here. */
	if (!word && at[strspn(at, "0123456789.eE+-")] != 0)
		return false;
	*out = strtod(text, &end);
	return end != text && *end == 0;
}

static int integer_from(struct jj_run *run, double real, struct jj_value other, struct jj_value *out)
{
	*out = given(other) ? other : tt_jj_int(0);
	if (!isfinite(real))
		return TT_OK;
	if (fabs(real) >= 9.2e18)
		return tt_jj_fail(run, TT_ERR_LIMIT, "an integer of more than 64 bits");
	*out = tt_jj_int((int64_t)real);
	return TT_OK;
}

FILTER(int_)
{
	int64_t base, number;
	double real;
	(void)self;
	TT_TRY(integer_or(run, v[2], 10, &base));
	if (base != 2 && base != 8 && base != 10 && base != 16)
		return tt_jj_fail(run, TT_ERR_UNSUPPORTED, "int with a base other than 2, 8, 10 and 16");
	*out = given(v[1]) ? v[1] : tt_jj_int(0);
	switch (v[0].kind) {
	case JJ_UNDEFINED:
		return tt_jj_undefined(run, v[0]);
	case JJ_BOOL:
		*out = tt_jj_int(v[0].boolean);
		return TT_OK;
	case JJ_INT:
		*out = v[0];
		return TT_OK;
	case JJ_FLOAT:
		return integer_from(run, v[0].real, v[1], out);
	case JJ_STRING:
		break;
	default:
		return TT_OK;
	}
	int read = parse_integer(v[0].string, (int)base, &number);
	if (read < 0)
		return tt_jj_fail(run, TT_ERR_LIMIT, "an integer of more than 64 bits");
	if (read > 0)
		*out = tt_jj_int(number);
	else if (parse_float(v[0].string, &real))
		return integer_from(run, real, v[1], out);
	return TT_OK;
}

FILTER(float_)
{
	double real;
	(void)self;
	*out = given(v[1]) ? v[1] : tt_jj_float(0);
	if (v[0].kind == JJ_UNDEFINED)
		return tt_jj_undefined(run, v[0]);
	if (v[0].kind == JJ_FLOAT)
		*out = v[0];
	else if (v[0].kind == JJ_INT)
		*out = tt_jj_float((double)v[0].integer);
	else if (v[0].kind == JJ_BOOL)
		*out = tt_jj_float(v[0].boolean);
	else if (v[0].kind == JJ_STRING && parse_float(v[0].string, &real))
		*out = tt_jj_float(real);
	return TT_OK;
}

FILTER(abs_)
{
	(void)self;
	if (v[0].kind == JJ_FLOAT)
		*out = tt_jj_float(fabs(v[0].real));
	else if (v[0].kind == JJ_BOOL)
		*out = tt_jj_int(v[0].boolean);
	else if (v[0].kind == JJ_INT && v[0].integer != INT64_MIN)
		*out = tt_jj_int(llabs(v[0].integer));
	else
		return tt_jj_fail(run, TT_ERR_FORMAT, "bad operand type for abs(): '%s'", tt_jj_type(v[0]));
	return TT_OK;
}

FILTER(round_)
{
	int64_t precision;
	char text[400];
	(void)self;
	TT_TRY(integer_or(run, v[1], 0, &precision));
	if (v[0].kind != JJ_INT && v[0].kind != JJ_BOOL && v[0].kind != JJ_FLOAT)
		return tt_jj_fail(run, TT_ERR_FORMAT, "round of a %s", tt_jj_type(v[0]));
	if (precision < 0 || precision > 50)
		return tt_jj_fail(run, TT_ERR_UNSUPPORTED, "round with a precision below 0 or above 50");
	double real = v[0].kind == JJ_FLOAT ? v[0].real : v[0].kind == JJ_BOOL ? v[0].boolean : (double)v[0].integer;
	static const struct jj_string common = {.data = "common", .len = 6}, ceiling = {.data = "ceil", .len = 4},
				      flooring = {.data = "floor", .len = 5};
	const struct jj_string *method = v[2].kind == JJ_STRING ? v[2].string : &common;
	double scale = pow(10, (double)precision);
	if (tt_jj_same(method, &ceiling)) {
		*out = tt_jj_float(ceil(real * scale) / scale);
	} else if (tt_jj_same(method, &flooring)) {
		*out = tt_jj_float(floor(real * scale) / scale);
	} else if (!tt_jj_same(method, &common) || (given(v[2]) && v[2].kind != JJ_STRING)) {
		return tt_jj_fail(run, TT_ERR_FORMAT, "method must be common, ceil or floor");
	} else if (v[0].kind != JJ_FLOAT) {
		*out = tt_jj_int(v[0].kind == JJ_BOOL ? v[0].boolean : v[0].integer);
	} else {
		/* printf rounds the exact decimal value, half to even, as Python does. */
		snprintf(text, sizeof text, "%.*f", (int)precision, real);
		*out = tt_jj_float(isfinite(real) ? strtod(text, NULL) : real);
	}
	return TT_OK;
}

static int format(struct jj_run *run, struct jj_value self, const struct jj_args *args, struct jj_value *out)
{
	const struct jj_string *s;
	struct jj_value *items = NULL, tuple;
	(void)self;
	if (args->n_keywords)
		return tt_jj_fail(run, TT_ERR_UNSUPPORTED, "format with keyword arguments");
	TT_TRY(tt_jj_to_string(run, args->values[0], &s));
	TT_TRY(tt_jj_alloc(&run->arena, &items, args->n, sizeof *items));
	for (size_t i = 1; i < args->n; i++)
		items[i - 1] = args->values[i];
	TT_TRY(tt_jj_new_list(run, JJ_TUPLE, items, args->n - 1, &tuple));
	return tt_jj_percent(run, s, tuple, out);
}

const struct jj_native *tt_jj_filter(const char *name, size_t n)
{
	static const struct jj_native table[] = {
		{"upper", "value", 1, upper, NULL},
		{"lower", "value", 1, lower, NULL},
		{"title", "value", 1, title, NULL},
		{"capitalize", "value", 1, capitalize, NULL},
		{"trim", "value chars", 1, trim, NULL},
		{"string", "value", 1, string, NULL},
		{"safe", "value", 1, safe, NULL},
		{"escape", "value", 1, escape, NULL},
		{"e", "value", 1, escape, NULL},
		{"replace", "s old new count", 3, replace, NULL},
		{"indent", "s width first blank", 1, indent, NULL},
		{"tojson", "x ensure_ascii indent separators sort_keys", 1, tojson, NULL},
		{"default", "value default_value boolean", 1, default_, NULL},
		{"d", "value default_value boolean", 1, default_, NULL},
		{"int", "value default base", 1, int_, NULL},
		{"float", "value default", 1, float_, NULL},
		{"abs", "value", 1, abs_, NULL},
		{"round", "value precision method", 1, round_, NULL},
		{"format", "", 1, NULL, format},
	};
	const struct jj_native *found = tt_jj_search(table, sizeof table / sizeof *table, name, n);
	return found ? found : tt_jj_sequence_filter(name, n);
}
