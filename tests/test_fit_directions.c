/* The directions of the modes of a fit against numpy and PyTorch, and the policies that are made of them. */
#include <criterion/criterion.h>
#include <jansson.h>

#include "controller/train/fit_affine.h"
#include "controller/train/fit_candidate.h"
#include "controller/train/fit_mean.h"
#include "controller/train/fit_pca.h"
#include "golden.h"

#define TINY GOLDEN("tiny-llama")
#define ROWS GOLDEN("policy/rows.jsonl")

enum { N_LAYERS = 3, WIDTH = 64 }; /* of the tiny model */

static const char *const data[] = {ROWS};

/* The rows and directions of the tiny model that the goldens are of. */
struct world {
	struct tt_engine *engine;
	struct tt_fit_options options;
	struct tt_fit_rows rows;
	struct tt_fit_directions directions;
	struct tt_progress progress;
};

static void world_make(struct world *w, bool pairs)
{
	*w = (struct world){.engine = engine_open(TINY, 4, 64)};
	tt_fit_options_default(&w->options);
	w->options.data = data;
	w->options.n_data = 1;
	w->options.seed = 3;
	must(tt_fit_rows_read(&w->rows, w->engine, &w->options, err));
	must(tt_fit_directions_make(
		&w->directions, w->engine, &w->rows, w->options.n_direction_prompts, pairs, &w->progress, err));
}

static void world_free(struct world *w)
{
	tt_fit_directions_free(&w->directions);
	tt_fit_rows_free(&w->rows);
	tt_engine_close(w->engine);
}

/* ---- Principal components */

/* 1e-4 relative, as for D, of which the component is made as long. */
Test(fit_directions, principal_components_are_those_that_numpy_finds)
{
	struct world w;
	size_t n, n_explained;
	world_make(&w, true);
	must(tt_fit_pca(&w.directions, err));
	struct tt_safetensors *file = golden_open(GOLDEN("policy/pca.safetensors"));
	float *want = golden_floats(file, "direction", &n), *explained = golden_floats(file, "explained", &n_explained);
	cr_assert(n == N_LAYERS * WIDTH && n_explained == N_LAYERS);
	for (uint32_t l = 0; l < N_LAYERS; l++) {
		double error = relative_error(w.directions.response + l * WIDTH, want + l * WIDTH, WIDTH);
		cr_expect(error <= 1e-4, "layer %u: relative error %g", l, error);
		cr_expect_float_eq(w.directions.explained[l], (double)explained[l], 1e-5, "layer %u", l);
	}
	cr_expect_null(w.directions.apology);
	free(want);
	free(explained);
	tt_safetensors_close(file);
	world_free(&w);
}

/* Made-up pairs of two numbers, whose differences are large along the first: three of five point up, though their sum
 * and D point down. Of the first four alone, two point up, and D decides. */
Test(fit_directions, the_sign_is_that_of_most_pairs)
{
	static const float difference[5][2] = {{1, 0.1f}, {-4, 0.1f}, {1, 0}, {-4, 0}, {1, -0.1f}};
	for (int k = 0; k < 4; k++) {
		int flip = k % 2 ? 1 : -1, up = k < 2 ? flip : -flip;
		struct tt_fit_directions d = {.n_layers = 1, .hidden_size = 2, .n_prompts = k < 2 ? 5 : 4};
		d.response = calloc(2, sizeof *d.response);
		d.norms = calloc(1, sizeof *d.norms);
		d.refusing = calloc(10, sizeof *d.refusing);
		d.answering = calloc(10, sizeof *d.answering);
		d.norms[0] = 2;
		d.response[0] = (float)-flip;
		for (int i = 0; i < 10; i++) {
			d.answering[i] = (float)i;
			d.refusing[i] = (float)(i + flip * difference[i / 2][i % 2]);
		}
		must(tt_fit_pca(&d, err));
		cr_expect_float_eq((double)d.response[0], up * 2, 1e-2, "case %d: %g", k, (double)d.response[0]);
		tt_fit_directions_free(&d);
	}
}

/* ---- Policies of other operations */

/* y [n][WIDTH] = what the policy makes of x, by the definition of steering, with sums in double. */
static void steer(const struct tt_policy *p, uint32_t layer, const float *x, float *y, size_t n)
{
	uint32_t together = tt_steer_together(p->op);
	size_t first = (size_t)layer * p->n_directions;
	const float *rows = p->directions + first * WIDTH, *readers = p->affine ? p->affine + first * WIDTH : NULL;
	for (size_t i = 0; i < n; i++) {
		const float *h = x + i * WIDTH;
		double sum[WIDTH];
		for (uint32_t j = 0; j < WIDTH; j++)
			sum[j] = h[j];
		for (uint32_t k = 0; k < p->n_directions; k += together) {
			struct tt_steer_read read[TT_MAX_TOGETHER] = {0};
			float g[TT_MAX_TOGETHER];
			for (uint32_t m = 0; m < together; m++) {
				double along = 0;
				for (uint32_t j = (k + m) * WIDTH; j < (k + m + 1) * WIDTH; j++)
					along += (readers ? (double)readers[j] - (double)rows[j] : (double)rows[j]) *
						 (double)h[j % WIDTH];
				read[m].along = (float)along;
				read[m].target = p->targets ? p->targets[first + k + m] : 0;
			}
			tt_steer_factors(p->op, p->form, p->alpha * p->weights[layer], read, g);
			for (uint32_t m = 0; m < together; m++)
				for (uint32_t j = 0; j < WIDTH; j++)
					sum[j] += (double)g[m] * (double)rows[(k + m) * WIDTH + j];
		}
		for (uint32_t j = 0; j < WIDTH; j++)
			y[i * WIDTH + j] = (float)sum[j];
	}
}

/* What candidates' policies do to states, against numpy's; 1e-4 relative, as for D. */
Test(fit_directions, other_operations_do_what_numpy_does)
{
	enum { N = 8 };
	static const struct {
		enum tt_policy_op op;
		double push;
		float alpha;
		const char *name;
	} cases[] = {{TT_OP_ABLATE, 0.75, 0.75f, "ablate.0.75"}, {TT_OP_ONE_SIDED, 0.75, 0.75f, "one_sided.0.75"},
		{TT_OP_CLAMP, 1.25, 1, "clamp.1.25"}, {TT_OP_ROTATE, 1, 1, "rotate.1"},
		{TT_OP_ROTATE, 1.25, 1, "rotate.1.25"}, {TT_OP_ROTATE, 50, 1, "rotate.50"}};
	static const float weights[N_LAYERS] = {1, 1, 1};
	struct world w;
	size_t n;
	world_make(&w, false);
	struct tt_safetensors *file = golden_open(GOLDEN("policy/fitted.safetensors"));
	float *x = golden_floats(file, "x", &n), y[N * WIDTH];
	cr_assert_eq(n, N_LAYERS * N * WIDTH);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		for (int mix = 0; mix < 2; mix++) {
			struct tt_candidate c = {.op = cases[i].op, .when = TT_WHEN_ALL};
			struct tt_policy *policy = NULL;
			char name[32];
			snprintf(name, sizeof name, "%s.%d", cases[i].name, mix);
			float *want = golden_floats(file, name, &n);
			must(tt_candidate_aim(&c, &w.directions, weights, mix, cases[i].push, err));
			must(tt_candidate_policy(&c, &w.directions, tt_engine_info(w.engine), false, &policy, err));
			cr_expect(policy->op == cases[i].op && policy->alpha == cases[i].alpha, "%s", name);
			for (uint32_t l = 0; l < N_LAYERS; l++) {
				steer(policy, l, x + l * N * WIDTH, y, N);
				double error = relative_error(y, want + l * N * WIDTH, N * WIDTH);
				cr_expect(error <= 1e-4, "%s, layer %u: relative error %g", name, l, error);
			}
			free(want);
			free(c.weights);
			tt_policy_free(policy);
		}
	free(x);
	tt_safetensors_close(file);
	world_free(&w);
}

/* ---- Affine maps */

/* Signs and order within the subspace are free, so what is compared is what the map does. */
Test(fit_directions, affine_maps_are_those_that_numpy_finds)
{
	enum { N = 8, RANK = 4 };
	static const float weights[N_LAYERS] = {1, 1, 1};
	static const char *const names[] = {"y.1", "y.0.7"};
	struct world w;
	size_t n;
	world_make(&w, true);
	must(tt_fit_affine(&w.directions, RANK, err));
	struct tt_safetensors *file = golden_open(GOLDEN("policy/fitted_affine.safetensors"));
	float *penalties = golden_floats(file, "penalties", &n), *errors = golden_floats(file, "errors", &n);
	float *x = golden_floats(file, "x", &n), y[N * WIDTH];
	cr_assert_eq(n, N_LAYERS * N * WIDTH);
	for (uint32_t l = 0; l < N_LAYERS; l++) {
		cr_expect_eq(w.directions.maps.penalties[l], (double)penalties[l], "layer %u", l);
		cr_expect_float_eq(w.directions.maps.errors[l], (double)errors[l], 1e-5, "layer %u", l);
	}
	for (int k = 0; k < 2; k++) {
		struct tt_candidate c = {.op = TT_OP_AFFINE, .when = TT_WHEN_ALL};
		struct tt_policy *policy = NULL;
		float *want = golden_floats(file, names[k], &n);
		must(tt_candidate_aim(&c, &w.directions, weights, 0, k == 0 ? 1 : 0.7, err));
		must(tt_candidate_policy(&c, &w.directions, tt_engine_info(w.engine), false, &policy, err));
		cr_expect(policy->op == TT_OP_AFFINE && policy->n_directions == RANK);
		for (uint32_t l = 0; l < N_LAYERS; l++) {
			steer(policy, l, x + l * N * WIDTH, y, N);
			double error = relative_error(y, want + l * N * WIDTH, N * WIDTH);
			cr_expect(error <= 1e-4, "%s, layer %u: relative error %g", names[k], l, error);
		}
		free(want);
		free(c.weights);
		tt_policy_free(policy);
	}
	free(penalties);
	free(errors);
	free(x);
	tt_safetensors_close(file);
	world_free(&w);
}

/* Made-up pairs with one answering state, so that nothing of it tells how to change it: the mean change is added. Two
 * differences span two of three rows. */
Test(fit_directions, a_map_of_equal_states_adds_the_mean_change)
{
	static const float change[8][3] = {
		{3, 0, 1}, {3, 0, 1}, {3, 0, -1}, {3, 0, -1}, {3, 0, 1}, {3, 0, 1}, {3, 0, -1}, {3, 0, -1}};
	struct tt_fit_directions d = {.n_layers = 1, .hidden_size = 3, .n_prompts = 8};
	d.refusing = calloc(24, sizeof *d.refusing);
	d.answering = calloc(24, sizeof *d.answering);
	for (int i = 0; i < 24; i++) {
		d.answering[i] = (float)(1 + i % 3) / 7;
		d.refusing[i] = d.answering[i] + change[i / 3][i % 3];
	}
	must(tt_fit_affine(&d, 3, err));
	const struct tt_fit_maps *m = &d.maps;
	cr_expect_arr_eq(m->rows, m->readers, 9 * sizeof(float), "W is R");
	cr_expect_eq(m->penalties[0], 10000, "of equals the largest");
	for (int j = 0; j < 3; j++) {
		double moved = 0;
		for (int k = 0; k < 3; k++)
			moved += (double)m->offsets[k] * (double)m->rows[k * 3 + j];
		cr_expect_float_eq(moved, j == 0 ? 3 : 0, 1e-5, "%d: %g", j, moved);
		cr_expect_eq(m->rows[6 + j], 0, "the third row maps nothing");
	}
	tt_fit_directions_free(&d);
}

/* ---- Differences of means, and the selection of one */

enum { N_POSITIONS = 8 };

static void check_means(const struct tt_fit_mean *mean, const struct tt_safetensors *file, uint32_t n_positions)
{
	static const char *const names[] = {"harmful", "benign"};
	const double *const means[] = {mean->harmful, mean->benign};
	size_t n = (size_t)n_positions * N_LAYERS * WIDTH, n_want;
	float *got = calloc(n, sizeof *got);
	for (int label = 0; label < 2; label++) {
		float *want = golden_floats(file, names[label], &n_want);
		cr_assert_eq(n_want, N_POSITIONS * N_LAYERS * WIDTH);
		for (size_t i = 0; i < n; i++)
			got[i] = (float)means[label][i];
		double error = relative_error(got, want, n);
		cr_expect(error <= 2e-6, "%s: relative error %g", names[label], error);
		free(want);
	}
	free(got);
}

/* The means to the engine's own error; scores are sums over the vocabulary of what is as exact. */
Test(fit_directions, means_and_scores_are_those_that_pytorch_finds)
{
	struct world w;
	struct tt_fit_mean mean;
	struct tt_fit_directions directions;
	size_t n;
	world_make(&w, false);
	must(tt_fit_mean_make(&mean, &directions, w.engine, &w.rows, &w.options, &w.progress, err));
	struct tt_safetensors *file = golden_open(GOLDEN("policy/mean.safetensors"));
	float *unsteered = golden_floats(file, "unsteered", &n), *added = golden_floats(file, "added", &n),
	      *kl = golden_floats(file, "kl", &n), *ablated = golden_floats(file, "ablated", &n);
	cr_assert(mean.n_positions == N_POSITIONS && mean.n_candidates == N_POSITIONS && n == N_POSITIONS);
	check_means(&mean, file, N_POSITIONS);
	cr_expect_float_eq(mean.harmful_score, (double)unsteered[0], 1e-4);
	cr_expect_float_eq(mean.benign_score, (double)unsteered[1], 1e-4);
	for (uint32_t i = 0; i < N_POSITIONS; i++) {
		const struct tt_mean_candidate *c = &mean.candidates[i];
		cr_expect(c->position == i && c->layer == 0);
		cr_expect_float_eq(c->added, (double)added[i], 1e-4, "%u: %g", i, c->added);
		cr_expect_float_eq(c->kl, (double)kl[i], 1e-5, "%u: %g", i, c->kl);
		cr_expect_not_null(c->discarded, "a random model refuses nothing");
	}
	/* The one that is taken has all its scores, though it was discarded. */
	cr_assert_eq(mean.chosen, &mean.candidates[4]);
	cr_expect_float_eq(mean.chosen->ablated, (double)ablated[4], 1e-4);
	for (uint32_t l = 0; l < N_LAYERS; l++) {
		double squares = 0;
		for (uint32_t i = 0; i < WIDTH; i++) {
			size_t of = (size_t)4 * N_LAYERS * WIDTH + i, at = l * WIDTH + i;
			cr_expect_eq(directions.response[at], (float)(mean.harmful[of] - mean.benign[of]));
			cr_expect_eq(directions.mean_refusing[at], (float)mean.harmful[of + l * WIDTH]);
			cr_expect_eq(directions.mean_answering[at], (float)mean.benign[of + l * WIDTH]);
			squares += pow((double)directions.response[at], 2);
		}
		cr_expect_float_eq(directions.norms[l], sqrt(squares), 1e-5 * sqrt(squares));
	}
	free(unsteered);
	free(added);
	free(kl);
	free(ablated);
	tt_safetensors_close(file);
	tt_fit_directions_free(&directions);
	tt_fit_mean_free(&mean);
	world_free(&w);
}

/* Inputs of blocks below 0.8 of the depth, the first block's apart; of few, every layer as often as any other. */
Test(fit_directions, candidates_are_spread_over_the_layers)
{
	static const struct {
		uint32_t n_layers, n_positions, max, n_possible, n;
	} cases[] = {{30, 6, 1000, 138, 138}, {30, 6, 138, 138, 138}, {30, 6, 28, 138, 28}, {30, 6, 23, 138, 23},
		{30, 6, 137, 138, 137}, {30, 5, 6, 115, 6}, {32, 5, 60, 120, 60}, {3, 8, 3, 8, 3}, {1, 1, 9, 1, 1}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint32_t n_layers = cases[i].n_layers, n_positions = cases[i].n_positions, times[30][8] = {{0}};
		uint32_t of_layer[30] = {0}, end = cases[i].n_possible / n_positions;
		struct tt_fit_mean mean = {.n_layers = n_layers, .n_positions = n_positions, .hidden_size = 1};
		mean.harmful = calloc(n_layers * n_positions, sizeof *mean.harmful);
		mean.benign = calloc(n_layers * n_positions, sizeof *mean.benign);
		must(tt_fit_mean_list(&mean, cases[i].max, err));
		cr_assert(mean.n_possible == cases[i].n_possible && mean.n_candidates == cases[i].n, "case %zu", i);
		for (uint32_t k = 0; k < mean.n_candidates; k++) {
			const struct tt_mean_candidate *c = &mean.candidates[k];
			cr_assert(c->layer < end && c->position < n_positions, "case %zu", i);
			cr_expect_eq(++times[c->layer][c->position], 1, "case %zu", i);
			of_layer[c->layer]++;
		}
		for (uint32_t l = 0; l < end; l++)
			cr_expect(of_layer[l] == cases[i].n / end || of_layer[l] == (cases[i].n + end - 1) / end,
				"case %zu, layer %u: %u", i, l, of_layer[l]);
		tt_fit_mean_free(&mean);
	}
}

/* Without a template the last token is all there is. */
Test(fit_directions, means_of_plain_prompts_are_of_their_last_token)
{
	struct world w;
	struct tt_fit_mean mean;
	struct tt_fit_directions directions;
	world_make(&w, false);
	for (int label = 0; label <= TT_BENIGN; label++)
		for (size_t i = 0; i < w.rows.train[label].n; i++)
			w.rows.train[label].rows[i].mean_from = w.rows.train[label].rows[i].mean_to = 0;
	must(tt_fit_mean_make(&mean, &directions, w.engine, &w.rows, &w.options, &w.progress, err));
	cr_assert(mean.n_positions == 1 && mean.n_possible == 1);
	struct tt_safetensors *file = golden_open(GOLDEN("policy/mean.safetensors"));
	check_means(&mean, file, 1);
	tt_safetensors_close(file);
	tt_fit_directions_free(&directions);
	tt_fit_mean_free(&mean);
	world_free(&w);
}

/* Of those whose ablation changes little and whose addition makes the model refuse, the least refusals without it. */
Test(fit_directions, the_selection_is_the_papers)
{
	static const struct {
		struct tt_mean_candidate candidates[4];
		uint32_t chosen;
		bool discarded[4];
	} cases[] = {
		{{{.added = 1, .kl = 0.05, .ablated = -2}, {.added = 0, .kl = 0.1, .ablated = -3},
			 {.added = 9, .kl = 0.11, .ablated = -9}, {.added = -0.1, .kl = 0, .ablated = -9}},
			1, {false, false, true, true}},
		{{{.added = NAN, .kl = 0.05, .ablated = -2}, {.added = 1, .kl = NAN, .ablated = -3},
			 {.added = 2, .kl = 0.01, .ablated = NAN}, {.added = 0.5, .kl = 0, .ablated = 5}},
			3, {true, true, true, false}},
		{{{.added = NAN, .kl = NAN, .ablated = NAN}, {.added = -5, .kl = 0.01, .ablated = NAN},
			 {.added = -3, .kl = 0.5, .ablated = NAN}, {.added = -4, .kl = 0, .ablated = NAN}},
			2, {true, true, true, true}},
	};
	for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
		struct tt_mean_candidate candidates[4];
		struct tt_fit_mean mean = {.candidates = candidates, .n_candidates = 4};
		memcpy(candidates, cases[k].candidates, sizeof candidates);
		tt_fit_mean_discard(&mean);
		tt_fit_mean_choose(&mean);
		cr_expect_eq(mean.chosen - candidates, cases[k].chosen, "case %zu", k);
		for (int i = 0; i < 4; i++)
			cr_expect_eq(candidates[i].discarded != NULL, cases[k].discarded[i], "case %zu, %d", k, i);
		cr_expect_eq(strstr(mean.why, "all were discarded") != NULL, k == 2);
	}
}

/* ---- Whole fits */

static struct tt_policy *fit(struct tt_engine *engine, const struct tt_fit_options *options, json_t **report)
{
	struct tt_policy *policy = NULL;
	char *text = NULL;
	must(tt_fit(&policy, engine, options, &text, err));
	*report = json_loads(text, 0, NULL);
	cr_assert_not_null(*report);
	tt_free(text);
	return policy;
}

static struct tt_fit_options few(enum tt_fit_mode mode)
{
	struct tt_fit_options o;
	tt_fit_options_default(&o);
	o.data = data;
	o.n_data = 1;
	o.mode = mode;
	o.judge_tokens = 6;
	o.max_candidates = 6;
	return o;
}

/* Without an E, every candidate is along the component. */
Test(fit_directions, a_fit_by_principal_components_goes_through)
{
	struct tt_engine *engine = engine_open(TINY, 8, 64), *other = engine_open(TINY, 3, 16);
	struct tt_fit_options o = few(TT_FIT_PCA);
	json_t *report, *again, *candidate;
	size_t i;
	o.layer_weights = TT_WEIGHTS_SEARCH;
	struct tt_policy *a = fit(engine, &o, &report), *b = fit(other, &o, &again);
	cr_expect_arr_eq(a->directions, b->directions, N_LAYERS * WIDTH * sizeof(float));
	cr_expect(a->alpha == b->alpha);
	cr_expect_str_eq(json_string_value(json_object_get(report, "mode")), "pca");
	const json_t *directions = json_object_get(report, "directions");
	cr_expect_eq(json_array_size(json_object_get(directions, "explained")), N_LAYERS);
	json_array_foreach(json_object_get(report, "candidates"), i, candidate)
		cr_expect_eq(json_number_value(json_object_get(candidate, "mix")), 0);
	json_decref(report);
	json_decref(again);
	tt_policy_free(a);
	tt_policy_free(b);
	tt_engine_close(engine);
	tt_engine_close(other);
}

/* All candidates and the policy are of the operation. Their strength is no length, and steering generated tokens alone
 * makes it no larger. */
Test(fit_directions, a_fit_makes_policies_of_the_operation_that_is_asked_for)
{
	static const enum tt_policy_op ops[] = {TT_OP_ABLATE, TT_OP_CLAMP, TT_OP_ONE_SIDED, TT_OP_ROTATE};
	struct tt_engine *engine = engine_open(TINY, 8, 64);
	for (size_t k = 0; k < sizeof ops / sizeof *ops; k++)
		for (int m = 0; m < 2; m++) {
			struct tt_fit_options o = few(m == 0 ? TT_FIT_CONTRAST : TT_FIT_PCA);
			bool share = ops[k] == TT_OP_ABLATE || ops[k] == TT_OP_ONE_SIDED;
			json_t *report, *candidate;
			size_t i, n_first = 0;
			o.op = ops[k];
			o.when = TT_WHEN_GENERATION;
			struct tt_policy *p = fit(engine, &o, &report);
			cr_expect_eq(p->op, ops[k]);
			cr_expect(share ? p->alpha <= 1 && p->alpha >= 0.5f : p->alpha == 1);
			json_array_foreach(json_object_get(report, "candidates"), i, candidate)
			{
				double push = json_number_value(json_object_get(candidate, "push"));
				cr_expect_str_eq(json_string_value(json_object_get(candidate, "op")),
					tt_operation_of(ops[k])->row.word);
				cr_expect(json_is_null(json_object_get(candidate, "push_length")));
				cr_expect(!share || push == 1 || push == 0.75 || push == 0.5, "%g", push);
				n_first += push == 1;
			}
			cr_expect(n_first >= 1 && n_first < 6, "%zu", n_first);
			json_decref(report);
			tt_policy_free(p);
		}
	tt_engine_close(engine);
}

/* One candidate, judged as others are: the direction at its layer with coefficient 1, or out of every layer. */
Test(fit_directions, a_fit_by_means_judges_the_direction_as_it_was_selected)
{
	static const enum tt_policy_op ops[] = {TT_OP_ADD, TT_OP_ABLATE, TT_OP_CLAMP, TT_OP_ONE_SIDED, TT_OP_ROTATE};
	struct tt_engine *engine = engine_open(TINY, 8, 64);
	for (size_t k = 0; k < sizeof ops / sizeof *ops; k++) {
		struct tt_fit_options o = few(TT_FIT_MEAN);
		json_t *report;
		o.op = ops[k];
		struct tt_policy *p = fit(engine, &o, &report);
		cr_expect(p->op == ops[k] && p->alpha == 1 && p->when == TT_WHEN_ALL && p->gate != TT_GATE_ALWAYS);
		for (uint32_t l = 0; l < N_LAYERS; l++)
			cr_expect_eq(p->weights[l], ops[k] == TT_OP_ABLATE || l == 0, "layer %u", l);
		const json_t *chosen = json_object_get(report, "chosen"),
			     *selection = json_object_get(report, "selection");
		cr_expect_eq(json_array_size(json_object_get(report, "candidates")), 1);
		cr_expect_eq(json_array_size(json_object_get(chosen, "rounds")), 1);
		cr_expect_eq(json_integer_value(json_object_get(chosen, "n_harmful")), 4);
		cr_expect_eq(json_is_true(json_object_get(report, "within_bars")),
			json_is_false(json_object_get(chosen, "out")));
		cr_expect_eq(json_array_size(json_object_get(selection, "candidates")), 6);
		size_t i, n_chosen = 0;
		json_t *candidate;
		json_array_foreach(json_object_get(selection, "candidates"), i, candidate)
		{
			cr_expect_lt(json_integer_value(json_object_get(candidate, "position")), 0);
			n_chosen += json_is_true(json_object_get(candidate, "chosen"));
		}
		cr_expect_eq(n_chosen, 1);
		json_decref(report);
		tt_policy_free(p);
	}
	tt_engine_close(engine);
}

/* At single layers, with coefficients as strengths, of the rank that is asked for, also where that is more than the
 * pairs span. */
Test(fit_directions, a_fit_of_maps_goes_through)
{
	struct tt_engine *engine = engine_open(TINY, 8, 64), *other = engine_open(TINY, 3, 16);
	static const uint32_t ranks[] = {4, 20};
	for (int k = 0; k < 2; k++) {
		struct tt_fit_options o = few(TT_FIT_AFFINE);
		json_t *report, *again, *candidate;
		size_t i, size = (size_t)N_LAYERS * ranks[k] * WIDTH * sizeof(float);
		o.rank = ranks[k];
		struct tt_policy *a = fit(engine, &o, &report), *b = fit(other, &o, &again);
		cr_expect(a->op == TT_OP_AFFINE && a->n_directions == ranks[k]);
		cr_expect_arr_eq(a->directions, b->directions, size);
		cr_expect_arr_eq(a->affine, b->affine, size);
		const json_t *maps = json_object_get(json_object_get(report, "directions"), "maps");
		cr_expect_eq(json_integer_value(json_object_get(maps, "rank")), ranks[k]);
		cr_expect_eq(json_array_size(json_object_get(maps, "errors")), N_LAYERS);
		json_array_foreach(json_object_get(report, "candidates"), i, candidate)
		{
			cr_expect_eq(json_number_value(json_object_get(candidate, "push")),
				json_number_value(json_object_get(candidate, "alpha")));
			cr_expect_eq(json_integer_value(json_object_get(candidate, "first_layer")),
				json_integer_value(json_object_get(candidate, "last_layer")));
		}
		json_decref(report);
		json_decref(again);
		tt_policy_free(a);
		tt_policy_free(b);
	}
	tt_engine_close(engine);
	tt_engine_close(other);
}
