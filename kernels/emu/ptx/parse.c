/* The text of an entry becomes instructions. Trusted to be nvcc's; what is not understood is named with its line. */
#include <stdlib.h>
#include <string.h>

#include "kernels/emu/internal.h"
#include "kernels/emu/ptx/parse.h"

static void add_operand(struct parser *p, int32_t value)
{
	emu_grow(&p->operands, &p->operand_capacity, p->n_operands + 1, sizeof *p->operands);
	p->operands[p->n_operands++] = value;
}

/* A register, a number, or a name that is none: a symbol, a label or _. */
static bool read_name(struct parser *p, struct operand *o)
{
	struct text word = parse_word(p);
	const struct declared *d = word.n ? parse_register(p, word, &o->at) : NULL;
	const struct symbol *symbol = d ? NULL : parse_symbol(p, word);
	*o = (struct operand){.kind = IS_NAME, .name = word, .at = o->at};
	if (!word.n)
		return parse_fail(p, "no operand");
	if (text_is(word, "_")) {
		o->kind = IS_SINK;
	} else if (d) {
		o->kind = IS_REGISTER;
		o->class = d->class;
	} else if (parse_special(p, word, &o->at)) {
		o->kind = IS_REGISTER;
		o->class = 'w';
	} else if (symbol) {
		o->known = true;
		o->number = symbol->value;
	} else if (word.at[0] == '%') {
		return parse_fail(p, "unknown register %.*s", (int)word.n, word.at);
	}
	return true;
}

static bool starts_number(const struct parser *p)
{
	return p->at < p->end && (*p->at == '-' || (*p->at >= '0' && *p->at <= '9'));
}

static bool read_address(struct parser *p, struct operand *o)
{
	struct operand base = {0};
	uint64_t offset = 0;
	parse_space(p);
	if (starts_number(p)) {
		base.known = true;
		base.kind = IS_NAME;
		if (!parse_number(p, &base.number))
			return false;
	} else if (!read_name(p, &base)) {
		return false;
	}
	if (parse_is(p, '+') && !parse_number(p, &offset))
		return false;
	if (base.kind == IS_NAME && !base.known)
		return parse_fail(p, "unknown address %.*s", (int)base.name.n, base.name.at);
	*o = base;
	o->has_base = base.kind == IS_REGISTER;
	o->kind = IS_ADDRESS;
	o->number = o->has_base ? offset : base.number + offset;
	return parse_expect(p, ']');
}

static size_t read_operands(struct parser *p, struct operand operands[PTX_MAX_OPERANDS])
{
	size_t n = 0;
	while (!parse_is(p, ';') && !p->failed) {
		if (parse_is(p, ',') || parse_is(p, '|') || parse_is(p, '{') || parse_is(p, '}'))
			continue;
		if (n == PTX_MAX_OPERANDS) {
			parse_fail(p, "more than %d operands", PTX_MAX_OPERANDS);
			break;
		}
		struct operand *o = &operands[n++];
		memset(o, 0, sizeof *o);
		if (parse_is(p, '['))
			read_address(p, o);
		else if (starts_number(p) && parse_number(p, &o->number))
			o->kind = IS_NUMBER;
		else
			read_name(p, o);
		if (p->at >= p->end)
			parse_fail(p, "ends within an instruction");
	}
	return n;
}

static bool matches(char letter, const struct operand *o)
{
	switch (letter) {
	case 'p':
		return o->kind == IS_NUMBER || (o->kind == IS_REGISTER && o->class == 'p');
	case 'h':
	case 'w':
	case 'q':
		return o->kind == IS_NUMBER || (o->kind == IS_NAME && o->known) ||
		       (o->kind == IS_REGISTER && o->class == letter);
	case 'P':
	case 'H':
	case 'W':
	case 'Q':
		return o->kind == IS_SINK || (o->kind == IS_REGISTER && o->class == letter - 'A' + 'a');
	case 's':
		return o->kind == IS_ADDRESS && (!o->has_base || o->class == 'w');
	case 'g':
	case 'l':
	case 'a':
		return o->kind == IS_ADDRESS && (!o->has_base || o->class == 'q');
	case 'n':
		return o->kind == IS_NUMBER;
	case 't':
		return o->kind == IS_NAME && !o->known;
	case '_':
		return o->kind == IS_SINK;
	}
	return false;
}

static bool all_match(const struct ptx_row *row, const struct operand *operands, size_t n)
{
	if (strlen(row->operands) != n)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!matches(row->operands[i], &operands[i]))
			return false;
	return true;
}

static void write_operand(struct parser *p, char letter, const struct operand *o)
{
	bool address = letter == 's' || letter == 'g' || letter == 'l' || letter == 'a';
	if (address) {
		/* an address without a register is the register of a constant */
		add_operand(p, o->has_base ? o->at : parse_constant(p, letter == 's' ? 'w' : 'q', o->number));
		add_operand(p, o->has_base ? (int32_t)o->number : 0);
	} else if (letter == 'n') {
		add_operand(p, (int32_t)o->number);
	} else if (letter == 't') {
		emu_grow(&p->references, &p->reference_capacity, p->n_references + 1, sizeof *p->references);
		p->references[p->n_references++] = (struct reference){o->name, p->n_operands, p->scope, p->line};
		add_operand(p, -1);
	} else if (letter == 'p' && o->kind == IS_NUMBER) {
		add_operand(p, parse_constant(p, 'p', o->number ? UINT32_MAX : 0));
	} else if (o->kind == IS_SINK) {
		add_operand(p, p->trash);
	} else if (o->kind == IS_REGISTER) {
		add_operand(p, o->at);
	} else {
		add_operand(p, parse_constant(p, letter, o->number));
	}
}

/* The first row of that name; the rows are in the order of names. */
static size_t first_row(const struct parser *p, struct text name)
{
	size_t low = 0, high = p->n_rows;
	while (low < high) {
		size_t middle = (low + high) / 2;
		const char *other = p->rows[middle]->name;
		int order = strncmp(other, name.at, name.n);
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool read_instruction(struct parser *p, struct text name, struct ptx_instruction *out)
{
	struct operand operands[PTX_MAX_OPERANDS];
	const struct ptx_row *found = NULL;
	bool known = false;
	out->line = p->line;
	size_t n = read_operands(p, operands);
	if (p->failed)
		return false;
	/* names that go on after this one stand among its rows */
	for (size_t i = first_row(p, name); i < p->n_rows && !found; i++) {
		if (strncmp(p->rows[i]->name, name.at, name.n) != 0)
			break;
		if (!text_is(name, p->rows[i]->name))
			continue;
		known = true;
		if (all_match(p->rows[i], operands, n))
			found = p->rows[i];
	}
	if (!found)
		return parse_fail(
			p, known ? "unknown operands of %.*s" : "unknown instruction %.*s", (int)name.n, name.at);
	out->row = found;
	out->run = found->run;
	out->flow = found->flow;
	emu_grow(&p->first, &p->first_capacity, p->code->n_instructions + 1, sizeof *p->first);
	p->first[p->code->n_instructions] = p->n_operands;
	for (size_t i = 0; i < n; i++)
		write_operand(p, found->operands[i], &operands[i]);
	return !p->failed;
}

static bool read_guard(struct parser *p, struct ptx_instruction *out)
{
	out->guard = -1;
	out->unless = false;
	if (!parse_is(p, '@'))
		return true;
	out->unless = parse_is(p, '!');
	struct text word = parse_word(p);
	const struct declared *d = parse_register(p, word, &out->guard);
	return d && d->class == 'p' ? true : parse_fail(p, "unknown guard %.*s", (int)word.n, word.at);
}

/* Labels of a scope that ends; a branch to none of them may mean one of the scope around it. */
static bool resolve(struct parser *p)
{
	size_t kept = 0;
	for (size_t i = 0; i < p->n_references; i++) {
		struct reference r = p->references[i];
		size_t k = p->n_labels;
		while (r.scope == p->scope && k &&
			!(p->labels[k - 1].scope == p->scope && text_same(p->labels[k - 1].name, r.name)))
			k--;
		if (r.scope == p->scope && k) {
			p->operands[r.operand] = p->labels[k - 1].at;
			continue;
		}
		if (r.scope == p->scope && !p->scope) {
			p->line = r.line;
			return parse_fail(p, "unknown label %.*s", (int)r.name.n, r.name.at);
		}
		if (r.scope == p->scope)
			r.scope--;
		p->references[kept++] = r;
	}
	p->n_references = kept;
	while (p->n_labels && p->labels[p->n_labels - 1].scope == p->scope && p->scope)
		p->n_labels--;
	while (p->n_declared && p->declared[p->n_declared - 1].scope == p->scope)
		p->n_declared--;
	return true;
}

static bool read_statement(struct parser *p)
{
	struct ptx_code *code = p->code;
	struct ptx_instruction new = {0};
	if (*p->at == '.')
		return parse_directive(p);
	if (!read_guard(p, &new))
		return false;
	struct text word = parse_word(p);
	if (!word.n)
		return parse_fail(p, "'%c' where an instruction belongs", *p->at);
	if (new.guard < 0 && parse_is(p, ':')) {
		emu_grow(&p->labels, &p->label_capacity, p->n_labels + 1, sizeof *p->labels);
		p->labels[p->n_labels++] = (struct label){word, (int32_t)code->n_instructions, p->scope};
		return true;
	}
	if (!read_instruction(p, word, &new))
		return false;
	emu_grow(&code->instructions, &p->instruction_capacity, code->n_instructions + 1, sizeof *code->instructions);
	code->instructions[code->n_instructions++] = new;
	return true;
}

static bool read_body(struct parser *p)
{
	if (!parse_expect(p, '{'))
		return false;
	for (;;) {
		if (parse_is(p, '{')) {
			p->scope++;
		} else if (parse_is(p, '}')) {
			if (!resolve(p))
				return false;
			if (!p->scope)
				return true;
			p->scope--;
		} else if (p->at >= p->end) {
			return parse_fail(p, "ends within a body");
		} else if (!read_statement(p)) {
			return false;
		}
	}
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(const struct ptx_row *const *)a)->name, (*(const struct ptx_row *const *)b)->name);
}

static void take_rows(struct parser *p, const struct ptx_row *const *tables)
{
	size_t capacity = 0;
	for (; *tables; tables++) {
		for (const struct ptx_row *row = *tables; row->name; row++) {
			emu_grow(&p->rows, &capacity, p->n_rows + 1, sizeof *p->rows);
			p->rows[p->n_rows++] = row;
		}
	}
	qsort(p->rows, p->n_rows, sizeof *p->rows, by_name);
}

static bool read_entry(struct parser *p)
{
	struct text word = parse_word(p);
	if (!text_is(word, ".entry"))
		return parse_fail(p, "%.*s where .entry belongs", (int)word.n, word.at);
	parse_word(p);
	if (!parse_parameters(p))
		return false;
	while (parse_space(p), p->at < p->end && *p->at == '.') {
		uint64_t unused;
		parse_word(p); /* .maxntid and the like say nothing to an interpreter */
		do
			if (!parse_number(p, &unused))
				return false;
		while (parse_is(p, ','));
	}
	return read_body(p);
}

/* Operands are found by their number until all are read, since their array moves. */
static bool finish(struct parser *p)
{
	struct ptx_code *code = p->code;
	if (!code->n_instructions || code->instructions[code->n_instructions - 1].flow == PTX_PLAIN)
		return parse_fail(p, "runs past its end");
	int32_t *operands = p->operands;
	code->operands = operands;
	p->operands = NULL;
	for (size_t i = 0; i < code->n_instructions; i++)
		code->instructions[i].operands = operands + p->first[i];
	for (const struct label *l = p->labels; l < p->labels + p->n_labels; l++)
		if ((size_t)l->at >= code->n_instructions)
			return parse_fail(p, "a label behind the last instruction");
	return true;
}

struct ptx_code *ptx_parse(const struct ptx_text *text, const struct ptx_row *const *tables, char *message)
{
	struct parser p = {.file = text->file, .message = message};
	struct ptx_code *code = p.code = calloc(1, sizeof *code);
	if (!code)
		return NULL;
	for (int i = 0; i < PTX_SPECIALS; i++)
		code->specials[i] = -1;
	code->file = text->file;
	p.trash = parse_place(&p, 'q');
	take_rows(&p, tables);
	p.at = text->header;
	p.end = text->header_end;
	p.line = 1;
	bool ok = parse_header(&p);
	if (ok) {
		p.at = text->entry;
		p.end = text->end;
		p.line = text->line;
		ok = read_entry(&p) && finish(&p);
	}
	free(p.rows);
	free(p.declared);
	free(p.symbols);
	free(p.labels);
	free(p.references);
	free(p.operands);
	free(p.first);
	free(p.constants);
	if (ok)
		return code;
	ptx_free(code);
	return NULL;
}

void ptx_free(struct ptx_code *code)
{
	if (!code)
		return;
	free(code->instructions);
	free(code->constants);
	free(code->parameters);
	free(code->operands);
	free(code->data);
	free(code);
}
