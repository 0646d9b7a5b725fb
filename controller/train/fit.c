/* tt_fit: reads the prompts (fit_rows.c), then takes the steps of the mode (fit_modes.c). By default these are mean
 * differences between responses as directions (fit_directions.c); a gate that tells harmful prompts from others
 * (fit_detector.c); and a search over sites, directions and strengths (fit_search.c), judged by what the model writes
 * under them (fit_judge.c). */
#include "controller/train/fit.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/options.h"
#include "base/outputs.h"
#include "controller/train/fit_modes.h"
#include "runtime/engine/numerics.h"
#include "runtime/engine/outputs.h"

static const struct tt_fit_options DEFAULTS = {
	.rank = 4,
	.n_direction_prompts = 24,
	.n_gate_prompts = 8000,
	.n_judge_prompts = 32,
	.judge_tokens = 24,
	.max_candidates = 28,
	.max_false_positives = 0.05f,
	.max_borderline_positives = 0.1f,
	.pool = TT_POOL_LAST_MEAN,
	.when = TT_WHEN_ALL,
};

void tt_fit_options_default_sized(struct tt_fit_options *options, size_t size)
{
	tt_options_default(options, size, &DEFAULTS, sizeof DEFAULTS);
}

const char *tt_fit_name(const struct tt_fit_options *options)
{
	return options->name ? options->name : "policy";
}

static int in_range(const char *name, uint32_t value, uint32_t min, uint32_t max, struct tt_error *err)
{
	if (value < min || value > max)
		return tt_fail(err, TT_ERR_ARGUMENT, "%s must be from %u to %u, not %u", name, min, max, value);
	return TT_OK;
}

/* What depends on the mode. */
static int check_mode(const struct tt_fit_options *o, struct tt_error *err)
{
	const struct tt_fit_mode_row *mode = tt_fit_mode_of(o->mode);
	if (!mode)
		return tt_fail(err, TT_ERR_ARGUMENT, "mode is not one of enum tt_fit_mode");
	if (o->mode == TT_FIT_STYLE && !o->contrast)
		return tt_fail(err, TT_ERR_ARGUMENT, "mode style needs a contrast file");
	if (o->mode != TT_FIT_STYLE && o->contrast)
		return tt_fail(err, TT_ERR_ARGUMENT, "a contrast file is for mode style, not for %s", mode->word);
	if ((unsigned)o->gate > TT_FIT_GATE_DETECTOR)
		return tt_fail(err, TT_ERR_ARGUMENT, "gate is not one of enum tt_fit_gate_choice");
	if (o->gate != TT_FIT_GATE_OF_MODE && (o->mode == TT_FIT_PAPER || o->mode == TT_FIT_RELEASED))
		return tt_fail(err, TT_ERR_ARGUMENT, "mode %s has its own gate alone", mode->word);
	if (!tt_fit_operation_of(o->op) || o->op == TT_OP_AFFINE)
		return tt_fail(err, TT_ERR_ARGUMENT, "op is not one of those that a fit makes");
	if (!tt_fit_mode_takes_op(o->mode) && o->op != TT_OP_ADD)
		return tt_fail(err, TT_ERR_ARGUMENT, "op cannot be chosen with mode %s", mode->word);
	if (o->rule && o->mode != TT_FIT_CAST)
		return tt_fail(err, TT_ERR_ARGUMENT, "a rule is for mode cast, not %s", mode->word);
	if (o->rule && o->gate != TT_FIT_GATE_OF_MODE)
		return tt_fail(err, TT_ERR_ARGUMENT, "a rule is for the gate of mode cast, not for another");
	return o->rule ? tt_within(tt_rule_parse(&(struct tt_rule){0}, NULL, o->rule, err), err, "rule") : TT_OK;
}

static int check_layer_weights(const struct tt_fit_options *o, struct tt_error *err)
{
	if ((unsigned)o->layer_weights > TT_WEIGHTS_PROMPT)
		return tt_fail(err, TT_ERR_ARGUMENT, "layer_weights is not one of enum tt_fit_layer_weights");
	if (o->layer_weights == TT_WEIGHTS_SITE)
		return TT_OK;
	if (!tt_fit_mode_of(o->mode)->searches_weights)
		return tt_fail(
			err, TT_ERR_ARGUMENT, "mode %s searches no layer weights", tt_fit_mode_of(o->mode)->word);
	if (o->op != TT_OP_ADD)
		return tt_fail(err, TT_ERR_ARGUMENT, "layer weights are searched for op add alone");
	if (o->layer_weights == TT_WEIGHTS_PROMPT && !tt_fit_has_detector(o))
		return tt_fail(err, TT_ERR_ARGUMENT, "layer weights by the prompt need a detector as the gate");
	return TT_OK;
}

static int check_options(const struct tt_fit_options *o, struct tt_error *err)
{
	if (o->name && (!*o->name || strlen(o->name) > TT_MAX_POLICY_NAME))
		return tt_fail(err, TT_ERR_ARGUMENT, "the name of a policy must be 1 to %d bytes", TT_MAX_POLICY_NAME);
	TT_TRY(in_range("rank", o->rank, 1, TT_MAX_DIRECTIONS, err));
	TT_TRY(in_range("direction prompts", o->n_direction_prompts, 1, 100000, err));
	TT_TRY(in_range("gate prompts", o->n_gate_prompts, 4, 100000, err));
	TT_TRY(in_range("judge prompts", o->n_judge_prompts, 1, 10000, err));
	TT_TRY(in_range("judge tokens", o->judge_tokens, 4, 1024, err));
	TT_TRY(in_range("candidates", o->max_candidates, 1, 1000, err));
	if (!(o->max_false_positives >= 0 && o->max_false_positives <= 0.5f))
		return tt_fail(err, TT_ERR_ARGUMENT, "max_false_positives must be a share from 0 to 0.5");
	if (!(o->max_borderline_positives >= 0 && o->max_borderline_positives <= 1))
		return tt_fail(err, TT_ERR_ARGUMENT, "max_borderline_positives must be a share from 0 to 1");
	if (!(o->max_loss_ratio >= 0 && o->max_loss_ratio <= 100))
		return tt_fail(err, TT_ERR_ARGUMENT, "max_loss_ratio must be from 0 to 100");
	TT_TRY(tt_fit_continue_check(o, err));
	TT_TRY(check_mode(o, err));
	TT_TRY(check_layer_weights(o, err));
	if (!tt_gate_pool_word(o->pool))
		return tt_fail(err, TT_ERR_ARGUMENT, "pool is not one of last, mean and last,mean");
	if (o->when < TT_WHEN_GENERATION || o->when > TT_WHEN_ALL)
		return tt_fail(err, TT_ERR_ARGUMENT, "when is not one of generation, last and all");
	return TT_OK;
}

/* Opens the file of activations, if the options name one. */
static int open_activations(struct tt_fit *fit, struct tt_error *err)
{
	const struct tt_fit_options *o = fit->options;
	const struct tt_file_use write = {o->activations, "the activations"};
	struct tt_file_use *reads = NULL; // [n_data + n_replay + 1]
	if (!o->activations)
		return TT_OK;
	TT_TRY(tt_alloc(&reads, o->n_data + o->n_replay + 1, sizeof *reads, err));
	for (size_t i = 0; i < o->n_data; i++)
		reads[i] = (struct tt_file_use){o->data[i], "the data"};
	for (size_t i = 0; i < o->n_replay; i++)
		reads[o->n_data + i] = (struct tt_file_use){o->replay[i], "the data to replay"};
	reads[o->n_data + o->n_replay] = (struct tt_file_use){o->continued, "the policy that is continued"};
	int status = tt_engine_check_outputs(fit->engine, reads, o->n_data + o->n_replay + 1, &write, 1, err);
	free(reads);
	TT_TRY(status);
	json_t *numerics = json_object();
	status = numerics ? tt_engine_numerics(numerics, fit->engine, err)
			  : tt_fail(err, TT_ERR_MEMORY, "out of memory: what the activations depend on");
	if (status == TT_OK)
		status = tt_activation_file_open(&fit->opened, o->activations, numerics, fit->info->hidden_size, err);
	json_decref(numerics);
	if (status == TT_OK)
		fit->activations = &fit->opened;
	return status;
}

/* As soon as the gate is made, so that another fit may go on with the file while this one searches. */
static void close_activations(struct tt_fit *fit)
{
	tt_activation_file_close(&fit->opened);
	fit->activations = NULL;
}

/* Before the work, so that a folder that cannot be made is an error at once. An empty one is as good as none; in any
 * other there is something to lose. */
static int make_candidates_folder(const char *folder, struct tt_error *err)
{
	if (!folder || mkdir(folder, 0777) == 0 || (rmdir(folder) == 0 && mkdir(folder, 0777) == 0))
		return TT_OK;
	return tt_fail(err, TT_ERR_IO, "%s: cannot be made, or is not an empty folder, for the candidates", folder);
}

static int run_continued(struct tt_fit *fit, struct tt_error *err)
{
	TT_TRY(tt_fit_continue_read(&fit->continued, &fit->rows, fit->engine, fit->options, err));
	TT_TRY(open_activations(fit, err));
	return tt_fit_continue_gate(&fit->continued, &fit->gate, fit->engine, &fit->rows, fit->options,
		fit->activations, &fit->progress, err);
}

static int run(struct tt_fit *fit, struct tt_error *err)
{
	TT_TRY(check_options(fit->options, err));
	if (fit->options->continued)
		return run_continued(fit, err);
	const struct tt_fit_mode_row *mode = tt_fit_mode_of(fit->options->mode);
	TT_TRY(make_candidates_folder(fit->options->candidates, err));
	TT_TRY(tt_fit_rows_read(&fit->rows, fit->engine, fit->options, err));
	TT_TRY(open_activations(fit, err));
	TT_TRY(mode->directions(fit, err));
	TT_TRY((fit->options->gate == TT_FIT_GATE_OF_MODE ? mode->gate : tt_fit_gate_step(fit->options->gate))(
		fit, err));
	close_activations(fit);
	return mode->choose(fit, err);
}

/* Fills in the policy's name and provenance. Only `created` depends on the clock. */
static int sign(const struct tt_fit *fit, struct tt_policy *policy, const char *name, struct tt_error *err)
{
	char now[TT_DATE_BYTES];
	tt_date_now(now);
	TT_TRY(tt_policy_set_text(&policy->name, name, err));
	TT_TRY(tt_policy_set_text(&policy->created, now, err));
	free(policy->fitted_on);
	policy->fitted_on = NULL;
	return tt_fit_sources(fit, &policy->fitted_on, err);
}

/* Writes every candidate's policy into the folder that the options name. */
static int save_candidates(struct tt_fit *fit, struct tt_error *err)
{
	struct tt_buffer path = {0};
	int status = TT_OK;
	for (uint32_t i = 0; fit->options->candidates && status == TT_OK && i < fit->search.n_candidates; i++) {
		struct tt_policy *policy = fit->search.candidates[i].policy;
		char name[TT_CANDIDATE_NAME_BYTES];
		tt_candidate_name(name, i);
		path.len = 0;
		status = sign(fit, policy, name, err);
		if (status == TT_OK)
			status = tt_buffer_print(&path, err, "%s/%s.safetensors", fit->options->candidates, name);
		if (status == TT_OK)
			status = tt_policy_save(policy, path.data, err);
	}
	tt_buffer_free(&path);
	return status;
}

static void free_parts(struct tt_fit *fit)
{
	tt_fit_prompt_weights_free(&fit->prompt_weights);
	tt_fit_search_free(&fit->search);
	tt_fit_judge_close(&fit->judge);
	tt_fit_judge_close(&fit->train_judge);
	tt_fit_gate_free(&fit->gate);
	tt_fit_directions_free(&fit->directions);
	tt_fit_style_free(&fit->style);
	tt_fit_mean_free(&fit->mean);
	tt_fit_rows_free(&fit->rows);
	tt_fit_continue_free(&fit->continued);
	close_activations(fit);
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
	struct tt_fit_options o = DEFAULTS;
	TT_TRY(tt_options_take(&o, sizeof o, options, "tt_fit_options", err));
	struct tt_fit fit = {.options = &o,
		.engine = engine,
		.info = tt_engine_info(engine),
		.progress = {.fn = o.progress, .user = o.user}};
	double start = tt_now();
	int status = run(&fit, err);
	if (status == TT_OK && o.continued)
		status = tt_fit_continue_policy(&fit.continued, &fit.gate, out, err);
	else if (status == TT_OK)
		status = tt_candidate_policy(fit.search.chosen, &fit.directions, fit.info, true, out, err);
	if (status == TT_OK)
		status = sign(&fit, *out, tt_fit_name(&o), err);
	if (status == TT_OK)
		status = save_candidates(&fit, err);
	if (status == TT_OK && report)
		status = (o.continued ? tt_fit_report_continued : tt_fit_report)(&fit, tt_now() - start, report, err);
	if (status != TT_OK) {
		tt_policy_free(*out);
		*out = NULL;
	}
	free_parts(&fit);
	return status;
}
