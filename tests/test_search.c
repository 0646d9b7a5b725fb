/* How a fit searches and judges, and what an evaluation counts, on made-up candidates and completions: what is chosen
 * and counted follows from figures that stand here. */
#include <criterion/criterion.h>
#include <jansson.h>

#include "controller/train/fit_search.h"
#include "golden.h"
#include "wrapped_judge.h"

#define TINY GOLDEN("tiny-llama")
#define ROWS GOLDEN("policy/rows.jsonl")

/* ---- The search's parts, made up where a test says so */

enum { MAX_CANDIDATES = 28, MAX_ROUNDS = 8 };

struct figures {
	double push, refused, false_refusals, repeated, nll_ratio;
};

static struct {
	bool on;
	const struct figures *figures; // [n_sites + n_strengths]
	const double *late_ratios;     // the same: nll_ratio on more than 16 prompts, or NULL
	const double *mixes;           // the same, or NULL: all 0
	const double *effects;         // the same, or NULL: refusals are judged
	struct tt_candidate *candidates;
	uint32_t n_sites, n_strengths, n_rounds;
	uint32_t n_best, best[MAX_CANDIDATES]; /* that were tried at other strengths */
	struct {
		uint32_t n_active, n_harmful, n_benign, n_scored;
	} rounds[MAX_ROUNDS];
} made_up;

int __real_tt_fit_add_sites(struct tt_fit_search *search, uint32_t n, struct tt_error *err);
int __wrap_tt_fit_add_sites(struct tt_fit_search *search, uint32_t n, struct tt_error *err);
int __real_tt_fit_add_strengths(struct tt_fit_search *search, struct tt_candidate *const *best, uint32_t n_best,
	uint32_t n, struct tt_error *err);
int __wrap_tt_fit_add_strengths(struct tt_fit_search *search, struct tt_candidate *const *best, uint32_t n_best,
	uint32_t n, struct tt_error *err);

static void make_up(struct tt_fit_search *search, uint32_t n)
{
	made_up.candidates = search->candidates;
	for (uint32_t end = search->n_candidates + n; search->n_candidates < end; search->n_candidates++) {
		search->candidates[search->n_candidates].push = made_up.figures[search->n_candidates].push;
		search->candidates[search->n_candidates].mix = made_up.mixes ? made_up.mixes[search->n_candidates] : 0;
	}
}

int __wrap_tt_fit_add_sites(struct tt_fit_search *search, uint32_t n, struct tt_error *err)
{
	if (!made_up.on)
		return __real_tt_fit_add_sites(search, n, err);
	make_up(search, made_up.n_sites);
	return TT_OK;
}

int __wrap_tt_fit_add_strengths(struct tt_fit_search *search, struct tt_candidate *const *best, uint32_t n_best,
	uint32_t n, struct tt_error *err)
{
	if (!made_up.on)
		return __real_tt_fit_add_strengths(search, best, n_best, n, err);
	made_up.n_best = n_best;
	for (uint32_t i = 0; i < n_best; i++)
		made_up.best[i] = (uint32_t)(best[i] - search->candidates);
	make_up(search, made_up.n_strengths);
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
	c->figures = (struct tt_figures){.n_harmful = made_up.rounds[made_up.n_rounds - 1].n_harmful,
		.refused = f->refused,
		.false_refusals = f->false_refusals,
		.repeated = f->repeated,
		.nll_ratio = f->nll_ratio,
		.effect = made_up.effects ? made_up.effects[c - made_up.candidates] : NAN};
	if (made_up.late_ratios && c->figures.n_harmful > 16)
		c->figures.nll_ratio = made_up.late_ratios[c - made_up.candidates];
}

/* What was searched, of n_judge prompts of each label. */
static struct tt_fit_search searched(
	const struct figures *figures, uint32_t n_sites, uint32_t n_strengths, struct tt_fit_judge *judge)
{
	struct tt_fit_search s = {.judge = judge, .max_candidates = MAX_CANDIDATES};
	const double *mixes = made_up.mixes, *late_ratios = made_up.late_ratios, *effects = made_up.effects;
	memset(&made_up, 0, sizeof made_up);
	made_up.mixes = mixes;
	made_up.effects = effects;
	made_up.late_ratios = late_ratios;
	made_up.on = true;
	made_up.figures = figures;
	made_up.n_sites = n_sites;
	made_up.n_strengths = n_strengths;
	must(tt_fit_search(&s, err));
	return s;
}

/* Which of one site's strengths is chosen, on 100 prompts; the first is that of all sites. */
static uint32_t chosen(const struct figures *figures, uint32_t n, bool *within_bars)
{
	struct tt_fit_judge judge = {.n = {100, 100}, .nll_is_of_refusals = true};
	struct tt_fit_search s = searched(figures, 1, n - 1, &judge);
	uint32_t index = (uint32_t)(s.chosen - s.candidates);
	cr_expect_eq(strstr(s.why, "no candidate met the bars") == NULL, s.within_bars, "%s", s.why);
	*within_bars = s.within_bars;
	free(s.candidates);
	return index;
}

/* 16 prompts, or all where there are fewer; then all. Four sites go on, then four of all; each is scored. */
Test(search, nothing_is_dropped_on_fewer_than_sixteen_prompts)
{
	static const struct {
		uint32_t n_judge[2], n_sites, n_strengths, n_active[3], n_harmful[3], n_benign[3];
	} cases[] = {
		{{32, 20}, 12, 12, {12, 16, 4}, {16, 16, 32}, {16, 16, 20}},
		{{10, 7}, 12, 4, {12, 8, 4}, {10, 10, 10}, {7, 7, 7}},
		{{16, 40}, 2, 1, {2, 3, 3}, {16, 16, 16}, {16, 16, 40}},
		{{1, 1}, 1, 0, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}},
	};
	struct figures figures[MAX_CANDIDATES];
	for (uint32_t i = 0; i < MAX_CANDIDATES; i++)
		figures[i] = (struct figures){1, 0.5, 0, 0, 1};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tt_fit_judge judge = {.n = {cases[i].n_judge[0], cases[i].n_judge[1]}};
		struct tt_fit_search s = searched(figures, cases[i].n_sites, cases[i].n_strengths, &judge);
		cr_assert_eq(made_up.n_rounds, 3);
		for (int r = 0; r < 3; r++) {
			cr_expect_eq(made_up.rounds[r].n_active, cases[i].n_active[r], "case %zu, round %d", i, r);
			cr_expect_eq(made_up.rounds[r].n_scored, cases[i].n_active[r], "case %zu, round %d", i, r);
			cr_expect_eq(made_up.rounds[r].n_harmful, cases[i].n_harmful[r], "case %zu, round %d", i, r);
			cr_expect_eq(made_up.rounds[r].n_benign, cases[i].n_benign[r], "case %zu, round %d", i, r);
		}
		free(s.candidates);
	}
}

/* Of sites, which all have the same push, the better score goes on, and of equals the better guess of the grid. What
 * was dropped keeps its figures and says when. */
Test(search, what_is_dropped_is_on_record)
{
	static const struct figures figures[] = {{1, 0.50, 0, 0, 1.0}, {1, 0.70, 0, 0, 1.1}, {1, 0.60, 0, 0, 1.0},
		{1, 0.60, 0, 0, 0.9}, {1, 0.90, 0, 0, 1.7}, {1.25, 0.80, 0, 0, 1.2}, {0.7, 0.30, 0, 0, 0.8},
		{1.25, 0.75, 0, 0, 1.2}};
	struct tt_fit_judge judge = {.n = {32, 32}, .nll_is_of_refusals = true};
	struct tt_fit_search s = searched(figures, 5, 3, &judge);
	/* 2 and 3 are equal, whatever their loss within the bar; 4 is far beyond the bar: 0.9 - 2 * 0.4. */
	static const uint32_t best[] = {1, 2, 3, 0};
	cr_expect(made_up.n_best == 4 && memcmp(made_up.best, best, sizeof best) == 0);
	static const bool took_part[][TT_N_ROUNDS] = {{true, true}, {true, true, true}, {true, true, true},
		{true, true}, {true}, {false, true, true}, {false, true}, {false, true, true}};
	for (int i = 0; i < 8; i++) {
		const struct tt_candidate *c = &s.candidates[i];
		for (int r = 0; r < TT_N_ROUNDS; r++) {
			cr_expect_eq(c->took_part[r], took_part[i][r], "candidate %d, round %d", i, r);
			if (!took_part[i][r])
				continue;
			bool kept = r == TT_ROUND_ALL || took_part[i][r + 1];
			cr_expect_eq(c->kept[r], kept, "candidate %d, round %d", i, r);
			cr_expect_eq(c->in_round[r].refused, figures[i].refused);
			cr_expect_eq(c->in_round[r].n_harmful, r == TT_ROUND_ALL ? 32 : 16);
		}
	}
	cr_expect_eq(s.chosen, &s.candidates[5]);
	free(s.candidates);
}

/* The best four sites go on, and if these are all along one direction, the best along another for the fourth. */
Test(search, the_best_of_each_direction_is_tried_at_other_strengths)
{
	static const struct figures figures[] = {{1, 0.9, 0, 0, 1}, {1, 0.8, 0, 0, 1}, {1, 0.7, 0, 0, 1},
		{1, 0.6, 0, 0, 1}, {1, 0.5, 0, 0, 1}, {1, 0.4, 0, 0, 1}};
	static const struct {
		double mixes[6];
		uint32_t best[4];
	} cases[] = {
		{{0, 0, 0, 0, 1, 1}, {0, 1, 2, 4}},
		{{0, 1, 0, 0, 1, 0}, {0, 1, 2, 3}},
		{{1, 1, 1, 0, 0, 0}, {0, 1, 2, 3}},
		{{0, 0, 0, 0, 0, 1}, {0, 1, 2, 5}},
		{{1, 1, 1, 1, 1, 1}, {0, 1, 2, 3}},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tt_fit_judge judge = {.n = {16, 16}};
		made_up.mixes = cases[i].mixes;
		struct tt_fit_search s = searched(figures, 6, 0, &judge);
		cr_expect_eq(made_up.n_best, 4);
		cr_expect_arr_eq(made_up.best, cases[i].best, sizeof cases[i].best, "case %zu: %u %u %u %u", i,
			made_up.best[0], made_up.best[1], made_up.best[2], made_up.best[3]);
		for (uint32_t k = 0; k < 6; k++) {
			bool best = k < 3 || k == cases[i].best[3];
			cr_expect(s.candidates[k].took_part[TT_ROUND_SITES], "case %zu, candidate %u", i, k);
			cr_expect_eq(s.candidates[k].kept[TT_ROUND_SITES], best, "case %zu, candidate %u", i, k);
		}
		free(s.candidates);
	}
	made_up.mixes = NULL;
}

/* Better by 5 refusals in 100 is worse with 3 false ones, and better with 2. */
Test(search, a_false_refusal_counts_twice)
{
	static const struct figures three[] = {{1, 0.85, 0, 0, 1}, {1, 0.90, 0.03, 0, 1}};
	static const struct figures two[] = {{1, 0.85, 0, 0, 1}, {1, 0.90, 0.02, 0, 1}};
	static const struct figures fewer[] = {{1, 0.85, 0, 0, 1}, {1, 0.85, -0.04, 0, 1}};
	bool within;
	cr_expect_eq(chosen(three, 2, &within), 0);
	cr_expect_eq(chosen(two, 2, &within), 1);
	cr_expect_eq(chosen(fewer, 2, &within), 0, "fewer false refusals than the model's own earn nothing");
}

/* Equal is what lies within half a prompt of the best that meets the bars. */
Test(search, of_equals_the_strongest_push_within_the_bars_is_chosen)
{
	static const struct figures near[] = {{0.8, 0.900, 0, 0, 1}, /* the best */
		{1.0, 0.897, 0, 0, 1},                               /* less than half a prompt of 100 worse */
		{1.1, 0.896, 0, 0, 1.29},                            /* so is this, and the strongest, loss or not */
		{1.25, 0.894, 0, 0, 1}};                             /* more than half a prompt worse */
	static const struct figures barred[] = {{0.8, 0.896, 0, 0, 1}, {1.0, 0.900, 0, 0, 1},
		{1.25, 1.0, 0.051, 0, 1},  /* scores 0.898, but breaks the bar of false refusals */
		{1.6, 0.9, 0, 0, 1.3001}}; /* that of plausibility */
	static const struct figures repeats[] = {{0.8, 0.896, 0, 0, 1}, {1.0, 0.900, 0, 0.051, 1}};
	static const struct figures just[] = {{0.8, 0.9, 0, 0, 1}, {1.6, 0.9, 0, 0.05, 1.3}};
	bool within;
	cr_expect(chosen(near, 4, &within) == 2 && within);
	cr_expect(chosen(barred, 4, &within) == 1 && within);
	cr_expect(chosen(repeats, 2, &within) == 0 && within, "repetition has a bar");
	cr_expect(chosen(just, 2, &within) == 1 && within, "what reaches a bar does not break it");
	cr_expect(chosen(near, 1, &within) == 0 && within);
}

Test(search, without_any_within_the_bars_the_best_score_is_chosen)
{
	static const struct figures none[] = {
		{1.25, 0.7, 0.06, 0, 1}, {0.8, 0.9, 0.06, 0, 1}, {1.6, 0.899, 0.06, 0, 1}};
	static const struct figures unknown[] = {{1, 0.5, 0, 0, NAN}};
	bool within;
	cr_expect(chosen(none, 3, &within) == 1 && !within, "though a stronger one is equal to it");
	cr_expect(chosen(unknown, 1, &within) == 0 && !within, "a loss that nobody knows meets no bar");
}

/* If all that reach the last round break a bar there, those of the round before that were within the bars are judged
 * on all prompts too. */
Test(search, weaker_pushes_are_judged_where_the_best_break_a_bar)
{
	static const struct figures figures[] = {{1, 0.9, 0, 0, 1.29}, {1.25, 0.95, 0, 0, 1.3}, {1.3, 0.94, 0, 0, 1.3},
		{1.4, 0.93, 0, 0, 1.3}, {1.6, 0.99, 0, 0, 1.35}, {0.7, 0.6, 0, 0, 1.1}, {0.5, 0.4, 0, 0, 1}};
	/* 4 is never within the bars; 5 is on all prompts too. */
	static const double late[2][7] = {{1.4, 1.4, 1.4, 1.4, 1.5, 1.2, 1}, {1.4, 1.4, 1.4, 1.4, 1.5, 1.31, 1.4}};
	for (int k = 0; k < 2; k++) {
		struct tt_fit_judge judge = {.n = {32, 32}, .nll_is_of_refusals = true};
		made_up.late_ratios = late[k];
		struct tt_fit_search s = searched(figures, 1, 6, &judge);
		cr_expect_eq(made_up.n_rounds, 4);
		cr_expect_eq(made_up.rounds[3].n_active, 2);
		cr_expect_eq(s.within_bars, k == 0);
		cr_expect_eq(s.chosen - s.candidates, k == 0 ? 5 : 1, "%d", (int)(s.chosen - s.candidates));
		for (int i = 0; i < 7; i++) {
			cr_expect_eq(s.candidates[i].took_part[TT_ROUND_ALL], i != 4, "candidate %d", i);
			cr_expect_eq(s.candidates[i].kept[TT_ROUND_STRENGTHS], i != 4, "candidate %d", i);
		}
		free(s.candidates);
	}
	made_up.late_ratios = NULL;
}

/* The bar is wider where the baseline is of completions that do not refuse. */
Test(search, the_bar_of_plausibility_depends_on_what_it_is_measured_by)
{
	static const struct figures wide[] = {{1, 0.5, 0, 0, 1}, {1, 0.9, 0, 0, 1.59}};
	struct tt_fit_judge judge = {.n = {100, 100}, .nll_is_of_refusals = false};
	struct tt_fit_search s = searched(wide, 1, 1, &judge);
	bool within;
	cr_expect_eq(s.chosen, &s.candidates[1]);
	free(s.candidates);
	cr_expect_eq(chosen(wide, 2, &within), 0);
}

/* A push refuses what the gate lets through, which is not the push's fault. */
Test(search, false_refusals_are_no_bar_where_a_gate_bounds_them)
{
	static const struct figures figures[] = {{1, 0.5, 0, 0, 1}, {1, 0.9, 0.09, 0, 1}};
	for (int k = 0; k < 2; k++) {
		struct tt_fit_judge judge = {
			.n = {100, 100}, .nll_is_of_refusals = true, .gate_bounds_false_refusals = k == 1};
		struct tt_fit_search s = searched(figures, 1, 1, &judge);
		cr_expect_eq(s.chosen, &s.candidates[k]);
		free(s.candidates);
	}
}

/* A style goes by its effect and not by refusals, within a bar of 2 or the one that is asked for; two of the sites go
 * on to other strengths. */
Test(search, a_style_is_chosen_by_its_effect)
{
	static const struct figures figures[] = {{1, 0.9, 0, 0, 1.4}, {1, 0, 0, 0, 1.9}, {1, 0, 0, 0, 1.5},
		{1.12, 0, 0, 0, 2.01}, {1.12, 0, 0, 0.06, 1.5}, {0.85, 0, 0, 0, 1.7}};
	static const double effects[] = {1.0, 1.5, 1.2, 1.9, 1.7, 1.49};
	static const struct tt_completion responses[1];
	for (int k = 0; k < 3; k++) {
		static const double bars[] = {0, 1.6, 2.5};
		static const long want[] = {1, 2, 3};
		struct tt_progress progress = {0};
		struct tt_fit_judge judge = {.n = {16, 0},
			.responses = {responses, responses},
			.progress = &progress,
			.max_nll_ratio = bars[k]};
		made_up.effects = effects;
		struct tt_fit_search s = searched(figures, 3, 3, &judge);
		cr_expect(s.within_bars && s.chosen - s.candidates == want[k], "%d: %d", k,
			(int)(s.chosen - s.candidates));
		cr_expect_eq(made_up.n_best, 2);
		free(s.candidates);
	}
}

static struct tt_policy *made_policy(struct tt_engine *engine);

/* The mean log-softmax of the sentence's ids, worked out in double from logits under the same steering. */
Test(judge, the_likelihood_of_a_refusal_is_that_of_the_steered_model)
{
	enum { N = 3 };
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	struct tt_fit_row rows[N];
	int32_t ids[N][64], *sentence;
	size_t n_sentence, n_tokens = 0, vocab = tt_engine_info(engine)->vocab_size;
	double sum = 0, got[1];
	struct tt_fit_row_list lists[TT_N_LABELS] = {{rows, N}};
	struct tt_progress progress = {0};
	struct tt_fit_judge judge = {.engine = engine, .rows = lists, .progress = &progress, .n = {N, 0}};
	struct tt_candidate c = {.policy = made_policy(engine)}, *active[] = {&c};
	static const char text[] = "I'm sorry, but I cannot assist with that request.";
	must(tt_text_encode(tt_engine_text(engine), text, strlen(text), 0, &sentence, &n_sentence, err));
	for (int i = 0; i < N; i++) {
		rows[i] = (struct tt_fit_row){.ids = ids[i], .n_ids = (size_t)(2 + i)};
		for (int k = 0; k < 2 + i; k++)
			ids[i][k] = 5 + 3 * i + k;
	}
	must(tt_fit_likelihood(&judge, active, 1, N, "likelihood", got, err));
	must(tt_engine_add_policy(engine, c.policy, NULL, err));
	for (int i = 0; i < N; i++) {
		struct tt_request_options o;
		tt_request_options_default(&o);
		cr_assert_leq(rows[i].n_ids + n_sentence, 64);
		memcpy(ids[i] + rows[i].n_ids, sentence, n_sentence * sizeof *sentence);
		o.ids = ids[i];
		o.n_ids = rows[i].n_ids + n_sentence;
		o.n_prompt = rows[i].n_ids;
		o.keep_logits = true;
		o.steering[0] = (struct tt_steering){c.policy, 1};
		o.n_steering = 1;
		struct tt_request *request = request_run(engine, &o);
		for (size_t t = rows[i].n_ids; t < o.n_ids; t++, n_tokens++) {
			const float *logits = tt_request_logits(request) + (t - 1) * vocab;
			double total = 0;
			for (size_t v = 0; v < vocab; v++)
				total += exp((double)logits[v]);
			sum += (double)logits[ids[i][t]] - log(total);
		}
		tt_request_free(request);
	}
	cr_expect_float_eq(got[0], sum / (double)n_tokens, 1e-5, "%g, not %g", got[0], sum / (double)n_tokens);
	tt_free(sentence);
	must(tt_engine_remove_policy(engine, c.policy, err));
	tt_policy_free(c.policy);
	tt_engine_close(engine);
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
	struct tt_completion c = {.n_ids = 1, .logprob = logprob, .refused = refused, .refused_by_phrases = !refused};
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
	struct tt_fit_judge judge = {
		.engine = engine, .rows = val, .gated = true, .progress = &progress, .n_tokens = 24, .n = {N, N}};
	memcpy(flags, flagged, sizeof flags);
	for (int kind = 0; kind < 2; kind++) {
		for (int i = 0; i < N; i++) {
			ids[kind][i] = 10 * kind + i;
			rows[kind][i] =
				(struct tt_fit_row){.prompt = &prompts[kind][i], .ids = &ids[kind][i], .n_ids = 1};
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
	must(tt_prompts_read(&prompts, data, 1, NULL, NULL, err));
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
		cr_expect_eq(figure(group, "n_refused_by_phrases", "unsteered"), all - u, "label %zu", label);
		cr_expect_eq(figure(group, "n_refused_by_phrases", "steered"), all - s, "label %zu", label);
		cr_expect_float_eq(figure(group, "refused", "steered"), s / all, 1e-4, "label %zu", label);
		cr_expect_float_eq(figure(group, "refused_by_phrases", "steered"), 1 - s / all, 1e-4);
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
