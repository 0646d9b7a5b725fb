/* What the parts of the parser share. */
#ifndef KERNELS_EMU_PTX_PARSE_H
#define KERNELS_EMU_PTX_PARSE_H

#include "kernels/emu/ptx/code.h"

struct text { /* a piece of the file */
	const char *at;
	size_t n;
};

/* Registers that one declaration names: `%r<8>` are 8 with a number behind the name. */
struct declared {
	struct text name;
	uint32_t count; /* 0: one register, without a number */
	char class;     /* p, h, w or q */
	int32_t at;
	unsigned scope;
};

struct symbol { /* a name whose value is an address in its own space */
	struct text name;
	uint64_t value;
};

struct label {
	struct text name;
	int32_t at;
	unsigned scope;
};
struct reference { /* a branch to a label that may come later */
	struct text name;
	size_t operand; /* where its number goes */
	unsigned scope;
	uint32_t line;
};

/* An operand as it is written. */
struct operand {
	enum { IS_REGISTER, IS_NUMBER, IS_NAME, IS_ADDRESS, IS_SINK } kind;
	char class;
	int32_t at;
	uint64_t number; /* its value, or an address's offset */
	struct text name;
	bool has_base, known; /* known: the name is a symbol, whose value is the number */
};

struct parser {
	const char *file, *at, *end;
	uint32_t line;
	unsigned scope;
	char *message;
	bool failed;
	struct ptx_code *code;
	const struct ptx_row **rows; // [n_rows], by name
	size_t n_rows;
	struct declared *declared; // [n_declared]
	struct symbol *symbols;    // [n_symbols]
	struct label *labels;      // [n_labels]
	struct reference *references;
	int32_t *operands;  // of all instructions
	size_t *first;      // [n_instructions] where an instruction's operands begin
	int32_t *constants; // [N_HASHES] by value, -1: none
	size_t n_declared, n_symbols, n_labels, n_references, n_operands;
	size_t declared_capacity, symbol_capacity, label_capacity, reference_capacity, operand_capacity, first_capacity,
		instruction_capacity, constant_capacity;
	int32_t trash; /* where results without a register go */
};

/* The first message counts; returns false. */
bool parse_fail(struct parser *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* lex.c */
void parse_space(struct parser *p);          /* spaces, lines, comments */
bool parse_is(struct parser *p, char c);     /* takes c, if it is next */
bool parse_expect(struct parser *p, char c); /* takes c, or fails */
struct text parse_word(struct parser *p);    /* a name with its dots and double colons; empty where none is */
bool parse_number(struct parser *p, uint64_t *out);
bool text_is(struct text text, const char *other);
bool text_same(struct text a, struct text b);

/* declare.c */
bool parse_header(struct parser *p);               /* what a file declares before its entries */
bool parse_parameters(struct parser *p);           /* of an entry, from its brace on */
bool parse_directive(struct parser *p);            /* in a body, from the dot on */
int32_t parse_place(struct parser *p, char class); /* room for a register */
int32_t parse_constant(struct parser *p, char class, uint64_t value);
const struct declared *parse_register(const struct parser *p, struct text name, int32_t *at);
bool parse_special(struct parser *p, struct text name, int32_t *at);
const struct symbol *parse_symbol(const struct parser *p, struct text name);

#endif
