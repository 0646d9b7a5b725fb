/* The interpreter against jinja2: what scripts/goldens/make_template_goldens.py rendered. Provenance marks and limits
 * are worked out by hand. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "runtime/text/jinja/jinja.h"

#define GOLDEN TT_TEST_DATA "/templates/"

static json_t *load(const char *name)
{
	char path[512];
	json_t *goldens = NULL;
	struct tt_error err = {0};
	snprintf(path, sizeof path, GOLDEN "%s", name);
	cr_assert_eq(tt_json_load(&goldens, path, (size_t)16 << 20, &err), TT_OK, "%s", err.message);
	return goldens;
}

static int render(const char *template, size_t n, const json_t *context, time_t now, struct tt_buffer *text,
	struct tt_buffer *untrusted, struct tt_error *err)
{
	struct tt_jinja *jinja = NULL;
	int status = tt_jinja_parse(&jinja, template, n, "t", err);
	if (status == TT_OK)
		status = tt_jinja_render(jinja, context, now, NULL, text, untrusted, err);
	tt_jinja_free(jinja);
	return status;
}

/* One golden case; true when it came out as jinja2 had it. */
static bool holds(const json_t *test, const char *template, size_t n, time_t now)
{
	struct tt_buffer text = {0}, untrusted = {0};
	struct tt_error err = {0};
	const char *name = json_string_value(json_object_get(test, "name"));
	const json_t *output = json_object_get(test, "output"), *raised = json_object_get(test, "raised");
	int status = render(template, n, json_object_get(test, "context"), now, &text, &untrusted, &err);
	bool fine;
	if (output)
		fine = status == TT_OK && text.len == json_string_length(output) &&
		       memcmp(text.data, json_string_value(output), text.len) == 0 && untrusted.len == text.len;
	else if (raised)
		fine = status == TT_ERR_ARGUMENT && strstr(err.message, json_string_value(raised));
	else
		fine = status != TT_OK && status != TT_ERR_ARGUMENT && strstr(err.message, "t: line ") == err.message;
	if (!fine)
		cr_log_error("%s: %d %s\n got: %s\nwant: %s", name, status, err.message, text.data ? text.data : "",
			output ? json_string_value(output) : "an error");
	tt_buffer_free(&text);
	tt_buffer_free(&untrusted);
	return fine;
}

Test(jinja, renders_each_feature_as_jinja2_does)
{
	json_t *goldens = load("features.json"), *test;
	time_t now = (time_t)json_integer_value(json_object_get(goldens, "now"));
	size_t i, failed = 0;
	json_array_foreach(json_object_get(goldens, "cases"), i, test)
	{
		const json_t *template = json_object_get(test, "template");
		failed += !holds(test, json_string_value(template), json_string_length(template), now);
	}
	cr_expect_geq(i, 300u);
	cr_expect_eq(failed, 0u, "%zu of %zu cases differ", failed, i);
	json_decref(goldens);
}

Test(jinja, renders_whole_chat_templates_as_jinja2_does)
{
	json_t *goldens = load("chat.json"), *test;
	time_t now = (time_t)json_integer_value(json_object_get(goldens, "now"));
	size_t i, failed = 0;
	json_array_foreach(json_object_get(goldens, "cases"), i, test)
	{
		char path[512];
		struct tt_buffer source = {0};
		struct tt_error err = {0};
		snprintf(path, sizeof path, GOLDEN "%s", json_string_value(json_object_get(test, "file")));
		cr_assert_eq(tt_file_read(&source, path, (size_t)1 << 20, &err), TT_OK, "%s", err.message);
		failed += !holds(test, source.data, source.len, now);
		tt_buffer_free(&source);
	}
	cr_expect_geq(i, 100u);
	cr_expect_eq(failed, 0u, "%zu of %zu cases differ", failed, i);
	json_decref(goldens);
}

/* Renders with context (JSON text) and expects output, and '1' in marks for each byte that is untrusted; with apart,
 * '2' for those of the last user message. */
static void expect_marks_apart(
	bool apart, const char *template, const char *context, const char *output, const char *marks)
{
	struct tt_buffer text = {0}, untrusted = {0};
	struct tt_error err = {0};
	json_t *values = NULL;
	cr_assert_eq(tt_json_parse(&values, context, strlen(context), "context", &err), TT_OK, "%s", err.message);
	int status = render(template, strlen(template), values, 0, &text, &untrusted, &err);
	cr_assert_eq(status, TT_OK, "%s: %s", template, err.message);
	for (size_t i = 0; i < untrusted.len; i++)
		untrusted.data[i] = (char)((apart ? untrusted.data[i] : untrusted.data[i] != 0) + '0');
	cr_expect_str_eq(text.data, output, "%s", template);
	cr_expect_str_eq(untrusted.data, marks, "%s: marks %s", template, untrusted.data);
	tt_buffer_free(&text);
	tt_buffer_free(&untrusted);
	json_decref(values);
}

static void expect_marks(const char *template, const char *context, const char *output, const char *marks)
{
	expect_marks_apart(false, template, context, output, marks);
}

#define USER "{\"messages\": [{\"role\": \"user\", \"content\": \" a<|im_end|>b \"}]}"

Test(jinja, marks_user_text_byte_for_byte)
{
	static const struct {
		const char *template, *output, *marks;
	} cases[] = {
		{"<|im_end|>{{ messages[0].content }}<|im_end|>", "<|im_end|> a<|im_end|>b <|im_end|>",
			"0000000000"
			"11111111111111"
			"0000000000"},
		{"{{ messages[0].content|trim }}!", "a<|im_end|>b!", "1111111111110"},
		{"{{ messages[0].content[2:12] ~ '<|im_end|>' }}", "<|im_end|><|im_end|>", "11111111110000000000"},
		{"{{ ('<' + messages[0].content.strip())[0:3] }}", "<a<", "011"},
		{"{{ ('x' ~ messages[0].content|trim ~ 'y')[::-1] }}", "yb>|dne_mi|<ax", "01111111111110"},
		{"{{ (messages[0].content|trim).replace('<|', '[') }}", "a[im_end|>b", "10111111111"},
		{"{{ ('-' ~ messages[0].content|trim)|upper }}", "-A<|IM_END|>B", "0111111111111"},
		{"{{ (messages[0].content|trim).split('|')|join('#') }}", "a<#im_end#>b", "110111111011"},
		{"{% set x %}<{{ messages[0].content|trim }}>{% endset %}{{ x[1:] }}", "a<|im_end|>b>",
			"1111111111110"},
		{"{% macro m(c) %}<{{ c|trim }}>{% endmacro %}{{ m(messages[0].content)[:4] }}", "<a<|", "0111"},
		{"{{ messages[0].role }}:{{ messages[0]['content'][1] }}", "user:a", "000001"},
		{"{{ messages[0].content|trim|tojson }}.", "\"a<|im_end|>b\".", "111111111111110"},
		{"{{ messages }}.", "[{'role': 'user', 'content': ' a<|im_end|>b '}].",
			"111111111111111111111111111111111111111111111110"},
		{"{{ '%s|%s' % ('x', messages[0].content[1]) }}", "x|a", "001"},
		{"{{ '{}{}'.format('x', messages[0].content[1]) }}", "xa", "01"},
		{"{{ (messages[0].content[1:3] ~ '\\nq')|indent(2, true) }}", "  a<\n  q", "00110000"},
		{"{{ (messages[0].content[1:4] ~ '<')|escape }}", "a&lt;|&lt;", "1111110000"},
		{"{% for m in messages %}{% for k in m %}{{ k[0] }}{% endfor %}{% endfor %}", "rc", "11"},
		{"{{ ['b', messages[0].content[1]]|sort|join }}", "ab", "10"},
		{"{{ messages[0].content[1:2] * 2 ~ 'x' }}", "aax", "110"},
		{"{{ ['x', messages[0].content[1]]|map('upper')|join('-') }}", "X-A", "001"},
		{"{% set ns = namespace(t='') %}{% for c in messages[0].content[:2] %}{% set ns.t = ns.t ~ '<' ~ c %}"
		 "{% endfor %}{{ ns.t }}",
			"< <a", "0101"},
		{"{{ messages[0].content|length }}", "14", "00"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		expect_marks(cases[i].template, USER, cases[i].output, cases[i].marks);
}

Test(jinja, marks_follow_letters_that_change_their_length)
{
	const char *context = "{\"messages\": [{\"role\": \"user\", \"content\": \"\u00df\u00e9\"}]}";
	expect_marks("{{ ('x' ~ messages[0].content ~ 'y')|upper }}", context, "XSS\u00c9Y", "011110");
	expect_marks("{{ messages[0].content[1] ~ '\u00e9' }}", context, "\u00e9\u00e9", "1100");
}

Test(jinja, marks_the_last_user_message_apart)
{
	static const struct {
		const char *template, *output, *marks;
	} cases[] = {
		{"{% for m in messages %}{{ m.role[0] ~ m.content }}{% endfor %}", "sauaubaa", "01010201"},
		{"{% for m in messages[1:]|reverse %}{{ m.content|trim|upper }}{% endfor %}", "ABA", "121"},
		{"{{ (messages[0].content ~ '-' ~ messages[2].content)[::-1] }}", "b-a", "201"},
		{"{{ messages[2].name ~ messages[2].content|tojson }}", "n\"b\"", "1111"},
		{"{{ ('<' ~ messages[2].content ~ '&')|escape }}", "&lt;b&amp;", "0000200000"},
	};
	const char *context = "{\"messages\": [{\"role\": \"s\", \"content\": \"a\"},"
			      " {\"role\": \"user\", \"content\": \"a\"},"
			      " {\"role\": \"user\", \"content\": \"b\", \"name\": \"n\"},"
			      " {\"role\": \"a\", \"content\": \"a\"}]}";
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		expect_marks_apart(true, cases[i].template, context, cases[i].output, cases[i].marks);
	/* All text in a list of parts, and of a message of another role nothing. */
	expect_marks_apart(true,
		"{{ messages[0].content[0].text ~ messages[0].content[1].text ~ messages[1].content }}",
		"{\"messages\": [{\"role\": \"user\", \"content\": [{\"text\": \"x\"}, {\"text\": \"y\"}]},"
		" {\"role\": \"tool\", \"content\": \"z\"}]}",
		"xyz", "221");
}

Test(jinja, trusts_the_model_and_the_role_but_no_tool_nor_document)
{
	const char *context = "{\"messages\": [{\"role\": \"r\", \"content\": [{\"role\": \"c\"}], \"name\": \"n\"}],"
			      " \"tools\": [{\"role\": \"t\"}], \"documents\": [\"d\"], \"bos_token\": \"b\","
			      " \"nested\": {\"messages\": [\"m\"]}}";
	expect_marks("{{ messages[0].role ~ messages[0].name ~ messages[0].content[0].role }}", context, "rnc", "011");
	expect_marks("{{ tools[0].role ~ documents[0] ~ bos_token ~ nested.messages[0] }}", context, "tdbm", "1100");
}

static void expect_status(const char *template, int status, const char *message)
{
	struct tt_buffer text = {0}, untrusted = {0};
	struct tt_error err = {0};
	json_t *context = json_object();
	cr_expect_eq(render(template, strlen(template), context, 0, &text, &untrusted, &err), status, "%s: %s",
		template, err.message);
	cr_expect(strstr(err.message, message), "%s: %s", template, err.message);
	tt_buffer_free(&text);
	tt_buffer_free(&untrusted);
	json_decref(context);
}

static double processor_seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* A time limit, of a second; ten in a build that is slow on purpose, which clang says in a way of its own. */
#if defined(__has_feature)
#define IS_SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED 1
#else
#define IS_SANITIZED 0
#endif
#if defined(__OPTIMIZE__) && !IS_SANITIZED
#define END_WITHIN 4
#else
#define END_WITHIN 10
#endif

/* The fastest of three tries: beside busy neighbours the system counted 1.2 s for what takes 0.55. */
static double seconds_to_end(const char *template)
{
	double fastest = INFINITY;
	for (int i = 0; i < 3 && fastest >= END_WITHIN; i++) {
		double before = processor_seconds();
		expect_status(template, TT_ERR_LIMIT, "t: line 1");
		fastest = fmin(fastest, processor_seconds() - before);
	}
	return fastest;
}

Test(jinja, ends_what_would_not_end)
{
	static const char *const endless[] = {
		("{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% "
		 "endfor %}"
		 "{% endfor %}"),
		"{% for a in range(10 ** 9) %}{% endfor %}",
		"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
		"{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
		"{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
		"{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
		"{{ 'x' * 10 ** 12 }}",
		"{{ ['x'] * 10 ** 12 }}",
		"{{ ('x' * 10 ** 6).replace('x', 'y' * 1000) }}",
		"{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}",
		"{% for i in range(99999) %}{% set x = 'x' * 100000 %}{% endfor %}",
		"{% for i in range(99999) %}{{ ('x' * 100000)|length }}{% endfor %}",
		"{% for i in range(99999) %}{{ 'y' in 'x' * 1000000 }}{% endfor %}",
		"{% set ns = namespace(x=[]) %}{% for i in range(999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
		"{% set ns = namespace(x=[]) %}{% for i in range(999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ "
		"ns.x|tojson }}",
		"{% set ns = namespace() %}{% set ns.x = [ns] %}{{ ns }}",
		"{{ range(99999)|map('string')|map('replace', '', 'x' * 1000)|list }}",
		"{% set x = range(99999)|list %}{% for i in x %}{{ x == x|list }}{% endfor %}",
		"{{ 2 ** 64 }}",
		"{{ 9223372036854775807 + 1 }}",
		"{{ ''|indent(10 ** 10, true) }}",
		"{% for i in range(99999) %}{% set x = range(99999)|list %}{% endfor %}",
		"{% for i in range(99999) %}{% for j in range(999) %}{% if 'y' in 'x' * j %}{% endif %}{% endfor %}{% "
		"endfor %}",
		"{% set x = range(99999)|list %}{% for i in x %}{% set y = x|sort(reverse=true) %}{% endfor %}",
		"{% set x = range(99999)|list %}{% for i in x %}{% set y = x|map('string')|unique|list %}{% endfor %}",
		"{% set x = 'ab' * 100000 %}{% for i in range(99999) %}{% set y = x.split('a')|join('b') %}{% endfor "
		"%}",
		"{% set x = 'ab' * 100000 %}{% for i in range(99999) %}{% if x|upper == x|lower|title %}{% endif %}{% "
		"endfor %}",
		"{% set x = 'a' * 1000000 %}{% for i in range(99999) %}{% if x == x.strip('b') %}{% endif %}{% endfor "
		"%}",
		"{% set x = 'a' * 100000 %}{% for i in range(99999) %}{% if x.count('a' * 50000 ~ 'b') %}{% endif %}{% "
		"endfor %}",
		"{% set x = 'a' * 100000 %}{% for i in range(99999) %}{% if x.find('a' * 50000 ~ 'b') %}{% endif %}{% "
		"endfor %}",
		"{% set x = 'a' * 1000000 %}{% for i in range(99999) %}{% if x[::-1] == x %}{% endif %}{% endfor %}",
		"{% set x = {} %}{% for i in range(99999) %}{% for j in range(99) %}{% set y = dict(a=i, b=j)|tojson "
		"%}{% endfor "
		"%}{% endfor %}",
	};
	for (size_t i = 0; i < sizeof endless / sizeof *endless; i++) {
		double seconds = seconds_to_end(endless[i]);
		cr_expect_lt(seconds, END_WITHIN, "%.2f s: %s", seconds, endless[i]);
		printf("%.2f s: %s\n", seconds, endless[i]);
	}
}

static char *repeated(const char *unit, size_t times, const char *end)
{
	size_t n = strlen(unit);
	char *text = calloc(times * n + strlen(end) + 1, 1);
	for (size_t i = 0; text && i < times; i++)
		memcpy(text + i * n, unit, n);
	if (text)
		memcpy(text + times * n, end, strlen(end));
	return text;
}

Test(jinja, refuses_depth_when_it_parses)
{
	static const char *const units[] = {"{{ (", "{{ [", "{{ {1:", "{{ not ", "{{ -", "{{ 1 + ", "{{ 1|abs",
		"{{ a.b", "{{ a(", "{{ 1 if 1 else ", "{% if 1 %}", "{% for i in [1] %}", "{{ a[", "{% macro m() %}",
		"{% set (", "{{ 1 is odd is "};
	for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
		const char *unit = units[i];
		bool tag = strstr(unit, "%}") != NULL;
		char *middle = repeated(tag ? unit : unit + 3 - (unit[3] == ' '), 5000, "");
		char *text = calloc(strlen(middle) + strlen(unit) + 64, 1);
		struct tt_jinja *jinja = NULL;
		struct tt_error err = {0};
		cr_assert(text);
		sprintf(text, "%s%s 1 }}", tag ? "" : unit, middle);
		cr_expect_neq(tt_jinja_parse(&jinja, text, strlen(text), "t", &err), TT_OK, "%s", unit);
		tt_jinja_free(jinja);
		free(text);
		free(middle);
	}
}

Test(jinja, refuses_what_it_lacks_by_name_and_line)
{
	expect_status("a\n{% include 'x' %}", TT_ERR_UNSUPPORTED, "t: line 2: tag 'include'");
	expect_status("\n\n{% call m() %}{% endcall %}", TT_ERR_UNSUPPORTED, "t: line 3: tag 'call'");
	expect_status("{% for x in y recursive %}{% endfor %}", TT_ERR_UNSUPPORTED, "recursive");
	expect_status("{{ 1 }}\n{{ x|wordwrap }}", TT_ERR_UNSUPPORTED, "t: line 2: filter 'wordwrap'");
	expect_status("{{ x is module }}", TT_ERR_UNSUPPORTED, "test 'module'");
	expect_status("{{ f(*x) }}", TT_ERR_UNSUPPORTED, "*");
	expect_status("{{ 'a'.encode() }}", TT_ERR_UNSUPPORTED, "str.encode");
	expect_status("{{ cycler(1) }}", TT_ERR_UNSUPPORTED, "cycler");
	expect_status("{{ \"\n\" }}{{ raise_exception('why\nnot') }}", TT_ERR_ARGUMENT, "t: line 2: why?not");
	expect_status("\xff", TT_ERR_FORMAT, "UTF-8");
}

Test(jinja, keeps_its_limits_as_given)
{
	struct tt_jinja_limits few = {.max_steps = 100}, small = {.max_output = 10}, flat = {.max_depth = 5};
	const char *template = "{% for i in range(50) %}{{ ((((i + 1) * 1) + 0) - 1) * 1 }}{% endfor %}";
	struct tt_buffer text = {0}, untrusted = {0};
	struct tt_jinja *jinja = NULL;
	struct tt_error err = {0};
	json_t *context = json_object();
	cr_assert_eq(tt_jinja_parse(&jinja, template, strlen(template), "t", &err), TT_OK, "%s", err.message);
	cr_expect_eq(tt_jinja_render(jinja, context, 0, &few, &text, &untrusted, &err), TT_ERR_LIMIT);
	cr_expect_eq(tt_jinja_render(jinja, context, 0, &small, &text, &untrusted, &err), TT_ERR_LIMIT);
	cr_expect_eq(tt_jinja_render(jinja, context, 0, &flat, &text, &untrusted, &err), TT_ERR_LIMIT);
	cr_expect_eq(text.len, 0u, "a failed rendering leaves nothing");
	cr_expect_eq(tt_jinja_render(jinja, context, 0, NULL, &text, &untrusted, &err), TT_OK, "%s", err.message);
	cr_expect_eq(text.len, 90u);
	cr_expect_eq(untrusted.len, 90u);
	tt_buffer_free(&text);
	tt_buffer_free(&untrusted);
	tt_jinja_free(jinja);
	json_decref(context);
}

enum { STEPS, OUTPUT, DEPTH, N_LIMITS };

/* True when the case ended within the limit, as it does without one. */
static bool ends_within(const struct tt_jinja *jinja, const json_t *test, time_t now, int which, uint64_t limit)
{
	struct tt_jinja_limits limits = {0};
	struct tt_buffer text = {0}, untrusted = {0};
	struct tt_error err = {0};
	const json_t *output = json_object_get(test, "output");
	const char *name = json_string_value(json_object_get(test, "name"));
	limits.max_steps = which == STEPS ? limit : 0;
	limits.max_output = which == OUTPUT ? limit : 0;
	limits.max_depth = which == DEPTH ? (uint32_t)limit : 0;
	int status = tt_jinja_render(jinja, json_object_get(test, "context"), now, &limits, &text, &untrusted, &err);
	if (status != TT_ERR_LIMIT && output)
		cr_expect(status == TT_OK && text.len == json_string_length(output), "%s: limit %d of %llu gave %d: %s",
			name, which, (unsigned long long)limit, status, err.message);
	if (status == TT_ERR_LIMIT)
		cr_expect(strstr(err.message, "t: line "), "%s: %s", name, err.message);
	tt_buffer_free(&text);
	tt_buffer_free(&untrusted);
	return status != TT_ERR_LIMIT;
}

/* A limit may be reached anywhere: every feature, with every smaller limit than it needs. */
Test(jinja, stops_at_every_step_and_byte)
{
	static const uint64_t most[N_LIMITS] = {300, 120, 40};
	json_t *goldens = load("features.json"), *test;
	time_t now = (time_t)json_integer_value(json_object_get(goldens, "now"));
	size_t i, n_stopped = 0;
	json_array_foreach(json_object_get(goldens, "cases"), i, test)
	{
		struct tt_jinja *jinja = NULL;
		const json_t *template = json_object_get(test, "template");
		if (tt_jinja_parse(&jinja, json_string_value(template), json_string_length(template), "t", NULL) !=
			TT_OK)
			continue;
		for (int which = 0; which < N_LIMITS; which++)
			for (uint64_t limit = 1; limit < most[which] && !ends_within(jinja, test, now, which, limit);
				limit++)
				n_stopped++;
		tt_jinja_free(jinja);
	}
	printf("%zu renderings were stopped\n", n_stopped);
	cr_expect_gt(n_stopped, 1000);
	json_decref(goldens);
}
