/* Rules: which states open them, against formulas in C, and what is refused. */
#include <criterion/criterion.h>
#include <string.h>

#include "controller/policy/rule.h"

static struct tt_rule parsed(const char *conditions, const char *text)
{
	struct tt_rule rule;
	struct tt_error err = {0};
	cr_assert_eq(tt_rule_parse(&rule, conditions, text, &err), TT_OK, "%s: %s", text, err.message);
	return rule;
}

/* Every state of a to d against the same formula in C. */
#define CHECK(text, formula)                                                                                           \
	do {                                                                                                           \
		struct tt_rule rule = parsed("a,b,c,d", text);                                                         \
		for (uint32_t held = 0; held < 16; held++) {                                                           \
			bool a = held & 1, b = held & 2, c = held & 4, d = held & 8;                                   \
			cr_expect_eq(tt_steer_rule(rule.table, held), formula, "%s of %u", text, held);                \
		}                                                                                                      \
		cr_expect_eq(rule.table >> 16, 0);                                                                     \
	} while (0)

Test(rule, opens_where_its_formula_is_true)
{
	CHECK("a and b and c and d", (a && b && c && d));
	CHECK("a or b or c or d", (a || b || c || d));
	CHECK("a or b and c or d", (a || (b && c) || d));
	CHECK("a and b or c and d", ((a && b) || (c && d)));
	CHECK("(a or b) and (c or d)", ((a || b) && (c || d)));
	CHECK("not a and b or c and not d", ((!a && b) || (c && !d)));
	CHECK("not (a and b) and not (c or not d)", (!(a && b) && !(c || !d)));
	CHECK("not not a and not not not b and(c)or not(d)", ((a && !b && c) || !d));
	CHECK("((a and (((b)) or c)) or\t(d and\n a))", ((a && (b || c)) || (d && a)));
	CHECK("(a and not b or not a and b) and (c or d)", ((a != b) && (c || d)));
}

Test(rule, knows_its_conditions_by_name_and_side)
{
	struct tt_rule rule =
		parsed(" harmful , not-safe below,a.b/c:d_E9", "(a.b/c:d_E9 or harmful) and not not-safe");
	struct tt_buffer text = {0};
	struct tt_error err = {0};
	cr_expect(rule.n == 3 && rule.below == 2);
	cr_expect_str_eq(rule.names[0], "harmful");
	cr_expect_str_eq(rule.names[2], "a.b/c:d_E9");
	cr_expect_eq(rule.table, 1u << 1 | 1u << 4 | 1u << 5);
	cr_assert_eq(tt_rule_print_conditions(&text, &rule, &err), TT_OK);
	cr_expect_str_eq(text.data, "harmful,not-safe below,a.b/c:d_E9");
	struct tt_rule again = parsed(text.data, rule.text);
	cr_expect_arr_eq(&again, &rule, sizeof rule);
	tt_buffer_free(&text);
}

/* Without a list the names of the rule are its conditions. */
Test(rule, finds_its_conditions)
{
	struct tt_rule rule = parsed(NULL, "not z and (y or z) and x");
	cr_expect(rule.n == 3 && rule.below == 0);
	cr_expect_str_eq(rule.names[0], "z");
	cr_expect_str_eq(rule.names[1], "y");
	cr_expect_str_eq(rule.names[2], "x");
	cr_expect_eq(rule.table, 1u << 6);
}

Test(rule, refuses_what_it_cannot_read)
{
	static const char *const cases[][3] = {
		{"a,b", "", "wants a condition at its end"},
		{"a,b", "a and", "wants a condition at its end"},
		{"a,b", "a b", "wants \"and\", \"or\" or its end where it has \"b\", at byte 2"},
		{"a,b", "a and or b", "wants a condition where it has \"or\", at byte 6"},
		{"a,b", "(a and b", "wants \")\" at its end"},
		{"a,b", "a and b)", "wants \"and\", \"or\" or its end where it has \")\", at byte 7"},
		{"a,b", "a && b", "its end where it has \"&\", at byte 2"},
		{"a,b", "a AND b", "its end where it has \"AND\""},
		{"a,b", "a and c", "wants a condition where it has \"c\""},
		{"a,b", "a and \xc3\xa4", "wants a condition"},
		{"a,b", "a", "does not depend on condition \"b\""},
		{"a,b", "b and (a or not a)", "does not depend on condition \"a\""},
		{NULL, "a or not a", "does not depend on condition \"a\""},
		{"a,a", "a", "two conditions are named \"a\""},
		{"a,", "a", "\"\" is no name"},
		{"", "a", "\"\" is no name"},
		{"a b", "a", "a comma or the end must follow condition \"a\""},
		{"a above", "a", "a comma or the end must follow condition \"a\""},
		{"and", "and", "\"and\" is no name"},
		{"below", "below", "\"below\" is no name"},
		{"a,b,c,d,e", "a", "at most 4 conditions"},
		{NULL, "a and b and c and d and e", "at most 4 conditions"},
		{NULL, "a23456789012345678901234567890123", "is no name of a condition"},
	};
	struct tt_rule rule;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tt_error err = {0};
		cr_expect_eq(tt_rule_parse(&rule, cases[i][0], cases[i][1], &err), TT_ERR_FORMAT, "%s", cases[i][1]);
		cr_expect(strstr(err.message, cases[i][2]), "%s: %s", cases[i][1], err.message);
	}
}

Test(rule, is_read_up_to_its_limit)
{
	char text[TT_MAX_RULE + 2];
	struct tt_rule rule;
	struct tt_error err = {0};
	memset(text, '(', sizeof text);
	text[TT_MAX_RULE / 2] = 'a';
	memset(text + TT_MAX_RULE / 2 + 1, ')', TT_MAX_RULE / 2);
	text[TT_MAX_RULE + 1] = 0;
	cr_expect_eq(tt_rule_parse(&rule, "a", text, &err), TT_ERR_FORMAT);
	cr_expect(strstr(err.message, "longer than 256 bytes"), "%s", err.message);
	cr_expect_eq(tt_rule_parse(&rule, "a", text + 2, &err), TT_ERR_FORMAT, "one bracket is not closed");
	text[TT_MAX_RULE] = 0;
	cr_expect_eq(tt_rule_parse(&rule, "a", text + 1, &err), TT_OK, "%s", err.message);
}
