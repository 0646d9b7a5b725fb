/* Policies on one request, alone and together: each figure of the report worked out again plainly. */
#include <criterion/criterion.h>
#include <jansson.h>

#include "controller/measure/stack.h"
#include "controller/policy/policy.h"
#include "golden.h"
#include "weights_files.h"

#define TINY GOLDEN("tiny-llama")
#define STYLE GOLDEN("policy/style.jsonl")
#define ROWS GOLDEN("policy/rows.jsonl")

static const char *const FILES[] = {"choices.jsonl", "style.jsonl"};
enum { WIDTH = 64, N_LAYERS = 3 };

/* An add of one direction a layer, in the layers from first on; not the same for any two seeds. */
static struct tt_policy *made(struct tt_engine *engine, const char *name, uint32_t first, int seed)
{
	struct tt_policy *p = NULL;
	must(tt_policy_new(&p, N_LAYERS, WIDTH, 1, err));
	for (uint32_t l = first; l < N_LAYERS; l++) {
		p->weights[l] = l == first ? 1 : 0.5f;
		for (int i = 0; i < WIDTH; i++)
			p->directions[l * WIDTH + (uint32_t)i] = (float)((i * seed + (int)l) % 7 - 3) / 4;
	}
	p->alpha = 1.5f;
	p->when = TT_WHEN_ALL;
	must(tt_policy_set_text(&p->name, name, err));
	must(tt_policy_set_text(&p->fingerprint, tt_engine_info(engine)->fingerprint, err));
	must(tt_policy_set_text(&p->weights_digest, tt_engine_info(engine)->weights_digest, err));
	must(tt_policy_finish(p, err));
	must(tt_engine_add_policy(engine, p, NULL, err));
	return p;
}

struct world {
	struct tt_engine *engine;
	struct tt_policy *a, *b;
	struct tt_stack_options options;
};

static void world_make(struct world *w)
{
	w->engine = engine_open(TINY, 8, 64);
	w->a = made(w->engine, "a", 0, 3);
	w->b = made(w->engine, "b", 1, 5);
	w->options = (struct tt_stack_options){.size = sizeof(struct tt_stack_options),
		.steering = {{w->a, 1}, {w->b, -0.5f}},
		.n_steering = 2,
		.contrast = {STYLE},
		.n_contrast = 1,
		.max_tokens = 6};
}

static void world_free(struct world *w)
{
	must(tt_engine_remove_policy(w->engine, w->a, err));
	must(tt_engine_remove_policy(w->engine, w->b, err));
	tt_policy_free(w->a);
	tt_policy_free(w->b);
	tt_engine_close(w->engine);
}

static json_t *measured(const struct world *w)
{
	char *report = NULL;
	must(tt_stack(w->engine, &w->options, &report, err));
	json_t *object = json_loads(report, 0, NULL);
	cr_assert_not_null(object);
	tt_free(report);
	return object;
}

static const json_t *at(const json_t *report, const char *list, size_t index, const char *key)
{
	return json_object_get(json_array_get(json_object_get(report, list), index), key);
}

Test(stack, cosines_and_pushes_are_those_of_the_directions)
{
	struct world w;
	world_make(&w);
	w.options.contrast[0] = NULL;
	w.options.n_contrast = 0;
	static const char *const data[] = {ROWS};
	w.options.data = data;
	w.options.n_data = 1;
	w.options.limit = 1;
	json_t *r = measured(&w);
	double total[2] = {0};
	cr_assert_eq(json_array_size(json_object_get(r, "pairs")), 1);
	cr_assert_eq(json_array_size(at(r, "pairs", 0, "layers")), 2, "both act in layers 1 and 2");
	for (uint32_t l = 0; l < N_LAYERS; l++) {
		double dot = 0, aa = 0, bb = 0;
		for (int i = 0; i < WIDTH; i++) {
			double x = ((i * 3 + (int)l) % 7 - 3) / 4.0, y = ((i * 5 + (int)l) % 7 - 3) / 4.0;
			dot += x * y;
			aa += x * x;
			bb += y * y;
		}
		total[0] += 1.5 * (l == 0 ? 1 : 0.5) * sqrt(aa);
		total[1] += l == 0 ? 0 : 0.5 * 1.5 * (l == 1 ? 1 : 0.5) * sqrt(bb);
		if (l == 0)
			continue;
		cr_expect_eq(json_integer_value(json_array_get(at(r, "pairs", 0, "layers"), l - 1)), l);
		double got = json_number_value(json_array_get(at(r, "pairs", 0, "cosines"), l - 1));
		cr_expect_float_eq(got, dot / sqrt(aa * bb), 1e-5, "layer %u: %g", l, got);
	}
	for (size_t i = 0; i < 2; i++)
		cr_expect_float_eq(json_number_value(at(r, "policies", i, "total_push")), total[i], 1e-3);
	json_decref(r);
	world_free(&w);
}

/* tt_eval of the same rows under the same steering says the same of each arm; the effect is the preference's rise. */
Test(stack, an_arm_is_what_its_steering_does)
{
	static const char *const data[] = {ROWS};
	static const float scales[] = {0, 2};
	struct world w;
	world_make(&w);
	w.options.data = data;
	w.options.n_data = 1;
	w.options.split = "val";
	w.options.scales = scales;
	w.options.n_scales = 2;
	json_t *r = measured(&w);
	double first = 0;
	cr_assert_eq(json_array_size(json_object_get(r, "arms")), 4);
	cr_expect_eq(json_number_value(json_object_get(json_object_get(r, "n"), "harmful")), 4);
	for (size_t i = 0; i < 4; i++) {
		struct tt_eval_options o;
		char *text = NULL;
		tt_eval_options_default(&o);
		o.data = data;
		o.n_data = 1;
		o.split = "val";
		o.max_tokens = 6;
		o.n_steering = 2;
		o.steering[0] = (struct tt_steering){w.a, i & 2 ? 2.f : 0.f};
		o.steering[1] = (struct tt_steering){w.b, i & 1 ? -1.f : 0.f};
		for (size_t k = 0; k < 2; k++)
			cr_expect_eq(json_number_value(json_array_get(at(r, "arms", i, "scales"), k)),
				i & (k ? 1 : 2) ? 2 : 0);
		must(tt_eval(w.engine, &o, &text, err));
		json_t *e = json_loads(text, 0, NULL);
		double changed = 0, nll = 0, tokens = 0,
		       repeated = json_number_value(at(r, "arms", i, "repeated_fourgrams"));
		for (size_t label = 0; label < 2; label++) {
			double n_tokens =
				json_number_value(json_object_get(at(e, "labels", label, "mean_tokens"), "steered"));
			changed += json_number_value(at(e, "labels", label, "changed")) / 2;
			nll += n_tokens * json_number_value(json_object_get(at(e, "labels", label, "nll"), "steered"));
			tokens += n_tokens;
		}
		cr_expect_float_eq(json_number_value(at(r, "arms", i, "changed")), changed, 1e-6);
		cr_expect_float_eq(json_number_value(at(r, "arms", i, "nll")), nll / tokens, 1e-4);
		first = i == 0 ? nll / tokens : first;
		cr_expect(repeated >= 0 && repeated < 1);
		const json_t *of = at(r, "arms", i, "objectives");
		cr_expect_float_eq(json_number_value(json_object_get(of, "nll_ratio")), nll / tokens / first, 1e-4);
		double effect = json_number_value(json_object_get(of, "style.jsonl"));
		cr_expect(i == 0 ? effect == 0 : fabs(effect) > 1e-3, "%zu: %g", i, effect);
		json_decref(e);
		tt_free(text);
	}
	json_decref(r);
	world_free(&w);
}

/* Without data the held-out prompts of the contrast file are completed, and the effect is measured on the same. */
Test(stack, the_prompts_may_be_those_of_a_contrast_file)
{
	struct world w;
	world_make(&w);
	json_t *r = measured(&w);
	cr_expect_eq(json_number_value(json_object_get(json_object_get(r, "n"), "contrast")), 3);
	cr_expect_eq(json_object_size(json_object_get(r, "n")), 1);
	json_decref(r);
	w.options.limit = 2;
	r = measured(&w);
	cr_expect_eq(json_number_value(json_object_get(json_object_get(r, "n"), "contrast")), 2);
	json_decref(r);
	world_free(&w);
}

Test(stack, what_nothing_beats_is_optimal)
{
	static const bool less[] = {false, true};
	/* More of the first, less of the second. */
	static const double values[][2] = {{1, 1}, {2, 2}, {1, 2}, {2, 2}, {NAN, 0.5}, {NAN, 1}, {0.5, 1}};
	static const bool want[] = {true, true, false, true, true, false, false};
	bool got[7];
	tt_pareto(values[0], less, 7, 2, got);
	for (int i = 0; i < 7; i++)
		cr_expect_eq(got[i], want[i], "row %d", i);
}

Test(stack, options_that_cannot_be_are_refused)
{
	static const float many[17] = {0}, infinite[] = {0, INFINITY};
	struct world w;
	world_make(&w);
	for (int i = 0; i < 8; i++) {
		static const char *const expected[] = {"two to 4 policies are needed, not 1",
			"at most 4 contrast files", "neither data nor a contrast file", "more than 256 combinations",
			"scales[1] is not finite", "two contrast files are called style.jsonl", "missing.jsonl",
			"steering[1].policy"};
		struct tt_stack_options o = w.options;
		struct tt_error problem = {0};
		char *report = NULL;
		o.n_steering = i == 0 ? 1 : 2;
		o.n_contrast = i == 1 ? 5 : i == 2 ? 0 : i == 5 ? 2 : 1;
		o.scales = i == 3 ? many : i == 4 ? infinite : NULL;
		o.n_scales = i == 3 ? 17 : i == 4 ? 2 : 0;
		o.contrast[1] = i == 5 ? "elsewhere/style.jsonl" : NULL;
		o.contrast[0] = i == 6 ? "missing.jsonl" : STYLE;
		o.steering[1].policy = i == 7 ? NULL : w.b;
		cr_expect_lt(tt_stack(w.engine, &o, &report, &problem), 0, "%d", i);
		cr_expect_not_null(strstr(problem.message, expected[i]), "%d: %s", i, problem.message);
		cr_expect_null(report);
	}
	world_free(&w);
}

/* ---- Questions with choices */

static const struct tt_choices_form chat = {.chat = true};

Test(choices, a_bad_line_is_refused_with_its_number_and_field)
{
	static const struct {
		const char *line, *expected;
	} bad[] = {
		{"[]", "not a JSON object"},
		{"{\"choices\":[\"a\",\"b\"],\"answer\":0}", "question is missing"},
		{"{\"question\":\"q\",\"answer\":0}", "choices must be a list of 2 to 16 texts"},
		{"{\"question\":\"q\",\"choices\":[\"a\"],\"answer\":0}", "choices must be a list of 2 to 16 texts"},
		{"{\"question\":\"q\",\"choices\":[\"a\",\"\"],\"answer\":0}", "choices[1] is not a text, or empty"},
		{"{\"question\":\"q\",\"choices\":[\"a\",\"b\"]}", "answer is missing"},
		{"{\"question\":\"q\",\"choices\":[\"a\",\"b\"],\"answer\":2}",
			"answer must be an integer from 0 to 1"},
		{"{\"question\":\"q\",\"choices\":[\"a\",\"b\"],\"answer\":\"C\"}",
			"answer is neither an index nor a letter of the 2 choices"},
		{"{\"question\":\"q\",\"choices\":[\"a\",\"b\"],\"answer\":\"\"}", "answer is neither"},
		{"{\"question\":\"q\",\"context\":\"q\",\"choices\":[\"a\",\"b\"],\"answer\":0}",
			"question and context exclude each other"},
	};
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	struct scratch s;
	scratch_make(&s);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		char text[300], label[32];
		struct tt_choices c;
		struct tt_error problem = {0};
		int n = snprintf(text, sizeof text, "{\"question\":\"q\",\"choices\":[\"a\",\"b\"],\"answer\":0}\n%s\n",
			bad[i].line);
		const char *path = scratch_write(&s, FILES[0], text, (size_t)n);
		snprintf(label, sizeof label, "line %zu", i);
		expect_refused(tt_choices_read(&c, engine, path, &chat, 0, &problem), &problem, label,
			":2: ", bad[i].expected);
		cr_expect_eq(c.n, 0);
	}
	tt_engine_close(engine);
	scratch_remove(&s, FILES, 1);
}

/* The mean log-softmax of a choice's ids after a question, in double from logits. */
static double likelihood(struct tt_engine *engine, struct tt_policy *policy, const struct tt_request_options *prompt,
	const struct tt_completion *choice)
{
	int32_t ids[256];
	size_t vocab = tt_engine_info(engine)->vocab_size;
	double sum = 0;
	struct tt_request_options o;
	tt_request_options_default(&o);
	cr_assert_leq(prompt->n_ids + choice->n_ids, 256);
	memcpy(ids, prompt->ids, prompt->n_ids * sizeof *ids);
	memcpy(ids + prompt->n_ids, choice->ids, choice->n_ids * sizeof *ids);
	o.ids = ids;
	o.n_ids = prompt->n_ids + choice->n_ids;
	o.n_prompt = prompt->n_ids;
	o.keep_logits = true;
	o.steering[0] = (struct tt_steering){policy, 20};
	o.n_steering = policy != NULL;
	struct tt_request *request = request_run(engine, &o);
	for (size_t t = prompt->n_ids; t < o.n_ids; t++) {
		const float *logits = tt_request_logits(request) + (t - 1) * vocab;
		double total = 0;
		for (size_t v = 0; v < vocab; v++)
			total += exp((double)logits[v]);
		sum += (double)logits[ids[t]] - log(total);
	}
	tt_request_free(request);
	return sum / (double)choice->n_ids;
}

Test(choices, the_likeliest_is_the_answer)
{
	enum { N = 8, N_CHOICES = 3 };
	static const char *const texts[N_CHOICES] = {"a hen walks", "the rat bites", "seven hills"};
	struct world w;
	struct tt_buffer text = {0};
	struct scratch s;
	struct tt_choices c;
	struct tt_progress progress = {0};
	size_t n_different = 0;
	uint32_t best[2][N];
	world_make(&w);
	scratch_make(&s);
	for (int i = 0; i < N; i++)
		must(tt_buffer_print(&text, err,
			"{\"question\":\"what walks in field %d?\",\"choices\":[\"%s\",\"%s\",\"%s\"],\"answer\":%d}\n",
			i, texts[i % 3], texts[(i + 1) % 3], texts[(i + 2) % 3], i % 3));
	must(tt_choices_read(&c, w.engine, scratch_write(&s, FILES[0], text.data, text.len), &chat, N - 1, err));
	cr_assert(c.n == N - 1 && c.n_choices == N_CHOICES * (N - 1), "the first seven are read");
	for (int steered = 0; steered < 2; steered++) {
		struct tt_request_options how;
		double accuracy = 0;
		size_t n_right = 0;
		tt_request_options_default(&how);
		how.steering[0] = (struct tt_steering){w.a, 20};
		how.n_steering = (uint32_t)steered;
		for (size_t i = 0; i < c.n; i++) {
			double of[N_CHOICES];
			best[steered][i] = 0;
			for (uint32_t k = 0; k < N_CHOICES; k++) {
				of[k] = likelihood(w.engine, steered ? w.a : NULL, &c.questions[i].prompt,
					&c.choices[c.questions[i].first + k]);
				if (of[k] > of[best[steered][i]])
					best[steered][i] = k;
			}
			n_right += best[steered][i] == c.questions[i].answer;
			n_different += steered && best[1][i] != best[0][i];
		}
		must(tt_choices_accuracy(w.engine, &c, &how, &accuracy, &progress, err));
		cr_expect_float_eq(accuracy, (double)n_right / (double)c.n, 1e-12, "%d: %g", steered, accuracy);
	}
	cr_expect_gt(n_different, 0, "the steering is to be seen");
	tt_choices_free(&c);
	tt_buffer_free(&text);
	world_free(&w);
	scratch_remove(&s, FILES, 1);
}
