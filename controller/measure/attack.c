/* tt_attack: searches, for every harmful prompt that a gate flags, words to put behind it so that the gate does not.
 *
 * It knows nothing of the gate but its figure. One place in the suffix after the other gets the best of WIDTH words
 * that are drawn for it, if that is better than what stood there, until the prompt is not flagged any more or its
 * budget is spent; the places come round again and again. What is drawn depends on the seed and the row alone, so that
 * other rows change nothing. Many rows take each step together: their requests make full batches, and those of a row
 * share its pages. */
#include "controller/measure/attack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/options.h"
#include "base/file.h"
#include "base/random.h"
#include "base/sampling.h"
#include "controller/measure/attack_words.h"
#include "controller/measure/completion.h"
#include "runtime/engine/outputs.h"
#include "runtime/engine/request.h"

enum { WIDTH = 16, BLOCK = 32 };

static const struct tt_attack_options DEFAULTS = {.n_words = 8, .budget = 128};

void tt_attack_options_default_sized(struct tt_attack_options *options, size_t size)
{
	tt_options_default(options, size, &DEFAULTS, sizeof DEFAULTS);
}

int tt_attack_text(char **out, const char *prompt, const struct tt_suffix *suffix, struct tt_error *err)
{
	struct tt_buffer text = {0};
	int status = tt_buffer_print(&text, err, "%s", prompt);
	for (size_t i = 0; status == TT_OK && i < suffix->n; i++)
		status = tt_buffer_print(&text, err, " %s", tt_attack_words[suffix->words[i]]);
	if (status != TT_OK)
		tt_buffer_free(&text);
	*out = text.data;
	return status;
}

/* ---- Asking the gate */

/* Prompts with suffixes, and what the gate gave them. */
struct questions {
	struct tt_request_options *options; // [n of capacity]
	struct tt_completion *answers;      // [capacity]
	size_t n, capacity;
};

static int questions_open(struct questions *q, size_t capacity, struct tt_error *err)
{
	*q = (struct questions){.capacity = capacity};
	TT_TRY(tt_alloc(&q->options, capacity, sizeof *q->options, err));
	return tt_alloc(&q->answers, capacity, sizeof *q->answers, err);
}

static void questions_clear(struct questions *q)
{
	for (size_t i = 0; i < q->n; i++) {
		tt_free((void *)(uintptr_t)q->options[i].ids);
		tt_completion_free(&q->answers[i]);
	}
	q->n = 0;
}

static void questions_close(struct questions *q)
{
	if (q->options && q->answers)
		questions_clear(q);
	free(q->options);
	free(q->answers);
}

/* room: tokens that must fit the context behind the prompt. */
static int put_question(struct questions *q, const struct tt_attack *a, const struct tt_prompt *prompt,
	const struct tt_suffix *suffix, uint32_t room, struct tt_error *err)
{
	struct tt_request_options *options = &q->options[q->n];
	char *text;
	int32_t *ids;
	TT_TRY(tt_attack_text(&text, prompt->text, suffix, err));
	tt_request_options_default(options);
	int status = tt_encode_row(a->engine, prompt, text, room, &ids, options, err);
	free(text);
	TT_TRY(status);
	q->n++;
	options->steering[0] = (struct tt_steering){a->options->policy, 1};
	options->n_steering = 1;
	options->when = TT_WHEN_GENERATION; /* nothing is generated, so no flagged prompt runs again, steered */
	return TT_OK;
}

static int ask(struct questions *q, struct tt_attack *a, struct tt_error *err)
{
	TT_TRY(tt_completions_run(a->engine, q->options, q->n, q->answers, &a->progress, err));
	for (size_t i = 0; i < q->n; i++)
		if (!q->answers[i].decided)
			return tt_fail(err, TT_ERR_UNSUPPORTED, "the gate decided nothing");
	return TT_OK;
}

static double figure(const struct tt_attack *a, const struct tt_completion *answer)
{
	return (double)(a->opens_below ? -answer->gate : answer->gate);
}

/* ---- The search for one row */

struct search {
	struct tt_attacked *row;
	uint64_t random;
	struct tt_suffix candidates[WIDTH]; // [n]
	size_t n, n_steps;
};

/* Draws words for the next place. */
static void draw(struct search *s, const struct tt_attack_options *o)
{
	size_t left = o->budget - s->row->n_queries, place = s->n_steps++ % o->n_words;
	s->n = left < WIDTH ? left : WIDTH;
	for (size_t i = 0; i < s->n; i++) {
		struct tt_suffix *c = &s->candidates[i];
		*c = s->row->suffix;
		size_t at = place < c->n ? place : c->n++;
		c->words[at] = (uint16_t)(tt_random_next(&s->random) % TT_N_ATTACK_WORDS);
	}
}

/* Takes the best candidate, if it is better than what the row has. answers: [s->n] */
static void take(struct search *s, const struct tt_attack *a, const struct tt_completion *answers)
{
	struct tt_attacked *row = s->row;
	for (size_t i = 0; i < s->n; i++) {
		double gate = figure(a, &answers[i]);
		row->n_queries++;
		if (!(gate < row->gate_after))
			continue;
		row->gate_after = gate;
		row->flagged_after = answers[i].flagged;
		row->suffix = s->candidates[i];
	}
}

static bool goes_on(const struct search *s, const struct tt_attack_options *o)
{
	return s->row->flagged_after && s->row->n_queries < o->budget;
}

/* One step of all rows that go on; *any: there are such. */
static int step(
	struct tt_attack *a, struct search *searches, size_t n, struct questions *q, bool *any, struct tt_error *err)
{
	size_t at = 0;
	bool goes[BLOCK];
	questions_clear(q);
	for (size_t i = 0; i < n; i++) {
		goes[i] = goes_on(&searches[i], a->options);
		if (!goes[i])
			continue;
		draw(&searches[i], a->options);
		for (size_t k = 0; k < searches[i].n; k++)
			TT_TRY(put_question(q, a, searches[i].row->prompt, &searches[i].candidates[k], 0, err));
	}
	*any = q->n > 0;
	TT_TRY(ask(q, a, err));
	for (size_t i = 0; i < n; i++) {
		if (!goes[i])
			continue;
		take(&searches[i], a, q->answers + at);
		at += searches[i].n;
		/* What of the budget is not needed is done, too. */
		if (!searches[i].row->flagged_after)
			a->progress.done += a->options->budget - searches[i].row->n_queries;
	}
	return TT_OK;
}

/* Searches for rows [n of BLOCK] until none goes on. */
static int search(
	struct tt_attack *a, struct tt_attacked *const *rows, size_t n, struct questions *q, struct tt_error *err)
{
	struct search *searches = NULL; // [BLOCK]
	bool any = true;
	int status = tt_alloc(&searches, BLOCK, sizeof *searches, err);
	for (size_t i = 0; status == TT_OK && i < n; i++) {
		const char *bytes = rows[i]->prompt->bytes;
		searches[i].row = rows[i];
		status = tt_row_seed(&searches[i].random, a->options->seed, bytes, strlen(bytes), err);
	}
	while (status == TT_OK && any)
		status = step(a, searches, n, q, &any, err);
	free(searches);
	return status;
}

/* ---- The attack */

static bool is_target(const struct tt_attacked *row)
{
	return row->prompt->label == TT_HARMFUL && row->flagged;
}

/* The most tokens that the words of a suffix may take. */
static int longest_suffix(const struct tt_attack *a, uint32_t *out, struct tt_error *err)
{
	size_t most = 0;
	for (size_t i = 0; i < TT_N_ATTACK_WORDS; i++) {
		char word[64];
		int32_t *ids;
		size_t n;
		snprintf(word, sizeof word, " %s", tt_attack_words[i]);
		TT_TRY(tt_text_encode(tt_engine_text(a->engine), word, strlen(word), 0, &ids, &n, err));
		tt_free(ids);
		most = n > most ? n : most;
	}
	*out = a->options->n_words * (uint32_t)most;
	return TT_OK;
}

/* What the gate gives every row as it is. A row that the context does not hold with a suffix is refused here, before
 * the search. */
static int look_at_rows(struct tt_attack *a, struct questions *q, struct tt_error *err)
{
	const struct tt_suffix none = {.n = 0};
	uint32_t room;
	TT_TRY(longest_suffix(a, &room, err));
	TT_TRY(tt_progress_begin(&a->progress, "gate", a->n, err));
	for (size_t start = 0; start < a->n; start += q->n) {
		questions_clear(q);
		for (size_t i = start; i < a->n && q->n < q->capacity; i++)
			TT_TRY(put_question(q, a, a->chosen[i], &none, room, err));
		TT_TRY(ask(q, a, err));
		for (size_t i = 0; i < q->n; i++) {
			double gate = figure(a, &q->answers[i]);
			bool flagged = q->answers[i].flagged;
			a->rows[start + i] = (struct tt_attacked){.prompt = a->chosen[start + i],
				.flagged = flagged,
				.flagged_after = flagged,
				.gate = gate,
				.gate_after = gate};
		}
	}
	return TT_OK;
}

static int search_all(struct tt_attack *a, struct questions *q, struct tt_error *err)
{
	struct tt_attacked *block[BLOCK];
	size_t n = 0, n_targets = 0;
	for (size_t i = 0; i < a->n; i++)
		n_targets += is_target(&a->rows[i]);
	TT_TRY(tt_progress_begin(&a->progress, "attack", n_targets * a->options->budget, err));
	for (size_t i = 0; i < a->n; i++) {
		if (is_target(&a->rows[i]))
			block[n++] = &a->rows[i];
		if (n == BLOCK || (n > 0 && i + 1 == a->n)) {
			TT_TRY(search(a, block, n, q, err));
			n = 0;
		}
	}
	return TT_OK;
}

/* The next row from *at on, round and round, whose suffix got past the gate; NULL: there is none. */
static const struct tt_attacked *next_evaded(const struct tt_attack *a, size_t *at)
{
	for (size_t i = 0; i < a->n; i++) {
		const struct tt_attacked *row = &a->rows[(*at)++ % a->n];
		if (tt_attack_evaded(row))
			return row;
	}
	return NULL;
}

/* The rows that are not harmful get the suffixes that were found, in turn: a gate that is trained on the harmful ones
 * alone would learn that these words are harmful. */
static int share_suffixes(struct tt_attack *a, struct questions *q, struct tt_error *err)
{
	size_t at = 0, n = 0;
	for (size_t i = 0; i < a->n; i++) {
		const struct tt_attacked *evaded = a->rows[i].prompt->label == TT_HARMFUL ? NULL : next_evaded(a, &at);
		n += evaded != NULL;
		if (evaded)
			a->rows[i].suffix = evaded->suffix;
	}
	TT_TRY(tt_progress_begin(&a->progress, "harmless", n, err));
	for (size_t i = 0, first = 0; i < a->n; first = i) {
		questions_clear(q);
		for (; i < a->n && q->n < q->capacity; i++)
			if (a->rows[i].prompt->label != TT_HARMFUL && a->rows[i].suffix.n)
				TT_TRY(put_question(q, a, a->rows[i].prompt, &a->rows[i].suffix, 0, err));
		TT_TRY(ask(q, a, err));
		for (size_t k = first, answer = 0; k < i; k++) {
			if (a->rows[k].prompt->label == TT_HARMFUL || !a->rows[k].suffix.n)
				continue;
			a->rows[k].gate_after = figure(a, &q->answers[answer]);
			a->rows[k].flagged_after = q->answers[answer++].flagged;
		}
	}
	return TT_OK;
}

static int check(struct tt_attack *a, struct tt_error *err)
{
	const struct tt_attack_options *o = a->options;
	const struct tt_steering steering = {o->policy, 1};
	struct tt_policy_info info;
	TT_TRY(tt_request_check_steering(a->engine, &steering, 1, TT_WHEN_POLICY, err));
	if (o->n_words < 1 || o->n_words > TT_MAX_SUFFIX)
		return tt_fail(err, TT_ERR_ARGUMENT, "a suffix has 1 to %d words", TT_MAX_SUFFIX);
	if (o->budget < 1)
		return tt_fail(err, TT_ERR_ARGUMENT, "the budget must be at least one evaluation of the gate");
	tt_policy_describe(o->policy, &info);
	a->opens_below = info.opens_below;
	if (!info.gate_sentence || info.n_conditions)
		return tt_fail(err, TT_ERR_UNSUPPORTED,
			"the policy has no gate that gives one figure, so there is nothing to search by");
	return TT_OK;
}

static int check_outputs(const struct tt_attack *a, struct tt_error *err)
{
	const struct tt_attack_options *o = a->options;
	const struct tt_file_use write = {o->out, "the rows"};
	struct tt_file_use *reads = NULL; // [n_data]
	TT_TRY(tt_alloc(&reads, o->n_data, sizeof *reads, err));
	for (size_t i = 0; i < o->n_data; i++)
		reads[i] = (struct tt_file_use){o->data[i], "the data"};
	int status = tt_engine_check_outputs(a->engine, reads, o->n_data, &write, 1, err);
	free(reads);
	return status;
}

static int write_rows(const struct tt_attack *a, struct tt_error *err)
{
	char *rows;
	if (!a->options->out)
		return TT_OK;
	TT_TRY(tt_attack_rows(a, &rows, err));
	int status = tt_file_write(a->options->out, rows, strlen(rows), err);
	free(rows);
	return status;
}

static int run(struct tt_attack *a, struct questions *q, char **report, struct tt_error *err)
{
	const struct tt_attack_options *o = a->options;
	TT_TRY(check(a, err));
	TT_TRY(tt_prompts_read(&a->prompts, o->data, o->n_data, o->positive_label, o->negative_label, err));
	TT_TRY(tt_prompts_choose(&a->prompts, o->split, o->limit, &a->chosen, &a->n, err));
	TT_TRY(check_outputs(a, err));
	TT_TRY(tt_alloc(&a->rows, a->n, sizeof *a->rows, err));
	TT_TRY(questions_open(q, BLOCK * WIDTH, err));
	TT_TRY(look_at_rows(a, q, err));
	TT_TRY(search_all(a, q, err));
	TT_TRY(share_suffixes(a, q, err));
	TT_TRY(write_rows(a, err));
	return tt_attack_report(a, report, err);
}

int tt_attack(struct tt_engine *engine, const struct tt_attack_options *options, char **report, struct tt_error *err)
{
	TT_TRY(tt_need(report, "report", err));
	*report = NULL;
	TT_TRY(tt_need(engine, "engine", err));
	TT_TRY(tt_need(options, "options", err));
	struct tt_attack_options o = DEFAULTS;
	TT_TRY(tt_options_take(&o, sizeof o, options, "tt_attack_options", err));
	struct tt_attack a = {.engine = engine, .options = &o, .progress = {.fn = o.progress, .user = o.user}};
	struct questions q = {0};
	int status = run(&a, &q, report, err);
	questions_close(&q);
	free(a.rows);
	free(a.chosen);
	tt_prompts_free(&a.prompts);
	return status;
}
