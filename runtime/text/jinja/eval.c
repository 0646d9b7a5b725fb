/* Evaluates expressions. */
#include <string.h>

#include "base/fail.h"
#include "runtime/text/jinja/run.h"

int tt_jj_eval_args(struct jj_run *run, const struct jj_node *node, struct jj_args *out)
{
	struct jj_value *values = NULL;
	struct jj_binding *keywords = NULL;
	/* The value that is filtered or tested is the first argument. */
	size_t first = node->kind == JJ_N_CALL ? 0 : 1;
	TT_TRY(tt_jj_alloc(&run->arena, &values, node->n_items + first, sizeof *values));
	if (node->n_keywords)
		TT_TRY(tt_jj_alloc(&run->arena, &keywords, node->n_keywords, sizeof *keywords));
	for (uint32_t i = 0; i < node->n_items; i++)
		TT_TRY(tt_jj_eval(run, node->items[i], &values[first + i]));
	for (uint32_t i = 0; i < node->n_keywords; i++) {
		keywords[i].name = node->keywords[i].name;
		TT_TRY(tt_jj_eval(run, node->keywords[i].value, &keywords[i].value));
	}
	*out = (struct jj_args){values, node->n_items + first, keywords, node->n_keywords};
	return TT_OK;
}

static int eval_native(struct jj_run *run, const struct jj_node *node, struct jj_value value, struct jj_value *out)
{
	struct jj_args args;
	if (!node->native)
		return tt_jj_fail(run, TT_ERR_UNSUPPORTED, "%s '%.*s' is not supported",
			node->kind == JJ_N_TEST ? "test" : "filter", node->text->len > 50 ? 50 : (int)node->text->len,
			node->text->data);
	TT_TRY(tt_jj_eval_args(run, node, &args));
	((struct jj_value *)args.values)[0] = value;
	run->line = node->line;
	return tt_jj_call_native(run, node->native, (struct jj_value){.kind = JJ_NONE}, &args, out);
}

int tt_jj_eval_filter(struct jj_run *run, const struct jj_node *node, struct jj_value text, struct jj_value *out)
{
	*out = text;
	if (!node)
		return TT_OK;
	if (node->a)
		TT_TRY(tt_jj_eval_filter(run, node->a, text, &text));
	return eval_native(run, node, text, out);
}

static int eval_items(struct jj_run *run, const struct jj_node *node, struct jj_value *out)
{
	struct jj_value *items = NULL;
	TT_TRY(tt_jj_alloc(&run->arena, &items, node->n_items, sizeof *items));
	for (uint32_t i = 0; i < node->n_items; i++)
		TT_TRY(tt_jj_eval(run, node->items[i], &items[i]));
	return tt_jj_new_list(run, node->kind == JJ_N_LIST ? JJ_LIST : JJ_TUPLE, items, node->n_items, out);
}

static int eval_dict(struct jj_run *run, const struct jj_node *node, struct jj_value *out)
{
	TT_TRY(tt_jj_new_dict(run, out));
	for (uint32_t i = 0; i + 1 < node->n_items; i += 2) {
		struct jj_value key, value;
		TT_TRY(tt_jj_eval(run, node->items[i], &key));
		TT_TRY(tt_jj_eval(run, node->items[i + 1], &value));
		TT_TRY(tt_jj_put(run, out->dict, key, value));
	}
	return TT_OK;
}

static int eval_concat(struct jj_run *run, const struct jj_node *node, struct jj_value *out)
{
	struct jj_builder builder = tt_jj_builder(run);
	for (uint32_t i = 0; i < node->n_items; i++) {
		struct jj_value value;
		const struct jj_string *text;
		TT_TRY(tt_jj_eval(run, node->items[i], &value));
		TT_TRY(tt_jj_to_string(run, value, &text));
		TT_TRY(tt_jj_charge(run, text->len / 64));
		TT_TRY(tt_jj_add(&builder, text));
	}
	return tt_jj_finish(&builder, false, out);
}

static int compare(struct jj_run *run, unsigned op, struct jj_value a, struct jj_value b, bool *out)
{
	char text[3] = {(char)(op > 255 ? op >> 8 : op), (char)(op > 255 ? op & 255 : 0), 0};
	int order;
	switch (op) {
	case JJ_OP2('=', '='):
		return tt_jj_equal(run, a, b, out);
	case JJ_OP2('!', '='):
		TT_TRY(tt_jj_equal(run, a, b, out));
		*out = !*out;
		return TT_OK;
	case 'i':
		return tt_jj_contains(run, b, a, out);
	case 'n':
		TT_TRY(tt_jj_contains(run, b, a, out));
		*out = !*out;
		return TT_OK;
	default:
		TT_TRY(tt_jj_compare(run, a, b, text, &order));
		*out = text[0] == '<' ? order < 0 : order == 1;
		if (op > 255 && order == 0)
			*out = true;
		return TT_OK;
	}
}

static int eval_compare(struct jj_run *run, const struct jj_node *node, struct jj_value *out)
{
	struct jj_value left;
	bool truth = true;
	TT_TRY(tt_jj_eval(run, node->a, &left));
	for (uint32_t i = 0; i < node->n_items && truth; i++) {
		struct jj_value right;
		TT_TRY(tt_jj_eval(run, node->items[i]->a, &right));
		run->line = node->line;
		TT_TRY(compare(run, node->items[i]->op, left, right, &truth));
		left = right;
	}
	*out = tt_jj_bool(truth);
	return TT_OK;
}

/* and, or: the result is the operand that decided. */
static int eval_logic(struct jj_run *run, const struct jj_node *node, struct jj_value *out)
{
	bool truth;
	TT_TRY(tt_jj_eval(run, node->a, out));
	TT_TRY(tt_jj_truth(run, *out, &truth));
	return truth == (node->kind == JJ_N_AND) ? tt_jj_eval(run, node->b, out) : TT_OK;
}

static int eval_condition(struct jj_run *run, const struct jj_node *node, struct jj_value *out)
{
	bool truth;
	TT_TRY(tt_jj_eval(run, node->a, out));
	TT_TRY(tt_jj_truth(run, *out, &truth));
	if (truth)
		return tt_jj_eval(run, node->b, out);
	*out = (struct jj_value){.kind = JJ_UNDEFINED};
	return node->c ? tt_jj_eval(run, node->c, out) : TT_OK;
}

static int eval_sign(struct jj_run *run, const struct jj_node *node, struct jj_value *out)
{
	struct jj_value zero = tt_jj_int(0), value;
	TT_TRY(tt_jj_eval(run, node->a, &value));
	if (value.kind == JJ_FLOAT) {
		*out = tt_jj_float(node->kind == JJ_N_NEG ? -value.real : value.real);
		return TT_OK;
	}
	if (value.kind == JJ_UNDEFINED)
		return tt_jj_undefined(run, value);
	if (value.kind != JJ_INT && value.kind != JJ_BOOL)
		return tt_jj_fail(run, TT_ERR_FORMAT, "bad operand type for unary %s: '%s'",
			node->kind == JJ_N_NEG ? "-" : "+", tt_jj_type(value));
	return tt_jj_binary(run, node->kind == JJ_N_NEG ? '-' : '+', zero, value, out);
}

static int eval_slice(struct jj_run *run, const struct jj_node *node, struct jj_value *out)
{
	struct jj_value of, parts[3];
	TT_TRY(tt_jj_eval(run, node->a, &of));
	for (int i = 0; i < 3; i++) {
		parts[i] = (struct jj_value){.kind = JJ_MISSING};
		if (node->items[i])
			TT_TRY(tt_jj_eval(run, node->items[i], &parts[i]));
	}
	run->line = node->line;
	return tt_jj_slice(run, of, parts, out);
}

static int eval_call(struct jj_run *run, const struct jj_node *node, struct jj_value *out)
{
	struct jj_value callee;
	struct jj_args args;
	TT_TRY(tt_jj_eval(run, node->a, &callee));
	TT_TRY(tt_jj_eval_args(run, node, &args));
	run->line = node->line;
	return tt_jj_call(run, callee, &args, out);
}

static int eval_pair(struct jj_run *run, const struct jj_node *node, struct jj_value *out)
{
	struct jj_value a, b;
	TT_TRY(tt_jj_eval(run, node->a, &a));
	TT_TRY(tt_jj_eval(run, node->b, &b));
	run->line = node->line;
	return node->kind == JJ_N_ITEM ? tt_jj_item(run, a, b, out) : tt_jj_binary(run, node->op, a, b, out);
}

static int eval_of(struct jj_run *run, const struct jj_node *node, struct jj_value *out)
{
	struct jj_value value;
	bool truth;
	TT_TRY(tt_jj_eval(run, node->a, &value));
	run->line = node->line;
	switch (node->kind) {
	case JJ_N_ATTR:
		return tt_jj_attribute(run, value, node->text, out);
	case JJ_N_NOT:
		TT_TRY(tt_jj_truth(run, value, &truth));
		*out = tt_jj_bool(!truth);
		return TT_OK;
	default:
		return eval_native(run, node, value, out);
	}
}

static int eval(struct jj_run *run, const struct jj_node *node, struct jj_value *out)
{
	switch (node->kind) {
	case JJ_N_ATTR:
	case JJ_N_NOT:
	case JJ_N_FILTER:
	case JJ_N_TEST:
		return eval_of(run, node, out);
	case JJ_N_ITEM:
	case JJ_N_BINARY:
		return eval_pair(run, node, out);
	case JJ_N_SLICE:
		return eval_slice(run, node, out);
	case JJ_N_CALL:
		return eval_call(run, node, out);
	case JJ_N_NEG:
	case JJ_N_POS:
		return eval_sign(run, node, out);
	case JJ_N_AND:
	case JJ_N_OR:
		return eval_logic(run, node, out);
	case JJ_N_CONCAT:
		return eval_concat(run, node, out);
	case JJ_N_COMPARE:
		return eval_compare(run, node, out);
	case JJ_N_COND:
		return eval_condition(run, node, out);
	case JJ_N_DICT:
		return eval_dict(run, node, out);
	default:
		return eval_items(run, node, out);
	}
}

int tt_jj_eval(struct jj_run *run, const struct jj_node *node, struct jj_value *out)
{
	run->line = node->line;
	TT_TRY(tt_jj_charge(run, 1));
	if (node->kind == JJ_N_CONST) {
		*out = node->value;
		return TT_OK;
	}
	if (node->kind == JJ_N_NAME)
		return tt_jj_lookup(run, node->text, out);
	if (++run->depth > run->max_depth)
		return tt_jj_fail(run, TT_ERR_LIMIT, "nested more than %u deep", run->max_depth);
	TT_TRY(eval(run, node, out));
	run->depth--;
	return TT_OK;
}
