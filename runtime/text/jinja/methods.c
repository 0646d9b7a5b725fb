/* The methods of strings, as in Python; bytes keep their marks. */
#include <string.h>
#include <utf8proc.h>

#include "base/fail.h"
#include "base/utf8.h"
#include "runtime/text/jinja/strings.h"

static bool in_set(const struct jj_string *set, uint32_t c)
{
	if (!set)
		return tt_jj_is_space(c);
	for (size_t i = 0; i < set->len;)
		if (tt_jj_decode(set->data, set->len, &i) == c)
			return true;
	return false;
}

int tt_jj_strip(struct jj_run *run, const struct jj_string *s, struct jj_value chars, bool left, bool right,
	struct jj_value *out)
{
	const struct jj_string *set = chars.kind == JJ_STRING ? chars.string : NULL;
	size_t from = 0, to = s->len;
	if (!set && chars.kind != JJ_MISSING && chars.kind != JJ_NONE)
		return tt_jj_fail(run, TT_ERR_FORMAT, "strip arg must be None or str");
	TT_TRY(tt_jj_charge(run, s->len / 64));
	while (left && from < to) {
		size_t next = from;
		if (!in_set(set, tt_jj_decode(s->data, to, &next)))
			break;
		from = next;
		TT_TRY(tt_jj_charge(run, set ? set->len / 16 : 0));
	}
	while (right && to > from) {
		size_t start = to - 1, at;
		while (start > from && ((uint8_t)s->data[start] & 0xc0) == 0x80)
			start--;
		at = start;
		if (!in_set(set, tt_jj_decode(s->data, to, &at)))
			break;
		to = start;
		TT_TRY(tt_jj_charge(run, set ? set->len / 16 : 0));
	}
	return tt_jj_part(run, s, from, to, out);
}

/* Upper case is the only mapping that makes common text longer: Python turns a sharp s into two letters. */
static size_t map_case(uint32_t c, bool upper, char out[4])
{
	if (upper && c == 0xdf) {
		memcpy(out, "SS", 2);
		return 2;
	}
	if (c < 0x80)
		return tt_utf8_encode(
			upper ? (c >= 'a' && c <= 'z' ? c - 32 : c) : (c >= 'A' && c <= 'Z' ? c + 32 : c), out);
	utf8proc_int32_t mapped = upper ? utf8proc_toupper((utf8proc_int32_t)c) : utf8proc_tolower((utf8proc_int32_t)c);
	return tt_utf8_encode((uint32_t)mapped, out);
}

static bool is_cased(uint32_t c)
{
	utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
	return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL || category == UTF8PROC_CATEGORY_LT;
}

/* For the title filter a word begins after one of these characters or after white space. */
static bool breaks_word(uint32_t c)
{
	return tt_jj_is_space(c) || (c < 0x80 && c && strchr("-({[<", (int)c));
}

int tt_jj_change_case(struct jj_run *run, const struct jj_string *s, enum jj_case how, struct jj_value *out)
{
	struct jj_builder builder = tt_jj_builder(run);
	bool first = true, keep = how == JJ_UPPER || how == JJ_LOWER;
	TT_TRY(tt_jj_charge(run, s->len / 4));
	for (size_t i = 0; i < s->len;) {
		char text[4];
		size_t at = i;
		uint32_t c = tt_jj_decode(s->data, s->len, &i);
		bool raise = how == JJ_UPPER || (how != JJ_LOWER && first);
		if (how == JJ_SWAP)
			raise = utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_LL;
		size_t n = map_case(c, raise, text);
		TT_TRY(tt_jj_add_bytes(&builder, text, n, tt_jj_mark_at(s, at)));
		first = how == JJ_WORDS ? breaks_word(c) : how == JJ_TITLE ? !is_cased(c) : false;
	}
	TT_TRY(tt_jj_finish(&builder, false, out));
	((struct jj_string *)out->string)->markup = keep && s->markup;
	return TT_OK;
}

int tt_jj_replace(struct jj_run *run, const struct jj_string *s, const struct jj_string *old,
	const struct jj_string *fresh, int64_t count, struct jj_value *out)
{
	struct jj_builder builder = tt_jj_builder(run);
	size_t kept = 0, i = 0;
	TT_TRY(tt_jj_charge(run, s->len / 16));
	while (count != 0) {
		TT_TRY(tt_jj_seek(run, s, old, i, false, &i));
		if (i == SIZE_MAX)
			break;
		TT_TRY(tt_jj_charge(run, 1 + fresh->len / 64));
		TT_TRY(tt_jj_add_part(&builder, s, kept, i));
		TT_TRY(tt_jj_add(&builder, fresh));
		kept = i += old->len;
		count--;
		/* An empty pattern matches before every character and at the end. */
		if (old->len == 0 && i < s->len)
			tt_jj_decode(s->data, s->len, &i);
		else if (old->len == 0)
			break;
	}
	TT_TRY(tt_jj_add_part(&builder, s, kept, s->len));
	return tt_jj_finish(&builder, false, out);
}

static int text_of(struct jj_run *run, struct jj_value value, const struct jj_string **out)
{
	*out = value.string;
	if (value.kind == JJ_UNDEFINED)
		return tt_jj_undefined(run, value);
	if (value.kind != JJ_STRING)
		return tt_jj_fail(run, TT_ERR_FORMAT, "expected a str, not %s", tt_jj_type(value));
	return TT_OK;
}

static int count_of(struct jj_run *run, struct jj_value value, int64_t *out)
{
	if (value.kind == JJ_MISSING)
		return TT_OK;
	if (value.kind != JJ_INT && value.kind != JJ_BOOL)
		return tt_jj_fail(
			run, TT_ERR_FORMAT, "'%s' object cannot be interpreted as an integer", tt_jj_type(value));
	*out = value.kind == JJ_BOOL ? value.boolean : value.integer;
	return TT_OK;
}

static int strip(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	return tt_jj_strip(run, self.string, v[0], true, true, out);
}

static int lstrip(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	return tt_jj_strip(run, self.string, v[0], true, false, out);
}

static int rstrip(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	return tt_jj_strip(run, self.string, v[0], false, true, out);
}

/* A growing list of parts of one string. */
struct parts {
	struct jj_value *items;
	size_t n, capacity;
};

static int add_item(struct jj_run *run, struct parts *parts, const struct jj_string *s, size_t from, size_t to)
{
	TT_TRY(tt_jj_charge(run, 1));
	TT_TRY(tt_jj_grow(&run->arena, &parts->items, &parts->capacity, parts->n + 1, sizeof *parts->items));
	return tt_jj_part(run, s, from, to, &parts->items[parts->n++]);
}

static void reverse(struct parts *parts)
{
	for (size_t i = 0; i < parts->n / 2; i++) {
		struct jj_value other = parts->items[parts->n - 1 - i];
		parts->items[parts->n - 1 - i] = parts->items[i];
		parts->items[i] = other;
	}
}

static size_t word_end(const struct jj_string *s, size_t at)
{
	while (at < s->len) {
		size_t next = at;
		if (tt_jj_is_space(tt_jj_decode(s->data, s->len, &next)))
			break;
		at = next;
	}
	return at;
}

/* Returns the start of the word that ends at `to`. */
static size_t word_start(const struct jj_string *s, size_t to)
{
	while (to > 0) {
		size_t start = to - 1, at;
		while (start > 0 && ((uint8_t)s->data[start] & 0xc0) == 0x80)
			start--;
		at = start;
		if (tt_jj_is_space(tt_jj_decode(s->data, s->len, &at)))
			break;
		to = start;
	}
	return to;
}

static int split_words(struct jj_run *run, const struct jj_string *s, int64_t most, bool right, struct parts *parts)
{
	size_t from = tt_jj_strip_start(s->data, s->len), to = tt_jj_strip_end(s->data, s->len);
	while (!right && from < s->len) {
		/* The rest after the last cut keeps the white space at its end. */
		size_t end = most-- == 0 ? s->len : word_end(s, from);
		TT_TRY(add_item(run, parts, s, from, end));
		from = end + tt_jj_strip_start(s->data + end, s->len - end);
	}
	while (right && to > 0) {
		size_t start = most-- == 0 ? 0 : word_start(s, to);
		TT_TRY(add_item(run, parts, s, start, to));
		to = tt_jj_strip_end(s->data, start);
	}
	return TT_OK;
}

static bool matches(const struct jj_string *s, size_t at, const struct jj_string *part)
{
	return part->len <= s->len && at <= s->len - part->len && memcmp(s->data + at, part->data, part->len) == 0;
}

static int split_by(struct jj_run *run, const struct jj_string *s, const struct jj_string *by, int64_t most, bool right,
	struct parts *parts)
{
	size_t from = 0, to = s->len;
	if (by->len == 0)
		return tt_jj_fail(run, TT_ERR_FORMAT, "empty separator");
	while (most-- != 0) {
		size_t at;
		TT_TRY(tt_jj_seek(run, s, by, right ? to : from, right, &at));
		if (at == SIZE_MAX)
			break;
		TT_TRY(right ? add_item(run, parts, s, at + by->len, to) : add_item(run, parts, s, from, at));
		if (right)
			to = at;
		else
			from = at + by->len;
	}
	return add_item(run, parts, s, from, to);
}

static int split_either(
	struct jj_run *run, const struct jj_string *s, const struct jj_value *v, bool right, struct jj_value *out)
{
	struct parts parts = {0};
	int64_t most = -1;
	TT_TRY(count_of(run, v[1], &most));
	TT_TRY(tt_jj_charge(run, s->len / 16));
	if (v[0].kind == JJ_MISSING || v[0].kind == JJ_NONE) {
		TT_TRY(split_words(run, s, most, right, &parts));
	} else {
		const struct jj_string *by;
		TT_TRY(text_of(run, v[0], &by));
		TT_TRY(split_by(run, s, by, most, right, &parts));
	}
	if (right)
		reverse(&parts);
	return tt_jj_new_list(run, JJ_LIST, parts.items, parts.n, out);
}

static int split(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	return split_either(run, self.string, v, false, out);
}

static int rsplit(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	return split_either(run, self.string, v, true, out);
}

size_t tt_jj_line_end(const struct jj_string *s, size_t from, size_t *next)
{
	for (size_t i = from; i < s->len;) {
		size_t at = i;
		uint32_t c = tt_jj_decode(s->data, s->len, &i);
		if ((c >= '\n' && c <= '\r') || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029) {
			*next = i + (c == '\r' && i < s->len && s->data[i] == '\n');
			return at;
		}
	}
	*next = s->len;
	return s->len;
}

static int splitlines(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	const struct jj_string *s = self.string;
	struct parts parts = {0};
	bool keep;
	TT_TRY(tt_jj_truth(run, v[0], &keep));
	TT_TRY(tt_jj_charge(run, s->len / 16));
	for (size_t from = 0, next; from < s->len; from = next) {
		size_t end = tt_jj_line_end(s, from, &next);
		TT_TRY(add_item(run, &parts, s, from, keep ? next : end));
	}
	return tt_jj_new_list(run, JJ_LIST, parts.items, parts.n, out);
}

/* Takes a prefix or suffix, or a tuple of them. */
static int has_affix(struct jj_run *run, const struct jj_string *s, struct jj_value affix, bool end, bool *out)
{
	*out = false;
	if (affix.kind == JJ_TUPLE) {
		for (size_t i = 0; i < affix.list->n && !*out; i++) {
			if (affix.list->items[i].kind != JJ_STRING)
				return tt_jj_fail(run, TT_ERR_FORMAT, "a prefix or suffix must be a str");
			TT_TRY(has_affix(run, s, affix.list->items[i], end, out));
		}
		return TT_OK;
	}
	const struct jj_string *part;
	TT_TRY(text_of(run, affix, &part));
	*out = part->len <= s->len && matches(s, end ? s->len - part->len : 0, part);
	return TT_OK;
}

static int startswith(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	*out = tt_jj_bool(false);
	return has_affix(run, self.string, v[0], false, &out->boolean);
}

static int endswith(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	*out = tt_jj_bool(false);
	return has_affix(run, self.string, v[0], true, &out->boolean);
}

static int removeprefix(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	const struct jj_string *part, *s = self.string;
	TT_TRY(text_of(run, v[0], &part));
	return tt_jj_part(run, s, matches(s, 0, part) ? part->len : 0, s->len, out);
}

static int removesuffix(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	const struct jj_string *part, *s = self.string;
	TT_TRY(text_of(run, v[0], &part));
	bool there = part->len <= s->len && matches(s, s->len - part->len, part);
	return tt_jj_part(run, s, 0, there ? s->len - part->len : s->len, out);
}

static int upper(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	(void)v;
	return tt_jj_change_case(run, self.string, JJ_UPPER, out);
}

static int lower(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	(void)v;
	return tt_jj_change_case(run, self.string, JJ_LOWER, out);
}

static int title(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	(void)v;
	return tt_jj_change_case(run, self.string, JJ_TITLE, out);
}

static int capitalize(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	(void)v;
	return tt_jj_change_case(run, self.string, JJ_CAPITAL, out);
}

static int swapcase(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	(void)v;
	return tt_jj_change_case(run, self.string, JJ_SWAP, out);
}

static int replace(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	const struct jj_string *old, *fresh;
	int64_t count = -1;
	TT_TRY(text_of(run, v[0], &old));
	TT_TRY(text_of(run, v[1], &fresh));
	TT_TRY(count_of(run, v[2], &count));
	return tt_jj_replace(run, self.string, old, fresh, count, out);
}

static int join(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	struct jj_builder builder = tt_jj_builder(run);
	struct jj_iter iter;
	bool more, first = true;
	TT_TRY(tt_jj_iterate(run, v[0], &iter));
	for (;; first = false) {
		struct jj_value item;
		TT_TRY(tt_jj_next(run, &iter, &item, &more));
		if (!more)
			return tt_jj_finish(&builder, false, out);
		if (item.kind != JJ_STRING)
			return tt_jj_fail(
				run, TT_ERR_FORMAT, "join: expected str instances, %s found", tt_jj_type(item));
		TT_TRY(tt_jj_charge(run, (self.string->len + item.string->len) / 64));
		if (!first)
			TT_TRY(tt_jj_add(&builder, self.string));
		TT_TRY(tt_jj_add(&builder, item.string));
	}
}

static int find_either(
	struct jj_run *run, struct jj_value self, const struct jj_value *v, bool right, bool must, struct jj_value *out)
{
	const struct jj_string *part, *s = self.string;
	TT_TRY(text_of(run, v[0], &part));
	TT_TRY(tt_jj_charge(run, s->len / 8));
	size_t at;
	TT_TRY(tt_jj_seek(run, s, part, right ? s->len : 0, right, &at));
	if (must && at == SIZE_MAX)
		return tt_jj_fail(run, TT_ERR_FORMAT, "substring not found");
	*out = tt_jj_int(at == SIZE_MAX ? -1 : (int64_t)tt_jj_count(s->data, at));
	return TT_OK;
}

static int find(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	return find_either(run, self, v, false, false, out);
}

static int rfind(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	return find_either(run, self, v, true, false, out);
}

static int index_of(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	return find_either(run, self, v, false, true, out);
}

static int count(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	const struct jj_string *part, *s = self.string;
	int64_t found = 0;
	TT_TRY(text_of(run, v[0], &part));
	TT_TRY(tt_jj_charge(run, s->len / 8));
	if (part->len == 0)
		found = (int64_t)tt_jj_count(s->data, s->len) + 1;
	for (size_t at = 0; part->len; at += part->len) {
		TT_TRY(tt_jj_seek(run, s, part, at, false, &at));
		if (at == SIZE_MAX)
			break;
		found++;
	}
	*out = tt_jj_int(found);
	return TT_OK;
}

static int partition_either(
	struct jj_run *run, struct jj_value self, const struct jj_value *v, bool right, struct jj_value *out)
{
	const struct jj_string *part, *s = self.string;
	struct parts parts = {0};
	TT_TRY(text_of(run, v[0], &part));
	if (part->len == 0)
		return tt_jj_fail(run, TT_ERR_FORMAT, "empty separator");
	TT_TRY(tt_jj_charge(run, s->len / 8));
	size_t at;
	TT_TRY(tt_jj_seek(run, s, part, right ? s->len : 0, right, &at));
	size_t end = at + part->len;
	if (at == SIZE_MAX)
		at = end = right ? 0 : s->len;
	TT_TRY(add_item(run, &parts, s, 0, at));
	TT_TRY(add_item(run, &parts, s, at, end));
	TT_TRY(add_item(run, &parts, s, end, s->len));
	return tt_jj_new_list(run, JJ_TUPLE, parts.items, parts.n, out);
}

static int partition(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	return partition_either(run, self, v, false, out);
}

static int rpartition(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	return partition_either(run, self, v, true, out);
}

static bool is_letter(utf8proc_category_t category)
{
	return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

/* Whether s is not empty and all its code points are of one kind. */
static int all_of(struct jj_run *run, const struct jj_string *s, char kind, struct jj_value *out)
{
	bool all = s->len > 0;
	TT_TRY(tt_jj_charge(run, s->len / 16));
	for (size_t i = 0; i < s->len && all;) {
		uint32_t c = tt_jj_decode(s->data, s->len, &i);
		utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
		bool digit = category == UTF8PROC_CATEGORY_ND;
		all = kind == 's' ? tt_jj_is_space(c)
				  : ((kind != 'a' && digit) || (kind != 'd' && is_letter(category)));
	}
	*out = tt_jj_bool(all);
	return TT_OK;
}

static int isspace_(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	(void)v;
	return all_of(run, self.string, 's', out);
}

static int isdigit_(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	(void)v;
	return all_of(run, self.string, 'd', out);
}

static int isalpha_(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	(void)v;
	return all_of(run, self.string, 'a', out);
}

static int isalnum_(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	(void)v;
	return all_of(run, self.string, 'n', out);
}

bool tt_jj_all_cased(const struct jj_string *s, bool want_upper)
{
	bool any = false;
	for (size_t i = 0; i < s->len;) {
		uint32_t c = tt_jj_decode(s->data, s->len, &i);
		if (!is_cased(c))
			continue;
		if ((utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_LU) != want_upper)
			return false;
		any = true;
	}
	return any;
}

static int islower_(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	(void)v;
	*out = tt_jj_bool(tt_jj_all_cased(self.string, false));
	return tt_jj_charge(run, self.string->len / 16);
}

static int isupper_(struct jj_run *run, struct jj_value self, const struct jj_value *v, struct jj_value *out)
{
	(void)v;
	*out = tt_jj_bool(tt_jj_all_cased(self.string, true));
	return tt_jj_charge(run, self.string->len / 16);
}

const struct jj_native *tt_jj_string_method(const char *name, size_t n)
{
	static const struct jj_native table[] = {
		{"strip", "chars", 0, strip, NULL},
		{"lstrip", "chars", 0, lstrip, NULL},
		{"rstrip", "chars", 0, rstrip, NULL},
		{"split", "sep maxsplit", 0, split, NULL},
		{"rsplit", "sep maxsplit", 0, rsplit, NULL},
		{"splitlines", "keepends", 0, splitlines, NULL},
		{"startswith", "prefix", 1, startswith, NULL},
		{"endswith", "suffix", 1, endswith, NULL},
		{"removeprefix", "prefix", 1, removeprefix, NULL},
		{"removesuffix", "suffix", 1, removesuffix, NULL},
		{"upper", "", 0, upper, NULL},
		{"lower", "", 0, lower, NULL},
		{"title", "", 0, title, NULL},
		{"capitalize", "", 0, capitalize, NULL},
		{"swapcase", "", 0, swapcase, NULL},
		{"replace", "old new count", 2, replace, NULL},
		{"join", "iterable", 1, join, NULL},
		{"find", "sub", 1, find, NULL},
		{"rfind", "sub", 1, rfind, NULL},
		{"index", "sub", 1, index_of, NULL},
		{"count", "sub", 1, count, NULL},
		{"partition", "sep", 1, partition, NULL},
		{"rpartition", "sep", 1, rpartition, NULL},
		{"isspace", "", 0, isspace_, NULL},
		{"isdigit", "", 0, isdigit_, NULL},
		{"isdecimal", "", 0, isdigit_, NULL},
		{"isalpha", "", 0, isalpha_, NULL},
		{"isalnum", "", 0, isalnum_, NULL},
		{"islower", "", 0, islower_, NULL},
		{"isupper", "", 0, isupper_, NULL},
		{"format", "", 0, NULL, tt_jj_format},
	};
	return tt_jj_search(table, sizeof table / sizeof *table, name, n);
}
