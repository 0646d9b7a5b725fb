#define PCRE2_CODE_UNIT_WIDTH 8
#include "runtime/text/tokenizer/pretokenize.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "runtime/text/tokenizer/pattern.h"
#include "runtime/text/unicode.h"

/* Patterns come from model files, so matching is limited. The limits are several hundred times what the published
 * patterns need on any text. */
enum { MATCH_LIMIT = 10000000, DEPTH_LIMIT = 100000, HEAP_LIMIT_KIB = 65536, JIT_STACK_BYTES = 1 << 20 };

/* The last two work on bytes, as stages after ByteLevel do. */
enum stage_kind { STAGE_PATTERN, STAGE_DIGITS, STAGE_DIGIT_RUNS, STAGE_BYTE_DIGIT_RUNS, STAGE_BYTE_THREES };

struct tt_pretokenizer_stage {
	enum stage_kind kind;
	pcre2_code *code; /* of STAGE_PATTERN */
	bool has_jit;
	char name[64];
};

/* Punctuation that is newer than Unicode 8, whose tables `tokenizers` uses. */
#define NEWER_PUNCTUATION                                                                                              \
	"\\x{61d}\\x{9fd}\\x{a76}\\x{c77}\\x{c84}\\x{1b7d}-\\x{1b7e}\\x{2e43}-\\x{2e4f}\\x{2e52}-\\x{2e5d}"            \
	"\\x{10ead}\\x{10f55}-\\x{10f59}\\x{10f86}-\\x{10f89}\\x{1144b}-\\x{1144f}\\x{1145a}-\\x{1145b}"               \
	"\\x{1145d}\\x{11660}-\\x{1166c}\\x{116b9}\\x{1183b}\\x{11944}-\\x{11946}\\x{119e2}"                           \
	"\\x{11a3f}-\\x{11a46}\\x{11a9a}-\\x{11a9c}\\x{11a9e}-\\x{11aa2}\\x{11c41}-\\x{11c45}"                         \
	"\\x{11c70}-\\x{11c71}\\x{11ef7}-\\x{11ef8}\\x{11fff}\\x{12ff1}-\\x{12ff2}\\x{16e97}-\\x{16e9a}"               \
	"\\x{16fe2}\\x{1e95e}-\\x{1e95f}"
#define PUNCTUATION "(?![" NEWER_PUNCTUATION "])[\\p{P}\\x{166d}\\x{111c9}$+<=>^`|~]"

/* PCRE2 allocates through tt_alloc, so that tests that make allocations fail reach it. */
static void *regex_alloc(size_t n, void *unused)
{
	void *memory = NULL;
	(void)unused;
	return tt_alloc(&memory, n, 1, NULL) == TT_OK ? memory : NULL;
}

static void regex_free(void *memory, void *unused)
{
	(void)unused;
	free(memory);
}

int tt_pretokenizer_init(struct tt_pretokenizer *pretokenizer, struct tt_error *err)
{
	pretokenizer->n_stages = 0;
	return tt_alloc(&pretokenizer->stages, TT_PRETOKENIZER_MAX_STAGES, sizeof *pretokenizer->stages, err);
}

void tt_pretokenizer_free(struct tt_pretokenizer *pretokenizer)
{
	for (size_t i = 0; i < pretokenizer->n_stages; i++)
		pcre2_code_free(pretokenizer->stages[i].code);
	free(pretokenizer->stages);
	*pretokenizer = (struct tt_pretokenizer){0};
}

static int add_stage(struct tt_pretokenizer *pretokenizer, struct tt_pretokenizer_stage **out, struct tt_error *err)
{
	if (pretokenizer->n_stages == TT_PRETOKENIZER_MAX_STAGES)
		return tt_fail(err, TT_ERR_LIMIT, "more than %d pre-tokenizers", TT_PRETOKENIZER_MAX_STAGES);
	*out = &pretokenizer->stages[pretokenizer->n_stages++];
	return TT_OK;
}

static int compile(
	struct tt_pretokenizer_stage *stage, const char *pattern, size_t n, bool literal, struct tt_error *err)
{
	uint32_t options = literal ? PCRE2_UTF | PCRE2_LITERAL : PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C;
	int code, status = TT_OK;
	PCRE2_SIZE where;
	pcre2_general_context *general = pcre2_general_context_create(regex_alloc, regex_free, NULL);
	pcre2_compile_context *context = pcre2_compile_context_create(general);
	if (!general || !context) {
		status = tt_fail(err, TT_ERR_MEMORY, "%s: out of memory for its pattern", stage->name);
		goto out;
	}
	pcre2_set_newline(context, PCRE2_NEWLINE_LF); /* where . stops, whatever PCRE2 was built with */
	stage->code = pcre2_compile((PCRE2_SPTR)pattern, n, options, &code, &where, context);
	if (!stage->code) {
		PCRE2_UCHAR message[128] = "";
		pcre2_get_error_message(code, message, sizeof message);
		status = tt_fail(err, code == PCRE2_ERROR_HEAP_FAILED ? TT_ERR_MEMORY : TT_ERR_UNSUPPORTED,
			"%s: its pattern does not compile: %s", stage->name, (const char *)message);
		goto out;
	}
	/* Failure is no error (some systems forbid making code at run time): the interpreter finds the same matches. */
	stage->has_jit = pcre2_jit_compile(stage->code, PCRE2_JIT_COMPLETE) == 0;
out:
	pcre2_compile_context_free(context);
	pcre2_general_context_free(general);
	return status;
}

static void set_name(struct tt_pretokenizer_stage *stage, const char *name)
{
	size_t len = strlen(name) < sizeof stage->name ? strlen(name) : sizeof stage->name - 1;
	memcpy(stage->name, name, len);
}

int tt_pretokenizer_add_pattern(struct tt_pretokenizer *pretokenizer, const char *pattern, size_t n, bool literal,
	const char *name, struct tt_error *err)
{
	struct tt_pretokenizer_stage *stage = NULL;
	struct tt_buffer translated = {0};
	TT_TRY(add_stage(pretokenizer, &stage, err));
	stage->kind = STAGE_PATTERN;
	set_name(stage, name);
	if (literal)
		return compile(stage, pattern, n, true, err);
	int status = tt_pattern_translate(&translated, pattern, n, err);
	if (status != TT_OK)
		tt_fail_within(err, stage->name);
	else
		status = compile(stage, translated.data ? translated.data : "", translated.len, false, err);
	tt_buffer_free(&translated);
	return status;
}

int tt_pretokenizer_add_punctuation(
	struct tt_pretokenizer *pretokenizer, bool runs, const char *name, struct tt_error *err)
{
	static const char one[] = PUNCTUATION, many[] = "(?:" PUNCTUATION ")+";
	struct tt_pretokenizer_stage *stage = NULL;
	TT_TRY(add_stage(pretokenizer, &stage, err));
	stage->kind = STAGE_PATTERN;
	set_name(stage, name);
	return compile(stage, runs ? many : one, runs ? sizeof many - 1 : sizeof one - 1, false, err);
}

int tt_pretokenizer_add_digits(struct tt_pretokenizer *pretokenizer, bool individual, struct tt_error *err)
{
	struct tt_pretokenizer_stage *stage = NULL;
	TT_TRY(add_stage(pretokenizer, &stage, err));
	stage->kind = individual ? STAGE_DIGITS : STAGE_DIGIT_RUNS;
	return TT_OK;
}

int tt_pretokenizer_add_byte_digits(struct tt_pretokenizer *pretokenizer, bool threes, struct tt_error *err)
{
	struct tt_pretokenizer_stage *stage = NULL;
	TT_TRY(add_stage(pretokenizer, &stage, err));
	stage->kind = threes ? STAGE_BYTE_THREES : STAGE_BYTE_DIGIT_RUNS;
	return TT_OK;
}

int tt_pretokenize_begin(struct tt_pretokenize_run *run, struct tt_error *err)
{
	*run = (struct tt_pretokenize_run){0};
	pcre2_general_context *general = pcre2_general_context_create(regex_alloc, regex_free, NULL);
	pcre2_match_data *match = pcre2_match_data_create(1, general);
	pcre2_match_context *context = pcre2_match_context_create(general);
	pcre2_jit_stack *stack = pcre2_jit_stack_create(32 * 1024, JIT_STACK_BYTES, general);
	run->match = match;
	run->context = context;
	run->stack = stack;
	if (!general || !match || !context) {
		pcre2_general_context_free(general);
		tt_pretokenize_end(run);
		return tt_fail(err, TT_ERR_MEMORY, "out of memory for the pre-tokenizer");
	}
	pcre2_general_context_free(general);
	pcre2_set_match_limit(context, MATCH_LIMIT);
	pcre2_set_depth_limit(context, DEPTH_LIMIT);
	pcre2_set_heap_limit(context, HEAP_LIMIT_KIB);
	if (stack) /* NULL if PCRE2 has no JIT; without it, compiled code would have 32 KiB of the machine's stack */
		pcre2_jit_stack_assign(context, NULL, stack);
	return TT_OK;
}

void tt_pretokenize_end(struct tt_pretokenize_run *run)
{
	pcre2_match_data_free(run->match);
	pcre2_match_context_free(run->context);
	pcre2_jit_stack_free(run->stack);
	*run = (struct tt_pretokenize_run){0};
}

struct splitter {
	const struct tt_pretokenizer *pretokenizer;
	struct tt_pretokenize_run *run;
	tt_take_piece take;
	void *state;
};

static int split(const struct splitter *s, size_t stage, const char *text, size_t n, struct tt_error *err);

static int split_pattern(const struct splitter *s, size_t at, const char *text, size_t n, struct tt_error *err)
{
	const struct tt_pretokenizer_stage *stage = &s->pretokenizer->stages[at];
	const PCRE2_SIZE *found = pcre2_get_ovector_pointer(s->run->match);
	size_t done = 0, from = 0;
	while (from < n) {
		int rc = stage->has_jit ? pcre2_jit_match(stage->code, (PCRE2_SPTR)text, n, from, PCRE2_NO_UTF_CHECK,
						  s->run->match, s->run->context)
					: pcre2_match(stage->code, (PCRE2_SPTR)text, n, from, PCRE2_NO_UTF_CHECK,
						  s->run->match, s->run->context);
		if (rc == PCRE2_ERROR_NOMATCH)
			break;
		if (rc < 0) {
			PCRE2_UCHAR message[128] = "";
			pcre2_get_error_message(rc, message, sizeof message);
			return tt_fail(err, rc == PCRE2_ERROR_NOMEMORY ? TT_ERR_MEMORY : TT_ERR_LIMIT,
				"pre-tokenizer %s: %s at byte %zu of a piece of %zu", stage->name,
				(const char *)message, from, n);
		}
		/* Copied, since the next stage writes over the match. */
		size_t start = found[0], end = found[1];
		if (start < from || end < start || end > n)
			return tt_fail(err, TT_ERR_UNSUPPORTED, "pre-tokenizer %s: a match ends before it starts",
				stage->name);
		if (done < start)
			TT_TRY(split(s, at + 1, text + done, start - done, err));
		if (start < end)
			TT_TRY(split(s, at + 1, text + start, end - start, err));
		done = from = end;
		if (start == end) { /* an empty match only cuts; go on after the next character */
			uint32_t c;
			size_t len = tt_utf8_decode(text + end, n - end, &c);
			from = end + (len ? len : 1);
		}
	}
	return done < n ? split(s, at + 1, text + done, n - done, err) : TT_OK;
}

static int split_digits(const struct splitter *s, size_t at, const char *text, size_t n, struct tt_error *err)
{
	bool single = s->pretokenizer->stages[at].kind == STAGE_DIGITS, was_digit = false;
	size_t done = 0, i = 0;
	while (i < n) {
		uint32_t c = (unsigned char)text[i];
		size_t len = c < 0x80 ? 1 : tt_utf8_decode(text + i, n - i, &c);
		if (!len)
			return tt_fail(err, TT_ERR_FORMAT, "invalid UTF-8 in a piece");
		bool digit = tt_unicode_is_numeric(c);
		if (i > done && (digit != was_digit || (digit && single))) {
			TT_TRY(split(s, at + 1, text + done, i - done, err));
			done = i;
		}
		was_digit = digit;
		i += len;
	}
	return done < n ? split(s, at + 1, text + done, n - done, err) : TT_OK;
}

/* GPT-2's alphabet spells these bytes as numeric characters: the ten digits, superscripts and fractions. */
static bool is_numeric_byte(unsigned char byte)
{
	return (byte >= '0' && byte <= '9') || byte == 0xb2 || byte == 0xb3 || byte == 0xb9 ||
	       (byte >= 0xbc && byte <= 0xbe);
}

static int split_byte_digits(const struct splitter *s, size_t at, const char *text, size_t n, struct tt_error *err)
{
	size_t done = 0;
	for (size_t i = 1; i < n; i++) {
		if (is_numeric_byte((unsigned char)text[i]) == is_numeric_byte((unsigned char)text[i - 1]))
			continue;
		TT_TRY(split(s, at + 1, text + done, i - done, err));
		done = i;
	}
	return split(s, at + 1, text + done, n - done, err);
}

/* Makes each match of [0-9][0-9][0-9] a piece. */
static int split_threes(const struct splitter *s, size_t at, const char *text, size_t n, struct tt_error *err)
{
	size_t done = 0, run = 0;
	for (size_t i = 0; i < n; i++) {
		run = text[i] >= '0' && text[i] <= '9' ? run + 1 : 0;
		if (run < 3)
			continue;
		if (i - 2 > done)
			TT_TRY(split(s, at + 1, text + done, i - 2 - done, err));
		TT_TRY(split(s, at + 1, text + i - 2, 3, err));
		done = i + 1;
		run = 0;
	}
	return done < n ? split(s, at + 1, text + done, n - done, err) : TT_OK;
}

/* Recursive; the depth is the number of stages. */
static int split(const struct splitter *s, size_t stage, const char *text, size_t n, struct tt_error *err)
{
	if (stage == s->pretokenizer->n_stages)
		return s->take(s->state, text, n, err);
	switch (s->pretokenizer->stages[stage].kind) {
	case STAGE_PATTERN:
		return split_pattern(s, stage, text, n, err);
	case STAGE_DIGITS:
	case STAGE_DIGIT_RUNS:
		return split_digits(s, stage, text, n, err);
	case STAGE_BYTE_DIGIT_RUNS:
		return split_byte_digits(s, stage, text, n, err);
	case STAGE_BYTE_THREES:
		return split_threes(s, stage, text, n, err);
	}
	return TT_OK;
}

int tt_pretokenize(const struct tt_pretokenizer *pretokenizer, struct tt_pretokenize_run *run, const char *text,
	size_t n, tt_take_piece take, void *state, struct tt_error *err)
{
	struct splitter s = {pretokenizer, run, take, state};
	return n ? split(&s, 0, text, n, err) : TT_OK;
}
