/* tt_fit: reads the prompts (fit_data.c); takes the mean difference between refusing and answering as directions
 * (fit_directions.c); trains probes that separate harmful prompts from benign ones (fit_probe.c); then tries bands of
 * layers, strengths and whens (fit_search.c), judged by what the model writes under them (fit_judge.c). */
#include "controller/train/fit.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fail.h"

void tt_fit_options_default(struct tt_fit_options *options)
{
	if (!options)
		return;
	*options = (struct tt_fit_options){
		.n_direction_prompts = 48,
		.n_probe_prompts = 400,
		.n_judge_prompts = 32,
		.judge_tokens = 24,
		.max_candidates = 40,
		.max_false_positives = 0.03f,
		.when = TT_WHEN_POLICY,
	};
}

const char *tt_fit_name(const struct tt_fit *fit)
{
	return fit->options->name ? fit->options->name : "policy";
}

static int in_range(const char *name, uint32_t value, uint32_t min, uint32_t max, struct tt_error *err)
{
	if (value < min || value > max)
		return tt_fail(err, TT_ERR_ARGUMENT, "%s must be from %u to %u, not %u", name, min, max, value);
	return TT_OK;
}

static int check_options(const struct tt_fit_options *o, struct tt_error *err)
{
	if (o->name && (!*o->name || strlen(o->name) > TT_MAX_POLICY_NAME))
		return tt_fail(err, TT_ERR_ARGUMENT, "the name of a policy must be 1 to %d bytes", TT_MAX_POLICY_NAME);
	TT_TRY(in_range("direction prompts", o->n_direction_prompts, 1, 100000, err));
	TT_TRY(in_range("probe prompts", o->n_probe_prompts, 2, 100000, err));
	TT_TRY(in_range("judge prompts", o->n_judge_prompts, 1, 10000, err));
	TT_TRY(in_range("judge tokens", o->judge_tokens, 4, 1024, err));
	TT_TRY(in_range("candidates", o->max_candidates, 1, 1000, err));
	if (!(o->max_false_positives >= 0 && o->max_false_positives <= 0.5f))
		return tt_fail(err, TT_ERR_ARGUMENT, "max_false_positives must be a share from 0 to 0.5");
	if (o->when < TT_WHEN_POLICY || o->when > TT_WHEN_ALL)
		return tt_fail(err, TT_ERR_ARGUMENT, "when is not one of generation, last and all");
	return TT_OK;
}

static int run(struct tt_fit *fit, struct tt_error *err)
{
	TT_TRY(check_options(fit->options, err));
	TT_TRY(tt_fit_data(fit, err));
	TT_TRY(tt_fit_directions(fit, err));
	TT_TRY(tt_fit_probes(fit, err));
	return tt_fit_search(fit, err);
}

/* Fills in the policy's provenance. Only `created` depends on the clock. */
static int sign(const struct tt_fit *fit, struct tt_policy *policy, struct tt_error *err)
{
	char now[TT_DATE_BYTES];
	tt_date_now(now);
	TT_TRY(tt_policy_set_text(&policy->created, now, err));
	free(policy->fitted_on);
	policy->fitted_on = NULL;
	return tt_fit_sources(fit, &policy->fitted_on, err);
}

int tt_fit(struct tt_policy **out, struct tt_engine *engine, const struct tt_fit_options *options, char **report,
	struct tt_error *err)
{
	if (report)
		*report = NULL;
	TT_TRY(tt_need(out, "out", err));
	*out = NULL;
	TT_TRY(tt_need(engine, "engine", err));
	TT_TRY(tt_need(options, "options", err));
	struct tt_fit fit = {.engine = engine,
		.options = options,
		.info = tt_engine_info(engine),
		.progress = {.fn = options->progress, .user = options->user}};
	double start = tt_now();
	int status = run(&fit, err);
	if (status == TT_OK)
		status = tt_fit_policy(&fit, fit.chosen, true, out, err);
	if (status == TT_OK)
		status = sign(&fit, *out, err);
	if (status == TT_OK && report)
		status = tt_fit_report(&fit, tt_now() - start, report, err);
	if (status != TT_OK) {
		tt_policy_free(*out);
		*out = NULL;
	}
	tt_fit_close(&fit);
	return status;
}

static void close_candidate(struct tt_fit *fit, struct tt_candidate *c)
{
	tt_policy_free(c->policy);
	for (uint32_t i = 0; c->harmful && i < fit->n_judge[0]; i++)
		tt_completion_free(&c->harmful[i]);
	for (uint32_t i = 0; c->benign && i < fit->n_judge[1]; i++)
		tt_completion_free(&c->benign[i]);
	free(c->harmful);
	free(c->benign);
}

static void close_rows(struct tt_fit_rows *rows)
{
	for (size_t i = 0; i < rows->n; i++)
		tt_free(rows->rows[i].ids);
	free(rows->rows);
}

void tt_fit_close(struct tt_fit *fit)
{
	for (uint32_t i = 0; i < fit->n_candidates; i++)
		close_candidate(fit, &fit->candidates[i]);
	free(fit->candidates);
	for (int k = 0; k < 2; k++) {
		for (uint32_t i = 0; fit->baseline[k] && i < fit->n_judge[k]; i++)
			tt_completion_free(&fit->baseline[k][i]);
		free(fit->baseline[k]);
	}
	for (uint32_t i = 0; i < fit->n_probes; i++)
		free(fit->probes[i].w);
	free(fit->probes);
	free(fit->directions);
	free(fit->stream_norms);
	for (int label = 0; label < TT_N_LABELS; label++) {
		close_rows(&fit->train[label]);
		close_rows(&fit->val[label]);
		free(fit->held_logits[label]);
	}
	tt_prompts_free(&fit->prompts);
}
