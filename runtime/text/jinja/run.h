/* One rendering: its limits, scopes and output, and the functions that the parts of the interpreter share. */
#ifndef RUNTIME_TEXT_JINJA_RUN_H
#define RUNTIME_TEXT_JINJA_RUN_H

#include "runtime/text/jinja/ast.h"

#define JJ_MAX_PARAMETERS 6
#define JJ_MAX_RANGE 100000 /* the limit of jinja2's sandbox */

struct tt_jinja {
	char *name, *source;
	struct jj_arena arena;
	struct jj_node *root; /* a JJ_N_BLOCK with a scope */
};

struct jj_binding {
	const struct jj_string *name;
	struct jj_value value;
};

struct jj_scope {
	struct jj_scope *parent;
	struct jj_binding *bindings; /* [n] */
	size_t n, capacity;
	bool captured; /* a macro was defined here: the next round of a loop does not reuse it */
};

struct jj_macro {
	const struct jj_node *node;
	struct jj_scope *scope; /* the scope where it was defined */
};

struct jj_run {
	struct jj_arena arena;
	const struct tt_jinja *jinja;
	uint64_t steps, max_steps;
	size_t max_output;
	uint32_t depth, max_depth;
	uint32_t line;             /* of the node being evaluated */
	bool located;              /* the message names the line already */
	time_t now;                /* 0 is taken as given */
	struct jj_builder *output; /* the output of the template, a macro or a block */
	struct jj_scope *scope;
	struct jj_value context; /* a dict */
};

struct jj_args {
	const struct jj_value *values; /* [n] */
	size_t n;
	const struct jj_binding *keywords; /* [n_keywords] */
	size_t n_keywords;
};

/* A filter, test, method or global function. Bound parameters arrive in order, JJ_MISSING where not given; raw
 * functions take the call's arguments unchanged. */
struct jj_native {
	const char *name;
	const char *parameters; /* names, separated by a space */
	uint8_t required;
	int (*call)(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out);
	int (*raw)(struct jj_run *run, struct jj_value self, const struct jj_args *args, struct jj_value *out);
};

struct jj_bound {
	const struct jj_native *native;
	struct jj_value self;
};

int tt_jj_fail(struct jj_run *run, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Counts n steps of work. */
int tt_jj_charge(struct jj_run *run, uint64_t n);
struct jj_builder tt_jj_builder(struct jj_run *run);

/* Values */
const char *tt_jj_type(struct jj_value value);                  /* its name in Python */
int tt_jj_undefined(struct jj_run *run, struct jj_value value); /* fails with the name of the undefined value */
struct jj_value tt_jj_bool(bool value);
struct jj_value tt_jj_int(int64_t value);
struct jj_value tt_jj_float(double value);
int tt_jj_text(struct jj_run *run, const char *data, size_t n, struct jj_value *out); /* a trusted copy */
int tt_jj_part(struct jj_run *run, const struct jj_string *string, size_t from, size_t to, struct jj_value *out);
int tt_jj_new_list(struct jj_run *run, enum jj_kind kind, struct jj_value *items, size_t n, struct jj_value *out);
int tt_jj_new_cursor(struct jj_run *run, const struct jj_value *items, size_t n, struct jj_value *out);
int tt_jj_new_dict(struct jj_run *run, struct jj_value *out);
int tt_jj_put(struct jj_run *run, struct jj_dict *dict, struct jj_value key, struct jj_value value);
/* *found is NULL if there is no such key; fails if key is of a type that cannot be a key. */
int tt_jj_find(struct jj_run *run, const struct jj_dict *dict, struct jj_value key, const struct jj_value **found);
const struct jj_value *tt_jj_find_text(const struct jj_dict *dict, const struct jj_string *name);
int tt_jj_truth(struct jj_run *run, struct jj_value value, bool *out);
int tt_jj_equal(struct jj_run *run, struct jj_value a, struct jj_value b, bool *out);
int tt_jj_compare(struct jj_run *run, struct jj_value a, struct jj_value b, const char *op, int *out);
/* *out: where s next contains part, from at on or, with left, before at; SIZE_MAX if it does not. Every place where
 * part might begin costs a step for each 64 bytes of it, since a part that matches almost everywhere makes this
 * quadratic. */
int tt_jj_seek(
	struct jj_run *run, const struct jj_string *s, const struct jj_string *part, size_t at, bool left, size_t *out);
int tt_jj_contains(struct jj_run *run, struct jj_value container, struct jj_value item, bool *out);
/* -1 for a value that has no length */
int tt_jj_length(struct jj_run *run, struct jj_value value, int64_t *out);
int tt_jj_to_string(struct jj_run *run, struct jj_value value, const struct jj_string **out); /* str() */
int tt_jj_add_value(struct jj_run *run, struct jj_builder *builder, struct jj_value value, bool quoted);
int tt_jj_add_json(struct jj_run *run, struct jj_builder *builder, struct jj_value value, const struct jj_value *v);
int tt_jj_format_float(double value, char out[32]); /* Python's repr; returns the length */
int tt_jj_from_json(struct jj_run *run, const json_t *json, struct jj_value *out); /* the context */

/* Iteration over anything iterable. */
struct jj_iter {
	struct jj_value over;
	size_t next;
};
int tt_jj_iterate(struct jj_run *run, struct jj_value value, struct jj_iter *out);
int tt_jj_next(struct jj_run *run, struct jj_iter *iter, struct jj_value *out, bool *more);
int tt_jj_collect(struct jj_run *run, struct jj_value value, struct jj_value **items, size_t *n);

/* Access, operators, calls */
int tt_jj_attribute(struct jj_run *run, struct jj_value of, const struct jj_string *name, struct jj_value *out);
int tt_jj_item(struct jj_run *run, struct jj_value of, struct jj_value key, struct jj_value *out);
int tt_jj_slice(struct jj_run *run, struct jj_value of, const struct jj_value v[3], struct jj_value *out);
int tt_jj_binary(struct jj_run *run, unsigned op, struct jj_value a, struct jj_value b, struct jj_value *out);
int tt_jj_percent(struct jj_run *run, const struct jj_string *format, struct jj_value args, struct jj_value *out);
int tt_jj_escape(struct jj_run *run, const struct jj_string *string, struct jj_value *out);
int tt_jj_call_native(struct jj_run *run, const struct jj_native *native, struct jj_value self,
	const struct jj_args *args, struct jj_value *out);
int tt_jj_call(struct jj_run *run, struct jj_value callee, const struct jj_args *args, struct jj_value *out);
int tt_jj_loop_attribute(struct jj_run *run, struct jj_loop *loop, const struct jj_string *name, struct jj_value *out);
int tt_jj_eval(struct jj_run *run, const struct jj_node *node, struct jj_value *out);
int tt_jj_eval_filter(struct jj_run *run, const struct jj_node *node, struct jj_value text, struct jj_value *out);
int tt_jj_eval_args(struct jj_run *run, const struct jj_node *node, struct jj_args *out);
int tt_jj_exec(struct jj_run *run, const struct jj_node *block, int *flow);
int tt_jj_call_macro(
	struct jj_run *run, const struct jj_macro *macro, const struct jj_args *args, struct jj_value *out);
int tt_jj_lookup(struct jj_run *run, const struct jj_string *name, struct jj_value *out);
int tt_jj_bind(struct jj_run *run, struct jj_scope *scope, const struct jj_string *name, struct jj_value value);

/* Tables */
const struct jj_native *tt_jj_search(const struct jj_native *table, size_t n, const char *name, size_t len);
const struct jj_native *tt_jj_filter(const char *name, size_t n);
const struct jj_native *tt_jj_sequence_filter(const char *name, size_t n);
const struct jj_native *tt_jj_test(const char *name, size_t n);
const struct jj_native *tt_jj_global(const char *name, size_t n);
const struct jj_native *tt_jj_string_method(const char *name, size_t n);
const struct jj_native *tt_jj_container_method(enum jj_kind kind, const char *name, size_t n);

#endif
