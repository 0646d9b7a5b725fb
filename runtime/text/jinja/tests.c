/* The tests, which follow "is". */
#include <string.h>

#include "base/fail.h"
#include "runtime/text/jinja/strings.h"

#define TEST(name)                                                                                                     \
	static int name(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)

/* Tests that look only at the kind of value. */
#define KIND_TEST(name, condition)                                                                                     \
	TEST(name)                                                                                                     \
	{                                                                                                              \
		(void)run, (void)self;                                                                                 \
		*out = tt_jj_bool(condition);                                                                          \
		return TT_OK;                                                                                          \
	}

KIND_TEST(is_defined, v[0].kind != JJ_UNDEFINED)
KIND_TEST(is_undefined, v[0].kind == JJ_UNDEFINED)
KIND_TEST(is_none, v[0].kind == JJ_NONE)
KIND_TEST(is_boolean, v[0].kind == JJ_BOOL)
KIND_TEST(is_true, v[0].kind == JJ_BOOL && v[0].boolean)
KIND_TEST(is_false, v[0].kind == JJ_BOOL && !v[0].boolean)
KIND_TEST(is_integer, v[0].kind == JJ_INT)
KIND_TEST(is_float, v[0].kind == JJ_FLOAT)
KIND_TEST(is_number, v[0].kind == JJ_INT || v[0].kind == JJ_FLOAT || v[0].kind == JJ_BOOL)
KIND_TEST(is_string, v[0].kind == JJ_STRING)
KIND_TEST(is_mapping, v[0].kind == JJ_DICT)
KIND_TEST(is_sequence, v[0].kind == JJ_UNDEFINED || v[0].kind == JJ_STRING || v[0].kind == JJ_LIST ||
			       v[0].kind == JJ_TUPLE || v[0].kind == JJ_DICT || v[0].kind == JJ_RANGE)
KIND_TEST(is_iterable,
	v[0].kind == JJ_UNDEFINED || (v[0].kind >= JJ_STRING && v[0].kind <= JJ_CURSOR) || v[0].kind == JJ_LOOP)
KIND_TEST(is_callable,
	v[0].kind == JJ_NATIVE || v[0].kind == JJ_MACRO || v[0].kind == JJ_LOOP || v[0].kind == JJ_UNDEFINED)
KIND_TEST(is_escaped, v[0].kind == JJ_STRING && v[0].string->markup)

static int order_is(struct jj_run *run, const struct jj_value *v, const char *op, struct jj_value *out)
{
	int order;
	TT_TRY(tt_jj_compare(run, v[0], v[1], op, &order));
	bool below = order < 0, above = order == 1;
	*out = tt_jj_bool(op[0] == '<' ? below || (op[1] && order == 0) : above || (op[1] && order == 0));
	return TT_OK;
}

TEST(is_lt)
{
	(void)self;
	return order_is(run, v, "<", out);
}

TEST(is_le)
{
	(void)self;
	return order_is(run, v, "<=", out);
}

TEST(is_gt)
{
	(void)self;
	return order_is(run, v, ">", out);
}

TEST(is_ge)
{
	(void)self;
	return order_is(run, v, ">=", out);
}

TEST(is_eq)
{
	(void)self;
	*out = tt_jj_bool(false);
	return tt_jj_equal(run, v[0], v[1], &out->boolean);
}

TEST(is_ne)
{
	(void)self;
	*out = tt_jj_bool(false);
	TT_TRY(tt_jj_equal(run, v[0], v[1], &out->boolean));
	out->boolean = !out->boolean;
	return TT_OK;
}

TEST(is_in)
{
	(void)self;
	*out = tt_jj_bool(false);
	return tt_jj_contains(run, v[1], v[0], &out->boolean);
}

TEST(is_sameas)
{
	(void)self;
	*out = tt_jj_bool(false);
	if (v[0].kind == v[1].kind && (v[0].kind <= JJ_INT || v[0].kind == JJ_STRING))
		return tt_jj_equal(run, v[0], v[1], &out->boolean);
	out->boolean = v[0].kind == v[1].kind && v[0].dict == v[1].dict;
	return TT_OK;
}

TEST(is_divisibleby)
{
	struct jj_value rest;
	(void)self;
	TT_TRY(tt_jj_binary(run, '%', v[0], v[1], &rest));
	*out = tt_jj_bool(false);
	return tt_jj_equal(run, rest, tt_jj_int(0), &out->boolean);
}

static int rest_is(struct jj_run *run, struct jj_value value, int64_t want, struct jj_value *out)
{
	struct jj_value rest;
	TT_TRY(tt_jj_binary(run, '%', value, tt_jj_int(2), &rest));
	*out = tt_jj_bool(false);
	return tt_jj_equal(run, rest, tt_jj_int(want), &out->boolean);
}

TEST(is_odd)
{
	(void)self;
	return rest_is(run, v[0], 1, out);
}

TEST(is_even)
{
	(void)self;
	return rest_is(run, v[0], 0, out);
}

TEST(is_lower)
{
	const struct jj_string *s;
	(void)self;
	TT_TRY(tt_jj_to_string(run, v[0], &s));
	*out = tt_jj_bool(tt_jj_all_cased(s, false));
	return tt_jj_charge(run, s->len / 16);
}

TEST(is_upper)
{
	const struct jj_string *s;
	(void)self;
	TT_TRY(tt_jj_to_string(run, v[0], &s));
	*out = tt_jj_bool(tt_jj_all_cased(s, true));
	return tt_jj_charge(run, s->len / 16);
}

TEST(is_filter)
{
	(void)run, (void)self;
	*out = tt_jj_bool(v[0].kind == JJ_STRING && tt_jj_filter(v[0].string->data, v[0].string->len));
	return TT_OK;
}

TEST(is_test)
{
	(void)run, (void)self;
	*out = tt_jj_bool(v[0].kind == JJ_STRING && tt_jj_test(v[0].string->data, v[0].string->len));
	return TT_OK;
}

const struct jj_native *tt_jj_test(const char *name, size_t n)
{
	static const struct jj_native table[] = {
		{"defined", "value", 1, is_defined, NULL},
		{"undefined", "value", 1, is_undefined, NULL},
		{"none", "value", 1, is_none, NULL},
		{"boolean", "value", 1, is_boolean, NULL},
		{"true", "value", 1, is_true, NULL},
		{"false", "value", 1, is_false, NULL},
		{"integer", "value", 1, is_integer, NULL},
		{"float", "value", 1, is_float, NULL},
		{"number", "value", 1, is_number, NULL},
		{"string", "value", 1, is_string, NULL},
		{"mapping", "value", 1, is_mapping, NULL},
		{"sequence", "value", 1, is_sequence, NULL},
		{"iterable", "value", 1, is_iterable, NULL},
		{"callable", "value", 1, is_callable, NULL},
		{"escaped", "value", 1, is_escaped, NULL},
		{"==", "value other", 2, is_eq, NULL},
		{"eq", "value other", 2, is_eq, NULL},
		{"equalto", "value other", 2, is_eq, NULL},
		{"!=", "value other", 2, is_ne, NULL},
		{"ne", "value other", 2, is_ne, NULL},
		{"<", "value other", 2, is_lt, NULL},
		{"lt", "value other", 2, is_lt, NULL},
		{"lessthan", "value other", 2, is_lt, NULL},
		{"<=", "value other", 2, is_le, NULL},
		{"le", "value other", 2, is_le, NULL},
		{">", "value other", 2, is_gt, NULL},
		{"gt", "value other", 2, is_gt, NULL},
		{"greaterthan", "value other", 2, is_gt, NULL},
		{">=", "value other", 2, is_ge, NULL},
		{"ge", "value other", 2, is_ge, NULL},
		{"in", "value seq", 2, is_in, NULL},
		{"sameas", "value other", 2, is_sameas, NULL},
		{"divisibleby", "value num", 2, is_divisibleby, NULL},
		{"odd", "value", 1, is_odd, NULL},
		{"even", "value", 1, is_even, NULL},
		{"lower", "value", 1, is_lower, NULL},
		{"upper", "value", 1, is_upper, NULL},
		{"filter", "value", 1, is_filter, NULL},
		{"test", "value", 1, is_test, NULL},
	};
	return tt_jj_search(table, sizeof table / sizeof *table, name, n);
}
