/* "..." % values and "...".format(values), as far as templates use them: no widths, no flags. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/fail.h"
#include "runtime/text/jinja/strings.h"

static int add_text_of(struct jj_run *run, struct jj_builder *builder, struct jj_value value, bool quoted)
{
	struct jj_builder part = tt_jj_builder(run);
	struct jj_value text;
	if (value.kind == JJ_STRING && !quoted)
		return tt_jj_add(builder, value.string);
	TT_TRY(tt_jj_add_value(run, &part, value, quoted));
	TT_TRY(tt_jj_finish(&part, true, &text));
	return tt_jj_add(builder, text.string);
}

static int add_number(struct jj_run *run, struct jj_builder *builder, struct jj_value value, char how, int precision)
{
	char text[400];
	double real = value.kind == JJ_FLOAT  ? value.real
		      : value.kind == JJ_BOOL ? value.boolean
					      : (double)value.integer;
	if (value.kind == JJ_UNDEFINED)
		return tt_jj_undefined(run, value);
	if (value.kind != JJ_INT && value.kind != JJ_FLOAT && value.kind != JJ_BOOL)
		return tt_jj_fail(
			run, TT_ERR_FORMAT, "%%%c format: a real number is required, not %s", how, tt_jj_type(value));
	if (how == 'f') {
		snprintf(text, sizeof text, "%.*f", precision < 0 ? 6 : precision, real);
	} else {
		if (value.kind == JJ_FLOAT && (!isfinite(real) || fabs(real) >= 9e18))
			return tt_jj_fail(run, TT_ERR_LIMIT, "an integer of more than 64 bits");
		snprintf(text, sizeof text, "%lld", (long long)(value.kind == JJ_INT ? value.integer : (int64_t)real));
	}
	return tt_jj_add_text(builder, text);
}

/* The values of a % format, taken in order. */
struct taken {
	const struct jj_value *items;
	size_t n, next;
};

static int one_percent(
	struct jj_run *run, struct jj_builder *builder, const struct jj_string *format, size_t *at, struct taken *taken)
{
	int precision = -1;
	char how = *at < format->len ? format->data[*at] : 0;
	if (how == '%') {
		*at += 1;
		return tt_jj_add_part(builder, format, *at - 1, *at);
	}
	if (how == '.' && *at + 1 < format->len && format->data[*at + 1] >= '0' && format->data[*at + 1] <= '9') {
		precision = format->data[*at + 1] - '0';
		*at += 2;
		how = *at < format->len ? format->data[*at] : 0;
	}
	if (!how || !strchr("sdifr", how) || (precision >= 0 && how != 'f'))
		return tt_jj_fail(run, TT_ERR_UNSUPPORTED, "a %% format other than %%s %%r %%d %%i %%f %%%%");
	if (taken->next == taken->n)
		return tt_jj_fail(run, TT_ERR_FORMAT, "not enough arguments for format string");
	struct jj_value value = taken->items[taken->next++];
	*at += 1;
	if (how == 's' || how == 'r')
		return add_text_of(run, builder, value, how == 'r');
	return add_number(run, builder, value, how, precision);
}

int tt_jj_percent(struct jj_run *run, const struct jj_string *format, struct jj_value args, struct jj_value *out)
{
	struct jj_builder builder = tt_jj_builder(run);
	struct taken taken = {.items = &args, .n = 1};
	size_t kept = 0, i = 0;
	if (args.kind == JJ_TUPLE)
		taken = (struct taken){.items = args.list->items, .n = args.list->n};
	while (i < format->len) {
		if (format->data[i++] != '%')
			continue;
		TT_TRY(tt_jj_charge(run, 1));
		TT_TRY(tt_jj_add_part(&builder, format, kept, i - 1));
		TT_TRY(one_percent(run, &builder, format, &i, &taken));
		kept = i;
	}
	TT_TRY(tt_jj_add_part(&builder, format, kept, format->len));
	if (taken.next < taken.n && args.kind != JJ_DICT && args.kind != JJ_LIST && args.kind != JJ_UNDEFINED)
		return tt_jj_fail(run, TT_ERR_FORMAT, "not all arguments converted during string formatting");
	return tt_jj_finish(&builder, false, out);
}

/* The value a replacement field names: nothing (the next one), a number or a keyword. */
static int field_value(
	struct jj_run *run, const struct jj_args *args, const char *name, size_t n, size_t *next, struct jj_value *out)
{
	struct jj_string key = {.data = name, .len = n};
	size_t index = 0, digits = 0;
	while (digits < n && digits < 6 && name[digits] >= '0' && name[digits] <= '9')
		index = index * 10 + (size_t)(name[digits++] - '0');
	if (n == 0)
		index = (*next)++;
	if (digits == n) {
		if (index >= args->n)
			return tt_jj_fail(run, TT_ERR_FORMAT, "Replacement index %zu out of range", index);
		*out = args->values[index];
		return TT_OK;
	}
	for (size_t i = 0; i < n; i++)
		if (strchr(".[!:", name[i]))
			return tt_jj_fail(run, TT_ERR_UNSUPPORTED, "format fields other than {}, {0} and {name}");
	for (size_t i = 0; i < args->n_keywords; i++)
		if (tt_jj_same(args->keywords[i].name, &key)) {
			*out = args->keywords[i].value;
			return TT_OK;
		}
	return tt_jj_fail(run, TT_ERR_FORMAT, "format: no argument '%.*s'", n > 50 ? 50 : (int)n, name);
}

int tt_jj_format(struct jj_run *run, struct jj_value self, const struct jj_args *args, struct jj_value *out)
{
	const struct jj_string *s = self.string;
	struct jj_builder builder = tt_jj_builder(run);
	size_t kept = 0, next = 0, i = 0;
	while (i < s->len) {
		char c = s->data[i++];
		struct jj_value value;
		if (c != '{' && c != '}')
			continue;
		TT_TRY(tt_jj_charge(run, 1));
		if (i < s->len && s->data[i] == c) {
			TT_TRY(tt_jj_add_part(&builder, s, kept, i));
			kept = ++i;
			continue;
		}
		const char *end = c == '{' ? memchr(s->data + i, '}', s->len - i) : NULL;
		if (!end)
			return tt_jj_fail(run, TT_ERR_FORMAT, "single '%c' encountered in format string", c);
		TT_TRY(tt_jj_add_part(&builder, s, kept, i - 1));
		TT_TRY(field_value(run, args, s->data + i, (size_t)(end - s->data) - i, &next, &value));
		TT_TRY(add_text_of(run, &builder, value, false));
		kept = i = (size_t)(end - s->data) + 1;
	}
	TT_TRY(tt_jj_add_part(&builder, s, kept, s->len));
	return tt_jj_finish(&builder, false, out);
}
