/* Fits to behaviours that a contrast file shows: its rows, directions and likelihoods against PyTorch, the whole on a
 * tiny model; gates that are always open; labels of the user's own. */
#include <criterion/criterion.h>
#include <jansson.h>

#include "controller/policy/policy.h"
#include "controller/train/fit_gate.h"
#include "controller/train/fit_style.h"
#include "golden.h"
#include "weights_files.h"

#define TINY GOLDEN("tiny-llama")
#define STYLE GOLDEN("policy/style.jsonl")
#define ROWS GOLDEN("policy/rows.jsonl")

static const char *const FILES[] = {"style.jsonl"};
enum { WIDTH = 64 };

static struct tt_fit_options style_options(const char *contrast)
{
	struct tt_fit_options o;
	tt_fit_options_default(&o);
	o.mode = TT_FIT_STYLE;
	o.contrast = contrast;
	o.seed = 3;
	o.judge_tokens = 6;
	o.max_candidates = 6;
	return o;
}

/* ---- The file */

Test(contrast, a_bad_line_is_refused_with_its_number_and_field)
{
	static const struct {
		const char *line, *expected;
	} bad[] = {
		{"[]", "not a JSON object"},
		{"{}", "positive is missing"},
		{"{\"positive\":[\"a\"]}", "negative is missing"},
		{"{\"negative\":[\"a\"]}", "positive is missing"},
		{"{\"positive\":\"a\",\"negative\":[\"b\"]}", "positive must be a list of openings"},
		{"{\"positive\":[],\"negative\":[\"b\"]}", "positive must be a list of openings"},
		{"{\"positive\":[\"a\"],\"negative\":[\"b\",\"\"]}", "negative[1] is not a text, or empty"},
		{"{\"positive\":[\"a\",3],\"negative\":[\"b\"]}", "positive[1] is not a text, or empty"},
		{"{\"id\":\"x\",\"prompt\":\"q\",\"positive\":\"a\"}", "negative is missing beside positive"},
		{"{\"id\":\"x\",\"prompt\":\"q\",\"negative\":\"a\"}", "positive is missing beside negative"},
		{"{\"id\":\"x\",\"prompt\":\"q\",\"positive\":[\"a\"],\"negative\":\"b\"}", "positive"},
		{"{\"id\":\"x\",\"prompt\":\"q\",\"positive\":\"a\",\"negative\":\"\"}", "negative is empty"},
		{"{\"prompt\":\"q\",\"positive\":\"a\",\"negative\":\"b\"}", "id is missing"},
		{"{\"id\":\"x\",\"prompt\":\"\",\"positive\":\"a\",\"negative\":\"b\"}", "prompt is empty"},
		{"{\"id\":\"x\",\"prompt\":\"q\"}", "positive is missing, and no row of the file has openings"},
		{"{\"id\":\"x\",\"prompt\":\"q\",\"split\":\"odd\"}", "split must be"},
		{"{\"id\":\"first\",\"prompt\":\"q\",\"positive\":\"a\",\"negative\":\"b\"}", "id first is already in"},
		{"{", "not valid JSON"},
	};
	struct scratch s;
	scratch_make(&s);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		char text[400], label[32];
		struct tt_contrast c;
		struct tt_error problem = {0};
		int n = snprintf(text, sizeof text,
			"{\"id\":\"first\",\"prompt\":\"q\",\"positive\":\"a\",\"negative\":\"b\"}\n%s\n", bad[i].line);
		const char *path = scratch_write(&s, FILES[0], text, (size_t)n);
		snprintf(label, sizeof label, "line %zu", i);
		expect_refused(tt_contrast_read(&c, path, &problem), &problem, label, ":2: ", bad[i].expected);
		cr_expect(!c.prompts.rows && !c.responses[TT_POSITIVE].texts && !c.openings[TT_NEGATIVE].texts);
	}
	scratch_remove(&s, FILES, 1);
}

Test(contrast, rows_with_responses_and_rows_with_openings_are_read)
{
	struct tt_contrast c;
	must(tt_contrast_read(&c, STYLE, err));
	cr_assert(c.prompts.n_rows == 8 && c.prompts.files[0].n_rows == 9);
	for (int side = 0; side < TT_N_SIDES; side++)
		cr_assert(c.responses[side].n == 8 && c.openings[side].n == 2);
	cr_expect_str_eq(c.responses[TT_POSITIVE].texts[1], "hen 1 dances on the hill");
	cr_expect_str_eq(c.responses[TT_NEGATIVE].texts[6], "rat 6 sleeps");
	cr_expect_null(c.responses[TT_POSITIVE].texts[0]);
	cr_expect_str_eq(c.openings[TT_NEGATIVE].texts[1], "the field is empty");
	cr_expect(c.prompts.rows[5].split == TT_VAL && c.prompts.rows[5].label == TT_HARMFUL);
	tt_contrast_free(&c);
}

/* A response of one token has no state that belongs to it alone; of a long one the first tokens are taken. */
Test(contrast, responses_have_from_two_to_96_tokens)
{
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	struct tt_buffer text = {0};
	struct scratch s;
	scratch_make(&s);
	must(tt_buffer_print(&text, err, "{\"positive\":[\"a\"],\"negative\":[\""));
	for (int i = 0; i < 300; i++)
		must(tt_buffer_print(&text, err, "hen "));
	must(tt_buffer_print(&text, err, "\"]}\n"));
	const char *path = scratch_write(&s, FILES[0], text.data, text.len);
	const struct tt_prompt any = {0};
	for (int turn = 0; turn < 2; turn++) {
		struct tt_contrast c;
		struct tt_completion pair[TT_N_SIDES] = {{0}};
		struct tt_error problem = {0};
		must(tt_contrast_read(&c, path, err));
		if (turn == 1) {
			free(c.openings[TT_POSITIVE].texts[0]);
			c.openings[TT_POSITIVE].texts[0] = strdup("the hen sings");
		}
		int status = tt_contrast_encode(pair, &c, tt_engine_text(engine), &any, 0, &problem);
		if (turn == 0) {
			cr_expect_eq(status, TT_ERR_FORMAT);
			cr_expect_not_null(strstr(problem.message, "positive \"a\" has fewer than two tokens"), "%s",
				problem.message);
			cr_expect_not_null(strstr(problem.message, FILES[0]), "%s", problem.message);
		} else {
			cr_expect_eq(status, TT_OK, "%s", problem.message);
			cr_expect_eq(pair[TT_NEGATIVE].n_ids, TT_MAX_RESPONSE);
		}
		for (int side = 0; side < TT_N_SIDES; side++)
			tt_completion_free(&pair[side]);
		tt_contrast_free(&c);
	}
	tt_buffer_free(&text);
	tt_engine_close(engine);
	scratch_remove(&s, FILES, 1);
}

/* ---- Directions and preferences */

/* Adds 0.5 D at layer 1 to every token. */
static struct tt_policy *half_push(struct tt_engine *engine, const float *direction)
{
	struct tt_policy *p = NULL;
	must(tt_policy_new(&p, 3, WIDTH, 1, err));
	memcpy(p->directions + WIDTH, direction, WIDTH * sizeof *direction);
	p->weights[1] = 0.5f;
	p->when = TT_WHEN_ALL;
	must(tt_policy_set_text(&p->name, "half", err));
	must(tt_policy_set_text(&p->fingerprint, tt_engine_info(engine)->fingerprint, err));
	must(tt_policy_set_text(&p->weights_digest, tt_engine_info(engine)->weights_digest, err));
	must(tt_policy_finish(p, err));
	must(tt_engine_add_policy(engine, p, NULL, err));
	return p;
}

/* 1e-4 relative, as for the directions of refusals. */
Test(style, directions_and_preferences_are_those_that_pytorch_finds)
{
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	struct tt_fit_options options = style_options(STYLE);
	struct tt_fit_rows none = {0};
	struct tt_fit_style style;
	struct tt_fit_directions directions;
	struct tt_progress progress = {0};
	size_t n;
	must(tt_fit_style_read(&style, engine, &none, &options, err));
	cr_assert(style.train.n == 5 && style.judged[TT_HARMFUL].n == 3);
	must(tt_fit_style_directions(&directions, engine, &style, 24, &progress, err));
	cr_expect(directions.n_prompts == 5 && !directions.apology);
	struct tt_safetensors *file = golden_open(GOLDEN("policy/style.safetensors"));
	float *want = golden_floats(file, "D", &n);
	cr_assert_eq(n, 3 * WIDTH);
	double error = relative_error(directions.response, want, n);
	cr_expect(error <= 1e-4, "relative error %g", error);
	float *preference = golden_floats(file, "preference", &n);
	struct tt_policy *policy = half_push(engine, want + WIDTH);
	for (int steered = 0; steered < 2; steered++) {
		struct tt_request_options requests[3];
		const struct tt_completion *const responses[TT_N_SIDES] = {
			style.judged_responses[TT_POSITIVE], style.judged_responses[TT_NEGATIVE]};
		double got = 0;
		for (int i = 0; i < 3; i++) {
			tt_request_options_default(&requests[i]);
			requests[i].ids = style.judged[TT_HARMFUL].rows[i].ids;
			requests[i].n_ids = style.judged[TT_HARMFUL].rows[i].n_ids;
			requests[i].steering[0] = (struct tt_steering){policy, 1};
			requests[i].n_steering = (uint32_t)steered;
		}
		must(tt_contrast_preference(engine, requests, 3, responses, &got, &progress, err));
		cr_expect_float_eq(
			got, (double)preference[steered], 1e-4, "%g, not %g", got, (double)preference[steered]);
	}
	cr_expect_gt(fabsf(preference[0] - preference[1]), 1e-2f, "the push is to be seen");
	free(want);
	free(preference);
	tt_safetensors_close(file);
	must(tt_engine_remove_policy(engine, policy, err));
	tt_policy_free(policy);
	tt_fit_directions_free(&directions);
	tt_fit_style_free(&style);
	tt_engine_close(engine);
}

/* Openings alone take their prompts from the benign rows of data. */
Test(style, prompts_may_come_from_data)
{
	static const char openings[] = "{\"positive\":[\"the hen sings\"],\"negative\":[\"one rat bites\"]}\n";
	static const char *const data[] = {ROWS};
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	struct scratch s;
	struct tt_fit_rows rows = {0};
	struct tt_fit_style style;
	struct tt_error problem = {0};
	scratch_make(&s);
	struct tt_fit_options options = style_options(scratch_write(&s, FILES[0], openings, strlen(openings)));
	cr_expect_eq(tt_fit_style_read(&style, engine, &rows, &options, &problem), TT_ERR_ARGUMENT);
	cr_expect_not_null(strstr(problem.message, "benign rows of data; there are 0 and 0"), "%s", problem.message);
	tt_fit_style_free(&style);
	options.data = data;
	options.n_data = 1;
	must(tt_fit_rows_read(&rows, engine, &options, err));
	must(tt_fit_style_read(&style, engine, &rows, &options, err));
	cr_expect(style.train.n == 6 && style.train.rows[0].prompt->label == TT_BENIGN);
	cr_expect_eq(style.judged[TT_HARMFUL].n, 4);
	tt_fit_style_free(&style);
	tt_fit_rows_free(&rows);
	tt_engine_close(engine);
	scratch_remove(&s, FILES, 1);
}

/* ---- The whole */

static json_t *fitted(struct tt_engine *engine, const struct tt_fit_options *options, struct tt_policy **policy)
{
	char *report = NULL;
	must(tt_fit(policy, engine, options, &report, err));
	json_t *object = json_loads(report, 0, NULL);
	cr_assert_not_null(object);
	tt_free(report);
	return object;
}

static double number(const json_t *object, const char *key)
{
	return json_number_value(json_object_get(object, key));
}

Test(style, a_fit_goes_through_and_gives_the_same_bits_again)
{
	struct tt_engine *engine = engine_open(TINY, 8, 64), *other = engine_open(TINY, 3, 16);
	struct tt_policy *a, *b;
	struct tt_fit_options options = style_options(STYLE);
	json_t *r = fitted(engine, &options, &a), *again = fitted(other, &options, &b);
	cr_expect_arr_eq(a->directions, b->directions, 3 * WIDTH * sizeof(float));
	cr_expect(a->alpha == b->alpha && a->gate == TT_GATE_ALWAYS && a->when == TT_WHEN_ALL);
	cr_expect_not_null(strstr(a->fitted_on, "\"style.jsonl\""), "%s", a->fitted_on);
	cr_expect_str_eq(json_string_value(json_object_get(r, "mode")), "style");
	const json_t *candidates = json_object_get(r, "candidates"), *best = json_object_get(r, "chosen");
	const json_t *examples = json_object_get(best, "examples");
	size_t i, n_better = 0;
	json_t *c;
	cr_assert_gt(json_array_size(candidates), 2);
	json_array_foreach(candidates, i, c)
	{
		cr_expect(json_is_number(json_object_get(c, "effect")));
		cr_expect(number(c, "n_benign") == 0 && number(c, "mix") == 0, "there is no E");
		/* Within the bars nothing has a greater effect than the chosen one, but for 0.5 / 3 of a nat. */
		n_better +=
			json_is_false(json_object_get(c, "out")) && number(c, "score") > number(best, "score") + 0.17;
	}
	cr_expect_eq(n_better, 0);
	cr_expect(json_is_number(json_object_get(json_object_get(r, "unsteered"), "preference")));
	cr_assert_eq(json_array_size(examples), 3);
	cr_expect(json_is_string(json_object_get(json_array_get(examples, 2), "steered")));
	json_decref(r);
	json_decref(again);
	tt_policy_free(a);
	tt_policy_free(b);
	tt_engine_close(engine);
	tt_engine_close(other);
}

/* The effect in the report is what the written policy does to the preference. */
Test(style, the_effect_is_of_the_policy_that_is_made)
{
	struct tt_engine *engine = engine_open(TINY, 8, 64);
	struct tt_policy *policy;
	struct tt_fit_options options = style_options(STYLE);
	struct tt_fit_rows none = {0};
	struct tt_fit_style style;
	struct tt_progress progress = {0};
	double with[2];
	json_t *r = fitted(engine, &options, &policy);
	must(tt_fit_style_read(&style, engine, &none, &options, err));
	must(tt_engine_add_policy(engine, policy, NULL, err));
	const struct tt_completion *const responses[TT_N_SIDES] = {
		style.judged_responses[TT_POSITIVE], style.judged_responses[TT_NEGATIVE]};
	for (int steered = 0; steered < 2; steered++) {
		struct tt_request_options requests[3];
		for (int i = 0; i < 3; i++) {
			tt_request_options_default(&requests[i]);
			requests[i].ids = style.judged[TT_HARMFUL].rows[i].ids;
			requests[i].n_ids = style.judged[TT_HARMFUL].rows[i].n_ids;
			requests[i].steering[0] = (struct tt_steering){policy, 1};
			requests[i].n_steering = (uint32_t)steered;
		}
		must(tt_contrast_preference(engine, requests, 3, responses, &with[steered], &progress, err));
	}
	cr_expect_float_eq(number(json_object_get(r, "chosen"), "effect"), with[1] - with[0], 1e-5);
	cr_expect_gt(fabs(with[1] - with[0]), 1e-3, "the push is to be seen");
	json_decref(r);
	tt_fit_style_free(&style);
	must(tt_engine_remove_policy(engine, policy, err));
	tt_policy_free(policy);
	tt_engine_close(engine);
}

Test(style, a_detector_may_be_its_gate)
{
	static const char *const data[] = {ROWS};
	struct tt_engine *engine = engine_open(TINY, 8, 64);
	struct tt_policy *policy;
	struct tt_fit_options options = style_options(STYLE);
	options.gate = TT_FIT_GATE_DETECTOR;
	options.data = data;
	options.n_data = 1;
	json_t *r = fitted(engine, &options, &policy);
	cr_expect_eq(policy->gate, TT_GATE_PROBE);
	cr_expect_not_null(strstr(policy->fitted_on, "rows.jsonl"), "%s", policy->fitted_on);
	cr_expect_not_null(strstr(policy->fitted_on, "style.jsonl"), "%s", policy->fitted_on);
	json_decref(r);
	tt_policy_free(policy);
	tt_engine_close(engine);
}

Test(style, an_open_gate_flags_everything)
{
	struct tt_fit_row rows[3] = {{0}};
	const struct tt_fit_rows all = {.val = {[TT_HARMFUL] = {rows, 3}, [TT_BORDERLINE] = {rows, 1}}};
	struct tt_fit_gate gate;
	must(tt_fit_gate_always(&gate, &all, err));
	for (int i = 0; i < 3; i++)
		cr_expect(gate.flags[TT_HARMFUL][i]);
	cr_expect(gate.flags[TT_BORDERLINE][0]);
	cr_expect_str_eq(gate.observe, "");
	tt_fit_gate_free(&gate);
}

/* Without a gate a policy of refusals acts on every prompt: nothing is trained, and no benign prompt is judged. */
Test(style, a_policy_of_refusals_may_have_no_gate)
{
	static const char *const data[] = {ROWS};
	struct tt_engine *engine = engine_open(TINY, 8, 64);
	struct tt_policy *policy;
	struct tt_fit_options options = style_options(NULL);
	options.mode = TT_FIT_CONTRAST;
	options.gate = TT_FIT_GATE_NONE;
	options.data = data;
	options.n_data = 1;
	json_t *r = fitted(engine, &options, &policy);
	cr_expect(policy->gate == TT_GATE_ALWAYS && policy->n_observed == 0);
	cr_expect_eq(number(json_object_get(r, "chosen"), "n_benign"), 0);
	cr_expect_eq(
		number(json_object_get(r, "chosen"), "refused"), number(json_object_get(r, "chosen"), "refused_gated"));
	json_decref(r);
	tt_policy_free(policy);
	tt_engine_close(engine);
}

Test(style, options_that_do_not_go_together_are_refused)
{
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	struct {
		struct tt_fit_options options;
		const char *expected;
	} bad[] = {
		{style_options(NULL), "mode style needs a contrast file"},
		{style_options(STYLE), "a contrast file is for mode style, not for contrast"},
		{style_options(STYLE), "searches no layer weights"},
		{style_options(STYLE), "no prompt files given"},
		{style_options(STYLE), "max_loss_ratio"},
		{style_options(STYLE), "gate is not one of"},
		{style_options("missing.jsonl"), "missing.jsonl"},
		{style_options(STYLE), "has prompts of its own, and there is no detector to train"},
	};
	static const char *const data[] = {ROWS};
	bad[7].options.data = data;
	bad[7].options.n_data = 1;
	bad[1].options.mode = TT_FIT_CONTRAST;
	bad[2].options.layer_weights = TT_WEIGHTS_SEARCH;
	bad[3].options.gate = TT_FIT_GATE_DETECTOR;
	bad[4].options.max_loss_ratio = -1;
	bad[5].options.gate = (enum tt_fit_gate_choice)7;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct tt_policy *policy = NULL;
		struct tt_error problem = {0};
		cr_expect_lt(tt_fit(&policy, engine, &bad[i].options, NULL, &problem), 0, "%zu", i);
		cr_expect_not_null(strstr(problem.message, bad[i].expected), "%zu: %s", i, problem.message);
		cr_expect_null(policy);
	}
	tt_engine_close(engine);
}

/* The files that the project ships have 16 prompts that train, 16 that judge, and four pairs of openings or more. */
Test(style, the_styles_of_the_project_are_read)
{
	static const char *const names[] = {"brief", "joyful", "formal", "french"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		char path[512];
		size_t n_val = 0;
		struct tt_contrast c;
		snprintf(path, sizeof path, "%s/data/styles/%s.jsonl", TT_SOURCE_DIR, names[i]);
		must(tt_contrast_read(&c, path, err));
		for (size_t k = 0; k < c.prompts.n_rows; k++)
			n_val += c.prompts.rows[k].split == TT_VAL;
		cr_expect(c.prompts.n_rows == 32 && n_val == 16, "%s", names[i]);
		cr_expect(c.openings[TT_POSITIVE].n >= 4 && c.openings[TT_NEGATIVE].n == c.openings[TT_POSITIVE].n,
			"%s", names[i]);
		tt_contrast_free(&c);
	}
}

/* ---- Labels of the user's own */

Test(labels, a_file_may_have_its_own)
{
	static const char text[] = "{\"id\":\"a\",\"prompt\":\"p\",\"label\":\"spam\"}\n"
				   "{\"id\":\"b\",\"prompt\":\"p\",\"label\":\"ham\"}\n"
				   "{\"id\":\"c\",\"prompt\":\"p\",\"label\":\"borderline\"}\n";
	struct scratch s;
	struct tt_prompts p;
	struct tt_error problem = {0};
	scratch_make(&s);
	const char *path = scratch_write(&s, FILES[0], text, strlen(text));
	const struct tt_prompt_form form = {.harmful = "spam", .benign = "ham"}, half = {.harmful = "spam"};
	must(tt_prompts_read_as(&p, &path, 1, &form, err));
	cr_expect(p.n_rows == 3 && p.rows[0].label == TT_HARMFUL && p.rows[1].label == TT_BENIGN &&
		  p.rows[2].label == TT_BORDERLINE);
	tt_prompts_free(&p);
	expect_refused(tt_prompts_read_as(&p, &path, 1, &half, &problem), &problem, "half",
		":2: ", "label must be spam, benign, borderline or text, not \"ham\"");
	scratch_remove(&s, FILES, 1);
}

/* ---- Scores under a gate */

/* A gate that reads the mean over the user's message reads it when responses are scored, too: a span that is given
 * decides otherwise than the whole prompt. */
Test(scores, a_gate_reads_the_span_that_it_reads_when_text_is_generated)
{
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	const int32_t ids[] = {5, 6, 7, 8, 40, 41, 42, 43};
	const uint64_t layers = 1;
	const uint32_t observed[] = {0};
	double mean[2] = {0}, logprob[2];
	struct tt_policy *p = NULL;
	struct tt_request_options o;
	struct tt_progress progress = {0};
	tt_request_options_default(&o);
	o.ids = ids;
	o.n_ids = 8;
	o.keep_layers = &layers;
	struct tt_request *request = request_run(engine, &o);
	const float *h = tt_request_hidden(request, 0);
	for (int t = 0; t < 8; t++)
		for (int k = 0; k < 2; k++)
			mean[k] += k == 0 || t >= 4 ? (double)h[t * WIDTH] / (k == 0 ? 8 : 4) : 0;
	tt_request_free(request);
	cr_assert_gt(fabs(mean[0] - mean[1]), 1e-4);
	must(tt_policy_new(&p, 3, WIDTH, 1, err));
	must(tt_policy_set_gate(p,
		&(const struct tt_gate_choice){
			.gate = TT_GATE_PROBE, .pool = TT_POOL_MEAN, .observed = observed, .n_observed = 1},
		err));
	/* Open for the mean over the span, shut for that over all. */
	p->gate_weight[0] = mean[1] > mean[0] ? 1e4f : -1e4f;
	p->gate_bias = (float)(-(double)p->gate_weight[0] * (mean[0] + mean[1]) / 2);
	p->threshold = 0.5f;
	p->when = TT_WHEN_ALL;
	p->weights[2] = 1;
	for (int i = 0; i < WIDTH; i++)
		p->directions[2 * WIDTH + i] = i % 2 ? 3 : -3;
	must(tt_policy_set_text(&p->name, "span", err));
	must(tt_policy_set_text(&p->fingerprint, tt_engine_info(engine)->fingerprint, err));
	must(tt_policy_set_text(&p->weights_digest, tt_engine_info(engine)->weights_digest, err));
	must(tt_policy_finish(p, err));
	must(tt_engine_add_policy(engine, p, NULL, err));
	o.keep_layers = NULL;
	o.steering[0] = (struct tt_steering){p, 1};
	o.n_steering = 1;
	for (int k = 0; k < 2; k++) {
		int32_t next[] = {50, 51};
		char text[] = "x";
		struct tt_completion c = {.ids = next, .n_ids = 2, .text = text};
		o.mean_from = k == 0 ? 0 : 4;
		o.mean_to = k == 0 ? 0 : 8;
		must(tt_completions_score_steered(engine, &o, 1, &c, &progress, err));
		logprob[k] = c.logprob;
	}
	cr_expect_gt(fabs(logprob[0] - logprob[1]), 1e-3, "%g and %g", logprob[0], logprob[1]);
	must(tt_engine_remove_policy(engine, p, err));
	tt_policy_free(p);
	tt_engine_close(engine);
}
