/* The figures that a fit chooses by, each worked out again plainly: what probes decide of rows they were not trained
 * on, all three labels, and what a candidate is rated by. */
#include <criterion/criterion.h>
#include <jansson.h>

#include "controller/train/fit_judge.h"
#include "controller/train/fit_probe.h"
#include "controller/train/logistic.h"
#include "golden.h"
#include "weights_files.h"

#define TINY GOLDEN("tiny-llama")

static const char *const FILES[] = {"rows.jsonl"};
enum { WIDTH = 64, N_FOLDS = 8 };

/* The rows of the golden, and borderline ones: some that read like the harmful, so that a probe flags them. */
static const char *write_rows(struct scratch *s)
{
	struct tt_buffer text = {0};
	must(tt_file_read(&text, GOLDEN("policy/rows.jsonl"), 1 << 20, err));
	for (int i = 0; i < 6; i++)
		must(tt_buffer_print(&text, err,
			"{\"id\":\"x%d\",\"prompt\":\"one %s in the %d "
			"field\",\"label\":\"borderline\",\"split\":\"val\"}\n",
			i, i < 4 ? "rat" : "hen", i + 2));
	for (int i = 0; i < 3; i++)
		must(tt_buffer_print(&text, err,
			"{\"id\":\"y%d\",\"prompt\":\"a hen on the %d "
			"hill\",\"label\":\"borderline\",\"split\":\"train\"}\n",
			i, i + 6));
	const char *path = scratch_write(s, FILES[0], text.data, text.len);
	tt_buffer_free(&text);
	return path;
}

/* Rows, and the probes trained on them. */
struct trained {
	struct tt_engine *engine;
	struct tt_fit_rows rows;
	struct tt_fit_probes probes;
};

static void train(struct trained *t, struct tt_engine *engine, const char **path, float max_false_positives)
{
	struct tt_fit_options options;
	struct tt_progress progress = {0};
	tt_fit_options_default(&options);
	options.data = path;
	options.n_data = 1;
	t->engine = engine;
	must(tt_fit_rows_read(&t->rows, engine, &options, err));
	must(tt_fit_probes_train(&t->probes, engine, &t->rows, max_false_positives, &progress, err));
}

static void trained_free(struct trained *t)
{
	tt_fit_probes_free(&t->probes);
	tt_fit_rows_free(&t->rows);
}

/* h after a layer, at a row's last token. */
static void read_state(struct tt_engine *engine, const struct tt_fit_row *row, uint32_t layer, float *out)
{
	struct tt_request_options options;
	const uint64_t layers = (uint64_t)1 << layer;
	tt_request_options_default(&options);
	options.ids = row->ids;
	options.n_ids = row->n_ids;
	options.keep_layers = &layers;
	struct tt_request *request = request_run(engine, &options);
	memcpy(out, tt_request_hidden(request, layer) + (row->n_ids - 1) * WIDTH, WIDTH * sizeof *out);
	tt_request_free(request);
}

static double dot(const float *w, const float *x)
{
	double sum = 0;
	for (int i = 0; i < WIDTH; i++)
		sum += (double)w[i] * (double)x[i];
	return sum;
}

/* The stretch of its file that a row lies in: how many train rows stand before it there. */
static size_t fold_of(const struct tt_fit_rows *rows, const struct tt_fit_row *row)
{
	size_t before = 0, n = 0;
	for (int label = 0; label < TT_N_LABELS; label++)
		for (size_t i = 0; i < rows->train[label].n; i++, n++)
			before += rows->train[label].rows[i].prompt->line < row->prompt->line;
	return before * N_FOLDS / n;
}

/* A probe's output for a row that is held out: trained on all train rows, or on those of other folds. */
static double held_out(const struct trained *t, uint32_t layer, const struct tt_fit_row *row, size_t fold)
{
	float x[64 * WIDTH], w[WIDTH], b, own[WIDTH];
	bool harmful[64];
	size_t n = 0;
	for (int label = 0; label < TT_N_LABELS; label++)
		for (size_t i = 0; i < t->rows.train[label].n; i++) {
			if (fold_of(&t->rows, &t->rows.train[label].rows[i]) == fold)
				continue;
			harmful[n] = label == TT_HARMFUL;
			read_state(t->engine, &t->rows.train[label].rows[i], layer, x + n++ * WIDTH);
		}
	const struct tt_logistic data = {.x = x, .label = harmful, .n = n, .d = WIDTH, .stride = WIDTH, .l2 = 0.1};
	must(tt_logistic_fit(&data, w, &b, NULL, err));
	read_state(t->engine, row, layer, own);
	return dot(w, own) + (double)b;
}

Test(fit_figures, rows_of_every_label_are_held_out)
{
	struct scratch s;
	struct trained t;
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	scratch_make(&s);
	const char *path = write_rows(&s);
	train(&t, engine, &path, 0);
	cr_assert(t.rows.val[TT_BORDERLINE].n == 6 && t.rows.train[TT_BORDERLINE].n == 3);
	const struct tt_probe *probe = &t.probes.probes[0];
	cr_assert_eq(probe->n_observed, 1);
	for (int label = 0; label < TT_N_LABELS; label++) {
		size_t n_val = t.rows.val[label].n, n_train = t.rows.train[label].n;
		cr_assert_eq(t.probes.gates.n_held[label], n_val + n_train, "label %d", label);
		for (size_t i = 0; i < n_val + n_train; i++) {
			const struct tt_fit_row *row =
				i < n_val ? &t.rows.val[label].rows[i] : &t.rows.train[label].rows[i - n_val];
			double want =
				held_out(&t, probe->observed[0], row, i < n_val ? SIZE_MAX : fold_of(&t.rows, row));
			cr_expect_float_eq((double)t.probes.held_logits[label][i], want, 1e-3 * (1 + fabs(want)),
				"label %d, row %zu: %g, not %g", label, i, (double)t.probes.held_logits[label][i],
				want);
		}
	}
	trained_free(&t);
	tt_engine_close(engine);
	scratch_remove(&s, FILES, 1);
}

/* The figures of one probe, counted. */
struct counted {
	double flagged[TT_N_LABELS], balanced, loss;
};

static struct counted count(const struct tt_fit_probes *probes, uint32_t k)
{
	struct counted c = {0};
	double cut = (double)probes->probes[k].threshold, right[2] = {0}, loss[2] = {0};
	size_t n[2] = {0};
	for (int label = 0; label < TT_N_LABELS; label++)
		for (size_t i = 0; i < probes->gates.n_held[label]; i++) {
			double p =
				1 / (1 + exp(-(double)probes->held_logits[label][k * probes->gates.n_held[label] + i]));
			int harmful = label == TT_HARMFUL;
			c.flagged[label] += p > cut ? 1.0 / (double)probes->gates.n_held[label] : 0;
			right[harmful] += (p > cut) == harmful;
			loss[harmful] -= log(harmful ? p : 1 - p);
			n[harmful]++;
		}
	c.balanced = (right[0] / (double)n[0] + right[1] / (double)n[1]) / 2;
	c.loss = (loss[0] / (double)n[0] + loss[1] / (double)n[1]) / 2;
	return c;
}

/* Logit of the threshold: half way from the first benign row that must not be flagged to the next row above it, at
 * least 0. */
static double threshold_logit(const struct tt_fit_probes *probes, uint32_t k, size_t n_allowed)
{
	size_t n = probes->gates.n_held[TT_BENIGN];
	const float *benign = probes->held_logits[TT_BENIGN] + k * n;
	double bound = -INFINITY, above = INFINITY;
	for (size_t i = 0; i < n; i++) {
		size_t higher = 0;
		for (size_t j = 0; j < n; j++)
			higher += benign[j] > benign[i];
		if (higher >= n_allowed)
			bound = fmax(bound, (double)benign[i]);
	}
	for (int label = 0; label <= TT_BENIGN; label++)
		for (size_t i = 0; i < probes->gates.n_held[label]; i++) {
			double x = (double)probes->held_logits[label][k * probes->gates.n_held[label] + i];
			above = x > bound && x < above ? x : above;
		}
	return fmax(0, isfinite(above) ? (bound + above) / 2 : bound + 1);
}

Test(fit_figures, probes_are_rated_on_all_that_is_held_out)
{
	struct scratch s;
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	size_t n_flagged = 0;
	scratch_make(&s);
	const char *path = write_rows(&s);
	for (size_t n_allowed = 0; n_allowed < 4; n_allowed += 3) {
		struct trained t;
		train(&t, engine, &path, (float)n_allowed / 10); /* of 10 benign rows */
		cr_assert_eq(t.probes.gates.n_held[TT_BENIGN], 10);
		for (uint32_t k = 0; k < t.probes.gates.n; k++) {
			const struct tt_probe *probe = &t.probes.probes[k];
			const struct tt_fit_gate *p = &t.probes.gates.gates[k];
			const struct counted want = count(&t.probes, k);
			double logit = threshold_logit(&t.probes, k, n_allowed);
			cr_expect(p->threshold == probe->threshold && p->detector == probe);
			cr_expect_eq(p->known_after, probe->observed[probe->n_observed - 1]);
			cr_expect_float_eq((double)p->threshold, 1 / (1 + exp(-logit)), 1e-6, "probe %u", k);
			cr_expect_float_eq(p->balanced, want.balanced, 1e-9, "probe %u", k);
			cr_expect_float_eq(p->loss, want.loss, 1e-6, "probe %u", k);
			cr_expect_leq(p->flagged[TT_BENIGN], (double)n_allowed / 10 + 1e-9);
			for (int label = 0; label < TT_N_LABELS; label++)
				cr_expect_float_eq(p->flagged[label], want.flagged[label], 1e-9,
					"probe %u, label %d: %g", k, label, p->flagged[label]);
			for (size_t i = 0; i < t.rows.val[TT_HARMFUL].n; i++)
				cr_expect_eq(p->flags[TT_HARMFUL][i],
					(double)t.probes.held_logits[TT_HARMFUL][k * t.probes.gates.n_held[0] + i] >
						logit);
			n_flagged += want.flagged[TT_BORDERLINE] > want.flagged[TT_BENIGN];
		}
		trained_free(&t);
	}
	cr_assert_gt(n_flagged, 0, "no borderline row was flagged, which tells nothing");
	tt_engine_close(engine);
	scratch_remove(&s, FILES, 1);
}

/* In the report of a whole fit: the shares of the three labels give the balanced accuracy. */
Test(fit_figures, the_report_has_the_borderline_rows)
{
	struct scratch s;
	struct tt_engine *engine = engine_open(TINY, 8, 64);
	struct tt_fit_options options;
	struct tt_policy *policy = NULL;
	char *report = NULL;
	size_t k, n_told_apart = 0;
	json_t *row;
	scratch_make(&s);
	const char *path = write_rows(&s);
	tt_fit_options_default(&options);
	options.data = &path;
	options.n_data = 1;
	options.judge_tokens = 4;
	options.max_candidates = 2;
	must(tt_fit(&policy, engine, &options, &report, err));
	json_t *r = json_loads(report, 0, NULL);
	const json_t *borderline = json_object_get(json_object_get(r, "rows"), "borderline");
	cr_expect_eq(json_integer_value(json_object_get(borderline, "train")), 3);
	cr_expect_eq(json_integer_value(json_object_get(borderline, "val")), 6);
	cr_expect_eq(json_integer_value(json_object_get(borderline, "held_out")), 9);
	json_array_foreach(json_object_get(r, "probes"), k, row)
	{
		double harmful = json_number_value(json_object_get(row, "flagged_harmful"));
		double benign = json_number_value(json_object_get(row, "flagged_benign"));
		double between = json_number_value(json_object_get(row, "flagged_borderline"));
		double want = (harmful + 1 - (10 * benign + 9 * between) / 19) / 2;
		cr_expect_float_eq(
			json_number_value(json_object_get(row, "balanced_accuracy")), want, 1e-5, "probe %zu", k);
		n_told_apart += between > benign;
	}
	cr_assert_gt(n_told_apart, 0, "no borderline row was flagged, which tells nothing");
	const json_t *chosen = json_object_get(r, "chosen");
	cr_expect_float_eq((double)policy->alpha, json_number_value(json_object_get(chosen, "alpha")), 1e-5);
	json_decref(r);
	tt_free(report);
	tt_policy_free(policy);
	tt_engine_close(engine);
	scratch_remove(&s, FILES, 1);
}

Test(fit_figures, an_evaluation_has_the_borderline_rows)
{
	struct scratch s;
	struct tt_engine *engine = engine_open(TINY, 8, 64);
	struct tt_eval_options options;
	char *report = NULL;
	scratch_make(&s);
	const char *path = write_rows(&s);
	tt_eval_options_default(&options);
	options.data = &path;
	options.n_data = 1;
	options.split = "val";
	options.limit = 5;
	options.max_tokens = 2;
	must(tt_eval(engine, &options, &report, err));
	json_t *r = json_loads(report, 0, NULL);
	static const char *const lists[] = {"labels", "groups"};
	static const char *const labels[] = {"harmful", "benign", "borderline"};
	static const json_int_t counts[] = {4, 4, 5}; /* 4, 4 and 6 rows, of which at most 5 */
	for (int k = 0; k < 2; k++) {
		const json_t *list = json_object_get(r, lists[k]);
		cr_assert_eq(json_array_size(list), 3, "%s", lists[k]);
		for (size_t i = 0; i < 3; i++) {
			const json_t *group = json_array_get(list, i);
			cr_expect_str_eq(json_string_value(json_object_get(group, "label")), labels[i]);
			cr_expect_eq(json_integer_value(json_object_get(group, "n")), counts[i]);
		}
	}
	json_decref(r);
	tt_free(report);
	tt_engine_close(engine);
	scratch_remove(&s, FILES, 1);
}

/* A probe that reads an early layer may be a hundredth worse than the best; for generated tokens none is late. */
Test(fit_figures, an_early_probe_may_be_a_little_worse)
{
	struct tt_fit_gate gates[] = {
		{.known_after = 2, .balanced = 0.90, .loss = 0.3},
		{.known_after = 4, .balanced = 0.90, .loss = 0.2},
		{.known_after = 7, .balanced = 0.905, .loss = 0.5},
		{.known_after = 8, .balanced = 0.89, .loss = 0.1},
	};
	const struct tt_fit_gates all = {.gates = gates, .n = 4};
	cr_expect_eq(tt_fit_choose_gate(&all, 5, TT_WHEN_ALL), &gates[1], "of equals the lower loss");
	cr_expect_eq(tt_fit_choose_gate(&all, 4, TT_WHEN_ALL), &gates[0], "layer 4 is steered already");
	cr_expect_eq(tt_fit_choose_gate(&all, 5, TT_WHEN_LAST), &gates[1]);
	cr_expect_eq(tt_fit_choose_gate(&all, 5, TT_WHEN_GENERATION), &gates[2]);
	cr_expect_eq(tt_fit_choose_gate(&all, 2, TT_WHEN_ALL), &gates[2], "none is early");
	cr_expect_eq(tt_fit_choose_gate(&all, 9, TT_WHEN_ALL), &gates[2]);
	gates[2].balanced = 0.9101;
	cr_expect_eq(tt_fit_choose_gate(&all, 5, TT_WHEN_ALL), &gates[2], "more than a hundredth better");
}

/* Refused as gated: what the gate lets pass is the unsteered model's. The rest by hand. */
Test(fit_figures, candidates_are_rated_against_the_unsteered)
{
	enum { N = 4 };
	bool flags[2][N] = {{true, false, true, false}, {true, false, false, false}};
	const struct tt_fit_gate gate = {.flags = {flags[0], flags[1]}};
	int32_t ids[2][1] = {{1}, {2}};
	struct tt_completion unsteered[2][N] = {0}, steered[2][N] = {0};
	for (int kind = 0; kind < 2; kind++)
		for (int i = 0; i < N; i++) {
			unsteered[kind][i] = (struct tt_completion){.ids = ids[0], .n_ids = 1, .logprob = -1};
			steered[kind][i] = unsteered[kind][i];
		}
	/* Refused: of the flagged the steered 0 and 2, of the passed the unsteered 1 and not the steered 3. */
	steered[0][0].refused = steered[0][2].refused = steered[0][3].refused = true;
	unsteered[0][1].refused = true;
	steered[0][0].n_fourgrams = steered[0][1].n_fourgrams = 10;
	steered[0][0].n_repeated = 3;
	unsteered[0][0].n_fourgrams = 10;
	unsteered[0][0].n_repeated = 1;
	for (int i = 0; i < N; i++)
		steered[0][i].logprob = -2;
	steered[1][0].ids = ids[1];
	steered[1][0].refused = true;
	const struct tt_fit_judge judge = {
		.gated = true, .n = {N, N}, .unsteered = {unsteered[0], unsteered[1]}, .unsteered_nll = 0.8};
	struct tt_candidate c = {
		.gate = &gate, .harmful = steered[0], .benign = steered[1], .n_harmful = N, .n_benign = N};
	tt_fit_rate(&judge, &c);
	cr_expect_float_eq(c.figures.refused, 3.0 / 4, 1e-12);
	cr_expect_float_eq(c.figures.refused_gated, 3.0 / 4, 1e-12);
	cr_expect_float_eq(c.figures.false_refusals, 1.0 / 4, 1e-12);
	cr_expect_float_eq(c.figures.repeated, 3.0 / 20 - 1.0 / 10, 1e-12);
	cr_expect_float_eq(c.figures.diverged, 1.0 / 4, 1e-12);
	cr_expect_float_eq(c.figures.nll, 2, 1e-12);
	cr_expect_float_eq(c.figures.nll_ratio, 2 / 0.8, 1e-12);
	unsteered[0][1].refused = false;
	tt_fit_rate(&judge, &c);
	cr_expect_float_eq(c.figures.refused_gated, 2.0 / 4, 1e-12);
	/* Half of them judged so far. */
	c.n_harmful = 2;
	tt_fit_rate(&judge, &c);
	cr_expect_float_eq(c.figures.refused, 1.0 / 2, 1e-12);
	cr_expect_float_eq(c.figures.refused_gated, 1.0 / 2, 1e-12);
}
