/* Runs statements, scopes and macros, and the rendering as a whole. */
#include <stdio.h>
#include <string.h>

#include "base/fail.h"
#include "runtime/text/jinja/run.h"

enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE };

int tt_jj_bind(struct jj_run *run, struct jj_scope *scope, const struct jj_string *name, struct jj_value value)
{
	for (size_t i = 0; i < scope->n; i++)
		if (tt_jj_same(scope->bindings[i].name, name)) {
			scope->bindings[i].value = value;
			return TT_OK;
		}
	TT_TRY(tt_jj_charge(run, scope->n / 8));
	TT_TRY(tt_jj_grow(&run->arena, &scope->bindings, &scope->capacity, scope->n + 1, sizeof *scope->bindings));
	scope->bindings[scope->n++] = (struct jj_binding){name, value};
	return TT_OK;
}

int tt_jj_lookup(struct jj_run *run, const struct jj_string *name, struct jj_value *out)
{
	for (const struct jj_scope *scope = run->scope; scope; scope = scope->parent)
		for (size_t i = 0; i < scope->n; i++)
			if (tt_jj_same(scope->bindings[i].name, name)) {
				*out = scope->bindings[i].value;
				if (out->kind == JJ_MISSING)
					*out = (struct jj_value){.kind = JJ_UNDEFINED, .string = name};
				return TT_OK;
			}
	const struct jj_value *value = tt_jj_find_text(run->context.dict, name);
	const struct jj_native *native = value ? NULL : tt_jj_global(name->data, name->len);
	struct jj_bound *bound = NULL;
	*out = value ? *value : (struct jj_value){.kind = JJ_UNDEFINED, .string = name};
	if (!native)
		return TT_OK;
	TT_TRY(tt_jj_alloc(&run->arena, &bound, 1, sizeof *bound));
	*bound = (struct jj_bound){native, {.kind = JJ_NONE}};
	*out = (struct jj_value){.kind = JJ_NATIVE, .bound = bound};
	return TT_OK;
}

static int hide(struct jj_run *run, struct jj_scope *scope, const struct jj_scope_info *info)
{
	for (size_t i = 0; i < info->n_hidden; i++)
		TT_TRY(tt_jj_bind(run, scope, info->hidden[i], (struct jj_value){.kind = JJ_MISSING}));
	return TT_OK;
}

static int new_scope(struct jj_run *run, struct jj_scope *parent, struct jj_scope **out)
{
	struct jj_scope *scope = NULL;
	TT_TRY(tt_jj_alloc(&run->arena, &scope, 1, sizeof *scope));
	scope->parent = parent;
	*out = scope;
	return TT_OK;
}

static int assign_attribute(struct jj_run *run, const struct jj_node *target, struct jj_value value)
{
	struct jj_value of, key = {.kind = JJ_STRING, .string = target->text};
	TT_TRY(tt_jj_lookup(run, target->a->text, &of));
	if (of.kind == JJ_UNDEFINED)
		return tt_jj_undefined(run, of);
	if (of.kind != JJ_NAMESPACE)
		return tt_jj_fail(run, TT_ERR_FORMAT, "cannot assign attribute on non-namespace object");
	if (target->text->data[0] == '_')
		return tt_jj_fail(run, TT_ERR_FORMAT, "a namespace takes no attribute that starts with _");
	return tt_jj_put(run, of.dict, key, value);
}

static int assign(struct jj_run *run, const struct jj_node *target, struct jj_value value)
{
	struct jj_value *items;
	size_t n;
	if (target->kind == JJ_N_NAME)
		return tt_jj_bind(run, run->scope, target->text, value);
	if (target->kind == JJ_N_ATTR)
		return assign_attribute(run, target, value);
	TT_TRY(tt_jj_collect(run, value, &items, &n));
	if (n != target->n_items)
		return tt_jj_fail(run, TT_ERR_FORMAT, "%s values to unpack (expected %u, got %zu)",
			n < target->n_items ? "not enough" : "too many", target->n_items, n);
	for (size_t i = 0; i < n; i++)
		TT_TRY(assign(run, target->items[i], items[i]));
	return TT_OK;
}

/* ---- The items of a for loop, read as late as jinja2 reads them, and the attributes of `loop`. */

/* A running for loop, for its body and the variable `loop`. */
struct jj_loop {
	const struct jj_node *node;
	struct jj_scope *test; /* holds the condition's target */
	struct jj_iter iter;
	int64_t index; /* of the current item, from 0; -1 before the first */
	struct jj_value current, previous, ahead, changed;
	bool has_ahead;        /* ahead was read early */
	struct jj_value *rest; /* [n_rest]: the items that were left when the length was asked for, or NULL */
	size_t n_rest, next_rest;
	int64_t length; /* -1 until it is known */
};

/* The next item for which the loop's condition holds. */
static int fetch(struct jj_run *run, struct jj_loop *loop, struct jj_value *out, bool *more)
{
	struct jj_scope *scope = run->scope;
	if (loop->rest) {
		*more = loop->next_rest < loop->n_rest;
		if (*more)
			*out = loop->rest[loop->next_rest++];
		return tt_jj_charge(run, 1);
	}
	for (;;) {
		struct jj_value truth;
		bool holds;
		TT_TRY(tt_jj_next(run, &loop->iter, out, more));
		if (!*more || !loop->node->c)
			return TT_OK;
		run->scope = loop->test;
		TT_TRY(assign(run, loop->node->a, *out));
		TT_TRY(tt_jj_eval(run, loop->node->c, &truth));
		TT_TRY(tt_jj_truth(run, truth, &holds));
		run->scope = scope;
		if (holds)
			return TT_OK;
	}
}

static int loop_next(struct jj_run *run, struct jj_loop *loop, bool *more)
{
	struct jj_value item = loop->ahead;
	*more = true;
	if (!loop->has_ahead)
		TT_TRY(fetch(run, loop, &item, more));
	else if (item.kind == JJ_MISSING)
		*more = false;
	if (!*more)
		return TT_OK;
	loop->has_ahead = false;
	loop->index++;
	loop->previous = loop->current;
	loop->current = item;
	return TT_OK;
}

static int peek(struct jj_run *run, struct jj_loop *loop)
{
	bool more;
	if (loop->has_ahead)
		return TT_OK;
	TT_TRY(fetch(run, loop, &loop->ahead, &more));
	if (!more)
		loop->ahead = (struct jj_value){.kind = JJ_MISSING};
	loop->has_ahead = true;
	return TT_OK;
}

static int find_length(struct jj_run *run, struct jj_loop *loop)
{
	size_t capacity = 0, n = 0;
	struct jj_value *rest = NULL, item;
	bool more;
	if (loop->length >= 0)
		return TT_OK;
	if (!loop->node->c)
		TT_TRY(tt_jj_length(run, loop->iter.over, &loop->length));
	if (loop->length >= 0)
		return TT_OK;
	for (;;) {
		TT_TRY(fetch(run, loop, &item, &more));
		if (!more)
			break;
		TT_TRY(tt_jj_grow(&run->arena, &rest, &capacity, n + 1, sizeof *rest));
		rest[n++] = item;
	}
	if (!rest)
		TT_TRY(tt_jj_alloc(&run->arena, &rest, 1, sizeof *rest));
	loop->rest = rest;
	loop->n_rest = n;
	loop->length = (int64_t)n + loop->index + 1 + (loop->has_ahead && loop->ahead.kind != JJ_MISSING);
	return TT_OK;
}

static int cycle(struct jj_run *run, struct jj_value self, const struct jj_args *args, struct jj_value *out)
{
	if (args->n == 0)
		return tt_jj_fail(run, TT_ERR_FORMAT, "no items for cycling given");
	*out = args->values[(size_t)self.loop->index % args->n];
	return TT_OK;
}

static int changed(struct jj_run *run, struct jj_value self, const struct jj_args *args, struct jj_value *out)
{
	struct jj_value *items = NULL, now;
	bool same = false;
	TT_TRY(tt_jj_alloc(&run->arena, &items, args->n, sizeof *items));
	for (size_t i = 0; i < args->n; i++)
		items[i] = args->values[i];
	TT_TRY(tt_jj_new_list(run, JJ_TUPLE, items, args->n, &now));
	TT_TRY(tt_jj_equal(run, self.loop->changed, now, &same));
	self.loop->changed = now;
	*out = tt_jj_bool(!same);
	return TT_OK;
}

static int method(struct jj_run *run, struct jj_loop *loop, const struct jj_string *name, struct jj_value *out)
{
	static const struct jj_native table[] = {{"cycle", "", 0, NULL, cycle}, {"changed", "", 0, NULL, changed}};
	const struct jj_native *native = tt_jj_search(table, 2, name->data, name->len);
	struct jj_bound *bound = NULL;
	if (!native)
		return TT_OK;
	TT_TRY(tt_jj_alloc(&run->arena, &bound, 1, sizeof *bound));
	*bound = (struct jj_bound){native, {.kind = JJ_LOOP, .loop = loop}};
	*out = (struct jj_value){.kind = JJ_NATIVE, .bound = bound};
	return TT_OK;
}

static bool is(const struct jj_string *name, const char *word)
{
	return name->len == strlen(word) && memcmp(name->data, word, name->len) == 0;
}

int tt_jj_loop_attribute(struct jj_run *run, struct jj_loop *loop, const struct jj_string *name, struct jj_value *out)
{
	*out = (struct jj_value){.kind = JJ_UNDEFINED, .string = name};
	if (is(name, "index"))
		*out = tt_jj_int(loop->index + 1);
	else if (is(name, "index0"))
		*out = tt_jj_int(loop->index);
	else if (is(name, "first"))
		*out = tt_jj_bool(loop->index == 0);
	else if (is(name, "depth"))
		*out = tt_jj_int(1);
	else if (is(name, "depth0"))
		*out = tt_jj_int(0);
	else if (is(name, "previtem")) {
		if (loop->index > 0)
			*out = loop->previous;
	} else if (is(name, "last") || is(name, "nextitem")) {
		TT_TRY(peek(run, loop));
		if (name->len == 4)
			*out = tt_jj_bool(loop->ahead.kind == JJ_MISSING);
		else if (loop->ahead.kind != JJ_MISSING)
			*out = loop->ahead;
	} else if (is(name, "length") || is(name, "revindex") || is(name, "revindex0")) {
		TT_TRY(find_length(run, loop));
		*out = tt_jj_int(is(name, "length")     ? loop->length
				 : is(name, "revindex") ? loop->length - loop->index
							: loop->length - loop->index - 1);
	} else {
		return method(run, loop, name, out);
	}
	return TT_OK;
}

/* ---- Statements. */

static int print(struct jj_run *run, struct jj_value value)
{
	const struct jj_string *text;
	TT_TRY(tt_jj_to_string(run, value, &text));
	TT_TRY(tt_jj_charge(run, text->len / 64));
	return tt_jj_add(run->output, text);
}

/* Gives the text that block makes when it runs in scope. */
static int capture(struct jj_run *run, const struct jj_node *block, struct jj_scope *scope, struct jj_value *out)
{
	struct jj_builder builder = tt_jj_builder(run), *output = run->output;
	struct jj_scope *outer = run->scope;
	int flow = FLOW_ON;
	run->output = &builder;
	run->scope = scope;
	TT_TRY(tt_jj_exec(run, block, &flow));
	run->output = output;
	run->scope = outer;
	return tt_jj_finish(&builder, false, out);
}

static int exec_captured(struct jj_run *run, const struct jj_node *node)
{
	struct jj_scope *scope;
	struct jj_value text;
	TT_TRY(new_scope(run, run->scope, &scope));
	TT_TRY(hide(run, scope, node->d->scope));
	TT_TRY(capture(run, node->d, scope, &text));
	TT_TRY(tt_jj_eval_filter(run, node->b, text, &text));
	return node->kind == JJ_N_FILTERED ? print(run, text) : assign(run, node->a, text);
}

static int exec_if(struct jj_run *run, const struct jj_node *node, int *flow)
{
	for (uint32_t i = 0; i + 1 < node->n_items; i += 2) {
		struct jj_value value;
		bool truth;
		TT_TRY(tt_jj_eval(run, node->items[i], &value));
		TT_TRY(tt_jj_truth(run, value, &truth));
		if (truth)
			return tt_jj_exec(run, node->items[i + 1], flow);
	}
	return node->a ? tt_jj_exec(run, node->a, flow) : TT_OK;
}

static int exec_in_scope(struct jj_run *run, const struct jj_node *block, struct jj_scope *scope, int *flow)
{
	struct jj_scope *outer = run->scope;
	TT_TRY(hide(run, scope, block->scope));
	run->scope = scope;
	TT_TRY(tt_jj_exec(run, block, flow));
	run->scope = outer;
	return TT_OK;
}

/* Runs one round. The next round reuses the scope unless a macro keeps it. */
static int exec_round(
	struct jj_run *run, const struct jj_node *node, struct jj_loop *loop, struct jj_scope **scope, int *flow)
{
	static const struct jj_string name = {.data = "loop", .len = 4};
	struct jj_scope *outer = run->scope;
	if (!*scope || (*scope)->captured)
		TT_TRY(new_scope(run, outer, scope));
	(*scope)->n = 0;
	TT_TRY(tt_jj_bind(run, *scope, &name, (struct jj_value){.kind = JJ_LOOP, .loop = loop}));
	run->scope = *scope;
	TT_TRY(assign(run, node->a, loop->current));
	run->scope = outer;
	return exec_in_scope(run, node->d, *scope, flow);
}

static int exec_for(struct jj_run *run, const struct jj_node *node, int *flow)
{
	struct jj_loop *loop = NULL;
	struct jj_scope *scope = NULL;
	struct jj_value over;
	bool more, completed = false;
	TT_TRY(tt_jj_eval(run, node->b, &over));
	run->line = node->line;
	TT_TRY(tt_jj_alloc(&run->arena, &loop, 1, sizeof *loop));
	*loop = (struct jj_loop){.node = node, .index = -1, .length = -1};
	loop->changed.kind = JJ_MISSING;
	TT_TRY(tt_jj_iterate(run, over, &loop->iter));
	if (node->c)
		TT_TRY(new_scope(run, run->scope, &loop->test));
	for (;;) {
		int inner = FLOW_ON;
		TT_TRY(loop_next(run, loop, &more));
		if (!more)
			break;
		TT_TRY(exec_round(run, node, loop, &scope, &inner));
		if (inner == FLOW_BREAK)
			break;
		completed = completed || inner == FLOW_ON;
	}
	/* As in jinja2, a completed round prevents the else block; one that ended in break or continue does not. */
	if (completed || !node->e)
		return TT_OK;
	TT_TRY(new_scope(run, run->scope, &scope));
	return exec_in_scope(run, node->e, scope, flow);
}

static int exec_with(struct jj_run *run, const struct jj_node *node, int *flow)
{
	struct jj_scope *scope;
	TT_TRY(new_scope(run, run->scope, &scope));
	for (uint32_t i = 0; i < node->n_keywords; i++) {
		struct jj_value value;
		TT_TRY(tt_jj_eval(run, node->keywords[i].value, &value));
		TT_TRY(tt_jj_bind(run, scope, node->keywords[i].name, value));
	}
	return exec_in_scope(run, node->d, scope, flow);
}

static int exec_macro(struct jj_run *run, const struct jj_node *node)
{
	struct jj_macro *macro = NULL;
	TT_TRY(tt_jj_alloc(&run->arena, &macro, 1, sizeof *macro));
	*macro = (struct jj_macro){node, run->scope};
	for (struct jj_scope *scope = run->scope; scope; scope = scope->parent)
		scope->captured = true;
	return tt_jj_bind(run, run->scope, node->text, (struct jj_value){.kind = JJ_MACRO, .macro = macro});
}

/* Binds the arguments beyond the parameters of a macro, for a body that names varargs or kwargs. */
static int bind_extra(struct jj_run *run, struct jj_scope *scope, const struct jj_args *args, size_t n_parameters,
	struct jj_value extra)
{
	static const struct jj_string varargs = {.data = "varargs", .len = 7}, kwargs = {.data = "kwargs", .len = 6};
	struct jj_value *items = NULL, list;
	size_t n = args->n > n_parameters ? args->n - n_parameters : 0;
	TT_TRY(tt_jj_alloc(&run->arena, &items, n, sizeof *items));
	for (size_t i = 0; i < n; i++)
		items[i] = args->values[n_parameters + i];
	TT_TRY(tt_jj_new_list(run, JJ_TUPLE, items, n, &list));
	TT_TRY(tt_jj_bind(run, scope, &varargs, list));
	return tt_jj_bind(run, scope, &kwargs, extra);
}

/* Binds the call's arguments; those that are not given stay JJ_MISSING. */
static int bind_arguments(
	struct jj_run *run, struct jj_scope *scope, const struct jj_node *node, const struct jj_args *args)
{
	struct jj_value missing = {.kind = JJ_MISSING}, extra;
	TT_TRY(tt_jj_new_dict(run, &extra));
	for (uint32_t i = 0; i < node->n_items; i++)
		TT_TRY(tt_jj_bind(run, scope, node->items[i]->text, i < args->n ? args->values[i] : missing));
	if (args->n > node->n_items && !node->variadic)
		return tt_jj_fail(run, TT_ERR_FORMAT, "macro '%.*s' takes not more than %u argument(s)",
			(int)node->text->len, node->text->data, node->n_items);
	for (size_t k = 0; k < args->n_keywords; k++) {
		const struct jj_string *name = args->keywords[k].name;
		uint32_t i = 0;
		while (i < node->n_items && !tt_jj_same(node->items[i]->text, name))
			i++;
		if (i < node->n_items && i >= args->n) {
			TT_TRY(tt_jj_bind(run, scope, name, args->keywords[k].value));
			continue;
		}
		if (!node->variadic)
			return tt_jj_fail(run, TT_ERR_FORMAT, "macro '%.*s' takes no keyword argument '%.*s'",
				(int)node->text->len, node->text->data, (int)name->len, name->data);
		TT_TRY(tt_jj_put(run, extra.dict, (struct jj_value){.kind = JJ_STRING, .string = name},
			args->keywords[k].value));
	}
	return node->variadic ? bind_extra(run, scope, args, node->n_items, extra) : TT_OK;
}

int tt_jj_call_macro(struct jj_run *run, const struct jj_macro *macro, const struct jj_args *args, struct jj_value *out)
{
	const struct jj_node *node = macro->node;
	struct jj_scope *scope, *outer = run->scope;
	TT_TRY(new_scope(run, macro->scope, &scope));
	TT_TRY(bind_arguments(run, scope, node, args));
	run->scope = scope;
	/* In this order, since a default may name the parameters before it. */
	for (uint32_t i = 0; i < node->n_keywords; i++)
		for (size_t b = 0; b < scope->n; b++) {
			struct jj_value value;
			if (!tt_jj_same(scope->bindings[b].name, node->keywords[i].name) ||
				scope->bindings[b].value.kind != JJ_MISSING)
				continue;
			TT_TRY(tt_jj_eval(run, node->keywords[i].value, &value));
			scope->bindings[b].value = value;
		}
	run->scope = outer;
	TT_TRY(hide(run, scope, node->d->scope));
	return capture(run, node->d, scope, out);
}

static int exec_statement(struct jj_run *run, const struct jj_node *node, int *flow)
{
	struct jj_scope *scope;
	struct jj_value value;
	switch (node->kind) {
	case JJ_N_DATA:
		return print(run, node->value);
	case JJ_N_PRINT:
		TT_TRY(tt_jj_eval(run, node->a, &value));
		return print(run, value);
	case JJ_N_IF:
		return exec_if(run, node, flow);
	case JJ_N_FOR:
		return exec_for(run, node, flow);
	case JJ_N_SET:
		TT_TRY(tt_jj_eval(run, node->b, &value));
		run->line = node->line;
		return assign(run, node->a, value);
	case JJ_N_SET_BLOCK:
	case JJ_N_FILTERED:
		return exec_captured(run, node);
	case JJ_N_MACRO:
		return exec_macro(run, node);
	case JJ_N_WITH:
		return exec_with(run, node, flow);
	case JJ_N_BLOCK:
		TT_TRY(new_scope(run, run->scope, &scope));
		return exec_in_scope(run, node, scope, flow);
	default:
		*flow = node->kind == JJ_N_BREAK ? FLOW_BREAK : FLOW_CONTINUE;
		return TT_OK;
	}
}

int tt_jj_exec(struct jj_run *run, const struct jj_node *block, int *flow)
{
	if (++run->depth > run->max_depth)
		return tt_jj_fail(run, TT_ERR_LIMIT, "nested more than %u deep", run->max_depth);
	for (uint32_t i = 0; i < block->n_items && *flow == FLOW_ON; i++) {
		run->line = block->items[i]->line;
		TT_TRY(tt_jj_charge(run, 1));
		TT_TRY(exec_statement(run, block->items[i], flow));
	}
	run->depth--;
	return TT_OK;
}

static int render(struct jj_run *run, const json_t *context, struct jj_string *out)
{
	struct jj_builder builder = tt_jj_builder(run);
	struct jj_scope *scope;
	struct jj_value text;
	int flow = FLOW_ON;
	TT_TRY(tt_jj_from_json(run, context, &run->context));
	TT_TRY(new_scope(run, NULL, &scope));
	run->output = &builder;
	TT_TRY(exec_in_scope(run, run->jinja->root, scope, &flow));
	TT_TRY(tt_jj_finish(&builder, false, &text));
	*out = *text.string;
	return TT_OK;
}

/* The marks, one byte for each byte of output. */
static int add_marks(struct tt_buffer *untrusted, const struct jj_string *string, struct tt_error *err)
{
	if (string->mark == JJ_MIXED)
		return tt_buffer_add(untrusted, string->mask, string->len, err);
	size_t old = untrusted->len, needed;
	if (!tt_add_size(old, string->len, &needed) || !tt_add_size(needed, 1, &needed))
		return tt_fail(err, TT_ERR_MEMORY, "out of memory");
	TT_TRY(tt_grow(&untrusted->data, &untrusted->capacity, needed, 1, err));
	memset(untrusted->data + old, string->mark, string->len);
	untrusted->len = old + string->len;
	untrusted->data[untrusted->len] = 0;
	return TT_OK;
}

int tt_jinja_render(const struct tt_jinja *jinja, const json_t *context, time_t now,
	const struct tt_jinja_limits *limits, struct tt_buffer *text, struct tt_buffer *untrusted, struct tt_error *err)
{
	struct tt_error unheard;
	struct jj_string out = {0};
	struct jj_run run = {.jinja = jinja, .now = now, .line = 1};
	if (!err)
		err = &unheard;
	run.arena = (struct jj_arena){.limit = JJ_MAX_MEMORY, .err = err};
	run.max_steps = limits && limits->max_steps ? limits->max_steps : 10000000;
	run.max_output = limits && limits->max_output ? limits->max_output : (size_t)16 << 20;
	run.max_depth = limits && limits->max_depth ? limits->max_depth : 200;
	int status = render(&run, context, &out);
	if (status != TT_OK && !run.located) {
		char where[160];
		snprintf(where, sizeof where, "%.120s: line %u", jinja->name, run.line);
		tt_fail_within(err, where);
	}
	if (status == TT_OK)
		status = tt_buffer_add(text, out.data, out.len, err);
	if (status == TT_OK)
		status = add_marks(untrusted, &out, err);
	tt_jj_arena_free(&run.arena);
	return status;
}
