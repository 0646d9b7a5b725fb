#include "runtime/text/tokenizer/pattern.h"

#include <string.h>

#include "base/fail.h"
#include "base/utf8.h"

/* Sets of characters, as the contents of a class. SPACES is \s without U+180E, which PCRE2's \s has besides. The others
 * are a property of PCRE2, whose tables are those of Unicode 14 in Debian 12, and the characters that have come since,
 * up to Unicode 16, which Oniguruma has in tokenizers 0.23. */
#define SPACES                                                                                                         \
	"\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define LETTERS                                                                                                        \
	"\\p{L}\\x{1c89}\\x{1c8a}\\x{a7cb}-\\x{a7cd}\\x{a7da}-\\x{a7dc}\\x{105c0}-\\x{105f3}\\x{10d4a}-\\x{10d65}"     \
	"\\x{10d6f}-\\x{10d85}\\x{10ec2}-\\x{10ec4}\\x{1123f}\\x{11240}\\x{11380}-\\x{11389}\\x{1138b}\\x{1138e}"      \
	"\\x{11390}-\\x{113b5}\\x{113b7}\\x{113d1}\\x{113d3}\\x{11bc0}-\\x{11be0}\\x{11f02}\\x{11f04}-\\x{11f10}"      \
	"\\x{11f12}-\\x{11f33}\\x{1342f}\\x{13441}-\\x{13446}\\x{13460}-\\x{143fa}\\x{16100}-\\x{1611d}"               \
	"\\x{16d40}-\\x{16d6c}\\x{18cff}\\x{1b132}\\x{1b155}\\x{1df25}-\\x{1df2a}\\x{1e030}-\\x{1e06d}"                \
	"\\x{1e4d0}-\\x{1e4eb}\\x{1e5d0}-\\x{1e5ed}\\x{1e5f0}\\x{2b739}\\x{2ebf0}-\\x{2ee5d}\\x{31350}-\\x{323af}"
#define NUMBERS                                                                                                        \
	"\\p{N}\\x{10d40}-\\x{10d49}\\x{116d0}-\\x{116e3}\\x{11bf0}-\\x{11bf9}\\x{11f50}-\\x{11f59}"                   \
	"\\x{16130}-\\x{16139}\\x{16d70}-\\x{16d79}\\x{1ccf0}-\\x{1ccf9}\\x{1d2c0}-\\x{1d2d3}\\x{1e4f0}-\\x{1e4f9}"    \
	"\\x{1e5f1}-\\x{1e5fa}"

#define PUNCTUATION                                                                                                    \
	"\\p{P}\\x{1b4e}\\x{1b4f}\\x{1b7f}\\x{10d6e}\\x{113d4}\\x{113d5}\\x{113d7}\\x{113d8}\\x{11b00}-\\x{11b09}"     \
	"\\x{11be1}\\x{11f43}-\\x{11f4f}\\x{16d6d}-\\x{16d6f}\\x{1e5ff}"
#define MARKS                                                                                                          \
	"\\p{M}\\x{897}\\x{cf3}\\x{ece}\\x{10d69}-\\x{10d6d}\\x{10efc}-\\x{10eff}\\x{11241}"                           \
	"\\x{113b8}-\\x{113c0}\\x{113c2}\\x{113c5}\\x{113c7}-\\x{113ca}\\x{113cc}-\\x{113d0}\\x{113d2}"                \
	"\\x{113e1}-\\x{113e2}\\x{11f00}-\\x{11f01}\\x{11f03}\\x{11f34}-\\x{11f3a}\\x{11f3e}-\\x{11f42}"               \
	"\\x{11f5a}\\x{13440}\\x{13447}-\\x{13455}\\x{1611e}-\\x{1612f}\\x{1e08f}\\x{1e4ec}-\\x{1e4ef}"                \
	"\\x{1e5ee}-\\x{1e5ef}"
#define SYMBOLS                                                                                                        \
	"\\p{S}\\x{2427}-\\x{2429}\\x{2ffc}-\\x{2fff}\\x{31e4}-\\x{31e5}\\x{31ef}\\x{10d8e}-\\x{10d8f}"                \
	"\\x{1cc00}-\\x{1ccef}\\x{1cd00}-\\x{1ceb3}\\x{1f6dc}\\x{1f774}-\\x{1f776}\\x{1f77b}-\\x{1f77f}"               \
	"\\x{1f7d9}\\x{1f8b2}-\\x{1f8bb}\\x{1f8c0}-\\x{1f8c1}\\x{1fa75}-\\x{1fa77}\\x{1fa87}-\\x{1fa89}"               \
	"\\x{1fa8f}\\x{1faad}-\\x{1faaf}\\x{1fabb}-\\x{1fabf}\\x{1fac6}\\x{1face}-\\x{1facf}"                          \
	"\\x{1fada}-\\x{1fadc}\\x{1fadf}\\x{1fae8}-\\x{1fae9}\\x{1faf7}-\\x{1faf8}\\x{1fbcb}-\\x{1fbef}"

enum { MAX_GROUPS = 32 };

struct translation {
	const char *in;
	size_t n, at;
	struct tt_buffer *out;
	uint32_t n_open;
	uint32_t caseless_from; /* the group that (?i: opened, 1-based; 0 outside one */
	char previous;          /* the literal just translated, in lower case, in a caseless group; else 0 */
	struct tt_error *err;
};

static int add(struct translation *t, const char *text)
{
	return tt_buffer_add(t->out, text, strlen(text), t->err);
}

static int refuse(struct translation *t, size_t from, size_t n, const char *why)
{
	if (from > t->n)
		from = t->n;
	if (n > t->n - from)
		n = t->n - from;
	return tt_fail(t->err, TT_ERR_UNSUPPORTED, "pattern: %.*s at byte %zu is not supported%s%s", (int)n,
		t->in + from, from, *why ? ": " : "", why);
}

static bool starts(const struct translation *t, const char *text)
{
	size_t n = strlen(text);
	return t->n - t->at >= n && memcmp(t->in + t->at, text, n) == 0;
}

static bool is_alnum(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Adds one literal character; it does not move in the input. */
static int add_literal(struct translation *t, const char *text, size_t n)
{
	if (n == 1 && !is_alnum(*text) && (unsigned char)*text > 0x20 && (unsigned char)*text < 0x7f)
		TT_TRY(add(t, "\\"));
	return tt_buffer_add(t->out, text, n, t->err);
}

/* The escapes that mean one character. */
static const struct {
	char name;
	const char *text;
} controls[] = {{'r', "\\r"}, {'n', "\\n"}, {'t', "\\t"}, {'f', "\\f"}, {'v', "\\x{b}"}};

/* The escapes that mean a set of characters. */
static const struct set_escape {
	const char *name;     /* as the pattern spells it */
	const char *outside;  /* its translation outside of a class */
	const char *in_class; /* and in one; NULL: not supported */
} set_escapes[] = {
	{"\\s", "[" SPACES "]", SPACES},
	{"\\S", "[^" SPACES "]", NULL},
	{"\\p{L}", "[" LETTERS "]", LETTERS},
	{"\\P{L}", "[^" LETTERS "]", NULL},
	{"\\p{M}", "[" MARKS "]", MARKS},
	{"\\P{M}", "[^" MARKS "]", NULL},
	{"\\p{N}", "[" NUMBERS "]", NUMBERS},
	{"\\P{N}", "[^" NUMBERS "]", NULL},
	{"\\p{P}", "[" PUNCTUATION "]", PUNCTUATION},
	{"\\P{P}", "[^" PUNCTUATION "]", NULL},
	{"\\p{S}", "[" SYMBOLS "]", SYMBOLS},
	{"\\P{S}", "[^" SYMBOLS "]", NULL},
};

static int translate_set_escape(struct translation *t, bool in_class)
{
	char c = t->n - t->at > 1 ? t->in[t->at + 1] : 0;
	size_t shown = 2; /* bytes of the escape that a message shows */
	for (size_t i = 0; i < sizeof set_escapes / sizeof *set_escapes; i++) {
		const struct set_escape *escape = &set_escapes[i];
		const char *text = in_class ? escape->in_class : escape->outside;
		if (text && starts(t, escape->name)) {
			t->at += strlen(escape->name);
			return add(t, text);
		}
	}
	while (t->at + shown < t->n && shown < 20 && (c == 'p' || c == 'P') && t->in[t->at + shown - 1] != '}')
		shown++;
	return refuse(t, t->at, shown, in_class ? "in a class" : "");
}

/* Translates the escape whose backslash is next. *is_set: it stands for a set of characters, not for one. */
static int translate_escape(struct translation *t, bool in_class, bool *is_set)
{
	char c = t->n - t->at > 1 ? t->in[t->at + 1] : 0;
	*is_set = false;
	for (size_t i = 0; i < sizeof controls / sizeof *controls; i++)
		if (c == controls[i].name) {
			t->at += 2;
			return add(t, controls[i].text);
		}
	if (c > 0x20 && c < 0x7f && !is_alnum(c)) {
		t->at += 2;
		return add_literal(t, &c, 1);
	}
	*is_set = true;
	/* Under (?i: Oniguruma folds the case of every member of a set; PCRE2 is known to agree for ASCII only. */
	if (t->caseless_from)
		return refuse(t, t->at, 2, "inside (?i:");
	return translate_set_escape(t, in_class);
}

/* A class that is being translated. */
struct class_state {
	size_t from; /* where its bracket is */
	bool is_first;
	enum { ITEM_OTHER, ITEM_LITERAL, ITEM_RANGE_DASH } previous; /* only a literal can begin a range */
};

static int translate_class_dash(struct translation *t, struct class_state *class)
{
	bool is_last = t->at + 1 < t->n && t->in[t->at + 1] == ']';
	t->at++;
	if (class->is_first || is_last) {
		class->previous = ITEM_OTHER;
		return add(t, "\\-");
	}
	if (class->previous != ITEM_LITERAL)
		return refuse(t, class->from, t->at - class->from, "a range without a start");
	class->previous = ITEM_RANGE_DASH;
	return add(t, "-");
}

static int translate_class_literal(struct translation *t)
{
	uint32_t point;
	size_t len = tt_utf8_decode(t->in + t->at, t->n - t->at, &point);
	if (len == 0)
		return tt_fail(t->err, TT_ERR_FORMAT, "pattern: invalid UTF-8 at byte %zu", t->at);
	if (len > 1 && t->caseless_from)
		return refuse(t, t->at, len, "inside (?i:");
	TT_TRY(add_literal(t, t->in + t->at, len));
	t->at += len;
	return TT_OK;
}

/* An escape or a literal, which may be the end of a range. */
static int translate_class_item(struct translation *t, struct class_state *class)
{
	bool is_set = false, ends_range = class->previous == ITEM_RANGE_DASH;
	if (t->in[t->at] == '\\')
		TT_TRY(translate_escape(t, true, &is_set));
	else
		TT_TRY(translate_class_literal(t));
	if (is_set && ends_range)
		return refuse(t, class->from, t->at - class->from, "a range without an end");
	class->previous = is_set || ends_range ? ITEM_OTHER : ITEM_LITERAL;
	return TT_OK;
}

static int translate_class(struct translation *t)
{
	struct class_state class = {.from = t->at++, .is_first = true};
	TT_TRY(add(t, "["));
	if (t->at < t->n && t->in[t->at] == '^') {
		t->at++;
		TT_TRY(add(t, "^"));
	}
	for (; t->at < t->n; class.is_first = false) {
		char c = t->in[t->at];
		if (c == ']' && class.is_first)
			return refuse(t, class.from, 3, "an empty class");
		if (c == ']') {
			t->at++;
			return add(t, "]");
		}
		if (c == '[' || starts(t, "&&"))
			return refuse(t, t->at, 2, "a class within a class");
		TT_TRY(c == '-' ? translate_class_dash(t, &class) : translate_class_item(t, &class));
	}
	return refuse(t, class.from, 1, "a class without an end");
}

static int translate_group(struct translation *t)
{
	static const char *const known[] = {"(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"};
	if (++t->n_open > MAX_GROUPS)
		return refuse(t, t->at, 1, "too many groups within each other");
	if (!starts(t, "(?")) {
		t->at++;
		return add(t, "(?:"); /* without a capture, since no supported construct refers back to it */
	}
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (starts(t, known[i])) {
			if (i == 1 && !t->caseless_from)
				t->caseless_from = t->n_open;
			t->at += strlen(known[i]);
			return add(t, known[i]);
		}
	return refuse(t, t->at, 4, "");
}

/* {n}, {n,} or {n,m}. Lazy and possessive forms are refused, since Ruby has none; so is {,m}, which is text to PCRE2
 * but not to Ruby. */
static int translate_interval(struct translation *t)
{
	size_t end = t->at + 1;
	while (end < t->n && ((t->in[end] >= '0' && t->in[end] <= '9') || t->in[end] == ','))
		end++;
	if (end == t->n || t->in[end] != '}' || end == t->at + 1 || t->in[t->at + 1] == ',')
		return refuse(t, t->at, end - t->at + 1, "");
	end++;
	if (end < t->n && strchr("?+*{", t->in[end]))
		return refuse(t, t->at, end - t->at + 1, "");
	TT_TRY(tt_buffer_add(t->out, t->in + t->at, end - t->at, t->err));
	t->at = end;
	return TT_OK;
}

/* Under (?i: Oniguruma lets one character match two (the sharp s for ss, ligatures for ff, fi, fl and st), so these
 * pairs are refused. */
static int translate_literal(struct translation *t)
{
	uint32_t point;
	char c = t->in[t->at];
	size_t len = tt_utf8_decode(t->in + t->at, t->n - t->at, &point);
	if (len == 0)
		return tt_fail(t->err, TT_ERR_FORMAT, "pattern: invalid UTF-8 at byte %zu", t->at);
	if (t->caseless_from) {
		char low = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
		if (len > 1)
			return refuse(t, t->at, len, "inside (?i:");
		if ((t->previous == 's' && (low == 's' || low == 't')) || (t->previous == 'f' && strchr("fil", low)))
			return refuse(t, t->at - 1, 2, "inside (?i:");
		t->previous = low;
	}
	TT_TRY(add_literal(t, t->in + t->at, len));
	t->at += len;
	return TT_OK;
}

static int translate_one(struct translation *t)
{
	char c = t->in[t->at], text[2] = {c, 0};
	bool is_set;
	if (c && strchr("\\[({^$)|.?*+", c))
		t->previous = 0;
	switch (c) {
	case '\\':
		return translate_escape(t, false, &is_set);
	case '[':
		return translate_class(t);
	case '(':
		return translate_group(t);
	case '{':
		return translate_interval(t);
	case '$': /* in Ruby, the end of any line */
		t->at++;
		return add(t, "(?=\\n|\\z)");
	case '^':
		return refuse(t, t->at, 1, "");
	case ')':
		if (t->n_open == 0)
			return refuse(t, t->at, 1, "no group is open");
		if (t->caseless_from == t->n_open)
			t->caseless_from = 0;
		t->n_open--;
		t->at++;
		return add(t, text);
	case '|':
	case '.':
	case '?':
	case '*':
	case '+':
		t->at++;
		return add(t, text);
	default:
		return translate_literal(t);
	}
}

int tt_pattern_translate(struct tt_buffer *out, const char *pattern, size_t n, struct tt_error *err)
{
	struct translation t = {.in = pattern, .n = n, .out = out, .err = err};
	if (n > TT_PATTERN_MAX_BYTES)
		return tt_fail(err, TT_ERR_LIMIT, "pattern: %zu bytes (limit %d)", n, TT_PATTERN_MAX_BYTES);
	while (t.at < t.n)
		TT_TRY(translate_one(&t));
	if (t.n_open)
		return refuse(&t, t.n - 1, 1, "a group without an end");
	return TT_OK;
}
