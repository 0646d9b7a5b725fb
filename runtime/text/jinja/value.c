/* Values: how they are made, compared, looked into and walked over. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/fail.h"
#include "runtime/text/jinja/run.h"

int tt_jj_fail(struct jj_run *run, int code, const char *format, ...)
{
	char message[400];
	va_list args;
	va_start(args, format);
	vsnprintf(message, sizeof message, format, args);
	va_end(args);
	run->located = true;
	return tt_fail(run->arena.err, code, "%s: line %u: %s", run->jinja->name, run->line, message);
}

int tt_jj_charge(struct jj_run *run, uint64_t n)
{
	if (n > run->max_steps - run->steps)
		return tt_jj_fail(run, TT_ERR_LIMIT, "more than %llu steps", (unsigned long long)run->max_steps);
	run->steps += n;
	return TT_OK;
}

struct jj_builder tt_jj_builder(struct jj_run *run)
{
	return (struct jj_builder){.arena = &run->arena, .limit = run->max_output};
}

const char *tt_jj_type(struct jj_value value)
{
	static const char *const names[] = {[JJ_UNDEFINED] = "Undefined",
		[JJ_NONE] = "NoneType",
		[JJ_BOOL] = "bool",
		[JJ_INT] = "int",
		[JJ_FLOAT] = "float",
		[JJ_STRING] = "str",
		[JJ_LIST] = "list",
		[JJ_TUPLE] = "tuple",
		[JJ_DICT] = "dict",
		[JJ_RANGE] = "range",
		[JJ_VIEW] = "dict view",
		[JJ_CURSOR] = "generator",
		[JJ_NAMESPACE] = "Namespace",
		[JJ_MACRO] = "Macro",
		[JJ_NATIVE] = "function",
		[JJ_LOOP] = "LoopContext",
		[JJ_MISSING] = "Undefined"};
	return names[value.kind];
}

int tt_jj_undefined(struct jj_run *run, struct jj_value value)
{
	if (!value.string)
		return tt_jj_fail(run, TT_ERR_FORMAT, "an undefined value is used");
	int n = value.string->len > 100 ? 100 : (int)value.string->len;
	return tt_jj_fail(run, TT_ERR_FORMAT, "'%.*s' is undefined", n, value.string->data);
}

struct jj_value tt_jj_bool(bool value)
{
	return (struct jj_value){.kind = JJ_BOOL, .boolean = value};
}

struct jj_value tt_jj_int(int64_t value)
{
	return (struct jj_value){.kind = JJ_INT, .integer = value};
}

struct jj_value tt_jj_float(double value)
{
	return (struct jj_value){.kind = JJ_FLOAT, .real = value};
}

int tt_jj_text(struct jj_run *run, const char *data, size_t n, struct jj_value *out)
{
	struct jj_builder builder = tt_jj_builder(run);
	TT_TRY(tt_jj_add_bytes(&builder, data, n, JJ_TRUSTED));
	return tt_jj_finish(&builder, false, out);
}

int tt_jj_part(struct jj_run *run, const struct jj_string *string, size_t from, size_t to, struct jj_value *out)
{
	struct jj_string *part = NULL;
	TT_TRY(tt_jj_alloc(&run->arena, &part, 1, sizeof *part));
	*part = (struct jj_string){.data = string->data + from, .len = to > from ? to - from : 0, .mark = string->mark};
	part->markup = string->markup;
	if (string->mark == JJ_MIXED)
		part->mask = string->mask + from;
	*out = (struct jj_value){.kind = JJ_STRING, .string = part};
	return TT_OK;
}

int tt_jj_new_list(struct jj_run *run, enum jj_kind kind, struct jj_value *items, size_t n, struct jj_value *out)
{
	struct jj_list *list = NULL;
	TT_TRY(tt_jj_alloc(&run->arena, &list, 1, sizeof *list));
	*list = (struct jj_list){items, n};
	*out = (struct jj_value){.kind = (uint8_t)kind, .list = list};
	return TT_OK;
}

int tt_jj_new_cursor(struct jj_run *run, const struct jj_value *items, size_t n, struct jj_value *out)
{
	struct jj_cursor *cursor = NULL;
	TT_TRY(tt_jj_alloc(&run->arena, &cursor, 1, sizeof *cursor));
	*cursor = (struct jj_cursor){items, n, 0};
	*out = (struct jj_value){.kind = JJ_CURSOR, .cursor = cursor};
	return TT_OK;
}

int tt_jj_new_dict(struct jj_run *run, struct jj_value *out)
{
	struct jj_dict *dict = NULL;
	TT_TRY(tt_jj_alloc(&run->arena, &dict, 1, sizeof *dict));
	*out = (struct jj_value){.kind = JJ_DICT, .dict = dict};
	return TT_OK;
}

static bool hashable(struct jj_value value)
{
	if (value.kind == JJ_TUPLE)
		for (size_t i = 0; i < value.list->n; i++)
			if (value.list->items[i].kind == JJ_LIST || value.list->items[i].kind == JJ_DICT)
				return false;
	return value.kind != JJ_LIST && value.kind != JJ_DICT && value.kind != JJ_VIEW;
}

int tt_jj_find(struct jj_run *run, const struct jj_dict *dict, struct jj_value key, const struct jj_value **found)
{
	*found = NULL;
	if (!hashable(key))
		return tt_jj_fail(run, TT_ERR_FORMAT, "unhashable type: '%s'", tt_jj_type(key));
	TT_TRY(tt_jj_charge(run, dict->n / 8));
	if (key.kind == JJ_STRING) {
		*found = tt_jj_find_text(dict, key.string);
		return TT_OK;
	}
	for (size_t i = 0; i < dict->n && !*found; i++) {
		bool same;
		TT_TRY(tt_jj_equal(run, dict->keys[i], key, &same));
		if (same)
			*found = &dict->values[i];
	}
	return TT_OK;
}

const struct jj_value *tt_jj_find_text(const struct jj_dict *dict, const struct jj_string *name)
{
	for (size_t i = 0; i < dict->n; i++)
		if (dict->keys[i].kind == JJ_STRING && tt_jj_same(dict->keys[i].string, name))
			return &dict->values[i];
	return NULL;
}

int tt_jj_put(struct jj_run *run, struct jj_dict *dict, struct jj_value key, struct jj_value value)
{
	const struct jj_value *found;
	TT_TRY(tt_jj_find(run, dict, key, &found));
	if (found) {
		dict->values[found - dict->values] = value;
		return TT_OK;
	}
	TT_TRY(tt_jj_grow(&run->arena, &dict->keys, &dict->key_capacity, dict->n + 1, sizeof *dict->keys));
	TT_TRY(tt_jj_grow(&run->arena, &dict->values, &dict->value_capacity, dict->n + 1, sizeof *dict->values));
	dict->keys[dict->n] = key;
	dict->values[dict->n++] = value;
	return TT_OK;
}

/* -1 for a value without a length. The length of a string is in code points. */
int tt_jj_length(struct jj_run *run, struct jj_value value, int64_t *out)
{
	*out = -1;
	switch (value.kind) {
	case JJ_UNDEFINED:
		*out = 0;
		break;
	case JJ_STRING:
		TT_TRY(tt_jj_charge(run, value.string->len / 64));
		*out = (int64_t)tt_jj_count(value.string->data, value.string->len);
		break;
	case JJ_LIST:
	case JJ_TUPLE:
		*out = (int64_t)value.list->n;
		break;
	case JJ_DICT:
	case JJ_VIEW:
		*out = (int64_t)value.dict->n;
		break;
	case JJ_RANGE:
		*out = (int64_t)value.range->n;
		break;
	default:
		break;
	}
	return TT_OK;
}

int tt_jj_truth(struct jj_run *run, struct jj_value value, bool *out)
{
	(void)run;
	switch (value.kind) {
	case JJ_UNDEFINED:
	case JJ_NONE:
	case JJ_MISSING:
		*out = false;
		break;
	case JJ_BOOL:
		*out = value.boolean;
		break;
	case JJ_INT:
		*out = value.integer != 0;
		break;
	case JJ_FLOAT:
		*out = value.real != 0;
		break;
	case JJ_STRING:
		*out = value.string->len != 0;
		break;
	case JJ_LIST:
	case JJ_TUPLE:
		*out = value.list->n != 0;
		break;
	case JJ_DICT:
	case JJ_VIEW:
		*out = value.dict->n != 0;
		break;
	case JJ_RANGE:
		*out = value.range->n != 0;
		break;
	default:
		*out = true;
	}
	return TT_OK;
}

static bool is_integral(struct jj_value value)
{
	return value.kind == JJ_INT || value.kind == JJ_BOOL;
}

static int64_t integral(struct jj_value value)
{
	return value.kind == JJ_BOOL ? value.boolean : value.integer;
}

static bool is_number(struct jj_value value)
{
	return is_integral(value) || value.kind == JJ_FLOAT;
}

/* Exact, as in Python: an integer past 2^53 does not equal the float that it would round to. */
static int order_numbers(struct jj_value a, struct jj_value b)
{
	if (is_integral(a) && is_integral(b))
		return integral(a) < integral(b) ? -1 : integral(a) > integral(b);
	long double x = a.kind == JJ_FLOAT ? (long double)a.real : (long double)integral(a);
	long double y = b.kind == JJ_FLOAT ? (long double)b.real : (long double)integral(b);
	return x < y ? -1 : x > y ? 1 : x == y ? 0 : 2;
}

static int enter(struct jj_run *run)
{
	if (++run->depth > run->max_depth)
		return tt_jj_fail(run, TT_ERR_LIMIT, "nested more than %u deep", run->max_depth);
	return tt_jj_charge(run, 1);
}

static int equal_lists(struct jj_run *run, const struct jj_list *a, const struct jj_list *b, bool *out)
{
	*out = a->n == b->n;
	for (size_t i = 0; i < a->n && *out; i++)
		TT_TRY(tt_jj_equal(run, a->items[i], b->items[i], out));
	return TT_OK;
}

static int equal_dicts(struct jj_run *run, const struct jj_dict *a, const struct jj_dict *b, bool *out)
{
	*out = a->n == b->n;
	for (size_t i = 0; i < a->n && *out; i++) {
		const struct jj_value *other;
		TT_TRY(tt_jj_find(run, b, a->keys[i], &other));
		*out = other != NULL;
		if (other)
			TT_TRY(tt_jj_equal(run, a->values[i], *other, out));
	}
	return TT_OK;
}

int tt_jj_equal(struct jj_run *run, struct jj_value a, struct jj_value b, bool *out)
{
	*out = false;
	if (is_number(a) && is_number(b)) {
		*out = order_numbers(a, b) == 0;
		return TT_OK;
	}
	if (a.kind != b.kind)
		return TT_OK;
	TT_TRY(enter(run));
	switch (a.kind) {
	case JJ_UNDEFINED:
	case JJ_NONE:
		*out = true;
		break;
	case JJ_STRING:
		TT_TRY(tt_jj_charge(run, a.string->len / 64));
		*out = tt_jj_same(a.string, b.string);
		break;
	case JJ_LIST:
	case JJ_TUPLE:
		TT_TRY(equal_lists(run, a.list, b.list, out));
		break;
	case JJ_DICT:
		TT_TRY(equal_dicts(run, a.dict, b.dict, out));
		break;
	case JJ_RANGE:
		*out = a.range->n == b.range->n && (a.range->n == 0 || a.range->start == b.range->start) &&
		       (a.range->n < 2 || a.range->step == b.range->step);
		break;
	default:
		*out = a.dict == b.dict;
	}
	run->depth--;
	return TT_OK;
}

static int order_strings(const struct jj_string *a, const struct jj_string *b)
{
	size_t n = a->len < b->len ? a->len : b->len;
	int order = n ? memcmp(a->data, b->data, n) : 0;
	return order ? order : a->len < b->len ? -1 : a->len > b->len;
}

/* *out: below 0, 0 or above 0 if a is below, equal to or above b, but 2 for a NaN. If the two have no order, the
 * message contains op. */
int tt_jj_compare(struct jj_run *run, struct jj_value a, struct jj_value b, const char *op, int *out)
{
	bool same = true;
	if (a.kind == JJ_UNDEFINED || b.kind == JJ_UNDEFINED)
		return tt_jj_undefined(run, a.kind == JJ_UNDEFINED ? a : b);
	if (is_number(a) && is_number(b)) {
		*out = order_numbers(a, b);
		return TT_OK;
	}
	if (a.kind == JJ_STRING && b.kind == JJ_STRING) {
		TT_TRY(tt_jj_charge(run, a.string->len / 64));
		int order = order_strings(a.string, b.string);
		*out = order < 0 ? -1 : order > 0;
		return TT_OK;
	}
	if (a.kind != b.kind || (a.kind != JJ_LIST && a.kind != JJ_TUPLE))
		return tt_jj_fail(run, TT_ERR_FORMAT, "'%s' not supported between instances of '%s' and '%s'", op,
			tt_jj_type(a), tt_jj_type(b));
	TT_TRY(enter(run));
	size_t n = a.list->n < b.list->n ? a.list->n : b.list->n;
	*out = a.list->n < b.list->n ? -1 : a.list->n > b.list->n;
	for (size_t i = 0; i < n && same; i++) {
		TT_TRY(tt_jj_equal(run, a.list->items[i], b.list->items[i], &same));
		if (!same)
			TT_TRY(tt_jj_compare(run, a.list->items[i], b.list->items[i], op, out));
	}
	run->depth--;
	return TT_OK;
}

int tt_jj_seek(
	struct jj_run *run, const struct jj_string *s, const struct jj_string *part, size_t at, bool left, size_t *out)
{
	*out = SIZE_MAX;
	if (part->len > s->len || (left && part->len > at))
		return TT_OK;
	for (size_t i = left ? at - part->len : at; i <= s->len - part->len; i = left ? i - 1 : i + 1) {
		if (part->len == 0 || s->data[i] == part->data[0]) {
			TT_TRY(tt_jj_charge(run, (part->len + 63) / 64));
			if (memcmp(s->data + i, part->data, part->len) == 0) {
				*out = i;
				return TT_OK;
			}
		}
		if (left && i == 0)
			return TT_OK;
	}
	return TT_OK;
}

int tt_jj_contains(struct jj_run *run, struct jj_value container, struct jj_value item, bool *out)
{
	struct jj_iter iter;
	struct jj_value next;
	bool more;
	*out = false;
	if (container.kind == JJ_STRING) {
		if (item.kind != JJ_STRING)
			return tt_jj_fail(run, TT_ERR_FORMAT, "'in <string>' requires string as left operand, not %s",
				tt_jj_type(item));
		const struct jj_string *s = container.string, *sub = item.string;
		TT_TRY(tt_jj_charge(run, s->len / 16));
		size_t at;
		TT_TRY(tt_jj_seek(run, s, sub, 0, false, &at));
		*out = at != SIZE_MAX;
		return TT_OK;
	}
	if (container.kind == JJ_DICT) {
		const struct jj_value *found;
		TT_TRY(tt_jj_find(run, container.dict, item, &found));
		*out = found != NULL;
		return TT_OK;
	}
	TT_TRY(tt_jj_iterate(run, container, &iter));
	for (;;) {
		TT_TRY(tt_jj_next(run, &iter, &next, &more));
		if (!more || *out)
			return TT_OK;
		TT_TRY(tt_jj_equal(run, next, item, out));
		if (*out)
			return TT_OK;
	}
}

int tt_jj_iterate(struct jj_run *run, struct jj_value value, struct jj_iter *out)
{
	*out = (struct jj_iter){.over = value};
	switch (value.kind) {
	case JJ_UNDEFINED:
	case JJ_STRING:
	case JJ_LIST:
	case JJ_TUPLE:
	case JJ_DICT:
	case JJ_RANGE:
	case JJ_VIEW:
	case JJ_CURSOR:
		return TT_OK;
	default:
		return tt_jj_fail(run, TT_ERR_FORMAT, "'%s' object is not iterable", tt_jj_type(value));
	}
}

static int next_of_dict(struct jj_run *run, struct jj_value of, size_t i, struct jj_value *out)
{
	struct jj_value *pair = NULL;
	if (of.kind == JJ_DICT || of.view == JJ_KEYS)
		*out = of.dict->keys[i];
	else if (of.view == JJ_VALUES)
		*out = of.dict->values[i];
	else {
		TT_TRY(tt_jj_alloc(&run->arena, &pair, 2, sizeof *pair));
		pair[0] = of.dict->keys[i];
		pair[1] = of.dict->values[i];
		return tt_jj_new_list(run, JJ_TUPLE, pair, 2, out);
	}
	return TT_OK;
}

int tt_jj_next(struct jj_run *run, struct jj_iter *iter, struct jj_value *out, bool *more)
{
	struct jj_value of = iter->over;
	size_t i = iter->next;
	TT_TRY(tt_jj_charge(run, 1));
	*more = true;
	switch (of.kind) {
	case JJ_STRING:
		if ((*more = i < of.string->len)) {
			tt_jj_decode(of.string->data, of.string->len, &iter->next);
			return tt_jj_part(run, of.string, i, iter->next, out);
		}
		return TT_OK;
	case JJ_LIST:
	case JJ_TUPLE:
		if ((*more = i < of.list->n))
			*out = of.list->items[i];
		break;
	case JJ_DICT:
	case JJ_VIEW:
		if ((*more = i < of.dict->n))
			TT_TRY(next_of_dict(run, of, i, out));
		break;
	case JJ_RANGE:
		if ((*more = i < of.range->n))
			*out = tt_jj_int(of.range->start + (int64_t)i * of.range->step);
		break;
	case JJ_CURSOR:
		if ((*more = of.cursor->next < of.cursor->n))
			*out = of.cursor->items[of.cursor->next++];
		break;
	default:
		*more = false;
	}
	iter->next++;
	return TT_OK;
}

int tt_jj_collect(struct jj_run *run, struct jj_value value, struct jj_value **items, size_t *n)
{
	struct jj_iter iter;
	size_t capacity = 0;
	*items = NULL;
	*n = 0;
	TT_TRY(tt_jj_iterate(run, value, &iter));
	for (;;) {
		struct jj_value item;
		bool more;
		TT_TRY(tt_jj_next(run, &iter, &item, &more));
		if (!more)
			return TT_OK;
		TT_TRY(tt_jj_grow(&run->arena, items, &capacity, *n + 1, sizeof **items));
		(*items)[(*n)++] = item;
	}
}
