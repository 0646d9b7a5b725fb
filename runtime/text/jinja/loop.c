/* The items of a for loop, read as late as jinja2 reads them, and what `loop` tells about them. */
#include <string.h>

#include "base/fail.h"
#include "runtime/text/jinja/loop.h"

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
		TT_TRY(tt_jj_assign(run, loop->node->a, *out));
		TT_TRY(tt_jj_eval(run, loop->node->c, &truth));
		TT_TRY(tt_jj_truth(run, truth, &holds));
		run->scope = scope;
		if (holds)
			return TT_OK;
	}
}

int tt_jj_loop_next(struct jj_run *run, struct jj_loop *loop, bool *more)
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
