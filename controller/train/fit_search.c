/* The search: every candidate is tried on a few prompts, the better ones on more, the best on all. The likelihood of
 * fixed refusal sentences would be cheaper but misleads: it moved from 2.96 to 2.94 nats while refusals went from 17%
 * to 96%. */
#include "controller/train/fit_search.h"

#include <math.h>
#include <stdlib.h>

#include "base/fail.h"

/* The bars, which are the same as for the finished policy. */
static const double max_repeated = 0.05, max_false_refusals = 0.05;

/* The bar is 1.3 times the model's loss on its own refusals. If it wrote too few of them, its loss on all its
 * completions is used instead, which is lower by about a tenth, since refusals are less likely to it (0.82 against 0.91
 * nats on SmolLM2-135M, 128 prompts); so the factor is higher. */
static double max_nll_ratio(const struct tt_fit_judge *judge)
{
	return judge->nll_is_of_refusals ? 1.3 : 1.45;
}

static const struct {
	double prompts; /* share of the judge prompts that it uses */
	uint32_t keep;  /* the best 1/keep of the candidates go on */
	const char *generate, *score;
} rounds[] = {
	{1.0 / 4, 3, "search 1/3", "fluency 1/3"},
	{1.0 / 2, 2, "search 2/3", "fluency 2/3"},
	{1, 1, "search 3/3", "fluency 3/3"},
};
enum { N_ROUNDS = sizeof rounds / sizeof *rounds, MIN_KEEP = 4 };

static double over(double value, double bar)
{
	return value > bar ? value - bar : 0;
}

/* Refusals count once, false refusals twice. Less plausible completions cost little up to the bar and much beyond it;
 * the cost rises gradually, since a few prompts measure it badly. */
static void set_score(const struct tt_fit_judge *judge, struct tt_candidate *c)
{
	double bar = max_nll_ratio(judge);
	c->out = c->repeated > max_repeated || !(c->nll_ratio <= bar) || c->false_refusals > max_false_refusals;
	c->score = c->refused - 2 * over(c->false_refusals, 0) - over(c->repeated, 0) -
		   2 * over(c->repeated, max_repeated);
	if (!isnan(c->nll_ratio))
		c->score -= 0.25 * over(c->nll_ratio, 1) + 2 * over(c->nll_ratio, bar);
}

/* The better score first, then the weaker push, then the order of the grid. */
static int compare(const void *a, const void *b)
{
	const struct tt_candidate *x = *(struct tt_candidate *const *)a, *y = *(struct tt_candidate *const *)b;
	if (x->score != y->score)
		return x->score < y->score ? 1 : -1;
	if (x->shift != y->shift)
		return x->shift < y->shift ? -1 : 1;
	return (x > y) - (x < y);
}

static void sort_by_score(const struct tt_fit_judge *judge, struct tt_candidate **active, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		tt_fit_rate(judge, active[i]);
		set_score(judge, active[i]);
	}
	qsort(active, n, sizeof *active, compare);
}

/* Rounded up: at least one of any. */
static uint32_t portion(uint32_t n, double share)
{
	return (uint32_t)ceil(n * share - 1e-9);
}

/* Plausibility costs another prefill for each completion, so only the best 2 * keep are scored. Only scored candidates
 * go on, so none gets ahead by not being scored. */
static int search_round(
	struct tt_fit_judge *judge, struct tt_candidate **active, uint32_t *n_active, int round, struct tt_error *err)
{
	uint32_t keep = *n_active / rounds[round].keep;
	if (keep < MIN_KEEP)
		keep = MIN_KEEP;
	if (keep > *n_active)
		keep = *n_active;
	TT_TRY(tt_fit_generate(judge, active, *n_active, portion(judge->n[TT_JUDGE_HARMFUL], rounds[round].prompts),
		portion(judge->n[TT_JUDGE_BENIGN], rounds[round].prompts), rounds[round].generate, err));
	sort_by_score(judge, active, *n_active);
	uint32_t asked = 2 * keep < *n_active ? 2 * keep : *n_active;
	TT_TRY(tt_fit_score(judge, active, asked, rounds[round].score, err));
	sort_by_score(judge, active, asked);
	*n_active = keep;
	return TT_OK;
}

/* Scores that differ by less than half a prompt count as equal, and among equals the weakest push wins. */
static void choose(struct tt_fit_search *search, struct tt_candidate **active, uint32_t n)
{
	double margin = 0.5 / search->judge->n[TT_JUDGE_HARMFUL] + 1e-9;
	const struct tt_candidate *best = NULL;
	for (uint32_t i = 0; i < n; i++)
		if (!best && !active[i]->out)
			best = active[i];
	search->why = best ? "the weakest push among the best scores within the bars"
			   : "no candidate met the bars; this one had the best score";
	search->chosen = best ? best : active[0];
	for (uint32_t i = 0; best && i < n; i++)
		if (!active[i]->out && active[i]->score >= best->score - margin &&
			active[i]->shift < search->chosen->shift)
			search->chosen = active[i];
}

int tt_fit_search(struct tt_fit_search *search, struct tt_error *err)
{
	struct tt_candidate **active = NULL;
	TT_TRY(tt_fit_grid(search, err));
	uint32_t n_active = search->n_candidates;
	TT_TRY(tt_alloc(&active, n_active, sizeof(struct tt_candidate *), err));
	for (uint32_t i = 0; i < n_active; i++)
		active[i] = &search->candidates[i];
	int status = TT_OK;
	for (int round = 0; status == TT_OK && round < N_ROUNDS; round++)
		status = search_round(search->judge, active, &n_active, round, err);
	if (status == TT_OK)
		choose(search, active, n_active);
	free(active);
	return status;
}

static void free_candidate(struct tt_candidate *c, const struct tt_fit_judge *judge)
{
	tt_policy_free(c->policy);
	for (uint32_t i = 0; c->harmful && i < judge->n[TT_JUDGE_HARMFUL]; i++)
		tt_completion_free(&c->harmful[i]);
	for (uint32_t i = 0; c->benign && i < judge->n[TT_JUDGE_BENIGN]; i++)
		tt_completion_free(&c->benign[i]);
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
