/* tt_score against PyTorch and scipy (scripts/goldens/make_score_goldens.py): the encoding of choices as
 * lm-evaluation-harness has it, every log-probability, what is chosen, and intervals. */
#include <criterion/criterion.h>
#include <jansson.h>

#include "controller/measure/choices.h"
#include "controller/measure/metrics.h"
#include "golden.h"
#include "weights_files.h"

#define TINY GOLDEN("tiny-llama")
#define FILE_OF(name) GOLDEN("score/" name)

static const char *const FILES[] = {"rows.jsonl", "given.jsonl"};
enum { WIDTH = 64, N_LAYERS = 3 };
/* Nats a token, from float32 logits in another order of summation: at most 2e-6 measured. */
static const double PER_TOKEN = 2e-5;

/* The golden's steering. */
static struct tt_policy *policy_of(struct tt_engine *engine)
{
	struct tt_policy *p = NULL;
	must(tt_policy_new(&p, N_LAYERS, WIDTH, 1, err));
	for (uint32_t l = 1; l < N_LAYERS; l++) {
		p->weights[l] = 1;
		for (int i = 0; i < WIDTH; i++)
			p->directions[l * WIDTH + (uint32_t)i] = (float)((i * 3 + (int)l) % 7 - 3) / 4;
	}
	p->alpha = 1.5f;
	policy_adopt(engine, p);
	return p;
}

struct world {
	struct tt_engine *engine;
	struct tt_policy *policy;
	struct tt_score_options options;
	struct scratch scratch;
	json_t *expected, *report, *rows; /* rows: a list of what the file has */
	char *path;
};

static void world_make(struct world *w)
{
	*w = (struct world){.engine = engine_open(TINY, 8, 64)};
	w->policy = policy_of(w->engine);
	scratch_make(&w->scratch);
	w->path = strdup(scratch_write(&w->scratch, FILES[0], "", 0));
	w->expected = json_load_file(FILE_OF("expected.json"), 0, NULL);
	cr_assert_not_null(w->expected);
	tt_score_options_default(&w->options);
	w->options.rows = w->path;
	w->options.steering[0] = (struct tt_steering){w->policy, 1};
	w->options.n_steering = 1;
}

static void measure(struct world *w)
{
	char *text = NULL, line[4096];
	json_decref(w->report);
	json_decref(w->rows);
	must(tt_score(w->engine, &w->options, &text, err));
	w->report = json_loads(text, 0, NULL);
	w->rows = json_array();
	tt_free(text);
	FILE *file = fopen(w->path, "r");
	while (file && fgets(line, sizeof line, file))
		json_array_append_new(w->rows, json_loads(line, 0, NULL));
	cr_assert(file && w->report && json_array_size(w->rows) > 0);
	fclose(file);
}

static void world_free(struct world *w)
{
	json_decref(w->expected);
	json_decref(w->report);
	json_decref(w->rows);
	free(w->path);
	tt_engine_close(w->engine);
	tt_policy_free(w->policy);
	scratch_remove(&w->scratch, FILES, 2);
}

static double number(const json_t *object, const char *key, size_t index)
{
	const json_t *value = json_object_get(object, key);
	value = json_is_array(value) ? json_array_get(value, index) : value;
	cr_assert(json_is_number(value), "%s[%zu]", key, index);
	return json_number_value(value);
}

/* ---- Choices */

static void check_ids(const int32_t *ids, size_t n, const json_t *want, const char *id, const char *what)
{
	cr_assert_eq(n, json_array_size(want), "%s: %zu ids of %s", id, n, what);
	for (size_t i = 0; i < n; i++)
		cr_assert_eq(ids[i], json_integer_value(json_array_get(want, i)), "%s: id %zu of %s", id, i, what);
}

static void check_encoding(struct world *w, const char *path, const struct tt_choices_form *form, const char *key)
{
	const json_t *want = json_object_get(w->expected, key);
	struct tt_choices c;
	must(tt_choices_read(&c, w->engine, path, form, 0, err));
	cr_assert_eq(c.n, json_array_size(want));
	for (size_t i = 0; i < c.n; i++) {
		const struct tt_question *q = &c.questions[i];
		const json_t *row = json_array_get(want, i), *ids = json_object_get(row, "choice_ids");
		cr_expect_str_eq(q->id, json_string_value(json_object_get(row, "id")));
		check_ids(q->prompt.ids, q->prompt.n_ids, json_object_get(row, "context_ids"), q->id, "the context");
		cr_assert_eq(q->n, json_array_size(ids));
		for (size_t k = 0; k < q->n; k++)
			check_ids(c.choices[q->first + k].ids, c.choices[q->first + k].n_ids, json_array_get(ids, k),
				q->id, "a choice");
	}
	tt_choices_free(&c);
}

Test(score_figures, choices_are_encoded_as_lm_eval_does)
{
	struct world w;
	world_make(&w);
	check_encoding(&w, FILE_OF("choices.jsonl"), &(struct tt_choices_form){.text = TT_TEXT_BOS}, "text");
	check_encoding(&w, FILE_OF("letters.jsonl"), &(struct tt_choices_form){.letters = true}, "letters");
	world_free(&w);
}

static void check_side(const json_t *got, const json_t *want, const json_t *n_tokens, const char *id)
{
	for (size_t k = 0; k < json_array_size(n_tokens); k++) {
		double difference = number(got, "logprobs", k) - number(want, "logprobs", k);
		cr_expect(fabs(difference) <= PER_TOKEN * json_number_value(json_array_get(n_tokens, k)),
			"%s: choice %zu is %g off", id, k, difference);
		cr_expect_eq(json_is_true(json_array_get(json_object_get(got, "greedy"), k)),
			json_is_true(json_array_get(json_object_get(want, "greedy"), k)));
	}
	cr_expect_eq(number(got, "chosen", 0), number(want, "chosen", 0), "%s", id);
	cr_expect_eq(number(got, "chosen_norm", 0), number(want, "chosen_norm", 0), "%s", id);
}

/* The counts, and the shares, worked out from the golden's choices. */
static void check_counts(struct world *w, const json_t *want, const char *steered)
{
	static const char *const chosen[] = {"chosen", "chosen_norm"}, *const keys[] = {"acc", "acc_norm"};
	const json_t *report = json_object_get(w->report, "choices"), *paired = json_object_get(report, "paired");
	size_t n = json_array_size(want);
	for (int by = 0; by < 2; by++) {
		double right[2] = {0}, gained = 0, lost = 0, changed = 0, low, high;
		for (size_t i = 0; i < n; i++) {
			double answer = number(json_array_get(w->rows, i), "answer", 0), choice[2];
			choice[0] = number(json_object_get(json_array_get(want, i), "unsteered"), chosen[by], 0);
			choice[1] = number(json_object_get(json_array_get(want, i), steered), chosen[by], 0);
			right[0] += choice[0] == answer;
			right[1] += choice[1] == answer;
			gained += choice[1] == answer && choice[0] != answer;
			lost += choice[0] == answer && choice[1] != answer;
			changed += choice[0] != choice[1];
		}
		const json_t *pairs = json_object_get(paired, keys[by]);
		cr_expect(number(pairs, "gained", 0) == gained && number(pairs, "lost", 0) == lost &&
			  number(pairs, "changed", 0) == changed && number(pairs, "n", 0) == (double)n);
		cr_expect_float_eq(number(pairs, "p", 0), tt_sign_test((size_t)gained, (size_t)lost), 1e-8);
		for (int side = 0; side < 2; side++) {
			const char *name = side ? "steered" : "unsteered";
			char interval[40];
			snprintf(interval, sizeof interval, "%s_interval", keys[by]);
			tt_wilson((size_t)right[side], n, &low, &high);
			cr_expect_float_eq(
				number(json_object_get(report, keys[by]), name, 0), right[side] / (double)n, 1e-8);
			const json_t *bounds = json_object_get(report, interval);
			cr_expect_float_eq(number(bounds, name, 0), low, 1e-8);
			cr_expect_float_eq(number(bounds, name, 1), high, 1e-8);
		}
	}
}

static void check_choices(struct world *w, const char *key, const char *steered)
{
	const json_t *want = json_object_get(w->expected, key);
	measure(w);
	cr_assert_eq(json_array_size(w->rows), json_array_size(want));
	for (size_t i = 0; i < json_array_size(want); i++) {
		const json_t *row = json_array_get(w->rows, i), *of = json_array_get(want, i);
		const json_t *n_tokens = json_object_get(row, "choice_tokens");
		const char *id = json_string_value(json_object_get(of, "id"));
		cr_expect_str_eq(json_string_value(json_object_get(row, "id")), id);
		check_side(json_object_get(row, "unsteered"), json_object_get(of, "unsteered"), n_tokens, id);
		check_side(json_object_get(row, "steered"), json_object_get(of, steered), n_tokens, id);
	}
	check_counts(w, want, steered);
}

Test(score_figures, choices_equal_pytorch)
{
	struct world w;
	world_make(&w);
	w.options.choices = FILE_OF("choices.jsonl");
	w.options.when = TT_WHEN_ALL;
	check_choices(&w, "text", "all");
	/* Of the 5 questions with 15 choices 4 contexts have a page or two before what
	 * is scored, which each choice finds but the first. */
	const json_t *tokens = json_object_get(w.report, "tokens");
	cr_expect_geq(number(json_object_get(tokens, "shared"), "unsteered", 0), (2 + 4 + 1 + 2) * 16);
	w.options.when = TT_WHEN_GENERATION;
	check_choices(&w, "text", "generation");
	w.options.choices = FILE_OF("letters.jsonl");
	w.options.letters = true;
	check_choices(&w, "letters", "generation");
	w.options.when = TT_WHEN_ALL;
	check_choices(&w, "letters", "all");
	world_free(&w);
}

Test(score_figures, without_a_policy_there_is_one_side)
{
	struct world w;
	world_make(&w);
	w.options.choices = FILE_OF("choices.jsonl");
	w.options.n_steering = 0;
	w.options.limit = 2;
	measure(&w);
	const json_t *report = json_object_get(w.report, "choices");
	cr_expect_eq(json_array_size(w.rows), 2);
	cr_expect(json_is_null(json_object_get(report, "paired")) && json_is_null(json_object_get(report, "flagged")));
	cr_expect(json_is_null(json_object_get(json_object_get(report, "acc"), "steered")));
	cr_expect(json_is_null(json_object_get(json_array_get(w.rows, 0), "steered")));
	world_free(&w);
}

/* A text that the model would write itself is greedy, and one with another token is not. */
Test(score_figures, what_the_model_would_write_is_greedy)
{
	enum { N = 8 };
	struct world w;
	struct tt_request_options o;
	struct tt_completion c[2] = {{0}};
	struct tt_progress progress = {0};
	int32_t ids[20];
	world_make(&w);
	for (int i = 0; i < 20; i++)
		ids[i] = (i * 11 + 5) % 200;
	tt_request_options_default(&o);
	o.ids = ids;
	o.n_ids = 20;
	o.max_tokens = N;
	o.ignore_eos = true;
	must(tt_completions_run(w.engine, &o, 1, c, &progress, err));
	must(tt_completion_copy(&c[1], &c[0], err));
	c[1].ids[N / 2] = (c[1].ids[N / 2] + 1) % 200;
	const struct tt_request_options both[] = {o, o};
	double logprob = c[0].logprob;
	must(tt_completions_score_steered(w.engine, both, 2, c, &progress, err));
	cr_expect(c[0].greedy && !c[1].greedy);
	cr_expect_eq(c[0].logprob, logprob, "the same floats, summed in the same order");
	tt_completion_free(&c[0]);
	tt_completion_free(&c[1]);
	world_free(&w);
}

/* ---- Perplexity */

static void check_windows(struct world *w, const json_t *spec, const char *steered)
{
	const json_t *want = json_object_get(spec, "windows"), *report;
	double sums[2][64] = {{0}}, counts[64], total = 0;
	size_t n = json_array_size(want);
	w->options.window = (uint32_t)number(spec, "window", 0);
	w->options.stride = (uint32_t)number(spec, "stride", 0);
	measure(w);
	cr_assert(n <= 64 && json_array_size(w->rows) == n, "%zu windows, not %zu", json_array_size(w->rows), n);
	for (size_t i = 0; i < n; i++) {
		const json_t *row = json_array_get(w->rows, i), *of = json_array_get(want, i);
		cr_expect(number(row, "from", 0) == number(of, "from", 0) &&
			  number(row, "to", 0) == number(of, "to", 0) &&
			  number(row, "n_scored", 0) == number(of, "n_scored", 0));
		counts[i] = number(of, "n_scored", 0);
		total += counts[i];
		for (int side = 0; side < 2; side++) {
			sums[side][i] = number(json_object_get(of, "nll"), side ? steered : "unsteered", 0);
			double got = number(json_object_get(row, "nll"), side ? "steered" : "unsteered", 0);
			cr_expect(fabs(got - sums[side][i]) <= PER_TOKEN * counts[i], "window %zu: %g, not %g", i, got,
				sums[side][i]);
		}
	}
	report = json_object_get(w->report, "perplexity");
	cr_expect_eq(number(report, "n_scored", 0), total);
	cr_expect_eq(number(report, "n_tokens", 0), number(w->expected, "n_tokens", 0));
	for (int side = 0; side < 2; side++) {
		const char *name = side ? "steered" : "unsteered";
		double mean, low, high;
		tt_cluster_mean(sums[side], counts, n, &mean, &low, &high);
		double perplexity = number(json_object_get(report, "perplexity"), name, 0);
		cr_expect_float_eq(log(perplexity), mean, PER_TOKEN);
		const json_t *bounds = json_object_get(report, "perplexity_interval");
		cr_expect_float_eq(log(number(bounds, name, 0)), low, 2 * PER_TOKEN);
		cr_expect_float_eq(log(number(bounds, name, 1)), high, 2 * PER_TOKEN);
	}
	for (size_t i = 0; i < n; i++)
		sums[1][i] -= sums[0][i];
	double mean, low, high;
	tt_cluster_mean(sums[1], counts, n, &mean, &low, &high);
	const json_t *paired = json_object_get(report, "paired");
	cr_expect_float_eq(log(number(paired, "ratio", 0)), mean, PER_TOKEN);
	cr_expect_float_eq(log(number(paired, "ratio_interval", 0)), low, 2 * PER_TOKEN);
	cr_expect_float_eq(log(number(paired, "ratio_interval", 1)), high, 2 * PER_TOKEN);
}

Test(score_figures, perplexity_equals_pytorch)
{
	struct world w;
	world_make(&w);
	const json_t *specs = json_object_get(w.expected, "perplexity"), *spec;
	size_t i;
	w.options.perplexity = FILE_OF("text.txt");
	json_array_foreach(specs, i, spec)
	{
		w.options.when = TT_WHEN_ALL;
		check_windows(&w, spec, "all");
		w.options.when = TT_WHEN_GENERATION;
		check_windows(&w, spec, "generation");
	}
	world_free(&w);
}

Test(score_figures, intervals_are_those_of_scipy)
{
	json_t *expected = json_load_file(FILE_OF("expected.json"), 0, NULL);
	const json_t *cases = json_object_get(expected, "intervals"), *of;
	size_t i;
	cr_assert_geq(json_array_size(cases), 6);
	json_array_foreach(cases, i, of)
	{
		double sums[300], counts[300], mean, low, high;
		size_t n = json_array_size(json_object_get(of, "sums"));
		cr_assert_leq(n, 300);
		for (size_t k = 0; k < n; k++) {
			sums[k] = number(of, "sums", k);
			counts[k] = number(of, "counts", k);
		}
		tt_cluster_mean(sums, counts, n, &mean, &low, &high);
		double want = number(of, "interval", 0), half = want - number(of, "interval", 1);
		cr_expect_float_eq(mean, want, 1e-12);
		/* The series of t is at most 0.3% off, at 4 degrees of freedom. */
		cr_expect_float_eq(mean - low, half, 3e-3 * half, "%zu: %g, not %g", n, mean - low, half);
		cr_expect_float_eq(high - mean, half, 3e-3 * half);
		tt_cluster_mean(sums, counts, TT_MIN_CLUSTERS - 1, &mean, &low, &high);
		cr_expect(isfinite(mean) && isnan(low) && isnan(high));
	}
	json_decref(expected);
}

/* ---- What is refused */

static void expect_error(struct world *w, const char *message)
{
	struct tt_error problem = {0};
	char *report = NULL;
	cr_expect_lt(tt_score(w->engine, &w->options, &report, &problem), 0, "%s", message);
	cr_expect_not_null(strstr(problem.message, message), "not \"%s\": %s", message, problem.message);
	cr_expect_null(report);
	tt_score_options_default(&w->options);
}

Test(score_figures, what_cannot_be_measured_is_refused)
{
	struct world w;
	world_make(&w);
	tt_score_options_default(&w.options);
	expect_error(&w, "either choices or a text");
	w.options.choices = w.options.perplexity = FILE_OF("text.txt");
	expect_error(&w, "either choices or a text");
	w.options.choices = FILE_OF("choices.jsonl");
	w.options.stride = 5;
	expect_error(&w, "window and stride are for perplexity");
	w.options.choices = FILE_OF("choices.jsonl");
	w.options.letters = true;
	expect_error(&w, "choices.jsonl:4: letters need a question");
	w.options.choices = FILE_OF("choices.jsonl");
	w.options.rows = FILE_OF("choices.jsonl");
	expect_error(&w, "would be both the choices and the rows");
	w.options.choices = FILE_OF("choices.jsonl");
	w.options.n_steering = 1;
	expect_error(&w, "steering[0].policy");
	w.options.perplexity = FILE_OF("text.txt");
	w.options.chat = true;
	expect_error(&w, "letters and chat are for choices");
	w.options.perplexity = FILE_OF("text.txt");
	w.options.window = 1;
	expect_error(&w, "a window needs at least 2 tokens");
	w.options.perplexity = FILE_OF("text.txt");
	w.options.window = 1 << 20;
	expect_error(&w, "more than the context of");
	w.options.perplexity = FILE_OF("text.txt");
	w.options.window = 10;
	w.options.stride = 11;
	expect_error(&w, "leaves out tokens");
	w.options.perplexity = scratch_write(&w.scratch, FILES[1], "a", 1);
	expect_error(&w, "too few tokens");
	w.options.perplexity = scratch_write(&w.scratch, FILES[1], "\xff\xfe", 2);
	expect_error(&w, "UTF-8");
	static const char empty[] = "{\"context\": \" \", \"choices\": [\"a\", \"b\"], \"answer\": 0}\n";
	w.options.choices = scratch_write(&w.scratch, FILES[1], empty, sizeof empty - 1);
	expect_error(&w, "given.jsonl:1: the context is empty");
	char *text = NULL;
	size_t n;
	FILE *file = open_memstream(&text, &n);
	fputs("{\"context\": \"", file);
	for (int i = 0; i < 600; i++)
		fputs("zq", file);
	fputs("\", \"choices\": [\"a\", \"b\"], \"answer\": 0}\n", file);
	fclose(file);
	w.options.choices = scratch_write(&w.scratch, FILES[1], text, n);
	expect_error(&w, "do not fit the context of 512");
	free(text);
	world_free(&w);
}
