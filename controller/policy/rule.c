#include "controller/policy/rule.h"

#include <string.h>

#include "base/fail.h"

/* A formula over at most four conditions is the set of their 16 states where it is true: one bit each, so that `and`,
 * `or` and `not` of formulas are &, | and ~ of their sets. */
static const uint32_t states_of[TT_MAX_CONDITIONS] = {0xaaaa, 0xcccc, 0xf0f0, 0xff00};

struct parser {
	struct tt_rule *rule;
	bool finds; /* the conditions are the names that it meets */
	const char *at;
	struct tt_error *err;
};

static size_t word_length(const char *text)
{
	return strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:/");
}

static void skip_blanks(struct parser *p)
{
	p->at += strspn(p->at, " \t\n\r");
}

static bool is_word(const char *text, size_t n, const char *word)
{
	return n == strlen(word) && memcmp(text, word, n) == 0;
}

static bool is_reserved(const char *text, size_t n)
{
	return is_word(text, n, "and") || is_word(text, n, "or") || is_word(text, n, "not") ||
	       is_word(text, n, "above") || is_word(text, n, "below");
}

/* Takes the word if it comes next. */
static bool take(struct parser *p, const char *word)
{
	skip_blanks(p);
	if (!is_word(p->at, word_length(p->at), word))
		return false;
	p->at += strlen(word);
	return true;
}

static int fail_at(const struct parser *p, const char *wanted)
{
	size_t n = word_length(p->at);
	return *p->at ? tt_fail(p->err, TT_ERR_FORMAT, "the rule wants %s where it has \"%.*s\", at byte %zu", wanted,
				n ? (int)(n < 40 ? n : 40) : 1, p->at, (size_t)(p->at - p->rule->text))
		      : tt_fail(p->err, TT_ERR_FORMAT, "the rule wants %s at its end", wanted);
}

static int find_name(struct tt_rule *rule, const char *name, size_t n)
{
	for (uint32_t k = 0; k < rule->n; k++)
		if (is_word(name, n, rule->names[k]))
			return (int)k;
	return -1;
}

static int add_name(struct tt_rule *rule, const char *name, size_t n, struct tt_error *err)
{
	if (n < 1 || n > TT_MAX_CONDITION_NAME || is_reserved(name, n))
		return tt_fail(err, TT_ERR_FORMAT, "\"%.*s\" is no name of a condition", (int)(n < 40 ? n : 40), name);
	if (rule->n == TT_MAX_CONDITIONS)
		return tt_fail(err, TT_ERR_FORMAT, "a rule joins at most %d conditions", TT_MAX_CONDITIONS);
	memcpy(rule->names[rule->n++], name, n);
	return TT_OK;
}

static int parse_or(struct parser *p, uint32_t *states);

static int parse_name(struct parser *p, uint32_t *states)
{
	size_t n = word_length(p->at);
	int found = find_name(p->rule, p->at, n);
	if (n == 0 || is_reserved(p->at, n) || (found < 0 && !p->finds))
		return fail_at(p, "a condition");
	if (found < 0) {
		found = (int)p->rule->n;
		TT_TRY(add_name(p->rule, p->at, n, p->err));
	}
	p->at += n;
	*states = states_of[found];
	return TT_OK;
}

static int parse_not(struct parser *p, uint32_t *states)
{
	bool turned = false;
	while (take(p, "not"))
		turned = !turned;
	if (*p->at == '(') {
		p->at++;
		TT_TRY(parse_or(p, states));
		skip_blanks(p);
		if (*p->at != ')')
			return fail_at(p, "\")\"");
		p->at++;
	} else {
		TT_TRY(parse_name(p, states));
	}
	*states = turned ? ~*states & 0xffff : *states;
	return TT_OK;
}

static int parse_and(struct parser *p, uint32_t *states)
{
	TT_TRY(parse_not(p, states));
	while (take(p, "and")) {
		uint32_t more;
		TT_TRY(parse_not(p, &more));
		*states &= more;
	}
	return TT_OK;
}

static int parse_or(struct parser *p, uint32_t *states)
{
	TT_TRY(parse_and(p, states));
	while (take(p, "or")) {
		uint32_t more;
		TT_TRY(parse_and(p, &more));
		*states |= more;
	}
	return TT_OK;
}

static int parse_conditions(struct tt_rule *rule, const char *text, struct tt_error *err)
{
	struct parser p = {.rule = rule, .at = text, .err = err};
	do {
		skip_blanks(&p);
		size_t n = word_length(p.at);
		if (find_name(rule, p.at, n) >= 0)
			return tt_fail(err, TT_ERR_FORMAT, "two conditions are named \"%.*s\"", (int)n, p.at);
		TT_TRY(add_name(rule, p.at, n, err));
		p.at += n;
		if (take(&p, "below"))
			rule->below |= 1u << (rule->n - 1);
		skip_blanks(&p);
	} while (*p.at++ == ',');
	if (p.at[-1])
		return tt_fail(err, TT_ERR_FORMAT, "a comma or the end must follow condition \"%s\"",
			rule->names[rule->n - 1]);
	return TT_OK;
}

/* Each condition must be able to change the outcome. */
static int check_table(const struct tt_rule *rule, struct tt_error *err)
{
	for (uint32_t k = 0; k < rule->n; k++) {
		bool matters = false;
		for (uint32_t held = 0; held < 1u << rule->n; held++)
			matters |= tt_steer_rule(rule->table, held) != tt_steer_rule(rule->table, held ^ 1u << k);
		if (!matters)
			return tt_fail(
				err, TT_ERR_FORMAT, "the rule does not depend on condition \"%s\"", rule->names[k]);
	}
	return TT_OK;
}

int tt_rule_parse(struct tt_rule *out, const char *conditions, const char *rule, struct tt_error *err)
{
	uint32_t states;
	*out = (struct tt_rule){0};
	if (strlen(rule) > TT_MAX_RULE)
		return tt_fail(err, TT_ERR_FORMAT, "the rule is longer than %d bytes", TT_MAX_RULE);
	strcpy(out->text, rule);
	if (conditions)
		TT_TRY(parse_conditions(out, conditions, err));
	struct parser p = {.rule = out, .finds = !conditions, .at = out->text, .err = err};
	TT_TRY(parse_or(&p, &states));
	skip_blanks(&p);
	if (*p.at)
		return fail_at(&p, "\"and\", \"or\" or its end");
	out->table = states & (uint32_t)((1ull << (1u << out->n)) - 1);
	return check_table(out, err);
}

int tt_rule_print_conditions(struct tt_buffer *out, const struct tt_rule *rule, struct tt_error *err)
{
	for (uint32_t k = 0; k < rule->n; k++)
		TT_TRY(tt_buffer_print(
			out, err, "%s%s%s", k ? "," : "", rule->names[k], rule->below >> k & 1 ? " below" : ""));
	return TT_OK;
}
