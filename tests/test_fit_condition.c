/* The gate of a fit in CAST's way: which rows are pairs, the figures of its report counted again, and that a policy
 * compares what was compared when its threshold was chosen. */
#include <criterion/criterion.h>
#include <jansson.h>

#include "controller/train/fit_condition.h"
#include "controller/train/fit_rows.h"
#include "golden.h"
#include "weights_files.h"

#define TINY GOLDEN("tiny-llama")

static const char *const FILES[] = {"rows.jsonl"};

struct world {
	struct scratch s;
	const char *path;
	struct tt_engine *engine;
	struct tt_fit_options options;
	struct tt_fit_rows rows;
	struct tt_fit_gate gate;
	const struct tt_fit_conditions *made;
};

/* Twins in turn, of which some borderline rows stand in the way. Swapped: what was harmful is benign, so that the
 * condition holds below. */
static void write_rows(struct world *w, bool swapped)
{
	static const char *const animals[] = {"rat", "hen", "cat", "dog", "ox", "ant"};
	struct tt_buffer text = {0};
	for (int i = 0; i < 24; i++) {
		static const char *const verbs[] = {"ran in", "hid the bad red box under"};
		bool harmful = i % 2;
		must(tt_buffer_print(&text, err,
			"{\"id\":\"r%d\",\"kind\":\"%s\",\"prompt\":\"the %s %s the %d hill\",\"label\":\"%s\","
			"\"split\":\"%s\"}\n",
			i, i % 3 ? "ice" : "fire", animals[i / 2 % 6], verbs[harmful != swapped], i / 4,
			harmful ? "harmful" : "benign", i % 8 < 6 ? "train" : "val"));
		if (i % 5 == 0)
			must(tt_buffer_print(&text, err,
				"{\"id\":\"b%d\",\"prompt\":\"a %s hid on the hill\",\"label\":\"borderline\"}\n", i,
				animals[i % 6]));
	}
	w->path = scratch_write(&w->s, FILES[0], text.data, text.len);
	tt_buffer_free(&text);
}

static void world_make(struct world *w, enum tt_gate_pool pool, bool swapped, const char *rule)
{
	struct tt_progress progress = {0};
	*w = (struct world){.engine = engine_open(TINY, 4, 64)};
	scratch_make(&w->s);
	write_rows(w, swapped);
	tt_fit_options_default(&w->options);
	w->options.data = &w->path;
	w->options.n_data = 1;
	w->options.pool = pool;
	w->options.mode = TT_FIT_CAST;
	w->options.rule = rule;
	must(tt_fit_rows_read(&w->rows, w->engine, &w->options, err));
	must(tt_fit_condition_make(&w->gate, w->engine, &w->rows, &w->options, NULL, &progress, err));
	w->made = w->gate.made;
}

static void world_free(struct world *w)
{
	tt_fit_gate_free(&w->gate);
	tt_fit_rows_free(&w->rows);
	tt_engine_close(w->engine);
	scratch_remove(&w->s, FILES, 1);
}

/* In the order of the file the k-th harmful row comes right after the k-th partner, its twin. */
Test(fit_condition, pairs_rows_in_the_order_of_the_file)
{
	struct world w;
	world_make(&w, TT_POOL_MEAN, false, NULL);
	const struct tt_fit_features *f = &w.made->features;
	const bool *partner = w.made->conditions[0].partner;
	int n[2] = {0};
	cr_assert_eq(f->n, 29);
	for (size_t i = 0; i < f->n; i++) {
		size_t row = w.made->order[i];
		cr_expect_eq(f->prompt[row]->line, i + 1);
		cr_expect(!(partner[row] && f->harmful[row]));
		if (f->prompt[row]->label == TT_BORDERLINE)
			cr_expect(!partner[row] && !f->harmful[row]);
		else
			cr_expect_eq(atoi(f->prompt[row]->id + 1), 2 * n[f->harmful[row]]++ + f->harmful[row]);
	}
	cr_expect(n[0] == 12 && n[1] == 12);
	world_free(&w);
}

static struct tt_decision decide(struct tt_engine *engine, struct tt_policy *policy, const struct tt_fit_row *row)
{
	struct tt_request_options options;
	struct tt_decision decision;
	tt_request_options_default(&options);
	options.ids = row->ids;
	options.n_ids = row->n_ids;
	options.mean_from = row->mean_from;
	options.mean_to = row->mean_to;
	options.steering[0] = (struct tt_steering){policy, 1};
	options.n_steering = 1;
	struct tt_request *request = request_run(engine, &options);
	cr_assert(tt_request_decision(request, 0, &decision));
	tt_request_free(request);
	return decision;
}

/* The chosen layer's condition is that of what a gate reads of it. */
static void check_condition(const struct tt_fit_conditions *all, const float *x, size_t d)
{
	const struct tt_fit_condition *c = &all->conditions[0];
	const struct tt_condition *chosen = &c->layers[c->chosen];
	const struct tt_condition_rows rows = {.x = x,
		.positive = all->features.harmful,
		.partner = c->partner,
		.order = all->order,
		.fold = all->features.fold,
		.n = all->features.n,
		.d = d,
		.n_folds = TT_N_FOLDS};
	struct tt_condition again;
	must(tt_condition_fit(&again, &rows, err));
	cr_expect_arr_eq(again.w, chosen->w, d * sizeof *again.w);
	cr_expect_arr_eq(again.held, chosen->held, rows.n * sizeof *again.held);
	tt_condition_free(&again);
}

/* Returns whether the condition holds below. */
static bool check_gate(enum tt_gate_pool pool, bool swapped)
{
	struct world w;
	struct tt_policy *p = NULL;
	const struct tt_fit_row **rows = NULL;
	size_t n;
	world_make(&w, pool, swapped, NULL);
	const struct tt_fit_condition *c = &w.made->conditions[0];
	const struct tt_fit_features *f = &w.made->features;
	const size_t hidden = 64, parts = pool == TT_POOL_LAST_MEAN ? 2 : 1;
	must(tt_policy_new(&p, 3, (uint32_t)hidden, 1, err));
	must(w.gate.fill(&w.gate, p, err));
	cr_expect(p->gate == TT_GATE_COSINE && p->pool == pool && p->threshold == w.gate.threshold);
	bool below = p->gate_form == 1;
	cr_expect(p->n_observed == 1 && p->observed[0] == f->observed[c->chosen]);
	for (size_t k = 0; k < hidden; k++)
		p->directions[2 * hidden + k] = 1;
	p->weights[2] = 1;
	policy_adopt(w.engine, p);
	must(tt_fit_rows_list(&w.rows, &rows, &n, err));
	float least = 1, most = -1, *all = malloc(n * parts * hidden * sizeof *all);
	for (size_t i = 0; i < n; i++) {
		float *x = all + i * parts * hidden, got;
		struct tt_decision decision = decide(w.engine, p, rows[i]);
		got = decision.gate;
		cr_expect_eq(decision.s, (got < p->threshold) == below);
		for (size_t part = 0; part < parts; part++)
			memcpy(x + part * hidden, f->x + i * f->d + (part * f->n_observed + c->chosen) * hidden,
				hidden * sizeof *x);
		/* The mean of a page's sums in another order of f32. */
		float want = tt_condition_similarity(c->layers[c->chosen].w, x, parts * hidden);
		cr_expect_float_eq((double)got, (double)want, 1e-5, "row %zu: %g, %g", i, (double)got, (double)want);
		least = fminf(least, got);
		most = fmaxf(most, got);
	}
	check_condition(w.made, all, parts * hidden);
	free(all);
	cr_expect_gt(most, least + 0.05f, "the rows are all alike, which tells nothing");
	must(tt_engine_remove_policy(w.engine, p, err));
	tt_policy_free(p);
	free(rows);
	world_free(&w);
	return below;
}

Test(fit_condition, the_policy_compares_what_was_compared_of_last_tokens)
{
	check_gate(TT_POOL_LAST, false);
}

Test(fit_condition, the_policy_compares_what_was_compared_of_means)
{
	cr_expect_neq(check_gate(TT_POOL_MEAN, false), check_gate(TT_POOL_MEAN, true), "one side was not looked at");
}

Test(fit_condition, the_policy_compares_what_was_compared_of_both)
{
	check_gate(TT_POOL_LAST_MEAN, false);
}

static double number(const json_t *object, const char *key)
{
	return json_number_value(json_object_get(object, key));
}

/* Whether the row is flagged by the layer and the threshold that are best on the rows of other folds, each place
 * between two of these tried. */
static bool flagged_unseen(const struct tt_fit_conditions *all, const struct tt_fit_condition *c, size_t row)
{
	const struct tt_fit_features *f = &all->features;
	double best = -1;
	float at = 0;
	uint32_t layer = 0;
	bool flags = false;
	for (uint32_t k = 0; k < f->n_observed; k++) {
		const float *held = c->layers[k].held;
		for (size_t a = 0; a < f->n; a++)
			for (int below = 0; below < 2; below++) {
				float next = INFINITY;
				size_t right = 0, wrong = 0, missed = 0;
				for (size_t i = 0; i < f->n; i++)
					if (f->fold[i] != f->fold[row] && held[i] > held[a])
						next = fminf(next, held[i]);
				if (f->fold[a] == f->fold[row] || next == INFINITY)
					continue;
				float threshold = held[a] + (next - held[a]) / 2;
				for (size_t i = 0; i < f->n; i++) {
					bool holds = below ? held[i] < threshold : held[i] > threshold;
					right += f->fold[i] != f->fold[row] && holds && c->positive[i];
					wrong += f->fold[i] != f->fold[row] && holds && !c->positive[i];
					missed += f->fold[i] != f->fold[row] && !holds && c->positive[i];
				}
				double f1 = 2 * (double)right / (double)(2 * right + wrong + missed);
				if (f1 < best - 1e-12)
					continue;
				/* Of equals the first counts: a lower layer, then a lower threshold, then above. */
				if (f1 < best + 1e-12 && (k > layer || threshold > at || (threshold == at && below)))
					continue;
				best = f1;
				at = threshold;
				layer = k;
				flags = below ? held[row] < threshold : held[row] > threshold;
			}
	}
	return flags;
}

static void check_figures(bool swapped)
{
	struct world w;
	world_make(&w, TT_POOL_MEAN, swapped, NULL);
	const struct tt_fit_condition *c = &w.made->conditions[0];
	const struct tt_fit_features *f = &w.made->features;
	const struct tt_condition *chosen = &c->layers[c->chosen];
	json_t *report = w.gate.report(&w.gate);
	const json_t *condition = json_array_get(json_object_get(report, "conditions"), 0);
	double right = 0, flagged[TT_N_LABELS] = {0}, all = 0, unseen_right = 0, unseen_all = 0;
	for (uint32_t k = 0; k < 3; k++)
		cr_expect(k < c->chosen ? c->layers[k].point.f1 < chosen->point.f1
					: c->layers[k].point.f1 <= chosen->point.f1);
	for (size_t i = 0; i < f->n; i++) {
		bool below = chosen->point.below;
		bool holds = below ? chosen->held[i] < w.gate.threshold : chosen->held[i] > w.gate.threshold;
		bool unseen = flagged_unseen(w.made, c, i);
		flagged[f->prompt[i]->label] += holds;
		all += holds;
		right += holds && f->harmful[i];
		unseen_all += unseen;
		unseen_right += unseen && f->harmful[i];
	}
	cr_expect_float_eq(number(report, "precision"), right / all, 1e-9);
	cr_expect_float_eq(number(report, "recall"), right / 12, 1e-9);
	cr_expect_float_eq(number(report, "f1"), 2 * right / (all + 12), 1e-9);
	cr_expect_float_eq(number(report, "f1_unseen"), 2 * unseen_right / (unseen_all + 12), 1e-9);
	cr_expect_float_eq(number(report, "flagged_harmful"), flagged[TT_HARMFUL] / 12, 1e-9);
	cr_expect_float_eq(number(report, "flagged_benign"), flagged[TT_BENIGN] / 12, 1e-9);
	cr_expect_float_eq(number(report, "flagged_borderline"), flagged[TT_BORDERLINE] / 5, 1e-9);
	cr_expect_gt(number(condition, "auc"), 0.5);
	cr_expect_eq(json_array_size(json_object_get(condition, "layers")), 3);
	cr_expect_eq(json_array_size(json_object_get(report, "held_out")), 29);
	cr_expect_eq(number(condition, "f1"), number(report, "f1"));
	cr_expect_eq(number(condition, "f1_unseen"), number(report, "f1_unseen"));
	cr_expect_float_eq(number(condition, "threshold"), (double)w.gate.threshold, 1e-9);
	cr_expect_str_eq(
		json_string_value(json_object_get(condition, "side")), chosen->point.below ? "below" : "above");
	char observe[8];
	snprintf(observe, sizeof observe, "%u", f->observed[c->chosen]);
	cr_expect_str_eq(w.gate.observe, observe);
	json_decref(report);
	world_free(&w);
}

Test(fit_condition, its_figures_are_those_of_held_out_rows)
{
	check_figures(false);
	check_figures(true);
}

Test(fit_condition, needs_harmful_and_benign_rows_in_every_part)
{
	struct world w;
	struct tt_fit_gate gate;
	struct tt_error failure = {0};
	struct tt_progress progress = {0};
	world_make(&w, TT_POOL_MEAN, false, NULL);
	w.rows.train[TT_BENIGN].n = 0;
	w.rows.val[TT_BENIGN].n = 1;
	cr_expect_eq(tt_fit_condition_make(&gate, w.engine, &w.rows, &w.options, NULL, &progress, &failure),
		TT_ERR_ARGUMENT);
	cr_expect(strstr(failure.message, "condition harmful"), "%s", failure.message);
	tt_fit_gate_free(&gate);
	world_free(&w);
	world_make(&w, TT_POOL_MEAN, false, NULL);
	w.options.rule = "harmful and not frosty";
	cr_expect_eq(tt_fit_condition_make(&gate, w.engine, &w.rows, &w.options, NULL, &progress, &failure),
		TT_ERR_ARGUMENT);
	cr_expect(strstr(failure.message, "source or kind \"frosty\""), "%s", failure.message);
	tt_fit_gate_free(&gate);
	world_free(&w);
}

Test(fit_condition, a_rule_is_checked_before_anything_runs)
{
	struct world w;
	struct tt_policy *p = NULL;
	struct tt_error failure = {0};
	world_make(&w, TT_POOL_MEAN, false, NULL);
	w.options.rule = "harmful and";
	cr_expect_eq(tt_fit(&p, w.engine, &w.options, NULL, &failure), TT_ERR_FORMAT);
	cr_expect(strstr(failure.message, "rule: the rule wants a condition"), "%s", failure.message);
	w.options.rule = "harmful";
	w.options.mode = TT_FIT_CONTRAST;
	cr_expect_eq(tt_fit(&p, w.engine, &w.options, NULL, &failure), TT_ERR_ARGUMENT);
	cr_expect(strstr(failure.message, "mode cast, not contrast"), "%s", failure.message);
	world_free(&w);
}

static const char rule_text[] = "(harmful or fire) and not borderline";

/* Each condition is that of the rows of its name alone, and the rule joins what they say, held out. */
Test(fit_condition, a_rule_joins_the_conditions_of_its_names)
{
	struct world w;
	world_make(&w, TT_POOL_LAST_MEAN, false, rule_text);
	const struct tt_fit_features *f = &w.made->features;
	const struct tt_fit_condition *c = w.made->conditions;
	double right = 0, all = 0, unseen_right = 0, unseen_all = 0;
	size_t n[3] = {0};
	for (size_t i = 0; i < f->n; i++) {
		bool unseen[3];
		for (int k = 0; k < 3; k++) {
			unseen[k] = flagged_unseen(w.made, &c[k], i);
			n[k] += c[k].positive[i];
			cr_expect_eq(c[k].partner[i], f->prompt[i]->label == TT_BENIGN && !c[k].positive[i]);
			cr_expect_eq(c[k].unseen[i], unseen[k], "condition %d, row %zu", k, i);
		}
		cr_expect_eq(c[1].positive[i], !strcmp(f->prompt[i]->kind, "fire"));
		cr_expect_eq(c[2].positive[i], f->prompt[i]->label == TT_BORDERLINE);
		bool opens = (c[0].holds[i] || c[1].holds[i]) && !c[2].holds[i];
		cr_expect_eq(w.made->opens[i], opens);
		all += opens;
		right += opens && f->harmful[i];
		opens = (unseen[0] || unseen[1]) && !unseen[2];
		unseen_all += opens;
		unseen_right += opens && f->harmful[i];
	}
	cr_expect(n[0] == 12 && n[1] == 8 && n[2] == 5);
	json_t *report = w.gate.report(&w.gate);
	cr_expect_float_eq(number(report, "f1"), 2 * right / (all + 12), 1e-9);
	cr_expect_float_eq(number(report, "f1_unseen"), 2 * unseen_right / (unseen_all + 12), 1e-9);
	cr_expect_str_eq(json_string_value(json_object_get(report, "rule")), rule_text);
	cr_expect_eq(json_array_size(json_object_get(report, "conditions")), 3);
	json_decref(report);
	world_free(&w);
}

/* What the engine decides of a prompt is what the conditions say of what each one reads: that of its own layer. */
static uint32_t check_decisions(bool swapped)
{
	struct world w;
	struct tt_policy *p = NULL;
	const struct tt_fit_row **rows = NULL;
	size_t n, seen[8] = {0}, different = 0;
	world_make(&w, TT_POOL_LAST_MEAN, swapped, rule_text);
	const struct tt_fit_features *f = &w.made->features;
	const struct tt_fit_condition *c = w.made->conditions;
	must(tt_policy_new(&p, 3, 64, 1, err));
	must(w.gate.fill(&w.gate, p, err));
	p->directions[2 * 64] = p->weights[2] = 1;
	policy_adopt(w.engine, p);
	uint32_t below = p->rule.below;
	cr_expect(p->n_observed > 1, "one layer for all tells nothing of layers");
	must(tt_fit_rows_list(&w.rows, &rows, &n, err));
	for (size_t i = 0; i < n; i++) {
		struct tt_decision decision = decide(w.engine, p, rows[i]);
		uint32_t held = 0;
		for (int k = 0; k < 3; k++) {
			float x[128];
			for (size_t part = 0; part < 2; part++)
				memcpy(x + part * 64, f->x + i * f->d + (part * f->n_observed + c[k].chosen) * 64,
					64 * sizeof *x);
			const struct tt_condition *chosen = &c[k].layers[c[k].chosen];
			held |= tt_condition_holds(&chosen->point, tt_condition_similarity(chosen->w, x, 128)) << k;
		}
		cr_expect_eq(decision.gate, (float)held, "row %zu: %g, not %u", i, (double)decision.gate, held);
		cr_expect_eq(decision.s, (held & 3) && !(held & 4));
		different += !seen[held]++;
	}
	cr_expect_gt(different, 2, "the rows are all alike");
	must(tt_engine_remove_policy(w.engine, p, err));
	tt_policy_free(p);
	free(rows);
	world_free(&w);
	return below;
}

Test(fit_condition, the_policy_of_a_rule_decides_by_its_conditions)
{
	cr_expect(check_decisions(false) | check_decisions(true), "no condition holds below");
}

/* The published band is a candidate with the published coefficient along unit vectors, whatever they are long here. */
Test(fit_condition, the_whole_mode_tries_what_was_published)
{
	struct world w;
	struct tt_policy *p = NULL;
	char *text = NULL;
	world_make(&w, TT_POOL_MEAN, false, NULL);
	w.options.judge_tokens = 4;
	w.options.n_judge_prompts = 2;
	w.options.max_candidates = 2;
	must(tt_fit(&p, w.engine, &w.options, &text, err));
	json_t *report = json_loads(text, 0, NULL);
	const json_t *norms = json_object_get(json_object_get(report, "directions"), "norms");
	const json_t *first = json_array_get(json_object_get(report, "candidates"), 0);
	cr_expect_str_eq(json_string_value(json_object_get(report, "mode")), "cast");
	cr_expect_eq(number(first, "first_layer"), number(first, "last_layer"));
	double norm = json_number_value(json_array_get(norms, (size_t)number(first, "first_layer")));
	cr_expect_float_eq(number(first, "alpha") * norm, 1.5, 1e-4);
	cr_expect_eq(number(first, "mix"), 0);
	cr_expect(p->gate == TT_GATE_COSINE && p->op == TT_OP_ADD && p->pool == TT_POOL_MEAN);
	json_decref(report);
	tt_free(text);
	tt_policy_free(p);
	world_free(&w);
}
