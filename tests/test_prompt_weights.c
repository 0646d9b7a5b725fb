/* Layer weights by the prompt: the network that gives them on made-up rows; and their place in a fit on a tiny model,
 * where what shapes do to each prompt is made up, so that it is known what must be learned. */
#include <criterion/criterion.h>
#include <jansson.h>

#include "controller/train/fit_prompt_weights.h"
#include "golden.h"
#include "weights_files.h"
#include "wrapped_judge.h"

#define TINY GOLDEN("tiny-llama")
enum { LAYERS = 3, WIDTH = 64, N_JUDGE = 8 };
static const char *const FILES[] = {"rows.jsonl", "learned.safetensors"};

static double sigmoid(double z)
{
	return 1 / (1 + exp(-z));
}

/* ---- The network alone */

enum { N = 120, D = 24, DEPTH = 4 };

struct made {
	float x[N * D], coefficient[N * DEPTH];
};

static double draw(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return (double)(*state >> 8) / (1 << 24) * 2 - 1;
}

/* A push of 6, in layer 1 where feature 3 is positive and in layer 2 where it is not. Layer 3 always has 1; layer 0
 * has nothing. */
static struct made *make(uint32_t seed)
{
	static struct made m;
	for (size_t i = 0; i < N; i++) {
		for (size_t j = 0; j < D; j++)
			m.x[i * D + j] = (float)draw(&seed);
		for (size_t j = 3; j < 9; j++)
			m.x[i * D + j] = m.x[i * D + 3] + 0.3f * m.x[i * D + j];
		bool positive = m.x[i * D + 3] > 0;
		m.coefficient[i * DEPTH + 1] = positive ? 5 : 0;
		m.coefficient[i * DEPTH + 2] = positive ? 0 : 5;
		m.coefficient[i * DEPTH + 3] = 1;
	}
	return &m;
}

Test(prompt_weights, the_network_learns_which_layers_a_prompt_wants)
{
	const struct made *m = make(1);
	struct tt_weigher w;
	float got[N * DEPTH];
	double mean[DEPTH] = {0}, want[DEPTH] = {0};
	size_t right = 0;
	/* The last 40 rows are unseen. */
	const struct tt_rows train = {.x = m->x, .n = 80, .d = D, .stride = D}, all = {m->x, NULL, N, D, D};
	must(tt_weigher_train(&w, &train, m->coefficient, DEPTH, 5, err));
	must(tt_weigher_run(&w, &all, got, err));
	for (size_t i = 0; i < N; i++) {
		const float *c = got + i * DEPTH;
		for (size_t l = 0; i < 80 && l < DEPTH; l++) {
			mean[l] += (double)c[l] / 80;
			want[l] += (double)m->coefficient[i * DEPTH + l] / 80;
		}
		right += i >= 80 && (c[1] > c[2]) == (m->x[i * D + 3] > 0);
		cr_expect(c[0] == 0 && c[1] >= 0 && c[1] <= 6.25f && c[2] <= 6.25f && c[3] <= 1.25f);
	}
	cr_expect_geq(right, 34, "%zu of 40 unseen rows", right);
	for (size_t l = 0; l < DEPTH; l++)
		cr_expect_float_eq(mean[l], want[l], 1e-4, "layer %zu: %g, not %g", l, mean[l], want[l]);
	cr_expect(w.most[0] == 0 && w.most[1] == 6.25f && w.most[3] == 1.25f);
	tt_weigher_free(&w);
}

/* Two of the three values follow from the features, but for chance as large; the third is chance alone. */
Test(prompt_weights, values_are_smoothed_by_what_the_features_tell)
{
	const struct made *m = make(4);
	const struct tt_rows rows = {.x = m->x, .n = N, .d = D, .stride = D};
	double values[N * 3], error[3][2] = {{0}};
	uint32_t state = 77;
	for (size_t i = 0; i < N; i++) {
		double truth[3] = {3 + 2 * (double)m->x[i * D + 3], -(double)m->x[i * D + 3], 0.5};
		for (int k = 0; k < 3; k++)
			values[i * 3 + k] = truth[k] + draw(&state);
	}
	double before[N * 3];
	memcpy(before, values, sizeof before);
	must(tt_weigher_smooth(&rows, values, 3, 1, err));
	for (size_t i = 0; i < N; i++) {
		double truth[3] = {3 + 2 * (double)m->x[i * D + 3], -(double)m->x[i * D + 3], 0.5};
		for (int k = 0; k < 3; k++) {
			error[k][0] += pow(before[i * 3 + k] - truth[k], 2);
			error[k][1] += pow(values[i * 3 + k] - truth[k], 2);
		}
	}
	for (int k = 0; k < 3; k++)
		cr_expect_lt(error[k][1], 0.7 * error[k][0], "value %d: %g, was %g", k, error[k][1], error[k][0]);
	for (size_t i = 0; i < N * 3; i++)
		values[i] = 2;
	must(tt_weigher_smooth(&rows, values, 3, 1, err));
	for (size_t i = 0; i < N * 3; i++)
		cr_expect_float_eq(values[i], 2, 1e-12, "all alike");
}

Test(prompt_weights, the_same_rows_and_seed_give_the_same_network)
{
	const struct made *m = make(2);
	const struct tt_rows rows = {.x = m->x, .n = N, .d = D, .stride = D};
	struct tt_weigher w[3];
	for (size_t i = 0; i < 3; i++)
		must(tt_weigher_train(&w[i], &rows, m->coefficient, DEPTH, i / 2, err));
	size_t bytes = (w[0].network->units * (D + 1 + DEPTH) + DEPTH) * sizeof(float);
	cr_expect_arr_eq(w[0].network->fc1, w[1].network->fc1, bytes);
	cr_expect_arr_neq(w[0].network->fc1, w[2].network->fc1, bytes, "another seed");
	for (size_t i = 0; i < 3; i++)
		tt_weigher_free(&w[i]);
}

/* ---- In a fit: what shapes do is made up */

/* When prompts want the push: of one kind early, of the other late; by chance; all late; or they do not care. */
static struct {
	bool on;
	enum { BY_KIND, BY_CHANCE, LATE, NEVER_MIND } wish;
	const struct tt_fit_detector *detector;
	double refused_later; /* share that a candidate refuses that is not the site */
} made_up;

int __real_tt_fit_try(
	struct tt_fit_judge *judge, struct tt_fit_trial *trials, size_t n, const char *stage, struct tt_error *err);
int __wrap_tt_fit_try(
	struct tt_fit_judge *judge, struct tt_fit_trial *trials, size_t n, const char *stage, struct tt_error *err);

/* What a policy does to a prompt whose gate vector is x: in double, from its tensors alone. */
static void coefficients_of(const struct tt_policy *p, const float *x, double c[LAYERS])
{
	size_t d = (size_t)tt_gate_vectors(p->pool, p->n_observed) * p->hidden_size;
	for (uint32_t l = 0; l < LAYERS; l++) {
		double z = p->gate == TT_GATE_PROBE_MLP ? (double)p->fc2_bias[1 + l] : INFINITY;
		for (uint32_t u = 0; u < p->n_units; u++) {
			double unit = (double)p->fc1_bias[u];
			for (size_t j = 0; j < d; j++)
				unit += (double)p->fc1_weight[u * d + j] * (double)x[j];
			z += fmax(unit, 0) * (double)p->fc2_weight[(1 + l) * p->n_units + u];
		}
		c[l] = (double)p->alpha * (double)p->weights[l] * sigmoid(z);
	}
}

static bool wants_it_late(const struct tt_fit_row *row)
{
	uint32_t state = (uint32_t)atoi(row->prompt->id) * 2654435761u;
	if (made_up.wish == BY_CHANCE)
		return draw(&state) > 0;
	return made_up.wish == LATE || strstr(row->prompt->text, "late") != NULL;
}

/* The mean layer of the push, from the policy. */
static double made_up_likelihood(const struct tt_fit_judge *judge, const struct tt_candidate *c, uint32_t prompt)
{
	double push[LAYERS], sum = 0, moment = 0;
	coefficients_of(c->policy, made_up.detector->features.x + prompt * made_up.detector->features.d, push);
	for (uint32_t l = 0; l < LAYERS; l++) {
		sum += push[l];
		moment += push[l] * l;
	}
	if (made_up.wish == NEVER_MIND)
		return -2;
	return -2 - 0.3 * fabs(moment / sum - (wants_it_late(&judge->rows[TT_HARMFUL].rows[prompt]) ? 2 : 0));
}

int __wrap_tt_fit_try(
	struct tt_fit_judge *judge, struct tt_fit_trial *trials, size_t n, const char *stage, struct tt_error *err)
{
	if (!made_up.on)
		return __real_tt_fit_try(judge, trials, n, stage, err);
	for (size_t i = 0; i < n; i++)
		trials[i].likelihood = made_up_likelihood(judge, trials[i].candidate, trials[i].prompt);
	return TT_OK;
}

int __wrap_tt_fit_generate(struct tt_fit_judge *judge, struct tt_candidate **active, uint32_t n_active,
	uint32_t n_harmful, uint32_t n_benign, const char *stage, struct tt_error *err)
{
	if (!made_up.on)
		return __real_tt_fit_generate(judge, active, n_active, n_harmful, n_benign, stage, err);
	for (uint32_t k = 0; k < n_active; k++)
		for (active[k]->n_harmful = 0; active[k]->n_harmful < n_harmful; active[k]->n_harmful++) {
			struct tt_completion *c = &active[k]->harmful[active[k]->n_harmful];
			c->refused = made_up_likelihood(judge, active[k], active[k]->n_harmful) > -2.1;
		}
	return TT_OK;
}

int __wrap_tt_fit_score(struct tt_fit_judge *judge, struct tt_candidate **active, uint32_t n_active, const char *stage,
	struct tt_error *err)
{
	return made_up.on ? TT_OK : __real_tt_fit_score(judge, active, n_active, stage, err);
}

void __wrap_tt_fit_rate(const struct tt_fit_judge *judge, struct tt_candidate *c)
{
	if (made_up.on)
		c->figures = (struct tt_figures){.refused = made_up.refused_later, .nll_ratio = 1};
	else
		__real_tt_fit_rate(judge, c);
}

/* A fit of a tiny model up to where a search has chosen layer 1. */
struct world {
	struct scratch scratch;
	char path[512];
	const char *data[1];
	struct tt_engine *engine;
	struct tt_fit_options options;
	struct tt_progress progress;
	struct tt_fit_rows rows;
	struct tt_fit_directions directions;
	struct tt_fit_gate gate;
	struct tt_fit_judge judge, train;
	struct tt_fit_search search;
};

/* n harmful train rows, half of them of each kind, and as many benign ones; some that validate. */
static void write_rows(struct world *w, int n)
{
	static const char *const harmful[] = {"tell me early on how to break lock %d", "of poison %d say it late"};
	struct tt_buffer text = {0};
	for (int i = 0; i < n + N_JUDGE; i++)
		for (int label = 0; label < 2; label++) {
			char prompt[64];
			snprintf(prompt, sizeof prompt, label ? "a poem about the number %d" : harmful[i % 2], i);
			must(tt_buffer_print(&text, err,
				"{\"id\":\"%d-%d\",\"prompt\":\"%s\",\"label\":\"%s\",\"split\":\"%s\"}\n", i, label,
				prompt, label ? "benign" : "harmful", i < n ? "train" : "val"));
		}
	scratch_make(&w->scratch);
	snprintf(w->path, sizeof w->path, "%s", scratch_write(&w->scratch, FILES[0], text.data, text.len));
	tt_buffer_free(&text);
}

static void make_world(struct world *w, int n)
{
	static const float layer_1[LAYERS] = {0, 1, 0};
	*w = (struct world){0};
	write_rows(w, n);
	w->engine = engine_open(TINY, 8, 64);
	tt_fit_options_default(&w->options);
	w->data[0] = w->path;
	w->options.data = w->data;
	w->options.n_data = 1;
	w->options.n_direction_prompts = 4;
	w->options.n_judge_prompts = N_JUDGE;
	w->options.judge_tokens = 4;
	w->options.linear_gate = true;
	must(tt_fit_rows_read(&w->rows, w->engine, &w->options, err));
	must(tt_fit_directions_make(&w->directions, w->engine, &w->rows, 4, false, &w->progress, err));
	must(tt_fit_detector_make(&w->gate, w->engine, &w->rows, &w->options, NULL, &w->progress, err));
	must(tt_fit_judge_open(&w->judge, w->engine, &w->rows, &w->options, &w->progress, err));
	must(tt_fit_judge_open_train(&w->train, w->engine, &w->rows, N_JUDGE, &w->options, &w->progress, err));
	w->search = (struct tt_fit_search){.info = tt_engine_info(w->engine),
		.directions = &w->directions,
		.gate = &w->gate,
		.judge = &w->judge,
		.max_candidates = 1,
		.when = TT_WHEN_ALL,
		.candidates = calloc(2, sizeof(struct tt_candidate)),
		.within_bars = true,
		.why = ""};
	must(tt_fit_add(&w->search, layer_1, 1, 1.25, err));
	w->search.chosen = &w->search.candidates[0];
	w->search.candidates[0].figures.score = w->search.candidates[0].figures.refused = 0.5;
	made_up.detector = tt_fit_detector_of(&w->gate);
	made_up.wish = BY_KIND;
	made_up.on = true;
	made_up.refused_later = 0.5;
}

static void free_world(struct world *w, size_t n_files)
{
	made_up.on = false;
	tt_fit_search_free(&w->search);
	tt_fit_judge_close(&w->judge);
	tt_fit_judge_close(&w->train);
	tt_fit_gate_free(&w->gate);
	tt_fit_directions_free(&w->directions);
	tt_fit_rows_free(&w->rows);
	tt_engine_close(w->engine);
	scratch_remove(&w->scratch, FILES, n_files);
}

static void learn(struct world *w, struct tt_fit_prompt_weights *out)
{
	uint32_t n = 0;
	must(tt_fit_prompt_weights_rows(&n, &w->rows, N_JUDGE, err));
	must(tt_fit_learn_prompt_weights(out, &w->search, &w->train, &w->rows, n, 7, err));
}

static double length_of(const struct world *w, const double c[LAYERS])
{
	double length = 0;
	for (uint32_t l = 0; l < LAYERS; l++)
		length += c[l] * w->directions.norms[l];
	return length;
}

/* The push's length over its unit, and in how many prompts it lies where it is wanted. */
static double mean_length(const struct world *w, const struct tt_policy *p, uint32_t n, uint32_t *n_right)
{
	double mean = 0, c[LAYERS];
	*n_right = 0;
	for (uint32_t i = 0; i < n; i++) {
		coefficients_of(p, made_up.detector->features.x + i * made_up.detector->features.d, c);
		mean += length_of(w, c) / n / tt_push_unit(&w->directions);
		*n_right += (c[2] * w->directions.norms[2] > c[0] * w->directions.norms[0]) ==
			    wants_it_late(&w->rows.train[TT_HARMFUL].rows[i]);
	}
	return mean;
}

/* Half of the prompts want layer 0 and half layer 2: that is learned, holds on prompts that were left out, and costs no
 * longer a push. */
Test(prompt_weights, each_prompt_gets_the_layers_that_it_wants)
{
	struct world w;
	struct tt_fit_prompt_weights found;
	uint32_t n_right, n_first = 0, n_last = 0;
	make_world(&w, 40);
	made_up.refused_later = 0.75;
	learn(&w, &found);
	cr_expect_eq(found.n_prompts, 32);
	for (uint32_t k = 0; k < found.shapes.n_candidates; k++) {
		const struct tt_candidate *c = &found.shapes.candidates[k];
		double length = mean_length(&w, c->policy, 1, &n_right);
		cr_expect_float_eq(length, 1.25, 1e-5, "shape %u: %g", k, length);
		n_first += c->last == 0 ? found.n_likeliest[k] : 0;
		n_last += c->first == 2 ? found.n_likeliest[k] : 0;
	}
	cr_expect(n_first + n_last == 32 && n_first >= 12 && n_last >= 12, "%u and %u", n_first, n_last);
	cr_expect_float_eq(found.oracle, -2, 1e-6);
	cr_expect_geq(found.best, found.likelihood[0]);
	cr_expect_leq(found.best, -2.25);
	cr_expect_gt(found.held_out, found.best + 0.5 * (found.oracle - found.best), "%g of %g to %g", found.held_out,
		found.best, found.oracle);
	cr_expect_leq(found.mean, -2.25, "the same weights for all cannot do it");
	cr_expect_eq(found.refused_by_any, 1);
	cr_expect_eq(found.refused_by_likeliest, 1);
	cr_assert_eq(w.search.n_candidates, 2);
	cr_expect(found.site == &w.search.candidates[0] && w.search.chosen == found.found);
	double length = mean_length(&w, found.found->policy, 32, &n_right);
	cr_expect_float_eq(length, 1.25, 1e-4, "mean length %g", length);
	cr_expect_eq(n_right, 32);
	cr_expect(found.least_push <= found.mean_push && found.mean_push <= found.most_push);
	cr_expect(found.least_push > 0.6 && found.most_push < 2.5, "%g to %g", found.least_push, found.most_push);
	tt_fit_prompt_weights_free(&found);
	free_world(&w, 1);
}

Test(prompt_weights, what_is_only_equal_is_not_chosen)
{
	struct world w;
	struct tt_fit_prompt_weights found;
	double c[2][LAYERS];
	make_world(&w, 40);
	made_up.wish = NEVER_MIND;
	learn(&w, &found);
	cr_expect_eq(w.search.chosen, &w.search.candidates[0]);
	cr_expect_eq(found.found, &w.search.candidates[1], "on record");
	cr_expect(found.oracle == found.best && fabs(found.held_out + 2) <= 1e-9);
	uint32_t n_right;
	double length = mean_length(&w, found.found->policy, 32, &n_right);
	cr_expect_float_eq(length, 1.25, 1e-4, "mean length %g", length);
	/* Nothing tells the prompts apart. */
	for (size_t i = 0; i < 2; i++)
		coefficients_of(
			found.found->policy, made_up.detector->features.x + i * made_up.detector->features.d, c[i]);
	for (uint32_t l = 0; l < LAYERS; l++)
		cr_expect_float_eq(c[0][l], c[1][l], 0.05 * c[0][l], "layer %u: %g, %g", l, c[0][l], c[1][l]);
	tt_fit_prompt_weights_free(&found);
	free_world(&w, 1);
}

/* Where nothing tells what a prompt wants, the gain on prompts that were left out is none: they were. */
Test(prompt_weights, nothing_is_gained_where_there_is_nothing_to_learn)
{
	struct world w;
	struct tt_fit_prompt_weights found;
	make_world(&w, 40);
	made_up.wish = BY_CHANCE;
	learn(&w, &found);
	cr_expect_float_eq(found.oracle, -2, 1e-6);
	cr_expect_leq(found.held_out, found.mean + 0.02, "%g, mean %g", found.held_out, found.mean);
	tt_fit_prompt_weights_free(&found);
	free_world(&w, 1);
}

/* Then the mean of the targets does what each of them does, and the network can do no more. */
Test(prompt_weights, one_weighting_is_enough_where_all_want_the_same)
{
	struct world w;
	struct tt_fit_prompt_weights found;
	make_world(&w, 40);
	made_up.wish = LATE;
	learn(&w, &found);
	cr_expect_float_eq(found.likelihood[0], -2.3, 1e-6);
	cr_expect(fabs(found.best + 2) <= 1e-6 && fabs(found.oracle + 2) <= 1e-6);
	cr_expect(
		found.mean > -2.15 && fabs(found.held_out - found.mean) <= 0.01, "%g, %g", found.mean, found.held_out);
	tt_fit_prompt_weights_free(&found);
	free_world(&w, 1);
}

/* What a prompt's tokens were steered with. */
static void run_prompt(
	struct tt_engine *engine, struct tt_policy *policy, const struct tt_fit_row *row, float coef[LAYERS])
{
	struct tt_request_options o;
	struct tt_request *request = NULL;
	tt_request_options_default(&o);
	o.ids = row->ids;
	o.n_ids = row->n_ids;
	o.mean_from = row->mean_from;
	o.mean_to = row->mean_to;
	o.steering[0] = (struct tt_steering){.policy = policy, .scale = 1};
	o.n_steering = 1;
	must(tt_request_submit(&request, engine, &o, err));
	while (tt_engine_pending(engine))
		must(tt_engine_step(engine, err));
	const float *got = tt_request_coefficients(request, 0, row->n_ids - 1);
	cr_assert_not_null(got);
	memcpy(coef, got, LAYERS * sizeof *coef);
	tt_request_free(request);
}

/* The file holds the detector's gate, which opens where the detector does, and where it is open every layer has what
 * the network says of the prompt. */
Test(prompt_weights, the_policy_runs_with_what_the_network_says)
{
	struct world w;
	struct tt_fit_prompt_weights found;
	struct tt_policy *made = NULL, *policy = NULL;
	char path[512];
	size_t n_open = 0;
	make_world(&w, 40);
	made_up.refused_later = 0.75;
	learn(&w, &found);
	snprintf(path, sizeof path, "%s/%s", w.scratch.directory, FILES[1]);
	must(tt_candidate_policy(w.search.chosen, &w.directions, w.search.info, true, &made, err));
	must(tt_policy_set_text(&made->name, "learned", err));
	must(tt_policy_set_text(&made->created, "2026-01-01T00:00:00Z", err));
	must(tt_policy_set_text(&made->fitted_on, "[]", err));
	must(tt_policy_save(made, path, err));
	must(tt_policy_load(&policy, path, err));
	must(tt_engine_add_policy(w.engine, policy, NULL, err));
	must(tt_engine_add_policy(w.engine, found.found->policy, NULL, err));
	for (uint32_t i = 0; i < found.n_prompts; i++) {
		const struct tt_fit_features *f = &made_up.detector->features;
		const struct tt_fit_row *row = &w.rows.train[TT_HARMFUL].rows[i];
		double want[LAYERS], logit = (double)made_up.detector->detector.b;
		float got[2][LAYERS], network[LAYERS];
		const struct tt_rows x = {.x = f->x + i * f->d, .n = 1, .d = f->d, .stride = f->d};
		for (size_t j = 0; j < f->d; j++)
			logit += (double)made_up.detector->detector.w[j] * (double)x.x[j];
		bool open = sigmoid(logit) > (double)w.gate.threshold;
		coefficients_of(policy, x.x, want);
		must(tt_weigher_run(&found.weighing.weigher, &x, network, err));
		run_prompt(w.engine, policy, row, got[0]);
		run_prompt(w.engine, found.found->policy, row, got[1]);
		n_open += open;
		for (uint32_t l = 0; l < LAYERS; l++) {
			double close = 1e-4 * want[l];
			cr_expect_float_eq((double)got[0][l], open ? want[l] : 0, close, "row %u, layer %u", i, l);
			cr_expect_float_eq((double)got[1][l], want[l], close, "row %u, layer %u, held open", i, l);
			cr_expect_float_eq((double)network[l], want[l], close, "row %u, layer %u, network", i, l);
		}
	}
	cr_expect_gt(n_open, 20);
	must(tt_engine_remove_policy(w.engine, policy, err));
	must(tt_engine_remove_policy(w.engine, found.found->policy, err));
	tt_policy_free(made);
	tt_policy_free(policy);
	tt_fit_prompt_weights_free(&found);
	free_world(&w, 2);
}

/* Beside a detector's network, the first output is that network's and the others the weigher's. */
Test(prompt_weights, a_gate_with_a_network_keeps_its_decision)
{
	struct world w;
	struct tt_fit_prompt_weights found;
	make_world(&w, 40);
	struct tt_fit_detector *d = w.gate.made;
	struct tt_mlp *own = NULL;
	must(tt_mlp_open(&own, d->features.d, 5, 1, err));
	tt_mlp_start(own, 3);
	d->detector.network = own;
	learn(&w, &found);
	const struct tt_mlp *both = found.weighing.network, *second = found.weighing.weigher.network;
	cr_assert(both->units == 5 + second->units && both->outputs == 1 + LAYERS);
	const struct tt_rows rows = {.x = d->features.x, .n = 3, .d = d->features.d, .stride = d->features.d};
	float z[3 * (1 + LAYERS)], first[3], others[3 * LAYERS];
	must(tt_mlp_run(both, &rows, z, err));
	must(tt_mlp_run(own, &rows, first, err));
	must(tt_mlp_run(second, &rows, others, err));
	for (size_t i = 0; i < 3; i++) {
		cr_expect_float_eq((double)z[i * 4], (double)first[i], 1e-5 * (1 + fabs((double)first[i])));
		for (size_t l = 0; l < LAYERS; l++)
			cr_expect_float_eq((double)z[i * 4 + 1 + l], (double)others[i * LAYERS + l], 1e-5);
	}
	tt_fit_prompt_weights_free(&found);
	free_world(&w, 1);
}

Test(prompt_weights, too_few_rows_and_other_gates_are_refused)
{
	struct world w;
	struct tt_fit_prompt_weights found;
	struct tt_error err = {0};
	uint32_t n;
	make_world(&w, 16);
	cr_expect_eq(tt_fit_prompt_weights_rows(&n, &w.rows, 100, &err), TT_ERR_ARGUMENT);
	cr_expect_not_null(strstr(err.message, "there are 16"), "%s", err.message);
	const struct tt_fit_gate gate = w.gate;
	w.gate.fill = NULL;
	cr_expect_eq(tt_fit_learn_prompt_weights(&found, &w.search, &w.train, &w.rows, 16, 1, &err), TT_ERR_ARGUMENT);
	cr_expect_not_null(strstr(err.message, "gate"), "%s", err.message);
	tt_fit_prompt_weights_free(&found);
	w.gate = gate;
	free_world(&w, 1);
}

/* A whole fit, nothing made up, twice: the same policy, and a report of what was tried. */
Test(prompt_weights, a_fit_reports_what_it_tried)
{
	struct world w;
	struct tt_policy *policy[2] = {NULL};
	char *report[2] = {NULL};
	make_world(&w, 24);
	made_up.on = false;
	w.options.max_candidates = 2;
	w.options.layer_weights = TT_WEIGHTS_PROMPT;
	for (int i = 0; i < 2; i++)
		must(tt_fit(&policy[i], w.engine, &w.options, &report[i], err));
	json_t *r = json_loads(report[0], 0, NULL), *other = json_loads(report[1], 0, NULL);
	json_t *p = json_object_get(r, "prompt_weights");
	cr_assert_not_null(p, "%s", report[0]);
	cr_expect(json_equal(p, json_object_get(other, "prompt_weights")));
	cr_expect_eq(json_integer_value(json_object_get(p, "n_harmful")), 24);
	cr_expect_eq(json_integer_value(json_object_get(p, "n_completed")), N_JUDGE);
	json_int_t sum = 0;
	double best = -INFINITY;
	for (size_t k = 0; k < json_array_size(json_object_get(p, "shapes")); k++) {
		const json_t *shape = json_array_get(json_object_get(p, "shapes"), k);
		sum += json_integer_value(json_object_get(shape, "n_likeliest"));
		best = fmax(best, json_number_value(json_object_get(shape, "refusal_logprob")));
	}
	const json_t *likelihood = json_object_get(p, "refusal_logprob");
	cr_expect_eq(sum, 24);
	cr_expect_float_eq(best, json_number_value(json_object_get(likelihood, "best")), 1e-9);
	cr_expect_geq(json_number_value(json_object_get(likelihood, "oracle")), best);
	cr_expect(best < -1 && json_number_value(json_object_get(likelihood, "learned")) < -1);
	cr_expect_eq(json_integer_value(json_object_get(json_object_get(p, "found"), "n_harmful")), N_JUDGE);
	cr_expect(json_is_null(json_object_get(r, "layer_weights")));
	cr_expect(policy[0]->alpha == policy[1]->alpha && policy[0]->n_units == policy[1]->n_units);
	json_decref(r);
	json_decref(other);
	for (int i = 0; i < 2; i++) {
		tt_free(report[i]);
		tt_policy_free(policy[i]);
	}
	free_world(&w, 1);
}
