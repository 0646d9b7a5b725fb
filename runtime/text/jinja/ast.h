/* Tokens, the syntax tree and the parser. Private to the interpreter. */
#ifndef RUNTIME_TEXT_JINJA_AST_H
#define RUNTIME_TEXT_JINJA_AST_H

#include "runtime/text/jinja/jinja.h"
#include "runtime/text/jinja/value.h"

/* Templates are kilobytes; the largest known is 30 KB. */
#define JJ_MAX_SOURCE ((size_t)1 << 20)
#define JJ_MAX_MEMORY ((size_t)256 << 20)
#define JJ_MAX_NESTING 200

enum jj_token_kind {
	JJ_T_EOF,
	JJ_T_DATA,
	JJ_T_VARIABLE_BEGIN,
	JJ_T_VARIABLE_END,
	JJ_T_BLOCK_BEGIN,
	JJ_T_BLOCK_END,
	JJ_T_NAME,
	JJ_T_STRING,
	JJ_T_INT,
	JJ_T_FLOAT,
	JJ_T_OPERATOR,
};

/* An operator is its character, or two of them. */
#define JJ_OP2(a, b) ((a) << 8 | (b))

struct jj_token {
	uint8_t kind; /* enum jj_token_kind */
	uint16_t op;
	uint32_t line;
	struct jj_value value; /* a string for data, names and strings */
};

struct jj_tokens {
	struct jj_token *data; /* [len]; ends with JJ_T_EOF */
	size_t len, capacity;
};

/* Splits source, whose newlines are all \n, into tokens; trims white space by the rules of trim_blocks and
 * lstrip_blocks. The data is allocated with tt_grow. */
int tt_jj_lex(struct jj_tokens *out, struct jj_arena *arena, const char *source, size_t n, const char *name);

enum jj_node_kind {
	/* expressions */
	JJ_N_CONST,
	JJ_N_NAME,
	JJ_N_ATTR,   /* a.text */
	JJ_N_ITEM,   /* a[b] */
	JJ_N_SLICE,  /* a[items]: three items, NULL where not given */
	JJ_N_CALL,   /* a(items, keywords) */
	JJ_N_FILTER, /* a|native(items, keywords); a is NULL if the text of a block is filtered */
	JJ_N_TEST,   /* a is native(items, keywords) */
	JJ_N_NOT,    /* a; NEG and POS too have this one operand */
	JJ_N_NEG,
	JJ_N_POS,
	JJ_N_AND, /* a and b; OR has the same */
	JJ_N_OR,
	JJ_N_BINARY,  /* a op b */
	JJ_N_CONCAT,  /* the items, joined as text */
	JJ_N_COMPARE, /* a, then the items, each a JJ_N_OPERAND */
	JJ_N_OPERAND, /* op a */
	JJ_N_COND,    /* b if a else c; c may be NULL */
	JJ_N_LIST,    /* items */
	JJ_N_TUPLE,   /* items */
	JJ_N_DICT,    /* items: key, value, key, value */
	/* statements */
	JJ_N_DATA,      /* value */
	JJ_N_PRINT,     /* a */
	JJ_N_IF,        /* items: test, block, test, block ..; a: the else block or NULL */
	JJ_N_FOR,       /* for a in b if c; d the block, e the else block or NULL */
	JJ_N_SET,       /* a = b */
	JJ_N_SET_BLOCK, /* a = the text of d, through the filters b (NULL for none) */
	JJ_N_MACRO,     /* text(items) d; keywords hold the defaults of the last parameters */
	JJ_N_FILTERED,  /* the text of d through the filters b */
	JJ_N_WITH,      /* keywords around d */
	JJ_N_BLOCK,     /* items; scope when it opens one */
	JJ_N_BREAK,
	JJ_N_CONTINUE,
};

/* jinja2 works this out when it compiles: a name that a scope assigns before it reads it hides the context's, from the
 * start of the scope. */
struct jj_scope_info {
	struct jj_scope_info *parent, *next; /* next: in order of creation */
	struct jj_symbol {
		const struct jj_string *name;
		bool stored_first;
	} * symbols; /* [n] */
	size_t n, capacity;
	const struct jj_string **hidden; /* [n_hidden] */
	size_t n_hidden;
};

struct jj_node {
	uint8_t kind;   /* enum jj_node_kind */
	bool variadic;  /* for a macro: its body names varargs or kwargs */
	uint16_t op;    /* the operator; in JJ_N_OPERAND also 'i' (in) and 'n' (not in) */
	uint16_t depth; /* of the tree below this node */
	uint32_t line;
	uint32_t n_items, n_keywords;
	const struct jj_string *text;
	struct jj_value value;
	struct jj_node *a, *b, *c, *d, *e;
	struct jj_node **items; /* [n_items] */
	struct jj_keyword {
		const struct jj_string *name;
		struct jj_node *value;
	} * keywords;                   /* [n_keywords] */
	const struct jj_native *native; /* NULL if no filter or test has this name: refused when it is reached */
	const struct jj_scope_info *scope;
};

struct jj_parser {
	const char *name;
	struct jj_arena *arena;
	const struct jj_token *token; /* the current one */
	int status;                   /* why NULL was returned */
	uint32_t depth;
	uint32_t if_depth;   /* inside the current scope */
	uint32_t loop_depth; /* inside the current macro */
	bool soft;           /* inside an if: unknown filters are refused only when reached, as in jinja2 */
	struct jj_node *macro;
	struct jj_scope_info *scope, *scopes, *last_scope;
};

/* The parts of the parser. If one fails, it returns NULL and sets parser->status. */
struct jj_node *tt_jj_parse_expression(struct jj_parser *parser, bool with_condition);
/* Commas make a tuple. empty: () is a tuple too. */
struct jj_node *tt_jj_parse_tuple(struct jj_parser *parser, bool with_condition, bool empty);
struct jj_node *tt_jj_parse_filters(struct jj_parser *parser, struct jj_node *value, bool inline_first);
struct jj_node *tt_jj_node(struct jj_parser *parser, enum jj_node_kind kind, uint32_t line);
/* Appends child to node->items; in a slice, child may be NULL. */
bool tt_jj_push(struct jj_parser *parser, struct jj_node *node, size_t *capacity, struct jj_node *child);
bool tt_jj_push_keyword(struct jj_parser *parser, struct jj_node *node, size_t *capacity, const struct jj_string *name,
	struct jj_node *value);
/* Counts the depth below node; false when it is too deep. */
bool tt_jj_adopt(struct jj_parser *parser, struct jj_node *node, const struct jj_node *child);
void tt_jj_note(struct jj_parser *parser, const struct jj_string *name, bool stored);
struct jj_node *tt_jj_refuse(struct jj_parser *parser, int code, uint32_t line, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
bool tt_jj_is_name(const struct jj_token *token, const char *word);
bool tt_jj_is_op(const struct jj_token *token, unsigned op);
bool tt_jj_expect_op(struct jj_parser *parser, unsigned op);

#endif
