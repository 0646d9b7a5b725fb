/* tt_eval: completes every row unsteered and under each arm, with the same seed. It works in blocks, so that finished
 * rows are on disk while the rest runs, and so that all sides are timed with the machine in the same state. */
#include "controller/measure/eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/options.h"
#include "base/sampling.h"
#include "runtime/engine/engine.h"

enum { BLOCK = 128 };

static const struct tt_eval_options DEFAULTS = {
	.max_tokens = 32, .sampling = {.top_p = 1}, .when = TT_WHEN_POLICY, .n_review_rows = 100};

void tt_eval_options_default_sized(struct tt_eval_options *options, size_t size)
{
	tt_options_default(options, size, &DEFAULTS, sizeof DEFAULTS);
}

static int check_options(struct tt_eval *e, struct tt_error *err)
{
	const struct tt_eval_options *o = e->options;
	if (o->max_tokens == 0 && (o->judge_requests || o->judgements))
		return tt_fail(err, TT_ERR_ARGUMENT, "without tokens there is nothing to judge");
	/* Written so that NaN is refused too. */
	if (!(o->price_miss >= 0 && o->price_false_refusal >= 0) || isinf(o->price_miss + o->price_false_refusal) ||
		(o->price_miss > 0) != (o->price_false_refusal > 0))
		return tt_fail(err, TT_ERR_ARGUMENT, "prices must be two positive numbers, or 0 for none");
	TT_TRY(tt_sampling_check(&o->sampling, err));
	TT_TRY(tt_eval_choose_arms(e, err));
	return tt_eval_review_check(e, err);
}

static int choose_rows(struct tt_eval *e, struct tt_error *err)
{
	const struct tt_eval_options *o = e->options;
	TT_TRY(check_options(e, err));
	TT_TRY(tt_prompts_read(&e->prompts, o->data, o->n_data, o->positive_label, o->negative_label, err));
	return tt_prompts_choose(&e->prompts, o->split, o->limit, &e->rows, &e->n_rows, err);
}

static int make_groups(struct tt_eval *e, struct tt_error *err)
{
	size_t n_sides, n_outcomes;
	e->n_groups = (e->prompts.n_files + 1) * TT_N_LABELS;
	if (!tt_mul_size(e->n_groups, e->n_sides, &n_sides) || !tt_mul_size(e->n_rows, e->n_sides, &n_outcomes))
		return tt_fail(err, TT_ERR_MEMORY, "out of memory: %zu arms", e->n_arms);
	TT_TRY(tt_alloc(&e->groups, e->n_groups, sizeof *e->groups, err));
	TT_TRY(tt_alloc(&e->sides, n_sides, sizeof *e->sides, err));
	TT_TRY(tt_alloc(&e->outcomes, n_outcomes, sizeof *e->outcomes, err));
	TT_TRY(tt_alloc(&e->scores, n_outcomes - e->n_rows, sizeof *e->scores, err));
	TT_TRY(tt_alloc(&e->speeds, e->n_sides, sizeof *e->speeds, err));
	for (size_t i = 0; i < e->n_groups; i++) {
		size_t file = i / TT_N_LABELS;
		e->groups[i].file = file < e->prompts.n_files ? file : TT_ALL_FILES;
		e->groups[i].label = (enum tt_label)(i % TT_N_LABELS);
		e->groups[i].sides = e->sides + i * e->n_sides;
	}
	return TT_OK;
}

/* Refuses judgements that say nothing of some completion. */
static int read_judgements(struct tt_eval *e, struct tt_error *err)
{
	if (!e->options->judgements)
		return TT_OK;
	TT_TRY(tt_judgements_read(&e->judgements, e->options->judgements, err));
	for (size_t i = 0; i < e->n_rows; i++)
		for (size_t side = 0; side < e->n_sides; side++) {
			enum tt_verdict verdict;
			TT_TRY(tt_judgements_find(
				&e->judgements, e->rows[i]->id, tt_eval_side_name(e, side), &verdict, err));
		}
	return TT_OK;
}

int tt_eval_seed(const struct tt_eval *e, const struct tt_prompt *row, uint64_t *seed, struct tt_error *err)
{
	return tt_row_seed(seed, e->options->sampling.seed, row->bytes, strlen(row->bytes), err);
}

/* A block of rows with their completions on each side. */
struct block {
	size_t first, n; /* rows of the evaluation */
	struct tt_request_options options[BLOCK], changed_options[BLOCK];
	struct tt_completion *sides; // [n_sides][BLOCK]
	struct tt_completion changed[BLOCK];
	size_t changed_rows[BLOCK], n_changed;
};

static void block_clear(struct block *b, size_t n_sides)
{
	for (size_t i = 0; i < BLOCK; i++) {
		tt_free((void *)(uintptr_t)b->options[i].ids);
		tt_completion_free(&b->changed[i]);
	}
	for (size_t i = 0; b->sides && i < n_sides * BLOCK; i++)
		tt_completion_free(&b->sides[i]);
	*b = (struct block){.sides = b->sides};
}

static int block_encode(struct tt_eval *e, struct block *b, struct tt_error *err)
{
	for (size_t i = 0; i < b->n; i++) {
		const struct tt_prompt *row = e->rows[b->first + i];
		int32_t *ids;
		tt_request_options_default(&b->options[i]);
		TT_TRY(tt_encode_row(e->engine, row, NULL, e->options->max_tokens, &ids, &b->options[i], err));
		b->options[i].max_tokens = e->options->max_tokens;
		b->options[i].sampling = e->options->sampling;
		TT_TRY(tt_eval_seed(e, row, &b->options[i].sampling.seed, err));
	}
	return TT_OK;
}

static int timed_run(struct tt_eval *e, struct block *b, size_t side, struct tt_error *err)
{
	struct tt_engine_stats before, after;
	struct tt_speed *speed = &e->speeds[side];
	tt_engine_stats(e->engine, &before);
	TT_TRY(tt_completions_run(e->engine, b->options, b->n, b->sides + side * BLOCK, &e->progress, err));
	tt_engine_stats(e->engine, &after);
	speed->n_prefill_tokens += after.n_prefill_tokens - before.n_prefill_tokens;
	speed->n_decode_tokens += after.n_decode_tokens - before.n_decode_tokens;
	speed->n_reruns += after.n_reruns - before.n_reruns;
	speed->seconds += after.seconds - before.seconds;
	return TT_OK;
}

/* Sets the log-probability of an arm's completions under the unsteered model. For those equal to the unsteered ones it
 * is known already. */
static int block_score(struct tt_eval *e, struct block *b, size_t side, struct tt_error *err)
{
	struct tt_completion *unsteered = b->sides, *steered = b->sides + side * BLOCK;
	for (size_t i = 0; i < b->n_changed; i++)
		tt_completion_free(&b->changed[i]);
	b->n_changed = 0;
	for (size_t i = 0; i < b->n; i++) {
		if (tt_completions_equal(&unsteered[i], &steered[i])) {
			steered[i].logprob = unsteered[i].logprob;
			TT_TRY(tt_progress_step(&e->progress, err));
			continue;
		}
		b->changed_rows[b->n_changed] = i;
		b->changed_options[b->n_changed] = b->options[i];
		TT_TRY(tt_completion_copy(&b->changed[b->n_changed++], &steered[i], err));
	}
	TT_TRY(tt_completions_score(e->engine, b->changed_options, b->n_changed, b->changed, &e->progress, err));
	for (size_t k = 0; k < b->n_changed; k++)
		steered[b->changed_rows[k]].logprob = b->changed[k].logprob;
	return TT_OK;
}

static int block_run_arm(struct tt_eval *e, struct block *b, size_t side, struct tt_error *err)
{
	const struct tt_eval_arm *arm = &e->arms[side - 1];
	for (size_t i = 0; i < b->n; i++) {
		memcpy(b->options[i].steering, arm->steering, sizeof b->options[i].steering);
		b->options[i].n_steering = arm->n_steering;
		/* A gate reads the unsteered prompt, so one that is never steered need not run again. */
		b->options[i].when = tt_eval_is_of_gates(e) ? TT_WHEN_GENERATION : e->options->when;
	}
	TT_TRY(timed_run(e, b, side, err));
	return tt_eval_is_of_gates(e) ? TT_OK : block_score(e, b, side, err);
}

static int block_record(struct tt_eval *e, struct block *b, struct tt_error *err)
{
	const struct tt_completion *sides[1 + TT_MAX_ARMS]; // [n_sides]
	for (size_t i = 0; i < b->n; i++) {
		const struct tt_prompt *row = e->rows[b->first + i];
		for (size_t side = 0; side < e->n_sides; side++) {
			struct tt_completion *c = &b->sides[side * BLOCK + i];
			if (e->options->judgements && !e->variant)
				TT_TRY(tt_judgements_find(
					&e->judgements, row->id, tt_eval_side_name(e, side), &c->verdict, err));
			sides[side] = c;
		}
		tt_eval_record(e, b->first + i, sides);
		TT_TRY(tt_eval_review_keep(e, b->first + i, sides, err));
		TT_TRY(tt_eval_outputs_row(e, row, sides, err));
	}
	return tt_eval_outputs_flush(e, err);
}

static int run_block(struct tt_eval *e, struct block *b, struct tt_error *err)
{
	TT_TRY(block_encode(e, b, err));
	if (!tt_eval_is_of_gates(e))
		TT_TRY(timed_run(e, b, 0, err));
	for (size_t side = 1; side < e->n_sides; side++)
		TT_TRY(block_run_arm(e, b, side, err));
	return block_record(e, b, err);
}

static int run_blocks(struct tt_eval *e, struct block *b, struct tt_error *err)
{
	TT_TRY(tt_alloc(&b->sides, e->n_sides * BLOCK, sizeof *b->sides, err));
	for (size_t start = 0; start < e->n_rows; start += BLOCK) {
		block_clear(b, e->n_sides);
		b->first = start;
		b->n = e->n_rows - start < BLOCK ? e->n_rows - start : BLOCK;
		TT_TRY(run_block(e, b, err));
	}
	return TT_OK;
}

/* Runs all rows of an evaluation, as a stage of that name. */
static int run_rows(struct tt_eval *e, const char *stage, struct tt_error *err)
{
	struct block *b = NULL;
	/* Every row is run once, and under each arm run and scored. */
	size_t n_runs = tt_eval_is_of_gates(e) ? e->n_arms : 1 + 2 * e->n_arms;
	TT_TRY(tt_progress_begin(&e->progress, stage, n_runs * e->n_rows, err));
	TT_TRY(tt_alloc(&b, 1, sizeof *b, err));
	int status = run_blocks(e, b, err);
	block_clear(b, e->n_sides);
	free(b->sides);
	free(b);
	return status;
}

static int run(struct tt_eval *e, char **report, struct tt_error *err)
{
	TT_TRY(choose_rows(e, err));
	TT_TRY(make_groups(e, err));
	TT_TRY(read_judgements(e, err));
	TT_TRY(tt_eval_variants_open(e, err));
	TT_TRY(tt_eval_outputs_open(e, err));
	TT_TRY(run_rows(e, "eval", err));
	for (size_t i = 0; i < e->n_variants; i++) {
		struct tt_eval *variant = &e->variants[i];
		variant->completions = e->completions; /* which stay this evaluation's */
		TT_TRY(make_groups(variant, err));
		TT_TRY(run_rows(variant, variant->variant, err));
	}
	TT_TRY(tt_eval_outputs_close(e, err));
	TT_TRY(tt_eval_review_write(e, err));
	return tt_eval_report(e, report, err);
}

/* What make_groups and choose_rows allocate. */
static void free_rows(struct tt_eval *e)
{
	free(e->speeds);
	free(e->outcomes);
	free(e->scores);
	free(e->sides);
	free(e->groups);
	free(e->rows);
}

int tt_eval(struct tt_engine *engine, const struct tt_eval_options *options, char **report, struct tt_error *err)
{
	TT_TRY(tt_need(report, "report", err));
	*report = NULL;
	TT_TRY(tt_need(engine, "engine", err));
	TT_TRY(tt_need(options, "options", err));
	struct tt_eval_options o = DEFAULTS;
	TT_TRY(tt_options_take(&o, sizeof o, options, "tt_eval_options", err));
	struct tt_eval e = {.engine = engine, .options = &o, .progress = {.fn = o.progress, .user = o.user}};
	int status = run(&e, report, err);
	tt_eval_outputs_free(&e);
	tt_eval_review_free(&e);
	tt_judgements_free(&e.judgements);
	for (size_t i = 0; i < e.n_variants; i++)
		free_rows(&e.variants[i]);
	tt_eval_variants_close(&e);
	free_rows(&e);
	tt_prompts_free(&e.prompts);
	return status;
}
