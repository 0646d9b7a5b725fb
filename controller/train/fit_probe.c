/* Trains linear probes on h at the last prompt token, and chooses the threshold of each. */
#include "controller/train/fit_probe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "controller/policy/layer_list.h"
#include "controller/train/logistic.h"

/* The regularisation, on standardised features. 0.02, 0.1, 0.5, 2 and 10 were tried in cross-validation on 160 rows of
 * 576 numbers, and this had the lowest log loss (0.25; the others 0.27 to 0.39). */
static const double l2 = 0.1;

/* It takes about a hundred rows to measure a share of 3% at all. With fewer rows to validate with, the train rows are
 * held out in turn too. */
enum { FEW_ROWS = 100, N_FOLDS = 8 };

struct features {
	struct tt_engine *engine;
	const struct tt_model_info *info;
	const struct tt_fit_rows *rows;
	struct tt_progress *progress;
	float max_false_positives;
	struct tt_fit_probes *out;
	uint32_t first_layer, n_layers;
	struct tt_request_options *options; // [n_train + n_val] rows of all labels, train before val
	float *x;                           // [n_train + n_val][n_layers][hidden_size]
	bool *harmful;                      // [n_train]
	size_t n_train, n_val;
	uint64_t *layers;
	uint8_t *fold; // [n_train]
	bool folds;    /* the train rows are held out in turn, a fold at a time */
};

static void add_rows(struct features *f, const struct tt_fit_row_list *rows, size_t *n)
{
	for (size_t i = 0; i < rows->n; i++, ++*n) {
		struct tt_request_options *o = &f->options[*n];
		tt_request_options_default(o);
		o->ids = rows->rows[i].ids;
		o->n_ids = rows->rows[i].n_ids;
		o->keep_from = o->n_ids - 1;
		o->keep_layers = f->layers;
	}
}

static int take_features(void *user, size_t index, struct tt_request *request, struct tt_error *err)
{
	struct features *f = user;
	size_t d = f->info->hidden_size;
	for (uint32_t k = 0; k < f->n_layers; k++) {
		const float *h = tt_request_hidden(request, f->first_layer + k);
		if (!h)
			return tt_fail(
				err, TT_ERR_UNSUPPORTED, "the engine kept no states of layer %u", f->first_layer + k);
		memcpy(f->x + (index * f->n_layers + k) * d, h, d * sizeof *h);
	}
	return TT_OK;
}

static int gather(struct features *f, struct tt_error *err)
{
	const struct tt_fit_rows *rows = f->rows;
	size_t n = 0, floats = 0;
	for (int label = 0; label < TT_N_LABELS; label++) {
		f->n_train += rows->train[label].n;
		f->n_val += rows->val[label].n;
	}
	if (!tt_mul_size(f->n_train + f->n_val, (size_t)f->n_layers * f->info->hidden_size, &floats))
		return tt_fail(err, TT_ERR_MEMORY, "too many rows for the probe");
	TT_TRY(tt_alloc(&f->options, f->n_train + f->n_val, sizeof *f->options, err));
	TT_TRY(tt_alloc(&f->x, floats, sizeof *f->x, err));
	TT_TRY(tt_alloc(&f->harmful, f->n_train, sizeof *f->harmful, err));
	TT_TRY(tt_alloc(&f->fold, f->n_train, sizeof *f->fold, err));
	TT_TRY(tt_alloc(&f->layers, (f->info->n_layers + 63) / 64, sizeof *f->layers, err));
	for (uint32_t l = f->first_layer; l < f->first_layer + f->n_layers; l++)
		f->layers[l / 64] |= (uint64_t)1 << l % 64;
	for (size_t i = 0; i < rows->train[TT_HARMFUL].n; i++)
		f->harmful[i] = true;
	for (int label = 0; label < TT_N_LABELS; label++)
		add_rows(f, &rows->train[label], &n);
	for (int label = 0; label < TT_N_LABELS; label++)
		add_rows(f, &rows->val[label], &n);
	TT_TRY(tt_progress_begin(f->progress, "probe", n, err));
	return tt_pump_all(f->engine, f->options, n, take_features, f, f->progress, err);
}

static int descending(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;
	return (x < y) - (x > y);
}

/* The logits of one probe on the held-out rows of a label. */
static float *held(const struct tt_fit_probes *probes, uint32_t k, int label)
{
	return probes->held_logits[label] + k * probes->gates.n_held[label];
}

/* Chooses the lowest threshold that at most the share max_false_positives of the benign rows exceeds. It lies half way
 * to the next higher row, and never below p = 0.5. */
static int choose_threshold(
	const struct tt_fit_probes *probes, uint32_t k, float max_false_positives, float *out, struct tt_error *err)
{
	size_t n = probes->gates.n_held[TT_BENIGN];
	float *sorted = NULL;
	TT_TRY(tt_alloc(&sorted, n, sizeof *sorted, err));
	memcpy(sorted, held(probes, k, TT_BENIGN), n * sizeof *sorted);
	qsort(sorted, n, sizeof *sorted, descending);
	size_t allowed = (size_t)(max_false_positives * (double)n + 1e-6);
	double bound = sorted[allowed < n ? allowed : n - 1], above = INFINITY;
	free(sorted);
	for (int label = 0; label <= TT_BENIGN; label++)
		for (size_t i = 0; i < probes->gates.n_held[label]; i++)
			if (held(probes, k, label)[i] > bound && held(probes, k, label)[i] < above)
				above = held(probes, k, label)[i];
	double logit = isfinite(above) ? (bound + above) / 2 : bound + 1;
	double p = 1 / (1 + exp(-(logit > 0 ? logit : 0)));
	/* Not higher, since the f32 sigmoid can round to 1, and then nothing would exceed the threshold. */
	*out = (float)(p < 0.9999 ? p : 0.9999);
	return TT_OK;
}

static double cut_of(const struct tt_probe *probe)
{
	return log(probe->threshold / (1 - (double)probe->threshold));
}

/* Computes the probe's figures on the held-out rows. Borderline rows should be answered, so they count as benign. */
static void rate(struct tt_fit_probes *probes, uint32_t k)
{
	struct tt_fit_gate *gate = &probes->gates.gates[k];
	const size_t *n_held = probes->gates.n_held;
	double losses[2] = {0};
	size_t right[2] = {0}, n[2] = {0};
	for (int label = 0; label < TT_N_LABELS; label++) {
		size_t flagged = 0, harmful = label == TT_HARMFUL;
		for (size_t i = 0; i < probes->gates.n_held[label]; i++) {
			double logit = held(probes, k, label)[i], margin = harmful ? logit : -logit;
			flagged += logit > cut_of(&probes->probes[k]);
			losses[harmful] += (margin < 0 ? -margin : 0) + log1p(exp(-fabs(margin)));
		}
		n[harmful] += n_held[label];
		right[harmful] += harmful ? flagged : n_held[label] - flagged;
		gate->flagged[label] = n_held[label] ? (double)flagged / (double)n_held[label] : 0;
	}
	gate->balanced = ((double)right[0] / (double)n[0] + (double)right[1] / (double)n[1]) / 2;
	gate->loss = (losses[0] / (double)n[0] + losses[1] / (double)n[1]) / 2;
}

static int fill_gate(const void *detector, struct tt_policy *p, struct tt_error *err)
{
	const struct tt_probe *probe = detector;
	TT_TRY(tt_policy_set_gate(p, TT_GATE_PROBE, probe->observed, probe->n_observed, 0, err));
	memcpy(p->gate_weight, probe->w, (size_t)probe->n_observed * p->hidden_size * sizeof *p->gate_weight);
	p->gate_bias = probe->b;
	p->threshold = probe->threshold;
	return TT_OK;
}

/* Fills what others see of a trained probe, but the figures. */
static int fill_view(struct tt_fit_probes *probes, uint32_t k, const struct tt_fit_rows *rows, struct tt_error *err)
{
	const struct tt_probe *probe = &probes->probes[k];
	struct tt_fit_gate *gate = &probes->gates.gates[k];
	bool member[TT_MAX_LAYERS] = {false};
	struct tt_buffer text = {0};
	gate->threshold = probe->threshold;
	gate->detector = probe;
	gate->fill = fill_gate;
	for (uint32_t i = 0; i < probe->n_observed; i++)
		member[gate->known_after = probe->observed[i]] = true;
	int status = tt_layers_print(&text, member, gate->known_after + 1, err);
	gate->observe = text.data;
	for (int label = 0; status == TT_OK && label < TT_N_LABELS; label++) {
		size_t n = rows->val[label].n;
		status = tt_alloc(&gate->flags[label], n, sizeof *gate->flags[label], err);
		for (size_t i = 0; status == TT_OK && i < n; i++)
			gate->flags[label][i] = held(probes, k, label)[i] > cut_of(probe);
	}
	return status;
}

/* The features of one probe (a row has the h of its layers concatenated), and room for the rows of one fold. */
struct table {
	float *x, *x_fold; // [rows][width]
	bool *harmful_fold;
	float *w;
	size_t width;
};

static void table_free(struct table *t)
{
	free(t->x);
	free(t->x_fold);
	free(t->harmful_fold);
	free(t->w);
}

static int table_fill(struct table *t, const struct features *f, const struct tt_probe *probe, struct tt_error *err)
{
	size_t d = f->info->hidden_size, n = f->n_train + f->n_val, floats = 0;
	t->width = probe->n_observed * d;
	if (!tt_mul_size(n, t->width, &floats))
		return tt_fail(err, TT_ERR_MEMORY, "too many rows for the probe");
	TT_TRY(tt_alloc(&t->x, floats, sizeof *t->x, err));
	TT_TRY(tt_alloc(&t->x_fold, f->n_train * t->width, sizeof *t->x_fold, err));
	TT_TRY(tt_alloc(&t->harmful_fold, f->n_train, sizeof *t->harmful_fold, err));
	TT_TRY(tt_alloc(&t->w, t->width, sizeof *t->w, err));
	for (size_t i = 0; i < n; i++)
		for (uint32_t k = 0; k < probe->n_observed; k++)
			memcpy(t->x + i * t->width + k * d,
				f->x + (i * f->n_layers + probe->observed[k] - f->first_layer) * d, d * sizeof(float));
	return TT_OK;
}

static float logit(const struct table *t, const float *w, float b, size_t row)
{
	double sum = b;
	for (size_t j = 0; j < t->width; j++)
		sum += (double)w[j] * t->x[row * t->width + j];
	return (float)sum;
}

static const struct tt_prompt *train_prompt(const struct tt_fit_rows *rows, size_t row)
{
	int label = 0;
	while (row >= rows->train[label].n)
		row -= rows->train[label++].n;
	return rows->train[label].rows[row].prompt;
}

/* Rows close to each other in a file are often related (pairs of the same form, variants of one request), and a probe
 * that was trained on a related row is no test for unseen prompts. So a fold takes a contiguous part of each file. */
static void assign_folds(struct features *f)
{
	for (size_t i = 0; i < f->n_train; i++) {
		const struct tt_prompt *row = train_prompt(f->rows, i);
		size_t before = 0, n = 0;
		for (size_t k = 0; k < f->n_train; k++) {
			const struct tt_prompt *other = train_prompt(f->rows, k);
			n += other->file == row->file;
			before += other->file == row->file && other->line < row->line;
		}
		f->fold[i] = (uint8_t)(before * N_FOLDS / n);
	}
}

static int hold_out_fold(struct table *t, const struct features *f, uint32_t k, size_t fold, struct tt_error *err)
{
	size_t n = 0, row = 0;
	float b = 0;
	for (size_t i = 0; i < f->n_train; i++) {
		if (f->fold[i] == fold)
			continue;
		memcpy(t->x_fold + n * t->width, t->x + i * t->width, t->width * sizeof *t->x);
		t->harmful_fold[n++] = f->harmful[i];
	}
	const struct tt_logistic data = {
		.x = t->x_fold, .label = t->harmful_fold, .n = n, .d = t->width, .stride = t->width, .l2 = l2};
	TT_TRY(tt_logistic_fit(&data, t->w, &b, NULL, err));
	for (int label = 0; label < TT_N_LABELS; label++)
		for (size_t i = 0; i < f->rows->train[label].n; i++, row++)
			if (f->fold[row] == fold)
				held(f->out, k, label)[f->rows->val[label].n + i] = logit(t, t->w, b, row);
	return TT_OK;
}

/* Whether every fold leaves rows of both labels to train on. */
static bool folds_are_possible(const struct features *f)
{
	size_t left[N_FOLDS][2] = {{0}};
	for (size_t i = 0; i < f->n_train; i++)
		for (size_t fold = 0; fold < N_FOLDS; fold++)
			left[fold][f->harmful[i]] += f->fold[i] != fold;
	for (size_t fold = 0; fold < N_FOLDS; fold++)
		if (left[fold][0] == 0 || left[fold][1] == 0)
			return false;
	return true;
}

static int fit_table(struct table *t, struct features *f, uint32_t k, struct tt_error *err)
{
	struct tt_probe *probe = &f->out->probes[k];
	size_t row = f->n_train;
	TT_TRY(table_fill(t, f, probe, err));
	TT_TRY(tt_alloc(&probe->w, t->width, sizeof *probe->w, err));
	const struct tt_logistic data = {
		.x = t->x, .label = f->harmful, .n = f->n_train, .d = t->width, .stride = t->width, .l2 = l2};
	TT_TRY(tt_logistic_fit(&data, probe->w, &probe->b, NULL, err));
	for (int label = 0; label < TT_N_LABELS; label++)
		for (size_t i = 0; i < f->rows->val[label].n; i++, row++)
			held(f->out, k, label)[i] = logit(t, probe->w, probe->b, row);
	for (size_t fold = 0; f->folds && fold < N_FOLDS; fold++)
		TT_TRY(hold_out_fold(t, f, k, fold, err));
	TT_TRY(choose_threshold(f->out, k, f->max_false_positives, &probe->threshold, err));
	rate(f->out, k);
	return fill_view(f->out, k, f->rows, err);
}

/* Lists a probe for each layer, and one for three layers spread over the later half: in cross-validation on 160 rows
 * that had an area under the curve of 0.96, single layers 0.84 to 0.95. */
static void list_probes(struct features *f)
{
	struct tt_fit_probes *out = f->out;
	for (uint32_t k = 0; k < f->n_layers; k++)
		out->probes[out->gates.n++] = (struct tt_probe){.observed = {f->first_layer + k}, .n_observed = 1};
	uint32_t last = f->first_layer + f->n_layers - 1, first = 3 * last / 5, middle = (first + last + 1) / 2;
	if (first >= f->first_layer && first < middle && middle < last)
		out->probes[out->gates.n++] = (struct tt_probe){.observed = {first, middle, last}, .n_observed = 3};
}

static int fit_probes(struct features *f, struct tt_error *err)
{
	struct tt_fit_probes *out = f->out;
	TT_TRY(gather(f, err));
	if (f->rows->val[TT_BENIGN].n < FEW_ROWS) {
		assign_folds(f);
		f->folds = folds_are_possible(f);
	}
	TT_TRY(tt_alloc(&out->probes, f->n_layers + 1, sizeof *out->probes, err));
	TT_TRY(tt_alloc(&out->gates.gates, f->n_layers + 1, sizeof *out->gates.gates, err));
	list_probes(f);
	for (int label = 0; label < TT_N_LABELS; label++) {
		size_t n = f->rows->val[label].n + (f->folds ? f->rows->train[label].n : 0);
		out->gates.n_held[label] = n;
		TT_TRY(tt_alloc(&out->held_logits[label], out->gates.n * n, sizeof *out->held_logits[label], err));
	}
	for (uint32_t k = 0; k < out->gates.n; k++) {
		struct table t = {0};
		int status = fit_table(&t, f, k, err);
		table_free(&t);
		TT_TRY(status);
	}
	return TT_OK;
}

int tt_fit_probes_train(struct tt_fit_probes *out, struct tt_engine *engine, const struct tt_fit_rows *rows,
	float max_false_positives, struct tt_progress *progress, struct tt_error *err)
{
	const struct tt_model_info *info = tt_engine_info(engine);
	uint32_t n = info->n_layers, first = n / 5, last = 2 * n / 3;
	struct features f = {.engine = engine,
		.info = info,
		.rows = rows,
		.progress = progress,
		.max_false_positives = max_false_positives,
		.out = out,
		.first_layer = first,
		.n_layers = (last < n ? last : n - 1) - first + 1};
	*out = (struct tt_fit_probes){0};
	int status = fit_probes(&f, err);
	free(f.options);
	free(f.x);
	free(f.harmful);
	free(f.fold);
	free(f.layers);
	return status;
}

void tt_fit_probes_free(struct tt_fit_probes *probes)
{
	for (uint32_t k = 0; k < probes->gates.n; k++)
		free(probes->probes[k].w);
	free(probes->probes);
	for (int label = 0; label < TT_N_LABELS; label++)
		free(probes->held_logits[label]);
	tt_fit_gates_free(&probes->gates);
	*probes = (struct tt_fit_probes){0};
}
