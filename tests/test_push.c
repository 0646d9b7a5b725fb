/* What a push is made of: the prompts that judge it, sites and strengths at the same length, directions, and the search
 * for layer weights on candidates whose refusals are made up. */
#include <criterion/criterion.h>
#include <jansson.h>

#include "controller/train/fit_weights.h"
#include "golden.h"
#include "weights_files.h"
#include "wrapped_judge.h"

#define TINY GOLDEN("tiny-llama")
#define ROWS GOLDEN("policy/rows.jsonl")

static const char *const FILES[] = {"large.jsonl", "small.jsonl"};
enum { N_LAYERS = 30, WIDTH = 4 };

/* ---- The judge, made up where a test says so */

/* The share that a candidate refuses; NULL: nothing is made up. */
static double (*refused_of)(const struct tt_candidate *c);

int __real_tt_fit_likelihood(struct tt_fit_judge *judge, struct tt_candidate **active, uint32_t n_active, uint32_t n,
	const char *stage, double *out, struct tt_error *err);
int __wrap_tt_fit_likelihood(struct tt_fit_judge *judge, struct tt_candidate **active, uint32_t n_active, uint32_t n,
	const char *stage, double *out, struct tt_error *err);

int __wrap_tt_fit_generate(struct tt_fit_judge *judge, struct tt_candidate **active, uint32_t n_active,
	uint32_t n_harmful, uint32_t n_benign, const char *stage, struct tt_error *err)
{
	return refused_of ? TT_OK : __real_tt_fit_generate(judge, active, n_active, n_harmful, n_benign, stage, err);
}

int __wrap_tt_fit_score(struct tt_fit_judge *judge, struct tt_candidate **active, uint32_t n_active, const char *stage,
	struct tt_error *err)
{
	return refused_of ? TT_OK : __real_tt_fit_score(judge, active, n_active, stage, err);
}

void __wrap_tt_fit_rate(const struct tt_fit_judge *judge, struct tt_candidate *c)
{
	if (refused_of)
		c->figures = (struct tt_figures){.refused = refused_of(c), .nll_ratio = 1};
	else
		__real_tt_fit_rate(judge, c);
}

/* The later the push, the likelier the refusal. */
int __wrap_tt_fit_likelihood(struct tt_fit_judge *judge, struct tt_candidate **active, uint32_t n_active, uint32_t n,
	const char *stage, double *out, struct tt_error *err)
{
	if (!refused_of)
		return __real_tt_fit_likelihood(judge, active, n_active, n, stage, out, err);
	for (uint32_t i = 0; i < n_active; i++)
		out[i] = active[i]->last;
	return TT_OK;
}

/* ---- The prompts that judge */

/* Of 40 rows of one file and few of others, the first that validate are of each group in turn, whichever seed. Two
 * files, and in one of them two sources and two kinds. */
Test(push, groups_take_turns_among_the_rows_that_judge)
{
	struct scratch s;
	struct tt_buffer text[2] = {{0}};
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	char paths[2][512];
	const char *data[] = {paths[0], paths[1]};
	scratch_make(&s);
	for (int i = 0; i < 46; i++) {
		static const char *const keys[] = {
			"\"source\":\"a\"", "\"source\":\"a\",\"kind\":\"k\"", "\"source\":\"b\",\"kind\":\"k\""};
		for (int label = 0; label < 2; label++)
			must(tt_buffer_print(&text[i < 40], err,
				"{\"id\":\"%d-%d\",\"prompt\":\"p %d\",\"label\":\"%s\",\"split\":\"val\",%s}\n", label,
				i, i, label ? "harmful" : "benign",
				i < 40 ? "\"source\":{\"x\":1},\"kind\":7" : keys[i % 3]));
	}
	for (int label = 0; label < 2; label++)
		for (int i = 0; i < 2; i++)
			must(tt_buffer_print(&text[0], err,
				"{\"id\":\"t%d-%d\",\"prompt\":\"p\",\"label\":\"%s\",\"split\":\"train\"}\n", label, i,
				label ? "harmful" : "benign"));
	for (int f = 0; f < 2; f++)
		snprintf(paths[f], sizeof paths[f], "%s", scratch_write(&s, FILES[f], text[f].data, text[f].len));
	for (uint64_t seed = 0; seed < 4; seed++) {
		struct tt_fit_options options;
		struct tt_fit_rows rows;
		tt_fit_options_default(&options);
		options.data = data;
		options.n_data = 2;
		options.seed = seed;
		options.n_gate_prompts = 8;
		options.n_judge_prompts = 8;
		must(tt_fit_rows_read(&rows, engine, &options, err));
		cr_assert_eq(rows.val[TT_HARMFUL].n, 8);
		int n[4] = {0}; /* of the large file; then of the small one's three groups */
		for (size_t i = 0; i < 8; i++) {
			const struct tt_prompt *p = rows.val[TT_HARMFUL].rows[i].prompt;
			n[p->file == 1 ? 0 : 1 + (*p->kind ? 1 : 0) + (*p->source == 'b')]++;
		}
		cr_expect(n[0] == 2 && n[1] == 2 && n[2] == 2 && n[3] == 2, "seed %d: %d, %d, %d, %d", (int)seed, n[0],
			n[1], n[2], n[3]);
		tt_fit_rows_free(&rows);
	}
	tt_engine_close(engine);
	tt_buffer_free(&text[0]);
	tt_buffer_free(&text[1]);
	scratch_remove(&s, FILES, 2);
}

/* ---- The grid */

/* A model made up of directions, whose lengths differ from layer to layer. */
struct made_model {
	float D[N_LAYERS * WIDTH], E[N_LAYERS * WIDTH];
	double norms[N_LAYERS];
	struct tt_model_info info;
	struct tt_fit_directions directions;
	struct tt_fit_gate gate;
	struct tt_fit_judge judge;
	struct tt_fit_search search;
};

static void make_model(struct made_model *m, uint32_t n_layers, uint32_t max_candidates)
{
	*m = (struct made_model){
		.info = {.n_layers = n_layers, .hidden_size = WIDTH, .fingerprint = "made up", .weights_digest = "0"},
		.gate = {.balanced = 1},
		.judge = {.n = {1, 1}}};
	for (uint32_t l = 0; l < n_layers; l++) {
		double squares = 0;
		for (uint32_t i = 0; i < WIDTH; i++) {
			m->D[l * WIDTH + i] = (float)(l + 1) * (i % 2 ? 0.5f : -0.25f) + (float)i;
			m->E[l * WIDTH + i] = (float)(l % 5) - 2.0f * (float)i;
			squares += (double)m->D[l * WIDTH + i] * m->D[l * WIDTH + i];
		}
		m->norms[l] = sqrt(squares);
	}
	m->directions = (struct tt_fit_directions){
		.n_layers = n_layers, .hidden_size = WIDTH, .response = m->D, .apology = m->E, .norms = m->norms};
	m->search = (struct tt_fit_search){.info = &m->info,
		.directions = &m->directions,
		.gate = &m->gate,
		.judge = &m->judge,
		.max_candidates = max_candidates,
		.when = TT_WHEN_ALL,
		.candidates = calloc(max_candidates, sizeof(struct tt_candidate))};
}

/* Whether site and direction are among the candidates. */
static bool has(const struct tt_fit_search *s, uint32_t first, uint32_t last, double mix)
{
	for (uint32_t i = 0; i < s->n_candidates; i++)
		if (s->candidates[i].first == first && s->candidates[i].last == last && s->candidates[i].mix == mix)
			return true;
	return false;
}

/* One layer, a tenth and a fifth of them, about a third of the depth; and two layers along D + 2 E. */
Test(push, sites_are_one_layer_a_tenth_and_a_fifth)
{
	static const uint32_t bands[][2] = {
		{8, 8}, {7, 9}, {5, 10}, {10, 10}, {9, 11}, {8, 13}, {12, 12}, {11, 13}, {10, 15}};
	struct made_model m;
	make_model(&m, 30, 100);
	must(tt_fit_add_sites(&m.search, 100, err));
	cr_expect_eq(m.search.n_candidates, 19);
	for (size_t i = 0; i < sizeof bands / sizeof *bands; i++)
		for (int mix = 0; mix < 2; mix++)
			cr_expect(has(&m.search, bands[i][0], bands[i][1], mix), "%u-%u, mix %d", bands[i][0],
				bands[i][1], mix);
	const struct tt_candidate *first = &m.search.candidates[0];
	cr_expect(first->first == 10 && first->last == 11 && first->mix == 2, "the best guess comes first");
	tt_fit_search_free(&m.search);
}

/* A published band comes first: with its coefficient along unit vectors, then as a site like the others. */
Test(push, what_was_published_is_a_site)
{
	static const struct tt_fit_published published = {.centre = 18.5 / 32, .width = 9.0 / 32, .strength = 1.5};
	struct made_model m;
	make_model(&m, 30, 100);
	m.search.published = &published;
	must(tt_fit_add_sites(&m.search, 100, err));
	cr_expect_eq(m.search.n_candidates, 21);
	const struct tt_candidate *c = m.search.candidates;
	cr_expect(c[0].first == 13 && c[0].last == 20 && c[1].first == 13 && c[1].last == 20);
	cr_expect(c[0].mix == 0 && c[1].mix == 0 && c[1].push == 1);
	for (uint32_t l = 13; l <= 20; l++) {
		cr_expect_float_eq((double)c[0].alpha * (double)c[0].weights[l] * m.norms[l], 1.5, 1e-5, "layer %u", l);
		cr_expect_eq(c[1].weights[l], 1);
	}
	m.search.published = NULL;
	tt_fit_search_free(&m.search);
}

/* Of a model with few layers, lines of the table mean the same. */
Test(push, no_candidate_is_tried_twice)
{
	for (uint32_t n_layers = 1; n_layers <= 6; n_layers++) {
		struct made_model m;
		make_model(&m, n_layers, 100);
		must(tt_fit_add_sites(&m.search, 100, err));
		for (uint32_t i = 0; i < m.search.n_candidates; i++) {
			const struct tt_candidate *c = &m.search.candidates[i];
			cr_expect_lt(c->last, n_layers);
			for (uint32_t k = 0; k < i; k++)
				cr_expect(c->first != m.search.candidates[k].first ||
						  c->last != m.search.candidates[k].last ||
						  c->mix != m.search.candidates[k].mix,
					"%u layers: %u is %u", n_layers, i, k);
		}
		tt_fit_search_free(&m.search);
	}
}

/* The whole length of a policy's push, in double from its tensors. */
static double length_of(const struct tt_policy *p)
{
	double length = 0;
	for (uint32_t l = 0; l < p->n_layers; l++) {
		double squares = 0;
		for (uint32_t i = 0; i < p->hidden_size; i++)
			squares +=
				(double)p->directions[l * p->hidden_size + i] * p->directions[l * p->hidden_size + i];
		length += (double)p->alpha * (double)p->weights[l] * sqrt(squares);
	}
	return length;
}

/* Sites and directions are compared at the same length of the whole push: that of coefficients which sum to 1 in layers
 * 8 to 13 of 30, along D. */
Test(push, all_sites_push_as_hard)
{
	struct made_model m;
	double unit = 0;
	make_model(&m, 30, 40);
	for (int l = 8; l <= 13; l++)
		unit += m.norms[l] / 6;
	must(tt_fit_add_sites(&m.search, 18, err));
	struct tt_candidate *best[] = {&m.search.candidates[0], &m.search.candidates[2]};
	must(tt_fit_add_strengths(&m.search, best, 2, 8, err));
	cr_assert_eq(m.search.n_candidates, 26);
	for (uint32_t i = 0; i < m.search.n_candidates; i++) {
		const struct tt_candidate *c = &m.search.candidates[i];
		cr_expect_float_eq(length_of(c->policy), c->push * unit, 1e-5 * unit, "candidate %u: %g", i,
			length_of(c->policy) / unit);
		cr_expect(i >= 18 || c->push == 1);
	}
	tt_fit_search_free(&m.search);
}

/* Half of the natural length to 1.6 of it, at each of the best sites; where little was refused the stronger first. */
Test(push, strengths_cover_what_models_need)
{
	for (int k = 0; k < 3; k++) {
		struct made_model m;
		make_model(&m, 30, 28);
		must(tt_fit_add_sites(&m.search, 18, err));
		struct tt_candidate *best[] = {&m.search.candidates[4], &m.search.candidates[2]};
		best[0]->figures.refused = k == 1 ? 0.95 : 0.85;
		best[0]->figures.out = k == 2;
		must(tt_fit_add_strengths(&m.search, best, 2, 10, err));
		cr_assert_eq(m.search.n_candidates, 28);
		double weakest[2] = {1, 1}, strongest[2] = {1, 1};
		for (uint32_t i = 18; i < 28; i++) {
			const struct tt_candidate *c = &m.search.candidates[i], *of = best[i % 2];
			cr_expect(c->first == of->first && c->last == of->last && c->mix == of->mix, "candidate %u", i);
			weakest[i % 2] = fmin(weakest[i % 2], c->push);
			strongest[i % 2] = fmax(strongest[i % 2], c->push);
		}
		for (int i = 0; i < 2; i++)
			cr_expect(weakest[i] == 0.5 && strongest[i] == 1.6, "%g to %g", weakest[i], strongest[i]);
		cr_expect_eq(m.search.candidates[18].push, k == 0 ? 1.25 : 0.7, "%d", k);
		cr_expect_eq(m.search.candidates[19].push, 1.25);
		tt_fit_search_free(&m.search);
	}
}

/* A style's strengths lie closer, about the last one before a bar, whatever share of the completions refuses. */
Test(push, strengths_of_a_style_lie_about_the_bar)
{
	static const struct tt_completion responses[1];
	static const double want[2][5] = {{1.12, 1.25, 1.6, 0.85, 0.7}, {0.85, 0.7, 0.5, 0.35, 1.12}};
	for (int out = 0; out < 2; out++) {
		struct made_model m;
		make_model(&m, 30, 23);
		m.judge.responses[TT_POSITIVE] = m.judge.responses[TT_NEGATIVE] = responses;
		must(tt_fit_add_sites(&m.search, 18, err));
		struct tt_candidate *best[] = {&m.search.candidates[4]};
		best[0]->figures.refused = 1;
		best[0]->figures.out = out == 1;
		must(tt_fit_add_strengths(&m.search, best, 1, 5, err));
		cr_assert_eq(m.search.n_candidates, 23);
		for (int i = 0; i < 5; i++)
			cr_expect_eq(m.search.candidates[18 + i].push, want[out][i], "%d: %g", i,
				m.search.candidates[18 + i].push);
		tt_fit_search_free(&m.search);
	}
}

/* What takes a part out begins with all of it, whatever was refused and whenever it acts. */
Test(push, shares_are_at_most_one)
{
	struct made_model m;
	make_model(&m, 30, 40);
	m.search.op = TT_OP_ABLATE;
	m.search.when = TT_WHEN_GENERATION;
	must(tt_fit_add_sites(&m.search, 18, err));
	struct tt_candidate *best[] = {&m.search.candidates[4], &m.search.candidates[2]};
	best[0]->figures.refused = 0.95;
	must(tt_fit_add_strengths(&m.search, best, 2, 20, err));
	cr_assert_eq(m.search.n_candidates, 22);
	for (uint32_t i = 0; i < 22; i++) {
		const struct tt_candidate *c = &m.search.candidates[i];
		cr_expect_eq(c->push, i < 18 ? 1 : i < 20 ? 0.75 : 0.5, "candidate %u", i);
		cr_expect(c->policy->op == TT_OP_ABLATE && c->policy->alpha == (float)c->push);
	}
	tt_fit_search_free(&m.search);
}

/* Along D alone, in one layer of three. */
Test(push, maps_are_tried_in_single_layers)
{
	struct made_model m;
	float offsets[30] = {0};
	make_model(&m, 30, 40);
	m.search.op = TT_OP_AFFINE;
	m.directions.apology = NULL;
	m.directions.maps =
		(struct tt_fit_maps){.rank = 1, .rows = m.directions.response, .readers = m.E, .offsets = offsets};
	must(tt_fit_add_sites(&m.search, 18, err));
	cr_assert_eq(m.search.n_candidates, 3);
	cr_expect(has(&m.search, 10, 10, 0) && has(&m.search, 8, 8, 0) && has(&m.search, 12, 12, 0));
	tt_fit_search_free(&m.search);
}

Test(push, no_more_strengths_are_added_than_fit)
{
	struct made_model m;
	make_model(&m, 30, 22);
	must(tt_fit_add_sites(&m.search, 18, err));
	struct tt_candidate *best[] = {&m.search.candidates[4]};
	must(tt_fit_add_strengths(&m.search, best, 1, 3, err));
	cr_expect_eq(m.search.n_candidates, 21);
	must(tt_fit_add_strengths(&m.search, best, 1, 5, err));
	cr_expect_eq(m.search.n_candidates, 22);
	tt_fit_search_free(&m.search);
}

/* ---- Directions and the candidates' policies */

/* D + mix E, as long as D; by a plain loop in double. */
Test(push, a_mix_is_as_long_as_D)
{
	struct made_model m;
	make_model(&m, 30, 1);
	for (uint32_t l = 0; l < 30; l++)
		for (int k = 0; k < 4; k++) {
			static const double mixes[] = {0, 0.5, 1, -0.7};
			double sum[WIDTH], squares = 0;
			float got[WIDTH];
			for (int i = 0; i < WIDTH; i++) {
				sum[i] = (double)m.D[l * WIDTH + i] + mixes[k] * (double)m.E[l * WIDTH + i];
				squares += sum[i] * sum[i];
			}
			tt_fit_direction(&m.directions, l, mixes[k], got);
			for (int i = 0; i < WIDTH; i++)
				cr_expect_float_eq(
					(double)got[i], sum[i] * m.norms[l] / sqrt(squares), 1e-5 * m.norms[l]);
			if (k == 0)
				cr_expect_arr_eq(got, m.D + l * WIDTH, sizeof got, "mix 0 is D, bit for bit");
		}
	free(m.search.candidates);
}

/* Weights are relative to the largest; alpha is what gives the push its length. */
Test(push, a_push_is_shared_out_by_the_weights)
{
	static const float weights[30] = {[3] = 2, [5] = 4, [6] = 1};
	struct made_model m;
	struct tt_candidate c = {.when = TT_WHEN_LAST};
	struct tt_policy *policy = NULL;
	make_model(&m, 30, 1);
	double unit = tt_push_unit(&m.directions), length = 0.5 * m.norms[3] + m.norms[5] + 0.25 * m.norms[6];
	must(tt_candidate_aim(&c, &m.directions, weights, 1, 1.5, err));
	cr_expect(c.first == 3 && c.last == 6 && c.mix == 1 && c.push == 1.5);
	must(tt_candidate_policy(&c, &m.directions, &m.info, false, &policy, err));
	cr_expect_float_eq((double)policy->alpha, 1.5 * unit / length, 1e-6 * unit / length);
	cr_expect(policy->op == TT_OP_ADD && policy->when == TT_WHEN_LAST && policy->gate == TT_GATE_ALWAYS);
	for (uint32_t l = 0; l < 30; l++) {
		float want[WIDTH] = {0};
		if (weights[l] > 0)
			tt_fit_direction(&m.directions, l, 1, want);
		cr_expect_eq(policy->weights[l], weights[l] / 4, "layer %u", l);
		cr_expect_arr_eq(policy->directions + l * WIDTH, want, sizeof want, "layer %u", l);
	}
	tt_policy_free(policy);
	free(c.weights);
	free(m.search.candidates);
}

/* ---- Layer weights */

/* Of normal form on either side, told by how often the width fits into the distance; nothing below a twentieth. */
Test(push, a_hill_falls_off_on_either_side)
{
	static const struct tt_fit_shape shapes[] = {{.centre = 10, .width = 2},
		{.centre = 10.4, .width = 1.5, .skew = 0.5}, {.centre = 0, .width = 3, .skew = -1},
		{.centre = 29, .width = 0.25}, {.centre = 9.5, .width = 0.25}};
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		const struct tt_fit_shape *s = &shapes[i];
		float got[30];
		double want[30], largest = 0;
		for (int l = 0; l < 30; l++) {
			double width = l < s->centre ? s->width / exp(s->skew) : s->width * exp(s->skew);
			want[l] = 1 / sqrt(exp(pow((l - s->centre) / width, 2)));
			largest = want[l] > largest ? want[l] : largest;
		}
		tt_fit_shape_weights(s, 30, got);
		for (int l = 0; l < 30; l++)
			cr_expect_float_eq((double)got[l], want[l] < largest / 20 ? 0 : want[l] / largest, 1e-6,
				"shape %zu, layer %d: %g", i, l, (double)got[l]);
	}
}

static double centre_of(const struct tt_candidate *c)
{
	double sum = 0, moment = 0;
	for (int l = 0; l < 30; l++) {
		sum += (double)c->weights[l];
		moment += (double)c->weights[l] * l;
	}
	return moment / sum;
}

static double best_at_twelve(const struct tt_candidate *c)
{
	return 1 - fabs(centre_of(c) - 12) / 20;
}

static double all_the_same(const struct tt_candidate *c)
{
	(void)c;
	return 0.5;
}

/* A search that has chosen layer 8 alone, at 1.25. */
static void choose_layer_8(struct made_model *m)
{
	static const float weights[30] = {[8] = 1};
	make_model(m, 30, 2);
	m->search.max_candidates = 1;
	m->judge.n[0] = m->judge.n[1] = 32;
	must(tt_fit_add(&m->search, weights, 1, 1.25, err));
	m->search.chosen = &m->search.candidates[0];
	m->search.within_bars = true;
	m->search.why = "";
}

Test(push, a_better_hill_is_found_and_chosen)
{
	struct made_model m;
	struct tt_fit_weights found;
	struct tt_fit_judge train = {.n = {32, 0}};
	double unit;
	choose_layer_8(&m);
	unit = tt_push_unit(&m.directions);
	refused_of = best_at_twelve;
	m.search.candidates[0].figures.refused = m.search.candidates[0].figures.score = 0.8;
	must(tt_fit_search_weights(&found, &m.search, &train, 1, err));
	cr_assert_eq(m.search.n_candidates, 2);
	const struct tt_candidate *c = m.search.chosen;
	cr_expect(c == &m.search.candidates[1] && found.found == c && found.site == &m.search.candidates[0]);
	cr_expect_leq(fabs(centre_of(c) - 12), 1.5, "centre %g", centre_of(c));
	cr_expect(c->push == 1.25 && fabs(length_of(c->policy) - 1.25 * unit) <= 1e-5 * unit, "as long a push");
	cr_expect_float_eq(found.site_on_train.refused, 0.8, 1e-6);
	cr_expect_float_eq(found.on_train.refused, best_at_twelve(c), 1e-6);
	cr_expect(found.n_tried > 10 && found.n_tried <= 21 && found.n_prompts == 32);
	tt_fit_search_free(&m.search);
}

/* A likelier refusal alone moves the search, but does not replace what is simpler. */
Test(push, a_hill_that_is_only_equal_is_not_chosen)
{
	struct made_model m;
	struct tt_fit_weights found;
	struct tt_fit_judge train = {.n = {32, 0}};
	choose_layer_8(&m);
	refused_of = all_the_same;
	m.search.candidates[0].figures.refused = m.search.candidates[0].figures.score = 0.49;
	must(tt_fit_search_weights(&found, &m.search, &train, 1, err));
	cr_expect_eq(m.search.chosen, &m.search.candidates[0]);
	cr_expect(found.found == &m.search.candidates[1] && found.found->last > 8, "the likelier, on record");
	cr_expect_gt(found.likelihood, found.site_likelihood);
	tt_fit_search_free(&m.search);
}

/* Learned weights stand in the report beside the site that they began at, and their push is as long. */
Test(push, layer_weights_are_searched_where_asked_for)
{
	static const char *const data[] = {ROWS};
	struct tt_engine *engine = engine_open(TINY, 8, 64);
	struct tt_fit_options options;
	struct tt_policy *policy = NULL;
	char *report;
	tt_fit_options_default(&options);
	options.data = data;
	options.n_data = 1;
	options.judge_tokens = 6;
	options.max_candidates = 2;
	options.layer_weights = TT_WEIGHTS_SEARCH;
	must(tt_fit(&policy, engine, &options, &report, err));
	json_t *r = json_loads(report, 0, NULL), *w = json_object_get(r, "layer_weights");
	cr_expect_eq(json_integer_value(json_object_get(w, "n_harmful")), 6);
	const json_t *site = json_object_get(w, "site"), *found = json_object_get(w, "found");
	cr_expect_leq(json_number_value(json_object_get(site, "refusal_logprob")),
		json_number_value(json_object_get(found, "refusal_logprob")), "a model that never refuses: a tie");
	const json_t *chosen = json_object_get(r, "chosen");
	double length = 0;
	for (uint32_t l = 0; l < 3; l++) {
		double squares = 0;
		for (int i = 0; i < 64; i++)
			squares += pow((double)policy->directions[l * 64 + i], 2);
		length += (double)policy->alpha * (double)policy->weights[l] * sqrt(squares);
	}
	double want = json_number_value(json_object_get(chosen, "push_length"));
	cr_expect_float_eq(length, want, 1e-4 * want);
	json_decref(r);
	tt_free(report);
	tt_policy_free(policy);
	tt_engine_close(engine);
}
