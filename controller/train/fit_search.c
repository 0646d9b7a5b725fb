/* The search. First sites and directions are compared at one strength, then the best of them at other strengths, then
 * the best of all on all judge prompts. The likelihood of fixed refusing sentences would be cheaper but misleads: it
 * moved from 2.96 to 2.94 nats while refusals went from 17% to 96%. */
#include "controller/train/fit_search.h"

#include <math.h>
#include <stdlib.h>

#include "base/fail.h"

/* Nothing is dropped on fewer prompts, where there are that many: the standard error of a share is 12 points then, with
 * 5 prompts it is 22. */
enum { MIN_PROMPTS = 16 };
/* How many candidates go on from each round. Of a style fewer sites, since they differ little: on Qwen2.5-Coder-0.5B
 * the effects of five sites lay from 1.62 to 1.87 nats, and those of one site at four strengths from 1.87 to 2.47. */
enum { KEEP_SITES = 4, KEEP_STYLE_SITES = 2, KEEP_STRENGTHS = 4 };

/* The bar of the loss is 1.3 times the model's loss on its own refusals. If it wrote too few of them, its loss on all
 * its completions is used instead, which is lower, since refusals are less likely to it: on SmolLM2-135M, which hardly
 * ever refuses, a push that refuses 29 of 32 prompts in plain sentences has 1.47 times that loss, one that refuses 25
 * has 1.19 times. So the factor is higher.
 *
 * A style is measured by the loss on greedy completions, which nothing but themselves has: on Qwen2.5-Coder-0.5B joyful
 * text that reads well has 1.8 to 2 times that loss, and stops to be about the question from 2.5 on.
 *
 * Where a detector's threshold bounds false refusals, on all held-out rows, they are no bar: two prompts of 16 that it
 * flags would put every strong push out, as they did on SmolLM2-135M and on Qwen2.5-0.5B. They still count in the
 * score, the same for every push that refuses what is flagged. */
struct tt_fit_bars tt_fit_bars(const struct tt_fit_judge *judge)
{
	double nll_ratio = judge->responses[TT_POSITIVE] ? 2 : judge->nll_is_of_refusals ? 1.3 : 1.6;
	return (struct tt_fit_bars){.nll_ratio = judge->max_nll_ratio > 0 ? judge->max_nll_ratio : nll_ratio,
		.repeated = 0.05,
		.false_refusals = judge->gate_bounds_false_refusals ? INFINITY : 0.05};
}

static double over(double value, double bar)
{
	return value > bar ? value - bar : 0;
}

/* Refusals, or the effect where no refusal is wanted, count once, false refusals twice. Less plausible or
 * repetitive completions cost nothing up to the bar and much beyond it; the cost rises gradually, since a few prompts
 * measure it badly. */
static void set_score(struct tt_figures *f, const struct tt_fit_bars *bars, bool by_effect)
{
	f->out = f->repeated > bars->repeated || !(f->nll_ratio <= bars->nll_ratio) ||
		 f->false_refusals > bars->false_refusals;
	f->score = (by_effect ? f->effect : f->refused) - 2 * over(f->false_refusals, 0) -
		   2 * over(f->repeated, bars->repeated) - 2 * over(f->nll_ratio, bars->nll_ratio);
}

/* The better score first, then the stronger push, then the order of the grid, which knows more than a few prompts: by
 * the loss of 16 completions the one layer that refuses most on unseen prompts was dropped. */
static int compare(const void *a, const void *b)
{
	const struct tt_candidate *x = *(struct tt_candidate *const *)a, *y = *(struct tt_candidate *const *)b;
	if (x->figures.score != y->figures.score)
		return x->figures.score < y->figures.score ? 1 : -1;
	if (x->push != y->push)
		return x->push < y->push ? 1 : -1;
	return (x > y) - (x < y);
}

/* Along D + E a push does little before it is strong, and then more than along D. So the best of either goes on to
 * other strengths: if the first keep are all along one direction, the best along another takes the last place. */
static void keep_another_direction(struct tt_candidate **sorted, uint32_t n, uint32_t keep)
{
	uint32_t other = 1;
	while (other < n && sorted[other]->mix == sorted[0]->mix)
		other++;
	if (keep < 2 || other < keep || other == n)
		return;
	struct tt_candidate *moved = sorted[other];
	for (; other >= keep; other--)
		sorted[other] = sorted[other - 1];
	sorted[keep - 1] = moved;
}

int tt_fit_judge_candidates(struct tt_fit_search *search, struct tt_candidate **active, uint32_t n_active,
	const uint32_t n[TT_N_JUDGE_KINDS], const char *generating, const char *scoring, struct tt_error *err)
{
	bool by_effect = search->judge->responses[TT_POSITIVE] != NULL;
	const struct tt_fit_bars bars = tt_fit_bars(search->judge);
	TT_TRY(tt_fit_generate(
		search->judge, active, n_active, n[TT_JUDGE_HARMFUL], n[TT_JUDGE_BENIGN], generating, err));
	TT_TRY(tt_fit_score(search->judge, active, n_active, scoring, err));
	if (by_effect)
		TT_TRY(tt_fit_effect(search->judge, active, n_active, "effect", err));
	for (uint32_t i = 0; i < n_active; i++) {
		tt_fit_rate(search->judge, active[i]);
		set_score(&active[i]->figures, &bars, by_effect);
	}
	return TT_OK;
}

/* Judges the candidates on the first n prompts of each kind, sorts them, and drops all but the best keep. */
static int run_round(struct tt_fit_search *search, enum tt_fit_round round, struct tt_candidate **active,
	uint32_t *n_active, const uint32_t n[TT_N_JUDGE_KINDS], uint32_t keep, struct tt_error *err)
{
	static const char *const stages[TT_N_ROUNDS][2] = {{"sites", "fluency of sites"},
		{"strengths", "fluency of strengths"}, {"all prompts", "fluency of all"}};
	TT_TRY(tt_fit_judge_candidates(search, active, *n_active, n, stages[round][0], stages[round][1], err));
	qsort(active, *n_active, sizeof *active, compare);
	if (round == TT_ROUND_SITES)
		keep_another_direction(active, *n_active, keep);
	for (uint32_t i = 0; i < *n_active; i++) {
		active[i]->in_round[round] = active[i]->figures;
		active[i]->took_part[round] = true;
		active[i]->kept[round] = i < keep;
	}
	*n_active = keep < *n_active ? keep : *n_active;
	return TT_OK;
}

/* Scores that differ by less than half a prompt, or as much of a nat, count as equal, and among equals the strongest
 * push wins: within the bars, what a few prompts cannot tell apart, prompts of another form will. */
static void choose(struct tt_fit_search *search, struct tt_candidate **active, uint32_t n)
{
	double margin = 0.5 / search->judge->n[TT_JUDGE_HARMFUL] + 1e-9;
	const struct tt_candidate *best = NULL;
	for (uint32_t i = 0; i < n && !best; i++)
		if (!active[i]->figures.out)
			best = active[i];
	search->within_bars = best != NULL;
	search->why = best ? "the strongest push among the best scores within the bars"
			   : "no candidate met the bars; this one had the best score";
	search->chosen = best ? best : active[0];
	for (uint32_t i = 0; best && i < n; i++)
		if (!active[i]->figures.out && active[i]->figures.score >= best->figures.score - margin &&
			active[i]->push > search->chosen->push)
			search->chosen = active[i];
}

static bool any_within_bars(struct tt_candidate *const *active, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (!active[i]->figures.out)
			return true;
	return false;
}

/* Judges the best of active [n, n_before) that were within the bars on all prompts too. */
static int judge_more(struct tt_fit_search *search, struct tt_candidate **active, uint32_t *n, uint32_t n_before,
	struct tt_error *err)
{
	struct tt_candidate **rest = active + *n;
	uint32_t more = 0;
	for (uint32_t i = 0; i < n_before - *n && more < KEEP_STRENGTHS; i++) {
		struct tt_candidate *c = rest[i];
		if (c->figures.out)
			continue;
		rest[i] = rest[more];
		rest[more++] = c;
		c->kept[TT_ROUND_STRENGTHS] = true;
	}
	if (more > 0)
		TT_TRY(run_round(search, TT_ROUND_ALL, rest, &more, search->judge->n, KEEP_STRENGTHS, err));
	*n += more;
	qsort(active, *n, sizeof *active, compare);
	return TT_OK;
}

static int search_rounds(struct tt_fit_search *search, struct tt_candidate **active, struct tt_error *err)
{
	const uint32_t *all = search->judge->n;
	bool by_effect = search->judge->responses[TT_POSITIVE] != NULL;
	uint32_t n_strengths = by_effect ? 2 * search->max_candidates / 3 : 4 * search->max_candidates / 7;
	uint32_t few[TT_N_JUDGE_KINDS], n = 0;
	for (int kind = 0; kind < TT_N_JUDGE_KINDS; kind++)
		few[kind] = all[kind] < MIN_PROMPTS ? all[kind] : MIN_PROMPTS;
	TT_TRY(tt_fit_add_sites(search, search->max_candidates - n_strengths, err));
	for (; n < search->n_candidates; n++)
		active[n] = &search->candidates[n];
	TT_TRY(run_round(search, TT_ROUND_SITES, active, &n, few, by_effect ? KEEP_STYLE_SITES : KEEP_SITES, err));
	uint32_t n_sites = search->n_candidates;
	TT_TRY(tt_fit_add_strengths(search, active, n, n_strengths, err));
	for (uint32_t i = n_sites; i < search->n_candidates; i++)
		active[n++] = &search->candidates[i];
	uint32_t n_before = n;
	TT_TRY(run_round(search, TT_ROUND_STRENGTHS, active, &n, few, KEEP_STRENGTHS, err));
	TT_TRY(run_round(search, TT_ROUND_ALL, active, &n, all, KEEP_STRENGTHS, err));
	if (!any_within_bars(active, n))
		TT_TRY(judge_more(search, active, &n, n_before, err));
	choose(search, active, n);
	return TT_OK;
}

int tt_fit_search(struct tt_fit_search *search, struct tt_error *err)
{
	struct tt_candidate **active = NULL;
	/* One more for what a search for layer weights may find. */
	TT_TRY(tt_alloc(&search->candidates, (size_t)search->max_candidates + 1, sizeof *search->candidates, err));
	TT_TRY(tt_alloc(&active, search->max_candidates, sizeof(struct tt_candidate *), err));
	int status = search_rounds(search, active, err);
	free(active);
	return status;
}

int tt_fit_search_fixed(struct tt_fit_search *search, const float *weights, double alpha, struct tt_error *err)
{
	bool is_length = tt_fit_operation_of(search->op)->strength == TT_FIT_LENGTH;
	double length = is_length ? tt_push_length(search->directions, weights) / tt_push_unit(search->directions) : 1;
	struct tt_candidate *only = NULL;
	uint32_t n = 1;
	search->max_candidates = 1;
	TT_TRY(tt_alloc(&search->candidates, 1, sizeof *search->candidates, err));
	TT_TRY(tt_fit_add(search, weights, 0, alpha * length, err));
	only = search->candidates;
	TT_TRY(run_round(search, TT_ROUND_ALL, &only, &n, search->judge->n, 1, err));
	search->chosen = only;
	search->within_bars = !only->figures.out;
	search->why = search->within_bars ? "the mode's own push, which is within the bars"
					  : "the mode's own push, which is beyond a bar";
	return TT_OK;
}

void tt_fit_prefer(struct tt_fit_search *search, const struct tt_candidate *found, const char *why)
{
	double margin = 0.5 / search->judge->n[TT_JUDGE_HARMFUL] + 1e-9;
	bool higher = found->figures.score > search->chosen->figures.score + margin;
	if (found->figures.out ? search->within_bars || !higher : search->within_bars && !higher)
		return;
	search->chosen = found;
	search->within_bars = !found->figures.out;
	search->why = why;
}

static void free_candidate(struct tt_candidate *c, const struct tt_fit_judge *judge)
{
	tt_policy_free(c->policy);
	for (uint32_t i = 0; c->harmful && i < judge->n[TT_JUDGE_HARMFUL]; i++)
		tt_completion_free(&c->harmful[i]);
	for (uint32_t i = 0; c->benign && i < judge->n[TT_JUDGE_BENIGN]; i++)
		tt_completion_free(&c->benign[i]);
	free(c->weights);
	free(c->harmful);
	free(c->benign);
}

void tt_fit_search_free(struct tt_fit_search *search)
{
	for (uint32_t i = 0; i < search->n_candidates; i++)
		free_candidate(&search->candidates[i], search->judge);
	free(search->candidates);
	*search = (struct tt_fit_search){0};
}
