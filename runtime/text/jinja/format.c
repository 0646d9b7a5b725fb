/* Values as text: Python's str and repr, json.dumps, JSON as values, and the formatting of strings. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/fail.h"
#include "base/utf8.h"
#include "runtime/text/jinja/strings.h"

int tt_jj_format_float(double value, char out[32])
{
	char digits[32], *e;
	int precision = 0, exponent, n;
	if (!isfinite(value))
		return snprintf(out, 32, "%s", isnan(value) ? "nan" : value < 0 ? "-inf" : "inf");
	do
		snprintf(digits, sizeof digits, "%.*e", precision, value);
	while (strtod(digits, NULL) != value && ++precision < 17);
	e = strchr(digits, 'e');
	exponent = e ? atoi(e + 1) : 0;
	if (exponent < -4 || exponent >= 16) {
		n = (int)(e - digits);
		return snprintf(out, 32, "%.*se%c%02d", n, digits, exponent < 0 ? '-' : '+', abs(exponent));
	}
	return snprintf(out, 32, "%.*f", precision > exponent ? precision - exponent : 1, value);
}

static bool printable(uint32_t c)
{
	if (c < 0x7f)
		return c >= 0x20;
	switch (utf8proc_category((utf8proc_int32_t)c)) {
	case UTF8PROC_CATEGORY_CC:
	case UTF8PROC_CATEGORY_CF:
	case UTF8PROC_CATEGORY_CS:
	case UTF8PROC_CATEGORY_CO:
	case UTF8PROC_CATEGORY_CN:
	case UTF8PROC_CATEGORY_ZL:
	case UTF8PROC_CATEGORY_ZP:
	case UTF8PROC_CATEGORY_ZS:
		return false;
	default:
		return true;
	}
}

/* Writes the escape of c in a Python string literal and returns its length, 0 if c needs none. */
static int python_escape(uint32_t c, char quote, char out[12])
{
	switch (c) {
	case '\n':
		return snprintf(out, 12, "\\n");
	case '\r':
		return snprintf(out, 12, "\\r");
	case '\t':
		return snprintf(out, 12, "\\t");
	case '\\':
		return snprintf(out, 12, "\\\\");
	default:
		if (c == (uint8_t)quote)
			return snprintf(out, 12, "\\%c", quote);
		if (printable(c))
			return 0;
		return snprintf(out, 12, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)c);
	}
}

static int json_escape(uint32_t c, bool ascii, char out[13])
{
	static const char from[] = "\"\\\n\r\t\f\b", to[] = "\"\\nrtfb";
	const char *at = c && c < 0x80 ? strchr(from, (int)c) : NULL;
	if (at)
		return snprintf(out, 13, "\\%c", to[at - from]);
	if (c < 0x20 || (ascii && c > 0x7e && c < 0x10000))
		return snprintf(out, 13, "\\u%04x", (unsigned)c);
	if (ascii && c >= 0x10000)
		return snprintf(
			out, 13, "\\u%04x\\u%04x", (unsigned)(0xd7c0 + (c >> 10)), (unsigned)(0xdc00 + (c & 0x3ff)));
	return 0;
}

enum quoting { PYTHON, JSON, JSON_ASCII };

/* The string between quotes; its bytes keep their marks. */
static int add_quoted(struct jj_run *run, struct jj_builder *builder, const struct jj_string *s, enum quoting how)
{
	char quote = '"', escape[13];
	size_t kept = 0;
	if (how == PYTHON && (!memchr(s->data, '\'', s->len) || memchr(s->data, '"', s->len)))
		quote = '\'';
	TT_TRY(tt_jj_charge(run, s->len / 16));
	TT_TRY(tt_jj_add_bytes(builder, &quote, 1, JJ_TRUSTED));
	for (size_t i = 0; i < s->len;) {
		size_t at = i;
		uint32_t c = tt_jj_decode(s->data, s->len, &i);
		int n = how == PYTHON ? python_escape(c, quote, escape) : json_escape(c, how == JSON_ASCII, escape);
		if (!n)
			continue;
		TT_TRY(tt_jj_add_part(builder, s, kept, at));
		TT_TRY(tt_jj_add_bytes(builder, escape, (size_t)n, s->mark == JJ_TRUSTED ? JJ_TRUSTED : JJ_UNTRUSTED));
		kept = i;
	}
	TT_TRY(tt_jj_add_part(builder, s, kept, s->len));
	return tt_jj_add_bytes(builder, &quote, 1, JJ_TRUSTED);
}

static int enter(struct jj_run *run)
{
	if (++run->depth > run->max_depth)
		return tt_jj_fail(run, TT_ERR_LIMIT, "a value nested more than %u deep", run->max_depth);
	return tt_jj_charge(run, 1);
}

static int add_sequence(struct jj_run *run, struct jj_builder *builder, const struct jj_value *items, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (i)
			TT_TRY(tt_jj_add_text(builder, ", "));
		TT_TRY(tt_jj_add_value(run, builder, items[i], true));
	}
	return TT_OK;
}

static int add_dict(struct jj_run *run, struct jj_builder *builder, const struct jj_dict *dict)
{
	TT_TRY(tt_jj_add_text(builder, "{"));
	for (size_t i = 0; i < dict->n; i++) {
		if (i)
			TT_TRY(tt_jj_add_text(builder, ", "));
		TT_TRY(tt_jj_add_value(run, builder, dict->keys[i], true));
		TT_TRY(tt_jj_add_text(builder, ": "));
		TT_TRY(tt_jj_add_value(run, builder, dict->values[i], true));
	}
	return tt_jj_add_text(builder, "}");
}

static int add_view(struct jj_run *run, struct jj_builder *builder, struct jj_value view)
{
	static const char *const names[] = {
		[JJ_KEYS] = "dict_keys([", [JJ_VALUES] = "dict_values([", [JJ_ITEMS] = "dict_items(["};
	struct jj_value *items;
	size_t n;
	TT_TRY(tt_jj_collect(run, view, &items, &n));
	TT_TRY(tt_jj_add_text(builder, names[view.view]));
	TT_TRY(add_sequence(run, builder, items, n));
	return tt_jj_add_text(builder, "])");
}

static int add_range(struct jj_builder *builder, const struct jj_range *range)
{
	char text[100];
	long long start = range->start, stop = start + (long long)range->n * range->step, step = range->step;
	snprintf(text, sizeof text, step == 1 ? "range(%lld, %lld)" : "range(%lld, %lld, %lld)", start, stop, step);
	return tt_jj_add_text(builder, text);
}

static int add_container(struct jj_run *run, struct jj_builder *builder, struct jj_value value)
{
	switch (value.kind) {
	case JJ_LIST:
		TT_TRY(tt_jj_add_text(builder, "["));
		TT_TRY(add_sequence(run, builder, value.list->items, value.list->n));
		return tt_jj_add_text(builder, "]");
	case JJ_TUPLE:
		TT_TRY(tt_jj_add_text(builder, "("));
		TT_TRY(add_sequence(run, builder, value.list->items, value.list->n));
		return tt_jj_add_text(builder, value.list->n == 1 ? ",)" : ")");
	case JJ_DICT:
		return add_dict(run, builder, value.dict);
	case JJ_NAMESPACE:
		TT_TRY(tt_jj_add_text(builder, "<Namespace "));
		TT_TRY(add_dict(run, builder, value.dict));
		return tt_jj_add_text(builder, ">");
	case JJ_VIEW:
		return add_view(run, builder, value);
	case JJ_RANGE:
		return add_range(builder, value.range);
	default:
		return tt_jj_fail(run, TT_ERR_UNSUPPORTED, "a %s has no text", tt_jj_type(value));
	}
}

int tt_jj_add_value(struct jj_run *run, struct jj_builder *builder, struct jj_value value, bool quoted)
{
	char number[32];
	switch (value.kind) {
	case JJ_UNDEFINED:
		return tt_jj_add_text(builder, quoted ? "Undefined" : "");
	case JJ_NONE:
		return tt_jj_add_text(builder, "None");
	case JJ_BOOL:
		return tt_jj_add_text(builder, value.boolean ? "True" : "False");
	case JJ_INT:
		snprintf(number, sizeof number, "%lld", (long long)value.integer);
		return tt_jj_add_text(builder, number);
	case JJ_FLOAT:
		tt_jj_format_float(value.real, number);
		return tt_jj_add_text(builder, number);
	case JJ_STRING:
		TT_TRY(tt_jj_charge(run, value.string->len / 64));
		if (quoted && value.string->markup)
			return tt_jj_fail(run, TT_ERR_UNSUPPORTED, "the repr of a safe string");
		return quoted ? add_quoted(run, builder, value.string, PYTHON) : tt_jj_add(builder, value.string);
	default:
		break;
	}
	TT_TRY(enter(run));
	TT_TRY(add_container(run, builder, value));
	run->depth--;
	return TT_OK;
}

int tt_jj_to_string(struct jj_run *run, struct jj_value value, const struct jj_string **out)
{
	struct jj_builder builder = tt_jj_builder(run);
	struct jj_value text;
	if (value.kind == JJ_STRING) {
		*out = value.string;
		return TT_OK;
	}
	TT_TRY(tt_jj_add_value(run, &builder, value, false));
	TT_TRY(tt_jj_finish(&builder, true, &text));
	*out = text.string;
	return TT_OK;
}

/* json.dumps, with the arguments that tojson has in transformers. */
struct dump {
	struct jj_run *run;
	struct jj_builder *builder;
	enum quoting quoting;
	bool sort_keys, indented;
	struct jj_value indent, item_separator, key_separator; /* strings */
};

static int dump_value(struct dump *dump, struct jj_value value, unsigned level);

static int dump_newline(struct dump *dump, unsigned level)
{
	if (!dump->indented)
		return TT_OK;
	TT_TRY(tt_jj_add_text(dump->builder, "\n"));
	for (unsigned i = 0; i < level; i++)
		TT_TRY(tt_jj_add(dump->builder, dump->indent.string));
	return TT_OK;
}

static int dump_list(struct dump *dump, const struct jj_list *list, unsigned level)
{
	if (list->n == 0)
		return tt_jj_add_text(dump->builder, "[]");
	TT_TRY(tt_jj_add_text(dump->builder, "["));
	for (size_t i = 0; i < list->n; i++) {
		if (i)
			TT_TRY(tt_jj_add(dump->builder, dump->item_separator.string));
		TT_TRY(dump_newline(dump, level + 1));
		TT_TRY(dump_value(dump, list->items[i], level + 1));
	}
	TT_TRY(dump_newline(dump, level));
	return tt_jj_add_text(dump->builder, "]");
}

static int dump_key(struct dump *dump, struct jj_value key)
{
	char number[32];
	switch (key.kind) {
	case JJ_STRING:
		return add_quoted(dump->run, dump->builder, key.string, dump->quoting);
	case JJ_NONE:
		return tt_jj_add_text(dump->builder, "\"null\"");
	case JJ_BOOL:
		return tt_jj_add_text(dump->builder, key.boolean ? "\"true\"" : "\"false\"");
	case JJ_INT:
		snprintf(number, sizeof number, "\"%lld\"", (long long)key.integer);
		return tt_jj_add_text(dump->builder, number);
	case JJ_FLOAT:
		TT_TRY(tt_jj_add_text(dump->builder, "\""));
		TT_TRY(dump_value(dump, key, 0));
		return tt_jj_add_text(dump->builder, "\"");
	default:
		return tt_jj_fail(dump->run, TT_ERR_FORMAT, "keys must be str, int, float, bool or None, not %s",
			tt_jj_type(key));
	}
}

/* The order of keys: as inserted, or sorted, by an insertion sort whose steps are counted. */
static int key_order(struct dump *dump, const struct jj_dict *dict, size_t **out)
{
	size_t *order = NULL;
	TT_TRY(tt_jj_alloc(&dump->run->arena, &order, dict->n, sizeof *order));
	for (size_t i = 0; i < dict->n; i++) {
		size_t j = i;
		for (; dump->sort_keys && j > 0; j--) {
			int sign;
			TT_TRY(tt_jj_charge(dump->run, 1));
			TT_TRY(tt_jj_compare(dump->run, dict->keys[i], dict->keys[order[j - 1]], "<", &sign));
			if (sign >= 0)
				break;
			order[j] = order[j - 1];
		}
		order[j] = i;
	}
	*out = order;
	return TT_OK;
}

static int dump_dict(struct dump *dump, const struct jj_dict *dict, unsigned level)
{
	size_t *order;
	if (dict->n == 0)
		return tt_jj_add_text(dump->builder, "{}");
	TT_TRY(key_order(dump, dict, &order));
	TT_TRY(tt_jj_add_text(dump->builder, "{"));
	for (size_t i = 0; i < dict->n; i++) {
		if (i)
			TT_TRY(tt_jj_add(dump->builder, dump->item_separator.string));
		TT_TRY(dump_newline(dump, level + 1));
		TT_TRY(dump_key(dump, dict->keys[order[i]]));
		TT_TRY(tt_jj_add(dump->builder, dump->key_separator.string));
		TT_TRY(dump_value(dump, dict->values[order[i]], level + 1));
	}
	TT_TRY(dump_newline(dump, level));
	return tt_jj_add_text(dump->builder, "}");
}

static int dump_value(struct dump *dump, struct jj_value value, unsigned level)
{
	TT_TRY(enter(dump->run));
	switch (value.kind) {
	case JJ_NONE:
		TT_TRY(tt_jj_add_text(dump->builder, "null"));
		break;
	case JJ_BOOL:
		TT_TRY(tt_jj_add_text(dump->builder, value.boolean ? "true" : "false"));
		break;
	case JJ_FLOAT:
		if (!isfinite(value.real)) {
			TT_TRY(tt_jj_add_text(dump->builder, isnan(value.real) ? "NaN"
							     : value.real < 0  ? "-Infinity"
									       : "Infinity"));
			break;
		}
		/* fallthrough */
	case JJ_INT:
		TT_TRY(tt_jj_add_value(dump->run, dump->builder, value, false));
		break;
	case JJ_STRING:
		TT_TRY(add_quoted(dump->run, dump->builder, value.string, dump->quoting));
		break;
	case JJ_LIST:
	case JJ_TUPLE:
		TT_TRY(dump_list(dump, value.list, level));
		break;
	case JJ_DICT:
		TT_TRY(dump_dict(dump, value.dict, level));
		break;
	default:
		return tt_jj_fail(
			dump->run, TT_ERR_FORMAT, "Object of type %s is not JSON serializable", tt_jj_type(value));
	}
	dump->run->depth--;
	return TT_OK;
}

/* v: ensure_ascii, indent, separators, sort_keys. */
int tt_jj_add_json(struct jj_run *run, struct jj_builder *builder, struct jj_value value, const struct jj_value *v)
{
	static const char spaces[] = "                                ";
	struct dump dump = {.run = run, .builder = builder, .quoting = JSON};
	bool ascii;
	TT_TRY(tt_jj_truth(run, v[0], &ascii));
	TT_TRY(tt_jj_truth(run, v[3], &dump.sort_keys));
	dump.quoting = ascii ? JSON_ASCII : JSON;
	dump.indented = v[1].kind != JJ_MISSING && v[1].kind != JJ_NONE;
	dump.indent = v[1];
	if (v[1].kind == JJ_INT || v[1].kind == JJ_BOOL) {
		int64_t width = v[1].kind == JJ_BOOL ? v[1].boolean : v[1].integer;
		if (width > (int64_t)sizeof spaces - 1)
			return tt_jj_fail(run, TT_ERR_UNSUPPORTED, "tojson with an indent above 32");
		TT_TRY(tt_jj_text(run, spaces, width > 0 ? (size_t)width : 0, &dump.indent));
	} else if (dump.indented && v[1].kind != JJ_STRING) {
		return tt_jj_fail(run, TT_ERR_FORMAT, "tojson's indent is a number or a string");
	}
	if (v[2].kind == JJ_LIST || v[2].kind == JJ_TUPLE) {
		if (v[2].list->n != 2 || v[2].list->items[0].kind != JJ_STRING || v[2].list->items[1].kind != JJ_STRING)
			return tt_jj_fail(run, TT_ERR_FORMAT, "tojson's separators are two strings");
		dump.item_separator = v[2].list->items[0];
		dump.key_separator = v[2].list->items[1];
	} else if (v[2].kind == JJ_MISSING || v[2].kind == JJ_NONE) {
		TT_TRY(tt_jj_text(run, dump.indented ? "," : ", ", dump.indented ? 1 : 2, &dump.item_separator));
		TT_TRY(tt_jj_text(run, ": ", 2, &dump.key_separator));
	} else {
		return tt_jj_fail(run, TT_ERR_FORMAT, "tojson's separators are two strings");
	}
	return dump_value(&dump, value, 0);
}

enum trust { TRUSTED, MESSAGES, MESSAGE, LAST_USER_MESSAGE, LAST_USER_CONTENT, UNTRUSTED };

static int from_json(struct jj_run *run, const json_t *json, enum trust trust, unsigned depth, struct jj_value *out);

static int text_from_json(struct jj_run *run, const char *data, size_t n, enum trust trust, struct jj_value *out)
{
	struct jj_string *string = NULL;
	if (tt_utf8_check(data, n) != n)
		return tt_jj_fail(run, TT_ERR_FORMAT, "a string of the context is not valid UTF-8");
	TT_TRY(tt_jj_alloc(&run->arena, &string, 1, sizeof *string));
	*string = (struct jj_string){.data = data, .len = n, .mark = JJ_UNTRUSTED};
	if (trust == TRUSTED)
		string->mark = JJ_TRUSTED;
	if (trust == LAST_USER_CONTENT)
		string->mark = JJ_LAST_USER;
	*out = (struct jj_value){.kind = JJ_STRING, .string = string};
	return TT_OK;
}

/* How far the value of key is trusted. `of` is the trust of the object that holds it. */
static enum trust trust_of(enum trust of, const char *key, const json_t *value, unsigned depth)
{
	if (depth == 0 && strcmp(key, "messages") == 0)
		return MESSAGES;
	if (depth == 0 && (strcmp(key, "tools") == 0 || strcmp(key, "documents") == 0))
		return UNTRUSTED;
	bool in_message = of == MESSAGE || of == LAST_USER_MESSAGE;
	if (in_message && strcmp(key, "role") == 0 && json_is_string(value))
		return TRUSTED;
	if (of == LAST_USER_MESSAGE && strcmp(key, "content") == 0)
		return LAST_USER_CONTENT;
	return of == TRUSTED || of == LAST_USER_CONTENT ? of : UNTRUSTED;
}

static int object_from_json(
	struct jj_run *run, const json_t *json, enum trust trust, unsigned depth, struct jj_value *out)
{
	size_t n = json_object_size(json);
	TT_TRY(tt_jj_new_dict(run, out));
	struct jj_dict *dict = out->dict;
	TT_TRY(tt_jj_grow(&run->arena, &dict->keys, &dict->key_capacity, n, sizeof *dict->keys));
	TT_TRY(tt_jj_grow(&run->arena, &dict->values, &dict->value_capacity, n, sizeof *dict->values));
	for (void *at = json_object_iter((json_t *)json); at; at = json_object_iter_next((json_t *)json, at)) {
		const char *key = json_object_iter_key(at);
		const json_t *value = json_object_iter_value(at);
		TT_TRY(text_from_json(run, key, strlen(key), trust, &dict->keys[dict->n]));
		TT_TRY(from_json(run, value, trust_of(trust, key, value, depth), depth + 1, &dict->values[dict->n]));
		dict->n++;
	}
	return TT_OK;
}

/* Index of the last message whose role is user; SIZE_MAX for none. */
static size_t last_user(const json_t *messages)
{
	size_t i = json_array_size(messages);
	while (i-- > 0) {
		const char *role = json_string_value(json_object_get(json_array_get(messages, i), "role"));
		if (role && strcmp(role, "user") == 0)
			break;
	}
	return i;
}

static int array_from_json(
	struct jj_run *run, const json_t *json, enum trust trust, unsigned depth, struct jj_value *out)
{
	size_t n = json_array_size(json), asked = trust == MESSAGES ? last_user(json) : SIZE_MAX;
	struct jj_value *items = NULL;
	TT_TRY(tt_jj_alloc(&run->arena, &items, n, sizeof *items));
	for (size_t i = 0; i < n; i++) {
		const json_t *item = json_array_get(json, i);
		enum trust inner = trust;
		if (trust == MESSAGES)
			inner = i == asked ? LAST_USER_MESSAGE : json_is_object(item) ? MESSAGE : UNTRUSTED;
		TT_TRY(from_json(run, item, inner, depth + 1, &items[i]));
	}
	return tt_jj_new_list(run, JJ_LIST, items, n, out);
}

static int from_json(struct jj_run *run, const json_t *json, enum trust trust, unsigned depth, struct jj_value *out)
{
	if (depth > run->max_depth)
		return tt_jj_fail(run, TT_ERR_LIMIT, "the context is nested more than %u deep", run->max_depth);
	switch (json_typeof(json)) {
	case JSON_OBJECT:
		return object_from_json(run, json, trust, depth, out);
	case JSON_ARRAY:
		return array_from_json(run, json, trust, depth, out);
	case JSON_STRING:
		return text_from_json(run, json_string_value(json), json_string_length(json), trust, out);
	case JSON_INTEGER:
		*out = tt_jj_int(json_integer_value(json));
		return TT_OK;
	case JSON_REAL:
		*out = tt_jj_float(json_real_value(json));
		return TT_OK;
	case JSON_TRUE:
	case JSON_FALSE:
		*out = tt_jj_bool(json_is_true(json));
		return TT_OK;
	default:
		*out = (struct jj_value){.kind = JJ_NONE};
		return TT_OK;
	}
}

int tt_jj_from_json(struct jj_run *run, const json_t *json, struct jj_value *out)
{
	if (!json_is_object(json))
		return tt_jj_fail(run, TT_ERR_ARGUMENT, "the context is not an object");
	return from_json(run, json, TRUSTED, 0, out);
}

/* ---- "..." % values and "...".format(values), as far as templates use them: no widths, no flags. */

static int add_text_of(struct jj_run *run, struct jj_builder *builder, struct jj_value value, bool quoted)
{
	struct jj_builder part = tt_jj_builder(run);
	struct jj_value text;
	if (value.kind == JJ_STRING && !quoted)
		return tt_jj_add(builder, value.string);
	TT_TRY(tt_jj_add_value(run, &part, value, quoted));
	TT_TRY(tt_jj_finish(&part, true, &text));
	return tt_jj_add(builder, text.string);
}

static int add_number(struct jj_run *run, struct jj_builder *builder, struct jj_value value, char how, int precision)
{
	char text[400];
	double real = value.kind == JJ_FLOAT  ? value.real
		      : value.kind == JJ_BOOL ? value.boolean
					      : (double)value.integer;
	if (value.kind == JJ_UNDEFINED)
		return tt_jj_undefined(run, value);
	if (value.kind != JJ_INT && value.kind != JJ_FLOAT && value.kind != JJ_BOOL)
		return tt_jj_fail(
			run, TT_ERR_FORMAT, "%%%c format: a real number is required, not %s", how, tt_jj_type(value));
	if (how == 'f') {
		snprintf(text, sizeof text, "%.*f", precision < 0 ? 6 : precision, real);
	} else {
		if (value.kind == JJ_FLOAT && (!isfinite(real) || fabs(real) >= 9e18))
			return tt_jj_fail(run, TT_ERR_LIMIT, "an integer of more than 64 bits");
		snprintf(text, sizeof text, "%lld", (long long)(value.kind == JJ_INT ? value.integer : (int64_t)real));
	}
	return tt_jj_add_text(builder, text);
}

/* The values for a % format, taken in order. */
struct taken {
	const struct jj_value *items;
	size_t n, next;
};

static int one_percent(
	struct jj_run *run, struct jj_builder *builder, const struct jj_string *format, size_t *at, struct taken *taken)
{
	int precision = -1;
	char how = *at < format->len ? format->data[*at] : 0;
	if (how == '%') {
		*at += 1;
		return tt_jj_add_part(builder, format, *at - 1, *at);
	}
	if (how == '.' && *at + 1 < format->len && format->data[*at + 1] >= '0' && format->data[*at + 1] <= '9') {
		precision = format->data[*at + 1] - '0';
		*at += 2;
		how = *at < format->len ? format->data[*at] : 0;
	}
	if (!how || !strchr("sdifr", how) || (precision >= 0 && how != 'f'))
		return tt_jj_fail(run, TT_ERR_UNSUPPORTED, "a %% format other than %%s %%r %%d %%i %%f %%%%");
	if (taken->next == taken->n)
		return tt_jj_fail(run, TT_ERR_FORMAT, "not enough arguments for format string");
	struct jj_value value = taken->items[taken->next++];
	*at += 1;
	if (how == 's' || how == 'r')
		return add_text_of(run, builder, value, how == 'r');
	return add_number(run, builder, value, how, precision);
}

int tt_jj_percent(struct jj_run *run, const struct jj_string *format, struct jj_value args, struct jj_value *out)
{
	struct jj_builder builder = tt_jj_builder(run);
	struct taken taken = {.items = &args, .n = 1};
	size_t kept = 0, i = 0;
	if (args.kind == JJ_TUPLE)
		taken = (struct taken){.items = args.list->items, .n = args.list->n};
	while (i < format->len) {
		if (format->data[i++] != '%')
			continue;
		TT_TRY(tt_jj_charge(run, 1));
		TT_TRY(tt_jj_add_part(&builder, format, kept, i - 1));
		TT_TRY(one_percent(run, &builder, format, &i, &taken));
		kept = i;
	}
	TT_TRY(tt_jj_add_part(&builder, format, kept, format->len));
	if (taken.next < taken.n && args.kind != JJ_DICT && args.kind != JJ_LIST && args.kind != JJ_UNDEFINED)
		return tt_jj_fail(run, TT_ERR_FORMAT, "not all arguments converted during string formatting");
	return tt_jj_finish(&builder, false, out);
}

/* The value for a replacement field, which names nothing (the next value), a number or a keyword. */
static int field_value(
	struct jj_run *run, const struct jj_args *args, const char *name, size_t n, size_t *next, struct jj_value *out)
{
	struct jj_string key = {.data = name, .len = n};
	size_t index = 0, digits = 0;
	while (digits < n && digits < 6 && name[digits] >= '0' && name[digits] <= '9')
		index = index * 10 + (size_t)(name[digits++] - '0');
	if (n == 0)
		index = (*next)++;
	if (digits == n) {
		if (index >= args->n)
			return tt_jj_fail(run, TT_ERR_FORMAT, "Replacement index %zu out of range", index);
		*out = args->values[index];
		return TT_OK;
	}
	for (size_t i = 0; i < n; i++)
		if (strchr(".[!:", name[i]))
			return tt_jj_fail(run, TT_ERR_UNSUPPORTED, "format fields other than {}, {0} and {name}");
	for (size_t i = 0; i < args->n_keywords; i++)
		if (tt_jj_same(args->keywords[i].name, &key)) {
			*out = args->keywords[i].value;
			return TT_OK;
		}
	return tt_jj_fail(run, TT_ERR_FORMAT, "format: no argument '%.*s'", n > 50 ? 50 : (int)n, name);
}

int tt_jj_format(struct jj_run *run, struct jj_value self, const struct jj_args *args, struct jj_value *out)
{
	const struct jj_string *s = self.string;
	struct jj_builder builder = tt_jj_builder(run);
	size_t kept = 0, next = 0, i = 0;
	while (i < s->len) {
		char c = s->data[i++];
		struct jj_value value;
		if (c != '{' && c != '}')
			continue;
		TT_TRY(tt_jj_charge(run, 1));
		if (i < s->len && s->data[i] == c) {
			TT_TRY(tt_jj_add_part(&builder, s, kept, i));
			kept = ++i;
			continue;
		}
		const char *end = c == '{' ? memchr(s->data + i, '}', s->len - i) : NULL;
		if (!end)
			return tt_jj_fail(run, TT_ERR_FORMAT, "single '%c' encountered in format string", c);
		TT_TRY(tt_jj_add_part(&builder, s, kept, i - 1));
		TT_TRY(field_value(run, args, s->data + i, (size_t)(end - s->data) - i, &next, &value));
		TT_TRY(add_text_of(run, &builder, value, false));
		kept = i = (size_t)(end - s->data) + 1;
	}
	TT_TRY(tt_jj_add_part(&builder, s, kept, s->len));
	return tt_jj_finish(&builder, false, out);
}
