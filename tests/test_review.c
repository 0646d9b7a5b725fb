/* A person in the loop: which rows are offered for review, how verdicts are read, and what a gate that is trained again
 * keeps of its policy. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>

#include "base/sha256.h"
#include "controller/measure/prompts.h"
#include "controller/measure/review.h"
#include "controller/policy/policy.h"
#include "golden.h"
#include "weights_files.h"

#define TINY GOLDEN("tiny-llama")
#define ROWS GOLDEN("policy/rows.jsonl")

enum { N_ROWS = 20 };
static const char *const FILES[] = {"a.jsonl", "b.jsonl", "p.safetensors", "q.safetensors", "r.jsonl"};
enum { N_FILES = sizeof FILES / sizeof *FILES };

/* ---- Which rows are offered */

static void expect_choices(const struct tt_review_case *cases, size_t n, size_t n_most,
	const struct tt_review_choice *want, size_t n_want, const char *what)
{
	struct tt_review_choice chosen[16];
	size_t n_chosen;
	must(tt_review_choose(cases, n, n_most, chosen, &n_chosen, err));
	cr_assert_eq(n_chosen, n_want, "%s: %zu rows, not %zu", what, n_chosen, n_want);
	for (size_t i = 0; i < n_want; i++)
		cr_expect(chosen[i].row == want[i].row && chosen[i].reason == want[i].reason,
			"%s: place %zu has row %zu (%s), not %zu (%s)", what, i, chosen[i].row,
			tt_review_reason_word(chosen[i].reason), want[i].row, tt_review_reason_word(want[i].reason));
}

static const struct tt_review_case nine[] = {
	{0.9, true, true, false},
	{0.8, false, true, false}, /* the false flag that is furthest above the threshold of 0.5 */
	{0.7, true, true, false},
	{0.6, false, true, false},
	{0.4, false, false, false},
	{0.3, true, false, false},
	{0.2, false, false, false},
	{0.1, true, false, false}, /* the miss that is furthest below */
	{NAN, true, false, false},
};

/* Worked out by hand from the rule in review.h. */
Test(review, a_wrong_row_and_a_near_one_take_turns)
{
	static const struct tt_review_choice want[] = {{7, TT_REVIEW_MISS},
		{3, TT_REVIEW_FALSE},                      /* the first above the threshold, which is wrong itself */
		{1, TT_REVIEW_FALSE}, {4, TT_REVIEW_NEAR}, /* the first below */
		{5, TT_REVIEW_MISS}, {2, TT_REVIEW_NEAR},  /* wrong ones are used up, and row 5 is taken */
		{6, TT_REVIEW_NEAR}, {0, TT_REVIEW_NEAR}};
	expect_choices(nine, 9, 9, want, 8, "all");
	for (size_t n = 0; n <= 8; n++)
		expect_choices(nine, 9, n, want, n, "the first of them");
}

Test(review, outcomes_come_after_the_gates_errors_and_in_turn_with_them)
{
	static const struct tt_review_case cases[] = {
		{0.9, true, true, true}, {0.8, true, true, true}, {0.2, false, false, false}, {0.1, true, false, true}};
	static const struct tt_review_choice want[] = {
		{3, TT_REVIEW_MISS}, {1, TT_REVIEW_OUTCOME}, {0, TT_REVIEW_OUTCOME}, {2, TT_REVIEW_NEAR}};
	expect_choices(cases, 4, 4, want, 4, "outcomes");
}

/* Equal scores keep the order of the rows; with nothing flagged, the nearest are the highest. */
Test(review, ties_keep_the_order_and_one_side_may_be_empty)
{
	static const struct tt_review_case cases[] = {{0.25, false, false, false}, {0.5, false, false, false},
		{0.25, false, false, false}, {0.5, false, false, false}};
	static const struct tt_review_choice want[] = {
		{1, TT_REVIEW_NEAR}, {3, TT_REVIEW_NEAR}, {0, TT_REVIEW_NEAR}, {2, TT_REVIEW_NEAR}};
	expect_choices(cases, 4, 9, want, 4, "none flagged");
	expect_choices(NULL, 0, 9, NULL, 0, "no rows");
}

/* ---- How verdicts are read */

static const char reviewed_text[] =
	"{\"id\":\"h0\",\"prompt\":\"the rat number 0 bites\",\"label\":\"harmful\",\"verdict\":\"benign\"}\n"
	"{\"id\":\"x1\",\"prompt\":\"one\",\"label\":\"harmful\",\"verdict\":\"keep\",\"source\":\"s\"}\n"
	"{\"id\":\"x2\",\"prompt\":\"two\",\"label\":\"harmful\",\"verdict\":\"\"}\n"
	"{\"id\":\"x3\",\"prompt\":\"three\",\"label\":\"harmful\",\"verdict\":null}\n"
	"{\"id\":\"x4\",\"prompt\":\"four\",\"label\":\"harmful\"}\n"
	"{\"id\":\"x5\",\"prompt\":\"five\",\"label\":\"evil\",\"verdict\":\"borderline\"}\n";

Test(review, a_verdict_is_the_label_and_rows_without_one_are_left_out)
{
	struct scratch s;
	struct tt_prompts p;
	size_t n_replaced;
	const char *const replay[] = {ROWS};
	const struct tt_prompt_form form = {0};
	scratch_make(&s);
	const char *path = scratch_write(&s, FILES[0], reviewed_text, strlen(reviewed_text));
	must(tt_prompts_read_reviewed(&p, &path, 1, replay, 1, &form, &n_replaced, err));
	/* Three with a verdict; of the 20 the one with the text of h0 is replaced, although it has its id too. */
	cr_assert_eq(p.n_rows, 3 + N_ROWS - 1);
	cr_expect_eq(n_replaced, 1);
	cr_expect(p.rows[0].label == TT_BENIGN && p.rows[1].label == TT_HARMFUL && p.rows[2].label == TT_BORDERLINE);
	cr_expect_str_eq(p.rows[1].source, "s");
	cr_expect_eq(p.files[0].n_rows, 6);
	for (size_t i = 0; i < p.n_rows; i++) {
		cr_expect_eq(p.rows[i].reviewed, i < 3, "row %zu", i);
		cr_expect(i < 3 || strcmp(p.rows[i].text, p.rows[0].text) != 0, "the replaced row is still there");
	}
	cr_expect_neq(p.rows[0].origin, p.rows[3].origin);
	tt_prompts_free(&p);
	scratch_remove(&s, FILES, 1);
}

Test(review, bad_verdicts_are_refused_with_their_line)
{
	static const struct {
		const char *line, *expected;
	} bad[] = {
		{"{\"id\":\"x\",\"prompt\":\"q\",\"label\":\"benign\",\"verdict\":\"yes\"}", ":1: verdict must be"},
		{"{\"id\":\"x\",\"prompt\":\"q\",\"label\":\"benign\",\"verdict\":true}", ":1: verdict"},
		{"{\"id\":\"x\",\"prompt\":\"q\",\"verdict\":\"keep\"}", ":1: label is missing"},
		{"{\"prompt\":\"q\",\"verdict\":\"benign\"}", ":1: id is missing"},
		{"{\"id\":\"x\",\"prompt\":\"q\",\"label\":\"benign\",\"verdict\":\"\"}", "no row has a verdict"},
		{"{\"id\":\"h3\",\"prompt\":\"q\",\"verdict\":\"benign\"}", "id h3 is already in"},
		{"[]", ":1: not a JSON object"},
	};
	const char *const replay[] = {ROWS};
	const struct tt_prompt_form form = {0};
	struct scratch s;
	scratch_make(&s);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct tt_prompts p;
		struct tt_error err = {0};
		size_t n_replaced;
		const char *path = scratch_write(&s, FILES[0], bad[i].line, strlen(bad[i].line));
		int status = tt_prompts_read_reviewed(&p, &path, 1, replay, 1, &form, &n_replaced, &err);
		expect_refused(status, &err, bad[i].line, FILES[0], bad[i].expected);
		cr_expect_null(p.rows);
	}
	scratch_remove(&s, FILES, 1);
}

/* ---- The loop on a tiny model */

struct world {
	struct scratch scratch;
	struct tt_engine *engine;
	char parent[160], other[160], review[160], path[512];
	const char *data[1], *replay[1];
	struct tt_fit_options options; /* of the fit that continues */
};

static char *report_of(struct world *w, const struct tt_fit_options *options, const char *path)
{
	struct tt_policy *policy = NULL;
	char *report = NULL;
	must(tt_fit(&policy, w->engine, options, &report, err));
	must(tt_policy_set_text(&policy->created, "then", err));
	must(tt_policy_save(policy, path, err));
	tt_policy_free(policy);
	return report;
}

static void set_quick(struct tt_fit_options *o)
{
	tt_fit_options_default(o);
	o->judge_tokens = 4;
	o->n_judge_prompts = 2;
	o->max_candidates = 1;
}

/* A policy that was fitted on rats that are harmful and hens that are not, and a review of rows that it has not seen,
 * in which some of each are the other way round. */
static void begin(struct world *w)
{
	static const char *const replay = ROWS;
	struct tt_fit_options options;
	struct tt_buffer text = {0};
	*w = (struct world){0};
	scratch_make(&w->scratch);
	w->engine = engine_open(TINY, 4, 64);
	snprintf(w->parent, sizeof w->parent, "%s/p.safetensors", w->scratch.directory);
	snprintf(w->other, sizeof w->other, "%s/q.safetensors", w->scratch.directory);
	snprintf(w->review, sizeof w->review, "%s/r.jsonl", w->scratch.directory);
	set_quick(&options);
	options.name = "rats";
	options.data = &replay;
	options.n_data = 1;
	options.when = TT_WHEN_LAST;
	options.pool = TT_POOL_MEAN;
	tt_free(report_of(w, &options, w->parent));
	for (int i = 0; i < 16; i++)
		must(tt_buffer_print(&text, err,
			"{\"id\":\"n%d\",\"prompt\":\"%s %d %s\",\"label\":\"%s\",\"verdict\":\"%s\"}\n", i,
			i % 2 ? "the cat" : "a hen of the", i, i % 4 < 2 ? "sings" : "bites",
			i % 2 ? "harmful" : "benign",
			i == 15     ? ""
			: i % 4 < 2 ? "keep"
			: i % 2     ? "benign"
				    : "harmful"));
	snprintf(w->path, sizeof w->path, "%s", scratch_write(&w->scratch, "a.jsonl", text.data, text.len));
	tt_buffer_free(&text);
	w->data[0] = w->path;
	w->replay[0] = ROWS;
	set_quick(&w->options);
	w->options.continued = w->parent;
	w->options.name = "rats and hens";
	w->options.data = w->data;
	w->options.replay = w->replay;
	w->options.n_data = w->options.n_replay = 1;
}

static void end(struct world *w)
{
	tt_engine_close(w->engine);
	scratch_remove(&w->scratch, FILES, N_FILES);
}

static json_t *continue_fit(struct world *w)
{
	char *text = report_of(w, &w->options, w->other);
	json_t *report = json_loads(text, 0, NULL);
	cr_assert_not_null(report, "%s", text);
	tt_free(text);
	return report;
}

static size_t count(const json_t *report, const char *side, const char *rows, const char *key)
{
	const json_t *value = json_object_get(
		json_object_get(json_object_get(json_object_get(report, "continued"), side), rows), key);
	cr_assert(json_is_integer(value), "%s, %s: no %s", side, rows, key);
	return (size_t)json_integer_value(value);
}

Test(review, only_the_gate_is_new_and_the_file_says_of_what)
{
	struct world w;
	struct tt_policy *before = NULL, *after = NULL;
	char sha256[65], expected[200];
	uint64_t size;
	begin(&w);
	json_t *report = continue_fit(&w);
	must(tt_policy_load(&before, w.parent, err));
	must(tt_policy_load(&after, w.other, err));
	size_t n = before->n_layers * before->hidden_size;
	cr_expect_eq(memcmp(before->directions, after->directions, n * sizeof(float)), 0, "other directions");
	cr_expect_eq(memcmp(before->weights, after->weights, before->n_layers * sizeof(float)), 0, "other weights");
	cr_expect(before->alpha == after->alpha && before->when == after->when && before->op == after->op);
	cr_expect(before->gate == after->gate && before->pool == TT_POOL_MEAN && after->pool == TT_POOL_MEAN);
	cr_expect_eq(before->n_observed, after->n_observed);
	cr_expect_eq(memcmp(before->observed, after->observed, after->n_observed * sizeof *after->observed), 0);
	cr_expect_neq(memcmp(before->gate_weight, after->gate_weight, before->hidden_size * sizeof(float)), 0,
		"the gate has learned nothing");
	cr_expect_str_eq(after->name, "rats and hens");
	cr_expect_str_eq(after->version, TT_VERSION);
	must(tt_sha256_file(sha256, w.parent, &size, err));
	snprintf(expected, sizeof expected, "{\"file\":\"continued from rats\",\"sha256\":\"%s\",\"rows\":%d}", sha256,
		2 * N_ROWS); /* each prompt in the template and as plain text */
	cr_expect_not_null(strstr(after->fitted_on, expected), "no %s in %s", expected, after->fitted_on);
	json_t *sources = json_loads(after->fitted_on, 0, NULL);
	static const char *const names[] = {"rows.jsonl", "continued from rats", "a.jsonl", "activations"};
	cr_expect_eq(json_array_size(sources), 4, "%s", after->fitted_on);
	for (size_t i = 0; i < 4; i++)
		cr_expect_str_eq(json_string_value(json_object_get(json_array_get(sources, i), "file")), names[i]);
	cr_expect_eq(json_integer_value(json_object_get(json_array_get(sources, 3), "rows")), 2 * (N_ROWS + 15));
	json_decref(sources);
	json_decref(report);
	tt_policy_free(before);
	tt_policy_free(after);
	end(&w);
}

/* Reviewed rows before: what the policy's gate flags as the engine runs it. After: the report's own held-out logits. */
static size_t flagged_by_engine(struct world *w, const char *parent, const char *label)
{
	struct tt_policy *policy = NULL;
	struct tt_eval_options options;
	struct tt_buffer text = {0};
	char *report = NULL;
	const char *path;
	size_t n = 0;
	for (int i = 0; i < 15; i++)
		must(tt_buffer_print(&text, err, "{\"id\":\"n%d\",\"prompt\":\"%s %d %s\",\"label\":\"%s\"}\n", i,
			i % 2 ? "the cat" : "a hen of the", i, i % 4 < 2 ? "sings" : "bites",
			(i % 2) == (i % 4 < 2) ? "harmful" : "benign"));
	path = scratch_write(&w->scratch, "b.jsonl", text.data, text.len);
	tt_buffer_free(&text);
	must(tt_policy_load(&policy, parent, err));
	must(tt_engine_add_policy(w->engine, policy, NULL, err));
	tt_eval_options_default(&options);
	options.data = &path;
	options.n_data = 1;
	options.max_tokens = 0;
	options.steering[options.n_steering++] = (struct tt_steering){policy, 1};
	must(tt_eval(w->engine, &options, &report, err));
	json_t *r = json_loads(report, 0, NULL), *group;
	size_t i;
	json_array_foreach(json_object_get(r, "labels"), i, group)
	{
		double share = json_number_value(json_object_get(group, "flagged"));
		if (strcmp(json_string_value(json_object_get(group, "label")), label) == 0)
			n = (size_t)lround(share * json_number_value(json_object_get(group, "n")));
	}
	json_decref(r);
	tt_free(report);
	must(tt_engine_remove_policy(w->engine, policy, err));
	tt_policy_free(policy);
	return n;
}

static void expect_as_engine(struct world *w, const json_t *report, const char *parent)
{
	size_t flagged =
		count(report, "before", "reviewed", "n_harmful") - count(report, "before", "reviewed", "n_missed");
	cr_expect_eq(flagged, flagged_by_engine(w, parent, "harmful"));
	cr_expect_eq(count(report, "before", "reviewed", "n_false"), flagged_by_engine(w, parent, "benign"));
}

/* A network whose units read the last component of the mean with different signs and biases, so that each has a say. */
Test(review, the_network_of_the_old_gate_counts_too)
{
	enum { UNITS = 3, WIDTH = 64 };
	static const uint32_t observed[] = {1};
	static const float fc2[UNITS] = {3, -2, 5}, bias1[UNITS] = {0.1f, -0.2f, 0.05f};
	const struct tt_gate_choice choice = {.gate = TT_GATE_PROBE_MLP,
		.pool = TT_POOL_MEAN,
		.observed = observed,
		.n_observed = 1,
		.n_units = UNITS};
	struct tt_policy *p = NULL;
	struct world w;
	begin(&w);
	must(tt_policy_load(&p, w.parent, err));
	must(tt_policy_set_gate(p, &choice, err));
	for (size_t u = 0; u < UNITS; u++) {
		for (size_t j = 0; j < WIDTH; j++)
			p->fc1_weight[u * WIDTH + j] = (float)((int)((u + 3) * (j + 5) % 7) - 3) / 4;
		p->fc1_bias[u] = bias1[u];
		p->fc2_weight[u] = fc2[u];
	}
	p->gate_weight[0] = 0.5f;
	p->gate_bias = 0.25f;
	size_t least = SIZE_MAX, most = 0;
	for (int k = -4; k <= 4; k++) {
		p->fc2_bias[0] = (float)(10 * k);
		must(tt_policy_save(p, w.other, err));
		w.options.continued = w.other;
		struct tt_policy *made = NULL;
		char *text = NULL;
		must(tt_fit(&made, w.engine, &w.options, &text, err));
		json_t *report = json_loads(text, 0, NULL);
		expect_as_engine(&w, report, w.other);
		size_t n = count(report, "before", "reviewed", "n_false");
		least = n < least ? n : least;
		most = n > most ? n : most;
		cr_expect_eq(made->gate, TT_GATE_PROBE, "35 rows are too few for a network");
		json_decref(report);
		tt_free(text);
		tt_policy_free(made);
	}
	cr_expect_lt(least, most, "%zu are flagged whatever the bias", least);
	tt_policy_free(p);
	end(&w);
}

Test(review, errors_before_are_the_old_gates_and_after_are_held_out)
{
	struct world w;
	begin(&w);
	json_t *report = continue_fit(&w), *row;
	size_t n_harmful = count(report, "before", "reviewed", "n_harmful");
	cr_expect_eq(n_harmful, 8);
	cr_expect_eq(count(report, "before", "reviewed", "n_others"), 7);
	expect_as_engine(&w, report, w.parent);
	cr_expect_gt(count(report, "before", "reviewed", "n_missed") + count(report, "before", "reviewed", "n_false"),
		0, "nothing is wrong before, so nothing can be learned");
	const json_t *gate = json_object_get(report, "gate");
	double p = json_number_value(json_object_get(gate, "threshold")), cut = log(p / (1 - p));
	size_t n_missed[2] = {0}, n_false[2] = {0}, i;
	json_array_foreach(json_object_get(gate, "held_out"), i, row)
	{
		bool is_reviewed = json_string_value(json_object_get(row, "id"))[0] == 'n';
		bool harmful = strcmp(json_string_value(json_object_get(row, "label")), "harmful") == 0;
		bool flagged = json_number_value(json_object_get(row, "logit")) > cut;
		n_missed[is_reviewed] += harmful && !flagged;
		n_false[is_reviewed] += !harmful && flagged;
	}
	cr_expect_eq(i, N_ROWS + 15);
	cr_expect_eq(count(report, "after", "reviewed", "n_missed"), n_missed[1]);
	cr_expect_eq(count(report, "after", "reviewed", "n_false"), n_false[1]);
	cr_expect_eq(count(report, "after", "replayed", "n_missed"), n_missed[0]);
	cr_expect_eq(count(report, "after", "replayed", "n_false"), n_false[0]);
	cr_expect_eq(count(report, "after", "replayed", "n_harmful"), N_ROWS / 2);
	cr_expect_eq(json_integer_value(json_object_get(json_object_get(report, "continued"), "without_verdict")), 1);
	json_decref(report);
	end(&w);
}

/* The bounds are of replayed rows: the threshold lies at the highest of those others that may not be flagged. */
Test(review, the_threshold_is_that_of_the_replayed_rows)
{
	struct world w;
	begin(&w);
	w.options.max_false_positives = 0.25f; /* 2 of the 10 benign rows, which weigh the same */
	json_t *report = continue_fit(&w), *gate = json_object_get(report, "gate"), *row;
	double p = json_number_value(json_object_get(gate, "threshold")), cut = log(p / (1 - p));
	size_t n_above = 0, n_reviewed_above = 0, i;
	json_array_foreach(json_object_get(gate, "held_out"), i, row)
	{
		bool is_reviewed = json_string_value(json_object_get(row, "id"))[0] == 'n';
		bool benign = strcmp(json_string_value(json_object_get(row, "label")), "benign") == 0;
		bool above = benign && json_number_value(json_object_get(row, "logit")) > cut;
		n_above += above && !is_reviewed;
		n_reviewed_above += above && is_reviewed;
	}
	cr_expect_eq(n_above, 2, "%zu of the replayed rows are flagged", n_above);
	cr_expect_geq(n_reviewed_above, 3, "%zu: the bound would hold with the reviewed ones, too", n_reviewed_above);
	json_decref(report);
	end(&w);
}

/* What stands under "before" of replayed rows is what the fit of the parent reported of them, held out. */
Test(review, replayed_rows_before_are_those_of_the_parents_own_fit)
{
	struct world w;
	struct tt_fit_options options;
	begin(&w);
	set_quick(&options);
	options.data = w.replay;
	options.n_data = 1;
	char *text = report_of(&w, &options, w.parent);
	json_t *fit = json_loads(text, 0, NULL), *gate = json_object_get(fit, "gate");
	json_t *report = continue_fit(&w);
	double share = json_number_value(json_object_get(gate, "flagged_benign"));
	cr_expect_eq(count(report, "before", "replayed", "n_false"), (size_t)lround(share * N_ROWS / 2));
	share = json_number_value(json_object_get(gate, "flagged_harmful"));
	cr_expect_eq(count(report, "before", "replayed", "n_missed"), (size_t)lround((1 - share) * N_ROWS / 2));
	json_decref(report);
	json_decref(fit);
	tt_free(text);
	end(&w);
}

static struct tt_buffer bytes(const char *path)
{
	struct tt_buffer out = {0};
	must(tt_file_read(&out, path, 1 << 24, err));
	return out;
}

Test(review, the_same_verdicts_give_the_same_file)
{
	struct world w;
	begin(&w);
	json_decref(continue_fit(&w));
	struct tt_buffer first = bytes(w.other);
	json_decref(continue_fit(&w));
	struct tt_buffer second = bytes(w.other);
	cr_expect(first.len == second.len && memcmp(first.data, second.data, first.len) == 0);
	/* Fewer rows to replay are another gate. */
	w.options.n_gate_prompts = 5;
	json_t *report = continue_fit(&w);
	cr_expect_eq(count(report, "after", "replayed", "n_harmful"), 5);
	cr_expect_eq(count(report, "after", "reviewed", "n_harmful"), 8, "no reviewed row is left out");
	json_decref(report);
	tt_buffer_free(&first);
	tt_buffer_free(&second);
	end(&w);
}

static void expect_fit_refused(struct world *w, int code, const char *expected)
{
	struct tt_policy *policy = NULL;
	struct tt_error err = {0};
	cr_expect_eq(tt_fit(&policy, w->engine, &w->options, NULL, &err), code, "%s: %s", expected, err.message);
	cr_expect_not_null(strstr(err.message, expected), "no \"%s\" in: %s", expected, err.message);
	cr_expect_null(policy);
}

static void change_parent(struct world *w, enum tt_policy_gate gate, const char *fingerprint, const char *digest)
{
	struct tt_policy *p = NULL;
	static const uint32_t observed[] = {0};
	const struct tt_gate_choice choice = {.gate = gate, .observed = observed, .n_observed = gate != TT_GATE_ALWAYS};
	must(tt_policy_load(&p, w->parent, err));
	if (gate != p->gate)
		must(tt_policy_set_gate(p, &choice, err));
	if (gate == TT_GATE_COSINE)
		p->gate_weight[0] = 1;
	must(tt_policy_set_text(&p->fingerprint, fingerprint ? fingerprint : p->fingerprint, err));
	must(tt_policy_set_text(&p->weights_digest, digest ? digest : p->weights_digest, err));
	must(tt_policy_save(p, w->other, err));
	tt_policy_free(p);
	w->options.continued = w->other;
}

Test(review, what_cannot_be_continued_is_refused_by_name)
{
	static const char test_rows[] =
		"{\"id\":\"t\",\"prompt\":\"q\",\"label\":\"benign\",\"verdict\":\"keep\",\"split\":\"test\"}\n";
	struct world w;
	begin(&w);
	w.options.n_replay = 0;
	expect_fit_refused(&w, TT_ERR_ARGUMENT, "without rows that policy rats was fitted on (rows.jsonl)");
	w.options.n_replay = 1;
	w.options.op = TT_OP_ABLATE;
	expect_fit_refused(&w, TT_ERR_ARGUMENT, "keeps its directions");
	w.options.op = TT_OP_ADD;
	change_parent(&w, TT_GATE_ALWAYS, NULL, NULL);
	expect_fit_refused(&w, TT_ERR_UNSUPPORTED, "its gate, always, is no detector");
	change_parent(&w, TT_GATE_COSINE, NULL, NULL);
	expect_fit_refused(&w, TT_ERR_UNSUPPORTED, "its gate, cosine, is no detector");
	change_parent(&w, TT_GATE_PROBE, "gpt-9", NULL);
	expect_fit_refused(&w, TT_ERR_MISMATCH, "policy rats was fitted on another model: gpt-9");
	change_parent(&w, TT_GATE_PROBE, NULL, "another");
	expect_fit_refused(&w, TT_ERR_MISMATCH, "policy rats was fitted on other weights");
	w.options.continued = w.parent;
	scratch_write(&w.scratch, "a.jsonl", test_rows, strlen(test_rows));
	expect_fit_refused(&w, TT_ERR_ARGUMENT, "of the test split, which no fit reads");
	w.options.candidates = "a-folder";
	expect_fit_refused(&w, TT_ERR_ARGUMENT, "candidates cannot be chosen");
	w.options.candidates = NULL;
	scratch_write(&w.scratch, "a.jsonl", "{}\n", 3);
	expect_fit_refused(&w, TT_ERR_FORMAT, "no row has a verdict");
	w.options.continued = NULL;
	expect_fit_refused(&w, TT_ERR_ARGUMENT, "replay is for a policy that is continued");
	end(&w);
}

/* ---- What eval writes */

static json_t *lines_of(const char *path)
{
	struct tt_buffer text = bytes(path);
	json_t *list = json_array();
	char *save = NULL;
	for (char *line = strtok_r(text.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		json_array_append_new(list, json_loads(line, 0, NULL));
	tt_buffer_free(&text);
	return list;
}

Test(review, gates_alone_decide_as_they_do_beside_completions)
{
	struct world w;
	struct tt_policy *policy = NULL;
	struct tt_eval_options options;
	json_t *reports[2], *reviews[2];
	begin(&w);
	must(tt_policy_load(&policy, w.parent, err));
	must(tt_engine_add_policy(w.engine, policy, NULL, err));
	tt_eval_options_default(&options);
	options.data = w.data;
	options.n_data = 1;
	options.review = w.review;
	options.steering[options.n_steering++] = (struct tt_steering){policy, 1};
	for (int i = 0; i < 2; i++) {
		char *text = NULL;
		options.max_tokens = i ? 3 : 0;
		must(tt_eval(w.engine, &options, &text, err));
		reports[i] = json_loads(text, 0, NULL);
		reviews[i] = lines_of(w.review);
		tt_free(text);
		cr_expect_eq(json_array_size(reviews[i]), 16, "all rows are near, if there are few");
	}
	cr_expect(json_equal(json_object_get(reports[0], "gate"), json_object_get(reports[1], "gate")),
		"other figures of the gate");
	const json_t *speed = json_object_get(json_object_get(reports[0], "speed"), "steered");
	cr_expect_eq(json_integer_value(json_object_get(speed, "decode_tokens")), 0);
	cr_expect_eq(json_integer_value(json_object_get(speed, "reruns")), 0);
	const json_t *group = json_array_get(json_object_get(reports[0], "labels"), 0);
	cr_expect(json_object_get(group, "flagged") && !json_object_get(group, "refused"));
	for (size_t i = 0; i < 16; i++) {
		const json_t *row = json_array_get(reviews[1], i);
		cr_expect_str_eq(json_string_value(json_object_get(row, "verdict")), "");
		cr_expect(json_is_string(json_object_get(row, "prompt")) &&
			  json_is_string(json_object_get(row, "steered")));
		cr_expect_null(json_object_get(json_array_get(reviews[0], i), "steered"));
	}
	for (int i = 0; i < 2; i++) {
		json_decref(reports[i]);
		json_decref(reviews[i]);
	}
	tt_engine_remove_policy(w.engine, policy, NULL);
	tt_policy_free(policy);
	end(&w);
}
