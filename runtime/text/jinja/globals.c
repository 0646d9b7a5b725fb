/* Methods of dicts, lists, tuples and loops, and the global functions. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/fail.h"
#include "runtime/text/jinja/run.h"

static struct jj_value view(struct jj_value dict, enum jj_view what)
{
	return (struct jj_value){.kind = JJ_VIEW, .view = (uint8_t)what, .dict = dict.dict};
}

static int dict_items(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	(void)run, (void)v;
	*out = view(self, JJ_ITEMS);
	return TT_OK;
}

static int dict_keys(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	(void)run, (void)v;
	*out = view(self, JJ_KEYS);
	return TT_OK;
}

static int dict_values(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	(void)run, (void)v;
	*out = view(self, JJ_VALUES);
	return TT_OK;
}

static int dict_get(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	const struct jj_value *found;
	TT_TRY(tt_jj_find(run, self.dict, v[0], &found));
	*out = found ? *found : v[1].kind == JJ_MISSING ? (struct jj_value){.kind = JJ_NONE} : v[1];
	return TT_OK;
}

/* Dicts and lists never change, so a copy is the same object. */
static int copy(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	(void)run, (void)v;
	*out = self;
	return TT_OK;
}

static int list_index(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	for (size_t i = 0; i < self.list->n; i++) {
		bool same;
		TT_TRY(tt_jj_charge(run, 1));
		TT_TRY(tt_jj_equal(run, self.list->items[i], v[0], &same));
		if (same) {
			*out = tt_jj_int((int64_t)i);
			return TT_OK;
		}
	}
	return tt_jj_fail(run, TT_ERR_FORMAT, "value is not in list");
}

static int list_count(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	int64_t n = 0;
	for (size_t i = 0; i < self.list->n; i++) {
		bool same;
		TT_TRY(tt_jj_charge(run, 1));
		TT_TRY(tt_jj_equal(run, self.list->items[i], v[0], &same));
		n += same;
	}
	*out = tt_jj_int(n);
	return TT_OK;
}

const struct jj_native *tt_jj_container_method(enum jj_kind kind, const char *name, size_t n)
{
	static const struct jj_native of_dict[] = {
		{"items", "", 0, dict_items, NULL},
		{"keys", "", 0, dict_keys, NULL},
		{"values", "", 0, dict_values, NULL},
		{"get", "key default", 1, dict_get, NULL},
		{"copy", "", 0, copy, NULL},
	};
	static const struct jj_native of_list[] = {
		{"index", "value", 1, list_index, NULL},
		{"count", "value", 1, list_count, NULL},
		{"copy", "", 0, copy, NULL},
	};
	if (kind == JJ_DICT)
		return tt_jj_search(of_dict, sizeof of_dict / sizeof *of_dict, name, n);
	/* A tuple has no copy() in Python. */
	if (kind == JJ_LIST || kind == JJ_TUPLE)
		return tt_jj_search(of_list, kind == JJ_LIST ? 3 : 2, name, n);
	return NULL;
}

static int integer_of(struct jj_run *run, struct jj_value value, int64_t *out)
{
	if (value.kind == JJ_UNDEFINED)
		return tt_jj_undefined(run, value);
	if (value.kind != JJ_INT && value.kind != JJ_BOOL)
		return tt_jj_fail(
			run, TT_ERR_FORMAT, "'%s' object cannot be interpreted as an integer", tt_jj_type(value));
	*out = value.kind == JJ_BOOL ? value.boolean : value.integer;
	return TT_OK;
}

static int range(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	int64_t start = 0, stop = 0, step = 1;
	struct jj_range *made = NULL;
	(void)self;
	TT_TRY(integer_of(run, v[0], &stop));
	if (v[1].kind != JJ_MISSING) {
		start = stop;
		TT_TRY(integer_of(run, v[1], &stop));
	}
	if (v[2].kind != JJ_MISSING)
		TT_TRY(integer_of(run, v[2], &step));
	if (step == 0)
		return tt_jj_fail(run, TT_ERR_FORMAT, "range() arg 3 must not be zero");
	unsigned __int128 span = 0, width = step > 0 ? (unsigned __int128)step : (unsigned __int128)(-(__int128)step);
	if (step > 0 ? start < stop : start > stop)
		span = step > 0 ? (unsigned __int128)((__int128)stop - start)
				: (unsigned __int128)((__int128)start - stop);
	span = (span + width - 1) / width;
	if (span > JJ_MAX_RANGE)
		return tt_jj_fail(run, TT_ERR_LIMIT, "a range of more than %d numbers", JJ_MAX_RANGE);
	/* If the step is never taken, 1 or -1 replaces it, so that later multiplications cannot overflow. */
	TT_TRY(tt_jj_alloc(&run->arena, &made, 1, sizeof *made));
	*made = (struct jj_range){start, span > 1 ? step : step > 0 ? 1 : -1, (size_t)span};
	*out = (struct jj_value){.kind = JJ_RANGE, .range = made};
	return TT_OK;
}

/* dict(mapping or pairs, name=value ..) */
static int dict(struct jj_run *run, struct jj_value self, const struct jj_args *args, struct jj_value *out)
{
	(void)self;
	TT_TRY(tt_jj_new_dict(run, out));
	if (args->n > 1)
		return tt_jj_fail(run, TT_ERR_FORMAT, "dict takes at most one positional argument");
	if (args->n == 1 && (args->values[0].kind == JJ_DICT || args->values[0].kind == JJ_NAMESPACE)) {
		const struct jj_dict *from = args->values[0].dict;
		for (size_t i = 0; i < from->n; i++)
			TT_TRY(tt_jj_put(run, out->dict, from->keys[i], from->values[i]));
	} else if (args->n == 1) {
		struct jj_value *pairs, *pair;
		size_t n, two;
		TT_TRY(tt_jj_collect(run, args->values[0], &pairs, &n));
		for (size_t i = 0; i < n; i++) {
			TT_TRY(tt_jj_collect(run, pairs[i], &pair, &two));
			if (two != 2)
				return tt_jj_fail(
					run, TT_ERR_FORMAT, "dict: element %zu has length %zu, not 2", i, two);
			TT_TRY(tt_jj_put(run, out->dict, pair[0], pair[1]));
		}
	}
	for (size_t i = 0; i < args->n_keywords; i++) {
		struct jj_value key = {.kind = JJ_STRING, .string = args->keywords[i].name};
		TT_TRY(tt_jj_put(run, out->dict, key, args->keywords[i].value));
	}
	return TT_OK;
}

static int namespace(struct jj_run *run, struct jj_value self, const struct jj_args *args, struct jj_value *out)
{
	TT_TRY(dict(run, self, args, out));
	for (size_t i = 0; i < out->dict->n; i++) {
		struct jj_value key = out->dict->keys[i];
		if (key.kind == JJ_STRING && key.string->len && key.string->data[0] == '_')
			return tt_jj_fail(run, TT_ERR_FORMAT, "a namespace takes no attribute that starts with _");
	}
	out->kind = JJ_NAMESPACE;
	return TT_OK;
}

static int raise_exception(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	const struct jj_string *message;
	(void)self, (void)out;
	TT_TRY(tt_jj_to_string(run, v[0], &message));
	int n = message->len > 350 ? 350 : (int)message->len;
	return tt_jj_fail(run, TT_ERR_ARGUMENT, "%.*s", n, message->data);
}

static int strftime_now(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	struct jj_builder builder = tt_jj_builder(run);
	struct tm now;
	(void)self;
	if (v[0].kind != JJ_STRING)
		return tt_jj_fail(run, TT_ERR_FORMAT, "strftime_now takes a format");
	if (!gmtime_r(&run->now, &now))
		return tt_jj_fail(run, TT_ERR_ARGUMENT, "the time has no calendar date");
	const struct jj_string *format = v[0].string;
	for (size_t i = 0; i < format->len; i++) {
		char one[4] = "%", text[64];
		size_t at = i + 1, n = 1;
		if (format->data[i] != '%') {
			TT_TRY(tt_jj_add_part(&builder, format, i, i + 1));
			continue;
		}
		if (at < format->len && format->data[at] == '-')
			one[n++] = format->data[at++];
		if (at >= format->len || !strchr("aAbBcdDeFHIjklmMnprRsStTuUVwWxXyYZ%", format->data[at]))
			return tt_jj_fail(run, TT_ERR_UNSUPPORTED, "strftime_now: a conversion that is not known");
		one[n] = format->data[at];
		TT_TRY(tt_jj_charge(run, 1));
		n = strftime(text, sizeof text, one, &now);
		TT_TRY(tt_jj_add_bytes(&builder, text, n, JJ_TRUSTED));
		i = at;
	}
	return tt_jj_finish(&builder, false, out);
}

static int no_such(struct jj_run *run, struct jj_value self, const struct jj_args *args, struct jj_value *out)
{
	(void)self, (void)args, (void)out;
	return tt_jj_fail(run, TT_ERR_UNSUPPORTED, "lipsum, cycler and joiner are not supported");
}

const struct jj_native *tt_jj_global(const char *name, size_t n)
{
	static const struct jj_native table[] = {
		{"range", "start stop step", 1, range, NULL},
		{"dict", "", 0, NULL, dict},
		{"namespace", "", 0, NULL, namespace},
		{"raise_exception", "message", 1, raise_exception, NULL},
		{"strftime_now", "format", 1, strftime_now, NULL},
		{"lipsum", "", 0, NULL, no_such},
		{"cycler", "", 0, NULL, no_such},
		{"joiner", "", 0, NULL, no_such},
	};
	return tt_jj_search(table, sizeof table / sizeof *table, name, n);
}
