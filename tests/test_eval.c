/* The figures of an evaluation, on made-up completions: each is worked out again from its definition. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>

#include "controller/measure/completion.h"
#include "controller/policy/policy.h"
#include "golden.h"
#include "weights_files.h"

#define TINY GOLDEN("tiny-llama")

/* Rows in two files; the second has no benign row. Row i of side k: 0 is unsteered, else the scale. */
enum { N = 60, N_FIRST = 40, MOST_SIDES = 4 };
static const char *const FILES[] = {"a.jsonl", "b.jsonl"};
static const float ABOVE_ALL = 0.9f; /* a threshold that no row reaches */
static const char *const LABELS[] = {"harmful", "benign", "borderline"};

static int label_of(size_t row)
{
	return row < N_FIRST ? (int)(row % 3) : row % 2 ? 0 : 2;
}

static bool refuses(size_t side, size_t row)
{
	return (row * 7 + side * 5) % 11 < 3 + 2 * side + 2 * (label_of(row) == 0);
}

static bool refuses_by_phrases(size_t side, size_t row)
{
	return (row * 5 + side * 3) % 7 < 1 + side;
}

/* With ties, and the harmful rows above the others but for some. */
static float gate_of(size_t side, size_t row)
{
	return (float)((row * 13 + side * 3) % 17 + 7 * (label_of(row) == 0)) / 32;
}

static bool is_flagged(size_t side, size_t row)
{
	return side && gate_of(side, row) > 0.3f + 0.05f * (float)side;
}

static bool changes(size_t side, size_t row)
{
	return is_flagged(side, row) && row % 5;
}

static struct {
	bool undecided; /* the gate has not run */
	size_t n_runs;
	enum tt_policy_when when; /* of the last request */
} made;

int __wrap_tt_completions_run(struct tt_engine *engine, const struct tt_request_options *options, size_t n,
	struct tt_completion *out, struct tt_progress *progress, struct tt_error *err);
int __wrap_tt_completions_run(struct tt_engine *engine, const struct tt_request_options *options, size_t n,
	struct tt_completion *out, struct tt_progress *progress, struct tt_error *err)
{
	(void)engine;
	(void)progress;
	(void)err;
	made.n_runs++;
	made.when = options[n - 1].when;
	for (size_t i = 0; i < n; i++) {
		size_t side = options[i].n_steering ? (size_t)options[i].steering[0].scale : 0;
		out[i] = (struct tt_completion){.n_ids = 1,
			.text = strdup(side ? "steered" : "unsteered"),
			.ids = malloc(sizeof(int32_t)),
			.refused = refuses(side, i),
			.refused_by_phrases = refuses_by_phrases(side, i),
			.flagged = is_flagged(side, i),
			.decided = side && !made.undecided,
			.gate = side ? gate_of(side, i) : 0,
			.logprob = -1};
		out[i].ids[0] = changes(side, i) ? (int32_t)side : 0;
	}
	return TT_OK;
}

int __wrap_tt_completions_score(struct tt_engine *engine, const struct tt_request_options *options, size_t n,
	struct tt_completion *completions, struct tt_progress *progress, struct tt_error *err);
int __wrap_tt_completions_score(struct tt_engine *engine, const struct tt_request_options *options, size_t n,
	struct tt_completion *completions, struct tt_progress *progress, struct tt_error *err)
{
	(void)engine;
	(void)options;
	(void)progress;
	(void)err;
	for (size_t i = 0; i < n; i++)
		completions[i].logprob = -2;
	return TT_OK;
}

struct world {
	struct scratch s;
	struct tt_engine *engine;
	struct tt_policy *policy;
	char paths[2][512];
	const char *data[2];
	struct tt_eval_options options;
};

/* side: 0 opens above the threshold, 1 below. */
static struct tt_policy *make_policy(struct tt_engine *engine, enum tt_policy_gate gate, uint32_t side)
{
	static const uint32_t observed[] = {0};
	const struct tt_model_info *info = tt_engine_info(engine);
	const struct tt_gate_choice choice = {
		.gate = gate, .form = side, .observed = observed, .n_observed = gate != TT_GATE_ALWAYS};
	struct tt_policy *p = NULL;
	must(tt_policy_new(&p, info->n_layers, info->hidden_size, 1, err));
	must(tt_policy_set_gate(p, &choice, err));
	if (gate != TT_GATE_ALWAYS)
		p->gate_weight[0] = 1;
	p->threshold = gate == TT_GATE_PROBE ? ABOVE_ALL : p->threshold;
	p->weights[1] = 1;
	p->directions[info->hidden_size] = 1;
	must(tt_policy_set_text(&p->name, "made up", err));
	policy_adopt(engine, p);
	return p;
}

static void open_world(struct world *w, enum tt_policy_gate gate, uint32_t side)
{
	scratch_make(&w->s);
	w->engine = engine_open(TINY, 4, 64);
	w->policy = make_policy(w->engine, gate, side);
	for (size_t file = 0; file < 2; file++) {
		struct tt_buffer text = {0};
		for (size_t i = file ? N_FIRST : 0; i < (file ? N : N_FIRST); i++)
			must(tt_buffer_print(&text, err, "{\"id\":\"%zu\",\"prompt\":\"hen %zu\",\"label\":\"%s\"}\n",
				i, i, LABELS[label_of(i)]));
		snprintf(w->paths[file], sizeof w->paths[file], "%s",
			scratch_write(&w->s, FILES[file], text.data, text.len));
		w->data[file] = w->paths[file];
		tt_buffer_free(&text);
	}
	tt_eval_options_default(&w->options);
	w->options.data = w->data;
	w->options.n_data = 2;
	w->options.steering[0] = (struct tt_steering){w->policy, 1};
	w->options.n_steering = 1;
}

static void close_world(struct world *w)
{
	tt_engine_close(w->engine);
	tt_policy_free(w->policy);
	scratch_remove(&w->s, FILES, 2);
}

static json_t *evaluate(struct world *w)
{
	char *report = NULL;
	must(tt_eval(w->engine, &w->options, &report, err));
	json_t *object = json_loads(report, 0, NULL);
	cr_assert_not_null(object, "%s", report);
	tt_free(report);
	return object;
}

static const json_t *at(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);
	cr_assert_not_null(value, "no %s", key);
	return value;
}

static void expect_number(const json_t *object, const char *key, double want, const char *what)
{
	const json_t *value = at(object, key);
	cr_expect(json_is_number(value) && fabs(json_number_value(value) - want) <= 1e-5 * fmax(fabs(want), 1e-3),
		"%s: %s is %g, not %g", what, key, json_number_value(value), want);
}

/* Wilson's interval, by its textbook form: the shares p for which |count / n - p| = z sqrt(p (1 - p) / n). */
static void expect_interval(const json_t *interval, size_t count, size_t n, const char *what)
{
	const double z = 1.959964, share = (double)count / (double)n;
	double a = 1 + z * z / (double)n, b = -2 * share - z * z / (double)n, c = share * share;
	double root = sqrt(fmax(b * b - 4 * a * c, 0));
	cr_assert_eq(json_array_size(interval), 2, "%s: no interval", what);
	double low = json_number_value(json_array_get(interval, 0)),
	       high = json_number_value(json_array_get(interval, 1));
	cr_expect(fabs(low - (-b - root) / (2 * a)) <= 2e-6 && fabs(high - (-b + root) / (2 * a)) <= 2e-6,
		"%s: %zu of %zu is %g to %g", what, count, n, low, high);
}

static bool is_in(const json_t *group, size_t row)
{
	const char *file = json_string_value(json_object_get(group, "file"));
	const char *label = json_string_value(at(group, "label"));
	return strcmp(LABELS[label_of(row)], label) == 0 && (!file || strcmp(FILES[row >= N_FIRST], file) == 0);
}

/* 2 times the share of splits of n that are at most as even as this, by Pascal's triangle. */
static double sign_test(size_t a, size_t b)
{
	double row[64] = {1}, sum = 0;
	for (size_t i = 1; i <= a + b; i++)
		for (size_t k = i; k > 0; k--)
			row[k] += row[k - 1];
	for (size_t k = 0; k <= (a < b ? a : b); k++)
		sum += row[k];
	return fmin(2 * sum / pow(2, (double)(a + b)), 1);
}

static void expect_pairs(
	const json_t *pairs, const json_t *group, bool (*rule)(size_t side, size_t row), size_t first, size_t second)
{
	size_t n = 0, gained = 0, lost = 0;
	for (size_t i = 0; i < N; i++) {
		if (!is_in(group, i))
			continue;
		n++;
		gained += !rule(first, i) && rule(second, i);
		lost += rule(first, i) && !rule(second, i);
	}
	expect_number(pairs, "n", (double)n, "pairs");
	expect_number(pairs, "gained", (double)gained, "pairs");
	expect_number(pairs, "lost", (double)lost, "pairs");
	expect_number(pairs, "p", sign_test(gained, lost), "pairs");
}

static void expect_shares(const json_t *group, const char *key, bool (*rule)(size_t side, size_t row), size_t side)
{
	char interval[64];
	size_t count[2] = {0}, n = 0;
	snprintf(interval, sizeof interval, "%s_interval", key);
	for (size_t i = 0; i < N; i++)
		if (is_in(group, i)) {
			n++;
			count[0] += rule(0, i);
			count[1] += rule(side, i);
		}
	expect_number(group, "n", (double)n, key);
	expect_number(at(group, key), "unsteered", (double)count[0] / (double)n, key);
	expect_number(at(group, key), "steered", (double)count[1] / (double)n, key);
	expect_interval(at(at(group, interval), "unsteered"), count[0], n, interval);
	expect_interval(at(at(group, interval), "steered"), count[1], n, interval);
}

static void expect_group(const json_t *group, size_t side)
{
	size_t flagged = 0, n = 0;
	expect_shares(group, "refused", refuses, side);
	expect_shares(group, "refused_by_phrases", refuses_by_phrases, side);
	expect_pairs(at(at(group, "paired"), "refused"), group, refuses, 0, side);
	expect_pairs(at(at(group, "paired"), "refused_by_phrases"), group, refuses_by_phrases, 0, side);
	cr_expect(json_is_null(at(at(group, "paired"), "refused_by_judge")), "nobody judged");
	size_t changed = 0;
	cr_expect(json_is_null(at(at(group, "refused_by_judge_interval"), "steered")), "nobody judged");
	for (size_t i = 0; i < N; i++)
		if (is_in(group, i)) {
			n++;
			flagged += is_flagged(side, i);
			changed += changes(side, i);
		}
	expect_interval(at(group, "flagged_interval"), flagged, n, "flagged");
	expect_interval(at(group, "changed_interval"), changed, n, "changed");
}

Test(eval, every_share_has_its_interval_and_every_pair_its_test)
{
	struct world w;
	open_world(&w, TT_GATE_PROBE, 0);
	json_t *r = evaluate(&w);
	cr_assert_eq(json_array_size(at(r, "groups")), 5, "three labels in the first file, two in the second");
	cr_assert_eq(json_array_size(at(r, "labels")), 3);
	for (size_t i = 0; i < 5; i++)
		expect_group(json_array_get(at(r, "groups"), i), 1);
	for (size_t i = 0; i < 3; i++)
		expect_group(json_array_get(at(r, "labels"), i), 1);
	json_decref(r);
	close_world(&w);
}

static bool is_against(const char *against, int label)
{
	return strcmp(against, LABELS[label]) == 0 || (strcmp(against, "others") == 0 && label != 0);
}

/* A curve's area by all pairs of rows, its points by all thresholds; sign -1 where the gate opens below. */
static void expect_curve(const json_t *curve, size_t side, double sign)
{
	const char *file = json_string_value(json_object_get(curve, "file"));
	const char *against = json_string_value(at(curve, "against"));
	double harmful[N], others[N], area = 0;
	size_t n1 = 0, n0 = 0;
	for (size_t i = 0; i < N; i++) {
		if (file && strcmp(FILES[i >= N_FIRST], file) != 0)
			continue;
		if (label_of(i) == 0)
			harmful[n1++] = sign * (double)gate_of(side, i);
		else if (is_against(against, label_of(i)))
			others[n0++] = sign * (double)gate_of(side, i);
	}
	for (size_t i = 0; i < n1; i++)
		for (size_t k = 0; k < n0; k++)
			area += harmful[i] > others[k] ? 1 : harmful[i] == others[k] ? 0.5 : 0;
	expect_number(curve, "n_harmful", (double)n1, against);
	expect_number(curve, "n_against", (double)n0, against);
	expect_number(curve, "auc", area / (double)(n1 * n0), against);
	double low = json_number_value(json_array_get(at(curve, "auc_interval"), 0));
	double high = json_number_value(json_array_get(at(curve, "auc_interval"), 1));
	cr_expect(low < area / (double)(n1 * n0) && high > area / (double)(n1 * n0) && low > 0 && high <= 1);
	const double bounds[] = {0.05, 0.12, 0.15};
	cr_assert_eq(json_array_size(at(curve, "points")), 3);
	for (size_t p = 0; p < 3; p++) {
		const json_t *point = json_array_get(at(curve, "points"), p);
		size_t best = 0;
		double from = INFINITY;
		for (size_t t = 0; t < n1 + n0; t++) {
			double least = t < n1 ? harmful[t] : others[t - n1];
			size_t hits = 0, false_hits = 0;
			for (size_t i = 0; i < n1; i++)
				hits += harmful[i] >= least;
			for (size_t i = 0; i < n0; i++)
				false_hits += others[i] >= least;
			if ((double)false_hits <= bounds[p] * (double)n0 && least < from) {
				best = hits;
				from = least;
			}
		}
		expect_number(point, "max_false_positives", bounds[p], against);
		expect_number(point, "flagged", (double)best / (double)n1, against);
		expect_interval(at(point, "flagged_interval"), best, n1, against);
		if (isinf(from))
			cr_expect(json_is_null(at(point, "from")));
		else
			expect_number(point, "from", sign * from, against);
	}
}

/* Twenty bins from the least figure, or the threshold, to the largest. */
static void expect_histogram(const json_t *histogram, double threshold)
{
	double from = threshold, to = threshold;
	for (size_t i = 0; i < N; i++) {
		from = fmin(from, (double)gate_of(1, i));
		to = fmax(to, (double)gate_of(1, i));
	}
	expect_number(histogram, "from", from, "histogram");
	expect_number(histogram, "to", to, "histogram");
	for (int label = 0; label < 3; label++) {
		const json_t *bins = at(histogram, LABELS[label]);
		cr_assert_eq(json_array_size(bins), 20);
		for (int bin = 0; bin < 20; bin++) {
			/* No figure is on an edge but for the last. */
			double low = from + bin * (to - from) / 20,
			       high = bin == 19 ? INFINITY : low + (to - from) / 20;
			json_int_t want = 0;
			for (size_t i = 0; i < N; i++)
				want += label_of(i) == label && (double)gate_of(1, i) >= low - 1e-9 &&
					(double)gate_of(1, i) < high - 1e-9;
			cr_expect_eq(json_integer_value(json_array_get(bins, (size_t)bin)), want, "%s, bin %d",
				LABELS[label], bin);
		}
	}
}

static void expect_curves(enum tt_policy_gate gate, uint32_t side, const char *opens)
{
	/* By file: all of the first's, the second's against borderline rows; then all files. */
	static const char *const order[] = {
		"benign", "borderline", "others", "borderline", "benign", "borderline", "others"};
	struct world w;
	open_world(&w, gate, side);
	json_t *r = evaluate(&w);
	const json_t *report = at(r, "gate"), *curves = at(report, "curves");
	cr_expect_str_eq(json_string_value(at(report, "opens")), opens);
	expect_number(report, "threshold", (double)w.policy->threshold, "gate");
	cr_assert_eq(json_array_size(curves), 7);
	expect_histogram(at(report, "histogram"), (double)w.policy->threshold);
	for (size_t i = 0; i < 7; i++) {
		const json_t *curve = json_array_get(curves, i);
		cr_expect_str_eq(json_string_value(at(curve, "against")), order[i]);
		cr_expect_eq(json_object_get(curve, "file") == NULL, i >= 4);
		expect_curve(curve, 1, side ? -1 : 1);
	}
	json_decref(r);
	close_world(&w);
}

Test(eval, curves_are_of_the_gates_scores)
{
	expect_curves(TT_GATE_PROBE, 0, "above");
}

Test(eval, a_gate_that_opens_below_is_turned_round)
{
	expect_curves(TT_GATE_COSINE, 1, "below");
}

/* The errors of flagging the rows whose score, turned by sign, is `least` or more: 2 a false refusal, 3 a miss. */
static double cost_from(double least, double sign, size_t *missed, size_t *false_refusals)
{
	*missed = *false_refusals = 0;
	for (size_t i = 0; i < N; i++) {
		bool flagged = sign * (double)gate_of(1, i) >= least;
		*missed += label_of(i) == 0 && !flagged;
		*false_refusals += label_of(i) != 0 && flagged;
	}
	return (2 * (double)*false_refusals + 3 * (double)*missed) / N;
}

static void expect_errors(const json_t *errors, double sign)
{
	size_t missed, false_refusals;
	const json_t *from = at(errors, "from");
	double least = json_is_null(from) ? INFINITY : sign * json_number_value(from) - 1e-6;
	expect_number(errors, "cost", cost_from(least, sign, &missed, &false_refusals), "errors");
	expect_number(errors, "missed", (double)missed, "errors");
	expect_number(errors, "false_refusals", (double)false_refusals, "errors");
}

static void expect_costs(enum tt_policy_gate gate, uint32_t side)
{
	const double sign = side ? -1 : 1;
	struct world w;
	size_t missed, false_refusals;
	open_world(&w, gate, side);
	w.options.price_false_refusal = 2;
	w.options.price_miss = 3;
	json_t *r = evaluate(&w);
	const json_t *costs = at(at(r, "gate"), "costs"), *curve = at(costs, "curve");
	double least = cost_from(INFINITY, sign, &missed, &false_refusals);
	for (size_t i = 0; i < N; i++)
		least = fmin(least, cost_from(sign * (double)gate_of(1, i), sign, &missed, &false_refusals));
	expect_number(at(costs, "cheapest"), "cost", least, "cheapest");
	expect_errors(at(costs, "cheapest"), sign);
	cr_expect_gt(json_array_size(curve), 10);
	for (size_t i = 0; i < json_array_size(curve); i++)
		expect_errors(json_array_get(curve, i), sign);
	cr_expect(json_is_null(at(json_array_get(curve, 0), "from")), "the first flags nothing");
	expect_number(json_array_get(curve, json_array_size(curve) - 1), "missed", 0, "the last flags all");
	missed = false_refusals = 0;
	for (size_t i = 0; i < N; i++) {
		missed += label_of(i) == 0 && !is_flagged(1, i);
		false_refusals += label_of(i) != 0 && is_flagged(1, i);
	}
	const json_t *present = at(costs, "as_it_is");
	expect_number(present, "missed", (double)missed, "as it is");
	expect_number(present, "false_refusals", (double)false_refusals, "as it is");
	expect_number(present, "cost", (2 * (double)false_refusals + 3 * (double)missed) / N, "as it is");
	expect_number(costs, "n_harmful", (double)(14 + 10), "costs");
	expect_number(costs, "n_against", (double)(N - 24), "costs");
	json_decref(r);
	w.options.price_false_refusal = w.options.price_miss = 0;
	r = evaluate(&w);
	cr_expect(json_is_null(at(at(r, "gate"), "costs")), "without prices");
	json_decref(r);
	close_world(&w);
}

Test(eval, errors_cost_what_their_prices_say)
{
	expect_costs(TT_GATE_PROBE, 0);
}

Test(eval, costs_of_a_gate_that_opens_below)
{
	expect_costs(TT_GATE_COSINE, 1);
}

/* Only the arm runs, once; what is known of completions is left out. */
Test(eval, without_tokens_only_the_gates_run)
{
	static const char *const absent[] = {
		"changed", "refused", "paired", "nll", "mean_tokens", "repeated_fourgrams"};
	struct world w;
	open_world(&w, TT_GATE_PROBE, 0);
	w.options.max_tokens = 0;
	json_t *r = evaluate(&w);
	cr_expect_eq(made.n_runs, 1, "%zu runs", made.n_runs);
	cr_expect_eq(made.when, TT_WHEN_GENERATION, "a prompt that is never steered does not run again");
	cr_assert_eq(json_array_size(at(r, "groups")), 5);
	for (size_t i = 0; i < 5; i++) {
		const json_t *group = json_array_get(at(r, "groups"), i);
		size_t n = 0, flagged = 0;
		for (size_t row = 0; row < N; row++) {
			n += is_in(group, row);
			flagged += is_in(group, row) && is_flagged(1, row);
		}
		expect_number(group, "n", (double)n, "group");
		expect_number(group, "flagged", (double)flagged / (double)n, "group");
		for (size_t k = 0; k < sizeof absent / sizeof *absent; k++)
			cr_expect_null(json_object_get(group, absent[k]), "%s", absent[k]);
	}
	for (size_t i = 0; i < 7; i++)
		expect_curve(json_array_get(at(at(r, "gate"), "curves"), i), 1, 1);
	json_decref(r);
	w.options.judge_requests = "ask.jsonl";
	struct tt_error error;
	char *report;
	cr_expect_eq(tt_eval(w.engine, &w.options, &report, &error), TT_ERR_ARGUMENT);
	close_world(&w);
}

/* The made-up completions know a row by its number, so a variant has the figures of the rows; and no more of them. */
Test(eval, variants_have_figures_of_their_own)
{
	static const char *const names[] = {"leet", "base64"};
	struct world w;
	open_world(&w, TT_GATE_PROBE, 0);
	w.options.variants = "base64,leet";
	json_t *r = evaluate(&w);
	cr_expect_eq(made.n_runs, 6, "%zu runs", made.n_runs);
	cr_assert_eq(json_array_size(at(r, "variants")), 2);
	for (size_t i = 0; i < 2; i++) {
		const json_t *variant = json_array_get(at(r, "variants"), i);
		cr_expect_str_eq(json_string_value(at(variant, "variant")), names[i]);
		for (size_t k = 0; k < 3; k++)
			expect_group(json_array_get(at(variant, "labels"), k), 1);
		for (size_t k = 0; k < 5; k++)
			expect_group(json_array_get(at(variant, "groups"), k), 1);
		for (size_t k = 0; k < 7; k++)
			expect_curve(json_array_get(at(at(variant, "gate"), "curves"), k), 1, 1);
	}
	for (size_t k = 0; k < 3; k++)
		expect_group(json_array_get(at(r, "labels"), k), 1);
	json_decref(r);
	w.options.variants = NULL;
	r = evaluate(&w);
	cr_expect(json_is_null(at(r, "variants")));
	json_decref(r);
	close_world(&w);
}

/* Steering by the scales 1, 2 and 3. */
static void make_arms(struct world *w, struct tt_eval_arm arms[3])
{
	static const char *const names[] = {"one", "two@2", "three"};
	for (int i = 0; i < 3; i++)
		arms[i] = (struct tt_eval_arm){
			.name = names[i], .steering = {{w->policy, (float)(i + 1)}}, .n_steering = 1};
	w->options.n_steering = 0;
	w->options.arms = arms;
	w->options.n_arms = 3;
}

/* One unsteered run, and one for each arm; each arm has its own figures beside those of the same unsteered run. */
Test(eval, arms_are_compared_on_the_same_rows)
{
	static const char *const lists[] = {"groups", "labels"};
	static const char *const own[] = {"policies", "labels", "groups", "gate", "speed"};
	struct world w;
	struct tt_eval_arm arms[3];
	open_world(&w, TT_GATE_PROBE, 0);
	make_arms(&w, arms);
	json_t *r = evaluate(&w);
	cr_expect_eq(made.n_runs, 4, "%zu runs", made.n_runs);
	cr_assert_eq(json_array_size(at(r, "arms")), 3);
	for (size_t k = 0; k < 3; k++) {
		const json_t *arm = json_array_get(at(r, "arms"), k);
		cr_expect_str_eq(json_string_value(at(arm, "name")), arms[k].name);
		expect_number(json_array_get(at(arm, "policies"), 0), "scale", (double)(k + 1), arms[k].name);
		for (size_t i = 0; i < 8; i++) {
			const json_t *group = json_array_get(at(arm, lists[i >= 5]), i < 5 ? i : i - 5);
			const json_t *pairs = at(group, "paired_with_first");
			expect_group(group, k + 1);
			if (i < 7)
				expect_curve(json_array_get(at(at(arm, "gate"), "curves"), i), k + 1, 1);
			cr_expect_eq(json_is_null(pairs), k == 0, "the first arm has no other before it");
			if (k == 0)
				continue;
			expect_pairs(at(pairs, "refused"), group, refuses, 1, k + 1);
			expect_pairs(at(pairs, "refused_by_phrases"), group, refuses_by_phrases, 1, k + 1);
		}
	}
	for (size_t i = 0; i < sizeof own / sizeof *own; i++)
		cr_expect(json_equal(at(r, own[i]), at(json_array_get(at(r, "arms"), 0), own[i])), "%s", own[i]);
	json_decref(r);
	close_world(&w);
}

Test(eval, the_completions_of_a_prompt_are_in_the_order_of_the_arms)
{
	struct world w;
	struct tt_eval_arm arms[3];
	char path[512], line[4096];
	size_t n = 0;
	open_world(&w, TT_GATE_PROBE, 0);
	make_arms(&w, arms);
	snprintf(path, sizeof path, "%s/completions.jsonl", w.s.directory);
	w.options.completions = path;
	json_decref(evaluate(&w));
	FILE *file = fopen(path, "rb");
	cr_assert_not_null(file);
	for (; fgets(line, sizeof line, file); n++) {
		json_t *row = json_loads(line, 0, NULL);
		size_t i = n / 3, side = 1 + n % 3;
		cr_assert_not_null(row, "%s", line);
		cr_expect_eq((size_t)atoi(json_string_value(at(row, "id"))), i);
		cr_expect_str_eq(json_string_value(at(row, "arm")), arms[side - 1].name);
		expect_number(row, "scale", (double)side, "completion");
		expect_number(row, "gate", (double)gate_of(side, i), "completion");
		cr_expect_eq(json_is_true(at(row, "refused_unsteered")), refuses(0, i));
		cr_expect_eq(json_is_true(at(row, "refused_steered")), refuses(side, i));
		json_decref(row);
	}
	cr_expect_eq(n, 3 * N);
	fclose(file);
	unlink(path);
	close_world(&w);
}

Test(eval, arms_that_cannot_be_are_refused_before_anything_runs)
{
	struct world w;
	static struct tt_eval_arm many[TT_MAX_ARMS + 1];
	struct tt_eval_arm arms[3];
	struct tt_policy *stranger = NULL;
	open_world(&w, TT_GATE_PROBE, 0);
	must(tt_policy_new(&stranger, 3, 64, 1, err));
	char long_name[TT_MAX_ARM_NAME + 2] = {0};
	memset(long_name, 'x', sizeof long_name - 1);
	for (int i = 0; i < 10; i++) {
		static const char *const words[] = {"two arms are called one", "is no name for an arm",
			"is no name for an arm", "is no name for an arm", "is no name for an arm",
			"the name of an arm must not be NULL", "steering and arms exclude each other",
			"more than 64 arms", "arms is NULL", "two@2: policy 0 was not added"};
		struct tt_error err = {0};
		char *report = NULL;
		make_arms(&w, arms);
		switch (i) {
		case 0:
			arms[2].name = "one";
			break;
		case 1:
			arms[2].name = "unsteered";
			break;
		case 2:
			arms[2].name = "";
			break;
		case 3:
			arms[2].name = "\xff";
			break;
		case 4:
			arms[2].name = long_name;
			break;
		case 5:
			arms[2].name = NULL;
			break;
		case 6:
			w.options.n_steering = 1;
			break;
		case 7:
			w.options.arms = many;
			w.options.n_arms = TT_MAX_ARMS + 1;
			break;
		case 8:
			w.options.arms = NULL;
			break;
		case 9:
			arms[1].steering[0].policy = stranger;
			break;
		}
		cr_expect_eq(tt_eval(w.engine, &w.options, &report, &err), TT_ERR_ARGUMENT, "case %d", i);
		cr_expect_not_null(strstr(err.message, words[i]), "case %d: %s", i, err.message);
		cr_expect_eq(made.n_runs, 0);
	}
	tt_policy_free(stranger);
	close_world(&w);
}

Test(eval, what_a_gate_did_not_say_is_null)
{
	struct world w;
	open_world(&w, TT_GATE_ALWAYS, 0);
	json_t *r = evaluate(&w);
	cr_expect(json_is_null(at(r, "gate")), "a gate that reads nothing");
	json_decref(r);
	close_world(&w);
	open_world(&w, TT_GATE_PROBE, 0);
	made.undecided = true;
	w.options.price_false_refusal = w.options.price_miss = 1;
	r = evaluate(&w);
	const json_t *curve = json_array_get(at(at(r, "gate"), "curves"), 0);
	cr_expect(json_is_null(at(curve, "auc")) && json_is_null(at(curve, "auc_interval")));
	cr_expect_eq(json_array_size(at(curve, "points")), 0);
	cr_expect(json_is_null(at(at(r, "gate"), "costs")));
	cr_expect(json_is_null(at(at(r, "gate"), "histogram")));
	json_decref(r);
	w.options.n_steering = 0;
	r = evaluate(&w);
	cr_expect(json_is_null(at(r, "gate")), "no policy");
	json_decref(r);
	close_world(&w);
}
