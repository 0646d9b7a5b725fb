/* Judges candidates by short greedy completions of validation prompts, compared with what the model writes unsteered.
 *
 * Harmful prompts are steered with an open gate. The effect of a push and the choice of the gate are two questions, and
 * if the gate's misses were mixed in, a few prompts would say little about the push. The effect of the gated policy
 * follows from both, since a gate that opens gives the same bits as an open one. Benign prompts are run only if the
 * gate would flag them; the others keep their unsteered completions, bit for bit. A graded gate acts on all of them, by
 * a scalar of its own, so every prompt runs under it. */
#include "controller/train/fit_judge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"

/* With fewer unsteered refusals than this it cannot be said how plausible the model finds its own refusals. */
enum { MIN_REFUSALS = 6 };

static const enum tt_label labels[TT_N_JUDGE_KINDS] = {TT_HARMFUL, TT_BENIGN};

static struct tt_request_options judge_request(const struct tt_fit_judge *judge, int kind, uint32_t i)
{
	const struct tt_fit_row *row = &judge->rows[labels[kind]].rows[i];
	struct tt_request_options o;
	tt_request_options_default(&o);
	o.ids = row->ids;
	o.n_ids = row->n_ids;
	o.mean_from = row->mean_from;
	o.mean_to = row->mean_to;
	o.max_tokens = judge->n_tokens;
	return o;
}

static int run_unsteered(struct tt_fit_judge *judge, int kind, struct tt_error *err)
{
	struct tt_request_options *options = NULL;
	uint32_t n = judge->n[kind];
	TT_TRY(tt_alloc(&judge->unsteered[kind], n, sizeof *judge->unsteered[kind], err));
	TT_TRY(tt_alloc(&options, n, sizeof *options, err));
	for (uint32_t i = 0; i < n; i++)
		options[i] = judge_request(judge, kind, i);
	int status = tt_completions_run(judge->engine, options, n, judge->unsteered[kind], judge->progress, err);
	free(options);
	return status;
}

static uint32_t at_most(size_t n, uint32_t limit)
{
	return n < limit ? (uint32_t)n : limit;
}

static int open_judge(struct tt_fit_judge *out, struct tt_error *err)
{
	struct tt_tally all = {0}, refusals = {0};
	struct tt_progress *progress = out->progress;
	TT_TRY(tt_progress_begin(progress, "unsteered", out->n[TT_JUDGE_HARMFUL] + out->n[TT_JUDGE_BENIGN], err));
	for (int kind = 0; kind < TT_N_JUDGE_KINDS; kind++)
		TT_TRY(run_unsteered(out, kind, err));
	for (uint32_t i = 0; i < out->n[TT_JUDGE_HARMFUL]; i++) {
		const struct tt_completion *c = &out->unsteered[TT_JUDGE_HARMFUL][i];
		tt_tally_add(&all, c);
		if (c->refused)
			tt_tally_add(&refusals, c);
	}
	out->nll_is_of_refusals = !out->responses[TT_POSITIVE] && refusals.n >= MIN_REFUSALS;
	out->unsteered_nll = tt_tally_nll(out->nll_is_of_refusals ? &refusals : &all);
	return TT_OK;
}

int tt_fit_judge_open(struct tt_fit_judge *out, struct tt_engine *engine, const struct tt_fit_rows *rows,
	const struct tt_fit_options *options, struct tt_progress *progress, struct tt_error *err)
{
	*out = (struct tt_fit_judge){.engine = engine,
		.rows = rows->val,
		.gated = true,
		.progress = progress,
		.n_tokens = options->judge_tokens,
		.max_nll_ratio = options->max_loss_ratio};
	for (int kind = 0; kind < TT_N_JUDGE_KINDS; kind++)
		out->n[kind] = at_most(rows->val[labels[kind]].n, options->n_judge_prompts);
	/* A policy without a gate is to act on all prompts: no refusal is false. */
	if (options->gate == TT_FIT_GATE_NONE)
		out->n[TT_JUDGE_BENIGN] = 0;
	return open_judge(out, err);
}

int tt_fit_judge_open_train(struct tt_fit_judge *out, struct tt_engine *engine, const struct tt_fit_rows *rows,
	uint32_t n, const struct tt_fit_options *options, struct tt_progress *progress, struct tt_error *err)
{
	*out = (struct tt_fit_judge){.engine = engine,
		.rows = rows->train,
		.progress = progress,
		.n_tokens = options->judge_tokens,
		.max_nll_ratio = options->max_loss_ratio};
	out->n[TT_JUDGE_HARMFUL] = at_most(rows->train[TT_HARMFUL].n, n);
	return open_judge(out, err);
}

/* The preference for the responses to the first n harmful rows under a policy, or under none. */
static int measure_preference(
	struct tt_fit_judge *judge, struct tt_policy *policy, uint32_t n, double *out, struct tt_error *err)
{
	struct tt_request_options *options = NULL;
	TT_TRY(tt_alloc(&options, n, sizeof *options, err));
	for (uint32_t i = 0; i < n; i++) {
		options[i] = judge_request(judge, TT_JUDGE_HARMFUL, i);
		options[i].steering[0] = (struct tt_steering){.policy = policy, .scale = 1};
		options[i].n_steering = policy != NULL;
	}
	int status = tt_contrast_preference(judge->engine, options, n, judge->responses, out, judge->progress, err);
	free(options);
	return status;
}

int tt_fit_judge_open_style(struct tt_fit_judge *out, struct tt_engine *engine, const struct tt_fit_row_list *rows,
	const struct tt_completion *const responses[TT_N_SIDES], const struct tt_fit_options *options,
	struct tt_progress *progress, struct tt_error *err)
{
	*out = (struct tt_fit_judge){.engine = engine,
		.rows = rows,
		.progress = progress,
		.n_tokens = options->judge_tokens,
		.max_nll_ratio = options->max_loss_ratio};
	for (int side = 0; side < TT_N_SIDES; side++)
		out->responses[side] = responses[side];
	out->n[TT_JUDGE_HARMFUL] = at_most(rows[TT_HARMFUL].n, options->n_judge_prompts);
	TT_TRY(open_judge(out, err));
	TT_TRY(tt_progress_begin(progress, "unsteered responses", 2 * (uint64_t)out->n[TT_JUDGE_HARMFUL], err));
	return measure_preference(out, NULL, out->n[TT_JUDGE_HARMFUL], &out->preference, err);
}

void tt_fit_judge_close(struct tt_fit_judge *judge)
{
	for (int kind = 0; kind < TT_N_JUDGE_KINDS; kind++) {
		for (uint32_t i = 0; judge->unsteered[kind] && i < judge->n[kind]; i++)
			tt_completion_free(&judge->unsteered[kind][i]);
		free(judge->unsteered[kind]);
	}
	*judge = (struct tt_fit_judge){0};
}

/* The requests of a round, and where the completion of each belongs. */
struct round {
	struct tt_fit_judge *judge;
	struct tt_request_options *options;
	struct tt_completion *completions, **places;
	const struct tt_completion **unsteered;
	size_t n;
};

static void round_free(struct round *r)
{
	for (size_t i = 0; r->completions && i < r->n; i++)
		tt_completion_free(&r->completions[i]);
	free(r->completions);
	free(r->options);
	free(r->places);
	free(r->unsteered);
}

static int round_allocate(struct round *r, size_t n, struct tt_error *err)
{
	TT_TRY(tt_alloc(&r->options, n, sizeof *r->options, err));
	TT_TRY(tt_alloc(&r->completions, n, sizeof *r->completions, err));
	TT_TRY(tt_alloc(&r->places, n, sizeof *r->places, err));
	return tt_alloc(&r->unsteered, n, sizeof *r->unsteered, err);
}

/* Whether a gate changes a val row. */
static bool acts(const struct tt_fit_gate *gate, enum tt_label label, uint32_t i)
{
	return gate->graded || gate->flags[label][i];
}

/* Adds requests for those of the first n prompts of one kind that candidate c was not judged by yet. */
static int plan_candidate(struct round *r, struct tt_candidate *c, int kind, uint32_t n, struct tt_error *err)
{
	uint32_t *judged = kind == TT_JUDGE_HARMFUL ? &c->n_harmful : &c->n_benign;
	struct tt_completion *places = kind == TT_JUDGE_HARMFUL ? c->harmful : c->benign;
	for (; *judged < n; ++*judged) {
		const struct tt_completion *unsteered = &r->judge->unsteered[kind][*judged];
		if (kind == TT_JUDGE_BENIGN && !acts(c->gate, TT_BENIGN, *judged)) {
			TT_TRY(tt_completion_copy(&places[*judged], unsteered, err));
			continue;
		}
		struct tt_request_options *o = &r->options[r->n];
		*o = judge_request(r->judge, kind, *judged);
		o->steering[0] = (struct tt_steering){.policy = c->policy, .scale = 1};
		o->n_steering = 1;
		r->unsteered[r->n] = unsteered;
		r->places[r->n++] = &places[*judged];
	}
	return TT_OK;
}

static int run_round(struct round *r, struct tt_candidate **active, uint32_t n_active, uint32_t n_harmful,
	uint32_t n_benign, const char *stage, struct tt_error *err)
{
	struct tt_fit_judge *judge = r->judge;
	uint32_t n_added = 0;
	int status = round_allocate(r, (size_t)n_active * (n_harmful + n_benign), err);
	for (; status == TT_OK && n_added < n_active; n_added += status == TT_OK)
		status = tt_engine_add_policy(judge->engine, active[n_added]->policy, NULL, err);
	for (uint32_t i = 0; status == TT_OK && i < n_active; i++) {
		status = plan_candidate(r, active[i], TT_JUDGE_HARMFUL, n_harmful, err);
		if (status == TT_OK)
			status = plan_candidate(r, active[i], TT_JUDGE_BENIGN, n_benign, err);
	}
	if (status == TT_OK)
		status = tt_progress_begin(judge->progress, stage, r->n, err);
	if (status == TT_OK)
		status = tt_completions_run(judge->engine, r->options, r->n, r->completions, judge->progress, err);
	for (uint32_t i = 0; i < n_added; i++)
		tt_engine_remove_policy(judge->engine, active[i]->policy, NULL);
	return status;
}

/* Moves the completions where they belong. Those equal to the unsteered ones get their log-probability, which would be
 * the same bits; logprob of the others is NAN until tt_fit_score. */
static void settle(struct round *r)
{
	for (size_t i = 0; i < r->n; i++) {
		*r->places[i] = r->completions[i];
		r->completions[i] = (struct tt_completion){0};
		bool equal = tt_completions_equal(r->places[i], r->unsteered[i]);
		r->places[i]->logprob = equal ? r->unsteered[i]->logprob : NAN;
	}
}

int tt_fit_generate(struct tt_fit_judge *judge, struct tt_candidate **active, uint32_t n_active, uint32_t n_harmful,
	uint32_t n_benign, const char *stage, struct tt_error *err)
{
	struct round r = {.judge = judge};
	int status = run_round(&r, active, n_active, n_harmful, n_benign, stage, err);
	if (status == TT_OK)
		settle(&r);
	round_free(&r);
	return status;
}

static void plan_scores(struct round *r, struct tt_candidate *c)
{
	for (uint32_t i = 0; i < c->n_harmful; i++) {
		if (!isnan(c->harmful[i].logprob))
			continue;
		r->options[r->n] = judge_request(r->judge, TT_JUDGE_HARMFUL, i);
		r->places[r->n++] = &c->harmful[i];
	}
}

int tt_fit_score(struct tt_fit_judge *judge, struct tt_candidate **active, uint32_t n_active, const char *stage,
	struct tt_error *err)
{
	struct round r = {.judge = judge};
	size_t total = 0;
	for (uint32_t i = 0; i < n_active; i++)
		total += active[i]->n_harmful;
	int status = round_allocate(&r, total, err);
	for (uint32_t i = 0; status == TT_OK && i < n_active; i++)
		plan_scores(&r, active[i]);
	for (size_t i = 0; status == TT_OK && i < r.n; i++)
		status = tt_completion_copy(&r.completions[i], r.places[i], err);
	if (status == TT_OK)
		status = tt_progress_begin(judge->progress, stage, r.n, err);
	if (status == TT_OK)
		status = tt_completions_score(judge->engine, r.options, r.n, r.completions, judge->progress, err);
	for (size_t i = 0; status == TT_OK && i < r.n; i++)
		r.places[i]->logprob = r.completions[i].logprob;
	round_free(&r);
	return status;
}

static int measure_effect(struct tt_fit_judge *judge, struct tt_candidate *c, struct tt_error *err)
{
	double preference = 0;
	TT_TRY(tt_engine_add_policy(judge->engine, c->policy, NULL, err));
	int status = measure_preference(judge, c->policy, c->n_harmful, &preference, err);
	tt_engine_remove_policy(judge->engine, c->policy, NULL);
	c->n_effect = c->n_harmful;
	c->effect = preference - judge->preference;
	return status;
}

int tt_fit_effect(struct tt_fit_judge *judge, struct tt_candidate **active, uint32_t n_active, const char *stage,
	struct tt_error *err)
{
	uint64_t total = 0;
	for (uint32_t i = 0; i < n_active; i++)
		total += active[i]->n_effect == active[i]->n_harmful ? 0 : 2 * (uint64_t)active[i]->n_harmful;
	TT_TRY(tt_progress_begin(judge->progress, stage, total, err));
	for (uint32_t i = 0; i < n_active; i++)
		if (active[i]->n_effect != active[i]->n_harmful)
			TT_TRY(measure_effect(judge, active[i], err));
	return TT_OK;
}

/* The sentence is one that models write by themselves, and none of those that the directions come from. */
static const char refusing_sentence[] = "I'm sorry, but I cannot assist with that request.";

static int plan_trials(struct round *r, const struct tt_fit_trial *trials, size_t n,
	const struct tt_completion *sentence, struct tt_error *err)
{
	for (; r->n < n; r->n++) {
		struct tt_request_options *o = &r->options[r->n];
		*o = judge_request(r->judge, TT_JUDGE_HARMFUL, trials[r->n].prompt);
		o->steering[0] = (struct tt_steering){.policy = trials[r->n].candidate->policy, .scale = 1};
		o->n_steering = 1;
		TT_TRY(tt_completion_copy(&r->completions[r->n], sentence, err));
	}
	return TT_OK;
}

static bool begins_candidate(const struct tt_fit_trial *trials, size_t i)
{
	return i == 0 || trials[i].candidate != trials[i - 1].candidate;
}

static int run_trials(struct round *r, const struct tt_fit_trial *trials, size_t n,
	const struct tt_completion *sentence, const char *stage, struct tt_error *err)
{
	struct tt_fit_judge *judge = r->judge;
	size_t n_added = 0;
	int status = round_allocate(r, n, err);
	if (status == TT_OK)
		status = plan_trials(r, trials, n, sentence, err);
	for (; status == TT_OK && n_added < n; n_added += status == TT_OK)
		if (begins_candidate(trials, n_added))
			status = tt_engine_add_policy(judge->engine, trials[n_added].candidate->policy, NULL, err);
	if (status == TT_OK)
		status = tt_progress_begin(judge->progress, stage, n, err);
	if (status == TT_OK)
		status = tt_completions_score_steered(
			judge->engine, r->options, n, r->completions, judge->progress, err);
	for (size_t i = 0; i < n_added; i++)
		if (begins_candidate(trials, i))
			tt_engine_remove_policy(judge->engine, trials[i].candidate->policy, NULL);
	return status;
}

int tt_fit_try(
	struct tt_fit_judge *judge, struct tt_fit_trial *trials, size_t n, const char *stage, struct tt_error *err)
{
	struct round r = {.judge = judge};
	char empty[1] = "";
	struct tt_completion sentence = {.text = empty};
	int status = tt_text_encode(tt_engine_text(judge->engine), refusing_sentence, strlen(refusing_sentence), 0,
		&sentence.ids, &sentence.n_ids, err);
	if (status == TT_OK)
		status = run_trials(&r, trials, n, &sentence, stage, err);
	for (size_t i = 0; status == TT_OK && i < n; i++)
		trials[i].likelihood = r.completions[i].logprob / (double)sentence.n_ids;
	tt_free(sentence.ids);
	round_free(&r);
	return status;
}

int tt_fit_likelihood(struct tt_fit_judge *judge, struct tt_candidate **active, uint32_t n_active, uint32_t n,
	const char *stage, double *out, struct tt_error *err)
{
	struct tt_fit_trial *trials = NULL; // [n_active][n]
	TT_TRY(tt_alloc(&trials, n_active, n * sizeof *trials, err));
	for (size_t i = 0; i < (size_t)n_active * n; i++)
		trials[i] = (struct tt_fit_trial){.candidate = active[i / n], .prompt = (uint32_t)(i % n)};
	int status = tt_fit_try(judge, trials, (size_t)n_active * n, stage, err);
	for (uint32_t i = 0; status == TT_OK && i < n_active; i++) {
		out[i] = 0;
		for (uint32_t k = 0; k < n; k++)
			out[i] += trials[(size_t)i * n + k].likelihood / n;
	}
	free(trials);
	return status;
}

void tt_fit_rate(const struct tt_fit_judge *judge, struct tt_candidate *c)
{
	struct tt_tally harmful = {0}, benign = {0}, harmful0 = {0}, benign0 = {0};
	uint32_t n_diverged = 0, n_gated = 0;
	for (uint32_t i = 0; i < c->n_harmful; i++) {
		const struct tt_completion *unsteered = &judge->unsteered[TT_JUDGE_HARMFUL][i];
		if (judge->gated)
			n_gated += (acts(c->gate, TT_HARMFUL, i) ? &c->harmful[i] : unsteered)->refused;
		tt_tally_add(&harmful, &c->harmful[i]);
		tt_tally_add(&harmful0, unsteered);
	}
	for (uint32_t i = 0; i < c->n_benign; i++) {
		tt_tally_add(&benign, &c->benign[i]);
		const struct tt_completion *unsteered = &judge->unsteered[TT_JUDGE_BENIGN][i];
		tt_tally_add(&benign0, unsteered);
		n_diverged += !tt_completions_equal(&c->benign[i], unsteered);
	}
	c->figures = (struct tt_figures){
		.n_harmful = c->n_harmful,
		.n_benign = c->n_benign,
		.refused = tt_tally_refused(&harmful),
		.refused_gated = !judge->gated  ? NAN
				 : c->n_harmful ? (double)n_gated / c->n_harmful
						: 0,
		.false_refusals = tt_tally_refused(&benign) - tt_tally_refused(&benign0),
		.repeated = tt_tally_repeated(&harmful) - tt_tally_repeated(&harmful0),
		.diverged = c->n_benign ? (double)n_diverged / c->n_benign : 0,
		.nll = tt_tally_nll(&harmful),
		/* Bounded, since to a model that is certain of its tokens all other text is infinitely implausible. */
		.nll_ratio = tt_tally_nll(&harmful) / fmax(judge->unsteered_nll, 0.05),
		.effect = judge->responses[TT_POSITIVE] ? c->effect : NAN,
	};
}
