/* A running for loop, as its body and the variable `loop` see it. Private to the interpreter. */
#ifndef RUNTIME_TEXT_JINJA_LOOP_H
#define RUNTIME_TEXT_JINJA_LOOP_H

#include "runtime/text/jinja/run.h"

struct jj_loop {
	const struct jj_node *node;
	struct jj_scope *scope; /* around the loop: where its condition is evaluated */
	struct jj_scope *test;  /* holds the condition's target */
	struct jj_iter iter;
	int64_t index; /* of the current item, from 0; -1 before the first */
	struct jj_value current, previous, ahead, changed;
	bool has_ahead;        /* ahead was read early */
	struct jj_value *rest; /* [n_rest]: all that was left when the length was asked for, or NULL */
	size_t n_rest, next_rest;
	int64_t length; /* -1 until it is known */
};

int tt_jj_loop_next(struct jj_run *run, struct jj_loop *loop, bool *more);
int tt_jj_assign(struct jj_run *run, const struct jj_node *target, struct jj_value value);

#endif
