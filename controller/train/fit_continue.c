#include "controller/train/fit_continue.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "base/sha256.h"
#include "controller/train/fit_detector.h"

/* What it is called in trimtab.fitted_on, before the name of the policy that was continued. */
static const char continued_from[] = "continued from ";
/* What stands there for the features that a gate was trained on. */
static const char activations[] = "activations";

int tt_fit_continue_check(const struct tt_fit_options *o, struct tt_error *err)
{
	if (!o->continued)
		return o->n_replay ? tt_fail(err, TT_ERR_ARGUMENT, "replay is for a policy that is continued") : TT_OK;
	if (o->mode != TT_FIT_CONTRAST || o->contrast || o->rule || o->op != TT_OP_ADD ||
		o->gate != TT_FIT_GATE_OF_MODE || o->layer_weights != TT_WEIGHTS_SITE || o->candidates)
		return tt_fail(err, TT_ERR_ARGUMENT,
			"a policy that is continued keeps its directions and the kind of its gate: "
			"mode, contrast, op, gate, rule, layer_weights and candidates cannot be chosen");
	return TT_OK;
}

static int check_policy(const struct tt_policy *p, const struct tt_model_info *info, struct tt_error *err)
{
	char *other = NULL;
	if (strcmp(p->fingerprint, info->fingerprint) != 0 || p->hidden_size != info->hidden_size ||
		p->n_layers != info->n_layers)
		return tt_fail(
			err, TT_ERR_MISMATCH, "policy %s was fitted on another model: %.150s", p->name, p->fingerprint);
	if (strcmp(p->weights_digest, info->weights_digest) != 0)
		return tt_fail(
			err, TT_ERR_MISMATCH, "policy %s was fitted on other weights of this architecture", p->name);
	TT_TRY(tt_policy_other_template(&other, p, info->chat_template_sha256, err));
	if (other) {
		int status = tt_fail(err, TT_ERR_MISMATCH, "%s", other);
		free(other);
		return status;
	}
	if (p->gate != TT_GATE_PROBE && !(p->gate == TT_GATE_PROBE_MLP && p->gate_form == 0))
		return tt_fail(err, TT_ERR_UNSUPPORTED,
			"policy %s cannot be continued: its gate, %s%s, is no detector (probe, or probe_mlp with fixed "
			"layer weights)",
			p->name, tt_gate_of(p->gate)->row.word,
			p->gate == TT_GATE_PROBE_MLP ? " with learned layer weights" : "");
	return TT_OK;
}

/* Says what the policy was fitted on. */
static int need_replay(const struct tt_policy *p, struct tt_error *err)
{
	struct tt_buffer names = {0};
	json_t *list = NULL, *entry;
	size_t i;
	int status = TT_OK;
	if (*p->fitted_on)
		TT_TRY(tt_json_parse(&list, p->fitted_on, strlen(p->fitted_on), "trimtab.fitted_on", err));
	json_array_foreach(list, i, entry)
	{
		const char *file = json_string_value(json_object_get(entry, "file"));
		if (status == TT_OK && strcmp(file, activations) != 0)
			status = tt_buffer_print(&names, err, "%s%s", names.len ? ", " : "", file);
	}
	if (status == TT_OK)
		status = tt_fail(err, TT_ERR_ARGUMENT,
			"nothing to replay: without rows that policy %s was fitted on (%.200s) it would forget them",
			p->name, names.len ? names.data : "its file does not say on which");
	tt_buffer_free(&names);
	json_decref(list);
	return status;
}

/* Of the rows to replay that a fit may read only n_gate_prompts of each label stay. */
static int sample_replay(struct tt_prompts *prompts, const struct tt_fit_options *o, struct tt_error *err)
{
	size_t *order = NULL, n_rows, n[TT_N_LABELS] = {0};
	bool *beyond = NULL; // [n_rows]
	int status = tt_alloc(&beyond, prompts->n_rows, sizeof *beyond, err);
	if (status == TT_OK)
		status = tt_fit_shuffle_prompts(&order, &n_rows, prompts, o->seed, err);
	if (status == TT_OK) {
		for (size_t i = 0; i < n_rows; i++) {
			const struct tt_prompt *row = &prompts->rows[order[i]];
			beyond[order[i]] =
				!row->reviewed && row->split != TT_TEST && n[row->label]++ >= o->n_gate_prompts;
		}
		tt_prompts_remove(prompts, beyond);
	}
	free(order);
	free(beyond);
	return status;
}

static int read_rows(struct tt_fit_continued *c, struct tt_fit_rows *rows, struct tt_engine *engine,
	const struct tt_fit_options *o, struct tt_error *err)
{
	const struct tt_prompt_form form = {.harmful = o->positive_label, .benign = o->negative_label, .texts = true};
	struct tt_fit_options all = *o;
	size_t n_readable = 0;
	all.n_gate_prompts = UINT32_MAX; /* no reviewed row is left out */
	TT_TRY(tt_prompts_read_reviewed(
		&rows->prompts, o->data, o->n_data, o->replay, o->n_replay, &form, &c->n_replaced, err));
	TT_TRY(sample_replay(&rows->prompts, o, err));
	for (size_t i = 0; i < rows->prompts.n_rows; i++) {
		c->n_verdicts += rows->prompts.rows[i].reviewed;
		n_readable += rows->prompts.rows[i].reviewed && rows->prompts.rows[i].split != TT_TEST;
	}
	for (size_t i = 0; i < o->n_data; i++)
		c->n_without_verdict += rows->prompts.files[i].n_rows;
	c->n_without_verdict -= c->n_verdicts;
	if (n_readable == 0)
		return tt_fail(err, TT_ERR_ARGUMENT,
			"all %zu rows with a verdict are of the test split, which no fit reads", c->n_verdicts);
	for (int label = 0; label < TT_N_LABELS; label++)
		TT_TRY(tt_fit_rows_take(rows, engine, &rows->prompts, (enum tt_label)label, &all, err));
	return TT_OK;
}

int tt_fit_continue_read(struct tt_fit_continued *out, struct tt_fit_rows *rows, struct tt_engine *engine,
	const struct tt_fit_options *o, struct tt_error *err)
{
	uint64_t size;
	*out = (struct tt_fit_continued){0};
	*rows = (struct tt_fit_rows){0};
	TT_TRY(tt_policy_load(&out->policy, o->continued, err));
	TT_TRY(tt_sha256_file(out->sha256, o->continued, &size, err));
	TT_TRY(tt_policy_set_text(&out->name, out->policy->name, err));
	TT_TRY(tt_policy_set_text(&out->fitted_on, out->policy->fitted_on, err));
	out->threshold = out->policy->threshold;
	TT_TRY(check_policy(out->policy, tt_engine_info(engine), err));
	if (o->n_replay == 0)
		return need_replay(out->policy, err);
	return read_rows(out, rows, engine, o, err);
}

/* ---- Before and after */

/* The logits [f->n] that the policy's gate gives. */
static int run_gate(const struct tt_policy *p, const struct tt_fit_features *f, double *logits, struct tt_error *err)
{
	struct tt_mlp *network = NULL;
	float *z = NULL; // [n]
	TT_TRY(tt_alloc(&z, f->n, sizeof *z, err));
	int status = TT_OK;
	if (p->gate == TT_GATE_PROBE_MLP) {
		const struct tt_rows rows = {.x = f->x, .n = f->n, .d = f->d, .stride = f->d};
		status = tt_mlp_open(&network, f->d, p->n_units, 1, err);
		if (status == TT_OK) {
			memcpy(network->fc1, p->fc1_weight, p->n_units * f->d * sizeof *network->fc1);
			memcpy(network->bias1, p->fc1_bias, p->n_units * sizeof *network->bias1);
			memcpy(network->fc2, p->fc2_weight, p->n_units * sizeof *network->fc2);
			network->bias2[0] = p->fc2_bias[0];
			status = tt_mlp_run(network, &rows, z, err);
		}
	}
	for (size_t i = 0; status == TT_OK && i < f->n; i++) {
		logits[i] = (double)p->gate_bias + (double)z[i];
		for (size_t j = 0; j < f->d; j++)
			logits[i] += (double)p->gate_weight[j] * (double)f->x[i * f->d + j];
	}
	tt_mlp_close(network);
	free(z);
	return status;
}

/* The features of the rows to replay, with folds and weights of their own. */
static int take_replayed(struct tt_fit_features *out, const struct tt_fit_features *f, struct tt_error *err)
{
	size_t n = 0;
	for (size_t i = 0; i < f->n; i++)
		n += !f->prompt[i]->reviewed;
	*out = (struct tt_fit_features){.d = f->d};
	TT_TRY(tt_alloc(&out->x, n, f->d * sizeof *out->x, err)); /* as f->x, fits memory */
	TT_TRY(tt_alloc(&out->prompt, n, sizeof *out->prompt, err));
	TT_TRY(tt_alloc(&out->harmful, n, sizeof *out->harmful, err));
	TT_TRY(tt_alloc(&out->weight, n, sizeof *out->weight, err));
	TT_TRY(tt_alloc(&out->fold, n, sizeof *out->fold, err));
	for (size_t i = 0; i < f->n; i++) {
		if (f->prompt[i]->reviewed)
			continue;
		memcpy(out->x + out->n * f->d, f->x + i * f->d, f->d * sizeof *f->x);
		out->n_plain += i >= tt_fit_n_rated(f);
		out->harmful[out->n] = f->harmful[i];
		out->prompt[out->n++] = f->prompt[i];
	}
	TT_TRY(tt_fit_assign_folds(out, err));
	return tt_fit_weigh(out, err);
}

static void count_error(struct tt_fit_errors *errors, bool harmful, bool flagged)
{
	errors->n_harmful += harmful;
	errors->n_missed += harmful && !flagged;
	errors->n_others += !harmful;
	errors->n_false += !harmful && flagged;
}

/* before [f->n]: the logits of the policy's own gate; replayed [rows that are replayed]: those of a gate like it that
 * has seen no reviewed row. */
static void count_errors(struct tt_fit_continued *c, const struct tt_fit_detector *d, float threshold,
	const double *before, const double *replayed)
{
	double old_cut = tt_fit_logit(c->policy->threshold), new_cut = tt_fit_logit(threshold);
	size_t k = 0;
	for (size_t i = 0; i < tt_fit_n_rated(&d->features); i++) {
		bool harmful = d->features.harmful[i], reviewed = d->features.prompt[i]->reviewed;
		int which = reviewed ? TT_CONTINUE_REVIEWED : TT_CONTINUE_REPLAYED;
		count_error(&c->before[which], harmful, (reviewed ? before[i] : replayed[k++]) > old_cut);
		count_error(&c->after[which], harmful, d->detector.held[i] > new_cut);
	}
}

/* The policy's own gate has been trained on the rows to replay, so what it gives them says nothing of unseen ones. */
static int compare(struct tt_fit_continued *c, const struct tt_fit_detector *d, float threshold, bool network,
	uint64_t seed, struct tt_error *err)
{
	struct tt_fit_features replayed;
	struct tt_detector detector = {0};
	double *before = NULL; // [n]
	int status = take_replayed(&replayed, &d->features, err);
	if (status == TT_OK)
		status = tt_within(
			tt_fit_detector_train(&detector, &replayed, network, seed, err), err, "the rows to replay");
	if (status == TT_OK)
		status = tt_alloc(&before, d->features.n, sizeof *before, err);
	if (status == TT_OK)
		status = run_gate(c->policy, &d->features, before, err);
	if (status == TT_OK)
		count_errors(c, d, threshold, before, detector.held);
	free(before);
	tt_detector_free(&detector);
	tt_fit_features_free(&replayed);
	return status;
}

int tt_fit_continue_gate(struct tt_fit_continued *c, struct tt_fit_gate *gate, struct tt_engine *engine,
	const struct tt_fit_rows *rows, const struct tt_fit_options *o, struct tt_activation_file *file,
	struct tt_progress *progress, struct tt_error *err)
{
	const struct tt_fit_detector_form form = {.layers = c->policy->observed,
		.n_layers = c->policy->n_observed,
		.pool = c->policy->pool,
		.network = c->policy->gate == TT_GATE_PROBE_MLP && !o->linear_gate};
	TT_TRY(tt_fit_detector_make_as(gate, engine, rows, &form, o, file, progress, err));
	return compare(c, tt_fit_detector_of(gate), gate->threshold, form.network, o->seed, err);
}

int tt_fit_continue_policy(
	struct tt_fit_continued *c, const struct tt_fit_gate *gate, struct tt_policy **out, struct tt_error *err)
{
	TT_TRY(gate->fill(gate, c->policy, err));
	TT_TRY(tt_policy_set_text(&c->policy->version, TT_VERSION, err));
	TT_TRY(tt_policy_finish(c->policy, err));
	*out = c->policy;
	c->policy = NULL;
	return TT_OK;
}

/* ---- The report */

static json_t *errors_report(const struct tt_fit_errors *e)
{
	return json_pack("{s:I, s:I, s:o, s:I, s:I, s:o}", "n_harmful", (json_int_t)e->n_harmful, "n_missed",
		(json_int_t)e->n_missed, "missed",
		e->n_harmful ? json_real((double)e->n_missed / (double)e->n_harmful) : json_null(), "n_others",
		(json_int_t)e->n_others, "n_false", (json_int_t)e->n_false, "false_positives",
		e->n_others ? json_real((double)e->n_false / (double)e->n_others) : json_null());
}

static json_t *side_report(float threshold, const struct tt_fit_errors *errors)
{
	return json_pack("{s:o, s:o, s:o}", "threshold", tt_json_number((double)threshold), "reviewed",
		errors_report(&errors[TT_CONTINUE_REVIEWED]), "replayed", errors_report(&errors[TT_CONTINUE_REPLAYED]));
}

json_t *tt_fit_continue_report(const struct tt_fit_continued *c, const struct tt_fit_gate *gate)
{
	return json_pack("{s:s, s:s, s:I, s:I, s:I, s:o, s:o}", "policy", c->name, "sha256", c->sha256, "verdicts",
		(json_int_t)c->n_verdicts, "without_verdict", (json_int_t)c->n_without_verdict, "replaced",
		(json_int_t)c->n_replaced, "before", side_report(c->threshold, c->before), "after",
		side_report(gate->threshold, c->after));
}

json_t *tt_fit_continue_sources(const struct tt_fit_continued *c)
{
	struct tt_buffer name = {0};
	json_t *list = *c->fitted_on ? json_loads(c->fitted_on, 0, NULL) : json_array();
	json_int_t n_rows = 0;
	for (size_t i = json_array_size(list); i-- > 0;) {
		json_t *entry = json_array_get(list, i);
		if (strcmp(tt_json_string_or(entry, "file", ""), activations) != 0)
			continue;
		n_rows = json_integer_value(json_object_get(entry, "rows"));
		json_array_remove(list, i);
	}
	if (tt_buffer_print(&name, NULL, "%s%s", continued_from, c->name) == TT_OK)
		json_array_append_new(
			list, json_pack("{s:s, s:s, s:I}", "file", name.data, "sha256", c->sha256, "rows", n_rows));
	tt_buffer_free(&name);
	return list;
}

void tt_fit_continue_free(struct tt_fit_continued *c)
{
	tt_policy_free(c->policy);
	free(c->name);
	free(c->fitted_on);
	*c = (struct tt_fit_continued){0};
}
