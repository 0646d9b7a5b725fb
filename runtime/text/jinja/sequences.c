/* Filters for sequences. Where Python returns a generator, the result is a cursor, which is read once. */
#include <string.h>

#include "base/fail.h"
#include "runtime/text/jinja/strings.h"

#define FILTER(name)                                                                                                   \
	static int name(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)

/* A growing list of values. */
struct values {
	struct jj_value *items;
	size_t n, capacity;
};

static int add(struct jj_run *run, struct values *values, struct jj_value value)
{
	TT_TRY(tt_jj_grow(&run->arena, &values->items, &values->capacity, values->n + 1, sizeof *values->items));
	values->items[values->n++] = value;
	return TT_OK;
}

/* One step of a path such as "address.city": a name, or an index if it has only digits. */
static int step_into(struct jj_run *run, struct jj_value *value, const char *name, size_t n)
{
	struct jj_value key;
	int64_t index = 0;
	size_t digits = 0;
	while (digits < n && digits < 9 && name[digits] >= '0' && name[digits] <= '9')
		index = index * 10 + (name[digits++] - '0');
	if (n > 0 && digits == n)
		key = tt_jj_int(index);
	else
		TT_TRY(tt_jj_text(run, name, n, &key));
	return tt_jj_item(run, *value, key, value);
}

/* The attribute that a filter was given: a path, a number, or none for the value itself. */
static int attribute_of(
	struct jj_run *run, struct jj_value item, struct jj_value path, struct jj_value fallback, struct jj_value *out)
{
	*out = item;
	if (path.kind == JJ_MISSING || path.kind == JJ_NONE)
		return TT_OK;
	if (path.kind != JJ_STRING) {
		TT_TRY(tt_jj_item(run, item, path, out));
	} else {
		const char *at = path.string->data, *end = at + path.string->len;
		for (;;) {
			const char *dot = memchr(at, '.', (size_t)(end - at));
			TT_TRY(tt_jj_charge(run, 1));
			TT_TRY(step_into(run, out, at, (size_t)((dot ? dot : end) - at)));
			if (out->kind == JJ_UNDEFINED && fallback.kind != JJ_MISSING && fallback.kind != JJ_NONE)
				*out = fallback;
			if (!dot)
				return TT_OK;
			at = dot + 1;
		}
	}
	if (out->kind == JJ_UNDEFINED && fallback.kind != JJ_MISSING && fallback.kind != JJ_NONE)
		*out = fallback;
	return TT_OK;
}

static int fold_case(struct jj_run *run, struct jj_value *value, bool case_sensitive)
{
	if (case_sensitive || value->kind != JJ_STRING)
		return TT_OK;
	return tt_jj_change_case(run, value->string, JJ_LOWER, value);
}

/* The key that an item is sorted by: the tuple of the attributes that a comma-separated path names. */
static int sort_key(
	struct jj_run *run, struct jj_value item, struct jj_value path, bool case_sensitive, struct jj_value *out)
{
	struct jj_value none = {.kind = JJ_MISSING};
	struct values key = {0};
	size_t from = 0, n = path.kind == JJ_STRING ? path.string->len : 0;
	do {
		struct jj_value part = path, value;
		if (path.kind == JJ_STRING) {
			const char *comma = memchr(path.string->data + from, ',', n - from);
			size_t to = comma ? (size_t)(comma - path.string->data) : n;
			TT_TRY(tt_jj_part(run, path.string, from, to, &part));
			from = to + 1;
		}
		TT_TRY(attribute_of(run, item, part, none, &value));
		TT_TRY(fold_case(run, &value, case_sensitive));
		TT_TRY(add(run, &key, value));
	} while (path.kind == JJ_STRING && from <= n);
	return tt_jj_new_list(run, JJ_LIST, key.items, key.n, out);
}

struct keyed {
	struct jj_value key, value;
};

/* Merge sort, stable in both directions as Python's. */
static int merge_sort(struct jj_run *run, struct keyed *items, struct keyed *spare, size_t n, bool reverse)
{
	for (size_t width = 1; width < n; width *= 2) {
		for (size_t low = 0; low < n; low += 2 * width) {
			size_t middle = low + width < n ? low + width : n,
			       high = low + 2 * width < n ? low + 2 * width : n;
			size_t a = low, b = middle, to = low;
			while (a < middle || b < high) {
				bool right = a == middle;
				if (a < middle && b < high) {
					int order;
					TT_TRY(tt_jj_charge(run, 1));
					TT_TRY(tt_jj_compare(run, items[b].key, items[a].key, "<", &order));
					right = reverse ? order == 1 : order < 0;
				}
				spare[to++] = right ? items[b++] : items[a++];
			}
		}
		memcpy(items, spare, n * sizeof *items);
	}
	return TT_OK;
}

static int sort_values(struct jj_run *run, const struct keyed *from, size_t n, bool reverse, struct jj_value *out)
{
	struct keyed *items = NULL, *spare = NULL;
	struct jj_value *sorted = NULL;
	TT_TRY(tt_jj_alloc(&run->arena, &items, n, sizeof *items));
	TT_TRY(tt_jj_alloc(&run->arena, &spare, n, sizeof *spare));
	TT_TRY(tt_jj_alloc(&run->arena, &sorted, n, sizeof *sorted));
	if (n)
		memcpy(items, from, n * sizeof *items);
	TT_TRY(merge_sort(run, items, spare, n, reverse));
	for (size_t i = 0; i < n; i++)
		sorted[i] = items[i].value;
	return tt_jj_new_list(run, JJ_LIST, sorted, n, out);
}

FILTER(sort)
{
	struct jj_value *items;
	struct keyed *keyed = NULL;
	bool reverse, case_sensitive;
	size_t n;
	(void)self;
	TT_TRY(tt_jj_truth(run, v[1], &reverse));
	TT_TRY(tt_jj_truth(run, v[2], &case_sensitive));
	TT_TRY(tt_jj_collect(run, v[0], &items, &n));
	TT_TRY(tt_jj_alloc(&run->arena, &keyed, n, sizeof *keyed));
	for (size_t i = 0; i < n; i++) {
		keyed[i].value = items[i];
		TT_TRY(sort_key(run, items[i], v[3], case_sensitive, &keyed[i].key));
	}
	return sort_values(run, keyed, n, reverse, out);
}

FILTER(dictsort)
{
	static const struct jj_string by_key = {.data = "key", .len = 3}, by_value = {.data = "value", .len = 5};
	struct keyed *keyed = NULL;
	struct jj_value *items;
	bool case_sensitive, reverse, value;
	size_t n;
	(void)self;
	if (v[0].kind != JJ_DICT)
		return tt_jj_fail(run, TT_ERR_FORMAT, "dictsort of a %s", tt_jj_type(v[0]));
	TT_TRY(tt_jj_truth(run, v[1], &case_sensitive));
	TT_TRY(tt_jj_truth(run, v[3], &reverse));
	value = v[2].kind == JJ_STRING && tt_jj_same(v[2].string, &by_value);
	if (!value && v[2].kind != JJ_MISSING && !(v[2].kind == JJ_STRING && tt_jj_same(v[2].string, &by_key)))
		return tt_jj_fail(run, TT_ERR_FORMAT, "dictsort sorts by \"key\" or \"value\"");
	struct jj_value view = {.kind = JJ_VIEW, .view = JJ_ITEMS, .dict = v[0].dict};
	TT_TRY(tt_jj_collect(run, view, &items, &n));
	TT_TRY(tt_jj_alloc(&run->arena, &keyed, n, sizeof *keyed));
	for (size_t i = 0; i < n; i++) {
		keyed[i] = (struct keyed){items[i].list->items[value], items[i]};
		TT_TRY(fold_case(run, &keyed[i].key, case_sensitive));
	}
	return sort_values(run, keyed, n, reverse, out);
}

FILTER(unique)
{
	struct jj_value none = {.kind = JJ_MISSING}, *items, key, seen;
	struct values kept = {0};
	bool case_sensitive;
	size_t n;
	(void)self;
	TT_TRY(tt_jj_truth(run, v[1], &case_sensitive));
	TT_TRY(tt_jj_collect(run, v[0], &items, &n));
	TT_TRY(tt_jj_new_dict(run, &seen));
	for (size_t i = 0; i < n; i++) {
		const struct jj_value *found;
		TT_TRY(attribute_of(run, items[i], v[2], none, &key));
		TT_TRY(fold_case(run, &key, case_sensitive));
		TT_TRY(tt_jj_find(run, seen.dict, key, &found));
		if (found)
			continue;
		TT_TRY(tt_jj_put(run, seen.dict, key, key));
		TT_TRY(add(run, &kept, items[i]));
	}
	return tt_jj_new_cursor(run, kept.items, kept.n, out);
}

static int extreme(struct jj_run *run, const struct jj_value *v, bool largest, struct jj_value *out)
{
	struct jj_value none = {.kind = JJ_MISSING}, *items, best, key;
	bool case_sensitive;
	size_t n;
	TT_TRY(tt_jj_truth(run, v[1], &case_sensitive));
	TT_TRY(tt_jj_collect(run, v[0], &items, &n));
	*out = (struct jj_value){.kind = JJ_UNDEFINED};
	for (size_t i = 0; i < n; i++) {
		int order = 0;
		TT_TRY(attribute_of(run, items[i], v[2], none, &key));
		TT_TRY(fold_case(run, &key, case_sensitive));
		if (i > 0)
			TT_TRY(tt_jj_compare(run, key, best, largest ? ">" : "<", &order));
		if (i > 0 && !(largest ? order == 1 : order < 0))
			continue;
		best = key;
		*out = items[i];
	}
	return TT_OK;
}

FILTER(min)
{
	(void)self;
	return extreme(run, v, false, out);
}

FILTER(max)
{
	(void)self;
	return extreme(run, v, true, out);
}

FILTER(sum)
{
	struct jj_value none = {.kind = JJ_MISSING}, *items;
	size_t n;
	(void)self;
	*out = v[2].kind == JJ_MISSING ? tt_jj_int(0) : v[2];
	if (out->kind == JJ_STRING)
		return tt_jj_fail(run, TT_ERR_FORMAT, "sum() can't sum strings");
	TT_TRY(tt_jj_collect(run, v[0], &items, &n));
	for (size_t i = 0; i < n; i++) {
		struct jj_value item;
		TT_TRY(attribute_of(run, items[i], v[1], none, &item));
		TT_TRY(tt_jj_binary(run, '+', *out, item, out));
	}
	return TT_OK;
}

FILTER(length)
{
	int64_t n;
	(void)self;
	TT_TRY(tt_jj_length(run, v[0], &n));
	if (n < 0)
		return tt_jj_fail(run, TT_ERR_FORMAT, "object of type '%s' has no len()", tt_jj_type(v[0]));
	*out = tt_jj_int(n);
	return TT_OK;
}

FILTER(first)
{
	struct jj_iter iter;
	bool more;
	(void)self;
	TT_TRY(tt_jj_iterate(run, v[0], &iter));
	*out = (struct jj_value){.kind = JJ_UNDEFINED};
	return tt_jj_next(run, &iter, out, &more);
}

FILTER(last)
{
	struct jj_value *items;
	size_t n;
	(void)self;
	if (v[0].kind == JJ_CURSOR)
		return tt_jj_fail(run, TT_ERR_FORMAT, "'generator' object is not reversible");
	*out = (struct jj_value){.kind = JJ_UNDEFINED};
	if (v[0].kind == JJ_LIST || v[0].kind == JJ_TUPLE) {
		if (v[0].list->n)
			*out = v[0].list->items[v[0].list->n - 1];
		return TT_OK;
	}
	TT_TRY(tt_jj_collect(run, v[0], &items, &n));
	if (n)
		*out = items[n - 1];
	return TT_OK;
}

FILTER(list)
{
	struct jj_value *items;
	size_t n;
	(void)self;
	TT_TRY(tt_jj_collect(run, v[0], &items, &n));
	return tt_jj_new_list(run, JJ_LIST, items, n, out);
}

FILTER(reverse)
{
	struct jj_value *items;
	size_t n;
	(void)self;
	TT_TRY(tt_jj_collect(run, v[0], &items, &n));
	for (size_t i = 0; i < n / 2; i++) {
		struct jj_value other = items[i];
		items[i] = items[n - 1 - i];
		items[n - 1 - i] = other;
	}
	if (v[0].kind == JJ_STRING) {
		struct jj_builder builder = tt_jj_builder(run);
		for (size_t i = 0; i < n; i++)
			TT_TRY(tt_jj_add(&builder, items[i].string));
		return tt_jj_finish(&builder, false, out);
	}
	if (v[0].kind == JJ_CURSOR)
		return tt_jj_new_list(run, JJ_LIST, items, n, out);
	return tt_jj_new_cursor(run, items, n, out);
}

FILTER(items)
{
	struct jj_value *pairs = NULL;
	size_t n = 0;
	(void)self;
	if (v[0].kind == JJ_DICT) {
		struct jj_value view = {.kind = JJ_VIEW, .view = JJ_ITEMS, .dict = v[0].dict};
		TT_TRY(tt_jj_collect(run, view, &pairs, &n));
	} else if (v[0].kind != JJ_UNDEFINED) {
		return tt_jj_fail(run, TT_ERR_FORMAT, "items of a %s", tt_jj_type(v[0]));
	}
	return tt_jj_new_cursor(run, pairs, n, out);
}

FILTER(join)
{
	struct jj_builder builder = tt_jj_builder(run);
	struct jj_value none = {.kind = JJ_MISSING}, item;
	const struct jj_string *between = NULL, *text;
	struct jj_iter iter;
	bool more;
	(void)self;
	if (v[1].kind != JJ_MISSING)
		TT_TRY(tt_jj_to_string(run, v[1], &between));
	TT_TRY(tt_jj_iterate(run, v[0], &iter));
	for (size_t i = 0;; i++) {
		TT_TRY(tt_jj_next(run, &iter, &item, &more));
		if (!more)
			return tt_jj_finish(&builder, false, out);
		TT_TRY(attribute_of(run, item, v[2], none, &item));
		TT_TRY(tt_jj_to_string(run, item, &text));
		TT_TRY(tt_jj_charge(run, (text->len + (between ? between->len : 0)) / 64));
		if (i > 0 && between)
			TT_TRY(tt_jj_add(&builder, between));
		TT_TRY(tt_jj_add(&builder, text));
	}
}

/* Calls the filter or test that args->values[at] names on item, with the arguments after the name. */
static int call_named(struct jj_run *run, const struct jj_args *args, size_t at, bool test, struct jj_value item,
	struct jj_value *out)
{
	struct jj_args inner = {.n = args->n - at, .keywords = args->keywords, .n_keywords = args->n_keywords};
	struct jj_value *values = NULL, name = args->values[at];
	const struct jj_native *native = NULL;
	if (name.kind == JJ_STRING)
		native = (test ? tt_jj_test : tt_jj_filter)(name.string->data, name.string->len);
	if (!native)
		return tt_jj_fail(run, TT_ERR_UNSUPPORTED, "%s '%.*s' is not supported", test ? "test" : "filter",
			name.kind == JJ_STRING && name.string->len < 50 ? (int)name.string->len : 0,
			name.kind == JJ_STRING ? name.string->data : "");
	if (++run->depth > run->max_depth)
		return tt_jj_fail(run, TT_ERR_LIMIT, "nested more than %u deep", run->max_depth);
	TT_TRY(tt_jj_alloc(&run->arena, &values, inner.n, sizeof *values));
	values[0] = item;
	for (size_t i = 1; i < inner.n; i++)
		values[i] = args->values[at + i];
	inner.values = values;
	TT_TRY(tt_jj_call_native(run, native, (struct jj_value){.kind = JJ_NONE}, &inner, out));
	run->depth--;
	return TT_OK;
}

static const struct jj_value *keyword(const struct jj_args *args, const char *name)
{
	for (size_t i = 0; i < args->n_keywords; i++)
		if (args->keywords[i].name->len == strlen(name) &&
			memcmp(args->keywords[i].name->data, name, strlen(name)) == 0)
			return &args->keywords[i].value;
	return NULL;
}

static int map(struct jj_run *run, struct jj_value self, const struct jj_args *args, struct jj_value *out)
{
	struct jj_value none = {.kind = JJ_MISSING}, *items;
	const struct jj_value *path = args->n == 1 ? keyword(args, "attribute") : NULL,
			      *fallback = keyword(args, "default");
	size_t n;
	bool truth;
	(void)self;
	TT_TRY(tt_jj_truth(run, args->values[0], &truth));
	if (!truth)
		return tt_jj_new_cursor(run, NULL, 0, out);
	if (!path && args->n < 2)
		return tt_jj_fail(run, TT_ERR_FORMAT, "map requires a filter argument");
	if (path && args->n_keywords > (fallback ? 2u : 1u))
		return tt_jj_fail(run, TT_ERR_FORMAT, "map has an unexpected keyword argument");
	TT_TRY(tt_jj_collect(run, args->values[0], &items, &n));
	for (size_t i = 0; i < n; i++)
		if (path)
			TT_TRY(attribute_of(run, items[i], *path, fallback ? *fallback : none, &items[i]));
		else
			TT_TRY(call_named(run, args, 1, false, items[i], &items[i]));
	return tt_jj_new_cursor(run, items, n, out);
}

static int choose(struct jj_run *run, const struct jj_args *args, bool attribute, bool keep, struct jj_value *out)
{
	struct jj_value none = {.kind = JJ_MISSING}, *items;
	struct values kept = {0};
	size_t n, at = attribute ? 2 : 1;
	bool truth;
	TT_TRY(tt_jj_truth(run, args->values[0], &truth));
	if (!truth)
		return tt_jj_new_cursor(run, NULL, 0, out);
	if (args->n < at)
		return tt_jj_fail(run, TT_ERR_FORMAT, "missing parameter for attribute name");
	TT_TRY(tt_jj_collect(run, args->values[0], &items, &n));
	for (size_t i = 0; i < n; i++) {
		struct jj_value value = items[i];
		if (attribute)
			TT_TRY(attribute_of(run, items[i], args->values[1], none, &value));
		if (args->n > at)
			TT_TRY(call_named(run, args, at, true, value, &value));
		TT_TRY(tt_jj_truth(run, value, &truth));
		if (truth == keep)
			TT_TRY(add(run, &kept, items[i]));
	}
	return tt_jj_new_cursor(run, kept.items, kept.n, out);
}

static int select_(struct jj_run *run, struct jj_value self, const struct jj_args *args, struct jj_value *out)
{
	(void)self;
	return choose(run, args, false, true, out);
}

static int reject(struct jj_run *run, struct jj_value self, const struct jj_args *args, struct jj_value *out)
{
	(void)self;
	return choose(run, args, false, false, out);
}

static int selectattr(struct jj_run *run, struct jj_value self, const struct jj_args *args, struct jj_value *out)
{
	(void)self;
	return choose(run, args, true, true, out);
}

static int rejectattr(struct jj_run *run, struct jj_value self, const struct jj_args *args, struct jj_value *out)
{
	(void)self;
	return choose(run, args, true, false, out);
}

const struct jj_native *tt_jj_sequence_filter(const char *name, size_t n)
{
	static const struct jj_native table[] = {
		{"length", "value", 1, length, NULL},
		{"count", "value", 1, length, NULL},
		{"first", "seq", 1, first, NULL},
		{"last", "seq", 1, last, NULL},
		{"list", "value", 1, list, NULL},
		{"join", "value d attribute", 1, join, NULL},
		{"reverse", "value", 1, reverse, NULL},
		{"sort", "value reverse case_sensitive attribute", 1, sort, NULL},
		{"unique", "value case_sensitive attribute", 1, unique, NULL},
		{"dictsort", "value case_sensitive by reverse", 1, dictsort, NULL},
		{"items", "value", 1, items, NULL},
		{"min", "value case_sensitive attribute", 1, min, NULL},
		{"max", "value case_sensitive attribute", 1, max, NULL},
		{"sum", "iterable attribute start", 1, sum, NULL},
		{"map", "", 1, NULL, map},
		{"select", "", 1, NULL, select_},
		{"reject", "", 1, NULL, reject},
		{"selectattr", "", 1, NULL, selectattr},
		{"rejectattr", "", 1, NULL, rejectattr},
	};
	return tt_jj_search(table, sizeof table / sizeof *table, name, n);
}
