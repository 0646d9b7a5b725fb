/* Attributes, items, slices and operators, and calls of the interpreter's own functions. */
#include <math.h>
#include <string.h>

#include "base/fail.h"
#include "runtime/text/jinja/run.h"

const struct jj_native *tt_jj_search(const struct jj_native *table, size_t n, const char *name, size_t len)
{
	for (size_t i = 0; i < n; i++)
		if (strlen(table[i].name) == len && memcmp(table[i].name, name, len) == 0)
			return &table[i];
	return NULL;
}

static int bound(struct jj_run *run, const struct jj_native *native, struct jj_value self, struct jj_value *out)
{
	struct jj_bound *method = NULL;
	TT_TRY(tt_jj_alloc(&run->arena, &method, 1, sizeof *method));
	*method = (struct jj_bound){native, self};
	*out = (struct jj_value){.kind = JJ_NATIVE, .bound = method};
	return TT_OK;
}

/* Whether Python has a method of this name that the interpreter lacks. It is refused, since foo.bar must not fall
 * through to foo["bar"] where Python finds a method. Names with underscores, and those that change the object, are
 * undefined in the sandbox. */
static bool is_other_attribute(struct jj_value of, const struct jj_string *name)
{
	static const char *const of_string = " casefold center encode expandtabs format_map isascii isidentifier "
					     "isprintable isnumeric ljust maketrans rjust translate zfill ";
	static const char *const of_dict = " fromkeys ";
	const char *names = of.kind == JJ_STRING ? of_string : of.kind == JJ_DICT ? of_dict : "", *at = names;
	while (name->len && (at = strstr(at, " ")) != NULL && at[1]) {
		at++;
		if (strncmp(at, name->data, name->len) == 0 && at[name->len] == ' ')
			return true;
	}
	return false;
}

static bool is_unsafe(struct jj_value of, const struct jj_string *name)
{
	static const char *const list_names[] = {
		"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"};
	static const char *const dict_names[] = {"clear", "pop", "popitem", "setdefault", "update"};
	const char *const *names = of.kind == JJ_LIST ? list_names : dict_names;
	size_t n = of.kind == JJ_LIST ? 8 : of.kind == JJ_DICT ? 5 : 0;
	for (size_t i = 0; i < n; i++)
		if (strlen(names[i]) == name->len && memcmp(names[i], name->data, name->len) == 0)
			return true;
	return name->len > 1 && name->data[0] == '_' && name->data[1] == '_';
}

/* getattr(); *found is false if the object has no such attribute. */
static int python_attribute(
	struct jj_run *run, struct jj_value of, const struct jj_string *name, struct jj_value *out, bool *found)
{
	const struct jj_native *method = NULL;
	const struct jj_value *value;
	*found = true;
	*out = (struct jj_value){.kind = JJ_UNDEFINED, .string = name};
	if (of.kind == JJ_NAMESPACE) {
		value = tt_jj_find_text(of.dict, name);
		*found = value != NULL;
		if (value)
			*out = *value;
		return TT_OK;
	}
	if (of.kind == JJ_LOOP)
		return tt_jj_loop_attribute(run, of.loop, name, out);
	if (is_unsafe(of, name))
		return TT_OK;
	if (of.kind == JJ_STRING)
		method = tt_jj_string_method(name->data, name->len);
	else
		method = tt_jj_container_method((enum jj_kind)of.kind, name->data, name->len);
	if (method)
		return bound(run, method, of, out);
	if (is_other_attribute(of, name))
		return tt_jj_fail(run, TT_ERR_UNSUPPORTED, "%s.%.*s is not supported", tt_jj_type(of),
			name->len > 50 ? 50 : (int)name->len, name->data);
	*found = false;
	return TT_OK;
}

int tt_jj_attribute(struct jj_run *run, struct jj_value of, const struct jj_string *name, struct jj_value *out)
{
	const struct jj_value *value = NULL;
	bool found;
	if (of.kind == JJ_UNDEFINED)
		return tt_jj_undefined(run, of);
	TT_TRY(python_attribute(run, of, name, out, &found));
	if (!found && of.kind == JJ_DICT) {
		TT_TRY(tt_jj_charge(run, of.dict->n / 8));
		value = tt_jj_find_text(of.dict, name);
	}
	if (value)
		*out = *value;
	return TT_OK;
}

static int element(struct jj_run *run, struct jj_value of, int64_t index, struct jj_value *out)
{
	int64_t n;
	TT_TRY(tt_jj_length(run, of, &n));
	if (index < 0)
		index += n;
	if (index < 0 || index >= n)
		return TT_OK;
	if (of.kind == JJ_STRING) {
		const struct jj_string *s = of.string;
		size_t from = tt_jj_offset(s->data, s->len, (size_t)index), to = from;
		tt_jj_decode(s->data, s->len, &to);
		return tt_jj_part(run, s, from, to, out);
	}
	*out = of.kind == JJ_RANGE ? tt_jj_int(of.range->start + index * of.range->step) : of.list->items[index];
	return TT_OK;
}

int tt_jj_item(struct jj_run *run, struct jj_value of, struct jj_value key, struct jj_value *out)
{
	bool found;
	if (of.kind == JJ_UNDEFINED)
		return tt_jj_undefined(run, of);
	*out = (struct jj_value){.kind = JJ_UNDEFINED, .string = key.kind == JJ_STRING ? key.string : NULL};
	if (of.kind == JJ_DICT && key.kind != JJ_LIST && key.kind != JJ_DICT) {
		const struct jj_value *value;
		TT_TRY(tt_jj_find(run, of.dict, key, &value));
		if (value) {
			*out = *value;
			return TT_OK;
		}
	}
	if ((key.kind == JJ_INT || key.kind == JJ_BOOL) &&
		(of.kind == JJ_STRING || of.kind == JJ_LIST || of.kind == JJ_TUPLE || of.kind == JJ_RANGE))
		return element(run, of, key.kind == JJ_BOOL ? key.boolean : key.integer, out);
	return key.kind == JJ_STRING ? python_attribute(run, of, key.string, out, &found) : TT_OK;
}

static int slice_bound(struct jj_run *run, struct jj_value value, int64_t missing, int64_t *out, bool *given)
{
	*given = value.kind != JJ_MISSING && value.kind != JJ_NONE;
	*out = missing;
	if (!*given)
		return TT_OK;
	if (value.kind != JJ_INT && value.kind != JJ_BOOL)
		return tt_jj_fail(run, TT_ERR_FORMAT, "slice indices must be integers or None");
	*out = value.kind == JJ_BOOL ? value.boolean : value.integer;
	return TT_OK;
}

static int64_t clamp(int64_t at, int64_t n, int64_t low, int64_t high)
{
	if (at < 0)
		at += n;
	return at < low ? low : at > high ? high : at;
}

static int slice_string(struct jj_run *run, const struct jj_string *s, int64_t start, int64_t step, size_t n,
	int64_t length, struct jj_value *out)
{
	bool ascii = (size_t)length == s->len;
	if (step == 1) {
		size_t from = ascii ? (size_t)start : tt_jj_offset(s->data, s->len, (size_t)start);
		size_t to = ascii ? from + n : from + tt_jj_offset(s->data + from, s->len - from, n);
		return tt_jj_part(run, s, from, to, out);
	}
	struct jj_builder builder = tt_jj_builder(run);
	for (size_t i = 0; i < n; i++) {
		size_t at = (size_t)(start + (int64_t)i * step);
		size_t from = ascii ? at : tt_jj_offset(s->data, s->len, at), to = from;
		TT_TRY(tt_jj_charge(run, ascii ? 1 : 1 + s->len / 64));
		tt_jj_decode(s->data, s->len, &to);
		TT_TRY(tt_jj_add_part(&builder, s, from, to));
	}
	return tt_jj_finish(&builder, false, out);
}

static int slice_range(
	struct jj_run *run, const struct jj_range *of, int64_t start, int64_t step, size_t n, struct jj_value *out)
{
	struct jj_range *range = NULL;
	TT_TRY(tt_jj_alloc(&run->arena, &range, 1, sizeof *range));
	*range = (struct jj_range){of->start + start * of->step, n > 1 ? step * of->step : of->step, n};
	*out = (struct jj_value){.kind = JJ_RANGE, .range = range};
	return TT_OK;
}

/* v: start, stop, step. */
int tt_jj_slice(struct jj_run *run, struct jj_value of, const struct jj_value v[3], struct jj_value *out)
{
	int64_t n, step, start, stop;
	bool given;
	struct jj_value *items = NULL;
	if (of.kind == JJ_UNDEFINED)
		return tt_jj_undefined(run, of);
	if (of.kind != JJ_STRING && of.kind != JJ_LIST && of.kind != JJ_TUPLE && of.kind != JJ_RANGE)
		return tt_jj_fail(run, TT_ERR_FORMAT, "a %s cannot be sliced", tt_jj_type(of));
	TT_TRY(tt_jj_length(run, of, &n));
	TT_TRY(slice_bound(run, v[2], 1, &step, &given));
	if (step == 0)
		return tt_jj_fail(run, TT_ERR_FORMAT, "slice step cannot be zero");
	/* A step past the length takes one element, whatever its size; smaller steps cannot overflow. */
	step = step > n + 1 ? n + 1 : step < -n - 1 ? -n - 1 : step;
	TT_TRY(slice_bound(run, v[0], step > 0 ? 0 : n - 1, &start, &given));
	if (given)
		start = step > 0 ? clamp(start, n, 0, n) : clamp(start, n, -1, n - 1);
	TT_TRY(slice_bound(run, v[1], step > 0 ? n : -1, &stop, &given));
	if (given)
		stop = step > 0 ? clamp(stop, n, 0, n) : clamp(stop, n, -1, n - 1);
	int64_t count = step > 0 ? (stop - start + step - 1) / step : (start - stop - step - 1) / -step;
	size_t taken = (step > 0 ? start < stop : start > stop) ? (size_t)count : 0;
	if (of.kind == JJ_STRING)
		return slice_string(run, of.string, taken ? start : 0, step, taken, n, out);
	if (of.kind == JJ_RANGE)
		return slice_range(run, of.range, start, step, taken, out);
	TT_TRY(tt_jj_charge(run, taken));
	TT_TRY(tt_jj_alloc(&run->arena, &items, taken, sizeof *items));
	for (size_t i = 0; i < taken; i++)
		items[i] = of.list->items[start + (int64_t)i * step];
	return tt_jj_new_list(run, (enum jj_kind)of.kind, items, taken, out);
}

static bool is_integral(struct jj_value value)
{
	return value.kind == JJ_INT || value.kind == JJ_BOOL;
}

static int64_t integral(struct jj_value value)
{
	return value.kind == JJ_BOOL ? value.boolean : value.integer;
}

static int integer_power(struct jj_run *run, int64_t base, int64_t exponent, struct jj_value *out)
{
	int64_t result = 1;
	bool wide = false;
	if (exponent < 0) {
		*out = tt_jj_float(pow((double)base, (double)exponent));
		return base ? TT_OK : tt_jj_fail(run, TT_ERR_FORMAT, "0.0 cannot be raised to a negative power");
	}
	for (; exponent > 0 && !wide; exponent >>= 1) {
		if (exponent & 1)
			wide |= __builtin_mul_overflow(result, base, &result);
		if (exponent > 1)
			wide |= __builtin_mul_overflow(base, base, &base);
	}
	*out = tt_jj_int(result);
	return wide ? tt_jj_fail(run, TT_ERR_LIMIT, "an integer of more than 64 bits") : TT_OK;
}

static int integer_arithmetic(struct jj_run *run, unsigned op, int64_t a, int64_t b, struct jj_value *out)
{
	int64_t result = 0;
	bool wide = false;
	if ((op == '/' || op == '%' || op == JJ_OP2('/', '/')) && b == 0)
		return tt_jj_fail(run, TT_ERR_FORMAT, "division by zero");
	switch (op) {
	case '+':
		wide = __builtin_add_overflow(a, b, &result);
		break;
	case '-':
		wide = __builtin_sub_overflow(a, b, &result);
		break;
	case '*':
		wide = __builtin_mul_overflow(a, b, &result);
		break;
	case '/':
		*out = tt_jj_float((double)a / (double)b);
		return TT_OK;
	case JJ_OP2('*', '*'):
		return integer_power(run, a, b, out);
	default:
		/* Both round towards minus infinity; the smallest integer divided by -1 does not fit. */
		if (b == -1) {
			wide = op != '%' && __builtin_sub_overflow((int64_t)0, a, &result);
		} else {
			int64_t rest = a % b;
			bool down = rest != 0 && (rest < 0) != (b < 0);
			result = op == '%' ? rest + (down ? b : 0) : a / b - down;
		}
	}
	*out = tt_jj_int(result);
	return wide ? tt_jj_fail(run, TT_ERR_LIMIT, "an integer of more than 64 bits") : TT_OK;
}

static int float_arithmetic(struct jj_run *run, unsigned op, double a, double b, struct jj_value *out)
{
	double rest;
	if ((op == '/' || op == '%' || op == JJ_OP2('/', '/')) && b == 0)
		return tt_jj_fail(run, TT_ERR_FORMAT, "division by zero");
	switch (op) {
	case '+':
		a += b;
		break;
	case '-':
		a -= b;
		break;
	case '*':
		a *= b;
		break;
	case '/':
		a /= b;
		break;
	case JJ_OP2('*', '*'):
		if (a < 0 && b != floor(b))
			return tt_jj_fail(run, TT_ERR_UNSUPPORTED, "complex numbers");
		a = pow(a, b);
		break;
	default:
		rest = fmod(a, b);
		if (rest != 0 && (rest < 0) != (b < 0))
			rest += b;
		a = op == '%' ? rest : floor((a - rest) / b + 0.5);
	}
	*out = tt_jj_float(a);
	return TT_OK;
}

static int repeat(struct jj_run *run, struct jj_value value, int64_t times, struct jj_value *out)
{
	struct jj_value *items = NULL;
	size_t n = value.kind == JJ_STRING ? value.string->len : value.list->n, total;
	if (times < 0 || n == 0)
		times = 0;
	if (!tt_mul_size(n, (size_t)times, &total) || total > run->max_output)
		return tt_jj_fail(run, TT_ERR_LIMIT, "a product of more than %zu bytes", run->max_output);
	TT_TRY(tt_jj_charge(run, (uint64_t)times + total / 64));
	if (value.kind == JJ_STRING) {
		struct jj_builder builder = tt_jj_builder(run);
		for (int64_t i = 0; i < times; i++)
			TT_TRY(tt_jj_add(&builder, value.string));
		return tt_jj_finish(&builder, false, out);
	}
	TT_TRY(tt_jj_charge(run, total));
	TT_TRY(tt_jj_alloc(&run->arena, &items, total, sizeof *items));
	for (size_t i = 0; i < total; i++)
		items[i] = value.list->items[i % n];
	return tt_jj_new_list(run, (enum jj_kind)value.kind, items, total, out);
}

static int add_lists(struct jj_run *run, struct jj_value a, struct jj_value b, struct jj_value *out)
{
	struct jj_value *items = NULL;
	size_t n;
	if (!tt_add_size(a.list->n, b.list->n, &n))
		return tt_jj_fail(run, TT_ERR_LIMIT, "a list too long");
	TT_TRY(tt_jj_charge(run, n));
	TT_TRY(tt_jj_alloc(&run->arena, &items, n, sizeof *items));
	for (size_t i = 0; i < n; i++)
		items[i] = i < a.list->n ? a.list->items[i] : b.list->items[i - a.list->n];
	return tt_jj_new_list(run, (enum jj_kind)a.kind, items, n, out);
}

static int add_strings(struct jj_run *run, struct jj_value a, struct jj_value b, struct jj_value *out)
{
	struct jj_builder builder = tt_jj_builder(run);
	bool markup = a.string->markup || b.string->markup;
	if (markup && !a.string->markup)
		TT_TRY(tt_jj_escape(run, a.string, &a));
	if (markup && !b.string->markup)
		TT_TRY(tt_jj_escape(run, b.string, &b));
	TT_TRY(tt_jj_charge(run, (a.string->len + b.string->len) / 64));
	TT_TRY(tt_jj_add(&builder, a.string));
	TT_TRY(tt_jj_add(&builder, b.string));
	TT_TRY(tt_jj_finish(&builder, false, out));
	((struct jj_string *)out->string)->markup = markup;
	return TT_OK;
}

int tt_jj_binary(struct jj_run *run, unsigned op, struct jj_value a, struct jj_value b, struct jj_value *out)
{
	bool list_a = a.kind == JJ_STRING || a.kind == JJ_LIST || a.kind == JJ_TUPLE;
	bool list_b = b.kind == JJ_STRING || b.kind == JJ_LIST || b.kind == JJ_TUPLE;
	if (op == '%' && a.kind == JJ_STRING)
		return tt_jj_percent(run, a.string, b, out);
	if (a.kind == JJ_UNDEFINED || b.kind == JJ_UNDEFINED)
		return tt_jj_undefined(run, a.kind == JJ_UNDEFINED ? a : b);
	if (is_integral(a) && is_integral(b))
		return integer_arithmetic(run, op, integral(a), integral(b), out);
	if ((is_integral(a) || a.kind == JJ_FLOAT) && (is_integral(b) || b.kind == JJ_FLOAT))
		return float_arithmetic(run, op, a.kind == JJ_FLOAT ? a.real : (double)integral(a),
			b.kind == JJ_FLOAT ? b.real : (double)integral(b), out);
	if (op == '*' && list_a && is_integral(b))
		return repeat(run, a, integral(b), out);
	if (op == '*' && list_b && is_integral(a))
		return repeat(run, b, integral(a), out);
	if (op == '+' && a.kind == b.kind && list_a)
		return a.kind == JJ_STRING ? add_strings(run, a, b, out) : add_lists(run, a, b, out);
	char text[3] = {(char)(op > 255 ? op >> 8 : op), (char)(op > 255 ? op & 255 : 0), 0};
	return tt_jj_fail(run, TT_ERR_FORMAT, "unsupported operand types for %s: '%s' and '%s'", text, tt_jj_type(a),
		tt_jj_type(b));
}

/* The index of a parameter's name in the list, or -1 if it is not there. */
static int parameter_index(const char *parameters, const struct jj_string *name)
{
	int index = 0;
	while (*parameters) {
		size_t len = strcspn(parameters, " ");
		if (len == name->len && memcmp(parameters, name->data, len) == 0)
			return index;
		parameters += len + (parameters[len] == ' ');
		index++;
	}
	return -1;
}

static size_t count_parameters(const char *parameters)
{
	size_t n = *parameters ? 1 : 0;
	for (; *parameters; parameters++)
		n += *parameters == ' ';
	return n;
}

int tt_jj_call_native(struct jj_run *run, const struct jj_native *native, struct jj_value self,
	const struct jj_args *args, struct jj_value *out)
{
	struct jj_value slots[JJ_MAX_PARAMETERS];
	size_t n = count_parameters(native->parameters);
	if (native->raw)
		return native->raw(run, self, args, out);
	for (size_t i = 0; i < JJ_MAX_PARAMETERS; i++)
		slots[i] = i < args->n ? args->values[i] : (struct jj_value){.kind = JJ_MISSING};
	if (args->n > n)
		return tt_jj_fail(
			run, TT_ERR_FORMAT, "%s takes at most %zu arguments (%zu given)", native->name, n, args->n);
	for (size_t i = 0; i < args->n_keywords; i++) {
		const struct jj_string *name = args->keywords[i].name;
		int at = parameter_index(native->parameters, name);
		if (at < 0 || slots[at].kind != JJ_MISSING)
			return tt_jj_fail(run, TT_ERR_FORMAT, "%s has no free parameter '%.*s'", native->name,
				name->len > 50 ? 50 : (int)name->len, name->data);
		slots[at] = args->keywords[i].value;
	}
	for (size_t i = 0; i < native->required; i++)
		if (slots[i].kind == JJ_MISSING)
			return tt_jj_fail(run, TT_ERR_FORMAT, "%s needs %u argument%s", native->name, native->required,
				native->required > 1 ? "s" : "");
	return native->call(run, self, slots, out);
}

int tt_jj_call(struct jj_run *run, struct jj_value callee, const struct jj_args *args, struct jj_value *out)
{
	switch (callee.kind) {
	case JJ_NATIVE:
		return tt_jj_call_native(run, callee.bound->native, callee.bound->self, args, out);
	case JJ_MACRO:
		return tt_jj_call_macro(run, callee.macro, args, out);
	case JJ_UNDEFINED:
		return tt_jj_undefined(run, callee);
	default:
		return tt_jj_fail(run, TT_ERR_FORMAT, "'%s' object is not callable", tt_jj_type(callee));
	}
}
