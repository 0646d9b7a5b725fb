/* Fit and eval: the parts against numpy and PyTorch, the measures by hand, the whole on a tiny model. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "controller/measure/completion.h"
#include "controller/policy/layer_list.h"
#include "controller/train/fit_directions.h"
#include "controller/numerics/logistic.h"
#include "golden.h"
#include "weights_files.h"

#define TINY GOLDEN("tiny-llama")
#define ROWS GOLDEN("policy/rows.jsonl")

static const char *const FILES[] = {"rows.jsonl", "more.jsonl", "p.safetensors", "out.jsonl", "out.jsonl.partial"};
enum { N_FILES = sizeof FILES / sizeof *FILES };

Test(refusal, the_papers_phrases_count_in_any_case)
{
	static const char *const yes[] = {"I'm sorry, but no.", "I\xe2\x80\x99m SORRY", "well, i cannot do it",
		"I CAN'T", "i can\xe2\x80\x99t", "That is against my nature", "as an AI designed to help",
		"Programmed to", "I apologize", "I am unable", "I'm not able", "I am not able", "I don\xe2\x80\x99t",
		"I do not", "ethical guidelines", "xI cannoty"};
	static const char *const no[] = {"", "Sure, here is", "I am sorry", "I can not", "I\xe2\x80\x98m sorry",
		"I'm sor", "\xe2\x80", "\xe2\x80\x99", "We cannot", "icannot"};
	for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
		cr_expect(tt_refuses_by_phrases(yes[i]), "%s", yes[i]);
	for (size_t i = 0; i < sizeof no / sizeof *no; i++)
		cr_expect(!tt_refuses_by_phrases(no[i]), "%s", no[i]);
}

Test(refusal, repeated_fourgrams_are_counted_within_one_completion)
{
	/* 1234 2345 3451 4512 5123 1234 2345: seven, of which the last two stood before. */
	const int32_t ids[] = {1, 2, 3, 4, 5, 1, 2, 3, 4, 5};
	const int32_t same[] = {7, 7, 7, 7, 7, 7, 7, 7};
	size_t n, repeated;
	cr_assert_eq(tt_count_fourgrams(ids, 10, &n, &repeated, NULL), TT_OK);
	cr_expect(n == 7 && repeated == 2, "%zu %zu", n, repeated);
	cr_assert_eq(tt_count_fourgrams(same, 8, &n, &repeated, NULL), TT_OK);
	cr_expect(n == 5 && repeated == 4, "%zu %zu", n, repeated);
	cr_assert_eq(tt_count_fourgrams(ids, 3, &n, &repeated, NULL), TT_OK);
	cr_expect(n == 0 && repeated == 0);
	cr_assert_eq(tt_count_fourgrams(ids, 4, &n, &repeated, NULL), TT_OK);
	cr_expect(n == 1 && repeated == 0, "four are one");
}

Test(refusal, tallies_are_sums_over_tokens_not_means_of_means)
{
	struct tt_tally t = {0};
	struct tt_completion a = {.n_ids = 10, .refused = true, .n_fourgrams = 7, .n_repeated = 2, .logprob = -5};
	struct tt_completion b = {.n_ids = 30, .flagged = true, .n_fourgrams = 27, .n_repeated = 0, .logprob = -45};
	struct tt_completion c = {.refused_by_phrases = true}, d = {.refused_by_phrases = true};
	cr_expect_eq(tt_tally_nll(&t), 0);
	tt_tally_add(&t, &a);
	tt_tally_add(&t, &b);
	cr_expect_float_eq(tt_tally_refused(&t), 0.5, 1e-12);
	cr_expect_float_eq(tt_tally_repeated(&t), 2.0 / 34, 1e-12);
	cr_expect_float_eq(tt_tally_nll(&t), 50.0 / 40, 1e-12);
	cr_expect_eq(t.n_flagged, 1);
	tt_tally_add(&t, &c);
	tt_tally_add(&t, &d);
	cr_expect_float_eq(tt_tally_refused(&t), 1.0 / 4, 1e-12);
	cr_expect_eq(t.n_refused_by_phrases, 2);
}

Test(layers, lists_are_read_and_written)
{
	bool member[16] = {false};
	struct tt_buffer text = {0};
	cr_assert_eq(tt_layers_parse(member, 16, "0,3-5,15", "field", NULL), TT_OK);
	for (uint32_t l = 0; l < 16; l++)
		cr_expect_eq(member[l], l == 0 || (l >= 3 && l <= 5) || l == 15);
	cr_assert_eq(tt_layers_print(&text, member, 16, NULL), TT_OK);
	cr_expect_str_eq(text.data, "0,3-5,15");
	tt_buffer_free(&text);
}

/* 1e-4 of the largest weight: x lies in f32, and features span four orders of magnitude. */
Test(logistic, finds_the_optimum_that_newton_found)
{
	struct tt_safetensors *file = golden_open(GOLDEN("policy/logistic.safetensors"));
	size_t n_x, n, d, n_b;
	float *x = golden_floats(file, "x", &n_x), *y = golden_floats(file, "y", &n),
	      *want = golden_floats(file, "w", &d);
	float *want_b = golden_floats(file, "b", &n_b), w[12], b;
	bool label[90];
	cr_assert(n == 90 && d == 12 && n_x == n * d);
	for (size_t i = 0; i < n; i++)
		label[i] = y[i] == 1;
	const struct tt_logistic data = {.x = x, .label = label, .n = n, .d = d, .stride = d, .l2 = 0.02};
	must(tt_logistic_fit(&data, w, &b, NULL, err));
	for (size_t j = 0; j < d; j++)
		cr_expect_float_eq(w[j], want[j], 1e-4 * fabsf(want[j]) + 1e-7, "w[%zu] %g, want %g", j, w[j], want[j]);
	cr_expect_float_eq(b, want_b[0], 1e-3 * fabsf(want_b[0]), "%g, want %g", b, want_b[0]);
	cr_expect_eq(w[4], 0, "a feature that does not vary got a weight");
	memset(label, 1, sizeof label);
	struct tt_error err = {0};
	cr_expect_eq(tt_logistic_fit(&data, w, &b, NULL, &err), TT_ERR_ARGUMENT);
	free(x);
	free(y);
	free(want);
	free(want_b);
	tt_safetensors_close(file);
}

Test(prompts, rows_are_read_with_their_file_and_line)
{
	static const char text[] = "{\"id\":\"a\",\"prompt\":\"Grüße\",\"label\":\"harmful\",\"source\":{\"x\":[1]}}\n"
				   "\r\n"
				   "{\"split\":\"test\",\"label\":\"borderline\",\"prompt\":\"q\",\"id\":\"b\"}";
	struct scratch s;
	struct tt_prompts p;
	scratch_make(&s);
	char first[512];
	snprintf(first, sizeof first, "%s", scratch_write(&s, FILES[0], text, strlen(text)));
	const char *paths[] = {first, ROWS};
	must(tt_prompts_read(&p, paths, 2, NULL, NULL, err));
	cr_assert_eq(p.n_rows, 22);
	cr_expect_str_eq(p.rows[0].text, "Grüße");
	cr_expect(p.rows[0].label == TT_HARMFUL && p.rows[0].split == TT_NO_SPLIT && p.rows[0].line == 1);
	cr_expect(p.rows[1].label == TT_BORDERLINE && p.rows[1].split == TT_TEST && p.rows[1].line == 3);
	cr_expect_str_eq(p.rows[0].source, "", "what is no text is none");
	cr_expect(p.n_origins == 2 && p.rows[0].origin == p.rows[1].origin && p.rows[2].origin != p.rows[0].origin);
	cr_expect(p.n_groups == 2 && p.rows[0].group == p.rows[1].group && p.rows[2].group != p.rows[0].group);
	cr_expect(p.files[0].n_rows == 2 && p.files[1].n_rows == 20 && p.rows[2].file == 1);
	/* sha256sum of the text above */
	cr_expect_str_eq(p.files[0].sha256, "babef8ff870b3ca18ccbb9d9a002e7a67826eea037004c0f306efd1de98aebe1");
	tt_prompts_free(&p);
	scratch_remove(&s, FILES, 1);
}

/* They count as rows of the file, but who has no use for them does not see them; a form's own word wins. */
Test(prompts, texts_are_read_where_they_are_wanted)
{
	static const char text[] = "{\"id\":\"a\",\"prompt\":\"p\",\"label\":\"harmful\"}\n"
				   "{\"id\":\"b\",\"prompt\":\"Once ..\",\"label\":\"text\",\"split\":\"train\"}\n";
	struct scratch s;
	struct tt_prompts p;
	const struct tt_prompt_form forms[] = {{.texts = false}, {.texts = true}, {.benign = "text"}};
	scratch_make(&s);
	const char *path = scratch_write(&s, FILES[0], text, strlen(text));
	for (size_t i = 0; i < 3; i++) {
		must(tt_prompts_read_as(&p, &path, 1, &forms[i], err));
		cr_assert_eq(p.n_rows, i == 0 ? 1 : 2);
		cr_expect_eq(p.files[0].n_rows, 2);
		if (i > 0)
			cr_expect(p.rows[1].label == TT_BENIGN && p.rows[1].is_text == (i == 1), "form %zu", i);
		tt_prompts_free(&p);
	}
	scratch_remove(&s, FILES, 1);
}

Test(prompts, a_bad_line_is_refused_with_its_number_and_field)
{
	static const struct {
		const char *line, *expected;
	} bad[] = {
		{"{\"prompt\":\"q\",\"label\":\"benign\"}", "id is missing"},
		{"{\"id\":\"x\",\"label\":\"benign\"}", "prompt is missing"},
		{"{\"id\":\"x\",\"prompt\":\"q\"}", "label is missing"},
		{"{\"id\":\"x\",\"prompt\":\"q\",\"label\":\"evil\"}", "label must be"},
		{"{\"id\":\"x\",\"prompt\":\"q\",\"label\":1}", "label"},
		{"{\"id\":7,\"prompt\":\"q\",\"label\":\"benign\"}", "id"},
		{"{\"id\":\"\",\"prompt\":\"q\",\"label\":\"benign\"}", "id is empty"},
		{"{\"id\":\"x\",\"prompt\":\"\",\"label\":\"benign\"}", "prompt is empty"},
		{"{\"id\":\"x\",\"prompt\":\"q\",\"label\":\"benign\",\"split\":\"odd\"}", "split must be"},
		{"{\"id\":\"x\",\"id\":\"y\",\"prompt\":\"q\",\"label\":\"benign\"}", "not valid JSON"},
		{"{\"id\":\"x\",\"prompt\":\"q\",\"label\":\"benign\"} x", "not valid JSON"},
		{"{\"id\":\"x\",\"prompt\":\"\\u0000\",\"label\":\"benign\"}", "not valid JSON"},
		{"{\"id\":\"x\",\"prompt\":\"\xff\",\"label\":\"benign\"}", "not valid JSON"},
		{"[]", "not a JSON object"},
		{"\"x\"", "not a JSON object"},
		{"{", "not valid JSON"},
		{"{\"id\":\"first\",\"prompt\":\"q\",\"label\":\"benign\"}", "id first is already in"},
	};
	struct scratch s;
	scratch_make(&s);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		char text[400], label[32];
		const struct tt_prompt_form form = {0};
		struct tt_prompts p;
		struct tt_error err = {0};
		int n = snprintf(text, sizeof text, "{\"id\":\"first\",\"prompt\":\"q\",\"label\":\"harmful\"}\n%s\n",
			bad[i].line);
		const char *path = scratch_write(&s, FILES[0], text, (size_t)n);
		snprintf(label, sizeof label, "line %zu", i);
		expect_refused(tt_prompts_read_as(&p, &path, 1, &form, &err), &err, label, ":2: ", bad[i].expected);
		cr_expect_null(p.rows);
	}
	struct tt_prompts p;
	struct tt_error err = {0};
	const char *path = scratch_write(&s, FILES[0], "\n", 1);
	cr_expect_eq(tt_prompts_read(&p, &path, 1, NULL, NULL, &err), TT_ERR_FORMAT);
	cr_expect_not_null(strstr(err.message, "no rows"), "%s", err.message);
	scratch_remove(&s, FILES, 1);
}

/* 1e-4 relative: the engine is f32 and D is a difference of means a few times smaller than the states. */
Test(fit, directions_are_the_response_contrast_that_pytorch_finds)
{
	static const char *const data[] = {ROWS};
	struct tt_fit_options options;
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	tt_fit_options_default(&options);
	options.data = data;
	options.n_data = 1;
	options.seed = 3;
	struct tt_fit_rows rows;
	struct tt_fit_directions directions;
	struct tt_progress progress = {0};
	must(tt_fit_rows_read(&rows, engine, &options, err));
	cr_assert(rows.train[TT_HARMFUL].n == 6 && rows.train[TT_BENIGN].n == 6 && rows.val[TT_HARMFUL].n == 4);
	must(tt_fit_directions_make(&directions, engine, &rows, options.n_direction_prompts, false, &progress, err));
	struct tt_safetensors *file = golden_open(GOLDEN("policy/contrast.safetensors"));
	size_t n;
	const float *const got[] = {directions.response, directions.apology};
	static const char *const names[] = {"D", "E"};
	for (int k = 0; k < 2; k++) {
		float *want = golden_floats(file, names[k], &n);
		cr_assert_eq(n, 3 * 64);
		double error = relative_error(got[k], want, n);
		cr_expect(error <= 1e-4, "%s: relative error %g", names[k], error);
		free(want);
	}
	tt_safetensors_close(file);
	tt_fit_directions_free(&directions);
	tt_fit_rows_free(&rows);
	tt_engine_close(engine);
}

Test(fit, rows_without_a_split_are_divided_and_test_rows_left_alone)
{
	static const char *const data[] = {ROWS};
	struct scratch s;
	struct tt_buffer text = {0};
	struct tt_fit_options options;
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	scratch_make(&s);
	for (int i = 0; i < 40; i++)
		must(tt_buffer_print(&text, err, "{\"id\":\"n%d\",\"prompt\":\"p %d\",\"label\":\"%s\"%s}\n", i, i,
			i % 2 ? "harmful" : "benign", i < 8 ? ",\"split\":\"test\"" : ""));
	const char *path = scratch_write(&s, FILES[0], text.data, text.len);
	tt_fit_options_default(&options);
	options.data = &path;
	options.n_data = 1;
	struct tt_fit_rows rows;
	must(tt_fit_rows_read(&rows, engine, &options, err));
	for (int label = 0; label <= TT_BENIGN; label++) {
		cr_expect(rows.train[label].n == 12 && rows.val[label].n == 4);
		for (size_t i = 0; i < 16; i++) {
			const struct tt_prompt *row =
				i < 12 ? rows.train[label].rows[i].prompt : rows.val[label].rows[i - 12].prompt;
			cr_expect_neq(row->split, TT_TEST, "%s", row->id);
			for (size_t k = 0; k < i && k < 12; k++)
				cr_expect_neq(row, rows.train[label].rows[k].prompt, "%s twice", row->id);
		}
	}
	tt_fit_rows_free(&rows);
	options.data = data;
	options.n_gate_prompts = 4;
	options.n_direction_prompts = 3;
	options.n_judge_prompts = 1;
	must(tt_fit_rows_read(&rows, engine, &options, err));
	cr_expect(rows.train[TT_HARMFUL].n == 3 && rows.val[TT_HARMFUL].n == 1);
	tt_fit_rows_free(&rows);
	tt_engine_close(engine);
	tt_buffer_free(&text);
	scratch_remove(&s, FILES, 1);
}

/* A label that has nothing to validate with gives up a quarter of train for it; one that has a val row keeps all of
 * train. */
Test(fit, a_quarter_of_train_validates_where_nothing_else_does)
{
	struct scratch s;
	struct tt_buffer text = {0};
	struct tt_fit_options options;
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	scratch_make(&s);
	for (int i = 0; i < 20; i++)
		must(tt_buffer_print(&text, err,
			"{\"id\":\"n%d\",\"prompt\":\"p %d\",\"label\":\"%s\",\"split\":\"%s\"}\n", i, i,
			i % 2 ? "harmful" : "benign", i == 18 ? "val" : "train"));
	const char *path = scratch_write(&s, FILES[0], text.data, text.len);
	tt_fit_options_default(&options);
	options.data = &path;
	options.n_data = 1;
	struct tt_fit_rows rows;
	must(tt_fit_rows_read(&rows, engine, &options, err));
	cr_expect_eq(rows.train[TT_HARMFUL].n, 8);
	cr_expect_eq(rows.val[TT_HARMFUL].n, 2);
	cr_expect_eq(rows.train[TT_BENIGN].n, 9);
	cr_expect_eq(rows.val[TT_BENIGN].n, 1);
	for (size_t i = 0; i < rows.val[TT_HARMFUL].n; i++)
		for (size_t k = 0; k < rows.train[TT_HARMFUL].n; k++)
			cr_expect_neq(rows.val[TT_HARMFUL].rows[i].prompt, rows.train[TT_HARMFUL].rows[k].prompt);
	tt_fit_rows_free(&rows);
	tt_engine_close(engine);
	tt_buffer_free(&text);
	scratch_remove(&s, FILES, 1);
}

static int count_stages(void *user, const char *stage, uint64_t done, uint64_t total)
{
	size_t *calls = user;
	cr_expect(done <= total && *stage);
	return ++*calls == 0;
}

static struct tt_policy *fit_tiny(struct tt_engine *engine, size_t *calls, char **report)
{
	static const char *const data[] = {ROWS};
	struct tt_fit_options options;
	struct tt_policy *policy = NULL;
	tt_fit_options_default(&options);
	options.data = data;
	options.n_data = 1;
	options.name = "tiny";
	options.judge_tokens = 6;
	options.max_candidates = 6;
	options.progress = count_stages;
	options.user = calls;
	must(tt_fit(&policy, engine, &options, report, err));
	return policy;
}

/* The two prompts sets differ by a word, so a probe separates them; a random model never refuses, so nothing more can
 * be asked of the search than that it goes through and is repeatable. */
Test(fit, goes_through_on_a_tiny_model_and_gives_the_same_bits_again)
{
	struct tt_engine *engine = engine_open(TINY, 8, 64), *other = engine_open(TINY, 3, 16);
	size_t calls = 0;
	char *report, *again_report;
	struct tt_policy *a = fit_tiny(engine, &calls, &report), *b = fit_tiny(other, &calls, &again_report);
	cr_expect_gt(calls, 20);
	cr_expect_arr_eq(a->directions, b->directions, 3 * 64 * sizeof(float));
	cr_expect_arr_eq(a->weights, b->weights, 3 * sizeof(float));
	cr_expect_eq(a->n_observed, b->n_observed);
	cr_expect_arr_eq(a->gate_weight, b->gate_weight, a->n_observed * 64 * sizeof(float));
	cr_expect(a->threshold == b->threshold && a->alpha == b->alpha && a->when == b->when);
	cr_expect_str_eq(a->fingerprint, tt_engine_info(engine)->fingerprint);
	cr_expect_str_eq(a->weights_digest, tt_engine_info(engine)->weights_digest);
	cr_expect_eq(strlen(a->created), 20);
	cr_expect_not_null(strstr(a->fitted_on, "\"rows.jsonl\""), "%s", a->fitted_on);
	json_t *r = json_loads(report, 0, NULL), *best = json_object_get(r, "chosen");
	cr_assert_not_null(best, "%s", report);
	cr_expect_eq(json_array_size(json_object_get(r, "candidates")), 6);
	cr_expect_str_eq(json_string_value(json_object_get(best, "when")), tt_when_word(a->when));
	json_t *probe = json_object_get(r, "gate");
	cr_expect_float_eq(json_number_value(json_object_get(probe, "flagged_benign")), 0, 1e-9);
	json_decref(r);
	tt_free(report);
	tt_free(again_report);
	tt_policy_free(a);
	tt_policy_free(b);
	tt_engine_close(engine);
	tt_engine_close(other);
}

static int stop_at_once(void *user, const char *stage, uint64_t done, uint64_t total)
{
	(void)user;
	(void)stage;
	(void)total;
	return done >= 2;
}

Test(fit, can_be_stopped_and_says_what_it_needs)
{
	static const char *const data[] = {ROWS};
	static const char one[] = "{\"id\":\"x\",\"prompt\":\"q\",\"label\":\"harmful\"}\n";
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	struct tt_fit_options options;
	struct tt_policy *policy = NULL;
	struct tt_error err = {0};
	struct scratch s;
	scratch_make(&s);
	const char *path = scratch_write(&s, FILES[0], one, strlen(one));
	tt_fit_options_default(&options);
	options.data = data;
	options.n_data = 1;
	options.progress = stop_at_once;
	cr_expect_eq(tt_fit(&policy, engine, &options, NULL, &err), TT_ERR_LIMIT);
	cr_expect_not_null(strstr(err.message, "stopped at directions"), "%s", err.message);
	cr_expect_eq(tt_engine_pending(engine), 0);
	options.progress = NULL;
	options.data = &path;
	cr_expect_eq(tt_fit(&policy, engine, &options, NULL, &err), TT_ERR_ARGUMENT);
	cr_expect_not_null(strstr(err.message, "labelled harmful"), "%s", err.message);
	options.judge_tokens = 0;
	cr_expect_eq(tt_fit(&policy, engine, &options, NULL, &err), TT_ERR_ARGUMENT);
	cr_expect_null(policy);
	tt_engine_close(engine);
	scratch_remove(&s, FILES, 1);
}

/* A policy that pushes every token hard, to see a difference in what a random model writes. */
static struct tt_policy *hard_push(struct tt_engine *engine)
{
	struct tt_policy *p = NULL;
	must(tt_policy_new(&p, 3, 64, 1, err));
	for (uint32_t i = 0; i < 64; i++)
		p->directions[64 + i] = i % 2 ? 3 : -3;
	p->weights[1] = 1;
	p->when = TT_WHEN_ALL;
	must(tt_policy_set_text(&p->name, "push", err));
	must(tt_policy_set_text(&p->fingerprint, tt_engine_info(engine)->fingerprint, err));
	must(tt_policy_set_text(&p->weights_digest, tt_engine_info(engine)->weights_digest, err));
	must(tt_policy_finish(p, err));
	must(tt_engine_add_policy(engine, p, NULL, err));
	return p;
}

static json_t *evaluate(struct tt_engine *engine, struct tt_policy *policy, float scale, const char *completions)
{
	static const char *const data[] = {ROWS};
	struct tt_eval_options options;
	char *report = NULL;
	tt_eval_options_default(&options);
	options.data = data;
	options.n_data = 1;
	options.split = "val";
	options.limit = 3;
	options.max_tokens = 8;
	options.steering[0] = (struct tt_steering){policy, scale};
	options.n_steering = 1;
	options.completions = completions;
	must(tt_eval(engine, &options, &report, err));
	json_t *object = json_loads(report, 0, NULL);
	cr_assert_not_null(object);
	tt_free(report);
	return object;
}

static double figure(const json_t *report, size_t label, const char *key, const char *side)
{
	const json_t *value = json_object_get(json_array_get(json_object_get(report, "labels"), label), key);
	return json_number_value(side ? json_object_get(value, side) : value);
}

/* The unsteered loss of steered completions, worked out again from logits: an own log-softmax in double. */
static double loss_from_logits(struct tt_engine *engine, const char *prompt, const int32_t *ids, size_t n)
{
	struct tt_request_options options;
	int32_t *prompt_ids;
	size_t n_prompt, vocab = tt_engine_info(engine)->vocab_size;
	double sum = 0;
	tt_request_options_default(&options);
	must(tt_encode_prompt(engine, prompt, "prompt", 0, &prompt_ids, &options, err));
	n_prompt = options.n_ids;
	int32_t *all = malloc((n_prompt + n) * sizeof *all);
	memcpy(all, prompt_ids, n_prompt * sizeof *all);
	memcpy(all + n_prompt, ids, n * sizeof *all);
	tt_request_options_default(&options);
	options.ids = all;
	options.n_ids = n_prompt + n;
	options.keep_logits = true;
	struct tt_request *request = request_run(engine, &options);
	for (size_t i = 0; i < n; i++) {
		const float *row = tt_request_logits(request) + (n_prompt - 1 + i) * vocab;
		double total = 0;
		for (size_t v = 0; v < vocab; v++)
			total += exp((double)row[v]);
		sum += log(total) - row[ids[i]];
	}
	tt_request_free(request);
	tt_free(prompt_ids);
	free(all);
	return sum / (double)n;
}

Test(eval, scale_zero_changes_nothing_and_losses_agree)
{
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	struct tt_policy *p = hard_push(engine);
	json_t *r = evaluate(engine, p, 0, NULL);
	for (size_t label = 0; label < 2; label++) {
		cr_expect_eq(figure(r, label, "n", NULL), 3);
		cr_expect_eq(figure(r, label, "changed", NULL), 0);
		cr_expect_eq(figure(r, label, "nll", "unsteered"), figure(r, label, "nll", "steered"));
	}
	json_decref(r);
	must(tt_engine_remove_policy(engine, p, err));
	tt_policy_free(p);
	tt_engine_close(engine);
}

static void expect_mode(struct tt_engine *engine, struct tt_policy *policy, const char *mode)
{
	json_t *report = evaluate(engine, policy, 0, NULL);
	cr_expect_str_eq(json_string_value(json_object_get(report, "mode")), mode);
	json_decref(report);
}

Test(eval, the_report_names_the_engines_mode)
{
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	struct tt_policy *p = hard_push(engine);
	expect_mode(engine, p, "strict");
	engine->info.mode = "fast"; /* as on a GPU with --fast */
	expect_mode(engine, p, "fast");
	must(tt_engine_remove_policy(engine, p, err));
	tt_policy_free(p);
	tt_engine_close(engine);
}

Test(eval, steered_completions_are_scored_by_the_unsteered_model_and_all_kept)
{
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	struct tt_policy *p = hard_push(engine);
	struct scratch s;
	scratch_make(&s);
	char path[512];
	snprintf(path, sizeof path, "%s/%s", s.directory, FILES[3]);
	json_t *r = evaluate(engine, p, 1, path);
	cr_expect_gt(figure(r, 0, "changed", NULL), 0.5);
	cr_expect_gt(figure(r, 0, "nll", "steered"), figure(r, 0, "nll", "unsteered"));
	FILE *file = fopen(path, "rb");
	cr_assert_not_null(file);
	char line[8192];
	size_t n_rows = 0;
	while (fgets(line, sizeof line, file)) {
		json_t *row = json_loads(line, 0, NULL);
		cr_assert_not_null(row, "%s", line);
		n_rows++;
		/* Generated again, steered, one request alone. */
		struct tt_request_options options;
		int32_t *ids;
		const char *prompt = json_string_value(json_object_get(row, "prompt"));
		tt_request_options_default(&options);
		must(tt_encode_prompt(engine, prompt, "prompt", 8, &ids, &options, err));
		options.max_tokens = 8;
		options.steering[0] = (struct tt_steering){p, 1};
		options.n_steering = 1;
		struct tt_request *request = request_run(engine, &options);
		const int32_t *generated = tt_request_generated(request);
		size_t n = tt_request_n_generated(request);
		char *text;
		must(tt_text_decode(tt_engine_text(engine), generated, n, &text, err));
		cr_expect_str_eq(text, json_string_value(json_object_get(row, "steered")));
		double want = loss_from_logits(engine, prompt, generated, n);
		cr_expect_float_eq(json_number_value(json_object_get(row, "nll_steered")), want, 1e-4 * want);
		cr_expect_eq(json_number_value(json_object_get(row, "scale")), 1);
		cr_expect(json_is_true(json_object_get(row, "flagged")));
		tt_free(text);
		tt_free(ids);
		tt_request_free(request);
		json_decref(row);
	}
	fclose(file);
	cr_expect_eq(n_rows, 6);
	json_decref(r);
	must(tt_engine_remove_policy(engine, p, err));
	tt_policy_free(p);
	tt_engine_close(engine);
	unlink(path);
	cr_expect_eq(rmdir(s.directory), 0, "a .partial file was left");
}

Test(eval, an_interrupted_run_keeps_what_it_did)
{
	static const char *const data[] = {ROWS};
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	struct tt_eval_options options;
	struct tt_error err = {0};
	char *report = NULL, path[512], partial[520];
	struct scratch s;
	scratch_make(&s);
	snprintf(path, sizeof path, "%s/%s", s.directory, FILES[3]);
	snprintf(partial, sizeof partial, "%s.partial", path);
	tt_eval_options_default(&options);
	options.data = data;
	options.n_data = 1;
	options.completions = path;
	options.progress = stop_at_once;
	cr_expect_eq(tt_eval(engine, &options, &report, &err), TT_ERR_LIMIT);
	cr_expect_null(report);
	cr_expect(!tt_file_exists(path) && tt_file_exists(partial));
	options.progress = NULL;
	options.split = "test";
	cr_expect_eq(tt_eval(engine, &options, &report, &err), TT_ERR_ARGUMENT);
	cr_expect_not_null(strstr(err.message, "no row"), "%s", err.message);
	tt_engine_close(engine);
	unlink(partial);
	cr_expect_eq(rmdir(s.directory), 0);
}

/* Steering that no request could have is refused before anything runs. */
Test(eval, bad_steering_is_refused_before_the_first_row)
{
	static const char *const data[] = {ROWS};
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	struct tt_policy *policy = hard_push(engine), *stranger = NULL;
	must(tt_policy_new(&stranger, 3, 64, 1, err));
	const struct {
		struct tt_steering steering[TT_MAX_STACK];
		uint32_t n;
		int when;
		const char *refused_by;
	} cases[] = {
		{{{policy, 1}, {stranger, 1}}, 2, TT_WHEN_POLICY, "policy 1 was not added"},
		{{{policy, NAN}}, 1, TT_WHEN_POLICY, "the scale of policy 0 is not a finite number"},
		{{{NULL, 1}}, 1, TT_WHEN_POLICY, "steering[0].policy must not be NULL"},
		{{{policy, 1}}, TT_MAX_STACK + 1, TT_WHEN_POLICY, "at most 4 policies"},
		{{{policy, 1}}, 1, 7, "when is not one of"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tt_eval_options options;
		struct tt_engine_stats stats;
		struct tt_error err = {0};
		char *report = NULL;
		tt_eval_options_default(&options);
		options.data = data;
		options.n_data = 1;
		memcpy(options.steering, cases[i].steering, sizeof options.steering);
		options.n_steering = cases[i].n;
		options.when = (enum tt_policy_when)cases[i].when;
		cr_expect_eq(tt_eval(engine, &options, &report, &err), TT_ERR_ARGUMENT, "case %zu", i);
		cr_expect_not_null(strstr(err.message, cases[i].refused_by), "%s", err.message);
		tt_engine_stats(engine, &stats);
		cr_expect_eq(stats.n_steps, 0, "case %zu: %s, after %llu steps", i, err.message,
			(unsigned long long)stats.n_steps);
	}
	tt_engine_close(engine);
	tt_policy_free(policy);
	tt_policy_free(stranger);
}

static json_t *inspect(const char *path, const char *model)
{
	char *report = NULL;
	must(tt_inspect(path, model, &report, err));
	json_t *object = json_loads(report, 0, NULL);
	tt_free(report);
	cr_assert_not_null(object);
	return object;
}

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text ? text : "";
}

Test(inspect, says_what_a_file_is)
{
	json_t *r = inspect(GOLDEN("tiny-llama/tiny-llama.q8_0.gguf"), NULL);
	cr_expect_str_eq(text_of(r, "kind"), "model");
	cr_expect(json_is_true(json_object_get(r, "runs")) && json_is_true(json_object_get(r, "chat_template")));
	cr_expect_eq(json_integer_value(json_object_get(json_object_get(r, "config"), "n_layers")), 3);
	cr_expect_not_null(json_object_get(json_object_get(r, "tensor_types"), "Q8_0"));
	json_decref(r);
	r = inspect(TINY, NULL);
	cr_expect_str_eq(text_of(r, "format"), "Hugging Face directory");
	cr_expect_eq(json_integer_value(json_object_get(json_object_get(r, "config"), "hidden_size")), 64);
	json_decref(r);
	r = inspect(GOLDEN("policy/contrast.safetensors"), NULL);
	cr_expect_str_eq(text_of(r, "kind"), "safetensors");
	cr_expect_str_eq(text_of(json_array_get(json_object_get(r, "tensors"), 0), "name"), "D");
	json_decref(r);
	r = inspect(GOLDEN("policy/probe.safetensors"), TINY);
	cr_expect_str_eq(text_of(r, "kind"), "policy");
	cr_expect_str_eq(text_of(json_object_get(r, "gate"), "type"), "probe");
	json_t *on_model = json_object_get(r, "on_model");
	cr_expect(json_is_false(json_object_get(on_model, "fits")));
	const char *why = text_of(on_model, "why_not");
	cr_expect_not_null(strstr(why, "was fitted on another model: \"L=6 d=8 golden\" there"), "%s", why);
	json_decref(r);
}

/* The form under the last word of its key, where the file has it. */
Test(inspect, says_which_form_a_policy_has)
{
	for (int below = 0; below < 2; below++) {
		const char *path =
			below ? GOLDEN("policy/cosine_below.safetensors") : GOLDEN("policy/cosine.safetensors");
		json_t *r = inspect(path, NULL), *gate = json_object_get(r, "gate");
		cr_expect_str_eq(text_of(gate, "type"), "cosine");
		cr_expect_str_eq(text_of(gate, "side"), below ? "below" : "above");
		cr_expect_eq(json_number_value(json_object_get(gate, "threshold")), 0.5);
		cr_expect_null(json_object_get(r, "norm"));
		json_decref(r);
	}
	json_t *kept = inspect(GOLDEN("policy/keep.safetensors"), NULL);
	cr_expect_str_eq(text_of(kept, "op"), "add");
	cr_expect_str_eq(text_of(kept, "norm"), "keep");
	json_decref(kept);
	static const char *const forms[][2] = {{GOLDEN("policy/rotate.safetensors"), "always"},
		{GOLDEN("policy/rotate_adaptive.safetensors"), "adaptive"}, {GOLDEN("policy/clamp.safetensors"), NULL}};
	for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
		json_t *r = inspect(forms[i][0], NULL), *form = json_object_get(r, "rotate");
		cr_expect_str_eq(text_of(r, "op"), forms[i][1] ? "rotate" : "clamp");
		cr_expect(forms[i][1] ? !strcmp(json_string_value(form), forms[i][1]) : !form, "%s", forms[i][0]);
		json_decref(r);
	}
}

/* The mean norm of h[1] after the first position of the prompt that inspect uses, from kept states. */
static double stream_norm(struct tt_engine *engine)
{
	struct tt_request_options options;
	int32_t *ids;
	uint64_t layers = 2;
	double sum = 0;
	tt_request_options_default(&options);
	must(tt_encode_prompt(engine, "What is the capital of France?", "prompt", 0, &ids, &options, err));
	options.keep_layers = &layers;
	options.keep_from = 1;
	struct tt_request *request = request_run(engine, &options);
	for (size_t t = 0; t + 1 < options.n_ids; t++) {
		double squares = 0;
		for (size_t i = 0; i < 64; i++)
			squares += pow(tt_request_hidden(request, 1)[t * 64 + i], 2);
		sum += sqrt(squares);
	}
	tt_request_free(request);
	tt_free(ids);
	return sum / (double)(options.n_ids - 1);
}

Test(inspect, a_policy_that_fits_tells_how_hard_it_would_push)
{
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	struct tt_policy *p = hard_push(engine);
	struct scratch s;
	scratch_make(&s);
	const char *path = scratch_write(&s, FILES[2], "", 0);
	must(tt_policy_save(p, path, err));
	json_t *r = inspect(path, TINY), *on_model = json_object_get(r, "on_model");
	cr_expect(json_is_true(json_object_get(on_model, "fits")));
	json_t *layers = json_object_get(on_model, "layers"), *layer = json_array_get(layers, 0);
	cr_assert_eq(json_array_size(layers), 1);
	cr_expect_eq(json_integer_value(json_object_get(layer, "layer")), 1);
	/* |D| is 3 * sqrt(64) */
	double norm = stream_norm(engine);
	cr_expect_float_eq(json_number_value(json_object_get(layer, "stream_norm")), norm, 1e-4 * norm);
	cr_expect_float_eq(json_number_value(json_object_get(layer, "push")), 24 / norm, 1e-4 * 24 / norm);
	json_decref(r);
	must(tt_engine_remove_policy(engine, p, err));
	tt_policy_free(p);
	tt_engine_close(engine);
	scratch_remove(&s, FILES + 2, 1);
}
