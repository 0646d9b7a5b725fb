/* What PTX declares: registers, parameters, memory; and the constants that its instructions name. */
#include <stdlib.h>
#include <string.h>

#include "kernels/emu/internal.h"
#include "kernels/emu/ptx/parse.h"

enum { N_HASHES = 1 << 15, MAX_COUNT = 1 << 20 };

/* The class of a register of that type and its bytes, 0 where there is no such type. */
static char class_of(struct text type, unsigned *n_bytes)
{
	static const struct {
		const char *names;
		char class;
		unsigned n_bytes;
	} types[] = {{".pred ", 'p', 0}, {".b8 .u8 .s8 ", 'b', 1}, {".b16 .u16 .s16 .f16 ", 'h', 2},
		{".b32 .u32 .s32 .f32 ", 'w', 4}, {".b64 .u64 .s64 .f64 ", 'q', 8}};
	char name[8];
	if (type.n + 2 > sizeof name)
		return 0;
	memcpy(name, type.at, type.n);
	strcpy(name + type.n, " ");
	for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
		if (type.n && strstr(types[i].names, name)) {
			*n_bytes = types[i].n_bytes;
			return types[i].class;
		}
	}
	return 0;
}

int32_t parse_place(struct parser *p, char class)
{
	uint32_t at = p->code->register_bytes;
	p->code->register_bytes += class == 'q' ? 8 * PTX_LANES : class == 'w' ? 4 * PTX_LANES : PTX_REGISTER;
	return (int32_t)at;
}

int32_t parse_constant(struct parser *p, char class, uint64_t value)
{
	unsigned size = class == 'p' ? 0 : class == 'h' ? 2 : class == 'w' ? 4 : 8;
	struct ptx_code *code = p->code;
	if (size && size < 8)
		value &= ((uint64_t)1 << 8 * size) - 1;
	uint64_t hash = (value + size) * 0x9e3779b97f4a7c15u >> 49;
	if (!p->constants) {
		if (!(p->constants = malloc(N_HASHES * sizeof *p->constants)))
			return parse_fail(p, "no memory");
		memset(p->constants, 0xff, N_HASHES * sizeof *p->constants);
	}
	for (; p->constants[hash] >= 0; hash = (hash + 1) % N_HASHES) {
		const struct ptx_constant *c = &code->constants[p->constants[hash]];
		if (c->value == value && c->size == size)
			return (int32_t)c->at;
	}
	if (code->n_constants >= N_HASHES / 2)
		return parse_fail(p, "more than %d constants", N_HASHES / 2);
	emu_grow(&code->constants, &p->constant_capacity, code->n_constants + 1, sizeof *code->constants);
	p->constants[hash] = (int32_t)code->n_constants;
	struct ptx_constant c = {value, (uint32_t)parse_place(p, class), (uint8_t)size};
	code->constants[code->n_constants++] = c;
	return (int32_t)c.at;
}

/* The register of that name in the innermost scope that has one. */
const struct declared *parse_register(const struct parser *p, struct text name, int32_t *at)
{
	uint32_t number = 0, tens = 1;
	size_t n = name.n;
	for (; n && tens <= MAX_COUNT && name.at[n - 1] >= '0' && name.at[n - 1] <= '9'; n--, tens *= 10)
		number += tens * (uint32_t)(name.at[n - 1] - '0');
	for (size_t i = p->n_declared; i-- > 0;) {
		const struct declared *d = &p->declared[i];
		bool single = !d->count && text_same(d->name, name);
		bool one_of = number < d->count && text_same(d->name, (struct text){name.at, n});
		if (!single && !one_of)
			continue;
		uint32_t each = d->class == 'q' ? 8 * PTX_LANES : d->class == 'w' ? 4 * PTX_LANES : PTX_REGISTER;
		*at = d->at + (int32_t)(one_of ? number * each : 0);
		return d;
	}
	return NULL;
}

bool parse_special(struct parser *p, struct text name, int32_t *at)
{
	static const struct {
		const char *name;
		enum ptx_special which;
	} names[] = {{"%tid.x", PTX_TID_X}, {"%tid.y", PTX_ZERO}, {"%tid.z", PTX_ZERO}, {"%ntid.x", PTX_NTID_X},
		{"%ntid.y", PTX_ONE}, {"%ntid.z", PTX_ONE}, {"%ctaid.x", PTX_CTAID_X}, {"%ctaid.y", PTX_CTAID_Y},
		{"%ctaid.z", PTX_CTAID_Z}, {"%nctaid.x", PTX_NCTAID_X}, {"%nctaid.y", PTX_NCTAID_Y},
		{"%nctaid.z", PTX_NCTAID_Z}, {"%laneid", PTX_LANEID}};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		if (!text_is(name, names[i].name))
			continue;
		int32_t *place = &p->code->specials[names[i].which];
		if (*place < 0)
			*place = parse_place(p, 'w');
		*at = *place;
		return true;
	}
	return false;
}

const struct symbol *parse_symbol(const struct parser *p, struct text name)
{
	for (size_t i = 0; i < p->n_symbols; i++)
		if (text_same(p->symbols[i].name, name))
			return &p->symbols[i];
	return NULL;
}

static void add_symbol(struct parser *p, struct text name, uint64_t value)
{
	emu_grow(&p->symbols, &p->symbol_capacity, p->n_symbols + 1, sizeof *p->symbols);
	p->symbols[p->n_symbols++] = (struct symbol){name, value};
}

struct variable {
	struct text name;
	uint64_t alignment, n_bytes; /* n_bytes 0: a size is not given */
};

/* `.align 8 .b8 name[24]`, where all but type and name may be missing. */
static bool parse_variable(struct parser *p, struct variable *out)
{
	struct text word = parse_word(p);
	unsigned element = 0;
	uint64_t count = 1;
	out->alignment = 0;
	if (text_is(word, ".align")) {
		if (!parse_number(p, &out->alignment))
			return false;
		word = parse_word(p);
	}
	if (!class_of(word, &element) || !element)
		return parse_fail(p, "unknown type %.*s", (int)word.n, word.at);
	out->name = parse_word(p);
	if (parse_is(p, '[')) {
		count = 0;
		if (!parse_is(p, ']') && (!parse_number(p, &count) || !parse_expect(p, ']')))
			return false;
	}
	if (count > MAX_COUNT)
		return parse_fail(p, "%.*s is too large", (int)out->name.n, out->name.at);
	out->n_bytes = count * element;
	if (!out->alignment)
		out->alignment = element;
	if (out->alignment & (out->alignment - 1) || out->alignment > 256)
		return parse_fail(p, "alignment %llu", (unsigned long long)out->alignment);
	return true;
}

bool parse_parameters(struct parser *p)
{
	struct ptx_code *code = p->code;
	size_t capacity = 0;
	struct variable v;
	if (!parse_expect(p, '('))
		return false;
	while (!parse_is(p, ')')) {
		struct text word = parse_word(p);
		if (!text_is(word, ".param"))
			return parse_fail(p, "unknown %.*s among parameters", (int)word.n, word.at);
		if (!parse_variable(p, &v))
			return false;
		uint32_t at = (code->parameter_bytes + (uint32_t)v.alignment - 1) & ~((uint32_t)v.alignment - 1);
		emu_grow(&code->parameters, &capacity, 2 * code->n_parameters + 2, sizeof *code->parameters);
		code->parameters[2 * code->n_parameters] = at;
		code->parameters[2 * code->n_parameters++ + 1] = (uint32_t)v.n_bytes;
		code->parameter_bytes = at + (uint32_t)v.n_bytes;
		add_symbol(p, v.name, at);
		parse_is(p, ',');
	}
	return true;
}

static bool parse_registers(struct parser *p)
{
	unsigned n_bytes;
	struct text type = parse_word(p);
	char class = class_of(type, &n_bytes);
	if (!class || class == 'b')
		return parse_fail(p, "unknown register type %.*s", (int)type.n, type.at);
	do {
		struct declared d = {parse_word(p), 0, class, 0, p->scope};
		uint64_t count = 0;
		if (!d.name.n)
			return parse_fail(p, "no name of a register");
		if (parse_is(p, '<') && (!parse_number(p, &count) || !parse_expect(p, '>')))
			return false;
		if (count > MAX_COUNT)
			return parse_fail(p, "too many registers");
		d.count = (uint32_t)count;
		d.at = parse_place(p, class);
		for (uint64_t i = 1; i < count; i++)
			parse_place(p, class);
		emu_grow(&p->declared, &p->declared_capacity, p->n_declared + 1, sizeof *p->declared);
		p->declared[p->n_declared++] = d;
	} while (parse_is(p, ','));
	return parse_expect(p, ';');
}

static bool skip_to(struct parser *p, char c)
{
	while (p->at < p->end && *p->at != c) {
		p->line += *p->at == '\n';
		p->at++;
	}
	if (p->at == p->end)
		return parse_fail(p, "ends before '%c'", c);
	if (c != '\n')
		p->at++;
	return true;
}

bool parse_directive(struct parser *p)
{
	struct text word = parse_word(p);
	struct variable v;
	if (text_is(word, ".reg"))
		return parse_registers(p);
	if (text_is(word, ".loc"))
		return skip_to(p, '\n');
	if (text_is(word, ".pragma"))
		return skip_to(p, ';');
	if (!text_is(word, ".local"))
		return parse_fail(p, "unknown directive %.*s", (int)word.n, word.at);
	if (!parse_variable(p, &v))
		return false;
	uint32_t at = (p->code->local_bytes + (uint32_t)v.alignment - 1) & ~((uint32_t)v.alignment - 1);
	p->code->local_bytes = at + (uint32_t)v.n_bytes;
	add_symbol(p, v.name, PTX_LOCAL + at);
	return parse_expect(p, ';');
}

/* Constant data of the file: bytes in braces. */
static bool parse_data(struct parser *p, const struct variable *v)
{
	struct ptx_code *code = p->code;
	uint64_t value = 0, n = 0;
	if (code->data)
		return parse_fail(p, "more than one variable in global memory");
	if (!(code->data = calloc(1, v->n_bytes + 1)))
		return parse_fail(p, "no memory");
	code->data_bytes = v->n_bytes;
	if (parse_is(p, '=')) {
		if (!parse_expect(p, '{'))
			return false;
		do {
			if (!parse_number(p, &value) || n >= v->n_bytes || value > 255)
				return parse_fail(p, "data of %.*s", (int)v->name.n, v->name.at);
			code->data[n++] = (unsigned char)value;
		} while (parse_is(p, ','));
		if (!parse_expect(p, '}'))
			return false;
	}
	add_symbol(p, v->name, (uintptr_t)code->data);
	return parse_expect(p, ';');
}

bool parse_header(struct parser *p)
{
	struct variable v;
	for (parse_space(p); p->at < p->end && !p->failed; parse_space(p)) {
		struct text word = parse_word(p);
		if (text_is(word, ".version") || text_is(word, ".target") || text_is(word, ".address_size") ||
			text_is(word, ".file")) {
			skip_to(p, '\n');
		} else if (text_is(word, ".extern")) {
			word = parse_word(p);
			if (!text_is(word, ".shared") || !parse_variable(p, &v) || v.n_bytes)
				return parse_fail(p, "only a block's dynamic shared memory may be external");
			add_symbol(p, v.name, PTX_SHARED);
			parse_expect(p, ';');
		} else if (text_is(word, ".global")) {
			if (!parse_variable(p, &v) || !parse_data(p, &v))
				return false;
		} else {
			return parse_fail(p, "unknown declaration %.*s", (int)word.n, word.at);
		}
	}
	return !p->failed;
}
