/* The parser of statements, and the nodes and scopes that both parsers build. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/utf8.h"
#include "runtime/text/jinja/run.h"

static struct jj_node *parse_block(struct jj_parser *parser, const char *const *ends, struct jj_scope_info *scope);

struct jj_node *tt_jj_refuse(struct jj_parser *parser, int code, uint32_t line, const char *format, ...)
{
	char message[300];
	va_list args;
	va_start(args, format);
	vsnprintf(message, sizeof message, format, args);
	va_end(args);
	if (parser->status == TT_OK)
		parser->status = tt_fail(parser->arena->err, code, "%s: line %u: %s", parser->name, line, message);
	return NULL;
}

bool tt_jj_is_name(const struct jj_token *token, const char *word)
{
	return token->kind == JJ_T_NAME && token->value.string->len == strlen(word) &&
	       memcmp(token->value.string->data, word, strlen(word)) == 0;
}

bool tt_jj_is_op(const struct jj_token *token, unsigned op)
{
	return token->kind == JJ_T_OPERATOR && token->op == op;
}

bool tt_jj_expect_op(struct jj_parser *parser, unsigned op)
{
	if (tt_jj_is_op(parser->token, op)) {
		parser->token++;
		return true;
	}
	tt_jj_refuse(parser, TT_ERR_FORMAT, parser->token->line, "expected '%c'", (int)op);
	return false;
}

struct jj_node *tt_jj_node(struct jj_parser *parser, enum jj_node_kind kind, uint32_t line)
{
	struct jj_node *node = NULL;
	if (parser->status == TT_OK)
		parser->status = tt_jj_alloc(parser->arena, &node, 1, sizeof *node);
	if (parser->status != TT_OK)
		return NULL;
	node->kind = (uint8_t)kind;
	node->line = line;
	node->depth = 1;
	return node;
}

bool tt_jj_adopt(struct jj_parser *parser, struct jj_node *node, const struct jj_node *child)
{
	if (child && child->depth >= node->depth)
		node->depth = (uint16_t)(child->depth + 1);
	if (node->depth <= JJ_MAX_NESTING)
		return true;
	tt_jj_refuse(parser, TT_ERR_LIMIT, node->line, "expression of more than %d levels", JJ_MAX_NESTING);
	return false;
}

bool tt_jj_push(struct jj_parser *parser, struct jj_node *node, size_t *capacity, struct jj_node *child)
{
	parser->status =
		tt_jj_grow(parser->arena, &node->items, capacity, (size_t)node->n_items + 1, sizeof *node->items);
	if (parser->status != TT_OK)
		return false;
	node->items[node->n_items++] = child;
	return tt_jj_adopt(parser, node, child);
}

bool tt_jj_push_keyword(struct jj_parser *parser, struct jj_node *node, size_t *capacity, const struct jj_string *name,
	struct jj_node *value)
{
	for (uint32_t i = 0; i < node->n_keywords; i++)
		if (tt_jj_same(node->keywords[i].name, name))
			return tt_jj_refuse(parser, TT_ERR_FORMAT, node->line, "keyword argument '%.*s' is repeated",
				       (int)name->len, name->data) != NULL;
	parser->status = tt_jj_grow(
		parser->arena, &node->keywords, capacity, (size_t)node->n_keywords + 1, sizeof *node->keywords);
	if (parser->status != TT_OK)
		return false;
	node->keywords[node->n_keywords++] = (struct jj_keyword){name, value};
	return tt_jj_adopt(parser, node, value);
}

static struct jj_symbol *find_symbol(const struct jj_scope_info *scope, const struct jj_string *name)
{
	for (size_t i = 0; i < scope->n; i++)
		if (tt_jj_same(scope->symbols[i].name, name))
			return &scope->symbols[i];
	return NULL;
}

/* Only the first mention of a name counts. A mention inside an if never hides the context's value. */
void tt_jj_note(struct jj_parser *parser, const struct jj_string *name, bool stored)
{
	struct jj_scope_info *scope = parser->scope;
	if (parser->status != TT_OK || find_symbol(scope, name))
		return;
	parser->status =
		tt_jj_grow(parser->arena, &scope->symbols, &scope->capacity, scope->n + 1, sizeof *scope->symbols);
	if (parser->status == TT_OK)
		scope->symbols[scope->n++] = (struct jj_symbol){name, stored && parser->if_depth == 0};
}

static struct jj_scope_info *new_scope(struct jj_parser *parser)
{
	struct jj_scope_info *scope = NULL;
	parser->status = tt_jj_alloc(parser->arena, &scope, 1, sizeof *scope);
	if (parser->status != TT_OK)
		return NULL;
	scope->parent = parser->scope;
	if (parser->last_scope)
		parser->last_scope->next = scope;
	else
		parser->scopes = scope;
	parser->last_scope = scope;
	return scope;
}

/* A name is hidden from the start of a scope if the scope assigns it before it reads it and no scope around it mentions
 * the name. */
static int hide_names(struct jj_parser *parser)
{
	for (struct jj_scope_info *scope = parser->scopes; scope; scope = scope->next) {
		size_t capacity = 0;
		for (size_t i = 0; i < scope->n; i++) {
			const struct jj_scope_info *up = scope->parent;
			while (up && !find_symbol(up, scope->symbols[i].name))
				up = up->parent;
			if (up || !scope->symbols[i].stored_first)
				continue;
			TT_TRY(tt_jj_grow(
				parser->arena, &scope->hidden, &capacity, scope->n_hidden + 1, sizeof *scope->hidden));
			scope->hidden[scope->n_hidden++] = scope->symbols[i].name;
		}
	}
	return TT_OK;
}

static bool expect_block_end(struct jj_parser *parser)
{
	if (parser->token->kind == JJ_T_BLOCK_END) {
		parser->token++;
		return true;
	}
	tt_jj_refuse(parser, TT_ERR_FORMAT, parser->token->line, "expected the end of the tag");
	return false;
}

/* Parses the body after a tag, in scope if that is not NULL, up to one of ends (NULL-terminated), which becomes the
 * current token. */
static struct jj_node *parse_body(struct jj_parser *parser, const char *const *ends, struct jj_scope_info *scope)
{
	if (tt_jj_is_op(parser->token, ':'))
		parser->token++;
	return expect_block_end(parser) ? parse_block(parser, ends, scope) : NULL;
}

/* The same for a body with only one possible end; also takes the name of the end. */
static struct jj_node *parse_whole_body(struct jj_parser *parser, const char *end, struct jj_scope_info *scope)
{
	const char *const ends[] = {end, NULL};
	struct jj_node *body = parse_body(parser, ends, scope);
	if (body)
		parser->token++;
	return body;
}

static struct jj_node *parse_if(struct jj_parser *parser, struct jj_node *node)
{
	static const char *const ends[] = {"elif", "else", "endif", NULL}, *const last[] = {"endif", NULL};
	bool soft = parser->soft;
	size_t capacity = 0;
	parser->soft = true;
	for (;;) {
		struct jj_node *test = tt_jj_parse_tuple(parser, false, false), *body;
		parser->if_depth++;
		body = test ? parse_body(parser, ends, NULL) : NULL;
		if (!body || !tt_jj_push(parser, node, &capacity, test) || !tt_jj_push(parser, node, &capacity, body))
			return NULL;
		bool again = tt_jj_is_name(parser->token, "elif"), other = tt_jj_is_name(parser->token, "else");
		parser->token++;
		parser->if_depth--;
		if (again)
			continue;
		if (other) {
			parser->if_depth++;
			if (!(node->a = parse_body(parser, last, NULL)) || !tt_jj_adopt(parser, node, node->a))
				return NULL;
			parser->if_depth--;
			parser->token++;
		}
		parser->soft = soft;
		return node;
	}
}

static struct jj_node *parse_target(struct jj_parser *parser, bool attributes);

static struct jj_node *parse_one_target(struct jj_parser *parser, bool attributes)
{
	const struct jj_token *token = parser->token;
	struct jj_node *node;
	if (tt_jj_is_op(token, '(')) {
		parser->token++;
		if (++parser->depth > JJ_MAX_NESTING)
			return tt_jj_refuse(parser, TT_ERR_LIMIT, token->line, "expression nested too deeply");
		node = parse_target(parser, false);
		parser->depth--;
		return node && tt_jj_expect_op(parser, ')') ? node : NULL;
	}
	static const char *const constants[] = {"true", "false", "none", "True", "False", "None"};
	for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
		if (tt_jj_is_name(token, constants[i]))
			return tt_jj_refuse(parser, TT_ERR_FORMAT, token->line, "cannot assign to %s", constants[i]);
	if (token->kind != JJ_T_NAME)
		return tt_jj_refuse(parser, TT_ERR_FORMAT, token->line, "expected a name to assign to");
	parser->token++;
	if (!(node = tt_jj_node(parser, JJ_N_NAME, token->line)))
		return NULL;
	node->text = token->value.string;
	if (!attributes || !tt_jj_is_op(parser->token, '.'))
		return node;
	struct jj_node *attribute = tt_jj_node(parser, JJ_N_ATTR, token->line);
	if (!attribute)
		return NULL;
	if (parser->token[1].kind != JJ_T_NAME)
		return tt_jj_refuse(parser, TT_ERR_FORMAT, token->line, "expected a name after .");
	attribute->a = node;
	attribute->text = parser->token[1].value.string;
	parser->token += 2;
	tt_jj_note(parser, node->text, false);
	return attribute;
}

/* Parses a target of an assignment: names, namespace attributes and tuples of them. */
static struct jj_node *parse_target(struct jj_parser *parser, bool attributes)
{
	struct jj_node *first = parse_one_target(parser, attributes), *node;
	size_t capacity = 0;
	if (!first || !tt_jj_is_op(parser->token, ','))
		return first;
	node = tt_jj_node(parser, JJ_N_TUPLE, first->line);
	if (!node || !tt_jj_push(parser, node, &capacity, first))
		return NULL;
	while (tt_jj_is_op(parser->token, ',')) {
		parser->token++;
		if (tt_jj_is_op(parser->token, ')'))
			break;
		struct jj_node *next = parse_one_target(parser, attributes);
		if (!next || !tt_jj_push(parser, node, &capacity, next))
			return NULL;
	}
	return node;
}

static void note_target(struct jj_parser *parser, const struct jj_node *target, bool parameter)
{
	if (target->kind == JJ_N_NAME)
		tt_jj_note(parser, target->text, !parameter);
	for (uint32_t i = 0; i < target->n_items; i++)
		note_target(parser, target->items[i], parameter);
}

static struct jj_node *parse_set(struct jj_parser *parser, struct jj_node *node)
{
	if (!(node->a = parse_target(parser, true)))
		return NULL;
	if (tt_jj_is_op(parser->token, '=')) {
		parser->token++;
		if (!(node->b = tt_jj_parse_tuple(parser, true, false)) || !tt_jj_adopt(parser, node, node->b))
			return NULL;
		note_target(parser, node->a, false);
		return node;
	}
	node->kind = JJ_N_SET_BLOCK;
	node->b = tt_jj_parse_filters(parser, NULL, false);
	if (parser->status != TT_OK)
		return NULL;
	note_target(parser, node->a, false);
	struct jj_scope_info *scope = new_scope(parser);
	node->d = scope ? parse_whole_body(parser, "endset", scope) : NULL;
	return node->d && tt_jj_adopt(parser, node, node->d) ? node : NULL;
}

static struct jj_node *parse_for(struct jj_parser *parser, struct jj_node *node)
{
	static const char *const ends[] = {"endfor", "else", NULL};
	static const struct jj_string loop = {.data = "loop", .len = 4};
	struct jj_scope_info *outer = parser->scope, *scope;
	if (!(node->a = parse_target(parser, false)))
		return NULL;
	if (!tt_jj_is_name(parser->token, "in"))
		return tt_jj_refuse(parser, TT_ERR_FORMAT, parser->token->line, "expected 'in'");
	parser->token++;
	if (!(node->b = tt_jj_parse_tuple(parser, false, false)) || !(scope = new_scope(parser)))
		return NULL;
	parser->scope = scope;
	note_target(parser, node->a, true);
	tt_jj_note(parser, &loop, false);
	if (tt_jj_is_name(parser->token, "if")) {
		parser->token++;
		if (!(node->c = tt_jj_parse_expression(parser, true)))
			return NULL;
	}
	parser->scope = outer;
	if (tt_jj_is_name(parser->token, "recursive"))
		return tt_jj_refuse(
			parser, TT_ERR_UNSUPPORTED, parser->token->line, "recursive loops are not supported");
	parser->loop_depth++;
	if (!(node->d = parse_body(parser, ends, scope)) || !tt_jj_adopt(parser, node, node->d))
		return NULL;
	parser->loop_depth--;
	bool other = tt_jj_is_name(parser->token, "else");
	parser->token++;
	if (other && (!(scope = new_scope(parser)) || !(node->e = parse_whole_body(parser, "endfor", scope)) ||
			     !tt_jj_adopt(parser, node, node->e)))
		return NULL;
	return node;
}

/* Parses a body that jinja2 compiles to a separate function: break and continue do not reach out of it. */
static struct jj_node *parse_function_body(struct jj_parser *parser, const char *end, struct jj_scope_info *scope)
{
	uint32_t loops = parser->loop_depth;
	parser->loop_depth = 0;
	struct jj_node *body = parse_whole_body(parser, end, scope);
	parser->loop_depth = loops;
	return body;
}

/* Parses (a, b=1) of a macro: items are the names, keywords the defaults of the last of them. */
static bool parse_signature(struct jj_parser *parser, struct jj_node *node)
{
	size_t items = 0, keywords = 0;
	if (!tt_jj_expect_op(parser, '('))
		return false;
	while (!tt_jj_is_op(parser->token, ')')) {
		if (node->n_items && !tt_jj_expect_op(parser, ','))
			return false;
		const struct jj_token *token = parser->token;
		struct jj_node *name = token->kind == JJ_T_NAME ? parse_one_target(parser, false) : NULL;
		if (!name)
			return tt_jj_refuse(parser, TT_ERR_FORMAT, token->line, "expected a parameter") != NULL;
		if (!tt_jj_push(parser, node, &items, name))
			return false;
		tt_jj_note(parser, name->text, false);
		if (tt_jj_is_op(parser->token, '=')) {
			parser->token++;
			struct jj_node *value = tt_jj_parse_expression(parser, true);
			if (!value || !tt_jj_push_keyword(parser, node, &keywords, name->text, value))
				return false;
		} else if (node->n_keywords) {
			return tt_jj_refuse(parser, TT_ERR_FORMAT, token->line,
				       "a parameter without default after one with") != NULL;
		}
	}
	parser->token++;
	return true;
}

static struct jj_node *parse_macro(struct jj_parser *parser, struct jj_node *node)
{
	struct jj_scope_info *outer = parser->scope, *scope;
	struct jj_node *name = parse_one_target(parser, false), *outer_macro = parser->macro;
	uint32_t if_depth = parser->if_depth;
	bool soft = parser->soft;
	if (!name || name->kind != JJ_N_NAME)
		return tt_jj_refuse(parser, TT_ERR_FORMAT, node->line, "expected the name of a macro");
	node->text = name->text;
	tt_jj_note(parser, node->text, true);
	if (!(scope = new_scope(parser)))
		return NULL;
	parser->scope = scope;
	parser->if_depth = 0;
	parser->macro = node;
	parser->soft = false;
	bool fine = parse_signature(parser, node);
	parser->scope = outer;
	node->d = fine ? parse_function_body(parser, "endmacro", scope) : NULL;
	parser->if_depth = if_depth;
	parser->macro = outer_macro;
	parser->soft = soft;
	return node->d && tt_jj_adopt(parser, node, node->d) ? node : NULL;
}

static struct jj_node *parse_with(struct jj_parser *parser, struct jj_node *node)
{
	struct jj_scope_info *scope;
	size_t keywords = 0;
	while (parser->token->kind != JJ_T_BLOCK_END) {
		if (node->n_keywords && !tt_jj_expect_op(parser, ','))
			return NULL;
		struct jj_node *target = parse_one_target(parser, false), *value;
		if (!target || !tt_jj_expect_op(parser, '=') || !(value = tt_jj_parse_expression(parser, true)))
			return NULL;
		if (target->kind != JJ_N_NAME)
			return tt_jj_refuse(parser, TT_ERR_UNSUPPORTED, node->line, "with takes plain names");
		if (!tt_jj_push_keyword(parser, node, &keywords, target->text, value))
			return NULL;
	}
	if (!(scope = new_scope(parser)))
		return NULL;
	struct jj_scope_info *outer = parser->scope;
	parser->scope = scope;
	for (uint32_t i = 0; i < node->n_keywords; i++)
		tt_jj_note(parser, node->keywords[i].name, false);
	parser->scope = outer;
	node->d = parse_whole_body(parser, "endwith", scope);
	return node->d && tt_jj_adopt(parser, node, node->d) ? node : NULL;
}

static struct jj_node *parse_filter_block(struct jj_parser *parser, struct jj_node *node)
{
	struct jj_scope_info *scope;
	if (!(node->b = tt_jj_parse_filters(parser, NULL, true)) || !(scope = new_scope(parser)))
		return NULL;
	node->d = parse_whole_body(parser, "endfilter", scope);
	return node->d && tt_jj_adopt(parser, node, node->d) ? node : NULL;
}

/* A generation tag only marks the assistant's text for training; its text is that of its body. */
static struct jj_node *parse_generation(struct jj_parser *parser, struct jj_node *node)
{
	(void)node;
	struct jj_scope_info *scope = new_scope(parser);
	return scope ? parse_function_body(parser, "endgeneration", scope) : NULL;
}

static struct jj_node *parse_jump(struct jj_parser *parser, struct jj_node *node)
{
	if (parser->loop_depth == 0)
		return tt_jj_refuse(parser, TT_ERR_FORMAT, node->line, "break or continue outside a loop");
	return node;
}

static struct jj_node *parse_print(struct jj_parser *parser, struct jj_node *node)
{
	node->a = tt_jj_parse_expression(parser, true);
	if (node->a && tt_jj_is_op(parser->token, ','))
		return tt_jj_refuse(
			parser, TT_ERR_UNSUPPORTED, node->line, "print with several values is not supported");
	return node->a && tt_jj_adopt(parser, node, node->a) ? node : NULL;
}

static struct jj_node *parse_statement(struct jj_parser *parser)
{
	static const struct {
		const char *word;
		enum jj_node_kind kind;
		struct jj_node *(*parse)(struct jj_parser *parser, struct jj_node *node);
	} table[] = {
		{"if", JJ_N_IF, parse_if},
		{"for", JJ_N_FOR, parse_for},
		{"set", JJ_N_SET, parse_set},
		{"macro", JJ_N_MACRO, parse_macro},
		{"generation", JJ_N_BLOCK, parse_generation},
		{"break", JJ_N_BREAK, parse_jump},
		{"continue", JJ_N_CONTINUE, parse_jump},
		{"with", JJ_N_WITH, parse_with},
		{"filter", JJ_N_FILTERED, parse_filter_block},
		{"print", JJ_N_PRINT, parse_print},
	};
	const struct jj_token *token = parser->token;
	struct jj_node *node;
	if (token->kind != JJ_T_NAME)
		return tt_jj_refuse(parser, TT_ERR_FORMAT, token->line, "expected the name of a tag");
	for (size_t i = 0; i < sizeof table / sizeof *table; i++)
		if (tt_jj_is_name(token, table[i].word)) {
			parser->token++;
			node = tt_jj_node(parser, table[i].kind, token->line);
			return node ? table[i].parse(parser, node) : NULL;
		}
	static const char *const misplaced[] = {"endif", "endfor", "elif", "else", "endmacro", "endset",
		"endgeneration", "endwith", "endfilter", "endraw"};
	for (size_t i = 0; i < sizeof misplaced / sizeof *misplaced; i++)
		if (tt_jj_is_name(token, misplaced[i]))
			return tt_jj_refuse(
				parser, TT_ERR_FORMAT, token->line, "tag '%s' ends nothing that is open", misplaced[i]);
	return tt_jj_refuse(parser, TT_ERR_UNSUPPORTED, token->line, "tag '%.*s' is not supported",
		(int)token->value.string->len, token->value.string->data);
}

static bool at_end(const struct jj_parser *parser, const char *const *ends)
{
	for (; ends && *ends; ends++)
		if (tt_jj_is_name(parser->token, *ends))
			return true;
	return false;
}

/* Parses one piece of template: text, {{ }}, or {% %}; the last may be the end of this block. */
static struct jj_node *parse_piece(struct jj_parser *parser, const char *const *ends, bool *ended)
{
	const struct jj_token *token = parser->token++;
	struct jj_node *node;
	if (token->kind == JJ_T_DATA) {
		if ((node = tt_jj_node(parser, JJ_N_DATA, token->line)) != NULL)
			node->value = token->value;
		return node;
	}
	if (token->kind == JJ_T_VARIABLE_BEGIN) {
		struct jj_node *value = tt_jj_parse_tuple(parser, true, false);
		if (value && parser->token->kind != JJ_T_VARIABLE_END)
			return tt_jj_refuse(parser, TT_ERR_FORMAT, parser->token->line, "expected '}}'");
		parser->token++;
		if (!value || !(node = tt_jj_node(parser, JJ_N_PRINT, token->line)))
			return NULL;
		node->a = value;
		return tt_jj_adopt(parser, node, value) ? node : NULL;
	}
	*ended = at_end(parser, ends);
	if (*ended)
		return NULL;
	node = parse_statement(parser);
	return node && expect_block_end(parser) ? node : NULL;
}

static struct jj_node *parse_block(struct jj_parser *parser, const char *const *ends, struct jj_scope_info *scope)
{
	struct jj_scope_info *outer = parser->scope;
	uint32_t if_depth = parser->if_depth, line = parser->token->line;
	bool soft = parser->soft, ended = false;
	size_t capacity = 0;
	if (++parser->depth > JJ_MAX_NESTING)
		return tt_jj_refuse(parser, TT_ERR_LIMIT, line, "blocks nested too deeply");
	if (scope) {
		parser->scope = scope;
		parser->if_depth = 0;
		parser->soft = false;
	}
	struct jj_node *node = tt_jj_node(parser, JJ_N_BLOCK, line);
	while (node && parser->token->kind != JJ_T_EOF) {
		struct jj_node *piece = parse_piece(parser, ends, &ended);
		if (ended)
			break;
		if (!piece || !tt_jj_push(parser, node, &capacity, piece))
			return NULL;
	}
	if (node && ends && !ended)
		return tt_jj_refuse(parser, TT_ERR_FORMAT, line, "the template ends where '%s' is missing", ends[0]);
	if (node)
		node->scope = scope;
	parser->scope = outer;
	parser->if_depth = if_depth;
	parser->soft = soft;
	parser->depth--;
	return node;
}

/* \r\n and \r become \n, and one newline at the end is removed, as with keep_trailing_newline=False. */
static size_t plain_newlines(char *to, const char *from, size_t n)
{
	size_t len = 0;
	for (size_t i = 0; i < n; i++) {
		if (from[i] == '\r' && i + 1 < n && from[i + 1] == '\n')
			continue;
		to[len++] = from[i] == '\r' ? '\n' : from[i];
	}
	return len > 0 && to[len - 1] == '\n' ? len - 1 : len;
}

static int parse(struct tt_jinja *jinja, struct jj_tokens *tokens, const char *source, size_t n, struct tt_error *err)
{
	struct jj_parser parser = {.name = jinja->name, .arena = &jinja->arena};
	if (n > JJ_MAX_SOURCE)
		return tt_fail(err, TT_ERR_LIMIT, "%s: a template of more than %zu bytes", jinja->name, JJ_MAX_SOURCE);
	if (tt_utf8_check(source, n) != n)
		return tt_fail(err, TT_ERR_FORMAT, "%s: the template is not valid UTF-8", jinja->name);
	TT_TRY(tt_copy_string(&jinja->source, source, n, err));
	n = plain_newlines(jinja->source, source, n);
	TT_TRY(tt_jj_lex(tokens, &jinja->arena, jinja->source, n, jinja->name));
	parser.token = tokens->data;
	struct jj_scope_info *scope = new_scope(&parser);
	parser.scope = scope;
	if (scope)
		jinja->root = parse_block(&parser, NULL, scope);
	if (parser.status == TT_OK)
		parser.status = hide_names(&parser);
	return parser.status;
}

int tt_jinja_parse(struct tt_jinja **out, const char *source, size_t n, const char *name, struct tt_error *err)
{
	struct tt_jinja *jinja = NULL;
	struct jj_tokens tokens = {0};
	TT_TRY(tt_alloc(&jinja, 1, sizeof *jinja, err));
	jinja->arena = (struct jj_arena){.limit = JJ_MAX_MEMORY, .err = err};
	int status = tt_copy_string(&jinja->name, name, strlen(name), err);
	if (status == TT_OK)
		status = parse(jinja, &tokens, source, n, err);
	free(tokens.data);
	/* The caller's err may be gone by the next call. */
	jinja->arena.err = NULL;
	if (status == TT_OK)
		*out = jinja;
	else
		tt_jinja_free(jinja);
	return status;
}

void tt_jinja_free(struct tt_jinja *jinja)
{
	if (!jinja)
		return;
	tt_jj_arena_free(&jinja->arena);
	free(jinja->name);
	free(jinja->source);
	free(jinja);
}
