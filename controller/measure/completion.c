#include "controller/measure/completion.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"

static int compare_fourgrams(const void *a, const void *b)
{
	return memcmp(a, b, 4 * sizeof(int32_t));
}

int tt_count_fourgrams(const int32_t *ids, size_t n_ids, size_t *n_fourgrams, size_t *n_repeated, struct tt_error *err)
{
	int32_t(*grams)[4] = NULL;
	*n_fourgrams = n_ids < 4 ? 0 : n_ids - 3;
	*n_repeated = 0;
	int status = tt_alloc(&grams, *n_fourgrams, sizeof *grams, err);
	if (status != TT_OK)
		return status;
	for (size_t i = 0; i < *n_fourgrams; i++)
		memcpy(grams[i], ids + i, sizeof *grams);
	qsort(grams, *n_fourgrams, sizeof *grams, compare_fourgrams);
	for (size_t i = 1; i < *n_fourgrams; i++)
		*n_repeated += compare_fourgrams(grams[i - 1], grams[i]) == 0;
	free(grams);
	return TT_OK;
}

struct taker {
	struct tt_engine *engine;
	const struct tt_request_options *options;
	struct tt_completion *completions;
};

static void take_decisions(struct tt_completion *c, const struct tt_request *request, uint32_t n_steering)
{
	struct tt_decision decision;
	for (uint32_t i = 0; i < n_steering; i++) {
		if (!tt_request_decision(request, i, &decision))
			continue;
		c->flagged = c->flagged || decision.s > 0.5f; /* not > 0, since an mlp's s is hardly ever exactly 0 */
		if (i == 0) {
			c->decided = true;
			c->s = decision.s;
			c->gate = decision.gate;
		}
	}
}

static int take_completion(void *user, size_t index, struct tt_request *request, struct tt_error *err)
{
	struct taker *t = user;
	struct tt_completion *c = &t->completions[index];
	struct tt_token token;
	size_t n = tt_request_n_generated(request);
	TT_TRY(tt_alloc(&c->ids, n, sizeof *c->ids, err));
	for (c->n_ids = 0; c->n_ids < n && tt_request_next(request, &token); c->n_ids++) {
		c->ids[c->n_ids] = token.id;
		c->logprob += token.logprob;
	}
	take_decisions(c, request, t->options[index].n_steering);
	TT_TRY(tt_text_decode(tt_engine_text(t->engine), c->ids, c->n_ids, &c->text, err));
	c->refused = tt_refuses(c->text);
	c->refused_by_phrases = tt_refuses_by_phrases(c->text);
	return tt_count_fourgrams(c->ids, c->n_ids, &c->n_fourgrams, &c->n_repeated, err);
}

int tt_completions_run(struct tt_engine *engine, const struct tt_request_options *options, size_t n,
	struct tt_completion *out, struct tt_progress *progress, struct tt_error *err)
{
	struct taker taker = {engine, options, out};
	return tt_pump_all(engine, options, n, take_completion, &taker, progress, err);
}

static int take_scores(void *user, size_t index, struct tt_request *request, struct tt_error *err)
{
	struct taker *t = user;
	struct tt_completion *c = &t->completions[index];
	const float *scores = tt_request_scores(request);
	if (!scores)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "the engine gave no scores");
	c->logprob = 0;
	c->greedy = true;
	for (size_t i = 0; i < c->n_ids; i++) {
		size_t at = t->options[index].n_ids + i;
		const int32_t *likeliest;
		const float *logprobs;
		c->logprob += scores[at];
		c->greedy = c->greedy && tt_request_score_top(request, at, &likeliest, &logprobs) &&
			    *likeliest == c->ids[i];
	}
	take_decisions(c, request, t->options[index].n_steering);
	return TT_OK;
}

static int score(struct tt_engine *engine, const struct tt_request_options *options, size_t n, bool steered,
	struct tt_completion *completions, struct tt_progress *progress, struct tt_error *err)
{
	struct taker taker = {engine, options, completions};
	struct tt_request_options *scored = NULL;
	int status = tt_alloc(&scored, n, sizeof *scored, err);
	for (size_t i = 0; status == TT_OK && i < n; i++) {
		const struct tt_completion *c = &completions[i];
		int32_t *ids = NULL;
		tt_request_options_default(&scored[i]);
		status = tt_alloc(&ids, options[i].n_ids + c->n_ids, sizeof *ids, err);
		if (status != TT_OK)
			break;
		memcpy(ids, options[i].ids, options[i].n_ids * sizeof *ids);
		if (c->n_ids)
			memcpy(ids + options[i].n_ids, c->ids, c->n_ids * sizeof *ids);
		scored[i].ids = ids;
		scored[i].n_ids = options[i].n_ids + c->n_ids;
		for (uint32_t k = 0; steered && k < options[i].n_steering; k++)
			scored[i].steering[scored[i].n_steering++] = options[i].steering[k];
		if (steered) {
			scored[i].n_prompt = options[i].n_ids;
			scored[i].mean_from = options[i].mean_from;
			scored[i].mean_to = options[i].mean_to;
			scored[i].when = options[i].when;
		}
		scored[i].score = true;
		scored[i].score_from = options[i].n_ids;
		scored[i].score_top = steered; /* the likeliest id, by which choices are told to be greedy */
	}
	if (status == TT_OK)
		status = tt_pump_all(engine, scored, n, take_scores, &taker, progress, err);
	for (size_t i = 0; scored && i < n; i++)
		free((void *)(uintptr_t)scored[i].ids);
	free(scored);
	return status;
}

int tt_completions_score(struct tt_engine *engine, const struct tt_request_options *options, size_t n,
	struct tt_completion *completions, struct tt_progress *progress, struct tt_error *err)
{
	return score(engine, options, n, false, completions, progress, err);
}

int tt_completions_score_steered(struct tt_engine *engine, const struct tt_request_options *options, size_t n,
	struct tt_completion *completions, struct tt_progress *progress, struct tt_error *err)
{
	return score(engine, options, n, true, completions, progress, err);
}

bool tt_completions_equal(const struct tt_completion *a, const struct tt_completion *b)
{
	return a->n_ids == b->n_ids && (a->n_ids == 0 || memcmp(a->ids, b->ids, a->n_ids * sizeof *a->ids) == 0);
}

int tt_completion_copy(struct tt_completion *out, const struct tt_completion *from, struct tt_error *err)
{
	*out = *from;
	out->ids = NULL;
	out->text = NULL;
	TT_TRY(tt_alloc(&out->ids, from->n_ids, sizeof *out->ids, err));
	if (from->n_ids)
		memcpy(out->ids, from->ids, from->n_ids * sizeof *out->ids);
	return tt_copy_string(&out->text, from->text, strlen(from->text), err);
}

void tt_completion_free(struct tt_completion *completion)
{
	free(completion->ids);
	tt_free(completion->text);
	*completion = (struct tt_completion){0};
}

void tt_tally_add(struct tt_tally *tally, const struct tt_completion *c)
{
	tally->n++;
	tally->n_refused += c->refused;
	tally->n_refused_by_phrases += c->refused_by_phrases;
	tally->n_judged += c->verdict != TT_NO_VERDICT;
	tally->n_judged_refused += c->verdict == TT_REFUSED;
	tally->n_flagged += c->flagged;
	tally->n_tokens += c->n_ids;
	tally->n_fourgrams += c->n_fourgrams;
	tally->n_repeated += c->n_repeated;
	tally->logprob += c->logprob;
}

static double share(size_t part, size_t whole)
{
	return whole ? (double)part / (double)whole : 0;
}

double tt_tally_refused(const struct tt_tally *tally)
{
	return share(tally->n_refused, tally->n);
}

double tt_tally_repeated(const struct tt_tally *tally)
{
	return share(tally->n_repeated, tally->n_fourgrams);
}

double tt_tally_nll(const struct tt_tally *tally)
{
	return tally->n_tokens ? -tally->logprob / (double)tally->n_tokens : 0;
}
