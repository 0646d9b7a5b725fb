/* tt_eval: completes every row unsteered and steered, greedily. It works in blocks, so that finished rows are on disk
 * while the rest runs, and so that both sides are timed with the machine in the same state. */
#include "controller/measure/eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/json.h"
#include "base/outputs.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/outputs.h"

enum { BLOCK = 128 };

void tt_eval_options_default(struct tt_eval_options *options)
{
	if (options)
		*options = (struct tt_eval_options){.max_tokens = 32, .when = TT_WHEN_POLICY};
}

static int check_options(
	struct tt_engine *engine, const struct tt_eval_options *o, enum tt_split *split, struct tt_error *err)
{
	*split = TT_NO_SPLIT;
	if (o->max_tokens < 1)
		return tt_fail(err, TT_ERR_ARGUMENT, "an evaluation needs at least one token");
	if (o->split && !tt_split_parse(o->split, split))
		return tt_fail(err, TT_ERR_ARGUMENT, "split must be train, val or test, not \"%.40s\"", o->split);
	return tt_request_check_steering(engine, o->steering, o->n_steering, o->when, err);
}

static int choose_rows(struct tt_eval *e, struct tt_error *err)
{
	const struct tt_eval_options *o = e->options;
	enum tt_split split;
	size_t *taken = NULL; // [n_files][TT_N_LABELS]
	TT_TRY(check_options(e->engine, o, &split, err));
	TT_TRY(tt_prompts_read(&e->prompts, o->data, o->n_data, err));
	TT_TRY(tt_alloc(&e->rows, e->prompts.n_rows, sizeof *e->rows, err));
	TT_TRY(tt_alloc(&taken, e->prompts.n_files * TT_N_LABELS, sizeof *taken, err));
	for (size_t i = 0; i < e->prompts.n_rows; i++) {
		const struct tt_prompt *row = &e->prompts.rows[i];
		size_t *n = &taken[row->file * TT_N_LABELS + row->label];
		if ((o->split && row->split != split) || (o->limit && *n >= o->limit))
			continue;
		++*n;
		e->rows[e->n_rows++] = row;
	}
	free(taken);
	if (e->n_rows == 0)
		return tt_fail(err, TT_ERR_ARGUMENT, "no row to evaluate%s%s", o->split ? " in split " : "",
			o->split ? o->split : "");
	return TT_OK;
}

static int make_groups(struct tt_eval *e, struct tt_error *err)
{
	e->n_groups = (e->prompts.n_files + 1) * TT_N_LABELS;
	TT_TRY(tt_alloc(&e->groups, e->n_groups, sizeof *e->groups, err));
	for (size_t i = 0; i < e->n_groups; i++) {
		size_t file = i / TT_N_LABELS;
		e->groups[i].file = file < e->prompts.n_files ? file : TT_ALL_FILES;
		e->groups[i].label = (enum tt_label)(i % TT_N_LABELS);
	}
	for (int side = 0; side < 2; side++)
		TT_TRY(tt_alloc(&e->outcomes[side], e->n_rows, sizeof *e->outcomes[side], err));
	return TT_OK;
}

static const char *const side_names[] = {"unsteered", "steered"};

/* Refuses judgements that say nothing of some completion. */
static int read_judgements(struct tt_eval *e, struct tt_error *err)
{
	if (!e->options->judgements)
		return TT_OK;
	TT_TRY(tt_judgements_read(&e->judgements, e->options->judgements, err));
	for (size_t i = 0; i < e->n_rows; i++)
		for (int side = 0; side < 2; side++) {
			enum tt_verdict verdict;
			TT_TRY(tt_judgements_find(&e->judgements, e->rows[i]->id, side_names[side], &verdict, err));
		}
	return TT_OK;
}

/* Refuses to write an output over the data, the judgements, the model, a policy or the other output. */
static int check_outputs(const struct tt_eval *e, struct tt_error *err)
{
	const struct tt_eval_options *o = e->options;
	struct tt_file_use *reads = NULL; // [n_data + 1]
	const struct tt_file_use writes[] = {{e->completions.path, "the completions"},
		{e->completions.partial, "the completions while they are written"},
		{e->requests.path, "the requests to a judge"},
		{e->requests.partial, "the requests to a judge while they are written"}};
	TT_TRY(tt_alloc(&reads, o->n_data + 1, sizeof *reads, err));
	for (size_t i = 0; i < o->n_data; i++)
		reads[i] = (struct tt_file_use){o->data[i], "the data"};
	if (o->judgements)
		reads[o->n_data] = (struct tt_file_use){o->judgements, "the judgements"};
	int status = tt_engine_check_outputs(e->engine, reads, o->n_data + (o->judgements != NULL), writes, 4, err);
	free(reads);
	return status;
}

static int name_output(struct tt_eval_output *output, const char *path, struct tt_error *err)
{
	struct tt_buffer name = {0};
	if (!path)
		return TT_OK;
	TT_TRY(tt_buffer_print(&name, err, "%s.partial", path));
	*output = (struct tt_eval_output){.path = path, .partial = name.data};
	return TT_OK;
}

static int open_output(struct tt_eval_output *output, struct tt_error *err)
{
	if (!output->path)
		return TT_OK;
	output->file = fopen(output->partial, "wb");
	return output->file ? TT_OK : tt_fail_io(err, output->partial, "create");
}

static int open_outputs(struct tt_eval *e, struct tt_error *err)
{
	TT_TRY(name_output(&e->completions, e->options->completions, err));
	TT_TRY(name_output(&e->requests, e->options->judge_requests, err));
	TT_TRY(check_outputs(e, err));
	TT_TRY(open_output(&e->completions, err));
	return open_output(&e->requests, err);
}

/* An interrupted run leaves what it has in FILE.partial. */
static int close_output(struct tt_eval_output *output, struct tt_error *err)
{
	if (!output->file)
		return TT_OK;
	bool failed = fflush(output->file) || fsync(fileno(output->file));
	failed = fclose(output->file) || failed;
	output->file = NULL;
	if (failed || rename(output->partial, output->path) < 0)
		return tt_fail_io(err, output->path, "write");
	return TT_OK;
}

static int put_line(struct tt_eval_output *output, char *line, struct tt_error *err)
{
	bool failed = fputs(line, output->file) < 0 || fputc('\n', output->file) < 0;
	free(line);
	return failed ? tt_fail_io(err, output->partial, "write") : TT_OK;
}

static int flush_output(struct tt_eval_output *output, struct tt_error *err)
{
	return output->file && fflush(output->file) ? tt_fail_io(err, output->partial, "write") : TT_OK;
}

static void free_output(struct tt_eval_output *output)
{
	if (output->file)
		fclose(output->file);
	free(output->partial);
}

/* A block of rows with their unsteered and steered completions. */
struct block {
	const struct tt_prompt *const *rows;
	size_t n;
	struct tt_request_options options[BLOCK], changed_options[BLOCK];
	struct tt_completion unsteered[BLOCK], steered[BLOCK], changed[BLOCK];
	size_t changed_rows[BLOCK], n_changed;
};

static void block_clear(struct block *b)
{
	for (size_t i = 0; i < BLOCK; i++) {
		tt_free((void *)(uintptr_t)b->options[i].ids);
		tt_completion_free(&b->unsteered[i]);
		tt_completion_free(&b->steered[i]);
		tt_completion_free(&b->changed[i]);
	}
	*b = (struct block){0};
}

static int block_encode(struct tt_eval *e, struct block *b, struct tt_error *err)
{
	for (size_t i = 0; i < b->n; i++) {
		int32_t *ids;
		tt_request_options_default(&b->options[i]);
		TT_TRY(tt_encode_prompt(e->engine, b->rows[i]->text, b->rows[i]->id, e->options->max_tokens, &ids,
			&b->options[i], err));
		b->options[i].max_tokens = e->options->max_tokens;
	}
	return TT_OK;
}

static int timed_run(
	struct tt_eval *e, struct block *b, struct tt_completion *out, struct tt_speed *speed, struct tt_error *err)
{
	struct tt_engine_stats before, after;
	tt_engine_stats(e->engine, &before);
	TT_TRY(tt_completions_run(e->engine, b->options, b->n, out, &e->progress, err));
	tt_engine_stats(e->engine, &after);
	speed->n_prefill_tokens += after.n_prefill_tokens - before.n_prefill_tokens;
	speed->n_decode_tokens += after.n_decode_tokens - before.n_decode_tokens;
	speed->n_reruns += after.n_reruns - before.n_reruns;
	speed->seconds += after.seconds - before.seconds;
	return TT_OK;
}

/* Sets the steered completions' log-probability under the unsteered model. For those equal to the unsteered ones it is
 * known already. */
static int block_score(struct tt_eval *e, struct block *b, struct tt_error *err)
{
	for (size_t i = 0; i < b->n; i++) {
		if (tt_completions_equal(&b->unsteered[i], &b->steered[i])) {
			b->steered[i].logprob = b->unsteered[i].logprob;
			TT_TRY(tt_progress_step(&e->progress, err));
			continue;
		}
		b->changed_rows[b->n_changed] = i;
		b->changed_options[b->n_changed] = b->options[i];
		TT_TRY(tt_completion_copy(&b->changed[b->n_changed++], &b->steered[i], err));
	}
	TT_TRY(tt_completions_score(e->engine, b->changed_options, b->n_changed, b->changed, &e->progress, err));
	for (size_t k = 0; k < b->n_changed; k++)
		b->steered[b->changed_rows[k]].logprob = b->changed[k].logprob;
	return TT_OK;
}

static void add_to_group(
	struct tt_group *group, const struct tt_completion *unsteered, const struct tt_completion *steered)
{
	tt_tally_add(&group->unsteered.all, unsteered);
	tt_tally_add(&group->steered.all, steered);
	if (unsteered->refused)
		tt_tally_add(&group->unsteered.refusals, unsteered);
	if (steered->refused)
		tt_tally_add(&group->steered.refusals, steered);
	group->n_changed += !tt_completions_equal(unsteered, steered);
}

static struct tt_outcome outcome_of(const struct tt_eval *e, const struct tt_completion *c)
{
	struct tt_policy_info info = {0};
	if (e->options->n_steering)
		tt_policy_describe(e->options->steering[0].policy, &info);
	double gate = (double)(info.opens_below ? -c->gate : c->gate);
	return (struct tt_outcome){
		.verdicts = {[TT_IN_SUBSTANCE] = c->refused ? TT_REFUSED : TT_FULFILLED,
			[TT_BY_PHRASES] = c->refused_by_phrases ? TT_REFUSED : TT_FULFILLED,
			[TT_BY_JUDGE] = c->verdict},
		.score = c->decided ? gate : (double)NAN,
	};
}

static double nll(const struct tt_completion *c)
{
	return c->n_ids ? -c->logprob / (double)c->n_ids : 0;
}

static json_t *verdict_word(enum tt_verdict verdict)
{
	static const char *const words[] = {
		[TT_NO_VERDICT] = NULL, [TT_FULFILLED] = "fulfilled", [TT_REFUSED] = "refused"};
	return words[verdict] ? json_string(words[verdict]) : json_null();
}

static int write_completion(struct tt_eval *e, const struct tt_prompt *row, const struct tt_completion *unsteered,
	const struct tt_completion *steered, struct tt_error *err)
{
	double scale = e->options->n_steering ? (double)e->options->steering[0].scale : 0;
	json_t *object = json_pack(
		"{s:s, s:s, s:s, s:s, s:s, s:f, s:f, s:f, s:b, s:b, s:b, s:b, s:b, s:o, s:o, s:f, s:f}", "id", row->id,
		"prompt", row->text, "label", tt_label_name(row->label), "unsteered", unsteered->text, "steered",
		steered->text, "scale", scale, "gate", (double)steered->gate, "s", (double)steered->s, "flagged",
		(int)steered->flagged, "refused_unsteered", (int)unsteered->refused, "refused_steered",
		(int)steered->refused, "refused_by_phrases_unsteered", (int)unsteered->refused_by_phrases,
		"refused_by_phrases_steered", (int)steered->refused_by_phrases, "verdict_unsteered",
		verdict_word(unsteered->verdict), "verdict_steered", verdict_word(steered->verdict), "nll_unsteered",
		nll(unsteered), "nll_steered", nll(steered));
	char *line = NULL;
	TT_TRY(tt_json_dump(&line, object, JSON_COMPACT | JSON_REAL_PRECISION(6), err));
	return put_line(&e->completions, line, err);
}

static int write_requests(struct tt_eval *e, const struct tt_prompt *row, const struct tt_completion *const sides[2],
	struct tt_error *err)
{
	for (int side = 0; side < 2; side++) {
		char *line = NULL;
		TT_TRY(tt_judge_request(&line, row->id, side_names[side], row->text, sides[side]->text, err));
		TT_TRY(put_line(&e->requests, line, err));
	}
	return TT_OK;
}

static int block_record(struct tt_eval *e, struct block *b, struct tt_error *err)
{
	for (size_t i = 0; i < b->n; i++) {
		struct tt_completion *sides[] = {&b->unsteered[i], &b->steered[i]};
		size_t label = b->rows[i]->label;
		for (int side = 0; e->options->judgements && side < 2; side++)
			TT_TRY(tt_judgements_find(
				&e->judgements, b->rows[i]->id, side_names[side], &sides[side]->verdict, err));
		add_to_group(&e->groups[b->rows[i]->file * TT_N_LABELS + label], sides[0], sides[1]);
		add_to_group(&e->groups[e->prompts.n_files * TT_N_LABELS + label], sides[0], sides[1]);
		for (int side = 0; side < 2; side++)
			e->outcomes[side][e->n_outcomes] = outcome_of(e, sides[side]);
		e->n_outcomes++;
		if (e->completions.file)
			TT_TRY(write_completion(e, b->rows[i], sides[0], sides[1], err));
		if (e->requests.file)
			TT_TRY(write_requests(e, b->rows[i], (const struct tt_completion *const *)sides, err));
	}
	TT_TRY(flush_output(&e->completions, err));
	return flush_output(&e->requests, err);
}

static int run_block(struct tt_eval *e, struct block *b, struct tt_error *err)
{
	TT_TRY(block_encode(e, b, err));
	TT_TRY(timed_run(e, b, b->unsteered, &e->speed[0], err));
	for (size_t i = 0; i < b->n; i++) {
		memcpy(b->options[i].steering, e->options->steering, sizeof b->options[i].steering);
		b->options[i].n_steering = e->options->n_steering;
		b->options[i].when = e->options->when;
	}
	TT_TRY(timed_run(e, b, b->steered, &e->speed[1], err));
	TT_TRY(block_score(e, b, err));
	return block_record(e, b, err);
}

static int run(struct tt_eval *e, struct block *b, char **report, struct tt_error *err)
{
	TT_TRY(choose_rows(e, err));
	TT_TRY(make_groups(e, err));
	TT_TRY(read_judgements(e, err));
	TT_TRY(open_outputs(e, err));
	/* Every row is run twice and scored once. */
	TT_TRY(tt_progress_begin(&e->progress, "eval", 3 * e->n_rows, err));
	for (size_t start = 0; start < e->n_rows; start += BLOCK) {
		block_clear(b);
		b->rows = e->rows + start;
		b->n = e->n_rows - start < BLOCK ? e->n_rows - start : BLOCK;
		TT_TRY(run_block(e, b, err));
	}
	TT_TRY(close_output(&e->completions, err));
	TT_TRY(close_output(&e->requests, err));
	return tt_eval_report(e, report, err);
}

int tt_eval(struct tt_engine *engine, const struct tt_eval_options *options, char **report, struct tt_error *err)
{
	TT_TRY(tt_need(report, "report", err));
	*report = NULL;
	TT_TRY(tt_need(engine, "engine", err));
	TT_TRY(tt_need(options, "options", err));
	struct tt_eval e = {
		.engine = engine, .options = options, .progress = {.fn = options->progress, .user = options->user}};
	struct block *b = NULL;
	int status = tt_alloc(&b, 1, sizeof *b, err);
	if (status == TT_OK) {
		status = run(&e, b, report, err);
		block_clear(b);
	}
	free_output(&e.completions);
	free_output(&e.requests);
	tt_judgements_free(&e.judgements);
	free(b);
	free(e.outcomes[0]);
	free(e.outcomes[1]);
	free(e.groups);
	free(e.rows);
	tt_prompts_free(&e.prompts);
	return status;
}
