/* The parser of expressions; the order of precedence is jinja2's, in which ~ binds tighter than + and a filter
 * tighter than any operator. */
#include <string.h>

#include "base/fail.h"
#include "runtime/text/jinja/run.h"

typedef struct jj_node *(*level)(struct jj_parser *parser);

static struct jj_node *parse_unary(struct jj_parser *parser, bool with_filter);
static struct jj_node *parse_not(struct jj_parser *parser);

static bool take_op(struct jj_parser *parser, unsigned op)
{
	if (!tt_jj_is_op(parser->token, op))
		return false;
	parser->token++;
	return true;
}

static bool take_name(struct jj_parser *parser, const char *word)
{
	if (!tt_jj_is_name(parser->token, word))
		return false;
	parser->token++;
	return true;
}

static struct jj_node *join(
	struct jj_parser *parser, enum jj_node_kind kind, unsigned op, struct jj_node *a, struct jj_node *b)
{
	struct jj_node *node = tt_jj_node(parser, kind, a->line);
	if (!node || !tt_jj_adopt(parser, node, a) || (b && !tt_jj_adopt(parser, node, b)))
		return NULL;
	node->op = (uint16_t)op;
	node->a = a;
	node->b = b;
	return node;
}

/* Parses one level of left-associative operators; their operands are of the next tighter level. */
static struct jj_node *parse_left(struct jj_parser *parser, level tighter, const unsigned *ops, size_t n_ops)
{
	struct jj_node *left = tighter(parser);
	while (left) {
		size_t i = 0;
		while (i < n_ops && !tt_jj_is_op(parser->token, ops[i]))
			i++;
		if (i == n_ops)
			return left;
		parser->token++;
		struct jj_node *right = tighter(parser);
		left = right ? join(parser, JJ_N_BINARY, ops[i], left, right) : NULL;
	}
	return NULL;
}

static struct jj_node *parse_operand(struct jj_parser *parser)
{
	return parse_unary(parser, true);
}

static struct jj_node *parse_power(struct jj_parser *parser)
{
	static const unsigned ops[] = {JJ_OP2('*', '*')};
	return parse_left(parser, parse_operand, ops, 1);
}

static struct jj_node *parse_product(struct jj_parser *parser)
{
	static const unsigned ops[] = {'*', '/', JJ_OP2('/', '/'), '%'};
	return parse_left(parser, parse_power, ops, 4);
}

static struct jj_node *parse_concat(struct jj_parser *parser)
{
	struct jj_node *first = parse_product(parser), *node;
	size_t capacity = 0;
	if (!first || !tt_jj_is_op(parser->token, '~'))
		return first;
	node = tt_jj_node(parser, JJ_N_CONCAT, first->line);
	if (!node || !tt_jj_push(parser, node, &capacity, first))
		return NULL;
	while (take_op(parser, '~')) {
		struct jj_node *next = parse_product(parser);
		if (!next || !tt_jj_push(parser, node, &capacity, next))
			return NULL;
	}
	return node;
}

static struct jj_node *parse_sum(struct jj_parser *parser)
{
	static const unsigned ops[] = {'+', '-'};
	return parse_left(parser, parse_concat, ops, 2);
}

/* Takes the comparison operator at the current token and returns it, or 0 if there is none. */
static unsigned take_comparison(struct jj_parser *parser)
{
	static const unsigned ops[] = {
		JJ_OP2('=', '='), JJ_OP2('!', '='), JJ_OP2('<', '='), JJ_OP2('>', '='), '<', '>'};
	for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
		if (take_op(parser, ops[i]))
			return ops[i];
	if (take_name(parser, "in"))
		return 'i';
	if (tt_jj_is_name(parser->token, "not") && tt_jj_is_name(parser->token + 1, "in")) {
		parser->token += 2;
		return 'n';
	}
	return 0;
}

static struct jj_node *parse_compare(struct jj_parser *parser)
{
	struct jj_node *first = parse_sum(parser), *node = NULL;
	size_t capacity = 0;
	unsigned op;
	while (first && (op = take_comparison(parser)) != 0) {
		struct jj_node *right = parse_sum(parser);
		struct jj_node *operand = right ? join(parser, JJ_N_OPERAND, op, right, NULL) : NULL;
		if (operand && !node && (node = tt_jj_node(parser, JJ_N_COMPARE, first->line)) != NULL) {
			node->a = first;
			if (!tt_jj_adopt(parser, node, first))
				return NULL;
		}
		if (!operand || !node || !tt_jj_push(parser, node, &capacity, operand))
			return NULL;
	}
	return node ? node : first;
}

static struct jj_node *parse_not(struct jj_parser *parser)
{
	struct jj_node *inner;
	if (!take_name(parser, "not"))
		return parse_compare(parser);
	if (++parser->depth > JJ_MAX_NESTING)
		return tt_jj_refuse(parser, TT_ERR_LIMIT, parser->token->line, "expression nested too deeply");
	inner = parse_not(parser);
	parser->depth--;
	return inner ? join(parser, JJ_N_NOT, 0, inner, NULL) : NULL;
}

static struct jj_node *parse_and(struct jj_parser *parser)
{
	struct jj_node *left = parse_not(parser);
	while (left && take_name(parser, "and")) {
		struct jj_node *right = parse_not(parser);
		left = right ? join(parser, JJ_N_AND, 0, left, right) : NULL;
	}
	return left;
}

static struct jj_node *parse_or(struct jj_parser *parser)
{
	struct jj_node *left = parse_and(parser);
	while (left && take_name(parser, "or")) {
		struct jj_node *right = parse_and(parser);
		left = right ? join(parser, JJ_N_OR, 0, left, right) : NULL;
	}
	return left;
}

static struct jj_node *parse_condition(struct jj_parser *parser)
{
	bool soft = parser->soft;
	struct jj_node *value = parse_or(parser);
	while (value && take_name(parser, "if")) {
		struct jj_node *test = parse_or(parser), *other = NULL, *node;
		parser->soft = true;
		if (test && take_name(parser, "else") && !(other = tt_jj_parse_expression(parser, true)))
			return NULL;
		parser->soft = soft;
		node = test ? join(parser, JJ_N_COND, 0, test, value) : NULL;
		if (!node || (other && !tt_jj_adopt(parser, node, other)))
			return NULL;
		node->c = other;
		value = node;
	}
	return value;
}

struct jj_node *tt_jj_parse_expression(struct jj_parser *parser, bool with_condition)
{
	if (++parser->depth > JJ_MAX_NESTING)
		return tt_jj_refuse(parser, TT_ERR_LIMIT, parser->token->line, "expression nested too deeply");
	struct jj_node *node = with_condition ? parse_condition(parser) : parse_or(parser);
	parser->depth--;
	return node;
}

static bool ends_tuple(const struct jj_token *token)
{
	return token->kind == JJ_T_VARIABLE_END || token->kind == JJ_T_BLOCK_END || tt_jj_is_op(token, ')');
}

struct jj_node *tt_jj_parse_tuple(struct jj_parser *parser, bool with_condition, bool empty)
{
	uint32_t line = parser->token->line;
	struct jj_node *first = NULL, *node;
	size_t capacity = 0;
	if (!ends_tuple(parser->token)) {
		first = tt_jj_parse_expression(parser, with_condition);
		if (!first || !tt_jj_is_op(parser->token, ','))
			return first;
	} else if (!empty) {
		return tt_jj_refuse(parser, TT_ERR_FORMAT, line, "expected an expression");
	}
	node = tt_jj_node(parser, JJ_N_TUPLE, line);
	if (!node || (first && !tt_jj_push(parser, node, &capacity, first)))
		return NULL;
	while (take_op(parser, ',') && !ends_tuple(parser->token)) {
		struct jj_node *next = tt_jj_parse_expression(parser, with_condition);
		if (!next || !tt_jj_push(parser, node, &capacity, next))
			return NULL;
	}
	return node;
}

/* Parses [..] or {..} after its opening bracket. */
static struct jj_node *parse_display(struct jj_parser *parser, bool dict)
{
	char close = dict ? '}' : ']';
	struct jj_node *node = tt_jj_node(parser, dict ? JJ_N_DICT : JJ_N_LIST, parser->token->line);
	size_t capacity = 0;
	while (node && !take_op(parser, (unsigned)close)) {
		if (node->n_items && !tt_jj_expect_op(parser, ','))
			return NULL;
		if (take_op(parser, (unsigned)close))
			return node;
		struct jj_node *item = tt_jj_parse_expression(parser, true);
		if (!item || !tt_jj_push(parser, node, &capacity, item))
			return NULL;
		if (!dict)
			continue;
		if (!tt_jj_expect_op(parser, ':') || !(item = tt_jj_parse_expression(parser, true)) ||
			!tt_jj_push(parser, node, &capacity, item))
			return NULL;
	}
	return node;
}

static struct jj_node *constant(struct jj_parser *parser, struct jj_value value)
{
	struct jj_node *node = tt_jj_node(parser, JJ_N_CONST, parser->token->line);
	if (node)
		node->value = value;
	return node;
}

/* Adjacent string literals are joined to one. */
static struct jj_node *parse_string(struct jj_parser *parser)
{
	struct jj_node *node = constant(parser, parser->token->value);
	struct jj_builder text = {.arena = parser->arena, .limit = JJ_MAX_SOURCE * 4};
	if (!node)
		return NULL;
	if (parser->token[1].kind != JJ_T_STRING) {
		parser->token++;
		return node;
	}
	for (; parser->token->kind == JJ_T_STRING; parser->token++)
		if ((parser->status = tt_jj_add(&text, parser->token->value.string)) != TT_OK)
			return NULL;
	parser->status = tt_jj_finish(&text, false, &node->value);
	return parser->status == TT_OK ? node : NULL;
}

static struct jj_node *parse_name(struct jj_parser *parser)
{
	const struct jj_token *token = parser->token;
	const struct jj_string *name = token->value.string;
	struct jj_node *node;
	if (tt_jj_is_name(token, "true") || tt_jj_is_name(token, "True"))
		node = constant(parser, tt_jj_bool(true));
	else if (tt_jj_is_name(token, "false") || tt_jj_is_name(token, "False"))
		node = constant(parser, tt_jj_bool(false));
	else if (tt_jj_is_name(token, "none") || tt_jj_is_name(token, "None"))
		node = constant(parser, (struct jj_value){.kind = JJ_NONE});
	else if ((node = tt_jj_node(parser, JJ_N_NAME, token->line)) != NULL) {
		node->text = name;
		tt_jj_note(parser, name, false);
		if (parser->macro && (tt_jj_is_name(token, "varargs") || tt_jj_is_name(token, "kwargs")))
			parser->macro->variadic = true;
	}
	parser->token++;
	return parser->status == TT_OK ? node : NULL;
}

static struct jj_node *parse_primary(struct jj_parser *parser)
{
	const struct jj_token *token = parser->token;
	struct jj_node *node;
	switch (token->kind) {
	case JJ_T_NAME:
		return parse_name(parser);
	case JJ_T_STRING:
		return parse_string(parser);
	case JJ_T_INT:
	case JJ_T_FLOAT:
		node = constant(parser, token->value);
		parser->token++;
		return node;
	default:
		break;
	}
	if (take_op(parser, '(')) {
		node = tt_jj_parse_tuple(parser, true, true);
		return node && tt_jj_expect_op(parser, ')') ? node : NULL;
	}
	if (take_op(parser, '['))
		return parse_display(parser, false);
	if (take_op(parser, '{'))
		return parse_display(parser, true);
	if (token->kind == JJ_T_OPERATOR)
		return tt_jj_refuse(parser, TT_ERR_FORMAT, token->line, "unexpected '%c'",
			(int)(token->op > 255 ? token->op >> 8 : token->op));
	return tt_jj_refuse(parser, TT_ERR_FORMAT, token->line, "expected an expression");
}

/* Parses the inside of [..]: an index, or start:stop:step. */
static struct jj_node *parse_subscript(struct jj_parser *parser, struct jj_node *of)
{
	uint32_t line = parser->token->line;
	struct jj_node *parts[3] = {NULL}, *node;
	size_t capacity = 0;
	int n = 0;
	for (;;) {
		if (tt_jj_is_op(parser->token, ':')) {
			parser->token++;
			if (++n == 3)
				return tt_jj_refuse(parser, TT_ERR_FORMAT, line, "a slice has at most three parts");
		} else if (take_op(parser, ']')) {
			break;
		} else if (parts[n]) {
			return tt_jj_refuse(parser,
				tt_jj_is_op(parser->token, ',') ? TT_ERR_UNSUPPORTED : TT_ERR_FORMAT, line,
				"expected ] after an index");
		} else if (!(parts[n] = tt_jj_parse_expression(parser, true))) {
			return NULL;
		}
	}
	if (n == 0 && !parts[0])
		return tt_jj_refuse(parser, TT_ERR_FORMAT, line, "expected an index");
	if (n == 0)
		return join(parser, JJ_N_ITEM, 0, of, parts[0]);
	node = join(parser, JJ_N_SLICE, 0, of, NULL);
	for (int i = 0; node && i < 3; i++)
		if (!tt_jj_push(parser, node, &capacity, parts[i]))
			return NULL;
	return node;
}

/* Parses the arguments (..) of a function, filter or test after the opening parenthesis. */
static bool parse_arguments(struct jj_parser *parser, struct jj_node *node)
{
	size_t items = 0, keywords = 0;
	bool first = true;
	for (; !take_op(parser, ')'); first = false) {
		if (!first && !tt_jj_expect_op(parser, ','))
			return false;
		if (take_op(parser, ')'))
			return true;
		if (tt_jj_is_op(parser->token, '*') || tt_jj_is_op(parser->token, JJ_OP2('*', '*')))
			return tt_jj_refuse(parser, TT_ERR_UNSUPPORTED, parser->token->line,
				       "* and ** arguments are not supported") != NULL;
		const struct jj_string *name = NULL;
		if (parser->token->kind == JJ_T_NAME && tt_jj_is_op(parser->token + 1, '=')) {
			name = parser->token->value.string;
			parser->token += 2;
		} else if (node->n_keywords) {
			return tt_jj_refuse(parser, TT_ERR_FORMAT, parser->token->line,
				       "a positional argument after a keyword argument") != NULL;
		}
		struct jj_node *value = tt_jj_parse_expression(parser, true);
		if (!value || !(name ? tt_jj_push_keyword(parser, node, &keywords, name, value)
				     : tt_jj_push(parser, node, &items, value)))
			return false;
	}
	return true;
}

static struct jj_node *parse_call(struct jj_parser *parser, struct jj_node *callee)
{
	struct jj_node *node = join(parser, JJ_N_CALL, 0, callee, NULL);
	return node && parse_arguments(parser, node) ? node : NULL;
}

static struct jj_node *parse_postfix(struct jj_parser *parser, struct jj_node *node)
{
	while (node) {
		if (take_op(parser, '.')) {
			const struct jj_token *name = parser->token++;
			if (name->kind == JJ_T_NAME) {
				if ((node = join(parser, JJ_N_ATTR, 0, node, NULL)) != NULL)
					node->text = name->value.string;
			} else if (name->kind == JJ_T_INT) {
				struct jj_node *index = constant(parser, name->value);
				node = index ? join(parser, JJ_N_ITEM, 0, node, index) : NULL;
			} else {
				parser->token--;
				return tt_jj_refuse(
					parser, TT_ERR_FORMAT, name->line, "expected a name or number after .");
			}
		} else if (take_op(parser, '[')) {
			node = parse_subscript(parser, node);
		} else if (take_op(parser, '(')) {
			node = parse_call(parser, node);
		} else {
			return node;
		}
	}
	return NULL;
}

/* Parses a.b.c as one name, since plugins name their filters so. The caller checks for NULL. */
static const struct jj_string *parse_native_name(struct jj_parser *parser)
{
	const struct jj_token *token = parser->token;
	if (token->kind != JJ_T_NAME) {
		tt_jj_refuse(parser, TT_ERR_FORMAT, token->line, "expected the name of a filter or test");
		return NULL;
	}
	parser->token++;
	return token->value.string;
}

/* Whether an unknown filter or test is allowed: only under an if, where jinja2 too refuses it when it is reached. */
static bool known(struct jj_parser *parser, struct jj_node *node, const char *what)
{
	if (node->native || parser->soft)
		return true;
	return tt_jj_refuse(parser, TT_ERR_UNSUPPORTED, node->line, "%s '%.*s' is not supported", what,
		       (int)node->text->len, node->text->data) != NULL;
}

struct jj_node *tt_jj_parse_filters(struct jj_parser *parser, struct jj_node *value, bool inline_first)
{
	while (inline_first || tt_jj_is_op(parser->token, '|')) {
		if (!inline_first)
			parser->token++;
		inline_first = false;
		uint32_t line = parser->token->line;
		const struct jj_string *name = parse_native_name(parser);
		struct jj_node *node = name ? tt_jj_node(parser, JJ_N_FILTER, line) : NULL;
		if (!node || (value && !tt_jj_adopt(parser, node, value)))
			return NULL;
		node->text = name;
		node->a = value;
		node->native = tt_jj_filter(name->data, name->len);
		if ((take_op(parser, '(') && !parse_arguments(parser, node)) || !known(parser, node, "filter"))
			return NULL;
		value = node;
	}
	return value;
}

/* The argument of a test may come without parentheses: x is divisibleby 3. */
static bool starts_bare_argument(const struct jj_token *token)
{
	if (token->kind == JJ_T_NAME)
		return !tt_jj_is_name(token, "else") && !tt_jj_is_name(token, "or") && !tt_jj_is_name(token, "and");
	return token->kind == JJ_T_STRING || token->kind == JJ_T_INT || token->kind == JJ_T_FLOAT ||
	       tt_jj_is_op(token, '[') || tt_jj_is_op(token, '{');
}

static struct jj_node *parse_test(struct jj_parser *parser, struct jj_node *value)
{
	bool negated = take_name(parser, "not");
	size_t capacity = 0;
	const struct jj_string *name = parse_native_name(parser);
	struct jj_node *node = name ? join(parser, JJ_N_TEST, 0, value, NULL) : NULL;
	if (!node)
		return NULL;
	node->text = name;
	node->native = tt_jj_test(name->data, name->len);
	if (take_op(parser, '(')) {
		if (!parse_arguments(parser, node))
			return NULL;
	} else if (starts_bare_argument(parser->token)) {
		if (tt_jj_is_name(parser->token, "is"))
			return tt_jj_refuse(parser, TT_ERR_FORMAT, node->line, "tests cannot be chained with is");
		struct jj_node *argument = parse_primary(parser);
		if (!argument || !(argument = parse_postfix(parser, argument)) ||
			!tt_jj_push(parser, node, &capacity, argument))
			return NULL;
	}
	if (!known(parser, node, "test"))
		return NULL;
	return negated ? join(parser, JJ_N_NOT, 0, node, NULL) : node;
}

static struct jj_node *parse_suffixes(struct jj_parser *parser, struct jj_node *node)
{
	while (node) {
		if (tt_jj_is_op(parser->token, '|'))
			node = tt_jj_parse_filters(parser, node, false);
		else if (take_name(parser, "is"))
			node = parse_test(parser, node);
		else if (take_op(parser, '('))
			node = parse_call(parser, node);
		else
			return node;
	}
	return NULL;
}

static struct jj_node *parse_unary(struct jj_parser *parser, bool with_filter)
{
	bool minus = tt_jj_is_op(parser->token, '-');
	struct jj_node *node;
	if (minus || tt_jj_is_op(parser->token, '+')) {
		parser->token++;
		if (++parser->depth > JJ_MAX_NESTING)
			return tt_jj_refuse(parser, TT_ERR_LIMIT, parser->token->line, "expression nested too deeply");
		node = parse_unary(parser, false);
		parser->depth--;
		node = node ? join(parser, minus ? JJ_N_NEG : JJ_N_POS, 0, node, NULL) : NULL;
	} else {
		node = parse_primary(parser);
	}
	if (node)
		node = parse_postfix(parser, node);
	return node && with_filter ? parse_suffixes(parser, node) : node;
}
