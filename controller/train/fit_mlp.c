#include "controller/train/fit_mlp.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "base/random.h"
#include "controller/measure/metrics.h"

enum {
	UNITS = 1024,    /* of the paper and the code */
	MOST_ROWS = 500, /* of each label, as the code's configuration has it; the paper gives no number */
	RELEASED_LAYERS = 4
};
static const double flagged_above = 0.5;

uint32_t tt_fit_mlp_first_layer(enum tt_fit_mode mode, uint32_t n_layers)
{
	if (mode == TT_FIT_RELEASED)
		return n_layers > RELEASED_LAYERS ? n_layers - RELEASED_LAYERS : 0;
	/* l >= 2/3 L, which leaves a model of one layer without any. */
	uint32_t first = (uint32_t)((2 * (uint64_t)n_layers + 2) / 3);
	return first < n_layers ? first : n_layers - 1;
}

void tt_fit_mlp_training(enum tt_fit_mode mode, uint64_t seed, struct tt_mlp_options *out)
{
	bool released = mode == TT_FIT_RELEASED;
	tt_mlp_options_default(out);
	out->epochs = released ? 10 : 4;
	out->batch = released ? 8 : 4;
	out->learning_rate = 5e-5;
	out->clip_norm = 1;
	out->loss = released ? TT_MLP_LOGISTIC : TT_MLP_SQUARED;
	out->n_targets = 1;
	out->pull = released ? 0.1 : 0;
	out->halves = released ? TT_MLP_APART : TT_MLP_IN_TURN;
	out->seed = seed;
}

/* ---- Rows */

/* The first rows of each of the first n_labels labels, at most `most` of each, as features. */
static int gather(struct tt_fit_features *out, struct tt_engine *engine, enum tt_fit_mode mode,
	const struct tt_fit_row_list *lists, int n_labels, size_t most, struct tt_activation_file *file,
	struct tt_progress *progress, struct tt_error *err)
{
	uint32_t layers[TT_MAX_LAYERS], n_layers = tt_engine_info(engine)->n_layers;
	struct tt_fit_features_spec spec = {.layers = layers, .pool = TT_POOL_LAST, .file = file};
	const struct tt_fit_row **rows = NULL;
	size_t total = 0;
	for (uint32_t l = tt_fit_mlp_first_layer(mode, n_layers); l < n_layers; l++)
		layers[spec.n_layers++] = l;
	for (int label = 0; label < n_labels; label++)
		total += lists[label].n < most ? lists[label].n : most;
	TT_TRY(tt_alloc(&rows, total, sizeof(const struct tt_fit_row *), err));
	for (int label = 0; label < n_labels; label++)
		for (size_t i = 0; i < lists[label].n && i < most; i++)
			rows[spec.n_rows++] = &lists[label].rows[i];
	spec.rows = rows;
	int status = tt_fit_features_make(out, &spec, engine, progress, err);
	free(rows);
	return status;
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Three quarters of the gate's prompts train, as in tt_fit_rows_read, whose val rows have the rest. */
static size_t rows_of_each(const struct tt_fit_rows *rows, uint32_t n_gate_prompts)
{
	size_t n = least(MOST_ROWS, n_gate_prompts - n_gate_prompts / 4);
	return least(n, least(rows->train[TT_HARMFUL].n, rows->train[TT_BENIGN].n));
}

static struct tt_rows rows_of(const struct tt_fit_features *f)
{
	return (struct tt_rows){.x = f->x, .n = f->n, .d = f->d, .stride = f->d};
}

/* ---- Training */

/* losses [epochs] = the means of the steps' losses. */
static void average(const double *steps, size_t n_steps, size_t n_epochs, double *losses)
{
	size_t each = n_steps / n_epochs;
	for (size_t epoch = 0; epoch < n_epochs; epoch++)
		for (size_t i = 0; i < each; i++)
			losses[epoch] += steps[epoch * each + i] / (double)each;
}

static int count_step(void *user, struct tt_error *err)
{
	return tt_progress_step(user, err);
}

static int run_training(struct tt_fit_mlp *m, const struct tt_fit_features *f, float *target, double *steps,
	const struct tt_mlp_options *how, struct tt_error *err)
{
	const struct tt_mlp_data data = {.rows = rows_of(f), .target = target};
	for (size_t i = 0; i < f->n; i++)
		target[i] = f->harmful[i];
	TT_TRY(tt_mlp_train(m->network, &data, how, steps, err));
	average(steps, m->n_steps, how->epochs, m->losses);
	return TT_OK;
}

/* z [n][outputs] of rows, to be freed. */
static int outputs_of(const struct tt_mlp *network, const struct tt_fit_features *f, float **z, struct tt_error *err)
{
	const struct tt_rows rows = rows_of(f);
	TT_TRY(tt_alloc(z, f->n, network->outputs * sizeof **z, err));
	return tt_mlp_run(network, &rows, *z, err);
}

static int measure_training(struct tt_fit_mlp *m, const struct tt_fit_features *f, struct tt_error *err)
{
	float *z = NULL;
	size_t right = 0;
	int status = outputs_of(m->network, f, &z, err);
	for (size_t i = 0; status == TT_OK && i < f->n; i++)
		right += ((double)z[i * m->network->outputs] > flagged_above) == f->harmful[i];
	m->train_accuracy = (double)right / (double)f->n;
	free(z);
	return status;
}

static int train_on(struct tt_fit_mlp *m, const struct tt_fit_features *f, uint32_t n_layers, uint64_t seed,
	struct tt_progress *progress, struct tt_error *err)
{
	struct tt_mlp_options how;
	float *target = NULL;
	double *steps = NULL;
	uint64_t random = seed;
	TT_TRY(tt_mlp_open(&m->network, f->d, UNITS, 1 + (size_t)n_layers, err));
	tt_mlp_start(m->network, tt_random_next(&random));
	tt_fit_mlp_training(m->mode, tt_random_next(&random), &how);
	how.after_step = count_step;
	how.user = progress;
	m->n_steps = tt_mlp_n_steps(f->n, &how);
	TT_TRY(tt_progress_begin(progress, "training", m->n_steps, err));
	TT_TRY(tt_alloc(&m->losses, how.epochs, sizeof *m->losses, err));
	TT_TRY(tt_alloc(&target, f->n, sizeof *target, err));
	int status = tt_alloc(&steps, m->n_steps, sizeof *steps, err);
	if (status == TT_OK)
		status = run_training(m, f, target, steps, &how, err);
	if (status == TT_OK)
		status = measure_training(m, f, err);
	free(target);
	free(steps);
	return status;
}

static int train(struct tt_fit_gate *gate, struct tt_engine *engine, const struct tt_fit_rows *rows,
	const struct tt_fit_options *options, struct tt_activation_file *file, struct tt_progress *progress,
	struct tt_error *err)
{
	struct tt_fit_mlp *m = gate->made;
	struct tt_fit_features f = {0};
	m->n_each = rows_of_each(rows, options->n_gate_prompts);
	if (!m->n_each)
		return tt_fail(err, TT_ERR_ARGUMENT, "no train rows of both labels fit the model's context");
	int status = gather(&f, engine, m->mode, rows->train, 1 + TT_BENIGN, m->n_each, file, progress, err);
	if (status == TT_OK)
		status = train_on(m, &f, tt_engine_info(engine)->n_layers, options->seed, progress, err);
	if (status == TT_OK)
		tt_fit_gate_trained_on(gate, &f);
	tt_fit_features_free(&f);
	return status;
}

/* ---- What it says of the val rows */

static void measure_weights(struct tt_fit_mlp *m, const float *z)
{
	size_t outputs = m->network->outputs, n_layers = outputs - 1;
	m->least_w = INFINITY;
	m->most_w = -INFINITY;
	for (size_t i = 0; i < m->val.n; i++)
		for (size_t l = 0; l < n_layers; l++) {
			double w = 1 / (1 + exp(-(double)z[i * outputs + 1 + l]));
			m->least_w = fmin(m->least_w, w);
			m->most_w = fmax(m->most_w, w);
			m->mean_w += w / (double)(m->val.n * n_layers);
		}
}

static int measure(struct tt_fit_mlp *m, struct tt_error *err)
{
	const struct tt_fit_features *f = &m->val;
	double n[TT_N_LABELS] = {0};
	float *z = NULL;
	TT_TRY(tt_alloc(&m->s, f->n, sizeof *m->s, err));
	int status = outputs_of(m->network, f, &z, err);
	for (size_t i = 0; status == TT_OK && i < f->n; i++) {
		m->s[i] = (double)z[i * m->network->outputs];
		m->mean_s[f->prompt[i]->label] += m->s[i];
		n[f->prompt[i]->label]++;
	}
	for (int label = 0; label < TT_N_LABELS; label++)
		m->mean_s[label] /= n[label];
	if (status == TT_OK)
		measure_weights(m, z);
	free(z);
	return status == TT_OK ? tt_auc(m->s, f->harmful, f->n, &m->auc, err) : status;
}

/* ---- What others see of the gate */

static int fill(const struct tt_fit_gate *gate, struct tt_policy *p, struct tt_error *err)
{
	const struct tt_fit_mlp *m = gate->made;
	const struct tt_mlp *network = m->network;
	const struct tt_gate_choice choice = {
		.gate = TT_GATE_MLP,
		.form = 1, /* s is not bounded */
		.pool = m->val.pool,
		.observed = m->val.observed,
		.n_observed = m->val.n_observed,
		.n_units = (uint32_t)network->units,
	};
	TT_TRY(tt_policy_set_gate(p, &choice, err));
	memcpy(p->fc1_weight, network->fc1, network->units * network->d * sizeof *p->fc1_weight);
	memcpy(p->fc1_bias, network->bias1, network->units * sizeof *p->fc1_bias);
	memcpy(p->fc2_weight, network->fc2, network->outputs * network->units * sizeof *p->fc2_weight);
	memcpy(p->fc2_bias, network->bias2, network->outputs * sizeof *p->fc2_bias);
	return TT_OK;
}

static json_t *training_report(const struct tt_fit_mlp *m)
{
	struct tt_mlp_options how;
	json_t *losses = json_array();
	tt_fit_mlp_training(m->mode, 0, &how);
	for (size_t epoch = 0; epoch < how.epochs; epoch++)
		json_array_append_new(losses, tt_json_number(m->losses[epoch]));
	return json_pack("{s:I, s:I, s:I, s:I, s:o, s:o}", "rows", (json_int_t)(2 * m->n_each), "epochs",
		(json_int_t)how.epochs, "batch", (json_int_t)how.batch, "steps", (json_int_t)m->n_steps, "losses",
		losses, "accuracy", tt_json_number(m->train_accuracy));
}

static json_t *held_report(const struct tt_fit_mlp *m)
{
	json_t *list = json_array();
	for (size_t i = 0; i < m->val.n; i++) {
		const struct tt_prompt *row = m->val.prompt[i];
		json_array_append_new(list, json_pack("{s:s, s:s, s:o}", "id", row->id, "label",
						    tt_label_name(row->label), "s", tt_json_number(m->s[i])));
	}
	return list;
}

/* The figures but those of the training are of val rows. */
static json_t *report(const struct tt_fit_gate *g)
{
	const struct tt_fit_mlp *m = g->made;
	return json_pack("{s:s, s:s, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:{s:o, s:o, s:o}, s:o}",
		"observe", g->observe, "pool", tt_gate_pool_word(m->val.pool), "units", (json_int_t)m->network->units,
		"training", training_report(m), "auc", tt_json_number(m->auc), "s_harmful",
		tt_json_number(m->mean_s[TT_HARMFUL]), "s_benign", tt_json_number(m->mean_s[TT_BENIGN]), "s_borderline",
		tt_json_number(m->mean_s[TT_BORDERLINE]), "flagged_harmful", tt_json_number(g->flagged[TT_HARMFUL]),
		"flagged_benign", tt_json_number(g->flagged[TT_BENIGN]), "flagged_borderline",
		g->n_held[TT_BORDERLINE] ? tt_json_number(g->flagged[TT_BORDERLINE]) : json_null(), "balanced_accuracy",
		tt_json_number(g->balanced), "w", "least", tt_json_number(m->least_w), "mean",
		tt_json_number(m->mean_w), "most", tt_json_number(m->most_w), "held_out", held_report(m));
}

static void free_mlp(void *made)
{
	struct tt_fit_mlp *m = made;
	tt_fit_features_free(&m->val);
	tt_mlp_close(m->network);
	free(m->losses);
	free(m->s);
	free(m);
}

int tt_fit_mlp_make(struct tt_fit_gate *out, struct tt_engine *engine, const struct tt_fit_rows *rows,
	const struct tt_fit_options *options, struct tt_activation_file *file, struct tt_progress *progress,
	struct tt_error *err)
{
	struct tt_fit_mlp *m = NULL;
	TT_TRY(tt_alloc(&m, 1, sizeof *m, err));
	m->mode = options->mode;
	*out = (struct tt_fit_gate){.graded = true, .made = m, .fill = fill, .report = report, .free_made = free_mlp};
	TT_TRY(train(out, engine, rows, options, file, progress, err));
	TT_TRY(gather(&m->val, engine, m->mode, rows->val, TT_N_LABELS, SIZE_MAX, file, progress, err));
	TT_TRY(measure(m, err));
	return tt_fit_gate_rate(out, &m->val, rows, m->s, flagged_above, err);
}
