/* Options structs of programs that were made with another header than the library: an older one, whose struct ends
 * sooner, and a newer one, whose struct ends later. */
#include <stdlib.h>
#include <unistd.h>

#include "golden.h"

#define MODEL GOLDEN("tiny-llama/tiny-llama.q8_0.gguf")

enum { POISON = 0xA5, MORE = 16 };
static const int32_t IDS[5] = {5, 90, 17, 200, 3};
static const char *const ABSENT[] = {"/nonexistent/rows.jsonl"};
static struct tt_engine *engine;
static struct tt_text *text;
static char captured[64];

/* ---- For each struct: what an old program sets, and a call of which only the members that it knows decide what comes.
 */

static void fill_chat(void *options)
{
	((struct tt_chat_options *)options)->no_generation_prompt = true;
}

static int use_chat(const void *options, struct tt_error *error)
{
	static const char messages[] = "[{\"role\": \"user\", \"content\": \"Hi\"}]";
	char *prompt = NULL, *expected = NULL;
	const struct tt_chat_options same = {.size = sizeof same, .no_generation_prompt = true};
	int status = tt_text_render(text, messages, options, &prompt, error);
	must(tt_text_render(text, messages, &same, &expected, err));
	if (status == TT_OK)
		cr_expect_str_eq(prompt, expected);
	tt_free(prompt);
	tt_free(expected);
	return status;
}

static void fill_engine(void *options)
{
	((struct tt_engine_options *)options)->device = "cpu";
	((struct tt_engine_options *)options)->n_threads = 1;
}

static int use_engine(const void *options, struct tt_error *error)
{
	struct tt_engine *e = NULL;
	int status = tt_engine_open(&e, MODEL, options, error);
	if (status == TT_OK)
		cr_expect_eq(tt_engine_info(e)->n_threads, 1);
	tt_engine_close(e);
	return status;
}

static void fill_request(void *options)
{
	struct tt_request_options *o = options;
	o->ids = IDS;
	o->n_ids = 5;
	o->max_tokens = 4;
	o->ignore_eos = true;
}

static int use_request(const void *options, struct tt_error *error)
{
	struct tt_request *requests[2] = {NULL};
	struct tt_request_options same;
	tt_request_options_default(&same);
	fill_request(&same);
	int status = tt_request_submit(&requests[0], engine, options, error);
	must(tt_request_submit(&requests[1], engine, &same, err));
	for (int i = 0; i < 2 && status == TT_OK; i++)
		must(tt_request_wait(requests[i], err));
	if (status == TT_OK) {
		cr_assert_eq(tt_request_n_generated(requests[0]), 4);
		cr_expect_arr_eq(tt_request_generated(requests[0]), tt_request_generated(requests[1]),
			4 * sizeof *tt_request_generated(requests[1]));
	}
	tt_request_free(requests[0]);
	tt_request_free(requests[1]);
	return status;
}

static void fill_capture(void *options)
{
	((struct tt_capture_options *)options)->ids = IDS;
	((struct tt_capture_options *)options)->n_ids = 5;
}

static void fill_capture_data(void *options)
{
	((struct tt_capture_data_options *)options)->data = "/nonexistent/rows.jsonl";
}

static int use_capture_data(const void *options, struct tt_error *error)
{
	return tt_capture_data(engine, options, captured, NULL, error);
}

static int use_capture(const void *options, struct tt_error *error)
{
	return tt_capture(engine, options, captured, error);
}

static void fill_fit(void *options)
{
	((struct tt_fit_options *)options)->data = ABSENT;
	((struct tt_fit_options *)options)->n_data = 1;
}

static int use_fit(const void *options, struct tt_error *error)
{
	struct tt_policy *policy = NULL;
	int status = tt_fit(&policy, engine, options, NULL, error);
	tt_policy_free(policy);
	return status;
}

static void fill_eval(void *options)
{
	((struct tt_eval_options *)options)->data = ABSENT;
	((struct tt_eval_options *)options)->n_data = 1;
}

static int use_eval(const void *options, struct tt_error *error)
{
	char *report = NULL;
	int status = tt_eval(engine, options, &report, error);
	tt_free(report);
	return status;
}

static void fill_attack(void *options)
{
	((struct tt_attack_options *)options)->data = ABSENT;
	((struct tt_attack_options *)options)->n_data = 1;
}

static int use_attack(const void *options, struct tt_error *error)
{
	char *report = NULL;
	int status = tt_attack(engine, options, &report, error);
	tt_free(report);
	return status;
}

static void fill_score(void *options)
{
	((struct tt_score_options *)options)->perplexity = ABSENT[0];
}

static int use_score(const void *options, struct tt_error *error)
{
	char *report = NULL;
	int status = tt_score(engine, options, &report, error);
	tt_free(report);
	return status;
}

static void fill_stack(void *options)
{
	((struct tt_stack_options *)options)->n_steering = 2;
}

static int use_stack(const void *options, struct tt_error *error)
{
	char *report = NULL;
	return tt_stack(engine, options, &report, error);
}

static void fill_batch(void *options)
{
	((struct tt_batch_options *)options)->input = ABSENT[0];
	((struct tt_batch_options *)options)->output = "/nonexistent/out.jsonl";
}

static int use_batch(const void *options, struct tt_error *error)
{
	return tt_batch(engine, options, NULL, error);
}

static int use_batch_check(const void *options, struct tt_error *error)
{
	return tt_batch_check(options, error);
}

static void default_engine(void *o, size_t size)
{
	tt_engine_options_default_sized(o, size);
}

static void default_request(void *o, size_t size)
{
	tt_request_options_default_sized(o, size);
}

static void default_fit(void *o, size_t size)
{
	tt_fit_options_default_sized(o, size);
}

static void default_eval(void *o, size_t size)
{
	tt_eval_options_default_sized(o, size);
}

static void default_attack(void *o, size_t size)
{
	tt_attack_options_default_sized(o, size);
}

static void default_score(void *o, size_t size)
{
	tt_score_options_default_sized(o, size);
}

static void default_batch(void *o, size_t size)
{
	tt_batch_options_default_sized(o, size);
}

/* Structs without a _default function begin as zeros. */
static void default_zero(void *o, size_t size)
{
	memset(o, 0, size);
	memcpy(o, &size, sizeof size);
}

/* old: where the struct of an older header ends. */
#define KIND(name, type, member) #type, sizeof(struct type), offsetof(struct type, member), default_##name
static const struct kind {
	const char *name;
	size_t size, old;
	void (*defaults)(void *options, size_t size);
	void (*fill)(void *options);
	int (*use)(const void *options, struct tt_error *err);
	int status;        /* what comes of the call */
	const char *words; /* in its message, or NULL */
} KINDS[] = {
	{KIND(zero, tt_chat_options, bos), fill_chat, use_chat, TT_OK, NULL},
	{KIND(engine, tt_engine_options, kv_tokens), fill_engine, use_engine, TT_OK, NULL},
	{KIND(request, tt_request_options, stop_ids), fill_request, use_request, TT_OK, NULL},
	{KIND(zero, tt_capture_options, mean_from), fill_capture, use_capture, TT_OK, NULL},
	{KIND(zero, tt_capture_data_options, layers), fill_capture_data, use_capture_data, TT_ERR_IO,
		"/nonexistent/rows.jsonl"},
	{KIND(fit, tt_fit_options, rank), fill_fit, use_fit, TT_ERR_IO, "/nonexistent/rows.jsonl"},
	{KIND(eval, tt_eval_options, limit), fill_eval, use_eval, TT_ERR_IO, "/nonexistent/rows.jsonl"},
	{KIND(attack, tt_attack_options, policy), fill_attack, use_attack, TT_ERR_ARGUMENT, "steering[0].policy"},
	{KIND(score, tt_score_options, letters), fill_score, use_score, TT_ERR_IO, "/nonexistent/rows.jsonl"},
	{KIND(zero, tt_stack_options, scales), fill_stack, use_stack, TT_ERR_ARGUMENT, "neither data nor"},
	{KIND(batch, tt_batch_options, telemetry), fill_batch, use_batch, TT_ERR_IO, "/nonexistent/rows.jsonl"},
	{KIND(batch, tt_batch_options, telemetry), fill_batch, use_batch_check, TT_OK, NULL},
};
enum { N_KINDS = sizeof KINDS / sizeof *KINDS };

static void setup(void)
{
	engine = engine_open(MODEL, 4, 64);
	must(tt_text_open(&text, TT_TEST_DATA "/templates/chatml.jinja", err));
	snprintf(captured, sizeof captured, "/tmp/trimtab-options-%d.safetensors", (int)getpid());
}

static void teardown(void)
{
	unlink(captured);
	tt_text_close(text);
	tt_engine_close(engine);
}

TestSuite(options, .init = setup, .fini = teardown);

/* A caller's struct of size bytes, in room bytes: where these are the same, a sanitizer sees what goes beyond. */
static unsigned char *filled(const struct kind *kind, size_t size, size_t room)
{
	unsigned char *options = malloc(room);
	cr_assert_not_null(options);
	memset(options, POISON, room);
	kind->defaults(options, size);
	kind->fill(options);
	return options;
}

static void expect_use(const struct kind *kind, const void *options, const char *what)
{
	struct tt_error err = {0};
	int status = kind->use(options, &err);
	cr_expect_eq(status, kind->status, "%s, %s: %d, %s", kind->name, what, status, err.message);
	if (kind->words)
		cr_expect_not_null(strstr(err.message, kind->words), "%s, %s: %s", kind->name, what, err.message);
}

Test(options, an_older_program_gets_the_defaults_of_what_it_does_not_know)
{
	for (int i = 0; i < N_KINDS; i++) {
		const struct kind *kind = &KINDS[i];
		unsigned char *options = filled(kind, kind->old, kind->size);
		for (size_t k = kind->old; k < kind->size; k++)
			cr_expect_eq(options[k], POISON, "%s: byte %zu was written", kind->name, k);
		expect_use(kind, options, "poison after it");
		free(options);
		options = filled(kind, kind->old, kind->old);
		expect_use(kind, options, "nothing after it");
		free(options);
	}
}

Test(options, a_newer_program_is_served_unless_it_sets_what_the_library_does_not_know)
{
	for (int i = 0; i < N_KINDS; i++) {
		const struct kind *kind = &KINDS[i];
		unsigned char *options = filled(kind, kind->size + MORE, kind->size + MORE);
		expect_use(kind, options, "zeros after what is known");
		for (size_t k = kind->size; k < kind->size + MORE; k++) {
			struct tt_error err = {0};
			options[k] = 1;
			cr_expect_eq(kind->use(options, &err), TT_ERR_UNSUPPORTED, "%s: %zu", kind->name, k);
			cr_expect_not_null(strstr(err.message, kind->name), "%s", err.message);
			options[k] = 0;
		}
		free(options);
	}
}

Test(options, a_size_that_was_never_set_is_refused_by_name)
{
	static const size_t sizes[] = {0, 1, sizeof(size_t) - 1, (size_t)1 << 20, SIZE_MAX};
	for (int i = 0; i < N_KINDS; i++)
		for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
			const struct kind *kind = &KINDS[i];
			struct tt_error err = {0};
			unsigned char *options = filled(kind, kind->size, kind->size);
			memcpy(options, &sizes[k], sizeof sizes[k]);
			cr_expect_eq(kind->use(options, &err), TT_ERR_ARGUMENT, "%s: %zu", kind->name, sizes[k]);
			cr_expect_eq(strncmp(err.message, kind->name, strlen(kind->name)), 0, "%s", err.message);
			free(options);
		}
}

Test(options, version)
{
	char *report = NULL;
	cr_expect_str_eq(tt_version(), TT_VERSION);
	must(tt_describe_build(&report, err));
	cr_expect_not_null(strstr(report, "\"version\":\"" TT_VERSION "\""), "%s", report);
	cr_expect_not_null(strstr(report, "\"cuda\":null"), "%s", report);
	cr_expect_null(strstr(report, "\"commit\":\"\""), "%s", report);
	tt_free(report);
}
