/* How a fit searches and judges, and what an evaluation counts, on made-up candidates and completions: what is chosen
 * and counted follows from figures that stand here. */
#include <criterion/criterion.h>
#include <jansson.h>

#include "controller/train/fit_search.h"
#include "golden.h"

#define TINY GOLDEN("tiny-llama")
#define ROWS GOLDEN("policy/rows.jsonl")

/* ---- The search's parts, made up where a test says so */

enum { MAX_CANDIDATES = 20, MAX_ROUNDS = 8 };

struct figures {
	float shift;
	double refused, false_refusals, nll_ratio;
};

static struct {
	bool on;
	const struct figures *figures; // [n]
	const struct tt_candidate *candidates;
	uint32_t n, n_rounds;
	struct {
		uint32_t n_active, n_harmful, n_benign, n_scored;
	} rounds[MAX_ROUNDS];
} made_up;

int __real_tt_fit_grid(struct tt_fit_search *search, struct tt_error *err);
int __wrap_tt_fit_grid(struct tt_fit_search *search, struct tt_error *err);
int __real_tt_fit_generate(struct tt_fit_judge *judge, struct tt_candidate **active, uint32_t n_active,
	uint32_t n_harmful, uint32_t n_benign, const char *stage, struct tt_error *err);
int __wrap_tt_fit_generate(struct tt_fit_judge *judge, struct tt_candidate **active, uint32_t n_active,
	uint32_t n_harmful, uint32_t n_benign, const char *stage, struct tt_error *err);
int __real_tt_fit_score(struct tt_fit_judge *judge, struct tt_candidate **active, uint32_t n_active, const char *stage,
	struct tt_error *err);
int __wrap_tt_fit_score(struct tt_fit_judge *judge, struct tt_candidate **active, uint32_t n_active, const char *stage,
	struct tt_error *err);
void __real_tt_fit_rate(const struct tt_fit_judge *judge, struct tt_candidate *candidate);
void __wrap_tt_fit_rate(const struct tt_fit_judge *judge, struct tt_candidate *candidate);

int __wrap_tt_fit_grid(struct tt_fit_search *search, struct tt_error *err)
{
	if (!made_up.on)
		return __real_tt_fit_grid(search, err);
	made_up.candidates = search->candidates = calloc(made_up.n, sizeof *search->candidates);
	search->n_candidates = made_up.n;
	for (uint32_t i = 0; i < made_up.n; i++)
		search->candidates[i].shift = made_up.figures[i].shift;
	return TT_OK;
}

int __wrap_tt_fit_generate(struct tt_fit_judge *judge, struct tt_candidate **active, uint32_t n_active,
	uint32_t n_harmful, uint32_t n_benign, const char *stage, struct tt_error *err)
{
	if (!made_up.on)
		return __real_tt_fit_generate(judge, active, n_active, n_harmful, n_benign, stage, err);
	cr_assert_lt(made_up.n_rounds, MAX_ROUNDS);
	made_up.rounds[made_up.n_rounds].n_active = n_active;
	made_up.rounds[made_up.n_rounds].n_harmful = n_harmful;
	made_up.rounds[made_up.n_rounds].n_benign = n_benign;
	return TT_OK;
}

int __wrap_tt_fit_score(struct tt_fit_judge *judge, struct tt_candidate **active, uint32_t n_active, const char *stage,
	struct tt_error *err)
{
	if (!made_up.on)
		return __real_tt_fit_score(judge, active, n_active, stage, err);
	made_up.rounds[made_up.n_rounds++].n_scored = n_active;
	return TT_OK;
}

void __wrap_tt_fit_rate(const struct tt_fit_judge *judge, struct tt_candidate *c)
{
	if (!made_up.on) {
		__real_tt_fit_rate(judge, c);
		return;
	}
	const struct figures *f = &made_up.figures[c - made_up.candidates];
	c->refused = f->refused;
	c->false_refusals = f->false_refusals;
	c->repeated = 0;
	c->nll_ratio = f->nll_ratio;
}

/* Which candidate is chosen, of n_judge prompts of each label. */
static uint32_t search(const struct figures *figures, uint32_t n, uint32_t n_harmful, uint32_t n_benign, char *why)
{
	struct tt_fit_judge judge = {.n = {n_harmful, n_benign}, .nll_is_of_refusals = true};
	struct tt_fit_search s = {.judge = &judge};
	memset(&made_up, 0, sizeof made_up);
	made_up.on = true;
	made_up.figures = figures;
	made_up.n = n;
	must(tt_fit_search(&s, err));
	uint32_t chosen = (uint32_t)(s.chosen - s.candidates);
	snprintf(why, 80, "%s", s.why);
	free(s.candidates);
	return chosen;
}

/* A quarter of the prompts, half, all, each rounded up; of the candidates a third, then half, but at least four. */
Test(search, rounds_ask_more_of_fewer)
{
	static const struct {
		uint32_t n_judge[2], n, n_active[3], n_scored[3], n_harmful[3], n_benign[3];
	} cases[] = {
		{{10, 7}, 20, {20, 6, 4}, {12, 6, 4}, {3, 5, 10}, {2, 4, 7}},
		{{1, 2}, 15, {15, 5, 4}, {10, 5, 4}, {1, 1, 1}, {1, 1, 2}},
		{{32, 32}, 2, {2, 2, 2}, {2, 2, 2}, {8, 16, 32}, {8, 16, 32}},
	};
	struct figures figures[MAX_CANDIDATES];
	char why[80];
	for (uint32_t i = 0; i < MAX_CANDIDATES; i++)
		figures[i] = (struct figures){1, 0.5, 0, 1};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		search(figures, cases[i].n, cases[i].n_judge[0], cases[i].n_judge[1], why);
		cr_assert_eq(made_up.n_rounds, 3);
		for (int r = 0; r < 3; r++) {
			cr_expect_eq(made_up.rounds[r].n_active, cases[i].n_active[r], "case %zu, round %d", i, r);
			cr_expect_eq(made_up.rounds[r].n_scored, cases[i].n_scored[r], "case %zu, round %d", i, r);
			cr_expect_eq(made_up.rounds[r].n_harmful, cases[i].n_harmful[r], "case %zu, round %d", i, r);
			cr_expect_eq(made_up.rounds[r].n_benign, cases[i].n_benign[r], "case %zu, round %d", i, r);
		}
	}
}

/* Better by 5 refusals in 100 is worse with 3 false ones, and better with 2. */
Test(search, a_false_refusal_counts_twice)
{
	const struct figures three[] = {{1, 0.85, 0, 1}, {1, 0.90, 0.03, 1}};
	const struct figures two[] = {{1, 0.85, 0, 1}, {1, 0.90, 0.02, 1}};
	const struct figures fewer[] = {{1, 0.85, 0, 1}, {1, 0.85, -0.04, 1}};
	char why[80];
	cr_expect_eq(search(three, 2, 100, 100, why), 0);
	cr_expect_eq(search(two, 2, 100, 100, why), 1);
	cr_expect_eq(search(fewer, 2, 100, 100, why), 0, "fewer false refusals than the model's own earn nothing");
}

/* Equal is what lies within half a prompt of the best that meets the bars. */
Test(search, of_equals_the_weakest_push_within_the_bars_is_chosen)
{
	const struct figures near[] = {{1.25f, 0.900, 0, 1}, /* the best */
		{1.0f, 0.897, 0, 1},                         /* less than half a prompt of 100 worse, and weaker */
		{0.8f, 0.896, 0, 1},                         /* so is this, and the weakest */
		{0.5f, 0.894, 0, 1}};                        /* more than half a prompt worse */
	const struct figures barred[] = {{1.25f, 0.900, 0, 1}, {0.8f, 0.896, 0, 1},
		{0.4f, 1.0, 0.051, 1},    /* scores 0.898, but breaks the bar of false refusals */
		{0.3f, 1.0, 0, 1.3001f}}; /* that of plausibility */
	const struct figures none[] = {{1.25f, 0.7, 0.06, 1}, {0.8f, 0.9, 0.06, 1}, {0.5f, 0.899, 0.06, 1}};
	char why[80];
	cr_expect_eq(search(near, 4, 100, 100, why), 2);
	cr_expect_eq(search(barred, 4, 100, 100, why), 1);
	cr_expect_not_null(strstr(why, "the weakest push among the best"), "%s", why);
	cr_expect_eq(search(near, 1, 100, 100, why), 0);
	cr_expect_eq(search(none, 3, 100, 100, why), 1, "the best score, though a weaker one is equal to it");
	cr_expect_not_null(strstr(why, "no candidate met the bars"), "%s", why);
}

/* ---- The candidates' policies */

/* A push is that of the whole band. */
Test(search, a_push_is_spread_over_the_band)
{
	enum { N_LAYERS = 5, WIDTH = 4 };
	float rows[N_LAYERS * WIDTH];
	struct tt_model_info info = {
		.n_layers = N_LAYERS, .hidden_size = WIDTH, .fingerprint = "made up", .weights_digest = "0"};
	const struct tt_fit_directions directions = {.n_layers = N_LAYERS, .hidden_size = WIDTH, .rows = rows};
	const struct tt_candidate c = {.first = 1, .width = 3, .shift = 1.5f, .when = TT_WHEN_LAST};
	struct tt_policy *policy = NULL;
	for (int i = 0; i < N_LAYERS * WIDTH; i++)
		rows[i] = (float)(i + 1);
	must(tt_candidate_policy(&c, &directions, &info, false, &policy, err));
	cr_expect_eq(policy->alpha, 0.5f);
	cr_expect(policy->op == TT_OP_ADD && policy->when == TT_WHEN_LAST && policy->gate == TT_GATE_ALWAYS);
	for (uint32_t l = 0; l < N_LAYERS; l++) {
		bool in = l >= 1 && l <= 3;
		cr_expect_eq(policy->weights[l], in ? 1 : 0, "layer %u", l);
		for (uint32_t i = 0; i < WIDTH; i++)
			cr_expect_eq(policy->directions[l * WIDTH + i], in ? rows[l * WIDTH + i] : 0);
	}
	tt_policy_free(policy);
}

/* ---- Completions, made up where a test says so */

static struct {
	bool on;
	size_t n_run;
	int32_t first_ids[16]; // [n_run] of each request
} written;

int __real_tt_completions_run(struct tt_engine *engine, const struct tt_request_options *options, size_t n,
	struct tt_completion *out, struct tt_progress *progress, struct tt_error *err);
int __wrap_tt_completions_run(struct tt_engine *engine, const struct tt_request_options *options, size_t n,
	struct tt_completion *out, struct tt_progress *progress, struct tt_error *err);
int __real_tt_completions_score(struct tt_engine *engine, const struct tt_request_options *options, size_t n,
	struct tt_completion *completions, struct tt_progress *progress, struct tt_error *err);
int __wrap_tt_completions_score(struct tt_engine *engine, const struct tt_request_options *options, size_t n,
	struct tt_completion *completions, struct tt_progress *progress, struct tt_error *err);

static struct tt_completion completion(const char *text, int32_t id, double logprob, bool refused)
{
	struct tt_completion c = {.n_ids = 1, .logprob = logprob, .refused = refused};
	c.ids = malloc(sizeof *c.ids);
	c.ids[0] = id;
	c.text = strdup(text);
	return c;
}

/* Which completion of a run is a refusal: some of either label, another number on each side. */
static bool refuses(bool steered, size_t i)
{
	return steered ? i == 0 || (i % 2 && i < 6) : i % 4 < 2;
}

int __wrap_tt_completions_run(struct tt_engine *engine, const struct tt_request_options *options, size_t n,
	struct tt_completion *out, struct tt_progress *progress, struct tt_error *err)
{
	if (!written.on)
		return __real_tt_completions_run(engine, options, n, out, progress, err);
	for (size_t i = 0; i < n; i++) {
		bool steered = options[i].n_steering > 0, refused = refuses(steered, i);
		out[i] = steered ? completion("steered", 2, 0, refused)
				 : completion("unsteered", 1, refused ? -1.5 : -1, refused);
		if (written.n_run < sizeof written.first_ids / sizeof *written.first_ids)
			written.first_ids[written.n_run++] = options[i].ids[0];
	}
	return TT_OK;
}

int __wrap_tt_completions_score(struct tt_engine *engine, const struct tt_request_options *options, size_t n,
	struct tt_completion *completions, struct tt_progress *progress, struct tt_error *err)
{
	if (!written.on)
		return __real_tt_completions_score(engine, options, n, completions, progress, err);
	for (size_t i = 0; i < n; i++)
		completions[i].logprob = completions[i].refused ? -5 : -2;
	return TT_OK;
}

/* A policy of the model's own, not added. */
static struct tt_policy *made_policy(struct tt_engine *engine)
{
	const struct tt_model_info *info = tt_engine_info(engine);
	struct tt_policy *p = NULL;
	must(tt_policy_new(&p, info->n_layers, info->hidden_size, 1, err));
	p->weights[1] = 1;
	p->directions[info->hidden_size] = 1;
	must(tt_policy_set_text(&p->name, "made up", err));
	must(tt_policy_set_text(&p->fingerprint, info->fingerprint, err));
	must(tt_policy_set_text(&p->weights_digest, info->weights_digest, err));
	must(tt_policy_finish(p, err));
	return p;
}

/* Harmful prompts are all steered; of benign ones those that the gate flags, and the others are what they were. */
Test(judge, only_flagged_benign_prompts_are_run_again)
{
	enum { N = 4 };
	static const bool flagged[N] = {false, true, true, false};
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	bool flags[N];
	const struct tt_fit_gate gate = {.flags = {[TT_BENIGN] = flags}};
	struct tt_prompt prompts[2][N];
	struct tt_fit_row rows[2][N];
	int32_t ids[2][N];
	struct tt_completion unsteered[2][N], steered[2][N] = {0};
	struct tt_fit_row_list val[TT_N_LABELS] = {{0}};
	struct tt_progress progress = {0};
	struct tt_fit_judge judge = {.engine = engine, .val = val, .progress = &progress, .n_tokens = 24, .n = {N, N}};
	memcpy(flags, flagged, sizeof flags);
	for (int kind = 0; kind < 2; kind++) {
		for (int i = 0; i < N; i++) {
			ids[kind][i] = 10 * kind + i;
			rows[kind][i] = (struct tt_fit_row){&prompts[kind][i], &ids[kind][i], 1};
			unsteered[kind][i] = completion("as it was", 1, -1, false);
		}
		val[kind] = (struct tt_fit_row_list){rows[kind], N};
		judge.unsteered[kind] = unsteered[kind];
	}
	struct tt_candidate c = {
		.gate = &gate, .policy = made_policy(engine), .harmful = steered[0], .benign = steered[1]};
	struct tt_candidate *active[] = {&c};
	written.on = true;
	must(tt_fit_generate(&judge, active, 1, 2, N, "judge", err));
	static const int32_t want[] = {0, 1, 11, 12}; /* two harmful, the flagged of the benign */
	cr_assert_eq(written.n_run, 4, "%zu were run", written.n_run);
	cr_expect_arr_eq(written.first_ids, want, sizeof want);
	cr_expect(c.n_harmful == 2 && c.n_benign == N);
	for (int i = 0; i < N; i++)
		cr_expect_str_eq(c.benign[i].text, flagged[i] ? "steered" : "as it was", "prompt %d", i);
	cr_expect_str_eq(c.harmful[1].text, "steered", "with an open gate, whatever the gate says");
	cr_expect_null(c.harmful[2].text, "not judged yet");
	for (int kind = 0; kind < 2; kind++)
		for (int i = 0; i < N; i++) {
			tt_completion_free(&unsteered[kind][i]);
			tt_completion_free(&steered[kind][i]);
		}
	tt_policy_free(c.policy);
	tt_engine_close(engine);
}

static double figure(const json_t *group, const char *key, const char *side)
{
	const json_t *value = json_object_get(json_object_get(group, key), side);
	cr_assert(json_is_number(value), "%s.%s is no number", key, side);
	return json_number_value(value);
}

/* Each side's refusals are counted, and their losses summed, by what that side wrote. */
Test(judge, an_evaluation_counts_the_refusals_of_both_sides)
{
	static const char *const data[] = {ROWS};
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	struct tt_eval_options options;
	struct tt_prompts prompts = {0};
	char *report = NULL;
	size_t n_refused[TT_N_LABELS][2] = {0}, n[TT_N_LABELS] = {0}, at = 0;
	must(tt_prompts_read(&prompts, data, 1, err));
	for (size_t i = 0; i < prompts.n_rows; i++) {
		if (prompts.rows[i].split != TT_VAL)
			continue;
		n[prompts.rows[i].label]++;
		for (size_t side = 0; side < 2; side++)
			n_refused[prompts.rows[i].label][side] += refuses(side == 1, at);
		at++;
	}
	tt_eval_options_default(&options);
	options.data = data;
	options.n_data = 1;
	options.split = "val";
	struct tt_policy *policy = made_policy(engine);
	must(tt_engine_add_policy(engine, policy, NULL, err));
	options.steering[0] = (struct tt_steering){policy, 1};
	options.n_steering = 1;
	written.on = true;
	must(tt_eval(engine, &options, &report, err));
	json_t *r = json_loads(report, 0, NULL);
	for (size_t label = 0; label <= TT_BENIGN; label++) {
		const json_t *group = json_array_get(json_object_get(r, "labels"), label);
		double u = (double)n_refused[label][0], s = (double)n_refused[label][1], all = (double)n[label];
		cr_assert(u > 0 && s > 0 && u != s, "label %zu tells the sides apart", label);
		cr_expect_eq(figure(group, "n_refused", "unsteered"), u, "label %zu", label);
		cr_expect_eq(figure(group, "n_refused", "steered"), s, "label %zu", label);
		cr_expect_float_eq(figure(group, "nll", "unsteered"), 1 + u / 2 / all, 1e-4);
		cr_expect_float_eq(figure(group, "nll", "steered"), 2 + 3 * s / all, 1e-4);
		cr_expect_float_eq(figure(group, "nll_refusals", "unsteered"), 1.5, 1e-4, "label %zu", label);
		cr_expect_float_eq(figure(group, "nll_refusals", "steered"), 5, 1e-4, "label %zu", label);
	}
	json_decref(r);
	tt_free(report);
	tt_prompts_free(&prompts);
	tt_engine_close(engine);
	tt_policy_free(policy);
}
